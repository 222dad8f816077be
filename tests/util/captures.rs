//! Captures, read back by somebody else.
#![allow(dead_code)]

use std::path::Path;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};

/// One packet of a capture, as an independent reader sees it.
#[derive(Debug)]
pub struct Packet {
    pub time: Duration,
    pub original_len: usize,
    /// Datagrams lost before it.
    pub dropped: u64,
    pub bytes: Vec<u8>,
}

impl Packet {
    pub fn is_v4(&self) -> bool {
        self.bytes[0] >> 4 == 4
    }

    pub fn headers(&self) -> usize {
        if self.is_v4() { 28 } else { 48 }
    }

    pub fn port(&self, at: usize) -> u16 {
        let udp = self.headers() - 8;
        u16::from_be_bytes([self.bytes[udp + at], self.bytes[udp + at + 1]])
    }

    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.headers()..]
    }
}

/// Number in one of blast's datagrams.
pub fn sequence(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[16..24].try_into().unwrap())
}

/// Reads a capture: its packets, and the drops its last statistics block tells.
pub fn read_capture(path: &Path) -> (Vec<Packet>, Option<u64>) {
    let mut reader = PcapNgReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let (mut packets, mut dropped) = (Vec::new(), None);
    while let Some(block) = reader.next_block() {
        match block.expect("a whole block") {
            Block::EnhancedPacket(packet) => packets.push(Packet {
                time: packet.timestamp,
                original_len: packet.original_len as usize,
                dropped: packet
                    .options
                    .iter()
                    .map(|option| if let EnhancedPacketOption::DropCount(n) = option { *n } else { 0 })
                    .sum(),
                bytes: packet.data.into_owned(),
            }),
            Block::InterfaceStatistics(statistics) => {
                for option in statistics.options {
                    if let InterfaceStatisticsOption::IsbOsDrop(count) = option {
                        dropped = Some(count);
                    }
                }
            }
            _ => {}
        }
    }
    (packets, dropped)
}
