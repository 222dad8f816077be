//! Starting a pipeline: its settings, sockets and threads.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::reader::Reader;
use super::stats::Tally;
use super::worker::{self, Batch, Handler};
use super::{Handoff, Pipeline, Shared, Spread, handoff};
use crate::config::{DEFAULT_BC, PeerConfig};
use crate::endpoint::{Endpoint, Sharing};
use crate::pace::Pace;
use crate::sys::group;

/// Most shards there can be.
const SHARDS_MAX: usize = 1024;

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
    pub(super) fn new(config: PeerConfig) -> Self {
        Self {
            config,
            shards: 1,
            workers: 1,
            queue: 4,
            spread: Spread::default(),
            pins: Vec::new(),
            drain: Duration::from_secs(5),
        }
    }

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
