//! `Pipeline`: what it delivers, how it spreads, stops and counts, over real sockets.

mod support;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{BatchPeer, PeerConfig, Pipeline, PipelineBuilder, Transport};
use socket2::{Domain, Socket, Type};
use support::{PATIENCE, is_in_use, own_host, settle, until};

/// Most shards that this system allows, of those a test would like.
fn shards(wanted: usize) -> usize {
    if cfg!(target_os = "linux") { wanted } else { 1 }
}

fn config() -> PeerConfig {
    PeerConfig::new().ha((own_host(), 0))
}

/// A pipeline that only counts.
fn counting(builder: PipelineBuilder) -> Pipeline {
    builder.start(|batch| assert!(!batch.is_empty())).unwrap()
}

fn sender() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// Sends `count` small datagrams from one socket, and waits until they are where they go.
fn send(count: usize, dst: SocketAddr) {
    let socket = sender();
    for i in 0..count {
        socket.send_to(&(i as u64).to_le_bytes(), dst).unwrap();
    }
    settle();
}

/// Sends `count` small datagrams from one socket, never more at once than any buffer holds.
fn send_gently(count: usize, pipeline: &Pipeline) {
    const BURST: usize = 100;
    let dst = pipeline.ha();
    let socket = if dst.is_ipv6() { UdpSocket::bind("[::1]:0").unwrap() } else { sender() };
    let before = pipeline.stats().total().grams_delivered;
    for i in 0..count {
        socket.send_to(&(i as u64).to_le_bytes(), dst).unwrap();
        if (i + 1) % BURST == 0 {
            until("a burst", || pipeline.stats().total().grams_delivered == before + i as u64 + 1);
        }
    }
    settle();
}

/// A door that handlers wait at.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.0.load(Ordering::Acquire) && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

#[test]
fn how_it_receives_is_known_before_the_first_datagram() {
    let pipeline = counting(Pipeline::builder(config()).shards(shards(2)).workers(0));
    let before = pipeline.stats().shards.iter().map(|shard| shard.socket.backend).collect::<Vec<_>>();
    send_gently(100, &pipeline);
    let after = pipeline.stop().shards.iter().map(|shard| shard.socket.backend).collect::<Vec<_>>();
    assert!(before == after && !before.contains(&""), "{before:?}, {after:?}");
}

#[cfg(target_os = "linux")] // elsewhere nobody counts what the kernel drops
#[test]
fn every_datagram_is_accounted_for_whatever_the_threads_and_the_handlers_do() {
    const SENDERS: usize = 3;
    const GRAMS: usize = 3_000;
    for seed in 0..12 {
        let mut random = support::Random(seed);
        let (shards, workers) = (1 + random.below(shards(4)), random.below(4));
        let (queue, bc, panics) = (random.below(4), 1 + random.below(100), random.below(2) * 5);
        let pause = Duration::from_micros([0, 20, 300][random.below(3)]);
        let drain = [Duration::ZERO, PATIENCE][random.below(2)];
        let what = format!(
            "seed {seed}: {shards} shards, {workers} workers, queue {queue}, bc {bc}, {panics}, {pause:?}, {drain:?}"
        );
        let seen = Arc::new([const { AtomicUsize::new(0) }; 4]);
        let counts = Arc::clone(&seen);
        let builder = Pipeline::builder(config().bc(bc).recv_buf_bytes(64 << 10));
        let builder = builder.shards(shards).workers(workers).queue(queue).drain(drain);
        let pipeline = builder.start(move |batch| {
            let [batches, grams, panics_seen, panicked] = &*counts;
            grams.fetch_add(batch.grams().filter(|gram| gram.data.len() == 8).count(), Ordering::Relaxed);
            // Sleeps as a slow handler would.
            thread::sleep(pause);
            if batches.fetch_add(1, Ordering::Relaxed) % 10 < panics {
                panics_seen.fetch_add(1, Ordering::Relaxed);
                panicked.fetch_add(batch.len(), Ordering::Relaxed);
                resume_unwind(Box::new("a panic that prints nothing"));
            }
        });
        let pipeline = pipeline.unwrap();
        let dst = pipeline.ha();
        thread::scope(|scope| (0..SENDERS).for_each(|_| drop(scope.spawn(|| send(GRAMS, dst)))));
        let stats = pipeline.stop();
        let seen = Arc::into_inner(seen).expect("all handlers are gone");
        let [batches, grams, panics_seen, panicked] = seen.map(|count| count.into_inner() as u64);
        let total = stats.total();
        assert_eq!(total.grams_accounted(), (SENDERS * GRAMS) as u64, "{what}: {total:?}");
        assert_eq!(total.grams_delivered, grams, "{what}");
        assert_eq!(total.batches_delivered, batches, "{what}");
        // A reader that did not run before a stop without a drain has given the handler nothing: so, no panic.
        assert_eq!((total.handler_panics, total.grams_panicked), (panics_seen, panicked), "{what}");
        assert_eq!(panics_seen > 0, panics > 0 && batches > 0, "{what}");
        assert_eq!((total.rings_full, total.receive_errors), (0, 0), "{what}");
        // Each reader took one ring to its end; no panic has kept another.
        assert!(stats.shards.iter().all(|shard| shard.rings_free + 1 >= shard.rings), "{what}: {stats:?}");
        if drain == PATIENCE {
            assert_eq!(total.grams_left_behind, 0, "{what}");
        }
    }
}

#[test]
fn one_shard_and_at_most_one_worker_keep_the_order() {
    for workers in [0, 1] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let grams = Arc::clone(&seen);
        let pipeline = Pipeline::builder(config().bc(16)).workers(workers).start(move |batch| {
            let numbers = batch.grams().map(|gram| u64::from_le_bytes(gram.data.try_into().unwrap()));
            grams.lock().unwrap().extend(numbers);
        });
        let pipeline = pipeline.unwrap();
        send_gently(2000, &pipeline);
        assert_eq!(pipeline.stop().total().grams_delivered, 2000);
        let expected: Vec<u64> = (0..2000).collect();
        assert_eq!(*seen.lock().unwrap(), expected, "{workers} workers");
    }
}

#[test]
#[cfg(target_os = "linux")] // elsewhere nobody counts what the kernel drops
fn handlers_that_stall_cost_nothing_that_fits_and_the_rest_is_counted_while_it_happens() {
    const GRAMS: usize = 5_000;
    for workers in [0, 2] {
        let gate = Gate::default();
        let handler_gate = gate.clone();
        let builder = Pipeline::builder(config().bc(4).recv_buf_bytes(32 << 10)).workers(workers).queue(3);
        let pipeline = builder.start(move |_| handler_gate.wait()).unwrap();
        send(GRAMS, pipeline.ha());
        if workers > 0 {
            assert_eq!(pipeline.stats().total().rings, 6);
            // The reader's own ring is full too, or it has none: it waits. Each worker has taken one, once it runs.
            until("full rings", || {
                let total = pipeline.stats().total();
                total.reader_stalls > 0 && (total.rings_free, total.rings_full) == (0, 4)
            });
            until("losses", || pipeline.stats().total().socket.kernel_dropped > 0);
        }
        gate.open();
        let total = pipeline.stop().total();
        assert_eq!(total.grams_accounted(), GRAMS as u64, "{total:?}");
        assert_eq!(total.grams_left_behind, 0);
        assert!(total.socket.kernel_dropped > 0 && total.grams_delivered >= 64, "{total:?}");
    }
}

#[test]
fn a_stop_delivers_what_the_kernel_holds() {
    for workers in [0, 1, 3] {
        let gate = Gate::default();
        let handler_gate = gate.clone();
        let pipeline = Pipeline::builder(config().bc(4)).workers(workers).start(move |_| handler_gate.wait()).unwrap();
        send(200, pipeline.ha());
        let stopping = thread::spawn(move || pipeline.stop());
        gate.open();
        let total = stopping.join().unwrap().total();
        assert_eq!((total.grams_delivered, total.grams_left_behind, total.socket.kernel_dropped), (200, 0, 0));
    }
}

#[test]
fn a_stop_past_its_deadline_leaves_the_rest_behind_and_says_how_much() {
    let delivered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&delivered);
    let builder = Pipeline::builder(config().bc(8)).workers(1).queue(2).drain(Duration::ZERO);
    let pipeline = builder.start(move |batch| {
        // Sleeps so that all 25 batches would take much longer than it takes to ask for the stop.
        thread::sleep(Duration::from_millis(200));
        count.fetch_add(batch.len() as u64, Ordering::Relaxed);
    });
    let pipeline = pipeline.unwrap();
    send(200, pipeline.ha());
    until("a reader without a ring", || pipeline.stats().total().reader_stalls > 0);
    let total = pipeline.stop().total();
    assert_eq!(total.grams_delivered, delivered.load(Ordering::Relaxed));
    #[cfg(target_os = "linux")]
    assert_eq!(total.grams_accounted(), 200, "{total:?}");
    assert!(total.grams_delivered >= 4 && total.grams_delivered < 200, "{total:?}");
}

/// Senders go on through the whole stop, which a handler holds open; they end before the sockets close.
#[test]
fn a_stop_under_load_accounts_for_what_comes_during_it() {
    let (gate, is_held, are_sending) = (Gate::default(), Arc::new(AtomicBool::new(false)), AtomicBool::new(true));
    let (handler_gate, held) = (gate.clone(), Arc::clone(&is_held));
    let builder = Pipeline::builder(config()).shards(shards(2)).workers(2).drain(Duration::from_millis(20));
    let pipeline = builder.start(move |batch| {
        if batch.grams().any(|gram| gram.data == b"hold") {
            held.store(true, Ordering::Release);
            handler_gate.wait();
        }
    });
    let pipeline = pipeline.unwrap();
    let dst = pipeline.ha();
    let sent = AtomicU64::new(0);
    let stats = thread::scope(|scope| {
        let senders = [0; 2].map(|_| {
            scope.spawn(|| {
                let socket = sender();
                while are_sending.load(Ordering::Acquire) {
                    sent.fetch_add(socket.send_to(b"load", dst).unwrap() as u64 / 4, Ordering::Relaxed);
                }
                settle();
            })
        });
        let socket = sender();
        while !is_held.load(Ordering::Acquire) {
            sent.fetch_add(socket.send_to(b"hold", dst).unwrap() as u64 / 4, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
        settle();
        let stopping = scope.spawn(|| pipeline.stop());
        // Sleeps so that senders meet each stage of the stop; any other time is as right.
        thread::sleep(Duration::from_millis(150));
        are_sending.store(false, Ordering::Release);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        gate.open();
        stopping.join().unwrap()
    });
    let total = stats.total();
    #[cfg(target_os = "linux")]
    assert_eq!(total.grams_accounted(), sent.into_inner(), "{total:?}");
    assert!(total.grams_delivered > 0);
}

#[test]
fn dropping_a_pipeline_stops_it_and_frees_the_port() {
    for workers in [0, 2] {
        let (grams, dst) = (Arc::new(AtomicUsize::new(0)), {
            let free = UdpSocket::bind((own_host(), 0)).unwrap();
            free.local_addr().unwrap()
        });
        for round in 1..=3 {
            let count = Arc::clone(&grams);
            let builder = Pipeline::builder(PeerConfig::new().ha(dst)).shards(shards(3)).workers(workers);
            let pipeline = builder.start(move |batch| _ = count.fetch_add(batch.len(), Ordering::Relaxed)).unwrap();
            send(50, dst);
            drop(pipeline);
            assert_eq!((grams.load(Ordering::Relaxed), Arc::strong_count(&grams)), (round * 50, 1));
        }
    }
}

/// A handler's number and count, which it tells when it goes.
struct Count(usize, usize, Arc<Mutex<Vec<(usize, usize)>>>);

impl Count {
    fn add(&mut self, grams: usize) {
        self.1 += grams;
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.2.lock().unwrap().push((self.0, self.1));
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("a drop that panics"));
    }
}

/// Panics when it is dropped, with another of its kind.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        resume_unwind(Box::new(Self));
    }
}

#[test]
fn what_panics_while_a_panic_or_a_handler_is_dropped_stops_nothing() {
    for (workers, is_endless) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
        let pipeline = Pipeline::builder(config().bc(1)).workers(workers).start_with(|_| {
            let bomb = Bomb;
            move |_| {
                let _ = &bomb;
                resume_unwind(if is_endless { Box::new(Endless) } else { Box::new(Bomb) });
            }
        });
        let pipeline = pipeline.unwrap();
        send(20, pipeline.ha());
        let total = pipeline.stop().total();
        let counts = (total.handler_panics, total.grams_panicked, total.grams_delivered);
        assert_eq!(counts, (20, 20, 20), "{workers} workers");
    }
}

#[test]
fn each_worker_has_a_handler_of_its_own_which_goes_on_after_a_panic() {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let pipeline = Pipeline::builder(config().bc(1)).workers(2).start_with(|worker| {
        let mut count = Count(worker, 0, Arc::clone(&ended));
        move |batch| {
            count.add(batch.len());
            resume_unwind(Box::new("every time"));
        }
    });
    let pipeline = pipeline.unwrap();
    send(100, pipeline.ha());
    let total = pipeline.stop().total();
    assert_eq!((total.handler_panics, total.grams_panicked, total.grams_delivered), (100, 100, 100));
    let mut ended = ended.lock().unwrap().clone();
    ended.sort_unstable();
    assert_eq!((ended.len(), ended[0].0, ended[1].0, ended[0].1 + ended[1].1), (2, 0, 1, 100));
}

#[test]
fn a_cut_datagram_is_delivered_and_a_wire_log_sees_what_handlers_see() {
    let log = hio_udp::WireLog::new(hio_udp::WireLogConfig::new().samed(true).reopen(true)).unwrap();
    let pipeline = counting(Pipeline::builder(config().gram_size(4).wl(log.clone())));
    let socket = sender();
    for data in [&b"whole"[..4], b"longer", b""] {
        socket.send_to(data, pipeline.ha()).unwrap();
    }
    settle();
    let total = pipeline.stop().total();
    assert_eq!((total.grams_delivered, total.socket.grams_truncated, total.socket.bytes_received), (3, 1, 8));
    let text = String::from_utf8(log.read_rx().unwrap().expect("a log in memory")).unwrap();
    assert_eq!((text.matches("Rx").count(), text.contains("long")), (3, true), "{text}");
}

#[test]
fn what_cannot_be_started_says_why() {
    let kind = |builder: PipelineBuilder| builder.start(|_| {}).unwrap_err().kind();
    let builder = || Pipeline::builder(config());
    assert_eq!(kind(builder().shards(0)), ErrorKind::InvalidInput);
    assert_eq!(kind(builder().shards(5_000)), ErrorKind::InvalidInput);
    assert_eq!(kind(builder().pin([0, 0])), ErrorKind::InvalidInput);
    assert_eq!(kind(Pipeline::builder(config().bc(0))), ErrorKind::InvalidInput);
    assert_eq!(kind(Pipeline::builder(config().host("no such host").ha(("no such host", 0)))), ErrorKind::InvalidInput);
    let unsupported = if cfg!(target_os = "linux") { ErrorKind::InvalidInput } else { ErrorKind::Unsupported };
    assert_eq!(kind(builder().pin([8_000])), unsupported);
    assert_eq!(kind(builder().pin([usize::MAX])), unsupported);
    if cfg!(not(target_os = "linux")) {
        assert_eq!(kind(builder().shards(2)), ErrorKind::Unsupported);
    }
}

#[test]
fn a_port_that_anybody_has_is_refused_and_one_shard_shares_with_nobody() {
    let shared = |ha: SocketAddr| BatchPeer::new(PeerConfig::new().ha(ha).reopen(true));
    let neighbour = shared(SocketAddr::new(own_host().parse().unwrap(), 0)).unwrap();
    for shards in [1, shards(2)] {
        let on = |ha: SocketAddr| Pipeline::builder(PeerConfig::new().ha(ha)).shards(shards).start(|_| {});
        assert!(is_in_use(&on(neighbour.ha()).unwrap_err()), "beside a peer");
        let pipeline = counting(Pipeline::builder(config()).shards(shards));
        assert!(is_in_use(&on(pipeline.ha()).unwrap_err()), "beside a pipeline");
        assert!(is_in_use(&UdpSocket::bind(pipeline.ha()).unwrap_err()), "a plain socket");
        if shards == 1 {
            assert!(is_in_use(&shared(pipeline.ha()).unwrap_err()), "a sharing peer");
        }
    }
}

#[test]
fn what_comes_between_bind_and_start_waits_and_a_monitor_outlives_the_pipeline() {
    let bound = Pipeline::builder(config()).workers(2).bind().unwrap();
    assert_eq!(bound.handling_threads(), 2);
    send(50, bound.ha());
    let pipeline = bound.start(|_| {}).unwrap();
    let monitor = pipeline.monitor();
    until("the first", || monitor.stats().total().grams_delivered == 50);
    send(7, pipeline.ha());
    let mut last = pipeline.stop();
    assert_eq!((last.total().grams_delivered, last.shards[0].rings_free), (57, 6));
    last.shards[0].rings_free = 0;
    assert_eq!(monitor.stats().shards, last.shards);
}

#[test]
fn a_passed_socket_keeps_what_it_holds_from_one_pipeline_to_the_next() {
    let socket = UdpSocket::bind((own_host(), 0)).unwrap();
    let dst = socket.local_addr().unwrap();
    let on_it = || Pipeline::builder(PeerConfig::new()).sockets([socket.try_clone().unwrap()]).drain(Duration::MAX);
    for round in 1..=3 {
        let pipeline = counting(on_it());
        assert_eq!(pipeline.ha(), dst);
        let monitor = pipeline.monitor();
        until("what the last one left", || monitor.stats().total().grams_delivered == (round > 1) as u64 * 20);
        send(5, dst);
        until("its own", || monitor.stats().total().grams_delivered == (round > 1) as u64 * 20 + 5);
        let total = pipeline.stop().total();
        assert_eq!((total.grams_left_behind, total.socket.kernel_dropped), (0, 0), "round {round}");
        send(20, dst);
    }
}

#[test]
fn a_held_pipeline_reads_nothing_before_it_is_released_and_nothing_at_all_if_it_is_stopped_before() {
    let socket = UdpSocket::bind((own_host(), 0)).unwrap();
    let dst = socket.local_addr().unwrap();
    send(20, dst);
    let on_it = || Pipeline::builder(PeerConfig::new()).sockets([socket.try_clone().unwrap()]).held(true);
    let total = counting(on_it()).stop().total();
    assert_eq!((total.grams_delivered, total.socket.recv_calls, total.is_unread), (0, 0, false), "{total:?}");
    let pipeline = counting(on_it());
    pipeline.release();
    until("what waited", || pipeline.stats().total().grams_delivered == 20);
    // A stop right behind the release reads out as any other.
    let pipeline = counting(Pipeline::builder(config()).held(true));
    send(20, pipeline.ha());
    pipeline.release();
    assert_eq!(pipeline.stop().total().grams_delivered, 20);
    let pipeline = counting(Pipeline::builder(config()).held(true));
    send(20, pipeline.ha());
    let total = pipeline.stop().total();
    assert_eq!((total.grams_delivered, total.is_unread), (0, true), "{total:?}");
}

#[test]
fn sockets_that_cannot_be_taken_over_are_refused() {
    let on = |sockets: Vec<UdpSocket>| {
        let kind = |error: std::io::Error| error.kind();
        Pipeline::builder(config()).sockets(sockets).start(|_| {}).map(drop).map_err(kind)
    };
    let bound = || UdpSocket::bind((own_host(), 0)).unwrap();
    assert_eq!(on(vec![]), Err(ErrorKind::InvalidInput), "none");
    if cfg!(target_os = "linux") {
        assert_eq!(on(vec![bound(), bound()]), Err(ErrorKind::InvalidInput), "two addresses");
    }
    let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    if cfg!(unix) {
        assert_eq!(on(vec![unbound.into()]), Err(ErrorKind::InvalidInput), "not bound");
    }
    #[cfg(target_os = "linux")]
    if let Ok(lite) = Socket::new(Domain::IPV4, Type::DGRAM, Some(socket2::Protocol::UDPLITE)) {
        lite.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        assert_eq!(on(vec![lite.into()]), Err(ErrorKind::InvalidInput), "UDP-Lite");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    use hio_udp::Spread;

    /// Who may join a group of shards, as `Pipeline` documents: it takes SO_REUSEPORT, and SO_REUSEADDR, which
    /// other users may have too, does not help.
    #[test]
    fn a_group_is_joined_by_port_sharing_only() {
        let pipeline = counting(Pipeline::builder(config()).shards(2));
        for (reuse_address, reuse_port, joins) in [(true, false, false), (false, true, true), (true, true, true)] {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_address(reuse_address).unwrap();
            socket.set_reuse_port(reuse_port).unwrap();
            assert_eq!(socket.bind(&pipeline.ha().into()).is_ok(), joins, "{reuse_address}, {reuse_port}");
        }
    }

    /// Datagrams that each shard got, of `count` sent by `send`.
    fn spread(builder: PipelineBuilder, send: impl FnOnce(&Pipeline)) -> Vec<u64> {
        let pipeline = counting(builder);
        let earlier = pipeline.stats();
        send(&pipeline);
        let stats = pipeline.stop();
        let counts: Vec<u64> = stats.shards.iter().map(|shard| shard.grams_delivered).collect();
        let rates = stats.rates_since(&earlier);
        assert!(counts.iter().zip(&rates).all(|(count, rate)| (*count > 0) == (*rate > 0.0)), "{counts:?}, {rates:?}");
        assert_eq!(stats.total().socket.kernel_dropped, 0);
        counts
    }

    #[test]
    fn one_sender_is_spread_over_four_shards_by_lot() {
        let hosts = if support::has_ipv6() { vec![own_host(), "::1".to_owned()] } else { vec![own_host()] };
        for host in hosts {
            let builder = Pipeline::builder(PeerConfig::new().ha((host, 0))).shards(4).spread(Spread::Random);
            let counts = spread(builder, |pipeline| send_gently(4_000, pipeline));
            assert_eq!(counts.iter().sum::<u64>(), 4_000);
            // Fair lots are further from 1,000 than this once in 10^50 runs.
            assert!(counts.iter().all(|count| (600..1_400).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn the_flow_hash_keeps_a_sender_at_one_shard_and_spreads_many() {
        let builder = || Pipeline::builder(config()).shards(4);
        let counts = spread(builder(), |pipeline| send_gently(1_000, pipeline));
        assert!(counts.contains(&1_000), "{counts:?}");
        let counts = spread(builder(), |pipeline| (0..100).for_each(|_| send(1, pipeline.ha())));
        assert!(counts.iter().sum::<u64>() == 100 && !counts.contains(&100), "{counts:?}");
    }

    #[test]
    fn what_a_passed_socket_dropped_before_is_not_counted() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_recv_buffer_size(0).unwrap();
        socket.bind(&SocketAddr::new(own_host().parse().unwrap(), 0).into()).unwrap();
        let dst = socket.local_addr().unwrap().as_socket().unwrap();
        send(200, dst);
        let pipeline = counting(Pipeline::builder(PeerConfig::new().recv_buf_bytes(1 << 20)).sockets([socket.into()]));
        let monitor = pipeline.monitor();
        until("those that fitted", || monitor.stats().total().grams_delivered > 0);
        let before = monitor.stats().total().grams_delivered;
        assert!(before < 200, "{before}");
        send(10, dst);
        until("the others", || monitor.stats().total().grams_delivered == before + 10);
        assert_eq!(pipeline.stop().total().socket.kernel_dropped, 0);
    }

    /// Sockets on one port.
    fn group<const N: usize>() -> [UdpSocket; N] {
        let socket = |dst: SocketAddr| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&dst.into()).unwrap();
            UdpSocket::from(socket)
        };
        let first = socket(SocketAddr::new(own_host().parse().unwrap(), 0));
        let dst = first.local_addr().unwrap();
        let mut sockets = vec![first];
        sockets.resize_with(N, || socket(dst));
        sockets.try_into().unwrap()
    }

    #[test]
    fn a_pipeline_that_cannot_be_started_has_taken_nothing_from_any_socket() {
        let sockets = group::<8>();
        send(200, sockets[0].local_addr().unwrap());
        let passed = sockets.each_ref().map(|socket| socket.try_clone().unwrap());
        let builder = Pipeline::builder(PeerConfig::new()).sockets(passed).spread(Spread::Random).workers(0);
        // All but the last can begin.
        let mut pins = [processors()[0]; 8];
        pins[7] = 1 << 19;
        let error = builder.pin(pins).start(|_| {}).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let left = sockets.iter().map(|socket| {
            socket.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok()).count()
        });
        assert_eq!(left.sum::<usize>(), 200);
    }

    #[test]
    fn a_group_of_passed_sockets_shares_a_port() {
        let builder = Pipeline::builder(PeerConfig::new()).sockets(group::<2>()).spread(Spread::Random);
        let counts = spread(builder, |pipeline| send_gently(400, pipeline));
        assert!(counts.iter().sum::<u64>() == 400 && counts.iter().all(|count| *count > 100), "{counts:?}");
    }

    /// Processors this process may use.
    fn processors() -> Vec<usize> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
        let ranges = list.split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
        ranges.flat_map(|(first, last)| first.parse().unwrap()..=last.parse::<usize>().unwrap()).collect()
    }

    /// Runs `body` in a thread that stays on one processor, which a pinned pipeline's reader is.
    fn on_processor(processor: usize, body: impl Fn() + Send + Sync + 'static) {
        let (body, is_done) = (Arc::new(body), Arc::new(AtomicBool::new(false)));
        let done = Arc::clone(&is_done);
        let pinned = Pipeline::builder(config()).workers(0).pin([processor]).start(move |_| {
            body();
            done.store(true, Ordering::Release);
        });
        let pinned = pinned.unwrap();
        send(1, pinned.ha());
        until("the body", || is_done.load(Ordering::Acquire));
    }

    #[test]
    fn a_datagram_goes_to_the_shard_of_the_processor_it_came_on() {
        // Over loopback a datagram is received on the processor that sent it.
        let processors: Vec<usize> = processors().into_iter().take(4).collect();
        for is_pinned in [true, false] {
            let pins: Vec<usize> = processors.iter().copied().rev().collect();
            let shards = pins.len().max(2);
            for &processor in &processors {
                let mut builder = Pipeline::builder(config()).shards(shards).spread(Spread::Processor);
                if is_pinned && pins.len() > 1 {
                    builder = builder.pin(pins.clone());
                }
                let counts = spread(builder, |pipeline| {
                    let dst = pipeline.ha();
                    on_processor(processor, move || send(100, dst));
                });
                let expected = match is_pinned && pins.len() > 1 {
                    true => pins.iter().position(|pin| *pin == processor).unwrap(),
                    false => processor % shards,
                };
                assert_eq!(counts[expected], 100, "processor {processor} of {processors:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_pinned_reader_runs_on_its_processor_and_workers_anywhere() {
        fn allowed() -> String {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
        }
        let last = *processors().last().unwrap();
        for (workers, expected) in [(0, last.to_string()), (1, allowed())] {
            let seen = Arc::new(Mutex::new(String::new()));
            let list = Arc::clone(&seen);
            let builder = Pipeline::builder(config()).workers(workers).pin([last]);
            let pipeline = builder.start(move |_| *list.lock().unwrap() = allowed()).unwrap();
            send(1, pipeline.ha());
            pipeline.stop();
            assert_eq!(*seen.lock().unwrap(), expected, "{workers} workers");
        }
    }

    #[test]
    fn coalesced_datagrams_come_apart() {
        let pipeline = counting(Pipeline::builder(config().coalesce(true)).workers(1));
        let mut from = BatchPeer::new(config().reopen(true)).unwrap();
        let dst = pipeline.ha();
        assert_eq!(from.send_batch((0..50).map(|_| (&[7_u8; 100][..], dst))).sent, 50);
        settle();
        let total = pipeline.stop().total();
        assert_eq!((total.grams_delivered, total.socket.bytes_received), (50, 5_000));
    }
}
