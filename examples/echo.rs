//! Echoes every datagram to its sender through `BatchPeer`: no payload is copied, nothing is allocated.
//!
//! `cargo run --release --example echo -- 127.0.0.1:0` prints the address and echoes until it is
//! interrupted; with a second argument, until so many datagrams have been echoed.

use std::net::SocketAddr;
use std::time::Duration;

use hio_udp::{BatchPeer, BatchReceiver, BatchSender, PeerConfig, Stopped, Transport};

/// How long to wait for a datagram, or for room to send one, before looking again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Echoes one batch; gives the number of grams sent back.
pub fn echo_one_batch(rx: &mut BatchReceiver<'_>, tx: &mut BatchSender<'_>) -> std::io::Result<usize> {
    let grams = rx.fill_wait(PATIENCE)?;
    let count = grams.len();
    let (mut settled, mut sent) = (0, 0);
    while settled < count {
        // Cloning the iterator copies no gram: it only remembers where it stands.
        let report = tx.send_batch(grams.clone().skip(settled).map(|gram| (gram.data, gram.src)));
        settled += report.settled();
        sent += report.sent;
        if let Some((index, error)) = report.first_error {
            eprintln!("gram {index} of a batch could not be sent back: {error}");
        }
        match report.stopped {
            Stopped::WouldBlock => _ = tx.wait_writable(PATIENCE)?,
            Stopped::NoBuffers => std::thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
    }
    Ok(sent)
}

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let bind = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let bind: SocketAddr = bind.parse().map_err(|_| std::io::Error::other(format!("'{bind}': want ADDR:PORT")))?;
    let enough = args.next().map_or(Ok(usize::MAX), |count| count.parse().map_err(std::io::Error::other))?;
    let mut peer = BatchPeer::new(PeerConfig::new().ha(bind).gram_size(65_507).reopen(true))?;
    println!("{}", peer.ha());

    let (mut rx, mut tx) = peer.split();
    let mut echoed = 0;
    while echoed < enough {
        echoed += echo_one_batch(&mut rx, &mut tx)?;
    }
    Ok(())
}
