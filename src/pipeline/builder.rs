//! Starting a pipeline: its settings, then its sockets, then its threads.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::reader::Reader;
use super::stats::Tally;
use super::worker::{self, Batch, Handler};
use super::{Handoff, Pipeline, Shared, Spread, handoff};
use crate::buffers::{BufReport, Direction};
use crate::config::{DEFAULT_BC, PeerConfig};
use crate::endpoint::{Endpoint, Sharing};
use crate::multicast::Interface;
use crate::pace::Pace;
use crate::sys::group;

/// Most shards there can be.
const SHARDS_MAX: usize = 1024;

/// Settings of a [`Pipeline`]; made by [`Pipeline::builder`].
#[derive(Debug)]
#[must_use = "a pipeline runs once it is started"]
pub struct PipelineBuilder {
    config: PeerConfig,
    passed: Vec<UdpSocket>,
    groups: Vec<(IpAddr, Interface)>,
    shards: usize,
    workers: usize,
    queue: usize,
    spread: Spread,
    pins: Vec<usize>,
    drain: Duration,
    is_held: bool,
}

impl PipelineBuilder {
    pub(super) fn new(config: PeerConfig) -> Self {
        Self {
            config,
            passed: Vec::new(),
            groups: Vec::new(),
            shards: 1,
            workers: 1,
            queue: 4,
            spread: Spread::default(),
            pins: Vec::new(),
            drain: Duration::from_secs(5),
            is_held: false,
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
    ///
    /// Handlers are not bounded by it: a stop waits for each to return, however long that takes, and with that for
    /// every ring that is filled already.
    pub fn drain(mut self, longest: Duration) -> Self {
        self.drain = longest;
        self
    }

    /// Holds the readers back once all threads have started, until [`Pipeline::release`]; by default they read at once.
    ///
    /// So whatever else a program has to start can fail while every datagram is still in its socket, where it
    /// stays for whoever has a [passed](Self::sockets) one next. A pipeline that is stopped before has read nothing.
    pub fn held(mut self, is_held: bool) -> Self {
        self.is_held = is_held;
        self
    }

    /// Receives on sockets that somebody else has bound, one for each shard, which sets the number of shards:
    /// those that systemd passes, or an older process of this program.
    ///
    /// What they hold when the pipeline stops stays in them, for whoever has them next, so a restart loses
    /// nothing. Of the settings, `ha`, `bcast`, `exclusive` and `only_v6` are not looked at, and the socket's
    /// buffers are only set where [`recv_buf_bytes`](PeerConfig::recv_buf_bytes) or
    /// [`send_buf_bytes`](PeerConfig::send_buf_bytes) asks for it. What the kernel dropped before is not counted.
    #[doc(alias = "sd_listen_fds")]
    pub fn sockets(mut self, bound: impl IntoIterator<Item = UdpSocket>) -> Self {
        self.passed = bound.into_iter().collect();
        self.shards = self.passed.len();
        self
    }

    /// Joins a multicast group, on an interface; may be called several times.
    ///
    /// The datagrams of all groups come to shard 0: Linux would give a copy to each socket that has joined, so
    /// one has. And they come from these groups only, whatever others on this machine have joined
    /// (IP_MULTICAST_ALL is off, ip(7)).
    #[doc(alias = "IP_ADD_MEMBERSHIP")]
    #[doc(alias = "IPV6_JOIN_GROUP")]
    pub fn join(mut self, group: IpAddr, on: Interface) -> Self {
        self.groups.push((group, on));
        self
    }

    /// Opens the sockets and starts all threads: [`bind`](Self::bind) and [`BoundPipeline::start`] in one.
    ///
    /// # Errors
    ///
    /// As these.
    pub fn start<F>(self, handler: F) -> io::Result<Pipeline>
    where
        F: Fn(Batch<'_>) + Send + Sync + 'static,
    {
        self.bind()?.start(handler)
    }

    /// The same with a handler for each thread that runs one: see [`BoundPipeline::start_with`].
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with<H, M>(self, make: M) -> io::Result<Pipeline>
    where
        H: FnMut(Batch<'_>) + Send + 'static,
        M: FnMut(usize) -> H,
    {
        self.bind()?.start_with(make)
    }

    /// Allocates the rings and opens the sockets, and starts no thread yet: so that privileges can be dropped
    /// in between, or the handlers told the port. What arrives meanwhile waits in the sockets.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for 0 shards or more than 1,024, for pins that are not as many
    /// as shards, for passed sockets of different addresses, for a group that is none, and as
    /// [`Transport::new`](crate::Transport::new); [`Unsupported`](io::ErrorKind::Unsupported)
    /// for several shards, off Linux; otherwise the kernel's error: EADDRINUSE if anybody has the port …
    pub fn bind(mut self) -> io::Result<BoundPipeline> {
        self.check()?;
        let bc = self.config.bc.unwrap_or(DEFAULT_BC);
        let rings_per_shard = handoff::rings(self.queue, self.workers);
        let (slot_bytes, io_uring) = (self.config.slot_bytes(), self.config.io_uring);
        let handoff = Handoff::new(self.shards, self.workers, rings_per_shard, bc, slot_bytes, io_uring)?;
        let sockets = if self.passed.is_empty() { self.open_sockets(bc)? } else { self.adopt_sockets(bc)? };
        if let Some(program) = self.spread.program(self.shards, &self.pins) {
            group::steer(sockets[0].socket()?, &program)?;
        }
        let shared = Shared {
            handoff,
            tallies: (0..handling_threads(self.workers, self.shards) * self.shards).map(|_| Tally::default()).collect(),
            reports: sockets.iter().map(|_| Mutex::default()).collect(),
            rings_per_shard,
            released: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            drain: self.drain,
        };
        let Self { workers, pins, is_held, .. } = self;
        Ok(BoundPipeline { shared, sockets, workers, pins, gather: self.config.gather, is_held })
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
        let mut first = Endpoint::new(&self.config, Some(bc))?;
        first.sharing = Sharing::Nobody;
        self.choose_groups(0, &mut first)?;
        first.open()?;
        if self.shards == 1 {
            return Ok(vec![first]);
        }
        first.open_group()?;
        let ha = first.ha;
        let mut sockets = vec![first];
        for shard in 1..self.shards {
            let mut another = Endpoint::new(&self.config, Some(bc))?;
            (another.sharing, another.ha) = (Sharing::Group, ha);
            self.choose_groups(shard, &mut another)?;
            another.open()?;
            sockets.push(another);
        }
        Ok(sockets)
    }

    /// An endpoint for each socket that was passed in.
    fn adopt_sockets(&mut self, bc: usize) -> io::Result<Vec<Endpoint>> {
        let mut sockets: Vec<Endpoint> = Vec::new();
        for (shard, socket) in std::mem::take(&mut self.passed).into_iter().enumerate() {
            let mut endpoint = Endpoint::new(&self.config, Some(bc))?;
            self.choose_groups(shard, &mut endpoint)?;
            endpoint.adopt(socket)?;
            if let Some(first) = sockets.first().filter(|first| first.ha != endpoint.ha) {
                let message = format!("passed sockets on {} and {}: one address for all", first.ha, endpoint.ha);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            sockets.push(endpoint);
        }
        Ok(sockets)
    }

    /// Prepares a shard's socket for the groups: the first joins them, the others shall have nothing of them.
    fn choose_groups(&self, shard: usize, endpoint: &mut Endpoint) -> io::Result<()> {
        if self.groups.is_empty() {
            return Ok(());
        }
        endpoint.only_own_groups();
        let joined = self.groups.iter().filter(|_| shard == 0);
        joined.copied().try_for_each(|(group, on)| endpoint.join_multicast(group, on))
    }
}

/// A [`Pipeline`] whose sockets are open and whose threads are not started yet.
#[derive(Debug)]
#[must_use = "a pipeline runs once it is started"]
pub struct BoundPipeline {
    shared: Shared,
    sockets: Vec<Endpoint>,
    workers: usize,
    pins: Vec<usize>,
    gather: Duration,
    is_held: bool,
}

impl BoundPipeline {
    /// The address all shards receive on; a port of 0 has become the real one.
    pub fn ha(&self) -> SocketAddr {
        self.sockets[0].ha
    }

    /// How many threads will run a handler: the workers, or without any the readers.
    pub fn handling_threads(&self) -> usize {
        handling_threads(self.workers, self.sockets.len())
    }

    /// What a buffer of each shard's socket was asked to be and what it became.
    pub fn buf_report(&self, direction: Direction) -> BufReport {
        self.sockets[0].buf_report(direction).expect("the socket is open")
    }

    /// Starts all threads; nothing is read before all have started.
    ///
    /// `handler` is called with each batch, by several threads at once if there are several workers, or none and
    /// several shards.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) for pins, off Linux; otherwise the kernel's error: EINVAL
    /// for a processor that is not there, EAGAIN if there can be no more threads …
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
        let (ha, shards) = (self.ha(), self.sockets.len());
        // From here on a failure drops the pipeline, which ends the threads that run already.
        let mut pipeline = Pipeline { shared: Arc::new(self.shared), readers: Vec::new(), workers: Vec::new(), ha };
        for worker in 0..self.workers {
            let (shared, handler) = (Arc::clone(&pipeline.shared), make(worker));
            let named = thread::Builder::new().name(format!("udp-worker-{worker}"));
            pipeline.workers.push(named.spawn(move || worker::run(&shared, worker, handler))?);
        }
        let (is_pinned, pinned) = sync_channel(shards);
        for (shard, socket) in self.sockets.into_iter().enumerate() {
            let (shared, pace) = (Arc::clone(&pipeline.shared), Pace::new(self.gather));
            let reader = Reader::new(socket, pace, shard, shared, (self.workers == 0).then(|| make(shard)));
            let (processor, is_pinned) = (self.pins.get(shard).copied(), is_pinned.clone());
            let named = thread::Builder::new().name(format!("udp-reader-{shard}"));
            pipeline.readers.push(named.spawn(move || run_pinned(reader, processor, &is_pinned))?);
        }
        drop(is_pinned); // so that a thread that dies before it says anything is not waited for
        pinned.iter().take(shards).collect::<io::Result<()>>()?;
        if !self.is_held {
            pipeline.release();
        }
        Ok(pipeline)
    }
}

/// How many threads run a handler: without workers the readers do.
fn handling_threads(workers: usize, shards: usize) -> usize {
    if workers == 0 { shards } else { workers }
}

/// A reader's thread: pins itself, says whether it could, and reads when it may.
fn run_pinned(mut reader: Reader, processor: Option<usize>, is_pinned: &SyncSender<io::Result<()>>) -> Endpoint {
    let result = processor.map_or(Ok(()), group::pin_thread);
    let may_run = result.is_ok();
    if may_run {
        reader.introduce();
    }
    let _ = is_pinned.send(result); // nobody listens if another has failed
    if may_run { reader.run() } else { reader.endpoint }
}
