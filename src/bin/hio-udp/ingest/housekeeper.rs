//! What has to be done now and then, whether or not datagrams come.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::watch::{self, Listener, Watch};
use crate::account::say;
use crate::memory;

/// How often it looks around.
const EVERY: Duration = Duration::from_millis(100);

/// How long receiving must have worked again before that is said.
const RECOVERED_AFTER: Duration = Duration::from_secs(1);

/// Whether receiving on one address fails, as was said last.
#[derive(Default)]
struct Receiving {
    errors_seen: u64,
    /// When it was last seen to fail.
    failed_last: Option<Instant>,
}

impl Receiving {
    /// Says when receiving begins to fail and when it works again, and nothing between.
    fn look_at(&mut self, listener: &Listener) {
        let (stats, local) = (listener.monitor.stats().total(), listener.local);
        if stats.receive_errors > self.errors_seen {
            if self.failed_last.is_none() {
                let error = watch::receive_error(&stats);
                say(&format!(
                    "hio-udp: receiving on {local} failed: {error}; going on, what comes waits in the socket"
                ));
            }
            (self.errors_seen, self.failed_last) = (stats.receive_errors, Some(Instant::now()));
        } else if self.failed_last.take_if(|last| last.elapsed() >= RECOVERED_AFTER).is_some() {
            say(&format!("hio-udp: receiving on {local} works again"));
        }
    }
}

/// A thread that tells the sinks of drops, and hands over what has waited long enough.
///
/// It may have to wait for a sink, and so does nothing else.
pub struct Housekeeper {
    thread: JoinHandle<()>,
    /// Until something comes here it waits, and it ends if nothing can come any more.
    release: SyncSender<()>,
    ending: Arc<AtomicBool>,
}

impl Housekeeper {
    /// Starts it, if there is memory for what all threads take while the ingest runs; it does nothing before it is
    /// released.
    ///
    /// It looks itself: glibc gives a thread a heap of its own if there are addresses for it, 64 MiB, and else
    /// whole pages for each allocation; what the heap of the first thread has free is then of no use to it.
    pub fn start(watch: Arc<Watch>) -> io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let (checked, is_checked) = sync_channel(1);
        let (release, is_released) = sync_channel(1);
        let thread = thread::Builder::new().name("housekeeper".to_owned()).spawn({
            let ending = Arc::clone(&ending);
            move || {
                let result = memory::require_small_parts();
                let may_run = result.is_ok();
                let _ = checked.send(result); // which is waited for
                if may_run && is_released.recv().is_ok() {
                    run(&watch, &ending);
                }
            }
        })?;
        is_checked.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { thread, release, ending })
    }

    pub fn release(&self) {
        let _ = self.release.send(()); // there is room for one
    }

    /// Hands over what is left: once nobody else does any more.
    pub fn end(self) {
        self.ending.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _ = self.thread.join(); // a panic of its has been told on standard error
    }
}

fn run(watch: &Watch, ending: &AtomicBool) {
    let mut dropped_told = 0;
    let mut failing: Vec<Receiving> = watch.listeners.iter().map(|_| Receiving::default()).collect();
    loop {
        for (listener, receiving) in watch.listeners.iter().zip(&mut failing) {
            receiving.look_at(listener);
        }
        let is_last = ending.load(Ordering::Acquire);
        let dropped: u64 = watch.listeners.iter().map(|one| one.monitor.stats().total().socket.kernel_dropped).sum();
        if let Some(first) = watch.hands().next().filter(|_| dropped > dropped_told) {
            first.tell_drops(dropped - dropped_told);
            dropped_told = dropped;
        }
        if is_last {
            return watch.hands().for_each(|hand| hand.finish());
        }
        watch.hands().for_each(|hand| hand.tick());
        thread::park_timeout(EVERY);
    }
}
