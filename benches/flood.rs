//! A flood over loopback, unpaced: sender and receiver on different processors for a fixed time.
//!
//! Delivered and lost belong together; the receiver's processor time per datagram is what a
//! wake-up for every datagram makes dear.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{BatchPeer, MAX_GRAM_SIZE, Transport};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::rivals::{Recvmmsg, Sendmmsg, StdRecvFrom, poll_readable};
use hio_udp_benches::traffic::{self, Tally};

const ROUNDS: usize = 9;
const TIME: Duration = Duration::from_millis(300);
/// Datagrams in one system call.
const BATCH: usize = 64;
const RECV_BUF_BYTES: usize = 1 << 20;
/// How long a receiver waits before it looks whether the flood is over.
const PATIENCE: Duration = Duration::from_millis(20);

const STD: &str = "std send_to / std recv_from, poll";
const MMSG: &str = "sendmmsg / recvmmsg, poll";

/// Sends for a while; gives the number of datagrams the kernel took.
type Send<'a> = Box<dyn FnMut() -> u64 + std::marker::Send + 'a>;

/// Where a sender sends from, and how it sends some datagrams.
struct Sender<'a> {
    at: SocketAddr,
    send_some: Send<'a>,
}

fn std_sender(payload: &[u8], to: SocketAddr) -> Sender<'_> {
    let socket = traffic::socket(0);
    let at = socket.local_addr().unwrap();
    Sender { at, send_some: Box::new(move || socket.send_to(payload, to).map_or(0, |_| 1)) }
}

fn batch_sender(payload: &[u8], to: SocketAddr) -> Sender<'_> {
    let mut peer = traffic::batch_peer(BATCH, MAX_GRAM_SIZE, 0);
    let at = peer.ha();
    Sender { at, send_some: Box::new(move || peer.send_batch([(payload, to); BATCH]).sent as u64) }
}

/// Lets `sender` flood on processor 1 while `receive` serves on processor 0 until the line is quiet
/// after the flood; gives thousand datagrams a second, per cent lost, ns of processor time per
/// datagram received, and per cent of the time the receiver was busy.
fn flood(sender: Sender<'_>, payload: &[u8], mut receive: impl FnMut(&mut Tally, &AtomicBool)) -> [f64; 4] {
    let is_over = AtomicBool::new(false);
    let at = sender.at;
    let mut send_some = sender.send_some;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            machine::pin(1);
            let (start, mut sent) = (Instant::now(), 0);
            while start.elapsed() < TIME {
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
        assert_eq!(tally, Tally::expected(tally.grams as usize, payload, at), "damaged, cut, or from elsewhere");
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

/// Serves with poll and a loop that takes all there is.
fn poll_and_drain(tally: &mut Tally, is_over: &AtomicBool, wait: impl Fn() -> bool, mut drain: impl FnMut(&mut Tally)) {
    while wait() || !is_over.load(Ordering::Acquire) {
        drain(tally);
    }
}

fn std_pair(payload: &[u8]) -> [f64; 4] {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let sender = std_sender(payload, socket.local_addr().unwrap());
    let waiter = socket.try_clone().expect("a descriptor is free");
    let mut receiver = StdRecvFrom::new(socket, 65_536);
    let wait = move || poll_readable(&waiter, PATIENCE).expect("poll works");
    flood(sender, payload, |tally, is_over| poll_and_drain(tally, is_over, &wait, |tally| receiver.drain(tally)))
}

fn mmsg_pair(payload: &[u8]) -> [f64; 4] {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let mut bare = Sendmmsg::new(traffic::socket(0), payload, [socket.local_addr().unwrap(); BATCH].into_iter());
    let at = bare.socket().local_addr().unwrap();
    let waiter = socket.try_clone().expect("a descriptor is free");
    let mut receiver = Recvmmsg::new(socket, BATCH, MAX_GRAM_SIZE);
    let wait = move || poll_readable(&waiter, PATIENCE).expect("poll works");
    let sender = Sender { at, send_some: Box::new(move || bare.send(BATCH) as u64) };
    flood(sender, payload, |tally, is_over| poll_and_drain(tally, is_over, &wait, |tally| receiver.drain(tally)))
}

fn hio_pair(payload: &[u8], gather: Duration) -> [f64; 4] {
    let config = traffic::config(RECV_BUF_BYTES).bc(BATCH).gather(gather);
    let mut peer = BatchPeer::new(config).expect("a free port on 127.0.0.1");
    let sender = batch_sender(payload, peer.ha());
    flood(sender, payload, |tally, is_over| {
        loop {
            let was_over = is_over.load(Ordering::Acquire);
            let grams = peer.fill_wait(PATIENCE).expect("the peer is open");
            if grams.is_empty() && was_over {
                return;
            }
            for gram in grams {
                tally.add(gram.data, traffic::address(gram.src), gram.truncated);
            }
        }
    })
}

fn main() {
    println!("{}", machine::describe());
    println!("receiver on processor 0, sender on processor 1, {RECV_BUF_BYTES} bytes of receive buffer asked for");
    machine::pin(0);
    for size in [64, 1240] {
        let payload = traffic::payload(size);
        let payload = payload.as_slice();
        let gathering = |micros| move || hio_pair(payload, Duration::from_micros(micros));
        let mut contestants = [
            Contestant::new(STD, move || std_pair(payload)),
            Contestant::new(MMSG, move || mmsg_pair(payload)),
            Contestant::new("send_batch / fill_wait", gathering(hio_udp::DEFAULT_GATHER.as_micros() as u64)),
            Contestant::new("send_batch / fill_wait, gather 0", gathering(0)),
            Contestant::new("send_batch / fill_wait, gather 200 µs", gathering(200)),
        ];
        let outcomes = harness::rounds(ROUNDS, &mut contestants);
        for (figure, title) in [
            "thousand datagrams a second delivered",
            "per cent lost",
            "ns of the receiver's processor time per datagram",
            "per cent of its processor the receiver used",
        ]
        .into_iter()
        .enumerate()
        {
            let references: &[&str] = if figure % 2 == 0 { &[MMSG, STD] } else { &[] };
            harness::print_table(&format!("flood, {size} bytes: {title}"), &outcomes, figure, references);
        }
    }
}
