//! A directory of segments: their names, who may write there, and what a run that was killed left open.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{block, opening};
use crate::account::say;
use crate::packets::Nanos;
use crate::utc;

/// Behind the name of a segment that is not closed.
const PART: &str = ".part";
const ENDING: &str = ".pcapng";
/// Behind the name of a segment that is packed.
const PACKED: &str = ".zst";

/// The highest number of a segment; a name with a higher one is none of ours.
const NUMBER_MAX: u64 = 999_999_999_999;

/// The longest block that is believed in; ours are below 70,000 bytes.
const BLOCK_BYTES_MAX: usize = 16 << 20;

/// A directory that no other ingest writes to.
pub struct Directory {
    pub path: PathBuf,
    /// The number of the next segment.
    pub next: u64,
    /// Locked as long as it is open.
    _lock: Option<File>,
}

impl Directory {
    /// Makes the directory if only it itself is missing, closes the segments that were left open, and removes what
    /// was left of packing, so that each datagram is in one file.
    pub fn open(path: &Path, sink: &str) -> io::Result<Self> {
        if opening::directory(path)? {
            say(&format!(
                "hio-udp: note: {sink}: others may write to this directory, and so remove segments or put others in \
                 their place"
            ));
        }
        let lock = lock(path)?;
        let found = list(path)?;
        let closed = found.iter().filter(|entry| entry.state == State::Closed);
        let has_original: HashSet<PathBuf> = closed.map(|entry| packed(&entry.path)).collect();
        for left in &found {
            match left.state {
                State::Open => repair(left, sink)?,
                State::HalfPacked => fs::remove_file(&left.path)?,
                // The original is whole; this one may not be, after a loss of power.
                State::Packed if has_original.contains(&left.path) => fs::remove_file(&left.path)?,
                State::Closed | State::Packed => {}
            }
        }
        let next = found.iter().map(|entry| entry.number + 1).max().unwrap_or(1);
        Ok(Self { path: path.to_owned(), next, _lock: lock })
    }
}

/// The name of a segment, as long as there are numbers.
pub fn name(time: Nanos, number: u64) -> io::Result<String> {
    if number > NUMBER_MAX {
        return Err(io::Error::other(format!(
            "segment number {NUMBER_MAX} is there, and none comes after it: move it away and start again"
        )));
    }
    Ok(format!("{}-{number:06}{ENDING}", utc::compact(time)))
}

/// A file of ours.
#[derive(Debug)]
pub struct Entry {
    pub path: PathBuf,
    pub number: u64,
    pub state: State,
}

/// What has become of a segment, by the ending of its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Open,
    Closed,
    Packed,
    HalfPacked,
}

impl Entry {
    /// Whether it is whole.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, State::Closed | State::Packed)
    }
}

/// The name of a closed segment when it is packed.
pub fn packed(closed: &Path) -> PathBuf {
    with_ending(closed, PACKED)
}

/// The name of a file that is not whole yet.
pub fn part(path: &Path) -> PathBuf {
    with_ending(path, PART)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Our files in a directory, oldest first; any other is none of our business.
pub fn list(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str() else { continue };
        let (stem, is_part) = name.strip_suffix(PART).map_or((name, false), |stem| (stem, true));
        let (stem, is_packed) = stem.strip_suffix(PACKED).map_or((stem, false), |stem| (stem, true));
        let state = match (is_packed, is_part) {
            (false, true) => State::Open,
            (false, false) => State::Closed,
            (true, false) => State::Packed,
            (true, true) => State::HalfPacked,
        };
        if let Some(number) = number(stem).filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            found.push(Entry { path: entry.path(), number, state });
        }
    }
    found.sort_by_key(|entry| entry.number);
    Ok(found)
}

/// The number in a segment's name; `None` for any other name.
pub(super) fn number(name: &str) -> Option<u64> {
    let (time, number) = name.strip_suffix(ENDING)?.split_once('-')?;
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let is_time = time.len() == 16
        && time.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => is_digit(byte),
        });
    let is_number = number.len() >= 6 && number.bytes().all(is_digit);
    (is_time && is_number).then(|| number.parse().ok())?.filter(|number| *number <= NUMBER_MAX)
}

/// Closes a segment that was left open: cuts what is not a whole block, and gives it its name.
fn repair(left: &Entry, sink: &str) -> io::Result<()> {
    let file = opening::existing(&left.path)?;
    let len = file.metadata()?.len();
    let (whole, packets) = scan(&mut BufReader::with_capacity(1 << 20, &file))?;
    if packets == 0 {
        return fs::remove_file(&left.path);
    }
    file.set_len(whole)?;
    file.sync_all()?;
    let closed = left.path.with_extension(""); // without PART
    fs::rename(&left.path, &closed)?;
    let name = closed.file_name().unwrap_or_default().to_string_lossy();
    say(&format!(
        "hio-udp: note: {sink}: closed {name}, left open by an earlier run: {packets} datagrams kept, {} bytes of a \
         torn tail cut",
        len - whole
    ));
    Ok(())
}

/// How many bytes from the start are whole blocks, and how many packets these hold.
pub(super) fn scan(file: &mut impl Read) -> io::Result<(u64, u64)> {
    let (mut whole, mut packets) = (0, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        file.take(8).read_to_end(&mut bytes)?;
        let Some(len) = bytes.get(4..).and_then(|rest| Some(u32::from_le_bytes(*rest.first_chunk()?))) else {
            return Ok((whole, packets));
        };
        let len = len as usize;
        if !(block::FRAME_BYTES..=BLOCK_BYTES_MAX).contains(&len) {
            return Ok((whole, packets));
        }
        file.take(len as u64 - 8).read_to_end(&mut bytes)?;
        let mut blocks = block::Blocks::new(&bytes);
        let Some(block) = blocks.next().filter(|block| block.is_known()) else { return Ok((whole, packets)) };
        whole += len as u64;
        packets += u64::from(block.kind == block::ENHANCED_PACKET);
    }
}

/// Keeps other ingests out of a directory until the file is closed.
#[cfg(unix)]
fn lock(path: &Path) -> io::Result<Option<File>> {
    let dir = File::open(path)?;
    opening::lock(&dir, "directory")?;
    Ok(Some(dir))
}

#[cfg(not(unix))]
fn lock(_path: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Whether a file that is open has no name any more.
#[cfg(unix)]
pub fn is_removed(file: &File, _path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

#[cfg(not(unix))]
pub fn is_removed(_file: &File, path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

/// Makes sure that names in a directory are on the disk.
pub fn sync(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_ours() {
        let name = name(1_709_251_199_000_000_000, 42).unwrap();
        assert_eq!((name.as_str(), number(&name)), ("20240229T235959Z-000042.pcapng", Some(42)));
        assert_eq!(number("20240229T235959Z-1234567.pcapng"), Some(1_234_567));
        for other in [
            "flows.pcapng",
            "20240229T235959Z-42.pcapng",
            "20240229T235959Z-000042.pcap",
            "20240229T235959Z-00004x.pcapng",
            "x20240229T235959Z-000042.pcapng",
            "2024-02-29T23:59-000042.pcapng",
            "20240229T235959Z.pcapng",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn a_scan_stops_at_the_first_block_that_is_not_whole() {
        let addr = "127.0.0.1:9".parse().unwrap();
        let mut bytes = super::super::chunk::preamble("127.0.0.1:9");
        let mut ends = vec![bytes.len()];
        for size in [0, 1, 100, 9000] {
            hio_udp::pcapng::Packet::new(&vec![7; size], addr, addr, std::time::SystemTime::now()).put(&mut bytes);
            ends.push(bytes.len());
        }
        for cut in ends[0]..=bytes.len() {
            let packets = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(scan(&mut &bytes[..cut]).unwrap(), (ends[packets] as u64, packets as u64), "of {cut} bytes");
        }
        // Zeros, as a file system may leave them behind a loss of power.
        let whole = bytes.len();
        bytes.resize(whole + 5000, 0);
        assert_eq!(scan(&mut bytes.as_slice()).unwrap(), (whole as u64, 4));
    }
}
