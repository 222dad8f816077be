//! `inspect`: what captures hold, for people and as JSON.

use std::fmt::{self, Display, Write};
use std::fs;

use serde::Serialize;

use crate::account::{self, grouped};
use crate::args::InspectOptions;
use crate::capture::{self, Capture};
use crate::failure::Failure;
use crate::heavy::{Heavy, Weight};
use crate::packets::Nanos;
use crate::stop::Stop;
use crate::summary::{Counts, Summary};
use crate::timeline::bars;
use crate::utc;

/// How many sources, losses and places of damage a person is shown.
const SHOWN: usize = 10;

/// How many sources and destinations JSON has.
const WEIGHTS_MAX: usize = 100;

/// Width of the plot where nothing tells it: in a pipe.
const PIPE_COLUMNS: usize = 80;

/// Lines of the plot.
const PLOT_LINES: usize = 6;

pub fn run(options: InspectOptions) -> Result<(), Failure> {
    let mut summary = Summary::new();
    let (mut files, mut failure) = (Vec::new(), None);
    for path in &options.files {
        let file = path.to_string_lossy().into_owned();
        let Capture { mut reader, is_packed, .. } = capture::open(path, &Stop::default())?;
        while let Some(item) = reader.next() {
            summary.add(&item);
        }
        let error = reader.take_error();
        failure = failure.or(error.as_ref().and_then(|error| capture::not_read_on(path, error)));
        let error = error.map(|error| error.to_string());
        let metadata = fs::metadata(path).ok().filter(|metadata| is_packed && metadata.is_file());
        let packed_bytes = metadata.map(|metadata| metadata.len());
        files.push(FileReport { file, bytes: reader.offset(), is_packed, packed_bytes, error });
        summary.next_file();
    }
    let report = Report::new(&summary, files);
    if options.json {
        account::print_json(&report)?;
    } else {
        let width = terminal_size::terminal_size().map_or(PIPE_COLUMNS, |(width, _)| usize::from(width.0));
        account::print_line(report.text(&summary, width).trim_end())?;
    }
    failure.map_or(Ok(()), Err)
}

#[derive(Clone, Serialize)]
struct FileReport {
    file: String,
    /// Of what comes out, if it is compressed.
    bytes: u64,
    #[serde(skip)]
    is_packed: bool,
    /// Of the file itself, if it is compressed; absent of standard input and pipes.
    #[serde(skip_serializing_if = "Option::is_none")]
    packed_bytes: Option<u64>,
    /// Why it could not be read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Report {
    files: Vec<FileReport>,
    #[serde(flatten)]
    counts: Counts,
    first: Option<String>,
    last: Option<String>,
    seconds: f64,
    datagrams_per_s: u64,
    /// Payload bytes: smallest, 50, 90, 99 of a hundred, largest.
    sizes: Sizes,
    /// Pairs: so many bytes at most, so many datagrams.
    size_histogram: Vec<(usize, u64)>,
    sources: Weights,
    destinations: Weights,
    rate: Rate,
    losses: Vec<LossReport>,
    damage: Vec<DamageReport>,
}

#[derive(Serialize)]
struct Sizes {
    min: usize,
    mean: u64,
    p50: usize,
    p90: usize,
    p99: usize,
    max: usize,
}

/// The heaviest keys.
#[derive(Serialize)]
struct Weights {
    /// How many there are; absent if they are too many to count.
    distinct: Option<usize>,
    /// How many datagrams may be missing from each count.
    missing_max: u64,
    heaviest: Vec<WeightReport>,
}

#[derive(Serialize)]
struct WeightReport {
    address: String,
    datagrams: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Rate {
    start: Option<String>,
    interval_s: f64,
    /// UDP datagrams in each interval.
    datagrams: Vec<u64>,
}

#[derive(Serialize)]
struct LossReport {
    from: Option<String>,
    to: Option<String>,
    lost: u64,
}

#[derive(Serialize)]
struct DamageReport {
    file: String,
    at: u64,
    bytes: u64,
    kind: String,
}

impl Report {
    fn new(summary: &Summary, files: Vec<FileReport>) -> Self {
        let counts = summary.counts.clone();
        let seconds = summary.seconds();
        let time = |time: Option<Nanos>| time.map(utc::text);
        let damage = summary.damage.iter().map(|place| DamageReport {
            file: files[place.file].file.clone(),
            at: place.damage.at,
            bytes: place.damage.bytes,
            kind: place.damage.kind.to_string(),
        });
        let losses =
            summary.losses.iter().map(|loss| LossReport { from: time(loss.from), to: time(loss.to), lost: loss.lost });
        Self {
            first: time(summary.first),
            last: time(summary.last),
            seconds,
            datagrams_per_s: if seconds > 0.0 { (counts.udp as f64 / seconds) as u64 } else { 0 },
            sizes: Sizes {
                min: summary.percentile(0),
                mean: counts.bytes / counts.udp.max(1),
                p50: summary.percentile(50),
                p90: summary.percentile(90),
                p99: summary.percentile(99),
                max: summary.percentile(100),
            },
            size_histogram: summary.histogram(),
            sources: Weights::new(&summary.sources),
            destinations: Weights::new(&summary.destinations),
            rate: Rate {
                start: time(summary.first.map(|_| summary.timeline.start())),
                interval_s: summary.timeline.length() as f64 / 1e9,
                datagrams: summary.timeline.counts().to_vec(),
            },
            losses: losses.collect(),
            damage: damage.collect(),
            counts,
            files,
        }
    }

    /// Everything for a person, in lines of `width` columns where there is a choice.
    fn text(&self, summary: &Summary, width: usize) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, summary, width);
        text
    }

    fn write(&self, out: &mut String, summary: &Summary, width: usize) -> fmt::Result {
        for FileReport { file, bytes, is_packed, packed_bytes, error } in &self.files {
            let packed = packed_bytes.map(|packed| format!("{} bytes, ", grouped(packed))).unwrap_or_default();
            let unpacked = if *is_packed { " unpacked" } else { "" };
            writeln!(out, "{file}: {packed}{} bytes{unpacked}", grouped(*bytes))?;
            if let Some(error) = error {
                writeln!(out, "  cannot be read on: {error}")?;
            }
        }
        self.write_counts(out)?;
        if self.counts.udp > 0 {
            self.write_rate(out, summary, width)?;
            self.write_sizes(out, width)?;
            self.sources.write(out, "sources", self.counts.udp)?;
            self.destinations.write(out, "destinations", self.counts.udp)?;
        }
        self.write_losses(out)?;
        self.write_damage(out)
    }

    fn write_counts(&self, out: &mut String) -> fmt::Result {
        let Counts { packets, udp, fragments, not_udp, not_ip, unknown_link, short, malformed, .. } = self.counts;
        let mut row = |name: &str, value: u64, note: &str| match value {
            0 if !note.is_empty() => Ok(()),
            _ => writeln!(out, "{}", format!("  {name:<16}{:>16}  {note}", grouped(value)).trim_end()),
        };
        row("packets", packets, "")?;
        row("udp", udp, "")?;
        row("fragments", fragments, "parts of IP packets, not put together")?;
        row("not_udp", not_udp, "IP with something else in it")?;
        row("not_ip", not_ip, "ARP and the like")?;
        row("unknown_link", unknown_link, "of a link type that is not known here")?;
        row("short", short, "too little was kept to tell")?;
        row("malformed", malformed, "headers that contradict each other")?;
        row("cut", self.counts.cut, "of the UDP: the payload was not kept whole")?;
        row("timeless", self.counts.timeless, "packets without a time")?;
        row("bytes", self.counts.bytes, "")?;
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            writeln!(out, "  from {first}\n  to   {last}")?;
            let rate = grouped(self.datagrams_per_s);
            writeln!(out, "  {:.3} s, {rate} datagrams a second on average", self.seconds)?;
        }
        Ok(())
    }

    fn write_rate(&self, out: &mut String, summary: &Summary, width: usize) -> fmt::Result {
        let columns = summary.timeline.columns(width.saturating_sub(4).clamp(10, 500));
        let interval_s = self.rate.interval_s;
        let rates: Vec<f64> = columns.iter().map(|(count, of)| *count as f64 / (*of as f64 * interval_s)).collect();
        let Some((_, of)) = columns.first() else { return Ok(()) };
        let highest = rates.iter().copied().fold(0.0, f64::max);
        let each = Seconds(*of as f64 * interval_s);
        writeln!(out, "\nrate: up to {} datagrams a second; a column is {each}", grouped(highest.round() as u64))?;
        for line in bars(&rates, PLOT_LINES) {
            writeln!(out, "  {}", line.trim_end())?;
        }
        writeln!(out, "  {}", "▔".repeat(rates.len()))
    }

    fn write_sizes(&self, out: &mut String, width: usize) -> fmt::Result {
        let Sizes { min, mean, p50, p90, p99, max } = self.sizes;
        writeln!(out, "\nsizes: {min} to {max} bytes, mean {mean}; 50% up to {p50}, 90% up to {p90}, 99% up to {p99}")?;
        let most = self.size_histogram.iter().map(|(_, count)| *count).max().unwrap_or(1);
        let room = width.saturating_sub(34).clamp(5, 60);
        for (up_to, count) in &self.size_histogram {
            let bar = "█".repeat((room as f64 * *count as f64 / most as f64).ceil() as usize);
            writeln!(out, "  up to {:>6}  {:>14}  {bar}", grouped(*up_to as u64), grouped(*count))?;
        }
        Ok(())
    }

    fn write_losses(&self, out: &mut String) -> fmt::Result {
        if self.counts.lost == 0 {
            return Ok(());
        }
        writeln!(out, "\nlost by who captured: {} datagrams", grouped(self.counts.lost))?;
        let unknown = || "?".to_owned();
        let mut shown: Vec<&LossReport> = self.losses.iter().collect();
        shown.sort_by_key(|loss| std::cmp::Reverse(loss.lost));
        for loss in shown.iter().take(SHOWN) {
            let (from, to) = (loss.from.clone().unwrap_or_else(unknown), loss.to.clone().unwrap_or_else(unknown));
            writeln!(out, "  {:>14}  between {from} and {to}", grouped(loss.lost))?;
        }
        write_rest(out, shown.len(), "intervals")
    }

    fn write_damage(&self, out: &mut String) -> fmt::Result {
        let Counts { damaged_places, damaged_bytes, .. } = self.counts;
        if damaged_places == 0 {
            return Ok(());
        }
        writeln!(out, "\ndamage: {} bytes cannot be read", grouped(damaged_bytes))?;
        for DamageReport { file, at, bytes, kind } in self.damage.iter().take(SHOWN) {
            writeln!(out, "  {:>14}  bytes at {} of {file}: {kind}", grouped(*bytes), grouped(*at))?;
        }
        write_rest(out, damaged_places as usize, "places")
    }
}

fn write_rest(out: &mut String, count: usize, of_what: &str) -> fmt::Result {
    match count.saturating_sub(SHOWN) {
        0 => Ok(()),
        rest => writeln!(out, "  and {rest} more {of_what}"),
    }
}

impl Weights {
    fn new<K: Copy + Eq + Ord + std::hash::Hash + Display>(heavy: &Heavy<K>) -> Self {
        let report = |(key, Weight { datagrams, bytes }): (K, Weight)| WeightReport {
            address: key.to_string(),
            datagrams,
            bytes,
        };
        Self {
            distinct: heavy.distinct(),
            missing_max: heavy.missing_max(),
            heaviest: heavy.top(WEIGHTS_MAX).into_iter().map(report).collect(),
        }
    }

    fn write(&self, out: &mut String, name: &str, total: u64) -> fmt::Result {
        let (many, note) = match self.distinct {
            Some(count) => (grouped(count as u64), String::new()),
            None => {
                let missing = grouped(self.missing_max);
                ("very many".to_owned(), format!("; up to {missing} datagrams may be missing from each"))
            }
        };
        writeln!(out, "\n{name}: {many}{note}")?;
        for WeightReport { address, datagrams, bytes } in self.heaviest.iter().take(SHOWN) {
            let share = 100.0 * *datagrams as f64 / total as f64;
            writeln!(out, "  {:>14}  {share:>5.1}%  {:>16} bytes  {address}", grouped(*datagrams), grouped(*bytes))?;
        }
        Ok(())
    }
}

/// A length of time in the unit that suits it.
struct Seconds(f64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds < 1.0 => write!(f, "{:.0} ms", seconds * 1e3),
            seconds if seconds < 600.0 => write!(f, "{seconds:.1} s"),
            seconds => write!(f, "{:.1} min", seconds / 60.0),
        }
    }
}
