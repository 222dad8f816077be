//! Looking at an ingest from outside: for the status line, the metrics, and whoever wants to know.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{Monitor, PipelineStats, ShardStats};

use super::hand::{Counts, Hand};
use crate::heavy::{Heavy, Weight};
use crate::sinks::{SinkNow, Sinks};

/// How long a busy hand is waited for to see its sources; one that waits for a sink is left out then.
const BUSY_HAND_WAIT: Duration = Duration::from_millis(20);

/// Everything of a running ingest that others may look at.
pub struct Watch {
    pub since: Instant,
    pub listeners: Vec<Listener>,
    pub sinks: Option<Arc<Sinks>>,
}

/// One address that is received on.
pub struct Listener {
    pub local: SocketAddr,
    /// Of each socket.
    pub recv_buf_bytes: usize,
    /// Whether that is less than was asked for.
    pub is_clamped: bool,
    pub monitor: Monitor,
    pub hands: Vec<Arc<Hand>>,
}

/// All counters at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub at: Instant,
    /// Since the start.
    pub uptime: Duration,
    pub listeners: Vec<ListenerNow>,
    pub sinks: Vec<SinkNow>,
}

#[derive(Clone, Debug)]
pub struct ListenerNow {
    pub local: SocketAddr,
    pub recv_buf_bytes: usize,
    pub is_clamped: bool,
    pub stats: PipelineStats,
    pub counts: Counts,
}

impl Snapshot {
    /// What hands have counted, all together.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.listeners.iter().for_each(|listener| sum.add(&listener.counts));
        sum
    }

    pub fn kernel_dropped(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.stats.total().socket.kernel_dropped).sum()
    }

    pub fn receive_errors(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.stats.total().receive_errors).sum()
    }

    /// How datagrams are received: that of the first address.
    pub fn backend(&self) -> &'static str {
        self.listeners.first().map_or("", |listener| listener.stats.total().socket.backend)
    }

    /// Everything that reached the sockets and has been seen.
    pub fn arrived(&self) -> u64 {
        self.counts().handled() + self.kernel_dropped()
    }

    pub fn recv_calls(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.stats.total().socket.recv_calls).sum()
    }

    /// Bytes handed to the sinks; `None` without any.
    pub fn sink_bytes(&self) -> Option<u64> {
        (!self.sinks.is_empty()).then(|| self.sinks.iter().map(|sink| sink.bytes).sum())
    }
}

/// The last error of receiving.
pub fn receive_error(stats: &ShardStats) -> io::Error {
    stats.receive_errno.map_or_else(|| io::Error::other("its calls brought nothing"), io::Error::from_raw_os_error)
}

impl Watch {
    pub fn hands(&self) -> impl Iterator<Item = &Arc<Hand>> {
        self.listeners.iter().flat_map(|listener| &listener.hands)
    }

    pub fn snapshot(&self) -> Snapshot {
        let listeners = self.listeners.iter().map(|Listener { local, recv_buf_bytes, is_clamped, monitor, hands }| {
            let mut counts = Counts::default();
            hands.iter().for_each(|hand| counts.add(&hand.counts()));
            ListenerNow {
                local: *local,
                recv_buf_bytes: *recv_buf_bytes,
                is_clamped: *is_clamped,
                stats: monitor.stats(),
                counts,
            }
        });
        let at = Instant::now();
        Snapshot {
            at,
            uptime: at - self.since,
            listeners: listeners.collect(),
            sinks: self.sinks.as_ref().map_or(Vec::new(), |sinks| sinks.now()),
        }
    }

    /// The heaviest sources of delivered datagrams, and how many datagrams may be missing from each of them.
    pub fn heaviest(&self, count: usize) -> (Vec<(IpAddr, Weight)>, u64) {
        let mut all = Heavy::new();
        for hand in self.hands() {
            let deadline = Instant::now() + BUSY_HAND_WAIT;
            loop {
                if let Some(work) = hand.idle_work() {
                    all.merge(&work.sources);
                    break;
                }
                if Instant::now() >= deadline {
                    break;
                }
                thread::yield_now();
            }
        }
        (all.top(count), all.missing_max())
    }
}
