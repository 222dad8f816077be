//! What a peer is made from: plain data, with hio's defaults.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::gram::{BUF_SIZE, MAX_DATAGRAM_SIZE, MAX_GRAM_SIZE};
use crate::sys::DEFAULT_IO_URING;
use crate::wire::WireLog;

/// Slots of a [`BatchPeer`](crate::BatchPeer)'s rings when `bc` is not given.
///
/// 16 to 256 slots cost the same for each datagram; 512 and more fall out of the processor's
/// second-level cache (measured outside this repository: `docs/DESIGN.md`).
pub const DEFAULT_BC: usize = 64;

/// Slots of a coalescing [`BatchPeer`](crate::BatchPeer)'s receive ring when `bc` is not given.
///
/// A slot of 65,535 bytes holds many datagrams, and 8 of them still fit into the processor's
/// second-level cache: with 32 a datagram of 1,240 bytes takes 1.45 times as long (`cargo bench
/// --bench offload`, coalesced drain).
pub const DEFAULT_COALESCING_BC: usize = 8;

/// Longest pause in which [`fill_wait`](crate::BatchPeer::fill_wait) lets a batch gather, by default.
pub const DEFAULT_GATHER: Duration = Duration::from_micros(50);

/// A host and a port: what [`PeerConfig::ha`] takes. A pair becomes one, and so does a [`SocketAddr`].
///
/// ```
/// use hio_udp::{Peer, PeerConfig, Transport};
/// use std::net::SocketAddr;
///
/// let addr: SocketAddr = "127.0.0.1:0".parse().unwrap();
/// for config in [PeerConfig::new().ha(("127.0.0.1", 0)), PeerConfig::new().ha(addr)] {
///     assert_eq!(Peer::new(config)?.ha(), addr);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ha {
    host: String,
    port: u16,
}

impl Ha {
    /// The address it stands for, resolved as [`PeerConfig::host`] says.
    pub(crate) fn resolve(&self) -> io::Result<SocketAddr> {
        resolve(&self.host, self.port)
    }
}

impl<H: Into<String>> From<(H, u16)> for Ha {
    fn from((host, port): (H, u16)) -> Self {
        Self { host: host.into(), port }
    }
}

impl From<SocketAddr> for Ha {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => address.ip().to_string(),
        };
        Self { host, port: address.port() }
    }
}

/// Settings of a [`Peer`](crate::Peer) or [`BatchPeer`](crate::BatchPeer), with hio's defaults.
///
/// Nothing is checked or resolved before [`Transport::new`](crate::Transport::new).
///
/// ```
/// use hio_udp::{Peer, PeerConfig, Transport};
///
/// let peer = Peer::new(PeerConfig::new().name("meter").ha(("localhost", 0)).bc(4))?;
/// assert_eq!(peer.ha(), "127.0.0.1:0".parse().unwrap());
/// assert_eq!((peer.bc(), peer.bs()), (Some(4), 4 * 1240));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PeerConfig {
    pub(crate) name: Option<String>,
    pub(crate) ha: Option<Ha>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) bc: Option<usize>,
    pub(crate) bs: Option<usize>,
    pub(crate) gram_size: usize,
    pub(crate) bcast: bool,
    pub(crate) exclusive: bool,
    pub(crate) only_v6: bool,
    pub(crate) reopen: bool,
    pub(crate) recv_buf_bytes: Option<usize>,
    pub(crate) send_buf_bytes: Option<usize>,
    pub(crate) rx_time: bool,
    pub(crate) dst_addr: bool,
    pub(crate) ecn: bool,
    pub(crate) coalesce: bool,
    pub(crate) segment: bool,
    pub(crate) gather: Duration,
    pub(crate) io_uring: bool,
    pub(crate) wl: Option<WireLog>,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            name: None,
            ha: None,
            host: "127.0.0.1".to_owned(),
            port: 55_000,
            bc: None,
            bs: None,
            gram_size: MAX_GRAM_SIZE,
            bcast: false,
            exclusive: false,
            only_v6: false,
            reopen: false,
            recv_buf_bytes: None,
            send_buf_bytes: None,
            rx_time: false,
            dst_addr: false,
            ecn: false,
            coalesce: false,
            segment: true,
            gather: DEFAULT_GATHER,
            io_uring: DEFAULT_IO_URING,
            wl: None,
        }
    }
}

impl PeerConfig {
    /// hio's defaults: name `main`, 127.0.0.1 port 55000, `bs` of 65,535 bytes, no `bc`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name the peer is managed and logged by; by default `main`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets host and port at once, from a pair or a [`SocketAddr`]; `host` and `port` are then not looked
    /// at (H6).
    pub fn ha(mut self, ha: impl Into<Ha>) -> Self {
        self.ha = Some(ha.into());
        self
    }

    /// Sets the local host: an address, a name, or `""` for every interface (0.0.0.0).
    ///
    /// A name is resolved once, by [`Transport::new`](crate::Transport::new), to its first IPv4
    /// address if it has one, else to its first IPv6 address.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Sets the local port; 0 lets the kernel choose one at the first open, which is then kept.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the count of transport buffers of `gram_size` bytes each.
    ///
    /// `bs` becomes `bc × gram_size`. For a `BatchPeer` it is the number of slots of each ring, where 0
    /// is an error; without it there are [`DEFAULT_BC`], or to receive into, where the
    /// peer coalesces, [`DEFAULT_COALESCING_BC`]. For a `Peer` 0 means "not given", as in hio (H18).
    pub fn bc(mut self, bc: usize) -> Self {
        self.bc = Some(bc);
        self
    }

    /// Sets the buffer size in bytes; not looked at where `bc` is given (H22).
    ///
    /// A `Peer` cuts datagrams at `bs`. The socket's own buffers are raised to `bs` if they are smaller.
    pub fn bs(mut self, bs: usize) -> Self {
        self.bs = Some(bs);
        self
    }

    /// Sets the size in bytes of one slot of a ring, 1 to 65,535; by default
    /// [`MAX_GRAM_SIZE`], 1,240.
    ///
    /// A `BatchPeer` and a `Pipeline` cut longer datagrams at it, flag and count them.
    #[doc(alias = "MaxGramSize")]
    pub fn gram_size(mut self, bytes: usize) -> Self {
        self.gram_size = bytes;
        self
    }

    /// Allows sending to broadcast addresses (SO_BROADCAST); read when the peer opens.
    #[doc(alias = "SO_BROADCAST")]
    pub fn bcast(mut self, bcast: bool) -> Self {
        self.bcast = bcast;
        self
    }

    /// Binds so that no other socket can bind the same address and port.
    ///
    /// hio always sets SO_REUSEADDR and SO_REUSEPORT, with which any other process, even another
    /// user's, can take part of a port's traffic or all of it (H71). That is the default here too.
    #[doc(alias = "SO_REUSEADDR")]
    #[doc(alias = "SO_REUSEPORT")]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Takes IPv6 datagrams only, so that another socket can have the same port for IPv4.
    ///
    /// By default a socket on `::` has IPv4 datagrams too, unless the system says otherwise (ipv6(7),
    /// `bindv6only`). Makes no difference to a peer on an IPv4 address.
    ///
    /// ```no_run
    /// use hio_udp::{Peer, PeerConfig, Transport};
    ///
    /// let v4 = Peer::new(PeerConfig::new().ha(("0.0.0.0", 2055)).exclusive(true).reopen(true))?;
    /// let v6 = Peer::new(PeerConfig::new().ha(("::", 2055)).only_v6(true).exclusive(true).reopen(true))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "IPV6_V6ONLY")]
    pub fn only_v6(mut self, on: bool) -> Self {
        self.only_v6 = on;
        self
    }

    /// Opens the peer as it is made.
    pub fn reopen(mut self, reopen: bool) -> Self {
        self.reopen = reopen;
        self
    }

    /// Sets the socket's receive buffer to so many bytes, more or fewer than the system's default,
    /// whatever `bs` is.
    ///
    /// What was granted, and what would lift a limit, is in
    /// [`buf_report`](crate::BatchPeer::buf_report).
    #[doc(alias = "SO_RCVBUF")]
    pub fn recv_buf_bytes(mut self, bytes: usize) -> Self {
        self.recv_buf_bytes = Some(bytes);
        self
    }

    /// Sets the socket's send buffer, as [`recv_buf_bytes`](Self::recv_buf_bytes) does the other.
    #[doc(alias = "SO_SNDBUF")]
    pub fn send_buf_bytes(mut self, bytes: usize) -> Self {
        self.send_buf_bytes = Some(bytes);
        self
    }

    /// Asks for the kernel's receive time with each datagram: [`Meta::rx_time`](crate::Meta::rx_time).
    ///
    /// Linux batch backend only; elsewhere the field stays `None`. Makes receiving a datagram take 10
    /// to 18% longer (`cargo bench`, drain, options; Linux 6.18, two machines, 100 and 1,240 bytes).
    #[doc(alias = "SO_TIMESTAMPNS")]
    pub fn rx_time(mut self, on: bool) -> Self {
        self.rx_time = on;
        self
    }

    /// Asks for each datagram's destination address and interface: [`Meta::dst`](crate::Meta::dst).
    ///
    /// Worth it on a wildcard address only. Linux batch backend only. Makes receiving a datagram take 6
    /// to 15% longer (measured as for [`rx_time`](Self::rx_time)).
    #[doc(alias = "IP_PKTINFO")]
    #[doc(alias = "IPV6_RECVPKTINFO")]
    pub fn dst_addr(mut self, on: bool) -> Self {
        self.dst_addr = on;
        self
    }

    /// Asks for each datagram's ECN bits: [`Meta::ecn`](crate::Meta::ecn).
    ///
    /// Linux batch backend only. Makes receiving a datagram take 7 to 12% longer (measured as for
    /// [`rx_time`](Self::rx_time)).
    #[doc(alias = "IP_RECVTOS")]
    #[doc(alias = "IPV6_RECVTCLASS")]
    pub fn ecn(mut self, on: bool) -> Self {
        self.ecn = on;
        self
    }

    /// Lets the kernel coalesce datagrams of one flow (UDP_GRO); they come out one by one all the same.
    ///
    /// Sizes every slot of a `BatchPeer`'s ring to 65,535 bytes, because a coalesced buffer that does
    /// not fit its slot loses every datagram behind the first. Linux batch backend only; elsewhere,
    /// and for a `Peer`, it does nothing.
    #[doc(alias = "UDP_GRO")]
    pub fn coalesce(mut self, on: bool) -> Self {
        self.coalesce = on;
        self
    }

    /// Lets [`send_batch`](crate::BatchPeer::send_batch) and [`flush`](crate::BatchPeer::flush) give the
    /// kernel a row of grams as one message, which it cuts (UDP_SEGMENT). On by default.
    ///
    /// A row is grams to one destination that follow each other and have one length; the last may be
    /// shorter, and none is empty. Sending one then costs a fraction, least of all where the payloads
    /// follow each other in memory, as the pieces of one slice do; and what arrives and what is
    /// reported is the same as without. A row the system refuses goes out gram by gram
    /// ([`Stats::segment_refusals`](crate::Stats::segment_refusals)), and nothing is joined for a
    /// while: for one batch, and twice as many after each further refusal, at most 1,024.
    ///
    /// Turn it off where rows of datagrams come too fast for the receiver: they reach its buffer all at
    /// once. Or where a packet filter on this machine must see each datagram by itself, or rows to one
    /// destination do not fit its path's MTU while others do. Linux batch backend only; elsewhere, and for
    /// a `Peer`, it does nothing.
    #[doc(alias = "UDP_SEGMENT")]
    #[doc(alias = "GSO")]
    pub fn segment(mut self, on: bool) -> Self {
        self.segment = on;
        self
    }

    /// Says whether a `BatchPeer` may receive through io_uring. By default it does where the system
    /// lets it.
    ///
    /// Where it does not (an old kernel, seccomp, a sysctl), or off Linux, the peer receives as without
    /// it, with the same results: [`Stats::backend`](crate::Stats::backend) tells which it is. Without the
    /// feature `io-uring` this does nothing. A peer that only sends is better without: it saves a descriptor.
    pub fn io_uring(mut self, on: bool) -> Self {
        self.io_uring = on;
        self
    }

    /// Sets how long [`fill_wait`](crate::BatchPeer::fill_wait) lets a batch gather at most, while
    /// data comes fast; zero turns gathering off. By default [`DEFAULT_GATHER`].
    ///
    /// It gathers only at rates that bring four datagrams or more in this time, and only as long as
    /// the socket's buffer surely holds what arrives. Longer saves processor time and adds as much
    /// latency. The system may sleep some 60 µs longer than asked (timer slack, prctl(2)).
    pub fn gather(mut self, pause: Duration) -> Self {
        self.gather = pause;
        self
    }

    /// Logs what goes over the wire; the log is opened and closed by itself, not with the peer.
    ///
    /// The handle is one of any number, so keep a clone to read from.
    pub fn wl(mut self, log: WireLog) -> Self {
        self.wl = Some(log);
        self
    }

    /// The local address that host and port, or `ha`, stand for.
    pub(crate) fn resolve_ha(&self) -> io::Result<SocketAddr> {
        match &self.ha {
            Some(ha) => ha.resolve(),
            None => resolve(&self.host, self.port),
        }
    }

    /// Size in bytes of one slot of a ring.
    pub(crate) fn slot_bytes(&self) -> usize {
        if self.coalesce { MAX_DATAGRAM_SIZE } else { self.gram_size }
    }

    /// hio's `bs`: `bc × gram_size` if `bc` counts, else `bs`, else [`BUF_SIZE`] (H19, H22, H23).
    pub(crate) fn effective_bs(&self, bc: Option<usize>) -> usize {
        match bc {
            Some(bc) => bc.saturating_mul(self.gram_size),
            None => self.bs.unwrap_or(BUF_SIZE),
        }
    }
}

/// Resolves a host as hio's constructor does (H9–H15): `""` is the wildcard, IPv4 comes first.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    if host.is_empty() {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    let unresolved = |why: String| {
        io::Error::new(ErrorKind::InvalidInput, format!("host '{host}' is not an address or a known name: {why}"))
    };
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|e| unresolved(e.to_string()))?.collect();
    let first = found.iter().find(|a| a.is_ipv4()).or(found.first());
    first.map(|address| unmapped(*address)).ok_or_else(|| unresolved("no address found".to_owned()))
}

/// `::ffff:1.2.3.4` becomes `1.2.3.4` (H14).
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_being_a_ha() {
        for text in ["127.0.0.1:0", "[::1]:5", "[fe80::1%1]:6", "0.0.0.0:55000"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Ha::from(address).resolve().unwrap(), address, "{text}");
        }
    }
}
