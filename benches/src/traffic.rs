//! Sockets, datagrams, and a tally of what arrived.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;

use hio_udp::{BatchPeer, PeerConfig, Transport};
use socket2::SockRef;

use crate::machine;

/// What one contestant received: enough to see that it lost, cut and skipped nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Datagrams.
    pub grams: u64,
    /// Bytes.
    pub bytes: u64,
    /// Sum of every payload's 8-byte words and what is left of it.
    pub payloads: u64,
    /// Sum of every source's address and port.
    pub sources: u64,
    /// Datagrams that were cut.
    pub truncated: u64,
}

impl Tally {
    /// Consumes one datagram, each byte of it.
    #[inline]
    pub fn add(&mut self, data: &[u8], source: u64, truncated: bool) {
        self.grams += 1;
        self.bytes += data.len() as u64;
        self.payloads = self.payloads.wrapping_add(sum(data));
        self.sources = self.sources.wrapping_add(source);
        self.truncated += u64::from(truncated);
    }

    /// What `grams` datagrams of one payload from one source add up to.
    pub fn expected(grams: usize, payload: &[u8], source: SocketAddr) -> Self {
        let grams = grams as u64;
        Self {
            grams,
            bytes: grams * payload.len() as u64,
            payloads: grams.wrapping_mul(sum(payload)),
            sources: grams.wrapping_mul(address(source)),
            truncated: 0,
        }
    }
}

#[inline]
fn sum(data: &[u8]) -> u64 {
    let words = data.chunks_exact(8);
    let rest: u64 = words.remainder().iter().map(|byte| u64::from(*byte)).sum();
    words.fold(rest, |sum, word| sum.wrapping_add(u64::from_ne_bytes(word.try_into().unwrap())))
}

/// An address as a number to sum up.
#[inline]
pub fn address(address: SocketAddr) -> u64 {
    match address {
        SocketAddr::V4(v4) => ipv4(v4.ip().to_bits(), v4.port()),
        SocketAddr::V6(v6) => v6.ip().to_bits() as u64 + u64::from(v6.port()),
    }
}

/// An IPv4 address and port, both in host order, as the same number.
#[inline]
pub fn ipv4(ip: u32, port: u16) -> u64 {
    u64::from(ip) * 65_536 + u64::from(port)
}

/// A datagram whose bytes are all different from their neighbours.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + 7) as u8).collect()
}

/// A non-blocking socket on a free loopback port, with a receive buffer of at least so many bytes if that
/// is allowed.
pub fn socket(recv_buf_bytes: usize) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
    socket.set_nonblocking(true).expect("a UDP socket can be non-blocking");
    let options = SockRef::from(&socket);
    if options.recv_buffer_size().is_ok_and(|bytes| bytes < recv_buf_bytes) {
        let wanted = recv_buf_bytes as libc::c_int;
        // SAFETY: the option value is one c_int on this stack frame, with its true size beside it.
        let forced = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const wanted).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if forced < 0 {
            _ = options.set_recv_buffer_size(recv_buf_bytes); // cut at rmem_max
        }
    }
    socket
}

/// A `BatchPeer` on a free loopback port that shares it with nobody.
pub fn batch_peer(bc: usize, gram_size: usize, recv_buf_bytes: usize) -> BatchPeer {
    let config = config(recv_buf_bytes).bc(bc).gram_size(gram_size);
    BatchPeer::new(config).expect("a free port on 127.0.0.1")
}

/// The settings every hio peer here starts from; [`Backend::peer`] chooses another backend.
pub fn config(recv_buf_bytes: usize) -> PeerConfig {
    PeerConfig::new().port(0).exclusive(true).recv_buf_bytes(recv_buf_bytes).reopen(true).io_uring(false)
}

/// The name of the backend a peer of [`config`] has.
pub fn backend() -> &'static str {
    batch_peer(1, 1, 0).stats().backend
}

/// A backend of hio-udp that takes part in the benchmarks.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// Its name in the tables.
    pub name: &'static str,
    /// Makes a peer of these settings use it.
    pub choose: fn(PeerConfig) -> PeerConfig,
}

impl Backend {
    /// A peer on this backend.
    ///
    /// # Panics
    ///
    /// If it does not open.
    pub fn peer(&self, config: PeerConfig) -> BatchPeer {
        BatchPeer::new((self.choose)(config)).expect("a free port on 127.0.0.1")
    }

    /// The name of one of its ways in a table.
    pub fn way(&self, what: &str) -> String {
        format!("{what}, {}", self.name)
    }
}

/// Every backend that takes part: one more entry here puts one more contestant into each bench, and its
/// figures into the table of goals.
pub fn backends() -> Vec<Backend> {
    let mmsg = Backend { name: MMSG, choose: |config| config.io_uring(false) };
    let uring = Backend { name: IO_URING, choose: |config| config.io_uring(true) };
    // A system that refuses a backend gets another one from the library, which is not what would be measured.
    [mmsg, uring].into_iter().filter(|backend| backend.peer(config(0)).stats().backend == backend.name).collect()
}

/// `recvmmsg` and `sendmmsg`.
pub const MMSG: &str = "mmsg";
/// The name under which the goals look for the io_uring backend.
pub const IO_URING: &str = "io_uring";

/// How many datagrams of `len` bytes a socket of [`socket`] or [`batch_peer`] surely holds, at most `wanted`.
pub fn queue_depth(wanted: usize, len: usize) -> usize {
    queue_depth_of(RECV_BUF_BYTES, wanted, len)
}

/// The same of a socket for which so many bytes were asked.
pub fn queue_depth_of(recv_buf_bytes: usize, wanted: usize, len: usize) -> usize {
    let probe = socket(recv_buf_bytes);
    let bytes = SockRef::from(&probe).recv_buffer_size().unwrap_or(0);
    // A quarter of the buffer may still be charged for datagrams that were just taken (udp_rmem_release).
    wanted.min(hio_udp::datagrams_held(bytes, len) * 2 / 3)
}

/// One line that says how much of a receive buffer this user may have, and how quiet a thread.
pub fn allowances() -> String {
    let granted = SockRef::from(&socket(RECV_BUF_BYTES)).recv_buffer_size().unwrap_or(0);
    let is_quiet = thread::spawn(|| machine::quieten(0)).join().unwrap_or(false);
    format!(
        "receive buffers of {granted} bytes, which hold {} datagrams of 64 bytes or {} of 1,240; threads {}",
        hio_udp::datagrams_held(granted, 64),
        hio_udp::datagrams_held(granted, 1240),
        if is_quiet { "under SCHED_FIFO where nobody waits" } else { "of ordinary priority: root measures quieter" },
    )
}

/// Room for 4,096 datagrams of 1,240 bytes, where it is allowed.
pub const RECV_BUF_BYTES: usize = 16 << 20;

/// Puts `count` copies of `payload` into the queue of the socket at `dst`.
///
/// # Panics
///
/// If loopback does not take them.
pub fn fill_queue(sender: &UdpSocket, dst: SocketAddr, payload: &[u8], count: usize) {
    for _ in 0..count {
        assert_eq!(sender.send_to(payload, dst).expect("loopback takes it"), payload.len());
    }
}

/// Sends one datagram from another local address than the socket's own (IP_PKTINFO, ip(7)).
///
/// # Panics
///
/// If loopback does not take it.
pub fn send_from(sender: &UdpSocket, source: Ipv4Addr, payload: &[u8], to: SocketAddrV4) {
    let mut name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: to.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    };
    let mut iovec = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut control = SourceControl {
        header: libc::cmsghdr {
            cmsg_len: mem::offset_of!(SourceControl, source) + size_of::<libc::in_pktinfo>(),
            cmsg_level: libc::IPPROTO_IP,
            cmsg_type: libc::IP_PKTINFO,
        },
        source: libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: source.to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        },
    };
    // SAFETY: msghdr holds integers and raw pointers only; zeroes and nulls are valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of_val(&name) as libc::socklen_t;
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: everything the header leads to is alive, of the size given, and only read.
    let sent = unsafe { libc::sendmsg(sender.as_raw_fd(), &raw const header, 0) };
    assert_eq!(usize::try_from(sent).ok(), Some(payload.len()), "{}", io::Error::last_os_error());
}

/// One control message with its data, laid out as cmsg(3) says: on every Linux the header's size is a
/// multiple of its alignment, and so is the whole.
#[repr(C)]
struct SourceControl {
    header: libc::cmsghdr,
    source: libc::in_pktinfo,
}

/// Makes the kernel cut what `sender` sends into datagrams of `len` bytes (UDP_SEGMENT).
///
/// # Panics
///
/// If the kernel cannot.
pub fn set_segment_len(sender: &UdpSocket, len: usize) {
    let len = len as libc::c_int;
    // SAFETY: the option value is one c_int on this stack frame, with its true size beside it.
    let result = unsafe {
        libc::setsockopt(
            sender.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const len).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "UDP_SEGMENT");
}

/// Whether a call gave "nothing there".
pub fn is_empty<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
