//! Echoes every datagram to its sender through `Peer`, one system call each way.
//!
//! `cargo run --example peer_echo -- 127.0.0.1:0` prints the address and echoes until it has seen
//! the datagram `quit`.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use hio_udp::{Peer, PeerConfig, Transport};

fn main() -> std::io::Result<()> {
    let bind = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let (host, port) = bind.rsplit_once(':').expect("want ADDR:PORT");
    let port = port.parse().expect("want a port from 0 to 65535");
    let mut peer = Peer::new(PeerConfig::new().ha((host, port)).reopen(true))?;
    println!("{}", peer.ha());
    std::io::stdout().flush()?;

    let mut poll = mio::Poll::new()?;
    let mut events = mio::Events::with_capacity(1);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&peer.as_fd());
    poll.registry().register(&mut mio::unix::SourceFd(&fd), mio::Token(0), mio::Interest::READABLE)?;

    // `receive` borrows the peer, so a datagram is copied out before it can be sent through the same one.
    let mut copy = Vec::with_capacity(hio_udp::BUF_SIZE);
    loop {
        poll.poll(&mut events, Some(Duration::from_secs(60)))?;
        while let (data, Some(src)) = peer.receive()? {
            copy.clear();
            copy.extend_from_slice(data);
            if copy == b"quit" {
                return Ok(());
            }
            while peer.send(&copy, src)? != copy.len() {
                std::thread::yield_now();
            }
        }
    }
}
