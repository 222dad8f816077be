//! What each errno of a receive or send call means: the one place that classifies, counts and logs it.
//!
//! `sys` below gives raw results; everything above asks here. Errors of opening are logged in
//! `endpoint.rs`, and a wait that a signal ended is told apart in `receive.rs`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::stats::Counters;

/// Times in a row a call that was interrupted is made again before it counts as "nothing yet".
pub(crate) const INTERRUPTIONS_MAX: usize = 64;

/// ERESTARTSYS, an errno that should never leave the kernel: `recvmmsg` puts it on the socket when a
/// signal arrives after the first datagram of a blocking call (do_recvmmsg in net/socket.c).
const ERESTARTSYS: i32 = 512;

/// Windows' name for EINTR, which the standard library does not know.
const WSAEINTR: i32 = 10_004;
const WSAENETRESET: i32 = 10_052;
const WSAECONNRESET: i32 = 10_054;

/// What to do after a receive call failed.
#[derive(Debug)]
pub(crate) enum OnReceive {
    /// The queue is empty.
    Nothing,
    /// The call did not really happen: make it again.
    Again,
    /// An error for the caller.
    Failed(io::Error),
}

/// What to do after a send call failed.
#[derive(Debug)]
pub(crate) enum OnSend {
    /// The socket's send buffer is full: the same data can go later.
    WouldBlock,
    /// The system or the device has no buffer: the same data can go later, perhaps only much later.
    NoBuffers,
    /// The call did not really happen: make it again.
    Again,
    /// An error of the datagram at the front, for the caller.
    Failed(io::Error),
}

/// Classifies and counts a failed receive call of the peer `name` on `ha`.
pub(crate) fn on_receive_error(error: io::Error, counters: &Counters, name: &str, ha: SocketAddr) -> OnReceive {
    match error.kind() {
        // EAGAIN and EWOULDBLOCK are one number on Linux and two elsewhere; the kind covers both (H96).
        ErrorKind::WouldBlock => OnReceive::Nothing,
        _ if was_interrupted(&error) || is_of_an_earlier_send(&error) => OnReceive::Again,
        _ => {
            let times = counters.on_receive_failed(error.raw_os_error().unwrap_or(0));
            if is_logged(times) {
                log::error!("Error receive on UDP {ha} (peer '{name}'): {error} (number {times} of its kind)");
            }
            OnReceive::Failed(error)
        }
    }
}

/// Classifies and counts a failed send call of the peer `name` on `ha`.
pub(crate) fn on_send_error(error: io::Error, counters: &Counters, name: &str, ha: SocketAddr) -> OnSend {
    match error.kind() {
        ErrorKind::WouldBlock => {
            counters.on_would_block();
            OnSend::WouldBlock
        }
        _ if was_interrupted(&error) || is_of_an_earlier_send(&error) => OnSend::Again,
        _ if is_no_buffers(&error) => {
            counters.on_no_buffers();
            OnSend::NoBuffers
        }
        _ => {
            let times = counters.on_send_failed(error.raw_os_error().unwrap_or(0));
            if is_logged(times) {
                log::error!("Error send UDP from {ha} (peer '{name}'): {error} (number {times} of its kind)");
            }
            OnSend::Failed(error)
        }
    }
}

/// Whether the failure with this number is logged: the 1st, 2nd, 4th, 8th … of its kind.
///
/// A caller in a loop may fail a million times a second.
fn is_logged(times: u64) -> bool {
    times.is_power_of_two()
}

/// Whether this error of a segmented message may be one of its segmentation: worth trying its datagrams
/// one by one before it is taken for theirs.
///
/// EIO, where checksums are not left to the device or a tunnel stands between; EINVAL or, since Linux
/// 6.14, EMSGSIZE, where a segment is longer than the path takes in one piece; EMSGSIZE, ENOBUFS and
/// ENOMEM, where there is no memory for the whole. Most of them say other things too, like a missing route.
pub(crate) fn may_be_refusal(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    return matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOBUFS | libc::ENOMEM)
    );
    #[cfg(not(target_os = "linux"))]
    {
        let _ = error;
        false
    }
}

/// Whether the call did not really happen, or a wait did not last, because of a signal or its like.
pub(crate) fn was_interrupted(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    error.kind() == ErrorKind::Interrupted
        || (cfg!(target_os = "linux") && errno == Some(ERESTARTSYS))
        || (cfg!(windows) && errno == Some(WSAEINTR))
}

/// Whether a call failed for what an earlier send has met: a closed port (WSAECONNRESET), or too many hops
/// (WSAENETRESET).
///
/// Windows tells so at any later call of the socket. hio's unconnected socket never sees it on Unix (H94), so
/// neither does a caller here: what is done now has nothing to do with it.
fn is_of_an_earlier_send(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(WSAECONNRESET | WSAENETRESET))
}

/// ENOBUFS and ENOMEM. Not the same as a full send buffer: on BSD and macOS they come from the
/// device's queue while the socket stays writable, so waiting for "writable" would spin.
fn is_no_buffers(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM));
    #[cfg(not(unix))]
    {
        /// Windows' name for ENOBUFS.
        const WSAENOBUFS: i32 = 10055;
        error.raw_os_error() == Some(WSAENOBUFS) || error.kind() == ErrorKind::OutOfMemory
    }
}
