//! Time from a send call to the receiver's loop, at fixed rates (G6): what waiting costs on a line that
//! is not flooded, and what it costs the processor.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{DEFAULT_GATHER, MAX_GRAM_SIZE, Transport};
use hio_udp_benches::flooded::{PATIENCE, local, same};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;
use hio_udp_benches::rivals::{Epoll, Recvmmsg, poll_readable};
use hio_udp_benches::traffic::{self, Backend, IO_URING, MMSG, Tally};

mod crates;

const ROUNDS: usize = 7;
const RECV_BUF_BYTES: usize = 1 << 20;
const SIZE: usize = 64;
/// Slots of every ring.
const SLOTS: usize = 64;

const POLL: &str = "recvmmsg, poll";
const EPOLL: &str = "recvmmsg, epoll";
const SLEEPING: &str = "recvmmsg, sleep 50 µs";
const FILL_WAIT: &str = "fill_wait";

/// Figures of a measurement.
const P50: usize = 0;
const P99: usize = 1;
const CPU: usize = 2;
const TITLES: [&str; 4] = [
    "µs from send to loop, half of the datagrams within",
    "µs from send to loop, 99% of the datagrams within",
    "per cent of its processor the receiver used",
    "per cent lost",
];

/// So many datagrams a second for this time.
#[derive(Clone, Copy)]
struct Load {
    rate: u32,
    time: Duration,
}

/// What a receiver has seen.
struct Seen {
    clock: Instant,
    tally: Tally,
    nanos: Vec<u32>,
}

impl Seen {
    /// Takes one datagram; it begins with the time it was sent at.
    #[inline]
    fn add(&mut self, data: &[u8], source: u64) {
        self.tally.add(data, source, false);
        let sent = u64::from_le_bytes(*data.first_chunk().expect("datagrams begin with their time"));
        self.nanos.push((nanos(self.clock) - sent) as u32);
    }

    fn percentile_us(&mut self, per_cent: usize) -> f64 {
        let at = (self.nanos.len() - 1) * per_cent / 100;
        f64::from(*self.nanos.select_nth_unstable(at).1) / 1000.0
    }
}

fn nanos(clock: Instant) -> u64 {
    clock.elapsed().as_nanos() as u64
}

/// Sends at the load's rate on processor 1 while `receive` serves on processor 0 until the line is
/// quiet; `receive` takes what comes within `PATIENCE` or less.
fn measure(load: Load, to: SocketAddr, mut receive: impl FnMut(&mut Seen)) -> [f64; 4] {
    let count = (load.time.as_secs_f64() * f64::from(load.rate)) as u32;
    let clock = Instant::now();
    let mut seen = Seen { clock, tally: Tally::default(), nanos: Vec::with_capacity(count as usize) };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            machine::pin(1);
            let (socket, mut payload, mut sent) = (traffic::socket(0), traffic::payload(SIZE), Tally::default());
            let (at, start) = (traffic::address(local(&socket)), Instant::now());
            for i in 0..count {
                // Spins: a sleep is not exact enough, and this processor is the sender's own.
                while start.elapsed() < Duration::from_secs(1) * i / load.rate {
                    std::hint::spin_loop();
                }
                payload[..8].copy_from_slice(&nanos(clock).to_le_bytes());
                assert_eq!(socket.send_to(&payload, to).expect("loopback takes it"), SIZE);
                sent.add(&payload, at, false);
            }
            is_over.store(true, Ordering::Release); // paired with the receiver's Acquire
            sent
        });
        let (start, used) = (Instant::now(), machine::thread_time());
        loop {
            let (was_over, before) = (is_over.load(Ordering::Acquire), seen.tally.grams);
            receive(&mut seen);
            if was_over && seen.tally.grams == before {
                break;
            }
        }
        let used = (machine::thread_time() - used).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        let sent = sender.join().expect("the sender does not panic");
        assert!(
            seen.tally == sent || (seen.tally.grams > 0 && seen.tally.grams < sent.grams),
            "{sent:?}, {:?}",
            seen.tally
        );
        let lost = (1.0 - seen.tally.grams as f64 / sent.grams as f64) * 100.0;
        [seen.percentile_us(50), seen.percentile_us(99), used, lost]
    })
}

/// After whatever came it sleeps for `pause`, if that is any: the least code that gathers.
fn recvmmsg_poll(load: Load, pause: Duration) -> [f64; 4] {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let (to, waiter) = (local(&socket), same(&socket));
    let mut bare = Recvmmsg::new(socket, SLOTS, MAX_GRAM_SIZE);
    measure(load, to, |seen| {
        poll_readable(&waiter, PATIENCE).expect("poll works");
        bare.drain_with(|data, source, _| seen.add(data, source));
        thread::sleep(pause); // no system call where it is zero
    })
}

fn recvmmsg_epoll(load: Load) -> [f64; 4] {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let (to, epoll) = (local(&socket), Epoll::new(&socket));
    let mut bare = Recvmmsg::new(socket, SLOTS, MAX_GRAM_SIZE);
    measure(load, to, |seen| {
        epoll.wait(PATIENCE).expect("epoll works");
        bare.drain_with(|data, source, _| seen.add(data, source));
    })
}

/// A blocking socket, as the least code has it.
fn std_blocking(load: Load) -> [f64; 4] {
    let (socket, mut buffer) = (traffic::socket(RECV_BUF_BYTES), vec![0xA5; 65_536]);
    socket.set_nonblocking(false).expect("a UDP socket can block");
    socket.set_read_timeout(Some(PATIENCE)).expect("a UDP socket has a time-out");
    measure(load, local(&socket), |seen| {
        if let Ok((len, src)) = socket.recv_from(&mut buffer) {
            seen.add(&buffer[..len], traffic::address(src));
        }
    })
}

fn tokio(load: Load) -> [f64; 4] {
    let mut receiver = crates::tokio::Receiver::new(traffic::socket(RECV_BUF_BYTES));
    measure(load, receiver.at(), |seen| receiver.take_for(PATIENCE, |data, source| seen.add(data, source)))
}

fn uring(load: Load) -> [f64; 4] {
    let mut receiver =
        crates::io_uring::Receiver::new(traffic::socket(RECV_BUF_BYTES), true).expect("it was tried before");
    measure(load, receiver.at(), |seen| {
        receiver.take_some(Duration::ZERO, PATIENCE, |data, source| seen.add(data, source));
    })
}

fn fill_wait(load: Load, backend: Backend) -> [f64; 4] {
    let mut peer = backend.peer(traffic::config(RECV_BUF_BYTES).bc(SLOTS));
    measure(load, peer.ha(), |seen| {
        for gram in peer.fill_wait(PATIENCE).expect("the peer is open") {
            seen.add(gram.data, traffic::address(gram.src));
        }
    })
}

fn contestants<'a>(load: Load) -> Vec<Contestant<'a, 4>> {
    let mut all = vec![
        Contestant::new(POLL, move || recvmmsg_poll(load, Duration::ZERO)),
        Contestant::new(EPOLL, move || recvmmsg_epoll(load)),
        Contestant::new(SLEEPING, move || recvmmsg_poll(load, DEFAULT_GATHER)),
        Contestant::new("std recv_from, blocking", move || std_blocking(load)),
        Contestant::new("tokio recv_from", move || tokio(load)),
    ];
    match crates::io_uring::Receiver::new(traffic::socket(0), true) {
        Ok(_) => all.push(Contestant::new("io_uring multishot recvmsg", move || uring(load))),
        Err(error) => eprintln!("io_uring takes no part: {error}"),
    }
    all.extend(
        traffic::backends()
            .into_iter()
            .map(|backend| Contestant::new(backend.way(FILL_WAIT), move || fill_wait(load, backend))),
    );
    all
}

fn main() {
    println!("{}", machine::describe());
    println!("receiver on processor 0, sender on processor 1, {SIZE} bytes");
    machine::prefer(0);
    let mut report = Report::new("latency");
    // As many seconds as the 99th percentile needs.
    for (rate, millis) in [(1_000, 1_000), (20_000, 300), (200_000, 300)] {
        let millis = if harness::is_smoke_test() { 30 } else { millis };
        let load = Load { rate, time: Duration::from_millis(millis) };
        let outcomes = harness::rounds(ROUNDS, &mut contestants(load));
        for (figure, title) in TITLES.into_iter().enumerate() {
            let references: &[&str] = if figure <= CPU { &[POLL, EPOLL] } else { &[] };
            report.table(&format!("latency at {rate} a second: {title}"), &outcomes, figure, references);
        }
        for backend in [MMSG, IO_URING] {
            let ours = format!("{FILL_WAIT}, {backend}");
            let mut figure =
                |key: &str, value: Option<f64>| report.figure(&format!("g6_{rate}_{backend}_{key}"), value);
            figure("p50_vs_poll", harness::ratio(&outcomes, &ours, POLL, P50));
            figure("p99_vs_poll", harness::ratio(&outcomes, &ours, POLL, P99));
            figure("cpu_vs_epoll", harness::ratio(&outcomes, &ours, EPOLL, CPU));
            figure("cpu_vs_epoll_barest", harness::ratio(&outcomes, SLEEPING, EPOLL, CPU));
            figure("p99_us", harness::median(&outcomes, &ours, P99));
            figure("p99_us_barest", harness::median(&outcomes, EPOLL, P99));
        }
    }
    report.save();
}
