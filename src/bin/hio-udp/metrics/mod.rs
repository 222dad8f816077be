//! `--metrics`: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops programs.
//!
//! One thread answers, from before the first datagram until the process ends: `http.rs` is the protocol,
//! `text.rs` says which metrics there are, `format.rs` how they are written, `health.rs` what `/readyz` says.

mod format;
mod health;
mod http;
mod text;

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Instant, SystemTime};

pub use health::{Health, Phase};

use crate::account::say;
use crate::args::HostPort;
use crate::failure::Failure;
use crate::ingest::Watch;
use http::Answer;

/// What the thread that answers, and the ingest, both see.
pub struct Board {
    pub health: Health,
    started: SystemTime,
    watch: OnceLock<Arc<Watch>>,
}

impl Board {
    /// Starts the thread that answers, for as long as the process runs.
    pub fn serve(listener: TcpListener) -> io::Result<Arc<Self>> {
        let local = listener.local_addr()?;
        let board = Self { health: Health::default(), started: SystemTime::now(), watch: OnceLock::new() };
        let (board, thread) = (Arc::new(board), thread::Builder::new().name("metrics".to_owned()));
        let answering = Arc::clone(&board);
        let stuck = move |error: &io::Error| {
            say(&format!("hio-udp: cannot take a connection to the metrics on {local}: {error}; trying again"));
        };
        thread.spawn(move || http::serve(&listener, |path| answering.answer(path), stuck))?;
        say(&format!("metrics on http://{local}/metrics"));
        Ok(board)
    }

    /// From now on there is something to see.
    pub fn show(&self, watch: Arc<Watch>) {
        let _ = self.watch.set(watch); // an ingest starts once
        self.health.enter(Phase::Receiving);
    }

    fn answer(&self, path: &str) -> Answer {
        match path {
            "/metrics" => {
                let why_not_ready = self.health.why_not_ready(Instant::now());
                let body = text::metrics(self.watch.get().map(Arc::as_ref), self.started, why_not_ready.is_none());
                Answer { status: http::OK, content_type: "text/plain; version=0.0.4; charset=utf-8", body }
            }
            "/healthz" => Answer::text(http::OK, "ok"),
            "/readyz" => match self.health.why_not_ready(Instant::now()) {
                None => Answer::text(http::OK, "ok"),
                Some(why) => Answer::text(http::UNAVAILABLE, &why),
            },
            _ => Answer::text(http::NOT_FOUND, "not found; there are /metrics, /healthz and /readyz"),
        }
    }
}

/// Opens the port, early: that it is taken shall be told before anything else has happened.
pub fn bind(address: &HostPort) -> Result<TcpListener, Failure> {
    let address = address.resolve("--metrics")?;
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("another process has port {}: stop it or choose another --metrics", address.port())
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another --metrics".to_owned(),
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher --metrics".to_owned(),
            _ => "choose another --metrics".to_owned(),
        };
        Failure::run(format!("cannot serve metrics on {address}: {error}; {hint}"))
    })
}
