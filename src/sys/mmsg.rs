//! The Linux backend: many datagrams a system call with `recvmmsg(2)`, and with `sendmmsg(2)` in
//! `sendmmsg.rs`.
//!
//! ```text
//!            headers (mmsghdr)         iovecs              bytes
//!          ┌──────────────────┐     ┌──────────┐     ┌───────────────┐
//!  slot 0  │ name iov control ├────▶│ base len ├────▶│ slot_bytes …  │
//!  slot 1  │ name iov control ├────▶│ base len ├────▶│ slot_bytes …  │
//!          └──┬───────────┬───┘     └──────────┘     └───────────────┘
//!             ▼           ▼
//!           names      controls
//! ```
//!
//! Every array is a `Vec` that is filled once in `new` and never grows or shrinks, so the heap
//! memory its elements stand in never moves: not when the `RecvSlots` moves, not when it changes
//! threads. The pointers between the arrays are wired once, in `new`.
//!
//! Two lengths of each header tell the kernel how much room there is, and it overwrites them with how
//! much it used (`msg_namelen`, `msg_controllen`); `prepare` puts them back before the next call.
//! After `new`, `prepare` alone writes the headers; `tally` and `slot` read back what the kernel wrote.
#![allow(unsafe_code)]

use std::io;
use std::mem::{align_of, size_of};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, c_uint, cmsghdr, iovec, mmsghdr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

use super::{Call, Family, Received, Shape, Slot, WholeSlot, addr, cmsg, fault, touched};

pub(crate) const BACKEND: &str = "mmsg";
pub(crate) const COALESCES: bool = true;

/// Slots lie a whole number of cache lines apart. Where exactly they start does not matter: starting
/// each on a line of its own measured the same.
const LINE_BYTES: usize = 64;

/// Room for one datagram's control messages, aligned as `cmsghdr` needs (a plain byte array is not).
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct ControlSpace([u8; cmsg::CONTROL_BYTES]);

const _: () = assert!(align_of::<ControlSpace>() >= align_of::<cmsghdr>());

/// Length of an IPv4 address as the kernel gives it.
const V4_BYTES: usize = size_of::<sockaddr_in>();
/// Length of an IPv6 address as the kernel gives it.
const V6_BYTES: usize = size_of::<sockaddr_in6>();

pub(super) fn empty_header() -> mmsghdr {
    // SAFETY: mmsghdr holds integers and raw pointers only (recvmmsg(2)); zeroes and nulls are valid.
    unsafe { std::mem::zeroed() }
}

pub(crate) struct RecvSlots {
    /// Payload memory: `slots × stride` bytes. Header pointers lead here.
    bytes: Vec<u8>,
    /// Where the kernel writes each sender's address.
    names: Vec<sockaddr_storage>,
    /// Where the kernel writes each datagram's control messages.
    controls: Vec<ControlSpace>,
    /// One per slot, read by the kernel through the headers; never read again from here.
    _iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
    /// Most bytes kept of a datagram.
    slot_bytes: usize,
    /// Bytes from one slot's start to the next one's: `slot_bytes`, rounded up to whole cache lines.
    stride: usize,
    /// Headers `0..used` were written by the kernel in the last call and must be restored.
    used: usize,
    /// Whether a slot may hold several datagrams, whose size its control messages tell.
    coalesced: bool,
    /// What the slots of the last `recv` have in common.
    shape: Shape,
}

// SAFETY: the raw pointers inside the headers lead only into the heap memory of this very value's
// own Vecs (wired in `new`), which moves with it; nothing else holds a copy of them.
unsafe impl Send for RecvSlots {}

impl RecvSlots {
    pub(crate) fn new(slots: usize, slot_bytes: usize) -> io::Result<Self> {
        let stride = slot_bytes.next_multiple_of(LINE_BYTES);
        // Filled with a byte that is not zero, so that every page is really touched now: zeroed
        // memory comes from the kernel untouched, and the first datagrams would pay for it.
        // Checked: where usize has 32 bits, 65,536 slots of 65,536 bytes would be a Vec of none.
        let mut bytes = touched(0xA5_u8, slots.checked_mul(stride))?;
        let mut names = touched(addr::empty(), Some(slots))?;
        let mut controls = touched(ControlSpace([0xA5; cmsg::CONTROL_BYTES]), Some(slots))?;
        let mut headers = touched(empty_header(), Some(slots))?;

        let base = bytes.as_mut_ptr();
        let mut iovecs = touched(iovec { iov_base: base.cast(), iov_len: slot_bytes }, Some(slots))?;
        for (i, iovec) in iovecs.iter_mut().enumerate() {
            // SAFETY: i < slots, so i × stride is inside the slots × stride bytes of `bytes`.
            iovec.iov_base = unsafe { base.add(i * stride) }.cast();
        }

        let (first_name, first_control) = (names.as_mut_ptr(), controls.as_mut_ptr());
        let first_iovec = iovecs.as_mut_ptr();
        for (i, header) in headers.iter_mut().enumerate() {
            // SAFETY: i < slots, the length of `names`.
            header.msg_hdr.msg_name = unsafe { first_name.add(i) }.cast();
            // SAFETY: i < slots, the length of `controls`.
            header.msg_hdr.msg_control = unsafe { first_control.add(i) }.cast();
            // SAFETY: i < slots, the length of `iovecs`.
            header.msg_hdr.msg_iov = unsafe { first_iovec.add(i) };
            header.msg_hdr.msg_iovlen = 1;
        }
        // Every header counts as used, so that the first `prepare` sets all lengths.
        Ok(Self {
            bytes,
            names,
            controls,
            _iovecs: iovecs,
            headers,
            slot_bytes,
            stride,
            used: slots,
            coalesced: false,
            shape: Shape::Mixed,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.headers.len()
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// The first `len` slots of the last batch.
    ///
    /// # Panics
    ///
    /// If `len` is more than the `slots` that `recv` reported.
    #[inline]
    pub(crate) fn batch(&self, len: usize) -> Batch<'_> {
        assert!(len <= self.used);
        // SAFETY: `used` is at most the length of `headers` (`new`, `recv`), and `len` at most `used`.
        let headers = unsafe { self.headers.get_unchecked(..len) };
        // SAFETY: as for `headers`; `names` was made with the same length and never changes it.
        let names = unsafe { self.names.get_unchecked(..len) };
        // SAFETY: as for `names`.
        let controls = unsafe { self.controls.get_unchecked(..len) };
        Batch { shape: self.shape, headers, names, controls, bytes: &self.bytes, stride: self.stride, slots: self }
    }

    pub(crate) fn set_coalesced(&mut self, coalesced: bool) {
        self.coalesced = coalesced;
    }

    pub(crate) fn recv(&mut self, socket: &UdpSocket) -> Received {
        let allowed = match fault::limit(Call::Recv) {
            Ok(limit) => self.count().min(limit),
            Err(error) => return Received { calls: 1, ended_by: Some(error), ..Received::default() },
        };
        self.prepare();
        // recvmmsg(2), argument by argument:
        // - vlen: number of headers; the kernel fills at most so many and says how many.
        // - MSG_DONTWAIT: never block, whatever the descriptor's mode. A blocking call may leave
        //   errno 512 on the socket when a signal arrives after the first datagram.
        // - MSG_TRUNC: msg_len is the true length even when the datagram was cut; `slot` clamps it.
        // - timeout NULL: the kernel checks its timeout only after each datagram, so {0,0} would
        //   turn this call into recvmsg and any other value would not bound the wait.
        // SAFETY: `headers` holds at least `allowed` elements, whose name, iov and control pointers
        // lead into this value's own Vecs (wired in `new`, which never grow), with the lengths
        // `prepare` has just restored; `&mut self` keeps everybody else out until the call returns.
        let filled = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                allowed as c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_TRUNC) as _,
                ptr::null_mut(),
            )
        };
        if filled < 0 {
            let error = io::Error::last_os_error();
            return Received { calls: 1, ended_by: Some(error), ..Received::default() };
        }
        self.used = filled as usize;
        self.tally()
    }

    /// Restores the two lengths the kernel overwrote in the headers it used last time. `msg_flags` and
    /// `msg_len` it only writes.
    fn prepare(&mut self) {
        for header in &mut self.headers[..self.used] {
            header.msg_hdr.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            header.msg_hdr.msg_controllen = cmsg::CONTROL_BYTES as _;
        }
        self.used = 0;
    }

    /// Counts what the call brought, and finds out what its slots have in common.
    #[inline]
    fn tally(&mut self) -> Received {
        let (mut bytes, mut flags, mut any_len, mut all_lens) = (0, 0, 0, socklen_t::MAX);
        for header in &self.headers[..self.used] {
            bytes += header.msg_len as usize;
            flags |= header.msg_hdr.msg_flags;
            any_len |= header.msg_hdr.msg_namelen;
            all_lens &= header.msg_hdr.msg_namelen;
        }
        // A UDP socket gives a whole sockaddr_in or a whole sockaddr_in6 (udp_recvmsg in net/ipv4/udp.c,
        // udpv6_recvmsg in net/ipv6/udp.c), so where all lengths are one of these, all names are good.
        let is_whole = flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0 && any_len == all_lens;
        let family = match any_len as usize {
            V4_BYTES if is_whole => Some(Family::V4),
            V6_BYTES if is_whole => Some(Family::V6),
            _ => None,
        };
        self.shape = match family {
            Some(family) if self.coalesced => Shape::Runs(family),
            Some(family) => Shape::Plain(family),
            None => Shape::Mixed,
        };
        let mut received = match family {
            Some(_) => Received { deliverable: self.used, bytes, ..Received::default() },
            None => self.tally_each(),
        };
        (received.slots, received.calls) = (self.used, 1);
        // The counter only grows and every datagram carries it, so the newest says it all.
        if self.used > 0 {
            received.kernel_drops = cmsg::kernel_drops(self.control(self.used - 1));
        }
        received
    }

    #[cold]
    fn tally_each(&self) -> Received {
        let mut received = Received::default();
        for (header, name) in self.headers[..self.used].iter().zip(&self.names) {
            let hdr = &header.msg_hdr;
            let len = header.msg_len as usize;
            received.control_truncated += usize::from(hdr.msg_flags & libc::MSG_CTRUNC != 0);
            if !addr::is_decodable(name, hdr.msg_namelen) || self.lost_its_segments(hdr.msg_flags) {
                received.undecodable += 1;
                continue;
            }
            received.bytes += len.min(self.slot_bytes);
            received.truncated += usize::from(len > self.slot_bytes);
            received.deliverable += 1;
        }
        received
    }

    /// A coalesced slot whose control data was cut cannot be taken apart again.
    #[inline]
    fn lost_its_segments(&self, flags: c_int) -> bool {
        self.coalesced && flags & libc::MSG_CTRUNC != 0
    }

    /// Control messages of slot `i`, as long as the kernel says.
    #[inline]
    fn control(&self, i: usize) -> &[u8] {
        #[allow(clippy::unnecessary_cast, reason = "an u32 in musl")]
        let len = self.headers[i].msg_hdr.msg_controllen as usize;
        &self.controls[i].0[..len.min(cmsg::CONTROL_BYTES)]
    }

    /// Slot `i` of the last `recv`.
    ///
    /// # Panics
    ///
    /// If `i` is not below the `slots` it reported.
    #[inline]
    pub(crate) fn slot(&self, i: usize) -> Slot<'_> {
        let header = &self.headers[..self.used][i];
        let original_len = header.msg_len as usize;
        let start = i * self.stride;
        let data = &self.bytes[start..start + original_len.min(self.slot_bytes)];
        let control = self.control(i);
        let segment_len = if self.coalesced { cmsg::parse(control).segment_len.unwrap_or(0) } else { 0 };
        let src = if self.lost_its_segments(header.msg_hdr.msg_flags) {
            None
        } else {
            addr::decode(&self.names[i], header.msg_hdr.msg_namelen)
        };
        Slot { data, original_len, src, segment_len, control }
    }
}

/// The last batch of a [`RecvSlots`], for reading: small enough for a loop to keep in registers.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    shape: Shape,
    /// These three have one length: that of the batch.
    headers: &'a [mmsghdr],
    names: &'a [sockaddr_storage],
    controls: &'a [ControlSpace],
    bytes: &'a [u8],
    stride: usize,
    slots: &'a RecvSlots,
}

impl<'a> Batch<'a> {
    /// Number of slots.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.headers.len()
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
    pub(crate) fn slot(&self, i: usize) -> Slot<'a> {
        self.slots.slot(i)
    }

    /// Slot `i` of a batch that is not mixed, and whose senders are of this family.
    ///
    /// # Panics
    ///
    /// If the batch is mixed, or `i` is not below `len`.
    #[inline(always)]
    pub(crate) fn whole_slot(&self, i: usize, family: Family) -> WholeSlot<'a> {
        assert!(self.shape != Shape::Mixed);
        let header = &self.headers[i];
        // SAFETY: `batch` cut `names` to the length of `headers`, and `i` is below that.
        let name = unsafe { self.names.get_unchecked(i) };
        let start = i * self.stride;
        // SAFETY: `bytes` has one stride for each header (`new`). The batch is not mixed, so `tally` found
        // no MSG_TRUNC, which the kernel sets wherever it says a length longer than the iovec's slot_bytes
        // (udp_recvmsg in net/ipv4/udp.c); so msg_len <= slot_bytes <= stride.
        let data = unsafe { self.bytes.get_unchecked(start..start + header.msg_len as usize) };
        let src = match family {
            Family::V4 => SocketAddr::V4(addr::read_v4(name)),
            Family::V6 => SocketAddr::V6(addr::read_v6(name)),
        };
        WholeSlot { data, src, control: self.control(i) }
    }

    /// Size of the datagrams coalesced into slot `i`; 0 when it holds a single one.
    #[inline]
    pub(crate) fn segment_len(&self, i: usize) -> usize {
        cmsg::parse(self.control(i)).segment_len.unwrap_or(0)
    }

    /// Control messages of slot `i`, as long as the kernel says.
    #[inline(always)]
    fn control(&self, i: usize) -> &'a [u8] {
        let header = &self.headers[i];
        // SAFETY: `batch` cut `controls` to the length of `headers`, and `i` is below that.
        let control = unsafe { self.controls.get_unchecked(i) };
        #[allow(clippy::unnecessary_cast, reason = "an u32 in musl")]
        let len = (header.msg_hdr.msg_controllen as usize).min(cmsg::CONTROL_BYTES);
        &control.0[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_lead_into_the_slots_own_memory_even_after_a_move() {
        let slots = RecvSlots::new(5, 100).unwrap();
        let moved = Box::new(slots);
        let span = moved.bytes.as_ptr_range();
        for (i, header) in moved.headers.iter().enumerate() {
            // SAFETY: msg_iov leads to element i of the iovecs, which `moved` still owns.
            let iov = unsafe { *header.msg_hdr.msg_iov };
            assert_eq!(iov.iov_base.cast_const().cast(), span.start.wrapping_add(i * moved.stride));
            assert!(iov.iov_base.cast_const().cast::<u8>().wrapping_add(iov.iov_len) <= span.end);
            assert_eq!(header.msg_hdr.msg_name.cast_const().cast(), &raw const moved.names[i]);
            assert_eq!(header.msg_hdr.msg_control.cast_const().cast(), &raw const moved.controls[i]);
            assert_eq!(header.msg_hdr.msg_control as usize % align_of::<cmsghdr>(), 0);
        }
    }

    #[test]
    fn more_slots_than_there_are_addresses_are_an_error_and_not_a_small_allocation() {
        // As `bc` 65,536 and `gram_size` 65,535 are where usize has 32 bits: the sum wraps to 0.
        let half = 1 << (usize::BITS / 2);
        assert_eq!(RecvSlots::new(half, half).err().unwrap().kind(), io::ErrorKind::OutOfMemory);
    }
}
