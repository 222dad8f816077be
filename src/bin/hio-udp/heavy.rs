//! The heaviest keys of a stream, in fixed memory.
//!
//! Misra and Gries' algorithm with a table cut to half when it is full, as Anderson and others describe it
//! ("A High-Performance Algorithm for Identifying Frequent Items in Data Streams", 2017): the count in the
//! middle is taken off every entry, and those that have nothing left go. Every such cut takes as much off each
//! of [`KEPT`] entries or more, so of N datagrams at most N / KEPT can be missing from a count.

use std::collections::HashMap;
use std::hash::Hash;

/// Entries that are left when the table is cut.
pub const KEPT: usize = 1024;

/// Counts of the heaviest keys.
pub struct Heavy<K> {
    entries: HashMap<K, Weight>,
    /// How much may be missing from each count.
    missing: u64,
}

/// What came from one key, since it is in the table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Weight {
    pub datagrams: u64,
    pub bytes: u64,
}

impl Weight {
    /// That of one datagram.
    pub fn one(bytes: usize) -> Self {
        Self { datagrams: 1, bytes: bytes as u64 }
    }
}

impl<K> Heavy<K> {
    /// What the table takes: a power of two of places, of which seven in eight may be in use, and a byte beside each.
    pub const BYTES: usize = (2 * KEPT * 8 / 7).next_power_of_two() * (size_of::<(K, Weight)>() + 1);
}

impl<K: Copy + Eq + Hash + Ord> Heavy<K> {
    pub fn new() -> Self {
        Self { entries: HashMap::with_capacity(2 * KEPT), missing: 0 }
    }

    /// Counts one datagram, or several of one key.
    pub fn add(&mut self, key: K, weight: Weight) {
        if self.entries.len() == 2 * KEPT && !self.entries.contains_key(&key) {
            self.cut();
        }
        let entry = self.entries.entry(key).or_default();
        entry.datagrams += weight.datagrams;
        entry.bytes += weight.bytes;
    }

    /// Adds what another table has counted; what may be missing then adds up too.
    pub fn merge(&mut self, other: &Self) {
        self.missing += other.missing;
        for (key, weight) in &other.entries {
            self.add(*key, *weight);
        }
    }

    fn cut(&mut self) {
        let mut counts: Vec<u64> = self.entries.values().map(|weight| weight.datagrams).collect();
        let (_, middle, _) = counts.select_nth_unstable(KEPT);
        let middle = *middle;
        self.missing += middle;
        self.entries.retain(|_, weight| {
            weight.datagrams = weight.datagrams.saturating_sub(middle);
            weight.datagrams > 0
        });
    }

    /// How many datagrams may be missing from each count; 0 if all are exact.
    pub fn missing_max(&self) -> u64 {
        self.missing
    }

    /// How many keys there were, if that many fit.
    pub fn distinct(&self) -> Option<usize> {
        (self.missing == 0).then_some(self.entries.len())
    }

    /// The heaviest `count` keys, heaviest first.
    pub fn top(&self, count: usize) -> Vec<(K, Weight)> {
        let mut all: Vec<(K, Weight)> = self.entries.iter().map(|(key, weight)| (*key, *weight)).collect();
        all.sort_unstable_by_key(|(key, weight)| (std::cmp::Reverse(weight.datagrams), *key));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_are_counted_exactly() {
        let mut heavy = Heavy::new();
        for n in 0..100_000_u64 {
            heavy.add(n % 2000, Weight::one(10));
        }
        assert_eq!((heavy.missing_max(), heavy.distinct()), (0, Some(2000)));
        assert_eq!(heavy.top(1), [(0, Weight { datagrams: 50, bytes: 500 })]);
    }

    #[test]
    fn many_keys_stay_within_the_error_that_is_told() {
        let (mut heavy, mut exact) = (Heavy::new(), HashMap::new());
        let (mut total, mut x) = (0_u64, 1_u64);
        for n in 0..300_000_u64 {
            // A few heavy keys among ever new ones.
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = if n % 3 == 0 { x >> 60 } else { n + 100 };
            heavy.add(key, Weight::one(1));
            *exact.entry(key).or_insert(0_u64) += 1;
            total += 1;
            assert!(heavy.entries.len() <= 2 * KEPT);
        }
        assert!(heavy.missing_max() <= total / KEPT as u64, "{}", heavy.missing_max());
        assert_eq!(heavy.distinct(), None);
        for (key, weight) in heavy.top(16) {
            assert!(key < 16, "{key}");
            assert!((weight.datagrams..=weight.datagrams + heavy.missing_max()).contains(&exact[&key]));
        }
    }
}
