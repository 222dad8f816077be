//! Entry points for the fuzz targets in `fuzz/` to functions that read what a stranger or the kernel wrote, and to
//! the faults of `sys/fault.rs`.
//!
//! Compiled with `--cfg fuzzing` only, which `cargo fuzz` sets; no part of the public interface.

use std::net::{Ipv4Addr, SocketAddr};

use crate::gram::{Gram, Meta};
use crate::segment;
pub use crate::sys::Call;
use crate::sys::fault::{self, Fault};

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

/// Makes `times` calls fail with `errno`, in any thread, after `after` that go through.
pub fn fail(call: Call, after: usize, times: usize, errno: i32) {
    fault::inject(call, after, times, Fault::Errno(errno));
}

/// Lets `times` receive calls take `slots` datagrams at most, after `after` that take all.
pub fn shorten(after: usize, times: usize, slots: usize) {
    fault::inject(Call::Recv, after, times, Fault::Short(slots));
}

/// How many failures with `errno` have not come yet.
pub fn failures_left(call: Call, errno: i32) -> usize {
    fault::left(|of, fault| of == call && matches!(fault, Fault::Errno(e) if e == errno))
}

/// Forgets all faults that have not come.
pub fn clear_faults() {
    fault::clear();
}
