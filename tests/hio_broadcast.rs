//! Section D of docs/HIO.md: broadcasts, on loopback's own broadcast address 127.255.255.255.
#![cfg(target_os = "linux")]

mod util;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hio_udp::{Peer, PeerConfig, Transport};
use util::{TestPeer, any_local, any_local_config, any_wildcard_config, is_nothing_there, opened, receive_one};

for_both_peers!(
    h074_a_broadcast_needs_bcast,
    h075_a_broadcast_reaches_wildcard_and_broadcast_peers,
    h075_a_wildcard_senders_broadcast_comes_from_loopback,
    h077_the_name_broadcast_is_refused,
    h078_a_broadcast_reaches_all_peers_of_one_port,
    h079_bcast_takes_effect_with_the_next_reopen,
);

fn broadcast(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 255, 255, 255], port))
}

/// Broadcasts reach every socket of a port, so two tests must not meet on one.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn h074_a_broadcast_needs_bcast<T: TestPeer>() {
    let mut receiver: Peer = opened(any_wildcard_config());
    let mut sender: T = any_local();
    let error = sender.send(b"to all", broadcast(receiver.port())).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(is_nothing_there(&mut receiver));
}

fn h075_a_broadcast_reaches_wildcard_and_broadcast_peers<T: TestPeer>() {
    let _alone = alone();
    let mut on_all: T = opened(PeerConfig::new().ha(("", 0)));
    let port = on_all.port();
    let on = |host: &str| -> T { opened(PeerConfig::new().ha((host, port))) };
    let (mut on_broadcast, mut on_one, mut on_two) = (on("127.255.255.255"), on("127.0.0.1"), on("127.0.0.2"));
    let mut sender: T = opened(any_local_config().bcast(true));
    assert_eq!(sender.send(b"to all", broadcast(port)).unwrap(), 6);
    for receiver in [&mut on_all, &mut on_broadcast] {
        assert_eq!(receive_one(receiver), (b"to all".to_vec(), sender.ha()));
        assert!(is_nothing_there(receiver));
    }
    assert!(is_nothing_there(&mut on_one) && is_nothing_there(&mut on_two));
}

fn h075_a_wildcard_senders_broadcast_comes_from_loopback<T: TestPeer>() {
    let mut peer: T = opened(any_wildcard_config().bcast(true));
    peer.send(b"to all", broadcast(peer.port())).unwrap();
    assert_eq!(receive_one(&mut peer), (b"to all".to_vec(), SocketAddr::from(([127, 0, 0, 1], peer.port()))));
}

fn h077_the_name_broadcast_is_refused<T: TestPeer>() {
    let error = T::new(PeerConfig::new().host("<broadcast>")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut peer: T = any_local();
    assert_eq!(peer.set_host("<broadcast>").unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn h078_a_broadcast_reaches_all_peers_of_one_port<T: TestPeer>() {
    let _alone = alone();
    let first: T = opened(PeerConfig::new().ha(("", 0)));
    let config = PeerConfig::new().ha(("", first.port()));
    let mut peers = [first, opened(config.clone()), opened(config)];
    let port = peers[0].port();
    let mut sender: T = opened(any_local_config().bcast(true));
    sender.send(b"to all", broadcast(port)).unwrap();
    for peer in &mut peers {
        assert_eq!(receive_one(peer).0, b"to all");
    }
    sender.send(b"to one", SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    assert_eq!(peers.iter_mut().map(|peer| util::receive_rest(peer).len()).sum::<usize>(), 1);
}

fn h079_bcast_takes_effect_with_the_next_reopen<T: TestPeer>() {
    let mut receiver: Peer = opened(any_wildcard_config());
    let mut sender: T = any_local();
    sender.set_bcast(true);
    let error = sender.send(b"to all", broadcast(receiver.port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    sender.reopen().unwrap();
    assert_eq!(sender.send(b"to all", broadcast(receiver.port())).unwrap(), 6);
    assert_eq!(receive_one(&mut receiver).0, b"to all");
}

#[test]
fn a_group_that_is_none_and_an_interface_of_the_wrong_kind_are_refused() {
    use hio_udp::{Interface, Peer};

    let mut peer: Peer = util::any_local();
    let refused = |result: std::io::Result<()>, part: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    };
    let (group, group6) = ("239.255.0.7".parse().unwrap(), "ff12::7".parse().unwrap());
    refused(peer.join_multicast("127.0.0.1".parse().unwrap(), Interface::Any), "127.0.0.1");
    refused(peer.join_multicast(group6, Interface::Address([127, 0, 0, 1].into())), "ff12::7");
    refused(peer.leave_multicast(group, Interface::Any), "was not joined");
    refused(peer.set_multicast_interface(Interface::Index(1)), "IPv4 socket");

    // On a closed peer all of it is noted, and tried at the open.
    peer.close();
    peer.join_multicast(group, Interface::Address([203, 0, 113, 9].into())).unwrap();
    assert!(peer.reopen().is_err() && !peer.opened(), "this machine has no such interface");
    peer.leave_multicast(group, Interface::Address([203, 0, 113, 9].into())).unwrap();
    peer.reopen().unwrap();
}
