//! How an endpoint sends: one datagram, or a batch with a report of what became of it.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::endpoint::Endpoint;
use crate::pcapng::Flow;
use crate::policy::{self, INTERRUPTIONS_MAX, OnSend};
use crate::ring::SendRing;
use crate::segment::{Backoff, Joiner};
use crate::sys::{SendBatch, Staged, Taken, socket as sys_socket};
use crate::wire::{Entry, WireLog};

/// Why a batch send stopped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Stopped {
    /// Everything was sent.
    #[default]
    Done,
    /// The socket's send buffer is full: wait until it is writable, then send the rest.
    WouldBlock,
    /// The system or the device has no buffer (ENOBUFS, ENOMEM): pause, then send the rest. The
    /// socket may be writable all the while, and on some sizes this may never clear (H103).
    NoBuffers,
    /// The gram at `first_error` failed; those behind it were not tried.
    Failed,
    /// The peer is closed, as `first_error` says: nothing was tried, everything is pending.
    Closed,
}

/// What became of a batch: `sent + pending` grams, and one more if one [`Failed`](Stopped::Failed).
///
/// The kernel took the first `sent` grams. If the next one failed, `first_error` has its index
/// (which is `sent`) and the error; that gram is given up and counted. The `pending` grams behind
/// are untouched and in order: in the ring after a flush, with the caller after `send_batch`, who
/// goes on with `.skip(report.settled())`, or with `.skip(report.sent)` to try the failed one again.
///
/// ```
/// use hio_udp::{BatchPeer, PeerConfig, Transport};
///
/// let mut peer = BatchPeer::new(PeerConfig::new().port(0).reopen(true))?;
/// let (me, port_0) = (peer.ha(), "127.0.0.1:0".parse().unwrap());
/// let grams = [(&b"one"[..], me), (b"cannot go", port_0), (b"two", me)];
/// let mut done = 0;
/// while done < grams.len() {
///     let report = peer.send_batch(grams[done..].iter().copied());
///     if let Some((index, error)) = &report.first_error {
///         println!("gram {} failed: {error}", done + index);
///     }
///     done += report.settled();
/// }
/// assert_eq!((peer.stats().grams_sent, peer.stats().grams_send_failed), (2, 1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "it says which grams were not sent"]
#[non_exhaustive]
pub struct SendReport {
    /// Leading grams the kernel took.
    pub sent: usize,
    /// Payload bytes of these.
    pub bytes: usize,
    /// Grams that were neither sent nor failed.
    pub pending: usize,
    /// The gram that failed, by its index in the batch, and why.
    pub first_error: Option<(usize, io::Error)>,
    /// Why the batch ended.
    pub stopped: Stopped,
}

impl SendReport {
    /// Number of leading grams that are done with: sent, or failed.
    pub fn settled(&self) -> usize {
        self.sent + usize::from(self.stopped == Stopped::Failed)
    }

    fn fail(&mut self, error: io::Error) {
        self.first_error = Some((self.sent, error));
        self.stopped = Stopped::Failed;
    }
}

/// What is told of each staged batch on its way: its grams, then how many of the leading ones went.
trait Note<'d> {
    fn staged(&mut self, data: &'d [u8], dst: SocketAddr);
    fn sent(&mut self, endpoint: &Endpoint, count: usize);
}

struct Unlogged;

impl Note<'_> for Unlogged {
    #[inline(always)]
    fn staged(&mut self, _: &[u8], _: SocketAddr) {}
    #[inline(always)]
    fn sent(&mut self, _: &Endpoint, _: usize) {}
}

struct Logged<'w, 'd> {
    wl: &'w WireLog,
    staged: Vec<(&'d [u8], SocketAddr)>,
}

impl<'d> Note<'d> for Logged<'_, 'd> {
    fn staged(&mut self, data: &'d [u8], dst: SocketAddr) {
        self.staged.push((data, dst));
    }

    fn sent(&mut self, endpoint: &Endpoint, count: usize) {
        endpoint.log_sent(self.wl, &self.staged[..count]);
        self.staged.clear();
    }
}

impl Endpoint {
    /// Sends one datagram now: its length, or 0 if it can be sent later (H99–H106).
    pub(crate) fn send_one(&self, data: &[u8], dst: SocketAddr) -> io::Result<usize> {
        let socket = self.socket()?;
        for _ in 0..INTERRUPTIONS_MAX {
            let result = sys_socket::send_one(socket, data, dst);
            let grams = usize::from(result.is_ok());
            self.counters.on_send_call(Taken { grams, bytes: grams * data.len(), segmented: 0 });
            match result {
                Ok(_) => {
                    if let Some(wl) = &self.wl {
                        self.log_sent(wl, &[(data, dst)]);
                    }
                    return Ok(data.len());
                }
                Err(error) => match policy::on_send_error(error, &self.counters, &self.name, self.ha) {
                    OnSend::Again => {}
                    OnSend::WouldBlock | OnSend::NoBuffers => return Ok(0),
                    OnSend::Failed(error) => return Err(error),
                },
            }
        }
        Ok(0)
    }

    /// Sends grams in order until all are sent, the kernel can take no more, or one fails; logs those sent.
    pub(crate) fn send_grams<'d>(
        &self,
        batch: &mut SendBatch,
        grams: impl Iterator<Item = (&'d [u8], SocketAddr)>,
    ) -> SendReport {
        match &self.wl {
            None => self.send_batches(batch, grams, &mut Unlogged),
            Some(wl) => self.send_batches(batch, grams, &mut Logged { wl, staged: Vec::new() }),
        }
    }

    #[cold]
    fn log_sent(&self, wl: &WireLog, grams: &[(&[u8], SocketAddr)]) {
        let entries = grams.iter().map(|&(data, who)| Entry {
            flow: Flow::Outbound,
            data,
            original_len: data.len(),
            who,
            local: self.ha,
            time: None,
        });
        self.write_wire_log(wl, entries);
    }

    fn send_batches<'d>(
        &self,
        batch: &mut SendBatch,
        mut grams: impl Iterator<Item = (&'d [u8], SocketAddr)>,
        log: &mut impl Note<'d>,
    ) -> SendReport {
        let mut report = SendReport::default();
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(error) => {
                let pending = grams.count();
                return SendReport { pending, first_error: Some((0, error)), stopped: Stopped::Closed, ..report };
            }
        };
        let mut is_last = false;
        while !is_last && report.stopped == Stopped::Done {
            let mut staged;
            (staged, is_last) = self.stage(batch, &mut grams, log);
            if staged.left() == 0 {
                break; // the batch before was the last, and full
            }
            let sent_before = report.sent;
            self.send_staged(socket, &mut staged, &mut report);
            log.sent(self, report.sent - sent_before);
            report.pending = staged.left() - usize::from(report.stopped == Stopped::Failed);
        }
        if !is_last {
            report.pending += grams.count();
        }
        report
    }

    /// Stages as many grams as a batch takes, and says whether they came to an end before it was full.
    #[inline(always)]
    fn stage<'b, 'd>(
        &self,
        batch: &'b mut SendBatch,
        grams: &mut impl Iterator<Item = (&'d [u8], SocketAddr)>,
        log: &mut impl Note<'d>,
    ) -> (Staged<'b, 'd>, bool) {
        let mut joiner = Joiner::new(self.segmented && self.backoff.get().may_join());
        let mut staged = batch.stage();
        while !staged.is_full() {
            let Some((data, dst)) = grams.next() else { return (staged, true) };
            let count = staged.push(data, dst, joiner.takes(data.len()));
            joiner.on_pushed(data.len(), count);
            log.staged(data, dst);
        }
        (staged, false)
    }

    /// Sends one staged batch, adding to `report`.
    ///
    /// The kernel hides the error of a message that is not the first of its call, so after a short
    /// count the gram at the stuck place goes alone (T6). If it fails, its error is now known.
    /// If it goes, the error was one of the socket's own, like a refused connection, and was used
    /// up; going alone also makes sure that the next such error stands at the front of its call,
    /// where it cannot be hidden again (T7).
    ///
    /// Or the error was one of the segmentation. Then it comes again with the rest of that message, at the
    /// front; the batch goes on gram by gram, and it is for the next gram, alone, to say whose error it was.
    fn send_staged(&self, socket: &UdpSocket, staged: &mut Staged<'_, '_>, report: &mut SendReport) {
        let (mut alone, mut interruptions, mut suspected) = (false, 0, None);
        self.change_backoff(Backoff::on_batch);
        while staged.left() > 0 {
            let (asked, is_joined) = if alone { (1, false) } else { (staged.left(), staged.is_joined()) };
            let result = if alone { staged.send_one(socket) } else { staged.send(socket) };
            let taken = *result.as_ref().unwrap_or(&Taken::default());
            self.counters.on_send_call(taken);
            report.sent += taken.grams;
            report.bytes += taken.bytes;
            alone = taken.grams < asked;
            let Err(error) = result else {
                // A call that took nothing and gave no error tried nothing either.
                interruptions = if taken.grams == 0 { interruptions + 1 } else { 0 };
                if interruptions == INTERRUPTIONS_MAX {
                    report.stopped = Stopped::WouldBlock;
                    return;
                }
                if taken.grams > 0 && suspected.is_some() {
                    self.on_segment_refusal(suspected.take());
                }
                continue;
            };
            if is_joined && policy::may_be_refusal(&error) {
                staged.unjoin();
                suspected = Some(error);
                continue;
            }
            match policy::on_send_error(error, &self.counters, &self.name, self.ha) {
                OnSend::Again if interruptions < INTERRUPTIONS_MAX => interruptions += 1,
                OnSend::Again | OnSend::WouldBlock => {
                    report.stopped = Stopped::WouldBlock;
                    return;
                }
                OnSend::NoBuffers => {
                    report.stopped = Stopped::NoBuffers;
                    return;
                }
                OnSend::Failed(error) => return report.fail(error),
            }
        }
    }

    #[inline]
    fn change_backoff(&self, change: fn(&mut Backoff)) {
        let mut backoff = self.backoff.get();
        change(&mut backoff);
        self.backoff.set(backoff);
    }

    /// A message was refused whose first gram then went alone, so `error` was of its segmentation.
    #[cold]
    fn on_segment_refusal(&self, error: Option<io::Error>) {
        self.change_backoff(Backoff::on_refusal);
        if let (0, Some(error)) = (self.counters.on_segment_refusal(), error) {
            let (name, ha) = (&self.name, self.ha);
            log::warn!("peer '{name}' on {ha}: a segmented message was refused, and sent gram by gram: {error}");
        }
    }

    /// Sends what `ring` holds, in order; what was sent or failed leaves it.
    pub(crate) fn flush(&self, batch: &mut SendBatch, ring: &mut SendRing) -> SendReport {
        let report = self.send_grams(batch, ring.grams());
        ring.discard(report.settled());
        report
    }
}
