//! hio's own tests of its UDP Peer (`tests/core/udp/test_udping.py`), under their names.
//!
//! What they check of the wire log is left to later. Ports are chosen by the kernel, and a receive
//! waits for its datagram instead of sleeping before it.

mod util;

use hio_udp::{Doist, OpenPeer, PeerConfig, PeerDoer, open_peer};
use util::{TestPeer, any_local_config, receive_one};

for_both_peers!(test_udp_basic, test_udp, test_open_peer, test_peer_doer);

fn test_udp_basic<T: TestPeer>() {
    let mut alpha = T::new(any_local_config()).unwrap();
    assert!(!alpha.opened());
    assert_eq!(alpha.name(), "main");
    alpha.reopen().unwrap();
    assert!(alpha.opened());
    assert_eq!(alpha.host().to_string(), "127.0.0.1");
    assert_eq!(alpha.path(), alpha.ha());

    let mut beta = T::new(any_local_config().name("beta")).unwrap();
    assert!(!beta.opened());
    assert_eq!(beta.name(), "beta");
    beta.reopen().unwrap();
    assert!(beta.opened());
    assert_eq!(beta.host().to_string(), "127.0.0.1");
    assert_eq!(beta.path(), beta.ha());

    talk(&mut alpha, &mut beta);

    alpha.close();
    beta.close();
    assert!(!alpha.opened());
    assert!(!beta.opened());
}

fn test_udp<T: TestPeer>() {
    const BC: usize = 1_024;
    let mut alpha = T::new(any_local_config().bc(BC)).unwrap();
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
    let config = any_local_config().name("beta");
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
}

fn test_open_peer<T: TestPeer>() {
    let has = {
        let mut alpha: OpenPeer<T> = open_peer(any_local_config()).unwrap();
        let mut beta: OpenPeer<T> = open_peer(any_local_config()).unwrap();
        assert!(alpha.opened());
        assert!(beta.opened());
        talk(&mut *alpha, &mut *beta);
        [alpha.ha(), beta.ha()]
    };
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
