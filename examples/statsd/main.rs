//! A StatsD aggregator on a `Pipeline`: counters, gauges, timers and sets, summed up every few seconds as
//! Graphite or Prometheus text on standard output.
//!
//! `cargo run --release --example statsd -- --bind 127.0.0.1:8125 --flush 2`, and from another terminal
//! `echo 'logins:1|c' > /dev/udp/127.0.0.1/8125` (bash). Ctrl-C prints the last interval, and on standard error what
//! became of every datagram.
//!
//! Each thread that runs the handler sums up on its own, under a lock that it takes once a batch; a flush takes
//! what they have and leaves them their memory, so a name that is known costs no allocation.

mod line;
mod metrics;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use hio_udp::{Batch, PeerConfig, Pipeline, ShardStats};

pub use metrics::{Format, Metrics, NAMES_MAX, VALUES_MAX};

/// Longest datagram taken whole: StatsD's clients keep to what one packet holds, jumbo frames included.
pub const GRAM_SIZE: usize = 9_000;

/// How often a stop is looked for.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// Sum up StatsD metrics.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Address to receive on.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8125")]
    pub bind: SocketAddr,

    /// Seconds between two flushes; fractions are allowed.
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub flush: Duration,

    /// What a flush prints.
    #[arg(long, value_enum, default_value_t = Format::Graphite)]
    pub format: Format,

    /// Sockets on the port, each with a thread that reads it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub shards: usize,

    /// Threads that sum up; with 0 the reading threads do it. What two of them get for one gauge has no order.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: usize,

    /// Receive buffer of each socket.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    pub rcvbuf: usize,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| !seconds.is_zero()).ok_or("want seconds, more than 0")
}

/// A running aggregator.
pub struct Statsd {
    pipeline: Pipeline,
    /// What each thread has summed up since the last flush.
    shares: Vec<Arc<Mutex<Metrics>>>,
    /// All of it, since the start.
    all: Metrics,
    format: Format,
    flushed: Instant,
}

impl Statsd {
    /// Opens the sockets and begins to sum up.
    pub fn start(options: &Options) -> io::Result<Self> {
        let config = PeerConfig::new().name("statsd").ha(options.bind);
        let config = config.gram_size(GRAM_SIZE).recv_buf_bytes(options.rcvbuf);
        let bound = Pipeline::builder(config).shards(options.shards).workers(options.workers).bind()?;
        let shares: Vec<Arc<Mutex<Metrics>>> = (0..bound.handling_threads()).map(|_| Arc::default()).collect();
        let pipeline = bound.start_with(|thread| {
            let share = Arc::clone(&shares[thread]);
            move |batch: Batch<'_>| {
                let (mut metrics, now) = (lock(&share), Instant::now());
                batch.grams().for_each(|gram| metrics.add(gram.data, gram.truncated, now));
            }
        })?;
        let (all, format, flushed) = (Metrics::default(), options.format, Instant::now());
        Ok(Self { pipeline, shares, all, format, flushed })
    }

    /// For its address, and the counters of its datagrams.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Prints what came since the last flush, and says on standard error what of it could not be read.
    pub fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.shares.iter().for_each(|share| self.all.absorb(&mut lock(share)));
        let interval = std::mem::replace(&mut self.flushed, Instant::now()).elapsed();
        self.all.print(out, self.format, SystemTime::now(), interval)?;
        out.flush()?;
        if let Some(complaint) = self.all.complaint() {
            eprintln!("statsd: {complaint}");
        }
        self.all.end_interval();
        Ok(())
    }

    /// Stops, prints the last interval, and gives the account of the datagrams and what became of their lines.
    pub fn stop(self, out: &mut impl Write) -> io::Result<(ShardStats, Metrics)> {
        let Self { pipeline, mut all, shares, format, flushed } = self;
        let stats = pipeline.stop().total();
        shares.iter().for_each(|share| all.absorb(&mut lock(share)));
        all.print(out, format, SystemTime::now(), flushed.elapsed())?;
        out.flush()?;
        Ok((stats, all))
    }
}

/// A handler that panicked left its sums as they were.
fn lock(share: &Mutex<Metrics>) -> MutexGuard<'_, Metrics> {
    share.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(options: &Options) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (mut statsd, mut out) = (Statsd::start(options)?, io::stdout().lock());
    eprintln!("statsd on {}; Ctrl-C stops", statsd.pipeline().ha());
    let mut next = Instant::now() + options.flush;
    while !stop.load(Ordering::Relaxed) {
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            statsd.flush(&mut out)?;
            next = (next + options.flush).max(Instant::now()); // one that took too long is not made up for
        }
        std::thread::sleep(left.min(LOOK_AROUND));
    }
    let (stats, all) = statsd.stop(&mut out)?;
    eprintln!(
        "datagrams: {} delivered, {} dropped by the kernel, {} left behind; lines: {} taken, {} malformed, {} without room",
        stats.grams_delivered,
        stats.socket.kernel_dropped,
        stats.grams_left_behind,
        all.lines_taken,
        all.lines_malformed,
        all.lines_without_room,
    );
    Ok(())
}

fn main() {
    let options = Options::parse();
    if let Err(error) = run(&options) {
        eprintln!("statsd: {}: {error}", options.bind);
        std::process::exit(1);
    }
}
