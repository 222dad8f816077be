//! A thread's way to the sinks: it lays datagrams end to end in a chunk, and hands full chunks over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hio_udp::Gram;

use super::chunk::{CHUNK_BYTES, Encoder};
use super::losses::Losses;
use super::{Sinks, feed};

/// What is in a chunk is handed over after this long even if the chunk is not full.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// One thread's chunk in the making.
pub struct Writer {
    sinks: Arc<Sinks>,
    encoder: Encoder,
    last_hand_over: Instant,
}

impl Writer {
    /// `local` is the address the datagrams came to, where they do not say so themselves.
    pub fn new(sinks: Arc<Sinks>, local: SocketAddr, losses: Arc<Losses>) -> Self {
        let encoder = Encoder::new(sinks.take_room(), local, losses);
        Self { sinks, encoder, last_hand_over: Instant::now() }
    }

    /// To be called before the grams of each batch.
    pub fn begin_batch(&mut self) {
        self.encoder.begin_batch();
    }

    /// Adds one gram of a listener's socket. May wait for a sink; the socket's buffer takes what arrives
    /// meanwhile.
    pub fn add(&mut self, gram: &Gram<'_>, socket: usize) {
        self.encoder.add(gram, socket);
        if self.encoder.len() >= CHUNK_BYTES {
            self.hand_over();
        }
    }

    /// To be called behind each batch: what passes datagrams on gets them now, unless there is so much to
    /// do that larger chunks are better for all.
    pub fn end_batch(&mut self) {
        if self.encoder.len() > 0 && self.sinks.want_at_once() {
            self.hand_over();
        }
    }

    /// To be called now and then: hands over what has waited long enough, if a sink is waiting for it and none
    /// would keep it waiting. While all have work, the chunk fills: queues then hold more.
    pub fn tick(&mut self) {
        if self.has_something() && self.last_hand_over.elapsed() >= FLUSH_EVERY && self.sinks.want_a_part() {
            self.hand_over();
        }
    }

    /// Adds drops to what the next chunk tells.
    pub fn tell_drops(&mut self, new: u64) {
        self.encoder.tell_drops(new);
    }

    /// Hands over what is left.
    pub fn finish(&mut self) {
        if self.has_something() {
            self.hand_over();
        }
    }

    fn has_something(&self) -> bool {
        self.encoder.len() > 0 || self.encoder.has_drops()
    }

    fn hand_over(&mut self) {
        let chunk = Arc::new(self.encoder.take());
        self.sinks.offer(&chunk);
        feed::recycle(chunk, &self.sinks.free);
        self.encoder.go_on_in(self.sinks.take_room());
        self.last_hand_over = Instant::now();
    }
}
