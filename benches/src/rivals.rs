//! The loops to beat, written as barely as C would: no checks, no counters, no options.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_uint, iovec, mmsghdr, pollfd, sockaddr_in, socklen_t};

use crate::traffic::{self, Tally};

fn empty_header() -> mmsghdr {
    // SAFETY: mmsghdr holds integers and raw pointers only; zeroes and nulls are valid.
    unsafe { mem::zeroed() }
}

fn empty_name() -> sockaddr_in {
    // SAFETY: sockaddr_in is made of integers only; zeroes are valid.
    unsafe { mem::zeroed() }
}

#[inline]
fn address(name: &sockaddr_in) -> u64 {
    traffic::ipv4(u32::from_be(name.sin_addr.s_addr), u16::from_be(name.sin_port))
}

/// Room for one datagram's control messages, aligned as `cmsghdr` needs.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct ControlSpace([u8; CONTROL_BYTES]);

/// More than a drop counter needs.
const CONTROL_BYTES: usize = 192;

/// `recvmmsg` over `slots` headers, with addresses, without control data.
pub struct Recvmmsg {
    socket: UdpSocket,
    bytes: Vec<u8>,
    slot_bytes: usize,
    names: Vec<sockaddr_in>,
    iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
    /// Empty, or one per slot.
    controls: Vec<ControlSpace>,
}

impl Recvmmsg {
    /// Wires the headers once.
    pub fn new(socket: UdpSocket, slots: usize, slot_bytes: usize) -> Self {
        let mut bytes = vec![0xA5; slots * slot_bytes];
        let mut names = vec![empty_name(); slots];
        let mut iovecs: Vec<iovec> = bytes
            .chunks_exact_mut(slot_bytes)
            .map(|slot| iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot_bytes })
            .collect();
        let mut headers = vec![empty_header(); slots];
        for ((header, name), iovec) in headers.iter_mut().zip(&mut names).zip(&mut iovecs) {
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
        }
        Self { socket, bytes, slot_bytes, names, iovecs, headers, controls: Vec::new() }
    }

    /// Asks for the options hio-udp always asks for: the drop counter and true lengths.
    ///
    /// # Panics
    ///
    /// If the kernel has no drop counter.
    pub fn with_drop_counter(mut self) -> Self {
        self.turn_on(libc::SOL_SOCKET, libc::SO_RXQ_OVFL);
        self
    }

    /// Lets the kernel coalesce (UDP_GRO); [`drain_coalesced`](Self::drain_coalesced) takes it apart.
    ///
    /// # Panics
    ///
    /// If the kernel cannot.
    pub fn with_coalescing(mut self) -> Self {
        self.turn_on(libc::SOL_UDP, libc::UDP_GRO);
        self
    }

    /// Asks for no addresses; every source is then 0.
    pub fn without_addresses(mut self) -> Self {
        for header in &mut self.headers {
            header.msg_hdr.msg_name = ptr::null_mut();
        }
        self
    }

    /// Lets the kernel copy no payload: what is left is the least that receiving by `recvmmsg` costs.
    pub fn copying_nothing(mut self) -> Self {
        for iovec in &mut self.iovecs {
            iovec.iov_len = 0;
        }
        self
    }

    /// Turns on an option that brings control messages, and makes room for them.
    fn turn_on(&mut self, level: c_int, option: c_int) {
        let on: c_int = 1;
        // SAFETY: the option value is one c_int on this stack frame, with its true size beside it.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                option,
                (&raw const on).cast(),
                size_of::<c_int>() as socklen_t,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        self.controls = vec![ControlSpace([0xA5; CONTROL_BYTES]); self.headers.len()];
        for (header, control) in self.headers.iter_mut().zip(&mut self.controls) {
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        }
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes all there is.
    pub fn drain(&mut self, tally: &mut Tally) {
        self.drain_with(|data, source, truncated| tally.add(data, source, truncated));
    }

    /// Takes all there is: bytes, source as a number, whether it was cut.
    #[inline]
    pub fn drain_with(&mut self, mut each: impl FnMut(&[u8], u64, bool)) {
        self.drain_headers(|header, data, source| each(data, source, header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0));
    }

    /// Takes all there is, and takes apart what was coalesced: bytes and source of each datagram.
    #[inline]
    pub fn drain_coalesced(&mut self, mut each: impl FnMut(&[u8], u64)) {
        self.drain_headers(|header, data, source| {
            data.chunks(segment_len(header).unwrap_or(data.len().max(1))).for_each(|data| each(data, source));
        });
    }

    #[inline]
    fn drain_headers(&mut self, mut each: impl FnMut(&mmsghdr, &[u8], u64)) {
        loop {
            let control_bytes = if self.controls.is_empty() { 0 } else { CONTROL_BYTES };
            for header in &mut self.headers {
                header.msg_hdr.msg_namelen = size_of::<sockaddr_in>() as socklen_t;
                header.msg_hdr.msg_controllen = control_bytes;
            }
            // SAFETY: every header's name and iov lead into this value's own Vecs, which never grow,
            // with their true lengths; `&mut self` keeps everybody else out.
            let filled = unsafe {
                libc::recvmmsg(
                    self.socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    self.headers.len() as c_uint,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            };
            let Ok(filled @ 1..) = usize::try_from(filled) else { return };
            for i in 0..filled {
                let header = &self.headers[i];
                let start = i * self.slot_bytes;
                let data = &self.bytes[start..start + header.msg_len as usize];
                each(header, data, address(&self.names[i]));
            }
        }
    }
}

/// Size of the datagrams that were coalesced into this one, from its only control message.
fn segment_len(header: &mmsghdr) -> Option<usize> {
    // SAFETY: `msg_control` leads to `msg_controllen` bytes that the kernel has written.
    let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header.msg_hdr) };
    // SAFETY: it is null, or an aligned cmsghdr within these bytes, which live as long as the header.
    let message = unsafe { message.as_ref() }?;
    (message.cmsg_level == libc::SOL_UDP && message.cmsg_type == libc::UDP_GRO).then(|| {
        // SAFETY: pure arithmetic on the address of the header.
        let data = unsafe { libc::CMSG_DATA(message) };
        // SAFETY: a UDP_GRO message carries one c_int (udp(7)), at any alignment.
        let len = unsafe { data.cast::<c_int>().read_unaligned() };
        len as usize
    })
}

/// `recvfrom`, one datagram a call, with addresses.
pub struct Recvfrom {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Recvfrom {
    /// A buffer of `slot_bytes`.
    pub fn new(socket: UdpSocket, slot_bytes: usize) -> Self {
        Self { socket, buffer: vec![0xA5; slot_bytes] }
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes all there is.
    pub fn drain(&mut self, tally: &mut Tally) {
        self.drain_with(|data, source| tally.add(data, source, false));
    }

    /// Takes all there is: bytes and source.
    #[inline]
    pub fn drain_with(&mut self, mut each: impl FnMut(&[u8], u64)) {
        let mut name = empty_name();
        loop {
            let mut name_len = size_of::<sockaddr_in>() as socklen_t;
            // SAFETY: buffer, name and its length are alive, writable and of the sizes given.
            let len = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut name).cast(),
                    &raw mut name_len,
                )
            };
            let Ok(len) = usize::try_from(len) else { return };
            each(&self.buffer[..len], address(&name));
        }
    }
}

/// The standard library's `recv_from`.
pub struct StdRecvFrom {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl StdRecvFrom {
    /// A buffer of `slot_bytes`.
    pub fn new(socket: UdpSocket, slot_bytes: usize) -> Self {
        Self { socket, buffer: vec![0xA5; slot_bytes] }
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes all there is.
    pub fn drain(&mut self, tally: &mut Tally) {
        self.drain_with(|data, source| tally.add(data, source, false));
    }

    /// Takes all there is: bytes and source.
    #[inline]
    pub fn drain_with(&mut self, mut each: impl FnMut(&[u8], u64)) {
        while let Ok((len, src)) = self.socket.recv_from(&mut self.buffer) {
            each(&self.buffer[..len], traffic::address(src));
        }
    }
}

/// `sendmmsg` over headers in which everything stands already: one per destination, one payload.
pub struct Sendmmsg {
    socket: UdpSocket,
    _payload: Vec<u8>,
    _names: Vec<sockaddr_in>,
    _iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

// SAFETY: the headers' pointers lead only into this value's own Vecs, which move with it.
unsafe impl Send for Sendmmsg {}

impl Sendmmsg {
    /// Wires the headers once.
    ///
    /// # Panics
    ///
    /// If a destination is not IPv4.
    pub fn new(socket: UdpSocket, payload: &[u8], destinations: impl Iterator<Item = SocketAddr>) -> Self {
        let mut payload = payload.to_vec();
        let name = |destination| match destination {
            SocketAddr::V4(v4) => sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: v4.ip().to_bits().to_be() },
                sin_zero: [0; 8],
            },
            SocketAddr::V6(_) => panic!("the benchmarks send over IPv4"),
        };
        let mut names: Vec<sockaddr_in> = destinations.map(name).collect();
        let iovec = iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
        let mut iovecs = vec![iovec; names.len()];
        let mut headers = vec![empty_header(); names.len()];
        for ((header, name), iovec) in headers.iter_mut().zip(&mut names).zip(&mut iovecs) {
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<sockaddr_in>() as socklen_t;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
        }
        Self { socket, _payload: payload, _names: names, _iovecs: iovecs, headers }
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends one datagram to each destination, `vlen` a call; gives the number the kernel took.
    pub fn send(&mut self, vlen: usize) -> usize {
        let mut sent = 0;
        for headers in self.headers.chunks_mut(vlen) {
            // SAFETY: the headers' name and iov pointers lead into this value's own Vecs, which never
            // grow, and the iovecs into `_payload`; the kernel only reads what it sends.
            let taken = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            sent += usize::try_from(taken).unwrap_or(0);
        }
        sent
    }
}

/// Waits in `poll` until the socket is readable, at most `timeout`.
///
/// # Errors
///
/// The kernel's.
pub fn poll_readable(socket: &UdpSocket, timeout: Duration) -> io::Result<bool> {
    let mut poll = pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, exclusively borrowed for the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, timeout.as_millis() as c_int) };
    is_ready(ready)
}

/// A signal, or a machine put to sleep for a moment, is as good as nothing there yet.
fn is_ready(ready: c_int) -> io::Result<bool> {
    match io::Error::last_os_error() {
        error if ready < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(ready > 0),
    }
}

/// Waits for one socket by `epoll`, as servers with many do.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Watches this socket.
    ///
    /// # Panics
    ///
    /// If the process has no descriptor left.
    pub fn new(socket: &UdpSocket) -> Self {
        // SAFETY: the call takes no pointer.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: both descriptors are open, and `event` is alive for the call.
        let added =
            unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        assert_eq!(added, 0, "{}", io::Error::last_os_error());
        Self(epoll)
    }

    /// Waits until the socket is readable, at most `timeout`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event, exclusively borrowed for the call.
        let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, timeout.as_millis() as c_int) };
        is_ready(ready)
    }
}
