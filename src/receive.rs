//! How an endpoint receives: the policy over `sys`' raw results, once for both peers.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::buffers;
use crate::endpoint::Endpoint;
use crate::gram::{Gram, MAX_DATAGRAM_SIZE};
use crate::grams::Grams;
use crate::pace::{Next, Pace};
use crate::pcapng::Flow;
use crate::policy::{self, INTERRUPTIONS_MAX, OnReceive};
use crate::ring::RecvRing;
use crate::sys::RecvSlots;
use crate::sys::socket::{self as sys_socket, Interest};
use crate::wire::{Entry, WireLog};

impl Endpoint {
    /// Fills `ring` with one batch, unless it still holds grams; gives the number of grams in it.
    ///
    /// Never blocks; 0 means that nothing was there. An error that ended a batch behind good
    /// datagrams is given by the next call.
    pub(crate) fn fill(&self, ring: &mut RecvRing) -> io::Result<usize> {
        if !ring.is_empty() {
            return Ok(ring.len());
        }
        let socket = self.socket()?;
        if let Some(error) = self.deferred.take() {
            ring.clear(); // as if the kernel had given the error now
            return Err(error);
        }
        if self.coalesced && ring.gram_size() < MAX_DATAGRAM_SIZE {
            return Err(self.too_small_to_coalesce(ring));
        }
        ring.slots.set_coalesced(self.coalesced);
        for _ in 0..INTERRUPTIONS_MAX {
            let mut received = RecvSlots::recv(&mut ring.slots, socket);
            let grams = ring.on_received(&received, self.coalesced);
            self.counters.on_received(&received, grams);
            let Some(error) = received.ended_by.take() else {
                if grams == 0 && received.slots > 0 {
                    continue; // none of them can be delivered, but good ones may stand behind them
                }
                return Ok(grams);
            };
            match policy::on_receive_error(error, &self.counters, &self.name, self.ha) {
                OnReceive::Again if received.slots == 0 => {}
                OnReceive::Again | OnReceive::Nothing => return Ok(grams),
                OnReceive::Failed(error) if received.slots == 0 => return Err(error),
                OnReceive::Failed(error) => {
                    self.deferred.replace(Some(error));
                    return Ok(grams);
                }
            }
        }
        Ok(0)
    }

    /// Hands out all that `ring` holds, and logs it.
    #[inline]
    pub(crate) fn hand_out<'r>(&self, ring: &'r mut RecvRing) -> Grams<'r> {
        let grams = ring.take();
        self.log_received(grams.clone());
        grams
    }

    /// Writes grams that are handed out now to the wire log, if there is one.
    #[inline]
    pub(crate) fn log_received<'g>(&self, grams: impl Iterator<Item = Gram<'g>>) {
        if let Some(wl) = &self.wl {
            self.log_received_in(wl, grams);
        }
    }

    #[cold]
    fn log_received_in<'g>(&self, wl: &WireLog, grams: impl Iterator<Item = Gram<'g>>) {
        let entries = grams.map(|gram| {
            let meta = gram.meta();
            let local = SocketAddr::new(meta.dst.unwrap_or(self.ha.ip()), self.ha.port());
            let Gram { data, src, original_len, .. } = gram;
            let time = meta.rx_time.map(|since| SystemTime::UNIX_EPOCH + since);
            Entry { flow: Flow::Inbound, data, original_len, who: src, local, time }
        });
        self.write_wire_log(wl, entries);
    }

    #[cold]
    fn too_small_to_coalesce(&self, ring: &RecvRing) -> io::Error {
        let message = format!(
            "peer '{}' coalesces: its rings need slots of {MAX_DATAGRAM_SIZE} bytes, this one has {}",
            self.name,
            ring.gram_size()
        );
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }

    /// Fills `ring` as [`fill`](Self::fill) does, waiting at most `timeout` for something to come.
    ///
    /// How it waits is decided by `pace`: see `pace.rs`.
    pub(crate) fn fill_wait(&self, ring: &mut RecvRing, pace: &mut Pace, timeout: Duration) -> io::Result<usize> {
        if !ring.is_empty() {
            return Ok(ring.len());
        }
        if self.deferred.borrow().is_some() {
            pace.hurry(); // the error is here already; the socket may never wake us for it
        }
        let start = Instant::now();
        let left = || timeout.saturating_sub(start.elapsed());
        let mut time_is_up = false;
        loop {
            match pace.next() {
                Next::Ask => {}
                Next::Gather(pause) => self.pause(pause.min(timeout)),
                Next::Poll => {
                    self.wait(Interest::Readable, left())?;
                    // Whatever the wait said: a socket may be readable for ever and have nothing.
                    time_is_up = left().is_zero();
                }
            }
            let grams = self.fill(ring)?;
            if grams == 0 {
                pace.on_nothing(Instant::now());
            } else {
                pace.on_batch(grams, ring.is_full(), self.held_of(ring), Instant::now());
            }
            if grams > 0 || time_is_up {
                return Ok(grams);
            }
        }
    }

    /// How many datagrams the socket's buffer holds, of the size that `ring`'s last batch has.
    fn held_of(&self, ring: &RecvRing) -> usize {
        let len = ring.filled_bytes() / ring.len().max(1);
        buffers::datagrams_held(self.recv_buffer_bytes(), len)
    }

    fn pause(&self, time: Duration) {
        self.counters.on_wait_call();
        std::thread::sleep(time);
    }

    /// Waits for `interest`, at most `timeout`; `false` if it did not come, or a signal did.
    pub(crate) fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<bool> {
        self.counters.on_wait_call();
        match sys_socket::wait(self.socket()?, interest, timeout) {
            Err(error) if policy::was_interrupted(&error) => Ok(false),
            result => result,
        }
    }

    /// Receives one datagram into `buffer`, which must hold the longest there is; gives its length
    /// and source, or `None` when nothing was there. It counts as truncated if longer than `bs`.
    pub(crate) fn receive_one(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        let socket = self.socket()?;
        for _ in 0..INTERRUPTIONS_MAX {
            match sys_socket::recv_one(socket, buffer) {
                Ok((len, src)) => {
                    self.counters.on_received_one(len.min(self.bs), len > self.bs);
                    return Ok(Some((len, src)));
                }
                Err(error) => {
                    self.counters.on_received_none();
                    match policy::on_receive_error(error, &self.counters, &self.name, self.ha) {
                        OnReceive::Again => {}
                        OnReceive::Nothing => return Ok(None),
                        OnReceive::Failed(error) => return Err(error),
                    }
                }
            }
        }
        Ok(None)
    }
}
