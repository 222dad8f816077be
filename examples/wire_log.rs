//! Captures what two peers say to each other as a file for Wireshark.
//!
//! `cargo run --example wire_log -- DIRECTORY`, then `wireshark DIRECTORY/hio/wirelogs/talk.*.pcapng`.

use std::io::ErrorKind;
use std::time::Duration;

use hio_udp::{BatchPeer, Peer, PeerConfig, Transport, WireFormat, WireLogConfig, open_wire_log};

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let config = WireLogConfig::new().name("talk").filed(true).samed(true).temp(false).head_dir_path(directory);
    let log = open_wire_log(config.fmt(WireFormat::pcapng()))?;
    for host in ["127.0.0.1", "::1"] {
        let config = PeerConfig::new().ha((host, 0)).exclusive(true).gram_size(1000).wl(log.clone()).reopen(true);
        let (mut asking, mut answering) = match (Peer::new(config.clone()), BatchPeer::new(config)) {
            (Ok(asking), Ok(answering)) => (asking, answering),
            // A machine without IPv6 has half the conversation.
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("not on {host}: {error}");
                continue;
            }
        };
        for len in [0, 1, 1000, 5000] {
            asking.send(&vec![b'?'; len], answering.ha())?;
        }
        let mut questions = 0;
        while questions < 4 {
            let (mut rx, mut tx) = answering.split();
            let grams = rx.fill_wait(Duration::from_secs(1))?;
            if grams.is_empty() {
                return Err(ErrorKind::TimedOut.into());
            }
            questions += grams.len();
            let _ = tx.send_batch(grams.map(|gram| (gram.data, gram.src)));
        }
        let mut answers = 0;
        while answers < questions {
            if !asking.wait_readable(Duration::from_secs(1))? {
                return Err(ErrorKind::TimedOut.into());
            }
            while asking.receive()?.1.is_some() {
                answers += 1;
            }
        }
    }
    log.flush()?;
    println!("{}", log.rx_path().unwrap_or_default().display());
    Ok(())
}
