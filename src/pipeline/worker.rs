//! What runs handlers: workers, and what they share with readers that run one themselves.

use std::any::Any;
use std::mem;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Shared;
use super::handoff::Handoff;
use super::stats::Tally;
use crate::ring::RecvRing;

/// A filled ring, lent to a handler for one call.
///
/// It is the [`RecvRing`], to be looked at: `grams`, `len`. When the handler returns, or panics, the ring goes
/// back to its reader.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'r> {
    ring: &'r RecvRing,
    shard: usize,
}

impl Batch<'_> {
    /// Number of the shard whose socket it came through, from 0.
    pub fn shard(&self) -> usize {
        self.shard
    }
}

impl Deref for Batch<'_> {
    type Target = RecvRing;

    fn deref(&self) -> &RecvRing {
        self.ring
    }
}

/// What is called with every batch, by one thread.
pub(super) type Handler = Box<dyn FnMut(Batch<'_>) + Send>;

/// Sees to full rings until the last one.
pub(super) fn run(shared: &Shared, me: usize, mut handler: Handler) {
    let mut next = me % shared.shards();
    while let Some((shard, ring)) = shared.handoff.take_full(me, &mut next) {
        let lent = Lent { ring: Some(ring), shard, handoff: &shared.handoff };
        deliver(&mut handler, lent.ring(), shard, shared.tally(me, shard));
    }
    contain(|| drop(handler));
}

/// A ring in a worker's hand, which goes back whatever happens.
struct Lent<'p> {
    /// There until the drop.
    ring: Option<RecvRing>,
    shard: usize,
    handoff: &'p Handoff,
}

impl Lent<'_> {
    fn ring(&self) -> &RecvRing {
        self.ring.as_ref().expect("it is given back by the drop only")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(ring) = self.ring.take() {
            self.handoff.give_back(self.shard, ring);
        }
    }
}

/// Calls the handler with one batch. Its panic ends here: it is counted and logged.
pub(super) fn deliver(handler: &mut Handler, ring: &RecvRing, shard: usize, tally: &Tally) {
    let grams = ring.len();
    // What a panic leaves half done is the handler's own; nothing of ours is behind the call.
    let outcome = catch_unwind(AssertUnwindSafe(|| handler(Batch { ring, shard })));
    let panics_before = tally.on_batch(grams, outcome.is_err());
    if let Err(payload) = outcome {
        contain(|| log_panic(&*payload, shard, grams, panics_before + 1));
        contain(|| drop(payload));
    }
}

/// Runs what is the user's own but not the handler: a panic of it ends here too. What it panicked with is dropped; what
/// that drop panics with never is, as there could be no end.
pub(super) fn contain(run: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(run)) else { return };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(payload);
    }
}

/// Logs the 1st, 2nd, 4th, 8th … panic.
#[cold]
fn log_panic(payload: &(dyn Any + Send), shard: usize, grams: usize, times: u64) {
    if !times.is_power_of_two() {
        return;
    }
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    log::error!("The handler of shard {shard} panicked in a batch of {grams} (time {times} in this thread): {text}");
}
