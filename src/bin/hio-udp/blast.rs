//! `blast`: load of numbered, checksummed datagrams.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hio_udp::{Stats, Transport};
use serde::Serialize;

use crate::account::{self, grouped};
use crate::args::{BlastOptions, Rate};
use crate::failure::Failure;
use crate::memory;
use crate::probe;
use crate::sender::{self, PATIENCE, Sender};
use crate::stop::{self, Stop};

/// Datagrams a batch at most.
const BATCH: usize = 64;

/// Most memory for the prepared datagrams; batches of long ones are shorter.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// At a set rate, a batch gathers for this long before it goes out.
const TICK: Duration = Duration::from_millis(1);

/// What became of the datagrams of a blast: `sent + failed` were tried.
#[derive(Clone, Debug, Serialize)]
pub struct BlastReport {
    pub sent: u64,
    pub failed: u64,
    pub bytes: u64,
    /// Of the sent: those that left in one message with others.
    pub segmented: u64,
    pub seconds: f64,
    pub datagrams_per_s: u64,
    pub syscalls: u64,
    pub would_block: u64,
    pub no_buffers: u64,
    /// Errno and count of what failed.
    pub failed_by_errno: Vec<(i32, u64)>,
}

pub fn run(options: BlastOptions) -> Result<(), Failure> {
    let stop = Stop::on_signals().map_err(stop::not_caught)?;
    let to = options.to.resolve("--to")?;
    let (report, first_error) = blast(&options, to, &stop)?;
    if options.json {
        account::print_json(&report)?;
    } else {
        let rate = grouped(report.datagrams_per_s);
        let (sent, failed) = (grouped(report.sent), grouped(report.failed));
        let line = format!("sent {sent} datagrams to {to} in {:.3} s: {rate}/s, {failed} failed", report.seconds);
        account::print_line(&line)?;
    }
    match first_error {
        Some(error) => {
            let (failed, hint) = (report.failed, sender::hint(&error));
            Err(Failure::run(format!("{failed} datagrams to {to} failed, the first with: {error}{hint}")))
        }
        None => Ok(()),
    }
}

/// One sending socket and its numbers.
struct Source {
    id: u32,
    sender: Sender,
    next_sequence: u64,
}

/// Sends until the count, the duration or the stop; gives the report and the first error, if any.
pub fn blast(options: &BlastOptions, to: SocketAddr, stop: &Stop) -> Result<(BlastReport, Option<io::Error>), Failure> {
    let batch = (BATCH_BYTES_MAX / options.size).clamp(1, BATCH);
    let mut sources = open_sources(options, to, batch)?;
    // In turn for every source: of their own, 10,000 would take 10 GB.
    let mut grams = prepared(options.size, batch)?;
    let start = Instant::now();
    let stop_at = options.duration.and_then(|duration| start.checked_add(duration));
    let (mut tried, mut first_error, mut turn) = (0, None, 0);
    let mut last_progress = start;
    let is_over = |tried: u64| {
        options.count.is_some_and(|count| tried >= count)
            || stop_at.is_some_and(|at| Instant::now() >= at)
            || stop.asked()
    };
    while !is_over(tried) {
        let left = options.count.map_or(u64::MAX, |count| count - tried);
        let due = match options.rate {
            Rate::Max => u64::MAX,
            Rate::PerSecond(rate) => wait_until_due(rate, tried, start),
        };
        let want = left.min(due).min(batch as u64) as usize;
        let source = &mut sources[turn % options.sources];
        let settled = source.send(&mut grams[..want * options.size], options.size, stop, &mut first_error);
        turn += 1;
        tried += settled as u64;
        if settled > 0 {
            last_progress = Instant::now();
        } else if want > 0 && !stop.asked() && last_progress.elapsed() > PATIENCE {
            return Err(Failure::run(format!(
                "the system takes no datagram of {} bytes to {to} any more: try a smaller --size or --rate",
                options.size
            )));
        }
    }
    Ok((report(&sources, start.elapsed()), first_error))
}

fn open_sources(options: &BlastOptions, to: SocketAddr, batch: usize) -> Result<Vec<Source>, Failure> {
    let sources = (0..options.sources).map(|id| Source::open(to, batch, id as u32, options.segment));
    sources.collect::<io::Result<_>>().map_err(|error| {
        Failure::run(match options.sources {
            1 => format!("cannot open a socket to send to {to}: {error}; choose another --to"),
            sources => format!("cannot open {sources} sending sockets: {error}; choose fewer --sources"),
        })
    })
}

/// So many datagrams of this run, end to end, without their numbers.
fn prepared(size: usize, count: usize) -> Result<Vec<u8>, Failure> {
    // Apart from other runs, by any clock.
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_else(|before| before.duration());
    let mut grams = memory::room(size * count)
        .map_err(|error| Failure::run(format!("cannot make datagrams of this --size: {error}")))?;
    grams.resize(size * count, 0);
    grams.chunks_exact_mut(size).for_each(|gram| probe::prepare(gram, run.subsec_nanos()));
    Ok(grams)
}

/// Waits until at least one datagram is due at `rate`; gives how many are.
fn wait_until_due(rate: f64, tried: u64, start: Instant) -> u64 {
    let due = |at: Instant| (at.duration_since(start).as_secs_f64() * rate) as u64;
    let now = due(Instant::now()).saturating_sub(tried);
    if now > 0 {
        return now;
    }
    // Long pauses are cut short, so that a stop is noticed.
    let until_next = Duration::from_secs_f64(((tried + 1) as f64 / rate).min(1e9)).saturating_sub(start.elapsed());
    thread::sleep(until_next.clamp(TICK, 50 * TICK));
    due(Instant::now()).saturating_sub(tried)
}

impl Source {
    fn open(to: SocketAddr, batch: usize, id: u32, segment: bool) -> io::Result<Self> {
        Ok(Self { id, sender: Sender::open(format!("blast {id}"), to, batch, segment)?, next_sequence: 0 })
    }

    /// Numbers the prepared `grams` of `size` bytes and sends them all; gives how many are done with.
    fn send(&mut self, grams: &mut [u8], size: usize, stop: &Stop, first_error: &mut Option<io::Error>) -> usize {
        for (sequence, gram) in (self.next_sequence..).zip(grams.chunks_exact_mut(size)) {
            probe::number(gram, self.id, sequence);
        }
        let count = grams.len() / size;
        let settled = self.sender.send(grams.chunks_exact(size), count, stop, first_error);
        self.next_sequence += settled as u64;
        settled
    }
}

fn report(sources: &[Source], time: Duration) -> BlastReport {
    let all: Vec<Stats> = sources.iter().map(|source| source.sender.peer.stats()).collect();
    let sum = |field: fn(&Stats) -> u64| all.iter().map(field).sum::<u64>();
    let mut failed_by_errno = std::collections::BTreeMap::new();
    for (errno, count) in all.iter().flat_map(|stats| stats.grams_send_failed_by_errno.iter()) {
        *failed_by_errno.entry(errno).or_insert(0) += count;
    }
    let (sent, seconds) = (sum(|s| s.grams_sent), time.as_secs_f64());
    BlastReport {
        sent,
        failed: sum(|s| s.grams_send_failed),
        bytes: sum(|s| s.bytes_sent),
        segmented: sum(|s| s.grams_segmented),
        seconds,
        datagrams_per_s: (sent as f64 / seconds.max(f64::MIN_POSITIVE)) as u64,
        syscalls: sum(Stats::syscalls),
        would_block: sum(|s| s.send_would_block),
        no_buffers: sum(|s| s.send_no_buffers),
        failed_by_errno: failed_by_errno.into_iter().collect(),
    }
}
