//! The traps of UDP batches, T1 to T25, as far as the public API can walk into them.
//!
//! The number is the first part of each test's name. What is covered elsewhere or cannot occur:
//!
//! - T3, T6, T7, T20: beside the tests here, with injected errnos, in `src/fault_tests/`.
//! - T9: that a send batch never passes more than 1,024 headers, in `src/sys/sendmmsg.rs`.
//! - T11: a cut control buffer on the backend's own level is fuzzed in `control`; here it is cut by
//!   options that somebody else sets on the socket.
//! - T12, T21: the arithmetic alone, for all lengths, in `src/segment.rs` and `src/buffers.rs`.
//! - T13, T14: not applicable: nothing is ever segmented by this crate on the way out, and
//!   UDP_SEGMENT is never set on its sockets (`t14_…` looks).
//! - T19: the counter's wrap at 2^32, in `src/stats.rs`; a socket cannot be made to drop so many.
//! - T22: not applicable: every buffer a header points to is the ring's own, so EFAULT has no cause.
//! - T25: not applicable: a header's name always has memory, so no stale length meets a null name.
#![allow(unsafe_code)]
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hio_udp::{BatchPeer, Direction, Peer, RecvRing, Stopped, Transport, datagrams_held};
use libc::{EACCES, EAFNOSUPPORT, ECONNREFUSED, EINVAL, EMSGSIZE, c_int};
use socket2::SockRef;
use support::{
    PATIENCE, assert_nothing_left, assert_recv_calls, config, dead_address, drain, has_ipv6, next, next_data, open,
    open_batch, parts, plain, send_all, settle, takes_batches, until,
};

/// Sets an option that `socket2` does not know.
fn try_set(socket: impl AsFd, level: c_int, name: c_int, value: c_int) -> std::io::Result<()> {
    // SAFETY: the value is one c_int on this stack frame with its true size; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn set(socket: impl AsFd, level: c_int, name: c_int, value: c_int) {
    try_set(socket, level, name, value).unwrap();
}

fn get(socket: impl AsFd, level: c_int, name: c_int) -> std::io::Result<c_int> {
    let (mut value, mut len): (c_int, _) = (0, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` bytes into one c_int of this stack frame.
    let result =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(value) }
}

/// Sends `data` as one buffer that the kernel cuts into datagrams of `segment` bytes; `false` on a
/// kernel that cannot.
fn send_segmented(data: &[u8], segment: c_int, dst: SocketAddr) -> bool {
    let from = plain();
    if try_set(&from, libc::SOL_UDP, libc::UDP_SEGMENT, segment).is_err() {
        eprintln!("no UDP_SEGMENT here: skipped");
        return false;
    }
    assert_eq!(from.send_to(data, dst).unwrap(), data.len());
    settle();
    true
}

/// SOF_TIMESTAMPING_RX_SOFTWARE and SOF_TIMESTAMPING_SOFTWARE (linux/net_tstamp.h): a long control message.
const SOFTWARE_RX_TIME: c_int = (1 << 3) | (1 << 4);
/// Where a long has 4 bytes, there is room for more control messages than these tests ask for.
const HAS_SMALL_MESSAGES: bool = cfg!(target_pointer_width = "32");

/// `count` bytes in which no stretch is like another.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i % 251) as u8).collect()
}

#[test]
fn t01_one_call_takes_a_whole_batch() {
    let mut peer = open_batch(config().bc(16));
    let me = peer.ha();
    for round in 1..=3 {
        assert_eq!(peer.send_batch([(&b"x"[..], me); 16]).sent, 16);
        settle();
        assert_eq!(peer.fill().unwrap().len(), 16);
        let stats = peer.stats();
        let calls = if takes_batches(&peer) { 1 } else { 16 };
        assert_eq!((stats.recv_calls, stats.send_calls), (round * calls, round * calls));
        assert_eq!((stats.grams_received, stats.empty_wakeups), (16 * round, 0));
    }
}

#[test]
fn t02_a_wait_ends_with_the_first_datagram_and_with_its_time() {
    let mut peer = open_batch(config().bc(64));
    let me = peer.ha();
    peer.send(b"one of 64", me).unwrap();
    let start = Instant::now();
    assert_eq!(peer.fill_wait(PATIENCE).unwrap().len(), 1);
    assert!(start.elapsed() < PATIENCE / 2, "it does not wait for the other 63");
    let start = Instant::now();
    assert!(peer.fill_wait(Duration::from_millis(50)).unwrap().is_empty());
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(50) && waited < PATIENCE / 2, "{waited:?}");
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(_: c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Sends SIGUSR1 to a thread of this process. Its id is a pointer in musl, which could not be sent.
fn signal(thread: usize) {
    // SAFETY: the thread has not been joined: the test that calls this holds it inside a scope.
    assert_eq!(unsafe { libc::pthread_kill(thread as libc::pthread_t, libc::SIGUSR1) }, 0);
}

#[test]
fn t03_real_signals_during_waits_and_calls_do_no_harm() {
    // SAFETY: zeroes are a valid sigaction (no flags, so no SA_RESTART: calls are interrupted).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
    // SAFETY: the handler only adds to an atomic, which is allowed in one; `action` is whole.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }, 0);

    const GRAMS: usize = 400;
    let mut peer = open_batch(config().bc(4).recv_buf_bytes(1 << 20));
    let me = peer.ha();
    let (tell, told) = std::sync::mpsc::channel();
    let received = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            // SAFETY: gives this thread's own id.
            tell.send(unsafe { libc::pthread_self() } as usize).unwrap();
            let mut received = 0;
            while received + (peer.stats().kernel_dropped as usize) < GRAMS {
                let grams = peer.fill_wait(PATIENCE).unwrap();
                assert!(!grams.is_empty(), "a signal is not the end of the time");
                assert!(grams.clone().all(|gram| gram.data == b"x"));
                received += grams.len();
            }
            received + peer.stats().kernel_dropped as usize
        });
        let thread = told.recv().unwrap();
        for wanted in 1..=20 {
            signal(thread);
            until("the signal to arrive", || SIGNALS.load(Ordering::SeqCst) >= wanted);
        }
        let mut from: Peer = open();
        for i in 0..GRAMS {
            from.send(b"x", me).unwrap();
            if i % 4 == 0 && i + 8 < GRAMS {
                signal(thread);
            }
        }
        receiver.join().unwrap()
    });
    assert_eq!(received, GRAMS);
}

#[test]
fn t04_control_lengths_are_restored_between_calls() {
    let mut peer = open_batch(config().bc(4).rx_time(true));
    let me = peer.ha();
    let mmsg = takes_batches(&peer);
    let round = |count: usize, peer: &mut BatchPeer, stamped: bool| {
        assert_eq!(peer.send_batch(std::iter::repeat_n((&b"x"[..], me), count)).sent, count);
        settle();
        let grams = peer.fill().unwrap();
        assert_eq!(grams.len(), count);
        for gram in grams {
            let time = gram.meta().rx_time;
            assert_eq!(time.is_some(), mmsg && stamped, "{time:?}");
        }
    };
    for i in 0..50 {
        round(1 + i % 4, &mut peer, true);
        if i % 7 == 0 {
            // A message without control data leaves a length of 0 behind.
            set(&peer, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0);
            round(4, &mut peer, false);
            set(&peer, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
        }
    }
    assert_eq!(peer.stats().grams_control_truncated, 0);
}

#[test]
fn t05_v4_then_v6_through_one_ring() {
    if !has_ipv6() {
        return;
    }
    let (mut four, mut six) = (open_batch(config()), open_batch(config().ha(("::1", 0))));
    let mut ring = RecvRing::new(4, 64).unwrap();
    for round in 0..3 {
        for peer in [&mut four, &mut six] {
            let me = peer.ha();
            let _ = peer.send_batch([(&b"a"[..], me), (b"b", me)]);
            settle();
            until("both", || peer.fill_into(&mut ring).unwrap() == 2);
            let grams: Vec<_> = ring.grams().map(|gram| (gram.data, gram.src)).collect();
            assert_eq!(grams, [(&b"a"[..], me), (b"b", me)], "round {round}");
        }
    }
    assert_eq!((four.stats().grams_undecodable, six.stats().grams_undecodable), (0, 0));
}

#[test]
fn t06_every_error_at_every_place_is_named_and_costs_only_its_own_gram() {
    let long = vec![0; 65_508];
    let port_0 = SocketAddr::from(([127, 0, 0, 1], 0));
    let broadcast = SocketAddr::from(([127, 255, 255, 255], 9));
    for bc in [2, 3, 64] {
        for places in [&[0][..], &[3], &[6], &[0, 1], &[2, 3, 4], &[5, 6], &[0, 3, 6], &[0, 1, 2, 3, 4, 5, 6]] {
            let (mut from, mut peer) = (open_batch(config().bc(bc)), open_batch(config()));
            let dst = peer.ha();
            for (data, to, errno) in [(&long[..], dst, EMSGSIZE), (b"bad", port_0, EINVAL), (b"bad", broadcast, EACCES)]
            {
                let names: Vec<[u8; 1]> = (0..7).map(|i| [i]).collect();
                let is_bad = |i: &usize| places.contains(i);
                let grams: Vec<(&[u8], SocketAddr)> =
                    (0..7).map(|i| if is_bad(&i) { (data, to) } else { (&names[i][..], dst) }).collect();
                let before = from.stats();
                let failures = send_all(&mut from, &grams);
                let expected: Vec<_> = places.iter().map(|place| (*place, errno)).collect();
                assert_eq!(failures, expected, "bc {bc}, {places:?}");

                let good: Vec<_> = (0..7).filter(|i| !is_bad(i)).map(|i| names[i].to_vec()).collect();
                assert_eq!(next_data(&mut peer, good.len()), good, "in order, each once");
                assert_nothing_left(&mut peer);
                let stats = from.stats();
                assert_eq!(stats.grams_sent - before.grams_sent, good.len() as u64);
                assert_eq!(stats.grams_send_failed - before.grams_send_failed, places.len() as u64);
                assert_eq!(stats.grams_send_failed_by_errno.of(errno), places.len() as u64);
            }
        }
    }
}

#[test]
fn t06_different_errors_one_behind_the_other() {
    let long = vec![0; 65_508];
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    let port_0 = SocketAddr::from(([127, 0, 0, 1], 0));
    let broadcast = SocketAddr::from(([127, 255, 255, 255], 9));
    let grams = [(&b"a"[..], dst), (&long, dst), (b"", port_0), (b"", broadcast), (b"b", dst), (&long, dst)];
    let failures = send_all(&mut from, &grams);
    assert_eq!(failures, [(1, EMSGSIZE), (2, EINVAL), (3, EACCES), (5, EMSGSIZE)]);
    assert_eq!(next_data(&mut peer, 2), [b"a", b"b"]);
    let counts: Vec<_> = from.stats().grams_send_failed_by_errno.iter().collect();
    assert_eq!(counts, [(EMSGSIZE, 2), (EINVAL, 1), (EACCES, 1)]);
}

#[test]
fn t07_a_refused_connection_is_reported() {
    for segment in [false, true] {
        a_refused_connection_is_reported(segment);
    }
}

fn a_refused_connection_is_reported(segment: bool) {
    let mut peer = open_batch(config().segment(segment));
    let (dead, _keeper) = dead_address("127.7.1.1");
    SockRef::from(&peer).connect(&dead.into()).unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        let report = peer.send_batch([(&b"x"[..], dead); 4]);
        let (sent, _, pending, failure, stopped) = parts(&report);
        assert_eq!(sent + pending + usize::from(failure.is_some()), 4);
        if let Some((index, errno)) = failure {
            assert_eq!((index, errno, stopped), (sent, ECONNREFUSED, Stopped::Failed));
            refused += 1;
        }
        settle();
    }
    // Four that leave as one message meet one refusal, and it is the next batch that can say so.
    let least = if peer.segments() { 9 } else { 19 };
    assert!(refused >= least, "{refused} of 20 batches said so");
    let stats = peer.stats();
    assert_eq!((stats.grams_send_failed, stats.grams_send_failed_by_errno.of(ECONNREFUSED)), (refused, refused));
    assert!(stats.send_calls <= 20 * 4, "bounded: {}", stats.send_calls);

    // The one-by-one call meets it too, and a receive call takes it off the socket.
    let results: Vec<_> = (0..4)
        .map(|_| {
            settle();
            peer.send(b"x", dead).map_err(|error| error.raw_os_error())
        })
        .collect();
    assert!(results.contains(&Err(Some(ECONNREFUSED))), "{results:?}");
    until("a receive call to tell", || {
        let _ = peer.send(b"x", dead);
        settle();
        peer.receive().is_err_and(|error| error.raw_os_error() == Some(ECONNREFUSED))
    });
}

#[test]
fn t08_a_refusal_is_never_asked_for() {
    let (plain, batch): (Peer, BatchPeer) = (open(), open());
    for result in [get(&plain, libc::SOL_IP, libc::IP_RECVERR), get(&batch, libc::SOL_IP, libc::IP_RECVERR)] {
        assert_eq!(result.unwrap(), 0);
    }
    if has_ipv6() {
        let six = open_batch(config().ha(("::1", 0)));
        assert_eq!(get(&six, libc::SOL_IPV6, libc::IPV6_RECVERR).unwrap(), 0);
    }
}

#[test]
fn t08_where_somebody_asks_for_it_innocent_grams_are_still_accounted_for() {
    let (mut from, mut live): (BatchPeer, BatchPeer) = (open(), open());
    set(&from, libc::SOL_IP, libc::IP_RECVERR, 1);
    let ((dead, _keeper), alive) = (dead_address("127.8.1.1"), live.ha());
    let names: Vec<[u8; 1]> = (0..40).map(|i| [i]).collect();
    let grams: Vec<_> =
        names.iter().enumerate().map(|(i, name)| (&name[..], if i % 2 == 0 { dead } else { alive })).collect();
    // The error of one gram hits a later one; a caller who sends that one again loses nothing.
    let (mut done, mut failures) = (0, 0);
    while done < grams.len() {
        let report = from.send_batch(grams[done..].iter().copied());
        let (sent, _, pending, failure, _) = parts(&report);
        assert_eq!(sent + pending + usize::from(failure.is_some()), grams.len() - done);
        if let Some((index, errno)) = failure {
            assert_eq!((index, errno), (sent, ECONNREFUSED));
            failures += 1;
        }
        assert!(failures <= grams.len(), "bounded");
        done += sent;
    }
    let expected: Vec<_> = names.iter().skip(1).step_by(2).map(|name| name.to_vec()).collect();
    assert_eq!(next_data(&mut live, 20), expected);
    assert_nothing_left(&mut live);
    let stats = from.stats();
    assert_eq!((stats.grams_sent, stats.grams_send_failed), (40, failures as u64));
}

#[test]
fn t08_h199_a_pending_error_and_the_data_behind_it_both_come() {
    for _ in 0..3 {
        let (mut peer, mut from): (BatchPeer, BatchPeer) = (open(), open());
        set(&peer, libc::SOL_IP, libc::IP_RECVERR, 1);
        let (dead, _keeper) = dead_address("127.8.1.2");
        peer.send(b"nobody", dead).unwrap();
        from.send(b"data", peer.ha()).unwrap();
        settle();
        assert_eq!(peer.receive().unwrap_err().raw_os_error(), Some(ECONNREFUSED));
        assert_eq!(peer.receive().unwrap(), (&b"data"[..], Some(from.ha())));
        assert_eq!(peer.receive().unwrap(), (&b""[..], None), "once");
    }
}

#[test]
fn t09_a_thousand_and_more_slots_both_ways() {
    for bc in [1023, 1024, 1025, 2000] {
        let mut peer = open_batch(config().bc(bc).gram_size(8).recv_buf_bytes(4 << 20));
        let me = peer.ha();
        let names: Vec<[u8; 4]> = (0..bc as u32).map(u32::to_be_bytes).collect();
        let report = peer.send_batch(names.iter().map(|name| (&name[..], me)));
        assert_eq!(parts(&report), (bc, 4 * bc, 0, None, Stopped::Done));
        settle();
        let stats = peer.stats();
        let batches = takes_batches(&peer);
        assert_eq!(stats.send_calls, if batches { bc.div_ceil(1024) } else { bc } as u64);
        // Where the system allows only a small buffer, it keeps the oldest.
        let kept = bc - stats.kernel_dropped as usize;
        let grams: Vec<_> = peer.fill().unwrap().map(|gram| gram.data).collect();
        assert_eq!(grams, names[..kept], "bc {bc}");
        assert_recv_calls(&peer.stats(), kept, bc);
        assert_nothing_left(&mut peer);
    }
}

#[test]
fn t10_coalescing_needs_whole_slots() {
    let mut peer = open_batch(config().bc(4).coalesce(true));
    assert_eq!(peer.gram_size(), 65_535);
    assert!(!peer.coalesces() || takes_batches(&peer), "the portable backend could not take them apart");
    let mut small = RecvRing::new(4, 1240).unwrap();
    if peer.coalesces() {
        let error = peer.fill_into(&mut small).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("65535") && error.to_string().contains("1240"), "{error}");
    } else {
        assert_eq!(peer.fill_into(&mut small).unwrap(), 0);
    }
    // The measured case: 50 × 1200 bytes in one buffer.
    let data = pattern(50 * 1200);
    if !send_segmented(&data, 1200, peer.ha()) {
        return;
    }
    if peer.coalesces() {
        assert!(peer.fill_into(&mut small).is_err(), "refused before a byte is taken");
    }
    let pieces = next_data(&mut peer, 50);
    assert_eq!(pieces, data.chunks(1200).collect::<Vec<_>>());
    assert_nothing_left(&mut peer);
    let stats = peer.stats();
    assert_eq!((stats.grams_received, stats.bytes_received, stats.grams_truncated), (50, 60_000, 0));
}

#[test]
fn t11_cut_control_data_is_counted_and_never_glues_datagrams_together() {
    for coalesce in [false, true] {
        let mut peer =
            open_batch(config().bc(8).coalesce(coalesce).rx_time(true).dst_addr(true).ecn(true).gram_size(2000));
        if !takes_batches(&peer) || HAS_SMALL_MESSAGES {
            continue;
        }
        // More control messages than this crate asks for, and has room for.
        set(&peer, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, SOFTWARE_RX_TIME);
        for name in [libc::IP_RECVTTL, libc::IP_RECVORIGDSTADDR] {
            set(&peer, libc::SOL_IP, name, 1);
        }
        let data = pattern(1050);
        if !send_segmented(&data, 100, peer.ha()) {
            return;
        }
        let mut got: Vec<Vec<u8>> = Vec::new();
        loop {
            let grams = peer.fill().unwrap();
            if grams.is_empty() {
                break;
            }
            got.extend(grams.map(|gram| gram.data.to_vec()));
        }
        let stats = peer.stats();
        if peer.coalesces() {
            // The buffer's segment size may be what was cut: it is refused and counted.
            assert!(got.is_empty(), "{got:?}");
            assert_eq!((stats.grams_undecodable, stats.grams_control_truncated, stats.grams_received), (1, 1, 0));
        } else {
            assert_eq!(got, data.chunks(100).collect::<Vec<_>>());
            assert_eq!((stats.grams_undecodable, stats.grams_control_truncated, stats.grams_received), (0, 11, 11));
        }
    }
}

#[test]
fn t10_a_plain_peer_never_coalesces() {
    let mut peer = Peer::new(config().coalesce(true)).unwrap();
    let data = pattern(300);
    if !send_segmented(&data, 100, peer.ha()) {
        return;
    }
    for expected in data.chunks(100) {
        assert_eq!(peer.receive().unwrap().0, expected, "one datagram at a time, not all glued together");
    }
}

#[test]
fn t11_a_batch_of_refused_buffers_only_is_not_the_end_of_the_queue() {
    let mut peer = open_batch(config().bc(1).coalesce(true).rx_time(true).dst_addr(true).ecn(true));
    if !peer.coalesces() || HAS_SMALL_MESSAGES {
        return;
    }
    // As much as fits beside a plain datagram, so that the segment size is what is too much.
    set(&peer, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, SOFTWARE_RX_TIME);
    set(&peer, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1);
    let me = peer.ha();
    for round in 1..=3 {
        if !send_segmented(&pattern(1050), 100, me) {
            return;
        }
        peer.send(b"good", me).unwrap();
        settle();
        if round % 2 == 0 {
            assert_eq!(peer.fill().unwrap().map(|gram| gram.data).collect::<Vec<_>>(), [b"good"]);
        } else {
            assert_eq!(peer.receive().unwrap(), (&b"good"[..], Some(me)), "nothing there means nothing there");
        }
        let stats = peer.stats();
        assert_eq!((stats.grams_undecodable, stats.grams_received, stats.empty_wakeups), (round, round, 0));
    }
    assert_nothing_left(&mut peer);
}

#[test]
fn t12_coalesced_datagrams_come_out_split() {
    for coalesce in [false, true] {
        let mut peer = open_batch(config().bc(16).coalesce(coalesce));
        for (len, segment) in [(1050, 100), (1000, 100), (99, 100), (100, 100), (101, 100), (1, 1), (64, 1), (0, 100)] {
            let data = pattern(len);
            if !send_segmented(&data, segment, peer.ha()) {
                return;
            }
            let segment = segment as usize;
            let expected: Vec<&[u8]> = if len == 0 { vec![&[]] } else { data.chunks(segment).collect() };
            let grams: Vec<_> = if expected.len() > 16 {
                drain(&mut peer).into_iter().map(|(data, _)| data).collect()
            } else {
                let grams = peer.fill().unwrap();
                assert_eq!(grams.len(), expected.len(), "the length is exact, {len} by {segment}");
                assert!(grams.clone().all(|gram| !gram.truncated && gram.original_len == gram.data.len()));
                let mut inside_for_each = Vec::new();
                grams.clone().for_each(|gram| inside_for_each.push(gram.data));
                assert_eq!(inside_for_each, expected, "{len} by {segment}");
                let mut rest = grams.clone();
                for left in (0..expected.len()).rev() {
                    assert!(rest.next().is_some());
                    assert_eq!((rest.len(), rest.clone().count()), (left, left), "{len} by {segment}");
                }
                assert!(rest.next().is_none() && rest.is_empty());
                grams.map(|gram| gram.data.to_vec()).collect()
            };
            assert_eq!(grams, expected, "{len} by {segment}, coalesce {coalesce}");
        }
        if peer.coalesces() {
            let stats = peer.stats();
            assert!(stats.recv_calls < 40 && stats.grams_received == 11 + 10 + 1 + 1 + 2 + 1 + 64 + 1, "{stats:?}");
        }
    }
}

#[test]
fn t12_receive_and_fill_share_a_coalesced_slot() {
    let mut peer = open_batch(config().bc(4).coalesce(true));
    let data = pattern(1050);
    if !send_segmented(&data, 100, peer.ha()) {
        return;
    }
    let chunks: Vec<_> = data.chunks(100).collect();
    assert_eq!(next_data(&mut peer, 3), chunks[..3]);
    if peer.coalesces() {
        let mut rest = Vec::new();
        peer.fill().unwrap().for_each(|gram| rest.push(gram.data));
        assert_eq!(rest, chunks[3..], "a slot may be handed out in two goes");
        peer.send(b"more", peer.ha()).unwrap();
        send_segmented(&data, 100, peer.ha());
        next(&mut peer);
        next(&mut peer);
        assert!(peer.close());
        let stats = peer.stats();
        assert_eq!(
            (stats.grams_received, stats.grams_recv_discarded),
            (11 + 1 + 11, 10),
            "pieces are counted, not slots"
        );
    }
}

#[test]
fn t14_no_socket_is_left_segmenting() {
    let mut peer: BatchPeer = open();
    let me = peer.ha();
    let _ = peer.send_batch([(&[0; 1000][..], me); 8]);
    if let Ok(segment) = get(&peer, libc::SOL_UDP, libc::UDP_SEGMENT) {
        assert_eq!(segment, 0);
    }
    assert!(next_data(&mut peer, 8).iter().all(|data| data.len() == 1000));
}

#[test]
fn t15_there_is_room_for_every_control_message_at_once() {
    for (host, to) in
        [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")]
    {
        if host.contains(':') && !has_ipv6() {
            continue;
        }
        let all = config().ha((host, 0)).rx_time(true).dst_addr(true).ecn(true).coalesce(true).bc(4);
        let mut peer = open_batch(all);
        let to: IpAddr = to.parse().unwrap();
        let from = UdpSocket::bind((to, 0)).unwrap();
        if to.is_ipv4() {
            SockRef::from(&from).set_tos_v4(2).unwrap();
        } else {
            set(&from, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 2);
        }
        let before = SystemTime::now() - Duration::from_secs(5);
        let mut expected_drops = None;
        for round in 0..2 {
            from.send_to(b"marked", (to, peer.port())).unwrap();
            settle();
            let mut grams = peer.fill_wait(Duration::from_secs(1)).unwrap();
            let Some(gram) = grams.next() else {
                assert!(host == "::" && to.is_ipv4(), "only a v6-only system may lose it");
                break;
            };
            assert_eq!(gram.data, b"marked");
            let (meta, src) = (gram.meta(), gram.src);
            assert_eq!(src.ip().to_canonical(), to);
            if !takes_batches(&peer) {
                assert_eq!(meta, hio_udp::Meta::default());
                continue;
            }
            assert_eq!(meta.ecn, Some(2), "{host} from {to}");
            assert_eq!(meta.dst.map(|dst| dst.to_canonical()), Some(to), "{host}");
            assert!(meta.ifindex.is_some_and(|index| index > 0));
            let time = SystemTime::UNIX_EPOCH + meta.rx_time.unwrap();
            assert!(time > before && time < SystemTime::now() + Duration::from_secs(5), "{time:?}");
            assert_eq!(meta.kernel_drops, expected_drops);
            assert_eq!(peer.stats().grams_control_truncated, 0);
            if round == 0 {
                // Let the socket drop, so that its counter takes up room too.
                SockRef::from(&peer).set_recv_buffer_size(1).unwrap();
                (0..100).for_each(|_| _ = from.send_to(&[0; 1000], (to, peer.port())).unwrap());
                let kept = drain(&mut peer).len() as u32;
                assert!(kept < 100);
                expected_drops = Some(100 - kept);
            }
        }
        assert_eq!(peer.stats().grams_control_truncated, 0);
    }
}

#[test]
fn t16_a_longer_datagram_is_cut_and_tells_its_length() {
    for bc in [1, 2, 5] {
        let mut peer = open_batch(config().bc(bc).gram_size(10));
        let me = peer.ha();
        for (len, stored) in [(9, 9), (10, 10), (11, 10), (16, 10), (1241, 10), (65_507, 10), (0, 0)] {
            // A neighbour on each side must come out whole.
            for data in [&b"before"[..], &pattern(len), b"after"] {
                peer.send(data, me).unwrap();
            }
            settle();
            let mut grams = Vec::new();
            while grams.len() < 3 {
                grams.extend(
                    peer.fill_wait(PATIENCE).unwrap().map(|g| (g.data.to_vec(), g.src, g.truncated, g.original_len)),
                );
            }
            let expected = [
                (b"before".to_vec(), me, false, 6),
                (pattern(stored), me, len > 10, len),
                (b"after".to_vec(), me, false, 5),
            ];
            assert_eq!(grams, expected, "bc {bc}, {len} bytes");
        }
        let stats = peer.stats();
        assert_eq!((stats.grams_received, stats.grams_truncated), (21, 4));
        assert_eq!(stats.bytes_received, 7 * 11 + 9 + 5 * 10);
    }
    // A Peer cuts at bs and does not say so, but counts.
    let mut peer = Peer::new(config().bs(10)).unwrap();
    peer.send(&pattern(16), peer.ha()).unwrap();
    peer.send(b"next", peer.ha()).unwrap();
    assert_eq!(next_data(&mut peer, 2), [pattern(10), b"next".to_vec()]);
    let stats = peer.stats();
    assert_eq!((stats.grams_received, stats.grams_truncated, stats.bytes_received), (2, 1, 14));
}

#[test]
fn t17_flags_of_an_earlier_call_do_not_stay() {
    let mut peer = open_batch(config().bc(3).gram_size(4));
    let me = peer.ha();
    for _ in 0..3 {
        let _ = peer.send_batch([(&b"longer"[..], me); 3]);
        settle();
        assert!(peer.fill().unwrap().all(|gram| gram.truncated && gram.original_len == 6));
        assert!(peer.fill().unwrap().is_empty(), "a call that brings nothing reads no old slot");
        let _ = peer.send_batch([(&b"abc"[..], me), (b"", me)]);
        settle();
        let grams: Vec<_> = peer.fill().unwrap().map(|g| (g.data, g.truncated, g.original_len)).collect();
        assert_eq!(grams, [(&b"abc"[..], false, 3), (b"", false, 0)]);
    }
    assert_eq!(peer.stats().grams_truncated, 9);
}

fn empty_datagrams<T: Transport>() {
    let (mut from, mut peer): (T, T) = (open(), open());
    for data in [&b""[..], b"x", b"", b""] {
        assert_eq!(from.send(data, peer.ha()).unwrap(), data.len());
    }
    settle();
    let src = Some(from.ha());
    for expected in [(&b""[..], src), (b"x", src), (b"", src), (b"", src), (b"", None)] {
        assert_eq!(peer.receive().unwrap(), expected);
    }
    assert_eq!((peer.stats().grams_received, peer.stats().bytes_received), (4, 1));
}

#[test]
fn t18_empty_datagrams_are_kept() {
    empty_datagrams::<Peer>();
    empty_datagrams::<BatchPeer>();
    let mut peer: BatchPeer = open();
    let me = peer.ha();
    let _ = peer.send_batch([(&b""[..], me); 5]);
    settle();
    assert_eq!(peer.fill().unwrap().filter(|gram| gram.data.is_empty() && gram.src == me).count(), 5);
}

fn drops_are_seen<T: Transport + AsFd>() {
    let (mut from, mut peer): (T, T) = (open(), open());
    SockRef::from(&peer).set_recv_buffer_size(1).unwrap(); // the least the system has
    let (mut sent, mut received) = (0, 0);
    for round in 0..10 {
        for size in [0, 1000, 3, 1400, 200] {
            let burst = 40 + 13 * round;
            for _ in 0..burst {
                assert_eq!(from.send(&vec![7; size], peer.ha()).unwrap(), size);
            }
            sent += burst;
            settle();
            // At once, with no later datagram to carry the counter.
            let before_reading = peer.stats().kernel_dropped;
            received += drain(&mut peer).len() as u64;
            let stats = peer.stats();
            assert_eq!(stats.kernel_dropped, before_reading, "reading drops nothing");
            assert_eq!(sent, received + stats.kernel_dropped, "round {round}");
            assert_eq!(stats.grams_received, received);
        }
    }
    assert!(received > 0 && peer.stats().kernel_dropped > sent / 4, "{:?}", peer.stats());
    // Datagrams that carry older readings, and a last one that carries the newest.
    for _ in 0..3 {
        for data in [&[0; 1400][..]; 100] {
            from.send(data, peer.ha()).unwrap();
        }
        sent += 100;
        received += 1;
        next(&mut peer);
        from.send(b"x", peer.ha()).unwrap();
        sent += 1;
        received += drain(&mut peer).len() as u64;
        assert_eq!(sent, received + peer.stats().kernel_dropped);
    }
    let dropped = peer.stats().kernel_dropped;
    // A new socket starts from nothing; the peer's count goes on.
    peer.reopen().unwrap();
    assert_eq!(peer.stats().kernel_dropped, dropped);
    peer.close();
    assert_eq!(peer.stats().kernel_dropped, dropped);
}

#[test]
fn t19_every_drop_is_seen_at_once_and_counted_once() {
    drops_are_seen::<Peer>();
    drops_are_seen::<BatchPeer>();
}

#[test]
fn t19_drops_are_still_counted_when_the_peer_closes_unasked() {
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    for _ in 0..3 {
        SockRef::from(&peer).set_recv_buffer_size(1).unwrap();
        let before = peer.stats();
        let _ = from.send_batch([(&[0; 1000][..], peer.ha()); 100]);
        settle();
        peer.reopen().unwrap();
        let dropped = peer.stats().kernel_dropped - before.kernel_dropped;
        assert!(dropped > 50 && dropped < 100, "{dropped}");
    }
}

#[test]
fn t20_a_buffer_is_judged_by_what_it_holds_not_by_what_it_reports() {
    for asked in [1, 1 << 20, 1 << 29] {
        let peer = open_batch(config().recv_buf_bytes(asked).send_buf_bytes(asked));
        let (send, receive) = peer.actual_buf_sizes();
        for (direction, actual) in [(Direction::Receive, receive), (Direction::Send, send)] {
            let report = peer.buf_report(direction).unwrap();
            assert_eq!(report.actual_bytes, actual);
            if report.asked_bytes == 0 {
                assert!(actual >= asked && !report.clamped, "{report:?}: the default was enough");
                continue;
            }
            assert_eq!(report.clamped, actual / 2 < asked, "{report:?}: Linux reports twice what it was given");
            assert_eq!(report.to_string().contains("sysctl -w net.core."), report.clamped, "{report}");
        }
    }
    let mut peer: BatchPeer = open();
    peer.close();
    assert_eq!((peer.buf_report(Direction::Send), peer.actual_buf_sizes()), (None, (0, 0)));
}

#[test]
fn t21_the_buffer_holds_about_what_the_helper_says() {
    for len in [0, 1, 100, 200, 512, 1240, 1472, 2048, 9000, 65_507] {
        let mut from: Peer = open();
        let mut peer: Peer = open();
        let holds = datagrams_held(peer.actual_buf_sizes().1, len);
        let data = pattern(len);
        for _ in 0..holds * 3 + 10 {
            assert_eq!(from.send(&data, peer.ha()).unwrap(), len);
        }
        let held = drain(&mut peer).len();
        assert!(held * 2 >= holds && held <= holds * 2 + 2, "{len} bytes: {held} held, {holds} said");
        assert_eq!(peer.stats().kernel_dropped as usize, holds * 3 + 10 - held);
    }
}

#[test]
fn t23_a_destination_of_another_family_costs_only_its_own_gram() {
    if !has_ipv6() {
        return;
    }
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let mut six = open_batch(config().ha(("::1", 0)));
    let (v4, v6) = (peer.ha(), six.ha());
    let grams = [(&b"no"[..], v6), (b"1", v4), (b"no", v6), (b"no", v6), (b"2", v4), (b"no", v6)];
    assert_eq!(send_all(&mut from, &grams), [0, 2, 3, 5].map(|place| (place, EAFNOSUPPORT)));
    assert_eq!(next_data(&mut peer, 2), [b"1", b"2"]);
    assert_nothing_left(&mut six);
    assert_eq!(from.send(b"no", v6).unwrap_err().raw_os_error(), Some(EAFNOSUPPORT));
    assert_eq!(from.stats().grams_send_failed_by_errno.of(EAFNOSUPPORT), 5);

    // The other way round the kernel takes an IPv4 address, on a socket for both.
    let mut both = open_batch(config().ha(("::", 0)));
    if !SockRef::from(&both).only_v6().unwrap() {
        assert_eq!(parts(&both.send_batch([(&b"4"[..], v4), (b"6", v6)])), (2, 2, 0, None, Stopped::Done));
        assert_eq!((next(&mut peer).0, next(&mut six).0), (b"4".to_vec(), b"6".to_vec()));
    }
}

/// MSG_DONTWAIT goes with each call; the portable backend has the descriptor's mode only.
#[cfg(not(force_single))]
mod mmsg {
    use super::*;

    #[test]
    fn t24_even_a_blocking_descriptor_does_not_block_a_batch() {
        let (tell, told) = std::sync::mpsc::channel();
        // On a thread of its own, so that a call that blocks fails the test instead of hanging it.
        std::thread::spawn(move || {
            let mut peer = open_batch(config().bc(8));
            let me = peer.ha();
            SockRef::from(&peer).set_nonblocking(false).unwrap();
            let nothing = peer.fill().unwrap().len();
            let _ = peer.send_batch([(&b"x"[..], me); 3]);
            settle();
            let three = peer.fill().unwrap().len();
            tell.send((nothing, three, peer.fill_wait(Duration::from_millis(1)).unwrap().len())).unwrap();
        });
        assert_eq!(told.recv_timeout(PATIENCE), Ok((0, 3, 0)), "it waits for no fourth");
    }
}
