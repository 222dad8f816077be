//! What `--out` and `--sink` ask for, and its opening.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::file::{Beginning, Out};
use super::jsonl::Jsonl;
use super::ledger::Ledger;
use super::null::Null;
use super::relay::Relay;
use super::segments::Segments;
#[cfg(unix)]
use super::unix_peer::UnixPeer;
use super::{Entry, Sink, WhenFull, opening};
use crate::args::{HostPort, IngestOptions, destination, period, size};
use crate::failure::Failure;
use crate::stop::Stop;

/// The kind of `--out`.
pub const OUT: &str = "out";

/// One `--sink`, not opened yet.
#[derive(Clone, Debug)]
pub struct Spec {
    /// As it was given.
    text: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Segments(PathBuf),
    Stdout,
    Lines(PathBuf),
    Udp(HostPort),
    #[cfg(unix)]
    Unix(PathBuf),
    Null,
}

const EXPECTED: &str = "want pcapng:DIR, jsonl:FILE, jsonl:-, udp:ADDR:PORT, unix:PATH or null";

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = match text.split_once(':') {
            None if text == "null" => Place::Null,
            Some((_, "")) | None => return Err(EXPECTED.to_owned()),
            Some(("pcapng", dir)) => Place::Segments(dir.into()),
            Some(("jsonl", "-")) => Place::Stdout,
            Some(("jsonl", path)) => Place::Lines(path.into()),
            Some(("udp", to)) => Place::Udp(destination(to)?),
            #[cfg(unix)]
            Some(("unix", path)) => Place::Unix(path.into()),
            Some(_) => return Err(EXPECTED.to_owned()),
        };
        Ok(Self { text: text.to_owned(), place })
    }
}

impl Spec {
    /// Whether standard output is its place by name.
    pub fn takes_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// Whether it writes to where standard output goes, under whatever name.
    fn leads_to_stdout(&self) -> bool {
        match &self.place {
            Place::Stdout => true,
            Place::Lines(path) => opening::is_stdout(path),
            _ => false,
        }
    }

    pub fn is_segments(&self) -> bool {
        matches!(self.place, Place::Segments(_))
    }
}

/// How the segments of `pcapng:DIR` follow each other, and how long they stay.
#[derive(Args, Clone, Copy, Debug)]
pub struct Limits {
    /// A segment of pcapng:DIR is no longer than this, or than what is handed over at once, up to 1.1M; K, M, G may
    /// stand behind (1024, …). [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub rotate_bytes: Option<u64>,

    /// A segment ends after so many seconds; m, h, d may stand behind.
    #[arg(long, value_name = "S", value_parser = period)]
    pub rotate_every: Option<Duration>,

    /// Remove the oldest closed segments, but for the newest, when all files together are larger, what is open too.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub keep_bytes: Option<u64>,

    /// Remove closed segments that are older.
    #[arg(long, value_name = "S", value_parser = period)]
    pub keep_for: Option<Duration>,

    /// Compress closed segments (Zstandard); inspect and replay read them so, too.
    #[arg(long)]
    pub zstd: bool,

    /// When segments are made sure to be on the disk, for a loss of power. [default: segment]
    #[arg(long, value_name = "WHEN")]
    pub fsync: Option<Fsync>,
}

/// When what was written is made sure to be on the disk, where a loss of power leaves it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Fsync {
    /// The system decides.
    Never,
    /// Once a second, and when a segment is closed.
    Interval,
    /// When a segment is closed.
    Segment,
    /// After every write.
    Batch,
}

impl Limits {
    pub fn fsync(&self) -> Fsync {
        self.fsync.unwrap_or(Fsync::Segment)
    }

    /// The options that were given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            (self.rotate_bytes.is_some(), "--rotate-bytes"),
            (self.rotate_every.is_some(), "--rotate-every"),
            (self.keep_bytes.is_some(), "--keep-bytes"),
            (self.keep_for.is_some(), "--keep-for"),
            (self.zstd, "--zstd"),
            (self.fsync.is_some(), "--fsync"),
        ];
        given.into_iter().filter_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// What `--out` calls standard output, and what the system does.
const STDOUT: (&str, &str) = ("-", "/dev/stdout");

/// The file that `--out` names.
pub fn out_path(name: PathBuf) -> PathBuf {
    if cfg!(unix) && name == Path::new(STDOUT.0) { STDOUT.1.into() } else { name }
}

/// Whether datagrams are written to standard output, which is then no place for anything else.
pub fn take_stdout(options: &IngestOptions) -> bool {
    options.out.as_deref().is_some_and(opening::is_stdout) || options.sinks.iter().any(Spec::leads_to_stdout)
}

/// What does not go together.
pub fn problems(options: &IngestOptions) -> Vec<String> {
    let sinks = &options.sinks;
    let idle = options.segments.given().filter(|_| !sinks.iter().any(Spec::is_segments));
    let idle = idle.map(|name| format!("{name} is about segments: give a --sink pcapng:DIR too"));
    let count = |text: &str, sinks: &[Spec]| sinks.iter().filter(|sink| sink.text == text).count();
    let twice = sinks.iter().enumerate().filter(|(at, sink)| count(&sink.text, &sinks[..*at]) == 1);
    let both = options.out.as_deref() == Some(Path::new(STDOUT.1)) && sinks.iter().any(Spec::takes_stdout);
    let both =
        both.then(|| "--out and --sink jsonl:- cannot both have standard output: write one to a file".to_owned());
    idle.chain(twice.map(|(_, sink)| format!("--sink {} is given twice", sink.text))).chain(both).collect()
}

/// Opens every sink that is asked for; captures tell that datagrams came to `place`. What is sent to an address
/// that `leads_back` would be received, and sent, for ever. Nothing is waited for longer than to `stop`.
///
/// The file of `--out` is as it was until it is begun, which is to come last.
pub fn open(
    options: &IngestOptions,
    place: &str,
    leads_back: impl Fn(SocketAddr) -> bool,
    stop: &Stop,
) -> Result<(Vec<Entry>, Option<Beginning>), Failure> {
    let out = options.out.as_ref().map(|path| open_out(path, place, stop)).transpose()?;
    let (out, beginning) = out.unzip();
    let sinks = options.sinks.iter().map(|spec| open_sink(spec, options, place, &leads_back));
    let entries = out.into_iter().map(Ok).chain(sinks).collect::<Result<_, _>>()?;
    Ok((entries, beginning))
}

fn open_out(path: &Path, place: &str, stop: &Stop) -> Result<(Entry, Beginning), Failure> {
    let ledger = Arc::new(Ledger::default());
    let (sink, beginning) = Out::open(path, place, &ledger, stop).map_err(|error| cannot_write(path, &error))?;
    let name = path.to_string_lossy().into_owned();
    let entry = Entry { name, kind: OUT, when_full: WhenFull::Wait, is_prompt: false, sink: Box::new(sink), ledger };
    Ok((entry, beginning))
}

/// What is told of a file of `--out` that cannot be opened or begun.
fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::run(format!("cannot write '{}': {error}; choose another --out", path.display()))
}

/// Empties the file of `--out` and begins a capture in it.
pub fn begin(beginning: Beginning) -> Result<(), Failure> {
    let path = beginning.path().to_owned();
    beginning.begin().map_err(|error| cannot_write(&path, &error))
}

fn open_sink(
    spec: &Spec,
    options: &IngestOptions,
    place: &str,
    leads_back: impl Fn(SocketAddr) -> bool,
) -> Result<Entry, Failure> {
    let Spec { text, place: what } = spec;
    let ledger = Arc::new(Ledger::default());
    let cannot = |error| Failure::run(format!("cannot open --sink {text}: {error}; choose another place for it"));
    let (kind, sink): (_, Box<dyn Sink>) = match what {
        Place::Segments(dir) => {
            let segments = Segments::open(dir, text, options.segments, place, &ledger).map_err(cannot)?;
            ("pcapng", Box::new(segments))
        }
        Place::Stdout => {
            let is_only = options.sinks.len() == 1 && options.out.is_none();
            ("jsonl", Box::new(Jsonl::stdout(is_only)))
        }
        Place::Lines(path) => ("jsonl", Box::new(Jsonl::append(path, text).map_err(cannot)?)),
        Place::Udp(to) => {
            let to = to.resolve(&format!("--sink {text}"))?;
            if leads_back(to) {
                return Err(cannot(io::Error::other(
                    "it leads back to this ingest, so each datagram would go round for ever",
                )));
            }
            ("udp", Box::new(Relay::open(to, text).map_err(cannot)?))
        }
        #[cfg(unix)]
        Place::Unix(path) => ("unix", Box::new(UnixPeer::open(path, text).map_err(cannot)?)),
        Place::Null => ("null", Box::new(Null)),
    };
    let (when_full, is_prompt) = match what {
        Place::Segments(_) | Place::Lines(_) | Place::Null => (WhenFull::Wait, false),
        Place::Stdout => (WhenFull::Wait, true),
        Place::Udp(_) => (WhenFull::Skip, true),
        #[cfg(unix)]
        Place::Unix(_) => (WhenFull::Skip, true),
    };
    Ok(Entry { name: text.clone(), kind, when_full, is_prompt, sink, ledger })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_places_are_told_apart() {
        for text in ["pcapng:/a:b", "jsonl:-", "jsonl:x", "udp:[::1]:9", "null"] {
            let spec: Spec = text.parse().unwrap();
            assert_eq!(spec.text, text);
            assert_eq!((spec.takes_stdout(), spec.is_segments()), (text == "jsonl:-", text == "pcapng:/a:b"));
        }
        for text in ["", "pcapng", "pcapng:", "null:x", "kafka:x", ":x", "jsonl:"] {
            assert_eq!(text.parse::<Spec>().unwrap_err(), EXPECTED, "{text}");
        }
        assert!("udp:127.0.0.1:0".parse::<Spec>().unwrap_err().contains("port 0"));
    }
}
