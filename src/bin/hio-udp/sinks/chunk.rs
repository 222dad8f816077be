//! Chunks: datagrams laid end to end in memory as pcapng blocks, once for every sink.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use hio_udp::Gram;
use hio_udp::pcapng::{self, Packet, Statistics};

use super::block;
use super::losses::Losses;
use crate::memory;

/// A chunk is handed over when it holds this much.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The longest block: a 65,535-byte datagram with its headers, block fields and options.
const BLOCK_BYTES_MAX: usize = 70_000;

/// Whole blocks, ready for the sinks.
pub struct Chunk {
    pub blocks: Vec<u8>,
    pub packets: u64,
    /// Datagrams the kernel dropped, of which no chunk has told before.
    pub dropped: u64,
}

impl Chunk {
    /// The datagrams in it, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        block::Blocks::new(&self.blocks).filter_map(Datagram::read)
    }
}

/// Room for a chunk: the last block may begin just before it is full.
pub fn new_room() -> io::Result<Vec<u8>> {
    memory::room(CHUNK_BYTES + BLOCK_BYTES_MAX)
}

/// What became of all datagrams since the start, as the chunks tell that a sink has had.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SoFar {
    delivered: u64,
    dropped: u64,
}

impl SoFar {
    pub fn add(&mut self, chunk: &Chunk) {
        self.delivered += chunk.packets;
        self.dropped += chunk.dropped;
    }

    /// The same for a capture.
    pub fn statistics(self) -> Statistics {
        let Self { delivered, dropped } = self;
        Statistics { time: SystemTime::now(), received: delivered + dropped, dropped, delivered }
    }
}

/// What a capture begins with, in front of any chunk; datagrams come to `place`.
pub fn preamble(place: &str) -> Vec<u8> {
    let mut blocks = Vec::new();
    pcapng::put_section(&mut blocks, concat!("hio-udp ", env!("CARGO_PKG_VERSION")));
    pcapng::put_interface(&mut blocks, &format!("udp {place}"));
    blocks
}

/// Turns grams into blocks.
pub struct Encoder {
    blocks: Vec<u8>,
    /// Packets in `blocks` now.
    packets: u64,
    /// Drops that the next chunk tells.
    dropped: u64,
    local: SocketAddr,
    losses: Arc<Losses>,
    /// When the batch was read, for datagrams that the kernel has not stamped.
    batch_read: SystemTime,
}

impl Encoder {
    /// It begins in `room`. `local` is the address the datagrams came to, where they do not say so themselves.
    pub fn new(room: Vec<u8>, local: SocketAddr, losses: Arc<Losses>) -> Self {
        Self { blocks: room, packets: 0, dropped: 0, local, losses, batch_read: SystemTime::now() }
    }

    /// To be called before the grams of each batch.
    pub fn begin_batch(&mut self) {
        self.batch_read = SystemTime::now();
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Adds one gram that came through a socket, with the number of datagrams lost before it.
    pub fn add(&mut self, gram: &Gram<'_>, socket: usize) {
        let meta = gram.meta();
        let dst = SocketAddr::new(meta.dst.unwrap_or(self.local.ip()), self.local.port());
        let time = meta.rx_time.map_or(self.batch_read, |since| SystemTime::UNIX_EPOCH + since);
        let mut packet = Packet::new(gram.data, gram.src, dst, time);
        packet.original_len = gram.original_len;
        packet.dropped = meta.kernel_drops.map_or(0, |reading| self.losses.new_by(socket, reading));
        packet.put(&mut self.blocks);
        self.packets += 1;
    }

    /// Adds to the drops that the next chunk tells.
    pub fn tell_drops(&mut self, new: u64) {
        self.dropped += new;
    }

    pub fn has_drops(&self) -> bool {
        self.dropped > 0
    }

    /// Takes what was encoded so far; before more is, [`Encoder::go_on_in`] gives room for it.
    pub fn take(&mut self) -> Chunk {
        let blocks = mem::take(&mut self.blocks);
        Chunk { blocks, packets: mem::take(&mut self.packets), dropped: mem::take(&mut self.dropped) }
    }

    pub fn go_on_in(&mut self, room: Vec<u8>) {
        self.blocks = room;
    }
}

/// One datagram of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Datagram<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// The payload, or what was kept of it.
    pub data: &'a [u8],
    pub original_len: usize,
    /// Datagrams lost between the one before and this one.
    pub dropped: u64,
}

impl<'a> Datagram<'a> {
    /// Reads a packet as [`Packet::put`] writes it; `None` for another block.
    fn read(block: block::Block<'a>) -> Option<Self> {
        const UDP_HEADER: usize = 8;
        const EPB_DROPCOUNT: u32 = 4;
        if block.kind != block::ENHANCED_PACKET {
            return None;
        }
        let word = |at: usize| Some(u32::from_le_bytes(*block.body.get(at..)?.first_chunk()?));
        let (high, low, captured, original) = (word(4)?, word(8)?, word(12)? as usize, word(16)? as usize);
        let packet = block.body.get(20..20 + captured)?;
        let (src, dst, ip_header) = if packet.first()? >> 4 == 4 {
            let at = |at: usize| Some(IpAddr::from(*packet.get(at..)?.first_chunk::<4>()?));
            (at(12)?, at(16)?, 20)
        } else {
            let at = |at: usize| Some(IpAddr::from(*packet.get(at..)?.first_chunk::<16>()?));
            (at(8)?, at(24)?, 40)
        };
        let port = |at: usize| Some(u16::from_be_bytes(*packet.get(ip_header + at..)?.first_chunk()?));
        // Of the options only this one is ever put, and first.
        let options = 20 + captured.next_multiple_of(4);
        let has_drops = word(options).is_some_and(|option| option & 0xFFFF == EPB_DROPCOUNT);
        let dropped = if has_drops { u64::from_le_bytes(*block.body.get(options + 4..)?.first_chunk()?) } else { 0 };
        Some(Self {
            time_ns: u64::from(high) << 32 | u64::from(low),
            src: SocketAddr::new(src, port(0)?),
            dst: SocketAddr::new(dst, port(2)?),
            data: packet.get(ip_header + UDP_HEADER..)?,
            original_len: original - ip_header - UDP_HEADER,
            dropped,
        })
    }

    pub fn is_cut(&self) -> bool {
        self.data.len() < self.original_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_read_back_as_it_was_put() {
        let mut blocks = Vec::new();
        let data: Vec<u8> = (0..=255).collect();
        let mut expected = Vec::new();
        // Windows' clock counts in steps of 100 ns.
        let step_ns = if cfg!(windows) { 100 } else { 1 };
        for (i, (src, dst)) in [
            ("192.0.2.1:1", "192.0.2.2:65535"),
            ("[2001:db8::1]:2", "[2001:db8::2]:3"),
            ("192.0.2.1:4", "[2001:db8::2]:5"),
        ]
        .into_iter()
        .enumerate()
        {
            for (len, original_len, dropped) in [(0, 0, 0), (1, 1, 7), (255, 9000, 0), (256, 256, u64::MAX)] {
                let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
                let time_ns = 1_764_000_000_123_456_700 + (89 + i as u64) * step_ns;
                let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(time_ns);
                let mut packet = Packet::new(&data[..len], src, dst, time);
                (packet.original_len, packet.dropped) = (original_len, dropped);
                packet.put(&mut blocks);
                let src = if i == 2 { "[::ffff:192.0.2.1]:4".parse().unwrap() } else { src };
                expected.push(Datagram { time_ns, src, dst, data: &data[..len], original_len, dropped });
            }
        }
        SoFar::default().statistics().put(&mut blocks);
        let chunk = Chunk { blocks, packets: 12, dropped: 0 };
        assert_eq!(chunk.datagrams().collect::<Vec<_>>(), expected);
    }
}
