//! Emptying a full socket queue: processor time per datagram of the receiving thread alone.
//!
//! Each contestant has a socket of its own. A round fills its queue, then times the emptying, with
//! every byte and every address consumed. First the paired tables, then the same with criterion.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use hio_udp::{BatchPeer, MAX_GRAM_SIZE, Peer, PeerConfig, Transport};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::rivals::{Recvfrom, Recvmmsg, StdRecvFrom};
use hio_udp_benches::traffic::{self, RECV_BUF_BYTES, Tally};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

const SIZES: [usize; 3] = [32, 100, 1240];
/// Datagrams in the queue, if the socket's buffer may be so large.
const DEPTH: usize = 4096;
const ROUNDS: usize = 31;
/// Slots of every ring, unless a table says otherwise.
const SLOTS: usize = 64;

const RECVMMSG: &str = "bare recvmmsg, 64 slots";
const RECVFROM: &str = "bare recvfrom";
const QUINN: &str = "quinn-udp, defaults";

/// Empties its socket's queue into a tally.
type Drain = Box<dyn FnMut(&mut Tally)>;

/// A receiver, and the socket it empties.
struct Receiver {
    name: String,
    at: SocketAddr,
    drain: Drain,
}

impl Receiver {
    fn new(name: impl Into<String>, at: SocketAddr, drain: impl FnMut(&mut Tally) + 'static) -> Self {
        Self { name: name.into(), at, drain: Box::new(drain) }
    }

    /// Fills the queue, then empties it; gives the time of the emptying.
    fn measure(&mut self, sender: &UdpSocket, payload: &[u8], depth: usize) -> Duration {
        traffic::fill_queue(sender, self.at, payload, depth);
        let mut tally = Tally::default();
        let start = machine::thread_time();
        (self.drain)(&mut tally);
        let time = machine::thread_time() - start;
        let source = sender.local_addr().expect("the sender is bound");
        assert_eq!(tally, Tally::expected(depth, payload, source), "{}", self.name);
        time
    }
}

fn recvmmsg(name: &str) -> Receiver {
    let mut bare = Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), SLOTS, MAX_GRAM_SIZE.next_multiple_of(64));
    Receiver::new(name, bare.socket().local_addr().unwrap(), move |tally| bare.drain(tally))
}

/// With the one option a `BatchPeer` always sets.
fn recvmmsg_counting_drops() -> Receiver {
    let slot_bytes = MAX_GRAM_SIZE.next_multiple_of(64);
    let mut bare = Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), SLOTS, slot_bytes).with_drop_counter();
    Receiver::new("the same with SO_RXQ_OVFL", bare.socket().local_addr().unwrap(), move |tally| bare.drain(tally))
}

fn recvfrom() -> Receiver {
    let mut bare = Recvfrom::new(traffic::socket(RECV_BUF_BYTES), 65_536);
    Receiver::new(RECVFROM, bare.socket().local_addr().unwrap(), move |tally| bare.drain(tally))
}

fn std_recv_from() -> Receiver {
    let mut std = StdRecvFrom::new(traffic::socket(RECV_BUF_BYTES), 65_536);
    Receiver::new("std recv_from", std.socket().local_addr().unwrap(), move |tally| std.drain(tally))
}

/// As quinn itself uses it: 32 buffers, each for a whole coalesced run.
fn quinn() -> Receiver {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let at = socket.local_addr().unwrap();
    let state = UdpSocketState::new((&socket).into()).expect("quinn-udp takes any UDP socket");
    let slot_bytes = 1500 * state.gro_segments();
    let mut bytes = vec![0xA5; BATCH_SIZE * slot_bytes];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    Receiver::new(QUINN, at, move |tally| {
        let mut slices: Vec<IoSliceMut<'_>> = bytes.chunks_exact_mut(slot_bytes).map(IoSliceMut::new).collect();
        while let Ok(filled) = state.recv((&socket).into(), &mut slices, &mut metas) {
            for (meta, slice) in metas[..filled].iter().zip(&slices) {
                for data in slice[..meta.len].chunks(meta.stride) {
                    tally.add(data, traffic::address(meta.addr), false);
                }
            }
        }
    })
}

fn fill(name: impl Into<String>, mut peer: BatchPeer) -> Receiver {
    Receiver::new(name, peer.ha(), move |tally| {
        loop {
            let grams = peer.fill().expect("the peer is open");
            if grams.is_empty() {
                return;
            }
            for gram in grams {
                tally.add(gram.data, traffic::address(gram.src), gram.truncated);
            }
        }
    })
}

fn receive<T: Transport + 'static>(name: &str, mut peer: T) -> Receiver {
    Receiver::new(name, peer.ha(), move |tally| {
        while let (data, Some(src)) = peer.receive().expect("the peer is open") {
            tally.add(data, traffic::address(src), false);
        }
    })
}

fn default_peer() -> BatchPeer {
    traffic::batch_peer(SLOTS, MAX_GRAM_SIZE, RECV_BUF_BYTES)
}

fn paired(mut receivers: Vec<Receiver>, size: usize, title: &str, references: &[&str]) {
    let sender = traffic::socket(0);
    let payload = traffic::payload(size);
    let depth = traffic::queue_depth(DEPTH, size);
    let mut contestants: Vec<Contestant<'_, 1>> = receivers
        .iter_mut()
        .map(|receiver| {
            let (sender, payload, name) = (&sender, &payload, receiver.name.clone());
            Contestant::new(name, move || [receiver.measure(sender, payload, depth).as_nanos() as f64 / depth as f64])
        })
        .collect();
    let outcomes = harness::rounds(ROUNDS, &mut contestants);
    let title = format!("drain, {title}, {size} bytes, {depth} queued: ns per datagram");
    harness::print_table(&title, &outcomes, 0, references);
}

fn paired_tables() {
    for size in SIZES {
        let receivers = vec![
            recvmmsg(RECVMMSG),
            recvmmsg("the same again (null ratio)"),
            recvmmsg_counting_drops(),
            recvfrom(),
            std_recv_from(),
            quinn(),
            fill("BatchPeer::fill", default_peer()),
            receive("BatchPeer::receive", default_peer()),
            receive("Peer::receive", Peer::new(traffic::config(RECV_BUF_BYTES)).expect("a free port")),
        ];
        paired(receivers, size, "rivals", &[RECVMMSG, RECVFROM, QUINN]);
    }
    for size in [100, 1240] {
        let mut receivers = vec![recvmmsg(RECVMMSG)];
        for (bc, gram_size) in [(16, 1240), (64, 1240), (256, 1240), (64, 2048), (16, 65_535), (64, 65_535)] {
            let peer = traffic::batch_peer(bc, gram_size, RECV_BUF_BYTES);
            receivers.push(fill(format!("fill, bc {bc}, gram_size {gram_size}"), peer));
        }
        paired(receivers, size, "shapes", &[RECVMMSG, "fill, bc 64, gram_size 1240"]);
    }
    for size in [100, 1240] {
        const PLAIN: &str = "fill, no option";
        let with = |name: &str, set: fn(PeerConfig) -> PeerConfig| {
            fill(name, BatchPeer::new(set(traffic::config(RECV_BUF_BYTES))).expect("a free port"))
        };
        let receivers = vec![
            with(PLAIN, |config| config),
            with("rx_time", |config| config.rx_time(true)),
            with("dst_addr", |config| config.dst_addr(true)),
            with("ecn", |config| config.ecn(true)),
            with("rx_time, dst_addr and ecn", |config| config.rx_time(true).dst_addr(true).ecn(true)),
        ];
        paired(receivers, size, "options", &[PLAIN]);
    }
}

/// Criterion cannot pair rivals inside a round; it keeps a history of each instead.
fn drain(criterion: &mut Criterion) {
    for size in SIZES {
        let depth = traffic::queue_depth(1024, size);
        let (sender, payload) = (traffic::socket(0), traffic::payload(size));
        let mut group = criterion.benchmark_group("drain");
        group.throughput(Throughput::Elements(depth as u64));
        for mut receiver in [recvmmsg(RECVMMSG), quinn(), fill("BatchPeer::fill", default_peer())] {
            group.bench_function(BenchmarkId::new(receiver.name.clone(), size), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| receiver.measure(&sender, &payload, depth)).sum());
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
    paired_tables();
    with_criterion();
    Criterion::default().configure_from_args().final_summary();
}
