//! Datagrams that the kernel cuts and joins: UDP_SEGMENT on the sending side, UDP_GRO on the receiving
//! one (G7), and a segmenting sender against receivers that do not coalesce (G14).

use std::net::UdpSocket;

use hio_udp::{MAX_GRAM_SIZE, PeerConfig, Transport};
use hio_udp_benches::drained::{self, Receiver};
use hio_udp_benches::flooded::{self, BATCH, DELIVERED, LOST, PATIENCE, Sender, flood, local, same};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;
use hio_udp_benches::rivals::Recvmmsg;
use hio_udp_benches::traffic::{self, Backend, IO_URING, MMSG, Tally};
use socket2::SockRef;

mod crates;

const ROUNDS: usize = 15;
const RECV_BUF_BYTES: usize = 4 << 20;
/// Slots of 65,535 bytes: few, so that they stay in the cache.
const SLOTS: usize = 8;
/// Datagrams in a drain, about.
const DEPTH: usize = 4096;

const BARE: &str = "bare UDP_SEGMENT / bare recvmmsg with UDP_GRO";
const QUINN: &str = "quinn-udp / quinn-udp";
const OURS: &str = "send_batch / fill_wait, coalescing";

const BARE_DRAIN: &str = "bare recvmmsg with UDP_GRO";
const QUINN_DRAIN: &str = "quinn-udp, defaults";
const FILL: &str = "BatchPeer::fill, for_each, coalescing";

/// The longest run of datagrams of this size that one call may send: 64 (what every kernel with
/// UDP_SEGMENT allows), or 65,507 bytes.
fn run(size: usize) -> Vec<u8> {
    traffic::payload(size).repeat((65_507 / size).min(64))
}

fn coalescing() -> PeerConfig {
    traffic::config(RECV_BUF_BYTES).bc(SLOTS).coalesce(true)
}

fn bare_receiver() -> Recvmmsg {
    Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), SLOTS, 65_536).with_coalescing()
}

fn bare_pair(size: usize) -> [f64; 4] {
    let (run, mut receiver) = (run(size), bare_receiver());
    let (to, waiter) = (local(receiver.socket()), same(receiver.socket()));
    flood(Sender::segmented(&run, size, to), &run[..size], |tally, is_over| {
        flooded::poll_and_drain(tally, is_over, &waiter, |tally| {
            receiver.drain_coalesced(|data, source| tally.add(data, source, false));
        });
    })
}

fn quinn_sender(run: &[u8], size: usize, to: std::net::SocketAddr) -> Sender<'_> {
    let socket = traffic::socket(0);
    let at = local(&socket);
    let quinn = crates::quinn::Sender::new(socket);
    let run = &run[..(quinn.max_segments() * size).min(run.len())];
    let count = (run.len() / size) as u64;
    Sender::new(at, move || if quinn.send(run, to, Some(size)) { count } else { 0 })
}

/// quinn-udp receives; it or a bare loop sends.
fn to_quinn(size: usize, is_sender_bare: bool) -> [f64; 4] {
    let (run, mut receiver) = (run(size), crates::quinn::Receiver::new(traffic::socket(RECV_BUF_BYTES)));
    let (to, waiter) = (local(receiver.socket()), same(receiver.socket()));
    let sender = if is_sender_bare { Sender::segmented(&run, size, to) } else { quinn_sender(&run, size, to) };
    flood(sender, &run[..size], |tally, is_over| {
        flooded::poll_and_drain(tally, is_over, &waiter, |tally| {
            receiver.drain(|data, source| tally.add(data, source, false));
        });
    })
}

/// `fill_wait` receives; `send_batch` or a bare loop sends.
fn to_hio(size: usize, backend: Backend, is_sender_bare: bool) -> [f64; 4] {
    let (run, mut peer) = (run(size), backend.peer(coalescing()));
    let (payload, to) = (&run[..size], peer.ha());
    let sender = if is_sender_bare {
        Sender::segmented(&run, size, to)
    } else {
        let mut sender = backend.peer(traffic::config(0).bc(BATCH));
        // End to end in memory, as the others have them.
        let grams: Vec<_> = run.chunks(size).map(|gram| (gram, to)).cycle().take(run.len() / size * SLOTS).collect();
        Sender::new(sender.ha(), move || sender.send_batch(grams.iter().copied()).sent as u64)
    };
    flood(sender, payload, |tally, is_over| flooded::fill_wait(&mut peer, tally, is_over))
}

/// A flood of runs, coalesced by every receiver.
fn coalesced_flood(report: &mut Report, size: usize) {
    let mut contestants = vec![
        Contestant::new(BARE, move || bare_pair(size)),
        Contestant::new(QUINN, move || to_quinn(size, false)),
        Contestant::new("bare UDP_SEGMENT / quinn-udp", move || to_quinn(size, true)),
    ];
    for backend in traffic::backends() {
        let bare = backend.way("bare UDP_SEGMENT / fill_wait, coalescing");
        contestants.push(Contestant::new(backend.way(OURS), move || to_hio(size, backend, false)));
        contestants.push(Contestant::new(bare, move || to_hio(size, backend, true)));
    }
    let outcomes = harness::rounds(ROUNDS, &mut contestants);
    flooded::tables(report, &format!("flood, segmented and coalesced, {size} bytes"), &outcomes, &[QUINN, BARE]);
    let ours = format!("{OURS}, {MMSG}");
    report.figure(&format!("g7_{size}_delivered"), harness::ratio(&outcomes, &ours, QUINN, DELIVERED));
    report.figure(&format!("g7_{size}_delivered_barest"), harness::ratio(&outcomes, BARE, QUINN, DELIVERED));
    report.figure(&format!("g7_{size}_rate"), harness::median(&outcomes, &ours, DELIVERED));
    report.figure(&format!("g7_{size}_loss"), harness::median(&outcomes, &ours, LOST));
}

/// How many runs of `bytes` a socket surely holds, at most as many as make up `DEPTH` datagrams.
fn runs_queued(size: usize, bytes: usize) -> usize {
    let probe = traffic::socket(traffic::RECV_BUF_BYTES);
    let room = SockRef::from(&probe).recv_buffer_size().unwrap_or(0) * 2 / 3;
    // A run is charged with its pages, and up to twice over.
    (DEPTH * size / bytes).min(room / (2 * bytes + 4096)).max(1)
}

/// A queue of runs, emptied by every receiver.
fn coalesced_drain(report: &mut Report, size: usize) {
    let run = run(size);
    let runs = runs_queued(size, run.len());
    let sender = traffic::socket(0);
    traffic::set_segment_len(&sender, size);

    let socket = || traffic::socket(traffic::RECV_BUF_BYTES);
    let mut bare = Recvmmsg::new(socket(), SLOTS, 65_536).with_coalescing();
    let mut quinn = crates::quinn::Receiver::new(socket());
    let mut receivers = vec![
        Receiver::new(BARE_DRAIN, local(bare.socket()), move |tally, _| {
            bare.drain_coalesced(|data, source| tally.add(data, source, false));
        }),
        Receiver::new(QUINN_DRAIN, local(quinn.socket()), move |tally, _| {
            quinn.drain(|data, source| tally.add(data, source, false));
        }),
    ];
    for backend in traffic::backends() {
        for slots in [SLOTS, 32] {
            let config = coalescing().recv_buf_bytes(traffic::RECV_BUF_BYTES).bc(slots);
            receivers.push(drained::for_each(backend.way(&format!("{FILL}, {slots} slots")), backend.peer(config)));
        }
    }
    let expected = Tally::expected(runs * (run.len() / size), &run[..size], local(&sender));
    let mut contestants: Vec<Contestant<'_, 1>> = receivers
        .iter_mut()
        .map(|receiver| {
            let (sender, run, name) = (&sender, run.as_slice(), receiver.name.clone());
            Contestant::new(name, move || {
                let at = receiver.at();
                let time = receiver.measure(expected, || traffic::fill_queue(sender, at, run, runs));
                [time.as_nanos() as f64 / expected.grams as f64]
            })
        })
        .collect();
    let outcomes = harness::rounds(drained::ROUNDS, &mut contestants);
    let title = format!("drain, coalesced, {size} bytes, {} queued in {runs} runs: ns per datagram", expected.grams);
    report.table(&title, &outcomes, 0, &[QUINN_DRAIN, BARE_DRAIN]);
    let ours = format!("{FILL}, {SLOTS} slots, {MMSG}");
    report.figure(&format!("g7_{size}_drain"), harness::ratio(&outcomes, &ours, QUINN_DRAIN, 0));
    report.figure(&format!("g7_{size}_drain_barest"), harness::ratio(&outcomes, BARE_DRAIN, QUINN_DRAIN, 0));
    report.figure(&format!("g7_{size}_drain_ns"), harness::median(&outcomes, &ours, 0));
}

/// Serves one socket with `poll` and a bare `recvmmsg` loop.
fn overloaded_recvmmsg(size: usize) -> [f64; 4] {
    let (run, socket) = (run(size), traffic::socket(RECV_BUF_BYTES));
    let (sender, waiter): (_, UdpSocket) = (Sender::segmented(&run, size, local(&socket)), same(&socket));
    let mut receiver = Recvmmsg::new(socket, BATCH, MAX_GRAM_SIZE);
    flood(sender, &run[..size], |tally, is_over| {
        flooded::poll_and_drain(tally, is_over, &waiter, |tally| receiver.drain(tally));
    })
}

fn overloaded_uring(size: usize, with_addresses: bool) -> [f64; 4] {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let run = run(size);
    let mut receiver = crates::io_uring::Receiver::new(socket, with_addresses).expect("it was tried before");
    flood(Sender::segmented(&run, size, receiver.at()), &run[..size], |tally, is_over| {
        flooded::take_until_over(tally, is_over, |tally| {
            let gather = std::time::Duration::ZERO;
            receiver.take_some(gather, PATIENCE, |data, source| tally.add(data, source, false));
        });
    })
}

fn overloaded_hio(size: usize, backend: Backend) -> [f64; 4] {
    let mut peer = backend.peer(traffic::config(RECV_BUF_BYTES).bc(BATCH));
    let run = run(size);
    let sender = Sender::segmented(&run, size, peer.ha());
    flood(sender, &run[..size], |tally, is_over| flooded::fill_wait(&mut peer, tally, is_over))
}

/// More than a receiver that does not coalesce can take. Such floods settle in one of two states, so
/// delivered and lost must be read together.
fn overload(report: &mut Report) {
    const RECVMMSG: &str = "recvmmsg, poll";
    const FILL_WAIT: &str = "fill_wait";
    const MULTISHOT: &str = "io_uring multishot recvmsg";
    const MULTISHOT_BARE: &str = "io_uring multishot recv, no addresses";
    let size = 64;
    let mut contestants = vec![Contestant::new(RECVMMSG, move || overloaded_recvmmsg(size))];
    match crates::io_uring::Receiver::new(traffic::socket(0), true) {
        Ok(_) => contestants.extend(
            [(MULTISHOT, true), (MULTISHOT_BARE, false)]
                .map(|(name, addresses)| Contestant::new(name, move || overloaded_uring(size, addresses))),
        ),
        Err(error) => eprintln!("io_uring takes no part: {error}"),
    }
    for backend in traffic::backends() {
        contestants.push(Contestant::new(backend.way(FILL_WAIT), move || overloaded_hio(size, backend)));
    }
    let outcomes = harness::rounds(ROUNDS, &mut contestants);
    let title = format!("overload by a segmenting sender, {size} bytes");
    flooded::tables(report, &title, &outcomes, &[RECVMMSG]);
    let ours = format!("{FILL_WAIT}, {IO_URING}");
    report.figure("g14_delivered", harness::ratio(&outcomes, &ours, RECVMMSG, DELIVERED));
    report.figure("g14_loss", harness::median(&outcomes, &ours, LOST));
    report.figure("g14_delivered_barest", harness::ratio(&outcomes, MULTISHOT, RECVMMSG, DELIVERED));
    report.figure("g14_loss_barest", harness::median(&outcomes, MULTISHOT, LOST));
}

fn main() {
    println!("{}", machine::describe());
    println!("receiver on processor 0, sender on processor 1, {RECV_BUF_BYTES} bytes of receive buffer asked for");
    machine::prefer(0);
    let mut report = Report::new("offload");
    for size in [64, 1240] {
        coalesced_flood(&mut report, size);
    }
    overload(&mut report);
    machine::quieten(0);
    for size in [64, 1240] {
        coalesced_drain(&mut report, size);
    }
    report.save();
}
