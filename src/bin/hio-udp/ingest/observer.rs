//! What an ingest tells of itself while it runs: events for the log, and losses for `/readyz`.
//!
//! The main thread calls it many times a second. It looks at the counters twice a second, and tells what has
//! happened at most once in a time, with the numbers of that time: however many datagrams are lost, refused or
//! cannot be read, the number of lines does not depend on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::watch::{Snapshot, Watch};
use crate::account::Account;
use crate::events::{self, Event};
use crate::metrics::{Board, Phase};
use crate::screen::Screen;

/// How often it looks at the counters.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Least time between two lines of losses, and of receive errors.
const LOSSES_EVERY: Duration = Duration::from_secs(10);

/// Least time between two lines of sources above their limit.
const LIMITED_EVERY: Duration = Duration::from_secs(60);

pub struct Observer {
    watch: Arc<Watch>,
    screen: Arc<Screen>,
    board: Option<Arc<Board>>,
    next_look: Instant,
    last: Snapshot,
    losses: Period,
    errors: Period,
    limited: Period,
}

/// The time since something was told, or since there was nothing to tell.
struct Period {
    from: Snapshot,
    told_at: Option<Instant>,
    /// Least time between two lines.
    every: Duration,
}

impl Period {
    /// Whether there is something to tell, and it may be told: the time that has passed if so.
    ///
    /// The first time it is told at once; where there was nothing for that long, a new time begins.
    fn is_due(&mut self, now: &Snapshot, has_happened: impl Fn(&Snapshot, &Snapshot) -> bool) -> Option<Duration> {
        let passed = now.at.saturating_duration_since(self.from.at);
        if has_happened(&self.from, now) {
            let is_free = self.told_at.is_none_or(|at| now.at.saturating_duration_since(at) >= self.every);
            return is_free.then_some(passed);
        }
        if passed >= self.every {
            self.from = now.clone();
        }
        None
    }

    fn told(&mut self, now: &Snapshot) {
        (self.from, self.told_at) = (now.clone(), Some(now.at));
    }
}

/// What came to one address in a time.
#[derive(Serialize)]
struct ListenerLoss {
    bind: String,
    received: u64,
    kernel_dropped: u64,
}

/// What a sink did not write in a time.
#[derive(Serialize)]
struct SinkLoss {
    sink: String,
    written: u64,
    not_written: u64,
}

impl Observer {
    /// `board` is what `/readyz` looks at, if somebody may ask.
    pub fn new(watch: Arc<Watch>, screen: Arc<Screen>, board: Option<Arc<Board>>) -> Self {
        let now = watch.snapshot();
        tell_start(&now);
        let period = |every| Period { from: now.clone(), told_at: None, every };
        let (losses, errors, limited) = (period(LOSSES_EVERY), period(LOSSES_EVERY), period(LIMITED_EVERY));
        if let Some(board) = &board {
            board.show(Arc::clone(&watch));
        }
        Self { watch, screen, board, next_look: now.at + LOOK_EVERY, last: now, losses, errors, limited }
    }

    /// To be called again and again.
    pub fn tick(&mut self) {
        if (self.board.is_none() && !events::is_on()) || Instant::now() < self.next_look {
            return;
        }
        let now = self.watch.snapshot();
        self.next_look = now.at + LOOK_EVERY;
        self.look(&now);
        self.last = now;
    }

    fn look(&mut self, now: &Snapshot) {
        if let (Some(board), Some(whom)) = (&self.board, who_lost(&self.last, now)) {
            board.health.on_loss(whom, now.at);
        }
        if let Some(time) = self.losses.is_due(now, |from, now| who_lost(from, now).is_some()) {
            tell_losses(&self.losses.from, now, time);
            self.losses.told(now);
        }
        if let Some(time) = self.errors.is_due(now, |from, now| now.receive_errors() > from.receive_errors()) {
            let new = now.receive_errors() - self.errors.from.receive_errors();
            Event::warn("receive_errors").with("interval_s", time.as_secs_f64()).with("receive_errors", new).log();
            self.errors.told(now);
        }
        let limited = |snapshot: &Snapshot| snapshot.counts().limited;
        if let Some(time) = self.limited.is_due(now, |from, now| limited(now) > limited(from)) {
            Event::warn("rate_limited")
                .with("interval_s", time.as_secs_f64())
                .with("sources", self.screen.take_refused())
                .with("datagrams", limited(now) - limited(&self.limited.from))
                .log();
            self.limited.told(now);
        }
    }

    /// A stop has begun.
    pub fn stopping(&self) {
        if let Some(board) = &self.board {
            board.health.enter(Phase::Stopping);
        }
        Event::info("stopping").with("uptime_s", self.watch.snapshot().uptime.as_secs_f64()).log();
    }

    /// Everything is over.
    pub fn stopped(&self, account: &Account) {
        Event::info("stopped").with("account", account).log();
    }
}

fn tell_start(now: &Snapshot) {
    #[derive(Serialize)]
    struct Listens {
        bind: String,
        shards: usize,
        receive_buffer_bytes: usize,
        is_clamped: bool,
    }
    let listens = now.listeners.iter().map(|one| Listens {
        bind: one.local.to_string(),
        shards: one.stats.shards.len(),
        receive_buffer_bytes: one.recv_buf_bytes,
        is_clamped: one.is_clamped,
    });
    Event::info("started")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("pid", std::process::id())
        .with("backend", now.backend())
        .with("listeners", listens.collect::<Vec<_>>())
        .with("sinks", now.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>())
        .log();
}

/// Who has lost datagrams between two moments: the kernel, or a sink.
fn who_lost(before: &Snapshot, now: &Snapshot) -> Option<String> {
    if now.kernel_dropped() > before.kernel_dropped() {
        return Some("the kernel".to_owned());
    }
    let mut sinks = now.sinks.iter().zip(&before.sinks);
    sinks.find(|(now, before)| now.not_written > before.not_written).map(|(sink, _)| format!("the sink {}", sink.name))
}

fn tell_losses(before: &Snapshot, now: &Snapshot, time: Duration) {
    let listeners = now.listeners.iter().zip(&before.listeners).map(|(now, before)| {
        let (now_total, before_total) = (now.stats.total(), before.stats.total());
        ListenerLoss {
            bind: now.local.to_string(),
            received: now_total.grams_delivered - before_total.grams_delivered,
            kernel_dropped: now_total.socket.kernel_dropped - before_total.socket.kernel_dropped,
        }
    });
    let sinks = now.sinks.iter().zip(&before.sinks).map(|(now, before)| SinkLoss {
        sink: now.name.clone(),
        // What counted as written may be found lost, with its segment.
        written: now.written.saturating_sub(before.written),
        not_written: now.not_written - before.not_written,
    });
    Event::warn("loss")
        .with("interval_s", time.as_secs_f64())
        .with("kernel_dropped", now.kernel_dropped() - before.kernel_dropped())
        .with("listeners", listeners.collect::<Vec<_>>())
        .with("sinks", sinks.filter(|sink| sink.not_written > 0).collect::<Vec<_>>())
        .log();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64, arrived: u64) -> Snapshot {
        let at = start + Duration::from_secs(seconds);
        // Any number that grows will do.
        Snapshot { at, uptime: Duration::from_secs(arrived), listeners: Vec::new(), sinks: Vec::new() }
    }

    #[test]
    fn however_often_it_happens_it_is_told_once_in_a_time_with_that_times_numbers() {
        let start = Instant::now();
        let mut period = Period { from: at(start, 0, 0), told_at: None, every: Duration::from_secs(10) };
        let mut told = Vec::new();
        let mut look = |seconds: u64, count: u64| {
            let now = at(start, seconds, count);
            if let Some(time) = period.is_due(&now, |from, now| now.uptime > from.uptime) {
                told.push((seconds, time.as_secs(), (now.uptime - period.from.uptime).as_secs()));
                period.told(&now);
            }
        };
        (0..=9).for_each(|second| look(second, 0));
        (10..=40).for_each(|second| look(second, second));
        (41..=99).for_each(|second| look(second, 40));
        look(100, 45);
        // When, over how many seconds, how much; what is left of a flood is told when it may be.
        assert_eq!(told, [(10, 10, 10), (20, 10, 10), (30, 10, 10), (40, 10, 10), (100, 10, 5)]);
    }
}
