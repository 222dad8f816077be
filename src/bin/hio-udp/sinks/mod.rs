//! Sinks: where received datagrams go.
//!
//! Each receiving thread lays its datagrams once, as pcapng blocks, end to end in a chunk of memory, and
//! hands full chunks to every sink. Each sink has a queue and a thread of its own, so that a slow disk does
//! not keep the socket waiting. A fixed number of chunks goes round; the last sink that is done with one
//! gives its memory back.
//!
//! ```text
//!   receiver's Writer: grams → chunk ──┬─▶ queue ─▶ thread of a Sink: write
//!                          ▲           └─▶ queue ─▶ thread of a Sink: send
//!                          └──────────────free───────────┘
//! ```
//!
//! A sink whose queue is full either keeps the receiver waiting, while the socket's buffer takes what
//! arrives and the kernel counts what does not fit, or goes without the chunk, which it then counts as
//! not written: [`WhenFull`].

mod block;
mod chunk;
mod directory;
mod feed;
mod file;
mod jsonl;
mod keeper;
mod ledger;
mod line;
mod losses;
mod null;
mod opening;
mod packer;

mod relay;
mod segments;
mod spec;
#[cfg(unix)]
mod unix_peer;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use serde::Serialize;

pub use file::Beginning;
pub use losses::Losses;
pub use opening::create_new;
pub use spec::{Limits, Spec, begin, open, out_path, problems, take_stdout};
pub use writer::Writer;

use crate::account::grouped;
use crate::failure::Failure;
use crate::stop::Stop;
use chunk::Chunk;
use feed::{Feed, QUEUE_CHUNKS};
use ledger::Ledger;

/// A place that datagrams go to. It works in a thread of its own, where it may block.
pub trait Sink: Send {
    /// Writes the datagrams of a chunk; each is told to the ledger, as written or as lacking.
    fn write(&mut self, chunk: &Chunk, ledger: &Ledger);

    /// Called a few times a second while there is nothing to write.
    fn idle(&mut self, _ledger: &Ledger) {}

    /// Called when the place is to be opened anew, so that what was written can be taken away.
    fn reopen(&mut self, _ledger: &Ledger) {}

    /// Called once, after the last chunk.
    fn close(&mut self, _ledger: &Ledger) {}
}

/// What happens to a chunk that finds a sink's queue full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenFull {
    /// The receiver waits, and the socket's buffer takes what arrives meanwhile: for what stores.
    Wait,
    /// The sink goes without it: for what passes on, which must not hold up what stores.
    Skip,
}

/// A sink that is open, with what its feed must know.
pub struct Entry {
    /// As it was asked for.
    pub name: String,
    pub kind: &'static str,
    pub when_full: WhenFull,
    /// Whether it wants each batch at once, as long as nobody has work waiting.
    pub is_prompt: bool,
    pub sink: Box<dyn Sink>,
    pub ledger: Arc<Ledger>,
}

/// What became of the delivered datagrams in one sink.
#[derive(Clone, Debug, Serialize)]
pub struct SinkAccount {
    pub sink: String,
    pub written: u64,
    pub not_written: u64,
    /// The same datagrams, by why.
    pub not_written_by_reason: BTreeMap<String, u64>,
    /// Bytes that went there.
    pub bytes: u64,
    /// How long receiving waited for this sink.
    pub waited_s: f64,
}

impl fmt::Display for SinkAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (written, not_written) = (grouped(self.written), grouped(self.not_written));
        write!(f, "{}: {written} written, {not_written} not", self.sink)?;
        let mut mark = ':';
        for (reason, count) in &self.not_written_by_reason {
            write!(f, "{mark} {} {reason}", grouped(*count))?;
            mark = ',';
        }
        if self.waited_s > 0.0 {
            write!(f, "; receiving waited {:.3} s for it", self.waited_s)?;
        }
        Ok(())
    }
}

/// What a sink has done so far.
#[derive(Clone, Debug)]
pub struct SinkNow {
    pub name: String,
    pub written: u64,
    pub not_written: u64,
    /// The same datagrams, by why.
    pub not_written_by_reason: BTreeMap<String, u64>,
    pub bytes: u64,
    /// Chunks that wait for it, and how many may.
    pub queued: usize,
    pub queue: usize,
    /// How long receiving waited for it.
    pub waited: Duration,
}

/// How a sink ended.
pub struct Finished {
    kind: &'static str,
    pub account: SinkAccount,
    pub calls: u64,
    /// What ended it before the ingest did, or kept it from ending.
    pub error: Option<io::Error>,
}

/// All sinks of an ingest, as its threads see them.
pub struct Sinks {
    feeds: Vec<Feed>,
    free: Arc<ArrayQueue<Vec<u8>>>,
    /// Until it is asked for, a sink may take all the time it needs.
    stop: Stop,
    /// From then on: how long it may take for one system call.
    patience: Duration,
    /// No more datagrams will come.
    ending: AtomicBool,
}

impl Sinks {
    /// Starts a thread for each sink; `writers` threads will each have a [`Writer`].
    ///
    /// Once `stop` is asked for, a sink that ends no system call for `patience` is given up.
    pub fn start(entries: Vec<Entry>, writers: usize, stop: Stop, patience: Duration) -> io::Result<Self> {
        // One in each writer's hand, and for each sink those in its queue and one in its hand.
        let chunks = writers + entries.len() * (QUEUE_CHUNKS + 1);
        let free = Arc::new(ArrayQueue::new(chunks));
        for _ in 0..chunks {
            let _ = free.push(chunk::new_room()?); // there is room for it
        }
        let feeds = entries.into_iter().map(|entry| Feed::start(entry, Arc::clone(&free)));
        let feeds = feeds.collect::<io::Result<Vec<_>>>()?;
        Ok(Self { feeds, free, stop, patience, ending: AtomicBool::new(false) })
    }

    /// Room for another chunk. There is one: the pool was filled for all who may hold a chunk.
    fn take_room(&self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// Whether a sink has ended that the ingest must not go on without.
    pub fn is_over(&self) -> bool {
        self.feeds.iter().any(|feed| feed.is_given_up() || feed.ledger().is_over())
    }

    /// What each has done so far.
    pub fn now(&self) -> Vec<SinkNow> {
        let now = self.feeds.iter().map(|feed| {
            let not_written_by_reason = feed.ledger().reasons();
            SinkNow {
                name: feed.name.clone(),
                written: feed.ledger().written(),
                not_written: not_written_by_reason.values().sum(),
                not_written_by_reason,
                bytes: feed.ledger().bytes(),
                queued: feed.queued(),
                queue: QUEUE_CHUNKS,
                waited: feed.waited(),
            }
        });
        now.collect()
    }

    /// Whether one wants each batch at once and none has work waiting.
    fn want_at_once(&self) -> bool {
        self.feeds.iter().any(|feed| feed.is_prompt) && self.feeds.iter().all(|feed| feed.queued() == 0)
    }

    /// Whether one has nothing to do, and none would keep a writer waiting.
    fn want_a_part(&self) -> bool {
        self.feeds.iter().any(|feed| feed.queued() == 0)
            && !self.feeds.iter().any(|feed| feed.when_full == WhenFull::Wait && feed.is_full())
    }

    /// Has every sink open its place anew.
    pub fn reopen(&self) {
        self.feeds.iter().for_each(Feed::reopen);
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed) || self.stop.asked()
    }

    /// Gives a chunk to every sink, as each wants it when its queue is full.
    fn offer(&self, chunk: &Arc<Chunk>) {
        for feed in &self.feeds {
            self.offer_to(feed, Arc::clone(chunk));
        }
    }

    fn offer_to(&self, feed: &Feed, chunk: Arc<Chunk>) {
        if feed.is_given_up() {
            return; // what it lacks is counted at the end
        }
        let Err(mut chunk) = feed.push(chunk) else { return };
        if feed.when_full == WhenFull::Skip {
            feed.ledger().lacks(chunk.packets, "the queue was full");
            return;
        }
        let since = Instant::now();
        let mut progress = feed.begin_wait();
        loop {
            let is_ending = self.is_ending();
            if feed.is_finished() || (is_ending && progress.stuck_for(feed) >= self.patience) {
                feed.give_up();
                break;
            }
            if !is_ending {
                progress = feed.begin_wait();
            }
            thread::park_timeout(Duration::from_millis(1));
            match feed.push(chunk) {
                Ok(()) => break,
                Err(back) => chunk = back,
            }
        }
        feed.add_wait(since.elapsed());
    }

    /// Says that no more chunks will come than those that writers still have: from now on no sink may be stuck.
    pub fn begin_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Closes the sinks, once all writers have finished.
    ///
    /// `delivered` datagrams are accounted for, of which `undecodable` had no readable source and came to
    /// no sink.
    pub fn finish(&self, delivered: u64, undecodable: u64) -> Vec<Finished> {
        self.begin_end();
        let mut waits: Vec<_> = self.feeds.iter().map(|feed| (feed, feed.begin_wait())).collect();
        self.feeds.iter().for_each(Feed::close);
        // Given up before, a sink is not waited for again; its thread ends with the program.
        while self.feeds.iter().any(|feed| !(feed.is_given_up() || feed.is_finished())) {
            thread::park_timeout(Duration::from_millis(1));
            for (feed, progress) in &mut waits {
                if progress.stuck_for(feed) >= self.patience && !feed.is_finished() {
                    feed.give_up();
                }
            }
        }
        let finished = self.feeds.iter().map(|feed| {
            feed.ledger().lacks(undecodable, "its source could not be read");
            finish(feed, delivered, self.patience)
        });
        finished.collect()
    }
}

/// What the program fails with where a sink has not written everything, or has not ended well.
pub fn failure(finished: &[Finished]) -> Option<Failure> {
    let failed = finished.iter().filter(|sink| match &sink.error {
        // That a reader has gone away is no failure where it was the only one.
        Some(error) => finished.len() > 1 || error.kind() != io::ErrorKind::BrokenPipe,
        None => sink.account.not_written > 0,
    });
    let told: Vec<String> = failed.map(Finished::why).collect();
    (!told.is_empty()).then(|| Failure::run(told.join("; ")))
}

impl Finished {
    fn why(&self) -> String {
        let SinkAccount { sink, written, not_written, .. } = &self.account;
        match &self.error {
            Some(error) if self.kind == spec::OUT && error.kind() == io::ErrorKind::NotFound => {
                format!("cannot write '{sink}': {error}; what was in it is gone")
            }
            Some(error) if self.kind == spec::OUT => {
                let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                let hint = if is_full { "free some space or choose" } else { "choose" };
                let whole = format!("it holds the first {written} datagrams whole");
                format!("cannot write '{sink}': {error}; {whole}; {hint} another --out")
            }
            Some(error) if *not_written == 0 => format!("cannot close {sink}: {error}; all datagrams were written"),
            Some(error) => format!("cannot write to {sink}: {error}; {not_written} datagrams were not written"),
            None => {
                let reasons: Vec<&str> = self.account.not_written_by_reason.keys().map(String::as_str).collect();
                format!("{not_written} datagrams were not written to {sink}: {}", reasons.join(", "))
            }
        }
    }
}

/// What a sink has done in the end.
fn finish(feed: &Feed, delivered: u64, patience: Duration) -> Finished {
    let (kind, ledger) = (feed.kind, feed.ledger());
    let written = ledger.written();
    let mut reasons = ledger.reasons();
    // What a sink was never given, or did not take before it was given up.
    let told: u64 = reasons.values().sum();
    // Of a batch whose handler panicked, a sink may have more than was counted as delivered.
    let not_written = delivered.saturating_sub(written);
    if not_written > told {
        *reasons.entry("not taken before the end".to_owned()).or_insert(0) += not_written - told;
    }
    let (calls, bytes, mut error) = (ledger.calls(), ledger.bytes(), ledger.take_error());
    let account = SinkAccount {
        sink: feed.name.clone(),
        written,
        not_written,
        not_written_by_reason: reasons,
        bytes,
        waited_s: feed.waited().as_secs_f64(),
    };
    if feed.is_given_up() {
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no call has ended in {patience:?}"));
        error.get_or_insert_with(late);
    }
    if feed.is_finished() && !feed.join() {
        error = Some(io::Error::other("its thread panicked: this is a bug, please report it"));
    }
    Finished { kind, account, calls, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_has_written_more_than_was_counted_as_delivered_lacks_nothing() {
        let ledger = Arc::new(Ledger::default());
        ledger.wrote(5, 500);
        let entry = Entry {
            name: "null".to_owned(),
            kind: "null",
            when_full: WhenFull::Wait,
            is_prompt: false,
            sink: Box::new(null::Null),
            ledger,
        };
        let sinks = Sinks::start(vec![entry], 0, Stop::default(), Duration::from_secs(5)).unwrap();
        let account = &sinks.finish(3, 0)[0].account;
        assert_eq!((account.written, account.not_written), (5, 0));
    }
}
