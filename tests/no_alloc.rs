//! No allocation after open: 100,000 datagrams each way under an allocator that counts.
//!
//! A test binary of its own, because the allocator is the whole program's. Allocations are counted per thread,
//! so that tests running side by side do not meet each other's.
#[path = "support/allocator.rs"]
mod allocator;
#[path = "../examples/echo.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod echo;
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocator::allocations;
use hio_udp::{BatchPeer, Gram, Peer, PeerConfig, RecvRing, RingPool, Stopped, Transport};
use support::{PATIENCE, config, open, open_batch};

/// Datagrams each test moves.
const GRAMS: usize = 100_000;
/// Datagrams under way at once: few enough for any socket buffer.
const BURST: usize = 32;

const DATA: [u8; 1000] = [0x5A; 1000];

/// Data that is never twice the same length in a row, empty at times.
fn data(i: usize) -> &'static [u8] {
    &DATA[..i * 7 % 1000]
}

fn burst(dst: SocketAddr) -> impl Iterator<Item = (&'static [u8], SocketAddr)> {
    (0..BURST).map(move |i| (data(i), dst))
}

/// Receives one burst by `fill_wait`, looking at every gram.
fn fill_burst(peer: &mut BatchPeer, look: impl Fn(Gram<'_>)) {
    let mut received = 0;
    while received < BURST {
        for gram in peer.fill_wait(PATIENCE).unwrap() {
            assert_eq!(gram.data.len(), data(received).len());
            look(gram);
            received += 1;
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| {}), 0);
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(5_u64)))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0_u8; 100]))), 1, "zeroed ones");
    let mut growing: Vec<u8> = Vec::with_capacity(1);
    assert_eq!(allocations(|| growing.reserve_exact(1000)), 1, "grown ones");
    assert_eq!(allocations(|| drop(std::hint::black_box(growing))), 0, "freeing is none");
    // And it would see a peer that allocates.
    assert!(allocations(|| drop(open::<BatchPeer>())) > 3);
    // Each thread has its own count.
    let elsewhere = std::thread::spawn(|| allocations(|| drop(std::hint::black_box(Box::new(5_u64)))));
    assert_eq!(elsewhere.join().unwrap(), 1);
}

fn receive_and_send<T: Transport>() {
    let (mut from, mut peer): (T, T) = (open(), open());
    let dst = peer.ha();
    let count = allocations(|| {
        for start in (0..GRAMS).step_by(BURST) {
            for i in start..start + BURST {
                assert_eq!(from.send(data(i), dst).unwrap(), data(i).len());
            }
            for i in start..start + BURST {
                let len = loop {
                    if let (data, Some(_)) = peer.receive().unwrap() {
                        break data.len();
                    }
                };
                assert_eq!(len, data(i).len());
            }
            assert_eq!(peer.receive().unwrap().1, None);
        }
        assert_eq!(peer.stats().grams_received as usize, GRAMS);
    });
    assert_eq!(count, 0);
}

#[test]
fn peer_receives_and_sends_without_allocating() {
    receive_and_send::<Peer>();
}

#[test]
fn batch_peer_receives_and_sends_without_allocating() {
    receive_and_send::<BatchPeer>();
}

#[test]
fn fill_and_send_batch_do_not_allocate() {
    let mut peer: BatchPeer = open();
    let me = peer.ha();
    let count = allocations(|| {
        for _ in 0..GRAMS / BURST {
            assert_eq!(peer.send_batch(burst(me)).sent, BURST);
            let mut received = 0;
            while received < BURST {
                received += peer.fill().unwrap().filter(|gram| gram.src == me).count();
            }
        }
    });
    assert_eq!((count, peer.stats().grams_received as usize), (0, GRAMS));
}

#[test]
fn fill_wait_queue_and_flush_do_not_allocate() {
    // With no pause to gather, for the test's own sake.
    let mut peer = open_batch(config().gather(std::time::Duration::ZERO));
    let me = peer.ha();
    let count = allocations(|| {
        for _ in 0..GRAMS / BURST {
            for (data, dst) in burst(me) {
                peer.queue(data, dst).unwrap();
            }
            let report = peer.flush();
            assert_eq!((report.sent, report.stopped), (BURST, Stopped::Done));
            fill_burst(&mut peer, |gram| assert!(!gram.truncated));
        }
        assert!(peer.fill_wait(std::time::Duration::from_millis(1)).unwrap().is_empty());
    });
    assert_eq!((count, peer.stats().grams_received as usize), (0, GRAMS));
}

#[test]
fn rows_that_leave_as_one_message_do_not_allocate() {
    let (mut from, mut refused): (BatchPeer, BatchPeer) = (open(), open());
    #[cfg(target_os = "linux")]
    support::refuse_segments(&refused);
    let mut peer = open_batch(config().coalesce(true));
    let dst = peer.ha();
    let row = |_| (&DATA[..100], dst);
    let count = allocations(|| {
        for _ in 0..GRAMS / BURST {
            for sender in [&mut from, &mut refused] {
                assert_eq!(sender.send_batch((0..BURST).map(row)).sent, BURST);
                let mut received = 0;
                while received < BURST {
                    received += peer.fill().unwrap().filter(|gram| gram.data.len() == 100).count();
                }
            }
        }
    });
    assert_eq!((count, peer.stats().grams_received as usize), (0, 2 * GRAMS));
    let [from, refused] = [from.stats(), refused.stats()];
    let expected = if support::takes_batches(&peer) { (GRAMS as u64, 0, true) } else { (0, 0, false) };
    assert_eq!((from.grams_segmented, refused.grams_segmented, refused.segment_refusals > 1), expected);
}

#[test]
fn gathering_does_not_allocate() {
    let mut peer = open_batch(config().gather(std::time::Duration::from_nanos(1)));
    let me = peer.ha();
    let count = allocations(|| {
        for _ in 0..GRAMS / BURST / 10 {
            assert_eq!(peer.send_batch(burst(me)).sent, BURST);
            fill_burst(&mut peer, |_| {});
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn reading_metadata_does_not_allocate() {
    let config: PeerConfig = config().rx_time(true).dst_addr(true).ecn(true).gather(std::time::Duration::ZERO);
    let mut peer = open_batch(config);
    let me = peer.ha();
    let takes_batches = support::takes_batches(&peer);
    let count = allocations(|| {
        for _ in 0..GRAMS / BURST {
            assert_eq!(peer.send_batch(burst(me)).sent, BURST);
            fill_burst(&mut peer, |gram| {
                let meta = gram.meta();
                assert_eq!(meta.rx_time.is_some() && meta.dst == Some(me.ip()) && meta.ecn == Some(0), takes_batches);
            });
        }
    });
    assert_eq!((count, peer.stats().grams_received as usize), (0, GRAMS));
}

#[test]
fn everything_a_datagram_can_carry_at_once_does_not_allocate() {
    const ROWS: usize = 20;
    const ROW_GRAMS: usize = 4;
    let mut from: BatchPeer = open();
    // Fewer slots than grams, and rows enough for a batch that is worth io_uring.
    let all = config().bc(32).coalesce(true).rx_time(true).dst_addr(true).ecn(true);
    let mut peer = open_batch(all.gather(std::time::Duration::ZERO));
    let (dst, takes_batches) = (peer.ha(), support::takes_batches(&peer));
    let rows = || (0..ROWS * ROW_GRAMS).map(|i| (&DATA[..100 + i / ROW_GRAMS], dst));
    // From the first loss on, the drop counter comes with each datagram.
    while takes_batches && peer.stats().kernel_dropped == 0 {
        assert_eq!(from.send_batch(rows()).stopped, Stopped::Done);
    }
    while !peer.fill().unwrap().is_empty() {}
    let (segmented, received) = (from.stats().grams_segmented, peer.stats().grams_received);
    let mut longest = 0;
    let count = allocations(|| {
        for _ in 0..GRAMS / (ROWS * ROW_GRAMS) {
            assert_eq!(from.send_batch(rows()).sent, ROWS * ROW_GRAMS);
            let mut i = 0;
            while i < ROWS * ROW_GRAMS {
                let grams = peer.fill_wait(PATIENCE).unwrap();
                longest = longest.max(grams.len());
                for gram in grams {
                    assert_eq!((gram.data.len(), gram.truncated), (100 + i / ROW_GRAMS, false));
                    let meta = gram.meta();
                    assert_eq!(meta.rx_time.is_some() && meta.kernel_drops.is_some(), takes_batches);
                    assert_eq!(meta.dst == Some(dst.ip()) && meta.ecn == Some(0), takes_batches);
                    i += 1;
                }
            }
        }
    });
    assert_eq!((count, (peer.stats().grams_received - received) as usize), (0, GRAMS));
    let went_in_rows = (from.stats().grams_segmented - segmented) as usize == GRAMS && longest > 32;
    assert_eq!(went_in_rows, takes_batches, "{longest}");
}

#[test]
fn the_echo_example_copies_no_payload_and_does_not_allocate() {
    let (mut client, mut server): (BatchPeer, BatchPeer) = (open(), open());
    let dst = server.ha();
    let count = allocations(|| {
        for _ in 0..GRAMS / BURST {
            assert_eq!(client.send_batch(burst(dst)).sent, BURST);
            let (mut rx, mut tx) = server.split();
            let mut echoed = 0;
            while echoed < BURST {
                echoed += echo::echo_one_batch(&mut rx, &mut tx).unwrap();
            }
            let mut back = 0;
            while back < BURST {
                back += client.fill().unwrap().len();
            }
        }
    });
    assert_eq!((count, client.stats().grams_received as usize), (0, GRAMS));
}

#[test]
fn rings_change_hands_between_threads_without_allocating() {
    fn wait_free(pool: &RingPool) -> RecvRing {
        loop {
            match pool.take_free() {
                Some(ring) => return ring,
                None => std::thread::yield_now(),
            }
        }
    }
    // One in the reader's hand, four in the queue, one in the worker's hand.
    let pool = RingPool::new(1 + 4 + 1, BURST, 1240).unwrap();
    let mut peer = open_batch(config().bc(BURST));
    let me = peer.ha();
    let given_out = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut grams = 0;
            let count = allocations(|| {
                while grams + given_out.load(Ordering::SeqCst) < GRAMS {
                    match pool.take_full() {
                        Some(ring) => {
                            grams += ring.grams().filter(|gram| gram.src == me).count();
                            assert!(pool.give_back(ring).is_ok());
                        }
                        None => std::thread::yield_now(),
                    }
                }
            });
            (count, grams)
        });
        let count = allocations(|| {
            for _ in 0..GRAMS / BURST {
                assert_eq!(peer.send_batch(burst(me)).sent, BURST);
                // The peer's own ring goes by exchange, less the gram that receive gives out …
                while peer.receive().unwrap().1.is_none() {}
                given_out.fetch_add(1, Ordering::SeqCst);
                let filled = peer.exchange(wait_free(&pool));
                let mut handed_over = 1 + filled.len();
                assert!(pool.hand_over(filled).is_ok());
                // … and what it did not hold by a ring of the pool.
                while handed_over < BURST {
                    let mut ring = wait_free(&pool);
                    handed_over += peer.fill_into_wait(&mut ring, PATIENCE).unwrap();
                    assert!(pool.hand_over(ring).is_ok());
                }
            }
            for _ in 0..10 {
                let mut ring = wait_free(&pool);
                assert_eq!(peer.fill_into(&mut ring).unwrap(), 0);
                assert!(pool.give_back(ring).is_ok());
            }
        });
        assert_eq!((count, worker.join().unwrap()), (0, (0, GRAMS - GRAMS / BURST)));
    });
}

#[test]
fn failing_and_waiting_sends_do_not_allocate() {
    let mut peer: BatchPeer = open();
    let me = peer.ha();
    let port_0 = SocketAddr::from(([127, 0, 0, 1], 0));
    let count = allocations(|| {
        for _ in 0..GRAMS / 10 {
            assert!(peer.send(b"bad", port_0).is_err());
            let report = peer.send_batch([(&b"good"[..], me), (b"bad", port_0), (b"left", me)]);
            assert_eq!((report.sent, report.pending), (1, 1));
            while peer.receive().unwrap().1.is_none() {}
        }
        assert!(peer.wait_writable(PATIENCE).unwrap());
    });
    assert_eq!((count, peer.stats().grams_send_failed as usize), (0, GRAMS / 5));
}
