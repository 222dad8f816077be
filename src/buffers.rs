//! Socket buffers: ask, read back, say what they really hold.

use std::fmt;
use std::io;
use std::net::UdpSocket;

use crate::sys::socket as sys_socket;

/// One of a socket's two buffers, and what limits its size on Linux.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// SO_RCVBUF, limited by `net.core.rmem_max`.
    Receive,
    /// SO_SNDBUF, limited by `net.core.wmem_max`.
    Send,
}

impl Direction {
    fn sysctl(self) -> &'static str {
        match self {
            Self::Receive => "net.core.rmem_max",
            Self::Send => "net.core.wmem_max",
        }
    }

    pub(crate) fn get(self, socket: &UdpSocket) -> io::Result<usize> {
        sys_socket::get(socket, |socket| match self {
            Self::Receive => socket.recv_buffer_size(),
            Self::Send => socket.send_buffer_size(),
        })
    }

    fn set(self, socket: &UdpSocket, bytes: usize) -> io::Result<()> {
        sys_socket::set(socket, |socket| match self {
            Self::Receive => socket.set_recv_buffer_size(bytes),
            Self::Send => socket.set_send_buffer_size(bytes),
        })
    }

    fn force(self, socket: &UdpSocket, bytes: usize) -> io::Result<()> {
        match self {
            Self::Receive => sys_socket::force_recv_buffer(socket, bytes),
            Self::Send => sys_socket::force_send_buffer(socket, bytes),
        }
    }
}

/// What a socket buffer was asked to be and what it became.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BufReport {
    /// Receive or send buffer.
    pub direction: Direction,
    /// Bytes asked for; 0 if the system's default was large enough and left alone.
    pub asked_bytes: usize,
    /// Bytes as the kernel reports them. Linux doubles what it is given, for its own bookkeeping.
    pub actual_bytes: usize,
    /// Whether the kernel gave less than was asked.
    pub clamped: bool,
}

impl BufReport {
    /// How many datagrams of `len` payload bytes a receive buffer of this size holds, about: see
    /// [`datagrams_held`].
    pub fn holds(&self, len: usize) -> usize {
        datagrams_held(self.actual_bytes, len)
    }
}

/// A sentence for people: what was granted, what it holds, and what would lift the limit.
impl fmt::Display for BufReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.direction {
            Direction::Receive => "receive",
            Direction::Send => "send",
        };
        let usable = self.actual_bytes / DOUBLING;
        write!(
            f,
            "socket {name} buffer: {usable} bytes, about {} datagrams of 100 bytes or {} of {}",
            self.holds(100),
            self.holds(crate::MAX_GRAM_SIZE),
            crate::MAX_GRAM_SIZE,
        )?;
        if self.clamped {
            write!(
                f,
                "; {} were asked: raise the limit with `sysctl -w {}={}` or grant CAP_NET_ADMIN",
                self.asked_bytes,
                self.direction.sysctl(),
                self.asked_bytes
            )?;
        }
        Ok(())
    }
}

/// Linux reports twice the bytes it was asked for (socket(7), SO_RCVBUF).
const DOUBLING: usize = if cfg!(target_os = "linux") { 2 } else { 1 };

/// What a peer wants of one buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// At least so many bytes, compared as hio does: what the kernel reports, doubled on Linux,
    /// against what is wanted (H35). Never lowers a buffer.
    AtLeast(usize),
    /// So many bytes, more or fewer than there are now.
    Exactly(usize),
}

/// Sets one buffer as wanted, and reads back what it became.
///
/// If the kernel grants less than was asked, it is asked again by force, which needs CAP_NET_ADMIN.
pub(crate) fn set(socket: &UdpSocket, direction: Direction, want: Want) -> io::Result<BufReport> {
    let before = direction.get(socket)?;
    let bytes = match want {
        Want::AtLeast(bytes) if before >= bytes => {
            return Ok(BufReport { direction, asked_bytes: 0, actual_bytes: before, clamped: false });
        }
        Want::AtLeast(bytes) | Want::Exactly(bytes) => bytes,
    };
    // The option is a C int; more cannot be asked for.
    let asked_bytes = bytes.min(i32::MAX as usize);
    // Linux clamps silently (H38); other systems refuse what is too large, and then the old size
    // stays and is reported as clamped.
    let _ = direction.set(socket, asked_bytes);
    let mut actual_bytes = direction.get(socket)?;
    let is_clamped = |actual: usize| actual / DOUBLING < asked_bytes.min(i32::MAX as usize / DOUBLING);
    if is_clamped(actual_bytes) && direction.force(socket, asked_bytes).is_ok() {
        actual_bytes = direction.get(socket)?;
    }
    Ok(BufReport { direction, asked_bytes, actual_bytes, clamped: is_clamped(actual_bytes) })
}

/// How many datagrams of `len` payload bytes a socket receive buffer of `buf_bytes` holds, about.
///
/// `buf_bytes` is what `actual_buf_sizes` reports. Linux charges each datagram for the memory it
/// stands in, not for its payload: 256 bytes for the `sk_buff`, and a data block of 576 bytes or a
/// power of two with room for headers and 320 bytes of `skb_shared_info`. Measured on Linux 6.18:
/// the default buffer of 212,992 bytes holds 256 datagrams of up to 100 bytes, 92 of 1,240.
/// Above 16 KiB the kernel uses pages, and the estimate is the payload and 4,608 bytes.
///
/// ```
/// assert_eq!(hio_udp::datagrams_held(212_992, 100), 256);
/// assert_eq!(hio_udp::datagrams_held(212_992, 1240), 92);
/// ```
pub fn datagrams_held(buf_bytes: usize, len: usize) -> usize {
    /// `struct sk_buff`, rounded to the allocator's size.
    const SK_BUFF: usize = 256;
    /// Headers of IP and UDP, room for a link header, and `skb_shared_info`.
    const OVERHEAD: usize = 28 + 32 + 320;
    /// The smallest data block, from a cache of its own (`skb_small_head_cache`).
    const SMALL_BLOCK: usize = 576;
    const PAGED_FROM: usize = 16_384;
    let need = len + OVERHEAD;
    let block = if need <= SMALL_BLOCK {
        SMALL_BLOCK
    } else if need <= PAGED_FROM {
        need.next_power_of_two()
    } else {
        len + 4_608 - SK_BUFF
    };
    buf_bytes / (block + SK_BUFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t21_a_buffer_holds_what_was_measured_on_linux() {
        // (payload, held by the default buffer) as flooding an unread socket showed.
        for (len, held) in [(1, 256), (100, 256), (200, 166), (512, 166), (1000, 92), (1472, 92), (2048, 48)] {
            assert_eq!(datagrams_held(212_992, len), held, "{len}");
        }
        assert_eq!(datagrams_held(212_992, 65_507), 3);
    }

    #[test]
    fn a_report_names_the_limit_and_what_lifts_it() {
        let report =
            BufReport { direction: Direction::Receive, asked_bytes: 16 << 20, actual_bytes: 425_984, clamped: true };
        let text = report.to_string();
        if !cfg!(target_os = "linux") {
            return assert!(text.contains("16777216 were asked"), "{text}");
        }
        for part in ["212992 bytes", "512 datagrams of 100", "sysctl -w net.core.rmem_max=16777216", "CAP_NET_ADMIN"] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    }
}
