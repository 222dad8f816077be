//! `ingest`: receive, store, account.
//!
//! One thread receives and hands datagrams to the sinks, which have threads of their own; the main thread
//! shows the status line and waits for the stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use hio_udp::{BatchPeer, Direction, Gram, PeerConfig, Stats, Transport};

use crate::account::{Account, say};
use crate::args::IngestOptions;
use crate::failure::Failure;
use crate::probe::Tracker;
use crate::sinks::{self, Sinks};
use crate::status::{self, Live, StatusLine};
use crate::stop::Stop;

/// How long the receiver waits for a datagram before it looks around: for a stop, the clock, the file.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// After a stop, how long after the queue was first found empty it is looked at once more.
const LAST_LOOK_AFTER: Duration = Duration::from_millis(1);

/// After a stop, how many receive errors end the reading out.
const ERRORS_MAX: usize = 64;

/// How often the receiver looks around while datagrams keep coming.
const LOOK_AROUND_BUSY: Duration = Duration::from_millis(100);

pub fn run(options: IngestOptions) -> Result<(), Failure> {
    let stop = Stop::on_signals().map_err(|error| Failure::run(format!("cannot catch signals: {error}")))?;
    sinks::check(&options)?;
    let (is_json, is_stdout_taken) = (options.json, options.sinks.iter().any(sinks::Spec::takes_stdout));
    let ingest = Ingest::start(options, stop, None)?;
    say(&format!("receiving on {}; Ctrl-C stops", ingest.local));
    let (account, failure) = ingest.wait();
    let printed = if is_stdout_taken { account.say(is_json) } else { account.print(is_json) };
    failure.map_or(printed, Err)
}

/// A running ingest.
pub struct Ingest {
    pub local: SocketAddr,
    live: Arc<Mutex<Live>>,
    receiver: JoinHandle<(Account, Option<Failure>)>,
}

impl Ingest {
    /// Opens socket and file, and starts receiving.
    ///
    /// An ingest with a `sender` of its own ends at `stop` only: when it is done or has failed before, it
    /// asks the sender to stop, and leaves behind what still comes.
    pub fn start(options: IngestOptions, stop: Stop, sender: Option<Stop>) -> Result<Self, Failure> {
        let bind = options.bind.resolve()?;
        let peer = open_peer(&options, bind)?;
        let local = peer.ha();
        let stop = stop.or_at(options.duration.and_then(|duration| Instant::now().checked_add(duration)));
        let entries = sinks::open(&options, local)?;
        let sinks = if entries.is_empty() {
            None
        } else {
            let sinks = Sinks::start(entries, local, stop.clone(), options.drain);
            Some(sinks.map_err(|error| Failure::run(format!("cannot start a thread: {error}")))?)
        };
        let live = Arc::new(Mutex::new(Live::default()));
        let receiver = Receiver::new(peer, sinks, &options, stop, sender, Arc::clone(&live), thread::current());
        let receiver = thread::Builder::new()
            .name("receiver".to_owned())
            .spawn(move || receiver.run())
            .map_err(|error| Failure::run(format!("cannot start a thread: {error}")))?;
        Ok(Self { local, live, receiver })
    }

    /// A way for another thread to see what has been received so far.
    pub fn live_handle(&self) -> impl Fn() -> Live + Send + 'static {
        let live = Arc::clone(&self.live);
        move || *live.lock().expect("nobody panics with the lock held")
    }

    /// Shows the status line until the receiver ends.
    pub fn wait(self) -> (Account, Option<Failure>) {
        let (mut line, live) = (StatusLine::new(), self.live_handle());
        while !self.receiver.is_finished() {
            thread::park_timeout(status::REFRESH_EVERY);
            line.show(live());
        }
        line.clear();
        self.receiver.join().unwrap_or_else(|_| {
            (Account::default(), Some(Failure::run("the receiving thread panicked: this is a bug, please report it")))
        })
    }
}

fn open_peer(options: &IngestOptions, bind: SocketAddr) -> Result<BatchPeer, Failure> {
    let stored = options.out.is_some() || !options.sinks.is_empty();
    let config = PeerConfig::new()
        .name("ingest")
        .ha(bind)
        .bc(options.bc)
        .gram_size(options.gram_size)
        .recv_buf_bytes(options.rcvbuf)
        .exclusive(true)
        // Both cost time per datagram, so only where a sink needs them.
        .rx_time(stored)
        .dst_addr(stored && bind.ip().to_canonical().is_unspecified());
    let mut peer = BatchPeer::new(config).map_err(|error| {
        Failure::run(format!("cannot prepare to receive on {bind}: {error}; choose a smaller --bc or --gram-size"))
    })?;
    peer.open().map_err(|error| Failure::run(format!("cannot bind {bind}: {error}; {}", bind_hint(&error, bind))))?;
    if let Some(report) = peer.buf_report(Direction::Receive).filter(|report| report.clamped) {
        say(&format!("hio-udp: note: {report}"));
    }
    Ok(peer)
}

fn bind_hint(error: &io::Error, bind: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process has port {}: stop it or choose another --bind", bind.port())
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another --bind".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher port".to_owned(),
        _ => "choose another --bind".to_owned(),
    }
}

/// The receiving thread.
struct Receiver {
    peer: BatchPeer,
    tally: Tally,
    stop: Stop,
    sender: Option<Stop>,
    drain: Duration,
    out: Option<PathBuf>,
    live: Arc<Mutex<Live>>,
    main: Thread,
    next_look: Instant,
}

/// What is done with each datagram, and counted.
struct Tally {
    sinks: Option<Sinks>,
    tracker: Tracker,
    count_max: u64,
    delivered: u64,
    bytes: u64,
    truncated: u64,
    left_behind: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    error: Option<io::Error>,
}

impl Tally {
    /// Takes one batch: delivers up to `--count`, leaves the rest behind.
    fn take<'a>(&mut self, grams: impl Iterator<Item = Gram<'a>>) {
        let before = self.delivered;
        for gram in grams {
            if self.delivered == self.count_max || self.error.is_some() {
                self.left_behind += 1;
                continue;
            }
            self.delivered += 1;
            self.bytes += gram.data.len() as u64;
            self.truncated += u64::from(gram.truncated);
            self.tracker.see(gram.data, gram.truncated);
            if let Some(sinks) = &mut self.sinks {
                sinks.add(&gram);
            }
        }
        if self.delivered > before {
            if let Some(sinks) = &mut self.sinks {
                sinks.end_batch();
            }
            let now = Instant::now();
            self.first.get_or_insert(now);
            self.last = Some(now);
        }
    }

    fn is_done(&self) -> bool {
        self.delivered == self.count_max || self.error.is_some() || self.sinks.as_ref().is_some_and(Sinks::is_over)
    }
}

impl Tally {
    /// The account without the sinks' part; `kernel_dropped` is the count from before the stop.
    fn account(&self, stats: &Stats, kernel_dropped: u64) -> Account {
        let undecodable = stats.grams_undecodable;
        // What was turned away while stopping was dropped by the kernel too, but not for want of room.
        let turned_away = stats.kernel_dropped - kernel_dropped;
        let seconds = match (self.first, self.last) {
            (Some(first), Some(last)) => (last - first).as_secs_f64(),
            _ => 0.0,
        };
        Account {
            sent_seen: self.tracker.sent_seen(),
            delivered: self.delivered + undecodable,
            kernel_dropped,
            left_behind: self.left_behind + turned_away,
            truncated: self.truncated,
            malformed: self.tracker.corrupt + undecodable,
            bytes: self.bytes,
            seconds,
            datagrams_per_s: if seconds > 0.0 { (self.delivered as f64 / seconds) as u64 } else { 0 },
            syscalls: stats.syscalls(),
            gaps: self.tracker.gaps(),
            duplicates: self.tracker.duplicates,
            reordered: self.tracker.reordered,
            backend: stats.backend,
            ..Account::default()
        }
    }
}

impl Receiver {
    fn new(
        peer: BatchPeer,
        sinks: Option<Sinks>,
        options: &IngestOptions,
        stop: Stop,
        sender: Option<Stop>,
        live: Arc<Mutex<Live>>,
        main: Thread,
    ) -> Self {
        let now = Instant::now();
        let tally = Tally {
            sinks,
            tracker: Tracker::default(),
            count_max: options.count.unwrap_or(u64::MAX),
            delivered: 0,
            bytes: 0,
            truncated: 0,
            left_behind: 0,
            first: None,
            last: None,
            error: None,
        };
        Self { peer, tally, stop, sender, drain: options.drain, out: options.out.clone(), live, main, next_look: now }
    }

    fn run(mut self) -> (Account, Option<Failure>) {
        while !self.is_stopped() {
            if self.tally.is_done() {
                let Some(sender) = &self.sender else { break };
                sender.ask();
            }
            match self.peer.fill_wait(LOOK_AROUND) {
                Ok(grams) => self.tally.take(grams),
                Err(error) => _ = self.tally.error.get_or_insert(error),
            }
        }
        let main = self.main.clone();
        let ended = self.end();
        main.unpark(); // so that the end is noticed at once
        ended
    }

    /// Looks at the clock with every batch, and at everything else a few times a second.
    fn is_stopped(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK_AROUND_BUSY;
            let stats = self.peer.stats();
            if let Some(sinks) = &mut self.tally.sinks {
                sinks.tick(stats.kernel_dropped);
            }
            let live = Live {
                delivered: self.tally.delivered,
                bytes: self.tally.bytes,
                kernel_dropped: stats.kernel_dropped,
                recv_calls: stats.recv_calls,
                file_bytes: self.tally.sinks.as_ref().map(Sinks::bytes_written),
            };
            *self.live.lock().expect("nobody panics with the lock held") = live;
        }
        self.stop.asked()
    }

    /// Reads out what the kernel still holds, closes the sinks, and draws the account.
    fn end(mut self) -> (Account, Option<Failure>) {
        let kernel_dropped = self.peer.stats().kernel_dropped;
        self.read_out();
        let stats = self.peer.stats();
        let local = self.peer.ha();
        let sinks = self.tally.sinks.take();
        let failure = self.tally.error.take();
        let mut failure = failure.map(|error| Failure::run(format!("receiving on {local} failed: {error}")));
        let mut account = self.tally.account(&stats, kernel_dropped);
        account.file = self.out.take();
        if let Some(sinks) = sinks {
            let finished = sinks.finish(kernel_dropped, account.delivered, stats.grams_undecodable);
            failure = sinks::failure(&finished).or(failure);
            for sink in finished {
                account.written += sink.account.written;
                account.not_written += sink.account.not_written;
                account.syscalls += sink.calls;
                account.sinks.push(sink.account);
            }
        }
        (account, failure)
    }

    /// Lets nothing more in, then takes what the socket holds until it is empty; what is still there
    /// after the deadline is left behind.
    fn read_out(&mut self) {
        let is_refusing = refuse_new_datagrams(&self.peer);
        // None is too far away for the clock to tell.
        let in_drains = |times| self.drain.checked_mul(times).and_then(|time| Instant::now().checked_add(time));
        let (deadline, give_up_at) = (in_drains(1), in_drains(2));
        let is_past = |at: Option<Instant>| at.is_some_and(|at| Instant::now() >= at);
        let (mut errors, mut is_last_look) = (0, false);
        loop {
            match self.peer.fill() {
                Ok(grams) if grams.is_empty() && is_last_look => return,
                Ok(grams) if grams.is_empty() => {
                    // One that another processor let in just before may be on its way into the queue.
                    thread::sleep(LAST_LOOK_AFTER);
                    is_last_look = true;
                }
                Ok(grams) if !is_past(deadline) => self.tally.take(grams),
                Ok(grams) => self.tally.left_behind += grams.len() as u64,
                Err(error) => {
                    self.tally.error.get_or_insert(error);
                    errors += 1;
                    if errors == ERRORS_MAX {
                        return;
                    }
                }
            }
            // Where datagrams still come in, a steady stream would never end.
            if !is_refusing && is_past(give_up_at) {
                return;
            }
        }
    }
}

/// Lets no more datagrams into the socket, so that what it holds can be read to the end.
///
/// The kernel counts what it turns away. `false` where a socket cannot be told so.
fn refuse_new_datagrams(peer: &BatchPeer) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::fd::AsFd;

        /// BPF_RET | BPF_K: give a constant (linux/filter.h).
        const RETURN_CONSTANT: u16 = 0x06;
        let keep_nothing = socket2::SockFilter::new(RETURN_CONSTANT, 0, 0, 0);
        socket2::SockRef::from(&peer.as_fd()).attach_filter(&[keep_nothing]).is_ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = peer;
        false
    }
}
