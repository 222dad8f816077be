//! Rings: memory for many datagrams, allocated once, owned by exactly one holder at a time.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};

use crate::gram::{Gram, MAX_DATAGRAM_SIZE};
use crate::grams::{self, Cursor, Grams};
use crate::segment;
use crate::sys::{self, Family, Received, RecvSlots, Shape, WholeSlot};

/// Most memory in bytes one ring may take: 4 GiB, a guard against a mistyped `bc`.
const RING_BYTES_MAX: u64 = 4 << 30;

/// Least a slot counts for in that sum: its headers take so much beside a short payload.
const SLOT_COST_MIN: u64 = 512;

/// Checks a ring's shape: at least one slot, a slot of 1 to 65,535 bytes, at most 4 GiB in all.
fn check_shape(bc: usize, gram_size: usize) -> io::Result<()> {
    let invalid = |message: String| Err(io::Error::new(ErrorKind::InvalidInput, message));
    if bc == 0 {
        return invalid("bc is 0: a ring needs at least 1 slot".to_owned());
    }
    if gram_size == 0 || gram_size > MAX_DATAGRAM_SIZE {
        return invalid(format!("gram size {gram_size}: a slot holds 1 to {MAX_DATAGRAM_SIZE} bytes"));
    }
    match (bc as u64).checked_mul((gram_size as u64).max(SLOT_COST_MIN)) {
        Some(bytes) if bytes <= RING_BYTES_MAX => Ok(()),
        _ => invalid(format!(
            "bc {bc} × gram size {gram_size}: a ring takes at most {RING_BYTES_MAX} bytes, headers included"
        )),
    }
}

/// A receive ring: `bc` slots of `gram_size` bytes, allocated and pre-faulted once.
///
/// A ring has exactly one owner and can move: out of a [`BatchPeer`](crate::BatchPeer) with
/// [`exchange`](crate::BatchPeer::exchange), through a queue, to another thread and back. Moving it
/// moves no datagram.
///
/// ```
/// let ring = hio_udp::RecvRing::new(64, hio_udp::MAX_GRAM_SIZE)?;
/// assert_eq!((ring.bc(), ring.gram_size(), ring.len()), (64, 1240, 0));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RecvRing {
    /// Apart, so that a ring is small to move: from thread to thread, above all.
    pub(crate) slots: Box<RecvSlots>,
    /// Payload bytes of the last batch.
    filled_bytes: usize,
    /// The first gram not yet handed out.
    cursor: Cursor,
    /// Where `cursor` stood before the last `take`, until something else is received; while it is kept,
    /// no gram is left.
    taken: Option<Cursor>,
    /// A ring has one owner: it may move to another thread, but not be looked at from two.
    _not_sync: PhantomData<Cell<()>>,
}

impl RecvRing {
    /// Allocates a ring of `bc` slots of `gram_size` bytes each, and touches every page of it.
    ///
    /// A datagram longer than `gram_size` is cut and flagged [`truncated`](Gram::truncated).
    ///
    /// Where the feature `io-uring` and the system allow it, and half of the process' descriptors are free,
    /// a ring holds an io_uring: one descriptor, and what the kernel keeps for it. It belongs to the thread
    /// that first fills the ring in earnest; other threads may fill it too.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `bc` is 0, `gram_size` is not 1 to 65,535, or both
    /// together make more than 4 GiB; [`OutOfMemory`](ErrorKind::OutOfMemory) if the system has not as much.
    pub fn new(bc: usize, gram_size: usize) -> io::Result<Self> {
        Self::with(bc, gram_size, sys::DEFAULT_IO_URING)
    }

    /// As [`new`](Self::new); `io_uring` says whether it may be filled that way, where the crate can.
    pub(crate) fn with(bc: usize, gram_size: usize, io_uring: bool) -> io::Result<Self> {
        check_shape(bc, gram_size)?;
        let slots = Box::new(RecvSlots::new(bc, gram_size, io_uring)?);
        let (filled_bytes, cursor, taken) = (0, Cursor::default(), None);
        Ok(Self { slots, filled_bytes, cursor, taken, _not_sync: PhantomData })
    }

    /// Number of slots: at most so many datagrams come with one system call.
    pub fn bc(&self) -> usize {
        self.slots.count()
    }

    /// Size in bytes of one slot.
    pub fn gram_size(&self) -> usize {
        self.slots.slot_bytes()
    }

    /// Number of grams not yet handed out.
    pub fn len(&self) -> usize {
        self.cursor.left_in(&self.slots.batch())
    }

    /// Whether every gram has been handed out.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How it is filled: `"mmsg"`, `"io_uring"` or `"single"`.
    pub fn backend(&self) -> &'static str {
        self.slots.backend()
    }

    /// Whether the last batch filled every slot, which means that more may be waiting.
    pub fn is_full(&self) -> bool {
        self.slots.batch().len() == self.bc()
    }

    /// Payload bytes of the last batch.
    pub(crate) fn filled_bytes(&self) -> usize {
        self.filled_bytes
    }

    /// The grams not yet handed out, without taking them: calling it again gives the same ones.
    pub fn grams(&self) -> Grams<'_> {
        Grams::new(self.slots.batch(), self.cursor)
    }

    /// Forgets every gram not yet handed out.
    pub fn clear(&mut self) {
        self.slots.forget();
        self.cursor = Cursor::default();
        self.taken = None;
    }

    /// Takes note of what a receive call stored in the slots; gives the number of grams.
    pub(crate) fn on_received(&mut self, received: &Received, coalesced: bool) -> usize {
        self.filled_bytes = received.bytes;
        let left = if coalesced { self.count_pieces() } else { received.deliverable };
        self.cursor = Cursor { left, ..Cursor::default() };
        self.taken = None;
        left
    }

    fn count_pieces(&self) -> usize {
        let batch = self.slots.batch();
        let slots = 0..batch.len();
        match batch.shape() {
            Shape::Plain(_) => slots.len(),
            Shape::Runs(family) => {
                let lens = slots.filter_map(|i| Some((batch.whole_slot(i, family)?.data.len(), batch.segment_len(i))));
                lens.map(|(len, segment_len)| segment::count(len, segment_len)).sum()
            }
            Shape::Mixed => {
                let deliverable = slots.map(|i| batch.slot(i)).filter(|slot| slot.src.is_some());
                deliverable.map(|slot| segment::count(slot.data.len(), slot.segment_len)).sum()
            }
        }
    }

    /// What all senders of a plain batch are, as long as there is a gram left of it.
    #[inline(always)]
    pub(crate) fn plain(&self) -> Option<Family> {
        let batch = self.slots.batch();
        match batch.shape() {
            Shape::Plain(family) if self.cursor.slot < batch.len() => Some(family),
            _ => None,
        }
    }

    /// Hands out the next gram of a plain batch.
    #[inline(always)]
    pub(crate) fn pop_plain(&mut self, family: Family) -> Option<Gram<'_>> {
        let WholeSlot { data, src, control } = self.slots.batch().whole_slot(self.cursor.slot, family)?;
        self.cursor.slot += 1;
        Some(grams::whole(data, src, control))
    }

    /// Hands out the next gram.
    pub(crate) fn pop(&mut self) -> Option<Gram<'_>> {
        if let Some(family) = self.plain() {
            return self.pop_plain(family);
        }
        grams::next_of_mixed(self.slots.batch(), &mut self.cursor)
    }

    /// Hands out all grams that are left.
    #[inline]
    pub(crate) fn take(&mut self) -> Grams<'_> {
        let handed_out = Cursor { slot: self.slots.batch().len(), ..Cursor::default() };
        let cursor = std::mem::replace(&mut self.cursor, handed_out);
        self.taken = Some(cursor);
        Grams::new(self.slots.batch(), cursor)
    }

    /// Takes back the last `take`, if nothing has happened since: its grams go with the ring.
    pub(crate) fn take_back(&mut self) {
        if let Some(cursor) = self.taken.take() {
            self.cursor = cursor;
        }
    }
}

impl fmt::Debug for RecvRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvRing")
            .field("bc", &self.bc())
            .field("gram_size", &self.gram_size())
            .field("len", &self.len())
            .finish()
    }
}

/// Why [`queue`](SendRing::queue) did not take a gram; nothing was copied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Full {
    /// Every slot is taken: flush first, then queue again.
    Ring,
    /// The gram is longer than a slot: it never fits; send it by itself, or make the slots larger.
    Slot {
        /// Length of the gram in bytes.
        len: usize,
        /// Size of a slot in bytes.
        gram_size: usize,
    },
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring => write!(f, "every slot of the send ring is taken: flush, then queue again"),
            Self::Slot { len, gram_size } => {
                write!(f, "a gram of {len} bytes does not fit a slot of {gram_size}: use send, or a larger gram_size")
            }
        }
    }
}

impl std::error::Error for Full {}

/// A send ring: `bc` slots of `gram_size` bytes, allocated and pre-faulted once; first in, first out.
///
/// A [`BatchPeer`](crate::BatchPeer) has one behind [`queue`](crate::BatchPeer::queue) and
/// [`flush`](crate::BatchPeer::flush). A ring of one's own collects grams elsewhere, on another thread
/// or while the peer is in use:
///
/// ```
/// use hio_udp::{BatchPeer, PeerConfig, SendRing, Transport};
///
/// let mut peer = BatchPeer::new(PeerConfig::new().port(0).reopen(true))?;
/// let mut ring = SendRing::new(64, 1240)?;
/// ring.queue(b"one", peer.ha()).unwrap();
/// ring.queue(b"two", peer.ha()).unwrap();
/// let report = peer.send_batch(ring.grams());
/// ring.discard(report.settled());
/// assert!(ring.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SendRing {
    /// The slots, end to end: `bc × gram_size` bytes.
    bytes: Vec<u8>,
    /// Length and destination of the gram in each slot.
    grams: Vec<(usize, SocketAddr)>,
    gram_size: usize,
    /// Slot of the oldest gram.
    head: usize,
    /// Grams waiting, in the slots from `head` on, around the end.
    len: usize,
}

impl SendRing {
    /// Allocates a ring of `bc` slots of `gram_size` bytes each, and touches every page of it.
    ///
    /// # Errors
    ///
    /// As [`RecvRing::new`].
    pub fn new(bc: usize, gram_size: usize) -> io::Result<Self> {
        check_shape(bc, gram_size)?;
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let bytes = sys::touched(0xA5, bc.checked_mul(gram_size))?;
        Ok(Self { bytes, grams: sys::touched((0, nobody), Some(bc))?, gram_size, head: 0, len: 0 })
    }

    /// Number of slots.
    pub fn bc(&self) -> usize {
        self.grams.len()
    }

    /// Size in bytes of one slot.
    pub fn gram_size(&self) -> usize {
        self.gram_size
    }

    /// Number of grams waiting to be sent.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no gram is waiting.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies one gram in, behind those that wait.
    ///
    /// # Errors
    ///
    /// [`Full`] says why it was not taken.
    pub fn queue(&mut self, data: &[u8], dst: SocketAddr) -> Result<(), Full> {
        if data.len() > self.gram_size {
            return Err(Full::Slot { len: data.len(), gram_size: self.gram_size });
        }
        if self.len == self.bc() {
            return Err(Full::Ring);
        }
        let slot = (self.head + self.len) % self.bc();
        let start = slot * self.gram_size;
        self.bytes[start..start + data.len()].copy_from_slice(data);
        self.grams[slot] = (data.len(), dst);
        self.len += 1;
        Ok(())
    }

    /// The waiting grams, oldest first.
    pub fn grams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        (0..self.len).map(|i| {
            let slot = (self.head + i) % self.bc();
            let (len, dst) = self.grams[slot];
            let start = slot * self.gram_size;
            (&self.bytes[start..start + len], dst)
        })
    }

    /// Gives up the `count` oldest grams, or all if there are fewer: those that a report says are
    /// [`settled`](crate::SendReport::settled).
    pub fn discard(&mut self, count: usize) {
        let count = count.min(self.len);
        self.head = (self.head + count) % self.bc();
        self.len -= count;
    }

    /// Gives up every gram; says how many.
    pub fn clear(&mut self) -> usize {
        let count = self.len;
        self.discard(count);
        count
    }
}

impl fmt::Debug for SendRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRing")
            .field("bc", &self.bc())
            .field("gram_size", &self.gram_size)
            .field("len", &self.len)
            .finish()
    }
}
