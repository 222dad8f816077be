//! What a running pipeline costs: no allocation in any of its threads, and next to nothing while it is idle.
//!
//! A test binary of its own, with one test: it measures the whole process.

#[path = "support/allocator.rs"]
mod allocator;
mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hio_udp::{PeerConfig, Pipeline, PipelineBuilder};
use support::{own_host, until};

#[test]
fn a_pipeline_allocates_nothing_and_takes_less_than_a_hundredth_of_a_processor_while_idle() {
    no_thread_allocates_while_datagrams_go_through();
    #[cfg(unix)]
    an_idle_pipeline_takes_less_than_a_hundredth_of_a_processor();
}

fn builder(workers: usize) -> PipelineBuilder {
    let shards = if cfg!(target_os = "linux") { 2 } else { 1 };
    Pipeline::builder(PeerConfig::new().ha((own_host(), 0))).shards(shards).workers(workers)
}

fn no_thread_allocates_while_datagrams_go_through() {
    const BURST: u64 = 32;
    const GRAMS: u64 = 100_000 / BURST * BURST;
    const ROUNDS: usize = 3;
    for workers in [0, 1, 3] {
        let bytes = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&bytes);
        let handler = move |batch: hio_udp::Batch<'_>| {
            let sum: usize = batch.grams().map(|gram| gram.data.len()).sum();
            seen.fetch_add(sum as u64, Ordering::Relaxed);
        };
        let pipeline = builder(workers).start(handler).unwrap();
        // Sockets enough that each shard gets some.
        let sockets: Vec<UdpSocket> = (0..16).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let mut sent = 0;
        let mut burst = || {
            for _ in 0..BURST {
                let socket = &sockets[sent as usize % sockets.len()];
                socket.send_to(&[7; 100], pipeline.ha()).unwrap();
                sent += 1;
            }
            until("a burst", || bytes.load(Ordering::Relaxed) == sent * 100);
        };
        burst();
        // The test harness's own thread allocates once, when it begins to wait for this test to end; what a pipeline
        // allocated would come again in each round.
        let rounds = [0; ROUNDS].map(|_| {
            let before = allocator::all_allocations();
            (0..GRAMS / BURST).for_each(|_| burst());
            allocator::all_allocations() - before
        });
        let total = pipeline.stop().total();
        assert!(rounds.contains(&0), "{workers} workers: {rounds:?} allocations, {total:?}");
        assert_eq!(total.grams_delivered, ROUNDS as u64 * GRAMS + BURST);
    }
    assert!(allocator::all_allocations() > 0, "the counter counts");
}

/// Processor time of the whole process in nanoseconds.
#[cfg(unix)]
#[allow(unsafe_code)]
fn processor_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one timespec on this stack frame, which the call fills.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(unix)]
fn an_idle_pipeline_takes_less_than_a_hundredth_of_a_processor() {
    use std::time::{Duration, Instant};

    for workers in [0, 4] {
        let pipeline = builder(workers).start(|_| {}).unwrap();
        // One datagram, so that every thread has been awake.
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"wake up", pipeline.ha()).unwrap();
        until("it", || pipeline.stats().total().grams_delivered == 1);
        let (start, before) = (Instant::now(), processor_time_ns());
        // Sleeps so that the pipeline is idle for a while: that is what is measured.
        std::thread::sleep(Duration::from_millis(1_000));
        let used = (processor_time_ns() - before) as f64 / start.elapsed().as_nanos() as f64;
        println!("{workers} workers: {:.3}% of a processor", used * 100.0);
        assert!(used < 0.01, "{workers} workers: {used}");
    }
}
