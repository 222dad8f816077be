//! What several sockets on one port need of Linux: a program that says which of them a datagram goes to,
//! and threads that stay on one processor.
#![cfg_attr(target_os = "linux", allow(unsafe_code))]

use std::io;
use std::net::UdpSocket;

/// Whether sockets of one port form a group, among which the kernel spreads datagrams.
pub(crate) const CAN_GROUP: bool = cfg!(target_os = "linux");

/// One instruction of classic BPF, as the kernel reads it (linux/filter.h, `struct sock_filter`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Instruction {
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub skip_if: u8,
    /// Instructions to skip if it does not.
    pub skip_else: u8,
    pub value: u32,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::mem::{offset_of, size_of, size_of_val};
    use std::os::fd::AsRawFd;

    use libc::{c_ulong, c_ushort, c_void, sock_filter, sock_fprog, socklen_t};

    use super::super::{Call, fault};
    use super::{Instruction, UdpSocket, io};

    // `struct sock_filter` and `struct sock_fprog` (linux/filter.h).
    const _: () = assert!(size_of::<sock_filter>() == 8 && offset_of!(sock_filter, code) == 0);
    const _: () = assert!(offset_of!(sock_filter, jt) == 2 && offset_of!(sock_filter, jf) == 3);
    const _: () = assert!(offset_of!(sock_filter, k) == 4);
    const _: () = assert!(size_of::<sock_fprog>() == 2 * size_of::<usize>() && offset_of!(sock_fprog, len) == 0);
    const _: () = assert!(offset_of!(sock_fprog, filter) == size_of::<usize>());

    /// Lets `program` say which socket of the group a datagram goes to, in order of their binding
    /// (SO_ATTACH_REUSEPORT_CBPF, socket(7)).
    ///
    /// Once for the whole group, at any of its sockets. For a number too high the flow hash decides.
    pub(crate) fn steer(socket: &UdpSocket, program: &[Instruction]) -> io::Result<()> {
        let mut filters: Vec<sock_filter> =
            program.iter().map(|i| sock_filter { code: i.code, jt: i.skip_if, jf: i.skip_else, k: i.value }).collect();
        let len = c_ushort::try_from(filters.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        fault::limit(Call::SetOption)?;
        let program = sock_fprog { len, filter: filters.as_mut_ptr() };
        // SAFETY: the option value is one sock_fprog on this stack frame, with its true size; its pointer
        // leads to `len` instructions in `filters`, which outlives the call. The kernel copies both before
        // the call returns. The descriptor is open: `socket` owns it.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast::<c_void>(),
                size_of::<sock_fprog>() as socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Keeps this thread on one processor (sched_setaffinity(2)).
    ///
    /// # Errors
    ///
    /// The kernel's: EINVAL for a processor that is not there, or that this process may not use.
    pub(crate) fn pin_thread(processor: usize) -> io::Result<()> {
        /// Bits in one of the kernel's words.
        const BITS: usize = c_ulong::BITS as usize;
        let mut set: [c_ulong; 128] = [0; 128];
        let word = set.get_mut(processor / BITS).ok_or(io::ErrorKind::InvalidInput)?;
        *word = 1 << (processor % BITS);
        // SAFETY: the kernel reads `size_of_val(&set)` bytes from a set of that size on this stack frame, and
        // takes any length (sched_setaffinity(2)); 0 is the calling thread.
        let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), set.as_ptr().cast()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{pin_thread, steer};

#[cfg(not(target_os = "linux"))]
pub(crate) fn steer(_socket: &UdpSocket, _program: &[Instruction]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin_thread(_processor: usize) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "threads are pinned on Linux only"))
}
