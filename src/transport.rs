//! What `Peer` and `BatchPeer` share: hio's Peer as a trait, and openPeer's guard.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};

use crate::config::PeerConfig;
use crate::stats::Stats;

/// A non-blocking UDP socket with hio's names: what [`Peer`](crate::Peer) and
/// [`BatchPeer`](crate::BatchPeer) have in common.
///
/// ```
/// use hio_udp::{BatchPeer, Peer, PeerConfig, Transport};
///
/// fn greet<T: Transport>(peer: &mut T) -> std::io::Result<usize> {
///     let me = peer.ha();
///     peer.send(b"hello", me)
/// }
/// let config = PeerConfig::new().port(0).reopen(true);
/// assert_eq!(greet(&mut Peer::new(config.clone())?)?, 5);
/// assert_eq!(greet(&mut BatchPeer::new(config)?)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Transport: Sized {
    /// Makes a peer from its settings: resolves the host, allocates the buffers, and opens the
    /// socket if [`PeerConfig::reopen`] says so.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a host that cannot be resolved or an
    /// impossible ring; with `reopen`, also what [`open`](Self::open) gives.
    fn new(config: PeerConfig) -> io::Result<Self>;

    /// Opens the socket in non-blocking mode and binds it to [`ha`](Self::ha), which becomes what the
    /// kernel says: a port of 0 becomes the real one. An open peer is closed first.
    ///
    /// # Errors
    ///
    /// The kernel's error, its errno kept (EADDRINUSE, EADDRNOTAVAIL, EACCES …); it is logged too.
    /// The peer is then closed. hio returns `False` and leaves an unbound socket behind (H50).
    fn open(&mut self) -> io::Result<()>;

    /// Closes the peer, if it is open, and opens it again. What was queued in the socket or in a ring
    /// is dropped (H48).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn reopen(&mut self) -> io::Result<()>;

    /// Closes the socket; always `true`, on a closed peer too (H60). `ha` is kept.
    fn close(&mut self) -> bool;

    /// Whether the socket is open.
    fn opened(&self) -> bool;

    /// The peer's name.
    fn name(&self) -> &str;

    /// The local address: as configured before the first open, the kernel's after it.
    fn ha(&self) -> SocketAddr;

    /// The host of [`ha`](Self::ha).
    fn host(&self) -> IpAddr {
        self.ha().ip()
    }

    /// The port of [`ha`](Self::ha).
    fn port(&self) -> u16 {
        self.ha().port()
    }

    /// The same as [`ha`](Self::ha), by the name hio's Unix-socket peers use.
    fn path(&self) -> SocketAddr {
        self.ha()
    }

    /// Count of transport buffers; `None` for a `Peer` made without.
    fn bc(&self) -> Option<usize>;

    /// Buffer size in bytes.
    fn bs(&self) -> usize;

    /// Actual sizes of the socket's (send, receive) buffers in bytes, (0, 0) while closed (H32, H33).
    ///
    /// Linux reports twice what was set (socket(7)).
    #[doc(alias = "actualBufSizes")]
    fn actual_buf_sizes(&self) -> (usize, usize);

    /// Takes the next datagram: its bytes and its sender.
    ///
    /// A datagram gives `(data, Some(source))`, an empty one `(b"", Some(source))`, and when nothing is
    /// there `(b"", None)` (H80–H82). Never blocks.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) on a closed peer; otherwise the kernel's error,
    /// logged. "Would block" is no error.
    fn receive(&mut self) -> io::Result<(&[u8], Option<SocketAddr>)>;

    /// Sends one datagram; the kernel has it when this returns.
    ///
    /// Gives `data.len()`, or 0 if the same data can be sent later (EAGAIN, EWOULDBLOCK, ENOBUFS,
    /// ENOMEM; H101). An empty datagram is sent and gives 0 too (H100). ENOBUFS may never clear for
    /// a size (H103), so bound a retry loop. Never blocks.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) on a closed peer; any other errno of this very
    /// call, logged (H106): EMSGSIZE over 65,507 bytes, EACCES for a broadcast address without
    /// `bcast`, EINVAL for port 0, ENETUNREACH …
    fn send(&mut self, data: &[u8], dst: SocketAddr) -> io::Result<usize>;

    /// A snapshot of the counters; asks the kernel for its drop counter.
    fn stats(&self) -> Stats;
}

/// A peer that is closed when this guard goes, on every path out: see [`open_peer`].
#[derive(Debug)]
pub struct OpenPeer<T: Transport>(T);

impl<T: Transport> Deref for OpenPeer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Transport> DerefMut for OpenPeer<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Transport> Drop for OpenPeer<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Makes and opens a peer that closes when the guard goes out of scope; its name is `test` unless
/// the settings say otherwise.
///
/// ```
/// use hio_udp::{Peer, PeerConfig, Transport, open_peer};
///
/// let mut peer = open_peer::<Peer>(PeerConfig::new().port(0))?;
/// assert!(peer.opened() && peer.name() == "test");
/// let me = peer.ha();
/// peer.send(b"to myself", me)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Transport::new`] and [`Transport::open`]; the peer is closed then. hio runs its body with
/// a closed peer instead (H145).
#[doc(alias = "openPeer")]
pub fn open_peer<T: Transport>(mut config: PeerConfig) -> io::Result<OpenPeer<T>> {
    config.name.get_or_insert_with(|| "test".to_owned());
    let mut peer = OpenPeer(T::new(config)?);
    peer.reopen()?;
    Ok(peer)
}

/// Opens a peer, runs `body` with it, and closes it, whether `body` returns, fails or panics.
///
/// ```
/// use hio_udp::{Peer, PeerConfig, Transport, with_peer};
///
/// let port = with_peer::<Peer, _>(PeerConfig::new().port(0), |peer| Ok(peer.port()))?;
/// assert_ne!(port, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`open_peer`], and what `body` gives.
#[doc(alias = "openPeer")]
pub fn with_peer<T: Transport, R>(config: PeerConfig, body: impl FnOnce(&mut T) -> io::Result<R>) -> io::Result<R> {
    body(&mut *open_peer::<T>(config)?)
}

/// The parts of [`Transport`] and of the peers' own setters that only pass on to the endpoint.
macro_rules! endpoint_transport {
    () => {
        fn opened(&self) -> bool {
            self.endpoint.opened()
        }

        fn name(&self) -> &str {
            &self.endpoint.name
        }

        fn ha(&self) -> std::net::SocketAddr {
            self.endpoint.ha
        }

        fn bc(&self) -> Option<usize> {
            self.endpoint.bc
        }

        fn bs(&self) -> usize {
            self.endpoint.bs
        }

        fn actual_buf_sizes(&self) -> (usize, usize) {
            self.endpoint.actual_buf_sizes()
        }
    };
}

/// Setters and reports both peers have; each takes effect at the next open, as in hio (H30, H42).
macro_rules! endpoint_settings {
    ($peer:ty) => {
        impl $peer {
            /// Sets the local host and port; an open socket stays where it is until the next `reopen` (H30).
            ///
            /// # Errors
            ///
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if `host` cannot be resolved.
            pub fn set_ha(&mut self, ha: impl Into<$crate::Ha>) -> std::io::Result<()> {
                self.endpoint.set_ha(&ha.into())
            }

            /// Sets the local host, as [`set_ha`](Self::set_ha) does.
            ///
            /// # Errors
            ///
            /// As [`set_ha`](Self::set_ha).
            pub fn set_host(&mut self, host: &str) -> std::io::Result<()> {
                self.endpoint.set_ha(&(host, self.endpoint.ha.port()).into())
            }

            /// Sets the local port, as [`set_ha`](Self::set_ha) does.
            pub fn set_port(&mut self, port: u16) {
                self.endpoint.ha.set_port(port);
            }

            /// Whether sending to broadcast addresses is asked for.
            pub fn bcast(&self) -> bool {
                self.endpoint.bcast
            }

            /// Asks for sending to broadcast addresses, from the next open on (H42, H79).
            pub fn set_bcast(&mut self, bcast: bool) {
                self.endpoint.bcast = bcast;
            }

            /// The wire log, if there is one.
            pub fn wl(&self) -> Option<&$crate::WireLog> {
                self.endpoint.wl.as_ref()
            }

            /// Logs to another wire log from now on, or to none.
            pub fn set_wl(&mut self, log: Option<$crate::WireLog>) {
                self.endpoint.wl = log;
            }

            /// Joins a multicast group on an interface: datagrams sent to it arrive here too.
            ///
            /// The peer must be bound to the port they are sent to, and to the wildcard or the group's own
            /// address. It stays a member until it leaves or is closed, and joins again at each open; on
            /// a closed peer it is only noted.
            ///
            /// ```
            #[doc = concat!("use hio_udp::{Interface, PeerConfig, Transport, ", stringify!($peer), "};")]
            #[doc = concat!("let mut peer = ", stringify!($peer), "::new(PeerConfig::new().host(\"\").port(0))?;")]
            /// peer.join_multicast("239.255.0.7".parse().unwrap(), Interface::Address("127.0.0.1".parse().unwrap()))?;
            /// # Ok::<(), std::io::Error>(())
            /// ```
            ///
            /// # Errors
            ///
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if `group` is no multicast address or the
            /// interface is not named as the group's family needs; else the kernel's error: ENODEV for
            /// an unknown interface, ENOBUFS for too many groups (ip(7), IP_ADD_MEMBERSHIP).
            #[doc(alias = "IP_ADD_MEMBERSHIP")]
            #[doc(alias = "IPV6_JOIN_GROUP")]
            pub fn join_multicast(&mut self, group: std::net::IpAddr, on: $crate::Interface) -> std::io::Result<()> {
                self.endpoint.join_multicast(group, on)
            }

            /// Leaves a multicast group, named as it was joined.
            ///
            /// # Errors
            ///
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if it was not joined so; else the kernel's error.
            #[doc(alias = "IP_DROP_MEMBERSHIP")]
            #[doc(alias = "IPV6_LEAVE_GROUP")]
            pub fn leave_multicast(&mut self, group: std::net::IpAddr, on: $crate::Interface) -> std::io::Result<()> {
                self.endpoint.leave_multicast(group, on)
            }

            /// Sets how many routers a datagram to a group may pass, 0 to 255: 0 stays on this machine, 1, the
            /// system's default, on the local network (ip(7), IP_MULTICAST_TTL). Holds from open to open.
            ///
            /// # Errors
            ///
            /// The kernel's error: EINVAL above 255.
            #[doc(alias = "IP_MULTICAST_TTL")]
            #[doc(alias = "IPV6_MULTICAST_HOPS")]
            pub fn set_multicast_ttl(&mut self, hops: u32) -> std::io::Result<()> {
                self.endpoint.set_multicast_hops(hops)
            }

            /// Sets whether datagrams to a group also reach members on this machine; the system's default
            /// is that they do (ip(7), IP_MULTICAST_LOOP). Holds from open to open.
            ///
            /// # Errors
            ///
            /// The kernel's error.
            #[doc(alias = "IP_MULTICAST_LOOP")]
            #[doc(alias = "IPV6_MULTICAST_LOOP")]
            pub fn set_multicast_loop(&mut self, on: bool) -> std::io::Result<()> {
                self.endpoint.set_multicast_loop(on)
            }

            /// Sets the interface by which datagrams to a group leave. Holds from open to open.
            ///
            /// # Errors
            ///
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) for an IPv6 peer if it is not an index, for an
            /// IPv4 peer if it is not an address; else the kernel's error.
            #[doc(alias = "IP_MULTICAST_IF")]
            #[doc(alias = "IPV6_MULTICAST_IF")]
            pub fn set_multicast_interface(&mut self, by: $crate::Interface) -> std::io::Result<()> {
                self.endpoint.set_multicast_interface(by)
            }

            /// What one of the socket's buffers was asked to be and what it became; `None` while closed.
            pub fn buf_report(&self, direction: $crate::Direction) -> Option<$crate::BufReport> {
                self.endpoint.buf_report(direction)
            }

            /// Waits until the socket can take a datagram, at most `timeout`; `false` if it did not.
            ///
            /// For use after a [`send`](crate::Transport::send) that gave 0, or after
            /// [`Stopped::WouldBlock`](crate::Stopped::WouldBlock). A signal may end it early.
            ///
            /// # Errors
            ///
            /// [`NotConnected`](std::io::ErrorKind::NotConnected) on a closed peer, or the kernel's error.
            pub fn wait_writable(&self, timeout: std::time::Duration) -> std::io::Result<bool> {
                self.endpoint.wait($crate::sys::socket::Interest::Writable, timeout)
            }
        }

        /// The socket's descriptor, for epoll, mio or tokio; hio: `peer.ls`.
        ///
        /// # Panics
        ///
        /// On a closed peer, which has no descriptor.
        #[cfg(unix)]
        impl std::os::fd::AsFd for $peer {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.endpoint.socket().expect("a closed peer has no descriptor").as_fd()
            }
        }

        /// The number of the socket's descriptor; closing the peer makes it invalid.
        ///
        /// # Panics
        ///
        /// On a closed peer, which has no descriptor.
        #[cfg(unix)]
        impl std::os::fd::AsRawFd for $peer {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(self))
            }
        }

        /// The socket itself, on Windows; hio: `peer.ls`.
        ///
        /// # Panics
        ///
        /// On a closed peer, which has no socket.
        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $peer {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.endpoint.socket().expect("a closed peer has no socket").as_socket()
            }
        }
    };
}

pub(crate) use {endpoint_settings, endpoint_transport};
