//! How many datagrams a second each source may send, for any number of sources in fixed memory.
//!
//! The generic cell rate algorithm (ITU-T I.371): a source owes one interval of time for each datagram, and
//! is refused while it owes more than its burst. So a bucket is one number, which threads change without
//! a lock.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Sources whose debts are known at a time; 1 MiB. More share them: the one that owes least is forgotten.
const BUCKETS: usize = 65_536;

/// A source's bucket is one of so many next to each other.
const WAYS: usize = 8;

/// So many datagrams a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub datagrams_per_s: u64,
    pub burst: u64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rate, burst) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| (1..=1_000_000_000).contains(number));
        match (number(rate), number(burst)) {
            (Some(datagrams_per_s), Some(burst)) => Ok(Self { datagrams_per_s, burst }),
            _ => Err("want datagrams a second, or RATE:BURST, each from 1 to 1000000000".to_owned()),
        }
    }
}

#[derive(Debug)]
pub struct Limiter {
    buckets: Box<[Bucket]>,
    /// Of each bucket, whether its source was refused since that was last asked.
    refused: Box<[AtomicBool]>,
    hasher: RandomState,
    start: Instant,
    /// Time that one datagram costs.
    interval_ns: u64,
    /// Most that may be owed before one more.
    owed_max_ns: u64,
}

/// Relaxed everywhere: each number stands for itself.
#[derive(Debug, Default)]
struct Bucket {
    /// Hash of the source.
    source: AtomicU64,
    /// When, since the start, all is paid.
    paid_at_ns: AtomicU64,
}

impl Limiter {
    pub fn new(limit: Limit) -> Self {
        let interval_ns = 1_000_000_000 / limit.datagrams_per_s;
        Self {
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            refused: (0..BUCKETS).map(|_| AtomicBool::default()).collect(),
            hasher: RandomState::new(),
            start: Instant::now(),
            interval_ns,
            owed_max_ns: interval_ns * (limit.burst - 1),
        }
    }

    /// Whether one more datagram of this source is within the limit, and counts it if so.
    pub fn admit(&self, source: IpAddr, now: Instant) -> bool {
        let now_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        let bucket = self.bucket(source);
        let paid_at_ns = &self.buckets[bucket].paid_at_ns;
        let mut paid_at = paid_at_ns.load(Ordering::Relaxed);
        loop {
            let from = paid_at.max(now_ns);
            if from - now_ns > self.owed_max_ns {
                self.refused[bucket].store(true, Ordering::Relaxed);
                return false;
            }
            let next = from + self.interval_ns;
            match paid_at_ns.compare_exchange_weak(paid_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => paid_at = other,
            }
        }
    }

    /// How many sources were refused since this was last asked; those that share a bucket count as one.
    pub fn take_refused(&self) -> usize {
        self.refused.iter().filter(|refused| refused.swap(false, Ordering::Relaxed)).count()
    }

    /// The number of the source's bucket, which may have been that of another.
    fn bucket(&self, source: IpAddr) -> usize {
        let hash = self.hasher.hash_one(source);
        let first = (hash as usize % (BUCKETS / WAYS)) * WAYS;
        let set = &self.buckets[first..first + WAYS];
        if let Some(own) = set.iter().position(|bucket| bucket.source.load(Ordering::Relaxed) == hash) {
            return first + own;
        }
        let owes_least = (0..WAYS).min_by_key(|way| set[*way].paid_at_ns.load(Ordering::Relaxed));
        let way = owes_least.expect("a set is not empty");
        let bucket = &set[way];
        bucket.source.store(hash, Ordering::Relaxed);
        bucket.paid_at_ns.store(0, Ordering::Relaxed);
        first + way
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate_whatever_others_send() {
        let limiter = Limiter::new("100:10".parse().unwrap());
        let start = limiter.start;
        let admitted = |number: u32, tries: usize, at_ms: u64| {
            let now = start + Duration::from_millis(at_ms);
            (0..tries).filter(|_| limiter.admit(source(number), now)).count()
        };
        assert_eq!(admitted(1, 50, 0), 10);
        assert_eq!(admitted(2, 50, 0), 10);
        assert_eq!((limiter.take_refused(), limiter.take_refused()), (2, 0));
        // Ten milliseconds pay for one.
        assert_eq!((1..=100).map(|i| admitted(1, 3, i * 10)).sum::<usize>(), 100);
        assert_eq!(admitted(1, 50, 11_000), 10);
        assert_eq!(admitted(3, 5, 11_000), 5);
    }

    #[test]
    fn a_million_sources_are_let_in_and_the_worst_is_still_held_down() {
        let limiter = Limiter::new("1000:1".parse().unwrap());
        let mut admitted = 0;
        for number in 0..1_000_000_u32 {
            // A million in a second, between them one that sends every 10 µs.
            let now = limiter.start + Duration::from_micros(number.into());
            assert!(limiter.admit(source(number), now), "{number}");
            if number % 10 == 0 {
                admitted += u32::from(limiter.admit(source(u32::MAX), now));
            }
        }
        assert!((1_000..1_100).contains(&admitted), "{admitted}");
    }

    #[test]
    fn limits_are_read_and_bad_ones_refused() {
        assert_eq!("5".parse(), Ok(Limit { datagrams_per_s: 5, burst: 5 }));
        assert_eq!("5:100".parse(), Ok(Limit { datagrams_per_s: 5, burst: 100 }));
        for text in ["", "0", "x", "5:", ":5", "5:0", "-1", "1.5", "10000000000"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
