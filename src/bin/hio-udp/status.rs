//! The live line on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::account::grouped;
use crate::ingest::Snapshot;

/// One line on standard error, rewritten in place; nothing at all where that is no terminal.
pub struct StatusLine {
    bar: ProgressBar,
    last: Seen,
    last_at: Instant,
    start: Instant,
}

/// The numbers the line is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    received: u64,
    bytes: u64,
    kernel_dropped: u64,
    recv_calls: u64,
    /// Bytes handed to sinks; `None` without any.
    sink_bytes: Option<u64>,
}

impl From<&Snapshot> for Seen {
    fn from(snapshot: &Snapshot) -> Self {
        let counts = snapshot.counts();
        Self {
            received: counts.handled(),
            bytes: counts.bytes,
            kernel_dropped: snapshot.kernel_dropped(),
            recv_calls: snapshot.recv_calls(),
            sink_bytes: snapshot.sink_bytes(),
        }
    }
}

/// How often the line changes.
pub const REFRESH_EVERY: Duration = Duration::from_millis(250);

impl StatusLine {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { bar: new_bar(), last: Seen::default(), last_at: now, start: now }
    }

    /// Whether it is time for another.
    pub fn is_due(&self) -> bool {
        !self.bar.is_hidden() && self.last_at.elapsed() >= REFRESH_EVERY
    }

    pub fn show(&mut self, snapshot: &Snapshot) {
        let (seen, seconds) = (Seen::from(snapshot), self.last_at.elapsed().as_secs_f64());
        self.bar.set_message(self.line(seen, seconds));
        self.last = seen;
        self.last_at = Instant::now();
    }

    fn line(&self, seen: Seen, seconds: f64) -> String {
        let per_second = |now: u64, before: u64| (now - before) as f64 / seconds;
        let grams = seen.received - self.last.received;
        let dropped = seen.kernel_dropped - self.last.kernel_dropped;
        let calls = (seen.recv_calls - self.last.recv_calls).max(1);
        let loss = 100.0 * dropped as f64 / (grams + dropped).max(1) as f64;
        let sinks = seen.sink_bytes.map_or(String::new(), |bytes| format!("  sinks {}", size(bytes)));
        format!(
            "{:>6.1} s {:>11}/s {:>9}/s  lost {} ({loss:.1}% now)  batch {:.1}{sinks}",
            self.start.elapsed().as_secs_f64(),
            grouped(per_second(seen.received, self.last.received) as u64),
            size(per_second(seen.bytes, self.last.bytes) as u64),
            grouped(seen.kernel_dropped),
            grams as f64 / calls as f64,
        )
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A line of any text, as [`StatusLine`] is one of an ingest.
pub struct TextLine {
    bar: ProgressBar,
    last_at: Instant,
}

impl TextLine {
    pub fn new() -> Self {
        Self { bar: new_bar(), last_at: Instant::now() }
    }

    /// Shows what `text` gives, if it is time for another.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        if self.last_at.elapsed() >= REFRESH_EVERY {
            self.bar.set_message(text());
            self.last_at = Instant::now();
        }
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn new_bar() -> ProgressBar {
    ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{wide_msg}").expect("a fixed template"))
}

pub fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rate_bytes_loss_and_batch_fill() {
        let status = StatusLine::new();
        let seen =
            Seen { received: 3_000, bytes: 300_000, kernel_dropped: 1_000, recv_calls: 60, sink_bytes: Some(5_000) };
        let line = status.line(seen, 0.5);
        for part in ["6,000/s", "600.00 kB/s", "lost 1,000 (25.0% now)", "batch 50.0", "sinks 5.00 kB"] {
            assert!(line.contains(part), "{part:?} not in {line:?}");
        }
    }
}
