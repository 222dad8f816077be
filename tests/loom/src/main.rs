//! How the threads of a pipeline wait for each other and pass rings, in every interleaving, and with every value
//! that the memory model lets a load see: `idle.rs` and `handoff.rs` as they stand in the library, over loom's
//! atomics and threads.
//!
//! The queues between them are crossbeam's; here is a model of them that promises less: who pushes releases, who
//! pops acquires, and nobody is told in time that there is something. Deadlines never come, so a wake-up that is
//! lost is a deadlock, which loom finds.
//!
//! A program and no test, because the files bring tests of their own, for real threads.
#![allow(dead_code)]

#[path = "../../../src/pipeline/handoff.rs"]
mod handoff;
#[path = "../../../src/pipeline/idle.rs"]
mod idle;
mod pool;
mod sync;

/// What goes round: a ring is its number, from 1.
mod ring {
    #[derive(Debug)]
    pub struct RecvRing(pub usize);
}

use std::time::{Duration, Instant};

use handoff::Handoff;
use idle::{Waiter, Waiters};
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Nobody waits for less.
const LONG: Duration = Duration::from_secs(1);

fn take(things: &AtomicUsize) -> Option<()> {
    let mut seen = things.load(Ordering::Relaxed);
    while seen > 0 {
        match things.compare_exchange(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(()),
            Err(now) => seen = now,
        }
    }
    None
}

fn one_waits_for_another() {
    let (waiter, things) = (Arc::new(Waiter::default()), Arc::new(AtomicUsize::new(0)));
    let waiting = {
        let (waiter, things) = (waiter.clone(), things.clone());
        thread::spawn(move || {
            for _ in 0..2 {
                let found = waiter.wait_until(sync::Instant::now() + LONG, || take(&things));
                assert_eq!(found, Some(()));
            }
        })
    };
    for _ in 0..2 {
        things.fetch_add(1, Ordering::Release);
        waiter.wake();
    }
    waiting.join().unwrap();
}

fn several_wait_for_a_thing_each() {
    let (waiters, things) = (Arc::new(Waiters::new(2)), Arc::new(AtomicUsize::new(0)));
    let waiting = [0, 1].map(|me| {
        let (waiters, things) = (waiters.clone(), things.clone());
        thread::spawn(move || waiters.wait(me, || take(&things)))
    });
    for _ in 0..2 {
        things.fetch_add(1, Ordering::Release);
        waiters.wake_one();
    }
    waiting.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(things.load(Ordering::Relaxed), 0);
}

/// A reader hands `batches` over, of `rings` rings, to workers; then it ends them.
fn rings_go_round(rings: usize, workers: usize, batches: usize) {
    let handoff = Arc::new(Handoff::new(1, workers, rings, 1, 1, false).unwrap());
    let working: Vec<_> = (0..workers)
        .map(|me| {
            let handoff = handoff.clone();
            thread::spawn(move || {
                let (mut next, mut seen) = (0, 0);
                while let Some((shard, ring)) = handoff.take_full(me, &mut next) {
                    seen += 1;
                    handoff.give_back(shard, ring);
                }
                seen
            })
        })
        .collect();
    let reading = {
        let handoff = handoff.clone();
        // Not in the thread that joins the others: loom's join takes a wake-up that came before it for the end.
        thread::spawn(move || {
            for _ in 0..batches {
                let ring = handoff.take_free(0).or_else(|| handoff.wait_free(0, LONG));
                handoff.hand_over(0, ring.expect("a deadline never comes"));
            }
            handoff.end();
        })
    };
    reading.join().unwrap();
    let seen: usize = working.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!((seen, handoff.occupancy(0)), (batches, (rings, 0)));
}

fn main() {
    let models: [(&str, usize, fn()); 4] = [
        ("one waits for another", 5, one_waits_for_another),
        ("several wait, for a thing each", 3, several_wait_for_a_thing_each),
        ("one ring, one worker, two batches", 4, || rings_go_round(1, 1, 2)),
        ("two rings, two workers, two batches", 2, || rings_go_round(2, 2, 2)),
    ];
    let only = std::env::args().nth(1).unwrap_or_default();
    for (name, preemptions, model) in models.into_iter().filter(|(name, ..)| name.contains(&only)) {
        let start = Instant::now();
        let mut builder = Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
        println!("{name}: holds, with up to {preemptions} preemptions ({:.1} s)", start.elapsed().as_secs_f32());
    }
}
