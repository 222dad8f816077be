//! `jsonl:FILE` and `jsonl:-`: a line of JSON for each datagram.
//!
//! ```text
//! {"time":"2026-11-25T00:26:00.123456789Z","src":"192.0.2.1:9000","dst":"192.0.2.2:2055","len":5,"text":"hello"}
//! {"time":…,"src":…,"dst":…,"dropped":3,"len":1000,"original_len":9001,"truncated":true,"base64":"/wD/…"}
//! ```
//!
//! The time is text because a number of nanoseconds does not fit what most readers of JSON take numbers
//! for, a double. A payload that is UTF-8 is `text`, any other is `base64` (RFC 4648, 4). `dropped` is
//! how many datagrams the kernel dropped before this one; `original_len` and `truncated` are only there
//! for one that was cut.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::chunk::{Chunk, Datagram};
use super::directory;
use super::ledger::{Ledger, Trouble};
use super::{Sink, opening};
use crate::account::say;
use crate::utc;

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
}

enum Place {
    Stdout(io::Stdout),
    /// A file, and its length behind the last whole line; `None` where it cannot be cut, as a pipe.
    File(File, Option<u64>),
}

impl Jsonl {
    pub fn stdout() -> Self {
        Self::new(Place::Stdout(io::stdout()), "jsonl:-")
    }

    /// Goes on behind what the file holds; a last line that is not whole is cut, and that is said.
    pub fn append(path: &Path, name: &str) -> io::Result<Self> {
        let mut jsonl = Self::new(Place::open(path, name)?, name);
        jsonl.path = Some(path.to_owned());
        jsonl.lines.try_reserve_exact(WRITE_BYTES * 2).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(jsonl)
    }

    fn new(place: Place, name: &str) -> Self {
        Self { place, lines: Vec::new(), count: 0, trouble: Trouble::new(name), path: None, lines_written: 0 }
    }

    /// Begins the file anew if somebody has removed it: what went into it is lost.
    fn notice_removal(&mut self, ledger: &Ledger) -> io::Result<()> {
        let (Place::File(file, Some(_)), Some(path)) = (&self.place, &self.path) else { return Ok(()) };
        if !directory::is_removed(file, path) {
            return Ok(());
        }
        if self.lines_written > 0 {
            let error = io::Error::new(io::ErrorKind::NotFound, "the file was removed while it was written");
            ledger.lost(self.lines_written, &error.to_string());
            self.trouble.tell(self.lines_written, "write", &error);
            self.lines_written = 0;
        }
        self.place = Place::open(path, self.trouble.sink())?;
        Ok(())
    }

    /// Writes the lines there are.
    fn flush(&mut self, ledger: &Ledger) {
        let (done, result) = match self.notice_removal(ledger) {
            Ok(()) => self.place.write(&self.lines, ledger),
            Err(error) => (0, Err(error)),
        };
        match result {
            Ok(()) => {
                ledger.wrote(self.count, done);
                self.lines_written += self.count;
                self.trouble.is_over();
            }
            Err(error) => {
                let whole = self.lines[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let count = self.lines[..whole].iter().filter(|byte| **byte == b'\n').count() as u64;
                ledger.wrote(count, whole);
                self.lines_written += count;
                self.place.cut(whole);
                self.fail(error, self.count - count, ledger);
            }
        }
        self.lines.clear();
        self.count = 0;
    }

    /// Standard output does not come back once it has failed, so nothing is left to do then.
    fn fail(&mut self, error: io::Error, lacking: u64, ledger: &Ledger) {
        match self.place {
            Place::File(..) => self.trouble.has(ledger, lacking, "write", &error),
            Place::Stdout(_) => {
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
        for datagram in chunk.datagrams() {
            put_line(&mut self.lines, &datagram);
            self.count += 1;
            if self.lines.len() >= WRITE_BYTES {
                self.flush(ledger);
            }
        }
        if self.count > 0 {
            self.flush(ledger);
        }
    }

    fn close(&mut self, ledger: &Ledger) {
        if self.lines_written > 0 {
            let _ = self.notice_removal(ledger); // its loss counts; nothing is begun any more
        }
    }

    /// Opens the path again, where logrotate and the like have put the old file aside.
    fn reopen(&mut self, ledger: &Ledger) {
        let result = self.notice_removal(ledger);
        let Some(path) = &self.path else { return };
        match result.and_then(|()| Place::open(path, self.trouble.sink())) {
            Ok(place) => (self.place, self.lines_written) = (place, 0),
            // The old file takes what comes, wherever it lies now.
            Err(error) => self.trouble.has(ledger, 0, "open it anew", &error),
        }
    }
}

impl Place {
    fn open(path: &Path, name: &str) -> io::Result<Self> {
        let mut file = opening::append(path)?;
        if !file.metadata()?.is_file() {
            return Ok(Self::File(file, None));
        }
        let len = file.metadata()?.len();
        let whole = whole_lines(&mut file, len)?;
        if whole < len {
            file.set_len(whole)?;
            say(&format!("hio-udp: note: {name}: cut {} bytes of a last line that was not whole", len - whole));
        }
        Ok(Self::File(file, Some(whole)))
    }

    /// Writes all; after a failure it gives how much of it went out.
    fn write(&mut self, bytes: &[u8], ledger: &Ledger) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < bytes.len() {
            let result = match self {
                Self::Stdout(stdout) => stdout.write(&bytes[done..]),
                Self::File(file, _) => file.write(&bytes[done..]),
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
            Self::Stdout(stdout) => (done, stdout.flush()),
            Self::File(_, len) => {
                *len = len.map(|len| len + done as u64);
                (done, Ok(()))
            }
        }
    }

    /// Takes back what follows the last whole line of a write that failed behind `whole` bytes.
    fn cut(&mut self, whole: usize) {
        if let Self::File(file, Some(len)) = self {
            *len += whole as u64;
            let _ = file.set_len(*len);
        }
    }
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

/// Appends a datagram's line.
pub(super) fn put_line(out: &mut Vec<u8>, datagram: &Datagram<'_>) {
    let Datagram { time_ns, src, dst, data, original_len, dropped } = *datagram;
    let ends_well = "memory takes everything";
    write!(out, r#"{{"time":"{}","src":"{src}","dst":"{dst}""#, utc::exact(time_ns.into())).expect(ends_well);
    if dropped > 0 {
        write!(out, r#","dropped":{dropped}"#).expect(ends_well);
    }
    write!(out, r#","len":{}"#, data.len()).expect(ends_well);
    if datagram.is_cut() {
        write!(out, r#","original_len":{original_len},"truncated":true"#).expect(ends_well);
    }
    match std::str::from_utf8(data) {
        Ok(text) => {
            out.extend_from_slice(br#","text":"#);
            serde_json::to_writer(&mut *out, text).expect("a string always serialises");
        }
        Err(_) => {
            out.extend_from_slice(br#","base64":""#);
            put_base64(out, data);
            out.push(b'"');
        }
    }
    out.extend_from_slice(b"}\n");
}

fn put_base64(out: &mut Vec<u8>, data: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for part in data.chunks(3) {
        let byte = |at: usize| u32::from(part.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |at: usize| DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
        let padded = |at: usize| if at <= part.len() { digit(at) } else { b'=' };
        out.extend_from_slice(&[digit(0), digit(1), padded(2), padded(3)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (data, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            let mut out = Vec::new();
            put_base64(&mut out, data.as_bytes());
            assert_eq!(out, text.as_bytes());
        }
        let mut out = Vec::new();
        put_base64(&mut out, &[0xFB, 0xFF, 0xFE]);
        assert_eq!(out, b"+//+");
    }

    #[test]
    fn a_line_is_one_object_with_text_or_base64() {
        let datagram = |data, original_len, dropped| Datagram {
            time_ns: 1_709_251_199_000_000_007,
            src: "192.0.2.1:9".parse().unwrap(),
            dst: "[2001:db8::1]:10".parse().unwrap(),
            data,
            original_len,
            dropped,
        };
        let mut out = Vec::new();
        put_line(&mut out, &datagram(b"say \"hi\"\n", 9, 0));
        put_line(&mut out, &datagram(&[0xFF, 0], 9001, 3));
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({"time": "2024-02-29T23:59:59.000000007Z", "src": "192.0.2.1:9",
                "dst": "[2001:db8::1]:10", "len": 9, "text": "say \"hi\"\n"})
        );
        assert_eq!(
            lines[1],
            serde_json::json!({"time": "2024-02-29T23:59:59.000000007Z", "src": "192.0.2.1:9",
                "dst": "[2001:db8::1]:10", "dropped": 3, "len": 2, "original_len": 9001, "truncated": true,
                "base64": "/wA="})
        );
    }
}
