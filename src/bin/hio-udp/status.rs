//! The live line on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::account::grouped;

/// What the reader publishes a few times a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    pub delivered: u64,
    pub bytes: u64,
    pub kernel_dropped: u64,
    pub recv_calls: u64,
    /// Bytes handed to the file; `None` without one.
    pub file_bytes: Option<u64>,
}

impl Live {
    /// Everything that reached the socket.
    pub fn arrived(&self) -> u64 {
        self.delivered + self.kernel_dropped
    }
}

/// One line on standard error, rewritten in place; nothing at all where that is no terminal.
pub struct StatusLine {
    bar: ProgressBar,
    last: Live,
    last_at: Instant,
    start: Instant,
}

/// How often the line changes.
pub const REFRESH_EVERY: Duration = Duration::from_millis(250);

impl StatusLine {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { bar: new_bar(), last: Live::default(), last_at: now, start: now }
    }

    pub fn show(&mut self, live: Live) {
        let seconds = self.last_at.elapsed().as_secs_f64();
        if seconds < REFRESH_EVERY.as_secs_f64() / 2.0 {
            return;
        }
        self.bar.set_message(self.line(live, seconds));
        self.last = live;
        self.last_at = Instant::now();
    }

    fn line(&self, live: Live, seconds: f64) -> String {
        let per_second = |now: u64, before: u64| (now - before) as f64 / seconds;
        let grams = live.delivered - self.last.delivered;
        let dropped = live.kernel_dropped - self.last.kernel_dropped;
        let calls = (live.recv_calls - self.last.recv_calls).max(1);
        let loss = 100.0 * dropped as f64 / (grams + dropped).max(1) as f64;
        let file = live.file_bytes.map_or(String::new(), |bytes| format!("  file {}", size(bytes)));
        format!(
            "{:>6.1} s {:>11}/s {:>9}/s  lost {} ({loss:.1}% now)  batch {:.1}{file}",
            self.start.elapsed().as_secs_f64(),
            grouped(per_second(live.delivered, self.last.delivered) as u64),
            size(per_second(live.bytes, self.last.bytes) as u64),
            grouped(live.kernel_dropped),
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

fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rate_bytes_loss_and_batch_fill() {
        let status = StatusLine::new();
        let live =
            Live { delivered: 3_000, bytes: 300_000, kernel_dropped: 1_000, recv_calls: 60, file_bytes: Some(5_000) };
        let line = status.line(live, 0.5);
        for part in ["6,000/s", "600.00 kB/s", "lost 1,000 (25.0% now)", "batch 50.0", "file 5.00 kB"] {
            assert!(line.contains(part), "{part:?} not in {line:?}");
        }
    }
}
