//! Every arm of the errno policy, with a kernel that fails on demand: see `sys/fault.rs`.
//!
//! Each test also holds the counters to it: what was given is sent, failed or still pending, and
//! every system call is counted.
#![cfg(unix)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Once;
use std::time::{Duration, Instant};

use libc::{
    EACCES, EAFNOSUPPORT, EAGAIN, EBADF, ECONNREFUSED, EFAULT, EHOSTUNREACH, EINTR, EINVAL, EIO, EMSGSIZE, ENETDOWN,
    ENETUNREACH, ENOBUFS, ENOMEM, ENOTSOCK, EPERM, EPIPE, EWOULDBLOCK,
};

#[path = "../tests/util/own_host.rs"]
mod own_host;
use own_host::own_host;

use crate::policy::INTERRUPTIONS_MAX;
use crate::sys::BACKEND;
use crate::sys::fault::{self, Call, Fault};
use crate::{
    BatchPeer, Direction, Full, Peer, PeerConfig, RecvRing, SendReport, Stats, Stopped, Transport, WireLog,
    WireLogConfig,
};

/// ERESTARTSYS: an errno that should never leave the kernel, but does.
const ERESTARTSYS: i32 = 512;

const PATIENCE: Duration = Duration::from_secs(10);

/// The faults of one test; those that did not fire go with it, for tests may share a thread.
struct Faults;

impl Faults {
    fn new() -> Self {
        fault::clear();
        Self
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
    }
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

fn receive_errnos<T: Transport>() {
    let faults = Faults::new();
    let (mut from, mut peer): (T, T) = (open(), open());
    from.send(b"kept", peer.ha()).unwrap();

    for errno in [EAGAIN, EWOULDBLOCK] {
        faults.errno(Call::Recv, 1, errno);
        let logged = logged_by(|| assert_eq!(peer.receive().unwrap(), (&b""[..], None), "{errno}"));
        assert!(logged.is_empty(), "{logged:?}");
    }
    // Unlike in a send, "no buffer" is no "later" here.
    let raised = [&OTHERS[..], &[ENOBUFS, ENOMEM]].concat();
    for errno in &raised {
        faults.errno(Call::Recv, 1, *errno);
        let logged = logged_by(|| assert_eq!(peer.receive().unwrap_err().raw_os_error(), Some(*errno)));
        assert!(matches!(&logged[..], [line] if line.starts_with("ERROR Error receive on UDP 127.")), "{logged:?}");
    }
    assert_eq!(receive_one(&mut peer), b"kept");
    assert_nothing_left(&mut peer);

    let failed = 2 + raised.len() as u64;
    let peer_calls = failed + 2;
    // The single backend asks once more behind the datagram, to fill its ring.
    let expected = Stats {
        recv_calls: if peer.bc().is_some() && is_batch::<T>() { failed + calls(2, 3) } else { peer_calls },
        empty_wakeups: failed + 1,
        grams_received: 1,
        bytes_received: 4,
        ..Stats::default()
    };
    assert_stats(&peer, expected, &[]);
    assert_stats(&from, Stats { send_calls: 1, grams_sent: 1, bytes_sent: 4, ..Stats::default() }, &[]);
}

fn is_batch<T: Transport>() -> bool {
    std::any::type_name::<T>() == std::any::type_name::<BatchPeer>()
}

#[test]
fn h096_receive_errnos() {
    receive_errnos::<Peer>();
    receive_errnos::<BatchPeer>();
}

#[test]
fn h096_a_fill_meets_the_same_errnos() {
    let faults = Faults::new();
    let mut peer: BatchPeer = open();
    let me = peer.ha();
    peer.send(b"kept", me).unwrap();
    let mut ring = RecvRing::new(4, 64).unwrap();
    for errno in OTHERS {
        faults.errno(Call::Recv, 3, errno);
        assert_eq!(peer.fill().unwrap_err().raw_os_error(), Some(errno));
        assert_eq!(peer.fill_into(&mut ring).unwrap_err().raw_os_error(), Some(errno));
        assert_eq!(peer.fill_wait(PATIENCE).unwrap_err().raw_os_error(), Some(errno));
    }
    faults.errno(Call::Recv, 1, EAGAIN);
    assert!(peer.fill().unwrap().is_empty());
    assert_eq!(peer.fill_wait(PATIENCE).unwrap().map(|gram| gram.data).collect::<Vec<_>>(), [b"kept"]);
    assert_eq!(peer.stats().empty_wakeups, OTHERS.len() as u64 * 3 + 1);
}

fn interrupted_receive<T: Transport>(errno: i32) {
    let faults = Faults::new();
    let (mut from, mut peer): (T, T) = (open(), open());
    from.send(b"one", peer.ha()).unwrap();
    faults.errno(Call::Recv, INTERRUPTIONS_MAX - 1, errno);
    assert_eq!(peer.receive().unwrap(), (&b"one"[..], Some(from.ha())));

    let expected = Stats {
        recv_calls: INTERRUPTIONS_MAX as u64 + if is_batch::<T>() { calls(0, 1) } else { 0 },
        empty_wakeups: INTERRUPTIONS_MAX as u64 - 1,
        grams_received: 1,
        bytes_received: 3,
        ..Stats::default()
    };
    assert_stats(&peer, expected, &[]);
}

#[test]
fn h097_an_interrupted_receive_is_made_again() {
    interrupted_receive::<Peer>(EINTR);
    interrupted_receive::<BatchPeer>(EINTR);
}

fn receive_storm<T: Transport>() {
    let faults = Faults::new();
    let (mut from, mut peer): (T, T) = (open(), open());
    from.send(b"one", peer.ha()).unwrap();
    faults.errno(Call::Recv, usize::MAX, EINTR);
    for _ in 0..3 {
        assert_eq!(peer.receive().unwrap(), (&b""[..], None), "a storm counts as nothing yet");
    }
    let asked = 3 * INTERRUPTIONS_MAX as u64;
    assert_stats(&peer, Stats { recv_calls: asked, empty_wakeups: asked, ..Stats::default() }, &[]);
    fault::clear();
    assert_eq!(receive_one(&mut peer), b"one");
    assert_nothing_left(&mut peer);
}

#[test]
fn h097_a_storm_of_interruptions_ends_and_loses_nothing() {
    receive_storm::<Peer>();
    receive_storm::<BatchPeer>();
}

fn send_later<T: Transport>() {
    let faults = Faults::new();
    let (mut from, mut peer): (T, T) = (open(), open());
    let logged = logged_by(|| {
        for errno in [EAGAIN, EWOULDBLOCK, ENOBUFS, ENOMEM] {
            faults.errno(Call::Send, 1, errno);
            assert_eq!(from.send(b"later", peer.ha()).unwrap(), 0, "{errno}");
        }
        assert_eq!(from.send(b"later", peer.ha()).unwrap(), 5, "the same data goes, later");
    });
    assert!(logged.is_empty(), "{logged:?}");
    let expected = Stats {
        send_calls: 5,
        send_would_block: 2,
        send_no_buffers: 2,
        grams_sent: 1,
        bytes_sent: 5,
        ..Stats::default()
    };
    assert_stats(&from, expected, &[]);
    assert_eq!(receive_one(&mut peer), b"later");
    assert_nothing_left(&mut peer);
}

#[test]
fn h101_four_errnos_mean_later() {
    send_later::<Peer>();
    send_later::<BatchPeer>();
}

#[test]
fn h101_the_same_four_leave_a_batch_whole() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    let grams = numbered(5);
    for (errno, stopped) in [
        (EAGAIN, Stopped::WouldBlock),
        (EWOULDBLOCK, Stopped::WouldBlock),
        (ENOBUFS, Stopped::NoBuffers),
        (ENOMEM, Stopped::NoBuffers),
    ] {
        faults.errno_at_gram(0, errno);
        assert_eq!(parts(&from.send_batch(to(&grams, dst))), (0, 0, 5, None, stopped), "{errno}");
        faults.errno_at_gram(2, errno);
        let report = from.send_batch(to(&grams, dst));
        assert_eq!(parts(&report), (2, 4, 3, None, stopped), "{errno}");
        let rest = from.send_batch(to(&grams, dst).skip(report.settled()));
        assert_eq!(parts(&rest), (3, 6, 0, None, Stopped::Done), "{errno}");
        for gram in &grams {
            assert_eq!(receive_one(&mut peer), gram);
        }
    }
    assert_nothing_left(&mut peer);
    let expected = Stats {
        send_calls: 4 * calls(1 + 2 + 1, 1 + 3 + 3),
        send_would_block: 4,
        send_no_buffers: 4,
        grams_sent: 20,
        bytes_sent: 40,
        ..Stats::default()
    };
    assert_stats(&from, expected, &[]);
}

fn unlogged_errnos<T: Transport>() {
    let faults = Faults::new();
    let log = WireLog::new(WireLogConfig::new().samed(true).reopen(true)).unwrap();
    let mut peer = T::new(config().wl(log.clone())).unwrap();
    let me = peer.ha();
    for errno in [EAGAIN, EWOULDBLOCK, ENOBUFS, ENOMEM] {
        faults.errno(Call::Send, 1, errno);
        assert_eq!(peer.send(b"later", me).unwrap(), 0, "{errno}");
    }
    faults.errno(Call::Send, 1, EPERM);
    peer.send(b"never", me).unwrap_err();
    faults.errno(Call::Recv, 1, EAGAIN);
    assert_eq!(peer.receive().unwrap().1, None);
    faults.errno(Call::Recv, 1, EIO);
    peer.receive().unwrap_err();
    assert_eq!((log.read_rx().unwrap().unwrap(), peer.stats().wire_log_failed), (Vec::new(), 0));
}

#[test]
fn h124_what_would_block_or_fails_is_not_in_the_wire_log() {
    unlogged_errnos::<Peer>();
    unlogged_errnos::<BatchPeer>();
}

#[test]
fn h124_of_a_batch_the_leading_grams_are_in_the_wire_log_once() {
    let faults = Faults::new();
    let fmt = crate::WireFormat::parse("%(data)b").unwrap();
    let log = WireLog::new(WireLogConfig::new().fmt(fmt).reopen(true)).unwrap();
    let mut from = BatchPeer::new(config().wl(log.clone())).unwrap();
    let peer: BatchPeer = open();
    let grams = numbered(5);
    faults.errno_at_gram(2, EAGAIN);
    let report = from.send_batch(to(&grams, peer.ha()));
    assert_eq!(log.read_tx().unwrap().unwrap(), grams[..2].concat());
    let _ = from.send_batch(to(&grams, peer.ha()).skip(report.settled()));
    assert_eq!(log.read_tx().unwrap().unwrap(), grams.concat());

    log.reopen().unwrap();
    grams.iter().for_each(|gram| from.queue(gram, peer.ha()).unwrap());
    faults.errno_at_gram(3, EPERM);
    assert_eq!(parts(&from.flush()), (3, 6, 1, Some((3, EPERM)), Stopped::Failed));
    assert_eq!(log.read_tx().unwrap().unwrap(), grams[..3].concat());
    let _ = from.flush();
    assert_eq!(log.read_tx().unwrap().unwrap(), [&grams[..3], &grams[4..]].concat().concat());
}

fn failing_wire_log<T: Transport>() {
    let log = WireLog::new(WireLogConfig::new().reopen(true)).unwrap();
    log.close().unwrap();
    let mut peer = T::new(config().name("logger").wl(log)).unwrap();
    let me = peer.ha();
    let logged = logged_by(|| {
        for _ in 0..3 {
            peer.send(b"kept", me).unwrap();
            assert_eq!(receive_one(&mut peer), b"kept");
        }
    });
    let line = format!("ERROR Error writing wire log of UDP {me} (peer 'logger'): the wire log is closed");
    assert_eq!((logged, peer.stats().wire_log_failed), (vec![line], 6));
}

#[test]
fn h126_a_failing_wire_log_is_told_once_and_counted_always() {
    failing_wire_log::<Peer>();
    failing_wire_log::<BatchPeer>();
}

fn send_errors<T: Transport>() {
    let faults = Faults::new();
    let (mut from, mut peer): (T, T) = (open(), open());
    for errno in OTHERS {
        faults.errno(Call::Send, 1, errno);
        let logged = logged_by(|| {
            assert_eq!(from.send(b"bad", peer.ha()).unwrap_err().raw_os_error(), Some(errno));
        });
        assert!(matches!(&logged[..], [line] if line.starts_with("ERROR Error send UDP from 127.")), "{logged:?}");
        assert_eq!(from.send(b"good", peer.ha()).unwrap(), 4, "an error belongs to one call only");
        assert_eq!(receive_one(&mut peer), b"good");
    }
    assert_nothing_left(&mut peer);
    let each = OTHERS.len() as u64;
    let expected = Stats {
        send_calls: 2 * each,
        grams_sent: each,
        bytes_sent: 4 * each,
        grams_send_failed: each,
        ..Stats::default()
    };
    assert_stats(&from, expected, &OTHERS.map(|errno| (errno, 1)));
}

#[test]
fn h106_every_other_errno_is_the_error_of_that_call() {
    send_errors::<Peer>();
    send_errors::<BatchPeer>();
}

#[test]
fn h106_a_failure_that_repeats_is_logged_more_and_more_rarely() {
    let faults = Faults::new();
    let mut peer: Peer = open();
    let me = peer.ha();
    faults.errno(Call::Send, 100, EPERM);
    let logged = logged_by(|| (0..100).for_each(|_| assert!(peer.send(b"x", me).is_err())));
    assert_eq!(logged.len(), 7, "1, 2, 4, 8, 16, 32, 64: {logged:?}");
    let expected = Stats { send_calls: 100, grams_send_failed: 100, ..Stats::default() };
    assert_stats(&peer, expected, &[(EPERM, 100)]);
}

#[test]
fn h106_an_error_at_any_place_of_a_batch_is_named() {
    let faults = Faults::new();
    let grams = numbered(7);
    for errno in OTHERS {
        for at in 0..grams.len() {
            let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
            let dst = peer.ha();
            faults.errno_at_gram(at, errno);
            let report = from.send_batch(to(&grams, dst));
            let behind = grams.len() - at - 1;
            assert_eq!(parts(&report), (at, 2 * at, behind, Some((at, errno)), Stopped::Failed), "{errno} at {at}");
            let rest = from.send_batch(to(&grams, dst).skip(report.settled()));
            assert_eq!(parts(&rest), (behind, 2 * behind, 0, None, Stopped::Done), "{errno} at {at}");

            for (_, gram) in grams.iter().enumerate().filter(|(i, _)| *i != at) {
                assert_eq!(receive_one(&mut peer), gram, "{errno} at {at}");
            }
            assert_nothing_left(&mut peer);
            let first_calls = calls(1 + u64::from(at > 0), at as u64 + 1);
            let expected = Stats {
                send_calls: first_calls + calls(u64::from(behind > 0), behind as u64),
                grams_sent: 6,
                bytes_sent: 12,
                grams_send_failed: 1,
                ..Stats::default()
            };
            assert_stats(&from, expected, &[(errno, 1)]);
        }
    }
}

#[test]
fn h106_errors_one_behind_the_other_each_cost_one_gram() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    for gram in &numbered(6) {
        from.queue(gram, dst).unwrap();
    }
    faults.errno_at_gram(2, EPERM);
    assert_eq!(parts(&from.flush()), (2, 4, 3, Some((2, EPERM)), Stopped::Failed));
    faults.errno_at_gram(0, EMSGSIZE);
    assert_eq!(parts(&from.flush()), (0, 0, 2, Some((0, EMSGSIZE)), Stopped::Failed));
    faults.errno_at_gram(1, EPERM);
    assert_eq!(parts(&from.flush()), (1, 2, 0, Some((1, EPERM)), Stopped::Failed));
    assert_eq!(parts(&from.flush()), (0, 0, 0, None, Stopped::Done));
    assert_eq!(from.queued(), 0);
    for i in [0, 1, 4] {
        assert_eq!(receive_one(&mut peer), [b'#', i]);
    }
    assert_nothing_left(&mut peer);
    let expected =
        Stats { send_calls: calls(5, 6), grams_sent: 3, bytes_sent: 6, grams_send_failed: 3, ..Stats::default() };
    assert_stats(&from, expected, &[(EPERM, 2), (EMSGSIZE, 1)]);
}

#[test]
fn h196_would_block_part_way_keeps_the_rest() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    for gram in &numbered(8) {
        from.queue(gram, dst).unwrap();
    }
    assert_eq!(from.queue(b"x", dst), Err(Full::Ring));

    faults.errno_at_gram(5, EAGAIN);
    assert_eq!(parts(&from.flush()), (5, 10, 3, None, Stopped::WouldBlock));
    assert_eq!(from.queued(), 3);
    // The queued three go before anything newer, so as long as they cannot, nothing can.
    faults.errno(Call::Send, 2, EAGAIN);
    assert_eq!(from.send(b"newer", dst).unwrap(), 0);
    assert_eq!(parts(&from.send_batch([(&b"newer"[..], dst)])), (0, 0, 1, None, Stopped::WouldBlock));
    assert_eq!(from.queued(), 3);
    // The ring wraps round: five places are free again.
    for i in 8..13 {
        from.queue(&[b'#', i], dst).unwrap();
    }
    assert_eq!(from.queue(b"x", dst), Err(Full::Ring));
    assert_eq!(from.send(b"newer", dst).unwrap(), 5);

    for gram in &numbered(13) {
        assert_eq!(receive_one(&mut peer), gram);
    }
    assert_eq!(receive_one(&mut peer), b"newer");
    assert_nothing_left(&mut peer);
    let expected = Stats {
        send_calls: calls(2 + 2 + 1 + 1, 6 + 2 + 8 + 1),
        send_would_block: 3,
        grams_sent: 14,
        bytes_sent: 31,
        ..Stats::default()
    };
    assert_stats(&from, expected, &[]);
}

#[test]
fn h103_no_buffers_that_never_clears_spins_nowhere() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    from.queue(b"#0", dst).unwrap();
    from.queue(b"#1", dst).unwrap();
    faults.errno(Call::Send, usize::MAX, ENOBUFS);
    for _ in 0..10 {
        assert_eq!(from.send(b"newer", dst).unwrap(), 0);
        assert_eq!(parts(&from.flush()), (0, 0, 2, None, Stopped::NoBuffers));
        let report = from.send_batch([(&b"newer"[..], dst), (b"newest", dst)]);
        assert_eq!(parts(&report), (0, 0, 2, None, Stopped::NoBuffers), "not would-block: it may be writable");
    }
    assert_stats(&from, Stats { send_calls: 30, send_no_buffers: 30, ..Stats::default() }, &[]);
    fault::clear();
    assert_eq!(parts(&from.flush()), (2, 4, 0, None, Stopped::Done));
    assert_eq!((receive_one(&mut peer), receive_one(&mut peer)), (b"#0".to_vec(), b"#1".to_vec()));
    assert_nothing_left(&mut peer);
}

#[test]
fn a_queued_gram_that_fails_in_passing_is_reported_by_the_next_flush() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    for gram in &numbered(4) {
        from.queue(gram, dst).unwrap();
    }
    faults.errno_at_gram(2, EPERM);
    assert_eq!(from.send(b"newer", dst).unwrap(), 5);
    from.queue(b"#4", dst).unwrap();
    // The report of a failure only: nothing was sent by this call, so the failed one is its first.
    assert_eq!(parts(&from.flush()), (0, 0, 1, Some((0, EPERM)), Stopped::Failed));
    assert_eq!(parts(&from.flush()), (1, 2, 0, None, Stopped::Done));
    for expected in [&b"#\0"[..], b"#\x01", b"#\x03", b"newer", b"#4"] {
        assert_eq!(receive_one(&mut peer), expected);
    }
    assert_nothing_left(&mut peer);
    let expected = Stats {
        send_calls: calls(2 + 1 + 1 + 1, 3 + 1 + 1 + 1),
        grams_sent: 5,
        bytes_sent: 13,
        grams_send_failed: 1,
        ..Stats::default()
    };
    assert_stats(&from, expected, &[(EPERM, 1)]);
}

fn interrupted_send<T: Transport>() {
    let faults = Faults::new();
    let (mut from, mut peer): (T, T) = (open(), open());
    faults.errno(Call::Send, INTERRUPTIONS_MAX - 1, EINTR);
    assert_eq!(from.send(b"one", peer.ha()).unwrap(), 3);
    faults.errno(Call::Send, INTERRUPTIONS_MAX, EINTR);
    assert_eq!(from.send(b"two", peer.ha()).unwrap(), 0, "a storm counts as would-block");
    let expected = Stats { send_calls: 2 * INTERRUPTIONS_MAX as u64, grams_sent: 1, bytes_sent: 3, ..Stats::default() };
    assert_stats(&from, expected, &[]);
    assert_eq!(receive_one(&mut peer), b"one");
    assert_nothing_left(&mut peer);
}

#[test]
fn an_interrupted_send_is_made_again_and_a_storm_ends() {
    interrupted_send::<Peer>();
    interrupted_send::<BatchPeer>();
}

#[test]
fn an_interrupted_batch_goes_on_where_it_was() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let (dst, grams) = (peer.ha(), numbered(5));
    faults.errno_at_gram(3, EINTR);
    assert_eq!(parts(&from.send_batch(to(&grams, dst))), (5, 10, 0, None, Stopped::Done));
    // 3, interrupted, 1 alone, the rest; or one by one.
    let mut expected = Stats { send_calls: calls(4, 6), grams_sent: 5, bytes_sent: 10, ..Stats::default() };
    assert_stats(&from, expected, &[]);

    faults.errno(Call::Send, usize::MAX, EINTR);
    assert_eq!(parts(&from.send_batch(to(&grams, dst))), (0, 0, 5, None, Stopped::WouldBlock));
    expected.send_calls += INTERRUPTIONS_MAX as u64 + 1;
    assert_stats(&from, expected, &[]);
    fault::clear();
    for gram in &grams {
        assert_eq!(receive_one(&mut peer), gram);
    }
    assert_nothing_left(&mut peer);
}

/// Only `sendmmsg` can take fewer datagrams than it was given.
#[cfg(all(target_os = "linux", not(force_single)))]
mod mmsg {
    use super::*;

    #[test]
    fn t06_a_short_count_without_a_cause_loses_nothing() {
        let faults = Faults::new();
        // Each of its own length, so that the bytes counted tell which grams they belong to.
        let grams = [&b""[..], b"1", b"22", b"333", b"4444", b"55555"];
        for short in 0..6 {
            let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
            let dst = peer.ha();
            faults.inject(Call::Send, 0, 1, Fault::Short(short));
            assert_eq!(
                parts(&from.send_batch(grams.map(|gram| (gram, dst)))),
                (6, 15, 0, None, Stopped::Done),
                "{short}"
            );
            // The short one, the next gram alone, and the rest if there is one.
            let send_calls = 2 + u64::from(short < 5);
            assert_stats(&from, Stats { send_calls, grams_sent: 6, bytes_sent: 15, ..Stats::default() }, &[]);
            for gram in grams {
                assert_eq!(receive_one(&mut peer), gram);
            }
            assert_nothing_left(&mut peer);
        }
    }

    #[test]
    fn t06_a_kernel_that_takes_nothing_and_says_nothing_is_left_in_peace() {
        let faults = Faults::new();
        let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
        let (dst, grams) = (peer.ha(), numbered(4));
        faults.inject(Call::Send, 0, usize::MAX, Fault::Short(0));
        assert_eq!(parts(&from.send_batch(to(&grams, dst))), (0, 0, 4, None, Stopped::WouldBlock));
        assert_stats(&from, Stats { send_calls: INTERRUPTIONS_MAX as u64, ..Stats::default() }, &[]);
        assert_nothing_left(&mut peer);
    }

    #[test]
    fn t07_an_error_of_the_socket_that_hides_behind_short_counts_comes_out() {
        let faults = Faults::new();
        let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
        let (dst, grams) = (peer.ha(), numbered(5));
        // As on a connected socket whose peer is gone: each call sends one, and the next one meets the error.
        faults.inject(Call::Send, 0, 1, Fault::Short(1));
        faults.inject(Call::Send, 1, 1, Fault::Errno(ECONNREFUSED));
        let report = from.send_batch(to(&grams, dst));
        assert_eq!(parts(&report), (2, 4, 2, Some((2, ECONNREFUSED)), Stopped::Failed));
        let expected = Stats { send_calls: 3, grams_sent: 2, bytes_sent: 4, grams_send_failed: 1, ..Stats::default() };
        assert_stats(&from, expected, &[(ECONNREFUSED, 1)]);
        assert_eq!((receive_one(&mut peer), receive_one(&mut peer)), (b"#\0".to_vec(), b"#\x01".to_vec()));
        assert_nothing_left(&mut peer);
    }
}

#[test]
fn h199_an_error_behind_data_comes_after_it() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let (dst, grams) = (peer.ha(), numbered(4));
    let mut received = Stats::default();
    for take in ["receive", "fill", "fill_wait", "fill_into"] {
        assert_eq!(from.send_batch(to(&grams, dst)).sent, 4);
        faults.receive_errno_behind(2, ECONNREFUSED);
        let mut ring = RecvRing::new(8, 64).unwrap();
        let first: Vec<Vec<u8>> = match take {
            "receive" => (0..2).map(|_| peer.receive().unwrap().0.to_vec()).collect(),
            "fill" => peer.fill().unwrap().map(|gram| gram.data.to_vec()).collect(),
            "fill_wait" => peer.fill_wait(PATIENCE).unwrap().map(|gram| gram.data.to_vec()).collect(),
            _ => {
                assert_eq!(peer.fill_into(&mut ring).unwrap(), 2);
                ring.grams().map(|gram| gram.data.to_vec()).collect()
            }
        };
        assert_eq!(first, grams[..2], "{take}");
        let error = match take {
            "receive" => peer.receive().unwrap_err(),
            "fill" => peer.fill().unwrap_err(),
            "fill_wait" => peer.fill_wait(PATIENCE).unwrap_err(),
            _ => peer.fill_into(&mut ring).unwrap_err(),
        };
        assert_eq!(error.raw_os_error(), Some(ECONNREFUSED), "{take}");
        for gram in &grams[2..] {
            assert_eq!(peer.receive().unwrap(), (&gram[..], Some(from.ha())), "{take}: exactly one error");
        }
        assert_nothing_left(&mut peer);
        // mmsg: two, the error, two, nothing; single: two and the error, two and nothing, nothing.
        received.recv_calls += calls(4, 7);
        received.empty_wakeups += calls(2, 1);
        received.grams_received += 4;
        received.bytes_received += 8;
        received.wait_calls += u64::from(take == "fill_wait") * calls(2, 2);
    }
    let mut stats = peer.stats();
    // How often fill_wait waits is its own affair; the test below pins what matters.
    stats.wait_calls = received.wait_calls;
    assert_eq!(stats, Stats { backend: stats.backend, ..received });
}

#[test]
fn h199_a_wait_does_not_sit_on_an_error() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    from.send(b"good", peer.ha()).unwrap();
    faults.receive_errno_behind(1, ECONNREFUSED);
    assert_eq!(peer.fill().unwrap().len(), 1);
    let start = Instant::now();
    // In the mmsg backend the error is still the socket's: a fault that fires only when it is asked,
    // which a quiet socket's wait does not do, so it has something to be woken by.
    if BACKEND == "mmsg" {
        from.send(b"behind", peer.ha()).unwrap();
    }
    assert_eq!(peer.fill_wait(PATIENCE).unwrap_err().raw_os_error(), Some(ECONNREFUSED));
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn h199_a_fill_that_fails_leaves_no_batch_to_hand_over() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    assert_eq!(from.send_batch(to(&numbered(2), peer.ha())).sent, 2);
    faults.receive_errno_behind(2, ECONNREFUSED);
    assert_eq!(peer.fill().unwrap().len(), 2);
    assert_eq!(peer.fill().unwrap_err().raw_os_error(), Some(ECONNREFUSED));
    assert_eq!(peer.exchange(RecvRing::new(8, 64).unwrap()).len(), 0, "the batch before it, once more");
}

#[test]
fn h199_a_reopened_peer_forgets_the_error_of_its_old_socket() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    from.send(b"good", peer.ha()).unwrap();
    faults.receive_errno_behind(1, ECONNREFUSED);
    assert_eq!(peer.receive().unwrap().0, b"good");
    fault::clear();
    peer.reopen().unwrap();
    assert_nothing_left(&mut peer);
}

#[test]
fn t03_a_signal_during_a_wait_is_harmless() {
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    from.send(b"one", peer.ha()).unwrap();
    faults.errno(Call::Wait, 5, EINTR);
    faults.errno(Call::Recv, 5, EAGAIN);
    assert_eq!(peer.fill_wait(PATIENCE).unwrap().map(|gram| gram.data).collect::<Vec<_>>(), [b"one"]);
    let expected = Stats {
        wait_calls: 6,
        recv_calls: 5 + calls(1, 2),
        empty_wakeups: 5,
        grams_received: 1,
        bytes_received: 3,
        ..Stats::default()
    };
    assert_stats(&peer, expected, &[]);
    // Signals do not make the wait longer either.
    fault::clear();
    let start = Instant::now();
    faults.errno(Call::Wait, 20, EINTR);
    assert!(peer.fill_wait(Duration::from_millis(30)).unwrap().is_empty());
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(30) && waited < PATIENCE, "{waited:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn t03_errno_512_is_an_interruption_too() {
    interrupted_receive::<Peer>(ERESTARTSYS);
    interrupted_receive::<BatchPeer>(ERESTARTSYS);
    let faults = Faults::new();
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    faults.errno(Call::Send, 2, ERESTARTSYS);
    assert_eq!(from.send(b"one", peer.ha()).unwrap(), 3);
    faults.errno_at_gram(1, ERESTARTSYS);
    assert_eq!(from.send_batch(to(&numbered(3), peer.ha())).sent, 3);
    let expected = Stats { send_calls: 3 + calls(4, 4), grams_sent: 4, bytes_sent: 9, ..Stats::default() };
    assert_stats(&from, expected, &[]);
    for data in [&b"one"[..], b"#\0", b"#\x01", b"#\x02"] {
        assert_eq!(receive_one(&mut peer), data);
    }
}

#[test]
fn t03_any_other_error_of_a_wait_is_given() {
    let faults = Faults::new();
    let mut peer: BatchPeer = open();
    faults.errno(Call::Wait, 2, ENOMEM);
    assert_eq!(peer.fill_wait(PATIENCE).unwrap_err().raw_os_error(), Some(ENOMEM));
    assert_eq!(peer.wait_writable(PATIENCE).unwrap_err().raw_os_error(), Some(ENOMEM));
    faults.errno(Call::Wait, 1, EINTR);
    assert!(!peer.wait_writable(PATIENCE).unwrap(), "a signal may end it early");
    assert!(peer.wait_writable(PATIENCE).unwrap());
    assert_stats(&peer, Stats { wait_calls: 4, ..Stats::default() }, &[]);
}

/// The system's limit for one direction, if it says.
#[cfg(target_os = "linux")]
fn limit(name: &str) -> Option<usize> {
    std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?.trim().parse().ok()
}

#[test]
#[cfg(target_os = "linux")]
fn t20_h38_a_clamped_buffer_says_so_and_names_what_lifts_it() {
    const HUGE: usize = 1 << 29;
    let faults = Faults::new();
    faults.errno(Call::ForceBuffer, usize::MAX, EPERM);
    for (direction, name) in [(Direction::Receive, "rmem_max"), (Direction::Send, "wmem_max")] {
        let Some(limit) = limit(name).filter(|limit| *limit < HUGE) else { continue };
        // Half as much again as the limit is less than what Linux then reports, and clamped all the same.
        for asked in [HUGE, limit + limit / 2] {
            let mut report = None;
            let logged = logged_by(|| {
                let config = match direction {
                    Direction::Receive => config().recv_buf_bytes(asked),
                    Direction::Send => config().send_buf_bytes(asked),
                };
                let mut peer = Peer::new(config).expect("a clamp is no failure");
                for _ in 0..3 {
                    peer.reopen().unwrap();
                }
                report = peer.buf_report(direction);
            });
            let report = report.unwrap();
            assert_eq!((report.asked_bytes, report.actual_bytes, report.clamped), (asked, 2 * limit, true));
            let advice = format!("sysctl -w net.core.{name}={asked}");
            assert!(report.to_string().contains(&advice), "{report}");
            assert_eq!(logged.len(), 1, "once in a peer's life: {logged:?}");
            assert!(logged[0].starts_with("WARN peer 'main'") && logged[0].contains(&advice), "{logged:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn t20_where_force_is_allowed_nothing_is_clamped() {
    use crate::sys::socket::{force_recv_buffer, force_send_buffer};

    const HUGE: usize = 1 << 29;
    let faults = Faults::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let is_allowed = force_recv_buffer(&socket, HUGE).is_ok() && force_send_buffer(&socket, HUGE).is_ok();
    let peer = Peer::new(config().recv_buf_bytes(HUGE).send_buf_bytes(HUGE)).unwrap();
    for (direction, name) in [(Direction::Receive, "rmem_max"), (Direction::Send, "wmem_max")] {
        let Some(limit) = limit(name) else { continue };
        let report = peer.buf_report(direction).unwrap();
        assert_eq!(report.clamped, !is_allowed && limit < HUGE, "{report:?}");
        assert_eq!(report.actual_bytes, if report.clamped { 2 * limit } else { 2 * HUGE });
    }

    faults.errno(Call::ForceBuffer, usize::MAX, EPERM);
    let default = Peer::new(config()).unwrap();
    let report = default.buf_report(Direction::Receive).unwrap();
    assert_eq!((report.asked_bytes, report.clamped), (0, false), "the default is enough: nothing was asked");
    let small = Peer::new(config().recv_buf_bytes(8_192)).unwrap();
    let report = small.buf_report(Direction::Receive).unwrap();
    assert_eq!((report.asked_bytes, report.actual_bytes, report.clamped), (8_192, 16_384, false), "lowered as asked");
    assert_eq!(small.actual_buf_sizes().1, report.actual_bytes);
}

/// Segmentation: rows of grams that leave as one message, and what becomes of them when it does not go.
#[cfg(all(target_os = "linux", not(force_single)))]
mod sendmmsg {
    use libc::EOPNOTSUPP;

    use super::*;

    /// Errnos that may be those of the segmentation.
    const REFUSALS: [i32; 6] = [EIO, EINVAL, EMSGSIZE, EOPNOTSUPP, ENOBUFS, ENOMEM];
    /// Grams in each of the rows of [`Rows`].
    const ROW: usize = 3;

    fn open() -> BatchPeer {
        let peer = BatchPeer::new(config().bc(16).segment(true)).unwrap();
        assert!(peer.segments());
        peer
    }

    /// Three rows of three grams to a receiver each, so that a batch of them is three messages.
    struct Rows {
        receivers: [BatchPeer; 3],
        grams: Vec<([u8; 2], SocketAddr)>,
    }

    impl Rows {
        fn new() -> Self {
            let receivers: [BatchPeer; 3] = std::array::from_fn(|_| super::open());
            let dsts = receivers.iter().flat_map(|peer| [peer.ha(); ROW]);
            let grams = numbered(9).into_iter().zip(dsts).collect();
            Self { receivers, grams }
        }

        fn batch(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
            self.grams.iter().map(|(data, dst)| (&data[..], *dst))
        }

        /// Holds the receivers to having got these grams and no others, in order.
        #[track_caller]
        fn assert_got(&mut self, indices: impl Iterator<Item = usize>) {
            for i in indices {
                assert_eq!(receive_one(&mut self.receivers[i / ROW]), [b'#', i as u8]);
            }
            self.receivers.iter_mut().for_each(assert_nothing_left);
        }
    }

    impl Faults {
        /// Makes message `at` of the next batch fail, `times` times, as the kernel does it: it gives a
        /// short count, takes the gram that then goes alone, and refuses the rest of that row.
        fn errno_at_row(&self, at: usize, times: usize, errno: i32) {
            if at > 0 {
                self.inject(Call::Send, 0, 1, Fault::Short(at));
            }
            self.inject(Call::Send, usize::from(at > 0), times, Fault::Errno(errno));
        }
    }

    #[test]
    fn t13_a_refused_row_goes_out_gram_by_gram_from_any_place() {
        let faults = Faults::new();
        let mut rows = Rows::new();
        for errno in REFUSALS {
            for at in 0..3 {
                let mut from = open();
                faults.errno_at_row(at, 1, errno);
                let logged = logged_by(|| {
                    assert_eq!(parts(&from.send_batch(rows.batch())), (9, 18, 0, None, Stopped::Done), "{errno} {at}");
                });
                let line = format!("WARN peer 'main' on {}: a segmented message was refused", from.ha());
                assert!(matches!(&logged[..], [only] if only.starts_with(&line)), "{logged:?}");
                rows.assert_got(0..9);
                // Refused, one alone, the rest; behind others a short count and one alone come first.
                let expected = Stats {
                    send_calls: if at == 0 { 3 } else { 5 },
                    grams_sent: 9,
                    bytes_sent: 18,
                    grams_segmented: (ROW * at) as u64,
                    segment_refusals: 1,
                    ..Stats::default()
                };
                assert_stats(&from, expected, &[]);
            }
        }
    }

    #[test]
    fn t13_a_gram_that_fails_by_itself_too_is_reported_as_ever() {
        let faults = Faults::new();
        let mut rows = Rows::new();
        for errno in REFUSALS {
            for at in 0..3 {
                let mut from = open();
                faults.errno_at_row(at, 2, errno);
                let report = from.send_batch(rows.batch());
                // Behind other rows one gram of this one has gone, alone.
                let sent = if at == 0 { 0 } else { ROW * at + 1 };
                let is_buffers = matches!(errno, ENOBUFS | ENOMEM);
                let expected = if is_buffers {
                    (sent, 2 * sent, 9 - sent, None, Stopped::NoBuffers)
                } else {
                    (sent, 2 * sent, 9 - sent - 1, Some((sent, errno)), Stopped::Failed)
                };
                assert_eq!(parts(&report), expected, "{errno} {at}");
                assert_eq!(from.stats().segment_refusals, 0, "the error was the gram's own");
                // So the rest is joined as ever.
                let segmented = from.stats().grams_segmented;
                let rest = from.send_batch(rows.batch().skip(report.settled()));
                assert_eq!((rest.sent, rest.stopped), (9 - report.settled(), Stopped::Done));
                assert!(from.stats().grams_segmented > segmented || rest.sent == 1);
                rows.assert_got((0..9).filter(|i| is_buffers || *i != sent));
                let failed: Vec<_> = if is_buffers { Vec::new() } else { vec![(errno, 1)] };
                assert_eq!(from.stats().grams_send_failed_by_errno.iter().collect::<Vec<_>>(), failed);
                assert_eq!(from.stats().grams_sent + from.stats().grams_send_failed, 9);
            }
        }
    }

    #[test]
    fn h106_every_other_errno_of_a_row_is_its_first_grams_own() {
        let faults = Faults::new();
        let mut rows = Rows::new();
        for errno in OTHERS.into_iter().filter(|errno| !REFUSALS.contains(errno)) {
            let mut from = open();
            faults.errno(Call::Send, 1, errno);
            assert_eq!(parts(&from.send_batch(rows.batch())), (0, 0, 8, Some((0, errno)), Stopped::Failed), "{errno}");
            assert_stats(&from, Stats { send_calls: 1, grams_send_failed: 1, ..Stats::default() }, &[(errno, 1)]);
        }
        rows.assert_got(0..0);
    }

    #[test]
    fn h196_rows_that_must_wait_or_are_interrupted_are_sent_once() {
        let faults = Faults::new();
        let mut rows = Rows::new();
        for at in 0..3 {
            let mut from = open();
            faults.errno_at_row(at, 1, EAGAIN);
            let report = from.send_batch(rows.batch());
            let sent = if at == 0 { 0 } else { ROW * at + 1 };
            assert_eq!(parts(&report), (sent, 2 * sent, 9 - sent, None, Stopped::WouldBlock));
            assert_eq!(from.send_batch(rows.batch().skip(sent)).sent, 9 - sent);
            rows.assert_got(0..9);

            faults.errno_at_row(at, 3, EINTR);
            assert_eq!(parts(&from.send_batch(rows.batch())), (9, 18, 0, None, Stopped::Done));
            rows.assert_got(0..9);
            assert_eq!(from.stats().segment_refusals, 0);
        }
    }

    #[test]
    fn t06_a_short_count_of_messages_is_one_of_grams() {
        let faults = Faults::new();
        let mut rows = Rows::new();
        for short in 0..=3 {
            let mut from = open();
            faults.inject(Call::Send, 0, 1, Fault::Short(short));
            assert_eq!(parts(&from.send_batch(rows.batch())), (9, 18, 0, None, Stopped::Done), "{short}");
            rows.assert_got(0..9);
            // The gram behind a short count goes alone, the other two of its row together.
            let send_calls = if short == 3 { 1 } else { 3 };
            let grams_segmented = if short == 3 { 9 } else { 8 };
            let expected = Stats { send_calls, grams_sent: 9, bytes_sent: 18, grams_segmented, ..Stats::default() };
            assert_stats(&from, expected, &[]);
        }
    }

    #[test]
    fn t07_an_error_of_the_socket_that_hides_behind_rows_comes_out() {
        let faults = Faults::new();
        let mut rows = Rows::new();
        let mut from = open();
        faults.errno_at_row(1, 1, ECONNREFUSED);
        let report = from.send_batch(rows.batch());
        assert_eq!(parts(&report), (4, 8, 4, Some((4, ECONNREFUSED)), Stopped::Failed));
        rows.assert_got(0..4);
    }

    #[test]
    fn t13_refusals_make_it_pause_longer_and_longer() {
        let faults = Faults::new();
        let mut rows = Rows::new();
        let mut from = open();
        let (mut pause, mut left) = (1, 0);
        let logged = logged_by(|| {
            for batch in 0..140 {
                let before = from.stats();
                if left == 0 {
                    faults.errno(Call::Send, 1, EIO);
                }
                assert_eq!(from.send_batch(rows.batch()).sent, 9, "batch {batch}");
                let (calls, refusals) = if left == 0 { (3, 1) } else { (1, 0) };
                let stats = from.stats();
                assert_eq!(stats.send_calls - before.send_calls, calls, "batch {batch}");
                assert_eq!(stats.segment_refusals - before.segment_refusals, refusals, "batch {batch}");
                if left == 0 {
                    (left, pause) = (pause, 2 * pause);
                } else {
                    left -= 1;
                }
                rows.assert_got(0..9);
            }
        });
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert_eq!((from.stats().segment_refusals, from.stats().grams_segmented), (8, 0));
        // Another socket may be luckier.
        from.reopen().unwrap();
        assert_eq!(from.send_batch(rows.batch()).sent, 9);
        assert_eq!(from.stats().grams_segmented, 9);
        rows.assert_got(0..9);
    }

    #[test]
    fn h124_each_gram_of_a_row_is_in_the_wire_log_once() {
        let faults = Faults::new();
        let fmt = crate::WireFormat::parse("%(data)b").unwrap();
        let log = WireLog::new(WireLogConfig::new().fmt(fmt).reopen(true)).unwrap();
        let mut from = BatchPeer::new(config().bc(16).segment(true).wl(log.clone())).unwrap();
        let mut rows = Rows::new();
        let all: Vec<u8> = rows.batch().flat_map(|(data, _)| data.to_vec()).collect();
        assert_eq!(from.send_batch(rows.batch()).sent, 9);
        assert_eq!(log.read_tx().unwrap().unwrap(), all);
        faults.errno_at_row(1, 2, EIO);
        assert_eq!(from.send_batch(rows.batch()).sent, 4);
        assert_eq!(log.read_tx().unwrap().unwrap(), [&all[..], &all[..8]].concat());
        for (i, receiver) in rows.receivers.iter_mut().enumerate() {
            let got = std::iter::from_fn(|| receiver.receive().unwrap().1).count();
            assert_eq!(got, [6, 4, 3][i]);
        }
    }
}
