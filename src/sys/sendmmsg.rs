//! The sending half of the Linux backend: many datagrams a system call with `sendmmsg(2)`.
//!
//! Several datagrams of one length to one destination can be one message of the call: an iovec for each,
//! and a control message that has the kernel cut it (UDP_SEGMENT). Nothing is copied for it.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::{align_of, offset_of, size_of};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_uint, cmsghdr, iovec, mmsghdr, sockaddr_storage};

use super::mmsg::empty_header;
use super::{Call, Taken, addr, fault};

pub(crate) const SEGMENTS: bool = true;

/// Most messages one `sendmmsg` takes; the kernel cuts a longer vector silently
/// (UIO_MAXIOV, `__sys_sendmmsg` in net/socket.c). `recvmmsg` has no such limit.
const SEND_VLEN_MAX: usize = 1024;

/// A control message with the length at which the kernel cuts a segmented message (UDP_SEGMENT, udp(7)).
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct SegmentControl {
    header: cmsghdr,
    /// Right behind the header, where CMSG_DATA looks for it. An u16, unlike its receive-side twin.
    segment_len: u16,
}

const _: () = assert!(offset_of!(SegmentControl, header) == 0);
const _: () = assert!(offset_of!(SegmentControl, segment_len) == size_of::<cmsghdr>());
// The kernel reads headers of control messages that are aligned, and whole (CMSG_OK in linux/socket.h).
const _: () = assert!(align_of::<SegmentControl>() >= align_of::<cmsghdr>());

impl SegmentControl {
    fn new() -> Self {
        // SAFETY: all zeroes is a valid cmsghdr; it is made of integers.
        let mut header: cmsghdr = unsafe { std::mem::zeroed() };
        // CMSG_LEN of an u16; the kernel takes no other (udp_cmsg_send in net/ipv4/udp.c).
        header.cmsg_len = (offset_of!(Self, segment_len) + size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Self { header, segment_len: 0 }
    }
}

/// What a message of several datagrams has beside its header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Row {
    control: SegmentControl,
    /// How many datagrams it has.
    len: usize,
}

// A control pointer leads to the row.
const _: () = assert!(offset_of!(Row, control) == 0);

/// Headers for one `sendmmsg`; the payloads stay with whoever owns them.
pub(crate) struct SendBatch {
    /// One for each header, where its name pointer leads.
    names: Vec<sockaddr_storage>,
    /// One for each header, where its control pointer leads; only a message of several datagrams shows it.
    rows: Vec<Row>,
    /// One for each datagram, set by `Staged::push`; a header's iov pointer leads to that of its first, or
    /// to the same place in `spans`.
    iovecs: Vec<iovec>,
    /// The iovecs of a message of several datagrams again, with those that follow each other in memory as
    /// one, from the place of the first of them on.
    spans: Vec<iovec>,
    /// One for each message.
    headers: Vec<mmsghdr>,
}

// SAFETY: the name, control and iov pointers lead only into this value's own Vecs, which move with it. The
// payload pointers in `iovecs` are left over from the last `Staged` and are never followed before
// `Staged::push` has overwritten them.
unsafe impl Send for SendBatch {}

impl SendBatch {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, SEND_VLEN_MAX);
        let mut names = vec![addr::empty(); capacity];
        let mut rows = vec![Row { control: SegmentControl::new(), len: 0 }; capacity];
        let mut headers = vec![empty_header(); capacity];
        let (first_name, first_row) = (names.as_mut_ptr(), rows.as_mut_ptr());
        for (i, header) in headers.iter_mut().enumerate() {
            // SAFETY: i < capacity, the length of `names`.
            header.msg_hdr.msg_name = unsafe { first_name.add(i) }.cast();
            // SAFETY: i < capacity, the length of `rows`; a row begins with its control message.
            header.msg_hdr.msg_control = unsafe { first_row.add(i) }.cast();
        }
        let iovecs = vec![iovec { iov_base: ptr::null_mut(), iov_len: 0 }; capacity];
        Self { names, rows, spans: iovecs.clone(), iovecs, headers }
    }

    pub(crate) fn stage<'d>(&mut self) -> Staged<'_, 'd> {
        let capacity = self.headers.len();
        Staged {
            batch: self,
            capacity,
            grams: 0,
            messages: 0,
            last_dst: addr::NO_SHORT,
            is_closed: false,
            grams_taken: 0,
            messages_taken: 0,
            payloads: PhantomData,
        }
    }

    /// Makes `len` datagrams, from `first` on, message `i`: everything of its header but where it goes.
    fn lay(&mut self, i: usize, first: usize, len: usize) {
        let hdr = &mut self.headers[i].msg_hdr;
        if len == 1 {
            hdr.msg_iov = &raw mut self.iovecs[first];
            hdr.msg_iovlen = 1;
            hdr.msg_controllen = 0;
            return;
        }
        let iovecs = &self.iovecs[first..first + len];
        let spans = &mut self.spans[first..first + len];
        let (mut span, mut closed) = (iovecs[0], 0);
        for iovec in &iovecs[1..] {
            // To the kernel these are addresses: what it reads there is borrowed for 'd, all of it.
            if span.iov_base.addr() + span.iov_len == iovec.iov_base.addr() {
                span.iov_len += iovec.iov_len;
            } else {
                spans[closed] = span;
                (span, closed) = (*iovec, closed + 1);
            }
        }
        spans[closed] = span;
        hdr.msg_iov = spans.as_mut_ptr();
        hdr.msg_iovlen = (closed + 1) as _;
        hdr.msg_controllen = size_of::<SegmentControl>() as _;
        let row = &mut self.rows[i];
        (row.control.segment_len, row.len) = (iovecs[0].iov_len as u16, len);
    }

    /// Whether the last of `messages` goes to `dst`, of which the short form says so already.
    #[inline(always)]
    fn goes_to(&self, messages: usize, short_dst: u64, dst: SocketAddr) -> bool {
        short_dst != addr::NO_SHORT || addr::is_v6(&self.names[messages - 1], dst)
    }

    /// Iovecs of message `i`.
    #[inline]
    #[allow(clippy::unnecessary_cast, reason = "an i32 in musl")]
    fn iovlen(&self, i: usize) -> usize {
        self.headers[i].msg_hdr.msg_iovlen as usize
    }

    /// Datagrams of message `i`, which is laid.
    #[inline]
    fn message_len(&self, i: usize) -> usize {
        if self.headers[i].msg_hdr.msg_controllen == 0 { 1 } else { self.rows[i].len }
    }
}

/// Datagrams collected for one `sendmmsg`; holds on to their payloads for `'d`.
///
/// ```text
///   datagrams    a  a  a  b  c  c        iovecs: one each
///                └──┬──┘  │  └─┬┘
///   messages        0     1    2         headers, names, rows: one each
/// ```
pub(crate) struct Staged<'b, 'd> {
    batch: &'b mut SendBatch,
    /// The length of each of its arrays.
    capacity: usize,
    grams: usize,
    /// Headers in use, at most one for each datagram.
    messages: usize,
    /// Short form of the last message's destination.
    last_dst: u64,
    /// Whether each message of several datagrams is laid; before that its header has their number only.
    is_closed: bool,
    /// What the kernel took so far. The message behind these may have lost datagrams of its front to
    /// `send_one`; its header then begins at the first it still has.
    grams_taken: usize,
    messages_taken: usize,
    /// Every `iov_base` below `grams` was taken from a `&'d [u8]`.
    payloads: PhantomData<&'d [u8]>,
}

impl<'d> Staged<'_, 'd> {
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.grams >= self.capacity
    }

    pub(crate) fn left(&self) -> usize {
        self.grams - self.grams_taken
    }

    /// Adds one datagram; how many are now in its message. It goes into that of the one before if it
    /// `may_join` that and goes to the same place; else it begins one.
    ///
    /// # Panics
    ///
    /// If the batch `is_full`.
    #[inline(always)]
    pub(crate) fn push(&mut self, data: &'d [u8], dst: SocketAddr, may_join: bool) -> usize {
        let (gram, message) = (self.grams, self.messages);
        assert!(gram < self.capacity);
        // SAFETY: `gram` is below the capacity, with which `new` made `iovecs`.
        let iov = unsafe { self.batch.iovecs.get_unchecked_mut(gram) };
        // The kernel only reads a payload it sends; the pointer is `*mut` because C has one iovec for both ways.
        *iov = iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let iov = &raw mut *iov;
        self.grams = gram + 1;
        let short_dst = addr::short(dst);
        if may_join && short_dst == self.last_dst && self.batch.goes_to(message, short_dst, dst) {
            // SAFETY: there is a message before: without one `last_dst` is no short address, and `goes_to`
            // would have found no name. So this is below `message`, which is at most `gram`.
            let hdr = &mut unsafe { self.batch.headers.get_unchecked_mut(message - 1) }.msg_hdr;
            hdr.msg_iovlen += 1;
            #[allow(clippy::unnecessary_cast, reason = "an i32 in musl")]
            return hdr.msg_iovlen as usize;
        }
        // SAFETY: `message` is at most `gram`, because each has a datagram, and `names` as long as `iovecs`.
        let name = unsafe { self.batch.names.get_unchecked_mut(message) };
        // SAFETY: as for `names`.
        let hdr = &mut unsafe { self.batch.headers.get_unchecked_mut(message) }.msg_hdr;
        hdr.msg_namelen = addr::encode(dst, name);
        hdr.msg_iov = iov;
        hdr.msg_iovlen = 1;
        hdr.msg_controllen = 0;
        (self.messages, self.last_dst) = (message + 1, short_dst);
        1
    }

    /// Lays the messages of several datagrams, now that no more come.
    #[inline]
    fn close(&mut self) {
        if self.messages == self.grams || self.is_closed {
            return;
        }
        let mut first = 0;
        for i in 0..self.messages {
            let len = self.batch.iovlen(i);
            if len > 1 {
                self.batch.lay(i, first, len);
            }
            first += len;
        }
        self.is_closed = true;
    }

    /// Whether the datagram at the front is in one message with others.
    pub(crate) fn is_joined(&mut self) -> bool {
        self.close();
        self.messages_taken < self.messages && self.batch.message_len(self.messages_taken) > 1
    }

    /// One `sendmmsg` over all that is left: how much from its start the kernel took.
    ///
    /// When the kernel fails at a message that is not the first it gives the count before it and
    /// the error is gone (sendmmsg(2), BUGS); a call that starts there brings it out.
    pub(crate) fn send(&mut self, socket: &UdpSocket) -> io::Result<Taken> {
        self.close();
        let first = self.messages_taken;
        let sent = self.sendmmsg(self.messages - first, socket)?;
        let bytes = self.batch.headers[first..][..sent].iter().map(|header| header.msg_len as usize).sum();
        let mut taken = Taken { grams: sent, bytes, segmented: 0 };
        if self.messages < self.grams {
            let lens = (first..first + sent).map(|i| self.batch.message_len(i));
            taken.grams = lens.clone().sum();
            taken.segmented = lens.filter(|len| *len > 1).sum();
        }
        self.messages_taken += sent;
        self.grams_taken += taken.grams;
        Ok(taken)
    }

    /// One `sendmmsg` with the first datagram that is left, by itself even if it is joined.
    ///
    /// # Panics
    ///
    /// If nothing is left.
    pub(crate) fn send_one(&mut self, socket: &UdpSocket) -> io::Result<Taken> {
        self.close();
        let (i, len) = (self.messages_taken, self.batch.message_len(self.messages_taken));
        self.batch.lay(i, self.grams_taken, 1);
        let result = self.sendmmsg(1, socket);
        let sent = *result.as_ref().unwrap_or(&0);
        self.grams_taken += sent;
        match len - sent {
            0 => self.messages_taken += 1,
            left => self.batch.lay(i, self.grams_taken, left),
        }
        result.map(|grams| Taken { grams, bytes: self.batch.headers[i].msg_len as usize * grams, segmented: 0 })
    }

    /// Makes every datagram that is left a message of its own.
    #[cold]
    pub(crate) fn unjoin(&mut self) {
        self.close();
        // From the end, so that a header is read before one is laid over it: a message never stands
        // behind its last datagram.
        let mut gram = self.grams;
        for i in (self.messages_taken..self.messages).rev() {
            let (name, namelen) = (self.batch.names[i], self.batch.headers[i].msg_hdr.msg_namelen);
            for _ in 0..self.batch.message_len(i) {
                gram -= 1;
                self.batch.names[gram] = name;
                self.batch.headers[gram].msg_hdr.msg_namelen = namelen;
                self.batch.lay(gram, gram, 1);
            }
        }
        (self.messages_taken, self.messages) = (gram, self.grams);
    }

    /// One `sendmmsg` with the first `messages` messages that are left: how many the kernel took.
    fn sendmmsg(&mut self, messages: usize, socket: &UdpSocket) -> io::Result<usize> {
        let limit = fault::limit(Call::Send)?;
        let headers = &mut self.batch.headers[self.messages_taken..self.messages][..messages];
        let vlen = headers.len().min(limit);
        // SAFETY: `headers` holds at least `vlen` elements. Their name and control pointers lead into the
        // batch's own Vecs (wired in `SendBatch::new`). `lay` made each iov pointer lead to as many
        // elements of `iovecs` or `spans` as it says, all of datagrams pushed, whose base and length came from a
        // `&'d [u8]` in `push`, which the lifetime 'd keeps alive while `self` exists.
        // MSG_DONTWAIT: never block, whatever the descriptor's mode. MSG_NOSIGNAL: no SIGPIPE.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                vlen as c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    #[test]
    fn t09_a_send_batch_never_passes_more_than_the_kernel_takes() {
        assert_eq!(SendBatch::new(5000).headers.len(), SEND_VLEN_MAX);
        assert_eq!(SendBatch::new(0).headers.len(), 1);
    }

    #[test]
    fn t13_the_segment_length_stands_where_the_kernel_looks_for_it() {
        let mut control = SegmentControl::new();
        control.segment_len = 1240;
        // SAFETY: a computation on a number.
        assert_eq!(control.header.cmsg_len, unsafe { libc::CMSG_LEN(2) } as _);
        // SAFETY: as above.
        assert!(size_of::<SegmentControl>() >= unsafe { libc::CMSG_SPACE(2) } as usize);
        // SAFETY: a computation on a pointer, which leads to a whole message.
        let data = unsafe { libc::CMSG_DATA(&raw const control.header) };
        assert_eq!(data.cast_const().cast::<u16>(), &raw const control.segment_len);
    }

    /// The messages as the kernel would read them: destination, lengths, segment length.
    fn messages(staged: &Staged<'_, '_>) -> Vec<(SocketAddr, Vec<Vec<u8>>, Option<u16>)> {
        let headers = &staged.batch.headers[staged.messages_taken..staged.messages];
        let read = |header: &mmsghdr| {
            let hdr = &header.msg_hdr;
            // SAFETY: `new` wired the pointer to a name of the batch.
            let dst = addr::decode(unsafe { &*hdr.msg_name.cast() }, hdr.msg_namelen).unwrap();
            // SAFETY: `lay` and `push` made it lead to so many iovecs of the batch.
            let iovecs = unsafe { std::slice::from_raw_parts(hdr.msg_iov, hdr.msg_iovlen as _) };
            let payloads = iovecs.iter().map(|iov| {
                // SAFETY: base and length of a payload that the test still has.
                unsafe { std::slice::from_raw_parts(iov.iov_base.cast::<u8>(), iov.iov_len) }.to_vec()
            });
            let has_control = hdr.msg_controllen > 0;
            // SAFETY: `new` wired the pointer to a row of the batch.
            let control = has_control.then(|| unsafe { *hdr.msg_control.cast::<Row>() }.control.segment_len);
            (dst, payloads.collect(), control)
        };
        headers.iter().map(read).collect()
    }

    #[test]
    fn messages_are_joined_split_and_unjoined_in_place() {
        let dsts = ["127.0.0.1:1", "[::1]:1", "127.0.0.1:1"].map(|text| text.parse::<SocketAddr>().unwrap());
        let payloads: Vec<Vec<u8>> = (0..9).map(|i| vec![i; 4]).collect();
        let gram = |i: usize| (dsts[i / 3], vec![payloads[i].clone()], None);
        let row = |dst: usize, range: Range<usize>| (dsts[dst], payloads[range].to_vec(), Some(4));
        let mut batch = Box::new(SendBatch::new(9));
        // Each batch over what the one before left behind.
        for _ in 0..2 {
            for taken in 0..=9 {
                let mut staged = batch.stage();
                for (i, payload) in payloads.iter().enumerate() {
                    assert_eq!(staged.push(payload, dsts[i / 3], i > 0), i % 3 + 1);
                }
                assert!(staged.is_full());
                staged.close();
                assert_eq!(messages(&staged), [row(0, 0..3), row(1, 3..6), row(2, 6..9)]);
                // As if the kernel had taken so many: whole messages first, then of the next one by one.
                staged.messages_taken = taken / 3;
                staged.grams_taken = taken;
                if taken % 3 > 0 {
                    staged.batch.lay(taken / 3, taken, 3 - taken % 3);
                }
                assert_eq!((staged.left(), staged.is_joined()), (9 - taken, taken < 9 && taken % 3 < 2));
                staged.unjoin();
                assert_eq!(messages(&staged), (taken..9).map(gram).collect::<Vec<_>>(), "{taken} taken");
                assert!(!staged.is_joined());
            }
        }
    }

    #[test]
    fn payloads_that_follow_each_other_in_memory_are_read_as_one() {
        let bytes: Vec<u8> = (0..20).collect();
        let dst = "127.0.0.1:1".parse().unwrap();
        let mut batch = SendBatch::new(9);
        for (starts, spans) in [
            (&[0, 4, 8, 12][..], &[(0, 16)][..]),
            (&[0, 4, 12, 16], &[(0, 8), (12, 20)]),
            (&[4, 0, 12, 8], &[(4, 8), (0, 4), (12, 16), (8, 12)]),
            (&[0, 0, 0, 4], &[(0, 4), (0, 4), (0, 8)]),
            (&[16, 12], &[(16, 20), (12, 16)]),
        ] {
            let mut staged = batch.stage();
            staged.push(b"before", dst, false);
            staged.push(&bytes[starts[0]..][..4], dst, false);
            for start in &starts[1..] {
                staged.push(&bytes[*start..][..4], dst, true);
            }
            staged.close();
            let spans: Vec<Vec<u8>> = spans.iter().map(|(start, end)| bytes[*start..*end].to_vec()).collect();
            assert_eq!(messages(&staged)[1], (dst, spans, Some(4)));
            assert_eq!(staged.batch.message_len(1), starts.len());
            staged.unjoin();
            let all: Vec<_> = starts.iter().map(|start| (dst, vec![bytes[*start..][..4].to_vec()], None)).collect();
            assert_eq!(messages(&staged)[1..], all);
        }
    }

    #[test]
    fn one_gram_of_a_row_goes_alone_whatever_becomes_of_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dst = socket.local_addr().unwrap();
        let mut batch = SendBatch::new(3);
        let mut staged = batch.stage();
        for i in 0..3 {
            staged.push(b"row", dst, i > 0);
        }
        fault::clear();
        for left in [3, 2, 1] {
            fault::inject(Call::Send, 0, 1, fault::Fault::Errno(libc::EPERM));
            staged.send_one(&socket).unwrap_err();
            fault::inject(Call::Send, 0, 1, fault::Fault::Short(0));
            assert_eq!(staged.send_one(&socket).unwrap().grams, 0);
            assert_eq!((staged.left(), staged.is_joined()), (left, left > 1));
            let taken = staged.send_one(&socket).unwrap();
            assert_eq!((taken.grams, taken.bytes, taken.segmented), (1, 3, 0));
        }
        assert_eq!((staged.left(), staged.is_joined()), (0, false));
        for _ in 0..3 {
            assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 3);
        }
    }
}
