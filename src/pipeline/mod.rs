//! `Pipeline`: sockets on one port, a thread that reads each, and workers that see whole batches.
//!
//! ```text
//!              shard 0                                            workers, for all shards
//!   socket ──▶ reader ── full rings ────────────────────────────┬▶ handler(batch)
//!                ▲                                              │     │ drop
//!                └────── free rings ◀───────────────────────────┼─────┘
//!              shard 1                                          │
//!   socket ──▶ reader ── full rings ────────────────────────────┘
//! ```
//!
//! Stopping stands here, starting in `builder.rs`; `reader.rs` and `worker.rs` say what each thread does,
//! `handoff.rs` how rings pass between them, `idle.rs` how they wait, `steering.rs` how the kernel spreads
//! datagrams.

mod builder;
mod handoff;
mod idle;
mod reader;
mod stats;
mod steering;
mod sync;
mod worker;

use std::net::SocketAddr;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::PeerConfig;
use crate::endpoint::Endpoint;

pub use builder::{BoundPipeline, PipelineBuilder};
pub use handoff::Handoff;
pub use stats::{PipelineStats, ShardStats};
use stats::{ReaderReport, Tally};
pub use steering::Spread;
pub use worker::Batch;

/// Receives on one port with several threads: readers that fill rings, and workers that a handler runs in.
///
/// Longer datagrams than [`PeerConfig::gram_size`], by default 1,240 bytes, are cut, flagged and counted.
///
/// Each *shard* is a socket with a thread that reads it. Filled rings go to the workers, whole; a handler
/// sees a [`Batch`] and the ring goes back when it returns. Nothing is allocated, copied or locked for
/// a datagram.
///
/// ```
/// use hio_udp::{Peer, PeerConfig, Pipeline, Transport};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let bytes = Arc::new(AtomicUsize::new(0));
/// let seen = Arc::clone(&bytes);
/// let pipeline = Pipeline::builder(PeerConfig::new().ha(("127.0.0.1", 0))).workers(2).start(move |batch| {
///     for gram in batch.grams() {
///         seen.fetch_add(gram.data.len(), Ordering::Relaxed);
///     }
/// })?;
///
/// let mut peer = Peer::new(PeerConfig::new().port(0).reopen(true))?;
/// peer.send(b"hello", pipeline.ha())?;
/// peer.send(b"world", pipeline.ha())?;
///
/// let stats = pipeline.stop().total();
/// assert_eq!((stats.grams_delivered, stats.socket.kernel_dropped), (2, 0));
/// assert_eq!(bytes.load(Ordering::Relaxed), 10);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # What is lost
///
/// The kernel drops what finds a socket's buffer full, and counts it: nothing else loses a datagram. A
/// reader that has no free ring, because handlers are slow, waits for one; what comes meanwhile waits in the
/// socket's buffer. A handler that panics loses the rest of its own batch, which is counted and logged, and
/// the thread goes on. [`ShardStats::grams_accounted`] sums it up.
///
/// # Order
///
/// With one worker, or none, the datagrams of a shard come in order. Several workers may overtake each other.
///
/// # Who else can bind the port
///
/// With one shard, nobody. With several, sockets of processes that run as the same effective user, in the
/// same network namespace, and ask for SO_REUSEPORT (socket(7)): the kernel gives such a socket its share of
/// the datagrams. Another pipeline does not start on the port, and neither does this one where anybody
/// is there already. [`PeerConfig::exclusive`] makes no difference.
#[derive(Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    /// Each gives its socket back, still open.
    readers: Vec<JoinHandle<Endpoint>>,
    workers: Vec<JoinHandle<()>>,
    ha: SocketAddr,
}

/// What all threads of a pipeline see.
#[derive(Debug)]
struct Shared {
    handoff: Handoff,
    /// Of each thread that runs a handler, for each shard: see [`Shared::tally`].
    tallies: Box<[Tally]>,
    /// What each reader last said of itself.
    reports: Box<[Mutex<ReaderReport>]>,
    rings_per_shard: usize,
    /// Readers may read: all threads have started, and whoever started them holds them back no longer.
    released: AtomicBool,
    /// Readers shall read out and end.
    stopping: AtomicBool,
    /// How long they may take to pass on what the kernel still holds.
    drain: Duration,
}

impl Shared {
    fn shards(&self) -> usize {
        self.reports.len()
    }

    fn tally(&self, thread: usize, shard: usize) -> &Tally {
        &self.tallies[thread * self.shards() + shard]
    }

    fn publish(&self, shard: usize, report: ReaderReport) {
        *self.reports[shard].lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    fn report(&self, shard: usize) -> ReaderReport {
        *self.reports[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> PipelineStats {
        let shards = (0..self.shards()).map(|shard| {
            let mut stats = self.report(shard).shard_stats();
            let of_shard = self.tallies.iter().skip(shard).step_by(self.shards());
            of_shard.for_each(|tally| tally.add_to(&mut stats));
            let (free, full) = self.handoff.occupancy(shard);
            (stats.rings, stats.rings_free, stats.rings_full) = (self.rings_per_shard as u64, free as u64, full as u64);
            stats
        });
        PipelineStats { shards: shards.collect(), at: Instant::now() }
    }
}

impl Pipeline {
    /// A pipeline that receives as `config` says: one shard, one worker.
    ///
    /// Of the settings, [`bc`](PeerConfig::bc) is the slots of each ring.
    pub fn builder(config: PeerConfig) -> PipelineBuilder {
        PipelineBuilder::new(config)
    }

    /// The address all shards receive on; a port of 0 has become the real one.
    pub fn ha(&self) -> SocketAddr {
        self.ha
    }

    /// A snapshot of all counters.
    pub fn stats(&self) -> PipelineStats {
        self.shared.stats()
    }

    /// A handle that gives the same, for other threads to have; it goes on giving the last counters after the
    /// pipeline has stopped. No ring is free any more then, for these are given up.
    pub fn monitor(&self) -> Monitor {
        Monitor(Arc::clone(&self.shared))
    }

    /// Lets readers read, where they are [held](PipelineBuilder::held) back; otherwise they read already.
    ///
    /// ```
    /// use hio_udp::{PeerConfig, Pipeline};
    ///
    /// let start = || Pipeline::builder(PeerConfig::new().port(0)).held(true).start(|_| {});
    /// let pipelines = [start()?, start()?];
    /// // What else may fail comes here: nothing has been received yet.
    /// pipelines.iter().for_each(Pipeline::release);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn release(&self) {
        // Release pairs with the readers' Acquire; a reader that is about to park keeps the permit.
        self.shared.released.store(true, Ordering::Release);
        self.readers.iter().for_each(|reader| reader.thread().unpark());
    }

    /// Begins to stop, and does not wait: to stop several at once, of which [`stop`](Self::stop) then waits for each.
    ///
    /// ```
    /// # use hio_udp::{PeerConfig, Pipeline};
    /// # let start = || Pipeline::builder(PeerConfig::new().port(0)).start(|_| {});
    /// let pipelines = [start()?, start()?];
    /// pipelines.iter().for_each(Pipeline::begin_stop);
    /// let stats = pipelines.map(Pipeline::stop);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn begin_stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// Stops, and gives the last word on every datagram.
    ///
    /// Sockets take nothing more in; readers pass on what these hold, until the [deadline](PipelineBuilder::drain);
    /// workers see to every full ring; then the sockets are closed. It waits for handlers to return, so it
    /// must not be called in one.
    ///
    /// The deadline does not bound handlers, which nobody can interrupt: one that never returns keeps it waiting
    /// for ever.
    ///
    /// What sockets turn away from then on is counted as left behind, with what could not be read out in time
    /// (Linux). Elsewhere a socket cannot be told to refuse: what it holds at the deadline is not counted.
    pub fn stop(mut self) -> PipelineStats {
        self.shut_down();
        self.stats()
    }

    fn shut_down(&mut self) {
        self.begin_stop();
        let sockets: Vec<thread::Result<Endpoint>> = self.readers.drain(..).map(JoinHandle::join).collect();
        self.shared.handoff.end();
        let workers: Vec<thread::Result<()>> = self.workers.drain(..).map(JoinHandle::join).collect();
        // Open until now, so that what came while workers saw to the rest is counted too.
        for (shard, socket) in sockets.iter().enumerate() {
            let Ok(socket) = socket else { continue };
            let mut report = self.shared.report(shard);
            report.socket.kernel_dropped = socket.stats().kernel_dropped;
            self.shared.publish(shard, report);
        }
        // Handlers' panics do not come here: this would be our own.
        let panicked = sockets.into_iter().find_map(Result::err).or(workers.into_iter().find_map(Result::err));
        if let Some(payload) = panicked.filter(|_| !thread::panicking()) {
            panic::resume_unwind(payload);
        }
    }
}

/// Gives the counters of a [`Pipeline`] to whoever has it; made by [`Pipeline::monitor`].
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Shared>);

impl Monitor {
    /// A snapshot of all counters.
    pub fn stats(&self) -> PipelineStats {
        self.0.stats()
    }
}

impl Drop for Pipeline {
    /// Stops as [`stop`](Self::stop) does.
    fn drop(&mut self) {
        self.shut_down();
        // A monitor may keep the rest for long.
        self.shared.handoff.drop_free();
    }
}
