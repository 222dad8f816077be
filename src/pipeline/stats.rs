//! What a pipeline counts: by shard, and in total.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::stats::Stats;

/// A snapshot of a [`Pipeline`](super::Pipeline)'s counters, since it was started.
///
/// Of a running pipeline, what sockets and readers count is up to 50 ms old, and without workers it is from before
/// the handler's present call; [`stop`](super::Pipeline::stop) gives the last word.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PipelineStats {
    /// One for each shard, in order.
    pub shards: Vec<ShardStats>,
    /// When it was taken.
    pub at: Instant,
}

impl PipelineStats {
    /// All shards together.
    pub fn total(&self) -> ShardStats {
        let mut total = ShardStats::default();
        for shard in &self.shards {
            total.add(shard);
        }
        total
    }

    /// Datagrams each shard delivered in a second, in the time since an earlier snapshot of the same pipeline:
    /// shows whether they are spread evenly.
    pub fn rates_since(&self, earlier: &Self) -> Vec<f64> {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let pairs = self.shards.iter().zip(&earlier.shards);
        pairs.map(|(now, then)| (now.grams_delivered - then.grams_delivered) as f64 / seconds).collect()
    }
}

/// The counters of one shard, or of all together.
///
/// After [`stop`](super::Pipeline::stop), unless it `is_unread`, every datagram that reached the shard's socket is in
/// exactly one of `grams_delivered`, `grams_left_behind`, `socket.grams_undecodable` and `socket.kernel_dropped`;
/// their sum is [`grams_accounted`](Self::grams_accounted). Before that, some are still in the socket or in rings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ShardStats {
    /// What the socket counted. `kernel_dropped` is what it dropped before the stop began.
    pub socket: Stats,
    /// Datagrams a handler has been given, cut ones included, whether or not it panicked.
    pub grams_delivered: u64,
    /// Rings these came in.
    pub batches_delivered: u64,
    /// Times a handler panicked; each costs the rest of its own batch and nothing else.
    pub handler_panics: u64,
    /// Of the delivered: those in a batch whose handler panicked.
    pub grams_panicked: u64,
    /// Datagrams that a stop left undelivered: turned away, or not read out before its deadline.
    pub grams_left_behind: u64,
    /// Receive calls and waits that failed; they lose nothing by themselves.
    pub receive_errors: u64,
    /// The errno of the last of these.
    pub receive_errno: Option<i32>,
    /// Whether a stop gave up on the socket because it could not be read to its end, or came while the pipeline was
    /// [held](super::PipelineBuilder::held): what it still held is in no count.
    pub is_unread: bool,
    /// Times the reader had to wait for a ring, because handlers had not given any back: what comes meanwhile
    /// waits in the socket's buffer.
    pub reader_stalls: u64,
    /// Number of rings.
    pub rings: u64,
    /// Of these: free at the moment.
    pub rings_free: u64,
    /// Of these: filled, and waiting for a worker.
    pub rings_full: u64,
}

impl ShardStats {
    /// Datagrams whose end is known: delivered, undecodable, dropped by the kernel, left behind.
    pub fn grams_accounted(&self) -> u64 {
        self.grams_delivered + self.socket.grams_undecodable + self.socket.kernel_dropped + self.grams_left_behind
    }

    fn add(&mut self, other: &Self) {
        let Self {
            socket,
            grams_delivered,
            batches_delivered,
            handler_panics,
            grams_panicked,
            grams_left_behind,
            receive_errors,
            receive_errno,
            is_unread,
            reader_stalls,
            rings,
            rings_free,
            rings_full,
        } = other;
        self.socket.add(socket);
        self.grams_delivered += grams_delivered;
        self.batches_delivered += batches_delivered;
        self.handler_panics += handler_panics;
        self.grams_panicked += grams_panicked;
        self.grams_left_behind += grams_left_behind;
        self.receive_errors += receive_errors;
        self.receive_errno = receive_errno.or(self.receive_errno);
        self.is_unread |= is_unread;
        self.reader_stalls += reader_stalls;
        self.rings += rings;
        self.rings_free += rings_free;
        self.rings_full += rings_full;
    }
}

/// What one thread has delivered of one shard. Only that thread writes, so no two ever ask for one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Tally {
    grams: AtomicU64,
    batches: AtomicU64,
    panics: AtomicU64,
    grams_panicked: AtomicU64,
}

impl Tally {
    /// Counts one batch whose handler has come to its end; gives how often one had panicked before.
    #[inline]
    pub(super) fn on_batch(&self, grams: usize, has_panicked: bool) -> u64 {
        add(&self.grams, grams as u64);
        add(&self.batches, 1);
        if !has_panicked {
            return 0;
        }
        add(&self.grams_panicked, grams as u64);
        add(&self.panics, 1) - 1
    }

    pub(super) fn add_to(&self, stats: &mut ShardStats) {
        stats.grams_delivered += self.grams.load(Ordering::Relaxed);
        stats.batches_delivered += self.batches.load(Ordering::Relaxed);
        stats.handler_panics += self.panics.load(Ordering::Relaxed);
        stats.grams_panicked += self.grams_panicked.load(Ordering::Relaxed);
    }
}

/// Adds to a counter that only this thread writes; gives what it is then.
fn add(counter: &AtomicU64, more: u64) -> u64 {
    let sum = counter.load(Ordering::Relaxed) + more;
    counter.store(sum, Ordering::Relaxed);
    sum
}

/// What a reader says of itself, now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReaderReport {
    pub(super) socket: Stats,
    pub(super) receive_errors: u64,
    pub(super) receive_errno: Option<i32>,
    /// The read-out was given up.
    pub(super) is_unread: bool,
    pub(super) stalls: u64,
    /// Read out after the stop's deadline, and given to nobody.
    pub(super) left_behind: u64,
    /// What the kernel had dropped when the stop began, if it has.
    pub(super) dropped_before_stop: Option<u64>,
}

impl ReaderReport {
    /// Its part of the shard's counters.
    pub(super) fn shard_stats(&self) -> ShardStats {
        let dropped = self.dropped_before_stop.unwrap_or(self.socket.kernel_dropped);
        // What the kernel dropped since then was turned away, not dropped for want of room.
        let turned_away = self.socket.kernel_dropped - dropped;
        ShardStats {
            socket: Stats { kernel_dropped: dropped, ..self.socket },
            grams_left_behind: self.left_behind + turned_away,
            receive_errors: self.receive_errors,
            receive_errno: self.receive_errno,
            is_unread: self.is_unread,
            reader_stalls: self.stalls,
            ..ShardStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_after_the_stop_began_is_left_behind() {
        let socket = Stats { kernel_dropped: 10, grams_undecodable: 1, ..Stats::default() };
        let report = ReaderReport { socket, left_behind: 5, dropped_before_stop: Some(7), ..ReaderReport::default() };
        let stats = report.shard_stats();
        assert_eq!((stats.socket.kernel_dropped, stats.grams_left_behind, stats.grams_accounted()), (7, 8, 16));
        let running = ReaderReport { dropped_before_stop: None, ..report }.shard_stats();
        assert_eq!((running.socket.kernel_dropped, running.grams_left_behind), (10, 5));
    }

    #[test]
    fn a_total_is_the_sum_and_rates_are_differences() {
        let shard = |grams| ShardStats { grams_delivered: grams, rings: 6, ..ShardStats::default() };
        let at = Instant::now();
        let earlier = PipelineStats { shards: vec![shard(10), shard(20)], at };
        let later = at + std::time::Duration::from_secs(2);
        let now = PipelineStats { shards: vec![shard(110), shard(20)], at: later };
        assert_eq!((now.total().grams_delivered, now.total().rings), (130, 12));
        assert_eq!(now.rates_since(&earlier), [50.0, 0.0]);
    }
}
