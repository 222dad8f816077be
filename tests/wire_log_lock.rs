//! A wire log does nothing slow and calls nobody else's code while it holds its lock.
#![cfg(unix)] // elsewhere a directory with open files cannot be removed

use std::fs;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use hio_udp::{WireLog, WireLogConfig};

const PATIENCE: Duration = Duration::from_secs(10);

/// The log that the logger uses, as one does that sends its lines through a logged peer.
static LOG: OnceLock<WireLog> = OnceLock::new();

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if let Some(log) = LOG.get() {
            let _ = log.write_tx(line.as_bytes(), "127.0.0.1:514".parse().unwrap());
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_may_write_to_the_wire_log_that_warns() {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let config = WireLogConfig::new().filed(true).temp(true).reopen(true);
    let log = LOG.get_or_init(|| WireLog::new(config).unwrap());
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        for again in [WireLog::reopen, WireLog::close] {
            // Without its directory, the log has something to warn of.
            fs::remove_dir_all(log.dir_path().unwrap().ancestors().nth(2).unwrap()).unwrap();
            again(log).unwrap();
            done.send(()).unwrap();
        }
    });
    for call in ["reopen", "close"] {
        is_done.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{call} waits for itself"));
    }
}
