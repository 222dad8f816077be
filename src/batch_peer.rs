//! `BatchPeer`: hio's Peer over rings, many datagrams per system call.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{DEFAULT_BC, DEFAULT_COALESCING_BC, PeerConfig};
use crate::endpoint::Endpoint;
use crate::gram::Gram;
use crate::grams::Grams;
use crate::pace::Pace;
use crate::ring::{Full, RecvRing, SendRing};
use crate::send::{SendReport, Stopped};
use crate::stats::Stats;
use crate::sys::{Family, SendBatch};
use crate::transport::{Transport, endpoint_settings, endpoint_transport};

/// A non-blocking UDP socket that takes and gives many datagrams per system call, from memory
/// allocated once.
///
/// It is a [`Transport`], with the same results as a [`Peer`](crate::Peer), but for the size at which
/// it cuts a datagram: one slot ([`PeerConfig::gram_size`]) instead of `bs`. On top of that:
///
/// - [`fill`](Self::fill) and [`fill_wait`](Self::fill_wait) give whole batches, borrowed from the ring;
/// - [`send_batch`](Self::send_batch) sends borrowed grams, [`queue`](Self::queue) and
///   [`flush`](Self::flush) copied ones;
/// - [`split`](Self::split) gives both halves at once, for an echo or a relay that copies nothing;
/// - [`exchange`](Self::exchange) hands a filled ring to another thread for a spare one.
///
/// # Wire log
///
/// With [`PeerConfig::wl`], a gram is logged once, when it is handed out: by `receive` one by one, by
/// `fill` and its kin the whole batch, in order, whether the caller then looks at it or not. What
/// `exchange` takes along is logged there if it was not before. A sent gram is logged when the kernel
/// has taken it, so a queued one at the flush; those of one system call together.
///
/// # Readiness
///
/// The peer is `AsFd`, so epoll, mio or tokio can tell when its socket is readable. Datagrams that
/// already stand in the ring do **not** make the descriptor readable: take all that
/// [`receive`](Transport::receive) has, until it gives `None`, before waiting. Grams from `fill` are
/// handed out at once and leave nothing behind.
///
/// ```
/// use hio_udp::{BatchPeer, PeerConfig, Transport};
/// use std::time::Duration;
///
/// let mut peer = BatchPeer::new(PeerConfig::new().port(0).bc(32).reopen(true))?;
/// let me = peer.ha();
/// let report = peer.send_batch([(&b"one"[..], me), (b"two", me), (b"", me)]);
/// assert_eq!((report.sent, report.bytes, report.pending), (3, 6, 0));
///
/// let grams: Vec<_> = peer.fill_wait(Duration::from_secs(1))?.map(|gram| gram.data).collect();
/// assert_eq!(grams, [&b"one"[..], b"two", b""]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct BatchPeer {
    endpoint: Endpoint,
    /// What was received and not yet given out.
    ring: RecvRing,
    /// How the next wait goes about it.
    pace: Pace,
    outbox: Outbox,
}

/// The sending half's memory.
struct Outbox {
    /// What was queued and not yet sent.
    ring: SendRing,
    /// Headers for one system call.
    batch: SendBatch,
    /// The failure of a queued gram that a `send` or `send_batch` met on its way, for the next flush to report.
    unreported: Option<io::Error>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("ring", &self.ring).field("unreported", &self.unreported).finish()
    }
}

impl Transport for BatchPeer {
    fn new(config: PeerConfig) -> io::Result<Self> {
        let send_bc = config.bc.unwrap_or(DEFAULT_BC);
        let bc = config.bc.unwrap_or(if config.coalesce { DEFAULT_COALESCING_BC } else { DEFAULT_BC });
        let send_ring = SendRing::new(send_bc, config.gram_size)?;
        let mut peer = Self {
            ring: RecvRing::with(bc, config.slot_bytes(), config.io_uring)?,
            outbox: Outbox { ring: send_ring, batch: SendBatch::new(send_bc), unreported: None },
            endpoint: Endpoint::new(&config, Some(bc))?,
            pace: Pace::new(config.gather),
        };
        if config.reopen {
            peer.open()?;
        }
        Ok(peer)
    }

    fn open(&mut self) -> io::Result<()> {
        self.empty_rings();
        self.endpoint.open()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.open()
    }

    fn close(&mut self) -> bool {
        self.empty_rings();
        self.endpoint.close();
        true
    }

    #[inline]
    fn receive(&mut self) -> io::Result<(&[u8], Option<SocketAddr>)> {
        receive(&self.endpoint, &mut self.ring)
    }

    /// As [`Transport::send`]. Grams queued before go first; as long as they cannot, the result is 0.
    fn send(&mut self, data: &[u8], dst: SocketAddr) -> io::Result<usize> {
        self.outbox.send(&self.endpoint, data, dst)
    }

    fn stats(&self) -> Stats {
        Stats { backend: self.ring.backend(), ..self.endpoint.stats() }
    }

    endpoint_transport!();
}

impl BatchPeer {
    /// Takes one batch from the kernel: one system call on Linux, and never a wait.
    ///
    /// No gram means that nothing was there. Grams that [`receive`](Transport::receive) fetched into
    /// the ring and has not given out yet are given first, without a system call. The grams are
    /// handed out with this call: those the caller does not look at are not given again.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) on a closed peer; otherwise the kernel's error,
    /// logged. An error behind good datagrams is given by the next call.
    #[doc(alias = "recvmmsg")]
    #[inline]
    pub fn fill(&mut self) -> io::Result<Grams<'_>> {
        self.endpoint.fill(&mut self.ring)?;
        Ok(self.endpoint.hand_out(&mut self.ring))
    }

    /// Takes one batch, waiting at most `timeout` for something to come.
    ///
    /// It adapts to the rate. On a slow line it waits in `poll`, and each datagram is given as soon as
    /// the kernel can. On a fast one it lets each batch gather in a short sleep
    /// ([`PeerConfig::gather`]) instead of being woken for every datagram, which costs both this
    /// thread and the sender far more than the datagram itself; the sleep is shorter where the
    /// socket's buffer could not hold what comes meanwhile, and there is none where it could not
    /// hold it at all. A signal during the wait does no harm. No gram means that the time ran out.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill).
    pub fn fill_wait(&mut self, timeout: Duration) -> io::Result<Grams<'_>> {
        self.endpoint.fill_wait(&mut self.ring, &mut self.pace, timeout)?;
        Ok(self.endpoint.hand_out(&mut self.ring))
    }

    /// Takes one batch into a ring the caller owns; gives the number of grams in it.
    ///
    /// What the ring still held is forgotten. The peer's own ring is not touched: use either this
    /// or the peer's own ring, not both, or the order is lost.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill); and [`InvalidInput`](io::ErrorKind::InvalidInput) if the peer coalesces
    /// and the ring's slots are smaller than 65,535 bytes.
    pub fn fill_into(&self, ring: &mut RecvRing) -> io::Result<usize> {
        ring.clear();
        let grams = self.endpoint.fill(ring)?;
        self.endpoint.log_received(ring.grams());
        Ok(grams)
    }

    /// Takes one batch into a ring the caller owns, waiting as [`fill_wait`](Self::fill_wait) does.
    ///
    /// # Errors
    ///
    /// As [`fill_into`](Self::fill_into).
    pub fn fill_into_wait(&mut self, ring: &mut RecvRing, timeout: Duration) -> io::Result<usize> {
        ring.clear();
        let grams = self.endpoint.fill_wait(ring, &mut self.pace, timeout)?;
        self.endpoint.log_received(ring.grams());
        Ok(grams)
    }

    /// Hands the peer's ring over, for a spare one: with the batch that the last [`fill`](Self::fill)
    /// gave, or with what [`receive`](Transport::receive) has not given out yet.
    ///
    /// So a reader may look at a batch and then hand the whole of it to a worker. What `empty` still
    /// held is forgotten. Nothing is allocated or copied. A peer that coalesces needs slots of 65,535
    /// bytes: with a smaller ring the next `fill` is an error. After it
    /// [`gram_size`](Self::gram_size) is that of the spare one; [`bc`](Transport::bc) stays as it was.
    ///
    /// ```
    /// use hio_udp::{BatchPeer, PeerConfig, RecvRing, Transport};
    /// use std::time::Duration;
    ///
    /// let mut peer = BatchPeer::new(PeerConfig::new().port(0).reopen(true))?;
    /// let me = peer.ha();
    /// peer.send_batch([(&b"a"[..], me), (b"b", me)]);
    /// assert_eq!(peer.fill_wait(Duration::from_secs(1))?.len(), 2);
    /// let filled = peer.exchange(RecvRing::new(64, 1240)?);
    /// assert_eq!(filled.grams().map(|gram| gram.data).collect::<Vec<_>>(), [b"a", b"b"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn exchange(&mut self, mut empty: RecvRing) -> RecvRing {
        empty.clear();
        self.endpoint.log_received(self.ring.grams()); // those of the last fill are in the log already
        let mut filled = std::mem::replace(&mut self.ring, empty);
        filled.take_back();
        filled
    }

    /// Copies one gram into the send ring; [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    ///
    /// [`Full`] if no slot is free or the gram is longer than one.
    pub fn queue(&mut self, data: &[u8], dst: SocketAddr) -> Result<(), Full> {
        self.outbox.ring.queue(data, dst)
    }

    /// Number of grams queued and not yet sent.
    pub fn queued(&self) -> usize {
        self.outbox.ring.len()
    }

    /// Sends what is queued, in order, and says what became of it.
    ///
    /// A gram that fails leaves the ring with the report; those behind it stay for the next flush,
    /// so that flushing until nothing is pending comes to an end, unless the kernel takes no more
    /// ([`Stopped::WouldBlock`], [`Stopped::NoBuffers`]) or the peer is closed. Then everything stays.
    #[doc(alias = "sendmmsg")]
    pub fn flush(&mut self) -> SendReport {
        self.outbox.flush(&self.endpoint)
    }

    /// Sends grams that are borrowed for the call, without copying them: on Linux with one system
    /// call for up to `bc` (at most 1,024) of them.
    ///
    /// Each is a payload and its destination; a payload is anything that is bytes by reference: a
    /// slice, an array, a `Vec`, a `str`. Of a slice of pairs, pass `pairs.iter().copied()`.
    ///
    /// Grams of one length to one destination that follow each other cost a fraction of others:
    /// [`PeerConfig::segment`].
    ///
    /// Stops at the first gram that fails or that the kernel has no room for, and reports it;
    /// everything behind it is untouched, though counted, so `grams` must come to an end. Grams
    /// queued before go first; as long as they cannot, nothing of `grams` is sent.
    ///
    /// On an IPv4 socket a gram to an IPv6 address fails with EAFNOSUPPORT. A socket bound to `::` takes
    /// both families, unless the system makes such sockets IPv6-only (`only_v6`, ipv6(7)).
    #[doc(alias = "sendmmsg")]
    pub fn send_batch<'d, D>(&mut self, grams: impl IntoIterator<Item = (&'d D, SocketAddr)>) -> SendReport
    where
        D: AsRef<[u8]> + ?Sized + 'd,
    {
        self.outbox.send_batch(&self.endpoint, grams.into_iter().map(|(data, dst)| (data.as_ref(), dst)))
    }

    /// Both halves at once, so that received grams can be sent on while they are borrowed.
    ///
    /// Splitting costs nothing. The halves have no [`stats`](Transport::stats), [`ha`](Transport::ha) or
    /// [`close`](Transport::close): a loop that wants them in between splits anew in each round. A
    /// batch that does not go whole must be sent on from [`SendReport::settled`], as
    /// `examples/echo.rs` does.
    ///
    /// ```
    /// # use hio_udp::{BatchPeer, PeerConfig, Transport};
    /// # let mut peer = BatchPeer::new(PeerConfig::new().port(0).reopen(true))?;
    /// # let mut client = BatchPeer::new(PeerConfig::new().port(0).reopen(true))?;
    /// # client.send(b"ping", peer.ha())?;
    /// let (mut rx, mut tx) = peer.split();
    /// let report = tx.send_batch(rx.fill()?.map(|gram| (gram.data, gram.src)));
    /// assert_eq!(report.sent, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn split(&mut self) -> (BatchReceiver<'_>, BatchSender<'_>) {
        let Self { endpoint, ring, pace, outbox } = self;
        (BatchReceiver { endpoint, ring, pace }, BatchSender { endpoint, outbox })
    }

    /// Size in bytes of one slot of the receive ring, at which datagrams are cut.
    pub fn gram_size(&self) -> usize {
        self.ring.gram_size()
    }

    /// Whether the kernel coalesces datagrams for this peer (UDP_GRO).
    pub fn coalesces(&self) -> bool {
        self.endpoint.coalesced
    }

    /// Whether the kernel takes rows of grams as one message for this peer (UDP_SEGMENT).
    pub fn segments(&self) -> bool {
        self.endpoint.segmented
    }

    fn empty_rings(&mut self) {
        let unread = self.ring.len();
        self.ring.clear();
        let unsent = self.outbox.ring.clear();
        self.outbox.unreported = None;
        self.endpoint.counters.on_discarded(unread, unsent);
    }
}

endpoint_settings!(BatchPeer);

/// The receiving half of a [`BatchPeer`]: see [`BatchPeer::split`].
#[derive(Debug)]
pub struct BatchReceiver<'a> {
    endpoint: &'a Endpoint,
    ring: &'a mut RecvRing,
    pace: &'a mut Pace,
}

impl BatchReceiver<'_> {
    /// As [`BatchPeer::fill`].
    ///
    /// # Errors
    ///
    /// As [`BatchPeer::fill`].
    #[inline]
    pub fn fill(&mut self) -> io::Result<Grams<'_>> {
        self.endpoint.fill(self.ring)?;
        Ok(self.endpoint.hand_out(self.ring))
    }

    /// As [`BatchPeer::fill_wait`].
    ///
    /// # Errors
    ///
    /// As [`BatchPeer::fill`].
    pub fn fill_wait(&mut self, timeout: Duration) -> io::Result<Grams<'_>> {
        self.endpoint.fill_wait(self.ring, self.pace, timeout)?;
        Ok(self.endpoint.hand_out(self.ring))
    }

    /// As [`Transport::receive`].
    ///
    /// # Errors
    ///
    /// As [`Transport::receive`].
    #[inline]
    pub fn receive(&mut self) -> io::Result<(&[u8], Option<SocketAddr>)> {
        receive(self.endpoint, self.ring)
    }
}

/// The sending half of a [`BatchPeer`]: see [`BatchPeer::split`].
#[derive(Debug)]
pub struct BatchSender<'a> {
    endpoint: &'a Endpoint,
    outbox: &'a mut Outbox,
}

impl BatchSender<'_> {
    /// As [`Transport::send`].
    ///
    /// # Errors
    ///
    /// As [`Transport::send`].
    pub fn send(&mut self, data: &[u8], dst: SocketAddr) -> io::Result<usize> {
        self.outbox.send(self.endpoint, data, dst)
    }

    /// As [`BatchPeer::send_batch`].
    pub fn send_batch<'d, D>(&mut self, grams: impl IntoIterator<Item = (&'d D, SocketAddr)>) -> SendReport
    where
        D: AsRef<[u8]> + ?Sized + 'd,
    {
        self.outbox.send_batch(self.endpoint, grams.into_iter().map(|(data, dst)| (data.as_ref(), dst)))
    }

    /// As [`BatchPeer::queue`].
    ///
    /// # Errors
    ///
    /// As [`BatchPeer::queue`].
    pub fn queue(&mut self, data: &[u8], dst: SocketAddr) -> Result<(), Full> {
        self.outbox.ring.queue(data, dst)
    }

    /// As [`BatchPeer::flush`].
    pub fn flush(&mut self) -> SendReport {
        self.outbox.flush(self.endpoint)
    }

    /// As [`BatchPeer::wait_writable`].
    ///
    /// # Errors
    ///
    /// As [`BatchPeer::wait_writable`].
    pub fn wait_writable(&self, timeout: Duration) -> io::Result<bool> {
        self.endpoint.wait(crate::sys::socket::Interest::Writable, timeout)
    }
}

/// The next gram of the ring, refilled when it is empty. Nearly always the ring is plain and not empty, and
/// there is no wire log: that much is inlined into the caller's loop.
#[inline]
fn receive<'r>(endpoint: &Endpoint, ring: &'r mut RecvRing) -> io::Result<(&'r [u8], Option<SocketAddr>)> {
    let gram = match ring.plain() {
        Some(Family::V4) if endpoint.wl.is_none() => ring.pop_plain(Family::V4),
        Some(Family::V6) if endpoint.wl.is_none() => ring.pop_plain(Family::V6),
        _ => receive_any(endpoint, ring)?,
    };
    Ok(gram.map_or((&[], None), |gram| (gram.data, Some(gram.src))))
}

#[inline(never)]
fn receive_any<'r>(endpoint: &Endpoint, ring: &'r mut RecvRing) -> io::Result<Option<Gram<'r>>> {
    if ring.is_empty() {
        endpoint.fill(ring)?;
    }
    let gram = ring.pop();
    endpoint.log_received(gram.into_iter());
    Ok(gram)
}

impl Outbox {
    fn flush(&mut self, endpoint: &Endpoint) -> SendReport {
        if let Some(error) = self.unreported.take() {
            return SendReport {
                pending: self.ring.len(),
                first_error: Some((0, error)),
                stopped: Stopped::Failed,
                ..SendReport::default()
            };
        }
        endpoint.flush(&mut self.batch, &mut self.ring)
    }

    fn send(&mut self, endpoint: &Endpoint, data: &[u8], dst: SocketAddr) -> io::Result<usize> {
        endpoint.socket()?;
        match self.send_queued_first(endpoint) {
            Stopped::Done => endpoint.send_one(data, dst),
            _ => Ok(0),
        }
    }

    fn send_batch<'d>(
        &mut self,
        endpoint: &Endpoint,
        grams: impl Iterator<Item = (&'d [u8], SocketAddr)>,
    ) -> SendReport {
        match self.send_queued_first(endpoint) {
            Stopped::Done => endpoint.send_grams(&mut self.batch, grams),
            stopped => SendReport { pending: grams.count(), stopped, ..SendReport::default() },
        }
    }

    /// Sends what was queued before; anything but `Done` says why the kernel does not take all of it.
    ///
    /// Failures on the way are counted and logged as ever; the first is kept for the next flush.
    fn send_queued_first(&mut self, endpoint: &Endpoint) -> Stopped {
        while !self.ring.is_empty() && endpoint.opened() {
            let report = endpoint.flush(&mut self.batch, &mut self.ring);
            match report.first_error {
                Some((_, error)) => _ = self.unreported.get_or_insert(error),
                None if report.stopped != Stopped::Done => return report.stopped,
                None => {}
            }
        }
        Stopped::Done
    }
}
