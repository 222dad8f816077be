//! Stands in for `uring.rs` without the feature `io-uring`, and for processors of which the io-uring crate
//! knows nothing: there is never one.

use std::io;
use std::net::UdpSocket;

use super::Filled;
use super::memory::Memory;

#[cfg(force_uring)]
compile_error!("--cfg force_uring needs the feature io-uring, and a processor that the io-uring crate knows");

pub(super) enum Uring {}

impl Uring {
    pub(super) fn new(_slots: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn recv(&mut self, _: &UdpSocket, _: &mut Memory, _: usize, _: usize) -> Filled {
        match *self {}
    }

    pub(super) fn is_broken(&self) -> bool {
        match *self {}
    }
}
