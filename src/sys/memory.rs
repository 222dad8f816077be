//! Where the kernel puts received datagrams: slots of one size, end to end, in memory that never moves.
//!
//! ```text
//!   slot 0                                        slot 1
//!   ┌─────┬──────┬─────────┬────────────────────┬─────┬──────┬─────────┬──────────
//!   │ out │ name │ control │ slot_bytes …       │ out │ name │ control │ …
//!   └─────┴──────┴─────────┴────────────────────┴─────┴──────┴─────────┴──────────
//!   └──────── Prefix ──────┘     payload
//! ```
//!
//! The order is that of io_uring's multishot receive (`io_uring_recvmsg_out` in linux/io_uring.h), which
//! writes all four parts; `recvmmsg` is given pointers to the last three.
#![allow(unsafe_code)]

use std::io;
use std::mem::{align_of, offset_of, size_of};
use std::slice;

use libc::{c_int, cmsghdr, sockaddr_storage, socklen_t};

use super::{cmsg, touched};

/// Slots lie a whole number of cache lines apart. Where exactly they start does not matter: starting
/// each on a line of its own measured the same.
const LINE_BYTES: usize = 64;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; LINE_BYTES]);

/// What stands in front of each payload.
#[repr(C, align(64))]
pub(super) struct Prefix {
    /// Written by io_uring only.
    pub(super) out: Out,
    /// The sender's address.
    pub(super) name: sockaddr_storage,
    /// Makes the payload start on a cache line; counts as room for the name.
    _room: [u8; ROOM_BYTES],
    pub(super) control: [u8; cmsg::CONTROL_BYTES],
}

/// `io_uring_recvmsg_out` (linux/io_uring.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) name_len: socklen_t,
    pub(super) control_len: u32,
    /// With MSG_TRUNC the true length, also of a datagram that was cut.
    pub(super) payload_len: u32,
    pub(super) flags: c_int,
}

const UNPADDED_BYTES: usize = size_of::<Out>() + size_of::<sockaddr_storage>() + cmsg::CONTROL_BYTES;
const ROOM_BYTES: usize = UNPADDED_BYTES.next_multiple_of(LINE_BYTES) - UNPADDED_BYTES;
/// Bytes from the start of the name to the start of the control messages.
#[allow(dead_code, reason = "for io_uring only")]
pub(super) const NAME_BYTES: usize = size_of::<sockaddr_storage>() + ROOM_BYTES;

const _: () = assert!(size_of::<Out>() == 16 && align_of::<Out>() == 4);
const _: () = assert!(offset_of!(Out, name_len) == 0 && offset_of!(Out, control_len) == 4);
const _: () = assert!(offset_of!(Out, payload_len) == 8 && offset_of!(Out, flags) == 12);
const _: () = assert!(offset_of!(Prefix, out) == 0);
const _: () = assert!(offset_of!(Prefix, name) % align_of::<sockaddr_storage>() == 0);
const _: () = assert!(size_of::<Line>() == LINE_BYTES && size_of::<Prefix>() % LINE_BYTES == 0);
const _: () = assert!(offset_of!(Prefix, name) == size_of::<Out>());
const _: () = assert!(offset_of!(Prefix, control) == size_of::<Out>() + NAME_BYTES);
const _: () = assert!(offset_of!(Prefix, control) % align_of::<cmsghdr>() == 0);
const _: () = assert!(size_of::<Prefix>() == offset_of!(Prefix, control) + cmsg::CONTROL_BYTES);
const _: () = assert!(align_of::<Prefix>() == align_of::<Line>());

/// The slots.
pub(super) struct Memory {
    /// `stride_bytes` for each slot; never grows or shrinks, so that what pointers lead to never moves.
    lines: Vec<Line>,
    /// Bytes from one slot's start to the next one's: a whole number of lines.
    stride_bytes: usize,
    slot_bytes: usize,
}

impl Memory {
    /// # Errors
    ///
    /// [`io::ErrorKind::OutOfMemory`] if the system has not as much.
    pub(super) fn new(slots: usize, slot_bytes: usize) -> io::Result<Self> {
        let stride_lines = (size_of::<Prefix>() + slot_bytes).div_ceil(LINE_BYTES);
        // A byte that is not zero, so that every page is really touched now.
        let lines = touched(Line([0xA5; LINE_BYTES]), slots.checked_mul(stride_lines))?;
        Ok(Self { lines, stride_bytes: stride_lines * LINE_BYTES, slot_bytes })
    }

    /// Most bytes kept of a datagram.
    pub(super) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Where slot `i` starts, for the kernel to write from there on: a [`Prefix`], then `slot_bytes` bytes.
    ///
    /// # Panics
    ///
    /// If there is no slot `i`.
    pub(super) fn start_mut(&mut self, i: usize) -> *mut Prefix {
        let first = i * self.stride_lines();
        assert!(first < self.lines.len());
        // SAFETY: the index was just checked.
        unsafe { self.lines.as_mut_ptr().add(first) }.cast()
    }

    fn stride_lines(&self) -> usize {
        self.stride_bytes / LINE_BYTES
    }

    /// All slots, for reading.
    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View { lines: &self.lines, stride_bytes: self.stride_bytes }
    }

    /// Puts what stands in slot `from` into slot `to` as well.
    #[allow(dead_code, reason = "for io_uring only")]
    pub(super) fn copy_slot(&mut self, from: usize, to: usize) {
        let stride = self.stride_lines();
        self.lines.copy_within(from * stride..(from + 1) * stride, to * stride);
    }
}

/// Slots for reading: small enough for a loop to keep in registers.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    lines: &'a [Line],
    /// Bytes from one slot's start to the next one's.
    stride_bytes: usize,
}

impl<'a> View<'a> {
    /// What the kernel wrote in front of the payload of slot `i`.
    ///
    /// # Safety
    ///
    /// There must be a slot `i`.
    #[inline(always)]
    pub(super) unsafe fn prefix(self, i: usize) -> &'a Prefix {
        // SAFETY: the caller says that there is a slot `i`.
        let start = unsafe { self.lines.as_ptr().cast::<u8>().add(i * self.stride_bytes) };
        // SAFETY: a slot starts with a Prefix (`Memory::new`), aligned as lines are; all its bytes are
        // initialised, and it is made of integers only.
        unsafe { &*start.cast::<Prefix>() }
    }

    /// The first `len` bytes of the payload of slot `i`.
    ///
    /// # Safety
    ///
    /// There must be a slot `i`, and `len` must be no more than its `slot_bytes`.
    #[inline(always)]
    pub(super) unsafe fn payload(self, i: usize, len: usize) -> &'a [u8] {
        // SAFETY: the caller says that there is a slot `i`.
        let start = unsafe { self.lines.as_ptr().cast::<u8>().add(i * self.stride_bytes) };
        // SAFETY: behind its prefix a slot has `slot_bytes` bytes (`Memory::new`).
        let payload = unsafe { start.add(size_of::<Prefix>()) };
        // SAFETY: the caller says that `len` is no more; all of `lines` is initialised, and borrowed for 'a.
        unsafe { slice::from_raw_parts(payload, len) }
    }
}
