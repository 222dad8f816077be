//! How much a compressed block of Zstandard unpacks to, found out without unpacking it (RFC 8878).
//!
//! The decoder unpacks a block at once, and believes it: one of 128 KiB could stand for gigabytes. So what its
//! sequences copy is added up before it is given to the decoder.

/// No block unpacks to more.
pub const BLOCK_BYTES_MAX: usize = 128 << 10;

/// What a sequence tells by codes, in the order of their tables: literals to copy, how far back, bytes from there.
const KINDS: [Kind; 3] = [
    Kind { log_max: 9, log: 6, shares: &LITERAL_SHARES },
    Kind { log_max: 8, log: 5, shares: &OFFSET_SHARES },
    Kind { log_max: 9, log: 6, shares: &MATCH_SHARES },
];

struct Kind {
    /// The largest table has 2 to the power of this entries.
    log_max: u32,
    /// The same of the table that needs no description.
    log: u32,
    /// How many of its entries each code has; −1 is one that is hardly ever used.
    shares: &'static [i32],
}

const LITERAL_SHARES: [i32; 36] =
    [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1];
const OFFSET_SHARES: [i32; 29] =
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];
const MATCH_SHARES: [i32; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];

/// Bits that stand behind the codes of literals, from 16 on; those below have none.
const LITERAL_BITS: [u32; 20] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// The same of matches, from 32 on.
const MATCH_BITS: [u32; 21] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// The shortest match.
const MATCH_MIN: usize = 3;
/// Length of a match by its code, and bits that are added to it.
const MATCHES: [(usize, u32); 53] = matches();
const OFFSET_BITS_MAX: u32 = 31;

/// Adds up the blocks of one frame, of which each may use tables of those before it.
#[derive(Debug, Default)]
pub struct Expansion {
    tables: [Option<Table>; 3],
}

impl Expansion {
    /// Bytes that the next compressed block unpacks to, or some number above [`BLOCK_BYTES_MAX`] if it is more than
    /// that; `None` if it is malformed.
    pub fn of_block(&mut self, block: &[u8]) -> Option<usize> {
        let (literals, taken) = literals(block)?;
        let rest = block.get(taken..)?;
        let (sequences, taken) = match *rest {
            [0, ..] => return Some(literals),
            [count @ 1..=127, ..] => (count.into(), 1),
            [255, low, high, ..] => (usize::from(u16::from_le_bytes([low, high])) + 0x7F00, 3),
            [high, low, ..] => (usize::from(u16::from_be_bytes([high - 128, low])), 2),
            _ => return None,
        };
        let mut rest = rest.get(taken..)?;
        let modes = first(&mut rest)?;
        for (at, kind) in KINDS.iter().enumerate() {
            let table = &mut self.tables[at];
            match modes >> (6 - 2 * at) & 3 {
                0 => *table = Some(Table::new(kind.log, kind.shares)?),
                1 => *table = Some(Table::of_one(first(&mut rest)?)),
                2 => *table = Some(Table::read(&mut rest, kind.log_max)?),
                _ => {}
            }
        }
        let [Some(literal), Some(offset), Some(matched)] = &self.tables else { return None };
        let mut bits = Backwards::new(rest)?;
        let mut states = [literal.begin(&mut bits)?, offset.begin(&mut bits)?, matched.begin(&mut bits)?];
        let mut bytes = literals;
        for sequence in 1..=sequences {
            let [literal_code, offset_code, match_code] =
                [literal.code(states[0]), offset.code(states[1]), matched.code(states[2])];
            bits.take(Some(offset_code).filter(|bits| *bits <= OFFSET_BITS_MAX)?)?;
            let (length, extra) = *MATCHES.get(match_code as usize)?;
            bytes += length + bits.take(extra)? as usize;
            bits.take(literal_bits(literal_code)?)?;
            if bytes > BLOCK_BYTES_MAX || sequence == sequences {
                break;
            }
            states[0] = literal.next(states[0], &mut bits)?;
            states[2] = matched.next(states[2], &mut bits)?;
            states[1] = offset.next(states[1], &mut bits)?;
        }
        Some(bytes)
    }
}

/// How many literals there are, and how many bytes they take.
fn literals(block: &[u8]) -> Option<(usize, usize)> {
    let head = word(block, 0);
    let field = |at: u32, bits: u32| (head >> at & ((1 << bits) - 1)) as usize;
    let (kind, format) = (head & 3, head >> 2 & 3);
    let (header, literals, packed) = match (kind, format) {
        (0 | 1, 0 | 2) => (1, field(3, 5), 0),
        (0 | 1, 1) => (2, field(4, 12), 0),
        (0 | 1, _) => (3, field(4, 20), 0),
        (_, 0 | 1) => (3, field(4, 10), field(14, 10)),
        (_, 2) => (4, field(4, 14), field(18, 14)),
        _ => (5, field(4, 18), field(22, 18)),
    };
    let stored = match kind {
        0 => literals,
        1 => 1,
        _ => packed,
    };
    Some((literals, header + stored)).filter(|_| block.len() >= header)
}

const fn matches() -> [(usize, u32); 53] {
    let mut matches = [(0, 0); 53];
    let (mut code, mut length) = (0, MATCH_MIN);
    while code < matches.len() {
        let bits = if code < 32 { 0 } else { MATCH_BITS[code - 32] };
        matches[code] = (length, bits);
        length += 1 << bits;
        code += 1;
    }
    matches
}

/// Bits behind a code of literals.
fn literal_bits(code: u32) -> Option<u32> {
    code.checked_sub(16).map_or(Some(0), |at| LITERAL_BITS.get(at as usize).copied())
}

/// The first byte, which is gone past.
fn first(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

/// Up to eight bytes as a number, the first the lowest; zeros behind the end.
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let there = bytes.get(at..).unwrap_or_default();
    let count = there.len().min(8);
    word[..count].copy_from_slice(&there[..count]);
    u64::from_le_bytes(word)
}

/// Bits that are read from the end of the bytes to their beginning.
struct Backwards<'b> {
    bytes: &'b [u8],
    left: usize,
}

impl<'b> Backwards<'b> {
    /// They begin below the highest bit that is set.
    fn new(bytes: &'b [u8]) -> Option<Self> {
        let last = bytes.last().filter(|last| **last != 0)?;
        Some(Self { bytes, left: (bytes.len() - 1) * 8 + last.ilog2() as usize })
    }

    /// The next bits, 32 at most.
    fn take(&mut self, count: u32) -> Option<u32> {
        self.left = self.left.checked_sub(count as usize)?;
        Some((word(self.bytes, self.left / 8) >> (self.left % 8) & ((1 << count) - 1)) as u32)
    }
}

/// A table of codes by states (finite state entropy).
#[derive(Debug)]
struct Table {
    log: u32,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    code: u8,
    /// The next state is this and so many bits more.
    next: u32,
    bits: u32,
}

impl Table {
    fn of_one(code: u8) -> Self {
        Self { log: 0, entries: vec![Entry { code, next: 0, bits: 0 }] }
    }

    /// Lays the codes out over the table, each as often as its share says.
    fn new(log: u32, shares: &[i32]) -> Option<Self> {
        let size = 1_usize << log;
        let mut entries = vec![Entry::default(); size];
        let mut high = size;
        for (code, _) in shares.iter().enumerate().filter(|(_, share)| **share == -1) {
            high = high.checked_sub(1)?;
            entries[high].code = code as u8;
        }
        let mut at = 0;
        for (code, share) in shares.iter().enumerate() {
            for _ in 0..*share {
                entries.get_mut(at).filter(|_| at < high)?.code = code as u8;
                at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
                while at >= high && high > 0 {
                    at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
                }
            }
        }
        let mut met: Vec<u32> = shares.iter().map(|share| share.unsigned_abs()).collect();
        for entry in &mut entries {
            let count = met.get_mut(usize::from(entry.code)).filter(|count| **count > 0)?;
            entry.bits = log - count.ilog2();
            entry.next = (*count << entry.bits) - size as u32;
            *count += 1;
        }
        Some(Self { log, entries })
    }

    /// Reads the shares that stand at the front of the bytes, and goes past them.
    fn read(bytes: &mut &[u8], log_max: u32) -> Option<Self> {
        let mut at = 0;
        let mut take = |count: u32| {
            let bits = (word(bytes, at / 8) >> (at % 8) & ((1 << count) - 1)) as u32;
            at += count as usize;
            bits
        };
        let log = take(4) + 5;
        let (mut left, mut shares) = (1_u32 << log, Vec::new());
        if log > log_max {
            return None;
        }
        while left > 0 {
            // A number up to `largest`: the lowest ones have a bit less.
            let largest = left + 1;
            let bits = largest.ilog2() + 1;
            let short = (1 << bits) - 1 - largest;
            let mut number = take(bits - 1);
            if number >= short {
                number |= take(1) << (bits - 1);
                number -= if number >= 1 << (bits - 1) { short } else { 0 };
            }
            let share = number as i32 - 1;
            shares.push(share);
            left = left.checked_sub(share.unsigned_abs())?;
            while share == 0 && shares.len() <= 256 {
                let zeros = take(2);
                shares.extend((0..zeros).map(|_| 0));
                if zeros < 3 {
                    break;
                }
            }
            if shares.len() > 256 {
                return None;
            }
        }
        *bytes = bytes.get(at.div_ceil(8)..)?;
        Self::new(log, &shares)
    }

    fn begin(&self, bits: &mut Backwards<'_>) -> Option<usize> {
        bits.take(self.log).map(|state| state as usize)
    }

    fn code(&self, state: usize) -> u32 {
        self.entries[state].code.into()
    }

    fn next(&self, state: usize, bits: &mut Backwards<'_>) -> Option<usize> {
        let Entry { next, bits: count, .. } = self.entries[state];
        Some((next + bits.take(count)?) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of a frame that was made without a checksum, of at most 128 KiB: their kind, and what stands in them.
    fn blocks(frame: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let header = frame[4];
        let sizes = [usize::from(header >> 5 & 1), 2, 4, 8][usize::from(header >> 6)];
        let mut at = 5 + usize::from(header >> 5 & 1 == 0) + sizes;
        let mut blocks = Vec::new();
        loop {
            let head = u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], 0]);
            let (kind, len) = (head >> 1 & 3, (head >> 3) as usize);
            let stored = if kind == 1 { 1 } else { len };
            blocks.push((kind, frame[at + 3..at + 3 + stored].to_vec()));
            at += 3 + stored;
            if head & 1 == 1 {
                return blocks;
            }
        }
    }

    /// Text with repetitions near and far, and some of what cannot be compressed.
    fn text(len: usize, mut seed: u64) -> Vec<u8> {
        let mut text = Vec::with_capacity(len);
        while text.len() < len {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (number, back) = ((seed >> 33) as usize, (seed >> 40) as usize);
            match number % 4 {
                0 => text.extend(format!("datagram {} from 192.0.2.{}\n", number % 1000, back % 256).bytes()),
                1 if !text.is_empty() => {
                    let from = text.len() - 1 - back % text.len();
                    let to = (from + number % 3000).min(text.len());
                    text.extend_from_within(from..to);
                }
                2 => text.extend(std::iter::repeat_n(b' ', number % 500)),
                _ => text.extend((0..number % 40).map(|i| (seed >> (i % 50)) as u8)),
            }
        }
        text.truncate(len);
        text
    }

    #[test]
    fn blocks_unpack_to_as_many_bytes_as_is_found_out() {
        let mut compressed = 0;
        for (seed, len) in [(1, 10), (2, 1000), (3, 131_072), (4, 131_073), (5, 700_000)] {
            let text = text(len, seed);
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            let mut expansion = Expansion::default();
            let mut left = len;
            for (kind, block) in blocks(&ruzstd::encoding::compress_to_vec(&text[..], level)) {
                let expected = left.min(BLOCK_BYTES_MAX);
                if kind == 2 {
                    assert_eq!(expansion.of_block(&block), Some(expected), "{len}");
                    compressed += 1;
                }
                left -= expected;
            }
            assert_eq!(left, 0);
        }
        assert!(compressed > 5, "{compressed}");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1_u64;
        let frame =
            ruzstd::encoding::compress_to_vec(&text(100_000, 7)[..], ruzstd::encoding::CompressionLevel::Fastest);
        let (_, whole) = blocks(&frame).remove(0);
        for _ in 0..3000 {
            let mut block = whole.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (seed >> 33) as usize % block.len().min(400);
                block[at] = (seed >> 50) as u8;
            }
            block.truncate((seed >> 35) as usize % (2 * whole.len()));
            let _ = Expansion::default().of_block(&block);
        }
    }
}
