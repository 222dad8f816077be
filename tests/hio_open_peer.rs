//! Section H of docs/HIO.md: openPeer, here `open_peer` (a guard) and `with_peer` (a closure).

mod util;

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use hio_udp::{OpenPeer, PeerConfig, open_peer, with_peer};
use util::noted::{Noted, calls, note};
use util::{TestPeer, any_local, any_local_config, is_free, is_in_use};

for_both_peers!(
    h142_open_peer_is_named_test_and_closes_with_its_scope,
    h143_a_given_name_is_kept,
    h144_a_peer_opened_by_its_settings_is_opened_again,
    h145_a_failed_open_is_an_error_and_the_body_does_not_run,
    h146_the_peer_is_closed_when_the_body_fails,
    h146_the_peer_is_closed_when_the_body_panics,
    h148_an_error_of_new_is_passed_on,
    h149_a_body_may_close_and_reopen_by_itself,
);

fn h142_open_peer_is_named_test_and_closes_with_its_scope<T: TestPeer>() {
    let ha = {
        let peer: OpenPeer<T> = open_peer(any_local_config()).unwrap();
        assert!(peer.opened());
        assert_eq!(peer.name(), "test");
        peer.ha()
    };
    assert!(is_free(ha));
}

fn h143_a_given_name_is_kept<T: TestPeer>() {
    assert_eq!(open_peer::<T>(any_local_config().name("mine")).unwrap().name(), "mine");
}

fn h144_a_peer_opened_by_its_settings_is_opened_again<T: TestPeer>() {
    let peer = open_peer::<T>(any_local_config().reopen(true)).unwrap();
    assert!(peer.opened());
}

fn h145_a_failed_open_is_an_error_and_the_body_does_not_run<T: TestPeer>() {
    let holder: T = any_local();
    let config = PeerConfig::new().ha((holder.host().to_string(), holder.port()));
    let result = with_peer::<T, ()>(config, |_| panic!("the body runs with a closed peer"));
    assert!(is_in_use(&result.unwrap_err()));
}

fn h146_the_peer_is_closed_when_the_body_fails<T: TestPeer>() {
    let mut ha = None;
    let result = with_peer::<T, ()>(any_local_config(), |peer| {
        ha = Some(peer.ha());
        Err(io::Error::other("of the body"))
    });
    assert_eq!(result.unwrap_err().to_string(), "of the body");
    assert!(is_free(ha.unwrap()));
}

fn h146_the_peer_is_closed_when_the_body_panics<T: TestPeer>() {
    let mut ha = None;
    let body = AssertUnwindSafe(|| {
        with_peer::<T, ()>(any_local_config(), |peer| {
            ha = Some(peer.ha());
            std::panic::resume_unwind(Box::new("of the body"));
        })
    });
    assert!(catch_unwind(body).is_err());
    assert!(is_free(ha.unwrap()));
}

fn h148_an_error_of_new_is_passed_on<T: TestPeer>() {
    let error = open_peer::<T>(PeerConfig::new().host("no address")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn h149_a_body_may_close_and_reopen_by_itself<T: TestPeer>() {
    with_peer::<T, ()>(any_local_config(), |peer| {
        assert!(peer.close());
        peer.reopen()
    })
    .unwrap();
    with_peer::<T, ()>(any_local_config(), |peer| {
        assert!(peer.close());
        Ok(())
    })
    .unwrap();
}

#[test]
fn h144_the_order_of_calls_is_hios() {
    with_peer::<Noted<true>, ()>(PeerConfig::new(), |_| {
        note("body");
        Ok(())
    })
    .unwrap();
    assert_eq!(calls(), ["new", "reopen", "close", "open", "body", "close"]);
}

#[test]
fn h147_a_failed_open_is_closed_too() {
    let error = with_peer::<Noted<false>, ()>(PeerConfig::new(), |_| {
        note("body");
        Ok(())
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "does not open");
    assert_eq!(calls(), ["new", "reopen", "close", "open", "close"]);
}
