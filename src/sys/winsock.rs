//! What Windows needs beyond `socket2` and the standard library: a port for one socket alone, receives that do not
//! fail for earlier sends, and waiting.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_short, c_ulong, c_void};
use std::io;
use std::mem::{offset_of, size_of};
use std::net::UdpSocket;
use std::os::windows::io::AsRawSocket;
use std::ptr::null_mut;
use std::time::Duration;

use super::socket::Interest;
use super::{Call, fault};

/// Winsock's `SOCKET`, a UINT_PTR.
type RawSocket = usize;

const SOL_SOCKET: c_int = 0xFFFF;
/// `~SO_REUSEADDR` (winsock2.h).
const SO_EXCLUSIVEADDRUSE: c_int = !4;
/// `_WSAIOW(IOC_VENDOR, 12)` and `_WSAIOW(IOC_VENDOR, 15)` (mswsock.h).
const SIO_UDP_CONNRESET: c_ulong = 0x9800_000C;
const SIO_UDP_NETRESET: c_ulong = 0x9800_000F;
const POLLWRNORM: c_short = 0x0010;
const POLLRDNORM: c_short = 0x0100;

/// `WSAPOLLFD`.
#[repr(C)]
struct PollFd {
    fd: RawSocket,
    events: c_short,
    returned: c_short,
}

const _: () = assert!(size_of::<PollFd>() == 2 * size_of::<RawSocket>() && offset_of!(PollFd, fd) == 0);
const _: () = assert!(offset_of!(PollFd, events) == size_of::<RawSocket>());
const _: () = assert!(offset_of!(PollFd, returned) == size_of::<RawSocket>() + 2);

#[link(name = "ws2_32")]
// SAFETY: these are winsock2.h's own signatures, with its types: SOCKET is a UINT_PTR, DWORD and ULONG are 32 bits,
// BOOL and INT are an int.
unsafe extern "system" {
    fn setsockopt(socket: RawSocket, level: c_int, name: c_int, value: *const c_void, len: c_int) -> c_int;
    fn WSAPoll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
    fn WSAIoctl(
        socket: RawSocket,
        code: c_ulong,
        input: *const c_void,
        input_len: c_ulong,
        output: *mut c_void,
        output_len: c_ulong,
        returned: *mut c_ulong,
        overlapped: *mut c_void,
        completion: *mut c_void,
    ) -> c_int;
}

fn raw(socket: &impl AsRawSocket) -> RawSocket {
    socket.as_raw_socket() as RawSocket
}

/// Keeps every other socket from the port that this one is bound to later (SO_EXCLUSIVEADDRUSE).
///
/// Without it whoever sets SO_REUSEADDR may bind the same port and take its datagrams.
pub(crate) fn set_exclusive(socket: &impl AsRawSocket) -> io::Result<()> {
    fault::limit(Call::SetOption)?;
    let value: c_int = 1;
    // SAFETY: the option value is one int on this stack frame, with its true size beside it; the socket is open:
    // `socket` owns it.
    let result = unsafe {
        setsockopt(raw(socket), SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (&raw const value).cast(), size_of::<c_int>() as c_int)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for receives that do not fail because an earlier send met a closed port or ran out of hops.
///
/// Where the system does not know the request, such errors are told apart in `policy.rs`.
pub(crate) fn forget_earlier_sends(socket: &UdpSocket) {
    for code in [SIO_UDP_CONNRESET, SIO_UDP_NETRESET] {
        let (report, mut returned): (c_int, c_ulong) = (0, 0);
        // SAFETY: the input is one BOOL on this stack frame, with its true size beside it; there is no output, and
        // `returned` is a DWORD of our own. Without an OVERLAPPED the call is over when it returns.
        let _ = unsafe {
            WSAIoctl(
                raw(socket),
                code,
                (&raw const report).cast(),
                size_of::<c_int>() as c_ulong,
                null_mut(),
                0,
                &raw mut returned,
                null_mut(),
                null_mut(),
            )
        };
    }
}

/// `WSAPoll`, rounded up to milliseconds so that a short wait does not become a spin.
pub(crate) fn wait(socket: &UdpSocket, interest: Interest, timeout: Duration) -> io::Result<bool> {
    fault::limit(Call::Wait)?;
    let events = match interest {
        Interest::Readable => POLLRDNORM,
        Interest::Writable => POLLWRNORM,
    };
    let mut poll = PollFd { fd: raw(socket), events, returned: 0 };
    let millis = c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX);
    // SAFETY: one WSAPOLLFD, exclusively borrowed for the call.
    let ready = unsafe { WSAPoll(&raw mut poll, 1, millis) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(ready > 0) }
}
