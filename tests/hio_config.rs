//! Section A of docs/HIO.md: what a peer is made from.

mod util;

use std::io::ErrorKind;

use hio_udp::{BatchPeer, DEFAULT_BC, Peer, PeerConfig, Transport, WireLog, WireLogConfig};
use util::{TestPeer, any_local_config};

for_both_peers!(
    h001_a_new_peer_is_closed_and_has_hios_address,
    h005_a_name_is_stored_as_given,
    h006_ha_wins_over_host_and_port,
    h007_without_ha_host_and_port_count,
    h009_an_empty_host_is_the_wildcard_before_the_open,
    h010_localhost_is_resolved_before_the_open,
    h014_a_mapped_ipv6_host_becomes_ipv4,
    h014_an_ipv6_host_is_accepted,
    h016_a_host_no_resolver_takes_is_an_error_of_new,
    h013_a_malformed_host_is_an_error_of_new,
    h017_every_port_is_stored,
    h019_bc_times_gram_size_is_bs,
    h022_bs_is_ignored_when_bc_counts,
    h024_gram_size_stands_for_an_overridden_max_gram_size,
    h026_bcast_is_stored_as_given,
    h026_wl_is_stored_as_given_and_can_be_changed,
    h027_a_host_setter_resolves_at_once,
    h027_an_unknown_host_leaves_ha_alone,
    h028_path_is_ha,
    h030_setters_wait_for_the_next_reopen,
);

#[cfg(target_os = "linux")]
mod linux {
    for_both_peers!(
        h011_a_name_of_the_hosts_file_is_resolved,
        h012_shortened_forms_are_understood,
        h014_the_scope_of_an_ipv6_host_is_kept,
    );

    use std::net::IpAddr;

    use super::*;

    fn h011_a_name_of_the_hosts_file_is_resolved<T: Transport>() {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let entries: Vec<(IpAddr, &str)> = hosts
            .lines()
            .filter_map(|line| line.split('#').next()?.split_once(char::is_whitespace))
            .filter_map(|(ip, names)| Some((ip.parse().ok()?, names)))
            .flat_map(|(ip, names)| names.split_whitespace().map(move |name| (ip, name)))
            .collect();
        let other = entries.iter().find(|(ip, name)| ip.is_ipv4() && *name != "localhost");
        let Some((_, name)) = other else { return util::left_out("the hosts file has no name but localhost") };
        let host = T::new(PeerConfig::new().ha((*name, 0))).unwrap().host();
        assert!(entries.contains(&(host, name)), "{name} became {host}");
    }

    fn h014_the_scope_of_an_ipv6_host_is_kept<T: Transport>() {
        let std::net::SocketAddr::V6(ha) = T::new(PeerConfig::new().host("fe80::1%lo")).unwrap().ha() else {
            panic!("not an IPv6 address")
        };
        assert_ne!(ha.scope_id(), 0);
    }

    fn h012_shortened_forms_are_understood<T: Transport>() {
        for form in ["127.1", "127.0.1", "2130706433", "0x7f000001", "0177.0.0.1"] {
            let peer = T::new(PeerConfig::new().host(form)).unwrap();
            assert_eq!(peer.host().to_string(), "127.0.0.1", "{form}");
        }
    }
}

fn h001_a_new_peer_is_closed_and_has_hios_address<T: TestPeer>() {
    let peer = T::new(PeerConfig::new()).unwrap();
    assert_eq!(peer.name(), "main");
    assert_eq!(peer.ha(), "127.0.0.1:55000".parse().unwrap());
    assert_eq!(peer.path(), peer.ha());
    assert_eq!((peer.host().to_string(), peer.port()), ("127.0.0.1".to_owned(), 55_000));
    assert!(!peer.bcast());
    assert!(peer.wl().is_none());
    assert!(!peer.opened());
    assert_eq!(peer.actual_buf_sizes(), (0, 0), "no socket is made");
}

#[test]
fn h001_a_new_peer_has_hios_buffers() {
    let peer = Peer::new(PeerConfig::new()).unwrap();
    assert_eq!((peer.bc(), peer.bs()), (None, 65_535));
}

#[test]
fn h001_a_new_batch_peer_has_slots() {
    let peer = BatchPeer::new(PeerConfig::new()).unwrap();
    assert_eq!((peer.bc(), peer.bs()), (Some(DEFAULT_BC), DEFAULT_BC * 1_240));
    assert_eq!(peer.gram_size(), 1_240);
}

#[test]
fn h002_hios_constants_are_exported() {
    assert_eq!((hio_udp::BUF_SIZE, hio_udp::MAX_GRAM_SIZE), (65_535, 1_240));
    assert_eq!(hio_udp::MAX_DATAGRAM_SIZE, 65_535);
    assert_eq!(hio_udp::MAX_SAFE_PAYLOAD, 548);
    assert_eq!(hio_udp::MAX_PACKET_SIZE, 1_024);
}

fn h005_a_name_is_stored_as_given<T: Transport>() {
    for name in ["", "meter 7", "ä"] {
        assert_eq!(T::new(PeerConfig::new().name(name)).unwrap().name(), name);
    }
}

fn h006_ha_wins_over_host_and_port<T: Transport>() {
    let config = PeerConfig::new().ha(("127.0.0.9", 7)).host("no address at all").port(8);
    assert_eq!(T::new(config).unwrap().ha(), "127.0.0.9:7".parse().unwrap());
}

fn h007_without_ha_host_and_port_count<T: Transport>() {
    let peer = T::new(PeerConfig::new().host("127.0.0.9").port(7)).unwrap();
    assert_eq!(peer.ha(), "127.0.0.9:7".parse().unwrap());
}

fn h009_an_empty_host_is_the_wildcard_before_the_open<T: Transport>() {
    let peer = T::new(PeerConfig::new().host("").port(7)).unwrap();
    assert_eq!(peer.ha(), "0.0.0.0:7".parse().unwrap());
}

fn h010_localhost_is_resolved_before_the_open<T: Transport>() {
    for name in ["localhost", "LOCALHOST", "LocalHost"] {
        assert_eq!(T::new(PeerConfig::new().host(name)).unwrap().host().to_string(), "127.0.0.1", "{name}");
    }
}

fn h013_a_malformed_host_is_an_error_of_new<T: TestPeer>() {
    for host in [" 127.0.0.1", "127.0.0.1 ", "[::1]"] {
        if cfg!(windows) && host == "[::1]" {
            continue; // its resolver takes the brackets off
        }
        let error = T::new(PeerConfig::new().host(host)).expect_err(host);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{host}");
        assert!(error.to_string().contains(host), "{error}");
    }
}

fn h014_an_ipv6_host_is_accepted<T: Transport>() {
    for host in ["::1", "::"] {
        assert_eq!(T::new(PeerConfig::new().host(host)).unwrap().host().to_string(), host);
    }
}

fn h014_a_mapped_ipv6_host_becomes_ipv4<T: Transport>() {
    let peer = T::new(PeerConfig::new().host("::ffff:127.0.0.1")).unwrap();
    assert_eq!(peer.host().to_string(), "127.0.0.1");
}

fn h016_a_host_no_resolver_takes_is_an_error_of_new<T: TestPeer>() {
    for host in ["127.0.0.1\0", &"a".repeat(64)] {
        let error = T::new(PeerConfig::new().host(host)).expect_err(host);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{host:?}");
    }
}

fn h017_every_port_is_stored<T: Transport>() {
    for port in [0, 1, 65_535] {
        assert_eq!(T::new(PeerConfig::new().port(port)).unwrap().port(), port);
    }
}

#[test]
fn h018_bc_zero_means_not_given() {
    let peer = Peer::new(PeerConfig::new().bc(0)).unwrap();
    assert_eq!((peer.bc(), peer.bs()), (None, 65_535));
}

#[test]
fn h018_a_batch_peer_without_slots_is_an_error() {
    let error = BatchPeer::new(PeerConfig::new().bc(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("bc is 0"), "{error}");
}

fn h019_bc_times_gram_size_is_bs<T: Transport>() {
    for (bc, bs) in [(1, 1_240), (4, 4_960), (1024, 1_269_760)] {
        let peer = T::new(PeerConfig::new().bc(bc)).unwrap();
        assert_eq!((peer.bc(), peer.bs()), (Some(bc), bs));
    }
}

#[test]
fn h021_a_peer_takes_any_bc() {
    let bc = usize::MAX / 2_000;
    let peer = Peer::new(PeerConfig::new().bc(bc)).unwrap();
    assert_eq!(peer.bs(), bc * 1_240);
}

#[test]
fn h021_a_ring_has_an_upper_bound() {
    let error = BatchPeer::new(PeerConfig::new().bc(usize::MAX)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(&usize::MAX.to_string()), "{error}");
}

fn h022_bs_is_ignored_when_bc_counts<T: Transport>() {
    assert_eq!(T::new(PeerConfig::new().bc(4).bs(777)).unwrap().bs(), 4_960);
}

#[test]
fn h022_bs_counts_when_bc_is_zero() {
    assert_eq!(Peer::new(PeerConfig::new().bc(0).bs(777)).unwrap().bs(), 777);
}

#[test]
fn h023_bs_is_stored_as_given() {
    for bs in [0, 1, 10_000_000] {
        assert_eq!(Peer::new(PeerConfig::new().bs(bs)).unwrap().bs(), bs);
    }
}

fn h024_gram_size_stands_for_an_overridden_max_gram_size<T: Transport>() {
    assert_eq!(T::new(PeerConfig::new().gram_size(100).bc(3)).unwrap().bs(), 300);
}

fn h026_bcast_is_stored_as_given<T: TestPeer>() {
    for bcast in [true, false] {
        assert_eq!(T::new(PeerConfig::new().bcast(bcast)).unwrap().bcast(), bcast);
    }
}

fn h026_wl_is_stored_as_given_and_can_be_changed<T: TestPeer>() {
    let log = |name: &str| WireLog::new(WireLogConfig::new().name(name)).unwrap();
    let mut peer = T::new(PeerConfig::new().wl(log("one"))).unwrap();
    let name = |peer: &T| peer.wl().map(WireLog::name);
    assert_eq!(name(&peer).as_deref(), Some("one"));
    assert!(!peer.wl().unwrap().opened(), "a peer does not open its log");
    peer.set_wl(Some(log("two")));
    assert_eq!(name(&peer).as_deref(), Some("two"));
    peer.set_wl(None);
    assert_eq!(name(&peer), None);
}

fn h027_a_host_setter_resolves_at_once<T: TestPeer>() {
    let mut peer = T::new(PeerConfig::new().ha(("127.0.0.9", 7))).unwrap();
    peer.set_host("localhost").unwrap();
    peer.set_port(8);
    assert_eq!(peer.ha(), "127.0.0.1:8".parse().unwrap());
}

fn h027_an_unknown_host_leaves_ha_alone<T: TestPeer>() {
    let mut peer = T::new(PeerConfig::new().ha(("127.0.0.9", 7))).unwrap();
    let error = peer.set_host(" no address").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(peer.ha(), "127.0.0.9:7".parse().unwrap());
}

fn h028_path_is_ha<T: TestPeer>() {
    let mut peer = T::new(any_local_config()).unwrap();
    assert_eq!(peer.path(), peer.ha());
    peer.open().unwrap();
    assert_ne!(peer.port(), 0);
    assert_eq!(peer.path(), peer.ha());
}

fn h030_setters_wait_for_the_next_reopen<T: TestPeer>() {
    let kernels = |peer: &T| peer.socket().local_addr().unwrap().as_socket().unwrap();
    let mut peer: T = util::any_local();
    let first = peer.ha();
    peer.set_ha("", 0).unwrap();
    assert_eq!(kernels(&peer), first, "the socket stays where it is");
    assert_eq!(peer.ha(), "0.0.0.0:0".parse().unwrap(), "ha shows what was asked");
    peer.reopen().unwrap();
    assert_eq!(peer.ha(), kernels(&peer));
    assert!(peer.host().is_unspecified() && peer.port() != 0);
}
