//! `Grams`: how the datagrams of one batch are handed out, one after the other.

use std::fmt;
use std::iter::FusedIterator;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::gram::Gram;
use crate::segment;
use crate::sys::{Batch, Family, PlainSlot};

/// The grams of one batch: an ordinary iterator over borrowed datagrams, in the kernel's order.
///
/// All of them stay readable until the ring is filled again, so they may be collected, zipped or
/// sorted. `len` is exact.
#[derive(Clone)]
pub struct Grams<'a> {
    batch: Batch<'a>,
    /// In a plain batch `slot` says it all, and `left` is not kept up.
    pub(crate) cursor: Cursor,
    /// The coalesced slot that `cursor` stands in.
    run: Run<'a>,
}

/// What is left of a coalesced slot, so that it need not be looked up again for each of its grams.
#[derive(Clone, Copy)]
struct Run<'a> {
    rest: &'a [u8],
    segment_len: usize,
    src: SocketAddr,
    control: &'a [u8],
}

const NO_RUN: Run<'static> =
    Run { rest: &[], segment_len: 0, src: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)), control: &[] };

impl<'a> Grams<'a> {
    #[inline]
    pub(crate) fn new(batch: Batch<'a>, cursor: Cursor) -> Self {
        Self { batch, cursor, run: NO_RUN }
    }

    /// Whether no gram is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    #[inline]
    fn left(&self) -> usize {
        if self.batch.plain().is_some() { self.batch.len() - self.cursor.slot } else { self.cursor.left }
    }
}

impl<'a> Iterator for Grams<'a> {
    type Item = Gram<'a>;

    #[inline]
    fn next(&mut self) -> Option<Gram<'a>> {
        let Some(family) = self.batch.plain() else {
            let Run { rest, segment_len, src, control } = self.run;
            if rest.len() > segment_len {
                // Not the last of its slot: whole, and as long as all of them.
                let (data, rest) = rest.split_at(segment_len);
                self.run.rest = rest;
                self.cursor.offset += segment_len;
                self.cursor.left -= 1;
                return Some(Gram { data, src, truncated: false, original_len: segment_len, control });
            }
            // By value, so that the caller's loop can keep all of this in registers.
            let (gram, cursor, run) = next_of_any(self.batch, self.cursor);
            (self.cursor, self.run) = (cursor, run);
            return gram;
        };
        let i = self.cursor.slot;
        if i >= self.batch.len() {
            return None;
        }
        self.cursor.slot = i + 1;
        // Each family by itself: the caller's loop then knows which address it gets.
        let PlainSlot { data, src, control } = match family {
            Family::V4 => self.batch.plain_slot(i, Family::V4),
            Family::V6 => self.batch.plain_slot(i, Family::V6),
        };
        Some(Gram { data, src, truncated: false, original_len: data.len(), control })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left(), Some(self.left()))
    }
}

/// The next gram where slots may be cut, coalesced or not deliverable; where the one after it
/// starts, and what it has around it there.
fn next_of_any(batch: Batch<'_>, mut cursor: Cursor) -> (Option<Gram<'_>>, Cursor, Run<'_>) {
    while cursor.slot < batch.len() {
        let slot = batch.slot(cursor.slot);
        let Some(src) = slot.src else {
            cursor.slot += 1; // counted as undecodable when it was received
            continue;
        };
        let (data, next) = segment::piece(slot.data, slot.segment_len, cursor.offset);
        // Only the last piece of a slot can have been cut; what is missing there is its own.
        let missing = if next.is_none() { slot.original_len - slot.data.len() } else { 0 };
        let run = match next {
            Some(offset) => {
                cursor.offset = offset;
                Run { rest: &slot.data[offset..], segment_len: slot.segment_len, src, control: slot.control }
            }
            None => {
                cursor.slot += 1;
                cursor.offset = 0;
                NO_RUN
            }
        };
        cursor.left = cursor.left.saturating_sub(1);
        let (truncated, original_len) = (missing > 0, data.len() + missing);
        return (Some(Gram { data, src, truncated, original_len, control: slot.control }), cursor, run);
    }
    (None, cursor, NO_RUN)
}

impl ExactSizeIterator for Grams<'_> {}
impl FusedIterator for Grams<'_> {}

impl fmt::Debug for Grams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Where the next gram is read: slot, offset inside a coalesced slot, grams left.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    pub slot: usize,
    pub offset: usize,
    pub left: usize,
}
