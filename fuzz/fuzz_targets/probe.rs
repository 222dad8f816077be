//! Blast's datagrams in any order, damaged and cut, and forged ones: counted as a plain set of numbers counts them.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/bin/hio-udp/probe.rs"]
mod probe;

use std::collections::{HashMap, HashSet};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use probe::{HEADER_BYTES, Tracker, number, prepare};

/// Numbers behind the newest that a flow remembers.
const WINDOW: u64 = 4096;
/// Bytes of one probe, with some filler.
const BYTES: usize = HEADER_BYTES + 8;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    start: u64,
    steps: Vec<Step>,
    /// A datagram made by anybody.
    foreign: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Step {
    source: u8,
    /// From the number before to this one.
    by: i16,
    fate: Fate,
}

#[derive(Arbitrary, Debug)]
enum Fate {
    Whole,
    /// One bit comes changed.
    Damaged(u8),
    /// Only the front comes, and that is known.
    Cut(u8),
    /// Only the front comes, and that is not known.
    Short(u8),
}

#[derive(Default)]
struct Flow {
    seen: HashSet<u64>,
    next: u64,
    unique: u64,
}

#[derive(Default)]
struct Model {
    flows: HashMap<u32, Flow>,
    corrupt: u64,
    duplicates: u64,
    reordered: u64,
}

impl Model {
    fn on_number(&mut self, source: u32, sequence: u64) {
        let flow = self.flows.entry(source).or_default();
        let is_late = sequence < flow.next;
        let is_remembered = is_late && flow.next - sequence <= WINDOW;
        if is_remembered && flow.seen.contains(&sequence) {
            self.duplicates += 1;
            return;
        }
        self.reordered += u64::from(is_late);
        flow.unique += 1;
        if is_remembered || !is_late {
            flow.seen.insert(sequence);
        }
        flow.next = flow.next.max(sequence + 1);
    }
}

fuzz_target!(|input: Input<'_>| {
    let (mut tracker, mut model) = (Tracker::default(), Model::default());
    let mut sequence = input.start;
    for step in &input.steps {
        let source = u32::from(step.source % 4);
        // The highest number has none behind it, which only a forger gets to.
        sequence = sequence.wrapping_add_signed(step.by.into()).min(u64::MAX - 1);
        let mut datagram = [0; BYTES];
        prepare(&mut datagram, 7);
        number(&mut datagram, source, sequence);
        match step.fate {
            Fate::Whole => {
                tracker.see(&datagram, false);
                model.on_number(source, sequence);
            }
            Fate::Damaged(at) => {
                let at = usize::from(at) % BYTES;
                datagram[at] ^= 1;
                tracker.see(&datagram, false);
                model.corrupt += u64::from(at >= 4);
            }
            Fate::Cut(len) => {
                let len = usize::from(len) % BYTES;
                tracker.see(&datagram[..len], true);
                if len >= HEADER_BYTES {
                    model.on_number(source, sequence);
                }
            }
            Fate::Short(len) => {
                let len = usize::from(len) % BYTES;
                tracker.see(&datagram[..len], false);
                model.corrupt += u64::from(len >= HEADER_BYTES);
            }
        }
    }
    assert_eq!(
        (tracker.corrupt, tracker.duplicates, tracker.reordered),
        (model.corrupt, model.duplicates, model.reordered)
    );
    let told = model.flows.values().fold(0_u64, |sum, flow| sum.saturating_add(flow.next));
    assert_eq!(tracker.sent_seen(), (told > 0).then_some(told));
    let gaps = model.flows.values().fold(0_u64, |sum, flow| sum.saturating_add(flow.next.saturating_sub(flow.unique)));
    assert_eq!(tracker.gaps(), gaps);

    for is_truncated in [false, true] {
        tracker.see(input.foreign, is_truncated);
    }
    let _ = (tracker.sent_seen(), tracker.gaps());
});
