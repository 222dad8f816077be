//! Rings on their way between readers and workers: one queue operation each way, and nobody waits who
//! need not.

use std::io;
use std::time::Duration;

use super::idle::{Waiter, Waiters};
use super::sync::{AtomicBool, Instant, Ordering};
use crate::pool::RingPool;
use crate::ring::RecvRing;

/// One pool for each shard, and where its reader and all workers wait.
///
/// A ring never leaves its shard's pool, because what fills it (an io_uring) may belong to the reader's
/// thread. Public for the benchmark of it only.
#[doc(hidden)]
#[derive(Debug)]
pub struct Handoff {
    shards: Box<[Shard]>,
    workers: Waiters,
    /// No reader hands anything over any more.
    has_ended: AtomicBool,
}

#[derive(Debug)]
struct Shard {
    pool: RingPool,
    /// The reader, when all rings are on their way.
    reader: Waiter,
}

/// The rings of one shard, each in one place at any moment:
pub(super) fn rings(queue: usize, workers: usize) -> usize {
    let in_the_readers_hand = 1;
    // Without workers the handler runs in the reader's thread, and nothing is queued.
    let waiting_for_a_worker = if workers == 0 { 0 } else { queue };
    // All of them may be at this shard.
    let in_workers_hands = workers;
    in_the_readers_hand + waiting_for_a_worker + in_workers_hands
}

impl Handoff {
    /// Allocates `rings` rings for each of `shards` shards, of `bc` slots of `gram_size` bytes.
    ///
    /// # Errors
    ///
    /// As [`RingPool::new`].
    pub fn new(
        shards: usize,
        workers: usize,
        rings: usize,
        bc: usize,
        gram_size: usize,
        io_uring: bool,
    ) -> io::Result<Self> {
        let pool = |_| RingPool::with(rings, bc, gram_size, io_uring);
        let pools: io::Result<Vec<RingPool>> = (0..shards).map(pool).collect();
        let shards = pools?.into_iter().map(|pool| Shard { pool, reader: Waiter::default() }).collect();
        Ok(Self { shards, workers: Waiters::new(workers), has_ended: AtomicBool::new(false) })
    }

    /// Takes a free ring of a shard, for its reader, if there is one.
    #[inline]
    pub fn take_free(&self, shard: usize) -> Option<RecvRing> {
        self.shards[shard].pool.take_free()
    }

    /// The same, waiting at most `longest` for one.
    pub fn wait_free(&self, shard: usize, longest: Duration) -> Option<RecvRing> {
        let Shard { pool, reader } = &self.shards[shard];
        reader.wait_until(Instant::now() + longest, || pool.take_free())
    }

    /// Gives a shard's filled ring to the workers.
    ///
    /// # Panics
    ///
    /// If it is not a ring of this shard: the queue has room for all of those.
    pub fn hand_over(&self, shard: usize, filled: RecvRing) {
        self.shards[shard].pool.hand_over(filled).expect("the queue has room for every ring of its pool");
        self.workers.wake_one();
    }

    /// Takes the oldest filled ring of a shard, from shard `next` on, which then is the one behind it;
    /// waits for one. `None` when nothing is left and nothing will come.
    pub fn take_full(&self, worker: usize, next: &mut usize) -> Option<(usize, RecvRing)> {
        self.workers.wait(worker, || {
            // Looked at first: what was handed over before the end is then seen below.
            let has_ended = self.has_ended.load(Ordering::Acquire);
            for _ in 0..self.shards.len() {
                let shard = *next;
                *next = if shard + 1 == self.shards.len() { 0 } else { shard + 1 };
                if let Some(ring) = self.shards[shard].pool.take_full() {
                    return Some(Some((shard, ring)));
                }
            }
            has_ended.then_some(None)
        })
    }

    /// Gives a ring back to its shard's reader.
    ///
    /// # Panics
    ///
    /// As [`hand_over`](Self::hand_over).
    pub fn give_back(&self, shard: usize, used: RecvRing) {
        let Shard { pool, reader } = &self.shards[shard];
        pool.give_back(used).expect("the queue has room for every ring of its pool");
        reader.wake();
    }

    /// Says that nothing more will be handed over; workers end when they have seen to the rest.
    pub fn end(&self) {
        // Release, paired with the Acquire in `take_full`.
        self.has_ended.store(true, Ordering::Release);
        self.workers.wake_all();
    }

    /// Gives up all free rings, with their memory and descriptors.
    pub(super) fn drop_free(&self) {
        self.shards.iter().for_each(|shard| while shard.pool.take_free().is_some() {});
    }

    /// How many rings of a shard are free, and how many wait for a worker.
    pub(super) fn occupancy(&self, shard: usize) -> (usize, usize) {
        let pool = &self.shards[shard].pool;
        (pool.free(), pool.full())
    }
}
