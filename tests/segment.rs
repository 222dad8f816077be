//! Rows of equal grams that leave as one message (UDP_SEGMENT), on real sockets: what arrives and what
//! is reported is the same as without.

mod support;

use std::net::SocketAddr;

use hio_udp::{BatchPeer, Stopped, Transport};
use support::{Random, assert_nothing_left, config, has_ipv6, next, open, open_batch, parts, settle, takes_batches};

/// Lengths in rows, destinations by index: one batch.
type Batch = Vec<(usize, usize)>;

/// Grams under way at once, and their bytes: what any system's default buffer holds of each receiver.
const GRAMS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 70_000;

fn repeated(len: usize, to: usize, count: usize) -> Batch {
    vec![(len, to); count]
}

/// Batches in which everything can join, nothing can, and something in between.
fn shapes() -> Vec<Batch> {
    vec![
        repeated(100, 0, 2),
        repeated(1, 0, 64),
        repeated(1, 0, 65),
        repeated(100, 0, 200),
        repeated(9, 0, 1000),
        // The last one shorter, by itself and before others.
        [repeated(100, 0, 5), repeated(99, 0, 1)].concat(),
        [repeated(100, 0, 5), repeated(1, 0, 1), repeated(100, 0, 5), repeated(50, 0, 7)].concat(),
        // Growing: nothing joins; shrinking: two by two.
        (1..60).map(|len| (len, 0)).collect(),
        (1..60).rev().map(|len| (len, 0)).collect(),
        // Empty ones at every place.
        repeated(0, 0, 10),
        [repeated(0, 0, 1), repeated(5, 0, 3), repeated(0, 0, 1), repeated(5, 0, 3), repeated(0, 0, 2)].concat(),
        // Destinations one by one, and in rows.
        (0..90).map(|i| (20, i % 3)).collect(),
        (0..90).map(|i| (20, i / 7 % 3)).collect(),
        [repeated(20, 0, 3), repeated(20, 1, 3), repeated(20, 1, 1), repeated(30, 1, 1), repeated(0, 2, 2)].concat(),
        // As long as a message can be, and one byte longer.
        [repeated(32_753, 0, 2), repeated(1, 0, 1)].concat(),
        [repeated(32_753, 0, 2), repeated(2, 0, 1)].concat(),
        repeated(21_835, 0, 3),
        repeated(21_836, 0, 3),
        [repeated(65_507, 0, 1), repeated(1, 0, 3)].concat(),
        repeated(1240, 0, 150),
        repeated(9000, 0, 20),
    ]
}

fn random_shape(random: &mut Random) -> Batch {
    let mut batch = Vec::new();
    for _ in 0..random.below(20) {
        let len = match random.below(6) {
            0 => 0,
            1 => 1 + random.below(9000),
            _ => 1 + random.below(200),
        };
        let (to, count) = (random.below(3), 1 + random.below(70));
        batch.extend(repeated(len, to, count));
        if random.below(2) == 0 {
            batch.push((random.below(len + 1), to));
        }
    }
    batch
}

/// The bytes of gram `i`: different in each, and in each place of it.
fn data(i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (i * 31 + at * 7 + at / 251) as u8).collect()
}

/// Cuts a batch into pieces of which any receiver's buffer holds one.
fn pieces(batch: &Batch) -> Vec<Batch> {
    let (mut pieces, mut bytes) = (vec![Vec::new()], 0);
    for (len, to) in batch {
        let last = pieces.last_mut().unwrap();
        if last.len() == GRAMS_AT_ONCE + 1 || bytes + len > BYTES_AT_ONCE {
            (pieces, bytes) = ([pieces, vec![Vec::new()]].concat(), 0);
        }
        pieces.last_mut().unwrap().push((*len, *to));
        bytes += len;
    }
    pieces
}

/// Sends each piece by `send_batch` or by `queue` and `flush`; holds the receivers to what was sent.
fn exchange(from: &mut BatchPeer, receivers: &mut [BatchPeer], batch: &Batch, by_queue: bool) {
    let src = from.ha();
    let has: Vec<SocketAddr> = receivers.iter().map(Transport::ha).collect();
    for (piece, in_one) in pieces(batch).into_iter().flat_map(|piece| [(piece.clone(), false), (piece, true)]) {
        let grams: Vec<(Vec<u8>, SocketAddr)> =
            piece.iter().enumerate().map(|(i, (len, to))| (data(i, *len), has[*to])).collect();
        let bytes = grams.iter().map(|(data, _)| data.len()).sum();
        if by_queue {
            let mut rest = &grams[..];
            while !rest.is_empty() {
                let fits = rest.iter().take_while(|(data, dst)| from.queue(data, *dst).is_ok()).count();
                let report = from.flush();
                assert_eq!((report.sent, report.stopped), (fits, Stopped::Done), "{piece:?}");
                rest = &rest[fits..];
            }
        } else {
            // All payloads in one piece of memory, or each in its own.
            let (joined, mut rest): (Vec<u8>, usize) = (grams.iter().flat_map(|(data, _)| data.clone()).collect(), 0);
            let next_joined = |(data, dst): &(Vec<u8>, SocketAddr)| {
                rest += data.len();
                (&joined[rest - data.len()..rest], *dst)
            };
            let report = if in_one {
                from.send_batch(grams.iter().map(next_joined))
            } else {
                from.send_batch(grams.iter().map(|(data, dst)| (data, *dst)))
            };
            assert_eq!(parts(&report), (grams.len(), bytes, 0, None, Stopped::Done), "{piece:?}");
        }
        for (receiver, ha) in receivers.iter_mut().zip(&has) {
            for (data, _) in grams.iter().filter(|(_, dst)| dst == ha) {
                let got = next(receiver);
                assert!(got == (data.clone(), src), "{} instead of {} bytes of {piece:?}", got.0.len(), data.len());
            }
        }
    }
    receivers.iter_mut().for_each(assert_nothing_left);
}

fn every_shape_arrives(host: &str, coalesce: bool) {
    let receiver = || open_batch(config().ha((host, 0)).gram_size(65_535).bc(4).coalesce(coalesce));
    let mut receivers = [receiver(), receiver(), receiver()];
    let mut random = Random(17);
    let random_shapes = (0..12).map(|_| random_shape(&mut random));
    for (number, batch) in shapes().into_iter().chain(random_shapes).enumerate() {
        for bc in [1, 63, 64, 1024] {
            let config = config().ha((host, 0)).bc(bc).gram_size(1240.max(65_507 / bc)).bs(0);
            let mut from = open_batch(config);
            assert_eq!(from.segments(), takes_batches(&from));
            let by_queue = bc <= 64 && batch.iter().all(|(len, _)| *len <= 1000) && number % 2 == 0;
            exchange(&mut from, &mut receivers, &batch, by_queue);
            let stats = from.stats();
            assert_eq!((stats.segment_refusals, stats.grams_sent), (0, 2 * batch.len() as u64));
        }
    }
}

#[test]
fn every_shape_arrives_at_a_plain_receiver() {
    every_shape_arrives("127.0.0.1", false);
}

#[test]
fn every_shape_arrives_at_a_coalescing_receiver() {
    every_shape_arrives("127.0.0.1", true);
}

#[test]
fn every_shape_arrives_over_ipv6() {
    if has_ipv6() {
        every_shape_arrives("::1", false);
        every_shape_arrives("::1", true);
    }
}

#[test]
#[cfg(target_os = "linux")] // an IPv4 address of a dual-stack socket has another form elsewhere
fn a_dual_stack_socket_joins_for_both_families() {
    if !has_ipv6() {
        return;
    }
    let mut from = open_batch(hio_udp::PeerConfig::new().ha(("::", 0)).exclusive(true).reopen(true));
    let mut four = open_batch(config());
    let mut six = open_batch(config().ha(("::1", 0)));
    let dsts = [four.ha(), six.ha()];
    let grams: Vec<_> = (0..40).map(|i| (data(i, 50), dsts[i / 10 % 2])).collect();
    assert_eq!(from.send_batch(grams.iter().map(|(data, dst)| (data, *dst))).sent, 40);
    for (i, receiver) in [&mut four, &mut six].into_iter().enumerate() {
        for (data, _) in grams.iter().filter(|(_, dst)| *dst == dsts[i]) {
            assert_eq!(next(receiver).0, *data);
        }
        assert_nothing_left(receiver);
    }
    assert_eq!(from.stats().grams_segmented, if takes_batches(&from) { 40 } else { 0 });
}

#[test]
fn what_joins_is_counted_and_can_be_turned_off() {
    let mut receiver: BatchPeer = open();
    let dst = receiver.ha();
    for on in [true, false] {
        let mut from = open_batch(config().segment(on));
        let does = on && takes_batches(&from);
        assert_eq!(from.segments(), does);
        let grams = [&b"aa"[..], b"aa", b"a", b"aa", b"", b"aaa", b"aaa"];
        assert_eq!(from.send_batch(grams.map(|gram| (gram, dst))).sent, 7);
        assert_eq!(from.stats().grams_segmented, if does { 3 + 2 } else { 0 });
        for gram in grams {
            assert_eq!(next(&mut receiver).0, gram);
        }
    }
}

#[test]
fn a_row_takes_part_in_one_call_with_the_rest_of_its_batch() {
    let mut from: BatchPeer = open();
    let mut receivers: [BatchPeer; 2] = [open(), open()];
    let (one, two) = (receivers[0].ha(), receivers[1].ha());
    let grams = [(&b"row"[..], one), (b"row", one), (b"single", two), (b"row", one), (b"row", one), (b"", two)];
    assert_eq!(from.send_batch(grams).sent, 6);
    let stats = from.stats();
    assert_eq!((stats.send_calls, stats.grams_segmented), if takes_batches(&from) { (1, 4) } else { (6, 0) });
    settle();
    assert_eq!(receivers[0].fill().unwrap().map(|gram| gram.data).collect::<Vec<_>>(), [b"row"; 4]);
    assert_eq!(receivers[1].fill().unwrap().map(|gram| gram.data).collect::<Vec<_>>(), [&b"single"[..], b""]);
}

#[test]
fn a_gram_that_fails_in_the_middle_of_rows_is_named() {
    let mut from: BatchPeer = open();
    let mut receiver: BatchPeer = open();
    let (dst, port_0) = (receiver.ha(), SocketAddr::from(([127, 0, 0, 1], 0)));
    // Rows to a place where nothing can go: every gram of them fails, one by one.
    let dsts = [dst, dst, dst, port_0, port_0, port_0, dst, dst, port_0, dst];
    let grams: Vec<_> = dsts.iter().enumerate().map(|(i, dst)| (data(i, 30), *dst)).collect();
    let borrowed: Vec<_> = grams.iter().map(|(data, dst)| (&data[..], *dst)).collect();
    let failures = support::send_all(&mut from, &borrowed);
    assert_eq!(failures.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [3, 4, 5, 8]);
    for (data, _) in grams.iter().filter(|(_, to)| *to == dst) {
        assert_eq!(next(&mut receiver).0, *data);
    }
    assert_nothing_left(&mut receiver);
    let stats = from.stats();
    assert_eq!((stats.grams_sent, stats.grams_send_failed, stats.segment_refusals), (6, 4, 0));
}

#[test]
#[cfg(target_os = "linux")]
fn t13_a_socket_whose_segments_the_kernel_refuses_sends_all_the_same() {
    let mut receiver = open_batch(config().gram_size(65_535));
    for batch in shapes() {
        let mut from = open_batch(config());
        support::refuse_segments(&from);
        let to_one: Batch = batch.iter().map(|(len, _)| (*len, 0)).collect();
        exchange(&mut from, std::slice::from_mut(&mut receiver), &to_one, false);
        let stats = from.stats();
        assert_eq!((stats.grams_segmented, stats.grams_send_failed), (0, 0));
        let could_join = to_one.windows(2).any(|two| two[0].0 >= two[1].0 && two[1].0 > 0 && two[0].0 < 32_754);
        assert_eq!(stats.segment_refusals > 0, could_join && takes_batches(&from), "{to_one:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn t14_asking_the_socket_leaves_no_option_behind() {
    let mut from: BatchPeer = open();
    let mut receiver = open_batch(config().gram_size(9000));
    let dst = receiver.ha();
    // A segment size that stayed on the socket would cut this.
    assert_eq!(from.send(&data(1, 9000), dst).unwrap(), 9000);
    assert_eq!(next(&mut receiver).0, data(1, 9000));
    // And one that the user sets, on this socket of theirs, is heeded for plain sends only.
    support::set_option(&from, libc::SOL_UDP, libc::UDP_SEGMENT, 500);
    assert_eq!(from.send_batch([(&data(2, 700), dst), (&data(3, 700), dst)]).sent, 2);
    let lens = [next(&mut receiver).0.len(), next(&mut receiver).0.len()];
    assert_eq!(lens, if takes_batches(&from) { [700, 700] } else { [500, 200] });
}
