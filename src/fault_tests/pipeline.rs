//! Receive errors under a pipeline: what they cost, and what a stop says that cannot read its socket out.
//!
//! Without workers handlers run in the reader's thread, so they can plan its faults.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{Pipeline, PipelineStats};

/// Starts a pipeline whose handler plans so many failures of the reader's next calls with its first batch; once
/// it has, sends it `count` more datagrams, and gives it to `until`.
fn stats_after(errno: i32, times: usize, count: u8, drain: Duration, until: impl Fn(&Pipeline)) -> PipelineStats {
    let builder = Pipeline::builder(PeerConfig::new().ha((own_host(), 0)).gram_size(64).bc(4)).workers(0).drain(drain);
    let is_planned = AtomicBool::new(false);
    let pipeline = builder
        .start(move |_| {
            if !is_planned.swap(true, Ordering::Relaxed) {
                fault::inject(Call::Recv, 0, times, Fault::Errno(errno));
            }
        })
        .unwrap();
    let mut from: BatchPeer = open();
    from.send(b"first", pipeline.ha()).unwrap();
    wait_for(&pipeline, |stats| stats.total().grams_delivered == 1);
    let report = from.send_batch(to(&numbered(count), pipeline.ha()));
    assert_eq!(report.sent, usize::from(count));
    until(&pipeline);
    pipeline.stop()
}

fn wait_for(pipeline: &Pipeline, is_so: impl Fn(&PipelineStats) -> bool) {
    let start = Instant::now();
    while !is_so(&pipeline.stats()) {
        assert!(start.elapsed() < PATIENCE, "{:?}", pipeline.stats());
        std::thread::yield_now();
    }
}

#[test]
fn receive_errors_of_a_pipeline_are_counted_and_lose_nothing() {
    for errno in [EIO, ENOMEM, ECONNREFUSED, EBADF] {
        for times in [1, 2, 5] {
            let everything = |stats: &PipelineStats| stats.total().grams_delivered == 41;
            let stats = stats_after(errno, times, 40, PATIENCE, |pipeline| wait_for(pipeline, everything));
            let total = stats.total();
            assert_eq!((total.grams_delivered, total.grams_accounted()), (41, 41), "{errno} {times}");
            assert_eq!((total.receive_errors, total.receive_errno), (times as u64, Some(errno)));
            assert!(!total.is_unread);
        }
    }
}

#[test]
fn a_stop_that_meets_receive_errors_reads_out_what_is_there_behind_them() {
    let total = stats_after(EIO, 6, 40, PATIENCE, |_| {}).total();
    assert_eq!((total.grams_accounted(), total.receive_errors, total.is_unread), (41, 6, false));
}

#[test]
fn a_stop_that_cannot_read_its_socket_says_so_and_does_not_wait_past_its_deadline() {
    let start = Instant::now();
    let total = stats_after(EIO, usize::MAX, 40, Duration::from_millis(20), |_| {}).total();
    assert!(start.elapsed() < PATIENCE);
    assert_eq!((total.grams_delivered, total.receive_errno, total.is_unread), (1, Some(EIO), true));
    assert!(total.receive_errors > 0);
}

#[test]
fn a_stop_to_which_nothing_is_given_though_its_socket_holds_datagrams_says_so() {
    for (errno, drain) in [(EINTR, PATIENCE), (EINTR, Duration::ZERO), (EAGAIN, PATIENCE), (EAGAIN, Duration::ZERO)] {
        let start = Instant::now();
        let total = stats_after(errno, usize::MAX, 40, drain, |_| {}).total();
        assert!(start.elapsed() < PATIENCE, "{errno}");
        assert_eq!((total.grams_accounted(), total.receive_errors, total.is_unread), (1, 0, true), "{errno}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_stop_whose_filter_is_refused_reads_out_without_it() {
    for errno in super::table::OPTION {
        let pipeline = Pipeline::builder(PeerConfig::new().ha((own_host(), 0)).gram_size(64).bc(4)).workers(0);
        let pipeline = pipeline.start(move |_| fault::inject(Call::SetOption, 0, 1, Fault::Errno(*errno))).unwrap();
        let mut from: BatchPeer = open();
        from.send(b"first", pipeline.ha()).unwrap();
        wait_for(&pipeline, |stats| stats.total().grams_delivered == 1);
        assert_eq!(from.send_batch(to(&numbered(40), pipeline.ha())).sent, 40);
        let total = pipeline.stop().total();
        assert_eq!((total.grams_accounted(), total.is_unread), (41, false), "{errno}");
    }
}
