//! What fills rings: one reader for each shard, with a socket of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::Shared;
use super::stats::ReaderReport;
use super::worker::{Handler, contain, deliver};
use crate::endpoint::Endpoint;
use crate::pace::Pace;
use crate::policy;
use crate::ring::RecvRing;
use crate::sys::socket::{self, Interest};

/// How often a reader looks whether it shall stop, and says how it fares; in a fuzz target often, for many runs.
pub(super) const LOOK_AROUND: Duration = Duration::from_millis(if cfg!(fuzzing) { 1 } else { 50 });

/// A datagram that another processor let in just before the socket was told to refuse may be on its way into the
/// queue: so long after the socket was found empty, it is looked at once more.
const LAST_LOOK_AFTER: Duration = Duration::from_millis(1);

/// After so many receive calls of a stop that failed in a row, or that brought nothing, a socket is not read out any
/// further.
const FRUITLESS_MAX: u32 = 64;

/// Longest pause after a failed receive call: it doubles from a millisecond with each one in a row.
const ERROR_PAUSE_MAX: Duration = Duration::from_millis(if cfg!(fuzzing) { 1 } else { 64 });

pub(super) struct Reader {
    pub(super) endpoint: Endpoint,
    pub(super) pace: Pace,
    pub(super) shard: usize,
    pub(super) shared: Arc<Shared>,
    /// Called here, in this thread, where there are no workers.
    pub(super) handler: Option<Handler>,
    /// The ring in the reader's hand, if it has one.
    ring: Option<RecvRing>,
    report: ReaderReport,
    /// Failed receive calls in a row.
    errors: u32,
    next_look: Instant,
}

impl Reader {
    pub(super) fn new(
        endpoint: Endpoint,
        pace: Pace,
        shard: usize,
        shared: Arc<Shared>,
        handler: Option<Handler>,
    ) -> Self {
        let (ring, report, next_look) = (None, ReaderReport::default(), Instant::now());
        Self { endpoint, pace, shard, shared, handler, ring, report, errors: 0, next_look }
    }

    /// Takes its first ring, and says how it will receive: others shall know before a datagram comes.
    pub(super) fn introduce(&mut self) {
        if let Some(ring) = self.take_ring() {
            self.report.socket.backend = ring.backend();
            self.ring = Some(ring);
        }
        self.look_around();
    }

    /// Reads as soon as it may, until it shall stop; gives the socket back, still open.
    pub(super) fn run(mut self) -> Endpoint {
        if self.wait_for_release() {
            self.read();
        } else {
            self.report.is_unread = !self.endpoint.adopted;
        }
        self.look_around();
        contain(|| drop(self.handler));
        self.endpoint
    }

    /// Waits until it may read; `false` if it shall stop before.
    fn wait_for_release(&self) -> bool {
        loop {
            // Looked at first: who is released and then stopped reads out.
            let is_stopping = self.shared.stopping.load(Ordering::Acquire);
            if self.shared.released.load(Ordering::Acquire) {
                return true;
            }
            if is_stopping {
                return false;
            }
            thread::park_timeout(LOOK_AROUND);
        }
    }

    /// Reads until it shall stop, then reads out.
    fn read(&mut self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            if let Some(mut ring) = self.take_ring() {
                let result = self.endpoint.fill_wait(&mut ring, &mut self.pace, LOOK_AROUND);
                self.on_result(result, ring);
            }
            if Instant::now() >= self.next_look {
                self.look_around();
            }
        }
        self.read_out();
    }

    /// The ring in hand, or the next free one, for which it waits a while: meanwhile datagrams wait in the
    /// socket's buffer, and nowhere else.
    fn take_ring(&mut self) -> Option<RecvRing> {
        let handoff = &self.shared.handoff;
        self.ring.take().or_else(|| handoff.take_free(self.shard)).or_else(|| {
            self.report.stalls += 1;
            handoff.wait_free(self.shard, LOOK_AROUND)
        })
    }

    /// Passes on what a receive call brought.
    fn on_result(&mut self, result: io::Result<usize>, ring: RecvRing) {
        match result {
            Ok(0) => {
                self.errors = 0;
                self.ring = Some(ring);
            }
            Ok(_) => {
                self.errors = 0;
                self.pass_on(ring);
            }
            Err(error) => {
                self.ring = Some(ring);
                self.on_error(&error);
            }
        }
    }

    /// Counts a call that failed, which was logged where it was met, and pauses.
    fn on_error(&mut self, error: &io::Error) {
        self.report.receive_errors += 1;
        self.report.receive_errno = error.raw_os_error();
        self.errors += 1;
        thread::sleep(Duration::from_millis(1 << self.errors.min(10)).min(ERROR_PAUSE_MAX));
    }

    fn pass_on(&mut self, mut ring: RecvRing) {
        self.report.socket.backend = ring.backend();
        self.endpoint.log_received(ring.grams());
        match &mut self.handler {
            None => self.shared.handoff.hand_over(self.shard, ring),
            Some(handler) => {
                deliver(handler, &ring, self.shard, self.shared.tally(self.shard, self.shard));
                ring.clear();
                self.ring = Some(ring);
            }
        }
    }

    /// Says how this shard fares, for others to see.
    fn look_around(&mut self) {
        self.next_look = Instant::now() + LOOK_AROUND;
        let (stats, backend) = (self.endpoint.stats(), self.report.socket.backend);
        self.report.socket = stats;
        if !backend.is_empty() {
            self.report.socket.backend = backend;
        }
        self.shared.publish(self.shard, self.report);
    }

    /// Lets nothing more in, then passes on what the socket holds until it is empty; what is still there
    /// after the deadline is counted as left behind. A socket that was passed in keeps what it holds.
    fn read_out(&mut self) {
        self.report.dropped_before_stop = Some(self.endpoint.stats().kernel_dropped);
        if self.endpoint.adopted {
            return;
        }
        let is_refusing = refuse_new_datagrams(&self.endpoint);
        // None is too far away for the clock to tell.
        let deadline = Instant::now().checked_add(self.shared.drain);
        let mut empty_looks = 0;
        self.errors = 0;
        while self.errors.max(empty_looks) < FRUITLESS_MAX {
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late && (self.errors > 0 || !is_refusing) {
                break; // a steady stream would never end
            }
            let Some(mut ring) = self.take_ring() else { continue };
            match self.endpoint.fill(&mut ring) {
                Ok(0) => {
                    self.ring = Some(ring);
                    if empty_looks > 0 && self.is_empty() {
                        return;
                    }
                    thread::sleep(LAST_LOOK_AFTER);
                    empty_looks += 1;
                }
                Ok(grams) if is_late => {
                    self.report.left_behind += grams as u64;
                    ring.clear();
                    self.ring = Some(ring);
                }
                result => self.on_result(result, ring),
            }
        }
        self.report.is_unread = true;
    }

    /// Whether the socket is known to hold nothing: a receive call that is interrupted each time brings nothing either.
    fn is_empty(&mut self) -> bool {
        match self.endpoint.socket().and_then(|s| socket::wait(s, Interest::Readable, Duration::ZERO)) {
            Ok(is_readable) => !is_readable,
            Err(error) => {
                if !policy::was_interrupted(&error) {
                    self.on_error(&error);
                }
                false
            }
        }
    }
}

/// Lets no more datagrams into the socket, so that what it holds can be read to the end.
///
/// The kernel counts what it turns away. `false` where a socket cannot be told so.
fn refuse_new_datagrams(endpoint: &Endpoint) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use super::steering;
        let keep_nothing = socket2::SockFilter::new(steering::RETURN_CONSTANT, 0, 0, 0);
        let refuse = |to| socket::set(to, |socket| socket.attach_filter(&[keep_nothing]));
        endpoint.socket().and_then(refuse).is_ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = endpoint;
        false
    }
}
