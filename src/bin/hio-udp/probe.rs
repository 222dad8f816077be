//! Blast's datagrams: numbered and checksummed, so that the receiver can tell what happened to each.
//!
//! ```text
//!  0      4        8      12       16         24
//!  ├ "hio1" ┼ CRC-32 ┼ run  ┼ source ┼ sequence ┼ filler …      all numbers big-endian
//!           └ of everything behind it
//! ```

use std::collections::HashMap;

/// Bytes before the filler: the smallest probe.
pub const HEADER_BYTES: usize = 24;

const MAGIC: [u8; 4] = *b"hio1";
const CHECKED_FROM: usize = 8;

/// Most flows (run and source) told apart; later ones are only counted, so that forged headers
/// cannot make this grow.
const FLOWS_MAX: usize = 65_536;

/// How many numbers behind the newest a flow still remembers which it has seen.
const WINDOW: u64 = 4_096;

/// Fills a buffer of at least [`HEADER_BYTES`] with everything that stays the same from probe to probe.
pub fn prepare(buffer: &mut [u8], run: u32) {
    for (at, byte) in buffer.iter_mut().enumerate() {
        *byte = at as u8;
    }
    buffer[..4].copy_from_slice(&MAGIC);
    buffer[8..12].copy_from_slice(&run.to_be_bytes());
}

/// Makes a prepared buffer the probe `sequence` of `source`, and checksums it.
pub fn number(buffer: &mut [u8], source: u32, sequence: u64) {
    buffer[12..16].copy_from_slice(&source.to_be_bytes());
    buffer[16..24].copy_from_slice(&sequence.to_be_bytes());
    let sum = crc32fast::hash(&buffer[CHECKED_FROM..]);
    buffer[4..8].copy_from_slice(&sum.to_be_bytes());
}

/// What a received datagram turned out to be.
#[derive(Debug, Eq, PartialEq)]
enum Probe {
    Other,
    Corrupt,
    Good { flow: (u32, u32), sequence: u64 },
}

fn read(data: &[u8], is_truncated: bool) -> Probe {
    let Some(header) = data.first_chunk::<HEADER_BYTES>().filter(|header| header[..4] == MAGIC) else {
        return Probe::Other;
    };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    // A cut probe cannot be checked; its number still counts.
    if !is_truncated && crc32fast::hash(&data[CHECKED_FROM..]) != word(4) {
        return Probe::Corrupt;
    }
    let sequence = u64::from(word(16)) << 32 | u64::from(word(20));
    Probe::Good { flow: (word(8), word(12)), sequence }
}

/// One sender's numbers.
struct Flow {
    /// One more than the highest number seen.
    next: u64,
    /// Different numbers seen.
    unique: u64,
    /// A bit for each of the last `WINDOW` numbers below `next`, at `number % WINDOW`.
    seen: Box<[u64; (WINDOW / 64) as usize]>,
}

impl Flow {
    fn new() -> Self {
        Self { next: 0, unique: 0, seen: Box::new([0; (WINDOW / 64) as usize]) }
    }

    fn bit(sequence: u64) -> (usize, u64) {
        let at = sequence % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }

    /// Moves the window up to `sequence`, forgetting the numbers that fall out of it.
    fn advance(&mut self, sequence: u64) {
        if sequence - self.next >= WINDOW {
            self.seen.fill(0);
        } else {
            for skipped in self.next..=sequence {
                let (word, mask) = Self::bit(skipped);
                self.seen[word] &= !mask;
            }
        }
        self.next = sequence.saturating_add(1);
    }
}

/// Follows every flow of probes: what was sent, what is missing, what came twice or late.
#[derive(Default)]
pub struct Tracker {
    flows: HashMap<(u32, u32), Flow>,
    pub corrupt: u64,
    pub duplicates: u64,
    pub reordered: u64,
    /// Probes of flows past the most that are told apart.
    untracked: u64,
}

impl Tracker {
    /// Looks at one received datagram; anything but a probe is passed over.
    pub fn see(&mut self, data: &[u8], is_truncated: bool) {
        match read(data, is_truncated) {
            Probe::Other => {}
            Probe::Corrupt => self.corrupt += 1,
            Probe::Good { flow, sequence } => self.track(flow, sequence),
        }
    }

    fn track(&mut self, key: (u32, u32), sequence: u64) {
        if self.flows.len() >= FLOWS_MAX && !self.flows.contains_key(&key) {
            self.untracked += 1;
            return;
        }
        let flow = self.flows.entry(key).or_insert_with(Flow::new);
        let (word, mask) = Flow::bit(sequence);
        if sequence >= flow.next {
            flow.advance(sequence);
        } else if flow.next - sequence > WINDOW {
            // Too late to tell whether it came before; a late one is likelier than a second one.
            self.reordered += 1;
            flow.unique += 1;
            return;
        } else if flow.seen[word] & mask != 0 {
            self.duplicates += 1;
            return;
        } else {
            self.reordered += 1;
        }
        flow.seen[word] |= mask;
        flow.unique += 1;
    }

    /// Adds what another thread has seen. Of a flow that came to both, neither knew what the other saw: what came
    /// twice, once to each, is taken for two.
    pub fn merge(&mut self, other: Self) {
        self.corrupt += other.corrupt;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.untracked += other.untracked;
        for (key, flow) in other.flows {
            if self.flows.len() >= FLOWS_MAX && !self.flows.contains_key(&key) {
                self.untracked += flow.unique;
                continue;
            }
            let merged = self.flows.entry(key).or_insert_with(Flow::new);
            merged.next = merged.next.max(flow.next);
            merged.unique += flow.unique;
        }
    }

    /// Probes sent, as far as their numbers tell; `None` if none was seen.
    pub fn sent_seen(&self) -> Option<u64> {
        let told: u64 = self.flows.values().fold(0, |sum, flow| sum.saturating_add(flow.next));
        (told > 0).then_some(told.saturating_add(self.untracked))
    }

    /// Numbers below the highest seen that never came; those sent before the socket was open are among them.
    pub fn gaps(&self) -> u64 {
        self.flows.values().fold(0, |sum, flow| sum.saturating_add(flow.next.saturating_sub(flow.unique)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(run: u32, source: u32, sequence: u64) -> Vec<u8> {
        let mut buffer = vec![0; 64];
        prepare(&mut buffer, run);
        number(&mut buffer, source, sequence);
        buffer
    }

    #[test]
    fn a_probe_is_recognised_and_any_damage_to_it_is_noticed() {
        let good = probe(7, 3, u64::MAX - 1);
        assert_eq!(read(&good, false), Probe::Good { flow: (7, 3), sequence: u64::MAX - 1 });
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(read(&bad, false), if at < 4 { Probe::Other } else { Probe::Corrupt }, "byte {at}");
        }
        assert_eq!(read(&good[..30], true), Probe::Good { flow: (7, 3), sequence: u64::MAX - 1 });
        assert_eq!(read(&good[..30], false), Probe::Corrupt);
        assert_eq!(read(&good[..23], false), Probe::Other);
        assert_eq!(read(b"", false), Probe::Other);
    }

    #[test]
    fn gaps_duplicates_and_reordering_match_a_naive_set() {
        let mut state = 0x9E37_79B9_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..50 {
            let mut tracker = Tracker::default();
            let (mut seen, mut highest) = (std::collections::HashSet::new(), 0);
            let (mut duplicates, mut reordered, mut base) = (0, 0, 0);
            for _ in 0..2_000 {
                base += random(3);
                let sequence = (base + random(6)).saturating_sub(3);
                if !seen.insert(sequence) {
                    duplicates += 1;
                } else if sequence < highest {
                    reordered += 1;
                }
                highest = highest.max(sequence);
                tracker.see(&probe(1, 1, sequence), false);
            }
            assert_eq!(tracker.sent_seen(), Some(highest + 1));
            assert_eq!(tracker.gaps(), highest + 1 - seen.len() as u64);
            assert_eq!((tracker.duplicates, tracker.reordered), (duplicates, reordered));
        }
    }

    #[test]
    fn what_two_threads_saw_of_a_flow_adds_up() {
        let (mut one, mut other) = (Tracker::default(), Tracker::default());
        for sequence in 0..100 {
            if sequence % 10 != 0 {
                let tracker = if sequence % 3 == 0 { &mut one } else { &mut other };
                tracker.see(&probe(1, 1, sequence), false);
            }
        }
        other.see(&probe(2, 1, 4), false);
        one.merge(other);
        assert_eq!((one.sent_seen(), one.gaps(), one.duplicates, one.reordered), (Some(105), 14, 0, 0));
    }

    #[test]
    fn forged_numbers_and_flows_neither_panic_nor_grow_without_bound() {
        let mut tracker = Tracker::default();
        for sequence in [u64::MAX, 0, u64::MAX, 5, u64::MAX - 1] {
            tracker.see(&probe(1, 1, sequence), false);
        }
        for source in 0..FLOWS_MAX as u32 + 10 {
            tracker.track((9, source), 0);
        }
        assert_eq!(tracker.flows.len(), FLOWS_MAX);
        assert!(tracker.sent_seen().is_some());
    }
}
