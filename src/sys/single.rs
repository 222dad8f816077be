//! The portable backend: one datagram a system call, through the standard library, no unsafe.
//!
//! # How a datagram longer than its slot keeps its true length
//!
//! `recv_from` cuts what does not fit and, on most systems, does not say so. So each datagram is
//! received into *the whole rest of the ring*, from the start of its slot on: what is longer than
//! the slot spills over slots that are filled later, where it does no harm, and the true length
//! is known everywhere. Behind the last slot lies room for one longest datagram.
//!
//! ```text
//!   slot 0      slot 1      slot 2      room for the spill of the last one
//!   ├───────────┼───────────┼───────────┼──────────────────────────────────┤
//!               ▲ recv_from(&mut bytes[here..here + 65,536])
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::{Call, Family, Received, Shape, Slot, Taken, WholeSlot, fault, touched};

pub(crate) const BACKEND: &str = "single";
pub(crate) const COALESCES: bool = false;
pub(crate) const SEGMENTS: bool = false;

/// More than any UDP payload (65,527 bytes over IPv6), so that nothing is ever cut by the kernel.
const LONGEST_BYTES: usize = 65_536;

#[derive(Clone, Copy)]
struct Filled {
    original_len: usize,
    src: SocketAddr,
}

pub(crate) struct RecvSlots {
    /// The slots, end to end, and room for the spill of the last one.
    bytes: Vec<u8>,
    /// One per slot; those of `0..used` are of the last `recv`.
    filled: Vec<Filled>,
    /// Most bytes kept of a datagram.
    slot_bytes: usize,
    used: usize,
    /// What the slots of the last `recv` have in common.
    shape: Shape,
}

impl RecvSlots {
    pub(crate) fn new(slots: usize, slot_bytes: usize, _io_uring: bool) -> io::Result<Self> {
        let nobody = Filled { original_len: 0, src: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)) };
        let all_but_the_last = slots.saturating_sub(1).checked_mul(slot_bytes);
        let len = all_but_the_last.and_then(|len| len.checked_add(slot_bytes.max(LONGEST_BYTES)));
        // Filled with a byte that is not zero, so that every page is really touched now.
        let (bytes, filled) = (touched(0xA5, len)?, touched(nobody, Some(slots))?);
        Ok(Self { bytes, filled, slot_bytes, used: 0, shape: Shape::Mixed })
    }

    pub(crate) fn backend(&self) -> &'static str {
        BACKEND
    }

    pub(crate) fn count(&self) -> usize {
        self.filled.len()
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// This backend asks for no coalescing, so a slot never holds more than one datagram.
    pub(crate) fn set_coalesced(&mut self, _coalesced: bool) {}

    pub(crate) fn recv(&mut self, socket: &UdpSocket) -> Received {
        let (mut received, mut from_v4) = (Received::default(), 0);
        self.used = 0;
        while self.used < self.count() {
            match self.recv_one(socket) {
                Ok(filled) => {
                    self.filled[self.used] = filled;
                    self.used += 1;
                    received.bytes += filled.original_len.min(self.slot_bytes);
                    received.truncated += usize::from(filled.original_len > self.slot_bytes);
                    from_v4 += usize::from(filled.src.is_ipv4());
                }
                Err(error) => {
                    received.ended_by = Some(error);
                    break;
                }
            }
        }
        self.shape = match (received.truncated, from_v4) {
            (0, 0) => Shape::Plain(Family::V6),
            (0, n) if n == self.used => Shape::Plain(Family::V4),
            _ => Shape::Mixed,
        };
        received.slots = self.used;
        received.deliverable = self.used;
        received.calls = self.used as u64 + u64::from(received.ended_by.is_some());
        received
    }

    #[inline]
    fn recv_one(&mut self, socket: &UdpSocket) -> io::Result<Filled> {
        fault::limit(Call::Recv)?;
        let start = self.used * self.slot_bytes;
        let end = (start + LONGEST_BYTES).min(self.bytes.len());
        let (original_len, src) = socket.recv_from(&mut self.bytes[start..end])?;
        Ok(Filled { original_len, src })
    }

    /// The slots of the last `recv`; none after `forget`.
    #[inline]
    pub(crate) fn batch(&self) -> Batch<'_> {
        let Self { bytes, slot_bytes, shape, .. } = self;
        Batch { filled: &self.filled[..self.used], bytes, slot_bytes: *slot_bytes, shape: *shape }
    }

    /// Forgets the slots of the last `recv`.
    pub(crate) fn forget(&mut self) {
        self.used = 0;
    }
}

/// The last batch of a [`RecvSlots`], for reading.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    filled: &'a [Filled],
    bytes: &'a [u8],
    slot_bytes: usize,
    shape: Shape,
}

impl<'a> Batch<'a> {
    /// Number of slots.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.filled.len()
    }

    /// What all slots have in common; unless that is nothing, `whole_slot` may be asked.
    #[inline(always)]
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Slot `i`.
    ///
    /// # Panics
    ///
    /// If `i` is not below `len`.
    #[inline]
    pub(crate) fn slot(&self, i: usize) -> Slot<'a> {
        let Filled { original_len, src } = self.filled[i];
        let start = i * self.slot_bytes;
        let data = &self.bytes[start..start + original_len.min(self.slot_bytes)];
        Slot { data, original_len, src: Some(src), segment_len: 0, control: &[] }
    }

    /// Slot `i` of a batch that is not mixed; `None` past the end.
    #[inline(always)]
    pub(crate) fn whole_slot(&self, i: usize, _family: Family) -> Option<WholeSlot<'a>> {
        let Filled { original_len, src } = *self.filled.get(i)?;
        let start = i * self.slot_bytes;
        Some(WholeSlot { data: &self.bytes[start..start + original_len], src, control: &[] })
    }

    /// Size of the datagrams coalesced into slot `i`: none are.
    #[inline]
    pub(crate) fn segment_len(&self, _i: usize) -> usize {
        0
    }
}

/// Nothing to keep between calls: one datagram a call needs no headers.
pub(crate) struct SendBatch;

impl SendBatch {
    pub(crate) fn new(_capacity: usize) -> Self {
        Self
    }

    pub(crate) fn stage<'d>(&mut self) -> Staged<'_, 'd> {
        Staged { gram: None, _batch: self }
    }
}

/// At most one datagram: a batch of this backend. Sent, it is gone from here.
pub(crate) struct Staged<'b, 'd> {
    gram: Option<(&'d [u8], SocketAddr)>,
    _batch: &'b mut SendBatch,
}

impl<'d> Staged<'_, 'd> {
    pub(crate) fn is_full(&self) -> bool {
        self.gram.is_some()
    }

    pub(crate) fn left(&self) -> usize {
        usize::from(self.gram.is_some())
    }

    /// Adds the datagram, which joins no other.
    pub(crate) fn push(&mut self, data: &'d [u8], dst: SocketAddr, _may_join: bool) -> usize {
        self.gram = Some((data, dst));
        1
    }

    pub(crate) fn is_joined(&mut self) -> bool {
        false
    }

    pub(crate) fn unjoin(&mut self) {}

    /// One `sendto`.
    pub(crate) fn send(&mut self, socket: &UdpSocket) -> io::Result<Taken> {
        fault::limit(Call::Send)?;
        let Some((data, dst)) = self.gram else { return Ok(Taken::default()) };
        socket.send_to(data, dst)?;
        self.gram = None;
        Ok(Taken { grams: 1, bytes: data.len(), segmented: 0 })
    }

    /// The same.
    pub(crate) fn send_one(&mut self, socket: &UdpSocket) -> io::Result<Taken> {
        self.send(socket)
    }
}
