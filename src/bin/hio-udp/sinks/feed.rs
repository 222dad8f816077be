//! A sink's queue and its thread, as the receiving threads see them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::chunk::Chunk;
use super::ledger::Ledger;
use super::{Entry, Sink, WhenFull};

/// Chunks that may wait for a sink; one more is in its hand: 15 MiB of patience.
pub const QUEUE_CHUNKS: usize = 14;
/// How often a sink without work looks at the clock.
const IDLE_EVERY: Duration = Duration::from_millis(100);

/// What the sink's thread and the receivers share.
struct Shared {
    full: ArrayQueue<Arc<Chunk>>,
    /// No more chunks will come.
    closing: AtomicBool,
    /// The sink shall open its place anew.
    reopening: AtomicBool,
    ledger: Arc<Ledger>,
}

/// The receivers' end.
pub struct Feed {
    pub name: String,
    pub kind: &'static str,
    pub when_full: WhenFull,
    pub is_prompt: bool,
    shared: Arc<Shared>,
    thread: Thread,
    /// Until it is joined.
    handle: Mutex<Option<JoinHandle<()>>>,
    /// How long receivers waited for this sink, all together.
    waited_ns: AtomicU64,
    /// It gets no more chunks: it took too long while all was to end, or its thread is no more.
    is_given_up: AtomicBool,
}

impl Feed {
    pub fn start(entry: Entry, free: Arc<ArrayQueue<Vec<u8>>>) -> io::Result<Self> {
        let Entry { name, kind, when_full, is_prompt, sink, ledger } = entry;
        let shared = Arc::new(Shared {
            full: ArrayQueue::new(QUEUE_CHUNKS),
            closing: AtomicBool::new(false),
            reopening: AtomicBool::new(false),
            ledger,
        });
        let handle = thread::Builder::new().name(kind.to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run(sink, &shared, &free)
        })?;
        Ok(Self {
            name,
            kind,
            when_full,
            is_prompt,
            shared,
            thread: handle.thread().clone(),
            handle: Mutex::new(Some(handle)),
            waited_ns: AtomicU64::new(0),
            is_given_up: AtomicBool::new(false),
        })
    }

    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Chunks that wait for it.
    pub fn queued(&self) -> usize {
        self.shared.full.len()
    }

    pub fn is_full(&self) -> bool {
        self.shared.full.is_full()
    }

    pub fn is_finished(&self) -> bool {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Puts a chunk into the queue, or hands it back if it is full.
    pub fn push(&self, chunk: Arc<Chunk>) -> Result<(), Arc<Chunk>> {
        self.shared.full.push(chunk)?;
        self.thread.unpark();
        Ok(())
    }

    pub fn add_wait(&self, time: Duration) {
        self.waited_ns.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How long receivers have waited for it, all together.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_ns.load(Ordering::Relaxed))
    }

    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Begins a wait in which only progress counts.
    pub fn begin_wait(&self) -> Progress {
        Progress { calls: self.ledger().calls(), since: Instant::now() }
    }

    /// Has the sink open its place anew, when it comes to it.
    pub fn reopen(&self) {
        self.shared.reopening.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Lets the thread end once its queue is empty.
    pub fn close(&self) {
        // Release pairs with the thread's Acquire: it sees the last chunk before the flag.
        self.shared.closing.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Joins a thread that has ended; `false` if it panicked.
    pub fn join(&self) -> bool {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        handle.is_none_or(|handle| handle.join().is_ok())
    }
}

/// When a sink that is waited for last ended a system call.
pub struct Progress {
    calls: u64,
    since: Instant,
}

impl Progress {
    /// How long the sink has ended none, since the wait began.
    pub fn stuck_for(&mut self, feed: &Feed) -> Duration {
        if feed.ledger().calls() != self.calls {
            *self = feed.begin_wait();
        }
        self.since.elapsed()
    }
}

/// The sink's thread: writes chunks in order until there will be no more.
fn run(mut sink: Box<dyn Sink>, shared: &Shared, free: &ArrayQueue<Vec<u8>>) {
    let ledger = &shared.ledger;
    loop {
        // Asked before the queue: what was pushed before the flag was raised is then surely found.
        let is_last_look = shared.closing.load(Ordering::Acquire);
        while let Some(chunk) = shared.full.pop() {
            sink.write(&chunk, ledger);
            recycle(chunk, free);
        }
        if shared.reopening.swap(false, Ordering::Acquire) {
            sink.reopen(ledger);
        }
        if is_last_look {
            return sink.close(ledger);
        }
        sink.idle(ledger);
        thread::park_timeout(IDLE_EVERY);
    }
}

/// Gives the room of a chunk back if nobody else has it any more.
pub fn recycle(chunk: Arc<Chunk>, free: &ArrayQueue<Vec<u8>>) {
    if let Some(Chunk { mut blocks, .. }) = Arc::into_inner(chunk) {
        blocks.clear();
        let _ = free.push(blocks);
    }
}
