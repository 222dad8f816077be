//! What captures hold, summed up in fixed memory.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::headers::{Content, content};
use crate::heavy::{Heavy, Weight};
use crate::packets::{Damage, Item, Loss, Nanos};
use crate::timeline::Timeline;

/// Most intervals of loss, and most places of damage, that are listed; the totals count all.
const LISTED_MAX: usize = 256;

/// Losses closer together than this are one interval.
const LOSS_PAUSE: Nanos = 100_000_000;

/// Everything the files hold so far.
pub struct Summary {
    pub counts: Counts,
    /// How many datagrams have so many bytes: the length field has 16 bits, so this is exact.
    sizes: Vec<u64>,
    pub sources: Heavy<IpAddr>,
    pub destinations: Heavy<SocketAddr>,
    pub timeline: Timeline,
    pub first: Option<Nanos>,
    pub last: Option<Nanos>,
    pub losses: Vec<LossInterval>,
    pub damage: Vec<DamagedPlace>,
    /// Number of the file being read.
    file: usize,
}

/// What became of every packet: `packets` is the sum of those from `udp` to `malformed`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub packets: u64,
    pub udp: u64,
    /// Parts of IP packets that were cut on their way; the UDP datagram they make is not put together.
    pub fragments: u64,
    pub not_udp: u64,
    pub not_ip: u64,
    pub unknown_link: u64,
    /// Too little of the packet was kept to tell.
    pub short: u64,
    pub malformed: u64,
    /// Of the UDP: the payload was not kept whole.
    pub cut: u64,
    /// Payload bytes of the UDP, as they were sent.
    pub bytes: u64,
    /// Packets without a time.
    pub timeless: u64,
    /// Datagrams lost by who captured, as packets and statistics tell.
    pub lost: u64,
    pub damaged_places: u64,
    /// Bytes of the files that could not be read.
    pub damaged_bytes: u64,
}

/// Datagrams lost between two times, in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossInterval {
    pub from: Option<Nanos>,
    pub to: Option<Nanos>,
    pub lost: u64,
}

impl LossInterval {
    fn is_near(&self, next: &Loss) -> bool {
        self.to.zip(next.from).is_some_and(|(end, begin)| (begin - end).abs() <= LOSS_PAUSE)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPlace {
    /// Number of the file.
    pub file: usize,
    pub damage: Damage,
}

impl Summary {
    pub fn new() -> Self {
        Self {
            counts: Counts::default(),
            sizes: vec![0; usize::from(u16::MAX) + 1],
            sources: Heavy::new(),
            destinations: Heavy::new(),
            timeline: Timeline::new(),
            first: None,
            last: None,
            losses: Vec::new(),
            damage: Vec::new(),
            file: 0,
        }
    }

    /// The items that follow are of another file.
    pub fn next_file(&mut self) {
        self.file += 1;
    }

    pub fn add(&mut self, item: &Item<'_>) {
        match item {
            Item::Loss(loss) => self.add_loss(*loss),
            Item::Damage(damage) => self.add_damage(damage.clone()),
            Item::Packet(packet) => {
                if let Some(loss) = packet.loss {
                    self.add_loss(loss);
                }
                self.add_packet(content(packet.link_type, packet.data), packet.time);
            }
        }
    }

    fn add_packet(&mut self, content: Content<'_>, time: Option<Nanos>) {
        let counts = &mut self.counts;
        counts.packets += 1;
        match time {
            None => counts.timeless += 1,
            Some(time) => {
                self.first = Some(self.first.map_or(time, |first| first.min(time)));
                self.last = self.last.max(Some(time));
            }
        }
        match content {
            Content::Udp(datagram) => {
                let len = datagram.original_len;
                counts.udp += 1;
                counts.cut += u64::from(datagram.is_cut());
                counts.bytes += len as u64;
                self.sizes[len.min(usize::from(u16::MAX))] += 1;
                self.sources.add(datagram.src.ip(), Weight::one(len));
                self.destinations.add(datagram.dst, Weight::one(len));
                if let Some(time) = time {
                    self.timeline.add(time, 1);
                }
            }
            Content::Fragment => counts.fragments += 1,
            Content::NotUdp => counts.not_udp += 1,
            Content::NotIp => counts.not_ip += 1,
            Content::UnknownLink => counts.unknown_link += 1,
            Content::Short => counts.short += 1,
            Content::Malformed => counts.malformed += 1,
        }
    }

    fn add_loss(&mut self, loss: Loss) {
        self.counts.lost = self.counts.lost.saturating_add(loss.count);
        let is_full = self.losses.len() == LISTED_MAX;
        match self.losses.last_mut() {
            Some(last) if is_full || last.is_near(&loss) => {
                last.to = last.to.max(loss.to);
                last.lost = last.lost.saturating_add(loss.count);
            }
            _ => self.losses.push(LossInterval { from: loss.from, to: loss.to, lost: loss.count }),
        }
    }

    fn add_damage(&mut self, damage: Damage) {
        self.counts.damaged_bytes += damage.bytes;
        let follows = |last: &DamagedPlace| {
            let is_next = last.damage.at + last.damage.bytes == damage.at;
            is_next && last.file == self.file && last.damage.kind == damage.kind
        };
        match self.damage.last_mut() {
            Some(last) if follows(last) => last.damage.bytes += damage.bytes,
            _ => {
                self.counts.damaged_places += 1;
                if self.damage.len() < LISTED_MAX {
                    self.damage.push(DamagedPlace { file: self.file, damage });
                }
            }
        }
    }

    /// From the first packet to the last.
    pub fn seconds(&self) -> f64 {
        self.first.zip(self.last).map_or(0.0, |(first, last)| (last - first) as f64 / 1e9)
    }

    /// The size that at least so many of a hundred datagrams do not exceed.
    pub fn percentile(&self, percent: u64) -> usize {
        let want = (u128::from(self.counts.udp) * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += u128::from(*count);
            seen >= want
        };
        self.sizes.iter().position(reached).unwrap_or(0)
    }

    /// How many datagrams have a size up to each power of two, and more than the one before.
    pub fn histogram(&self) -> Vec<(usize, u64)> {
        let powers = (0..=16).map(|exponent| 1_usize << exponent);
        let mut from = 0;
        let parts = powers.map(|power| {
            let part = &self.sizes[from..(power + 1).min(self.sizes.len())];
            from = power + 1;
            (power.min(self.sizes.len() - 1), part.iter().sum())
        });
        parts.filter(|(_, count)| *count > 0).collect()
    }
}
