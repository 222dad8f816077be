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
    pub name: &'static str,
    pub errno: i32,
    pub receives: Receives,
    pub sends: Sends,
}

macro_rules! row {
    ($errno:ident) => {
        row!($errno, Error, Fails)
    };
    ($errno:ident, $receives:ident, $sends:ident) => {
        Row { name: stringify!($errno), errno: $errno, receives: Receives::$receives, sends: Sends::$sends }
    };
}

/// A signal in a blocking recvmmsg leaves it on the socket (do_recvmmsg in net/socket.c).
const ERESTARTSYS: i32 = super::ERESTARTSYS;
/// One that nobody knows.
const OTHER: i32 = 4000;

/// Every errno that recv(2), recvmmsg(2), send(2), sendmmsg(2), udp(7) or ip(7) name, whichever way: udp(7)
/// says that each of ip(7)'s may come from a send or a receive. Behind them, what kernels give beyond that.
pub(super) const ROWS: &[Row] = &[
    row!(EAGAIN, Nothing, WouldBlock),
    row!(EINTR, Again, Again),
    row!(ENOBUFS, Error, NoBuffers),
    row!(ENOMEM, Error, NoBuffers),
    row!(EINVAL, Error, FailsAlone),
    row!(EMSGSIZE, Error, FailsAlone),
    row!(EOPNOTSUPP, Error, FailsAlone),
    row!(EACCES),
    row!(EADDRINUSE),
    row!(EADDRNOTAVAIL),
    row!(EALREADY),
    row!(EBADF),
    row!(ECONNABORTED),
    row!(ECONNREFUSED),
    row!(ECONNRESET),
    row!(EDESTADDRREQ),
    row!(EFAULT),
    row!(EHOSTUNREACH),
    row!(EISCONN),
    row!(ENOENT),
    row!(ENOPKG),
    row!(ENOPROTOOPT),
    row!(ENOTCONN),
    row!(ENOTSOCK),
    row!(EPERM),
    row!(EPIPE),
    row!(ESOCKTNOSUPPORT),
    // A device that cannot do the segmentation or the checksum of it (udp_send_skb in net/ipv4/udp.c).
    row!(EIO, Error, FailsAlone),
    row!(ERESTARTSYS, Again, Again),
    row!(EAFNOSUPPORT),
    row!(EHOSTDOWN),
    row!(ENETDOWN),
    row!(ENETUNREACH),
    row!(ENODEV),
    row!(ENOSYS),
    row!(OTHER),
];

/// What poll(2) and ppoll(2) name.
pub(super) const WAIT: &[i32] = &[EFAULT, EINTR, EINVAL, ENOMEM];

/// What socket(2) names.
pub(super) const SOCKET: &[i32] = &[EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT];

/// What bind(2) and ip(7) name for it, but for the errnos of Unix sockets.
pub(super) const BIND: &[i32] =
    &[EACCES, EADDRINUSE, EADDRNOTAVAIL, EBADF, EFAULT, EINVAL, ENODEV, ENOMEM, ENOTSOCK, EPERM];

/// What setsockopt(2), getsockopt(2), getsockname(2), fcntl(2) and socket(7) name, and ip(7) for memberships.
pub(super) const OPTION: &[i32] = &[
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EBADF,
    EFAULT,
    EINVAL,
    EISCONN,
    ENOBUFS,
    ENODEV,
    ENOMEM,
    ENOPROTOOPT,
    ENOTSOCK,
    EPERM,
];

/// Holds docs/RELIABILITY.md to this table: what it says of each errno is what the row says.
#[test]
fn the_document_tells_of_each_errno_what_the_table_does() {
    let document = include_str!("../../docs/RELIABILITY.md");
    let cells = |call: &str, mark: &str| -> String {
        let rows = document.lines().filter(|line| line.starts_with(&format!("| {call} |")) && line.contains(mark));
        rows.map(|line| line.split('|').nth(2).unwrap().to_owned()).collect()
    };
    for row in ROWS {
        let receives = match row.receives {
            Receives::Nothing => "nothing there |",
            Receives::Again => "is made again",
            Receives::Error => "the error, once",
        };
        let sends = match row.sends {
            Sends::WouldBlock => "`send_would_block`",
            Sends::NoBuffers => "`send_no_buffers`",
            Sends::Again => "is made again",
            Sends::Fails | Sends::FailsAlone => "the error and the place",
        };
        for (call, mark) in [("receive", receives), ("send", sends)] {
            let told = cells(call, mark);
            let is_told = told.split([',', ' ', '(', ')']).any(|word| word == row.name.replace("OTHER", "other"));
            assert!(is_told, "{call}: {row:?} is not in {told:?}");
        }
    }
}
