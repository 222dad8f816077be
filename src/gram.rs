//! One received datagram, and the sizes hio exports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Default size in bytes of a [`Peer`](crate::Peer)'s receive buffer: 65,535, the longest UDP datagram.
///
/// hio: `Peer.BufSize` (H2).
#[doc(alias = "BufSize")]
pub const BUF_SIZE: usize = 65_535;

/// Default size in bytes of one slot of a ring: 1,240.
///
/// hio: `Peer.MaxGramSize` (H2): the smallest IPv6 MTU, 1,280, less 40 bytes of headers.
#[doc(alias = "MaxGramSize")]
pub const MAX_GRAM_SIZE: usize = 1_240;

/// Longest UDP datagram in bytes, headers included: 65,535.
#[doc(alias = "UDP_MAX_DATAGRAM_SIZE")]
pub const MAX_DATAGRAM_SIZE: usize = 65_535;

/// Payload in bytes that every IPv4 path carries unfragmented: 548, the smallest MTU of 576 less 28.
#[doc(alias = "UDP_MAX_SAFE_PAYLOAD")]
pub const MAX_SAFE_PAYLOAD: usize = 548;

/// Packet size in bytes that hio assumes of IPv6-capable equipment: 1,024.
#[doc(alias = "UDP_MAX_PACKET_SIZE")]
pub const MAX_PACKET_SIZE: usize = 1_024;

/// Longest payload in bytes that an IPv4 datagram carries: 65,535 less 20 and 8 bytes of headers.
pub const MAX_PAYLOAD_V4: usize = 65_507;

/// One received datagram, borrowed from the ring it stands in.
///
/// `Copy`, so a whole batch can be collected, sorted or sent on while the ring is borrowed.
///
/// ```
/// use hio_udp::{BatchPeer, PeerConfig, Transport};
/// # fn main() -> std::io::Result<()> {
/// let mut peer = BatchPeer::new(PeerConfig::new().port(0).reopen(true))?;
/// let me = peer.ha();
/// peer.send(b"hello", me)?;
/// for gram in peer.fill_wait(std::time::Duration::from_secs(1))? {
///     assert_eq!((gram.data, gram.src), (&b"hello"[..], me));
///     assert!(!gram.truncated && gram.original_len == 5);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy)]
pub struct Gram<'a> {
    /// The payload: at most one slot's size. An empty datagram has empty `data`.
    pub data: &'a [u8],
    /// Who sent it.
    ///
    /// The unspecified address (0.0.0.0, `::`) is of a station that has none yet. Linux sends what goes there to this
    /// machine itself, so a reply to it may come back as another request.
    pub src: SocketAddr,
    /// Whether the datagram was longer than the slot, so that `data` is only its beginning.
    pub truncated: bool,
    /// Length in bytes the datagram had on the wire; more than `data.len()` when `truncated`. The kernel
    /// tells it in any case, so it needs no option and costs nothing.
    pub original_len: usize,
    pub(crate) control: &'a [u8],
}

impl Gram<'_> {
    /// What the kernel said about the datagram beside its bytes, read from its control messages now.
    ///
    /// Each field is `None` unless its option was set in the [`PeerConfig`](crate::PeerConfig) and
    /// the backend can tell: on the portable backend all of them are.
    #[inline]
    pub fn meta(&self) -> Meta {
        Meta::read(self.control)
    }
}

impl fmt::Debug for Gram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gram")
            .field("len", &self.data.len())
            .field("src", &self.src)
            .field("truncated", &self.truncated)
            .field("original_len", &self.original_len)
            .finish()
    }
}

/// What the kernel said about one datagram: see [`Gram::meta`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Meta {
    /// When the kernel received it, to the nanosecond, as time since 1970-01-01 00:00:00 UTC
    /// ([`PeerConfig::rx_time`](crate::PeerConfig::rx_time)).
    ///
    /// `SystemTime::UNIX_EPOCH + rx_time` is the same as a [`SystemTime`](std::time::SystemTime); making one
    /// of each costs more than all else that is read here.
    ///
    /// When the first socket of a machine asks for it, the kernel begins to stamp on arrival a moment later
    /// (`netstamp_work` in net/core/dev.c): a datagram that came before that has the time it was read, which can
    /// be later than its successor's.
    pub rx_time: Option<Duration>,
    /// The address it was sent to ([`PeerConfig::dst_addr`](crate::PeerConfig::dst_addr)).
    pub dst: Option<IpAddr>,
    /// Index of the interface it came in by ([`PeerConfig::dst_addr`](crate::PeerConfig::dst_addr)).
    pub ifindex: Option<u32>,
    /// Explicit congestion notification, 0 to 3 (RFC 3168; [`PeerConfig::ecn`](crate::PeerConfig::ecn)).
    pub ecn: Option<u8>,
    /// How many datagrams the socket had dropped before this one was queued, modulo 2^32.
    ///
    /// `None` while that is nothing (SO_RXQ_OVFL in socket(7)). The difference between two
    /// neighbours, by `wrapping_sub`, is the loss between them. Always asked for: with it a bare `recvmmsg`
    /// loop takes as long as without, to 1% (`cargo bench`, drain, rivals).
    #[doc(alias = "SO_RXQ_OVFL")]
    pub kernel_drops: Option<u32>,
}

impl Meta {
    #[cfg(target_os = "linux")]
    #[inline(always)]
    fn read(control: &[u8]) -> Self {
        let control = crate::sys::cmsg::parse(control);
        Self {
            rx_time: control.rx_time,
            dst: control.dst,
            ifindex: control.ifindex,
            ecn: control.traffic_class.map(|class| class & 0b11),
            kernel_drops: control.kernel_drops,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read(_control: &[u8]) -> Self {
        Self::default()
    }
}
