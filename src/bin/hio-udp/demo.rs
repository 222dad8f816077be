//! `ingest --demo`: an ingest and a blast on this machine, for five seconds.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::account::{grouped, print_line, say};
use crate::args::{BlastOptions, HostPort, IngestOptions, Rate};
use crate::blast::{self, BlastReport};
use crate::failure::Failure;
use crate::ingest::{Ingest, Watch, no_thread, stop_on_signals};
use crate::sinks;
use crate::stop::Stop;
use crate::top;

/// How long the load lasts.
const LOAD_TIME: Duration = Duration::from_secs(5);

/// Size of each datagram: a line of telemetry.
const SIZE_BYTES: usize = 100;

/// How long the receiver may take, after the last datagram was sent, to have seen all of them.
const SETTLE: Duration = Duration::from_secs(2);

pub fn run(mut options: IngestOptions) -> Result<(), Failure> {
    let stop = stop_on_signals(&options)?;
    if let Some(problem) = top::problems(&options).pop() {
        return Err(Failure::Usage(problem));
    }
    let is_json = options.json;
    let path = new_file().map_err(|error| {
        let dir = std::env::temp_dir();
        Failure::run(format!("cannot make a file in '{}': {error}; set TMPDIR to another", dir.display()))
    })?;
    options.bind = vec![HostPort { host: "127.0.0.1".to_owned(), port: 0 }];
    options.out = Some(path.clone());
    let ingest_stop = Stop::default();
    // An ingest that fails ends the load first, so that nothing is sent to a socket that is closed.
    let started = Ingest::start(options, ingest_stop.clone(), Some(stop.clone()));
    let ingest = started.inspect_err(|_| _ = fs::remove_file(&path))?;
    let to = ingest.local();
    if !is_json {
        say(&format!("five seconds of {SIZE_BYTES}-byte datagrams to {to}, stored in {}", path.display()));
    }
    let blaster = start_load(to, ingest.watch(), stop.clone(), ingest_stop)?;
    let (mut account, failure) = ingest.wait();
    stop.ask(); // an ingest that panicked has not
    let blasted = blaster
        .join()
        .unwrap_or_else(|_| Err(Failure::run("the sending thread panicked: this is a bug, please report it")));
    account.sent = blasted.as_ref().ok().map(|(report, _)| report.sent);
    account.print(is_json)?;
    let (report, error) = blasted?;
    if !is_json && failure.is_none() {
        print_line(&format!(
            "sent {}/s, received and written {}/s\nlook inside:  tshark -r {path} | head   or   tcpdump -nr {path} | head",
            grouped(report.datagrams_per_s),
            grouped(account.datagrams_per_s),
            path = path.display(),
        ))?;
    }
    match (failure, error) {
        (Some(failure), _) => Err(failure),
        (None, Some(error)) => Err(Failure::run(format!("sending to {to} failed: {error}"))),
        (None, None) if account.arrived() != report.sent => {
            let (sent, arrived) = (report.sent, account.arrived());
            Err(Failure::run(format!("the account does not add up: {sent} sent, {arrived} accounted for")))
        }
        (None, None) => Ok(()),
    }
}

/// What the load was, and the error that ended it, if one did.
type Blasted = Result<(BlastReport, Option<io::Error>), Failure>;

/// Sends for [`LOAD_TIME`], in a thread of its own, which ends the ingest when this has seen all of it.
fn start_load(
    to: SocketAddr,
    watch: Arc<Watch>,
    stop: Stop,
    ingest_stop: Stop,
) -> Result<JoinHandle<Blasted>, Failure> {
    let load = BlastOptions {
        to: HostPort { host: to.ip().to_string(), port: to.port() },
        size: SIZE_BYTES,
        count: None,
        duration: Some(LOAD_TIME),
        rate: Rate::Max,
        sources: 4,
        json: false,
        // One by one, as a network brings them: rows cut in the kernel come twice as fast as they can be
        // received, and the demo is to show what is received.
        segment: false,
    };
    let thread = thread::Builder::new().name("blast".to_owned()).spawn(move || {
        // However this thread ends, the ingest must not go on for ever.
        let _guard = AskAtEnd(ingest_stop);
        let result = blast::blast(&load, to, &stop);
        let sent = result.as_ref().map_or(0, |(report, _)| report.sent);
        let deadline = Instant::now() + SETTLE;
        while watch.snapshot().arrived() < sent && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        result
    });
    thread.map_err(no_thread)
}

/// Asks for a stop when it goes out of scope.
struct AskAtEnd(Stop);

impl Drop for AskAtEnd {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// Makes an empty file of a name that was free: in a directory that others may write to, anything
/// could lie under a name they can guess, such as a link to a file of ours.
fn new_file() -> io::Result<PathBuf> {
    let id = std::process::id();
    for number in 0..100 {
        let path = std::env::temp_dir().join(format!("hio-udp-demo-{id}-{number}.pcapng"));
        match sinks::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|_| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
