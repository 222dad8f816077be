//! pcap: one header, then records.
//!
//! The format: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-06.html>.

use std::io::Read;

use crate::endian::Endian;
use crate::packets::{Front, NANOS_PER_SECOND, Nanos, Parsed, SECOND};
use crate::window::{AHEAD_BYTES_MAX, Window};

pub const PCAP_HEADER: usize = 24;
pub const RECORD_HEADER: usize = 16;
/// The longest packet that is looked for behind damage: tcpdump's longest.
pub const FOUND_PACKET_MAX: usize = 262_144;

/// What the header of a pcap file says.
pub struct Pcap {
    endian: Endian,
    link_type: u16,
    /// Fractions a second.
    resolution: u32,
    /// Seconds of the newest record.
    newest: Option<u32>,
}

impl Pcap {
    pub fn new(header: &[u8]) -> Option<Self> {
        let of = |magic, resolution| Some((Endian::of(header, magic)?, resolution));
        let (endian, resolution) = of(0xA1B2_C3D4, 1_000_000).or_else(|| of(0xA1B2_3C4D, NANOS_PER_SECOND))?;
        // The upper half tells of checksums behind the packets.
        let link_type = endian.u32(header, 20) as u16;
        (header.len() >= PCAP_HEADER).then_some(Self { endian, link_type, resolution, newest: None })
    }

    /// Length of the packet, if this can be a record's header. Zeros cannot: nobody captures nothing.
    fn packet_len(&self, header: &[u8]) -> Option<usize> {
        let [fraction, kept, original] = [4, 8, 12].map(|at| self.endian.u32(header, at));
        let kept_max = (original as usize).min(AHEAD_BYTES_MAX - RECORD_HEADER);
        let is_possible = original > 0 && fraction < self.resolution && kept as usize <= kept_max;
        is_possible.then_some(kept as usize)
    }

    pub fn front<R: Read>(&self, window: &mut Window<R>) -> Front {
        let header = window.peek(RECORD_HEADER);
        match header.len() {
            0 => return Front::End,
            1..RECORD_HEADER => return Front::CutOff,
            _ => {}
        }
        let Some(packet_len) = self.packet_len(header) else { return Front::Broken };
        let len = RECORD_HEADER + packet_len;
        if window.peek(len).len() < len { Front::CutOff } else { Front::Whole(len) }
    }

    /// Whether a record begins here, and behind it another or nothing. Nothing marks a record, so this is a
    /// guess from what is usual: times within a day, lengths that tcpdump would write.
    pub fn is_recognised<R: Read>(&self, window: &mut Window<R>) -> bool {
        let is_usual = |header: &[u8]| {
            let seconds = self.endian.u32(header, 0);
            let is_near = self.newest.is_none_or(|newest| newest.abs_diff(seconds) < 86_400);
            let len = self.packet_len(header).filter(|len| (1..=FOUND_PACKET_MAX).contains(len));
            len.filter(|_| is_near && seconds > 0)
        };
        let header = window.peek(RECORD_HEADER);
        let Some(len) = is_usual(header).filter(|_| header.len() >= RECORD_HEADER) else { return false };
        let next = RECORD_HEADER + len;
        let bytes = window.peek(next + RECORD_HEADER);
        bytes.len() == next || (bytes.len() >= next + RECORD_HEADER && is_usual(&bytes[next..]).is_some())
    }

    pub fn parse(&mut self, record: &[u8]) -> Parsed {
        let (seconds, fraction) = (self.endian.u32(record, 0), self.endian.u32(record, 4));
        self.newest = self.newest.max(Some(seconds));
        let nanos = u64::from(fraction) * u64::from(NANOS_PER_SECOND / self.resolution);
        let time = Nanos::from(seconds) * SECOND + Nanos::from(nanos);
        let data = RECORD_HEADER..record.len();
        Parsed::Packet { link_type: self.link_type, time: Some(time), data, loss: None }
    }
}
