//! Every errno of the table, met by every way to receive, at every place and many times in a row, against
//! a naive model of what the caller sees and the counters say.

use std::io;

use super::table::{ROWS, Receives, Row};
use super::*;
use crate::Grams;

/// Slots of a ring.
const RING: usize = 8;
/// Datagrams in the queue: two batches.
const QUEUED: usize = 16;
/// Datagrams in front of the first failure: the first, a middle and the last place of either batch.
const PLACES: [usize; 6] = [0, 3, 7, 8, 12, 15];
/// Failures in a row.
const RUNS: [usize; 5] = [1, 2, 64, 65, 130];

/// What one call showed its caller.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Seen {
    Gram(u8),
    Nothing,
    Error(i32),
}

/// A way to receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    PeerReceive,
    Receive,
    Fill,
    FillWait,
    FillInto,
}

const WAYS: [Way; 5] = [Way::PeerReceive, Way::Receive, Way::Fill, Way::FillWait, Way::FillInto];

/// One run of failures.
#[derive(Clone, Copy, Debug)]
struct Case {
    row: Row,
    way: Way,
    at: usize,
    times: usize,
}

impl Case {
    /// Whether the first failure comes in a call that has brought datagrams already: never with `recvmmsg`,
    /// which gives a short count first, nor with one datagram a call.
    fn is_behind_grams(self) -> bool {
        BACKEND == "single" && self.way != Way::PeerReceive && self.at % RING != 0
    }

    /// Failures that come in a call of their own.
    fn alone(self) -> usize {
        self.times - usize::from(self.is_behind_grams())
    }

    /// What the caller sees until the queue is empty.
    fn seen(self) -> Vec<Seen> {
        let interruption = match self.row.receives {
            Receives::Error => vec![Seen::Error(self.row.errno); self.times],
            // A wait goes on until something comes.
            _ if self.way == Way::FillWait => Vec::new(),
            Receives::Nothing => vec![Seen::Nothing; self.alone()],
            Receives::Again => vec![Seen::Nothing; self.alone() / INTERRUPTIONS_MAX],
        };
        let mut seen: Vec<Seen> = (0..QUEUED as u8).map(Seen::Gram).collect();
        seen.splice(self.at..self.at, interruption);
        seen
    }

    fn stats(self) -> Stats {
        let is_split = u64::from(self.at % RING != 0);
        let calls = match (self.way, BACKEND) {
            (Way::PeerReceive, _) => QUEUED as u64,
            (_, "mmsg") => 2 + is_split,
            // The last batch then asks once more, to fill its ring.
            _ => QUEUED as u64 + is_split,
        };
        Stats {
            recv_calls: calls + self.times as u64,
            empty_wakeups: self.alone() as u64,
            recv_failed: if self.row.receives == Receives::Error { self.times as u64 } else { 0 },
            grams_received: QUEUED as u64,
            bytes_received: 2 * QUEUED as u64,
            ..Stats::default()
        }
    }

    /// Makes the failures happen.
    fn plan(self, faults: &Faults) {
        let fault = Fault::Errno(self.row.errno);
        if BACKEND == "single" || self.way == Way::PeerReceive {
            return faults.inject(Call::Recv, self.at, self.times, fault);
        }
        let (calls, behind) = (self.at / RING, self.at % RING);
        if behind > 0 {
            faults.inject(Call::Recv, calls, 1, Fault::Short(behind));
        }
        faults.inject(Call::Recv, if behind > 0 { 0 } else { calls }, self.times, fault);
    }
}

/// Receives by `way` until everything has come.
fn see<T: Transport>(peer: &mut T, mut take: impl FnMut(&mut T) -> io::Result<Vec<u8>>) -> Vec<Seen> {
    let (mut seen, mut grams) = (Vec::new(), 0);
    while grams < QUEUED {
        match take(peer) {
            Ok(numbers) if numbers.is_empty() => seen.push(Seen::Nothing),
            Ok(numbers) => {
                grams += numbers.len();
                seen.extend(numbers.into_iter().map(Seen::Gram));
            }
            Err(error) => seen.push(Seen::Error(error.raw_os_error().unwrap())),
        }
        assert!(seen.len() < 1000, "it never ends: {seen:?}");
    }
    seen
}

fn number_of(result: (&[u8], Option<SocketAddr>)) -> Vec<u8> {
    result.1.map(|_| result.0[1]).into_iter().collect()
}

fn check<T: Transport>(case: Case, from: &mut Peer, take: impl FnMut(&mut T) -> io::Result<Vec<u8>>) {
    let mut peer: T = open();
    for gram in numbered(QUEUED as u8) {
        assert_eq!(from.send(&gram, peer.ha()).unwrap(), 2);
    }
    let faults = Faults::new();
    case.plan(&faults);
    let mut seen = Vec::new();
    let logged = logged_by(|| seen = see(&mut peer, take));
    assert!(fault::is_over(), "{case:?}");
    assert_eq!(seen, case.seen(), "{case:?}");
    let stats = peer.stats();
    let Stats { backend, wait_calls, .. } = stats; // how often it waits is its own affair
    assert_eq!(stats, Stats { backend, wait_calls, ..case.stats() }, "{case:?}");
    // The 1st, the 2nd, the 4th …
    let lines = if case.row.receives == Receives::Error { case.times.ilog2() as usize + 1 } else { 0 };
    assert_eq!(logged.len(), lines, "{case:?}: {logged:?}");
}

#[test]
fn every_errno_of_a_receive_is_seen_as_often_as_it_came_and_costs_no_datagram() {
    let mut from: Peer = open();
    for way in WAYS {
        for &row in ROWS {
            for (at, times) in PLACES.into_iter().flat_map(|at| RUNS.map(|times| (at, times))) {
                let case = Case { row, way, at, times };
                let numbers = |grams: Grams<'_>| grams.map(|gram| gram.data[1]).collect();
                match way {
                    Way::PeerReceive => check::<Peer>(case, &mut from, |peer| peer.receive().map(number_of)),
                    Way::Receive => check::<BatchPeer>(case, &mut from, |peer| peer.receive().map(number_of)),
                    Way::Fill => check::<BatchPeer>(case, &mut from, |peer| peer.fill().map(numbers)),
                    Way::FillWait => check::<BatchPeer>(case, &mut from, |peer| peer.fill_wait(PATIENCE).map(numbers)),
                    Way::FillInto => {
                        let mut ring = RecvRing::new(RING, 64).unwrap();
                        check::<BatchPeer>(case, &mut from, |peer| {
                            ring.clear();
                            peer.fill_into(&mut ring)?;
                            Ok(numbers(ring.grams()))
                        });
                    }
                }
            }
        }
    }
}
