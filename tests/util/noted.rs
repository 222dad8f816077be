//! A peer that is no socket: for the order in which it is called.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use hio_udp::{PeerConfig, Stats, Transport};

thread_local! {
    static CALLS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

pub fn note(call: &'static str) {
    CALLS.with_borrow_mut(|calls| calls.push(call));
}

/// What was called since the last time this was asked.
pub fn calls() -> Vec<&'static str> {
    CALLS.take()
}

/// A peer that only notes what is called; it opens if `OPENS`.
#[derive(Debug)]
pub struct Noted<const OPENS: bool>;

impl<const OPENS: bool> Transport for Noted<OPENS> {
    fn new(_: PeerConfig) -> io::Result<Self> {
        note("new");
        Ok(Self)
    }
    fn open(&mut self) -> io::Result<()> {
        note("open");
        if OPENS { Ok(()) } else { Err(io::Error::other("does not open")) }
    }
    fn reopen(&mut self) -> io::Result<()> {
        note("reopen");
        self.close();
        self.open()
    }
    fn close(&mut self) -> bool {
        note("close");
        true
    }
    fn opened(&self) -> bool {
        OPENS
    }
    fn name(&self) -> &str {
        "noted"
    }
    fn ha(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }
    fn bc(&self) -> Option<usize> {
        None
    }
    fn bs(&self) -> usize {
        0
    }
    fn actual_buf_sizes(&self) -> (usize, usize) {
        (0, 0)
    }
    fn receive(&mut self) -> io::Result<(&[u8], Option<SocketAddr>)> {
        Ok((b"", None))
    }
    fn send(&mut self, data: &[u8], _: SocketAddr) -> io::Result<usize> {
        Ok(data.len())
    }
    fn stats(&self) -> Stats {
        Stats::default()
    }
}
