//! Emptying a full socket queue: processor time per datagram of the receiving thread alone (G1–G3).
//!
//! Each contestant has a socket of its own. A round fills its queue, then times the emptying, with
//! every byte and every address consumed. First the paired tables, then the same with criterion.

use std::iter;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use hio_udp::{BatchPeer, MAX_GRAM_SIZE, Peer, PeerConfig, Transport};
use hio_udp_benches::drained::{self, Receiver};
use hio_udp_benches::harness;
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;
use hio_udp_benches::traffic::{self, Backend, IO_URING, MMSG, RECV_BUF_BYTES};

mod crates;

const SIZES: [usize; 5] = [32, 100, 256, 512, 1240];
/// Datagrams in the queue, if the socket's buffer may be so large.
const DEPTH: usize = 4096;
/// Slots of every ring, unless a table says otherwise.
const SLOTS: usize = 64;

const RECVMMSG: &str = "bare recvmmsg, 64 slots";
const COUNTING: &str = "the same with SO_RXQ_OVFL";
const RECVFROM: &str = "bare recvfrom";
const QUINN: &str = "quinn-udp, defaults";
const MULTISHOT: &str = "io_uring, multishot recvmsg";
const MULTISHOT_BARE: &str = "io_uring, multishot recv, no addresses";
const FILL: &str = "BatchPeer::fill";

fn quinn() -> Receiver {
    let mut quinn = crates::quinn::Receiver::new(traffic::socket(RECV_BUF_BYTES));
    let at = quinn.socket().local_addr().unwrap();
    Receiver::new(QUINN, at, move |tally, _| quinn.drain(|data, source| tally.add(data, source, false)))
}

fn nix() -> Receiver {
    let mut nix = crates::nix::Receiver::new(traffic::socket(RECV_BUF_BYTES));
    let at = nix.socket().local_addr().unwrap();
    Receiver::new("nix recvmmsg, 64 slots", at, move |tally, _| {
        nix.drain(|data, source| tally.add(data, source, false))
    })
}

fn tokio() -> Receiver {
    let mut tokio = crates::tokio::Receiver::new(traffic::socket(RECV_BUF_BYTES));
    let at = tokio.at();
    let drain = move |tally: &mut traffic::Tally, queued| {
        tokio.take(queued, |data, source| tally.add(data, source, false));
    };
    Receiver::new("tokio recv_from", at, drain)
}

/// Multishot with and without addresses, if this kernel lets us.
fn uring() -> Vec<Receiver> {
    let with = |with_addresses| {
        let made = crates::io_uring::Receiver::new(traffic::socket(RECV_BUF_BYTES), with_addresses);
        let mut uring = made.inspect_err(|error| eprintln!("io_uring takes no part: {error}")).ok()?;
        let name =
            if with_addresses { "io_uring, multishot recvmsg" } else { "io_uring, multishot recv, no addresses" };
        let at = uring.at();
        let receiver = Receiver::new(name, at, move |tally, queued| {
            uring.take(queued, |data, source| tally.add(data, source, false));
        });
        Some(if with_addresses { receiver } else { receiver.without_addresses() })
    };
    [true, false].into_iter().filter_map(with).collect()
}

/// One `fill` for each backend that takes part.
fn fills() -> impl Iterator<Item = Receiver> {
    traffic::backends().into_iter().map(|backend| {
        let config = traffic::config(RECV_BUF_BYTES).bc(SLOTS).gram_size(MAX_GRAM_SIZE);
        drained::fill(backend.way(FILL), backend.peer(config))
    })
}

fn rivals(report: &mut Report, size: usize) {
    let mut receivers = vec![
        drained::recvmmsg(RECVMMSG, SLOTS),
        drained::recvmmsg("the same again (null ratio)", SLOTS),
        drained::recvmmsg_counting_drops(COUNTING, SLOTS),
        drained::recvfrom(RECVFROM),
        drained::std_recv_from(),
        tokio(),
        nix(),
        quinn(),
    ];
    receivers.extend(drained::recvmmsg_leaving_out(SLOTS));
    receivers.extend(uring());
    receivers.extend(fills());
    receivers.push(drained::receive("BatchPeer::receive", traffic::batch_peer(SLOTS, MAX_GRAM_SIZE, RECV_BUF_BYTES)));
    let peer = Peer::new(traffic::config(RECV_BUF_BYTES)).expect("a free port");
    receivers.push(drained::receive("Peer::receive", peer));

    let load = (size, traffic::queue_depth(DEPTH, size));
    let outcomes = drained::paired(report, &mut receivers, load, "rivals", &[RECVMMSG, RECVFROM, QUINN]);
    let [mmsg, uring] = [MMSG, IO_URING].map(|backend| format!("{FILL}, {backend}"));
    // The same options on both sides: a peer always has the kernel count what it drops.
    report.figure(&format!("g1_{size}"), harness::ratio(&outcomes, &mmsg, COUNTING, 0));
    report.figure(&format!("g1_{size}_ns"), harness::median(&outcomes, &mmsg, 0));
    report.figure(&format!("null_{size}"), harness::ratio(&outcomes, "the same again (null ratio)", RECVMMSG, 0));
    report.figure(&format!("g2_{size}"), harness::ratio(&outcomes, &mmsg, QUINN, 0));
    report.figure(&format!("g2_{size}_{IO_URING}"), harness::ratio(&outcomes, &uring, QUINN, 0));
    report.figure(&format!("g3_{size}"), harness::ratio(&outcomes, &uring, RECVMMSG, 0));
    report.figure(&format!("g3_{size}_barest"), harness::ratio(&outcomes, MULTISHOT, RECVMMSG, 0));
    report.figure(&format!("g3_no_addresses_{size}_barest"), harness::ratio(&outcomes, MULTISHOT_BARE, RECVMMSG, 0));
    for outcome in outcomes.iter().filter(|outcome| !outcome.name.contains("the same")) {
        report.point("size", &outcome.name, size as f64, outcome.figures[0].median);
    }
}

/// The shape of the ring: how many slots, and how large.
fn shapes(report: &mut Report, size: usize) {
    let mut receivers = vec![drained::recvmmsg(RECVMMSG, SLOTS)];
    for (bc, gram_size) in [(64, 1240), (64, 2048), (16, 65_535), (64, 65_535)] {
        let peer = traffic::batch_peer(bc, gram_size, RECV_BUF_BYTES);
        receivers.push(drained::fill(format!("fill, bc {bc}, gram_size {gram_size}"), peer));
    }
    let load = (size, traffic::queue_depth(DEPTH, size));
    drained::paired(report, &mut receivers, load, "shapes", &[RECVMMSG, "fill, bc 64, gram_size 1240"]);
}

/// Datagrams per system call.
fn batches(report: &mut Report, size: usize) {
    const BATCHES: [usize; 7] = [1, 4, 16, 64, 256, 512, 1024];
    let bare = |slots: usize| drained::recvmmsg(&format!("bare recvmmsg, {slots} slots"), slots);
    let ours = |backend: Backend, bc: usize| {
        let config = traffic::config(RECV_BUF_BYTES).gram_size(MAX_GRAM_SIZE).bc(bc);
        drained::fill(format!("fill, bc {bc}, {}", backend.name), backend.peer(config))
    };
    let backends = traffic::backends();
    let mut receivers: Vec<Receiver> = BATCHES.iter().map(|slots| bare(*slots)).collect();
    receivers.extend(backends.iter().flat_map(|backend| BATCHES.map(|bc| ours(*backend, bc))));
    let load = (size, traffic::queue_depth(DEPTH, size));
    let outcomes = drained::paired(report, &mut receivers, load, "batches", &[RECVMMSG]);
    let names = backends.iter().map(|backend| backend.way(FILL));
    for (name, outcomes) in iter::once("bare recvmmsg".to_owned()).chain(names).zip(outcomes.chunks(BATCHES.len())) {
        for (slots, outcome) in BATCHES.into_iter().zip(outcomes) {
            report.point("batch", &format!("{name}, {size} bytes"), slots as f64, outcome.figures[0].median);
        }
    }
}

/// What each kind of metadata costs.
fn options(report: &mut Report, size: usize) {
    const PLAIN: &str = "fill, no option";
    let with = |name: &str, set: fn(PeerConfig) -> PeerConfig| {
        drained::fill(name, BatchPeer::new(set(traffic::config(RECV_BUF_BYTES))).expect("a free port"))
    };
    let mut receivers = [
        with(PLAIN, |config| config),
        with("rx_time", |config| config.rx_time(true)),
        with("dst_addr", |config| config.dst_addr(true)),
        with("ecn", |config| config.ecn(true)),
        with("rx_time, dst_addr and ecn", |config| config.rx_time(true).dst_addr(true).ecn(true)),
    ];
    let load = (size, traffic::queue_depth(DEPTH, size));
    drained::paired(report, &mut receivers, load, "options", &[PLAIN]);
}

/// Criterion cannot pair rivals inside a round; it keeps a history of each instead.
fn drain(criterion: &mut Criterion) {
    for size in [32, 1240] {
        let depth = traffic::queue_depth(1024, size);
        let (sender, payload) = (traffic::socket(0), traffic::payload(size));
        let mut group = criterion.benchmark_group("drain");
        group.throughput(Throughput::Elements(depth as u64));
        for mut receiver in [drained::recvmmsg(RECVMMSG, SLOTS), quinn()].into_iter().chain(fills()) {
            group.bench_function(BenchmarkId::new(receiver.name.clone(), size), |bencher| {
                let mut measure = || receiver.measure_copies(&sender, &payload, depth);
                bencher.iter_custom(|times| (0..times).map(|_| measure()).sum());
            });
        }
    }
}

criterion_group! {
    name = with_criterion;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    targets = drain
}

fn main() {
    println!("{}", machine::describe());
    let is_quiet = machine::quieten(0);
    println!("one thread on processor 0, {}", if is_quiet { "SCHED_FIFO" } else { "ordinary priority" });
    let mut report = Report::new("drain");
    SIZES.into_iter().for_each(|size| rivals(&mut report, size));
    for size in [100, 1240] {
        shapes(&mut report, size);
        batches(&mut report, size);
        options(&mut report, size);
    }
    report.save();
    with_criterion();
    Criterion::default().configure_from_args().final_summary();
}
