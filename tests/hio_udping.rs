//! hio's own tests of its UDP Peer (`tests/core/udp/test_udping.py`), under their names.
//!
//! Ports are chosen by the kernel, and a receive waits for its datagram instead of sleeping before it.

mod util;

use std::net::SocketAddr;

use hio_udp::{Doist, OpenPeer, OpenWireLog, PeerConfig, PeerDoer, WireLogConfig, open_peer, open_wire_log};
use util::{TestPeer, any_local_config, receive_one, wire_entry};

for_both_peers!(test_udp_basic, test_udp, test_open_peer, test_peer_doer);

fn open_samed_files() -> OpenWireLog {
    open_wire_log(WireLogConfig::new().samed(true).filed(true)).unwrap()
}

fn test_udp_basic<T: TestPeer>() {
    let wl = open_samed_files();
    let mut alpha = T::new(any_local_config().wl(wl.clone())).unwrap();
    assert!(!alpha.opened());
    assert_eq!(alpha.name(), "main");
    alpha.reopen().unwrap();
    assert!(alpha.opened());
    assert!(alpha.host().is_loopback());
    assert_eq!(alpha.path(), alpha.ha());

    let mut beta = T::new(any_local_config().name("beta").wl(wl.clone())).unwrap();
    assert!(!beta.opened());
    assert_eq!(beta.name(), "beta");
    beta.reopen().unwrap();
    assert!(beta.opened());
    assert!(beta.host().is_loopback());
    assert_eq!(beta.path(), beta.ha());

    talk(&mut alpha, &mut beta);

    alpha.close();
    beta.close();
    assert!(!alpha.opened());
    assert!(!beta.opened());
    check_wire_log(wl, alpha.ha(), beta.ha());
}

fn test_udp<T: TestPeer>() {
    const BC: usize = 1_024;
    let wl = open_samed_files();
    let mut alpha = T::new(any_local_config().bc(BC).wl(wl.clone())).unwrap();
    assert!(!alpha.opened());
    assert_eq!(alpha.name(), "main");
    assert_eq!(alpha.bc(), Some(BC));
    assert_eq!(hio_udp::MAX_GRAM_SIZE, 1_240);
    assert_eq!(alpha.bs(), BC * hio_udp::MAX_GRAM_SIZE);
    assert_eq!(alpha.bs(), 1_269_760);
    assert_eq!(alpha.actual_buf_sizes(), (0, 0));
    alpha.reopen().unwrap();
    assert!(alpha.opened());
    // hio's test expects bs itself, which is what macOS gives; Linux gives more or clamps.
    let (send, receive) = alpha.actual_buf_sizes();
    assert!(send > 0 && receive > 0);

    let bs = 32_767;
    let config = any_local_config().name("beta").wl(wl.clone());
    let mut beta = T::new(config.bs(bs)).unwrap();
    assert!(!beta.opened());
    assert_eq!(beta.name(), "beta");
    // A BatchPeer always has slots, and its bs is theirs.
    assert!(beta.bs() == bs && beta.bc().is_none() || beta.bs() == beta.bc().unwrap() * hio_udp::MAX_GRAM_SIZE);
    assert_eq!(beta.actual_buf_sizes(), (0, 0));
    beta.reopen().unwrap();
    assert!(beta.opened());
    let (send, receive) = beta.actual_buf_sizes();
    assert!(send >= beta.bs() && receive >= beta.bs());

    talk(&mut alpha, &mut beta);

    alpha.close();
    beta.close();
    assert!(!alpha.opened());
    assert!(!beta.opened());
    check_wire_log(wl, alpha.ha(), beta.ha());
}

fn test_open_peer<T: TestPeer>() {
    let wl = open_samed_files();
    let has = {
        let mut alpha: OpenPeer<T> = open_peer(any_local_config().wl(wl.clone())).unwrap();
        let mut beta: OpenPeer<T> = open_peer(any_local_config().wl(wl.clone())).unwrap();
        assert!(alpha.opened());
        assert!(beta.opened());
        talk(&mut *alpha, &mut *beta);
        [alpha.ha(), beta.ha()]
    };
    check_wire_log(wl, has[0], has[1]);
    for ha in has {
        let config = PeerConfig::new().ha((ha.ip().to_string(), ha.port()));
        assert_eq!(open_peer::<T>(config.exclusive(true)).unwrap().ha(), ha, "closed at the end of the scope");
    }
}

fn test_peer_doer<T: TestPeer>() {
    // What is lent to a Doist is made before it.
    let mut doer = PeerDoer::new(T::new(any_local_config()).unwrap(), |_, _| Ok(false));
    let tock = 0.03125;
    let ticks = 8;
    let limit = tock * f64::from(ticks);
    let mut doist = Doist::new().with_tock(tock).with_real(true).with_limit(limit);
    assert_eq!(doist.tyme(), 0.0);
    assert_eq!(doist.tock(), 0.03125);
    assert!(doist.real());
    assert_eq!(doist.limit(), Some(limit));
    assert_eq!(doist.running(), 0);

    assert!(!doer.peer().opened());
    doist.add(&mut doer);
    doist.run().unwrap();
    assert_eq!(doist.tyme(), limit);
    drop(doist);
    assert!(!doer.peer().opened());
}

/// The exchange at the heart of each of hio's tests: to the other and to oneself, both ways.
fn talk<T: TestPeer>(alpha: &mut T, beta: &mut T) {
    let message = b"alpha sends to beta";
    alpha.send(message, beta.ha()).unwrap();
    assert_eq!(receive_one(beta), (message.to_vec(), alpha.ha()));

    let message = b"alpha sends to alpha";
    alpha.send(message, alpha.ha()).unwrap();
    assert_eq!(receive_one(alpha), (message.to_vec(), alpha.ha()));

    let message = b"beta sends to alpha";
    beta.send(message, alpha.ha()).unwrap();
    assert_eq!(receive_one(alpha), (message.to_vec(), beta.ha()));

    let message = b"beta sends to beta";
    beta.send(message, beta.ha()).unwrap();
    assert_eq!(receive_one(beta), (message.to_vec(), beta.ha()));
}

/// Holds the log of [`talk`] to the bytes hio expects, and closes it.
fn check_wire_log(wl: OpenWireLog, alpha: SocketAddr, beta: SocketAddr) {
    wl.flush().unwrap();
    assert!(wl.samed());
    let messages: [(SocketAddr, SocketAddr, &[u8]); 4] = [
        (alpha, beta, b"alpha sends to beta"),
        (alpha, alpha, b"alpha sends to alpha"),
        (beta, alpha, b"beta sends to alpha"),
        (beta, beta, b"beta sends to beta"),
    ];
    let entries = messages.map(|(src, dst, data)| [wire_entry("Tx", dst, data), wire_entry("Rx", src, data)].concat());
    assert_eq!(wl.read_rx().unwrap().unwrap(), entries.concat());
    assert_eq!(wl.read_tx().unwrap(), wl.read_rx().unwrap());
    let kept = wl.clone();
    drop(wl);
    assert!(!kept.opened());
}
