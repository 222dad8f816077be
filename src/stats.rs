//! Counters: what became of every datagram, and how many system calls it took.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::sys::{BACKEND, Received, Taken};

/// How many different errnos are told apart; later ones are counted together.
const ERRNOS: usize = 16;

/// Failed sends by errno; the sum over all is [`Stats::grams_send_failed`].
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct ErrnoCounts {
    counts: [(i32, u64); ERRNOS],
    others: u64,
}

impl ErrnoCounts {
    /// Counts one failure and says how many this errno has had.
    fn add(&mut self, errno: i32) -> u64 {
        match self.counts.iter_mut().find(|(known, count)| *known == errno || *count == 0) {
            Some(entry) => {
                *entry = (errno, entry.1 + 1);
                entry.1
            }
            None => {
                self.others += 1;
                self.others
            }
        }
    }

    /// Each errno that occurred with its count; errno 0 stands for errors that carry none.
    pub fn iter(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.counts.iter().copied().filter(|(_, count)| *count > 0)
    }

    fn merge(&mut self, other: &Self) {
        for (errno, count) in other.iter() {
            match self.counts.iter_mut().find(|(known, have)| *known == errno || *have == 0) {
                Some(entry) => *entry = (errno, entry.1 + count),
                None => self.others += count,
            }
        }
        self.others += other.others;
    }

    /// Count of one errno.
    pub fn of(&self, errno: i32) -> u64 {
        self.iter().find(|(known, _)| *known == errno).map_or(0, |(_, count)| count)
    }

    /// Failures of any further errno, once 16 different ones have been met.
    pub fn others(&self) -> u64 {
        self.others
    }
}

impl fmt::Debug for ErrnoCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).entry(&"others", &self.others).finish()
    }
}

/// A snapshot of a peer's counters, since it was made: closing and reopening keeps them.
///
/// Every datagram that reached the socket is in exactly one of `grams_received`,
/// `grams_undecodable` and `kernel_dropped`, once the queue is empty. `grams_truncated` and
/// `grams_control_truncated` say of some of these that they came damaged; they are not added.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// How datagrams are received: `"mmsg"`, `"single"`, or `"io_uring"`, which takes turns with `"mmsg"`.
    pub backend: &'static str,
    /// System calls that asked for datagrams.
    pub recv_calls: u64,
    /// System calls that sent datagrams.
    pub send_calls: u64,
    /// System calls that waited: polls and gathering pauses.
    pub wait_calls: u64,
    /// Receive attempts that found nothing.
    pub empty_wakeups: u64,
    /// Receive calls that failed with an error for the caller; the datagrams wait in the socket.
    pub recv_failed: u64,
    /// Datagrams taken from the kernel into a ring or buffer, cut ones included.
    pub grams_received: u64,
    /// Payload bytes of these, as stored.
    pub bytes_received: u64,
    /// Received datagrams that were longer than their slot.
    pub grams_truncated: u64,
    /// Received datagrams whose control messages did not fit (MSG_CTRUNC).
    pub grams_control_truncated: u64,
    /// Slots that were received but could not be delivered: no readable source address, or a
    /// coalesced buffer whose segment size was cut off, which counts as one.
    pub grams_undecodable: u64,
    /// Of the received: still unread in the peer's ring when it was closed or reopened.
    pub grams_recv_discarded: u64,
    /// Datagrams the kernel dropped because the socket's buffer was full (Linux; 0 elsewhere).
    #[doc(alias = "SO_RXQ_OVFL")]
    #[doc(alias = "SO_MEMINFO")]
    pub kernel_dropped: u64,
    /// Datagrams the kernel took for sending.
    pub grams_sent: u64,
    /// Payload bytes of these.
    pub bytes_sent: u64,
    /// Of the sent: those that left in one message with others ([`PeerConfig::segment`](crate::PeerConfig::segment)).
    #[doc(alias = "UDP_SEGMENT")]
    pub grams_segmented: u64,
    /// Times the system refused such a message and then took its datagrams one by one.
    pub segment_refusals: u64,
    /// Times a send found the socket's send buffer full (EAGAIN, EWOULDBLOCK).
    pub send_would_block: u64,
    /// Times a send found no buffer in the system or the device (ENOBUFS, ENOMEM).
    pub send_no_buffers: u64,
    /// Queued datagrams that were never sent because the peer was closed or reopened.
    pub grams_send_discarded: u64,
    /// Datagrams that failed to be sent.
    pub grams_send_failed: u64,
    /// These by errno.
    pub grams_send_failed_by_errno: ErrnoCounts,
    /// Datagrams, received or sent, that the wire log did not take; they lack in it and nowhere else.
    pub wire_log_failed: u64,
}

impl Stats {
    /// All system calls on the data path: receiving, sending, waiting.
    pub fn syscalls(&self) -> u64 {
        self.recv_calls + self.send_calls + self.wait_calls
    }

    /// Adds another peer's counters; the backend is then the first that receives at all.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            backend,
            recv_calls,
            send_calls,
            wait_calls,
            empty_wakeups,
            recv_failed,
            grams_received,
            bytes_received,
            grams_truncated,
            grams_control_truncated,
            grams_undecodable,
            grams_recv_discarded,
            kernel_dropped,
            grams_sent,
            bytes_sent,
            grams_segmented,
            segment_refusals,
            send_would_block,
            send_no_buffers,
            grams_send_discarded,
            grams_send_failed,
            grams_send_failed_by_errno,
            wire_log_failed,
        } = other;
        if self.backend.is_empty() {
            self.backend = backend;
        }
        self.recv_calls += recv_calls;
        self.send_calls += send_calls;
        self.wait_calls += wait_calls;
        self.empty_wakeups += empty_wakeups;
        self.recv_failed += recv_failed;
        self.grams_received += grams_received;
        self.bytes_received += bytes_received;
        self.grams_truncated += grams_truncated;
        self.grams_control_truncated += grams_control_truncated;
        self.grams_undecodable += grams_undecodable;
        self.grams_recv_discarded += grams_recv_discarded;
        self.kernel_dropped += kernel_dropped;
        self.grams_sent += grams_sent;
        self.bytes_sent += bytes_sent;
        self.grams_segmented += grams_segmented;
        self.segment_refusals += segment_refusals;
        self.send_would_block += send_would_block;
        self.send_no_buffers += send_no_buffers;
        self.grams_send_discarded += grams_send_discarded;
        self.grams_send_failed += grams_send_failed;
        self.grams_send_failed_by_errno.merge(grams_send_failed_by_errno);
        self.wire_log_failed += wire_log_failed;
    }
}

/// The live counters of one peer; only `policy.rs` and the calls around `sys` touch them.
///
/// Cells, so that both halves of a split peer can count; they make a peer `Send` but not `Sync`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    stats: RefCell<Stats>,
    /// The newest reading of this socket's kernel drop counter.
    drops_seen: Cell<u32>,
    /// Failed receive calls by errno.
    recv_failures: RefCell<ErrnoCounts>,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        Stats { backend: BACKEND, ..*self.stats.borrow() }
    }

    /// Changes the counters: once per system call, never per datagram.
    #[inline]
    fn update(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.borrow_mut());
    }

    /// Counts one receive attempt; `grams` is what will be delivered of it.
    #[inline]
    pub(crate) fn on_received(&self, received: &Received, grams: usize) {
        self.update(|stats| {
            stats.recv_calls += received.calls;
            stats.empty_wakeups += u64::from(received.slots == 0);
            stats.grams_received += grams as u64;
            stats.bytes_received += received.bytes as u64;
            stats.grams_truncated += received.truncated as u64;
            stats.grams_control_truncated += received.control_truncated as u64;
            stats.grams_undecodable += received.undecodable as u64;
        });
        if let Some(drops) = received.kernel_drops {
            self.on_kernel_drops(drops);
        }
    }

    /// Counts a plain receive call that brought one datagram of `bytes` stored bytes.
    #[inline]
    pub(crate) fn on_received_one(&self, bytes: usize, was_truncated: bool) {
        self.update(|stats| {
            stats.recv_calls += 1;
            stats.grams_received += 1;
            stats.bytes_received += bytes as u64;
            stats.grams_truncated += u64::from(was_truncated);
        });
    }

    /// Counts a plain receive call that brought nothing.
    pub(crate) fn on_received_none(&self) {
        self.update(|stats| {
            stats.recv_calls += 1;
            stats.empty_wakeups += 1;
        });
    }

    /// Counts a receive call that failed with an error; gives how often this errno has occurred.
    pub(crate) fn on_receive_failed(&self, errno: i32) -> u64 {
        self.update(|stats| stats.recv_failed += 1);
        self.recv_failures.borrow_mut().add(errno)
    }

    #[inline]
    pub(crate) fn on_send_call(&self, taken: Taken) {
        self.update(|stats| {
            stats.send_calls += 1;
            stats.grams_sent += taken.grams as u64;
            stats.bytes_sent += taken.bytes as u64;
            stats.grams_segmented += taken.segmented as u64;
        });
    }

    /// Counts a segmented message that the system refused; gives how many there were before.
    pub(crate) fn on_segment_refusal(&self) -> u64 {
        let mut before = 0;
        self.update(|stats| {
            before = stats.segment_refusals;
            stats.segment_refusals += 1;
        });
        before
    }

    pub(crate) fn on_wait_call(&self) {
        self.update(|stats| stats.wait_calls += 1);
    }

    pub(crate) fn on_would_block(&self) {
        self.update(|stats| stats.send_would_block += 1);
    }

    pub(crate) fn on_no_buffers(&self) {
        self.update(|stats| stats.send_no_buffers += 1);
    }

    /// Counts one datagram that failed to be sent; gives how often this errno has occurred.
    pub(crate) fn on_send_failed(&self, errno: i32) -> u64 {
        let mut times = 0;
        self.update(|stats| {
            stats.grams_send_failed += 1;
            times = stats.grams_send_failed_by_errno.add(errno);
        });
        times
    }

    /// Counts entries the wire log did not take; gives how many there were before.
    pub(crate) fn on_wire_log_failed(&self, entries: u64) -> u64 {
        let mut before = 0;
        self.update(|stats| {
            before = stats.wire_log_failed;
            stats.wire_log_failed += entries;
        });
        before
    }

    /// Counts grams that a closing peer still held in its rings.
    pub(crate) fn on_discarded(&self, received: usize, queued: usize) {
        self.update(|stats| {
            stats.grams_recv_discarded += received as u64;
            stats.grams_send_discarded += queued as u64;
        });
    }

    /// Takes a reading of the socket's drop counter, from a datagram or from the socket itself.
    ///
    /// The counter is a `u32` that wraps, so only differences count. A datagram carries the value
    /// of the moment it was queued, which may be older than a reading already taken: a difference
    /// that would be negative is such a one, and adds nothing.
    pub(crate) fn on_kernel_drops(&self, reading: u32) {
        let new = reading.wrapping_sub(self.drops_seen.get());
        if new > 0 && new <= i32::MAX as u32 {
            self.drops_seen.set(reading);
            self.update(|stats| stats.kernel_dropped += u64::from(new));
        }
    }

    /// A new socket's drop counter stands at `dropped_before`: 0 unless it is older than this peer.
    pub(crate) fn on_open(&self, dropped_before: u32) {
        self.drops_seen.set(dropped_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t19_the_drop_counter_survives_its_wrap_and_old_readings() {
        let counters = Counters::default();
        for (reading, total) in [(5, 5), (5, 5), (3, 5), (u32::MAX / 2, (u32::MAX / 2).into())] {
            counters.on_kernel_drops(reading);
            assert_eq!(counters.snapshot().kernel_dropped, total, "after {reading}");
        }
        counters.on_kernel_drops(u32::MAX - 1);
        counters.on_kernel_drops(4); // wrapped: 6 more
        assert_eq!(counters.snapshot().kernel_dropped, u64::from(u32::MAX) + 5);
        counters.on_kernel_drops(u32::MAX); // carried by a datagram queued before the wrap
        assert_eq!(counters.snapshot().kernel_dropped, u64::from(u32::MAX) + 5);
        counters.on_open(0);
        counters.on_kernel_drops(2);
        assert_eq!(counters.snapshot().kernel_dropped, u64::from(u32::MAX) + 7);
    }

    #[test]
    fn failures_are_counted_by_errno_and_past_sixteen_together() {
        let mut counts = ErrnoCounts::default();
        for errno in 1..=20 {
            for time in 1..=u64::from(errno == 3) + 1 {
                let reported = counts.add(errno);
                assert!(errno > 16 || reported == time);
            }
        }
        assert_eq!((counts.of(3), counts.of(16), counts.of(17), counts.others()), (2, 1, 0, 4));
        assert_eq!(counts.iter().map(|(_, n)| n).sum::<u64>() + counts.others(), 21);

        let mut more = ErrnoCounts::default();
        for errno in [3, 30, 30] {
            more.add(errno);
        }
        counts.merge(&more);
        assert_eq!((counts.of(3), counts.of(30), counts.others()), (3, 0, 6), "no room for a seventeenth");
        more.merge(&counts);
        assert_eq!((more.of(3), more.of(30), more.of(16)), (4, 2, 0), "31 is taken by others");
    }
}
