//! Every errno of io_uring's calls, and of the requests they carry: whatever fails, `recvmmsg` stands in or
//! the error comes out, and every datagram is received once.

use libc::*;

use super::table::{ROWS, Receives};
use super::{open, *};

/// What io_uring_setup(2) names, and ENOSYS of kernels without it.
const RING: &[i32] = &[EFAULT, EINVAL, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS];

/// What io_uring_register(2) names.
const REGISTER: &[i32] = &[EACCES, EBADF, EBADFD, EBUSY, EEXIST, EFAULT, EINVAL, EMFILE, ENOMEM, ENXIO, EOPNOTSUPP];

/// What io_uring_enter(2) names.
const ENTER: &[i32] = &[EAGAIN, EBADF, EBADFD, EBADR, EBUSY, EEXIST, EFAULT, EINTR, EINVAL, ENXIO, EOPNOTSUPP];

/// More than two requests bring, so that there is a first, a middle and a last one.
const QUEUED: u8 = 90;

fn try_open() -> std::io::Result<BatchPeer> {
    BatchPeer::new(config().bc(128))
}

/// A peer that asks io_uring next, if there is any to be had.
fn open_expecting_many(from: &mut BatchPeer) -> Option<BatchPeer> {
    let mut peer = try_open().unwrap();
    for _ in 0..2 {
        assert_eq!(from.send_batch(to(&numbered(20), peer.ha())).sent, 20);
        assert_eq!(peer.fill().unwrap().len(), 20);
    }
    (peer.stats().backend == "io_uring").then_some(peer)
}

/// Sends and receives many, and gives the errors that came between.
fn errors_between(from: &mut BatchPeer, peer: &mut BatchPeer) -> Vec<i32> {
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    for calls in 0.. {
        assert!(calls < 1000, "it never ends: {numbers:?} {errors:?}");
        match peer.fill() {
            Ok(grams) => numbers.extend(grams.map(|gram| gram.data[1])),
            Err(error) => errors.push(error.raw_os_error().unwrap()),
        }
        if numbers.len() == usize::from(QUEUED) {
            break;
        }
    }
    assert_eq!(numbers, (0..QUEUED).collect::<Vec<_>>());
    fault::clear();
    // An error behind the last of them waits for the next call.
    errors.extend(peer.fill().err().map(|error| error.raw_os_error().unwrap()));
    assert_nothing_left(peer);
    // And so is what comes after it.
    assert_eq!(from.send_batch(to(&numbered(40), peer.ha())).sent, 40);
    assert_eq!(peer.fill().unwrap().map(|gram| gram.data[1]).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
    errors
}

fn send_many(from: &mut BatchPeer, peer: &BatchPeer) {
    assert_eq!(from.send_batch(to(&numbered(QUEUED), peer.ha())).sent, usize::from(QUEUED));
}

#[test]
fn where_io_uring_is_refused_at_open_recvmmsg_stands_in() {
    let mut from: BatchPeer = open();
    if open_expecting_many(&mut from).is_none() {
        return;
    }
    let faults = Faults::new();
    for (call, errnos) in [(Call::Ring, RING), (Call::Register, REGISTER)] {
        for &errno in errnos {
            faults.errno(call, 1, errno);
            let peer = try_open();
            assert!(fault::is_over(), "{call:?} {errno}");
            if cfg!(force_uring) {
                assert_eq!(peer.err().unwrap().raw_os_error(), Some(errno));
                continue;
            }
            let mut peer = peer.unwrap();
            assert_eq!(peer.stats().backend, "mmsg", "{call:?} {errno}");
            send_many(&mut from, &peer);
            assert_eq!(errors_between(&mut from, &mut peer), [], "{call:?} {errno}");
        }
    }
}

#[test]
fn every_errno_of_a_call_of_io_uring_makes_recvmmsg_stand_in_and_loses_nothing() {
    let mut from: BatchPeer = open();
    for (call, errnos) in [(Call::Enter, ENTER), (Call::Register, REGISTER)] {
        for &errno in errnos {
            for (at, times) in [(0, 1), (0, 3), (1, 1), (2, 1), (2, 2)] {
                let Some(mut peer) = open_expecting_many(&mut from) else { return };
                send_many(&mut from, &peer);
                let before = peer.stats();
                let faults = Faults::new();
                faults.inject(call, at, times, Fault::Errno(errno));
                let is_met = errors_between(&mut from, &mut peer);
                assert_eq!(is_met, [], "{call:?} {errno} at {at}");
                let stats = peer.stats();
                assert_eq!(stats.grams_received - before.grams_received, u64::from(QUEUED) + 40);
                assert_eq!((stats.recv_failed, stats.kernel_dropped, stats.grams_undecodable), (0, 0, 0));
            }
        }
    }
}

#[test]
fn every_errno_of_a_request_of_io_uring_is_that_of_a_receive() {
    let mut from: BatchPeer = open();
    for row in ROWS {
        for (at, times) in [(0, 1), (0, 2), (1, 1), (2, 1), (2, 3)] {
            let Some(mut peer) = open_expecting_many(&mut from) else { return };
            send_many(&mut from, &peer);
            let faults = Faults::new();
            faults.inject(Call::Shot, at, times, Fault::Errno(row.errno));
            let errors = errors_between(&mut from, &mut peer);
            // To a request, ENOBUFS says that all buffers are used up. Of several that fail in one call,
            // the first says why.
            if row.receives == Receives::Error && row.errno != libc::ENOBUFS {
                assert!((1..=times).contains(&errors.len()), "{row:?} at {at}: {errors:?}");
                assert!(errors.iter().all(|errno| *errno == row.errno), "{row:?} at {at}: {errors:?}");
            } else {
                assert_eq!(errors, [], "{row:?} at {at}");
            }
            assert_eq!(peer.stats().recv_failed, errors.len() as u64);
            assert_eq!(peer.stats().backend, "io_uring");
        }
    }
}

#[test]
fn what_a_request_posts_after_its_call_is_waited_for() {
    let mut from: BatchPeer = open();
    for posted_in_time in 0..QUEUED {
        let Some(mut peer) = open_expecting_many(&mut from) else { return };
        send_many(&mut from, &peer);
        let faults = Faults::new();
        faults.inject(Call::Reap, 0, 1, Fault::Short(usize::from(posted_in_time)));
        assert_eq!(peer.fill().unwrap().len(), usize::from(QUEUED), "{posted_in_time} in time");
        assert!(fault::is_over());
        assert_nothing_left(&mut peer);
    }
}
