//! Sums of metrics, and their text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use super::line::{Line, Sample};

/// Most names of each type: strangers choose them, and each takes memory. Those that are known stay known.
pub const NAMES_MAX: usize = 100_000;

/// Most values that a timer keeps in an interval, and members that a set does.
///
/// Of more values each has the same chance to be kept, so percentiles are estimates then; a set goes without more.
pub const VALUES_MAX: usize = 65_536;

/// Bytes kept of a line that cannot be read.
const SHOWN_MAX: usize = 80;

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

/// What a flush prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// `path value time` lines, each of one interval.
    Graphite,
    /// The text format of Prometheus: counters, sums and counts go on from the start.
    Prometheus,
}

/// A sum of this interval and of all.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    interval: f64,
    total: f64,
}

impl Sum {
    fn add(&mut self, more: f64) {
        self.interval += more;
    }

    fn take(&mut self) -> f64 {
        std::mem::take(&mut self.interval)
    }

    fn end_interval(&mut self) {
        self.total += self.take();
    }

    /// Of an interval that has not ended.
    fn so_far(&self) -> f64 {
        self.total + self.interval
    }
}

#[derive(Debug, Default)]
struct Gauge {
    value: f64,
    /// When it was last set; before that, `value` is a change.
    set_at: Option<Instant>,
}

impl Gauge {
    fn absorb(&mut self, other: &mut Self) {
        let value = std::mem::take(&mut other.value);
        match other.set_at.take() {
            None => self.value += value,
            Some(at) if self.set_at.is_none_or(|set_at| set_at <= at) => *self = Self { value, set_at: Some(at) },
            Some(_) => {} // another thread has set it since
        }
    }
}

#[derive(Debug, Default)]
struct Timer {
    /// How many there were, each counted as often as its rate says.
    count: Sum,
    sum: Sum,
    /// Values seen in this interval, kept or not.
    seen: u64,
    min: f64,
    max: f64,
    kept: Vec<f64>,
}

impl Timer {
    fn add(&mut self, value: f64, weight: f64) {
        self.count.add(weight);
        self.sum.add(value);
        self.stretch(1, value, value);
        if self.kept.len() < VALUES_MAX {
            return self.kept.push(value);
        }
        // Which place it gets, if any, is drawn from all seen: the count, well mixed, is as good as chance here.
        if let Some(kept) = self.kept.get_mut((hash(self.seen) % self.seen) as usize) {
            *kept = value;
        }
    }

    /// Takes note of `more` values between `min` and `max`.
    fn stretch(&mut self, more: u64, min: f64, max: f64) {
        (self.min, self.max) = if self.seen == 0 { (min, max) } else { (self.min.min(min), self.max.max(max)) };
        self.seen += more;
    }

    fn absorb(&mut self, other: &mut Self) {
        self.count.add(other.count.take());
        self.sum.add(other.sum.take());
        if other.seen > 0 {
            self.stretch(std::mem::take(&mut other.seen), other.min, other.max);
        }
        self.kept.append(&mut other.kept);
    }

    fn mean(&self) -> f64 {
        self.sum.interval / self.seen as f64
    }

    /// Of sorted values: the smallest that at least this part of them does not exceed.
    fn percentile(&self, part: f64) -> f64 {
        let rank = (part * self.kept.len() as f64).ceil() as usize;
        self.kept[rank.clamp(1, self.kept.len()) - 1]
    }
}

/// Metrics of one type, by name.
#[derive(Debug)]
struct Named<T> {
    index: HashMap<Box<str>, usize>,
    metrics: Vec<T>,
}

impl<T: Default> Named<T> {
    /// The metric of a name. Only for a new one anything is allocated, and only while there is room.
    fn of(&mut self, name: &str) -> Option<&mut T> {
        let at = match self.index.get(name) {
            Some(at) => *at,
            None if self.metrics.len() == NAMES_MAX => return None,
            None => {
                self.index.insert(name.into(), self.metrics.len());
                self.metrics.push(T::default());
                self.metrics.len() - 1
            }
        };
        Some(&mut self.metrics[at])
    }

    /// Absorbs each of another's metrics in the one of the same name.
    fn absorb(&mut self, other: &mut Self, absorb: impl Fn(&mut T, &mut T)) {
        for (name, at) in &other.index {
            // Threads that know different names may have more of them together.
            if let Some(ours) = self.of(name) {
                absorb(ours, &mut other.metrics[*at]);
            }
        }
    }

    fn sorted(&self) -> Vec<(&str, &T)> {
        let mut sorted: Vec<(&str, &T)> = self.index.iter().map(|(name, at)| (&**name, &self.metrics[*at])).collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        sorted
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { index: HashMap::new(), metrics: Vec::new() }
    }
}

/// All metrics: those of one thread since the last flush, or of all threads.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Named<Sum>,
    gauges: Named<Gauge>,
    timers: Named<Timer>,
    /// Members by their hashes, which take less room than they do.
    sets: Named<HashSet<u64>>,
    /// Lines that are in the sums.
    pub lines_taken: u64,
    /// Lines that could not be read.
    pub lines_malformed: u64,
    /// Of a name or member for which there was no room.
    pub lines_without_room: u64,
    /// The first line of this interval that could not be read, and why.
    shown: Vec<u8>,
    shown_why: &'static str,
    /// Both counts when the interval began.
    complained: (u64, u64),
}

impl Metrics {
    /// Takes the lines of a datagram; of one that was cut, those that are surely whole.
    pub fn add(&mut self, data: &[u8], is_cut: bool, now: Instant) {
        let mut lines = data.split(|byte| *byte == b'\n');
        if let Some(cut) = is_cut.then(|| lines.next_back()).flatten() {
            self.complain(cut, "the datagram is too long");
        }
        for line in lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty()) {
            match Line::parse(line) {
                Ok(line) => match self.add_line(&line, now) {
                    Some(()) => self.lines_taken += 1,
                    None => self.lines_without_room += 1,
                },
                Err(why) => self.complain(line, why),
            }
        }
    }

    /// `None` if there is no room for it.
    fn add_line(&mut self, Line { name, sample }: &Line<'_>, now: Instant) -> Option<()> {
        match *sample {
            Sample::Count(count) => self.counters.of(name)?.add(count),
            Sample::Gauge(value) => *self.gauges.of(name)? = Gauge { value, set_at: Some(now) },
            Sample::Change(change) => self.gauges.of(name)?.value += change,
            Sample::Time { value, weight } => self.timers.of(name)?.add(value, weight),
            Sample::Member(member) => {
                let (set, hash) = (self.sets.of(name)?, hash(member));
                if set.len() == VALUES_MAX && !set.contains(&hash) {
                    return None;
                }
                set.insert(hash);
            }
        }
        Some(())
    }

    fn complain(&mut self, line: &[u8], why: &'static str) {
        self.lines_malformed += 1;
        if self.shown_why.is_empty() {
            self.shown.extend_from_slice(&line[..line.len().min(SHOWN_MAX)]);
            self.shown_why = why;
        }
    }

    /// Takes all that another has summed up since it was last asked, and leaves it its names and its memory.
    pub fn absorb(&mut self, other: &mut Self) {
        self.counters.absorb(&mut other.counters, |ours, theirs| ours.add(theirs.take()));
        self.gauges.absorb(&mut other.gauges, Gauge::absorb);
        self.timers.absorb(&mut other.timers, Timer::absorb);
        self.sets.absorb(&mut other.sets, |ours, theirs| ours.extend(theirs.drain()));
        for (ours, theirs) in [
            (&mut self.lines_taken, &mut other.lines_taken),
            (&mut self.lines_malformed, &mut other.lines_malformed),
            (&mut self.lines_without_room, &mut other.lines_without_room),
        ] {
            *ours += std::mem::take(theirs);
        }
        if self.shown_why.is_empty() {
            (self.shown_why, _) = (other.shown_why, self.shown.extend_from_slice(&other.shown));
        }
        (other.shown_why, _) = ("", other.shown.clear());
    }

    /// What of this interval could not be taken, in words.
    pub fn complaint(&self) -> Option<String> {
        let malformed = self.lines_malformed - self.complained.0;
        let without_room = self.lines_without_room - self.complained.1;
        let shown = match self.shown_why {
            "" => String::new(),
            why => format!(", such as '{}': {why}", self.shown.escape_ascii()),
        };
        (malformed + without_room > 0).then(|| {
            format!("{without_room} lines without room for their name or member, {malformed} malformed{shown}")
        })
    }

    /// Begins the next interval, in which all names are known and gauges are what they were.
    pub fn end_interval(&mut self) {
        self.counters.metrics.iter_mut().for_each(Sum::end_interval);
        for timer in &mut self.timers.metrics {
            timer.count.end_interval();
            timer.sum.end_interval();
            timer.kept.clear();
            timer.seen = 0;
        }
        self.sets.metrics.iter_mut().for_each(HashSet::clear);
        self.complained = (self.lines_malformed, self.lines_without_room);
        (self.shown_why, _) = ("", self.shown.clear());
    }

    /// Prints the interval, which took this long and ends now.
    pub fn print(
        &mut self,
        out: &mut impl Write,
        format: Format,
        now: SystemTime,
        interval: Duration,
    ) -> io::Result<()> {
        self.timers.metrics.iter_mut().for_each(|timer| timer.kept.sort_unstable_by(f64::total_cmp));
        match format {
            Format::Graphite => self.print_graphite(out, now, interval),
            Format::Prometheus => self.print_prometheus(out),
        }
    }

    fn print_graphite(&self, out: &mut impl Write, now: SystemTime, interval: Duration) -> io::Result<()> {
        let time = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut row = |kind: &str, name: &str, what: &str, value: f64| {
            writeln!(out, "stats.{kind}.{}{what} {value} {time}", plain(name, ".-"))
        };
        for (name, sum) in self.counters.sorted() {
            row("counters", name, ".count", sum.interval)?;
            row("counters", name, ".rate", sum.interval / interval.as_secs_f64())?;
        }
        for (name, gauge) in self.gauges.sorted() {
            row("gauges", name, "", gauge.value)?;
        }
        for (name, timer) in self.timers.sorted() {
            row("timers", name, ".count", timer.count.interval)?;
            if timer.seen == 0 {
                continue;
            }
            row("timers", name, ".min", timer.min)?;
            row("timers", name, ".max", timer.max)?;
            row("timers", name, ".mean", timer.mean())?;
            for (what, part) in PERCENTILES {
                row("timers", name, &format!(".{what}"), timer.percentile(part))?;
            }
        }
        for (name, set) in self.sets.sorted() {
            row("sets", name, ".count", set.len() as f64)?;
        }
        row("statsd", "lines_malformed", ".total", self.lines_malformed as f64)
    }

    fn print_prometheus(&self, out: &mut impl Write) -> io::Result<()> {
        let mut metric = |name: &str, what: &str, kind: &str, rows: &[(&str, f64)]| {
            let digit = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
            let name = format!("{digit}{}{what}", plain(name, ":"));
            writeln!(out, "# TYPE {name} {kind}")?;
            rows.iter().try_for_each(|(labels, value)| writeln!(out, "{name}{labels} {value}"))
        };
        for (name, sum) in self.counters.sorted() {
            metric(name, "_total", "counter", &[("", sum.so_far())])?;
        }
        for (name, gauge) in self.gauges.sorted() {
            metric(name, "", "gauge", &[("", gauge.value)])?;
        }
        for (name, timer) in self.timers.sorted() {
            let mut rows = vec![("_sum", timer.sum.so_far()), ("_count", timer.count.so_far())];
            if timer.seen > 0 {
                let labels = ["{quantile=\"0.5\"}", "{quantile=\"0.95\"}", "{quantile=\"0.99\"}"];
                rows.extend(labels.into_iter().zip(PERCENTILES.map(|(_, part)| timer.percentile(part))));
            }
            metric(name, "", "summary", &rows)?;
            if timer.seen > 0 {
                metric(name, "_min", "gauge", &[("", timer.min)])?;
                metric(name, "_max", "gauge", &[("", timer.max)])?;
                metric(name, "_mean", "gauge", &[("", timer.mean())])?;
            }
        }
        for (name, set) in self.sets.sorted() {
            metric(name, "", "gauge", &[("", set.len() as f64)])?;
        }
        metric("statsd_lines_malformed", "_total", "counter", &[("", self.lines_malformed as f64)])
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A name with an underscore for everything but letters, digits and what is allowed beside them.
///
/// Names that differ in nothing else become one: whoever reads the text sees the last.
fn plain<'n>(name: &'n str, allowed: &str) -> Cow<'n, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || allowed.contains(c);
    if name.chars().all(is_plain) {
        return name.into();
    }
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}
