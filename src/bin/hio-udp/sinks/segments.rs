//! `pcapng:DIR`: captures that follow each other, each of a limited size or time.
//!
//! A segment is written under its name with `.part` behind it, and gets its name when it is closed:
//! `20261125T002600Z-000001.pcapng`, the second it was begun in UTC and a number that goes on from start
//! to start. So a file without `.part` is whole and does not change. Each begins and ends with
//! statistics, all counted since the start of the program, and one begins with those the last ended
//! with: their differences tell what was delivered and dropped in a segment's time, and what a segment
//! lacks of the delivered could not be written.
//!
//! What takes long and is not writing, the closing of segments, is done by a [`Keeper`] in another thread.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::chunk::{Chunk, SoFar};
use super::directory::{self, Directory};
use super::file::Capture;
use super::keeper::{Closing, Keeper};
use super::ledger::{Ledger, Trouble};
use super::spec::{Fsync, Limits};
use super::{Sink, opening};

/// A segment's length in bytes unless another is asked for.
pub const ROTATE_BYTES: u64 = 256 << 20;
/// What may come behind a chunk: statistics because of drops, and those that a segment ends with.
const STATISTICS_BYTES: u64 = 2 * 64;
/// How often [`Fsync::Interval`] asks for what was written to be on the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub struct Segments {
    directory: Directory,
    limits: Limits,
    /// What the datagrams come to.
    place: String,
    keeper: Keeper,
    open: Option<Segment>,
    /// With the newest chunk, written or not.
    so_far: SoFar,
    /// What the last segment ended with.
    ended_with: SoFar,
    trouble: Trouble,
}

/// The segment being written.
struct Segment {
    capture: Capture,
    part: PathBuf,
    packets: u64,
    since: Instant,
    /// When it was last asked to be on the disk.
    synced: Instant,
    is_dirty: bool,
}

impl Segments {
    /// Takes a directory for itself, closes what an earlier run left open, and begins a segment.
    pub fn open(dir: &Path, name: &str, limits: Limits, place: &str, ledger: &Arc<Ledger>) -> io::Result<Self> {
        let directory = Directory::open(dir, name)?;
        let keeper = Keeper::start(dir, name, limits, Arc::clone(ledger))?;
        let (so_far, ended_with) = (SoFar::default(), SoFar::default());
        let (place, trouble) = (place.to_owned(), Trouble::new(name));
        let mut segments = Self { directory, limits, place, keeper, open: None, so_far, ended_with, trouble };
        // Now, so that a directory that cannot be written to is no surprise with the first datagram.
        segments.open = Some(segments.begin(ledger)?);
        Ok(segments)
    }

    /// Begins a segment, whose file is no more if that fails.
    fn begin(&mut self, ledger: &Ledger) -> io::Result<Segment> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = directory::name(now.as_nanos() as i128, self.directory.next)?;
        let part = directory::part(&self.directory.path.join(name));
        let file = opening::create_new(&part)?;
        let begun = Capture::begin(file, &self.place, ledger).and_then(|mut capture| {
            capture.write_statistics(&self.ended_with.statistics(), ledger)?;
            Ok(capture)
        });
        match begun {
            Ok(capture) => {
                self.directory.next += 1;
                let now = Instant::now();
                Ok(Segment { capture, part, packets: 0, since: now, synced: now, is_dirty: false })
            }
            Err(error) => {
                let _ = fs::remove_file(&part);
                Err(error)
            }
        }
    }

    /// Ends the open segment; the rest of its closing is the keeper's.
    fn end(&mut self, ledger: &Ledger) {
        let Some(Segment { mut capture, part, packets, .. }) = self.open.take() else { return };
        // Without them it is whole too, and the next one tells its part.
        if capture.write_statistics(&self.so_far.statistics(), ledger).is_ok() {
            self.ended_with = self.so_far;
        }
        self.keeper.close(Closing { file: capture.into_file(), part, packets });
    }

    /// Writes a chunk to the open segment, or to a new one.
    fn put(&mut self, chunk: &Chunk, ledger: &Ledger) {
        let mut segment = match self.open.take() {
            Some(segment) => segment,
            None => match self.begin(ledger) {
                Ok(segment) => segment,
                Err(error) => return self.trouble.failed(ledger, chunk.packets, "begin a segment", &error),
            },
        };
        let (packets, mut result) = segment.capture.write(chunk, self.so_far, ledger);
        (segment.packets, segment.is_dirty) = (segment.packets + packets, true);
        if result.is_ok() && self.limits.fsync() == Fsync::Batch {
            result = segment.capture.file().sync_data();
            ledger.called();
            segment.is_dirty = false;
        }
        self.open = Some(segment);
        match result {
            Ok(()) => self.trouble.worked(),
            Err(error) => {
                self.trouble.failed(ledger, chunk.packets - packets, "write", &error);
                // A full disk may have room again for this very file; after any other failure, another
                // file may do better.
                if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                    self.end(ledger);
                }
            }
        }
    }

    /// Whether the open segment is to end before `more` bytes come to it.
    fn is_due(&self, more: usize) -> bool {
        let Some(segment) = self.open.as_ref().filter(|segment| segment.packets > 0) else { return false };
        segment.capture.len + more as u64 + STATISTICS_BYTES > self.limits.rotate_bytes.unwrap_or(ROTATE_BYTES)
            || self.limits.rotate_every.is_some_and(|every| segment.since.elapsed() >= every)
    }

    /// Gives up a segment whose file somebody has removed: what was written to it is lost.
    fn notice_removal(&mut self, ledger: &Ledger) {
        let Some(segment) = self.open.take_if(|segment| directory::is_removed(segment.capture.file(), &segment.part))
        else {
            return;
        };
        let error = io::Error::new(io::ErrorKind::NotFound, "the segment was removed while it was written");
        ledger.lost(segment.packets, &error.to_string());
        self.trouble.failed_uncounted(segment.packets, "write", &error);
    }

    fn sync_if_due(&mut self) {
        let Some(segment) = &mut self.open else { return };
        if self.limits.fsync() == Fsync::Interval && segment.is_dirty && segment.synced.elapsed() >= SYNC_EVERY {
            segment.synced = Instant::now();
            segment.is_dirty = false;
            self.keeper.sync(segment.capture.file());
        }
    }
}

impl Sink for Segments {
    fn write(&mut self, chunk: &Chunk, ledger: &Ledger) {
        self.notice_removal(ledger);
        if self.is_due(chunk.blocks.len()) {
            self.end(ledger);
        }
        self.so_far.add(chunk);
        // Statistics alone begin no segment; the next one begins with them.
        if self.open.is_some() || chunk.packets > 0 {
            self.put(chunk, ledger);
        }
        self.sync_if_due();
    }

    fn idle(&mut self, ledger: &Ledger) {
        self.notice_removal(ledger);
        if self.is_due(0) {
            self.end(ledger);
        }
        self.sync_if_due();
    }

    fn reopen(&mut self, ledger: &Ledger) {
        if self.open.as_ref().is_some_and(|segment| segment.packets > 0) {
            self.end(ledger);
        }
    }

    fn close(&mut self, ledger: &Ledger) {
        self.end(ledger);
        self.keeper.finish();
    }
}
