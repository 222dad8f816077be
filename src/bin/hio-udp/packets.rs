//! Reader of captures: pcap and pcapng, ours and anybody's, whole or damaged.
//!
//! ```text
//!   bytes ── Window ── Reader ┬ blocks   pcapng, with interfaces and losses
//!                             └ records  pcap
//! ```
//!
//! A file may have been cut by a crash, copied from a bad disk, or made to do harm. So nothing it says about
//! itself is believed before it is checked; memory is bounded, and time is in proportion to the file. Where
//! something cannot be read, the reader looks for the next block that can, and tells what lies between.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use crate::blocks::{BLOCK_FRAME, Section};
use crate::records::{PCAP_HEADER, Pcap};
use crate::window::Window;

/// Nanoseconds since 1970; wide enough for whatever a file says.
pub type Nanos = i128;

/// What a capture holds, in the order of the file.
#[derive(Debug)]
pub enum Item<'a> {
    Packet(Packet<'a>),
    /// What statistics tell.
    Loss(Loss),
    Damage(Damage),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub link_type: u16,
    /// When; a Simple Packet Block does not tell.
    pub time: Option<Nanos>,
    /// The packet, or what was kept of it.
    pub data: &'a [u8],
    /// What it tells to be lost before it.
    pub loss: Option<Loss>,
}

/// Datagrams lost by who captured, not told of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub count: u64,
    /// No earlier than this, if anything was captured before.
    pub from: Option<Nanos>,
    pub to: Option<Nanos>,
}

/// Bytes that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the file; in what comes out, if it is compressed.
    pub at: u64,
    pub bytes: u64,
    pub kind: DamageKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The file ends inside a block.
    CutOff,
    /// Zeros: reserved, but never written.
    Unwritten,
    /// No block can be recognised.
    Garbage,
    /// A block whose fields contradict each other.
    Contradictory,
    /// The file could not be read on; the error says why.
    Unreadable,
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutOff => "cut off",
            Self::Unwritten => "never written",
            Self::Garbage => "garbage",
            Self::Contradictory => "contradictory",
            Self::Unreadable => "unreadable",
        })
    }
}

pub const NANOS_PER_SECOND: u32 = 1_000_000_000;
pub const SECOND: Nanos = NANOS_PER_SECOND as Nanos;

/// Reads a capture from its first byte to its last.
pub struct Reader<R> {
    window: Window<R>,
    format: Format,
    /// Bytes of what was handed out last; gone past at the next call.
    handed_out: usize,
    error: Option<io::Error>,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// If this is neither pcap nor pcapng; and why, if that is because it cannot be read.
    pub fn new(input: R) -> Result<Self, Option<io::Error>> {
        let mut window = Window::new(input);
        let head = window.peek(PCAP_HEADER);
        let format = if Section::is_begun_by(head) {
            Format::Pcapng(Section::new())
        } else {
            let Some(pcap) = Pcap::new(head) else { return Err(window.take_error()) };
            window.skip(PCAP_HEADER);
            Format::Pcap(pcap)
        };
        Ok(Self { window, format, handed_out: 0, error: None })
    }

    /// Whether the next block or record has been read already, as a whole.
    pub fn is_next_ahead(&mut self) -> bool {
        self.window.skip(std::mem::take(&mut self.handed_out));
        let format = &self.format;
        matches!(self.window.without_reading(|window| format.front(window)), Front::Whole(_))
    }

    /// Bytes gone past so far.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// Why the file could not be read to its end, after the item that says so.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// The next item; `None` at the end, and from then on.
    pub fn next(&mut self) -> Option<Item<'_>> {
        let (link_type, time, data, loss) = loop {
            self.window.skip(std::mem::take(&mut self.handed_out));
            let at = self.window.offset();
            let len = match self.format.front(&mut self.window) {
                Front::Whole(len) => len,
                Front::End => {
                    self.error = Some(self.window.take_error()?);
                    return Some(Item::Damage(Damage { at, bytes: 0, kind: DamageKind::Unreadable }));
                }
                Front::CutOff => return Some(Item::Damage(self.recover(at, true))),
                Front::Broken => return Some(Item::Damage(self.recover(at, false))),
            };
            self.handed_out = len;
            match self.format.parse(&self.window.ahead()[..len]) {
                Parsed::Nothing => {}
                Parsed::Contradiction => {
                    let kind = DamageKind::Contradictory;
                    return Some(Item::Damage(Damage { at, bytes: len as u64, kind }));
                }
                Parsed::Loss(loss) => return Some(Item::Loss(loss)),
                Parsed::Packet { link_type, time, data, loss } => break (link_type, time, data, loss),
            }
        };
        // Borrowed only here, outside of the loop.
        Some(Item::Packet(Packet { link_type, time, data: &self.window.ahead()[data], loss }))
    }

    /// Goes on to the next block that can be recognised, or to the end.
    fn recover(&mut self, at: u64, is_cut_off: bool) -> Damage {
        let mut is_zero = true;
        while let Some(first) = self.window.peek(1).first() {
            is_zero &= *first == 0;
            self.window.skip(1);
            if self.format.is_recognised(&mut self.window) {
                break;
            }
        }
        let is_at_end = self.window.peek(1).is_empty();
        let bytes = self.window.offset() - at;
        let kind = if is_zero && bytes >= BLOCK_FRAME as u64 {
            DamageKind::Unwritten
        } else if is_cut_off && is_at_end {
            DamageKind::CutOff
        } else {
            DamageKind::Garbage
        };
        Damage { at, bytes, kind }
    }
}

/// What stands at the front of the window.
pub enum Front {
    End,
    /// A whole block or record of so many bytes.
    Whole(usize),
    /// One that would be whole if the file did not end.
    CutOff,
    Broken,
}

/// What is in a block or record.
pub enum Parsed {
    Nothing,
    Contradiction,
    Loss(Loss),
    Packet {
        link_type: u16,
        time: Option<Nanos>,
        /// Where in the block.
        data: Range<usize>,
        loss: Option<Loss>,
    },
}

enum Format {
    Pcap(Pcap),
    Pcapng(Section),
}

impl Format {
    fn front<R: Read>(&self, window: &mut Window<R>) -> Front {
        match self {
            Self::Pcap(pcap) => pcap.front(window),
            Self::Pcapng(section) => section.front(window),
        }
    }

    fn is_recognised<R: Read>(&self, window: &mut Window<R>) -> bool {
        match self {
            Self::Pcap(pcap) => pcap.is_recognised(window),
            Self::Pcapng(section) => section.is_recognised(window),
        }
    }

    fn parse(&mut self, whole: &[u8]) -> Parsed {
        match self {
            Self::Pcap(pcap) => pcap.parse(whole),
            Self::Pcapng(section) => section.parse(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use hio_udp::pcapng;

    use super::*;
    use crate::blocks::*;
    use crate::endian::Endian;
    use crate::window::AHEAD_BYTES_MAX;

    /// What a reader makes of a file.
    #[derive(Debug, Default, PartialEq)]
    struct Found {
        packets: Vec<(u16, Option<Nanos>, Vec<u8>)>,
        losses: Vec<Loss>,
        damage: Vec<Damage>,
    }

    impl Found {
        fn damaged_bytes(&self) -> u64 {
            self.damage.iter().map(|damage| damage.bytes).sum()
        }

        fn kinds(&self) -> Vec<DamageKind> {
            self.damage.iter().map(|damage| damage.kind).collect()
        }
    }

    fn read(file: &[u8]) -> Option<Found> {
        let mut reader = Reader::new(file).ok()?;
        let mut found = Found::default();
        let mut damage_end = 0;
        while let Some(item) = reader.next() {
            match item {
                Item::Packet(packet) => {
                    found.losses.extend(packet.loss);
                    found.packets.push((packet.link_type, packet.time, packet.data.to_vec()));
                }
                Item::Loss(loss) => found.losses.push(loss),
                Item::Damage(damage) => {
                    assert!(damage.at >= damage_end && damage.bytes > 0, "{damage:?}");
                    damage_end = damage.at + damage.bytes;
                    found.damage.push(damage);
                }
            }
        }
        assert_eq!(reader.offset(), file.len() as u64, "every byte is gone past");
        Some(found)
    }

    /// Makes blocks and records in either order of bytes.
    struct Maker {
        endian: Endian,
        bytes: Vec<u8>,
    }

    impl Maker {
        fn new(endian: Endian) -> Self {
            Self { endian, bytes: Vec::new() }
        }

        fn u16(&mut self, value: u16) -> &mut Self {
            let both = if self.endian == Endian::Little { value.to_le_bytes() } else { value.to_be_bytes() };
            self.raw(&both)
        }

        fn u32(&mut self, value: u32) -> &mut Self {
            let both = if self.endian == Endian::Little { value.to_le_bytes() } else { value.to_be_bytes() };
            self.raw(&both)
        }

        fn u64(&mut self, value: u64) -> &mut Self {
            let both = if self.endian == Endian::Little { value.to_le_bytes() } else { value.to_be_bytes() };
            self.raw(&both)
        }

        fn raw(&mut self, bytes: &[u8]) -> &mut Self {
            self.bytes.extend_from_slice(bytes);
            self
        }

        fn pad(&mut self) -> &mut Self {
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
            self
        }

        fn block(&mut self, kind: u32, body: impl FnOnce(&mut Self)) -> &mut Self {
            let mut inner = Self::new(self.endian);
            body(&mut inner);
            let len = (BLOCK_FRAME + inner.bytes.len()) as u32;
            self.u32(kind).u32(len).raw(&inner.bytes).u32(len)
        }

        fn section(&mut self) -> &mut Self {
            self.block(SECTION_HEADER, |body| _ = body.u32(BYTE_ORDER_MAGIC).u16(1).u16(0).u64(u64::MAX))
        }

        fn interface(&mut self, link_type: u16, options: &[(u16, &[u8])]) -> &mut Self {
            self.block(INTERFACE_DESCRIPTION, |body| {
                body.u16(link_type).u16(0).u32(0);
                body.options(options);
            })
        }

        fn options(&mut self, options: &[(u16, &[u8])]) {
            for (code, value) in options {
                self.u16(*code).u16(value.len() as u16).raw(value).pad();
            }
        }

        fn packet(&mut self, id: u32, ticks: u64, data: &[u8], lost: u64) -> &mut Self {
            let endian = self.endian;
            self.block(ENHANCED_PACKET, |body| {
                body.u32(id).u32((ticks >> 32) as u32).u32(ticks as u32);
                body.u32(data.len() as u32).u32(data.len() as u32).raw(data).pad();
                if lost > 0 {
                    let value = if endian == Endian::Little { lost.to_le_bytes() } else { lost.to_be_bytes() };
                    body.options(&[(EPB_DROPCOUNT, &value)]);
                }
            })
        }

        fn statistics(&mut self, ticks: u64, dropped: u64) -> &mut Self {
            let endian = self.endian;
            self.block(INTERFACE_STATISTICS, |body| {
                body.u32(0).u32((ticks >> 32) as u32).u32(ticks as u32);
                let value = if endian == Endian::Little { dropped.to_le_bytes() } else { dropped.to_be_bytes() };
                body.options(&[(ISB_OSDROP, &value)]);
            })
        }

        fn pcap(&mut self, magic: u32) -> &mut Self {
            self.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65_535).u32(101)
        }

        fn record(&mut self, seconds: u32, fraction: u32, data: &[u8]) -> &mut Self {
            self.u32(seconds).u32(fraction).u32(data.len() as u32).u32(data.len() as u32).raw(data)
        }
    }

    /// Twenty packets of all lengths, as the library's encoder writes them.
    fn ours() -> Vec<u8> {
        let mut file = Vec::new();
        pcapng::put_section(&mut file, "test");
        pcapng::put_interface(&mut file, "lo");
        let (src, dst) = ("192.0.2.1:9".parse().unwrap(), "192.0.2.2:2055".parse().unwrap());
        for n in 0..20_usize {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_564_800 + n as u64);
            pcapng::Packet::new(&vec![n as u8; n], src, dst, time).put(&mut file);
        }
        file
    }

    fn theirs(endian: Endian) -> Vec<u8> {
        let mut maker = Maker::new(endian);
        maker.pcap(0xA1B2_C3D4);
        (0..20).for_each(|n| _ = maker.record(1_795_564_800 + n, 5, &vec![n as u8; 40 + n as usize]));
        maker.bytes
    }

    #[test]
    fn our_own_captures_come_back_whole() {
        let found = read(&ours()).unwrap();
        assert_eq!((found.packets.len(), found.damage.len(), found.losses.len()), (20, 0, 0));
        for (n, (link_type, time, data)) in found.packets.iter().enumerate() {
            assert_eq!((*link_type, data.len()), (101, 28 + n));
            assert_eq!(*time, Some((1_795_564_800 + n as Nanos) * SECOND));
        }
    }

    #[test]
    fn pcap_of_both_orders_and_both_units_is_read() {
        for endian in [Endian::Little, Endian::Big] {
            for (magic, nanos) in [(0xA1B2_C3D4, 5_000), (0xA1B2_3C4D, 5)] {
                let file = Maker::new(endian).pcap(magic).record(7, 5, b"one").record(8, 0, b"2").bytes.clone();
                let packets =
                    vec![(101, Some(7 * SECOND + nanos), b"one".to_vec()), (101, Some(8 * SECOND), b"2".to_vec())];
                assert_eq!(read(&file).unwrap(), Found { packets, ..Found::default() });
            }
        }
    }

    #[test]
    fn pcapng_of_both_orders_with_every_kind_of_packet_is_read() {
        for endian in [Endian::Little, Endian::Big] {
            let mut maker = Maker::new(endian);
            maker.section().interface(1, &[]).interface(113, &[(IF_TSRESOL, &[3])]);
            maker.packet(0, 5_000_001, b"epb", 0).packet(1, 5_000, b"second", 0);
            maker.block(SIMPLE_PACKET, |body| _ = body.u32(3).raw(b"spb").pad());
            maker.block(OBSOLETE_PACKET, |body| _ = body.u16(0).u16(2).u32(0).u32(1).u32(2).u32(2).raw(b"ob").pad());
            maker.block(NAME_RESOLUTION, |body| _ = body.u32(0)).block(0x0BAD, |body| _ = body.raw(&[9; 400]));
            // A section of the other order behind it.
            maker.endian = if endian == Endian::Little { Endian::Big } else { Endian::Little };
            maker.section().interface(101, &[]).packet(0, 9, b"other", 0);
            let found = read(&maker.bytes).unwrap();
            let expected = [
                (1, Some(5 * SECOND + 1_000), b"epb".to_vec()),
                (113, Some(5 * SECOND), b"second".to_vec()),
                (1, None, b"spb".to_vec()),
                (1, Some(1_000), b"ob".to_vec()),
                (101, Some(9_000), b"other".to_vec()),
            ];
            assert_eq!((&found.packets[..], found.damage.len()), (&expected[..], 0));
            let lost: Vec<_> = found.losses.iter().map(|loss| (loss.count, loss.to)).collect();
            assert_eq!(lost, [(2, Some(1_000))]);
        }
    }

    const NAME_RESOLUTION: u32 = 4;

    #[test]
    fn every_unit_of_time_is_understood() {
        let hour = (-3_600_i64).to_le_bytes();
        for (options, ticks, time) in [
            (&[(IF_TSRESOL, &[9][..])][..], 1, 1),
            (&[(IF_TSRESOL, &[0])], 3, 3 * SECOND),
            (&[(IF_TSRESOL, &[12])], 5_999, 5),
            (&[(IF_TSRESOL, &[127])], u64::MAX, 0),
            (&[(IF_TSRESOL, &[0x80 | 1])], 3, SECOND * 3 / 2),
            (&[(IF_TSRESOL, &[0xFF])], u64::MAX, 0),
            (&[(IF_TSRESOL, &[0]), (IF_TSOFFSET, &hour)], 1, -3_599 * SECOND),
            (&[(IF_TSRESOL, &[]), (IF_TSOFFSET, &[1])], 1, 1_000),
        ] {
            let file =
                Maker::new(Endian::Little).section().interface(1, options).packet(0, ticks, b"", 0).bytes.clone();
            assert_eq!(read(&file).unwrap().packets[0].1, Some(time), "{options:?}");
        }
    }

    #[test]
    fn losses_that_packets_and_statistics_both_tell_count_once() {
        let mut maker = Maker::new(Endian::Little);
        maker.section().interface(1, &[(IF_TSRESOL, &[9])]);
        maker.packet(0, 10, b"a", 0).packet(0, 20, b"b", 5).statistics(30, 5);
        maker.statistics(40, 12).packet(0, 50, b"c", 7).packet(0, 60, b"d", 1).statistics(70, 3);
        let losses = read(&maker.bytes).unwrap().losses;
        let expected = [(5, 10, 20), (7, 30, 40), (1, 50, 60)];
        let expected = expected.map(|(count, from, to)| Loss { count, from: Some(from), to: Some(to) });
        assert_eq!(losses, expected);
    }

    #[test]
    fn a_file_that_goes_on_where_another_ended_tells_its_own_losses_only() {
        let mut maker = Maker::new(Endian::Little);
        maker.section().interface(1, &[(IF_TSRESOL, &[9])]);
        // The first packet tells again what the statistics in front have told.
        maker.statistics(5, 100).packet(0, 10, b"a", 20).statistics(20, 100).packet(0, 30, b"b", 3).statistics(40, 103);
        let losses = read(&maker.bytes).unwrap().losses;
        assert_eq!(losses, [Loss { count: 3, from: Some(20), to: Some(40) }]);
    }

    #[test]
    fn losses_behind_a_step_back_of_the_clock_end_no_earlier_than_they_begin() {
        let mut maker = Maker::new(Endian::Little);
        maker.section().interface(1, &[(IF_TSRESOL, &[9])]);
        maker.packet(0, 900, b"a", 0).packet(0, 10, b"b", 5).packet(0, 20, b"c", 1).statistics(30, 8);
        let losses = read(&maker.bytes).unwrap().losses;
        let expected = [(5, 10, 10), (1, 20, 20), (2, 30, 30)];
        assert_eq!(losses, expected.map(|(count, from, to)| Loss { count, from: Some(from), to: Some(to) }));
    }

    #[test]
    fn a_total_at_the_end_is_lost_somewhere_in_the_capture() {
        let mut maker = Maker::new(Endian::Little);
        maker.section().interface(1, &[(IF_TSRESOL, &[9])]);
        maker.packet(0, 10, b"a", 0).packet(0, 20, b"b", 0).statistics(30, 7);
        let losses = read(&maker.bytes).unwrap().losses;
        assert_eq!(losses, [Loss { count: 7, from: Some(10), to: Some(30) }]);
    }

    #[test]
    fn a_file_cut_anywhere_gives_all_that_is_whole() {
        for file in [ours(), theirs(Endian::Little), theirs(Endian::Big)] {
            let whole = read(&file).unwrap();
            for len in 0..file.len() {
                let Some(found) = read(&file[..len]) else {
                    assert!(len < PCAP_HEADER, "{len}");
                    continue;
                };
                assert_eq!(found.packets[..], whole.packets[..found.packets.len()], "{len}");
                assert!(found.damage.len() <= 1, "{len}: {found:?}");
                assert!(found.kinds().iter().all(|kind| *kind == DamageKind::CutOff), "{len}: {:?}", found.damage);
                let missing = whole.packets.len() - found.packets.len();
                let longest = whole.packets.iter().map(|(_, _, data)| data.len() as u64 + 40).max().unwrap();
                assert!(found.damaged_bytes() < longest, "{len}: {found:?}");
                assert!(missing > 0);
            }
        }
    }

    #[test]
    fn a_flipped_byte_costs_one_packet_and_no_panic() {
        for (file, head, lost_max) in [(ours(), 88, 1), (theirs(Endian::Little), 24, 2), (theirs(Endian::Big), 24, 2)] {
            for at in 0..file.len() {
                for flip in [0x01, 0x02, 0x04, 0x10, 0x80, 0xFF] {
                    let mut damaged = file.clone();
                    damaged[at] ^= flip;
                    let Some(found) = read(&damaged) else { continue };
                    assert!(found.damaged_bytes() <= file.len() as u64);
                    assert!(at < head || found.packets.len() + lost_max >= 20, "{at} {flip:x}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn what_lies_between_blocks_is_told_and_gone_past() {
        let file = ours();
        let mut reader = Reader::new(&file[..]).unwrap();
        (0..10).for_each(|_| _ = reader.next());
        let at = reader.offset() as usize;
        for (middle, kind) in [(vec![0; 4097], DamageKind::Unwritten), (vec![0x5A; 333], DamageKind::Garbage)] {
            let found = read(&[&file[..at], &middle, &file[at..]].concat()).unwrap();
            let damage = vec![Damage { at: at as u64, bytes: middle.len() as u64, kind }];
            assert_eq!((found.packets.len(), found.damage), (20, damage));
            for file in [file.clone(), theirs(Endian::Little), theirs(Endian::Big)] {
                let found = read(&[&file[..], &middle].concat()).unwrap();
                assert_eq!((found.packets.len(), found.kinds()), (20, vec![kind]));
            }
        }
    }

    #[test]
    fn packets_that_cannot_be_are_contradictory() {
        let mut maker = Maker::new(Endian::Little);
        maker.section().packet(0, 1, b"of no interface", 0).interface(1, &[]).packet(1, 1, b"of another", 0);
        maker.block(ENHANCED_PACKET, |body| _ = body.u32(0).u32(0).u32(0).u32(5).u32(5).raw(b"four"));
        maker.packet(0, 1, b"good", 0);
        let found = read(&maker.bytes).unwrap();
        assert_eq!((found.packets.len(), found.kinds()), (1, vec![DamageKind::Contradictory; 3]));
    }

    #[test]
    fn lengths_that_lie_cost_neither_memory_nor_time() {
        // Every four bytes claim a block of as much as can be, with nothing behind it.
        let mut maker = Maker::new(Endian::Little);
        maker.section().interface(1, &[]);
        for n in 0..1_000_000 {
            maker.u32(if n % 2 == 0 { ENHANCED_PACKET } else { AHEAD_BYTES_MAX as u32 });
        }
        let found = read(&maker.bytes).unwrap();
        assert_eq!(found.packets.len(), 0);
        for len in [13, 32, 1 << 31, u32::MAX - 3, u32::MAX] {
            let mut maker = Maker::new(Endian::Little);
            maker.section().interface(1, &[]).u32(ENHANCED_PACKET).u32(len).raw(&[0; 64]);
            maker.packet(0, 1, b"behind", 0);
            assert_eq!(read(&maker.bytes).unwrap().packets.len(), 1, "{len}");
        }
        let many = INTERFACES_MAX + 10;
        let mut maker = Maker::new(Endian::Little);
        maker.section();
        (0..many).for_each(|_| _ = maker.interface(1, &[]));
        assert_eq!(read(&maker.bytes).unwrap().kinds(), [DamageKind::Contradictory; 10]);
    }

    #[test]
    fn a_file_that_cannot_be_read_on_says_why() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("a bad sector"))
            }
        }
        let file = ours();
        let mut reader = Reader::new(file.as_slice().chain(Failing)).unwrap();
        for _ in 0..20 {
            assert!(matches!(reader.next(), Some(Item::Packet(_))));
        }
        let end = Damage { at: file.len() as u64, bytes: 0, kind: DamageKind::Unreadable };
        assert!(matches!(reader.next(), Some(Item::Damage(damage)) if damage == end));
        assert_eq!(reader.take_error().unwrap().to_string(), "a bad sector");
        assert!(reader.next().is_none() && reader.next().is_none());
    }

    #[test]
    fn other_files_are_no_captures() {
        for file in [&b""[..], b"\n", b"PK\x03\x04", b"\x7FELF", &[0; 4096], &0xA1B2_C3D4_u32.to_le_bytes()] {
            assert!(read(file).is_none());
        }
    }
}
