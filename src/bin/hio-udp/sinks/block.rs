//! Blocks of a capture, as far as the program looks into them.

/// Types of blocks.
const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
pub const ENHANCED_PACKET: u32 = 6;

/// A block without its type and its two lengths.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    pub kind: u32,
    pub body: &'a [u8],
}

impl Block<'_> {
    /// Whether it is of a type that the program writes.
    pub fn is_known(&self) -> bool {
        matches!(self.kind, SECTION_HEADER | INTERFACE_DESCRIPTION | INTERFACE_STATISTICS | ENHANCED_PACKET)
    }
}

/// Bytes of a block around its body: type and length before, length behind.
pub const FRAME_BYTES: usize = 12;

/// The whole blocks at the start of some bytes; ends at the first that is not.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Blocks<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        let rest = &self.bytes[self.at..];
        let word = |at: usize| Some(u32::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        let (kind, len) = (word(0)?, word(4)? as usize);
        let body = rest.get(8..len.checked_sub(4)?)?;
        if word(len - 4)? as usize != len {
            return None;
        }
        self.at += len;
        Some(Block { kind, body })
    }
}

/// How many bytes are whole blocks, and how many packets these hold.
pub fn whole(bytes: &[u8]) -> (usize, u64) {
    let mut blocks = Blocks::new(bytes);
    let packets = blocks.by_ref().filter(|block| block.kind == ENHANCED_PACKET).count();
    (blocks.at, packets as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_are_whole() {
        let mut bytes = super::super::chunk::preamble("127.0.0.1:9");
        let front = bytes.len();
        for data in [&b"one"[..], b"three"] {
            let addr = "127.0.0.1:9".parse().unwrap();
            hio_udp::pcapng::Packet::new(data, addr, addr, std::time::SystemTime::now()).put(&mut bytes);
        }
        let second = front + Blocks::new(&bytes[front..]).next().unwrap().body.len() + FRAME_BYTES;
        for end in front..bytes.len() {
            let expected = if end < second { (front, 0) } else { (second, 1) };
            assert_eq!(whole(&bytes[..end]), expected, "of {end} bytes");
        }
        assert_eq!(whole(&bytes), (bytes.len(), 2));
        // A length that lies leads nowhere.
        for len in [0_u32, 3, 4, 11, u32::MAX] {
            let mut bad = bytes.clone();
            bad[front + 4..front + 8].copy_from_slice(&len.to_le_bytes());
            assert_eq!(whole(&bad), (front, 0), "length {len}");
        }
    }
}
