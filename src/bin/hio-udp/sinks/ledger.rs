//! What a sink has done so far, and what it says when it cannot.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::account::say;
use crate::events::{self, Event};

/// How long a sink must have worked again before that is said: a disk that is nearly full would
/// otherwise have a line for every little that fits.
const RECOVERED_AFTER: Duration = Duration::from_secs(1);

/// So many reasons are told apart; what has any further one is counted together.
const REASONS_MAX: usize = 16;

/// What a sink has done so far, for other threads to see.
///
/// Relaxed everywhere: the numbers carry no data with them, and joining a thread orders the last ones.
#[derive(Debug, Default)]
pub struct Ledger {
    written: AtomicU64,
    bytes: AtomicU64,
    calls: AtomicU64,
    /// No more datagrams can go there: the ingest is to end.
    is_over: AtomicBool,
    /// Datagrams not written, by the reason; touched only where something fails.
    reasons: Mutex<BTreeMap<String, u64>>,
    first_error: Mutex<Option<io::Error>>,
}

impl Ledger {
    pub fn wrote(&self, packets: u64, bytes: usize) {
        self.written.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// To be told of each system call, so that a stop can tell a slow sink from a stuck one.
    pub fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn lacks(&self, packets: u64, reason: &str) {
        if packets > 0 {
            let mut reasons = self.reasons.lock().expect("nobody panics with the lock held");
            let is_known = reasons.len() < REASONS_MAX || reasons.contains_key(reason);
            let reason = if is_known { reason } else { "other reasons" };
            *reasons.entry(reason.to_owned()).or_insert(0) += packets;
        }
    }

    /// What counted as written is not there any more.
    pub fn lost(&self, packets: u64, reason: &str) {
        self.written.fetch_sub(packets, Ordering::Relaxed);
        self.lacks(packets, reason);
    }

    /// Ends the ingest, with this error if it is one.
    pub fn end(&self, error: io::Error) {
        self.first_error.lock().expect("nobody panics with the lock held").get_or_insert(error);
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn reasons(&self) -> BTreeMap<String, u64> {
        self.reasons.lock().expect("nobody panics with the lock held").clone()
    }

    pub fn take_error(&self) -> Option<io::Error> {
        self.first_error.lock().expect("nobody panics with the lock held").take()
    }
}

/// Says on standard error when a sink begins to fail and when it works again, and nothing between.
#[derive(Debug)]
pub struct Trouble {
    sink: String,
    last: Option<Instant>,
    /// Datagrams that the trouble has cost so far.
    lacking: u64,
}

impl Trouble {
    pub fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned(), last: None, lacking: 0 }
    }

    /// The sink's name.
    pub fn sink(&self) -> &str {
        &self.sink
    }

    /// Counts `packets` as not written because of `error`; `what` was tried.
    pub fn failed(&mut self, ledger: &Ledger, packets: u64, what: &str, error: &io::Error) {
        ledger.lacks(packets, &error.to_string());
        self.failed_uncounted(packets, what, error);
    }

    /// As [`Trouble::failed`], where the datagrams are counted elsewhere.
    pub fn failed_uncounted(&mut self, packets: u64, what: &str, error: &io::Error) {
        if self.last.is_none() {
            let sink = &self.sink;
            if events::is_on() {
                let event = Event::warn("sink_trouble").with("sink", sink).with("cannot", what);
                event.with("error", error.to_string()).log();
            } else {
                say(&format!("hio-udp: {sink}: cannot {what}: {error}; going on, what is not written is counted"));
            }
        }
        self.last = Some(Instant::now());
        self.lacking += packets;
    }

    /// To be told of each success.
    pub fn worked(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() >= RECOVERED_AFTER) {
            let Self { sink, lacking, .. } = &*self;
            if events::is_on() {
                Event::info("sink_works_again").with("sink", sink).with("not_written", lacking).log();
            } else {
                say(&format!("hio-udp: {sink}: works again; {lacking} datagrams were not written"));
            }
            (self.last, self.lacking) = (None, 0);
        }
    }
}
