//! A sink's queue and its thread, as the receiving thread sees them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::chunk::Chunk;
use super::ledger::Ledger;
use super::{Entry, Sink, WhenFull};

/// Chunks that may wait for a sink; one more is in its hand, one in the receiver's: 16 MiB of patience.
pub const QUEUE_CHUNKS: usize = 14;
/// How often a sink without work looks at the clock.
const IDLE_EVERY: Duration = Duration::from_millis(100);

/// What the sink's thread and the receiver share.
struct Shared {
    full: ArrayQueue<Arc<Chunk>>,
    /// No more chunks will come.
    closing: AtomicBool,
    ledger: Arc<Ledger>,
}

/// The receiver's end.
pub struct Feed {
    pub name: String,
    pub kind: &'static str,
    pub when_full: WhenFull,
    pub is_prompt: bool,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    /// How long the receiver waited for this sink.
    pub waited: Duration,
    /// It gets no more chunks: it took too long while all was to end, or its thread is no more.
    pub is_given_up: bool,
    progress: (u64, Instant),
}

impl Feed {
    pub fn start(entry: Entry, free: Arc<ArrayQueue<Vec<u8>>>) -> io::Result<Self> {
        let Entry { name, kind, when_full, is_prompt, sink, ledger } = entry;
        let shared = Arc::new(Shared { full: ArrayQueue::new(QUEUE_CHUNKS), closing: AtomicBool::new(false), ledger });
        let thread = thread::Builder::new().name(kind.to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run(sink, &shared, &free)
        })?;
        let progress = (0, Instant::now());
        Ok(Self {
            name,
            kind,
            when_full,
            is_prompt,
            shared,
            thread,
            waited: Duration::ZERO,
            is_given_up: false,
            progress,
        })
    }

    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Whether nothing waits for it.
    pub fn is_empty(&self) -> bool {
        self.shared.full.is_empty()
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Puts a chunk into the queue, or hands it back if it is full.
    pub fn push(&self, chunk: Arc<Chunk>) -> Result<(), Arc<Chunk>> {
        self.shared.full.push(chunk)?;
        self.thread.thread().unpark();
        Ok(())
    }

    /// Begins a wait in which only progress counts.
    pub fn begin_wait(&mut self) {
        self.progress = (self.ledger().calls(), Instant::now());
    }

    /// How long the sink has ended no system call, since the wait began.
    pub fn stuck_for(&mut self) -> Duration {
        let calls = self.ledger().calls();
        if calls != self.progress.0 {
            self.progress = (calls, Instant::now());
        }
        self.progress.1.elapsed()
    }

    /// Lets the thread end once its queue is empty.
    pub fn close(&self) {
        // Release pairs with the thread's Acquire: it sees the last chunk before the flag.
        self.shared.closing.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Joins a thread that has ended; `false` if it panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
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
