//! Compressed captures made by anybody: what comes out does not depend on how it is read (less than a piece in front of
//! damage in gzip), and the reader of captures gets to its end or to the error. And what is compressed here comes out again, of a file that is cut its beginning.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/bin/hio-udp/blocks.rs"]
mod blocks;
#[path = "../../src/bin/hio-udp/endian.rs"]
mod endian;
#[path = "../../src/bin/hio-udp/expansion.rs"]
mod expansion;
#[path = "../../src/bin/hio-udp/memory.rs"]
mod memory;
#[path = "../../src/bin/hio-udp/packets.rs"]
mod packets;
#[path = "../../src/bin/hio-udp/records.rs"]
mod records;
#[path = "../../src/bin/hio-udp/unpack.rs"]
mod unpack;
#[path = "../../src/bin/hio-udp/window.rs"]
mod window;

use std::io::{Cursor, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use packets::{Item, Reader};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// So much of what comes out is looked at: a few bytes can stand for a gigabyte.
const OUT_BYTES_MAX: u64 = 256 << 10;

/// How the rest of the input is taken.
struct How {
    /// As a file that somebody has compressed; else it is compressed here.
    is_file: bool,
    is_zstd: bool,
    /// Members or frames that it is compressed as, here.
    pieces: usize,
    /// Bytes that are read at a time.
    step: usize,
}

impl How {
    fn new(byte: u8) -> Self {
        Self {
            is_file: byte & 1 == 0,
            is_zstd: byte & 2 == 0,
            pieces: usize::from(byte >> 2 & 3) + 1,
            step: [1, 7, 4096, 65_536][usize::from(byte >> 4 & 3)],
        }
    }
}

fn input(file: &[u8]) -> impl Read + use<> {
    unpack::unpacked(Box::new(Cursor::new(file.to_vec()))).unwrap().input.take(OUT_BYTES_MAX)
}

/// What comes out when `step` bytes are read at a time, and whether that is all.
fn unpacked(file: &[u8], step: usize) -> (Vec<u8>, bool) {
    let (mut input, mut out, mut part) = (input(file), Vec::new(), vec![0; step]);
    loop {
        match input.read(&mut part) {
            Ok(0) => return (out, true),
            Ok(count) => out.extend_from_slice(&part[..count]),
            Err(_) => return (out, false),
        }
    }
}

fn packed(content: &[u8], how: &How) -> Vec<u8> {
    let pieces = content.chunks(content.len().div_ceil(how.pieces).max(1));
    let pack = |piece: &[u8]| match how.is_zstd {
        true => compress_to_vec(piece, CompressionLevel::Fastest),
        false => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(piece).unwrap();
            encoder.finish().unwrap()
        }
    };
    pieces.flat_map(pack).collect()
}

/// Whether so many bytes are all that can be had, of so many by other steps.
fn is_whole(bytes: usize, others: usize, file: &[u8], is_all: bool) -> bool {
    let is_damaged_gzip = !is_all && file.starts_with(&[0x1F, 0x8B]);
    bytes == others || (is_damaged_gzip && bytes.abs_diff(others) < unpack::PIECE_BYTES)
}

/// Reads a capture to its end, and holds it to what comes out of the file.
fn read_capture(file: &[u8], out: &[u8], is_all: bool) {
    let Ok(mut reader) = Reader::new(input(file)) else { return };
    let mut accounted = 0;
    let mut is_unreadable = false;
    while let Some(item) = reader.next() {
        match item {
            Item::Packet(packet) => accounted += packet.data.len() as u64,
            Item::Loss(loss) => assert!(loss.count > 0),
            Item::Damage(damage) => {
                is_unreadable |= damage.kind == packets::DamageKind::Unreadable;
                accounted += damage.bytes;
            }
        }
    }
    let read = reader.offset();
    assert!(is_whole(read as usize, out.len(), file, is_all) && is_unreadable != is_all);
    assert!(accounted <= read && reader.take_error().is_some() != is_all);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first().map(|(first, rest)| (How::new(*first), rest)) else { return };
    if how.is_file {
        let (out, is_all) = unpacked(rest, how.step);
        let (at_once, is_all_at_once) = unpacked(rest, 65_536);
        assert!(out.starts_with(&at_once) || at_once.starts_with(&out));
        assert!(is_whole(at_once.len(), out.len(), rest, is_all) && is_all == is_all_at_once);
        read_capture(rest, &at_once, is_all);
        return;
    }
    let file = packed(rest, &how);
    if rest.is_empty() {
        return;
    }
    assert!(unpacked(&file, how.step) == (rest.to_vec(), true));
    read_capture(&file, rest, true);
    let torn = &file[..file.len() * usize::from(rest[0]) / 256];
    let (out, _) = unpacked(torn, how.step);
    // Not enough to see that it is compressed.
    assert!(torn.len() < 4 || rest.starts_with(&out));
});
