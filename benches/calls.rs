//! System calls and heap allocations of each path (G10, G15): exact counts, so one run is enough.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};

use hio_udp::{BatchPeer, MAX_GRAM_SIZE, Peer, PeerConfig, RingPool, Transport};
use hio_udp_benches::flooded::{self, Sender, flood};
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;
use hio_udp_benches::rivals::Recvmmsg;
use hio_udp_benches::traffic::{self, Backend, IO_URING, MMSG, RECV_BUF_BYTES};

const SIZE: usize = 64;
/// Slots of every ring.
const SLOTS: usize = 64;
/// Datagrams in a drain.
const DEPTH: usize = 4096;
/// Drains, the first of which does not count.
const TIMES: usize = 5;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local `Cell`
// with a constant start value, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is going away has no counter any more, and nobody looks at it.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, new_size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a path took, for so many datagrams.
#[derive(Default)]
struct Took {
    grams: u64,
    calls: u64,
    allocations: u64,
}

/// Runs `work` several times; it gives its peer's calls and datagrams so far. `prepare` does not count.
fn count(mut prepare: impl FnMut(), mut work: impl FnMut() -> (u64, u64)) -> Took {
    prepare();
    let mut before = work();
    let mut took = Took::default();
    for _ in 1..TIMES {
        prepare();
        let allocations = ALLOCATIONS.get();
        let after = work();
        took.allocations += ALLOCATIONS.get() - allocations;
        took.calls += after.0 - before.0;
        took.grams += after.1 - before.1;
        before = after;
    }
    took
}

/// Counts for the report, and the sum of allocations.
struct Counts {
    report: Report,
    rows: Vec<(String, Took)>,
}

impl Counts {
    fn add(&mut self, name: String, took: Took) {
        let grams = took.grams as f64;
        assert!(took.grams > 0, "{name} moved nothing");
        println!("  {name:<58} {:>10} {:>12.5} {:>12}", took.grams, took.calls as f64 / grams, took.allocations,);
        self.rows.push((name, took));
    }

    /// System calls per datagram, without the one per drain that finds nothing.
    fn without_empty(&self, name: &str) -> Option<f64> {
        let (_, took) = self.rows.iter().find(|(row, _)| row == name)?;
        Some((took.calls - (TIMES as u64 - 1)) as f64 / took.grams as f64)
    }
}

fn config() -> PeerConfig {
    traffic::config(RECV_BUF_BYTES).bc(SLOTS).gram_size(MAX_GRAM_SIZE)
}

/// Calls and datagrams of a peer's receiving side.
fn received(peer: &impl Transport) -> (u64, u64) {
    let stats = peer.stats();
    (stats.recv_calls + stats.wait_calls, stats.grams_received)
}

fn fill(sender: &UdpSocket, data: &[u8], times: usize, mut peer: BatchPeer) -> Took {
    let at = peer.ha();
    count(
        || traffic::fill_queue(sender, at, data, times),
        || {
            while peer.fill().expect("the peer is open").map(|gram| gram.data.len()).sum::<usize>() > 0 {}
            received(&peer)
        },
    )
}

fn receive(sender: &UdpSocket, data: &[u8], times: usize, mut peer: impl Transport) -> Took {
    let at = peer.ha();
    count(
        || traffic::fill_queue(sender, at, data, times),
        || {
            while let (_, Some(_)) = peer.receive().expect("the peer is open") {}
            received(&peer)
        },
    )
}

/// Reader, worker and reader again on one thread: the calls are the same as on two.
fn pool(sender: &UdpSocket, data: &[u8], times: usize, peer: &BatchPeer) -> Took {
    let (at, pool) = (peer.ha(), RingPool::new(2, SLOTS, MAX_GRAM_SIZE).expect("two rings"));
    count(
        || traffic::fill_queue(sender, at, data, times),
        || {
            loop {
                let mut ring = pool.take_free().expect("it was given back");
                let grams = peer.fill_into(&mut ring).expect("the peer is open");
                pool.hand_over(ring).expect("it is the pool's own");
                pool.give_back(pool.take_full().expect("it was handed over")).expect("it is the pool's own");
                if grams == 0 {
                    return received(peer);
                }
            }
        },
    )
}

fn sent(peer: &impl Transport) -> (u64, u64) {
    let stats = peer.stats();
    (stats.send_calls + stats.wait_calls, stats.grams_sent)
}

/// Lets a peer send to receivers that are read empty in between.
fn send<T: Transport>(receivers: &mut [Recvmmsg], mut peer: T, mut send: impl FnMut(&mut T, &[SocketAddr])) -> Took {
    let to: Vec<SocketAddr> = receivers.iter().map(|receiver| receiver.socket().local_addr().unwrap()).collect();
    let to: Vec<SocketAddr> = to.into_iter().cycle().take(DEPTH / 4).collect();
    count(
        || receivers.iter_mut().for_each(|receiver| receiver.drain_with(|_, _, _| ())),
        || {
            send(&mut peer, &to);
            sent(&peer)
        },
    )
}

fn of_backend(counts: &mut Counts, backend: Backend) {
    let payload = traffic::payload(SIZE);
    let (sender, depth) = (traffic::socket(0), traffic::queue_depth(DEPTH, SIZE));
    let all = |config: PeerConfig| config.rx_time(true).dst_addr(true).ecn(true);
    counts.add(backend.way(FILL), fill(&sender, &payload, depth, backend.peer(config())));
    counts.add(backend.way(FILL_128), fill(&sender, &payload, depth, backend.peer(config().bc(128))));
    counts.add(backend.way("fill, all metadata"), fill(&sender, &payload, depth, backend.peer(all(config()))));
    counts.add(backend.way("receive"), receive(&sender, &payload, depth, backend.peer(config())));
    counts.add(backend.way("fill_into, hand-off and back"), pool(&sender, &payload, depth, &backend.peer(config())));

    let segmenting = traffic::socket(0);
    traffic::set_segment_len(&segmenting, SIZE);
    let (run, runs) = (payload.repeat(64), depth / 4 / 64);
    let runs = runs.max(1);
    counts.add(backend.way(COALESCED), fill(&segmenting, &run, runs, backend.peer(config().bc(8).coalesce(true))));
    let peer = backend.peer(all(config()).bc(8).coalesce(true));
    counts.add(backend.way("fill, coalescing, all metadata"), fill(&segmenting, &run, runs, peer));

    for (how, receivers) in [("one destination", 1), ("64 destinations", 64)] {
        let made = |_| Recvmmsg::new(traffic::socket(RECV_BUF_BYTES / receivers), SLOTS, MAX_GRAM_SIZE);
        let mut receivers: Vec<Recvmmsg> = (0..receivers).map(made).collect();
        let took = send(&mut receivers, backend.peer(config()), |peer, to| {
            assert_eq!(peer.send_batch(to.iter().map(|to| (&payload, *to))).sent, to.len());
        });
        counts.add(backend.way(&format!("send_batch, {how}")), took);
        let took = send(&mut receivers, backend.peer(config()), |peer, to| {
            for batch in to.chunks(SLOTS) {
                batch.iter().for_each(|to| peer.queue(&payload, *to).expect("the ring was flushed"));
                assert_eq!(peer.flush().sent, batch.len());
            }
        });
        counts.add(backend.way(&format!("queue and flush, {how}")), took);
    }
    let mut receiver = [Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), SLOTS, MAX_GRAM_SIZE)];
    let took = send(&mut receiver, backend.peer(config()), |peer, to| {
        to.iter().for_each(|to| assert!(peer.send(&payload, *to).is_ok()));
    });
    counts.add(backend.way("send"), took);

    let mut peer = backend.peer(traffic::config(1 << 20).bc(SLOTS));
    let sender = Sender::mmsg(&payload, peer.ha());
    let mut allocations = 0;
    flood(sender, &payload, |tally, is_over| {
        let before = ALLOCATIONS.get();
        flooded::fill_wait(&mut peer, tally, is_over);
        allocations = ALLOCATIONS.get() - before;
    });
    let (calls, grams) = received(&peer);
    counts.add(backend.way("fill_wait in a flood, waiting included"), Took { grams, calls, allocations });
}

const FILL: &str = "fill";
const FILL_128: &str = "fill, 128 slots";
const COALESCED: &str = "fill, coalescing";

fn main() {
    println!("{}", machine::describe());
    machine::pin(0);
    println!("\n  {:<58} {:>10} {:>12} {:>12}", "", "datagrams", "calls each", "allocations");
    let mut counts = Counts { report: Report::new("calls"), rows: Vec::new() };
    for backend in traffic::backends() {
        of_backend(&mut counts, backend);
    }
    let (sender, payload, depth) = (traffic::socket(0), traffic::payload(SIZE), traffic::queue_depth(DEPTH, SIZE));
    let peer = || Peer::new(config()).expect("a free port on 127.0.0.1");
    counts.add("Peer::receive".to_owned(), receive(&sender, &payload, depth, peer()));
    let mut receiver = [Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), SLOTS, MAX_GRAM_SIZE)];
    let took = send(&mut receiver, peer(), |peer, to| {
        to.iter().for_each(|to| assert!(peer.send(&payload, *to).is_ok()));
    });
    counts.add("Peer::send".to_owned(), took);

    let allocations: u64 = counts.rows.iter().map(|(_, took)| took.allocations).sum();
    let [mmsg, uring, gro] = [(FILL, MMSG), (FILL_128, IO_URING), (COALESCED, MMSG)]
        .map(|(path, backend)| counts.without_empty(&format!("{path}, {backend}")));
    let Counts { mut report, rows } = counts;
    let cells = rows.iter().map(|(name, took)| {
        let each = took.calls as f64 / took.grams as f64;
        format!("| {name} | {} | {each:.5} | {} |\n", took.grams, took.allocations)
    });
    report.markdown(
        "system calls and allocations",
        &format!(
            "| what | datagrams | system calls per datagram | allocations |\n|---|---:|---:|---:|\n{}",
            cells.collect::<String>()
        ),
    );
    report.figure("g10", allocations as f64);
    report.figure("g15_mmsg", mmsg);
    report.figure("g15_io_uring", uring);
    report.figure("g15_gro", gro);
    report.save();
}
