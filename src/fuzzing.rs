//! Entry points for the fuzz targets in `fuzz/` to functions that read what a stranger or the kernel wrote, and to
//! the faults of `sys/fault.rs`.
//!
//! Compiled with `--cfg fuzzing` only, which `cargo fuzz` sets; no part of the public interface.

use std::net::{Ipv4Addr, SocketAddr};

use crate::gram::{Gram, Meta};
use crate::segment;
use crate::sys::fault::{self, Call, Fault};

/// Reads a socket address of which the kernel claims to have written `claimed_len` bytes.
#[cfg(target_os = "linux")]
pub fn decode_address(bytes: &[u8], claimed_len: u32) -> Option<SocketAddr> {
    crate::sys::decode_address_bytes(bytes, claimed_len)
}

/// Reads a datagram's control messages as [`Gram::meta`] does.
pub fn meta(control: &[u8]) -> Meta {
    let src = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Gram { data: &[], src, truncated: false, original_len: 0, control }.meta()
}

/// The segment size that a datagram's control messages carry.
#[cfg(target_os = "linux")]
pub fn segment_len(control: &[u8]) -> Option<usize> {
    crate::sys::cmsg::segment_len(control)
}

/// Splits a slot as [`Grams`](crate::Grams) does, by following the offsets.
pub fn split(data: &[u8], segment_len: usize) -> impl Iterator<Item = &[u8]> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let (piece, following) = segment::piece(data, segment_len, next?);
        next = following;
        Some(piece)
    })
}

/// How many datagrams a slot is said to hold.
pub fn count(len: usize, segment_len: usize) -> usize {
    segment::count(len, segment_len)
}

/// A kind of system call that can be made to fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failing {
    /// What receives.
    Receive,
    /// What waits for something to receive.
    Wait,
    /// Making an io_uring.
    Ring,
    /// Giving it its buffers.
    Register,
    /// A request of it.
    Shot,
    /// Asking it.
    Enter,
}

impl Failing {
    fn call(self) -> Call {
        match self {
            Self::Receive => Call::Recv,
            Self::Wait => Call::Wait,
            Self::Ring => Call::Ring,
            Self::Register => Call::Register,
            Self::Shot => Call::Shot,
            Self::Enter => Call::Enter,
        }
    }
}

/// Makes `times` calls fail with `errno`, in any thread, after `after` that go through.
pub fn fail(failing: Failing, after: usize, times: usize, errno: i32) {
    fault::inject(failing.call(), after, times, Fault::Errno(errno));
}

/// Lets `times` receive calls take `slots` datagrams at most, after `after` that take all.
pub fn shorten(after: usize, times: usize, slots: usize) {
    fault::inject(Call::Recv, after, times, Fault::Short(slots));
}

/// How many failures with `errno` have not come yet.
pub fn failures_left(failing: Failing, errno: i32) -> usize {
    fault::left(|call, fault| call == failing.call() && matches!(fault, Fault::Errno(e) if e == errno))
}

/// Forgets all faults that have not come.
pub fn clear_faults() {
    fault::clear();
}
