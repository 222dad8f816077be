//! Captures made by anybody: whatever stands in them, they are read to the end, in little memory, and no
//! byte is handed out twice.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/bin/hio-udp/blocks.rs"]
mod blocks;
#[path = "../../src/bin/hio-udp/endian.rs"]
mod endian;
#[path = "../../src/bin/hio-udp/headers.rs"]
mod headers;
#[path = "../../src/bin/hio-udp/memory.rs"]
mod memory;
#[path = "../../src/bin/hio-udp/packets.rs"]
mod packets;
#[path = "../../src/bin/hio-udp/records.rs"]
mod records;
#[path = "../../src/bin/hio-udp/window.rs"]
mod window;

use headers::Content;
use libfuzzer_sys::fuzz_target;
use packets::{Item, Reader};

fuzz_target!(|file: &[u8]| {
    let Ok(mut reader) = Reader::new(file) else { return };
    let mut accounted = 0;
    while let Some(item) = reader.next() {
        match item {
            Item::Packet(packet) => {
                accounted += packet.data.len() as u64;
                if let Content::Udp(datagram) = headers::content(packet.link_type, packet.data) {
                    assert!(datagram.payload.len() <= datagram.original_len.min(packet.data.len()));
                }
            }
            Item::Loss(loss) => assert!(loss.count > 0),
            Item::Damage(damage) => {
                assert!(damage.bytes > 0);
                accounted += damage.bytes;
            }
        }
    }
    assert!(accounted <= file.len() as u64 && reader.offset() == file.len() as u64);
    assert!(reader.next().is_none());
});
