//! How many datagrams may still be delivered: `--count`, for several threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Relaxed: the number stands for itself.
#[derive(Debug)]
pub struct Quota(Option<AtomicU64>);

impl Quota {
    pub fn new(count: Option<u64>) -> Self {
        Self(count.map(AtomicU64::new))
    }

    /// Takes up to `wanted` of what is left.
    pub fn claim(&self, wanted: u64) -> u64 {
        let Some(left) = &self.0 else { return wanted };
        let take = |left: u64| Some(left - wanted.min(left));
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_or(0, |left| wanted.min(left))
    }

    pub fn give_back(&self, unused: u64) {
        if let Some(left) = &self.0 {
            left.fetch_add(unused, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is() {
        let quota = Quota::new(Some(10));
        assert_eq!((quota.claim(4), quota.claim(4), quota.claim(4), quota.claim(4)), (4, 4, 2, 0));
        quota.give_back(3);
        assert_eq!((quota.claim(1), quota.claim(9)), (1, 2));
        assert_eq!(Quota::new(None).claim(u64::MAX), u64::MAX);
    }
}
