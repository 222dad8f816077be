//! `--out FILE`: one capture, which ends the ingest when it cannot be written.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hio_udp::pcapng::Statistics;

use super::chunk::{self, Chunk, SoFar};
use super::ledger::Ledger;
use super::{Sink, block, directory, opening};
use crate::stop::Stop;

/// A capture being written; it ends behind a whole block at any time.
pub struct Capture {
    file: File,
    /// Bytes of whole blocks in it.
    pub len: u64,
}

impl Capture {
    /// Begins a capture in an empty file.
    pub fn begin(file: File, place: &str, ledger: &Ledger) -> io::Result<Self> {
        let mut capture = Self { file, len: 0 };
        capture.put(&chunk::preamble(place), ledger).1?;
        Ok(capture)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn into_file(self) -> File {
        self.file
    }

    /// Writes blocks, and counts the packets that are in the file then: all of them, or those of the
    /// blocks that went out whole before it failed. Behind drops it writes what became of all datagrams.
    pub fn write(&mut self, chunk: &Chunk, so_far: SoFar, ledger: &Ledger) -> (u64, io::Result<()>) {
        let before = self.len;
        let (whole_packets, mut result) = self.put(&chunk.blocks, ledger);
        let packets = if result.is_ok() { chunk.packets } else { whole_packets };
        ledger.wrote(packets, (self.len - before) as usize);
        if result.is_ok() && chunk.dropped > 0 {
            result = self.write_statistics(&so_far.statistics(), ledger);
        }
        (packets, result)
    }

    /// Writes statistics.
    pub fn write_statistics(&mut self, statistics: &Statistics, ledger: &Ledger) -> io::Result<()> {
        let mut blocks = Vec::new();
        statistics.put(&mut blocks);
        self.put(&blocks, ledger).1
    }

    /// Writes blocks. After a failure it gives the packets among those that went out whole, behind which
    /// the file is cut.
    fn put(&mut self, blocks: &[u8], ledger: &Ledger) -> (u64, io::Result<()>) {
        let mut done = 0;
        let error = loop {
            if done == blocks.len() {
                self.len += done as u64;
                return (0, Ok(()));
            }
            let result = self.file.write(&blocks[done..]);
            ledger.called();
            match result {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let (whole, packets) = block::whole(&blocks[..done]);
        self.len += whole as u64;
        // A pipe or a device cannot be cut; the first error is the one to tell.
        let _ = self.file.set_len(self.len);
        let _ = self.file.seek(SeekFrom::Start(self.len));
        (packets, Err(error))
    }
}

/// The sink of `--out`.
pub struct Out {
    capture: Capture,
    path: PathBuf,
    /// A file without a name from the start has none to lose.
    has_name: bool,
    so_far: SoFar,
    /// Why nothing more is written.
    failed: Option<String>,
}

impl Out {
    /// Opens the file, or makes one, which the sink may write to once it is begun; waits until a pipe is read, or
    /// `stop`.
    pub fn open(path: &Path, place: &str, ledger: &Arc<Ledger>, stop: &Stop) -> io::Result<(Self, Beginning)> {
        let is_new = fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let file = opening::create(path, || stop.asked())?;
        let has_name = !directory::is_removed(&file, path);
        let (path, preamble) = (path.to_owned(), chunk::preamble(place));
        let capture = Capture { file, len: 0 };
        let (ledger, stop) = (Arc::clone(ledger), stop.clone());
        let beginning = Beginning { capture, path: path.clone(), is_new, preamble, ledger, stop };
        let capture = Capture { file: beginning.capture.file.try_clone()?, len: beginning.preamble.len() as u64 };
        Ok((Self { capture, path, has_name, so_far: SoFar::default(), failed: None }, beginning))
    }

    /// Ends the ingest.
    fn fail(&mut self, error: io::Error, ledger: &Ledger) {
        self.failed = Some(error.to_string());
        ledger.end(error);
    }
}

/// The file of `--out` while all else is started: it holds what it held until it is begun. Where it never is, because
/// something fails, it stays as it is, and goes if it was not there before.
pub struct Beginning {
    capture: Capture,
    path: PathBuf,
    /// Whether it was made here.
    is_new: bool,
    preamble: Vec<u8>,
    ledger: Arc<Ledger>,
    stop: Stop,
}

impl Beginning {
    /// Empties the file, and begins a capture in it; waits until a pipe has room, or a stop.
    pub fn begin(mut self) -> io::Result<()> {
        opening::wait_for_room(&self.capture.file, || self.stop.asked())?;
        if self.capture.file.metadata()?.is_file() {
            self.capture.file.set_len(0)?;
        }
        self.capture.put(&self.preamble, &self.ledger).1?;
        self.is_new = false; // from now on it stays
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if self.is_new && opening::is_at(&self.capture.file, &self.path) {
            let _ = fs::remove_file(&self.path); // what made the start fail is the one to tell
        }
    }
}

impl Sink for Out {
    fn write(&mut self, chunk: &Chunk, ledger: &Ledger) {
        self.idle(ledger);
        // What comes after a failure is not written: the file holds the first datagrams, without a hole.
        if let Some(reason) = &self.failed {
            return ledger.lacks(chunk.packets, reason);
        }
        self.so_far.add(chunk);
        if let (packets, Err(error)) = self.capture.write(chunk, self.so_far, ledger) {
            ledger.lacks(chunk.packets - packets, &error.to_string());
            self.fail(error, ledger);
        }
    }

    /// Ends it if somebody has removed the file: what was in it is lost.
    fn idle(&mut self, ledger: &Ledger) {
        if self.has_name && !ledger.is_over() && directory::is_removed(self.capture.file(), &self.path) {
            let error = io::Error::new(io::ErrorKind::NotFound, "the file was removed while it was written");
            ledger.lost(ledger.written(), &error.to_string());
            self.fail(error, ledger);
        }
    }

    fn close(&mut self, ledger: &Ledger) {
        self.idle(ledger);
        if ledger.is_over() {
            return;
        }
        if let Err(error) = self.capture.write_statistics(&self.so_far.statistics(), ledger) {
            ledger.end(error);
        }
    }
}
