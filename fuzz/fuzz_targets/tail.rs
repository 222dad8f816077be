//! Segments that a killed run left open: what is kept of them is whole blocks, all of those there are in front,
//! and reads without damage what was written before the end was torn off. Names of files, too.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/bin/hio-udp/sinks/block.rs"]
mod block;
#[path = "../../src/bin/hio-udp/blocks.rs"]
mod blocks;
#[path = "../../src/bin/hio-udp/sinks/directory.rs"]
mod directory;
#[path = "../../src/bin/hio-udp/endian.rs"]
mod endian;
#[path = "../../src/bin/hio-udp/memory.rs"]
mod memory;
#[path = "../../src/bin/hio-udp/sinks/opening.rs"]
mod opening;
#[path = "../../src/bin/hio-udp/packets.rs"]
mod packets;
#[path = "../../src/bin/hio-udp/records.rs"]
mod records;
#[path = "../../src/bin/hio-udp/utc.rs"]
mod utc;
#[path = "../../src/bin/hio-udp/window.rs"]
mod window;

mod account {
    pub fn say(_line: &str) {}
}

use std::net::SocketAddr;
use std::time::SystemTime;

use arbitrary::Arbitrary;
use hio_udp::pcapng;
use libfuzzer_sys::fuzz_target;
use packets::{Item, Reader};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Lengths of the datagrams that were written.
    lens: Vec<u8>,
    /// How much of the file is left, counted from its end.
    torn: u16,
    /// What stands there instead.
    tail: &'a [u8],
    name: &'a str,
}

/// The whole blocks of known types at the front: bytes and packets, by indices only.
fn naive(file: &[u8]) -> (usize, u64) {
    let (mut at, mut packets) = (0, 0);
    let word = |at: usize| file.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
    while let (Some(kind), Some(len)) = (word(at), word(at + 4)) {
        let end = at + len as usize;
        let is_known = matches!(kind, 0x0A0D_0D0A | 1 | 5 | 6);
        if !is_known || !(12..=16 << 20).contains(&len) || end > file.len() || word(end - 4) != Some(len) {
            break;
        }
        packets += u64::from(kind == 6);
        at = end;
    }
    (at, packets)
}

fuzz_target!(|input: Input<'_>| {
    let addr = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut file = Vec::new();
    pcapng::put_section(&mut file, "fuzz");
    pcapng::put_interface(&mut file, "fuzz");
    let mut ends = vec![file.len()];
    for len in input.lens.iter().take(64) {
        pcapng::Packet::new(&vec![*len; usize::from(*len)], addr, addr, SystemTime::UNIX_EPOCH).put(&mut file);
        ends.push(file.len());
    }
    let torn_at = file.len() - usize::from(input.torn).min(file.len() - ends[0]);
    file.truncate(torn_at);
    file.extend_from_slice(input.tail);

    let (whole, packets) = directory::scan(&mut file.as_slice()).unwrap();
    assert_eq!((whole as usize, packets), naive(&file));
    let kept = &file[..whole as usize];
    assert_eq!(directory::scan(&mut &*kept).unwrap(), (whole, packets));

    // Everything written in whole before the tear is kept, and reads well.
    let written = ends.iter().filter(|end| **end <= torn_at).count() - 1;
    assert!(kept.len() >= ends[written] && packets >= written as u64);
    let mut reader = Reader::new(kept).expect("it begins as a capture does");
    for len in &input.lens[..written] {
        match reader.next() {
            Some(Item::Packet(packet)) => assert_eq!(packet.data.len(), 28 + usize::from(*len)),
            other => panic!("{other:?}"),
        }
    }

    if let Some(number) = directory::number(input.name) {
        assert!(input.name.ends_with(".pcapng") && input.name.contains(&number.to_string()));
    }
});
