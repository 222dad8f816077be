//! What the kernel dropped between one datagram and the next, for threads that share sockets.

use std::sync::atomic::{AtomicU64, Ordering};

/// The drop counter of each of a listener's sockets, as the newest datagram carried it.
///
/// Relaxed everywhere: each difference is taken by one thread, and nothing else hangs on the order.
#[derive(Debug)]
pub struct Losses(Box<[AtomicU64]>);

/// No counter that a datagram carries, which has 32 bits.
const UNKNOWN: u64 = u64::MAX;

impl Losses {
    /// For so many sockets; those that are older than this process may have dropped datagrams before.
    pub fn new(sockets: usize, are_older: bool) -> Self {
        let start = if are_older { UNKNOWN } else { 0 };
        Self((0..sockets).map(|_| AtomicU64::new(start)).collect())
    }

    /// How many datagrams a socket dropped between the newest reading and this one.
    ///
    /// The counter wraps, and a reading may be older than the newest: then nothing is new.
    #[inline]
    pub fn new_by(&self, socket: usize, reading: u32) -> u64 {
        let newest = &self.0[socket];
        let mut seen = newest.load(Ordering::Relaxed);
        loop {
            if seen == u64::from(reading) {
                return 0;
            }
            let new = if seen == UNKNOWN { 0 } else { reading.wrapping_sub(seen as u32) };
            if new > i32::MAX as u32 {
                return 0;
            }
            match newest.compare_exchange_weak(seen, reading.into(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return new.into(),
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_drop_is_told_once_whatever_wraps_or_comes_late() {
        let (losses, half) = (Losses::new(2, false), i32::MAX as u32);
        for (reading, new) in [(5, 5), (5, 0), (3, 0), (half, half - 5), (u32::MAX - 1, half), (1, 3), (u32::MAX, 0)] {
            assert_eq!(losses.new_by(1, reading), u64::from(new), "{reading}");
        }
        let losses = Losses::new(1, true);
        assert_eq!((losses.new_by(0, u32::MAX), losses.new_by(0, 2), losses.new_by(0, u32::MAX)), (0, 3, 0));
    }
}
