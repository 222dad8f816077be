//! Rings that go from a reader to a worker and back (G11), 64 datagrams in each: what the hand-off alone
//! costs per datagram, while neither side is idle.

use std::collections::VecDeque;
use std::hint;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{Handoff, MAX_GRAM_SIZE, RecvRing, RingPool};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;

const ROUNDS: usize = 31;
/// Datagrams in a ring.
const SLOTS: usize = 64;
/// One in the reader's hand, four in the queue, one in the worker's.
const RINGS: usize = 1 + 4 + 1;
/// Rings handed over in a round.
const HANDED: usize = 20_000;

const PIPELINE: &str = "Pipeline's hand-off";
const POOL: &str = "RingPool";
const NEWS: &str = "floor: two counters, no rings";

/// Two queues of rings.
trait Pool: Sync {
    fn take_free(&self) -> Option<RecvRing>;
    fn hand_over(&self, ring: RecvRing);
    fn take_full(&self) -> Option<RecvRing>;
    fn give_back(&self, ring: RecvRing);
}

impl Pool for RingPool {
    fn take_free(&self) -> Option<RecvRing> {
        self.take_free()
    }

    fn hand_over(&self, ring: RecvRing) {
        self.hand_over(ring).expect("it is the pool's own");
    }

    fn take_full(&self) -> Option<RecvRing> {
        self.take_full()
    }

    fn give_back(&self, ring: RecvRing) {
        self.give_back(ring).expect("it is the pool's own");
    }
}

/// What a pipeline of one shard and one worker does: its two ends also wait and wake each other.
impl Pool for Handoff {
    fn take_free(&self) -> Option<RecvRing> {
        self.take_free(0).or_else(|| self.wait_free(0, Duration::from_secs(1)))
    }

    fn hand_over(&self, ring: RecvRing) {
        self.hand_over(0, ring);
    }

    fn take_full(&self) -> Option<RecvRing> {
        self.take_full(0, &mut 0).map(|(_, ring)| ring)
    }

    fn give_back(&self, ring: RecvRing) {
        self.give_back(0, ring);
    }
}

/// The standard library's channels. Their receivers are not `Sync`, so each stands behind a lock that
/// nobody else asks for.
struct Channels {
    free: (SyncSender<RecvRing>, Mutex<Receiver<RecvRing>>),
    full: (SyncSender<RecvRing>, Mutex<Receiver<RecvRing>>),
}

impl Channels {
    fn new() -> Self {
        let channel = || {
            let (sender, receiver) = sync_channel(RINGS);
            (sender, Mutex::new(receiver))
        };
        let this = Self { free: channel(), full: channel() };
        (0..RINGS).for_each(|_| this.give_back(ring()));
        this
    }
}

impl Pool for Channels {
    fn take_free(&self) -> Option<RecvRing> {
        self.free.1.lock().unwrap().try_recv().ok()
    }

    fn hand_over(&self, ring: RecvRing) {
        self.full.0.send(ring).expect("both ends live");
    }

    fn take_full(&self) -> Option<RecvRing> {
        self.full.1.lock().unwrap().try_recv().ok()
    }

    fn give_back(&self, ring: RecvRing) {
        self.free.0.send(ring).expect("both ends live");
    }
}

/// Two queues, each behind a lock.
struct Locked {
    free: Mutex<VecDeque<RecvRing>>,
    full: Mutex<VecDeque<RecvRing>>,
}

impl Locked {
    fn new() -> Self {
        let free = (0..RINGS).map(|_| ring()).collect();
        Self { free: Mutex::new(free), full: Mutex::new(VecDeque::with_capacity(RINGS)) }
    }
}

impl Pool for Locked {
    fn take_free(&self) -> Option<RecvRing> {
        self.free.lock().unwrap().pop_front()
    }

    fn hand_over(&self, ring: RecvRing) {
        self.full.lock().unwrap().push_back(ring);
    }

    fn take_full(&self) -> Option<RecvRing> {
        self.full.lock().unwrap().pop_front()
    }

    fn give_back(&self, ring: RecvRing) {
        self.free.lock().unwrap().push_back(ring);
    }
}

/// A new one for each round, because only one thread in its life may wait for full rings.
fn handoff() -> Handoff {
    Handoff::new(1, 1, RINGS, SLOTS, MAX_GRAM_SIZE, true).expect("some rings")
}

fn ring() -> RecvRing {
    RecvRing::new(SLOTS, MAX_GRAM_SIZE).expect("some slots of some bytes")
}

/// Asks until there is a ring; after a while it lets others run, in case there is one processor only.
fn until(mut take: impl FnMut() -> Option<RecvRing>) -> RecvRing {
    for tries in 0_u32.. {
        if let Some(ring) = take() {
            return ring;
        }
        if tries % 1024 == 1023 { thread::yield_now() } else { hint::spin_loop() }
    }
    unreachable!("the loop has no end")
}

/// Both threads as fast as they can; ns per datagram from reader to worker to reader.
fn round_trips(pool: &impl Pool) -> f64 {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            machine::quieten(1);
            (0..HANDED).for_each(|_| pool.give_back(until(|| pool.take_full())));
        });
        // The first one wakes the worker up, untimed.
        pool.hand_over(until(|| pool.take_free()));
        let start = Instant::now();
        (1..HANDED).for_each(|_| pool.hand_over(until(|| pool.take_free())));
        worker.join().expect("the worker does not panic");
        start.elapsed().as_nanos() as f64 / (HANDED * SLOTS) as f64
    })
}

/// A count of rings on a cache line of its own.
#[repr(align(128))]
struct Count(AtomicUsize);

/// No rings at all, only the news that there is one: what two processors need to tell each other.
fn news_only() -> f64 {
    let (handed, worked) = (Count(AtomicUsize::new(0)), Count(AtomicUsize::new(0)));
    // Acquire, paired with the other side's Release.
    let until = |count: &Count, is_there: &dyn Fn(usize) -> bool| {
        for tries in 0_u32.. {
            if is_there(count.0.load(Ordering::Acquire)) {
                return;
            }
            if tries % 1024 == 1023 { thread::yield_now() } else { hint::spin_loop() }
        }
    };
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            machine::quieten(1);
            for ring in 0..HANDED {
                until(&handed, &|handed| handed > ring);
                worked.0.store(ring + 1, Ordering::Release);
            }
        });
        handed.0.store(1, Ordering::Release);
        until(&worked, &|worked| worked > 0);
        let start = Instant::now();
        for ring in 1..HANDED {
            until(&worked, &|worked| ring - worked < RINGS);
            handed.0.store(ring + 1, Ordering::Release);
        }
        worker.join().expect("the worker does not panic");
        start.elapsed().as_nanos() as f64 / (HANDED * SLOTS) as f64
    })
}

/// The same work on one thread: what is left when no cache line changes its processor.
fn alone(pool: &impl Pool) -> f64 {
    let start = Instant::now();
    for _ in 0..HANDED {
        pool.hand_over(pool.take_free().expect("it was given back"));
        pool.give_back(pool.take_full().expect("it was handed over"));
    }
    start.elapsed().as_nanos() as f64 / (HANDED * SLOTS) as f64
}

fn main() {
    println!("{}", machine::describe());
    let is_quiet = machine::quieten(0);
    println!(
        "reader on processor 0, worker on processor 1, {}, {RINGS} rings",
        if is_quiet { "SCHED_FIFO" } else { "ordinary priority" }
    );
    let pool = RingPool::new(RINGS, SLOTS, MAX_GRAM_SIZE).expect("some rings");
    let (channels, locked) = (Channels::new(), Locked::new());
    let mut contestants = [
        Contestant::new(PIPELINE, || [round_trips(&handoff())]),
        Contestant::new(POOL, || [round_trips(&pool)]),
        Contestant::new("std sync_channel", || [round_trips(&channels)]),
        Contestant::new("std Mutex<VecDeque>", || [round_trips(&locked)]),
        Contestant::new(NEWS, || [news_only()]),
        Contestant::new("Pipeline's hand-off, one thread", || [alone(&handoff())]),
        Contestant::new("RingPool, one thread", || [alone(&pool)]),
        Contestant::new("std sync_channel, one thread", || [alone(&channels)]),
        Contestant::new("std Mutex<VecDeque>, one thread", || [alone(&locked)]),
    ];
    let outcomes = harness::rounds(ROUNDS, &mut contestants);
    drop(contestants);
    assert_eq!((pool.free(), pool.full()), (RINGS, 0), "a ring was lost");
    let mut report = Report::new("handoff");
    report.table("hand-off from reader to worker and back, ns per datagram", &outcomes, 0, &[PIPELINE]);
    report.figure("g11", harness::median(&outcomes, PIPELINE, 0));
    report.figure("g11_pool", harness::median(&outcomes, POOL, 0));
    report.figure("g11_barest", harness::median(&outcomes, NEWS, 0));
    report.figure("g11_one_thread", harness::median(&outcomes, "RingPool, one thread", 0));
    report.save();
}
