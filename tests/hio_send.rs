//! Section F of docs/HIO.md: what send gives.
//!
//! Errors the kernel gives only when it is made to are tested beside the source, in `src/fault_tests/`.

mod util;

use hio_udp::{BatchPeer, Peer, PeerConfig, Transport};
use util::{TestPeer, any_local, any_local_config, any_size, is_nothing_there, opened, pattern, receive_one};

for_both_peers!(
    h099_a_sent_datagram_gives_its_length,
    h100_an_empty_datagram_is_sent_and_gives_zero,
    h105_a_loopback_sender_never_has_to_wait,
    h107_the_longest_datagram_goes_and_one_byte_more_does_not,
    h117_any_slice_of_bytes_can_be_sent,
);

#[cfg(unix)]
mod unix {
    use super::*;

    for_both_peers!(
        h107_too_long_is_emsgsize,
        h113_an_ipv6_destination_is_an_error_of_an_ipv4_peer,
        h106_a_failed_send_leaves_the_next_one_alone,
    );

    fn h107_too_long_is_emsgsize<T: TestPeer>() {
        let (mut sender, mut receiver): (T, T) = (opened(any_size(any_local_config())), any_local());
        for len in [65_508, 65_535, 70_000] {
            let error = sender.send(&pattern(len), receiver.ha()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE), "{len} bytes");
        }
        util::assert_nothing_queued(&mut receiver);
    }

    fn h113_an_ipv6_destination_is_an_error_of_an_ipv4_peer<T: TestPeer>() {
        let mut sender: T = any_local();
        let error = sender.send(b"x", "[::1]:9".parse().unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
    }

    fn h106_a_failed_send_leaves_the_next_one_alone<T: TestPeer>() {
        let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
        sender.send(&pattern(65_508), receiver.ha()).unwrap_err();
        assert_eq!(sender.send(b"next", receiver.ha()).unwrap(), 4);
        assert_eq!(receive_one(&mut receiver).0, b"next");
        let stats = sender.stats();
        assert_eq!((stats.grams_send_failed, stats.grams_sent), (1, 1));
        assert_eq!(stats.grams_send_failed_by_errno.of(libc::EMSGSIZE), 1);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    for_both_peers!(h110_port_zero_is_einval, h111_an_unspecified_destination_is_loopback);

    fn h110_port_zero_is_einval<T: TestPeer>() {
        let mut sender: T = any_local();
        let error = sender.send(b"x", "127.0.0.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    fn h111_an_unspecified_destination_is_loopback<T: TestPeer>() {
        let on_loopback = || opened(any_local_config().ha(("127.0.0.1", 0)));
        let (mut sender, mut receiver): (T, T) = (on_loopback(), on_loopback());
        sender.send(b"to 0.0.0.0", (std::net::Ipv4Addr::UNSPECIFIED, receiver.port()).into()).unwrap();
        assert_eq!(receive_one(&mut receiver), (b"to 0.0.0.0".to_vec(), sender.ha()));
    }
}

fn h099_a_sent_datagram_gives_its_length<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
    let data = pattern(1_000);
    assert_eq!(sender.send(&data, receiver.ha()).unwrap(), 1_000);
    assert_eq!(data, pattern(1_000));
    assert_eq!(receive_one(&mut receiver).0, data);
}

fn h100_an_empty_datagram_is_sent_and_gives_zero<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
    assert_eq!(sender.send(b"", receiver.ha()).unwrap(), 0);
    assert_eq!(receive_one(&mut receiver), (Vec::new(), sender.ha()));
    assert_eq!(sender.stats().grams_sent, 1);
}

fn h105_a_loopback_sender_never_has_to_wait<T: TestPeer>() {
    let (mut sender, receiver): (T, T) = (any_local(), any_local());
    for _ in 0..3_000 {
        assert_eq!(sender.send(&pattern(1_240), receiver.ha()).unwrap(), 1_240);
    }
}

fn h107_the_longest_datagram_goes_and_one_byte_more_does_not<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) =
        (opened(any_size(any_local_config())), opened(any_size(any_local_config())));
    assert_eq!(sender.send(&pattern(65_507), receiver.ha()).unwrap(), 65_507);
    assert_eq!(receive_one(&mut receiver).0, pattern(65_507));
    sender.send(&pattern(65_508), receiver.ha()).unwrap_err();
    assert!(is_nothing_there(&mut receiver));
}

fn h117_any_slice_of_bytes_can_be_sent<T: TestPeer>() {
    let (mut sender, mut receiver): (T, T) = (any_local(), any_local());
    let owned = b"0123456789".to_vec();
    for data in [&owned[..], &owned[3..6], b"array", "text".as_bytes()] {
        assert_eq!(sender.send(data, receiver.ha()).unwrap(), data.len());
        assert_eq!(receive_one(&mut receiver).0, data);
    }
}

/// hio resolves the destination on every send; here that is the caller's, once.
#[test]
fn h112_a_destination_is_resolved_before_it_is_sent_to() {
    use std::net::ToSocketAddrs;

    let mut receiver: Peer = opened(any_local_config().ha(("127.0.0.1", 0)));
    let mut found = ("localhost", receiver.port()).to_socket_addrs().unwrap();
    let dst = found.find(|address| address.is_ipv4()).unwrap();
    let mut sender: BatchPeer = opened(PeerConfig::new().ha(("localhost", 0)).exclusive(true));
    sender.send(b"by name", dst).unwrap();
    assert_eq!(receive_one(&mut receiver), (b"by name".to_vec(), sender.ha()));
}
