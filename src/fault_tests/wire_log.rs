//! What of a failing call is in the wire log, and what a failing log costs.

use super::*;

fn unlogged_errnos<T: Transport>() {
    let faults = Faults::new();
    let log = WireLog::new(WireLogConfig::new().samed(true).reopen(true)).unwrap();
    let mut peer = T::new(config().wl(log.clone())).unwrap();
    let me = peer.ha();
    for errno in [EAGAIN, EWOULDBLOCK, ENOBUFS, ENOMEM] {
        faults.errno(Call::Send, 1, errno);
        assert_eq!(peer.send(b"later", me).unwrap(), 0, "{errno}");
    }
    faults.errno(Call::Send, 1, EPERM);
    peer.send(b"never", me).unwrap_err();
    faults.errno(Call::Recv, 1, EAGAIN);
    assert_eq!(peer.receive().unwrap().1, None);
    faults.errno(Call::Recv, 1, EIO);
    peer.receive().unwrap_err();
    assert_eq!((log.read_rx().unwrap().unwrap(), peer.stats().wire_log_failed), (Vec::new(), 0));
}

#[test]
fn h124_what_would_block_or_fails_is_not_in_the_wire_log() {
    unlogged_errnos::<Peer>();
    unlogged_errnos::<BatchPeer>();
}

#[test]
fn h124_of_a_batch_the_leading_grams_are_in_the_wire_log_once() {
    let faults = Faults::new();
    let fmt = crate::WireFormat::parse("%(data)b").unwrap();
    let log = WireLog::new(WireLogConfig::new().fmt(fmt).reopen(true)).unwrap();
    let mut from = BatchPeer::new(config().wl(log.clone())).unwrap();
    let peer: BatchPeer = open();
    let grams = numbered(5);
    faults.errno_at_gram(2, EAGAIN);
    let report = from.send_batch(to(&grams, peer.ha()));
    assert_eq!(log.read_tx().unwrap().unwrap(), grams[..2].concat());
    let _ = from.send_batch(to(&grams, peer.ha()).skip(report.settled()));
    assert_eq!(log.read_tx().unwrap().unwrap(), grams.concat());

    log.reopen().unwrap();
    grams.iter().for_each(|gram| from.queue(gram, peer.ha()).unwrap());
    faults.errno_at_gram(3, EPERM);
    assert_eq!(parts(&from.flush()), (3, 6, 1, Some((3, EPERM)), Stopped::Failed));
    assert_eq!(log.read_tx().unwrap().unwrap(), grams[..3].concat());
    let _ = from.flush();
    assert_eq!(log.read_tx().unwrap().unwrap(), [&grams[..3], &grams[4..]].concat().concat());
}

fn failing_wire_log<T: Transport>() {
    let log = WireLog::new(WireLogConfig::new().reopen(true)).unwrap();
    log.close().unwrap();
    let mut peer = T::new(config().name("logger").wl(log)).unwrap();
    let me = peer.ha();
    let logged = logged_by(|| {
        for _ in 0..3 {
            peer.send(b"kept", me).unwrap();
            assert_eq!(receive_one(&mut peer), b"kept");
        }
    });
    let line = format!("ERROR Error writing wire log of UDP {me} (peer 'logger'): the wire log is closed");
    assert_eq!((logged, peer.stats().wire_log_failed), (vec![line], 6));
}

#[test]
fn h126_a_failing_wire_log_is_told_once_and_counted_always() {
    failing_wire_log::<Peer>();
    failing_wire_log::<BatchPeer>();
}
