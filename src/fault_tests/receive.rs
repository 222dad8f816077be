//! Errors of receiving calls.

use super::*;

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
        recv_failed: raised.len() as u64,
        grams_received: 1,
        bytes_received: 4,
        ..Stats::default()
    };
    assert_stats(&peer, expected, &[]);
    assert_stats(&from, Stats { send_calls: 1, grams_sent: 1, bytes_sent: 4, ..Stats::default() }, &[]);
}

#[test]
fn h096_receive_errnos() {
    receive_errnos::<Peer>();
    receive_errnos::<BatchPeer>();
}

#[test]
fn h096_a_million_failures_are_twenty_lines_of_log() {
    let faults = Faults::new();
    let mut peer: BatchPeer = open();
    faults.errno(Call::Recv, 1_000_000, EIO);
    let logged = logged_by(|| (0..1_000_000).for_each(|_| assert!(peer.fill().is_err())));
    assert_eq!(logged.len(), 20, "1, 2, 4 … 524,288: {logged:?}");
    assert!(logged[19].ends_with("(number 524288 of its kind)"), "{logged:?}");
    let expected =
        Stats { recv_calls: 1_000_000, empty_wakeups: 1_000_000, recv_failed: 1_000_000, ..Stats::default() };
    assert_stats(&peer, expected, &[]);
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

pub(super) fn interrupted_receive<T: Transport>(errno: i32) {
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
        received.recv_failed += 1;
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
