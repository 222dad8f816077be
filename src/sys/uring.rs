//! Receiving through io_uring (`io_uring(7)`, Linux 6.1 or later): multishot `recvmsg` into buffers lent
//! to the kernel, for queues that are worth it.
//!
//! A *shot* is one request that takes a buffer, receives a datagram into it, says so, and does it again.
//! It usually stays armed and takes datagrams as they come. Not here: with MSG_DONTWAIT it ends where the
//! socket is empty, inside the very call that submitted it. So nothing is under way between two calls.
//! The socket's own buffer stays the only place where a datagram waits; the socket stays readable for
//! epoll, may be closed at any time, and may be read by other rings too. What makes multishot fast is
//! kept: no header is copied in, nor out again, for each datagram.
//!
//! Buffers are lent anew for each call, the first slots first, so that slot `i` holds the `i`-th datagram,
//! as with `recvmmsg`.
#![allow(unsafe_code)]

#[path = "provided.rs"]
mod provided;

use std::io;
use std::mem::{offset_of, size_of};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};
use libc::{msghdr, rlim_t, rlimit, socklen_t};

use self::provided::{BufferRing, GROUP};
use super::memory::{Memory, NAME_BYTES, Prefix};
use super::{Call, Filled, cmsg, fault};

/// Datagrams one shot takes before the kernel ends it in favour of others: MULTISHOT_MAX_RETRY and the
/// first (io_uring/net.c). Other kernels may have another number; only the number of calls depends on it.
const SHOT_GRAMS: usize = 33;
/// Most shots in one system call.
const SHOTS_MAX: usize = 32;
/// Most datagrams one system call brings.
const ROUND_GRAMS_MAX: usize = SHOTS_MAX * SHOT_GRAMS;

pub(super) struct Uring {
    buffers: BufferRing,
    /// Number of slots it was made for.
    slots: usize,
    /// Whether only the thread that made the first call may make others.
    is_bound: bool,
    /// What `FORKS` was when it was made.
    forks: u32,
    /// Tells each shot how much room name and control data have; the kernel only reads it.
    header: Box<msghdr>,
    /// The kernel did not take all shots; those left in the queue must never be submitted again.
    is_broken: bool,
}

// SAFETY: the raw pointers in `header` are null.
unsafe impl Send for Uring {}

impl Uring {
    /// An io_uring for `slots` slots.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if this system's io_uring cannot do what this file needs; otherwise
    /// why there is none to be had.
    pub(super) fn new(slots: usize) -> io::Result<Self> {
        fault::limit(Call::Ring)?;
        if is_usable() { Self::try_new(slots) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    fn try_new(slots: usize) -> io::Result<Self> {
        // SAFETY: msghdr is made of integers and raw pointers; zeroes and nulls are valid.
        let mut header: Box<msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = NAME_BYTES as socklen_t;
        header.msg_controllen = cmsg::CONTROL_BYTES as _;
        let forks = FORKS.load(Ordering::Relaxed);
        Ok(Self { buffers: buffer_ring(slots, true)?, slots, is_bound: true, forks, header, is_broken: false })
    }

    /// Fills slots from 0 on, at most `allowed`; the kernel's word on each stands in its `Prefix::out`.
    ///
    /// `expected` is about how many datagrams there may be. A result without any and without an error says
    /// that there are none, unless the io_uring [`is_broken`](Self::is_broken).
    pub(super) fn recv(&mut self, socket: &UdpSocket, memory: &mut Memory, allowed: usize, expected: usize) -> Filled {
        if self.forks != FORKS.load(Ordering::Relaxed) {
            self.renew(true);
        }
        // A shot too many costs a look at an empty socket, one too few another system call.
        let mut shots = expected / SHOT_GRAMS + 1;
        let mut filled = Filled::default();
        while filled.slots < allowed && !self.is_broken {
            let round = self.round(socket, memory, filled.slots, allowed - filled.slots, shots);
            filled.calls += 1;
            filled.slots += round.grams;
            filled.ended_by = round.error;
            if round.is_last {
                break;
            }
            shots = SHOTS_MAX;
        }
        filled
    }

    /// Whether the kernel has refused a call: there will be no other.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// One system call: at most `shots` shots, into at most `room` slots from `first` on.
    fn round(&mut self, socket: &UdpSocket, memory: &mut Memory, first: usize, room: usize, shots: usize) -> Round {
        let shots = shots.min(room.div_ceil(SHOT_GRAMS)).min(SHOTS_MAX);
        let buffer_bytes = size_of::<Prefix>() + memory.slot_bytes();
        let room = room.min(shots * SHOT_GRAMS);
        self.buffers.provide(first, room, buffer_bytes, |slot| memory.start_mut(slot).cast());
        let shot = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), &raw const *self.header, GROUP)
            .flags((libc::MSG_DONTWAIT | libc::MSG_TRUNC) as u32)
            .build();
        for _ in 0..shots {
            // SAFETY: the kernel reads `header` while it takes the shot in, and writes into the buffers just
            // provided, each a slot of `memory` with its true length. All of that happens before this function
            // returns, while both are exclusively borrowed: MSG_DONTWAIT ends the shot inside the call below, and
            // `reap` waits for one that it did not end.
            let pushed = unsafe { self.buffers.io_uring.submission().push(&shot) };
            self.is_broken |= pushed.is_err();
        }
        let submitted = self.submit();
        // The others are still in the queue, so this io_uring is done with.
        self.is_broken |= !submitted.as_ref().is_ok_and(|&submitted| submitted == shots);
        if self.is_bound && submitted.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST)) {
            self.renew(false);
            return Round::default();
        }
        self.reap(memory, first, submitted.unwrap_or(0))
    }

    /// Gives the shots of its queue to the kernel, and says how many it took.
    fn submit(&mut self) -> io::Result<usize> {
        let limit = fault::limit(Call::Enter)?;
        if self.buffers.is_disabled {
            fault::limit(Call::Register)?;
            self.buffers.io_uring.submitter().register_enable_rings()?;
            self.buffers.is_disabled = false;
        }
        Ok(self.buffers.io_uring.submit()?.min(limit))
    }

    /// Makes another io_uring in place of one that belongs to another thread or process.
    #[cold]
    fn renew(&mut self, bound: bool) {
        (self.is_broken, self.is_bound, self.forks) = (true, bound, FORKS.load(Ordering::Relaxed));
        if let Ok(buffers) = buffer_ring(self.slots, bound) {
            (self.buffers, self.is_broken) = (buffers, false);
        }
    }

    /// Takes in what the kernel posts for `shots` shots, to the end of each; `first` is the slot of buffer 0.
    fn reap(&mut self, memory: &mut Memory, first: usize, shots: usize) -> Round {
        let mut round = Round { is_last: true, ..Round::default() };
        loop {
            self.take_posted(memory, first, &mut round);
            if round.shots_ended >= shots {
                break;
            }
            self.wait_for_shots();
        }
        self.buffers.on_taken(round.buffers_wasted + round.grams as u16);
        round.is_last |= round.error.is_some() || round.grams == 0;
        round
    }

    /// Takes in what the kernel has posted.
    ///
    /// An error that ended one shot does not hold up the next: what that one brought comes before the error.
    fn take_posted(&mut self, memory: &mut Memory, first: usize, round: &mut Round) {
        let seen = fault::limit(Call::Reap).unwrap_or(usize::MAX);
        for completion in self.buffers.io_uring.completion().take(seen) {
            let (result, flags) = (completion.result(), completion.flags());
            if flags == took_buffer(round.grams) && result >= 0 {
                round.grams += 1; // and the shot goes on
                continue;
            }
            if let Some(buffer) = cqueue::buffer_select(flags) {
                round.buffers_wasted += u16::from(result < 0);
                if result >= 0 {
                    if usize::from(buffer) != round.grams {
                        // A failure took a buffer along.
                        memory.copy_slot(first + usize::from(buffer), first + round.grams);
                    }
                    round.grams += 1;
                }
            }
            if !cqueue::more(flags) {
                round.on_end_of_shot(result);
            }
        }
    }

    /// Waits until the kernel posts more of shots that their call did not end. No kernel is known to do that; but
    /// while it has one, it may write into the slots.
    #[cold]
    fn wait_for_shots(&mut self) {
        /// linux/io_uring.h
        const IORING_ENTER_GETEVENTS: u32 = 1;
        let submitter = self.buffers.io_uring.submitter();
        // SAFETY: nothing is submitted, and no argument is passed.
        let result = unsafe { submitter.enter::<libc::sigset_t>(0, 1, IORING_ENTER_GETEVENTS, None) };
        if result.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            // Nobody could say any more when the slots may be used, or freed.
            std::process::abort();
        }
    }
}

/// What the kernel says of a datagram in buffer `number`, with more to come: IORING_CQE_F_BUFFER,
/// IORING_CQE_F_MORE, and the number above them (linux/io_uring.h).
#[inline(always)]
fn took_buffer(number: usize) -> u32 {
    (number as u32) << 16 | 0b11
}

/// What one system call brought, and how it ended.
#[derive(Default)]
struct Round {
    grams: usize,
    /// The socket had no more, or an error.
    is_last: bool,
    error: Option<io::Error>,
    shots_ended: usize,
    /// `grams` when the last shot ended.
    grams_before: usize,
    /// Buffers that were taken for a failure.
    buffers_wasted: u16,
}

impl Round {
    /// How the last shot ended decides whether there may be more.
    fn on_end_of_shot(&mut self, result: i32) {
        let errno = match fault::limit(Call::Shot) {
            Ok(_) => -result,
            Err(error) => error.raw_os_error().unwrap_or(0),
        };
        match errno {
            libc::EAGAIN => self.is_last = self.grams - self.grams_before < SHOT_GRAMS,
            errno if errno > 0 && errno != libc::ENOBUFS => {
                self.error.get_or_insert_with(|| io::Error::from_raw_os_error(errno));
            }
            // All buffers are used up, or an empty datagram ended the shot.
            _ => self.is_last = false,
        }
        (self.shots_ended, self.grams_before) = (self.shots_ended + 1, self.grams);
    }
}

/// An io_uring with room for what one call can bring to `slots` slots.
///
/// A `bound` one belongs to the thread that makes the first call. The kernel then posts completions
/// without a lock, which makes receiving 4% faster.
fn buffer_ring(slots: usize, bound: bool) -> io::Result<BufferRing> {
    let shots = slots.div_ceil(SHOT_GRAMS).min(SHOTS_MAX) as u32;
    // Room for every datagram and for the end of every shot, so that it never overflows.
    let completions = slots.min(ROUND_GRAMS_MAX) as u32 + shots;
    let mut builder = IoUring::builder();
    builder.setup_submit_all().setup_cqsize(completions.max(2 * shots));
    if bound {
        builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled();
    }
    let io_uring = builder.build(shots)?;
    if are_scarce(io_uring.as_raw_fd()) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    BufferRing::new(io_uring, slots.min(ROUND_GRAMS_MAX), bound)
}

// getrlimit(2)
const _: () = assert!(offset_of!(rlimit, rlim_cur) == 0 && offset_of!(rlimit, rlim_max) == size_of::<rlim_t>());
const _: () = assert!(size_of::<rlimit>() == 2 * size_of::<rlim_t>());

/// Whether this descriptor says that half of those the process may have are in use: the system gives the
/// lowest that is free. A thousand rings must not take the last ones away from sockets.
fn are_scarce(descriptor: RawFd) -> bool {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the system call writes to a struct of our own.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    result < 0 || rlim_t::try_from(descriptor).is_ok_and(|descriptor| descriptor >= limit.rlim_cur / 2)
}

/// How many forks lie between this process and the one that first asked for an io_uring.
///
/// After a fork both processes have an io_uring's queues, but the kernel goes on reading the entries of the
/// buffer ring from the parent's memory. So the child makes itself another.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Whether this system lets us use io_uring, and its multishot receive does what this file needs.
///
/// Tried once, on a pair of Unix sockets: whole, empty and cut datagrams in the right order, and an end
/// inside the call.
fn is_usable() -> bool {
    static IS_USABLE: OnceLock<bool> = OnceLock::new();
    *IS_USABLE.get_or_init(|| try_out().is_ok_and(|works| works) && counts_forks())
}

fn counts_forks() -> bool {
    // SAFETY: `on_fork` does no more than is allowed between fork and exec: it adds to an atomic.
    unsafe { libc::pthread_atfork(None, None, Some(on_fork)) == 0 }
}

fn try_out() -> io::Result<bool> {
    let (from, to) = UnixDatagram::pair()?;
    let to = UdpSocket::from(OwnedFd::from(to));
    let (mut uring, mut memory) = (Uring::try_new(2)?, Memory::new(2, 8)?);
    for payload in [&b"whole"[..], b"", b"longer than a slot"] {
        from.send(payload)?;
    }
    let mut lens = Vec::new();
    for expected in [2, 1, 0] {
        let filled = uring.recv(&to, &mut memory, 2, 2);
        if filled.slots != expected || filled.ended_by.is_some() || uring.is_broken {
            return Ok(false);
        }
        // SAFETY: there are two slots.
        lens.extend((0..expected).map(|i| unsafe { memory.view().prefix(i) }.out.payload_len));
    }
    Ok(lens == [5, 0, 18])
}
