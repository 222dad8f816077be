//! The Linux backend: many datagrams a system call with `recvmmsg(2)`, and with `sendmmsg(2)` in
//! `sendmmsg.rs`.
//!
//! ```text
//!            headers (mmsghdr)        iovecs               Memory: one slot
//!          ┌──────────────────┐     ┌──────────┐     ┌────────────────────────┐
//!  slot 0  │ name iov control ├────▶│ base len ├──┐  │ name │ control │ bytes │
//!  slot 1  │ name iov control ├──┐  └──────────┘  │  └────────────────────────┘
//!          └──────────────────┘  │                └──────────────────▲
//!                                └─────────────────▲──────▲
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
use std::mem::{offset_of, size_of};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, c_uint, iovec, mmsghdr, msghdr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

use super::memory::{Memory, View};
use super::uring::Uring;
use super::{Call, Family, Filled, Received, Shape, Slot, WholeSlot, addr, cmsg, fault, touched};

pub(crate) const BACKEND: &str = "mmsg";
pub(crate) const COALESCES: bool = true;

/// Fewer datagrams than this cost more through io_uring than through `recvmmsg`, because each call does.
const URING_GRAMS_MIN: usize = 16;

/// Length of an IPv4 address as the kernel gives it.
const V4_BYTES: usize = size_of::<sockaddr_in>();
/// Length of an IPv6 address as the kernel gives it.
const V6_BYTES: usize = size_of::<sockaddr_in6>();

// writev(2), recvmsg(2), recvmmsg(2)
const _: () = {
    // Of a pointer and of a size_t. musl has an int and padding, in the order of the processor, in two places where the
    // kernel has a size_t.
    const WORD: usize = size_of::<usize>();
    assert!(size_of::<iovec>() == 2 * WORD && offset_of!(iovec, iov_base) == 0 && offset_of!(iovec, iov_len) == WORD);
    assert!(size_of::<msghdr>() == 7 * WORD);
    assert!(offset_of!(msghdr, msg_name) == 0 && offset_of!(msghdr, msg_namelen) == WORD);
    assert!(offset_of!(msghdr, msg_iov) == 2 * WORD && offset_of!(msghdr, msg_iovlen) / WORD == 3);
    assert!(offset_of!(msghdr, msg_control) == 4 * WORD && offset_of!(msghdr, msg_controllen) / WORD == 5);
    assert!(offset_of!(msghdr, msg_flags) == 6 * WORD);
    assert!(size_of::<mmsghdr>() == 8 * WORD);
    assert!(offset_of!(mmsghdr, msg_hdr) == 0 && offset_of!(mmsghdr, msg_len) == 7 * WORD);
};

pub(super) fn empty_header() -> mmsghdr {
    // SAFETY: mmsghdr holds integers and raw pointers only (recvmmsg(2)); zeroes and nulls are valid.
    unsafe { std::mem::zeroed() }
}

pub(crate) struct RecvSlots {
    /// Where the kernel writes each datagram, its sender's address and its control messages.
    memory: Memory,
    /// One per slot, read by the kernel through the headers; never read again from here.
    _iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
    /// The other way to fill the slots, if there is one.
    uring: Option<Uring>,
    /// Slots `0..filled` hold the last batch, until it is forgotten. At most the number of headers.
    filled: usize,
    /// How many datagrams each of the last two calls brought: as many are expected of the next.
    brought: [usize; 2],
    /// Headers `0..written` were overwritten since `prepare` restored them.
    written: usize,
    /// Whether a slot may hold several datagrams, whose size its control messages tell.
    coalesced: bool,
    /// What the slots of the last `recv` have in common.
    shape: Shape,
}

// SAFETY: the raw pointers inside the headers lead only into the heap memory of this very value's
// own Vecs and `Memory` (wired in `new`), which moves with it; nothing else holds a copy of them.
unsafe impl Send for RecvSlots {}

impl RecvSlots {
    pub(crate) fn new(slots: usize, slot_bytes: usize, io_uring: bool) -> io::Result<Self> {
        let mut memory = Memory::new(slots, slot_bytes)?;
        let mut headers = touched(empty_header(), Some(slots))?;
        let mut iovecs = touched(iovec { iov_base: ptr::null_mut(), iov_len: slot_bytes }, Some(slots))?;
        let first_iovec = iovecs.as_mut_ptr();
        for (i, header) in headers.iter_mut().enumerate() {
            let slot = memory.start_mut(i);
            // SAFETY: a slot is a Prefix and `slot_bytes` bytes behind it.
            let payload = unsafe { slot.add(1) }.cast();
            // SAFETY: i < slots, the length of `iovecs`.
            let iovec = unsafe { first_iovec.add(i) };
            // SAFETY: as above; `iovecs` itself is not touched any more.
            unsafe { (*iovec).iov_base = payload };
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            // SAFETY: the slot starts with a Prefix, whose field this is.
            header.msg_hdr.msg_name = unsafe { &raw mut (*slot).name }.cast();
            // SAFETY: as for the name.
            header.msg_hdr.msg_control = unsafe { &raw mut (*slot).control }.cast();
        }
        let uring = match io_uring.then(|| Uring::new(slots)) {
            Some(Err(error)) if cfg!(force_uring) => return Err(error),
            // Whatever the reason (an old kernel, seccomp, a sysctl, no descriptor left): recvmmsg does the same.
            uring => uring.and_then(Result::ok),
        };
        // Every header counts as written, so that the first `prepare` sets all lengths.
        let (filled, brought, written, coalesced, shape) = (0, [0; 2], slots, false, Shape::Mixed);
        Ok(Self { memory, _iovecs: iovecs, headers, uring, filled, brought, written, coalesced, shape })
    }

    pub(crate) fn backend(&self) -> &'static str {
        if self.uring.is_some() { "io_uring" } else { BACKEND }
    }

    pub(crate) fn count(&self) -> usize {
        self.headers.len()
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.memory.slot_bytes()
    }

    /// The slots of the last `recv`; none after `forget`.
    #[inline(always)]
    pub(crate) fn batch(&self) -> Batch<'_> {
        // SAFETY: `filled` is at most the number of headers: `new`, `recv` and `forget` set it.
        let headers = unsafe { self.headers.get_unchecked(..self.filled) };
        let (memory, slot_bytes) = (self.memory.view(), self.memory.slot_bytes());
        Batch { shape: self.shape, headers, memory, slot_bytes, coalesced: self.coalesced }
    }

    /// Forgets the slots of the last `recv`.
    pub(crate) fn forget(&mut self) {
        self.filled = 0;
    }

    pub(crate) fn set_coalesced(&mut self, coalesced: bool) {
        self.coalesced = coalesced;
    }

    pub(crate) fn recv(&mut self, socket: &UdpSocket) -> Received {
        self.forget();
        let allowed = match fault::limit(Call::Recv) {
            Ok(limit) => self.count().min(limit),
            Err(error) => return Received { calls: 1, ended_by: Some(error), ..Received::default() },
        };
        if let Some(received) = self.recv_by_uring(socket, allowed) {
            return received;
        }
        self.prepare();
        // recvmmsg(2), argument by argument:
        // - vlen: number of headers; the kernel fills at most so many and says how many.
        // - MSG_DONTWAIT: never block, whatever the descriptor's mode. A blocking call may leave
        //   errno 512 on the socket when a signal arrives after the first datagram.
        // - MSG_TRUNC: msg_len is the true length even when the datagram was cut; `slot` clamps it.
        // - timeout NULL: the kernel checks its timeout only after each datagram, so {0,0} would
        //   turn this call into recvmsg and any other value would not bound the wait.
        // SAFETY: `headers` holds at least `allowed` elements, whose name, iov and control pointers
        // lead into this value's own memory (wired in `new`, which never moves), with the lengths
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
        let filled = match usize::try_from(filled) {
            Ok(slots) => Filled { slots, calls: 1, ended_by: None },
            Err(_) => Filled { slots: 0, calls: 1, ended_by: Some(io::Error::last_os_error()) },
        };
        let sums = Sums::of(&mut self.headers[..filled.slots], |_, _| {});
        self.tally(&sums, filled)
    }

    /// What io_uring brings, where it is there and many datagrams are expected; `None` leaves it to
    /// `recvmmsg`.
    fn recv_by_uring(&mut self, socket: &UdpSocket, allowed: usize) -> Option<Received> {
        let uring = self.uring.as_mut()?;
        // One deep batch may have been all there was.
        let [before, last] = self.brought;
        if before.min(last) < URING_GRAMS_MIN && !cfg!(force_uring) {
            return None;
        }
        let filled = uring.recv(socket, &mut self.memory, allowed, last);
        if uring.is_broken() {
            self.uring = None; // for good: what it has not taken is still in the socket
            if filled.slots == 0 && filled.ended_by.is_none() {
                return None;
            }
        }
        let memory = self.memory.view();
        let sums = Sums::of(&mut self.headers[..filled.slots], |header, i| {
            // SAFETY: there is a slot for each header.
            let out = unsafe { memory.prefix(i) }.out;
            // What `recvmmsg` would have written.
            header.msg_len = out.payload_len;
            header.msg_hdr.msg_namelen = out.name_len;
            header.msg_hdr.msg_controllen = out.control_len as _;
            header.msg_hdr.msg_flags = out.flags;
        });
        Some(self.tally(&sums, filled))
    }

    /// Restores the two lengths that were overwritten in the headers used since the last time. `msg_flags`
    /// and `msg_len` the kernel only writes.
    fn prepare(&mut self) {
        for header in &mut self.headers[..self.written] {
            header.msg_hdr.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            header.msg_hdr.msg_controllen = cmsg::CONTROL_BYTES as _;
        }
        self.written = 0;
    }

    /// Counts what the call brought, and finds out what its slots have in common.
    #[inline(always)]
    fn tally(&mut self, sums: &Sums, filled: Filled) -> Received {
        self.filled = filled.slots;
        self.brought = [self.brought[1], filled.slots];
        self.written = self.written.max(filled.slots);
        let family = sums.family(filled.slots);
        self.shape = match family {
            Some(family) if self.coalesced => Shape::Runs(family),
            Some(family) => Shape::Plain(family),
            None => Shape::Mixed,
        };
        let mut received = match family {
            Some(_) => Received { deliverable: self.filled, bytes: sums.bytes, ..Received::default() },
            None => self.tally_each(),
        };
        let Filled { slots, calls, ended_by } = filled;
        (received.slots, received.calls, received.ended_by) = (slots, calls, ended_by);
        // The counter only grows and every datagram carries it, so the newest says it all.
        if self.filled > 0 {
            received.kernel_drops = cmsg::kernel_drops(self.batch().control(self.filled - 1));
        }
        received
    }

    #[cold]
    fn tally_each(&self) -> Received {
        let mut received = Received::default();
        let batch = self.batch();
        for (i, header) in batch.headers.iter().enumerate() {
            let slot = batch.slot(i);
            received.control_truncated += usize::from(is_control_cut(header));
            if slot.src.is_none() {
                received.undecodable += 1;
                continue;
            }
            received.bytes += slot.data.len();
            received.truncated += usize::from(slot.original_len > slot.data.len());
            received.deliverable += 1;
        }
        received
    }
}

/// What the headers of a batch come to, all together.
struct Sums {
    bytes: usize,
    name_bytes: usize,
    flags: c_int,
}

impl Sums {
    /// Looks at each of `headers` once, after `fill_in`.
    #[inline(always)]
    fn of(headers: &mut [mmsghdr], fill_in: impl Fn(&mut mmsghdr, usize)) -> Self {
        let (mut bytes, mut name_bytes, mut flags) = (0, 0, 0);
        for (i, header) in headers.iter_mut().enumerate() {
            fill_in(header, i);
            bytes += header.msg_len as usize;
            name_bytes += header.msg_hdr.msg_namelen;
            flags |= header.msg_hdr.msg_flags;
        }
        Self { bytes, name_bytes: name_bytes as usize, flags }
    }

    /// The family all senders of `count` datagrams have, if every datagram is whole.
    fn family(&self, count: usize) -> Option<Family> {
        // A UDP socket gives a whole sockaddr_in or a whole sockaddr_in6 (udp_recvmsg in net/ipv4/udp.c,
        // udpv6_recvmsg in net/ipv6/udp.c), never less and never more. So only where all names are of one
        // family is the sum the least or the most it can be.
        let is_whole = self.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
        match self.name_bytes {
            sum if is_whole && sum == count * V4_BYTES => Some(Family::V4),
            sum if is_whole && sum == count * V6_BYTES => Some(Family::V6),
            _ => None,
        }
    }
}

fn is_control_cut(header: &mmsghdr) -> bool {
    header.msg_hdr.msg_flags & libc::MSG_CTRUNC != 0
}

/// The last batch of a [`RecvSlots`], for reading: small enough for a loop to keep in registers.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    shape: Shape,
    /// One for each datagram.
    headers: &'a [mmsghdr],
    /// A slot for each of `headers`, or more.
    memory: View<'a>,
    slot_bytes: usize,
    coalesced: bool,
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
        let header = &self.headers[i];
        let original_len = header.msg_len as usize;
        // SAFETY: `memory` has a slot for each of `headers`.
        let prefix = unsafe { self.memory.prefix(i) };
        // A coalesced slot whose control data was cut cannot be taken apart again.
        let is_lost = self.coalesced && is_control_cut(header);
        let src = if is_lost { None } else { addr::decode(&prefix.name, header.msg_hdr.msg_namelen) };
        // SAFETY: `memory` has a slot for each of `headers`, and the length is no more than `slot_bytes`.
        let data = unsafe { self.memory.payload(i, original_len.min(self.slot_bytes)) };
        Slot { data, original_len, src, segment_len: self.segment_len(i), control: self.control(i) }
    }

    /// Slot `i` of a batch that is not mixed, and whose senders are of this family; `None` past the end.
    ///
    /// # Panics
    ///
    /// If the batch is mixed.
    #[inline(always)]
    pub(crate) fn whole_slot(&self, i: usize, family: Family) -> Option<WholeSlot<'a>> {
        assert!(self.shape != Shape::Mixed);
        let header = self.headers.get(i)?;
        // SAFETY: `memory` has a slot for each of `headers`.
        let prefix = unsafe { self.memory.prefix(i) };
        // SAFETY: as above. The batch is not mixed, so `tally` found no MSG_TRUNC, which the kernel sets wherever
        // it says a length longer than the slot_bytes of an iovec or a lent buffer (udp_recvmsg in
        // net/ipv4/udp.c).
        let data = unsafe { self.memory.payload(i, header.msg_len as usize) };
        let src = match family {
            Family::V4 => SocketAddr::V4(addr::read_v4(&prefix.name)),
            Family::V6 => SocketAddr::V6(addr::read_v6(&prefix.name)),
        };
        Some(WholeSlot { data, src, control: self.control(i) })
    }

    /// Size of the datagrams coalesced into slot `i`; 0 when it holds a single one.
    #[inline]
    pub(crate) fn segment_len(&self, i: usize) -> usize {
        if self.coalesced { cmsg::segment_len(self.control(i)).unwrap_or(0) } else { 0 }
    }

    /// Control messages of slot `i`, as long as the kernel says.
    #[inline(always)]
    fn control(&self, i: usize) -> &'a [u8] {
        #[allow(clippy::unnecessary_cast, reason = "an u32 in musl")]
        let len = self.headers[i].msg_hdr.msg_controllen as usize;
        // SAFETY: `memory` has a slot for each of `headers`.
        let prefix = unsafe { self.memory.prefix(i) };
        // SAFETY: `prepare` and `Uring::new` say CONTROL_BYTES, and the kernel how much of that it used
        // (put_cmsg in net/core/scm.c).
        unsafe { prefix.control.get_unchecked(..len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_lead_into_the_slots_own_memory_even_after_a_move() {
        let slots = RecvSlots::new(5, 100, false).unwrap();
        let moved = Box::new(slots);
        for (i, header) in moved.headers.iter().enumerate() {
            // SAFETY: five slots were made.
            let prefix = unsafe { moved.memory.view().prefix(i) };
            // SAFETY: as above, of 100 bytes.
            let payload = unsafe { moved.memory.view().payload(i, 100) };
            // SAFETY: msg_iov leads to element i of the iovecs, which `moved` still owns.
            let iov = unsafe { *header.msg_hdr.msg_iov };
            assert_eq!((iov.iov_base.cast_const().cast(), iov.iov_len), (payload.as_ptr(), 100));
            assert_eq!((payload.len(), payload.as_ptr() as usize % 64), (100, 0));
            assert_eq!(header.msg_hdr.msg_name.cast_const().cast(), &raw const prefix.name);
            assert_eq!(header.msg_hdr.msg_control.cast_const().cast(), &raw const prefix.control);
        }
    }

    #[test]
    fn more_slots_than_there_are_addresses_are_an_error_and_not_a_small_allocation() {
        // As `bc` 65,536 and `gram_size` 65,535 are where usize has 32 bits: the sum wraps to 0.
        let half = 1 << (usize::BITS / 2);
        assert_eq!(RecvSlots::new(half, half, false).err().unwrap().kind(), io::ErrorKind::OutOfMemory);
    }

    /// `recvmmsg` of a kernel made up here: what it writes is known to the byte, and any shape of ring and datagram
    /// can be had without a system call, under valgrind and AddressSanitizer too.
    mod made_up_kernel {
        use super::*;

        /// What memory is filled with before anything is received (`Memory::new`).
        const UNTOUCHED: u8 = 0xA5;

        #[derive(Clone)]
        struct Datagram {
            src: SocketAddr,
            payload: Vec<u8>,
            control: Vec<u8>,
        }

        /// The numbers of a run that can be had again.
        struct Lots(u64);

        impl Lots {
            fn below(&mut self, end: usize) -> usize {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 33) as usize % end
            }

            fn datagram(&mut self, slot_bytes: usize, is_cut: bool, is_v6: bool) -> Datagram {
                let number = self.below(256) as u8;
                let ip = [number; 16];
                let src = if is_v6 { SocketAddr::from((ip, 6)) } else { SocketAddr::from(([10, 0, 0, number], 4)) };
                let len = if is_cut { slot_bytes + 1 + self.below(9) } else { self.below(slot_bytes + 1) };
                let mut control = Vec::new();
                if self.below(2) == 0 {
                    let drops = u32::from(number).to_ne_bytes();
                    cmsg::tests::put(&mut control, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &drops);
                }
                Datagram { src, payload: (0..len).map(|i| number.wrapping_add(i as u8)).collect(), control }
            }
        }

        /// Copies as much of `bytes` as there is `room` for to where the kernel is told to.
        fn write(bytes: &[u8], to: *mut libc::c_void, room: usize) -> usize {
            let len = bytes.len().min(room);
            // SAFETY: every pointer and length of a header was wired by `RecvSlots::new`, or restored by `prepare`:
            // that they fit is what is tried here.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast(), len) };
            len
        }

        /// Fills headers as the kernel does (`___sys_recvmsg` in net/socket.c, put_cmsg in net/core/scm.c).
        fn recvmmsg(headers: &mut [mmsghdr], datagrams: &[Datagram]) -> usize {
            for (header, datagram) in headers.iter_mut().zip(datagrams) {
                let hdr = &mut header.msg_hdr;
                let mut name = addr::empty();
                let name_len = addr::encode(datagram.src, &mut name) as usize;
                // SAFETY: so many bytes of it were just written, and the others are zeroes.
                let name = unsafe { std::slice::from_raw_parts((&raw const name).cast::<u8>(), name_len) };
                hdr.msg_namelen = write(name, hdr.msg_name, hdr.msg_namelen as usize) as socklen_t;
                // SAFETY: `new` made it lead to an iovec that the slots still have.
                let iov = unsafe { *hdr.msg_iov };
                let stored = write(&datagram.payload, iov.iov_base, iov.iov_len);
                let control_len = write(&datagram.control, hdr.msg_control, hdr.msg_controllen as _);
                hdr.msg_controllen = control_len as _;
                hdr.msg_flags = if stored < datagram.payload.len() { libc::MSG_TRUNC } else { 0 };
                header.msg_len = datagram.payload.len() as c_uint;
            }
            headers.len().min(datagrams.len())
        }

        /// The slots' own way around the system call, as `recv` goes it.
        fn receive(slots: &mut RecvSlots, datagrams: &[Datagram]) -> Received {
            slots.forget();
            slots.prepare();
            let filled = recvmmsg(&mut slots.headers, datagrams);
            let sums = Sums::of(&mut slots.headers[..filled], |_, _| {});
            slots.tally(&sums, Filled { slots: filled, calls: 1, ended_by: None })
        }

        fn assert_holds(slots: &RecvSlots, received: &Received, datagrams: &[Datagram]) {
            let (batch, slot_bytes) = (slots.batch(), slots.slot_bytes());
            let stored = |datagram: &Datagram| datagram.payload.len().min(slot_bytes);
            assert_eq!(
                (received.slots, received.deliverable, batch.len()),
                (datagrams.len(), batch.len(), batch.len())
            );
            assert_eq!(received.bytes, datagrams.iter().map(stored).sum::<usize>());
            let newest = datagrams.last().and_then(|datagram| cmsg::kernel_drops(&datagram.control));
            assert_eq!(received.kernel_drops, newest);
            for (i, datagram) in datagrams.iter().enumerate() {
                let slot = batch.slot(i);
                assert_eq!((slot.src, slot.original_len), (Some(datagram.src), datagram.payload.len()));
                assert_eq!(slot.data, &datagram.payload[..stored(datagram)]);
                assert_eq!(slot.control, datagram.control);
                if let Shape::Plain(family) = batch.shape() {
                    let whole = batch.whole_slot(i, family).unwrap();
                    assert_eq!((whole.src, whole.data, whole.control), (datagram.src, slot.data, slot.control));
                }
            }
        }

        #[test]
        fn every_shape_of_ring_gives_back_what_was_written_and_nothing_is_written_beside() {
            let mut lots = Lots(7);
            for slot_bytes in [0, 1, 2, 63, 64, 65, 127, 128, 1240, 9000] {
                for count in [1, 2, 3, 17] {
                    let mut slots = RecvSlots::new(count, slot_bytes, false).unwrap();
                    let mut most_stored = vec![0; count];
                    for round in 0..24 {
                        let (mixes, cuts) = (round % 3 == 1, round % 4 == 3);
                        let datagrams: Vec<Datagram> = (0..lots.below(count + 1))
                            .map(|_| {
                                let is_cut = cuts && lots.below(3) == 0;
                                let is_v6 = if mixes { lots.below(2) == 0 } else { round % 2 == 0 };
                                lots.datagram(slot_bytes, is_cut, is_v6)
                            })
                            .collect();
                        let received = receive(&mut slots, &datagrams);
                        assert_holds(&slots, &received, &datagrams);
                        for (most, datagram) in most_stored.iter_mut().zip(&datagrams) {
                            *most = datagram.payload.len().min(slot_bytes).max(*most);
                        }
                        for (i, most) in most_stored.iter().enumerate() {
                            // SAFETY: there is a slot for each, of so many bytes.
                            let payload = unsafe { slots.memory.view().payload(i, slot_bytes) };
                            assert!(payload[*most..].iter().all(|byte| *byte == UNTOUCHED), "slot {i} of {count}");
                        }
                    }
                }
            }
        }

        #[test]
        fn control_data_as_long_as_there_is_room_for_is_read_to_its_last_byte() {
            let mut slots = RecvSlots::new(2, 10, false).unwrap();
            let control: Vec<u8> = (0..cmsg::CONTROL_BYTES).map(|i| i as u8).collect();
            let datagram = Datagram { src: ([127, 0, 0, 1], 9).into(), payload: vec![1; 10], control };
            let datagrams = [datagram.clone(), datagram];
            assert_eq!(receive(&mut slots, &datagrams).slots, 2);
            let batch = slots.batch();
            for (i, datagram) in datagrams.iter().enumerate() {
                assert_eq!((batch.slot(i).control, batch.slot(i).data), (&datagram.control[..], &[1; 10][..]));
            }
        }
    }

    mod uring {
        use std::sync::PoisonError;

        use super::super::fault::{self, Fault};
        use super::*;

        /// A socket with datagrams 0, 1, 2 … in its queue.
        fn queued(count: u8) -> UdpSocket {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = socket.local_addr().unwrap();
            (0..count).for_each(|i| assert_eq!(socket.send_to(&[i], to).unwrap(), 1));
            socket
        }

        fn received(slots: &mut RecvSlots, socket: &UdpSocket) -> Vec<u8> {
            let received = slots.recv(socket);
            assert!(received.ended_by.is_none_or(|error| error.kind() == io::ErrorKind::WouldBlock));
            let batch = slots.batch();
            (0..received.slots).map(|i| batch.slot(i).data[0]).collect()
        }

        /// Slots that io_uring fills next.
        fn expecting_many() -> RecvSlots {
            let mut slots = RecvSlots::new(90, 100, true).unwrap();
            for _ in 0..2 {
                assert_eq!(received(&mut slots, &queued(20)).len(), 20);
            }
            slots
        }

        fn is_to_be_had() -> bool {
            RecvSlots::new(1, 1, true).unwrap().backend() == "io_uring"
        }

        #[test]
        fn where_it_is_refused_recvmmsg_stands_in() {
            for errno in [libc::EPERM, libc::ENOSYS, libc::EMFILE, libc::ENOMEM] {
                fault::inject(Call::Ring, 0, 1, Fault::Errno(errno));
                let slots = RecvSlots::new(20, 100, true);
                if cfg!(force_uring) {
                    assert_eq!(slots.err().unwrap().raw_os_error(), Some(errno));
                    continue;
                }
                let mut slots = slots.unwrap();
                assert_eq!(slots.backend(), BACKEND);
                for _ in 0..2 {
                    assert_eq!(received(&mut slots, &queued(20)), (0..20).collect::<Vec<u8>>());
                }
            }
        }

        #[test]
        fn one_that_refuses_a_call_is_left_for_good_and_loses_nothing() {
            if !is_to_be_had() {
                return;
            }
            for (refused, batches) in [(0, [0..80, 80..80]), (1, [0..33, 33..80]), (2, [0..80, 80..80])] {
                let (mut slots, socket) = (expecting_many(), queued(80));
                fault::inject(Call::Enter, refused, 1, Fault::Errno(libc::EAGAIN));
                for batch in batches {
                    assert_eq!(received(&mut slots, &socket), batch.collect::<Vec<u8>>(), "call {refused}");
                }
                assert_eq!(slots.backend(), BACKEND, "call {refused}");
            }
        }

        #[test]
        fn slots_that_change_threads_are_filled_all_the_same() {
            if !is_to_be_had() {
                return;
            }
            let mut slots = expecting_many();
            for _ in 0..4 {
                slots = std::thread::spawn(move || {
                    for _ in 0..2 {
                        let socket = queued(70);
                        assert_eq!(received(&mut slots, &socket), (0..70).collect::<Vec<u8>>());
                        assert_eq!(slots.backend(), "io_uring");
                    }
                    slots
                })
                .join()
                .unwrap();
            }
        }

        /// Whether `body` ran to its end in a forked process.
        fn works_forked(body: impl FnOnce()) -> bool {
            // SAFETY: the child runs `body`, which needs no other thread, and leaves without unwinding any further.
            match unsafe { libc::fork() } {
                0 => {
                    // SAFETY: both only change or end the process.
                    unsafe { libc::alarm(10) };
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                    // SAFETY: as above.
                    unsafe { libc::_exit(i32::from(result.is_err())) }
                }
                child => {
                    let mut status = 0;
                    // SAFETY: `status` is an integer of our own.
                    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    status == 0
                }
            }
        }

        #[test]
        fn slots_that_a_forked_process_inherits_are_filled_in_both() {
            if !is_to_be_had() {
                return;
            }
            let _alone = fault::FORKS.write().unwrap_or_else(PoisonError::into_inner);
            let fill = |slots: &mut RecvSlots, times: u8| {
                for _ in 0..times {
                    assert_eq!(received(slots, &queued(70)), (0..70).collect::<Vec<u8>>());
                    assert_eq!(slots.backend(), "io_uring");
                }
            };
            for times_before in [0, 1] {
                let mut slots = expecting_many();
                fill(&mut slots, times_before);
                assert!(works_forked(|| fill(&mut slots, 3)), "{times_before}");
                fill(&mut slots, 3);
                assert!(works_forked(|| {
                    assert!(works_forked(|| fill(&mut slots, 3)));
                    fill(&mut slots, 3);
                }));
                fill(&mut slots, 3);
            }
        }

        #[test]
        fn rings_leave_half_of_the_descriptors_to_others() {
            if !is_to_be_had() || cfg!(force_uring) {
                return;
            }
            let _alone = fault::FORKS.write().unwrap_or_else(PoisonError::into_inner);
            assert!(works_forked(|| {
                let limit = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
                // SAFETY: the system call reads a struct of our own, in a process that ends with this test.
                assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
                let rings: Vec<_> = (0..200).map(|_| RecvSlots::new(20, 100, true).unwrap()).collect();
                let sockets: Vec<_> = (0..90).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
                assert_eq!((rings[0].backend(), rings[199].backend(), sockets.len()), ("io_uring", BACKEND, 90));
            }));
        }

        #[test]
        fn an_error_that_came_with_the_last_call_is_not_lost() {
            if !is_to_be_had() {
                return;
            }
            let (mut slots, socket) = (expecting_many(), UdpSocket::bind("127.0.0.1:0").unwrap());
            // On a host where no other test binds; the keeper of the port is on another.
            let keeper = UdpSocket::bind("127.0.0.2:0").unwrap();
            let nobody = SocketAddr::from(([127, 0, 0, 9], keeper.local_addr().unwrap().port()));
            socket.connect(nobody).unwrap();
            socket.send(b"refused").unwrap();
            // As if the kernel had taken some of the requests only.
            fault::inject(Call::Enter, 0, 1, Fault::Short(0));
            let received = slots.recv(&socket);
            let errno = received.ended_by.and_then(|error| error.raw_os_error());
            assert_eq!((received.slots, errno, slots.backend()), (0, Some(libc::ECONNREFUSED), BACKEND));
        }

        #[test]
        fn slots_that_expect_few_ask_recvmmsg() {
            if cfg!(force_uring) {
                return;
            }
            let mut slots = RecvSlots::new(90, 100, true).unwrap();
            fault::inject(Call::Enter, 0, 1, Fault::Errno(libc::EIO));
            for count in [90, 0, 20, 15, 1, 90, 15, 16] {
                assert_eq!(received(&mut slots, &queued(count)).len(), usize::from(count));
            }
            assert!(fault::limit(Call::Enter).is_err(), "io_uring was not asked");
        }

        #[test]
        fn an_empty_datagram_ends_no_batch() {
            let mut slots = expecting_many();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = socket.local_addr().unwrap();
            for len in [1, 0, 0, 2, 101, 0, 1] {
                socket.send_to(&vec![7; len], to).unwrap();
            }
            let count = slots.recv(&socket).slots;
            let batch = slots.batch();
            let lens: Vec<_> = (0..count).map(|i| (batch.slot(i).data.len(), batch.slot(i).original_len)).collect();
            assert_eq!(lens, [(1, 1), (0, 0), (0, 0), (2, 2), (100, 101), (0, 0), (1, 1)]);
        }
    }
}
