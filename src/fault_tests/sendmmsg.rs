//! Segmentation: rows of grams that leave as one message, and what becomes of them when it does not go.

use libc::EOPNOTSUPP;

use super::*;

/// Errnos that may be those of the segmentation.
const REFUSALS: [i32; 6] = [EIO, EINVAL, EMSGSIZE, EOPNOTSUPP, ENOBUFS, ENOMEM];
/// Grams in each of the rows of [`Rows`].
const ROW: usize = 3;

fn open() -> BatchPeer {
    let peer = BatchPeer::new(config().bc(16).segment(true)).unwrap();
    assert!(peer.segments());
    peer
}

/// Three rows of three grams to a receiver each, so that a batch of them is three messages.
struct Rows {
    receivers: [BatchPeer; 3],
    grams: Vec<([u8; 2], SocketAddr)>,
}

impl Rows {
    fn new() -> Self {
        let receivers: [BatchPeer; 3] = std::array::from_fn(|_| super::open());
        let dsts = receivers.iter().flat_map(|peer| [peer.ha(); ROW]);
        let grams = numbered(9).into_iter().zip(dsts).collect();
        Self { receivers, grams }
    }

    fn batch(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        self.grams.iter().map(|(data, dst)| (&data[..], *dst))
    }

    /// Holds the receivers to having got these grams and no others, in order.
    #[track_caller]
    fn assert_got(&mut self, indices: impl Iterator<Item = usize>) {
        for i in indices {
            assert_eq!(receive_one(&mut self.receivers[i / ROW]), [b'#', i as u8]);
        }
        self.receivers.iter_mut().for_each(assert_nothing_left);
    }
}

impl Faults {
    /// Makes message `at` of the next batch fail, `times` times, as the kernel does it: it gives a
    /// short count, takes the gram that then goes alone, and refuses the rest of that row.
    fn errno_at_row(&self, at: usize, times: usize, errno: i32) {
        if at > 0 {
            self.inject(Call::Send, 0, 1, Fault::Short(at));
        }
        self.inject(Call::Send, usize::from(at > 0), times, Fault::Errno(errno));
    }
}

#[test]
fn t13_a_refused_row_goes_out_gram_by_gram_from_any_place() {
    let faults = Faults::new();
    let mut rows = Rows::new();
    for errno in REFUSALS {
        for at in 0..3 {
            let mut from = open();
            faults.errno_at_row(at, 1, errno);
            let logged = logged_by(|| {
                assert_eq!(parts(&from.send_batch(rows.batch())), (9, 18, 0, None, Stopped::Done), "{errno} {at}");
            });
            let line = format!("WARN peer 'main' on {}: a segmented message was refused", from.ha());
            assert!(matches!(&logged[..], [only] if only.starts_with(&line)), "{logged:?}");
            rows.assert_got(0..9);
            // Refused, one alone, the rest; behind others a short count and one alone come first.
            let expected = Stats {
                send_calls: if at == 0 { 3 } else { 5 },
                grams_sent: 9,
                bytes_sent: 18,
                grams_segmented: (ROW * at) as u64,
                segment_refusals: 1,
                ..Stats::default()
            };
            assert_stats(&from, expected, &[]);
        }
    }
}

#[test]
fn t13_a_gram_that_fails_by_itself_too_is_reported_as_ever() {
    let faults = Faults::new();
    let mut rows = Rows::new();
    for errno in REFUSALS {
        for at in 0..3 {
            let mut from = open();
            faults.errno_at_row(at, 2, errno);
            let report = from.send_batch(rows.batch());
            // Behind other rows one gram of this one has gone, alone.
            let sent = if at == 0 { 0 } else { ROW * at + 1 };
            let is_buffers = matches!(errno, ENOBUFS | ENOMEM);
            let expected = if is_buffers {
                (sent, 2 * sent, 9 - sent, None, Stopped::NoBuffers)
            } else {
                (sent, 2 * sent, 9 - sent - 1, Some((sent, errno)), Stopped::Failed)
            };
            assert_eq!(parts(&report), expected, "{errno} {at}");
            assert_eq!(from.stats().segment_refusals, 0, "the error was the gram's own");
            // So the rest is joined as ever.
            let segmented = from.stats().grams_segmented;
            let rest = from.send_batch(rows.batch().skip(report.settled()));
            assert_eq!((rest.sent, rest.stopped), (9 - report.settled(), Stopped::Done));
            assert!(from.stats().grams_segmented > segmented || rest.sent == 1);
            rows.assert_got((0..9).filter(|i| is_buffers || *i != sent));
            let failed: Vec<_> = if is_buffers { Vec::new() } else { vec![(errno, 1)] };
            assert_eq!(from.stats().grams_send_failed_by_errno.iter().collect::<Vec<_>>(), failed);
            assert_eq!(from.stats().grams_sent + from.stats().grams_send_failed, 9);
        }
    }
}

#[test]
fn h106_every_other_errno_of_a_row_is_its_first_grams_own() {
    let faults = Faults::new();
    let mut rows = Rows::new();
    for errno in OTHERS.into_iter().filter(|errno| !REFUSALS.contains(errno)) {
        let mut from = open();
        faults.errno(Call::Send, 1, errno);
        assert_eq!(parts(&from.send_batch(rows.batch())), (0, 0, 8, Some((0, errno)), Stopped::Failed), "{errno}");
        assert_stats(&from, Stats { send_calls: 1, grams_send_failed: 1, ..Stats::default() }, &[(errno, 1)]);
    }
    rows.assert_got(0..0);
}

#[test]
fn h196_rows_that_must_wait_or_are_interrupted_are_sent_once() {
    let faults = Faults::new();
    let mut rows = Rows::new();
    for at in 0..3 {
        let mut from = open();
        faults.errno_at_row(at, 1, EAGAIN);
        let report = from.send_batch(rows.batch());
        let sent = if at == 0 { 0 } else { ROW * at + 1 };
        assert_eq!(parts(&report), (sent, 2 * sent, 9 - sent, None, Stopped::WouldBlock));
        assert_eq!(from.send_batch(rows.batch().skip(sent)).sent, 9 - sent);
        rows.assert_got(0..9);

        faults.errno_at_row(at, 3, EINTR);
        assert_eq!(parts(&from.send_batch(rows.batch())), (9, 18, 0, None, Stopped::Done));
        rows.assert_got(0..9);
        assert_eq!(from.stats().segment_refusals, 0);
    }
}

#[test]
fn t06_a_short_count_of_messages_is_one_of_grams() {
    let faults = Faults::new();
    let mut rows = Rows::new();
    for short in 0..=3 {
        let mut from = open();
        faults.inject(Call::Send, 0, 1, Fault::Short(short));
        assert_eq!(parts(&from.send_batch(rows.batch())), (9, 18, 0, None, Stopped::Done), "{short}");
        rows.assert_got(0..9);
        // The gram behind a short count goes alone, the other two of its row together.
        let send_calls = if short == 3 { 1 } else { 3 };
        let grams_segmented = if short == 3 { 9 } else { 8 };
        let expected = Stats { send_calls, grams_sent: 9, bytes_sent: 18, grams_segmented, ..Stats::default() };
        assert_stats(&from, expected, &[]);
    }
}

#[test]
fn t07_an_error_of_the_socket_that_hides_behind_rows_comes_out() {
    let faults = Faults::new();
    let mut rows = Rows::new();
    let mut from = open();
    faults.errno_at_row(1, 1, ECONNREFUSED);
    let report = from.send_batch(rows.batch());
    assert_eq!(parts(&report), (4, 8, 4, Some((4, ECONNREFUSED)), Stopped::Failed));
    rows.assert_got(0..4);
}

#[test]
fn t13_refusals_make_it_pause_longer_and_longer() {
    let faults = Faults::new();
    let mut rows = Rows::new();
    let mut from = open();
    let (mut pause, mut left) = (1, 0);
    let logged = logged_by(|| {
        for batch in 0..140 {
            let before = from.stats();
            if left == 0 {
                faults.errno(Call::Send, 1, EIO);
            }
            assert_eq!(from.send_batch(rows.batch()).sent, 9, "batch {batch}");
            let (calls, refusals) = if left == 0 { (3, 1) } else { (1, 0) };
            let stats = from.stats();
            assert_eq!(stats.send_calls - before.send_calls, calls, "batch {batch}");
            assert_eq!(stats.segment_refusals - before.segment_refusals, refusals, "batch {batch}");
            if left == 0 {
                (left, pause) = (pause, 2 * pause);
            } else {
                left -= 1;
            }
            rows.assert_got(0..9);
        }
    });
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!((from.stats().segment_refusals, from.stats().grams_segmented), (8, 0));
    // Another socket may be luckier.
    from.reopen().unwrap();
    assert_eq!(from.send_batch(rows.batch()).sent, 9);
    assert_eq!(from.stats().grams_segmented, 9);
    rows.assert_got(0..9);
}

#[test]
fn h124_each_gram_of_a_row_is_in_the_wire_log_once() {
    let faults = Faults::new();
    let fmt = crate::WireFormat::parse("%(data)b").unwrap();
    let log = WireLog::new(WireLogConfig::new().fmt(fmt).reopen(true)).unwrap();
    let mut from = BatchPeer::new(config().bc(16).segment(true).wl(log.clone())).unwrap();
    let mut rows = Rows::new();
    let all: Vec<u8> = rows.batch().flat_map(|(data, _)| data.to_vec()).collect();
    assert_eq!(from.send_batch(rows.batch()).sent, 9);
    assert_eq!(log.read_tx().unwrap().unwrap(), all);
    faults.errno_at_row(1, 2, EIO);
    assert_eq!(from.send_batch(rows.batch()).sent, 4);
    assert_eq!(log.read_tx().unwrap().unwrap(), [&all[..], &all[..8]].concat());
    for (i, receiver) in rows.receivers.iter_mut().enumerate() {
        let got = std::iter::from_fn(|| receiver.receive().unwrap().1).count();
        assert_eq!(got, [6, 4, 3][i]);
    }
}

/// What becomes of a caller's batch who goes on until every gram is sent or has failed.
fn settle(from: &mut BatchPeer, rows: &Rows, errno: i32) -> Vec<usize> {
    let (mut settled, mut failed) = (0, Vec::new());
    for calls in 0.. {
        assert!(calls < 1000, "it never ends");
        let report = from.send_batch(rows.batch().skip(settled));
        settled += report.settled();
        if let Some((_, error)) = &report.first_error {
            assert_eq!(error.raw_os_error(), Some(errno));
            failed.push(settled - 1);
        }
        if settled == 9 {
            break;
        }
    }
    failed
}

#[test]
fn every_errno_of_a_row_is_told_and_every_gram_is_sent_or_failed() {
    use crate::fault_tests::table::{ROWS, Sends};

    let mut rows = Rows::new();
    for row in ROWS {
        for (at, times) in [0, 1, 2].into_iter().flat_map(|at| [1, 2, 3, 64, 65].map(|times| (at, times))) {
            let mut from = open();
            let faults = Faults::new();
            faults.errno_at_row(at, times, row.errno);
            let failed = settle(&mut from, &rows, row.errno);
            let first = if at == 0 { 0 } else { ROW * at + 1 };
            let context = format!("{row:?} at {at}, {times} times: {failed:?}");
            match row.sends {
                Sends::Fails => assert_eq!(failed, (first..9).take(times).collect::<Vec<_>>(), "{context}"),
                // Each failure of a row is followed by a try of its first gram alone.
                Sends::FailsAlone => {
                    assert!(failed.len() < times.max(2) && failed.iter().all(|i| *i >= first), "{context}")
                }
                _ => assert_eq!(failed, [], "{context}"),
            }
            let stats = from.stats();
            assert_eq!((stats.grams_sent, stats.grams_send_failed), (9 - failed.len() as u64, failed.len() as u64));
            assert_eq!(stats.grams_send_failed_by_errno.of(row.errno), failed.len() as u64, "{context}");
            assert_eq!(stats.send_calls, fault::made(Call::Send), "{context}");
            fault::clear();
            rows.assert_got((0..9).filter(|i| !failed.contains(i)));
        }
    }
}
