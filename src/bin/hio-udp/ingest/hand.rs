//! What is done with each datagram, and counted: a hand for each thread that a pipeline has for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hio_udp::{Batch, Gram};

use super::quota::Quota;
use crate::heavy::{Heavy, Weight};
use crate::probe::Tracker;
use crate::screen::{Rules, Screen, Verdict};
use crate::sinks::Writer;

/// Sizes of batches are counted by powers of two: 1, 2 to 3, 4 to 7 … 65,536.
pub const FILLS: usize = 17;

/// What a hand takes at once: the table of sources, and with the rounding what little there is beside it.
pub const BYTES: usize = Heavy::<IpAddr>::BYTES.next_multiple_of(128 << 10);

/// One thread's part of an ingest. The thread holds the lock for a batch; what others look at all the time
/// needs none.
pub struct Hand {
    tally: Tally,
    /// Drops for the next chunk to tell.
    dropped: AtomicU64,
    work: Mutex<Work>,
    screen: Arc<Screen>,
    quota: Arc<Quota>,
}

/// What a hand has counted. Relaxed: only its thread writes, and joining that orders the last numbers.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Tally {
    delivered: AtomicU64,
    bytes: AtomicU64,
    truncated: AtomicU64,
    denied: AtomicU64,
    limited: AtomicU64,
    left_behind: AtomicU64,
    fills: [AtomicU64; FILLS],
}

/// The same as plain numbers, of one hand or several.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub delivered: u64,
    pub bytes: u64,
    pub truncated: u64,
    pub denied: u64,
    pub limited: u64,
    pub left_behind: u64,
    pub fills: [u64; FILLS],
}

impl Counts {
    /// Datagrams a hand was given.
    pub fn handled(&self) -> u64 {
        self.delivered + self.denied + self.limited + self.left_behind
    }

    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.bytes += other.bytes;
        self.truncated += other.truncated;
        self.denied += other.denied;
        self.limited += other.limited;
        self.left_behind += other.left_behind;
        self.fills.iter_mut().zip(other.fills).for_each(|(sum, count)| *sum += count);
    }
}

impl Tally {
    fn add(&self, counts: &Counts) {
        let add = |to: &AtomicU64, count| to.store(to.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        add(&self.delivered, counts.delivered);
        add(&self.bytes, counts.bytes);
        add(&self.truncated, counts.truncated);
        add(&self.denied, counts.denied);
        add(&self.limited, counts.limited);
        add(&self.left_behind, counts.left_behind);
    }

    fn on_fill(&self, grams: usize) {
        let fill = &self.fills[(grams.max(1).ilog2() as usize).min(FILLS - 1)];
        fill.store(fill.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            delivered: read(&self.delivered),
            bytes: read(&self.bytes),
            truncated: read(&self.truncated),
            denied: read(&self.denied),
            limited: read(&self.limited),
            left_behind: read(&self.left_behind),
            fills: std::array::from_fn(|i| read(&self.fills[i])),
        }
    }
}

/// What a hand works with.
pub struct Work {
    pub writer: Option<Writer>,
    pub tracker: Tracker,
    pub sources: Heavy<IpAddr>,
    /// When it was first and last given datagrams that it delivered.
    pub span: Option<(Instant, Instant)>,
}

/// Datagrams of one source that follow each other.
struct Run {
    /// As the socket tells it.
    address: IpAddr,
    /// The same, IPv4 where it is that.
    source: IpAddr,
    is_let_in: bool,
    weight: Weight,
}

impl Hand {
    pub fn new(writer: Option<Writer>, screen: Arc<Screen>, quota: Arc<Quota>) -> Self {
        let work = Work { writer, tracker: Tracker::default(), sources: Heavy::new(), span: None };
        Self { tally: Tally::default(), dropped: AtomicU64::new(0), work: Mutex::new(work), screen, quota }
    }

    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// For others than its thread; waits while that is at work, which may be waiting for a sink.
    pub fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if its thread is not at work.
    pub fn idle_work(&self) -> Option<MutexGuard<'_, Work>> {
        match self.work.try_lock() {
            Ok(work) => Some(work),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Adds to the drops that the next chunk tells.
    pub fn tell_drops(&self, new: u64) {
        self.dropped.fetch_add(new, Ordering::Relaxed);
    }

    /// To be called now and then: hands over what has waited long enough. A hand at work does so by itself.
    pub fn tick(&self) {
        if let Some(mut work) = self.idle_work() {
            self.pass_drops(&mut work);
            work.writer.iter_mut().for_each(Writer::tick);
        }
    }

    /// To be called when its thread has ended: hands over what is left.
    pub fn finish(&self) {
        let mut work = self.work();
        self.pass_drops(&mut work);
        work.writer.iter_mut().for_each(Writer::finish);
    }

    fn pass_drops(&self, work: &mut Work) {
        if self.dropped.load(Ordering::Relaxed) > 0 {
            let new = self.dropped.swap(0, Ordering::Relaxed);
            work.writer.iter_mut().for_each(|writer| writer.tell_drops(new));
        }
    }

    /// Takes one batch: delivers what is let in, up to `--count`, and leaves the rest behind.
    pub fn take(&self, batch: Batch<'_>) {
        let (mut work, mut counts) = (self.work(), Counts::default());
        let (rules, now) = (self.screen.rules(), Instant::now());
        let allowance = self.quota.claim(batch.len() as u64);
        self.tally.on_fill(batch.len());
        self.pass_drops(&mut work);
        work.writer.iter_mut().for_each(Writer::begin_batch);
        let mut run: Option<Run> = None;
        for gram in batch.grams() {
            if counts.delivered == allowance {
                counts.left_behind += 1;
                continue;
            }
            let run = match &mut run {
                Some(run) if run.address == gram.src.ip() => run,
                old => {
                    old.take().into_iter().for_each(|run| work.end_run(&run));
                    old.insert(Run::begin(gram.src.ip(), rules.as_deref()))
                }
            };
            match run.verdict(rules.as_deref(), now) {
                Verdict::Taken => {
                    counts.delivered += 1;
                    counts.bytes += gram.data.len() as u64;
                    counts.truncated += u64::from(gram.truncated);
                    run.weight.datagrams += 1;
                    run.weight.bytes += gram.data.len() as u64;
                    work.deliver(&gram, batch.shard());
                }
                Verdict::Denied => counts.denied += 1,
                Verdict::Limited => counts.limited += 1,
            }
        }
        run.into_iter().for_each(|run| work.end_run(&run));
        self.quota.give_back(allowance - counts.delivered);
        if counts.delivered > 0 {
            work.end_batch(now);
        }
        self.tally.add(&counts);
    }
}

impl Run {
    fn begin(address: IpAddr, rules: Option<&Rules>) -> Self {
        let source = address.to_canonical();
        let is_let_in = rules.is_none_or(|rules| rules.lets_in(source));
        Self { address, source, is_let_in, weight: Weight::default() }
    }

    fn verdict(&self, rules: Option<&Rules>, now: Instant) -> Verdict {
        match rules {
            _ if !self.is_let_in => Verdict::Denied,
            Some(rules) => rules.admit(self.source, now),
            None => Verdict::Taken,
        }
    }
}

impl Work {
    fn deliver(&mut self, gram: &Gram<'_>, shard: usize) {
        self.tracker.see(gram.data, gram.truncated);
        if let Some(writer) = &mut self.writer {
            writer.add(gram, shard);
        }
    }

    fn end_run(&mut self, run: &Run) {
        if run.weight.datagrams > 0 {
            self.sources.add(run.source, run.weight);
        }
    }

    fn end_batch(&mut self, begun: Instant) {
        if let Some(writer) = &mut self.writer {
            writer.end_batch();
        }
        let (first, _) = self.span.unwrap_or((begun, begun));
        self.span = Some((first, Instant::now()));
    }
}

#[cfg(test)]
#[path = "../../../../tests/support/allocator.rs"]
mod allocator;

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::net::UdpSocket;
    use std::thread;
    use std::time::Duration;

    use hio_udp::{PeerConfig, Pipeline};

    use super::allocator::allocations;
    use super::*;
    use crate::sinks::{self, Losses, Sinks};
    use crate::stop::Stop;

    /// More is put together in one piece of memory before the sinks have it.
    const CHUNK_BYTES: u64 = 1 << 20;

    #[test]
    fn a_datagram_is_screened_counted_and_encoded_without_an_allocation() {
        const ROUNDS: u64 = 300;
        const BURST: u64 = 100;
        let options = crate::args::ingest_from(["hio-udp", "ingest", "--sink=null"].map(OsString::from).to_vec());
        let (entries, _) = sinks::open(&options.unwrap(), "here", |_| false, &Stop::default()).unwrap();
        let sinks = Arc::new(Sinks::start(entries, 1, Stop::default(), Duration::from_secs(5)).unwrap());
        let bound = Pipeline::builder(PeerConfig::new().port(0).rx_time(true)).workers(0).bind().unwrap();
        let to = bound.ha();
        let writer = Writer::new(Arc::clone(&sinks), to, Arc::new(Losses::new(1, false)));
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let limit = Some("1000000000".parse().unwrap());
        let rules = Rules::new(&nets(&["127.0.0.0/8"]), &nets(&["127.0.0.3/32"]), limit);
        let hand = Arc::new(Hand::new(Some(writer), Arc::new(Screen::new(Some(rules))), Arc::new(Quota::new(None))));
        let made = Arc::new(AtomicU64::new(0));
        let pipeline = bound.start({
            let (hand, made) = (Arc::clone(&hand), Arc::clone(&made));
            move |batch| _ = made.fetch_add(allocations(|| hand.take(batch)), Ordering::Relaxed)
        });
        let pipeline = pipeline.unwrap();
        let senders: Vec<UdpSocket> =
            (1..=4).map(|host| UdpSocket::bind(format!("127.0.0.{host}:0")).unwrap()).collect();
        for round in 1..=ROUNDS {
            for i in 0..BURST {
                senders[i as usize % senders.len()].send_to(&[7; 100], to).unwrap();
            }
            while hand.counts().handled() < round * BURST {
                thread::yield_now();
            }
        }
        pipeline.stop();
        hand.finish();
        let counts = hand.counts();
        assert_eq!((counts.delivered, counts.denied), (ROUNDS * BURST * 3 / 4, ROUNDS * BURST / 4));
        // One for each chunk, and a few when the thread begins.
        let made = made.load(Ordering::Relaxed);
        assert!(made <= counts.delivered * 200 / CHUNK_BYTES + 3, "{made} allocations");
        assert_eq!(sinks.finish(counts.delivered, 0)[0].account.written, counts.delivered);
    }
}
