//! `udp:ADDR`: every datagram once more, to another address.
//!
//! It leaves from a port of this program's own, as nobody may send in another's name. A datagram that was
//! cut on the way in is not passed on: nobody behind could tell that it is not whole.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use hio_udp::{BatchPeer, Stopped, Transport};

use super::Sink;
use super::chunk::{Chunk, Datagram};
use super::ledger::{Ledger, Trouble};
use crate::sender::sending_only;

/// Why a cut datagram does not go on.
pub const CUT: &str = "cut, so not passed on";

/// Datagrams collected for one call; it makes as many system calls of them as it takes.
const BATCH: usize = 1024;
/// How long one wait for room in the socket may take.
const WRITABLE_WAIT: Duration = Duration::from_millis(100);
/// How long it waits where the system has no memory for a datagram.
const NO_BUFFERS_PAUSE: Duration = Duration::from_millis(1);

pub struct Relay {
    peer: BatchPeer,
    to: SocketAddr,
    trouble: Trouble,
}

impl Relay {
    pub fn open(to: SocketAddr, name: &str) -> io::Result<Self> {
        let peer = BatchPeer::new(sending_only(name, to, BATCH))?;
        Ok(Self { peer, to, trouble: Trouble::new(name) })
    }

    /// Sends all; each is counted as written or as failed.
    fn send(&mut self, datagrams: &[&[u8]], ledger: &Ledger) {
        let mut left = datagrams;
        while !left.is_empty() {
            let report = self.peer.send_batch(left.iter().map(|data| (*data, self.to)));
            if report.settled() > 0 {
                ledger.called(); // one that moves nothing is no progress
            }
            ledger.wrote(report.sent as u64, report.bytes);
            let failed = (report.settled() - report.sent) as u64;
            left = &left[report.settled()..];
            match report.first_error {
                Some((_, error)) => self.trouble.failed(ledger, failed, &format!("send to {}", self.to), &error),
                None if report.sent > 0 => self.trouble.worked(),
                None => {}
            }
            match report.stopped {
                Stopped::WouldBlock => _ = self.peer.wait_writable(WRITABLE_WAIT),
                Stopped::NoBuffers => thread::sleep(NO_BUFFERS_PAUSE),
                _ => {}
            }
        }
    }
}

impl Sink for Relay {
    fn write(&mut self, chunk: &Chunk, ledger: &Ledger) {
        let mut datagrams = chunk.datagrams().peekable();
        let mut batch: Vec<&[u8]> = Vec::with_capacity(BATCH);
        while datagrams.peek().is_some() {
            batch.clear();
            let taken = datagrams.by_ref().take(BATCH);
            batch.extend(taken.filter(|datagram| !counts_as_cut(datagram, ledger)).map(|datagram| datagram.data));
            self.send(&batch, ledger);
        }
    }
}

/// Whether a datagram is cut; then it is counted as lacking.
pub fn counts_as_cut(datagram: &Datagram<'_>, ledger: &Ledger) -> bool {
    if datagram.is_cut() {
        ledger.lacks(1, CUT);
    }
    datagram.is_cut()
}
