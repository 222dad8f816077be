//! Echoes every datagram to its sender through `BatchPeer`: no payload is copied, nothing is allocated.
//!
//! `cargo run --release --example echo -- 127.0.0.1:0` prints the address and echoes until it is
//! interrupted; with a second argument, until so many datagrams have been echoed.

use std::time::Duration;

use hio_udp::{BatchPeer, BatchReceiver, BatchSender, PeerConfig, Stopped, Transport};

/// How long to wait for a datagram, or for room to send one, before looking again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Echoes one batch; gives the number of grams sent back.
fn echo_one_batch(rx: &mut BatchReceiver<'_>, tx: &mut BatchSender<'_>) -> std::io::Result<usize> {
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
    let enough: usize = args.next().map_or(usize::MAX, |count| count.parse().expect("want a number of datagrams"));
    let (host, port) = bind.rsplit_once(':').expect("want ADDR:PORT");
    let port = port.parse().expect("want a port from 0 to 65535");
    let mut peer = BatchPeer::new(PeerConfig::new().ha((host, port)).gram_size(65_507).reopen(true))?;
    println!("{}", peer.ha());

    let (mut rx, mut tx) = peer.split();
    let mut echoed = 0;
    while echoed < enough {
        echoed += echo_one_batch(&mut rx, &mut tx)?;
    }
    Ok(())
}
