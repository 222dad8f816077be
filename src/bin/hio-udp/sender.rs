//! Sending whole batches: what blast and replay share.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use hio_udp::{BatchPeer, PeerConfig, Stopped, Transport};

use crate::account;
use crate::stop::Stop;

/// Pause when the system or the device has no buffer.
const NO_BUFFERS_PAUSE: Duration = Duration::from_millis(1);

/// How long a wait for room in the socket's buffer lasts before a stop is looked for.
const WRITABLE_WAIT: Duration = Duration::from_millis(10);

/// How long the kernel may refuse everything before that is an error: ENOBUFS can be for ever.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One sending socket, with a port of its own.
pub struct Sender {
    pub peer: BatchPeer,
    to: SocketAddr,
}

impl Sender {
    pub fn open(name: String, to: SocketAddr, batch: usize, segment: bool) -> io::Result<Self> {
        let peer = BatchPeer::new(sending_only(name, to, batch).segment(segment))?;
        Ok(Self { peer, to })
    }

    /// Sends all of `count` datagrams; gives how many were sent or failed, which is fewer only if the kernel takes
    /// no more for long or a stop is asked for. The first error of all goes to `first_error`, and is told.
    pub fn send<'d>(
        &mut self,
        grams: impl Iterator<Item = &'d [u8]> + Clone,
        count: usize,
        stop: &Stop,
        first_error: &mut Option<io::Error>,
    ) -> usize {
        let mut settled = 0;
        let patience_ends = Instant::now() + PATIENCE;
        while settled < count && !(stop.asked() || Instant::now() > patience_ends) {
            let report = self.peer.send_batch(grams.clone().skip(settled).map(|gram| (gram, self.to)));
            settled += report.settled();
            if let Some((_, error)) = report.first_error.filter(|_| first_error.is_none()) {
                // Told now: it goes on, because a network may come back, and it may go on for long.
                account::say(&format!("hio-udp: note: sending to {} failed: {error}; going on", self.to));
                *first_error = Some(error);
            }
            match report.stopped {
                Stopped::WouldBlock => _ = self.peer.wait_writable(WRITABLE_WAIT),
                Stopped::NoBuffers => thread::sleep(NO_BUFFERS_PAUSE),
                _ => {}
            }
        }
        settled
    }
}

/// Settings of a peer that only sends, `batch` datagrams a call, from a port of its own.
pub fn sending_only(name: impl Into<String>, to: SocketAddr, batch: usize) -> PeerConfig {
    let every_interface = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    PeerConfig::new()
        .name(name)
        .ha((every_interface, 0))
        .bc(batch)
        .gram_size(1) // nothing is received or queued, so the rings can be small
        .io_uring(false) // which only receives, and takes a descriptor
        .exclusive(true)
        .reopen(true)
}

/// What would be right instead, where the error does not tell.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        // EACCES, by ip(7) the answer to a broadcast that was not asked for; a packet filter says EPERM.
        io::ErrorKind::PermissionDenied => "; a broadcast address, or what a firewall refuses, cannot be sent to",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "; choose another --to",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_takes_no_descriptor_for_io_uring() {
        let sender = Sender::open("test".into(), "127.0.0.1:9".parse().unwrap(), 64, false).unwrap();
        assert_ne!(sender.peer.stats().backend, "io_uring");
    }
}
