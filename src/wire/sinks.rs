//! Where the entries of an open wire log go: memory, or files.

use std::fs;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::config::WireLogConfig;
use super::files::{self, LogFiles};
use crate::pcapng::{self, Flow};

/// Holds any entry of the default format whole, so that a file never ends inside one.
const FILE_BUFFER_BYTES: usize = 128 << 10;

/// One memory or file.
#[derive(Debug)]
pub(super) enum Sink {
    Memory(Vec<u8>),
    File(BufWriter<Arc<fs::File>>, PathBuf),
}

impl Sink {
    /// Takes the entry whole or, with the error, not at all.
    pub(super) fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                bytes.try_reserve(entry.len())?; // or the end of memory would be that of the program
                bytes.extend_from_slice(entry);
                Ok(())
            }
            Self::File(file, _) if entry.len() < file.capacity() => file.write_all(entry),
            Self::File(file, _) => append_around_buffer(file, entry),
        }
    }

    /// All that was written so far.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        let (file, mut bytes) = match self {
            Self::Memory(bytes) => {
                let mut copy = Vec::new();
                copy.try_reserve_exact(bytes.len())?;
                copy.extend_from_slice(bytes);
                return Ok(copy);
            }
            Self::File(file, _) => (file, Vec::new()),
        };
        file.flush()?;
        let mut file: &fs::File = file.get_ref();
        file.rewind()?;
        let result = file.read_to_end(&mut bytes);
        file.seek(SeekFrom::End(0))?; // where the next entry goes
        result.map(|_| bytes)
    }

    /// Hands everything to the kernel.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file, _) => file.flush(),
        }
    }
}

/// Appends an entry that no buffer holds, or cuts off what was written of it.
fn append_around_buffer(file: &mut BufWriter<Arc<fs::File>>, entry: &[u8]) -> io::Result<()> {
    file.flush()?;
    let mut file: &fs::File = file.get_ref();
    let start = file.stream_position()?;
    file.write_all(entry).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start)));
    })
}

/// Brings what the kernel has of these files to the disk.
pub(super) fn sync(files: &[Arc<fs::File>]) -> io::Result<()> {
    let mut outcome = Ok(());
    for file in files {
        outcome = outcome.and(file.sync_all());
    }
    outcome
}

/// The sinks of an open log, and which side goes to which.
///
/// A temporary directory goes with them.
#[derive(Debug)]
pub(super) struct Sinks {
    sinks: Vec<Sink>,
    rx: Option<usize>,
    tx: Option<usize>,
    pub(super) dir_path: Option<PathBuf>,
    temp_root: Option<PathBuf>,
}

impl Sinks {
    /// Makes empty ones, as the settings say.
    pub(super) fn open(config: &WireLogConfig) -> io::Result<Self> {
        let suffixes = suffixes(config);
        let mut sinks = if config.filed && !suffixes.is_empty() {
            Self::from_files(create_files(config, &suffixes)?)
        } else {
            let sinks = suffixes.iter().map(|_| Sink::Memory(Vec::new())).collect();
            Self { sinks, rx: None, tx: None, dir_path: None, temp_root: None }
        };
        if config.fmt.is_pcapng() {
            let mut start = Vec::new();
            pcapng::put_section(&mut start, concat!("hio-udp ", env!("CARGO_PKG_VERSION")));
            pcapng::put_interface(&mut start, &format!("wire log '{}'", config.name_or_main()));
            sinks.sinks.iter_mut().try_for_each(|sink| sink.append(&start))?;
        }
        sinks.rx = config.rxed.then_some(0);
        sinks.tx = config.txed.then(|| sinks.sinks.len() - 1);
        Ok(sinks)
    }

    fn from_files(LogFiles { directory, files, temp_root }: LogFiles) -> Self {
        let buffered = |file| BufWriter::with_capacity(FILE_BUFFER_BYTES, file);
        let sinks = files.into_iter().map(|(file, path)| Sink::File(buffered(Arc::new(file)), path)).collect();
        Self { sinks, rx: None, tx: None, dir_path: Some(directory), temp_root }
    }

    fn index(&self, flow: Flow) -> Option<usize> {
        match flow {
            Flow::Inbound => self.rx,
            Flow::Outbound => self.tx,
        }
    }

    /// Where one side goes; `None` if it is not logged.
    pub(super) fn of(&mut self, flow: Flow) -> Option<&mut Sink> {
        let index = self.index(flow)?;
        self.sinks.get_mut(index)
    }

    pub(super) fn path(&self, flow: Flow) -> Option<PathBuf> {
        match self.sinks.get(self.index(flow)?)? {
            Sink::File(_, path) => Some(path.clone()),
            Sink::Memory(_) => None,
        }
    }

    /// Hands everything to the kernel; a sink that fails keeps no other from it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for sink in &mut self.sinks {
            outcome = outcome.and(sink.flush());
        }
        outcome
    }

    /// The files, to be brought to the disk with [`sync`].
    pub(super) fn files(&self) -> Vec<Arc<fs::File>> {
        let files = self.sinks.iter().filter_map(|sink| match sink {
            Sink::File(file, _) => Some(Arc::clone(file.get_ref())),
            Sink::Memory(_) => None,
        });
        files.collect()
    }

    /// Brings everything to the disk, unless it goes away anyway.
    pub(super) fn close(mut self) -> io::Result<()> {
        if self.temp_root.is_some() { Ok(()) } else { self.flush().and(sync(&self.files())) }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.sinks.clear(); // not every system removes open files
        if let Some(root) = &self.temp_root {
            if let Err(error) = fs::remove_dir_all(root) {
                log::warn!("cannot remove '{}' of a wire log: {error}", root.display());
            }
        }
    }
}

fn create_files(config: &WireLogConfig, suffixes: &[&str]) -> io::Result<LogFiles> {
    let (prefix, name) = (&config.prefix, config.name_or_main());
    if config.is_temp() {
        files::create_temp(prefix, name, suffixes)
    } else {
        files::create_persistent(&config.head_dir_path, files::home(), prefix, name, suffixes)
    }
}

/// What the names of a log's files end with: one for each sink.
fn suffixes(config: &WireLogConfig) -> Vec<&'static str> {
    let [same, rx, tx] =
        if config.fmt.is_pcapng() { [".pcapng", ".rx.pcapng", ".tx.pcapng"] } else { [".log", ".rx.log", ".tx.log"] };
    if config.samed {
        return if config.rxed || config.txed { vec![same] } else { vec![] };
    }
    let sides = [(config.rxed, rx), (config.txed, tx)];
    sides.into_iter().filter(|(is_on, _)| *is_on).map(|(_, suffix)| suffix).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A file system that fills up, in little: no file of this process may be longer than this.
    ///
    /// In a child, for the limit holds for every thread and the signal ends the process.
    #[test]
    fn an_entry_longer_than_the_buffer_is_refused_whole_too() {
        const CHILD: &str = "HIO_UDP_TEST_FILE_LIMIT";
        if std::env::var_os(CHILD).is_none() {
            let name = "wire::sinks::tests::an_entry_longer_than_the_buffer_is_refused_whole_too";
            let mut child = std::process::Command::new("sh");
            // In blocks of 512 bytes. The signal is ignored, so that write(2) fails with EFBIG.
            child.args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact \"$1\""]);
            let output = child.arg(std::env::current_exe().unwrap()).arg(name).env(CHILD, "1").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            return;
        }
        let path = std::env::temp_dir().join(format!("hio-udp-test-{}-long", std::process::id()));
        let file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap(); // it stays open
        let mut sink = Sink::File(BufWriter::with_capacity(10, Arc::new(file)), PathBuf::new());
        sink.append(b"before").unwrap();
        assert_eq!(sink.append(&[b'x'; 2_000]).unwrap_err().raw_os_error(), Some(libc::EFBIG));
        sink.append(b"behind").unwrap();
        assert_eq!(sink.read().unwrap(), b"beforebehind");
    }

    #[test]
    fn a_full_disk_refuses_entries_whole() {
        // The device that is always full (full(4)).
        let file = fs::File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut sink = Sink::File(BufWriter::with_capacity(10, Arc::new(file)), PathBuf::new());
        sink.append(b"0123456").unwrap();
        for _ in 0..3 {
            let error = sink.append(b"abcdefg").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        }
        sink.append(b"789").unwrap();
        sink.flush().unwrap_err();
        sink.read().unwrap_err();
        let Sink::File(file, _) = sink else { unreachable!() };
        let (_, waiting) = file.into_parts();
        assert_eq!(waiting.unwrap(), b"0123456789");
    }
}
