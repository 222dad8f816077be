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
///
/// A `for` loop with much in it, and any over coalesced datagrams, runs in fewer instructions as a
/// [`for_each`](Iterator::for_each) or `fold`: these know what a whole batch has in common.
#[derive(Clone)]
pub struct Grams<'a> {
    batch: Batch<'a>,
    cursor: Cursor,
    /// What is left of the slot before the one where the cursor stands, in a batch of runs.
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
        self.cursor.left_in(&self.batch)
    }

    #[inline(always)]
    fn next_plain(&mut self, family: Family) -> Option<Gram<'a>> {
        let WholeSlot { data, src, control } = self.batch.whole_slot(self.cursor.slot, family)?;
        self.cursor.slot += 1;
        Some(whole(data, src, control))
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
            let (gram, cursor, run) = next_of_any(self.batch, self.cursor, self.run);
            (self.cursor, self.run) = (cursor, run);
            return gram;
        };
        // Each family by itself: the caller's loop then knows which address it gets.
        match family {
            Family::V4 => self.next_plain(Family::V4),
            Family::V6 => self.next_plain(Family::V6),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left(), Some(self.left()))
    }

    /// What `for_each` and its kin use. A loop of its own for each shape, and inside it one for the grams of
    /// each coalesced slot, which all have one size and one source: a `for` loop may have to ask at each gram.
    #[inline]
    fn fold<B, F: FnMut(B, Gram<'a>) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        match self.batch.shape() {
            Shape::Plain(Family::V4) => {
                while let Some(gram) = self.next_plain(Family::V4) {
                    folded = f(folded, gram);
                }
            }
            Shape::Plain(Family::V6) => {
                while let Some(gram) = self.next_plain(Family::V6) {
                    folded = f(folded, gram);
                }
            }
            Shape::Runs(family) => {
                while let Some(gram) = next_of_runs(self.batch, &mut self.cursor, &mut self.run, family) {
                    folded = f(folded, gram);
                    let Run { mut rest, segment_len, src, control } = self.run;
                    while let Some((data, tail)) = rest.split_at_checked(segment_len) {
                        folded = f(folded, whole(data, src, control));
                        rest = tail;
                    }
                    self.run.rest = rest;
                }
            }
            Shape::Mixed => {
                while let Some(gram) = next_of_mixed(self.batch, &mut self.cursor) {
                    folded = f(folded, gram);
                }
            }
        }
        folded
    }
}

/// A gram of which nothing was cut off.
#[inline(always)]
pub(crate) fn whole<'a>(data: &'a [u8], src: SocketAddr, control: &'a [u8]) -> Gram<'a> {
    Gram { data, src, truncated: false, original_len: data.len(), control }
}

/// The next gram of a batch that is not plain, where it is not just the next one of `run`; where the one
/// after it starts, and what is left of its slot. By value, so that the caller's loop can keep it in registers.
#[inline(never)]
fn next_of_any<'a>(batch: Batch<'a>, mut cursor: Cursor, mut run: Run<'a>) -> (Option<Gram<'a>>, Cursor, Run<'a>) {
    let gram = match batch.shape() {
        Shape::Plain(family) | Shape::Runs(family) => next_of_runs(batch, &mut cursor, &mut run, family),
        Shape::Mixed => next_of_mixed(batch, &mut cursor),
    };
    (gram, cursor, run)
}

/// The last gram of `run`, if that is shorter than the others, else the first one of the next slot.
#[inline(always)]
fn next_of_runs<'a>(batch: Batch<'a>, cursor: &mut Cursor, run: &mut Run<'a>, family: Family) -> Option<Gram<'a>> {
    if run.rest.is_empty() {
        let WholeSlot { data, src, control } = batch.whole_slot(cursor.slot, family)?;
        let segment_len = match batch.segment_len(cursor.slot) {
            0 => data.len().max(1),
            len => len,
        };
        *run = Run { rest: &data[cursor.offset..], segment_len, src, control };
        (cursor.slot, cursor.offset) = (cursor.slot + 1, 0);
    }
    let (data, rest) = run.rest.split_at(run.segment_len.min(run.rest.len()));
    run.rest = rest;
    cursor.left -= 1;
    Some(whole(data, run.src, run.control))
}

/// The next gram where slots may be cut, coalesced or not deliverable.
pub(crate) fn next_of_mixed<'a>(batch: Batch<'a>, cursor: &mut Cursor) -> Option<Gram<'a>> {
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
        return Some(Gram { data, src, truncated, original_len, control: slot.control });
    }
    None
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
    /// Not kept up in a plain batch, where `slot` says it all.
    pub left: usize,
}

impl Cursor {
    /// Number of grams left from here on.
    #[inline]
    pub(crate) fn left_in(&self, batch: &Batch<'_>) -> usize {
        match batch.shape() {
            Shape::Plain(_) => batch.len().saturating_sub(self.slot),
            Shape::Runs(_) | Shape::Mixed => self.left,
        }
    }
}
