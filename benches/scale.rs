//! Growth (G12): how the time per datagram changes with the depth of the queue, the number of sources
//! and the number of sockets, beside how the bare loop's own changes.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hio_udp::{BatchPeer, MAX_GRAM_SIZE, RecvRing, Transport};
use hio_udp_benches::drained::{self, Receiver};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;
use hio_udp_benches::rivals::Recvmmsg;
use hio_udp_benches::traffic::{self, Backend, IO_URING, MMSG, Tally};

const ROUNDS: usize = 31;
const SLOTS: usize = 64;
const SIZE: usize = 64;
/// Room for 65,536 datagrams of 64 bytes, where that is allowed.
const RECV_BUF_BYTES: usize = 64 << 20;

const BARE: &str = "bare recvmmsg, SO_RXQ_OVFL";
const FILL: &str = "fill";

fn bare(recv_buf_bytes: usize) -> Recvmmsg {
    Recvmmsg::new(traffic::socket(recv_buf_bytes), SLOTS, MAX_GRAM_SIZE.next_multiple_of(64)).with_drop_counter()
}

fn peer(backend: Backend, recv_buf_bytes: usize) -> BatchPeer {
    backend.peer(traffic::config(recv_buf_bytes).bc(SLOTS))
}

/// The bare loop, and one `fill` for each backend.
fn receivers(recv_buf_bytes: usize) -> Vec<Receiver> {
    let mut bare = bare(recv_buf_bytes);
    let at = bare.socket().local_addr().unwrap();
    let mut all = vec![Receiver::new(BARE, at, move |tally, _| bare.drain(tally))];
    all.extend(
        traffic::backends().into_iter().map(|backend| drained::fill(backend.way(FILL), peer(backend, recv_buf_bytes))),
    );
    all
}

/// One figure per step of some growth, for each contestant of `measure`; then how each has grown since the
/// first step, and the worst growth of ours against the bare loop's.
fn growth(
    report: &mut Report,
    key: &str,
    what: &str,
    steps: &[usize],
    mut measure: impl FnMut(usize) -> Vec<harness::Outcome<1>>,
) {
    let ours = format!("{FILL}, {MMSG}");
    let uring = format!("{FILL}, {IO_URING}");
    let (mut ratios, mut uring_ratios) = (Vec::new(), Vec::new());
    for step in steps {
        let outcomes = measure(*step);
        report.table(&format!("scale, {step} {what}: ns per datagram"), &outcomes, 0, &[BARE]);
        for outcome in &outcomes {
            report.point(key, &outcome.name, *step as f64, outcome.figures[0].median);
        }
        ratios.push(harness::ratio(&outcomes, &ours, BARE, 0).unwrap_or(f64::NAN));
        uring_ratios.extend(harness::ratio(&outcomes, &uring, BARE, 0));
    }
    // (ours(n) / ours(1)) / (bare(n) / bare(1)) is the ratio at n over the ratio at 1.
    let worst = ratios.iter().map(|ratio| ratio / ratios[0]).fold(f64::NAN, f64::max);
    println!("\nscale, {what}: grew at most {worst:.3} × as much as the bare loop");
    report.figure(&format!("g12_{key}"), worst);
    report.figure(&format!("g3_{key}"), uring_ratios.into_iter().reduce(f64::max));
}

/// The same number of datagrams in each round, in queues of `depth`.
fn with_depth(depth: usize) -> Vec<harness::Outcome<1>> {
    let (sender, payload) = (traffic::socket(0), traffic::payload(SIZE));
    let times = (4096 / depth).max(1);
    let mut receivers = receivers(RECV_BUF_BYTES);
    let mut contestants: Vec<Contestant<'_, 1>> = receivers
        .iter_mut()
        .map(|receiver| {
            let (sender, payload, name) = (&sender, &payload, receiver.name.clone());
            let mut measure = move || receiver.measure_copies(sender, payload, depth);
            Contestant::new(name, move || {
                let time: Duration = (0..times).map(|_| measure()).sum();
                [time.as_nanos() as f64 / (depth * times) as f64]
            })
        })
        .collect();
    harness::rounds(ROUNDS, &mut contestants)
}

/// `depth` datagrams from so many sources, in turn. Each source is an address of its own in 127.0.0.0/8.
fn fill_from(sources: usize, depth: usize, to: SocketAddr, payload: &[u8]) -> Tally {
    let SocketAddr::V4(to) = to else { panic!("the benchmarks use IPv4") };
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = sender.local_addr().expect("the socket is bound").port();
    let mut sent = Tally::default();
    for source in (0..sources as u32).cycle().take(depth) {
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + source);
        traffic::send_from(&sender, ip, payload, to);
        sent.add(payload, traffic::ipv4(ip.to_bits(), port), false);
    }
    sent
}

fn with_sources(sources: usize, depth: usize) -> Vec<harness::Outcome<1>> {
    let payload = traffic::payload(SIZE);
    let mut receivers = receivers(traffic::RECV_BUF_BYTES);
    let mut contestants: Vec<Contestant<'_, 1>> = receivers
        .iter_mut()
        .map(|receiver| {
            let (payload, name) = (&payload, receiver.name.clone());
            Contestant::new(name, move || {
                let expected = fill_from(sources, depth, receiver.at(), payload);
                [receiver.measure(expected, || ()).as_nanos() as f64 / expected.grams as f64]
            })
        })
        .collect();
    harness::rounds(ROUNDS, &mut contestants)
}

/// Fills every queue with an equal part of `depth` datagrams, then times the emptying of all, one
/// socket after the other.
fn over_all<R>(all: &mut [(SocketAddr, R)], depth: usize, mut drain: impl FnMut(&mut R, &mut Tally)) -> [f64; 1] {
    let (sender, payload) = (traffic::socket(0), traffic::payload(SIZE));
    for (at, _) in &*all {
        traffic::fill_queue(&sender, *at, &payload, depth / all.len());
    }
    let mut tally = Tally::default();
    let start = machine::thread_time();
    all.iter_mut().for_each(|(_, receiver)| drain(receiver, &mut tally));
    let time = machine::thread_time() - start;
    let grams = depth / all.len() * all.len();
    assert_eq!(tally, Tally::expected(grams, &payload, sender.local_addr().unwrap()));
    [time.as_nanos() as f64 / grams as f64]
}

fn with_sockets(sockets: usize, depth: usize) -> Vec<harness::Outcome<1>> {
    let made = |_| {
        let bare = bare(traffic::RECV_BUF_BYTES);
        (bare.socket().local_addr().unwrap(), bare)
    };
    let mut bares: Vec<_> = (0..sockets).map(made).collect();
    let mut contestants = vec![Contestant::new(BARE, move || over_all(&mut bares, depth, Recvmmsg::drain))];
    for backend in traffic::backends() {
        let made = |_| {
            let peer = peer(backend, traffic::RECV_BUF_BYTES);
            (peer.ha(), peer)
        };
        let mut peers: Vec<_> = (0..sockets).map(made).collect();
        contestants.push(Contestant::new(backend.way(FILL), move || over_all(&mut peers, depth, drained::drain)));
    }
    let mut ring = RecvRing::new(SLOTS, MAX_GRAM_SIZE).expect("some slots of some bytes");
    let name = format!("fill_into, one ring for all, {}", ring.backend());
    let made = |_| {
        let peer = BatchPeer::new(traffic::config(traffic::RECV_BUF_BYTES).bc(1)).expect("a free port");
        (peer.ha(), peer)
    };
    let mut peers: Vec<_> = (0..sockets).map(made).collect();
    contestants.push(Contestant::new(name, move || {
        over_all(&mut peers, depth, |peer, tally| {
            while peer.fill_into(&mut ring).expect("the peer is open") > 0 {
                ring.grams().for_each(|gram| tally.add(gram.data, traffic::address(gram.src), gram.truncated));
            }
        })
    }));
    harness::rounds(ROUNDS, &mut contestants)
}

fn main() {
    println!("{}", machine::describe());
    let is_quiet = machine::quieten(0);
    println!("one thread on processor 0, {}", if is_quiet { "SCHED_FIFO" } else { "ordinary priority" });
    let deepest = traffic::queue_depth_of(RECV_BUF_BYTES, 65_536, SIZE);
    let depth = deepest.min(10_000);
    println!("this socket's buffer may hold {deepest} datagrams of {SIZE} bytes");
    let mut report = Report::new("scale");

    let depths: Vec<usize> = (3..=8).map(|power| 4_usize.pow(power)).filter(|depth| *depth <= deepest).collect();
    growth(&mut report, "depth", "queued", &depths, with_depth);
    let sources: Vec<usize> = (0..=4).map(|power| 10_usize.pow(power)).filter(|sources| *sources <= depth).collect();
    growth(&mut report, "sources", "sources", &sources, |sources| with_sources(sources, depth));
    growth(&mut report, "sockets", "sockets", &[1, 4, 16, 64], |sockets| with_sockets(sockets, depth.min(4096)));
    report.figure("g12_deepest", depths.last().map(|depth| *depth as f64));
    report.save();
}
