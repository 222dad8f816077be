//! Every arm of the errno policy, with a kernel that fails on demand: see `sys/fault.rs`.
//!
//! Each test also holds the counters to it: what was given is sent, failed or still pending, and
//! every system call is counted.
#![cfg(any(unix, windows))]

#[cfg(target_os = "linux")]
mod open;
mod pipeline;
mod receive;
#[cfg(target_os = "linux")]
mod receive_table;
mod send;
#[cfg(target_os = "linux")]
mod send_table;
#[cfg(all(target_os = "linux", not(force_single)))]
mod sendmmsg;
#[cfg(target_os = "linux")]
mod table;
#[cfg(all(target_os = "linux", not(force_single)))]
mod uring;
mod wait;
#[cfg(windows)]
mod winsock;
mod wire_log;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::{Once, PoisonError, RwLockReadGuard};
use std::time::{Duration, Instant};

#[cfg(unix)]
use libc::{
    EACCES, EAFNOSUPPORT, EAGAIN, EBADF, ECONNREFUSED, EFAULT, EHOSTUNREACH, EINTR, EINVAL, EIO, EMSGSIZE, ENETDOWN,
    ENETUNREACH, ENOBUFS, ENOMEM, ENOTSOCK, EPERM, EPIPE, EWOULDBLOCK,
};

#[path = "../../tests/util/own_host.rs"]
mod own_host;
use own_host::own_host;

use crate::policy::INTERRUPTIONS_MAX;
use crate::sys::BACKEND;
use crate::sys::fault::{self, Call, Fault};
use crate::{
    BatchPeer, Full, Peer, PeerConfig, RecvRing, SendReport, Stats, Stopped, Transport, WireLog, WireLogConfig,
};

#[cfg(windows)]
use winsock::errno::{
    EACCES, EAFNOSUPPORT, EAGAIN, EBADF, ECONNREFUSED, EFAULT, EHOSTUNREACH, EINTR, EINVAL, EIO, EMSGSIZE, ENETDOWN,
    ENETUNREACH, ENOBUFS, ENOMEM, ENOTSOCK, EPERM, EPIPE, EWOULDBLOCK,
};

/// ERESTARTSYS: an errno that should never leave the kernel, but does.
#[cfg(target_os = "linux")]
const ERESTARTSYS: i32 = 512;

const PATIENCE: Duration = Duration::from_secs(10);

/// The faults of one test; those that did not fire go with it, for tests may share a thread.
struct Faults {
    /// Keeps others from forking; the first of a thread has it.
    forks: Option<RwLockReadGuard<'static, ()>>,
}

thread_local! {
    static KEEPS_FROM_FORKING: Cell<bool> = const { Cell::new(false) };
}

impl Faults {
    fn new() -> Self {
        fault::clear();
        let is_first = !KEEPS_FROM_FORKING.replace(true);
        Self { forks: is_first.then(|| fault::FORKS.read().unwrap_or_else(PoisonError::into_inner)) }
    }

    fn inject(&self, call: Call, after: usize, times: usize, fault: Fault) {
        fault::inject(call, after, times, fault);
    }

    fn errno(&self, call: Call, times: usize, errno: i32) {
        self.inject(call, 0, times, Fault::Errno(errno));
    }

    /// Makes gram `at` of the next batch fail, as a kernel with that error would: `sendmmsg` gives a
    /// short count first, `sendto` fails at once.
    fn errno_at_gram(&self, at: usize, errno: i32) {
        if BACKEND == "mmsg" {
            if at > 0 {
                self.inject(Call::Send, 0, 1, Fault::Short(at));
            }
            self.errno(Call::Send, 1, errno);
        } else {
            self.inject(Call::Send, at, 1, Fault::Errno(errno));
        }
    }

    /// Makes the receive call fail that would bring gram `at` of those queued.
    fn receive_errno_behind(&self, at: usize, errno: i32) {
        if BACKEND == "mmsg" {
            self.inject(Call::Recv, 0, 1, Fault::Short(at));
            self.errno(Call::Recv, 1, errno);
        } else {
            self.inject(Call::Recv, at, 1, Fault::Errno(errno));
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        fault::clear();
        KEEPS_FROM_FORKING.set(self.forks.is_none());
    }
}

/// Whether the peer has a ring.
fn is_batch<T: Transport>() -> bool {
    std::any::type_name::<T>() == std::any::type_name::<BatchPeer>()
}

/// A number of system calls that depends on the backend.
fn calls(mmsg: u64, single: u64) -> u64 {
    if BACKEND == "mmsg" { mmsg } else { single }
}

fn config() -> PeerConfig {
    PeerConfig::new().ha((own_host(), 0)).exclusive(true).bs(0).bc(8).gram_size(64).segment(false).reopen(true)
}

fn open<T: Transport>() -> T {
    T::new(config()).unwrap()
}

/// Waits for the next datagram, of a peer that no fault is planned for.
fn receive_one<T: Transport>(peer: &mut T) -> Vec<u8> {
    let start = Instant::now();
    loop {
        if let (data, Some(_)) = peer.receive().unwrap() {
            return data.to_vec();
        }
        assert!(start.elapsed() < PATIENCE, "nothing came");
        std::thread::yield_now();
    }
}

fn assert_nothing_left<T: Transport>(peer: &mut T) {
    assert_eq!(peer.receive().unwrap(), (&b""[..], None));
}

/// Holds a peer's counters to `expected`, and its failures by errno to `failures`.
#[track_caller]
fn assert_stats<T: Transport>(peer: &T, expected: Stats, failures: &[(i32, u64)]) {
    let stats = peer.stats();
    let grams_send_failed_by_errno = stats.grams_send_failed_by_errno;
    assert_eq!(grams_send_failed_by_errno.iter().collect::<Vec<_>>(), failures);
    assert_eq!(
        stats.grams_send_failed,
        failures.iter().map(|(_, times)| times).sum::<u64>() + grams_send_failed_by_errno.others()
    );
    assert_eq!(stats, Stats { backend: stats.backend, grams_send_failed_by_errno, ..expected });
}

/// A report's parts: sent, bytes, pending, index and errno of the failure, why it stopped.
fn parts(report: &SendReport) -> (usize, usize, usize, Option<(usize, i32)>, Stopped) {
    let failure = report.first_error.as_ref().map(|(index, error)| (*index, error.raw_os_error().unwrap_or(0)));
    (report.sent, report.bytes, report.pending, failure, report.stopped)
}

fn numbered(count: u8) -> Vec<[u8; 2]> {
    (0..count).map(|i| [b'#', i]).collect()
}

fn to(grams: &[[u8; 2]], dst: SocketAddr) -> impl Iterator<Item = (&[u8], SocketAddr)> {
    grams.iter().map(move |gram| (&gram[..], dst))
}

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|lines| lines.push(format!("{} {}", record.level(), record.args())));
    }

    fn flush(&self) {}
}

/// What `body` logged on this thread.
fn logged_by(body: impl FnOnce()) -> Vec<String> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    LOGGED.take();
    body();
    LOGGED.take()
}

/// A stand-in for "any other errno", for both ways.
const OTHERS: [i32; 14] = [
    EACCES,
    EAFNOSUPPORT,
    EBADF,
    ECONNREFUSED,
    EFAULT,
    EHOSTUNREACH,
    EINVAL,
    EIO,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENOTSOCK,
    EPERM,
    EPIPE,
];
