//! Every errno of the table, met by every way to send, at every place and many times in a row, against a
//! naive model of what the caller is told and the counters say.

use super::table::{ROWS, Row, Sends};
use super::*;

/// Datagrams of a batch.
const GRAMS: usize = 7;
/// Datagrams in front of the first failure.
const PLACES: [usize; 4] = [0, 1, 3, 6];
/// Failures in a row.
const RUNS: [usize; 5] = [1, 2, 64, 65, 130];

/// A way to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    PeerSend,
    Send,
    SendBatch,
    Flush,
}

const WAYS: [Way; 4] = [Way::PeerSend, Way::Send, Way::SendBatch, Way::Flush];

/// One run of failures.
#[derive(Clone, Copy, Debug)]
struct Case {
    row: Row,
    way: Way,
    at: usize,
    times: usize,
}

/// What a caller was told who went on until every datagram was sent or had failed.
#[derive(Debug, Default, Eq, PartialEq)]
struct Told {
    /// The datagrams that failed.
    failed: Vec<usize>,
    would_block: usize,
    no_buffers: usize,
}

impl Case {
    fn told(self) -> Told {
        let Self { row, way, at, times } = self;
        // A batch notes an interruption more before it gives up.
        let again = if matches!(way, Way::PeerSend | Way::Send) { INTERRUPTIONS_MAX } else { INTERRUPTIONS_MAX + 1 };
        match row.sends {
            Sends::Fails | Sends::FailsAlone => Told { failed: (at..GRAMS).take(times).collect(), ..Told::default() },
            Sends::WouldBlock => Told { would_block: times, ..Told::default() },
            // To send one datagram now, or not: a caller sees no difference there.
            Sends::NoBuffers if matches!(way, Way::PeerSend | Way::Send) => {
                Told { would_block: times, ..Told::default() }
            }
            Sends::NoBuffers => Told { no_buffers: times, ..Told::default() },
            Sends::Again => Told { would_block: times / again, ..Told::default() },
        }
    }

    fn stats(self, told: &Told) -> Stats {
        let sent = (GRAMS - told.failed.len()) as u64;
        let times = |wanted| if self.row.sends == wanted { self.times as u64 } else { 0 };
        Stats {
            send_calls: fault::made(Call::Send),
            grams_sent: sent,
            bytes_sent: 2 * sent,
            grams_send_failed: told.failed.len() as u64,
            send_would_block: times(Sends::WouldBlock),
            send_no_buffers: times(Sends::NoBuffers),
            ..Stats::default()
        }
    }

    /// Makes the failures happen.
    fn plan(self, faults: &Faults) {
        let fault = Fault::Errno(self.row.errno);
        if BACKEND == "single" || matches!(self.way, Way::PeerSend | Way::Send) {
            return faults.inject(Call::Send, self.at, self.times, fault);
        }
        if self.at > 0 {
            faults.inject(Call::Send, 0, 1, Fault::Short(self.at));
        }
        faults.inject(Call::Send, 0, self.times, fault);
    }

    fn check<T: Transport>(self, peer: &mut BatchPeer, mut send: impl FnMut(&mut T, &[[u8; 2]], &mut Told) -> usize) {
        let (mut from, grams, mut told): (T, _, _) = (open(), numbered(GRAMS as u8), Told::default());
        let (mut settled, mut calls) = (0, 0);
        let faults = Faults::new();
        self.plan(&faults);
        let logged = logged_by(|| {
            while settled < GRAMS {
                let failed = told.failed.len();
                settled += send(&mut from, &grams[settled..], &mut told);
                if told.failed.len() > failed {
                    *told.failed.last_mut().unwrap() = settled - 1;
                }
                calls += 1;
                assert!(calls < 1000, "it never ends: {self:?}");
            }
        });
        assert_eq!(told, self.told(), "{self:?}");
        let failures = told.failed.len();
        let by_errno: &[_] = if failures > 0 { &[(self.row.errno, failures as u64)] } else { &[] };
        assert_stats(&from, self.stats(&told), by_errno);
        assert_eq!(logged.len(), failures.checked_ilog2().map_or(0, |log| log as usize + 1), "{self:?}: {logged:?}");
        for (_, gram) in grams.iter().enumerate().filter(|(i, _)| !told.failed.contains(i)) {
            assert_eq!(receive_one(peer), gram, "{self:?}");
        }
        fault::clear();
        assert_nothing_left(peer);
    }
}

/// Sends the first of `grams`, and says how many are done with.
fn send_first<T: Transport>(from: &mut T, grams: &[[u8; 2]], to: SocketAddr, told: &mut Told, errno: i32) -> usize {
    match from.send(&grams[0], to) {
        Ok(0) => {
            told.would_block += 1;
            0
        }
        Ok(bytes) => {
            assert_eq!(bytes, 2);
            1
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(errno));
            told.failed.push(0);
            1
        }
    }
}

/// Takes note of a report on a batch of `count`, and says how many are done with.
fn note(report: &SendReport, count: usize, told: &mut Told, errno: i32) -> usize {
    let failure = report.first_error.as_ref().map(|(index, error)| (*index, error.raw_os_error()));
    assert_eq!(failure, (report.stopped == Stopped::Failed).then_some((report.sent, Some(errno))));
    assert_eq!((report.settled() + report.pending, report.bytes), (count, 2 * report.sent));
    match report.stopped {
        Stopped::Done => assert_eq!(report.sent, count),
        Stopped::WouldBlock => told.would_block += 1,
        Stopped::NoBuffers => told.no_buffers += 1,
        Stopped::Failed => told.failed.push(0),
        Stopped::Closed => panic!("{report:?}"),
    }
    report.settled()
}

#[test]
fn every_errno_of_a_send_is_told_and_every_datagram_is_sent_or_failed() {
    let mut peer: BatchPeer = open();
    let dst = peer.ha();
    for way in WAYS {
        for &row in ROWS {
            for (at, times) in PLACES.into_iter().flat_map(|at| RUNS.map(|times| (at, times))) {
                let (case, errno) = (Case { row, way, at, times }, row.errno);
                match way {
                    Way::PeerSend => {
                        case.check::<Peer>(&mut peer, |from, grams, told| send_first(from, grams, dst, told, errno))
                    }
                    Way::Send => case
                        .check::<BatchPeer>(&mut peer, |from, grams, told| send_first(from, grams, dst, told, errno)),
                    Way::SendBatch => case.check::<BatchPeer>(&mut peer, |from, grams, told| {
                        note(&from.send_batch(to(grams, dst)), grams.len(), told, errno)
                    }),
                    Way::Flush => case.check::<BatchPeer>(&mut peer, |from, grams, told| {
                        if from.queued() == 0 {
                            grams.iter().for_each(|gram| from.queue(gram, dst).unwrap());
                        }
                        note(&from.flush(), grams.len(), told, errno)
                    }),
                }
            }
        }
    }
}
