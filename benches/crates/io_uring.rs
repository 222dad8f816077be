//! The io-uring crate: one multishot receive over a provided-buffer ring so small that it stays in the
//! processor's cache.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hio_udp_benches::traffic;
use io_uring::types::{BufRingEntry, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

const BUFFERS: u16 = 128;
const BUFFER_BYTES: usize = 2048;
const GROUP: u16 = 0;

/// The ring of buffers the kernel takes from, on a page of its own as it demands.
#[repr(C, align(4096))]
struct Page([u8; 4096]);

const _: () = assert!(BUFFERS as usize * size_of::<BufRingEntry>() <= 4096);

pub struct Receiver {
    ring: IoUring,
    socket: UdpSocket,
    entries: Box<Page>,
    bytes: Vec<u8>,
    /// What the kernel is told about names: their length. It reads it when the receive is armed.
    header: Box<libc::msghdr>,
    with_addresses: bool,
    is_armed: bool,
    tail: u16,
}

impl Receiver {
    /// # Errors
    ///
    /// The kernel's, where io_uring is forbidden or too old.
    pub fn new(socket: UdpSocket, with_addresses: bool) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(4 * u32::from(BUFFERS))
            .build(8)?;
        // SAFETY: msghdr holds integers and raw pointers only; zeroes and nulls are valid.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let mut entries = Box::new(Page([0; 4096]));
        let at = entries.0.as_mut_ptr() as u64;
        // SAFETY: the page is as long as the entries, aligned, and lives as long as the ring beside it.
        unsafe { ring.submitter().register_buf_ring_with_flags(at, BUFFERS, GROUP, 0)? };
        let bytes = vec![0xA5; usize::from(BUFFERS) * BUFFER_BYTES];
        let mut this = Self { ring, socket, entries, bytes, header, with_addresses, is_armed: false, tail: 0 };
        (0..BUFFERS).for_each(|buffer| this.give_back(buffer));
        this.publish();
        Ok(this)
    }

    pub fn at(&self) -> SocketAddr {
        self.socket.local_addr().expect("the socket is bound")
    }

    /// Takes `count` datagrams, or fewer if there is nothing for a second.
    pub fn take(&mut self, count: u64, mut each: impl FnMut(&[u8], u64)) {
        let mut left = count;
        while left > 0 {
            self.wait(1, Duration::ZERO, Duration::from_secs(1));
            match self.reap(&mut each) {
                0 => return,
                taken => left = left.saturating_sub(taken),
            }
        }
    }

    /// Takes what is there, waiting at most `patience`; lets a batch gather for `gather` if that is not
    /// zero. Gives how many came.
    pub fn take_some(&mut self, gather: Duration, patience: Duration, mut each: impl FnMut(&[u8], u64)) -> u64 {
        let wanted = if gather.is_zero() { 1 } else { usize::from(BUFFERS) / 2 };
        self.wait(wanted, gather, patience);
        self.reap(&mut each)
    }

    fn wait(&mut self, wanted: usize, gather: Duration, patience: Duration) {
        if !self.is_armed {
            let fd = Fd(self.socket.as_raw_fd());
            let receive = if self.with_addresses {
                opcode::RecvMsgMulti::new(fd, &raw const *self.header, GROUP).build()
            } else {
                opcode::RecvMulti::new(fd, GROUP).build()
            };
            // SAFETY: header, buffers and socket live as long as the ring beside them.
            unsafe { self.ring.submission().push(&receive) }.expect("nothing else is submitted");
            self.is_armed = true;
        }
        let patience = Timespec::from(patience);
        let args = SubmitArgs::new().timespec(&patience).min_wait_usec(gather.as_micros() as u32);
        match self.ring.submitter().submit_with_args(wanted, &args) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
            Err(error) => panic!("io_uring_enter: {error}"),
        }
    }

    fn reap(&mut self, each: &mut impl FnMut(&[u8], u64)) -> u64 {
        let mut count = 0;
        while let Some(completion) = { self.ring.completion().next() } {
            self.is_armed = cqueue::more(completion.flags());
            let Ok(len) = usize::try_from(completion.result()) else {
                assert_eq!(completion.result(), -libc::ENOBUFS, "no failure but that of buffers all taken");
                continue;
            };
            let buffer = cqueue::buffer_select(completion.flags()).expect("a datagram lies in a buffer");
            let start = usize::from(buffer) * BUFFER_BYTES;
            let bytes = &self.bytes[start..start + len];
            if self.with_addresses {
                let out = RecvMsgOut::parse(bytes, &self.header).expect("the kernel writes whole headers");
                each(out.payload_data(), source(out.name_data()));
            } else {
                each(bytes, 0);
            }
            self.give_back(buffer);
            count += 1;
        }
        self.publish();
        count
    }

    /// Puts a buffer behind the last free one.
    fn give_back(&mut self, buffer: u16) {
        let place = usize::from(self.tail % BUFFERS);
        // SAFETY: `place` is below BUFFERS, and so many entries lie in the page.
        let entry = unsafe { self.entries.0.as_mut_ptr().cast::<BufRingEntry>().add(place) };
        // SAFETY: the entry is aligned and made of integers; the kernel reads only those in front of the
        // published tail, where this one is not yet.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.bytes[usize::from(buffer) * BUFFER_BYTES..].as_ptr() as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see the buffers given back.
    fn publish(&self) {
        // SAFETY: the page begins with an entry; the field named is inside it, and 2-byte aligned.
        let tail = unsafe { BufRingEntry::tail(self.entries.0.as_ptr().cast()) };
        // SAFETY: the kernel reads the field while this writes it, hence atomic; the page outlives the call.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release); // paired with the kernel's acquire
    }
}

fn source(name: &[u8]) -> u64 {
    let name: &[u8; 8] = name.first_chunk().expect("IPv4 names have more");
    let port = u16::from_be_bytes([name[2], name[3]]);
    traffic::ipv4(u32::from_be_bytes([name[4], name[5], name[6], name[7]]), port)
}
