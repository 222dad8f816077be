//! A `BatchPeer` and its rings under random operations over a real loopback socket, against queues
//! of plain `Vec`s: same grams, same order, same cuts, same reports, same counters.
#![no_main]

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use arbitrary::Arbitrary;
use hio_udp::{BatchPeer, Full, Gram, MAX_DATAGRAM_SIZE, PeerConfig, RecvRing, SendReport, Stopped, Transport};
use libfuzzer_sys::fuzz_target;

/// Operations in one run.
const OPS_MAX: usize = 48;
/// Datagrams waiting in the socket: far below what its buffer holds, so that none is ever dropped.
const WAITING_MAX: usize = 96;

#[derive(Arbitrary, Debug)]
struct Input {
    bc: u8,
    gram_size: u8,
    spare_bc: u8,
    spare_gram_size: u8,
    coalesce: bool,
    ops: Vec<Op>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    Send(Item),
    SendBatch([Item; 5], u8),
    Queue(Item),
    Flush,
    /// Sends from another socket, as one datagram or as many of one size with UDP_SEGMENT.
    SendFromElsewhere(Len, u8),
    Receive,
    /// Fills, and looks at some of the grams only.
    Fill(u8),
    FillWait,
    FillInto,
    Exchange,
    /// Sends what was received back to where it came from, without a copy.
    Echo,
    Reopen,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Item {
    len: Len,
    /// One in 8 goes to port 0, which the kernel refuses.
    fate: u8,
}

impl Item {
    fn is_bad(self) -> bool {
        self.fate % 8 == 7
    }
}

/// A length, mostly around the size of a slot.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Len(u8);

impl Len {
    fn around(self, slot: usize) -> usize {
        if self.0 < 128 { (slot + usize::from(self.0 % 7)).saturating_sub(3) } else { usize::from(self.0) - 128 }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Datagram {
    bytes: Vec<u8>,
    src: SocketAddr,
}

impl Datagram {
    fn assert_is(&self, gram: &Gram<'_>, slot: usize) {
        let stored = self.bytes.len().min(slot);
        assert_eq!(gram.data, &self.bytes[..stored]);
        assert_eq!(gram.src, self.src);
        assert_eq!(gram.truncated, self.bytes.len() > slot);
        assert_eq!(gram.original_len, self.bytes.len());
    }
}

/// The counters the model can foretell.
#[derive(Debug, Default, Eq, PartialEq)]
struct Counts {
    grams_received: u64,
    bytes_received: u64,
    grams_truncated: u64,
    grams_recv_discarded: u64,
    grams_sent: u64,
    bytes_sent: u64,
    grams_send_failed: u64,
    grams_send_discarded: u64,
    /// Undecodable, control data cut, dropped by the kernel, no room to send: always 0.
    never: u64,
}

impl Counts {
    fn of(peer: &BatchPeer) -> Self {
        let stats = peer.stats();
        Self {
            grams_received: stats.grams_received,
            bytes_received: stats.bytes_received,
            grams_truncated: stats.grams_truncated,
            grams_recv_discarded: stats.grams_recv_discarded,
            grams_sent: stats.grams_sent,
            bytes_sent: stats.bytes_sent,
            grams_send_failed: stats.grams_send_failed,
            grams_send_discarded: stats.grams_send_discarded,
            never: stats.grams_undecodable
                + stats.grams_control_truncated
                + stats.kernel_dropped
                + stats.send_would_block
                + stats.send_no_buffers,
        }
    }
}

/// What the naive version of the peer holds.
struct Model {
    me: SocketAddr,
    elsewhere: SocketAddr,
    /// What waits in the socket, as the receive calls will see it: a slot each.
    socket: VecDeque<Vec<Datagram>>,
    ring: VecDeque<Datagram>,
    /// The batch that the last fill gave, as long as nothing else was received.
    given: VecDeque<Datagram>,
    outbox: VecDeque<(Vec<u8>, Item)>,
    unreported: bool,
    counts: Counts,
}

impl Model {
    fn has_room(&self) -> bool {
        self.socket.iter().map(Vec::len).sum::<usize>() < WAITING_MAX
    }

    /// Takes one batch out of the socket.
    fn take_batch(&mut self, bc: usize, slot: usize) -> Vec<Datagram> {
        let slots = bc.min(self.socket.len());
        let batch: Vec<Datagram> = self.socket.drain(..slots).flatten().collect();
        self.counts.grams_received += batch.len() as u64;
        self.counts.bytes_received += batch.iter().map(|d| d.bytes.len().min(slot) as u64).sum::<u64>();
        self.counts.grams_truncated += batch.iter().filter(|d| d.bytes.len() > slot).count() as u64;
        batch
    }

    fn refill(&mut self, bc: usize, slot: usize) {
        self.given.clear();
        if self.ring.is_empty() {
            self.ring = self.take_batch(bc, slot).into();
        }
    }

    /// Sends one datagram; `false` if the kernel refuses it.
    fn send(&mut self, bytes: Vec<u8>, dst: SocketAddr) -> bool {
        if dst.port() == 0 {
            self.counts.grams_send_failed += 1;
            return false;
        }
        self.counts.grams_sent += 1;
        self.counts.bytes_sent += bytes.len() as u64;
        if dst == self.me {
            self.socket.push_back(vec![Datagram { bytes, src: self.me }]);
        }
        true
    }

    fn dst(&self, item: Item) -> SocketAddr {
        if item.is_bad() { SocketAddr::new(self.me.ip(), 0) } else { self.me }
    }

    /// Sends a batch up to the first refusal: (sent, pending, whether one was refused).
    fn send_batch(&mut self, grams: Vec<(Vec<u8>, SocketAddr)>) -> (usize, usize, bool) {
        let count = grams.len();
        for (sent, (bytes, dst)) in grams.into_iter().enumerate() {
            if !self.send(bytes, dst) {
                return (sent, count - sent - 1, true);
            }
        }
        (count, 0, false)
    }

    fn send_queued_first(&mut self) {
        while let Some((bytes, item)) = self.outbox.pop_front() {
            let dst = self.dst(item);
            self.unreported |= !self.send(bytes, dst);
        }
    }

    fn flush(&mut self) -> (usize, usize, bool) {
        let mut sent = 0;
        if std::mem::take(&mut self.unreported) {
            return (0, self.outbox.len(), true);
        }
        while let Some((bytes, item)) = self.outbox.pop_front() {
            let dst = self.dst(item);
            if !self.send(bytes, dst) {
                return (sent, self.outbox.len(), true);
            }
            sent += 1;
        }
        (sent, 0, false)
    }
}

fn assert_report(report: &SendReport, expected: (usize, usize, bool)) {
    let (sent, pending, refused) = expected;
    assert_eq!((report.sent, report.pending, report.first_error.is_some()), (sent, pending, refused), "{report:?}");
    assert_eq!(report.stopped, if refused { Stopped::Failed } else { Stopped::Done });
}

fn assert_same_grams<'a>(grams: impl ExactSizeIterator<Item = Gram<'a>>, expected: &VecDeque<Datagram>, slot: usize) {
    assert_eq!(grams.len(), expected.len());
    for (gram, datagram) in grams.zip(expected) {
        datagram.assert_is(&gram, slot);
    }
}

/// `len` bytes that no other datagram of the run starts with.
fn payload(seed: &mut u8, len: usize) -> Vec<u8> {
    *seed = seed.wrapping_add(1);
    (0..len).map(|i| seed.wrapping_mul(37).wrapping_add(i as u8)).collect()
}

/// Makes every send of `socket` a run of datagrams of `len` bytes; 0 switches that off.
#[cfg(target_os = "linux")]
fn set_segment_len(socket: &UdpSocket, len: usize) -> bool {
    use std::os::fd::AsRawFd;
    let len = len as libc::c_int;
    // SAFETY: the value is one c_int on this stack frame, with its true size beside it.
    0 == unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const len).cast(), 4) }
}

#[cfg(not(target_os = "linux"))]
fn set_segment_len(_socket: &UdpSocket, len: usize) -> bool {
    len == 0
}

/// Sends `bytes` in datagrams of `segment_len` and tells the model how they will arrive.
fn send_from_elsewhere(model: &mut Model, socket: &UdpSocket, bytes: Vec<u8>, segment_len: usize, coalesces: bool) {
    let is_run = segment_len > 0 && bytes.len() > segment_len && set_segment_len(socket, segment_len);
    socket.send_to(&bytes, model.me).unwrap();
    set_segment_len(socket, 0);
    let src = model.elsewhere;
    if !is_run {
        return model.socket.push_back(vec![Datagram { bytes, src }]);
    }
    let pieces = bytes.chunks(segment_len).map(|piece| Datagram { bytes: piece.to_vec(), src });
    if coalesces {
        model.socket.push_back(pieces.collect());
    } else {
        model.socket.extend(pieces.map(|piece| vec![piece]));
    }
}

thread_local! {
    static ELSEWHERE: UdpSocket = UdpSocket::bind("127.0.0.1:0").unwrap();
}

fn run(input: &Input, elsewhere: &UdpSocket) -> io::Result<()> {
    // Coalescing slots are 65,535 bytes long: two are enough, and quickly made.
    let bc_max = if input.coalesce { 2 } else { 9 };
    let bc = 1 + usize::from(input.bc) % bc_max;
    let gram_size = 1 + usize::from(input.gram_size) % 100;
    let config = PeerConfig::new().port(0).exclusive(true).bc(bc).gram_size(gram_size).coalesce(input.coalesce);
    // What leaves as one message would arrive in one coalesced slot, and the model knows only runs it sends itself.
    let mut peer = BatchPeer::new(config.segment(!input.coalesce).reopen(true))?;
    let coalesces = peer.coalesces();
    let (spare_bc, spare_slot) = match peer.gram_size() {
        MAX_DATAGRAM_SIZE => (1 + usize::from(input.spare_bc) % bc_max, MAX_DATAGRAM_SIZE),
        _ => (1 + usize::from(input.spare_bc) % bc_max, 1 + usize::from(input.spare_gram_size) % 100),
    };
    let mut spare = RecvRing::new(spare_bc, spare_slot)?;
    // The shape of the ring that is in the peer now.
    let (mut ring_bc, mut slot) = (bc, peer.gram_size());
    let mut model = Model {
        me: peer.ha(),
        elsewhere: elsewhere.local_addr()?,
        socket: VecDeque::new(),
        ring: VecDeque::new(),
        given: VecDeque::new(),
        outbox: VecDeque::new(),
        unreported: false,
        counts: Counts::default(),
    };
    let mut seed = 0;

    for op in input.ops.iter().take(OPS_MAX) {
        let sends = matches!(op, Op::Send(_) | Op::SendBatch(..) | Op::SendFromElsewhere(..) | Op::Flush | Op::Echo);
        if sends && !model.has_room() {
            continue;
        }
        match *op {
            Op::Send(item) => {
                let data = payload(&mut seed, item.len.around(slot.min(100)));
                let dst = model.dst(item);
                let result = peer.send(&data, dst);
                model.send_queued_first();
                assert_eq!(result.ok(), model.send(data.clone(), dst).then_some(data.len()));
            }
            Op::SendBatch(items, count) => {
                let items = &items[..usize::from(count) % (items.len() + 1)];
                let grams: Vec<(Vec<u8>, SocketAddr)> =
                    items.iter().map(|i| (payload(&mut seed, i.len.around(slot.min(100))), model.dst(*i))).collect();
                let report = peer.send_batch(grams.iter().map(|(data, dst)| (data.as_slice(), *dst)));
                model.send_queued_first();
                assert_report(&report, model.send_batch(grams));
            }
            Op::Queue(item) => {
                let data = payload(&mut seed, item.len.around(gram_size));
                let expected = if data.len() > gram_size {
                    Err(Full::Slot { len: data.len(), gram_size })
                } else if model.outbox.len() == bc {
                    Err(Full::Ring)
                } else {
                    Ok(())
                };
                assert_eq!(peer.queue(&data, model.dst(item)), expected);
                if expected.is_ok() {
                    model.outbox.push_back((data, item));
                }
            }
            Op::Flush => {
                let report = peer.flush();
                assert_report(&report, model.flush());
            }
            Op::SendFromElsewhere(len, runs) => {
                let segment_len = len.around(slot.min(100));
                let bytes = payload(&mut seed, segment_len * usize::from(runs % 12) + usize::from(runs / 12));
                let is_whole = runs / 12 == 0 || bytes.len().div_ceil(segment_len.max(1)) <= 32;
                let segment_len = if is_whole { segment_len } else { 0 };
                send_from_elsewhere(&mut model, elsewhere, bytes, segment_len, coalesces);
            }
            Op::Receive => {
                model.refill(ring_bc, slot);
                let expected = model.ring.pop_front();
                let (data, src) = peer.receive()?;
                assert_eq!(src, expected.as_ref().map(|d| d.src));
                let bytes = expected.map(|d| d.bytes).unwrap_or_default();
                assert_eq!(data, &bytes[..bytes.len().min(slot)]);
            }
            Op::Fill(looks) => {
                model.refill(ring_bc, slot);
                let mut grams = peer.fill()?;
                assert_same_grams(grams.clone(), &model.ring, slot);
                let taken = grams.by_ref().take(usize::from(looks)).count();
                assert_eq!(grams.len(), model.ring.len() - taken);
                assert_eq!(grams.is_empty(), grams.clone().next().is_none());
                model.given = std::mem::take(&mut model.ring);
            }
            Op::FillWait => {
                model.refill(ring_bc, slot);
                assert_same_grams(peer.fill_wait(Duration::ZERO)?, &model.ring, slot);
                model.given = std::mem::take(&mut model.ring);
            }
            Op::FillInto => {
                let count = peer.fill_into(&mut spare)?;
                let expected = model.take_batch(spare.bc(), spare.gram_size()).into();
                assert_eq!((count, spare.len(), spare.is_empty()), (spare.grams().len(), count, count == 0));
                assert_same_grams(spare.grams(), &expected, spare.gram_size());
            }
            Op::Exchange => {
                let (new_bc, new_slot) = (spare.bc(), spare.gram_size());
                spare = peer.exchange(spare);
                assert_eq!((spare.bc(), spare.gram_size()), (ring_bc, slot));
                let given = std::mem::take(&mut model.given);
                let unread = std::mem::take(&mut model.ring);
                assert_same_grams(spare.grams(), &given.into_iter().chain(unread).collect(), slot);
                (ring_bc, slot) = (new_bc, new_slot);
            }
            Op::Echo => {
                model.refill(ring_bc, slot);
                let (mut receiver, mut sender) = peer.split();
                let report = sender.send_batch(receiver.fill()?.map(|gram| (gram.data, gram.src)));
                model.given = std::mem::take(&mut model.ring);
                let ring = model.given.iter().cloned();
                let grams = ring.map(|d| (d.bytes[..d.bytes.len().min(slot)].to_vec(), d.src)).collect();
                model.send_queued_first();
                assert_report(&report, model.send_batch(grams));
            }
            Op::Reopen => {
                peer.reopen()?;
                assert_eq!(peer.ha(), model.me);
                model.counts.grams_recv_discarded += model.ring.len() as u64;
                model.counts.grams_send_discarded += model.outbox.len() as u64;
                model.unreported = false;
                model.socket.clear();
                model.ring.clear();
                model.given.clear();
                model.outbox.clear();
            }
        }
        assert_eq!(peer.queued(), model.outbox.len());
        assert_eq!(peer.gram_size(), slot);
    }
    assert_eq!(Counts::of(&peer), model.counts);
    Ok(())
}

fuzz_target!(|input: Input| {
    ELSEWHERE.with(|elsewhere| match run(&input, elsewhere) {
        // Between closing and opening again another process may have taken the port.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        result => result.unwrap(),
    });
});
