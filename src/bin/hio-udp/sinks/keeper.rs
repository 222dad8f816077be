//! The keeper of a directory: what takes long and is not writing, off the thread that writes.
//!
//! It makes sure that files are on the disk, gives closed segments their names, hands them to the packer, and
//! removes those that are too old or too many.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::directory::{self, Entry};
use super::ledger::{Ledger, Trouble};
use super::packer::Packer;
use super::spec::{Fsync, Limits};

/// Work that may wait for it; the writer waits if there is more.
const JOBS_MAX: usize = 4;
/// How often it looks for segments that have become too old.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A segment to be closed, with what was written to it.
pub struct Closing {
    pub file: File,
    pub part: PathBuf,
    pub packets: u64,
}

enum Job {
    Sync(File),
    Close(Closing),
}

/// The writer's end.
pub struct Keeper {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(dir: &Path, sink: &str, limits: Limits, ledger: Arc<Ledger>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(JOBS_MAX);
        let is_synced = limits.fsync() != Fsync::Never;
        let start_packer = || Packer::start(dir, sink, is_synced, Arc::clone(&ledger));
        let packer = limits.zstd.then(start_packer).transpose()?;
        let (dir, trouble, retention) = (dir.to_owned(), Trouble::new(sink), Trouble::new(sink));
        let keeping = Keeping { dir, limits, ledger, packer, ages: None, trouble, retention };
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(move || keeping.run(&receiver))?;
        Ok(Self { jobs: Some(sender), thread: Some(thread) })
    }

    /// Asks for what was written so far to be on the disk; while much else is to do, not now.
    pub fn sync(&self, file: &File) {
        if let (Some(jobs), Ok(file)) = (&self.jobs, file.try_clone()) {
            let _ = jobs.try_send(Job::Sync(file));
        }
    }

    pub fn close(&self, closing: Closing) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Job::Close(closing)); // it ends only after this end is gone
        }
    }

    /// Waits until everything is done.
    pub fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the keeper does not panic");
        }
    }
}

/// The keeper's own end.
struct Keeping {
    dir: PathBuf,
    limits: Limits,
    ledger: Arc<Ledger>,
    packer: Option<Packer>,
    /// Of the closed segments by number, once they have been looked at.
    ages: Option<HashMap<u64, Age>>,
    trouble: Trouble,
    /// That of removing old segments, which nothing else may end.
    retention: Trouble,
}

/// An age, counted on by the clock that nobody sets.
#[derive(Clone, Copy)]
struct Age {
    then: Duration,
    since: Instant,
}

impl Age {
    fn new(then: Duration) -> Self {
        Self { then, since: Instant::now() }
    }

    /// That of a file, which is new if it is of the future.
    fn of(metadata: &fs::Metadata) -> Self {
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        Self::new(age.unwrap_or_default())
    }

    fn now(self) -> Duration {
        self.then.saturating_add(self.since.elapsed())
    }
}

/// A closed segment, as it is judged.
struct Closed {
    path: PathBuf,
    number: u64,
    bytes: u64,
    age: Age,
}

impl Keeping {
    fn run(mut self, jobs: &Receiver<Job>) {
        self.retain();
        self.pack_older();
        loop {
            match jobs.recv_timeout(LOOK_EVERY) {
                Ok(Job::Sync(file)) => {
                    let result = file.sync_data();
                    self.note(0, "make sure that a segment is on the disk", result);
                }
                Ok(Job::Close(closing)) => {
                    self.close(closing);
                    self.retain();
                }
                Err(RecvTimeoutError::Timeout) => self.retain(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.ledger.called();
        }
        if let Some(packer) = self.packer {
            packer.finish();
        }
    }

    /// Packs what a run before has closed, and has not packed.
    fn pack_older(&mut self) {
        let Some(packer) = &self.packer else { return };
        let found = directory::list(&self.dir);
        let found = found.inspect_err(|error| self.trouble.failed_uncounted(0, "look for segments to compress", error));
        let closed = found.into_iter().flatten().filter(|entry| entry.state == directory::State::Closed);
        closed.for_each(|entry| packer.pack(entry.path));
    }

    fn close(&mut self, Closing { file, part, packets }: Closing) {
        if packets == 0 {
            let _ = fs::remove_file(&part);
            return;
        }
        let is_synced = self.limits.fsync() != Fsync::Never;
        if is_synced {
            let result = file.sync_all();
            self.note(0, "make sure that a segment is on the disk", result);
        }
        let closed = part.with_extension(""); // without the ending of one that is open
        match fs::rename(&part, &closed) {
            Ok(()) => {
                let result = if is_synced { directory::sync(&self.dir) } else { Ok(()) };
                self.note(0, "make sure that a segment's name is on the disk", result);
                if let Some(packer) = &self.packer {
                    packer.pack(closed);
                }
            }
            // Without its name it is found by the next start, unless it is not there at all any more.
            Err(error) => {
                if directory::is_removed(&file, &part) {
                    self.ledger.lost(packets, "the segment was removed while it was written");
                    self.trouble.failed_uncounted(packets, "close a segment", &error);
                } else {
                    self.note(0, "name a segment", Err(error));
                }
            }
        }
    }

    fn note(&mut self, packets: u64, what: &str, result: io::Result<()>) {
        match result {
            Ok(()) => self.trouble.worked(),
            Err(error) => self.trouble.failed(&self.ledger, packets, what, &error),
        }
    }

    /// How old a closed segment is: at the first look as old as its file, later as known, or else closed just now.
    fn age(&self, number: u64, metadata: &fs::Metadata) -> Age {
        let Some(known) = &self.ages else { return Age::of(metadata) };
        known.get(&number).copied().unwrap_or_else(|| Age::new(Duration::ZERO))
    }

    /// The closed segments, oldest first, and the bytes of all files, what is open and half packed too.
    fn closed(&mut self) -> io::Result<(Vec<Closed>, u64)> {
        let found = directory::list(&self.dir)?.into_iter();
        let there: Vec<(fs::Metadata, Entry)> =
            found.filter_map(|entry| Some((fs::metadata(&entry.path).ok()?, entry))).collect();
        let all_bytes = there.iter().map(|(metadata, _)| metadata.len()).sum();
        let whole = there.into_iter().filter(|(_, entry)| entry.is_whole());
        let closed = whole.map(|(metadata, Entry { path, number, .. })| {
            let (bytes, age) = (metadata.len(), self.age(number, &metadata));
            Closed { path, number, bytes, age }
        });
        let closed: Vec<Closed> = closed.collect();
        self.ages = Some(closed.iter().map(|segment| (segment.number, segment.age)).collect());
        Ok((closed, all_bytes))
    }

    /// Removes closed segments, oldest first, that are too old or too many; the newest stays.
    fn retain(&mut self) {
        let Limits { keep_bytes, keep_for, .. } = self.limits;
        if keep_bytes.is_none() && keep_for.is_none() {
            return;
        }
        let (closed, mut bytes) = match self.closed() {
            Ok(found) => found,
            Err(error) => return self.retention.failed_uncounted(0, "look for old segments", &error),
        };
        let older = closed.split_last().map_or(&[][..], |(_, older)| older);
        let mut is_done = true;
        for segment in older {
            let is_too_old = keep_for.is_some_and(|keep_for| segment.age.now() > keep_for);
            let are_too_many = keep_bytes.is_some_and(|keep_bytes| bytes > keep_bytes);
            if !(is_too_old || are_too_many) {
                continue;
            }
            match remove(&segment.path) {
                Ok(()) => bytes -= segment.bytes,
                Err(error) => {
                    is_done = false;
                    self.retention.failed_uncounted(0, &format!("remove '{}'", segment.path.display()), &error);
                }
            }
        }
        if is_done {
            self.retention.worked();
        }
    }
}

/// Removes a file, unless somebody else has.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
