//! A flood over loopback, unpaced: sender and receiver on different processors for a fixed time.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::BatchPeer;

use crate::harness::{self, Outcome};
use crate::machine;
use crate::report::Report;
use crate::rivals::{Sendmmsg, poll_readable};
use crate::traffic::{self, Tally};

/// How long a flood lasts.
const TIME: Duration = Duration::from_millis(300);
/// How long a receiver waits before it looks whether the flood is over.
pub const PATIENCE: Duration = Duration::from_millis(20);
/// Datagrams in one system call of a batch.
pub const BATCH: usize = 64;

/// Thousand datagrams a second delivered.
pub const DELIVERED: usize = 0;
/// Per cent of what was sent.
pub const LOST: usize = 1;
/// Nanoseconds of the receiver's processor time per datagram.
pub const CPU: usize = 2;
/// Per cent of its processor the receiver used.
pub const BUSY: usize = 3;

const TITLES: [&str; 4] = [
    "thousand datagrams a second delivered",
    "per cent lost",
    "ns of the receiver's processor time per datagram",
    "per cent of its processor the receiver used",
];

/// Where a sender sends from, and how it sends some datagrams; gives the number the kernel took.
pub struct Sender<'a> {
    at: SocketAddr,
    send_some: Box<dyn FnMut() -> u64 + Send + 'a>,
}

impl<'a> Sender<'a> {
    /// A sender at this address.
    pub fn new(at: SocketAddr, send_some: impl FnMut() -> u64 + Send + 'a) -> Self {
        Self { at, send_some: Box::new(send_some) }
    }

    /// The standard library's `send_to`.
    pub fn std(payload: &'a [u8], to: SocketAddr) -> Self {
        let socket = traffic::socket(0);
        Self::new(local(&socket), move || u64::from(socket.send_to(payload, to).is_ok()))
    }

    /// A bare `sendmmsg` loop.
    pub fn mmsg(payload: &'a [u8], to: SocketAddr) -> Self {
        let mut bare = Sendmmsg::new(traffic::socket(0), payload, [to; BATCH].into_iter());
        Self::new(local(bare.socket()), move || bare.send(BATCH) as u64)
    }

    /// Runs of datagrams of `len` bytes, that the kernel cuts (UDP_SEGMENT).
    pub fn segmented(run: &'a [u8], len: usize, to: SocketAddr) -> Self {
        let socket = traffic::socket(0);
        traffic::set_segment_len(&socket, len);
        let count = (run.len() / len) as u64;
        Self::new(local(&socket), move || socket.send_to(run, to).map_or(0, |_| count))
    }
}

/// Lets `sender` flood on processor 1 while `receive` serves on processor 0 until the line is quiet
/// after the flood; gives [`DELIVERED`], [`LOST`], [`CPU`] and [`BUSY`].
///
/// # Panics
///
/// If anything but copies of `payload` came, or more than was sent.
pub fn flood(sender: Sender<'_>, payload: &[u8], mut receive: impl FnMut(&mut Tally, &AtomicBool)) -> [f64; 4] {
    let (is_over, time) = (AtomicBool::new(false), if harness::is_smoke_test() { TIME / 30 } else { TIME });
    let at = sender.at;
    let mut send_some = sender.send_some;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            machine::pin(1);
            let (start, mut sent) = (Instant::now(), 0);
            while start.elapsed() < time {
                sent += send_some();
            }
            // Release, paired with the receivers' Acquire: what was sent before is in the queue.
            is_over.store(true, Ordering::Release);
            (sent, start.elapsed())
        });
        let mut tally = Tally::default();
        let start = machine::thread_time();
        receive(&mut tally, &is_over);
        let used = machine::thread_time() - start;
        let (sent, wall) = sender.join().expect("the sender does not panic");
        let mut expected = Tally::expected(tally.grams as usize, payload, at);
        if tally.sources == 0 {
            expected.sources = 0; // one that asks for no addresses
        }
        assert_eq!(tally, expected, "damaged, cut, or from elsewhere");
        assert!(tally.grams > 0 && tally.grams <= sent, "{} of {sent}", tally.grams);
        let (grams, sent) = (tally.grams as f64, sent as f64);
        [
            grams / wall.as_secs_f64() / 1000.0,
            (sent - grams) / sent * 100.0,
            used.as_nanos() as f64 / grams,
            used.as_secs_f64() / wall.as_secs_f64() * 100.0,
        ]
    })
}

/// Serves with `poll` and a loop that takes all there is.
///
/// # Panics
///
/// If `poll` fails.
pub fn poll_and_drain(tally: &mut Tally, is_over: &AtomicBool, socket: &UdpSocket, mut drain: impl FnMut(&mut Tally)) {
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        if !poll_readable(socket, PATIENCE).expect("poll works") && was_over {
            return;
        }
        drain(tally);
    }
}

/// Serves with one call that waits a while and takes some, until that gives nothing.
pub fn take_until_over(tally: &mut Tally, is_over: &AtomicBool, mut take: impl FnMut(&mut Tally)) {
    loop {
        let (was_over, before) = (is_over.load(Ordering::Acquire), tally.grams);
        take(tally);
        if was_over && tally.grams == before {
            return;
        }
    }
}

/// Serves with `fill_wait`, every gram read.
///
/// # Panics
///
/// If the peer fails.
pub fn fill_wait(peer: &mut BatchPeer, tally: &mut Tally, is_over: &AtomicBool) {
    take_until_over(tally, is_over, |tally| {
        let grams = peer.fill_wait(PATIENCE).expect("the peer is open");
        grams.for_each(|gram| tally.add(gram.data, traffic::address(gram.src), gram.truncated));
    });
}

/// Prints and keeps all four figures; delivered and processor time against the references.
pub fn tables(report: &mut Report, title: &str, outcomes: &[Outcome<4>], references: &[&str]) {
    for (figure, what) in TITLES.into_iter().enumerate() {
        let references = if matches!(figure, DELIVERED | CPU) { references } else { &[] };
        report.table(&format!("{title}: {what}"), outcomes, figure, references);
    }
}

/// A descriptor of the same socket, to wait with while something else owns it.
///
/// # Panics
///
/// If no descriptor is free.
pub fn same(socket: &UdpSocket) -> UdpSocket {
    socket.try_clone().expect("a descriptor is free")
}

/// Where a socket is.
///
/// # Panics
///
/// If it is not bound.
pub fn local(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("the socket is bound")
}
