//! `jsonl:FILE` and `jsonl:-`: a line of JSON for each datagram, as `line.rs` makes it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::chunk::Chunk;
use super::directory;
use super::ledger::{Ledger, Trouble};
use super::{Sink, line, opening};
use crate::account::say;
use crate::memory;

/// Lines are written when they are this long together.
const WRITE_BYTES: usize = 256 << 10;

pub struct Jsonl {
    place: Place,
    lines: Vec<u8>,
    /// Lines in `lines`.
    count: u64,
    trouble: Trouble,
    /// What to open anew; none for standard output.
    path: Option<PathBuf>,
    /// Lines that went into what is open.
    lines_written: u64,
    /// Why no line can go there any more.
    gone: Option<String>,
    /// It is to be opened anew, which has not worked yet.
    is_due_anew: bool,
}

enum Place {
    Stdout {
        stdout: io::Stdout,
        /// Whether there is no other sink, so that its end is the ingest's.
        is_only: bool,
    },
    File {
        file: File,
        /// Whether it has a length, which pipes and devices lack.
        is_regular: bool,
        /// Whether it may end with a part of a line.
        is_torn: bool,
    },
}

impl Jsonl {
    /// Ends the ingest when nobody reads standard output any more, if it `is_only` for that.
    pub fn stdout(is_only: bool) -> Self {
        Self::new(Place::Stdout { stdout: io::stdout(), is_only }, "jsonl:-")
    }

    /// Goes on behind what the file holds; a last line that is not whole is cut, and that is said.
    pub fn append(path: &Path, name: &str) -> io::Result<Self> {
        let mut jsonl = Self::new(Place::open(path, name)?, name);
        jsonl.path = Some(path.to_owned());
        jsonl.lines = memory::room(WRITE_BYTES * 2)?;
        Ok(jsonl)
    }

    fn new(place: Place, name: &str) -> Self {
        let (lines, trouble) = (Vec::new(), Trouble::new(name));
        Self { place, lines, count: 0, trouble, path: None, lines_written: 0, gone: None, is_due_anew: false }
    }

    /// Begins the file anew if somebody has removed it: what went into it is lost.
    fn notice_removal(&mut self, ledger: &Ledger) -> io::Result<()> {
        let (Place::File { file, is_regular: true, .. }, Some(path)) = (&self.place, &self.path) else { return Ok(()) };
        if !directory::is_removed(file, path) {
            return Ok(());
        }
        if self.lines_written > 0 {
            let error = io::Error::new(io::ErrorKind::NotFound, "the file was removed while it was written");
            ledger.lost(self.lines_written, &error.to_string());
            self.trouble.failed_uncounted(self.lines_written, "write", &error);
            self.lines_written = 0;
        }
        self.place = Place::open(path, self.trouble.sink())?;
        Ok(())
    }

    /// Opens the path again if that was asked for; as long as it cannot, the old file takes what comes, wherever it
    /// lies now.
    fn open_anew_if_due(&mut self, ledger: &Ledger) {
        let Some(path) = self.path.as_ref().filter(|_| self.is_due_anew).cloned() else { return };
        let opened = self.notice_removal(ledger).and_then(|()| match &self.place {
            Place::File { file, .. } if opening::is_at(file, &path) => Ok(None),
            _ => Place::open(&path, self.trouble.sink()).map(Some),
        });
        match opened {
            Ok(None) => self.is_due_anew = false,
            Ok(Some(place)) => (self.place, self.lines_written, self.is_due_anew) = (place, 0, false),
            Err(error) => self.trouble.failed(ledger, 0, "open it anew", &error),
        }
    }

    /// Writes the lines there are, or counts them where none can be written any more.
    fn flush(&mut self, ledger: &Ledger) {
        match &self.gone {
            Some(reason) => ledger.lacks(self.count, reason),
            None => self.put(ledger),
        }
        self.lines.clear();
        self.count = 0;
    }

    fn put(&mut self, ledger: &Ledger) {
        let (done, result) = match self.notice_removal(ledger) {
            Ok(()) => self.place.write(&self.lines, ledger),
            Err(error) => (0, Err(error)),
        };
        match result {
            Ok(()) => {
                ledger.wrote(self.count, done);
                self.lines_written += self.count;
                self.trouble.worked();
            }
            Err(error) => {
                let whole = self.lines[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let count = self.lines[..whole].iter().filter(|byte| **byte == b'\n').count() as u64;
                ledger.wrote(count, whole);
                self.lines_written += count;
                self.place.cut((done - whole) as u64);
                self.fail(error, self.count - count, ledger);
            }
        }
    }

    /// Standard output does not come back once it has failed, so nothing is left to do then.
    fn fail(&mut self, error: io::Error, lacking: u64, ledger: &Ledger) {
        match self.place {
            Place::File { .. } => self.trouble.failed(ledger, lacking, "write", &error),
            Place::Stdout { is_only: false, .. } => {
                self.trouble.failed(ledger, lacking, "write", &error);
                self.gone = Some(error.to_string());
            }
            Place::Stdout { is_only: true, .. } => {
                ledger.lacks(lacking, &error.to_string());
                ledger.end(error);
            }
        }
    }
}

impl Sink for Jsonl {
    fn write(&mut self, chunk: &Chunk, ledger: &Ledger) {
        if ledger.is_over() {
            return;
        }
        self.open_anew_if_due(ledger);
        for datagram in chunk.datagrams() {
            line::put_line(&mut self.lines, &datagram);
            self.count += 1;
            if self.lines.len() >= WRITE_BYTES {
                self.flush(ledger);
            }
        }
        if self.count > 0 {
            self.flush(ledger);
        }
    }

    fn idle(&mut self, ledger: &Ledger) {
        self.open_anew_if_due(ledger);
    }

    /// Opens the path again, where logrotate and the like have put the old file aside.
    fn reopen(&mut self, ledger: &Ledger) {
        self.is_due_anew = self.path.is_some();
        self.open_anew_if_due(ledger);
    }

    fn close(&mut self, ledger: &Ledger) {
        if self.lines_written > 0 {
            let _ = self.notice_removal(ledger); // its loss counts; nothing is begun any more
        }
    }
}

impl Place {
    fn open(path: &Path, name: &str) -> io::Result<Self> {
        let mut file = opening::append(path)?;
        let metadata = file.metadata()?;
        let (is_regular, len) = (metadata.is_file(), metadata.len());
        if is_regular {
            let whole = whole_lines(&mut file, len)?;
            if whole < len {
                file.set_len(whole)?;
                say(&format!("hio-udp: note: {name}: cut {} bytes of a last line that was not whole", len - whole));
            }
        }
        Ok(Self::File { file, is_regular, is_torn: false })
    }

    /// Writes all; after a failure it gives how much of it went out.
    fn write(&mut self, bytes: &[u8], ledger: &Ledger) -> (usize, io::Result<()>) {
        if let Err(error) = self.end_line() {
            return (0, Err(error));
        }
        let mut done = 0;
        while done < bytes.len() {
            let result = match self {
                Self::Stdout { stdout, .. } => stdout.write(&bytes[done..]),
                Self::File { file, .. } => file.write(&bytes[done..]),
            };
            ledger.called();
            match result {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (done, Err(error)),
            }
        }
        match self {
            Self::Stdout { stdout, .. } => (done, stdout.flush()),
            Self::File { .. } => (done, Ok(())),
        }
    }

    /// Takes back the last bytes of a write that failed, a part of a line, unless somebody else has emptied the
    /// file or added to it since.
    fn cut(&mut self, bytes: u64) {
        let Self::File { file, is_torn, .. } = self else { return };
        *is_torn = bytes > 0 && cut_end(file, bytes).is_err();
    }

    /// Ends the part of a line that could not be taken back.
    fn end_line(&mut self) -> io::Result<()> {
        let Self::File { file, is_regular, is_torn: is_torn @ true } = self else { return Ok(()) };
        let len = file.metadata()?.len();
        if !*is_regular || whole_lines(file, len)? < len {
            file.write_all(b"\n")?;
        }
        *is_torn = false;
        Ok(())
    }
}

/// Cuts the last bytes that were written to a file, if it ends with them.
fn cut_end(file: &mut File, bytes: u64) -> io::Result<()> {
    let end = file.stream_position()?;
    if file.metadata()?.len() != end || end < bytes {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.set_len(end - bytes)
}

/// How many of the first `len` bytes of a file are whole lines.
fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    let mut buffer = [0; 8192];
    let mut end = len;
    while end > 0 {
        let part = &mut buffer[..end.min(8192) as usize];
        let start = end - part.len() as u64;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
