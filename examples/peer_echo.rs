//! Echoes every datagram to its sender through `Peer`, one system call each way.
//!
//! `cargo run --example peer_echo -- 127.0.0.1:0` prints the address and echoes until it has seen
//! the datagram `quit`.

use std::net::SocketAddr;
use std::time::Duration;

use hio_udp::{Peer, PeerConfig, Transport};

/// How long to wait for a datagram, or for room to send one, before looking again.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> std::io::Result<()> {
    let bind = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let bind: SocketAddr = bind.parse().map_err(|_| std::io::Error::other(format!("'{bind}': want ADDR:PORT")))?;
    let mut peer = Peer::new(PeerConfig::new().ha(bind).reopen(true))?;
    println!("{}", peer.ha());

    // `receive` borrows the peer, so a datagram is copied out before it can be sent through the same
    // one; `BatchPeer::split` needs no copy.
    let mut copy = Vec::with_capacity(hio_udp::BUF_SIZE);
    loop {
        peer.wait_readable(PATIENCE)?;
        while let (data, Some(src)) = peer.receive()? {
            copy.clear();
            copy.extend_from_slice(data);
            if copy == b"quit" {
                return Ok(());
            }
            while peer.send(&copy, src)? != copy.len() {
                peer.wait_writable(PATIENCE)?;
            }
        }
    }
}
