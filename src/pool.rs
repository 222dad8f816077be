//! A pool of receive rings that travel between one reader and its workers.

use std::io;

use crossbeam_queue::ArrayQueue;

use crate::ring::RecvRing;
use crate::sys::DEFAULT_IO_URING;

/// A fixed number of rings going round: free → reader → full → worker → free.
///
/// Every ring has exactly one owner at any moment. Nothing is allocated or locked after the pool
/// is made, and one queue operation moves a whole batch. Both queues have room for every ring
/// there is, so handing one back cannot fail; what arrives while the reader has no free ring waits in
/// the socket's buffer, where a loss is counted.
///
/// No call of a pool waits: a reader or worker that gets `None` sleeps, yields or parks as it sees fit,
/// and a flag of its own tells the worker when to end. A ring that is dropped is gone for good: give it
/// back also where [`fill_into_wait`](crate::BatchPeer::fill_into_wait) fails or gives 0. Several
/// workers may share one pool; the order is then not kept.
///
/// ```
/// use hio_udp::{BatchPeer, PeerConfig, RingPool, Transport};
/// use std::time::Duration;
///
/// // One ring in the reader's hand, four in the queue, one in the worker's hand.
/// let pool = RingPool::new(1 + 4 + 1, 64, 1240)?;
/// let mut peer = BatchPeer::new(PeerConfig::new().port(0).reopen(true))?;
/// let me = peer.ha();
/// peer.send(b"hello", me)?;
///
/// let mut ring = pool.take_free().expect("all rings are free");
/// peer.fill_into_wait(&mut ring, Duration::from_secs(1))?;
/// assert!(pool.hand_over(ring).is_ok());
///
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let ring = pool.take_full().expect("the reader handed one over");
///         assert_eq!(ring.grams().map(|gram| gram.data).collect::<Vec<_>>(), [b"hello"]);
///         assert!(pool.give_back(ring).is_ok());
///     });
/// });
/// assert_eq!(pool.free(), 6);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct RingPool {
    /// Rings for the reader. Each queue has room for every ring of the pool.
    free: ArrayQueue<RecvRing>,
    /// Rings for the workers, oldest first.
    full: ArrayQueue<RecvRing>,
}

impl RingPool {
    /// Allocates `rings` rings of `bc` slots of `gram_size` bytes each.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `rings` is 0, and as [`RecvRing::new`].
    pub fn new(rings: usize, bc: usize, gram_size: usize) -> io::Result<Self> {
        Self::with(rings, bc, gram_size, DEFAULT_IO_URING)
    }

    /// As [`new`](Self::new); `io_uring` says whether the rings may be filled that way.
    pub(crate) fn with(rings: usize, bc: usize, gram_size: usize, io_uring: bool) -> io::Result<Self> {
        if rings == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "rings is 0: a pool needs at least 1 ring"));
        }
        let pool = Self { free: ArrayQueue::new(rings), full: ArrayQueue::new(rings) };
        for _ in 0..rings {
            // The queue was made for exactly so many.
            let _ = pool.free.push(RecvRing::with(bc, gram_size, io_uring)?);
        }
        Ok(pool)
    }

    /// Takes an empty ring, or `None` while all are on their way.
    pub fn take_free(&self) -> Option<RecvRing> {
        self.free.pop()
    }

    /// Puts a filled ring behind those waiting for a worker.
    ///
    /// # Errors
    ///
    /// Gives the ring back if it is one more than the pool was made for: a ring from elsewhere.
    #[allow(clippy::result_large_err, reason = "a refusal hands the ring back")]
    pub fn hand_over(&self, filled: RecvRing) -> Result<(), RecvRing> {
        self.full.push(filled)
    }

    /// Takes the oldest filled ring.
    pub fn take_full(&self) -> Option<RecvRing> {
        self.full.pop()
    }

    /// Returns a ring to the free ones; what it held is forgotten.
    ///
    /// # Errors
    ///
    /// As [`hand_over`](Self::hand_over).
    #[allow(clippy::result_large_err, reason = "a refusal hands the ring back")]
    pub fn give_back(&self, mut used: RecvRing) -> Result<(), RecvRing> {
        used.clear();
        self.free.push(used)
    }

    /// Number of free rings.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Number of filled rings waiting for a worker.
    pub fn full(&self) -> usize {
        self.full.len()
    }
}
