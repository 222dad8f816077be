//! The sending half of the Linux backend: many datagrams a system call with `sendmmsg(2)`.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_uint, iovec, mmsghdr, sockaddr_storage};

use super::mmsg::empty_header;
use super::{Call, addr, fault};

/// Most datagrams one `sendmmsg` takes; the kernel cuts a longer vector silently
/// (UIO_MAXIOV, `__sys_sendmmsg` in net/socket.c). `recvmmsg` has no such limit.
const SEND_VLEN_MAX: usize = 1024;

/// Headers for one `sendmmsg`; the payloads stay with whoever owns them.
pub(crate) struct SendBatch {
    /// Where the headers' name pointers lead.
    names: Vec<sockaddr_storage>,
    /// Where the headers' iov pointers lead; each `iov_base` is set by `Staged::push`.
    iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

// SAFETY: the name and iov pointers lead only into this value's own Vecs, which move with it. The
// payload pointers in `iovecs` are left over from the last `Staged` and are never followed before
// `Staged::push` has overwritten them.
unsafe impl Send for SendBatch {}

impl SendBatch {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, SEND_VLEN_MAX);
        let mut names = vec![addr::empty(); capacity];
        let mut iovecs = vec![iovec { iov_base: ptr::null_mut(), iov_len: 0 }; capacity];
        let mut headers = vec![empty_header(); capacity];
        let (first_name, first_iovec) = (names.as_mut_ptr(), iovecs.as_mut_ptr());
        for (i, header) in headers.iter_mut().enumerate() {
            // SAFETY: i < capacity, the length of `names`.
            header.msg_hdr.msg_name = unsafe { first_name.add(i) }.cast();
            // SAFETY: i < capacity, the length of `iovecs`.
            header.msg_hdr.msg_iov = unsafe { first_iovec.add(i) };
            header.msg_hdr.msg_iovlen = 1;
        }
        Self { names, iovecs, headers }
    }

    pub(crate) fn stage<'d>(&mut self) -> Staged<'_, 'd> {
        Staged { batch: self, len: 0, payloads: PhantomData }
    }
}

/// Datagrams collected for one `sendmmsg`; holds on to their payloads for `'d`.
pub(crate) struct Staged<'b, 'd> {
    batch: &'b mut SendBatch,
    len: usize,
    /// Every `iov_base` below `len` was taken from a `&'d [u8]`.
    payloads: PhantomData<&'d [u8]>,
}

impl<'d> Staged<'_, 'd> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == self.batch.headers.len()
    }

    /// Length in bytes of datagram `i`.
    pub(crate) fn gram_len(&self, i: usize) -> usize {
        self.batch.iovecs[..self.len][i].iov_len
    }

    /// Adds one datagram.
    ///
    /// # Panics
    ///
    /// If the batch `is_full`.
    pub(crate) fn push(&mut self, data: &'d [u8], dst: SocketAddr) {
        let i = self.len;
        self.batch.headers[i].msg_hdr.msg_namelen = addr::encode(dst, &mut self.batch.names[i]);
        // The kernel only reads a payload it sends; the pointer is `*mut` because C has one iovec for both ways.
        self.batch.iovecs[i] = iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        self.len += 1;
    }

    /// One `sendmmsg` over `range`: how many datagrams from its start the kernel took.
    ///
    /// When the kernel fails at a datagram that is not the first it gives the count before it and
    /// the error is gone (sendmmsg(2), BUGS); a call that starts there brings it out.
    pub(crate) fn send(&mut self, range: Range<usize>, socket: &UdpSocket) -> io::Result<usize> {
        let limit = fault::limit(Call::Send)?;
        let headers = &mut self.batch.headers[..self.len][range];
        let vlen = headers.len().min(limit);
        // SAFETY: `headers` holds at least `vlen` elements; their name and iov pointers lead into the
        // batch's own Vecs (wired in `SendBatch::new`), and each iov's base and length came from a
        // `&'d [u8]` in `push`, which the lifetime 'd keeps alive while `self` exists.
        // MSG_DONTWAIT: never block, whatever the descriptor's mode. MSG_NOSIGNAL: no SIGPIPE.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                vlen as c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t09_a_send_batch_never_passes_more_than_the_kernel_takes() {
        assert_eq!(SendBatch::new(5000).headers.len(), SEND_VLEN_MAX);
        assert_eq!(SendBatch::new(0).headers.len(), 1);
    }
}
