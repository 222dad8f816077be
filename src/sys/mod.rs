//! The system-call boundary: the only unsafe code of the crate, and the written contract of its backends.
//!
//! `sys` uses nothing else of the crate and decides nothing: every call gives back what the kernel
//! said, as counts and [`io::Error`]s. What an errno *means* is decided in `policy.rs`.
//!
//! # The contract
//!
//! A backend is one file that defines exactly these names:
//!
//! | name | what it promises |
//! |---|---|
//! | `BACKEND` | its name, for `Stats::backend` |
//! | `COALESCES` | whether it can take coalesced slots apart, so that a socket may be asked for them |
//! | `RecvSlots::new(slots, slot_bytes, io_uring) -> io::Result` | memory for `slots` datagrams of up to `slot_bytes` bytes, allocated and pre-faulted once; nothing is allocated after it; `io_uring` says whether that may be used, where there is such a thing |
//! | `RecvSlots::backend()` | how it is filled, for `Stats::backend` |
//! | `RecvSlots::count()`, `slot_bytes()` | the shape it was made with |
//! | `RecvSlots::set_coalesced(bool)` | whether the socket may put several datagrams of one size into one slot (GRO) |
//! | `RecvSlots::recv(&mut self, socket) -> Received` | fill slots `0..received.slots`, never block, report the error that ended the batch beside what came before it |
//! | `RecvSlots::batch() -> Batch`, `forget()` | the slots of the last `recv`, for reading; none after `forget` |
//! | `Batch::len()`, `slot(i) -> Slot` | slot `i`: bytes, true length, source, control data |
//! | `Batch::shape() -> Shape` | what all its slots have in common; a backend may always say `Mixed` |
//! | `Batch::whole_slot(i, family) -> Option<WholeSlot>`, `segment_len(i)` | slot `i` at less cost, in a batch that is not `Mixed`; `None` past the end |
//! | `SendBatch::new(capacity)` | headers for up to `capacity` datagrams a system call, allocated once |
//! | `SEGMENTS` | whether it can send several datagrams as one message; if not, none ever joins another |
//! | `SendBatch::stage() -> Staged` | an empty batch that borrows every payload pushed into it until it is dropped |
//! | `Staged::push(data, dst, may_join) -> usize`, `is_full` | collect datagrams, at most `capacity`; one that may join goes into the message of the one before it if both have the same destination; the result is how many are in its message now. Which lengths may join, `segment.rs` says |
//! | `Staged::left` | how many were pushed and not yet taken |
//! | `Staged::send(socket) -> io::Result<Taken>` | one system call over what is left: what the kernel took of it, from its start; an error means nothing |
//! | `Staged::send_one(socket) -> io::Result<Taken>` | the same with the next datagram alone, joined or not |
//! | `Staged::is_joined()`, `unjoin()` | whether the next datagram goes in one message with others; from now on none does |
//!
//! Two backends fulfil it: `mmsg` (Linux: `recvmmsg`/`sendmmsg`) and `single` (everywhere, Linux
//! included: one datagram a call, no unsafe). `--cfg force_single` picks the second, so that the
//! whole test suite can run on it on any machine. With the feature `io-uring`, `mmsg` fills its slots
//! through io_uring (`uring.rs`) where that is faster; `--cfg force_uring` makes it do so always, and
//! fail where there is none. Another backend is one more file, and its `cfg` on a `mod` and a `use` line here.

use std::io;
use std::net::SocketAddr;

#[cfg(all(target_os = "linux", any(test, fuzzing, not(force_single))))]
#[cfg_attr(force_single, allow(dead_code))]
mod addr;
#[cfg(target_os = "linux")]
pub(crate) mod cmsg;
pub(crate) mod group;
#[cfg(all(target_os = "linux", not(force_single)))]
mod memory;
#[cfg(all(target_os = "linux", not(force_single)))]
mod mmsg;
#[cfg(all(target_os = "linux", not(force_single)))]
mod sendmmsg;
#[cfg(not(all(target_os = "linux", not(force_single))))]
mod single;
pub(crate) mod socket;
#[cfg(all(target_os = "linux", not(force_single)))]
#[cfg_attr(
    not(all(
        feature = "io-uring",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64",
            target_arch = "loongarch64",
            target_arch = "powerpc64"
        )
    )),
    path = "no_uring.rs"
)]
mod uring;
#[cfg(windows)]
pub(crate) mod winsock;

#[cfg(all(force_uring, any(not(target_os = "linux"), force_single)))]
compile_error!("--cfg force_uring needs Linux, and no --cfg force_single");

#[cfg(any(test, fuzzing))]
pub(crate) mod fault;
/// Outside unit tests and fuzz targets the fault layer compiles to nothing: every call is allowed its whole size.
#[cfg(not(any(test, fuzzing)))]
pub(crate) mod fault {
    pub(crate) use super::Call;

    #[inline(always)]
    pub(crate) fn limit(_call: Call) -> std::io::Result<usize> {
        Ok(usize::MAX)
    }
}

#[cfg(all(target_os = "linux", not(force_single)))]
pub(crate) use mmsg::{BACKEND, Batch, COALESCES, RecvSlots};
#[cfg(all(target_os = "linux", not(force_single)))]
pub(crate) use sendmmsg::{SEGMENTS, SendBatch, Staged};
#[cfg(not(all(target_os = "linux", not(force_single))))]
pub(crate) use single::{BACKEND, Batch, COALESCES, RecvSlots, SEGMENTS, SendBatch, Staged};

#[cfg(all(target_os = "linux", fuzzing))]
pub(crate) use addr::decode_bytes as decode_address_bytes;

/// The kinds of system call the fault layer can make fail.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(not(all(test, target_os = "linux", not(force_single))), allow(dead_code))]
pub enum Call {
    /// `socket`.
    Socket,
    /// `bind`.
    Bind,
    /// `setsockopt`, and what makes a socket not block.
    SetOption,
    /// `getsockopt` with an option that can be done without.
    GetOption,
    /// `getsockopt` and `getsockname`, without whose answer nothing is opened.
    GetNeeded,
    /// `recvmmsg`, `recvfrom`: anything that receives.
    Recv,
    /// `sendmmsg`, `sendto`: anything that sends.
    Send,
    /// `poll`, `ppoll`: anything that waits.
    Wait,
    /// `setsockopt(SO_RCVBUFFORCE)` and `setsockopt(SO_SNDBUFFORCE)`.
    ForceBuffer,
    /// `io_uring_setup`.
    Ring,
    /// `io_uring_register`.
    Register,
    /// A request of io_uring, which then ends with that error instead of its own end.
    Shot,
    /// A look at what requests of io_uring have posted, which then sees no more than that.
    Reap,
    /// `io_uring_enter`, which then takes nothing, or says of some requests that it has not taken them.
    Enter,
}

/// Whether a ring may be filled through io_uring where nobody says otherwise.
pub(crate) const DEFAULT_IO_URING: bool = true;

/// Memory for `len` elements, allocated and touched now; `len` is `None` where the sum overflowed.
///
/// # Errors
///
/// [`io::ErrorKind::OutOfMemory`] if the system has not as much, where `vec!` would end the process.
pub(crate) fn touched<T: Copy>(value: T, len: Option<usize>) -> io::Result<Vec<T>> {
    let mut memory = Vec::new();
    let reserved = len.map(|len| memory.try_reserve_exact(len));
    let (Some(len), Some(Ok(()))) = (len, reserved) else {
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, "a ring of this size does not fit into memory"));
    };
    memory.resize(len, value);
    Ok(memory)
}

/// What system calls brought, before anybody has looked at it.
#[derive(Debug, Default)]
#[cfg_attr(any(not(target_os = "linux"), force_single), allow(dead_code))]
pub(crate) struct Filled {
    /// Slots filled, counted from slot 0.
    slots: usize,
    /// System calls made.
    calls: u64,
    /// The error that ended it.
    ended_by: Option<io::Error>,
}

/// What one `RecvSlots::recv` brought.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Slots filled, counted from slot 0.
    pub slots: usize,
    /// System calls made.
    pub calls: u64,
    /// Slots that can be delivered: `slots` without the undecodable ones.
    pub deliverable: usize,
    /// Payload bytes of those datagrams that were stored (after cutting).
    pub bytes: usize,
    /// Datagrams longer than their slot.
    pub truncated: usize,
    /// Slots whose control data did not fit (MSG_CTRUNC).
    pub control_truncated: usize,
    /// Slots that cannot be delivered: no readable source address, or a coalesced slot without its segment size.
    pub undecodable: usize,
    /// The socket's cumulative drop counter as the newest datagram carried it (SO_RXQ_OVFL).
    pub kernel_drops: Option<u32>,
    /// The error that ended the batch; what was received before it stands in the slots all the same.
    pub ended_by: Option<io::Error>,
}

/// What the kernel took of a staged batch in one call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Datagrams, from the first that was left.
    pub grams: usize,
    /// Payload bytes of these.
    pub bytes: usize,
    /// Of these: datagrams that were in one message with others.
    pub segmented: usize,
}

/// One filled slot.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    /// The bytes stored, at most the slot's size.
    pub data: &'a [u8],
    /// The length the datagram had on the wire, which may be more than was stored.
    pub original_len: usize,
    /// The sender; `None` for a slot that must not be delivered.
    pub src: Option<SocketAddr>,
    /// Size of the datagrams coalesced into this slot; 0 when it holds a single one.
    pub segment_len: usize,
    /// Control messages as the kernel wrote them; empty where the backend has none.
    pub control: &'a [u8],
}

/// What all slots of a batch have in common, so that it need not be asked of each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// Each slot holds one whole datagram, all from addresses of one family: nearly every batch.
    Plain(Family),
    /// The same, but a slot may hold several whole datagrams, coalesced.
    #[cfg_attr(any(force_single, not(target_os = "linux")), allow(dead_code))]
    Runs(Family),
    /// Nothing: a slot may be cut, undecodable, or from another family than its neighbour.
    Mixed,
}

/// The kind of address all senders of a batch have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// One filled slot of a batch that is not [`Shape::Mixed`]: it can be delivered, and nothing was cut off.
#[derive(Clone, Copy)]
pub(crate) struct WholeSlot<'a> {
    /// The datagram, or several.
    pub data: &'a [u8],
    /// The sender, of the family that was asked for.
    pub src: SocketAddr,
    /// Control messages, as in [`Slot`].
    pub control: &'a [u8],
}
