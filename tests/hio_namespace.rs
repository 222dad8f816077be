//! Rows of docs/HIO.md that need a network of their own: a slow loopback, a small MTU, no route.
//!
//! `tests/netns.sh` runs these as root in a private network namespace; otherwise they are left out.
#![cfg(target_os = "linux")]

#[path = "util/network.rs"]
mod network;
mod util;

use std::net::SocketAddr;

use hio_udp::{BatchPeer, PeerConfig, Pipeline, Stopped, Transport};
use network::{Network, run};
use util::{
    PATIENCE, TestPeer, any_local, any_local_config, any_size, any_wildcard_config, is_nothing_there, left_out, opened,
    pattern, receive_one, receive_rest,
};

for_both_peers!(
    h076_the_limited_broadcast_address,
    h102_a_full_send_buffer_gives_zero_until_it_drains,
    h103_no_buffers_gives_zero_and_may_never_clear,
    h104_a_drop_on_the_way_is_invisible,
    h108_a_datagram_longer_than_the_mtu_arrives,
    h115_a_loopback_peer_cannot_send_off_the_machine,
    h116_no_route_is_enetunreach,
);

fn h076_the_limited_broadcast_address<T: TestPeer>() {
    let Some(_network) = Network::private() else { return };
    let mut on_all: T = opened(PeerConfig::new().ha(("", 0)));
    let mut on_broadcast: T = opened(PeerConfig::new().ha(("255.255.255.255", on_all.port())));
    let everyone = SocketAddr::from(([255, 255, 255, 255], on_all.port()));

    let mut sender: T = opened(any_local_config().bcast(true));
    assert_eq!(sender.send(b"to all", everyone).unwrap(), 6);
    for receiver in [&mut on_all, &mut on_broadcast] {
        assert_eq!(receive_one(receiver), (b"to all".to_vec(), sender.ha()));
    }
    sender.set_bcast(false);
    sender.reopen().unwrap();
    assert_eq!(sender.send(b"to all", everyone).unwrap_err().raw_os_error(), Some(libc::EACCES));
    for bcast in [true, false] {
        let mut no_route: T = opened(any_wildcard_config().bcast(bcast));
        assert_eq!(no_route.send(b"to all", everyone).unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
    }
}

fn h102_a_full_send_buffer_gives_zero_until_it_drains<T: TestPeer>() {
    let Some(mut network) = Network::private() else { return };
    network.slow_down(100_000_000);
    let (mut sender, receiver): (T, T) = (any_local(), any_local());
    let results: Vec<usize> = (0..400).map(|_| sender.send(&pattern(1_240), receiver.ha()).unwrap()).collect();
    assert!(results.iter().all(|sent| [0, 1_240].contains(sent)));
    let taken = results.iter().filter(|sent| **sent > 0).count();
    assert!(taken > 0 && taken < results.len(), "{taken} of {} taken", results.len());
    let stats = sender.stats();
    assert_eq!((stats.grams_sent, stats.send_would_block), (taken as u64, (results.len() - taken) as u64));
    assert_eq!(stats.grams_send_failed, 0);
    assert!(sender.wait_writable());
    assert_eq!(sender.send(&pattern(1_240), receiver.ha()).unwrap(), 1_240);
}

#[test]
fn h102_a_batch_goes_on_where_it_would_block() {
    const GRAMS: usize = 400;
    let Some(mut network) = Network::private() else { return };
    network.slow_down(100_000_000);
    let mut receiver: BatchPeer = opened(any_local_config().recv_buf_bytes(4 << 20));
    let mut sender: BatchPeer = any_local();
    let payloads: Vec<_> = (0..GRAMS).map(|i| [(i % 256) as u8; 1_000]).collect();
    let dst = receiver.ha();
    let mut sent = 0;
    let mut blocked = 0;
    while sent < GRAMS {
        let report = sender.send_batch(payloads[sent..].iter().map(|data| (&data[..], dst)));
        assert!(report.first_error.is_none());
        assert_eq!(report.sent + report.pending, GRAMS - sent);
        sent += report.sent;
        blocked += usize::from(report.stopped == Stopped::WouldBlock);
        assert!(sender.wait_writable(PATIENCE).unwrap());
    }
    assert!(blocked > 0);
    for data in &payloads {
        assert_eq!(receive_one(&mut receiver).0, data);
    }
}

fn h103_no_buffers_gives_zero_and_may_never_clear<T: TestPeer>() {
    let Some(mut network) = Network::private() else { return };
    network.set_ethernet_mtu();
    let config = any_size(any_local_config());
    let (mut sender, mut receiver): (T, T) = (opened(config.clone()), opened(config));
    sender.socket().set_send_buffer_size(1).unwrap(); // the kernel's minimum
    for _ in 0..3 {
        assert_eq!(sender.send(&pattern(20_000), receiver.ha()).unwrap(), 0);
    }
    assert_eq!(sender.stats().send_no_buffers, 3);
    assert_eq!(sender.send(&pattern(1_000), receiver.ha()).unwrap(), 1_000, "smaller ones go");
    assert_eq!(receive_one(&mut receiver).0, pattern(1_000));
}

fn h104_a_drop_on_the_way_is_invisible<T: TestPeer>() {
    const SENT: usize = 50;
    let Some(mut network) = Network::private() else { return };
    network.slow_down(5_000);
    let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
    for _ in 0..SENT {
        assert_eq!(sender.send(&pattern(1_240), receiver.ha()).unwrap(), 1_240);
    }
    assert!(receive_rest(&mut receiver).len() < SENT);
    assert_eq!(receiver.stats().kernel_dropped, 0, "it never came to the receiver's socket");
}

fn h108_a_datagram_longer_than_the_mtu_arrives<T: TestPeer>() {
    let Some(mut network) = Network::private() else { return };
    network.set_ethernet_mtu();
    let config = any_size(any_local_config());
    let (mut sender, mut receiver): (T, T) = (opened(config.clone()), opened(config));
    for len in [1_472, 1_473, 65_507] {
        assert_eq!(sender.send(&pattern(len), receiver.ha()).unwrap(), len);
        assert_eq!(receive_one(&mut receiver).0, pattern(len));
    }
}

#[test]
fn t13_rows_of_datagrams_longer_than_the_mtu_arrive_and_pause_segmentation() {
    let Some(mut network) = Network::private() else { return };
    network.set_ethernet_mtu();
    let (mut sender, mut receiver): (BatchPeer, BatchPeer) = (any_local(), opened(any_local_config().gram_size(9_000)));
    let dst = receiver.ha();
    let mut exchange = |sender: &mut BatchPeer, len: usize| {
        let grams: Vec<_> = (0..10).map(|i| pattern(len - usize::from(i == 9))).collect();
        assert_eq!(sender.send_batch(grams.iter().map(|data| (data, dst))).sent, grams.len());
        for data in &grams {
            assert_eq!(receive_one(&mut receiver).0, *data);
        }
    };
    let is_segmenting = sender.segments();
    for (len, segmented, refusals) in [(1_472, 10, 0), (1_473, 10, 1), (1_472, 10, 1), (1_472, 20, 1), (9_000, 20, 2)] {
        exchange(&mut sender, len);
        let stats = sender.stats();
        let expected = if is_segmenting { (segmented, refusals) } else { (0, 0) };
        assert_eq!((stats.grams_segmented, stats.segment_refusals), expected, "{len}");
    }
    assert_eq!((sender.stats().grams_sent, sender.stats().grams_send_failed), (50, 0));
}

fn h115_a_loopback_peer_cannot_send_off_the_machine<T: TestPeer>() {
    let Some(mut network) = Network::private() else { return };
    if !run("ip link add hio0 type veth peer name hio1") {
        return left_out("this kernel has no veth");
    }
    network.undo.push("ip link del hio0");
    network.change("ip addr add 192.0.2.1/24 dev hio0", "true");
    network.change("ip link set hio0 up", "true");
    network.change("ip link set hio1 up", "true");
    let elsewhere = "192.0.2.2:9".parse().unwrap();
    let mut on_loopback: T = any_local();
    assert_eq!(on_loopback.send(b"x", elsewhere).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let mut on_all: T = opened(any_wildcard_config());
    assert_eq!(on_all.send(b"x", elsewhere).unwrap(), 1);
}

fn h116_no_route_is_enetunreach<T: TestPeer>() {
    let Some(_network) = Network::private() else { return };
    let mut sender: T = opened(any_wildcard_config());
    let error = sender.send(b"x", "203.0.113.5:9".parse().unwrap()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
    assert_eq!(sender.stats().grams_send_failed_by_errno.of(libc::ENETUNREACH), 1);
    assert!(is_nothing_there(&mut sender));
}

/// Multicast needs a network of its own too, so that nothing leaves the machine.
macro_rules! multicast {
    ($module:ident, $peer:ty) => {
        mod $module {
            use hio_udp::Interface;

            use super::*;

            #[test]
            fn a_group_is_heard_until_it_is_left() {
                let Some(mut network) = Network::private() else { return };
                network.add_ethernet();
                let (group, ethernet) = ([239, 255, 0, 7].into(), Interface::Address([10, 9, 0, 1].into()));
                let mut listener: $peer = opened(any_wildcard_config());
                let mut sender: $peer = opened(any_wildcard_config());
                sender.set_multicast_interface(ethernet).unwrap();
                let to_group = SocketAddr::new(group, listener.port());

                listener.join_multicast(group, ethernet).unwrap();
                listener.join_multicast(group, ethernet).expect_err("the kernel refuses a second time");
                assert_eq!(sender.send(b"one", to_group).unwrap(), 3);
                let from = SocketAddr::from(([10, 9, 0, 1], sender.port()));
                assert_eq!(receive_one(&mut listener), (b"one".to_vec(), from));

                listener.reopen().unwrap();
                sender.reopen().unwrap();
                sender.send(b"still a member", to_group).unwrap();
                assert_eq!(receive_one(&mut listener).0, b"still a member");

                sender.set_multicast_loop(false).unwrap();
                sender.send(b"not for this machine", to_group).unwrap();
                sender.set_multicast_loop(true).unwrap();
                sender.set_multicast_ttl(0).unwrap();
                sender.send(b"for this machine only", to_group).unwrap();
                assert_eq!(receive_one(&mut listener).0, b"for this machine only");

                listener.leave_multicast(group, ethernet).unwrap();
                sender.send(b"unheard", to_group).unwrap();
                assert!(is_nothing_there(&mut listener));
            }

            #[test]
            fn an_ipv6_group_is_heard_by_interface_index() {
                let Some(mut network) = Network::private() else { return };
                let ethernet = Interface::Index(network.add_ethernet());
                let group = "ff12::7".parse().unwrap();
                let mut listener: $peer = opened(PeerConfig::new().ha(("::", 0)).exclusive(true));
                let mut sender: $peer = opened(PeerConfig::new().ha(("::", 0)).exclusive(true));
                listener.join_multicast(group, ethernet).unwrap();
                sender.set_multicast_interface(ethernet).unwrap();
                sender.send(b"six", SocketAddr::new(group, listener.port())).unwrap();
                assert_eq!(receive_one(&mut listener).0, b"six");
                listener.leave_multicast(group, ethernet).unwrap();
            }
        }
    };
}

multicast!(multicast_peer, hio_udp::Peer);
multicast!(multicast_batch_peer, BatchPeer);

/// Shards would each get a copy of a datagram to a group, if each joined it.
#[test]
fn a_group_comes_once_to_a_pipeline_of_several_shards_and_others_not_at_all() {
    let Some(mut network) = Network::private() else { return };
    network.add_ethernet();
    let (group, other) = ([239, 255, 0, 7].into(), [239, 255, 0, 8].into());
    let ethernet = hio_udp::Interface::Address([10, 9, 0, 1].into());
    let config = PeerConfig::new().ha(("", 0));
    let pipeline = Pipeline::builder(config).shards(3).join(group, ethernet).start(|_| {}).unwrap();
    let mut neighbour: BatchPeer = opened(any_wildcard_config());
    neighbour.join_multicast(other, ethernet).unwrap();
    let mut sender: BatchPeer = opened(any_wildcard_config());
    sender.set_multicast_interface(ethernet).unwrap();
    for group in [group, other] {
        assert_eq!(sender.send(b"x", SocketAddr::new(group, pipeline.ha().port())).unwrap(), 1);
    }
    sender.send(b"to one", SocketAddr::from(([10, 9, 0, 1], pipeline.ha().port()))).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while pipeline.stats().total().grams_delivered < 2 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    let total = pipeline.stop().total();
    assert_eq!((total.grams_delivered, total.socket.bytes_received), (2, 7));
}
