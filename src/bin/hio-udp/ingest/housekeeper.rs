//! What has to be done now and then, whether or not datagrams come.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::watch::Watch;

/// How often it looks around.
const EVERY: Duration = Duration::from_millis(100);

/// A thread that tells the sinks of drops, and hands over what has waited long enough.
///
/// It may have to wait for a sink, and so does nothing else.
pub struct Housekeeper {
    thread: JoinHandle<()>,
    ending: Arc<AtomicBool>,
}

impl Housekeeper {
    pub fn start(watch: Arc<Watch>) -> io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("housekeeper".to_owned()).spawn({
            let ending = Arc::clone(&ending);
            move || run(&watch, &ending)
        })?;
        Ok(Self { thread, ending })
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
    loop {
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
