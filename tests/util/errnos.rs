//! The errnos that manual pages name, by call, parted by spaces. `cargo test` tries the first two of each.

/// What socket(2) names.
pub const SOCKET: &str = "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT";

/// What bind(2) and ip(7) name for it.
pub const BIND: &str = "EACCES EADDRINUSE EADDRNOTAVAIL EBADF EFAULT EINVAL ENODEV ENOMEM ENOTSOCK EPERM";

/// What listen(2) names.
pub const LISTEN: &str = "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP";

/// What getsockname(2) names.
pub const GETSOCKNAME: &str = "EINVAL ENOBUFS EBADF EFAULT ENOTSOCK";

/// What socketpair(2) names.
pub const SOCKETPAIR: &str = "EMFILE ENFILE EAFNOSUPPORT EFAULT EOPNOTSUPP EPROTONOSUPPORT";

/// What accept(2) names.
pub const ACCEPT: &str = "EMFILE ECONNABORTED EAGAIN EBADF EFAULT EINTR EINVAL ENFILE ENOBUFS ENOMEM ENOTSOCK \
    EOPNOTSUPP EPERM EPROTO";

/// What setsockopt(2), getsockopt(2) and socket(7) name.
pub const OPTION: &str = "EINVAL ENOMEM EACCES EBADF EFAULT EISCONN ENOPROTOOPT ENOTSOCK EPERM";

/// The same, but for EISCONN, and ENOPROTOOPT, which says that an option is not there.
pub const OPTION_NEEDED: &str = "EINVAL ENOMEM EACCES EBADF EFAULT ENOTSOCK EPERM";

/// What recv(2) and recvmmsg(2) name but for EAGAIN and EINTR, and ENOBUFS and EPERM.
pub const RECEIVES: &str = "EIO ENOMEM EBADF ECONNREFUSED EFAULT EINVAL ENOTCONN ENOTSOCK ENOBUFS EPERM";

/// What send(2) names but for EINTR, and what ip(7), udp(7) and unix(7) add.
pub const SENDS: &str = "EPERM ECONNREFUSED EACCES EBADF ECONNRESET EDESTADDRREQ EFAULT EHOSTUNREACH EINVAL EISCONN \
    EMSGSIZE ENETUNREACH ENOENT ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE EPROTOTYPE";

/// What open(2) names, and EAGAIN, but for EINTR.
pub const OPEN: &str = "EMFILE ELOOP EACCES EAGAIN EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINVAL EIO EISDIR \
    ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY";

/// What read(2) names, but for EINTR.
pub const READ: &str = "EIO EISDIR EAGAIN EBADF EFAULT EINVAL";

/// What write(2) names, but for EINTR, and EROFS, which a disk gives that has become read-only by an error of its own.
pub const WRITE: &str = "EIO ENOSPC EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINVAL EPERM EPIPE EROFS";

/// What truncate(2) names for an open file.
pub const TRUNCATE: &str = "EFBIG EIO EACCES EBADF EINVAL EISDIR ELOOP EPERM EROFS ETXTBSY";

/// What fsync(2) names, but for EINTR.
pub const FSYNC: &str = "EIO ENOSPC EDQUOT EINVAL EROFS EBADF";

/// What stat(2) names.
pub const STAT: &str = "EACCES ENOMEM EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOTDIR EOVERFLOW";

/// What utimensat(2) names for an open file.
pub const UTIMENSAT: &str = "EPERM EROFS EACCES EBADF EFAULT EINVAL";

/// What mkdir(2) names, but for EEXIST.
pub const MKDIR: &str = "EACCES EDQUOT EFAULT EINVAL ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC ENOTDIR EPERM \
    EROFS";

/// What rename(2) names.
pub const RENAME: &str = "EIO ENOSPC EACCES EBUSY EDQUOT EEXIST EFAULT EINVAL EISDIR ELOOP EMLINK ENAMETOOLONG ENOENT \
    ENOMEM ENOTDIR ENOTEMPTY EPERM EROFS EXDEV";

/// What unlink(2) names.
pub const UNLINK: &str = "EACCES EPERM EBUSY EFAULT EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EROFS";

/// What sched_setaffinity(2) names.
pub const AFFINITY: &str = "EPERM EINVAL EFAULT ESRCH";

/// What io_uring_setup(2) names.
pub const RING_SETUP: &str = "EFAULT EINVAL EMFILE ENFILE ENOMEM ENOSYS EPERM";

/// What io_uring_register(2) names.
pub const RING_REGISTER: &str = "EBUSY EEXIST EACCES EBADF EBADFD EFAULT EINVAL EMFILE ENOMEM ENXIO EOPNOTSUPP";

/// What io_uring_enter(2) names.
pub const RING_ENTER: &str = "EAGAIN EBADF EBADFD EBADR EBUSY EEXIST EFAULT EINTR EINVAL ENXIO EOPNOTSUPP";
