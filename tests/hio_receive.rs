//! Section E of docs/HIO.md: what receive gives.

mod util;

use hio_udp::{BatchPeer, Peer, Transport};
use util::{
    TestPeer, any_local, any_local_config, any_size, assert_nothing_queued, is_nothing_there, left_out, opened,
    pattern, receive_one, receive_rest,
};

for_both_peers!(
    h080_nothing_queued_gives_nothing_and_nobody,
    h081_a_datagram_comes_with_its_senders_ha,
    h082_an_empty_datagram_keeps_its_source,
    h088_every_size_comes_whole,
    h090_a_buffer_for_a_thousand_grams_holds_them,
    h091_one_senders_order_is_kept,
    h091_interleaved_senders_keep_their_order_and_sources,
    h092_a_peer_can_send_to_itself,
    h093_a_closed_senders_datagram_is_delivered,
);

#[cfg(target_os = "linux")]
mod linux {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use util::any_wildcard_config;

    for_both_peers!(
        h089_an_unread_peer_keeps_the_oldest_and_counts_the_rest,
        h092_a_wildcard_peer_reaches_itself_over_loopback,
        h094_a_closed_port_shows_on_no_side,
        h095_a_connected_socket_shows_a_refusal_once,
    );

    fn h089_an_unread_peer_keeps_the_oldest_and_counts_the_rest<T: TestPeer>() {
        const SENT: u32 = 2_000;
        let (mut receiver, mut sender): (T, T) = (any_local(), any_local());
        receiver.socket().set_recv_buffer_size(65_536).unwrap();
        for i in 0..SENT {
            let mut data = [0; 1_240];
            data[..4].copy_from_slice(&i.to_be_bytes());
            assert_eq!(sender.send(&data, receiver.ha()).unwrap(), 1_240);
        }
        let kept = receive_rest(&mut receiver);
        for (i, (data, src)) in (0_u32..).zip(&kept) {
            assert_eq!((&data[..4], *src), (&i.to_be_bytes()[..], sender.ha()));
        }
        let stats = receiver.stats();
        assert!(!kept.is_empty() && stats.kernel_dropped > 0);
        assert_eq!(kept.len() as u64 + stats.kernel_dropped, u64::from(SENT), "every datagram is accounted for");
    }

    fn h092_a_wildcard_peer_reaches_itself_over_loopback<T: TestPeer>() {
        let mut peer: T = opened(any_wildcard_config());
        let me = peer.ha();
        assert!(me.ip().is_unspecified());
        assert_eq!(peer.send(b"to 0.0.0.0", me).unwrap(), 10);
        assert_eq!(
            receive_one(&mut peer),
            (b"to 0.0.0.0".to_vec(), SocketAddr::from((Ipv4Addr::LOCALHOST, me.port())))
        );
    }

    fn h094_a_closed_port_shows_on_no_side<T: TestPeer>() {
        let (nobody, _keeper) = util::closed_port();
        let mut peer: T = any_local();
        for _ in 0..3 {
            assert_eq!(peer.send(b"anybody?", nobody).unwrap(), 8);
            assert!(is_nothing_there(&mut peer));
        }
    }

    fn h095_a_connected_socket_shows_a_refusal_once<T: TestPeer>() {
        let (nobody, _keeper) = util::closed_port();
        let mut peer: T = any_local();
        peer.socket().connect(&nobody.into()).unwrap();
        assert_eq!(peer.send(b"anybody?", nobody).unwrap(), 8);
        assert_eq!(peer.receive().unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
        assert!(is_nothing_there(&mut peer), "then all is as before");
    }
}

fn h080_nothing_queued_gives_nothing_and_nobody<T: TestPeer>() {
    let mut peer: T = any_local();
    for _ in 0..3 {
        let (data, src) = peer.receive().unwrap();
        assert_eq!((data, src), (&b""[..], None));
    }
}

fn h081_a_datagram_comes_with_its_senders_ha<T: TestPeer>() {
    let (mut alpha, mut beta): (T, T) = (any_local(), any_local());
    alpha.send(b"alpha sends to beta", beta.ha()).unwrap();
    assert_eq!(receive_one(&mut beta), (b"alpha sends to beta".to_vec(), alpha.ha()));
    assert!(is_nothing_there(&mut beta));
}

fn h082_an_empty_datagram_keeps_its_source<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
    sender.send(b"", receiver.ha()).unwrap();
    sender.send(b"behind it", receiver.ha()).unwrap();
    assert_eq!(receive_one(&mut receiver), (Vec::new(), sender.ha()));
    assert_eq!(receive_one(&mut receiver).0, b"behind it");
    assert!(is_nothing_there(&mut receiver));
}

/// What a receiver gives of datagrams of 10, 16 and 3 bytes; all of them must be there.
fn receive_10_16_and_3<T: TestPeer>(receiver: &mut T) -> Vec<Vec<u8>> {
    let mut sender: T = any_local();
    for len in [10, 16, 3] {
        sender.send(&pattern(len), receiver.ha()).unwrap();
    }
    let grams: Vec<_> = (0..3).map(|_| receive_one(receiver).0).collect();
    assert!(is_nothing_there(receiver));
    grams
}

#[test]
fn h083_a_peer_cuts_at_bs_and_goes_on() {
    let mut receiver: Peer = opened(any_local_config().bs(10));
    assert_eq!(receive_10_16_and_3(&mut receiver), [pattern(10), pattern(10), pattern(3)]);
    assert_eq!(receiver.stats().grams_truncated, 1, "it is counted");
}

#[test]
fn h083_a_batch_peer_cuts_at_its_slot_and_goes_on() {
    let mut receiver: BatchPeer = opened(any_local_config().gram_size(10));
    assert_eq!(receive_10_16_and_3(&mut receiver), [pattern(10), pattern(10), pattern(3)]);
    assert_eq!(receiver.stats().grams_truncated, 1, "it is counted");
}

#[test]
fn h084_the_limit_of_a_peer_is_bs() {
    for (bc, len, delivered) in [(4, 4_000, 4_000), (4, 6_000, 4_960), (1, 65_507, 1_240)] {
        let mut receiver: Peer = opened(any_local_config().bc(bc));
        let mut sender: Peer = any_local();
        sender.send(&pattern(len), receiver.ha()).unwrap();
        assert_eq!(receive_one(&mut receiver).0, pattern(delivered), "bc {bc}, {len} bytes");
    }
}

#[test]
fn h084_the_limit_of_a_batch_peer_is_the_slot() {
    for (bc, len, delivered) in [(4, 1_240, 1_240), (4, 4_000, 1_240), (1, 65_507, 1_240)] {
        let mut receiver: BatchPeer = opened(any_local_config().bc(bc));
        let mut sender: Peer = any_local();
        sender.send(&pattern(len), receiver.ha()).unwrap();
        let gram = receiver.fill_wait(util::PATIENCE).unwrap().next().unwrap();
        assert_eq!(gram.data, pattern(delivered), "bc {bc}, {len} bytes");
        assert_eq!((gram.truncated, gram.original_len), (len > 1_240, len));
    }
}

#[test]
fn h085_with_bs_zero_every_datagram_comes_empty() {
    let mut receiver: Peer = opened(any_local_config().bs(0));
    let mut sender: Peer = any_local();
    for _ in 0..3 {
        sender.send(b"something", receiver.ha()).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(receive_one(&mut receiver), (Vec::new(), sender.ha()));
    }
    assert!(is_nothing_there(&mut receiver));
}

#[test]
fn h087_a_changed_bs_counts_at_once() {
    let mut receiver: Peer = any_local();
    let mut sender: Peer = any_local();
    let sizes = receiver.actual_buf_sizes();
    sender.send(b"abc", receiver.ha()).unwrap();
    receiver.set_bs(2);
    assert_eq!(receive_one(&mut receiver).0, b"ab");
    assert_eq!(receiver.actual_buf_sizes(), sizes, "the socket's buffers stay");
}

fn h088_every_size_comes_whole<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) =
        (opened(any_size(any_local_config())), opened(any_size(any_local_config())));
    for len in [1, 548, 1_240, 1_241, 1_472, 1_473, 8_972, 65_506, 65_507] {
        assert_eq!(sender.send(&pattern(len), receiver.ha()).unwrap(), len);
        assert_eq!(receive_one(&mut receiver), (pattern(len), sender.ha()), "{len} bytes");
    }
}

fn h090_a_buffer_for_a_thousand_grams_holds_them<T: TestPeer>() {
    let mut receiver: T = opened(any_local_config().bc(1_024));
    if hio_udp::datagrams_held(receiver.actual_buf_sizes().1, 1_240) < 1_024 {
        return left_out("this system's limits give no buffer for so many");
    }
    let mut sender: T = any_local();
    for _ in 0..1_024 {
        sender.send(&pattern(1_240), receiver.ha()).unwrap();
    }
    assert_eq!(receive_rest(&mut receiver).len(), 1_024);
    assert_eq!(receiver.stats().kernel_dropped, 0);
}

fn h091_one_senders_order_is_kept<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
    for i in 0..100_u8 {
        sender.send(&[i], receiver.ha()).unwrap();
    }
    for i in 0..100_u8 {
        assert_eq!(receive_one(&mut receiver), (vec![i], sender.ha()));
    }
    assert_nothing_queued(&mut receiver);
}

fn h091_interleaved_senders_keep_their_order_and_sources<T: TestPeer>() {
    let mut receiver: T = any_local();
    let mut senders: [T; 3] = [any_local(), any_local(), any_local()];
    for round in 0..20_u8 {
        for sender in &mut senders {
            sender.send(&[round], receiver.ha()).unwrap();
        }
    }
    for round in 0..20_u8 {
        for sender in &senders {
            assert_eq!(receive_one(&mut receiver), (vec![round], sender.ha()));
        }
    }
}

fn h092_a_peer_can_send_to_itself<T: TestPeer>() {
    let mut peer: T = any_local();
    let me = peer.ha();
    assert_eq!(peer.send(b"to myself", me).unwrap(), 9);
    assert_eq!(receive_one(&mut peer), (b"to myself".to_vec(), me));
}

fn h093_a_closed_senders_datagram_is_delivered<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
    sender.send(b"my last words", receiver.ha()).unwrap();
    assert!(sender.close());
    assert_eq!(receive_one(&mut receiver), (b"my last words".to_vec(), sender.ha()));
}
