//! Errors of sending calls.

use super::*;

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
