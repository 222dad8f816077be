//! An echo service of two doers under one `Doist`: a client that asks, and a peer that echoes.
//!
//! `cargo run --release --example doer_echo -- 10000` makes so many exchanges, one after the other, as
//! fast as possible, and prints their rate.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use hio_udp::{BatchPeer, Doist, Peer, PeerConfig, PeerDoer, Transport};

/// After how long an answer counts as lost and the question is asked again.
const PATIENCE: Duration = Duration::from_millis(200);

fn main() -> io::Result<()> {
    let wanted: u64 =
        std::env::args().nth(1).map_or(10_000, |count| count.parse().expect("want a number of exchanges"));
    // Opened here to have a port each; the doers' enter opens them again where they are.
    let config = PeerConfig::new().ha(("127.0.0.1", 0)).exclusive(true).reopen(true);
    // What is longer would come back cut.
    let echo_peer = BatchPeer::new(config.clone().name("echo").gram_size(9_000))?;
    let client_peer = Peer::new(config.name("client"))?;
    let service = echo_peer.ha();

    let answered = Cell::new(0);
    let echo = PeerDoer::new(echo_peer, |peer, _cue| {
        let (mut rx, mut tx) = peer.split();
        // What is not sent is asked again.
        let _ = tx.send_batch(rx.fill()?.map(|gram| (gram.data, gram.src)));
        Ok(answered.get() == wanted)
    });

    let mut asked: Option<(u64, Instant)> = None;
    let client = PeerDoer::new(client_peer, |peer, _cue| {
        while let (data, Some(src)) = peer.receive()? {
            // An answer that comes twice, after a question asked again, is passed over.
            if src == service && data == answered.get().to_be_bytes() {
                answered.set(answered.get() + 1);
            }
        }
        let next = answered.get();
        if next < wanted && asked.is_none_or(|(question, at)| question != next || at.elapsed() > PATIENCE) {
            peer.send(&next.to_be_bytes(), service)?;
            asked = Some((next, Instant::now()));
        }
        Ok(next == wanted)
    });

    let start = Instant::now();
    let mut doist = Doist::new();
    doist.add(client.strict(true));
    doist.add(echo.strict(true));
    doist.run()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{wanted} exchanges in {seconds:.3} s: {:.0} a second", wanted as f64 / seconds);
    Ok(())
}
