//! `unix:PATH`: every datagram as a message to a local socket that somebody has bound (SOCK_DGRAM).
//!
//! A datagram stays a datagram, so nothing needs to be framed; a reader that is slow makes the sender
//! wait, here in a thread that may. A reader that goes away and comes back is found again.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Sink;
use super::chunk::Chunk;
use super::ledger::{Ledger, Trouble};
use super::relay::counts_as_cut;

pub struct UnixPeer {
    socket: UnixDatagram,
    path: PathBuf,
    trouble: Trouble,
}

impl UnixPeer {
    pub fn open(path: &Path, name: &str) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.to_owned(), trouble: Trouble::new(name) })
    }
}

impl Sink for UnixPeer {
    fn write(&mut self, chunk: &Chunk, ledger: &Ledger) {
        for datagram in chunk.datagrams() {
            if counts_as_cut(&datagram, ledger) {
                continue;
            }
            let sent = loop {
                // By its path each time: a socket bound there anew is another one.
                match self.socket.send_to(datagram.data, &self.path) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            ledger.called();
            match sent {
                Ok(bytes) => {
                    ledger.wrote(1, bytes);
                    self.trouble.worked();
                }
                Err(error) => self.trouble.failed(ledger, 1, "send", &error),
            }
        }
    }
}
