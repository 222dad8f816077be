//! What the snapshots of an ingest tell when one is taken from another.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hio_udp::ShardStats;

use crate::heavy::Weight;
use crate::ingest::{Counts, FILLS, Snapshot};
use crate::sinks::SinkNow;

/// What "now" is: rates are over the last of this, for counters of readers are up to 50 ms old.
const NOW: Duration = Duration::from_secs(1);

/// Seconds that charts go back.
pub const HISTORY: usize = 300;

/// All counters at one moment, as plain data.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    pub uptime: Duration,
    pub counts: Counts,
    pub listeners: Vec<ListenerSample>,
    pub sinks: Vec<SinkNow>,
}

#[derive(Clone, Debug)]
pub struct ListenerSample {
    pub local: SocketAddr,
    pub recv_buf_bytes: usize,
    pub shards: Vec<ShardStats>,
}

impl From<Snapshot> for Sample {
    fn from(snapshot: Snapshot) -> Self {
        let counts = snapshot.counts();
        let listeners = snapshot.listeners.into_iter().map(|listener| ListenerSample {
            local: listener.local,
            recv_buf_bytes: listener.recv_buf_bytes,
            shards: listener.stats.shards,
        });
        let (at, uptime, listeners) = (snapshot.at, snapshot.uptime, listeners.collect());
        Self { at, uptime, counts, listeners, sinks: snapshot.sinks }
    }
}

impl Sample {
    fn kernel_dropped(&self) -> u64 {
        self.listeners.iter().flat_map(|listener| &listener.shards).map(|shard| shard.socket.kernel_dropped).sum()
    }
}

/// A count, and how much it grows in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    pub total: u64,
    pub per_s: f64,
}

impl Rate {
    fn between(before: u64, now: u64, seconds: f64) -> Self {
        // Counts of heavy sources may shrink; and no time has passed between a snapshot and itself.
        let per_s = if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 };
        Self { total: now, per_s }
    }
}

/// What happens now, and what has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    pub uptime: Duration,
    /// Datagrams read, whatever became of them.
    pub received: Rate,
    /// Payload bytes of the delivered.
    pub bytes: Rate,
    pub dropped: Rate,
    pub denied: Rate,
    pub limited: Rate,
    /// Batches that came now, by their size: 1, 2 to 3, 4 to 7 …
    pub fills: [u64; FILLS],
    pub listeners: Vec<ListenerRates>,
    pub sinks: Vec<SinkRates>,
}

#[derive(Clone, Debug)]
pub struct ListenerRates {
    pub local: SocketAddr,
    pub backend: &'static str,
    pub recv_buf_bytes: usize,
    pub shards: Vec<ShardRates>,
}

#[derive(Clone, Copy, Debug)]
pub struct ShardRates {
    pub received: Rate,
    pub dropped: Rate,
    /// Of what its listener receives now, from 0 to 1; `None` while that is nothing.
    pub share: Option<f64>,
    pub rings: u64,
    pub rings_free: u64,
    pub rings_full: u64,
    /// Times its reader had to wait for a ring.
    pub stalls: Rate,
}

#[derive(Clone, Debug)]
pub struct SinkRates {
    pub name: String,
    pub written: Rate,
    pub not_written: Rate,
    pub bytes: Rate,
    pub queued: usize,
    pub queue: usize,
    pub waited: Duration,
    /// Seconds that receiving waited in each second, of all threads together.
    pub waiting: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceRates {
    pub source: IpAddr,
    pub datagrams: Rate,
    pub bytes: Rate,
}

impl Rates {
    /// What has changed between two samples.
    pub fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let rate = |before, now| Rate::between(before, now, seconds);
        let (then, counts) = (&before.counts, &now.counts);
        let listeners = now.listeners.iter().enumerate();
        let sinks = now.sinks.iter().enumerate();
        Self {
            uptime: now.uptime,
            received: rate(then.handled(), counts.handled()),
            bytes: rate(then.bytes, counts.bytes),
            dropped: rate(before.kernel_dropped(), now.kernel_dropped()),
            denied: rate(then.denied, counts.denied),
            limited: rate(then.limited, counts.limited),
            fills: std::array::from_fn(|i| counts.fills[i].saturating_sub(then.fills[i])),
            listeners: listeners.map(|(i, now)| listener(before.listeners.get(i), now, seconds)).collect(),
            sinks: sinks.map(|(i, now)| sink(before.sinks.get(i), now, seconds)).collect(),
        }
    }

    /// The share of what arrives now that is lost, from 0 to 1, and the same of all that has arrived.
    pub fn loss(&self) -> (f64, f64) {
        let share = |lost: f64, received: f64| if lost > 0.0 { lost / (lost + received) } else { 0.0 };
        let (dropped, received) = (self.dropped, self.received);
        (share(dropped.per_s, received.per_s), share(dropped.total as f64, received.total as f64))
    }
}

impl ListenerRates {
    /// How many times its fair part the busiest shard has now; `None` with one shard, or nothing to do.
    pub fn imbalance(&self) -> Option<f64> {
        let busiest = self.shards.iter().filter_map(|shard| shard.share).reduce(f64::max)?;
        (self.shards.len() > 1).then_some(busiest * self.shards.len() as f64)
    }
}

fn listener(before: Option<&ListenerSample>, now: &ListenerSample, seconds: f64) -> ListenerRates {
    let mut shards: Vec<ShardRates> = Vec::with_capacity(now.shards.len());
    for (i, stats) in now.shards.iter().enumerate() {
        let then = before.and_then(|before| before.shards.get(i)).unwrap_or(stats);
        shards.push(ShardRates {
            received: Rate::between(then.grams_delivered, stats.grams_delivered, seconds),
            dropped: Rate::between(then.socket.kernel_dropped, stats.socket.kernel_dropped, seconds),
            share: None,
            rings: stats.rings,
            rings_free: stats.rings_free,
            rings_full: stats.rings_full,
            stalls: Rate::between(then.reader_stalls, stats.reader_stalls, seconds),
        });
    }
    let all: f64 = shards.iter().map(|shard| shard.received.per_s).sum();
    if all > 0.0 {
        shards.iter_mut().for_each(|shard| shard.share = Some(shard.received.per_s / all));
    }
    let backend = now.shards.first().map_or("", |shard| shard.socket.backend);
    ListenerRates { local: now.local, backend, recv_buf_bytes: now.recv_buf_bytes, shards }
}

fn sink(before: Option<&SinkNow>, now: &SinkNow, seconds: f64) -> SinkRates {
    let before = before.unwrap_or(now);
    let waited = now.waited.saturating_sub(before.waited).as_secs_f64();
    SinkRates {
        name: now.name.clone(),
        written: Rate::between(before.written, now.written, seconds),
        not_written: Rate::between(before.not_written, now.not_written, seconds),
        bytes: Rate::between(before.bytes, now.bytes, seconds),
        queued: now.queued,
        queue: now.queue,
        waited: now.waited,
        waiting: if seconds > 0.0 { waited / seconds } else { 0.0 },
    }
}

/// The rates of an ingest, from a sample each refresh.
#[derive(Default)]
pub struct Meter {
    /// Those of [`NOW`], and the last before that.
    recent: VecDeque<Sample>,
    next_point: Option<Instant>,
    pub history: History,
}

impl Meter {
    pub fn add(&mut self, sample: Sample) -> Rates {
        let at = sample.at;
        self.recent.push_back(sample);
        while self.recent.get(1).is_some_and(|second| at.saturating_duration_since(second.at) >= NOW) {
            self.recent.pop_front();
        }
        let rates = Rates::between(&self.recent[0], &self.recent[self.recent.len() - 1]);
        let next_point = *self.next_point.get_or_insert(at + NOW);
        if at >= next_point {
            self.history.add(&rates);
            // After a pause of the whole process no points are made up.
            self.next_point = Some((next_point + NOW).max(at));
        }
        rates
    }
}

/// A point for each second.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub received: f64,
    pub bytes: f64,
    pub dropped: f64,
}

impl History {
    fn add(&mut self, rates: &Rates) {
        self.points.truncate(HISTORY - 1);
        let Rates { received, bytes, dropped, .. } = rates;
        self.points.push_front(Point { received: received.per_s, bytes: bytes.per_s, dropped: dropped.per_s });
    }

    /// The same in so many columns, the newest last: the highest of the seconds that each stands for.
    pub fn columns(&self, columns: usize, value: impl Fn(&Point) -> f64) -> Vec<u64> {
        let seconds = HISTORY.div_ceil(columns.max(1)).max(1);
        let mut heights = vec![0; columns];
        for (age, point) in self.points.iter().enumerate() {
            if let Some(height) = heights.iter_mut().rev().nth(age / seconds) {
                *height = u64::max(*height, value(point).round() as u64);
            }
        }
        heights
    }
}

/// The rates of the heaviest sources, from one look at them to the next.
#[derive(Default)]
pub struct Sources {
    before: HashMap<IpAddr, Weight>,
    at: Option<Instant>,
}

impl Sources {
    /// Takes what was counted until `now`.
    pub fn add(&mut self, weights: &[(IpAddr, Weight)], now: Instant) -> Vec<SourceRates> {
        // Without an earlier look there is nothing to tell of rates.
        let seconds = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        let rates = weights.iter().map(|(source, weight)| {
            let before = self.before.get(source).copied().unwrap_or_default();
            SourceRates {
                source: *source,
                datagrams: Rate::between(before.datagrams, weight.datagrams, seconds),
                bytes: Rate::between(before.bytes, weight.bytes, seconds),
            }
        });
        let rates = rates.collect();
        self.before = weights.iter().copied().collect();
        self.at = Some(now);
        rates
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A sample of one listener, with these numbers for each of its shards: received and dropped.
    pub fn sample(at: Instant, uptime: Duration, shards: &[(u64, u64)]) -> Sample {
        let stats = |&(received, dropped): &(u64, u64)| {
            let mut stats = ShardStats::default();
            (stats.grams_delivered, stats.socket.kernel_dropped) = (received, dropped);
            (stats.rings, stats.rings_free, stats.rings_full) = (6, 4, 1);
            stats.socket.backend = "mmsg";
            stats
        };
        let received = shards.iter().map(|(received, _)| received).sum();
        Sample {
            at,
            uptime,
            counts: Counts { delivered: received, bytes: 100 * received, ..Counts::default() },
            listeners: vec![ListenerSample {
                local: "127.0.0.1:2055".parse().unwrap(),
                recv_buf_bytes: 4 << 20,
                shards: shards.iter().map(stats).collect(),
            }],
            sinks: vec![SinkNow {
                name: "null".to_owned(),
                written: received,
                not_written: 0,
                not_written_by_reason: Default::default(),
                bytes: 128 * received,
                queued: 3,
                queue: 14,
                waited: uptime / 10,
            }],
        }
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let before = sample(start, second, &[(1_000, 0), (1_000, 0)]);
        let now = sample(start + 2 * second, 3 * second, &[(4_000, 100), (2_000, 300)]);
        let rates = Rates::between(&before, &now);
        assert_eq!(rates.received, Rate { total: 6_000, per_s: 2_000.0 });
        assert_eq!(rates.bytes, Rate { total: 600_000, per_s: 200_000.0 });
        assert_eq!(rates.dropped, Rate { total: 400, per_s: 200.0 });
        let (loss_now, loss) = rates.loss();
        assert_eq!((loss_now, loss), (200.0 / 2_200.0, 400.0 / 6_400.0));
        let listener = &rates.listeners[0];
        assert_eq!(listener.shards.iter().map(|shard| shard.share).collect::<Vec<_>>(), [Some(0.75), Some(0.25)]);
        assert_eq!(listener.imbalance(), Some(1.5));
        let sink = &rates.sinks[0];
        assert_eq!((sink.written.per_s, sink.waiting), (2_000.0, 0.1));
    }

    #[test]
    fn nothing_divides_by_nothing() {
        let now = sample(Instant::now(), Duration::ZERO, &[(5, 1)]);
        let rates = Rates::between(&now, &now);
        assert_eq!((rates.received, rates.loss()), (Rate { total: 5, per_s: 0.0 }, (0.0, 1.0 / 6.0)));
        assert_eq!((rates.listeners[0].imbalance(), rates.sinks[0].waiting), (None, 0.0));
        let empty = Sample { listeners: Vec::new(), sinks: Vec::new(), ..now.clone() };
        assert_eq!(Rates::between(&empty, &now).listeners[0].shards[0].received.total, 5);
        assert!(Rates::between(&now, &empty).listeners.is_empty());
    }

    #[test]
    fn a_meter_tells_of_the_last_second_and_keeps_a_point_for_each() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        // A thousand a second, then nothing.
        for quarter in 0..=24_u32 {
            let at = Duration::from_millis(250) * quarter;
            let received = 250 * u64::from(quarter.min(12));
            let rates = meter.add(sample(start + at, at, &[(received, 0)]));
            let expected = match quarter {
                0 => 0.0,
                1..=12 => 1_000.0,
                13..=15 => 1_000.0 - 250.0 * f64::from(quarter - 12),
                _ => 0.0,
            };
            assert_eq!(rates.received.per_s, expected, "{quarter}");
        }
        assert_eq!(
            meter.history.columns(HISTORY, |point| point.received)[HISTORY - 7..],
            [0, 1000, 1000, 1000, 0, 0, 0]
        );
        assert_eq!(meter.history.columns(100, |point| point.received)[97..], [0, 1000, 0]);
        assert_eq!(meter.history.columns(1, |point| point.received), [1000]);
        assert!(meter.history.columns(0, |point| point.received).is_empty());
    }

    #[test]
    fn a_history_forgets_what_is_older_than_its_columns() {
        let mut history = History::default();
        for received in 0..1_000 {
            history.add(&Rates { received: Rate { total: 0, per_s: f64::from(received) }, ..Rates::default() });
        }
        let columns = history.columns(HISTORY, |point| point.received);
        assert_eq!((columns[0], columns[HISTORY - 1], history.points.len()), (700, 999, HISTORY));
    }

    #[test]
    fn a_source_has_a_rate_from_the_second_look_on_and_never_a_negative_one() {
        let (start, mut sources) = (Instant::now(), Sources::default());
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut look = |after, datagrams| {
            let weight = Weight { datagrams, bytes: 10 * datagrams };
            sources.add(&[(address, weight)], start + Duration::from_secs(after))[0]
        };
        assert_eq!(look(0, 50).datagrams, Rate { total: 50, per_s: 0.0 });
        let second = look(2, 150);
        assert_eq!((second.datagrams.per_s, second.bytes.per_s), (50.0, 500.0));
        assert_eq!(look(3, 100).datagrams, Rate { total: 100, per_s: 0.0 }, "cut by the table");
    }
}
