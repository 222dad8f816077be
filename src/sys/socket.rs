//! Socket options, the kernel's drop counter, and waiting: what every backend shares.
#![cfg_attr(unix, allow(unsafe_code))]

use std::io;
use std::net::{SocketAddr, UdpSocket};
#[cfg(not(windows))]
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Call, fault};

/// What a wait is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

/// The options that need more than `socket2` offers; off Linux they are not there.
#[cfg(target_os = "linux")]
mod options {
    use std::io;
    use std::mem::size_of;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use libc::{c_int, c_void, socklen_t};

    use super::{Call, fault};

    /// Index of the drop counter in SO_MEMINFO's array (SK_MEMINFO_DROPS, linux/sock_diag.h).
    const MEMINFO_DROPS: usize = 8;
    /// Length of SO_MEMINFO's array (SK_MEMINFO_VARS).
    const MEMINFO_VARS: usize = 9;

    fn set_int(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
        fault::limit(Call::SetOption)?;
        // SAFETY: the option value is one c_int on this stack frame, with its true size beside it;
        // the kernel copies it before the call returns. The descriptor is open: `socket` owns it.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw const value).cast::<c_void>(),
                size_of::<c_int>() as socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Raises a socket buffer past the system's maximum; needs CAP_NET_ADMIN (socket(7)).
    pub(crate) fn force_recv_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
        fault::limit(Call::ForceBuffer)?;
        set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, clamp_to_int(bytes))
    }

    /// As [`force_recv_buffer`], for the send side.
    pub(crate) fn force_send_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
        fault::limit(Call::ForceBuffer)?;
        set_int(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, clamp_to_int(bytes))
    }

    fn clamp_to_int(bytes: usize) -> c_int {
        c_int::try_from(bytes).unwrap_or(c_int::MAX)
    }

    /// Asks for the drop counter with each datagram (SO_RXQ_OVFL); free until something is dropped.
    pub(crate) fn enable_drop_counter(socket: &UdpSocket) -> io::Result<()> {
        set_int(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
    }

    /// Asks for the kernel's receive time with each datagram (SO_TIMESTAMPNS).
    pub(crate) fn enable_rx_time(socket: &UdpSocket) -> io::Result<()> {
        set_int(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
    }

    /// Asks for each datagram's destination address and interface.
    pub(crate) fn enable_dst(socket: &UdpSocket, is_ipv6: bool) -> io::Result<()> {
        if is_ipv6 {
            set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
        } else {
            set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
        }
    }

    /// Asks for each datagram's traffic class, whose low bits are ECN.
    pub(crate) fn enable_traffic_class(socket: &UdpSocket, is_ipv6: bool) -> io::Result<()> {
        if is_ipv6 {
            set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        }
        // On a dual-stack socket IPv4 datagrams carry the IPv4 form.
        set_int(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)
    }

    /// Lets the kernel hand over several datagrams of one flow as one buffer (UDP_GRO).
    pub(crate) fn enable_coalescing(socket: &UdpSocket) -> io::Result<()> {
        set_int(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
    }

    /// Whether the kernel cuts a message into datagrams for this socket (UDP_SEGMENT).
    ///
    /// Asked, not tried: as an option of the socket it would stay, and cut plain sends.
    pub(crate) fn can_segment(socket: &UdpSocket) -> bool {
        if fault::limit(Call::GetOption).is_err() {
            return false;
        }
        let (mut value, mut len): (c_int, socklen_t) = (0, size_of::<c_int>() as socklen_t);
        // SAFETY: `value` is writable for `len` bytes and `len` is a socklen_t of our own; the kernel
        // writes at most `len` bytes and the number it wrote (getsockopt(2)).
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw mut value).cast::<c_void>(),
                &raw mut len,
            )
        };
        result == 0
    }

    /// The socket's cumulative count of dropped datagrams (SO_MEMINFO), which wraps at 2^32.
    pub(crate) fn kernel_drops(socket: &UdpSocket) -> io::Result<Option<u32>> {
        fault::limit(Call::GetOption)?;
        let mut values = [0_u32; MEMINFO_VARS];
        let mut len = size_of_val(&values) as socklen_t;
        // SAFETY: `values` is writable for `len` bytes and `len` is a socklen_t of our own; the
        // kernel writes at most `len` bytes and the number it wrote (getsockopt(2)).
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast::<c_void>(),
                &raw mut len,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // A kernel from before the drop counter gives a shorter array.
        let known = len as usize / size_of::<u32>();
        Ok((known > MEMINFO_DROPS).then(|| values[MEMINFO_DROPS]))
    }
}

#[cfg(not(target_os = "linux"))]
mod options {
    use std::io;
    use std::net::UdpSocket;

    fn unsupported<T>() -> io::Result<T> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn force_recv_buffer(_socket: &UdpSocket, _bytes: usize) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn force_send_buffer(_socket: &UdpSocket, _bytes: usize) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn enable_drop_counter(_socket: &UdpSocket) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn enable_rx_time(_socket: &UdpSocket) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn enable_dst(_socket: &UdpSocket, _is_ipv6: bool) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn enable_traffic_class(_socket: &UdpSocket, _is_ipv6: bool) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn enable_coalescing(_socket: &UdpSocket) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn can_segment(_socket: &UdpSocket) -> bool {
        false
    }

    pub(crate) fn kernel_drops(_socket: &UdpSocket) -> io::Result<Option<u32>> {
        Ok(None)
    }
}

pub(crate) use options::{
    can_segment, enable_coalescing, enable_drop_counter, enable_dst, enable_rx_time, enable_traffic_class,
    force_recv_buffer, force_send_buffer, kernel_drops,
};

/// A UDP socket for addresses like `addr`.
pub(crate) fn create(addr: SocketAddr) -> io::Result<UdpSocket> {
    fault::limit(Call::Socket)?;
    Ok(Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?.into())
}

/// Gives a socket its local address.
pub(crate) fn bind(socket: &UdpSocket, addr: SocketAddr) -> io::Result<()> {
    fault::limit(Call::Bind)?;
    SockRef::from(socket).bind(&addr.into())
}

/// Sets an option that `socket2` knows.
pub(crate) fn set(socket: &UdpSocket, option: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<()> {
    fault::limit(Call::SetOption)?;
    option(&SockRef::from(socket))
}

/// Reads an option that `socket2` knows, or an address, without which nothing is opened.
pub(crate) fn get<T>(socket: &UdpSocket, option: impl FnOnce(&Socket) -> io::Result<T>) -> io::Result<T> {
    fault::limit(Call::GetNeeded)?;
    option(&SockRef::from(socket))
}

/// The address that a socket has been given.
pub(crate) fn local_addr(socket: &UdpSocket) -> io::Result<SocketAddr> {
    get(socket, |_| socket.local_addr())
}

/// Receives one datagram, cut at `buffer`'s length: the plain call of `Peer`.
pub(crate) fn recv_one(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    fault::limit(Call::Recv)?;
    socket.recv_from(buffer)
}

/// Sends one datagram: the plain call behind `send`.
pub(crate) fn send_one(socket: &UdpSocket, data: &[u8], dst: SocketAddr) -> io::Result<usize> {
    fault::limit(Call::Send)?;
    socket.send_to(data, dst)
}

// poll(2)
#[cfg(unix)]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<libc::pollfd>() == 8 && offset_of!(libc::pollfd, fd) == 0);
    assert!(offset_of!(libc::pollfd, events) == 4 && offset_of!(libc::pollfd, revents) == 6);
};

/// Waits until the socket is ready, at most `timeout`; `false` when the time ran out.
///
/// A signal ends the wait with [`io::ErrorKind::Interrupted`].
#[cfg(unix)]
pub(crate) fn wait(socket: &UdpSocket, interest: Interest, timeout: Duration) -> io::Result<bool> {
    use std::os::fd::AsRawFd;

    fault::limit(Call::Wait)?;
    let events = match interest {
        Interest::Readable => libc::POLLIN,
        Interest::Writable => libc::POLLOUT,
    };
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    let ready = poll_one(&mut poll, timeout);
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(ready > 0) }
}

/// `ppoll(2)`, whose time has nanoseconds.
#[cfg(target_os = "linux")]
fn poll_one(poll: &mut libc::pollfd, timeout: Duration) -> libc::c_int {
    // Sixty-eight years, which every time_t holds, are as good as for ever.
    let seconds = timeout.as_secs().min(i32::MAX as u64);
    let limit = libc::timespec { tv_sec: seconds as _, tv_nsec: timeout.subsec_nanos() as _ };
    // SAFETY: one pollfd, exclusively borrowed, and a timespec, both alive for the call; a null
    // signal mask leaves the mask alone (ppoll(2)).
    unsafe { libc::ppoll(poll, 1, &raw const limit, std::ptr::null()) }
}

/// `poll(2)`, rounded up to milliseconds so that a short wait does not become a spin.
#[cfg(all(unix, not(target_os = "linux")))]
fn poll_one(poll: &mut libc::pollfd, timeout: Duration) -> libc::c_int {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    // SAFETY: one pollfd, exclusively borrowed for the call.
    unsafe { libc::poll(poll, 1, libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX)) }
}

#[cfg(windows)]
pub(crate) use super::winsock::wait;

/// Where there is no `poll` at all: sleep a little, then let the caller ask.
#[cfg(not(any(unix, windows)))]
pub(crate) fn wait(_socket: &UdpSocket, _interest: Interest, timeout: Duration) -> io::Result<bool> {
    const STEP: Duration = Duration::from_millis(1);
    fault::limit(Call::Wait)?;
    std::thread::sleep(timeout.min(STEP));
    Ok(timeout > STEP)
}
