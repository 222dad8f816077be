//! Section C of docs/HIO.md: ports that several sockets share, as Linux does it.
#![cfg(target_os = "linux")]

mod util;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::SocketAddr;

use hio_udp::{Peer, PeerConfig, Transport};
use util::{
    TestPeer, any_local, any_local_config, is_nothing_there, opened, own_host_config, receive_one, receive_rest,
};

for_both_peers!(
    h067_each_sender_sticks_to_one_of_two_peers,
    h068_when_one_of_two_closes_the_other_gets_everything,
    h069_what_a_closing_peer_had_queued_is_lost,
    h070_the_specific_address_wins_over_the_wildcard,
    h071_an_exclusive_peer_shares_with_nobody,
    h072_beside_a_reuseaddr_socket_the_last_one_opened_wins,
    h073_exclusive_peers_never_get_one_port_twice,
);

const SENDERS: usize = 40;

/// Sends one gram from each of many new peers; gives their addresses.
fn send_from_many(dst: SocketAddr) -> HashSet<SocketAddr> {
    let mut senders: Vec<Peer> = (0..SENDERS).map(|_| any_local()).collect();
    for sender in &mut senders {
        sender.send(b"from one of many", dst).unwrap();
    }
    senders.iter().map(|sender| sender.ha()).collect()
}

/// A second peer on the address of `first`.
fn beside<T: TestPeer>(first: &T) -> T {
    let second: T = opened(PeerConfig::new().ha((first.host().to_string(), first.port())));
    assert_eq!(second.ha(), first.ha());
    second
}

fn sources<T: Transport>(peer: &mut T) -> Vec<SocketAddr> {
    receive_rest(peer).into_iter().map(|(_, src)| src).collect()
}

fn h067_each_sender_sticks_to_one_of_two_peers<T: TestPeer>() {
    let mut alpha: T = opened(own_host_config());
    let mut beta = beside(&alpha);
    let mut senders: Vec<Peer> = (0..SENDERS).map(|_| any_local()).collect();
    for _ in 0..3 {
        for sender in &mut senders {
            sender.send(b"x", alpha.ha()).unwrap();
        }
    }
    let (to_alpha, to_beta) = (sources(&mut alpha), sources(&mut beta));
    assert_eq!(to_alpha.len() + to_beta.len(), 3 * SENDERS);
    let (to_alpha, to_beta): (HashSet<_>, HashSet<_>) = (to_alpha.into_iter().collect(), to_beta.into_iter().collect());
    assert!(to_alpha.is_disjoint(&to_beta), "no sender is seen by both");
}

fn h068_when_one_of_two_closes_the_other_gets_everything<T: TestPeer>() {
    let mut alpha: T = opened(own_host_config());
    let mut beta = beside(&alpha);
    alpha.close();
    let sent = send_from_many(beta.ha());
    assert_eq!(sources(&mut beta).into_iter().collect::<HashSet<_>>(), sent);
}

fn h069_what_a_closing_peer_had_queued_is_lost<T: TestPeer>() {
    let mut alpha: T = opened(own_host_config());
    let mut beta = beside(&alpha);
    send_from_many(alpha.ha());
    beta.close();
    assert!(sources(&mut alpha).len() < SENDERS, "what the kernel had given to the other is not handed over");
    beta.reopen().unwrap();
    assert!(is_nothing_there(&mut beta));
}

fn h070_the_specific_address_wins_over_the_wildcard<T: TestPeer>() {
    for specific_first in [true, false] {
        let mut wildcard: T = opened(PeerConfig::new().ha(("", 0))); // takes a port no exclusive peer has
        let mut specific: T = opened(PeerConfig::new().ha((util::own_host(), wildcard.port())));
        if specific_first {
            wildcard.reopen().unwrap();
        }
        let sent = send_from_many(specific.ha());
        assert_eq!(sources(&mut specific).into_iter().collect::<HashSet<_>>(), sent);
        assert!(is_nothing_there(&mut wildcard));
    }
}

fn h071_an_exclusive_peer_shares_with_nobody<T: TestPeer>() {
    let shared: T = opened(own_host_config());
    let beside_shared = own_host_config().ha((shared.host().to_string(), shared.port()));
    let error = T::new(beside_shared.clone().exclusive(true).reopen(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "an exclusive peer refuses a port that is shared");

    drop(shared);
    let _exclusive: T = opened(beside_shared.clone().exclusive(true));
    let error = T::new(beside_shared.reopen(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "and keeps out those that would share");
}

fn h072_beside_a_reuseaddr_socket_the_last_one_opened_wins<T: TestPeer>() {
    let other: std::net::UdpSocket = util::bare_socket().into();
    other.set_nonblocking(true).unwrap();
    let other = socket2::SockRef::from(&other);
    other.set_reuse_address(true).unwrap();
    let mut peer: T = opened(own_host_config());
    other.bind(&peer.ha().into()).unwrap();

    let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
    send_from_many(peer.ha());
    assert!(is_nothing_there(&mut peer), "the other socket was bound last");
    for _ in 0..SENDERS {
        other.recv(&mut buffer).unwrap();
    }
    peer.reopen().unwrap();
    let sent = send_from_many(peer.ha());
    assert_eq!(sources(&mut peer).into_iter().collect::<HashSet<_>>(), sent, "now the peer was");
    assert_eq!(other.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn h073_exclusive_peers_never_get_one_port_twice<T: TestPeer>() {
    let config = any_local_config().bc(1);
    let peers: Vec<T> = (0..200).map(|_| opened(config.clone())).collect();
    let ports: HashSet<u16> = peers.iter().map(|peer| peer.port()).collect();
    assert_eq!(ports.len(), peers.len());
}

#[test]
fn h067_a_peer_and_a_batch_peer_share_a_port() {
    let mut one: Peer = opened(own_host_config());
    let mut many: hio_udp::BatchPeer = opened(PeerConfig::new().ha((one.host().to_string(), one.port())));
    let sent = send_from_many(one.ha());
    one.close();
    let rest = sources(&mut many).len();
    assert!(rest <= sent.len());
    let mut sender: Peer = any_local();
    sender.send(b"alone now", many.ha()).unwrap();
    assert_eq!(receive_one(&mut many).0, b"alone now");
}
