//! An io_uring with buffers lent to it, for multishot requests to fill (`io_uring_register_buf_ring(3)`).
#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::io;
use std::mem::{align_of, size_of};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::{Call, fault};

// `io_uring_buf` (linux/io_uring.h): entries follow each other without gaps.
const _: () = assert!(size_of::<BufRingEntry>() == 16 && align_of::<BufRingEntry>() <= 16);

/// The group of the one buffer ring each io_uring here has.
pub(super) const GROUP: u16 = 0;

/// An io_uring and the ring of entries it takes buffers from, one by one, in order.
pub(super) struct BufferRing {
    /// Dropped first: it knows of `entries`.
    pub(super) io_uring: IoUring,
    entries: Entries,
    /// It belongs to no thread yet, and takes no requests before it does (IORING_SETUP_R_DISABLED).
    pub(super) is_disabled: bool,
    /// How many entries the kernel has taken so far, modulo 2^16.
    taken: u16,
    /// What stands in the entries.
    placed: Placed,
}

/// Buffers `first`, `first + 1` … of somebody's, `count` of them, stand in the entries from `at` on.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
struct Placed {
    first: usize,
    at: u16,
    count: usize,
}

impl BufferRing {
    /// Room for at least `count` buffers to be lent to `io_uring` at a time.
    pub(super) fn new(io_uring: IoUring, count: usize, is_disabled: bool) -> io::Result<Self> {
        fault::limit(Call::Register)?;
        let entries = Entries::new(count)?;
        let address = entries.first.as_ptr() as u64;
        // SAFETY: `entries` has room for `count` of them and starts on a page. It outlives the io_uring,
        // which drops first, both in the value below and if this call fails.
        let registered = unsafe { io_uring.submitter().register_buf_ring_with_flags(address, entries.count, GROUP, 0) };
        let buffers = Self { io_uring, entries, is_disabled, taken: 0, placed: Placed::default() };
        registered.map(|()| buffers)
    }

    /// Takes note that the kernel has taken so many buffers.
    pub(super) fn on_taken(&mut self, count: u16) {
        self.taken = self.taken.wrapping_add(count);
    }

    /// Lends the kernel `count` buffers of `len` bytes, as numbers 0, 1, 2 …, instead of what it had not
    /// taken before: the buffers from `first` on, of which `address` tells where they start.
    ///
    /// # Panics
    ///
    /// If there are more than `new` was told.
    pub(super) fn provide(&mut self, first: usize, count: usize, len: usize, address: impl FnMut(usize) -> *mut u8) {
        let placed = Placed { first, at: self.taken & (self.entries.count - 1), count };
        // Nearly always so in a deep queue, where each call takes all there are.
        if self.placed != placed {
            self.place(placed, len, address);
        }
        // SAFETY: `first` is the first entry of the ring, as `tail` asks for.
        let tail = unsafe { BufRingEntry::tail(self.entries.first.as_ptr()) };
        // SAFETY: the tail is a u16 inside the first entry, aligned, and lives as long as `self`; the
        // kernel only reads it. There is no reference to the entry.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release, paired with smp_load_acquire in the kernel's io_ring_buffer_select: who sees the tail
        // sees the entries. The tail may go back: nothing is under way that could have read the old one.
        tail.store(self.taken.wrapping_add(count as u16), Ordering::Release);
    }

    fn place(&mut self, placed: Placed, len: usize, mut address: impl FnMut(usize) -> *mut u8) {
        let Entries { first, count, .. } = self.entries;
        assert!(placed.count <= usize::from(count));
        for number in 0..placed.count {
            let at = (usize::from(placed.at) + number) & usize::from(count - 1);
            // SAFETY: the index is below `count`, for which the memory was allocated.
            let entry = unsafe { first.add(at) };
            // SAFETY: allocated as zeroes, which are a valid entry; the kernel reads entries only inside a
            // system call, and `&mut self` keeps everybody else away.
            let entry = unsafe { &mut *entry.as_ptr() };
            entry.set_addr(address(placed.first + number) as u64);
            entry.set_len(len as u32);
            entry.set_bid(number as u16);
        }
        self.placed = placed;
    }
}

/// Memory for the entries.
struct Entries {
    first: NonNull<BufRingEntry>,
    layout: Layout,
    /// A power of two.
    count: u16,
}

// SAFETY: `first` leads to memory that is this value's own, and moves with it.
unsafe impl Send for Entries {}

impl Entries {
    fn new(count: usize) -> io::Result<Self> {
        // SAFETY: sysconf only reads a number.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page_bytes).map_err(|_| io::Error::last_os_error())?;
        let count = u16::try_from(count.next_power_of_two()).map_err(io::Error::other)?;
        let layout = Layout::array::<BufRingEntry>(count.into()).and_then(|layout| layout.align_to(page_bytes));
        let layout = layout.map_err(io::Error::other)?;
        // SAFETY: the layout's size is above zero, because `count` is.
        let memory = unsafe { alloc::alloc_zeroed(layout) };
        let first = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, layout, count })
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout. The io_uring that knew of it is gone: it stands
        // before this field in `BufferRing`.
        unsafe { alloc::dealloc(self.first.as_ptr().cast(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_as_the_kernel_reads_it_and_the_tail_stands_in_its_last_two_bytes() {
        // SAFETY: an entry is made of integers; zeroes are valid.
        let mut entry: BufRingEntry = unsafe { std::mem::zeroed() };
        let (addr, len, bid) = (0x0807_0605_0403_0201_u64, 0x0C0B_0A09_u32, 0x0E0D_u16);
        entry.set_addr(addr);
        entry.set_len(len);
        entry.set_bid(bid);
        // SAFETY: 16 bytes, as is asserted above, all of them initialised.
        let bytes = unsafe { (&raw const entry).cast::<[u8; 16]>().read() };
        // `io_uring_buf`: addr, len, bid, resv; the last is the tail in `io_uring_buf_ring` (linux/io_uring.h).
        assert_eq!(bytes[..], [&addr.to_ne_bytes()[..], &len.to_ne_bytes(), &bid.to_ne_bytes(), &[0, 0]].concat());
        // SAFETY: the pointer leads to an entry.
        let tail = unsafe { BufRingEntry::tail(&raw const entry) };
        assert_eq!(tail.addr() - (&raw const entry).addr(), 14);
    }
}
