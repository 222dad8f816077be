//! A model of the pool of rings: two bags, of which a pop may overlook what has just been pushed.

use std::io;

use loom::sync::atomic::{AtomicUsize, Ordering};

use crate::ring::RecvRing;

#[derive(Debug)]
pub struct RingPool {
    free: Bag,
    full: Bag,
}

impl RingPool {
    pub fn with(rings: usize, _bc: usize, _gram_size: usize, _io_uring: bool) -> io::Result<Self> {
        Ok(Self { free: Bag::new(rings, |at| at + 1), full: Bag::new(rings, |_| 0) })
    }

    pub fn take_free(&self) -> Option<RecvRing> {
        self.free.pop()
    }

    pub fn hand_over(&self, filled: RecvRing) -> Result<(), RecvRing> {
        self.full.push(filled)
    }

    pub fn take_full(&self) -> Option<RecvRing> {
        self.full.pop()
    }

    pub fn give_back(&self, used: RecvRing) -> Result<(), RecvRing> {
        self.free.push(used)
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    pub fn full(&self) -> usize {
        self.full.len()
    }
}

/// A place for each ring, which holds its number, or 0.
#[derive(Debug)]
struct Bag(Vec<AtomicUsize>);

impl Bag {
    fn new(rings: usize, number: impl Fn(usize) -> usize) -> Self {
        Self((0..rings).map(|at| AtomicUsize::new(number(at))).collect())
    }

    /// Each ring has its place: nobody else may have left one there.
    fn push(&self, ring: RecvRing) -> Result<(), RecvRing> {
        let before = self.0[ring.0 - 1].swap(ring.0, Ordering::Release);
        assert_eq!(before, 0, "a ring is in two places");
        Ok(())
    }

    fn pop(&self) -> Option<RecvRing> {
        self.0.iter().find_map(|place| {
            // A load may see what was there long ago; an exchange may not.
            let number = place.load(Ordering::Relaxed);
            let is_taken =
                number > 0 && place.compare_exchange(number, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
            is_taken.then_some(RecvRing(number))
        })
    }

    fn len(&self) -> usize {
        self.0.iter().filter(|place| place.load(Ordering::Acquire) > 0).count()
    }
}
