//! `ingest`: receive, store, account.
//!
//! Each `--bind` is a pipeline of the library's. Each of its threads has a [`Hand`], which takes batches and
//! gives datagrams to the sinks; these have threads of their own. A housekeeper hands over what has waited
//! long enough. The main thread shows the status line or the view, waits for the stop, and draws the account.

mod display;
mod hand;
mod housekeeper;
mod listen;
mod observer;
mod quota;
mod reload;
mod watch;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{Direction, Pipeline, PipelineStats};

use crate::account::{Account, ShardAccount, SourceAccount, say};
use crate::args::IngestOptions;
use crate::events;
use crate::failure::Failure;
use crate::machine;
use crate::memory;
use crate::metrics::{self, Board};
use crate::probe::Tracker;
use crate::screen::{Rules, Screen};
use crate::sinks::{self, Beginning, Losses, Sinks, Writer};
use crate::stop::{self, Asks, Stop};
use crate::top;
use display::Display;
use hand::Hand;
pub use hand::{Counts, FILLS};
use housekeeper::Housekeeper;
use listen::Bound;
use observer::Observer;
use quota::Quota;
use watch::Listener;
pub use watch::{ListenerNow, Snapshot, Watch};

/// How often the main thread looks for a stop and for the end of what is to be done.
const LOOK_AROUND: Duration = Duration::from_millis(20);

/// So many of the heaviest sources stand in the account.
const SOURCES_TOLD: usize = 10;

pub fn run(options: IngestOptions) -> Result<(), Failure> {
    let stop = stop_on_signals(&options)?;
    check(&options)?;
    top::check_terminal(&options)?;
    let (is_json, is_stdout_taken) = (options.json, sinks::take_stdout(&options));
    let ingest = Ingest::start(options, stop, None)?;
    if !events::is_on() {
        say(&format!("receiving on {}; Ctrl-C stops", ingest.place));
    }
    let (account, failure) = ingest.wait();
    let printed = match is_stdout_taken {
        true if events::is_on() => Ok(()), // told with the event of the end
        true => account.say(is_json),
        false => account.print(is_json),
    };
    failure.map_or(printed, Err)
}

/// The stop that signals ask for.
pub fn stop_on_signals(options: &IngestOptions) -> Result<Stop, Failure> {
    // Without a file there is nothing to read again, and the end of the terminal is meant.
    let stop = Stop::on_first_signal(options.config.is_none()).and_then(|stop| {
        // While a view has the terminal, a second one must not end the program: the terminal would stay as it is.
        if !options.top {
            stop.end_on_second_signal()?;
        }
        Ok(stop)
    });
    stop.map_err(stop::not_caught)
}

/// All that does not go together, as far as it can be told before anything is opened.
pub fn problems(options: &IngestOptions) -> Vec<String> {
    let all = [sinks::problems(options), listen::problems(options), top::problems(options)];
    all.into_iter().flatten().collect()
}

/// The same as one failure.
fn check(options: &IngestOptions) -> Result<(), Failure> {
    match &problems(options)[..] {
        [] => Ok(()),
        problems => Err(Failure::Usage(problems.join("; "))),
    }
}

/// A running ingest.
pub struct Ingest {
    /// What it receives on.
    pub place: String,
    watch: Arc<Watch>,
    observer: Observer,
    pipelines: Vec<Pipeline>,
    housekeeper: Housekeeper,
    count: Option<u64>,
    out: Option<PathBuf>,
    config: Option<PathBuf>,
    has_view: bool,
    stop: Stop,
    asks: Asks,
    screen: Arc<Screen>,
    /// The command line, with what environment and file added.
    words: Vec<OsString>,
    sender: Option<Stop>,
}

impl Ingest {
    /// Opens sockets and sinks, and starts receiving.
    ///
    /// What may fail does so before a datagram is received, and before the file of `--out` loses what it holds.
    ///
    /// An ingest with a `sender` of its own ends at `stop` only: when it is done or has failed before, it
    /// asks the sender to stop, and leaves behind what still comes.
    pub fn start(options: IngestOptions, stop: Stop, sender: Option<Stop>) -> Result<Self, Failure> {
        events::start(options.log);
        let asks = Asks::on_signals(options.config.is_some());
        let asks = asks.map_err(stop::not_caught)?;
        let metrics = options.metrics.as_ref().map(metrics::bind).transpose()?;
        let bound = listen::bind(&options)?;
        if let Some(account) = &options.user {
            account.become_it().map_err(|error| {
                let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
                let hint = if is_denied { "; start as root, or without it" } else { "" };
                Failure::run(format!("cannot become the user of --user: {error}{hint}"))
            })?;
        }
        let stop = stop.or_at(options.duration.and_then(|duration| Instant::now().checked_add(duration)));
        let place = bound.iter().map(|bound| bound.pipeline.ha().to_string()).collect::<Vec<_>>().join(", ");
        let board = metrics.map(|listener| Board::serve(listener).map_err(no_thread)).transpose()?;
        let (sinks, beginning) = start_sinks(&options, &place, &bound, &stop)?;
        memory::require_small_parts().map_err(no_thread)?; // before the table of --rate-limit
        let screen = Arc::new(Screen::new(rules(&options)));
        let quota = Arc::new(Quota::new(options.count));
        let (mut pipelines, mut listeners) = (Vec::new(), Vec::new());
        for bound in bound {
            let started = start_one(bound, sinks.as_ref(), &screen, &quota);
            let (pipeline, listener) = started.map_err(|error| not_started(error, &options.pin))?;
            pipelines.push(pipeline);
            listeners.push(listener);
        }
        let watch = Arc::new(Watch { since: Instant::now(), listeners, sinks });
        let housekeeper = Housekeeper::start(Arc::clone(&watch)).map_err(no_thread)?;
        beginning.map_or(Ok(()), sinks::begin)?;
        let observer = Observer::new(Arc::clone(&watch), Arc::clone(&screen), board);
        pipelines.iter().for_each(Pipeline::release);
        housekeeper.release();
        let IngestOptions { count, out, config, top: has_view, words, .. } = options;
        Ok(Self {
            place,
            watch,
            observer,
            pipelines,
            housekeeper,
            count,
            out,
            config,
            has_view,
            stop,
            asks,
            screen,
            words,
            sender,
        })
    }

    /// The first address it receives on.
    pub fn local(&self) -> SocketAddr {
        self.watch.listeners[0].local
    }

    /// For others to see what has been received so far.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    /// Shows the status line or the view until the end, and gives the account.
    pub fn wait(mut self) -> (Account, Option<Failure>) {
        let mut display = Display::open(self.has_view);
        while !self.stop.asked() {
            if self.is_done() {
                let Some(sender) = &self.sender else { break };
                sender.ask();
            }
            thread::sleep(LOOK_AROUND);
            self.observer.tick();
            if self.asks.take_reopen() {
                self.watch.sinks.iter().for_each(|sinks| sinks.reopen());
            }
            if self.asks.take_reload() {
                self.reload();
            }
            if display.turn(&self.watch) {
                self.sender.as_ref().unwrap_or(&self.stop).ask();
            }
        }
        display.close();
        if self.has_view {
            // Should it fail, this stop takes its ordinary time.
            let _ = self.sender.as_ref().unwrap_or(&self.stop).end_on_second_signal();
        }
        self.end()
    }

    fn is_done(&self) -> bool {
        let delivered = || self.watch.hands().map(|hand| hand.counts().delivered).sum::<u64>();
        self.count.is_some_and(|count| delivered() >= count)
            || self.watch.sinks.as_ref().is_some_and(|sinks| sinks.is_over())
    }

    /// Reads out what the kernel still holds, closes the sinks, and draws the account.
    fn end(self) -> (Account, Option<Failure>) {
        let Self { watch, observer, pipelines, housekeeper, .. } = self;
        observer.stopping();
        if let Some(sinks) = &watch.sinks {
            sinks.begin_end();
        }
        // All at once: each takes its time.
        pipelines.iter().for_each(Pipeline::begin_stop);
        let stats: Vec<PipelineStats> = pipelines.into_iter().map(Pipeline::stop).collect();
        housekeeper.end(); // the last drops go with the last chunks
        let mut account = Account::default();
        let mut failure = None;
        for (listener, stats) in watch.listeners.iter().zip(&stats) {
            add_listener(&mut account, listener, stats, &mut failure);
        }
        let undecodable = stats.iter().map(|stats| stats.total().socket.grams_undecodable).sum();
        add_hands(&mut account, &watch);
        account.file = self.out;
        if let Some(sinks) = &watch.sinks {
            let finished = sinks.finish(account.delivered, undecodable);
            failure = sinks::failure(&finished).or(failure);
            for sink in finished {
                account.written += sink.account.written;
                account.not_written += sink.account.not_written;
                account.syscalls += sink.calls;
                account.sinks.push(sink.account);
            }
        }
        observer.stopped(&account);
        (account, failure)
    }
}

/// The rules that the options ask for, if they ask for any.
fn rules(options: &IngestOptions) -> Option<Rules> {
    let is_asked = !options.allow.is_empty() || !options.deny.is_empty() || options.rate_limit.is_some();
    is_asked.then(|| Rules::new(&options.allow, &options.deny, options.rate_limit))
}

/// Starts the threads of one address.
fn start_one(
    bound: Bound,
    sinks: Option<&Arc<Sinks>>,
    screen: &Arc<Screen>,
    quota: &Arc<Quota>,
) -> io::Result<(Pipeline, Listener)> {
    let Bound { pipeline, sockets, is_passed, .. } = bound;
    let (local, buffer) = (pipeline.ha(), pipeline.buf_report(Direction::Receive));
    let losses = Arc::new(Losses::new(sockets, is_passed));
    let threads = pipeline.handling_threads();
    memory::require(threads * hand::BYTES)?;
    let new_hand = |_| {
        let writer = sinks.map(|sinks| Writer::new(Arc::clone(sinks), local, Arc::clone(&losses)));
        Arc::new(Hand::new(writer, Arc::clone(screen), Arc::clone(quota)))
    };
    let hands: Vec<Arc<Hand>> = (0..threads).map(new_hand).collect();
    let pipeline = pipeline.start_with(|thread| {
        let hand = Arc::clone(&hands[thread]);
        move |batch| hand.take(batch)
    })?;
    let monitor = pipeline.monitor();
    let (recv_buf_bytes, is_clamped) = (buffer.actual_bytes, buffer.clamped);
    Ok((pipeline, Listener { local, recv_buf_bytes, is_clamped, monitor, hands }))
}

/// Starts the sinks that the options ask for, if they ask for any; the file of `--out` is still to be begun.
fn start_sinks(
    options: &IngestOptions,
    place: &str,
    bound: &[Bound],
    stop: &Stop,
) -> Result<(Option<Arc<Sinks>>, Option<Beginning>), Failure> {
    let leads_back = |to| listen::leads_back(bound, &options.join, to);
    let (entries, beginning) = sinks::open(options, place, leads_back, stop)?;
    if entries.is_empty() {
        return Ok((None, None));
    }
    let writers = bound.iter().map(|bound| bound.pipeline.handling_threads()).sum();
    let sinks = Sinks::start(entries, writers, stop.clone(), options.drain);
    sinks.map(|sinks| (Some(Arc::new(sinks)), beginning)).map_err(|error| match error.kind() {
        io::ErrorKind::OutOfMemory => {
            Failure::run("the queues of the sinks do not fit into memory: choose fewer --sink")
        }
        _ => no_thread(error),
    })
}

/// What is told of an address whose threads could not be started.
fn not_started(error: io::Error, pins: &[usize]) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidInput => Failure::run(cannot_pin(&error, &machine::out_of_reach(pins))),
        io::ErrorKind::OutOfMemory => no_thread(error),
        _ if !pins.is_empty() => Failure::run(format!(
            "cannot start a thread, or keep it on the processor of --pin: {error}; without --pin it shows which"
        )),
        _ => no_thread(error),
    }
}

/// What is told of threads that cannot be kept on their processors, of which some are out of reach.
fn cannot_pin(error: &io::Error, out_of_reach: &[usize]) -> String {
    let processors: Vec<String> = out_of_reach.iter().map(usize::to_string).collect();
    match processors.as_slice() {
        [] => format!("cannot keep a thread on its processor: {error}; choose another --pin"),
        _ => format!(
            "cannot keep a thread on processor {}: {error}; choose a --pin that this process may run on",
            processors.join(" or ")
        ),
    }
}

/// What is told of a thread that could not be started.
pub fn no_thread(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::OutOfMemory => Failure::run(memory::TOO_LITTLE),
        _ => Failure::run(format!("cannot start a thread: {error}; allow more (ulimit -u, a service's TasksMax=)")),
    }
}

/// Adds what one address has brought.
fn add_listener(account: &mut Account, listener: &Listener, stats: &PipelineStats, failure: &mut Option<Failure>) {
    let mut counts = Counts::default();
    listener.hands.iter().for_each(|hand| counts.add(&hand.counts()));
    let total = stats.total();
    let undecodable = total.socket.grams_undecodable;
    // What a panic of ours kept from being counted.
    let uncounted = total.grams_delivered - counts.handled();
    account.delivered += counts.delivered + undecodable;
    account.denied += counts.denied;
    account.rate_limited += counts.limited;
    account.kernel_dropped += total.socket.kernel_dropped;
    account.left_behind += counts.left_behind + total.grams_left_behind + uncounted;
    account.truncated += counts.truncated;
    account.malformed += undecodable;
    account.bytes += counts.bytes;
    account.syscalls += total.socket.syscalls();
    account.receive_errors += total.receive_errors;
    if account.backend.is_empty() {
        account.backend = total.socket.backend;
    }
    let shards = stats.shards.iter().enumerate();
    account.shards.extend(shards.map(|(shard, stats)| ShardAccount::new(listener.local, shard, stats)));
    if total.is_unread {
        let (local, error) = (listener.local, watch::receive_error(&total));
        let message = format!("receiving on {local} failed to the end: {error}; what its socket held is in no count");
        *failure = Some(Failure::run(message));
    }
    if total.handler_panics > 0 {
        let message = format!("receiving on {} panicked: this is a bug, please report it", listener.local);
        *failure = Some(Failure::run(message));
    }
}

/// Adds what hands know by themselves: the numbers in blast's datagrams, sources, times.
fn add_hands(account: &mut Account, watch: &Watch) {
    let (mut tracker, mut span) = (Tracker::default(), None);
    for hand in watch.hands() {
        let mut work = hand.work();
        tracker.merge(std::mem::take(&mut work.tracker));
        span = match (span, work.span) {
            (Some((first, last)), Some((from, to))) => Some((from.min(first), to.max(last))),
            (one, other) => one.or(other),
        };
    }
    account.sent_seen = tracker.sent_seen();
    account.malformed += tracker.corrupt;
    account.gaps = tracker.gaps();
    account.duplicates = tracker.duplicates;
    account.reordered = tracker.reordered;
    account.seconds = span.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    if account.seconds > 0.0 {
        account.datagrams_per_s = (account.delivered as f64 / account.seconds) as u64;
    }
    let (heaviest, missing_max) = watch.heaviest(SOURCES_TOLD);
    account.sources = heaviest.into_iter().map(SourceAccount::from).collect();
    account.sources_missing_max = missing_max;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_told_as_such_with_pin_too() {
        for pins in [&[][..], &[0]] {
            let failure = not_started(io::ErrorKind::OutOfMemory.into(), pins);
            assert_eq!(failure.to_string(), memory::TOO_LITTLE);
        }
    }
}
