//! `Grams`: how the datagrams of one batch are handed out, one after the other.

use std::fmt;
use std::iter::FusedIterator;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::gram::Gram;
use crate::segment;
use crate::sys::{Batch, Family, Shape, WholeSlot};

/// The grams of one batch: an ordinary iterator over borrowed datagrams, in the kernel's order.
///
/// All of them stay readable until the ring is filled again, so they may be collected, zipped or
/// sorted. `len` is exact.
#[derive(Clone)]
pub struct Grams<'a> {
    batch: Batch<'a>,
    /// The slot that is looked up next. In a plain batch it says it all, and `left` is not kept up.
    cursor: Cursor,
    /// What is left of the slot before that one, where slots are coalesced.
    run: Run<'a>,
}

/// What is left of a coalesced slot, so that it need not be looked up again for each of its grams.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// Grams of `segment_len` bytes each, the last one perhaps shorter.
    rest: &'a [u8],
    /// At least 1.
    segment_len: usize,
    src: SocketAddr,
    control: &'a [u8],
}

const NO_RUN: Run<'static> =
    Run { rest: &[], segment_len: 1, src: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)), control: &[] };

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
        match self.batch.shape() {
            Shape::Plain(_) => self.batch.len() - self.cursor.slot,
            Shape::Runs(_) | Shape::Mixed => self.cursor.left,
        }
    }
}

impl<'a> Iterator for Grams<'a> {
    type Item = Gram<'a>;

    #[inline]
    fn next(&mut self) -> Option<Gram<'a>> {
        let Shape::Plain(family) = self.batch.shape() else {
            let Run { rest, segment_len, src, control } = self.run;
            if let Some((data, rest)) = rest.split_at_checked(segment_len) {
                self.run.rest = rest;
                self.cursor.left -= 1;
                return Some(whole(data, src, control));
            }
            // By value, so that the caller's loop can keep all of this in registers.
            let (gram, cursor, run) = next_of_any(self.batch, self.cursor, self.run);
            (self.cursor, self.run) = (cursor, run);
            return gram;
        };
        let i = self.cursor.slot;
        if i >= self.batch.len() {
            return None;
        }
        self.cursor.slot = i + 1;
        // Each family by itself: the caller's loop then knows which address it gets.
        let WholeSlot { data, src, control } = match family {
            Family::V4 => self.batch.whole_slot(i, Family::V4),
            Family::V6 => self.batch.whole_slot(i, Family::V6),
        };
        Some(whole(data, src, control))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left(), Some(self.left()))
    }

    /// What `for_each` and its kin use: a loop of its own for the grams of each coalesced slot, which all
    /// have one size and one source. A `for` loop cannot know that, and asks at each gram.
    #[inline]
    fn fold<B, F: FnMut(B, Gram<'a>) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        while let Some(gram) = self.next() {
            folded = f(folded, gram);
            let Run { mut rest, segment_len, src, control } = self.run;
            while let Some((data, tail)) = rest.split_at_checked(segment_len) {
                folded = f(folded, whole(data, src, control));
                rest = tail;
            }
            self.run.rest = rest;
        }
        folded
    }
}

/// A gram of which nothing was cut off.
#[inline(always)]
pub(crate) fn whole<'a>(data: &'a [u8], src: SocketAddr, control: &'a [u8]) -> Gram<'a> {
    Gram { data, src, truncated: false, original_len: data.len(), control }
}

/// The next gram where it is not just the next one of `run`, nor a plain batch; where the one after it
/// starts, and what is left of its slot.
#[inline(never)]
fn next_of_any<'a>(batch: Batch<'a>, mut cursor: Cursor, mut run: Run<'a>) -> (Option<Gram<'a>>, Cursor, Run<'a>) {
    let (Shape::Plain(family) | Shape::Runs(family)) = batch.shape() else {
        let (gram, cursor) = next_of_mixed(batch, cursor);
        return (gram, cursor, run);
    };
    if run.rest.is_empty() {
        if cursor.slot == batch.len() {
            return (None, cursor, run);
        }
        let WholeSlot { data, src, control } = batch.whole_slot(cursor.slot, family);
        let segment_len = match batch.segment_len(cursor.slot) {
            0 => data.len().max(1),
            len => len,
        };
        run = Run { rest: &data[cursor.offset..], segment_len, src, control };
        (cursor.slot, cursor.offset) = (cursor.slot + 1, 0);
    }
    let Run { rest, segment_len, src, control } = run;
    let (data, rest) = rest.split_at(segment_len.min(rest.len())); // the last one of a slot may be shorter
    run.rest = rest;
    cursor.left -= 1;
    (Some(whole(data, src, control)), cursor, run)
}

/// The next gram where slots may be cut, coalesced or not deliverable, and where the one after it starts.
pub(crate) fn next_of_mixed(batch: Batch<'_>, mut cursor: Cursor) -> (Option<Gram<'_>>, Cursor) {
    while cursor.slot < batch.len() {
        let slot = batch.slot(cursor.slot);
        let Some(src) = slot.src else {
            cursor.slot += 1; // counted as undecodable when it was received
            continue;
        };
        let (data, next) = segment::piece(slot.data, slot.segment_len, cursor.offset);
        // Only the last piece of a slot can have been cut; what is missing there is its own.
        let missing = if next.is_none() { slot.original_len - slot.data.len() } else { 0 };
        (cursor.slot, cursor.offset) = next.map_or((cursor.slot + 1, 0), |offset| (cursor.slot, offset));
        cursor.left = cursor.left.saturating_sub(1);
        let (truncated, original_len) = (missing > 0, data.len() + missing);
        return (Some(Gram { data, src, truncated, original_len, control: slot.control }), cursor);
    }
    (None, cursor)
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
