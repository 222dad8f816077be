//! `--zstd`: closed segments become smaller, one after the other, in a thread that nobody waits for.
//!
//! A packed segment is written beside the closed one, under its name with `.zst.part` behind it; it takes its
//! place when it is whole. So whatever ends the program, there is one that is whole.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use ruzstd::encoding::{CompressionLevel, compress};

use super::ledger::{Ledger, Trouble};
use super::{directory, opening};
use crate::memory;

const BUFFER_BYTES: usize = 1 << 20;
/// More than the compressor takes, which ends the program where it does not get it.
const COMPRESSOR_BYTES: usize = 10 << 20;

/// The keeper's end.
pub struct Packer {
    closed: Sender<PathBuf>,
    thread: JoinHandle<()>,
}

impl Packer {
    /// With `is_synced`, a packed segment is on the disk before the closed one is removed.
    pub fn start(dir: &Path, sink: &str, is_synced: bool, ledger: Arc<Ledger>) -> io::Result<Self> {
        let (closed, paths) = mpsc::channel();
        let mut packing = Packing { dir: dir.to_owned(), is_synced, ledger, trouble: Trouble::new(sink) };
        let thread = thread::Builder::new().name("packer".to_owned()).spawn(move || packing.run(&paths))?;
        Ok(Self { closed, thread })
    }

    /// Lets a closed segment become smaller, when its turn comes.
    pub fn pack(&self, closed: PathBuf) {
        let _ = self.closed.send(closed); // it ends only after this end is gone
    }

    /// Waits until every segment is packed.
    pub fn finish(self) {
        drop(self.closed);
        self.thread.join().expect("the packer does not panic");
    }
}

/// The packer's own end.
struct Packing {
    dir: PathBuf,
    is_synced: bool,
    ledger: Arc<Ledger>,
    trouble: Trouble,
}

impl Packing {
    fn run(&mut self, paths: &Receiver<PathBuf>) {
        for closed in paths {
            match self.pack(&closed) {
                Ok(()) => self.trouble.worked(),
                // Too old, it was removed before its turn came.
                Err(_) if !closed.exists() => {}
                Err(error) => self.trouble.failed_uncounted(0, "compress a segment, which stays as it is", &error),
            }
        }
    }

    fn pack(&self, closed: &Path) -> io::Result<()> {
        let packed = directory::packed(closed);
        let part = directory::part(&packed);
        let result = self.write(closed, &part).and_then(|()| fs::rename(&part, &packed));
        if result.is_err() {
            let _ = fs::remove_file(&part);
        }
        result?;
        let on_disk = if self.is_synced { directory::sync(&self.dir) } else { Ok(()) };
        // Never both: each datagram is in one file.
        on_disk.and_then(|()| fs::remove_file(closed)).inspect_err(|_| _ = fs::remove_file(&packed))
    }

    fn write(&self, closed: &Path, part: &Path) -> io::Result<()> {
        memory::require(COMPRESSOR_BYTES)?;
        let from = File::open(closed)?;
        let modified = from.metadata()?.modified()?;
        let to = opening::create_new(part)?;
        let mut source =
            Careful { inner: BufReader::with_capacity(BUFFER_BYTES, from), error: None, ledger: &self.ledger };
        let mut drain =
            Careful { inner: BufWriter::with_capacity(BUFFER_BYTES, to), error: None, ledger: &self.ledger };
        compress(&mut source, &mut drain, CompressionLevel::Fastest);
        let to = drain.inner.into_inner().map_err(io::IntoInnerError::into_error);
        if let Some(error) = source.error.or(drain.error) {
            return Err(error);
        }
        let to = to?;
        to.set_modified(modified)?; // by which its age is told
        if self.is_synced { to.sync_all() } else { Ok(()) }
    }
}

/// Keeps an error from the compressor, which would panic: it is shown an end, or a place that takes everything.
struct Careful<'l, T> {
    inner: T,
    error: Option<io::Error>,
    ledger: &'l Ledger,
}

impl<T: Read> Read for Careful<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ledger.called(); // so that a stop sees it work
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error.get_or_insert(error);
                    return Ok(0);
                }
                read => return read,
            }
        }
    }
}

impl<T: Write> Write for Careful<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_none() {
            self.error = self.inner.write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_either_side_reaches_the_caller_and_no_panic_does() {
        struct Bad;
        impl Read for Bad {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::Other.into())
            }
        }
        impl Write for Bad {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let ledger = Ledger::default();
        let careful = |inner| Careful { inner, error: None, ledger: &ledger };
        let (mut source, mut drain) = (careful(Bad), careful(Bad));
        compress(&mut source, &mut drain, CompressionLevel::Fastest);
        assert_eq!(source.error.unwrap().kind(), io::ErrorKind::Other);
        assert_eq!(drain.error.unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
