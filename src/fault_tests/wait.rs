//! Errors of waiting.

#[cfg(target_os = "linux")]
use super::receive::interrupted_receive;
use super::*;

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

#[test]
#[cfg(target_os = "linux")]
fn every_errno_of_a_wait_is_given_as_often_as_it_came_and_costs_no_datagram() {
    for &errno in super::table::WAIT.iter().filter(|errno| **errno != EINTR) {
        for times in [1, 2, 64, 65] {
            let faults = Faults::new();
            let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
            from.send(b"one", peer.ha()).unwrap();
            faults.errno(Call::Wait, 2 * times, errno);
            for _ in 0..times {
                assert_eq!(peer.fill_wait(PATIENCE).unwrap_err().raw_os_error(), Some(errno));
                assert_eq!(peer.wait_writable(PATIENCE).unwrap_err().raw_os_error(), Some(errno));
            }
            assert_eq!(peer.fill_wait(PATIENCE).unwrap().map(|gram| gram.data).collect::<Vec<_>>(), [b"one"]);
            assert!(peer.wait_writable(PATIENCE).unwrap());
            let stats = peer.stats();
            assert_eq!(stats.wait_calls, fault::made(Call::Wait), "{errno}");
            assert_eq!((stats.grams_received, stats.recv_failed), (1, 0), "{errno}: it was no receive");
        }
    }
}
