//! Rings of any depth against what was sent: every datagram once, in order, whole or cut where the slot ends.
//!
//! The numbers of slots lie around those at which a way of receiving goes over to its next call.

mod support;

use std::net::UdpSocket;

use hio_udp::{BatchPeer, Transport};
use support::{Random, config, open_batch, settle};

const GRAM_SIZE: usize = 8;

/// Lengths of datagrams: mostly whole, here and there empty or too long.
fn random_lens(random: &mut Random, count: usize) -> Vec<usize> {
    let empty_one_in = [2, 10, 1000, usize::MAX][random.below(4)];
    let cut_one_in = [2, 10, 1000, usize::MAX][random.below(4)];
    let mut len = |_| match (random.next() as usize % empty_one_in, random.next() as usize % cut_one_in) {
        (0, _) => 0,
        (_, 0) => GRAM_SIZE + 1 + random.below(60),
        _ => 1 + random.below(GRAM_SIZE),
    };
    (0..count).map(&mut len).collect()
}

fn data(i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (i * 31 + at * 7 + (i >> 8)) as u8).collect()
}

/// Sends datagrams of these lengths and receives them all, by turns of `fill` and `receive`.
fn round(peer: &mut BatchPeer, from: &UdpSocket, lens: &[usize], random: &mut Random) {
    let to = peer.ha();
    for (i, len) in lens.iter().enumerate() {
        from.send_to(&data(i, *len), to).unwrap();
    }
    settle();
    let src = from.local_addr().unwrap();
    let mut got = 0;
    loop {
        let before = got;
        if random.below(4) == 0 {
            for _ in 0..random.below(50) {
                let (bytes, from) = peer.receive().unwrap();
                if from.is_none() {
                    break;
                }
                assert_eq!((bytes, from), (&data(got, lens[got].min(GRAM_SIZE))[..], Some(src)), "number {got}");
                got += 1;
            }
        }
        for gram in peer.fill().unwrap() {
            assert_eq!((gram.original_len, gram.src), (lens[got], src), "number {got}");
            assert_eq!(gram.data, data(got, lens[got].min(GRAM_SIZE)), "number {got}");
            assert_eq!(gram.truncated, lens[got] > GRAM_SIZE, "number {got}");
            got += 1;
        }
        if got == before {
            break;
        }
    }
    assert_eq!(got, lens.len());
}

#[test]
fn rings_of_every_depth_bring_every_datagram_once() {
    let mut random = Random(7);
    for bc in [1, 2, 16, 17, 32, 33, 34, 66, 67, 1055, 1056, 1057, 2112, 2113, 65_535] {
        let mut peer = open_batch(config().bc(bc).gram_size(GRAM_SIZE).recv_buf_bytes(8 << 20));
        let held = peer.buf_report(hio_udp::Direction::Receive).unwrap().holds(80);
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sent = 0;
        for count in [40, 33, 34, 5000, 20, 32, 33, 66, 99, 1056, 1057, 1089, 3000, 0, 1, bc, bc + 1, 2 * bc + 3] {
            let lens = random_lens(&mut random, count.min(held));
            round(&mut peer, &from, &lens, &mut random);
            sent += lens.len() as u64;
        }
        let stats = peer.stats();
        assert_eq!((stats.grams_received, stats.kernel_dropped, stats.grams_undecodable), (sent, 0, 0), "{bc}");
    }
}
