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
//! Starting and stopping stand here; `reader.rs` and `worker.rs` say what each thread does, `handoff.rs` how
//! rings pass between them, `idle.rs` how they wait, `steering.rs` how the kernel spreads datagrams.

mod handoff;
mod idle;
mod reader;
mod stats;
mod steering;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::{DEFAULT_BC, PeerConfig};
use crate::endpoint::{Endpoint, Sharing};
use crate::pace::Pace;
use crate::sys::group;

pub use handoff::Handoff;
use reader::Reader;
pub use stats::{PipelineStats, ShardStats};
use stats::{ReaderReport, Tally};
pub use steering::Spread;
pub use worker::Batch;
use worker::Handler;

/// Most shards there can be.
const SHARDS_MAX: usize = 1024;

/// Receives on one port with several threads: readers that fill rings, and workers that a handler runs in.
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
        PipelineBuilder {
            config,
            shards: 1,
            workers: 1,
            queue: 4,
            spread: Spread::default(),
            pins: Vec::new(),
            drain: Duration::from_secs(5),
        }
    }

    /// The address all shards receive on; a port of 0 has become the real one.
    pub fn ha(&self) -> SocketAddr {
        self.ha
    }

    /// A snapshot of all counters.
    pub fn stats(&self) -> PipelineStats {
        self.shared.stats()
    }

    /// Stops, and gives the last word on every datagram.
    ///
    /// Sockets take nothing more in; readers pass on what these hold, until the [deadline](PipelineBuilder::drain);
    /// workers see to every full ring; then the sockets are closed. It waits for handlers to return, so it
    /// must not be called in one.
    ///
    /// What sockets turn away from then on is counted as left behind, with what could not be read out in time
    /// (Linux). Elsewhere a socket cannot be told to refuse: what it holds at the deadline is not counted.
    pub fn stop(mut self) -> PipelineStats {
        self.shut_down();
        self.stats()
    }

    fn shut_down(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
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

impl Drop for Pipeline {
    /// Stops as [`stop`](Self::stop) does.
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Settings of a [`Pipeline`]; made by [`Pipeline::builder`].
#[derive(Clone, Debug)]
#[must_use = "a pipeline runs once it is started"]
pub struct PipelineBuilder {
    config: PeerConfig,
    shards: usize,
    workers: usize,
    queue: usize,
    spread: Spread,
    pins: Vec<usize>,
    drain: Duration,
}

impl PipelineBuilder {
    /// Sets the number of shards, by default 1: sockets on one port, each with a reader. More than one on Linux
    /// only.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Sets the number of workers, by default 1. With 0 the handler runs in the readers' threads, which saves
    /// the hand-off, and a slow handler then holds up its own shard at once.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets how many filled rings of a shard may wait for a worker, by default 4. Each shard has as many, one in
    /// its reader's hand, and one for each worker's; each takes `bc × gram_size` bytes, and with io_uring
    /// a file descriptor.
    pub fn queue(mut self, rings: usize) -> Self {
        self.queue = rings;
        self
    }

    /// Sets which shard a datagram goes to, by default [`Spread::FlowHash`].
    pub fn spread(mut self, spread: Spread) -> Self {
        self.spread = spread;
        self
    }

    /// Keeps the reader of each shard on a processor, by their numbers: one for each shard. By default they
    /// run wherever the system lets them. Linux only.
    #[doc(alias = "sched_setaffinity")]
    pub fn pin(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.pins = processors.into_iter().collect();
        self
    }

    /// Sets how long a stop may go on passing on what the kernel still holds, by default 5 seconds.
    pub fn drain(mut self, longest: Duration) -> Self {
        self.drain = longest;
        self
    }

    /// Opens the sockets and starts all threads; `handler` is called with each batch, by several threads at once
    /// if there are several workers, or none and several shards.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for 0 shards or more than 1,024, for pins that are not as many
    /// as shards, and as [`Transport::new`](crate::Transport::new); [`Unsupported`](io::ErrorKind::Unsupported)
    /// for several shards or for pins, off Linux; otherwise the kernel's error: EADDRINUSE if anybody has
    /// the port, EINVAL for a processor that is not there …
    pub fn start<F>(self, handler: F) -> io::Result<Pipeline>
    where
        F: Fn(Batch<'_>) + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        self.start_with(move |_| {
            let handler = Arc::clone(&handler);
            move |batch: Batch<'_>| handler(batch)
        })
    }

    /// The same with a handler for each thread that runs one, which may change what it holds without a lock:
    /// `make` is told the thread's number, from 0. These are the workers, or without any the readers.
    ///
    /// After a panic the thread's handler is called on with what it left behind.
    ///
    /// ```
    /// use hio_udp::{PeerConfig, Pipeline};
    ///
    /// let pipeline = Pipeline::builder(PeerConfig::new().port(0)).workers(2).start_with(|worker| {
    ///     let mut grams = 0;
    ///     move |batch| {
    ///         grams += batch.len();
    ///         println!("worker {worker} has seen {grams}");
    ///     }
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with<H, M>(self, mut make: M) -> io::Result<Pipeline>
    where
        H: FnMut(Batch<'_>) + Send + 'static,
        M: FnMut(usize) -> H,
    {
        self.start_threads(&mut |thread| Box::new(make(thread)))
    }

    fn start_threads(self, make: &mut dyn FnMut(usize) -> Handler) -> io::Result<Pipeline> {
        self.check()?;
        let bc = self.config.bc.unwrap_or(DEFAULT_BC);
        let rings_per_shard = handoff::rings(self.queue, self.workers);
        let (slot_bytes, io_uring) = (self.config.slot_bytes(), self.config.io_uring);
        let handoff = Handoff::new(self.shards, self.workers, rings_per_shard, bc, slot_bytes, io_uring)?;
        let sockets = self.open_sockets(bc)?;
        let handling_threads = if self.workers == 0 { self.shards } else { self.workers };
        let shared = Arc::new(Shared {
            handoff,
            tallies: (0..handling_threads * self.shards).map(|_| Tally::default()).collect(),
            reports: sockets.iter().map(|_| Mutex::default()).collect(),
            rings_per_shard,
            stopping: AtomicBool::new(false),
            drain: self.drain,
        });
        // From here on a failure drops the pipeline, which ends the threads that run already.
        let ha = sockets[0].ha;
        let mut pipeline = Pipeline { shared, readers: Vec::new(), workers: Vec::new(), ha };
        for worker in 0..self.workers {
            let (shared, mut handler) = (Arc::clone(&pipeline.shared), make(worker));
            let named = thread::Builder::new().name(format!("udp-worker-{worker}"));
            pipeline.workers.push(named.spawn(move || worker::run(&shared, worker, &mut handler))?);
        }
        let (is_pinned, pinned) = sync_channel(self.shards);
        for (shard, socket) in sockets.into_iter().enumerate() {
            let (shared, pace) = (Arc::clone(&pipeline.shared), Pace::new(self.config.gather));
            let reader = Reader::new(socket, pace, shard, shared, (self.workers == 0).then(|| make(shard)));
            let (processor, is_pinned) = (self.pins.get(shard).copied(), is_pinned.clone());
            let named = thread::Builder::new().name(format!("udp-reader-{shard}"));
            pipeline.readers.push(named.spawn(move || run_pinned(reader, processor, &is_pinned))?);
        }
        pinned.iter().take(self.shards).collect::<io::Result<()>>()?;
        Ok(pipeline)
    }

    fn check(&self) -> io::Result<()> {
        let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        if self.shards == 0 || self.shards > SHARDS_MAX {
            return invalid(format!("{} shards: a pipeline has 1 to {SHARDS_MAX}", self.shards));
        }
        if !self.pins.is_empty() && self.pins.len() != self.shards {
            return invalid(format!("{} pins for {} shards: one for each", self.pins.len(), self.shards));
        }
        if self.shards > 1 && !group::CAN_GROUP {
            let message = "several shards need Linux, which spreads datagrams over sockets on one port";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    /// One open socket for each shard, all on one address and port.
    ///
    /// The first binds as if it were to stay alone, so that it fails where anybody is there already.
    fn open_sockets(&self, bc: usize) -> io::Result<Vec<Endpoint>> {
        let open = |sharing, ha: Option<SocketAddr>| {
            let mut endpoint = Endpoint::new(&self.config, Some(bc))?;
            endpoint.sharing = sharing;
            endpoint.ha = ha.unwrap_or(endpoint.ha);
            endpoint.open().map(|()| endpoint)
        };
        let mut sockets = vec![open(Sharing::Nobody, None)?];
        if self.shards > 1 {
            let ha = sockets[0].ha;
            sockets[0].open_group()?;
            for _ in 1..self.shards {
                sockets.push(open(Sharing::Group, Some(ha))?);
            }
        }
        if let Some(program) = self.spread.program(self.shards, &self.pins) {
            group::steer(sockets[0].socket()?, &program)?;
        }
        Ok(sockets)
    }
}

/// A reader's thread: pins itself, says whether it could, and reads.
fn run_pinned(reader: Reader, processor: Option<usize>, is_pinned: &SyncSender<io::Result<()>>) -> Endpoint {
    let result = processor.map_or(Ok(()), group::pin_thread);
    let may_run = result.is_ok();
    let _ = is_pinned.send(result); // nobody listens if another has failed
    if may_run { reader.run() } else { reader.endpoint }
}
