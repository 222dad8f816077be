//! What is written is read back: datagrams as pcapng by the program's reader of captures and by its sinks, and
//! their lines of JSON by a parser that is not ours.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/bin/hio-udp/sinks/block.rs"]
mod block;
#[path = "../../src/bin/hio-udp/blocks.rs"]
mod blocks;
#[path = "../../src/bin/hio-udp/sinks/chunk.rs"]
mod chunk;
#[path = "../../src/bin/hio-udp/endian.rs"]
mod endian;
#[path = "../../src/bin/hio-udp/headers.rs"]
mod headers;
#[path = "../../src/bin/hio-udp/sinks/line.rs"]
mod line;
#[path = "../../src/bin/hio-udp/sinks/losses.rs"]
mod losses;
#[path = "../../src/bin/hio-udp/memory.rs"]
mod memory;
#[path = "../../src/bin/hio-udp/packets.rs"]
mod packets;
#[path = "../../src/bin/hio-udp/records.rs"]
mod records;
#[path = "../../src/bin/hio-udp/utc.rs"]
mod utc;
#[path = "../../src/bin/hio-udp/window.rs"]
mod window;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use arbitrary::Arbitrary;
use hio_udp::pcapng::{self, Flow, Packet};
use libfuzzer_sys::fuzz_target;
use packets::{Item, Reader};
use serde_json::Value;

/// The longest payload both kinds of headers can tell the length of.
const PAYLOAD_MAX: usize = 65_535 - 28;

#[derive(Arbitrary, Debug)]
struct Written<'a> {
    data: &'a [u8],
    /// Bytes that were cut off.
    cut: u16,
    src: SocketAddr,
    dst: SocketAddr,
    time: Duration,
    flow: Option<bool>,
    dropped: u32,
}

impl Written<'_> {
    fn original_len(&self) -> usize {
        (self.data.len() + usize::from(self.cut)).min(PAYLOAD_MAX)
    }

    /// What fits: a later time is the latest that does.
    fn time_ns(&self) -> u64 {
        u64::try_from(self.time().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()).unwrap_or(u64::MAX)
    }

    fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(self.time).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn put(&self, out: &mut Vec<u8>) {
        let mut packet = Packet::new(self.data, self.src, self.dst, self.time());
        packet.original_len = self.original_len();
        packet.flow = self.flow.map(|is_outbound| if is_outbound { Flow::Outbound } else { Flow::Inbound });
        packet.dropped = self.dropped.into();
        packet.put(out);
    }

    /// Source and destination as a packet has them: both of one kind, without scope and flow label.
    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let (src, dst) = (self.src.ip().to_canonical(), self.dst.ip().to_canonical());
        let are_both_v4 = src.is_ipv4() && dst.is_ipv4();
        let as_written = |ip| match ip {
            IpAddr::V4(v4) if !are_both_v4 => IpAddr::V6(v4.to_ipv6_mapped()),
            ip => ip,
        };
        (SocketAddr::new(as_written(src), self.src.port()), SocketAddr::new(as_written(dst), self.dst.port()))
    }
}

fn assert_is_read_by_inspect(file: &[u8], written: &[Written<'_>]) {
    let mut reader = Reader::new(file).expect("a capture");
    for expected in written {
        let Some(Item::Packet(packet)) = reader.next() else { panic!("a packet is missing") };
        assert_eq!(packet.time, Some(expected.time_ns().into()));
        assert_eq!(packet.loss.map_or(0, |loss| loss.count), u64::from(expected.dropped));
        let headers::Content::Udp(datagram) = headers::content(packet.link_type, packet.data) else {
            panic!("{packet:?}");
        };
        assert_eq!((datagram.src, datagram.dst), expected.addresses());
        assert_eq!((datagram.payload, datagram.original_len), (expected.data, expected.original_len()));
    }
    assert!(reader.next().is_none());
}

fn assert_is_its_line(line: &Value, expected: &Written<'_>) {
    let (src, dst) = expected.addresses();
    assert_eq!((line["src"].as_str(), line["dst"].as_str()), (Some(&*src.to_string()), Some(&*dst.to_string())));
    assert_eq!(line["len"], expected.data.len());
    assert_eq!(line["dropped"].as_u64(), (expected.dropped > 0).then_some(expected.dropped.into()));
    let is_cut = expected.data.len() < expected.original_len();
    assert_eq!(line["truncated"].as_bool(), is_cut.then_some(true));
    assert_eq!(line["original_len"].as_u64(), is_cut.then_some(expected.original_len() as u64));
    match std::str::from_utf8(expected.data) {
        Ok(text) => {
            assert_eq!(line["text"].as_str(), Some(text));
            assert!(line.get("base64").is_none());
        }
        Err(_) => {
            assert!(line.get("text").is_none());
            assert_eq!(base64(line["base64"].as_str().unwrap()), expected.data);
        }
    }
}

/// Reads base64 bit by bit.
fn base64(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 4, 0);
    let digits = text.trim_end_matches('=').bytes().map(|digit| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other}"),
    });
    let bits: Vec<u8> = digits.flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

fuzz_target!(|written: Vec<Written<'_>>| {
    let mut file = Vec::new();
    pcapng::put_section(&mut file, "fuzz");
    pcapng::put_interface(&mut file, "fuzz");
    written.iter().for_each(|one| one.put(&mut file));
    assert_is_read_by_inspect(&file, &written);
    assert_eq!(block::whole(&file), (file.len(), written.len() as u64));

    // The program's sinks read what its own encoder laid, which tells no direction.
    let mut plain = Vec::new();
    for one in &written {
        Written { flow: None, ..*one }.put(&mut plain);
    }
    let chunk = chunk::Chunk { blocks: plain, packets: written.len() as u64, dropped: 0 };
    let mut lines = Vec::new();
    chunk.datagrams().for_each(|datagram| line::put_line(&mut lines, &datagram));
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!((lines.lines().count(), lines.ends_with('\n')), (written.len(), !written.is_empty()));
    for (line, expected) in lines.lines().zip(&written) {
        assert_is_its_line(&serde_json::from_str(line).unwrap(), expected);
    }
});
