//! What each errno of the manual pages means to whom: the table the other tests go through.

use libc::*;

/// What a failing receive call means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Receives {
    /// Nothing is there.
    Nothing,
    /// The call is made again, and after 64 in a row counts as nothing there.
    Again,
    /// The caller gets the error, once; no datagram is lost for it.
    Error,
}

/// What a failing send call means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sends {
    /// Later: the socket's buffer is full.
    WouldBlock,
    /// Later: the system has no buffer.
    NoBuffers,
    /// The call is made again, and after many in a row counts as "would block".
    Again,
    /// The datagram at the front has failed, with this error.
    Fails,
    /// The same; but if it was in one message with others, these are tried by themselves first.
    FailsAlone,
}

/// One errno and what it means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub errno: i32,
    pub receives: Receives,
    pub sends: Sends,
}

const fn row(errno: i32, receives: Receives, sends: Sends) -> Row {
    Row { errno, receives, sends }
}

const fn error(errno: i32) -> Row {
    row(errno, Receives::Error, Sends::Fails)
}

/// Every errno that recv(2), recvmmsg(2), send(2), sendmmsg(2), udp(7) or ip(7) name, whichever way: udp(7)
/// says that each of ip(7)'s may come from a send or a receive. Behind them, what kernels give beyond that.
pub(super) const ROWS: &[Row] = &[
    row(EAGAIN, Receives::Nothing, Sends::WouldBlock),
    row(EINTR, Receives::Again, Sends::Again),
    row(ENOBUFS, Receives::Error, Sends::NoBuffers),
    row(ENOMEM, Receives::Error, Sends::NoBuffers),
    row(EINVAL, Receives::Error, Sends::FailsAlone),
    row(EMSGSIZE, Receives::Error, Sends::FailsAlone),
    row(EOPNOTSUPP, Receives::Error, Sends::FailsAlone),
    error(EACCES),
    error(EADDRINUSE),
    error(EADDRNOTAVAIL),
    error(EALREADY),
    error(EBADF),
    error(ECONNABORTED),
    error(ECONNREFUSED),
    error(ECONNRESET),
    error(EDESTADDRREQ),
    error(EFAULT),
    error(EHOSTUNREACH),
    error(EISCONN),
    error(ENOENT),
    error(ENOPKG),
    error(ENOPROTOOPT),
    error(ENOTCONN),
    error(ENOTSOCK),
    error(EPERM),
    error(EPIPE),
    error(ESOCKTNOSUPPORT),
    // A device that cannot do the segmentation or the checksum of it (udp_send_skb in net/ipv4/udp.c).
    row(EIO, Receives::Error, Sends::FailsAlone),
    // A signal in a blocking recvmmsg leaves ERESTARTSYS on the socket (do_recvmmsg in net/socket.c).
    row(512, Receives::Again, Sends::Again),
    error(EAFNOSUPPORT),
    error(EHOSTDOWN),
    error(ENETDOWN),
    error(ENETUNREACH),
    error(ENODEV),
    error(ENOSYS),
    // One that nobody knows.
    error(4000),
];

/// What poll(2) and ppoll(2) name.
pub(super) const WAIT: &[i32] = &[EFAULT, EINTR, EINVAL, ENOMEM];

/// What socket(2) names.
pub(super) const SOCKET: &[i32] = &[EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT];

/// What bind(2) and ip(7) name for it, but for the errnos of Unix sockets.
pub(super) const BIND: &[i32] =
    &[EACCES, EADDRINUSE, EADDRNOTAVAIL, EBADF, EFAULT, EINVAL, ENODEV, ENOMEM, ENOTSOCK, EPERM];

/// What setsockopt(2), getsockopt(2) and socket(7) name.
pub(super) const OPTION: &[i32] = &[EACCES, EBADF, EFAULT, EINVAL, ENOMEM, ENOPROTOOPT, ENOTSOCK, EPERM];
