//! pcapng: sections of blocks, with interfaces and what was lost on them.
//!
//! The format: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.

use std::io::Read;

use crate::endian::Endian;
use crate::packets::{Front, Loss, Nanos, Parsed, SECOND};
use crate::window::{AHEAD_BYTES_MAX, Window};

/// Types of blocks.
pub const SECTION_HEADER: u32 = 0x0A0D_0D0A;
pub const INTERFACE_DESCRIPTION: u32 = 1;
pub const OBSOLETE_PACKET: u32 = 2;
pub const SIMPLE_PACKET: u32 = 3;
pub const INTERFACE_STATISTICS: u32 = 5;
pub const ENHANCED_PACKET: u32 = 6;

pub const OPT_ENDOFOPT: u16 = 0;
pub const IF_TSRESOL: u16 = 9;
pub const IF_TSOFFSET: u16 = 14;
pub const EPB_DROPCOUNT: u16 = 4;
pub const ISB_IFDROP: u16 = 5;
pub const ISB_OSDROP: u16 = 7;

pub const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;

/// Type, length, and the length again at the end.
pub const BLOCK_FRAME: usize = 12;

/// The most interfaces of a section: each takes memory.
pub const INTERFACES_MAX: usize = 4096;

/// What a section of a pcapng file has said so far.
pub struct Section {
    endian: Endian,
    interfaces: Vec<Interface>,
}

impl Section {
    /// A capture's beginning; its first block tells the rest.
    pub fn new() -> Self {
        Self { endian: Endian::Little, interfaces: Vec::new() }
    }

    /// Whether a file that begins so is pcapng.
    pub fn is_begun_by(head: &[u8]) -> bool {
        Endian::of(head, SECTION_HEADER).is_some()
    }

    /// A section's header tells the order of bytes for itself and what follows.
    fn endian(&self, head: &[u8]) -> Option<Endian> {
        match Endian::of(head, SECTION_HEADER) {
            Some(_) => Endian::of(head.get(8..)?, BYTE_ORDER_MAGIC),
            None => Some(self.endian),
        }
    }

    pub fn front<R: Read>(&self, window: &mut Window<R>) -> Front {
        let head = window.peek(BLOCK_FRAME);
        match head.len() {
            0 => return Front::End,
            1..BLOCK_FRAME => return Front::CutOff,
            _ => {}
        }
        let Some(endian) = self.endian(head) else { return Front::Broken };
        let (kind, len) = (endian.u32(head, 0), endian.u32(head, 4) as usize);
        if len % 4 != 0 || len < shortest(kind) || len > AHEAD_BYTES_MAX {
            return Front::Broken;
        }
        let block = window.peek(len);
        match block.len() {
            there if there < len => Front::CutOff,
            _ if endian.u32(block, len - 4) as usize == len => Front::Whole(len),
            _ => Front::Broken,
        }
    }

    pub fn is_recognised<R: Read>(&self, window: &mut Window<R>) -> bool {
        let head = window.peek(BLOCK_FRAME);
        let kind = self.endian(head).map(|endian| endian.u32(head, 0));
        kind.is_some_and(is_known) && matches!(self.front(window), Front::Whole(_))
    }

    pub fn parse(&mut self, block: &[u8]) -> Parsed {
        let Some(endian) = self.endian(block) else { return Parsed::Contradiction };
        let body = &block[..block.len() - 4];
        match endian.u32(block, 0) {
            SECTION_HEADER => {
                *self = Self { endian, interfaces: Vec::new() };
                Parsed::Nothing
            }
            INTERFACE_DESCRIPTION if self.interfaces.len() == INTERFACES_MAX => Parsed::Contradiction,
            INTERFACE_DESCRIPTION => {
                self.interfaces.push(Interface::new(endian, body));
                Parsed::Nothing
            }
            ENHANCED_PACKET => {
                let ticks = time_ticks(endian, body, 12);
                let kept = endian.u32(body, 20) as usize;
                let lost = |options: &[u8]| sum_of(endian, options, &[EPB_DROPCOUNT]);
                self.packet(endian.u32(body, 8), ticks, body, 28, kept, lost)
            }
            OBSOLETE_PACKET => {
                let ticks = time_ticks(endian, body, 12);
                let kept = endian.u32(body, 20) as usize;
                // All ones: not known.
                let lost = Some(endian.u16(body, 10)).filter(|lost| *lost != u16::MAX).unwrap_or(0);
                self.packet(endian.u16(body, 8).into(), ticks, body, 28, kept, |_| lost.into())
            }
            SIMPLE_PACKET => {
                let Some(interface) = self.interfaces.first() else { return Parsed::Contradiction };
                let snap_len = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
                let kept = (endian.u32(body, 8).min(snap_len) as usize).min(body.len() - 12);
                Parsed::Packet { link_type: interface.link_type, time: None, data: 12..12 + kept, loss: None }
            }
            INTERFACE_STATISTICS => {
                let id = endian.u32(body, 8) as usize;
                let Some(interface) = self.interfaces.get_mut(id) else { return Parsed::Contradiction };
                let total = sum_of(endian, &body[20..], &[ISB_IFDROP, ISB_OSDROP]);
                let time = interface.time(time_ticks(endian, body, 12));
                match interface.lose_by_statistics(total, time) {
                    Some(loss) => Parsed::Loss(loss),
                    None => Parsed::Nothing,
                }
            }
            _ => Parsed::Nothing,
        }
    }

    /// A packet of `kept` bytes at `at`, with options behind it that tell how many were lost before.
    fn packet(
        &mut self,
        id: u32,
        ticks: u64,
        body: &[u8],
        at: usize,
        kept: usize,
        lost: impl FnOnce(&[u8]) -> u64,
    ) -> Parsed {
        let interface = self.interfaces.get_mut(id as usize);
        let (Some(interface), true) = (interface, kept <= body.len() - at) else { return Parsed::Contradiction };
        let options = body.get(at + kept.next_multiple_of(4)..).unwrap_or_default();
        let time = interface.time(ticks);
        let loss = interface.lose_by_packet(lost(options), time);
        let time = Some(time);
        Parsed::Packet { link_type: interface.link_type, time, data: at..at + kept, loss }
    }
}

/// An interface of a pcapng section: what was captured where.
struct Interface {
    link_type: u16,
    /// Most bytes kept of a packet; 0 for all.
    snap_len: u32,
    /// Exponent of the length of a tick: of 2 with the highest bit, of 10 without.
    resolution: u8,
    offset_seconds: i64,
    /// Losses may be told twice, by packets and by statistics: what counts is the greater total.
    lost_by_packets: u64,
    lost: u64,
    /// Newest time of a packet or of statistics.
    newest: Option<Nanos>,
    /// Time of the newest statistics, or of the first packet.
    statistics_at: Option<Nanos>,
    /// Whether it began with statistics.
    goes_on: bool,
}

impl Interface {
    fn new(endian: Endian, body: &[u8]) -> Self {
        const MICROSECONDS: u8 = 6;
        let (mut resolution, mut offset_seconds) = (MICROSECONDS, 0);
        for (code, value) in options_of(endian, &body[16..]) {
            match (code, value) {
                (IF_TSRESOL, [exponent, ..]) => resolution = *exponent,
                (IF_TSOFFSET, [_, _, _, _, _, _, _, _, ..]) => offset_seconds = endian.u64(value, 0) as i64,
                _ => {}
            }
        }
        let (link_type, snap_len) = (endian.u16(body, 8), endian.u32(body, 12));
        Self {
            link_type,
            snap_len,
            resolution,
            offset_seconds,
            lost_by_packets: 0,
            lost: 0,
            newest: None,
            statistics_at: None,
            goes_on: false,
        }
    }

    fn time(&self, ticks: u64) -> Nanos {
        let ticks = Nanos::from(ticks);
        let exponent = u32::from(self.resolution & 0x7F);
        let nanos = if self.resolution & 0x80 != 0 {
            (ticks * SECOND) >> exponent
        } else if exponent <= 9 {
            ticks * Nanos::from(10_u64.pow(9 - exponent))
        } else {
            // Beyond 10^28 no u64 is a whole nanosecond.
            10_i128.checked_pow(exponent - 9).map_or(0, |per_nano| ticks / per_nano)
        };
        nanos + Nanos::from(self.offset_seconds) * SECOND
    }

    /// Notes what a packet tells to be lost before it.
    fn lose_by_packet(&mut self, lost: u64, time: Nanos) -> Option<Loss> {
        let from = self.newest;
        self.newest = self.newest.max(Some(time));
        self.statistics_at = self.statistics_at.or(Some(time));
        self.lost_by_packets = self.lost_by_packets.saturating_add(lost);
        let total = if self.goes_on { 0 } else { self.lost_by_packets };
        self.lose(total, from, time)
    }

    /// Notes what statistics tell to be lost since the capture began.
    fn lose_by_statistics(&mut self, total: u64, time: Nanos) -> Option<Loss> {
        // In front of everything, they tell what was lost before this file, which goes on where another ended.
        // Its packets may tell some of that again, so from then on only statistics count.
        if self.statistics_at.is_none() {
            (self.goes_on, self.lost) = (true, total);
        }
        let from = self.statistics_at.replace(time);
        self.newest = self.newest.max(Some(time));
        self.lose(total, from, time)
    }

    fn lose(&mut self, total: u64, from: Option<Nanos>, to: Nanos) -> Option<Loss> {
        let count = total.saturating_sub(self.lost);
        self.lost += count;
        let from = from.map(|from| from.min(to)); // of a clock that was set back, later
        (count > 0).then_some(Loss { count, from, to: Some(to) })
    }
}

/// The shortest a block of this type can be.
fn shortest(kind: u32) -> usize {
    match kind {
        SECTION_HEADER => 28,
        INTERFACE_DESCRIPTION => 20,
        OBSOLETE_PACKET | ENHANCED_PACKET => 32,
        SIMPLE_PACKET => 16,
        INTERFACE_STATISTICS => 24,
        _ => BLOCK_FRAME,
    }
}

fn is_known(kind: u32) -> bool {
    matches!(kind, SECTION_HEADER | INTERFACE_DESCRIPTION..=ENHANCED_PACKET)
}

/// A time: its upper half stands first, whatever the order of bytes.
fn time_ticks(endian: Endian, body: &[u8], at: usize) -> u64 {
    u64::from(endian.u32(body, at)) << 32 | u64::from(endian.u32(body, at + 4))
}

/// The options in these bytes, up to their end or the first that is not whole.
fn options_of(endian: Endian, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (code, len) = (endian.u16(bytes, 0), usize::from(endian.u16(bytes, 2)));
        let value = bytes.get(4..4 + len).filter(|_| code != OPT_ENDOFOPT)?;
        bytes = bytes.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        Some((code, value))
    })
}

/// The sum of the options of these codes, numbers of 64 bits.
fn sum_of(endian: Endian, options: &[u8], codes: &[u16]) -> u64 {
    let numbers = options_of(endian, options).filter(|(code, _)| codes.contains(code));
    numbers.fold(0, |sum, (_, value)| sum.saturating_add(endian.u64(value, 0)))
}
