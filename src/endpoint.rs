//! The part `Peer` and `BatchPeer` have in common: settings, one socket, its counters; open and close.
//!
//! Sockets own no memory: rings and buffers are handed in by the peer for each call. How an endpoint
//! receives stands in `receive.rs`, how it sends in `send.rs`.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::Type;

use crate::buffers::{self, BufReport, Direction, Want};
use crate::config::{Ha, PeerConfig};
use crate::multicast::{Interface, Multicast};
use crate::segment::Backoff;
use crate::stats::{Counters, Stats};
use crate::sys::socket as sys_socket;
use crate::wire::{Entry, WireLog};

/// Who else may bind the same address and port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sharing {
    /// Whoever asks for it too, as in hio (H71).
    Anybody,
    /// Sockets of the same user that ask for it too: the kernel spreads datagrams over all of them.
    Group,
    /// Nobody.
    Nobody,
}

impl Sharing {
    fn set(self, socket: &UdpSocket) -> io::Result<()> {
        if self == Self::Anybody {
            sys_socket::set(socket, |socket| socket.set_reuse_address(true))?;
        }
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        if self != Self::Nobody {
            sys_socket::set(socket, |socket| socket.set_reuse_port(true))?;
        }
        #[cfg(windows)]
        if self == Self::Nobody {
            crate::sys::winsock::set_exclusive(socket)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    /// Local address: as configured before the first open, as the kernel says after it.
    pub(crate) ha: SocketAddr,
    pub(crate) bc: Option<usize>,
    pub(crate) bs: usize,
    pub(crate) bcast: bool,
    pub(crate) sharing: Sharing,
    /// Whether a socket of IPv6 leaves IPv4 to others.
    only_v6: bool,
    multicast: Multicast,
    recv_buf_bytes: Option<usize>,
    send_buf_bytes: Option<usize>,
    rx_time: bool,
    dst_addr: bool,
    ecn: bool,
    /// Whether coalescing was asked for; the socket may not have it.
    coalesce: bool,
    /// Whether this socket coalesces (UDP_GRO is on).
    pub(crate) coalesced: bool,
    /// Whether segmentation was asked for; the socket may not have it.
    segment: bool,
    /// Whether this socket segments (UDP_SEGMENT is there).
    pub(crate) segmented: bool,
    /// Whether it does so now, after refusals.
    pub(crate) backoff: Cell<Backoff>,
    socket: Option<UdpSocket>,
    /// What goes over the wire is logged here.
    pub(crate) wl: Option<WireLog>,
    pub(crate) counters: Counters,
    /// An error found behind good datagrams, kept for the next receive call.
    pub(crate) deferred: RefCell<Option<io::Error>>,
    buf_reports: Option<[BufReport; 2]>,
    /// A clamped buffer is logged once in a peer's life, not at every reopen.
    clamp_logged: bool,
    /// Whether somebody else has bound the socket, and may have it after this endpoint.
    pub(crate) adopted: bool,
}

impl Endpoint {
    pub(crate) fn new(config: &PeerConfig, bc: Option<usize>) -> io::Result<Self> {
        Ok(Self {
            name: config.name.clone().unwrap_or_else(|| "main".to_owned()),
            ha: config.resolve_ha()?,
            bc,
            bs: config.effective_bs(bc),
            bcast: config.bcast,
            sharing: if config.exclusive { Sharing::Nobody } else { Sharing::Anybody },
            only_v6: config.only_v6,
            multicast: Multicast::default(),
            recv_buf_bytes: config.recv_buf_bytes,
            send_buf_bytes: config.send_buf_bytes,
            rx_time: config.rx_time,
            dst_addr: config.dst_addr,
            ecn: config.ecn,
            coalesce: config.coalesce,
            coalesced: false,
            segment: config.segment,
            segmented: false,
            backoff: Cell::default(),
            socket: None,
            wl: config.wl.clone(),
            counters: Counters::default(),
            deferred: RefCell::default(),
            buf_reports: None,
            clamp_logged: false,
            adopted: false,
        })
    }

    /// The open socket, or an error that says how to get one (H62).
    #[inline]
    pub(crate) fn socket(&self) -> io::Result<&UdpSocket> {
        self.socket.as_ref().ok_or_else(|| self.not_open())
    }

    #[cold]
    fn not_open(&self) -> io::Error {
        let message = format!("peer '{}' on {} is not open: call open or reopen first", self.name, self.ha);
        io::Error::new(ErrorKind::NotConnected, message)
    }

    pub(crate) fn opened(&self) -> bool {
        self.socket.is_some()
    }

    /// Opens a socket on `ha`; on failure there is none, and the error is returned and logged.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        self.close();
        self.try_open()
            .inspect_err(|error| log::error!("Error opening UDP {} (peer '{}'): {error}", self.ha, self.name))
    }

    fn try_open(&mut self) -> io::Result<()> {
        let socket = sys_socket::create(self.ha)?;
        if self.bcast {
            sys_socket::set(&socket, |socket| socket.set_broadcast(true))?;
        }
        self.sharing.set(&socket)?;
        if self.only_v6 && self.ha.is_ipv6() {
            sys_socket::set(&socket, |socket| socket.set_only_v6(true))?;
        }
        sys_socket::set(&socket, |socket| socket.set_nonblocking(true))?;
        let reports = self.set_buffers(&socket, self.bs)?;
        // Everything is set before the bind: the first datagram must find it so.
        self.set_metadata_options(&socket)?;
        sys_socket::bind(&socket, self.ha)?;
        self.multicast.apply(&socket, self.ha.is_ipv6())?;
        self.ha = sys_socket::local_addr(&socket)?;
        self.keep(socket, reports, 0);
        Ok(())
    }

    /// Opens with a socket that is bound already, with all that is queued in it.
    ///
    /// What it has dropped before is not this endpoint's.
    pub(crate) fn adopt(&mut self, socket: UdpSocket) -> io::Result<()> {
        self.close();
        self.ha = sys_socket::local_addr(&socket)?;
        if !is_udp(&socket)? || self.ha.port() == 0 {
            let message = format!("the socket passed on {} is no bound UDP socket", self.ha);
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        sys_socket::set(&socket, |socket| socket.set_nonblocking(true))?;
        let reports = self.set_buffers(&socket, 0)?;
        self.set_metadata_options(&socket)?;
        self.multicast.apply(&socket, self.ha.is_ipv6())?;
        let dropped_before = sys_socket::kernel_drops(&socket).ok().flatten().unwrap_or(0);
        self.keep(socket, reports, dropped_before);
        self.adopted = true;
        Ok(())
    }

    /// Sets both buffers as was asked for, or to `least_bytes` at least.
    fn set_buffers(&self, socket: &UdpSocket, least_bytes: usize) -> io::Result<[BufReport; 2]> {
        let want = |bytes: Option<usize>| bytes.map_or(Want::AtLeast(least_bytes), Want::Exactly);
        Ok([
            buffers::set(socket, Direction::Receive, want(self.recv_buf_bytes))?,
            buffers::set(socket, Direction::Send, want(self.send_buf_bytes))?,
        ])
    }

    /// Is open from here on, with a socket whose drop counter stands at `dropped_before`.
    fn keep(&mut self, socket: UdpSocket, reports: [BufReport; 2], dropped_before: u32) {
        self.log_clamp(&reports);
        self.buf_reports = Some(reports);
        self.counters.on_open(dropped_before);
        self.socket = Some(socket);
    }

    fn set_metadata_options(&mut self, socket: &UdpSocket) -> io::Result<()> {
        #[cfg(windows)]
        crate::sys::winsock::forget_earlier_sends(socket);
        // Free until something is dropped, so always on; where it is missing, SO_MEMINFO or nothing counts.
        ignore_unsupported(sys_socket::enable_drop_counter(socket))?;
        if self.rx_time {
            ignore_unsupported(sys_socket::enable_rx_time(socket))?;
        }
        if self.dst_addr {
            ignore_unsupported(sys_socket::enable_dst(socket, self.ha.is_ipv6()))?;
        }
        if self.ecn {
            ignore_unsupported(sys_socket::enable_traffic_class(socket, self.ha.is_ipv6()))?;
        }
        // A backend that cannot read the segment size would glue datagrams together.
        self.coalesced = self.coalesce && crate::sys::COALESCES && sys_socket::enable_coalescing(socket).is_ok();
        self.segmented = self.segment && crate::sys::SEGMENTS && sys_socket::can_segment(socket);
        self.backoff = Cell::default();
        Ok(())
    }

    fn log_clamp(&mut self, reports: &[BufReport]) {
        for report in reports.iter().filter(|report| report.clamped && !self.clamp_logged) {
            log::warn!("peer '{}' on {}: {report}", self.name, self.ha);
        }
        self.clamp_logged |= reports.iter().any(|report| report.clamped);
    }

    /// Lets others of the same group bind the same address and port from now on: see [`Sharing::Group`].
    pub(crate) fn open_group(&self) -> io::Result<()> {
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        sys_socket::set(self.socket()?, |socket| socket.set_reuse_port(true))?;
        Ok(())
    }

    /// Closes the socket, if there is one, after a last look at its drop counter.
    pub(crate) fn close(&mut self) {
        self.sample_drops();
        self.socket = None;
        self.deferred.take();
        self.buf_reports = None;
    }

    /// Reads the kernel's drop counter from the socket itself, which knows of losses that no later
    /// datagram has carried (T19).
    fn sample_drops(&self) {
        if let Some(Ok(Some(reading))) = self.socket.as_ref().map(sys_socket::kernel_drops) {
            self.counters.on_kernel_drops(reading);
        }
    }

    /// Writes entries to the wire log. Its failure is no datagram's: it is counted, and the peer's first
    /// one logged.
    #[cold]
    pub(crate) fn write_wire_log<'a>(&self, wl: &WireLog, entries: impl Iterator<Item = Entry<'a>>) {
        let Err((failed, error)) = wl.write_all(entries) else { return };
        let before = self.counters.on_wire_log_failed(failed);
        if before == 0 {
            log::error!("Error writing wire log of UDP {} (peer '{}'): {error}", self.ha, self.name);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.sample_drops();
        self.counters.snapshot()
    }

    /// (send, receive) in bytes as the kernel reports them; (0, 0) while closed (H32, H33).
    pub(crate) fn actual_buf_sizes(&self) -> (usize, usize) {
        let Some(socket) = &self.socket else { return (0, 0) };
        let size = |direction| Direction::get(direction, socket).unwrap_or(0);
        (size(Direction::Send), size(Direction::Receive))
    }

    pub(crate) fn buf_report(&self, direction: Direction) -> Option<BufReport> {
        self.buf_reports.iter().flatten().find(|report| report.direction == direction).copied()
    }

    /// Size in bytes of the open socket's receive buffer, as the kernel reported it.
    pub(crate) fn recv_buffer_bytes(&self) -> usize {
        self.buf_report(Direction::Receive).map_or(0, |report| report.actual_bytes)
    }

    pub(crate) fn join_multicast(&mut self, group: IpAddr, on: Interface) -> io::Result<()> {
        self.multicast.join(self.socket.as_ref(), group, on)
    }

    /// Has the next open take datagrams of groups only that this endpoint has joined itself.
    pub(crate) fn only_own_groups(&mut self) {
        self.multicast.only_own();
    }

    pub(crate) fn leave_multicast(&mut self, group: IpAddr, on: Interface) -> io::Result<()> {
        self.multicast.leave(self.socket.as_ref(), group, on)
    }

    pub(crate) fn set_multicast_hops(&mut self, hops: u32) -> io::Result<()> {
        self.multicast.set_hops(self.socket.as_ref(), self.ha.is_ipv6(), hops)
    }

    pub(crate) fn set_multicast_loop(&mut self, on: bool) -> io::Result<()> {
        self.multicast.set_loop(self.socket.as_ref(), self.ha.is_ipv6(), on)
    }

    pub(crate) fn set_multicast_interface(&mut self, by: Interface) -> io::Result<()> {
        self.multicast.set_interface(self.socket.as_ref(), self.ha.is_ipv6(), by)
    }

    pub(crate) fn set_ha(&mut self, ha: &Ha) -> io::Result<()> {
        self.ha = ha.resolve()?;
        Ok(())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close();
    }
}

/// An option this system does not have is no reason not to open; any other error is.
fn ignore_unsupported(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        #[cfg(unix)]
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Where the system tells: UDP-Lite, or ICMP's ping, has datagrams and ports too.
fn is_udp(socket: &UdpSocket) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    if sys_socket::get(socket, socket2::Socket::protocol)? != Some(socket2::Protocol::UDP) {
        return Ok(false);
    }
    Ok(sys_socket::get(socket, socket2::Socket::r#type)? == Type::DGRAM)
}
