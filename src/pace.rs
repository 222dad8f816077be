//! How a waiting receiver goes about its next call: pure arithmetic over the times it is told.
//!
//! Three ways, by the rate at which datagrams come:
//!
//! - slow: park in `poll`, which delivers each datagram as soon as the kernel can;
//! - fast: let a batch gather in a short sleep, so that nobody pays for a wake-up per datagram;
//! - too fast for the socket's buffer to be left alone that long: ask again at once.

use std::time::{Duration, Instant};

/// What to do before the next receive call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// More is waiting, or will be at once: ask.
    Ask,
    /// Sleep for so long, in which a batch gathers.
    Gather(Duration),
    /// Wait until something is there.
    Poll,
}

/// Over about this time the rate is averaged: long against a scheduler's hiccup, short against a burst.
const MEMORY: Duration = Duration::from_micros(500);

/// A pause is worth its latency if so many datagrams are likely to come in it.
const GATHERED_MIN: f64 = 4.0;

/// How much longer than asked a sleep takes, about: 50 µs of timer slack (prctl(2), PR_SET_TIMERSLACK)
/// and the wake-up.
const OVERSLEEP: Duration = Duration::from_micros(60);

/// A shorter pause is not worth the two switches.
const PAUSE_MIN: Duration = Duration::from_micros(5);

/// How long a line that is too fast for pauses may be silent before it is taken for quiet.
const SPIN: Duration = Duration::from_micros(20);

/// The waiting state of one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Longest pause for a batch to gather; zero turns gathering off.
    longest: Duration,
    /// Datagrams a second, averaged over the last `MEMORY` or so.
    rate: f64,
    /// When the last datagrams came.
    last: Option<Instant>,
    /// How many datagrams the socket's buffer holds, of the last batch's size.
    held: usize,
    next: Next,
}

impl Pace {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, rate: 0.0, last: None, held: 0, next: Next::Poll }
    }

    pub(crate) fn next(&self) -> Next {
        self.next
    }

    /// Something is there already that the kernel will not wake anybody for.
    pub(crate) fn hurry(&mut self) {
        self.next = Next::Ask;
    }

    /// Takes note of a batch that came at `now` through a socket buffer that holds `held` such datagrams;
    /// `was_full` says that it filled its ring.
    pub(crate) fn on_batch(&mut self, grams: usize, was_full: bool, held: usize, now: Instant) {
        let since = self.last.map_or(MEMORY, |last| now.saturating_duration_since(last));
        // An exponential average that may be told at any interval: what was known counts as MEMORY.
        self.rate = (self.rate * MEMORY.as_secs_f64() + grams as f64) / (MEMORY + since).as_secs_f64();
        self.last = Some(now);
        self.held = held;
        self.next = if was_full { Next::Ask } else { self.pause() };
    }

    /// Takes note of a call at `now` that found nothing.
    pub(crate) fn on_nothing(&mut self, now: Instant) {
        self.next = match self.next {
            // The last batch was full and happened to be all there was.
            Next::Ask if self.pause() != Next::Ask => self.pause(),
            Next::Ask if self.last.is_some_and(|last| now.saturating_duration_since(last) < SPIN) => Next::Ask,
            _ => Next::Poll,
        };
    }

    /// How to wait for the next batch, at the present rate.
    fn pause(&self) -> Next {
        if self.rate * self.longest.as_secs_f64() < GATHERED_MIN {
            return Next::Poll;
        }
        // Half of the buffer is left for what the rate does not foresee.
        let filling = Duration::from_secs_f64(self.held as f64 / 2.0 / self.rate);
        match filling.checked_sub(OVERSLEEP) {
            Some(safe) if safe >= PAUSE_MIN => Next::Gather(safe.min(self.longest)),
            _ => Next::Ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(50);
    /// What the default buffer holds of small datagrams.
    const HELD: usize = 256;

    /// A pace after `count` datagrams at `rate` a second, `batch` at a time; and when the last came.
    fn after(rate: u64, batch: usize, count: usize) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::new(LONGEST), Instant::now());
        for _ in 0..count / batch {
            now += Duration::from_nanos(1_000_000_000 * batch as u64 / rate);
            pace.on_batch(batch, false, HELD, now);
        }
        (pace, now)
    }

    #[test]
    fn a_slow_line_is_polled() {
        for rate in [1, 1_000, 20_000, 60_000] {
            assert_eq!(after(rate, 1, 10_000).0.next(), Next::Poll, "{rate}");
        }
    }

    #[test]
    fn a_fast_line_gathers_within_a_millisecond() {
        for rate in [200_000, 1_000_000] {
            assert_eq!(after(rate, 1, rate as usize / 1000).0.next(), Next::Gather(LONGEST), "{rate}");
            assert_eq!(after(rate, 20, rate as usize / 100).0.next(), Next::Gather(LONGEST), "{rate}, by 20");
        }
    }

    #[test]
    fn a_hiccup_of_the_scheduler_does_not_look_like_a_flood() {
        let (mut pace, mut now) = after(20_000, 1, 1_000);
        now += Duration::from_millis(2);
        pace.on_batch(40, false, HELD, now);
        assert_eq!(pace.next(), Next::Poll);
    }

    #[test]
    fn no_pause_fills_more_than_half_of_what_the_buffer_holds() {
        for rate in (10_000..5_000_000).step_by(7_919) {
            for held in [1, 10, 92, 256, 5_000, 100_000] {
                let pace = Pace { rate: rate as f64, held, ..Pace::new(Duration::from_millis(1)) };
                if let Next::Gather(pause) = pace.pause() {
                    let come = (pause + OVERSLEEP).as_secs_f64() * rate as f64;
                    assert!(come <= held as f64 / 2.0 + 1.0, "{come} of {held} at {rate}");
                }
            }
        }
    }

    #[test]
    fn a_line_too_fast_for_the_buffer_is_asked_until_it_has_been_silent_for_a_while() {
        let (mut pace, now) = after(3_000_000, 30, 30_000);
        assert_eq!(pace.next(), Next::Ask);
        pace.on_nothing(now + SPIN / 2);
        assert_eq!(pace.next(), Next::Ask);
        pace.on_nothing(now + SPIN);
        assert_eq!(pace.next(), Next::Poll);
    }

    #[test]
    fn a_flood_that_ends_is_forgotten() {
        let (mut pace, mut now) = after(1_000_000, 10, 100_000);
        assert_eq!(pace.next(), Next::Gather(LONGEST));
        pace.on_nothing(now);
        assert_eq!(pace.next(), Next::Poll, "nothing came in the pause");
        for _ in 0..4 {
            now += Duration::from_millis(1);
            pace.on_batch(1, false, HELD, now);
        }
        assert_eq!(pace.next(), Next::Poll);
    }

    #[test]
    fn a_full_ring_is_followed_by_another_call_and_then_by_the_pause_of_the_rate() {
        let (mut pace, now) = after(1_000_000, 10, 100_000);
        pace.on_batch(10, true, HELD, now);
        assert_eq!(pace.next(), Next::Ask);
        pace.on_nothing(now);
        assert_eq!(pace.next(), Next::Gather(LONGEST));
    }

    #[test]
    fn without_a_longest_pause_nothing_gathers() {
        let mut pace = Pace::new(Duration::ZERO);
        let now = Instant::now();
        pace.on_batch(1_000, false, HELD, now);
        pace.on_batch(1_000, false, HELD, now);
        assert_eq!(pace.next(), Next::Poll);
    }
}
