//! What `BatchPeer` does beyond hio's Peer: batches, queues, rings that change hands.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hio_udp::{
    BatchPeer, BatchReceiver, BatchSender, Full, Grams, Peer, PeerConfig, RecvRing, RingPool, Stopped, Transport,
};
use support::{
    PATIENCE, assert_nothing_left, assert_recv_calls, config, dead_address, next, next_data, open, open_batch, parts,
    plain, settle, takes_batches, until,
};

fn data_of(grams: Grams<'_>) -> Vec<Vec<u8>> {
    grams.map(|gram| gram.data.to_vec()).collect()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<[u8; 4]> {
    range.map(u32::to_be_bytes).collect()
}

fn send_numbered(from: &mut BatchPeer, dst: SocketAddr, range: std::ops::Range<u32>) {
    let grams = numbered(range);
    assert_eq!(from.send_batch(grams.iter().map(|gram| (&gram[..], dst))).sent, grams.len());
    settle();
}

#[test]
fn h192_nothing_queued_is_an_empty_batch() {
    let mut peer: BatchPeer = open();
    for _ in 0..3 {
        assert!(peer.fill().unwrap().is_empty());
        assert_eq!(peer.receive().unwrap(), (&b""[..], None));
        assert_eq!(peer.fill_into(&mut RecvRing::new(4, 16).unwrap()).unwrap(), 0);
    }
    let stats = peer.stats();
    assert_eq!((stats.recv_calls, stats.empty_wakeups, stats.grams_received, stats.wait_calls), (9, 9, 0, 0));

    // Fewer than asked for: the number there is; then nothing.
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..3);
    let grams = peer.fill().unwrap();
    assert_eq!((grams.len(), grams.size_hint()), (3, (3, Some(3))));
    assert!(peer.fill().unwrap().is_empty());
}

#[test]
fn h193_an_empty_datagram_takes_a_slot() {
    let (mut from, mut peer): (BatchPeer, _) = (open(), open_batch(config().bc(4)));
    let dst = peer.ha();
    let report = from.send_batch([(&b""[..], dst), (b"x", dst), (b"", dst), (b"", dst), (b"", dst)]);
    assert_eq!(parts(&report), (5, 1, 0, None, Stopped::Done), "grams are counted, not bytes");
    settle();
    let grams: Vec<_> = peer.fill().unwrap().map(|gram| (gram.data, gram.src, gram.original_len)).collect();
    let src = from.ha();
    assert_eq!(grams, [(&b""[..], src, 0), (b"x", src, 1), (b"", src, 0), (b"", src, 0)]);
    assert_eq!(data_of(peer.fill().unwrap()), [b""]);
    assert_eq!((peer.stats().grams_received, peer.stats().bytes_received), (5, 1));
    assert_eq!((from.stats().grams_sent, from.stats().bytes_sent), (5, 1));
}

#[test]
fn h194_a_cut_gram_tells_its_true_length() {
    let (mut from, mut peer): (BatchPeer, _) = (open(), open_batch(config().bc(8).gram_size(4)));
    for data in [&b"123"[..], b"1234", b"12345", b"", &[b'z'; 9000], b"1"] {
        assert_eq!(from.send(data, peer.ha()).unwrap(), data.len());
    }
    settle();
    let grams: Vec<_> = peer.fill().unwrap().map(|gram| (gram.data, gram.truncated, gram.original_len)).collect();
    let expected = [
        (&b"123"[..], false, 3),
        (b"1234", false, 4),
        (b"1234", true, 5),
        (b"", false, 0),
        (b"zzzz", true, 9000),
        (b"1", false, 1),
    ];
    assert_eq!(grams, expected);
    let stats = peer.stats();
    assert_eq!((stats.grams_received, stats.bytes_received, stats.grams_truncated), (6, 16, 2));
}

#[test]
fn h195_a_failing_gram_in_the_middle_is_named() {
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    let port_0 = SocketAddr::from(([127, 0, 0, 1], 0));
    let report = from.send_batch([(&b"a"[..], dst), (b"b", dst), (b"bad", port_0), (b"c", dst), (b"d", dst)]);
    // EINVAL on Linux; other systems have other words for it.
    let errno = plain().send_to(b"x", port_0).unwrap_err().raw_os_error().unwrap();
    assert_eq!(parts(&report), (2, 2, 2, Some((2, errno)), Stopped::Failed));
    assert_eq!(next_data(&mut peer, 2), [b"a", b"b"]);
    assert_nothing_left(&mut peer);

    // The same from the queue: the failed one leaves it, those behind stay and go next.
    for (data, dst) in [(&b"a"[..], dst), (b"bad", port_0), (b"b", dst)] {
        from.queue(data, dst).unwrap();
    }
    assert_eq!(parts(&from.flush()), (1, 1, 1, Some((1, errno)), Stopped::Failed));
    assert_eq!(from.queued(), 1);
    assert_eq!(parts(&from.flush()), (1, 1, 0, None, Stopped::Done));
    assert_eq!(next_data(&mut peer, 2), [b"a", b"b"]);
    let stats = from.stats();
    assert_eq!((stats.grams_sent, stats.grams_send_failed, stats.grams_send_failed_by_errno.of(errno)), (4, 2, 2));
}

#[test]
fn a_coalescing_peer_receives_into_few_slots_and_sends_from_as_many_as_others() {
    let mut peer = open_batch(config().coalesce(true));
    assert_eq!(peer.bc(), Some(hio_udp::DEFAULT_COALESCING_BC));
    let dst = peer.ha();
    for _ in 0..hio_udp::DEFAULT_BC {
        peer.queue(b"room", dst).unwrap();
    }
    assert_eq!(peer.queue(b"no room", dst), Err(Full::Ring));
    assert_eq!(open_batch(config().coalesce(true).bc(3)).bc(), Some(3));
}

#[test]
fn h197_more_than_1024_grams_take_several_calls() {
    let mut peer = open_batch(config().bc(4000).gram_size(16).recv_buf_bytes(4 << 20));
    let me = peer.ha();
    let grams = numbered(0..3000);
    let report = peer.send_batch(grams.iter().map(|gram| (&gram[..], me)));
    assert_eq!(parts(&report), (3000, 12_000, 0, None, Stopped::Done));
    let batches = takes_batches(&peer);
    assert_eq!(peer.stats().send_calls, if batches { 3 } else { 3000 }, "1024, 1024, 952");

    settle();
    // A small buffer, where the system allows no larger, keeps the oldest.
    let kept = (3000 - peer.stats().kernel_dropped) as usize;
    assert_eq!(peer.stats().recv_calls, 0);
    assert_eq!(data_of(peer.fill().unwrap()), grams[..kept], "one fill takes them all");
    assert_recv_calls(&peer.stats(), kept, 4000);

    for gram in &grams {
        peer.queue(gram, me).unwrap();
    }
    assert_eq!(parts(&peer.flush()), (3000, 12_000, 0, None, Stopped::Done));
    assert_eq!(peer.stats().send_calls, if batches { 6 } else { 6000 });
}

#[test]
fn h198_several_destinations_in_one_batch() {
    let mut from: BatchPeer = open();
    let mut peers: [BatchPeer; 3] = [open(), open(), open()];
    let has = peers.each_ref().map(Transport::ha);
    let grams = numbered(0..60);
    let report = from.send_batch(grams.iter().enumerate().map(|(i, gram)| (&gram[..], has[i % 3])));
    assert_eq!(report.sent, 60);
    for (i, peer) in peers.iter_mut().enumerate() {
        let expected: Vec<_> = grams.iter().skip(i).step_by(3).collect();
        assert_eq!(next_data(peer, 20), expected, "in order at each");
        assert_nothing_left(peer);
    }
}

#[test]
fn h200_slot_size_zero_is_refused() {
    for (config, part) in [
        (config().gram_size(0), "gram size 0"),
        (config().gram_size(65_536), "gram size 65536"),
        (config().bc(0), "bc is 0"),
        (config().bc(usize::MAX), "at most"),
        (config().bc(1 << 20).gram_size(65_535), "at most"),
    ] {
        let error = BatchPeer::new(config).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(RecvRing::new(1, 0).is_err() && RecvRing::new(0, 1).is_err());
    assert!(RingPool::new(0, 1, 1).is_err() && RingPool::new(1, 0, 1).is_err());
    // The smallest there is works.
    let mut peer = open_batch(config().bc(1).gram_size(1));
    let me = peer.ha();
    peer.send(b"xyz", me).unwrap();
    assert_eq!(next(&mut peer), (b"x".to_vec(), me));
}

#[test]
fn h201_a_closed_port_takes_everything() {
    let mut from: BatchPeer = open();
    let (dead, _keeper) = dead_address("127.20.1.1");
    for round in 1..=3_u64 {
        assert_eq!(parts(&from.send_batch([(&b"a"[..], dead); 3])), (3, 3, 0, None, Stopped::Done));
        assert_eq!(from.send(b"a", dead).unwrap(), 1);
        assert_nothing_left(&mut from);
        assert_eq!((from.stats().grams_sent, from.stats().grams_send_failed), (4 * round, 0));
    }
}

#[test]
fn a_fill_gives_first_what_receive_left_unread() {
    let mut peer = open_batch(config().bc(4));
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..6);
    let grams = numbered(0..6);
    assert_eq!(peer.receive().unwrap().0, grams[0]);
    let calls = peer.stats().recv_calls;
    assert_eq!(data_of(peer.fill().unwrap()), grams[1..4], "the rest of the ring, in order");
    assert_eq!(peer.stats().recv_calls, calls, "without a system call");
    assert_eq!(peer.receive().unwrap().0, grams[4]);
    let calls = peer.stats().recv_calls;
    assert_eq!(data_of(peer.fill_wait(PATIENCE).unwrap()), grams[5..]);
    assert_eq!(peer.stats().recv_calls, calls);
    assert_nothing_left(&mut peer);
}

#[test]
fn grams_not_looked_at_are_not_given_again() {
    let mut peer = open_batch(config().bc(8));
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..10);
    {
        let mut grams = peer.fill().unwrap();
        assert_eq!(grams.next().unwrap().data, numbered(0..1)[0]);
        assert_eq!(grams.len(), 7);
    }
    assert_eq!(data_of(peer.fill().unwrap()), numbered(8..10));
    let stats = peer.stats();
    assert_eq!((stats.grams_received, stats.grams_recv_discarded), (10, 0));
}

#[test]
fn grams_are_an_ordinary_iterator_that_knows_its_length() {
    let mut peer = open_batch(config().bc(8));
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..5);
    let mut grams = peer.fill().unwrap();
    let again = grams.clone();
    for left in (0..5).rev() {
        assert!(grams.next().is_some());
        assert_eq!((grams.len(), grams.is_empty()), (left, left == 0));
    }
    assert!(grams.next().is_none() && grams.next().is_none());
    let mut sorted: Vec<_> = again.collect();
    sorted.sort_by_key(|gram| std::cmp::Reverse(gram.data));
    assert_eq!(sorted[0].data, numbered(4..5)[0], "all stay readable at once");
}

#[test]
fn a_short_batch_after_a_full_one_shows_nothing_old() {
    let mut peer = open_batch(config().bc(8).gram_size(16));
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..8);
    assert_eq!(peer.fill().unwrap().len(), 8);
    assert_eq!(peer.send(b"a", me).unwrap(), 1);
    settle();
    let grams: Vec<_> = peer.fill().unwrap().map(|gram| (gram.data, gram.original_len)).collect();
    assert_eq!(grams, [(&b"a"[..], 1)]);
    assert!(peer.fill().unwrap().is_empty());
    assert_eq!(peer.receive().unwrap(), (&b""[..], None));
}

#[test]
fn a_full_batch_leaves_the_rest_in_the_socket() {
    let mut peer = open_batch(config().bc(3));
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..8);
    let batches: Vec<_> = (0..4).map(|_| data_of(peer.fill().unwrap())).collect();
    let grams = numbered(0..8);
    assert_eq!(batches, [&grams[0..3], &grams[3..6], &grams[6..8], &[]]);
}

#[test]
fn a_queued_gram_goes_before_a_direct_send() {
    let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
    let dst = peer.ha();
    from.queue(b"1", dst).unwrap();
    assert_eq!(from.send(b"2", dst).unwrap(), 1);
    from.queue(b"3", dst).unwrap();
    assert_eq!(from.send_batch([(&b"4"[..], dst)]).sent, 1, "a report counts its own grams only");
    assert_eq!(from.queued(), 0);
    assert_eq!(parts(&from.flush()), (0, 0, 0, None, Stopped::Done));
    assert_eq!(next_data(&mut peer, 4), [b"1", b"2", b"3", b"4"]);
    assert_eq!(from.stats().grams_sent, 4);
}

#[test]
fn queue_copies_and_refuses_what_has_no_room() {
    let (mut from, mut peer) = (open_batch(config().bc(3).gram_size(4)), open_batch(config()));
    let dst = peer.ha();
    let mut data = *b"abcd";
    from.queue(&data, dst).unwrap();
    data.fill(0);
    assert_eq!(from.queue(b"abcde", dst), Err(Full::Slot { len: 5, gram_size: 4 }));
    from.queue(b"", dst).unwrap();
    from.queue(b"xy", dst).unwrap();
    assert_eq!(from.queue(b"z", dst), Err(Full::Ring));
    assert_eq!(from.queued(), 3);
    assert_eq!(parts(&from.flush()), (3, 6, 0, None, Stopped::Done));
    assert_eq!(next_data(&mut peer, 3), [&b"abcd"[..], b"", b"xy"]);
    assert_eq!(from.stats().grams_send_failed, 0, "a refused gram was never the peer's");
}

#[test]
fn exchange_hands_over_what_was_not_given_out() {
    let mut peer = open_batch(config().bc(8));
    let me = peer.ha();
    let grams = numbered(0..6);
    send_numbered(&mut peer, me, 0..6);
    peer.receive().unwrap();
    peer.receive().unwrap();
    let filled = peer.exchange(RecvRing::new(8, 1240).unwrap());
    assert_eq!((filled.len(), filled.grams().len()), (4, 4));
    assert_eq!(data_of(filled.grams()), grams[2..]);
    assert_eq!(data_of(filled.grams()), grams[2..], "looking takes nothing");

    // The ring that comes in is emptied, whatever it held.
    assert!(peer.exchange(filled).is_empty());
    assert_nothing_left(&mut peer);
    send_numbered(&mut peer, me, 6..8);
    assert_eq!(data_of(peer.fill().unwrap()), numbered(6..8));
}

#[test]
fn exchange_hands_over_the_batch_that_fill_gave() {
    let mut peer = open_batch(config().bc(4));
    let me = peer.ha();
    let spare = || RecvRing::new(4, 1240).unwrap();
    send_numbered(&mut peer, me, 0..3);
    assert_eq!(peer.fill().unwrap().take(1).count(), 1, "whether looked at or not");
    let ring = peer.exchange(spare());
    assert_eq!((ring.len(), ring.is_empty()), (3, false));
    assert_eq!(data_of(ring.grams()), numbered(0..3));

    // What `receive` gave out before is not in the batch that `fill` gave.
    send_numbered(&mut peer, me, 3..6);
    peer.receive().unwrap();
    peer.fill().unwrap();
    assert_eq!(data_of(peer.exchange(spare()).grams()), numbered(4..6));

    // A fill that finds nothing leaves nothing to hand over, and neither does a close.
    send_numbered(&mut peer, me, 6..7);
    assert_eq!((peer.fill().unwrap().len(), peer.fill().unwrap().len()), (1, 0));
    assert!(peer.exchange(spare()).is_empty());
    send_numbered(&mut peer, me, 7..8);
    peer.fill().unwrap();
    peer.close();
    assert!(peer.exchange(spare()).is_empty());
    assert_eq!(peer.stats().grams_recv_discarded, 0, "all of them were given out");
}

#[test]
fn a_payload_is_anything_that_is_bytes_by_reference() {
    let mut peer: BatchPeer = open();
    let me = peer.ha();
    let owned = [b"one".to_vec(), b"two".to_vec()];
    assert_eq!(peer.send_batch(owned.iter().map(|data| (data, me))).sent, 2);
    assert_eq!(peer.send_batch([("three", me)]).sent, 1);
    assert_eq!(peer.send_batch([(&b"four"[..], me), (b"five", me)].iter().copied()).sent, 2);
    assert_eq!(next_data(&mut peer, 5), [&b"one"[..], b"two", b"three", b"four", b"five"]);
}

#[test]
fn what_debug_prints_of_a_peer_shows_no_payload() {
    let mut peers = (open::<Peer>(), open::<BatchPeer>());
    for i in 0..2 {
        let me = if i == 0 { peers.0.ha() } else { peers.1.ha() };
        peers.0.send(b"secret", me).unwrap();
    }
    settle();
    peers.0.receive().unwrap();
    peers.1.receive().unwrap();
    for text in [format!("{:?}", peers.0), format!("{:?}", peers.1)] {
        assert!(text.len() < 4096 && !text.contains("115, 101, 99"), "{text}");
    }
}

#[test]
fn exchange_may_bring_a_ring_of_another_shape() {
    let mut peer = open_batch(config().bc(2).gram_size(4));
    let me = peer.ha();
    let small = peer.exchange(RecvRing::new(5, 100).unwrap());
    assert_eq!((small.bc(), small.gram_size(), peer.gram_size()), (2, 4, 100));
    let _ = peer.send_batch([(&[7; 90][..], me); 6]);
    settle();
    assert_eq!((peer.fill().unwrap().len(), peer.fill().unwrap().len()), (5, 1));
    assert_eq!(peer.stats().grams_truncated, 0);
}

#[test]
fn fill_into_leaves_the_peers_own_ring_alone() {
    let mut peer = open_batch(config().bc(2));
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..4);
    assert_eq!(peer.receive().unwrap().0, numbered(0..1)[0]);
    let mut ring = RecvRing::new(8, 16).unwrap();
    assert_eq!(peer.fill_into(&mut ring).unwrap(), 2);
    assert_eq!(data_of(ring.grams()), numbered(2..4));
    assert_eq!(peer.receive().unwrap().0, numbered(1..2)[0]);
    assert_eq!(peer.fill_into(&mut ring).unwrap(), 0, "and forgets what the ring held");
    assert!(ring.is_empty() && ring.grams().next().is_none());
}

#[test]
fn a_split_peer_echoes_without_copying() {
    let (mut client, mut server): (BatchPeer, _) = (open(), open_batch(config().bc(8)));
    send_numbered(&mut client, server.ha(), 0..20);
    let (mut rx, mut tx): (BatchReceiver<'_>, BatchSender<'_>) = server.split();
    let mut echoed = 0;
    while echoed < 20 {
        let grams = rx.fill_wait(PATIENCE).unwrap();
        assert!(!grams.is_empty());
        let report = tx.send_batch(grams.map(|gram| (gram.data, gram.src)));
        assert_eq!(report.stopped, Stopped::Done);
        echoed += report.sent;
    }
    assert_eq!(rx.receive().unwrap(), (&b""[..], None));
    assert!(rx.fill().unwrap().is_empty());
    tx.queue(b"bye", client.ha()).unwrap();
    assert_eq!(tx.send(b"!", client.ha()).unwrap(), 1);
    assert_eq!(tx.flush().sent, 0);
    assert!(tx.wait_writable(PATIENCE).unwrap());
    assert_eq!(next_data(&mut client, 20), numbered(0..20));
    assert_eq!(next_data(&mut client, 2), [&b"bye"[..], b"!"]);
    let stats = server.stats();
    assert_eq!((stats.grams_received, stats.grams_sent), (20, 22));
}

#[test]
fn close_and_reopen_empty_the_rings_and_count_what_was_in_them() {
    for reopen in [false, true] {
        let mut peer = open_batch(config().bc(8));
        let me = peer.ha();
        send_numbered(&mut peer, me, 0..8);
        assert_eq!(peer.receive().unwrap().0, numbered(0..1)[0]);
        for gram in numbered(0..5) {
            peer.queue(&gram, me).unwrap();
        }
        if reopen {
            peer.reopen().unwrap();
        } else {
            assert!(peer.close() && !peer.opened());
            assert!(peer.close(), "twice does no harm, and counts nothing twice");
            peer.open().unwrap();
        }
        assert_eq!(peer.ha(), me, "the port is kept");
        assert_nothing_left(&mut peer);
        assert_eq!((peer.queued(), peer.flush().sent), (0, 0));
        let stats = peer.stats();
        assert_eq!((stats.grams_received, stats.grams_recv_discarded), (8, 7));
        assert_eq!((stats.grams_sent, stats.grams_send_discarded), (8, 5));
        // And it works as before.
        send_numbered(&mut peer, me, 0..1);
        assert_eq!(next(&mut peer).0, numbered(0..1)[0]);
        assert_eq!(peer.stats().grams_received, 9, "counters go on over a reopen");
    }
}

#[test]
fn a_closed_peer_says_so_and_keeps_what_is_queued() {
    let mut peer: BatchPeer = open();
    let dst = peer.ha();
    peer.close();
    let mut ring = RecvRing::new(2, 16).unwrap();
    let kind = std::io::ErrorKind::NotConnected;
    let start = Instant::now();
    assert_eq!(peer.receive().unwrap_err().kind(), kind);
    assert_eq!(peer.fill().unwrap_err().kind(), kind);
    assert_eq!(peer.fill_wait(PATIENCE).unwrap_err().kind(), kind);
    assert_eq!(peer.fill_into(&mut ring).unwrap_err().kind(), kind);
    assert_eq!(peer.fill_into_wait(&mut ring, PATIENCE).unwrap_err().kind(), kind);
    assert_eq!(peer.send(b"x", dst).unwrap_err().kind(), kind);
    assert_eq!(peer.wait_writable(PATIENCE).unwrap_err().kind(), kind);
    assert!(start.elapsed() < PATIENCE / 2, "none of them waits");
    let report = peer.send_batch([(&b"x"[..], dst)]);
    assert_eq!((report.sent, report.first_error.unwrap().1.kind()), (0, kind));

    peer.queue(b"kept", dst).unwrap();
    let report = peer.flush();
    assert_eq!((report.sent, report.first_error.unwrap().1.kind()), (0, kind));
    assert_eq!(peer.queued(), 1);
    let stats = peer.stats();
    assert_eq!((stats.recv_calls, stats.send_calls, stats.grams_sent, stats.grams_send_failed), (0, 0, 0, 0));
}

#[test]
fn parts_may_be_dropped_in_any_order() {
    let pool = RingPool::new(3, 4, 64).unwrap();
    let mut peer = open_batch(config().bc(4));
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..6);
    let mut ring = pool.take_free().unwrap();
    assert_eq!(peer.fill_into(&mut ring).unwrap(), 4);
    let own = peer.exchange(pool.take_free().unwrap());
    assert!(pool.hand_over(ring).is_ok());
    drop(peer);
    // The port is free at once: the descriptor is closed.
    let mut again = open_batch(config().ha((me.ip().to_string(), me.port())));
    drop(own);
    let ring = pool.take_full().unwrap();
    drop(pool);
    assert_eq!(data_of(ring.grams()), numbered(0..4), "a ring outlives its peer and its pool");
    let old = again.exchange(ring);
    drop(again);
    drop(old);
}

#[test]
fn peers_and_rings_move_between_threads_and_are_not_shared() {
    fn is_send<T: Send>() {}
    is_send::<(Peer, BatchPeer, RecvRing, hio_udp::SendRing, RingPool, hio_udp::SendReport)>();
    /// Two ways to reach one name: ambiguous, and no compile, for a type that is `Sync`.
    trait NotSync<Marker> {
        fn not_sync() {}
    }
    impl<T: ?Sized> NotSync<()> for T {}
    struct IsSync;
    impl<T: ?Sized + Sync> NotSync<IsSync> for T {}
    <Peer as NotSync<_>>::not_sync();
    <BatchPeer as NotSync<_>>::not_sync();

    let mut peer: BatchPeer = open();
    let me = peer.ha();
    peer.queue(b"queued", me).unwrap();
    peer.send(b"x", me).unwrap();
    settle();
    assert_eq!(next(&mut peer).0, b"queued");
    let mut peer = std::thread::spawn(move || {
        peer.send(b"from the other", me).unwrap();
        peer
    })
    .join()
    .unwrap();
    assert_eq!(next_data(&mut peer, 2), [&b"x"[..], b"from the other"]);
}

#[test]
fn fill_wait_waits_until_its_time_and_not_longer() {
    let mut peer: BatchPeer = open();
    let start = Instant::now();
    assert!(peer.fill_wait(Duration::from_millis(40)).unwrap().is_empty());
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(40) && waited < PATIENCE, "{waited:?}");
    assert!(peer.fill_wait(Duration::ZERO).unwrap().is_empty(), "no time is a plain look");
    assert!(peer.stats().wait_calls >= 2);

    // After data it gathers once; on a line gone quiet it is back in poll, and keeps to its time too.
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..1);
    assert_eq!(peer.fill_wait(PATIENCE).unwrap().len(), 1);
    let start = Instant::now();
    let calls = peer.stats();
    assert!(peer.fill_wait(Duration::from_millis(40)).unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_millis(40));
    let stats = peer.stats();
    assert!(stats.recv_calls - calls.recv_calls <= 4, "a quiet line is waited on, not polled in a loop");
}

#[test]
fn fill_wait_wakes_for_a_datagram_that_comes_later() {
    let mut peer: BatchPeer = open();
    let me = peer.ha();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut from: Peer = open();
            // Sleeps to let the wait begin; were it slower, the test would only show less.
            std::thread::sleep(Duration::from_millis(20));
            from.send(b"late", me).unwrap();
        });
        let start = Instant::now();
        assert_eq!(data_of(peer.fill_wait(Duration::MAX).unwrap()), [b"late"], "however long it would wait");
        assert!(start.elapsed() < PATIENCE / 2);
    });
}

#[test]
fn fill_wait_lets_a_busy_line_gather() {
    const GRAMS: u64 = 100;
    // A long pause, so that it gathers many even where the sender is held up for a while.
    let mut peer = open_batch(config().bc(64).gather(Duration::from_millis(50)));
    let me = peer.ha();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut from: Peer = open();
            for _ in 0..GRAMS {
                from.send(b"x", me).unwrap();
                // The grams come one by one. On a busy machine a sleep could last until no line is busy any more.
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(50) {
                    std::hint::spin_loop();
                }
            }
        });
        let (mut batches, mut grams) = (0, 0);
        while grams < GRAMS {
            grams += peer.fill_wait(PATIENCE).unwrap().len() as u64;
            batches += 1;
        }
        assert!(batches * 4 < GRAMS, "{batches} batches for {GRAMS} grams that came one by one");
        assert!(peer.stats().wait_calls <= 2 * batches + 1, "one pause or one poll each: {:?}", peer.stats());
    });
}

#[test]
#[cfg(unix)]
fn a_readable_peer_wakes_a_mio_poll() {
    use std::os::fd::AsRawFd;

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Token};

    fn wakes<T: Transport + AsRawFd>() {
        let mut peer: T = open();
        let mut poll = mio::Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let fd = peer.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(7), Interest::READABLE).unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "nothing there yet");

        let mut from: Peer = open();
        for round in 0..3 {
            for _ in 0..3 {
                from.send(b"wake", peer.ha()).unwrap();
            }
            until("readable", || {
                poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
                events.iter().any(|event| event.token() == Token(7) && event.is_readable())
            });
            // Edge-triggered: take everything, then a new datagram wakes again.
            settle();
            assert_eq!(support::drain(&mut peer).len(), 3, "round {round}");
        }
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(!events.iter().any(|event| event.token() == Token(7) && event.is_readable()));
    }
    wakes::<Peer>();
    wakes::<BatchPeer>();
}

#[test]
#[cfg(unix)]
#[allow(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn a_readable_peer_wakes_a_tokio_task() {
    use tokio::io::unix::AsyncFd;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // SAFETY: the peer owns its open descriptor, and nothing closes or reopens it before the end.
        let mut peer = unsafe { AsyncFd::register(open::<BatchPeer>()) }.unwrap();
        let mut from: Peer = open();
        for round in 0..3 {
            from.send(b"wake", peer.get_ref().ha()).unwrap();
            let received = loop {
                let mut ready = peer.readable_mut().await.unwrap();
                // Everything is taken out before the readiness is given back.
                let count = ready.get_inner_mut().fill().unwrap().len();
                if count > 0 {
                    break count;
                }
                ready.clear_ready();
            };
            assert_eq!(received, 1, "round {round}");
        }
    });
}

#[test]
#[cfg(unix)]
fn data_in_the_ring_does_not_make_the_descriptor_readable() {
    use std::os::fd::AsRawFd;

    let mut peer: BatchPeer = open();
    let me = peer.ha();
    send_numbered(&mut peer, me, 0..3);
    peer.receive().unwrap();
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(8);
    let fd = peer.as_raw_fd();
    poll.registry().register(&mut mio::unix::SourceFd(&fd), mio::Token(7), mio::Interest::READABLE).unwrap();
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty());
    // fill_wait knows better.
    let start = Instant::now();
    assert_eq!(data_of(peer.fill_wait(PATIENCE).unwrap()), numbered(1..3));
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn a_pool_passes_every_ring_round_and_loses_none() {
    const GRAMS: u32 = 500;
    let pool = RingPool::new(4, 8, 16).unwrap();
    let mut peer = open_batch(config().bc(8).recv_buf_bytes(1 << 20));
    let me = peer.ha();
    let mut from: BatchPeer = open();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut seen = Vec::new();
            while seen.len() < GRAMS as usize {
                let Some(ring) = pool.take_full() else {
                    std::thread::yield_now();
                    continue;
                };
                seen.extend(ring.grams().map(|gram| gram.data.to_vec()));
                assert!(pool.give_back(ring).is_ok());
            }
            seen
        });
        // Small steps, so that no buffer can overflow and every gram must come through.
        for start in (0..GRAMS).step_by(50) {
            let grams = numbered(start..start + 50);
            assert_eq!(from.send_batch(grams.iter().map(|gram| (&gram[..], me))).sent, 50);
            let mut taken = 0;
            while taken < 50 {
                let Some(mut ring) = pool.take_free() else {
                    std::thread::yield_now();
                    continue;
                };
                taken += peer.fill_into_wait(&mut ring, PATIENCE).unwrap();
                assert!(pool.hand_over(ring).is_ok());
            }
        }
        seen = worker.join().unwrap();
    });
    assert_eq!(seen, numbered(0..GRAMS), "in order, each once");
    until("all rings free", || pool.free() == 4);
    assert_eq!(pool.full(), 0);
    let ring = pool.take_free().unwrap();
    assert!(ring.is_empty() && ring.grams().next().is_none(), "a ring comes back empty");
    assert!(pool.give_back(ring).is_ok());
    assert!(pool.give_back(RecvRing::new(1, 1).unwrap()).is_err(), "one more than there is room for");
}

#[test]
fn a_peer_takes_its_settings_from_hio() {
    let peer = BatchPeer::new(PeerConfig::new().port(0)).unwrap();
    assert_eq!((peer.bc(), peer.gram_size(), peer.bs()), (Some(64), 1240, 64 * 1240));
    assert!(!peer.opened() && !peer.coalesces());
}

#[test]
fn a_wait_ends_in_time_on_a_socket_that_is_readable_for_ever_and_has_nothing() {
    let mut peer = open_batch(config());
    // Reports that the socket is not connected, and shuts it for reading all the same: poll says
    // "readable" from now on, and a receive call finds nothing.
    let _ = socket2::SockRef::from(&peer).shutdown(std::net::Shutdown::Read);
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let found = peer.fill_wait(Duration::from_millis(50)).map(|grams| grams.len()).map_err(|e| e.kind());
        let _ = done.send(found);
    });
    let found = ended.recv_timeout(PATIENCE).expect("it ends");
    // To the standard library on Windows this is a datagram from nowhere.
    let is_from_nowhere = cfg!(windows) && found == Err(std::io::ErrorKind::InvalidInput);
    assert!(found == Ok(0) || is_from_nowhere, "{found:?}");
}

#[test]
fn a_batch_ends_at_the_first_none_of_its_iterator() {
    let mut peer = open_batch(config());
    let me = peer.ha();
    let mut turn = 0;
    // Not fused: gives something again after its end.
    let grams = std::iter::from_fn(|| {
        turn += 1;
        (turn != 2 && turn < 5).then_some((&b"x"[..], me))
    });
    assert_eq!(parts(&peer.send_batch(grams)), (1, 1, 0, None, Stopped::Done));
    assert_eq!(turn, 2, "asked again after its end");
}

#[test]
fn a_ring_of_tiny_slots_counts_the_memory_its_slots_really_take() {
    // One byte of payload each, and some hundred bytes of headers: 4 Gi slots would be 2 TB.
    for bc in [usize::MAX / 512 + 2, 1 << 24, usize::MAX] {
        assert_eq!(RecvRing::new(bc, 1).unwrap_err().kind(), std::io::ErrorKind::InvalidInput, "{bc}");
    }
}

#[test]
fn a_peer_of_ipv6_only_leaves_its_port_to_one_of_ipv4_and_each_has_its_own() {
    fn shares_a_port<T: Transport>() {
        let mut v4 = T::new(PeerConfig::new().ha(("0.0.0.0", 0)).only_v6(true).exclusive(true).reopen(true)).unwrap();
        let port = v4.ha().port();
        let mut v6 = T::new(PeerConfig::new().ha(("::", port)).only_v6(true).exclusive(true).reopen(true)).unwrap();
        let (from_v4, from_v6) = (plain(), std::net::UdpSocket::bind("[::1]:0").unwrap());
        from_v4.send_to(b"four", ("127.0.0.1", port)).unwrap();
        from_v6.send_to(b"six", ("::1", port)).unwrap();
        assert_eq!(next(&mut v4), (b"four".to_vec(), from_v4.local_addr().unwrap()));
        assert_eq!(next(&mut v6), (b"six".to_vec(), from_v6.local_addr().unwrap()));
        assert_nothing_left(&mut v4);
        assert_nothing_left(&mut v6);
    }
    if support::has_ipv6() {
        shares_a_port::<Peer>();
        shares_a_port::<BatchPeer>();
    }
}
