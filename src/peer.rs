//! `Peer`: hio's Peer, one datagram per system call.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::PeerConfig;
use crate::endpoint::Endpoint;
use crate::gram::{Gram, MAX_DATAGRAM_SIZE};
use crate::stats::Stats;
use crate::sys::socket::Interest;
use crate::transport::{Transport, endpoint_settings, endpoint_transport};

/// A non-blocking UDP socket, one datagram per system call: hio's `Peer`, row for row.
///
/// Allocates its buffer once, when it is made. A datagram longer than `bs` is cut there without a
/// sign in the result, as in hio (H83, H84), but counted in
/// [`Stats::grams_truncated`](crate::Stats::grams_truncated). A [`BatchPeer`](crate::BatchPeer) cuts
/// at the slot size instead, and says so.
///
/// ```
/// use hio_udp::{Peer, PeerConfig, Transport};
///
/// let mut alpha = Peer::new(PeerConfig::new().name("alpha").port(0).reopen(true))?;
/// let mut beta = Peer::new(PeerConfig::new().name("beta").port(0).reopen(true))?;
/// assert_eq!(alpha.send(b"alpha sends to beta", beta.ha())?, 19);
/// assert_eq!(beta.receive()?, (&b"alpha sends to beta"[..], Some(alpha.ha())));
/// assert_eq!(beta.receive()?, (&b""[..], None));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Peer {
    endpoint: Endpoint,
    /// Holds the longest datagram there is, so that the true length is always known.
    buffer: Vec<u8>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the buffer: 65,535 bytes, and what stands in them is the senders' affair.
        f.debug_struct("Peer").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Transport for Peer {
    fn new(config: PeerConfig) -> io::Result<Self> {
        // A plain call reads no control messages, so the options would only cost time; and without the
        // segment size, coalesced datagrams would come out glued together.
        let config = PeerConfig { rx_time: false, dst_addr: false, ecn: false, coalesce: false, ..config };
        let bc = config.bc.filter(|bc| *bc > 0);
        // One byte more than any datagram, filled with a byte that is not zero so that its pages are there.
        let buffer = vec![0xA5; MAX_DATAGRAM_SIZE + 1];
        let mut peer = Self { endpoint: Endpoint::new(&config, bc)?, buffer };
        if config.reopen {
            peer.open()?;
        }
        Ok(peer)
    }

    fn open(&mut self) -> io::Result<()> {
        self.endpoint.open()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.open()
    }

    fn close(&mut self) -> bool {
        self.endpoint.close();
        true
    }

    #[inline]
    fn receive(&mut self) -> io::Result<(&[u8], Option<SocketAddr>)> {
        let Some((len, src)) = self.endpoint.receive_one(&mut self.buffer)? else { return Ok((&[], None)) };
        let data = &self.buffer[..len.min(self.endpoint.bs)];
        let gram = Gram { data, src, truncated: data.len() < len, original_len: len, control: &[] };
        self.endpoint.log_received(std::iter::once(gram));
        Ok((data, Some(src)))
    }

    fn send(&mut self, data: &[u8], dst: SocketAddr) -> io::Result<usize> {
        self.endpoint.send_one(data, dst)
    }

    fn stats(&self) -> Stats {
        self.endpoint.stats()
    }

    endpoint_transport!();
}

impl Peer {
    /// Sets the size in bytes at which datagrams are cut, at once (H87); the socket's buffers follow
    /// at the next open.
    pub fn set_bs(&mut self, bs: usize) {
        self.endpoint.bs = bs;
    }

    /// Waits until a datagram can be received, at most `timeout`; `false` if none came.
    ///
    /// For a program without an event loop of its own. A signal may end it early.
    ///
    /// ```
    /// # use hio_udp::{Peer, PeerConfig, Transport};
    /// # use std::time::Duration;
    /// let mut peer = Peer::new(PeerConfig::new().port(0).reopen(true))?;
    /// let me = peer.ha();
    /// peer.send(b"soon", me)?;
    /// while !peer.wait_readable(Duration::from_secs(1))? {}
    /// assert_eq!(peer.receive()?.0, b"soon");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) on a closed peer, or the kernel's error.
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        self.endpoint.wait(Interest::Readable, timeout)
    }
}

endpoint_settings!(Peer);
