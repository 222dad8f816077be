//! A flood of ordinary datagrams over loopback (G5): sender and receiver on different processors.
//!
//! Delivered and lost belong together; the receiver's processor time per datagram is what a
//! wake-up for every datagram makes dear. Nothing is segmented or coalesced: that is `offload`.

use std::thread;
use std::time::Duration;

use hio_udp::{DEFAULT_GATHER, MAX_GRAM_SIZE, Transport};
use hio_udp_benches::flooded::{self, BATCH, BUSY, CPU, DELIVERED, LOST, PATIENCE, Sender, flood, local, same};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;
use hio_udp_benches::rivals::{Recvmmsg, StdRecvFrom};
use hio_udp_benches::traffic::{self, Backend, IO_URING, MMSG};

mod crates;

const ROUNDS: usize = 15;
const RECV_BUF_BYTES: usize = 4 << 20;

const STD: &str = "std send_to / std recv_from, poll";
const BARE: &str = "sendmmsg / recvmmsg, poll";
const SLEEPING: &str = "sendmmsg / recvmmsg, sleep 50 µs";
const FILL_WAIT: &str = "sendmmsg / fill_wait";

fn std_pair(payload: &[u8]) -> [f64; 4] {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let (sender, waiter) = (Sender::std(payload, local(&socket)), same(&socket));
    let mut receiver = StdRecvFrom::new(socket, 65_536);
    flood(sender, payload, |tally, is_over| {
        flooded::poll_and_drain(tally, is_over, &waiter, |tally| receiver.drain(tally));
    })
}

/// Wherever the queue is empty it sleeps for `pause`, if that is any: the least code that gathers.
fn mmsg_pair(payload: &[u8], pause: Duration) -> [f64; 4] {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let (sender, waiter) = (Sender::mmsg(payload, local(&socket)), same(&socket));
    let mut receiver = Recvmmsg::new(socket, BATCH, MAX_GRAM_SIZE);
    flood(sender, payload, |tally, is_over| {
        flooded::poll_and_drain(tally, is_over, &waiter, |tally| {
            receiver.drain(tally);
            thread::sleep(pause); // no system call where it is zero
        });
    })
}

fn nix_pair(payload: &[u8]) -> [f64; 4] {
    let mut receiver = crates::nix::Receiver::new(traffic::socket(RECV_BUF_BYTES));
    let (to, waiter) = ([local(receiver.socket()); BATCH], same(receiver.socket()));
    let socket = traffic::socket(0);
    let at = local(&socket);
    let mut nix = crates::nix::Sender::new(socket);
    flood(Sender::new(at, move || nix.send(payload, &to) as u64), payload, |tally, is_over| {
        flooded::poll_and_drain(tally, is_over, &waiter, |tally| {
            receiver.drain(|data, source| tally.add(data, source, false));
        });
    })
}

fn tokio_pair(payload: &[u8]) -> [f64; 4] {
    let mut receiver = crates::tokio::Receiver::new(traffic::socket(RECV_BUF_BYTES));
    let (to, socket) = ([receiver.at(); BATCH], traffic::socket(0));
    let at = local(&socket);
    let tokio = crates::tokio::Sender::new(socket);
    flood(Sender::new(at, move || tokio.send(payload, &to) as u64), payload, |tally, is_over| {
        flooded::take_until_over(tally, is_over, |tally| {
            receiver.take_for(PATIENCE, |data, source| tally.add(data, source, false));
        });
    })
}

/// One datagram a call on the sending side, because more would be segmented.
fn quinn_pair(payload: &[u8]) -> [f64; 4] {
    let mut receiver = crates::quinn::Receiver::new(traffic::socket(RECV_BUF_BYTES));
    let (to, waiter, socket) = (local(receiver.socket()), same(receiver.socket()), traffic::socket(0));
    let at = local(&socket);
    let quinn = crates::quinn::Sender::new(socket);
    flood(Sender::new(at, move || u64::from(quinn.send(payload, to, None))), payload, |tally, is_over| {
        flooded::poll_and_drain(tally, is_over, &waiter, |tally| {
            receiver.drain(|data, source| tally.add(data, source, false));
        });
    })
}

fn uring_pair(payload: &[u8], gather: Duration) -> [f64; 4] {
    let mut receiver =
        crates::io_uring::Receiver::new(traffic::socket(RECV_BUF_BYTES), true).expect("it was tried before");
    flood(Sender::mmsg(payload, receiver.at()), payload, |tally, is_over| {
        flooded::take_until_over(tally, is_over, |tally| {
            receiver.take_some(gather, PATIENCE, |data, source| tally.add(data, source, false));
        });
    })
}

fn hio_pair(payload: &[u8], backend: Backend, gather: Duration) -> [f64; 4] {
    let mut peer = backend.peer(traffic::config(RECV_BUF_BYTES).bc(BATCH).gather(gather));
    let sender = Sender::mmsg(payload, peer.ha());
    flood(sender, payload, |tally, is_over| flooded::fill_wait(&mut peer, tally, is_over))
}

fn contestants(payload: &[u8]) -> Vec<Contestant<'_, 4>> {
    let mut all = vec![
        Contestant::new(STD, move || std_pair(payload)),
        Contestant::new(BARE, move || mmsg_pair(payload, Duration::ZERO)),
        Contestant::new(SLEEPING, move || mmsg_pair(payload, DEFAULT_GATHER)),
        Contestant::new("tokio send_to / tokio recv_from", move || tokio_pair(payload)),
        Contestant::new("nix sendmmsg / nix recvmmsg, poll", move || nix_pair(payload)),
        Contestant::new("quinn-udp, one a call / quinn-udp, poll", move || quinn_pair(payload)),
    ];
    match crates::io_uring::Receiver::new(traffic::socket(0), true) {
        Ok(_) => all.extend([("", 0), (", min_wait 50 µs", 50)].map(|(how, micros)| {
            let gather = Duration::from_micros(micros);
            Contestant::new(format!("sendmmsg / io_uring multishot{how}"), move || uring_pair(payload, gather))
        })),
        Err(error) => eprintln!("io_uring takes no part: {error}"),
    }
    for backend in traffic::backends() {
        let ways =
            [("", DEFAULT_GATHER), (", gather 0", Duration::ZERO), (", gather 200 µs", Duration::from_micros(200))];
        all.extend(ways.map(|(how, gather)| {
            let name = backend.way(&format!("{FILL_WAIT}{how}"));
            Contestant::new(name, move || hio_pair(payload, backend, gather))
        }));
    }
    all
}

fn main() {
    println!("{}", machine::describe());
    println!("receiver on processor 0, sender on processor 1, {RECV_BUF_BYTES} bytes of receive buffer asked for");
    machine::prefer(0);
    let mut report = Report::new("flood");
    for size in [64, 1240] {
        let payload = traffic::payload(size);
        let outcomes = harness::rounds(ROUNDS, &mut contestants(&payload));
        flooded::tables(&mut report, &format!("flood, {size} bytes"), &outcomes, &[BARE, STD]);
        for backend in [MMSG, IO_URING] {
            let ours = format!("{FILL_WAIT}, {backend}");
            let mut figure =
                |key: &str, value: Option<f64>| report.figure(&format!("g5_{size}_{backend}_{key}"), value);
            for (name, barest) in [(ours.as_str(), ""), (SLEEPING, "_barest")] {
                let mut ratio = |key: &str, reference, of| {
                    figure(&format!("{key}{barest}"), harness::ratio(&outcomes, name, reference, of));
                };
                ratio("delivered_vs_mmsg", BARE, DELIVERED);
                ratio("cpu_vs_mmsg", BARE, CPU);
                ratio("delivered_vs_std", STD, DELIVERED);
                figure(&format!("loss{barest}"), harness::median(&outcomes, name, LOST));
            }
            figure("busy", harness::median(&outcomes, &ours, BUSY));
        }
        // What another processor has filled is cold in this one's caches.
        let [mmsg, uring] = [MMSG, IO_URING].map(|backend| format!("{FILL_WAIT}, {backend}"));
        report.figure(&format!("g3_core_{size}"), harness::ratio(&outcomes, &uring, &mmsg, CPU));
        for outcome in &outcomes {
            let [cpu, delivered] = [CPU, DELIVERED].map(|figure| outcome.figures[figure].median);
            report.point(&format!("flood_{size}"), &outcome.name, cpu, delivered);
        }
    }
    report.save();
}
