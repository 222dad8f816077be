//! `replay`: captured datagrams, sent again.
//!
//! Each is due at a point in time that follows from the capture and the speed alone, so a delay is caught up
//! with and adds up to nothing. What is due by the time it is read goes out as one batch.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{MAX_PAYLOAD_V4, Stats, Transport};
use serde::Serialize;

use crate::account::{self, grouped};
use crate::args::{ReplayOptions, Speed};
use crate::capture::{self, Capture};
use crate::failure::Failure;
use crate::headers::{Content, content};
use crate::input;
use crate::packets::{Item, Nanos, SECOND};
use crate::sender::{self, Sender};
use crate::status::TextLine;
use crate::stop::{self, Stop};

/// Datagrams a batch at most.
const BATCH: usize = 64;

/// Most payload of a batch.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Later than this counts as late: a sleep ends some 60 µs after it should.
const LATE_AFTER: Duration = Duration::from_millis(1);

/// How often a stop is looked for while nothing is due.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// A wait from which on it is said how long it is, once.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// What became of every packet of the captures: `packets` is the sum of sent, failed, not_sent and all skipped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReplayReport {
    /// Packets read, those of every round.
    pub packets: u64,
    pub sent: u64,
    pub failed: u64,
    /// Errno and count of what failed.
    pub failed_by_errno: Vec<(i32, u64)>,
    /// Read, but not tried before a stop.
    pub not_sent: u64,
    pub skipped: Skipped,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Of those tried: later than a millisecond after they were due.
    pub late: u64,
    pub latest_ms: f64,
    /// Of the sent: those that left in one message with others.
    pub segmented: u64,
    pub seconds: f64,
    pub datagrams_per_s: u64,
    pub syscalls: u64,
    pub would_block: u64,
    pub no_buffers: u64,
    /// Datagrams that were lost when the captures were made.
    pub lost_in_captures: u64,
    /// Bytes of the captures that cannot be read.
    pub damaged_bytes: u64,
}

/// Packets that are not sent, by why.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Skipped {
    /// The capture holds less of the payload than there was.
    pub cut: u64,
    /// More payload than a datagram over IPv4 carries.
    pub too_long: u64,
    /// Parts of IP packets, which are not put together.
    pub fragments: u64,
    /// Something else than UDP.
    pub not_udp: u64,
    /// Of a link type not known here, too short to tell, or contradictory.
    pub unreadable: u64,
}

impl Skipped {
    fn total(&self) -> u64 {
        self.cut + self.too_long + self.fragments + self.not_udp + self.unreadable
    }
}

pub fn run(options: ReplayOptions) -> Result<(), Failure> {
    let stop = Stop::on_signals().map_err(stop::not_caught)?;
    let (read_once, files): (Vec<&PathBuf>, _) = options.files.iter().partition(|file| input::is_read_once(file));
    if let Some(file) = read_once.first().filter(|_| options.rounds > 1) {
        let what = if *file == Path::new("-") { "standard input".into() } else { format!("'{}'", file.display()) };
        return Err(Failure::Usage(format!("{what} can be read once only: give --loop 1, or a file")));
    }
    // Nothing is sent before every file is known to be a capture.
    for file in files {
        capture::open(file, &stop)?;
    }
    let to = options.to.resolve("--to")?;
    let sender = Sender::open("replay".to_owned(), to, BATCH, options.segment)
        .map_err(|error| Failure::run(format!("cannot open a socket to send to {to}: {error}; choose another --to")))?;
    let mut replay = Replay {
        sender,
        stop,
        pace: Pace::new(options.speed),
        batch: Batch::default(),
        report: ReplayReport::default(),
        first_error: None,
        unread: None,
        line: TextLine::new(),
        is_long_wait_told: false,
    };
    let ended = replay.run(&options);
    replay.report.not_sent += replay.batch.ends.len() as u64; // where a file could not be opened again
    replay.line.clear();
    let report = replay.report();
    if options.json {
        account::print_json(&report)?;
    } else {
        account::print_line(&report.to_string())?;
    }
    ended?;
    if let Some(unread) = replay.unread {
        return Err(unread);
    }
    if let Some(error) = &replay.first_error {
        let (failed, hint) = (report.failed, sender::hint(error));
        return Err(Failure::run(format!("{failed} datagrams to {to} failed, the first with: {error}{hint}")));
    }
    if report.sent + report.not_sent == 0 && !replay.stop.asked() {
        let skipped = grouped(report.skipped.total());
        return Err(Failure::run(format!(
            "nothing to send: {skipped} packets skipped, see the account; want captures with whole UDP datagrams"
        )));
    }
    Ok(())
}

struct Replay {
    sender: Sender,
    stop: Stop,
    pace: Pace,
    batch: Batch,
    report: ReplayReport,
    first_error: Option<io::Error>,
    /// A file whose reading the system has ended.
    unread: Option<Failure>,
    line: TextLine,
    is_long_wait_told: bool,
}

impl Replay {
    fn run(&mut self, options: &ReplayOptions) -> Result<(), Failure> {
        for _ in 0..options.rounds {
            for file in &options.files {
                self.replay_file(file, options.allow_cut)?;
                if self.stop.asked() {
                    return self.flush();
                }
            }
        }
        self.flush()
    }

    fn replay_file(&mut self, file: &Path, allow_cut: bool) -> Result<(), Failure> {
        if input::is_read_once(file) {
            self.flush()?; // its opening may wait
        }
        let Capture { mut reader, readiness, .. } = match capture::open(file, &self.stop) {
            Err(_) if self.stop.asked() => return Ok(()),
            opened => opened?,
        };
        self.pace.begin_file();
        loop {
            // What is in the batch is due, and does not wait for what somebody writes later.
            let is_still = readiness.as_ref().is_some_and(|input| !(reader.is_next_ahead() || input.is_ready()));
            if is_still {
                self.flush()?;
            }
            let Some(item) = reader.next() else { break };
            if self.stop.asked() {
                break;
            }
            match item {
                Item::Damage(damage) => self.report.damaged_bytes += damage.bytes,
                Item::Loss(loss) => self.lose(loss.count),
                Item::Packet(packet) => {
                    self.lose(packet.loss.map_or(0, |loss| loss.count));
                    self.report.packets += 1;
                    if let Some(payload) = self.report.skipped.pick(content(packet.link_type, packet.data), allow_cut) {
                        self.add(payload, packet.time)?;
                    }
                }
            }
        }
        if let Some(error) = reader.take_error().filter(|_| !self.stop.asked()) {
            match capture::not_read_on(file, &error) {
                Some(failure) => self.unread = self.unread.take().or(Some(failure)),
                None => {
                    account::say(&format!("hio-udp: note: '{}' cannot be read to its end: {error}", file.display()))
                }
            }
        }
        Ok(())
    }

    fn lose(&mut self, count: u64) {
        self.report.lost_in_captures = self.report.lost_in_captures.saturating_add(count);
    }

    /// Puts a payload into the batch when it is due; what is in it already goes before any wait.
    fn add(&mut self, payload: &[u8], time: Option<Nanos>) -> Result<(), Failure> {
        let due = self.pace.due(time);
        if due.is_some_and(|due| due > Instant::now()) {
            self.flush()?;
        }
        self.wait_until(due);
        if self.stop.asked() {
            self.report.not_sent += 1;
            return Ok(());
        }
        if self.batch.is_full_with(payload.len()) {
            self.flush()?;
        }
        self.batch.push(payload, due);
        Ok(())
    }

    fn wait_until(&mut self, due: Option<Instant>) {
        let Some(due) = due else { return };
        while !self.stop.asked() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if left > LONG_WAIT && !std::mem::replace(&mut self.is_long_wait_told, true) {
                let left = left.as_secs();
                account::say(&format!("hio-udp: note: the next is due in {left} s; a higher --speed waits less"));
            }
            self.show();
            thread::sleep(left.min(LOOK_AROUND));
        }
    }

    /// Sends what is in the batch.
    fn flush(&mut self) -> Result<(), Failure> {
        let count = self.batch.ends.len();
        if count == 0 {
            return Ok(());
        }
        self.note_lateness();
        let settled = self.sender.send(self.batch.grams(), count, &self.stop, &mut self.first_error);
        self.report.not_sent += (count - settled) as u64;
        self.batch.clear();
        self.show();
        if settled < count && !self.stop.asked() {
            return Err(Failure::run(
                "the system takes no datagram any more: try a smaller --speed, or another --to".to_owned(),
            ));
        }
        Ok(())
    }

    fn note_lateness(&mut self) {
        let now = Instant::now();
        for due in self.batch.dues.iter().flatten() {
            let late = now.saturating_duration_since(*due);
            self.report.late += u64::from(late > LATE_AFTER);
            self.report.latest_ms = self.report.latest_ms.max(late.as_secs_f64() * 1e3);
        }
    }

    fn show(&mut self) {
        let (sender, report, start) = (&self.sender, &self.report, self.pace.start);
        self.line.show(|| {
            let (stats, seconds) = (sender.peer.stats(), start.elapsed().as_secs_f64());
            let rate = stats.grams_sent as f64 / seconds.max(f64::MIN_POSITIVE);
            format!(
                "{seconds:>6.1} s  sent {} ({}/s)  failed {}  skipped {}  late {}",
                grouped(stats.grams_sent),
                grouped(rate as u64),
                grouped(stats.grams_send_failed),
                grouped(report.skipped.total()),
                grouped(report.late),
            )
        });
    }

    fn report(&self) -> ReplayReport {
        let stats: Stats = self.sender.peer.stats();
        let seconds = self.pace.start.elapsed().as_secs_f64();
        let failed_by_errno: BTreeMap<i32, u64> = stats.grams_send_failed_by_errno.iter().collect();
        ReplayReport {
            sent: stats.grams_sent,
            failed: stats.grams_send_failed,
            failed_by_errno: failed_by_errno.into_iter().collect(),
            bytes: stats.bytes_sent,
            segmented: stats.grams_segmented,
            seconds,
            datagrams_per_s: (stats.grams_sent as f64 / seconds.max(f64::MIN_POSITIVE)) as u64,
            syscalls: stats.syscalls(),
            would_block: stats.send_would_block,
            no_buffers: stats.send_no_buffers,
            ..self.report.clone()
        }
    }
}

impl Skipped {
    /// The payload to send, or a count of why there is none.
    fn pick<'a>(&mut self, content: Content<'a>, allow_cut: bool) -> Option<&'a [u8]> {
        let counter = match content {
            Content::Udp(datagram) if datagram.is_cut() && !allow_cut => &mut self.cut,
            Content::Udp(datagram) if datagram.payload.len() > MAX_PAYLOAD_V4 => &mut self.too_long,
            Content::Udp(datagram) => return Some(datagram.payload),
            Content::Fragment => &mut self.fragments,
            Content::NotUdp | Content::NotIp => &mut self.not_udp,
            Content::UnknownLink | Content::Short | Content::Malformed => &mut self.unreadable,
        };
        *counter += 1;
        None
    }
}

/// When datagrams are due: the first at the start, and from then on as the capture has it, at some speed.
struct Pace {
    speed: Speed,
    start: Instant,
    /// When the file begins, from the start on.
    file_start: Duration,
    /// Time of the file's first datagram.
    origin: Option<Nanos>,
    /// The file's latest time so far.
    newest: Option<Nanos>,
    /// The latest so far, from the start on: what the capture has out of order is due at once.
    latest: Duration,
}

impl Pace {
    fn new(speed: Speed) -> Self {
        let (start, zero) = (Instant::now(), Duration::ZERO);
        Self { speed, start, file_start: zero, origin: None, newest: None, latest: zero }
    }

    /// A file follows the one before without a pause: captures of different days are not days apart.
    fn begin_file(&mut self) {
        (self.file_start, self.origin, self.newest) = (self.latest, None, None);
    }

    /// When a datagram of this time is due; `None` at once.
    fn due(&mut self, time: Option<Nanos>) -> Option<Instant> {
        let Speed::Times(factor) = self.speed else { return None };
        if let Some(time) = time {
            if self.newest.is_some_and(|newest| STEP_BACK.contains(&(newest - time))) {
                self.begin_file();
            }
            self.newest = self.newest.max(Some(time));
            let since = (time - *self.origin.get_or_insert(time)).max(0);
            // A time that no clock can tell is as far away as any.
            let scaled = Duration::try_from_secs_f64(since as f64 / 1e9 / factor).unwrap_or(FOR_EVER);
            self.latest = self.latest.max(self.file_start.saturating_add(scaled).min(FOR_EVER));
        }
        Some(self.start + self.latest)
    }
}

/// How far a time stands back behind a step of the clock. Less is one that was written late; more is none.
const STEP_BACK: RangeInclusive<Nanos> = 10 * SECOND..=86_400 * SECOND;

/// A hundred years, which every clock can add.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Payloads that are due, end to end.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    dues: Vec<Option<Instant>>,
}

impl Batch {
    fn is_full_with(&self, len: usize) -> bool {
        self.ends.len() == BATCH || (!self.ends.is_empty() && self.bytes.len() + len > BATCH_BYTES_MAX)
    }

    fn push(&mut self, payload: &[u8], due: Option<Instant>) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
        self.dues.push(due);
    }

    fn grams(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.dues.clear();
    }
}

impl std::fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Skipped { cut, too_long, fragments, not_udp, unreadable } = self.skipped;
        let mut row = |name: &str, value: u64, note: &str, is_always: bool| match value {
            0 if !is_always => Ok(()),
            _ => writeln!(f, "{}", format!("  {name:<16}{:>16}  {note}", grouped(value)).trim_end()),
        };
        row("packets", self.packets, "read", true)?;
        row("sent", self.sent, "", true)?;
        row("failed", self.failed, "", true)?;
        row("not_sent", self.not_sent, "stopped before", false)?;
        row("cut", cut, "skipped: the payload was not kept whole; --allow-cut sends what is there", false)?;
        row("too_long", too_long, "skipped: more payload than a datagram carries", false)?;
        row("fragments", fragments, "skipped: parts of IP packets, not put together", false)?;
        row("not_udp", not_udp, "skipped", false)?;
        row("unreadable", unreadable, "skipped: headers that cannot be read", false)?;
        let latest = format!("of the tried: more than 1 ms; the latest {:.1} ms", self.latest_ms);
        row("late", self.late, &latest, true)?;
        row("bytes", self.bytes, "", true)?;
        row("lost", self.lost_in_captures, "when the captures were made", false)?;
        row("damaged", self.damaged_bytes, "bytes of the captures that cannot be read", false)?;
        let rate = grouped(self.datagrams_per_s);
        write!(f, "  {:.3} s, {rate} datagrams a second", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(pace: &mut Pace, time: Nanos) -> Duration {
        pace.due(Some(time)).unwrap() - pace.start
    }

    #[test]
    fn datagrams_are_due_as_the_capture_has_them_at_any_speed() {
        for (factor, expected_ms) in [(1.0, [0, 1_500, 1_500, 4_000]), (4.0, [0, 375, 375, 1_000])] {
            let mut pace = Pace::new(Speed::Times(factor));
            pace.begin_file();
            let base = 1_795_564_800 * SECOND;
            // The third comes before the second: at once.
            let dues = [0, 1_500, 700, 4_000].map(|ms| due(&mut pace, base + ms * 1_000_000));
            assert_eq!(dues, expected_ms.map(Duration::from_millis));
            assert_eq!(pace.due(None).unwrap() - pace.start, Duration::from_millis(expected_ms[3]));
            // Another file, of another day, follows at once.
            pace.begin_file();
            let next = [0, 1_000].map(|ms| due(&mut pace, 5 * SECOND + ms * 1_000_000));
            let after = Duration::from_secs_f64(1.0 / factor);
            assert_eq!(next, [dues[3], dues[3] + after]);
        }
    }

    #[test]
    fn behind_a_step_back_of_the_clock_the_pace_goes_on() {
        let mut pace = Pace::new(Speed::Times(1.0));
        pace.begin_file();
        let base = 1_795_564_800;
        // Two seconds; an hour back, two seconds, one out of order; one of 1970, as if it had no time.
        let dues = [0, 2, -3_600, -3_598, -3_599, -3_597, -base, -3_596];
        let dues = dues.map(|second| due(&mut pace, (base + second) * SECOND).as_secs());
        assert_eq!(dues, [0, 2, 2, 4, 4, 5, 5, 6]);
    }

    #[test]
    fn times_that_no_clock_can_tell_are_far_away_and_no_panic() {
        for factor in [1e-300, 1.0, 1e300] {
            let mut pace = Pace::new(Speed::Times(factor));
            for time in [-(1 << 98), 1 << 98, 0, i128::from(u64::MAX)] {
                pace.begin_file();
                due(&mut pace, -time);
                due(&mut pace, time);
            }
        }
        assert!(Pace::new(Speed::Max).due(Some(5)).is_none());
    }

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let mut batch = Batch::default();
        let payloads: [&[u8]; 4] = [b"one", b"", b"three", b""];
        payloads.iter().for_each(|payload| batch.push(payload, None));
        assert!(batch.grams().eq(payloads));
        assert!(batch.grams().skip(2).eq(payloads[2..].iter().copied()));
        assert!(batch.is_full_with(BATCH_BYTES_MAX) && !batch.is_full_with(100));
    }
}
