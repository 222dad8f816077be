//! A naive model as oracle: queues of datagrams with hio's semantics, beside two real peers that
//! are driven through random operations. Every result is compared, and the counters at the end.
//!
//! A failure prints its seed; `HIO_UDP_MODEL_SEED=<seed>` runs that one alone.

mod support;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;

use hio_udp::{BatchPeer, Full, Peer, PeerConfig, RecvRing, SendReport, Stopped, Transport};
use support::{PATIENCE, Random, config, plain};

/// Linux', BSD's and Windows' errno of a send to port 0 differ; the model learns it once.
fn port_0_errno() -> i32 {
    let error = plain().send_to(b"x", "127.0.0.1:0").unwrap_err();
    error.raw_os_error().unwrap()
}

/// Where a gram goes: to one of the two peers, or to port 0, which is an error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Peer(usize),
    Port0,
}

/// A datagram as it must come out: bytes, index of the sender, whether it was cut, true length.
#[derive(Clone, Debug, PartialEq)]
struct Got {
    data: Vec<u8>,
    src: SocketAddr,
    truncated: bool,
    original_len: usize,
}

/// A report as plain numbers; a failure without errno has 0.
#[derive(Debug, PartialEq)]
struct Report {
    sent: usize,
    bytes: usize,
    pending: usize,
    failure: Option<(usize, i32)>,
    stopped: Stopped,
}

impl From<SendReport> for Report {
    fn from(report: SendReport) -> Self {
        let (sent, bytes, pending, failure, stopped) = support::parts(&report);
        Self { sent, bytes, pending, failure, stopped }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    sent: u64,
    bytes_sent: u64,
    failed: u64,
    grams_send_discarded: u64,
    received: u64,
    bytes_received: u64,
    truncated: u64,
    grams_recv_discarded: u64,
    kernel_dropped: u64,
}

impl Counts {
    fn of<T: Transport>(peer: &T) -> Self {
        let stats = peer.stats();
        Self {
            sent: stats.grams_sent,
            bytes_sent: stats.bytes_sent,
            failed: stats.grams_send_failed,
            grams_send_discarded: stats.grams_send_discarded,
            received: stats.grams_received,
            bytes_received: stats.bytes_received,
            truncated: stats.grams_truncated,
            grams_recv_discarded: stats.grams_recv_discarded,
            kernel_dropped: stats.kernel_dropped,
        }
    }
}

/// One peer as the model sees it.
struct Side {
    ha: SocketAddr,
    opened: bool,
    /// What stands in the kernel's socket buffer: bytes and sender.
    socket: VecDeque<(Vec<u8>, SocketAddr)>,
    /// What that may cost the kernel before it drops, with much to spare.
    budget: usize,
    /// Slots and slot size of the peer's own ring.
    shape: (usize, usize),
    ring: VecDeque<Got>,
    /// The batch that the last fill gave, as long as nothing else was received.
    given: VecDeque<Got>,
    /// Slots and slot size of the send ring.
    outbox_shape: (usize, usize),
    outbox: VecDeque<(Vec<u8>, To)>,
    /// A queued gram failed in passing and was not reported yet.
    unreported: bool,
    counts: Counts,
}

struct Model {
    sides: [Side; 2],
    errno: i32,
    /// Datagrams sent to a closed peer, or in a socket when it closed.
    lost: u64,
}

/// What a datagram costs its receiver's buffer, about.
fn cost(len: usize) -> usize {
    (len + 380).next_power_of_two().max(576) + 256
}

impl Model {
    /// Whether datagrams of these lengths fit either peer's buffer, beside those not yet handed out.
    fn has_room(&self, lens: impl Iterator<Item = usize>) -> bool {
        let more: usize = lens.map(cost).sum();
        self.sides.iter().all(|side| {
            let in_socket = side.socket.iter().map(|(data, _)| data.len());
            let in_ring = side.ring.iter().map(|got| got.original_len);
            in_socket.chain(in_ring).map(cost).sum::<usize>() + more <= side.budget
        })
    }

    /// The kernel takes one datagram, or refuses it.
    fn transmit(&mut self, from: usize, data: &[u8], to: To) -> Result<(), i32> {
        let src = self.sides[from].ha;
        let To::Peer(to) = to else {
            self.sides[from].counts.failed += 1;
            return Err(self.errno);
        };
        self.sides[from].counts.sent += 1;
        self.sides[from].counts.bytes_sent += data.len() as u64;
        if self.sides[to].opened {
            self.sides[to].socket.push_back((data.to_vec(), src));
        } else {
            self.lost += 1;
        }
        Ok(())
    }

    /// Sends in order until one fails; how many are done with is the report's business.
    fn transmit_all(&mut self, from: usize, grams: &[(Vec<u8>, To)]) -> Report {
        let mut report = Report { sent: 0, bytes: 0, pending: 0, failure: None, stopped: Stopped::Done };
        for (i, (data, to)) in grams.iter().enumerate() {
            match self.transmit(from, data, *to) {
                Ok(()) => {
                    report.sent += 1;
                    report.bytes += data.len();
                }
                Err(errno) => {
                    report.failure = Some((i, errno));
                    report.stopped = Stopped::Failed;
                    report.pending = grams.len() - i - 1;
                    break;
                }
            }
        }
        report
    }

    fn closed_report(grams: usize) -> Report {
        Report { sent: 0, bytes: 0, pending: grams, failure: Some((0, 0)), stopped: Stopped::Closed }
    }

    fn queue(&mut self, i: usize, data: &[u8], to: To) -> Result<(), Full> {
        let side = &mut self.sides[i];
        let (slots, gram_size) = side.outbox_shape;
        if data.len() > gram_size {
            return Err(Full::Slot { len: data.len(), gram_size });
        }
        if side.outbox.len() == slots {
            return Err(Full::Ring);
        }
        side.outbox.push_back((data.to_vec(), to));
        Ok(())
    }

    fn flush_once(&mut self, i: usize) -> Report {
        let grams: Vec<_> = self.sides[i].outbox.drain(..).collect();
        let report = self.transmit_all(i, &grams);
        let settled = report.sent + usize::from(report.failure.is_some());
        self.sides[i].outbox.extend(grams.into_iter().skip(settled));
        report
    }

    fn flush(&mut self, i: usize) -> Report {
        let waiting = self.sides[i].outbox.len();
        if std::mem::take(&mut self.sides[i].unreported) {
            let failure = Some((0, self.errno));
            return Report { sent: 0, bytes: 0, pending: waiting, failure, stopped: Stopped::Failed };
        }
        if self.sides[i].opened { self.flush_once(i) } else { Self::closed_report(waiting) }
    }

    fn send_queued_first(&mut self, i: usize) {
        while !self.sides[i].outbox.is_empty() {
            let failed = self.flush_once(i).failure.is_some();
            self.sides[i].unreported |= failed;
        }
    }

    fn send(&mut self, i: usize, data: &[u8], to: To) -> Result<usize, i32> {
        if !self.sides[i].opened {
            return Err(0);
        }
        self.send_queued_first(i);
        self.transmit(i, data, to).map(|()| data.len())
    }

    fn send_batch(&mut self, i: usize, grams: &[(Vec<u8>, To)]) -> Report {
        if !self.sides[i].opened {
            return Self::closed_report(grams.len());
        }
        self.send_queued_first(i);
        self.transmit_all(i, grams)
    }

    /// Takes up to `slots` datagrams out of the socket, cut at `size`.
    fn take(&mut self, i: usize, (slots, size): (usize, usize)) -> VecDeque<Got> {
        let side = &mut self.sides[i];
        let count = slots.min(side.socket.len());
        let cut = |(mut data, src): (Vec<u8>, SocketAddr)| {
            let original_len = data.len();
            data.truncate(size);
            Got { truncated: original_len > size, data, src, original_len }
        };
        let taken: VecDeque<Got> = side.socket.drain(..count).map(cut).collect();
        side.counts.received += taken.len() as u64;
        side.counts.bytes_received += taken.iter().map(|got| got.data.len() as u64).sum::<u64>();
        side.counts.truncated += taken.iter().filter(|got| got.truncated).count() as u64;
        taken
    }

    fn refill(&mut self, i: usize) {
        self.sides[i].given.clear();
        if self.sides[i].ring.is_empty() {
            self.sides[i].ring = self.take(i, self.sides[i].shape);
        }
    }

    fn receive(&mut self, i: usize) -> Result<Option<Got>, i32> {
        if !self.sides[i].opened {
            return Err(0);
        }
        self.refill(i);
        Ok(self.sides[i].ring.pop_front())
    }

    fn fill(&mut self, i: usize) -> Result<VecDeque<Got>, i32> {
        if !self.sides[i].opened {
            return Err(0);
        }
        self.refill(i);
        self.sides[i].given = std::mem::take(&mut self.sides[i].ring);
        Ok(self.sides[i].given.clone())
    }

    fn close(&mut self, i: usize) {
        let side = &mut self.sides[i];
        side.opened = false;
        side.unreported = false;
        side.given.clear();
        side.counts.grams_recv_discarded += side.ring.drain(..).count() as u64;
        side.counts.grams_send_discarded += side.outbox.drain(..).count() as u64;
        self.lost += side.socket.drain(..).count() as u64;
    }
}

/// Says which run failed, and what it did last.
struct Trail {
    seed: u64,
    steps: Vec<(&'static str, usize, usize)>,
}

impl Drop for Trail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = &self.steps[self.steps.len().saturating_sub(12)..];
            eprintln!("HIO_UDP_MODEL_SEED={} fails at step {}: … {last:?}", self.seed, self.steps.len());
        }
    }
}

/// Waits until all that was sent so far has arrived, over a pair of sockets that is made once.
struct Settle(std::net::UdpSocket, SocketAddr);

impl Settle {
    fn new() -> Self {
        let socket = plain();
        let ha = socket.local_addr().unwrap();
        Self(socket, ha)
    }

    fn settle(&self) {
        self.0.send_to(b"s", self.1).unwrap();
        self.0.recv_from(&mut [0; 1]).unwrap();
    }
}

fn errno(error: std::io::Error) -> i32 {
    match error.raw_os_error() {
        Some(errno) => errno,
        None => {
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            0
        }
    }
}

/// Mostly small, some up to 3,000, some right at the size where a slot ends.
fn random_data(random: &mut Random, gram_size: usize) -> Vec<u8> {
    let len = match random.below(8) {
        0 => 0,
        1..=4 => random.below(40),
        5 => (gram_size + random.below(3)).saturating_sub(1).min(3000),
        _ => random.below(3001),
    };
    let first = random.next() as u8;
    (0..len).map(|i| first.wrapping_add(i as u8)).collect()
}

fn random_shape(random: &mut Random) -> (usize, usize) {
    let gram_size = match random.below(5) {
        0 => 1 + random.below(8),
        1 => 1 + random.below(3000),
        2 => 64,
        _ => 1240,
    };
    (1 + random.below(70), gram_size)
}

fn random_to(random: &mut Random) -> To {
    match random.below(12) {
        0 => To::Port0,
        n => To::Peer(n % 2),
    }
}

/// Grams of which about half are as long as the one before and go where it goes: rows that can leave as one.
fn random_grams(random: &mut Random, count: usize, gram_size: usize) -> Vec<(Vec<u8>, To)> {
    let mut grams: Vec<(Vec<u8>, To)> = Vec::new();
    for i in 0..count {
        let gram = match grams.last() {
            Some((data, to)) if random.below(2) == 0 => {
                (data.iter().map(|byte| byte.wrapping_add(i as u8)).collect(), *to)
            }
            _ => (random_data(random, gram_size), random_to(random)),
        };
        grams.push(gram);
    }
    grams
}

fn model_config((bc, gram_size): (usize, usize)) -> PeerConfig {
    config().bc(bc).gram_size(gram_size).recv_buf_bytes(1 << 18)
}

fn side<T: Transport>(peer: &T, shape: (usize, usize)) -> Side {
    Side {
        ha: peer.ha(),
        opened: true,
        socket: VecDeque::new(),
        // One number for every kind of peer, or their scripts would part.
        budget: 120_000.min(peer.actual_buf_sizes().1 / 10 * 6),
        shape,
        ring: VecDeque::new(),
        given: VecDeque::new(),
        outbox_shape: shape,
        outbox: VecDeque::new(),
        unreported: false,
        counts: Counts::default(),
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("HIO_UDP_MODEL_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("HIO_UDP_MODEL_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}

fn got(gram: hio_udp::Gram<'_>) -> Got {
    Got { data: gram.data.to_vec(), src: gram.src, truncated: gram.truncated, original_len: gram.original_len }
}

/// Where a gram goes in earnest.
fn address(has: [SocketAddr; 2], to: To) -> SocketAddr {
    match to {
        To::Peer(i) => has[i],
        To::Port0 => SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

/// What a receive gives for a datagram, or for none.
fn received(got: Option<Got>) -> (Vec<u8>, Option<SocketAddr>) {
    got.map_or((Vec::new(), None), |got| (got.data, Some(got.src)))
}

/// Two peers beside their model, and a ring that is exchanged with theirs.
struct Run {
    random: Random,
    trail: Trail,
    peers: [BatchPeer; 2],
    has: [SocketAddr; 2],
    model: Model,
    /// Always there but in the midst of an exchange.
    spare: Option<RecvRing>,
    spare_shape: (usize, usize),
}

impl Run {
    fn new(seed: u64, errno_of_port_0: i32) -> Self {
        let mut random = Random(seed);
        let shapes = [random_shape(&mut random), random_shape(&mut random)];
        let peers = shapes.map(|shape| BatchPeer::new(model_config(shape)).unwrap());
        let sides = [side(&peers[0], shapes[0]), side(&peers[1], shapes[1])];
        let model = Model { sides, errno: errno_of_port_0, lost: 0 };
        let spare_shape = random_shape(&mut random);
        let spare = Some(RecvRing::new(spare_shape.0, spare_shape.1).unwrap());
        let (has, trail) = (peers.each_ref().map(BatchPeer::ha), Trail { seed, steps: Vec::new() });
        Self { random, trail, peers, has, model, spare, spare_shape }
    }

    fn step(&mut self) {
        let i = self.random.below(2);
        match self.random.below(24) {
            0..=3 => self.send(i),
            4..=7 => self.send_batch(i),
            8..=12 => self.queue(i),
            13 | 14 => self.flush(i),
            15 | 16 => self.receive(i),
            17 | 18 => self.fill(i),
            19 => self.fill_into(i),
            20 => self.exchange(i),
            21 => self.echo(i),
            22 => self.close(i),
            _ => self.reopen(i),
        }
    }

    /// Size of the slots that what peer `i` sends is received into.
    fn gram_size(&self, i: usize) -> usize {
        self.model.sides[1 - i].shape.1
    }

    /// Whether there is room for what waits in peer `i`'s send ring, and for `more`.
    fn has_room(&self, i: usize, more: &[(Vec<u8>, To)]) -> bool {
        self.model.has_room(self.model.sides[i].outbox.iter().chain(more).map(|(data, _)| data.len()))
    }

    fn send(&mut self, i: usize) {
        let gram_size = self.gram_size(i);
        let gram = (random_data(&mut self.random, gram_size), random_to(&mut self.random));
        if !self.has_room(i, std::slice::from_ref(&gram)) {
            return;
        }
        let (data, to) = gram;
        self.trail.steps.push(("send", i, data.len()));
        let real = self.peers[i].send(&data, address(self.has, to));
        assert_eq!(real.map_err(errno), self.model.send(i, &data, to));
    }

    fn send_batch(&mut self, i: usize) {
        let (count, gram_size) = (self.random.below(100), self.gram_size(i));
        let grams = random_grams(&mut self.random, count, gram_size);
        if !self.has_room(i, &grams) {
            return;
        }
        self.trail.steps.push(("send_batch", i, grams.len()));
        let report = self.peers[i].send_batch(grams.iter().map(|(data, to)| (&data[..], address(self.has, *to))));
        assert_eq!(Report::from(report), self.model.send_batch(i, &grams));
    }

    fn queue(&mut self, i: usize) {
        let (count, gram_size) = (1 + self.random.below(8), self.gram_size(i));
        for (data, to) in random_grams(&mut self.random, count, gram_size) {
            self.trail.steps.push(("queue", i, data.len()));
            assert_eq!(self.peers[i].queue(&data, address(self.has, to)), self.model.queue(i, &data, to));
        }
    }

    fn flush(&mut self, i: usize) {
        if !self.has_room(i, &[]) {
            return;
        }
        self.trail.steps.push(("flush", i, self.model.sides[i].outbox.len()));
        assert_eq!(Report::from(self.peers[i].flush()), self.model.flush(i));
    }

    fn receive(&mut self, i: usize) {
        for _ in 0..1 + self.random.below(10) {
            self.trail.steps.push(("receive", i, self.model.sides[i].ring.len()));
            let real = self.peers[i].receive().map(|(data, src)| (data.to_vec(), src));
            assert_eq!(real.map_err(errno), self.model.receive(i).map(received));
        }
    }

    fn fill(&mut self, i: usize) {
        let side = &self.model.sides[i];
        self.trail.steps.push(("fill", i, side.ring.len()));
        let look_at = self.random.below(80);
        let is_something_there = side.opened && !(side.ring.is_empty() && side.socket.is_empty());
        let waits = self.random.below(2) == 0 && is_something_there;
        let real = if waits { self.peers[i].fill_wait(PATIENCE) } else { self.peers[i].fill() };
        let real = real.map(|grams| (grams.len(), grams.take(look_at).map(got).collect::<Vec<_>>()));
        let expected = self.model.fill(i).map(|all| (all.len(), all.into_iter().take(look_at).collect()));
        assert_eq!(real.map_err(errno), expected);
    }

    fn fill_into(&mut self, i: usize) {
        self.trail.steps.push(("fill_into", i, self.spare_shape.0));
        let spare = self.spare.as_mut().unwrap();
        let real = self.peers[i].fill_into(spare).map_err(errno);
        let expected = if self.model.sides[i].opened { Ok(self.model.take(i, self.spare_shape)) } else { Err(0) };
        assert_eq!(real, expected.as_ref().map(VecDeque::len).map_err(|errno| *errno));
        assert_eq!(spare.grams().map(got).collect::<Vec<_>>(), expected.map_or(Vec::new(), Vec::from));
    }

    /// The ring that comes back holds what the last fill gave, or what is left of it.
    fn exchange(&mut self, i: usize) {
        self.trail.steps.push(("exchange", i, self.spare_shape.0));
        let spare = self.peers[i].exchange(self.spare.take().unwrap());
        let side = &mut self.model.sides[i];
        std::mem::swap(&mut side.shape, &mut self.spare_shape);
        let expected: Vec<_> = [&mut side.given, &mut side.ring].map(std::mem::take).into_iter().flatten().collect();
        assert_eq!(spare.grams().map(got).collect::<Vec<_>>(), expected);
        let (bc, gram_size) = self.spare_shape;
        assert_eq!((spare.len(), spare.bc(), spare.gram_size()), (expected.len(), bc, gram_size));
        self.spare = Some(spare);
    }

    /// Sends back what is there, while it stands in the ring.
    fn echo(&mut self, i: usize) {
        self.trail.steps.push(("echo", i, 0));
        let side = &self.model.sides[i];
        let in_socket = side.socket.iter().map(|(data, _)| data.len());
        let lens = in_socket.chain(side.ring.iter().map(|got| got.data.len()));
        if !side.opened || !side.outbox.is_empty() || !self.model.has_room(lens) {
            return;
        }
        let (mut rx, mut tx) = self.peers[i].split();
        let report = tx.send_batch(rx.fill().unwrap().map(|gram| (gram.data, gram.src)));
        let back = |got: Got| (got.data, To::Peer(usize::from(got.src == self.has[1])));
        let grams: Vec<_> = self.model.fill(i).unwrap().into_iter().map(back).collect();
        assert_eq!(Report::from(report), self.model.send_batch(i, &grams));
    }

    fn close(&mut self, i: usize) {
        self.trail.steps.push(("close", i, 0));
        assert!(self.peers[i].close());
        self.model.close(i);
    }

    fn reopen(&mut self, i: usize) {
        self.trail.steps.push(("reopen", i, 0));
        if self.random.below(2) == 0 { self.peers[i].reopen() } else { self.peers[i].open() }.unwrap();
        self.model.close(i);
        self.model.sides[i].opened = true;
    }

    fn assert_alike(&self) {
        for (peer, side) in self.peers.iter().zip(&self.model.sides) {
            assert_eq!((peer.opened(), peer.ha(), peer.queued()), (side.opened, side.ha, side.outbox.len()));
        }
    }

    /// Every datagram that was sent was received, is in a socket, or went with one.
    fn assert_counts(&mut self) {
        self.trail.steps.push(("count", 0, 0));
        let sides = &self.model.sides;
        for (peer, side) in self.peers.iter().zip(sides) {
            assert_eq!(Counts::of(peer), side.counts);
        }
        let left: usize = sides.iter().map(|side| side.socket.len()).sum();
        let sum = |of: fn(&Counts) -> u64| sides.iter().map(|side| of(&side.counts)).sum::<u64>();
        assert_eq!(sum(|counts| counts.sent), sum(|counts| counts.received) + self.model.lost + left as u64);
    }
}

/// Gives how many grams left in one message with others.
fn run_batch_peers(seed: u64, errno_of_port_0: i32) -> u64 {
    let (mut run, settle) = (Run::new(seed, errno_of_port_0), Settle::new());
    for _ in 0..20 + run.random.below(60) {
        run.step();
        settle.settle();
        run.assert_alike();
    }
    run.assert_counts();
    run.peers.iter().map(|peer| peer.stats().grams_segmented).sum()
}

#[test]
fn batch_peers_do_what_the_model_does() {
    let errno = port_0_errno();
    let segmented: u64 = seeds(300).map(|seed| run_batch_peers(seed, errno)).sum();
    assert!(segmented > 0 || !support::takes_batches(&support::open::<BatchPeer>()), "no row was ever joined");
}

/// What one step of a script gave: what a caller can see, alike for every kind of peer.
#[derive(Debug, PartialEq)]
enum Seen {
    Sent(Result<usize, i32>),
    Received(Result<(Vec<u8>, Option<usize>), i32>),
    Opened(bool),
}

/// Runs the script that `seed` stands for over two peers and the model at once; gives what was seen.
fn run_script<T: Transport>(seed: u64, errno_of_port_0: i32) -> (Vec<Seen>, [Counts; 2]) {
    let mut random = Random(seed);
    let random = &mut random;
    let mut trail = Trail { seed, steps: Vec::new() };
    let settle = Settle::new();
    let shapes = [random_shape(random), random_shape(random)];
    // A Peer cuts at bs, a BatchPeer at its slots' size: this script makes them the same.
    let is_batch = std::any::type_name::<T>() == std::any::type_name::<BatchPeer>();
    let mut peers = [0, 1].map(|i| {
        let (bc, gram_size) = shapes[i];
        let config = model_config((bc, gram_size));
        T::new(if is_batch { config } else { config.bc(0).bs(gram_size) }).unwrap()
    });
    let sides = [0, 1].map(|i| side(&peers[i], if is_batch { shapes[i] } else { (1, shapes[i].1) }));
    let mut model = Model { sides, errno: errno_of_port_0, lost: 0 };
    let has = [peers[0].ha(), peers[1].ha()];
    let mut seen = Vec::new();
    for _ in 0..150 {
        let i = random.below(2);
        match random.below(16) {
            0..=6 => {
                let (data, to) = (random_data(random, shapes[1 - i].1), random_to(random));
                if !model.has_room([data.len()].into_iter()) {
                    continue;
                }
                trail.steps.push(("send", i, data.len()));
                let real = peers[i].send(&data, address(has, to)).map_err(errno);
                assert_eq!(real, model.send(i, &data, to));
                seen.push(Seen::Sent(real));
                settle.settle();
            }
            7..=13 => {
                trail.steps.push(("receive", i, model.sides[i].socket.len()));
                let real = peers[i].receive().map(|(data, src)| (data.to_vec(), src)).map_err(errno);
                assert_eq!(real, model.receive(i).map(received));
                let index = |src| has.iter().position(|ha| *ha == src).unwrap();
                seen.push(Seen::Received(real.map(|(data, src)| (data, src.map(index)))));
            }
            14 => {
                trail.steps.push(("close", i, 0));
                assert!(peers[i].close());
                model.close(i);
                seen.push(Seen::Opened(peers[i].opened()));
            }
            _ => {
                trail.steps.push(("reopen", i, 0));
                peers[i].reopen().unwrap();
                model.close(i);
                model.sides[i].opened = true;
                seen.push(Seen::Opened(peers[i].opened()));
            }
        }
        assert_eq!(peers[i].ha(), has[i]);
    }
    // What stands in a ring at the end was never given out.
    for i in [0, 1] {
        peers[i].close();
        model.close(i);
    }
    let counts = peers.each_ref().map(Counts::of);
    for (counts, side) in counts.iter().zip(&model.sides) {
        assert_eq!(counts, &side.counts);
    }
    (seen, counts)
}

#[test]
fn peer_and_batch_peer_see_the_same() {
    let errno = port_0_errno();
    for seed in seeds(150) {
        let (plain, plain_counts) = run_script::<Peer>(seed, errno);
        let (batch, batch_counts) = run_script::<BatchPeer>(seed, errno);
        assert_eq!(plain, batch, "HIO_UDP_MODEL_SEED={seed}");
        for (plain, batch) in plain_counts.iter().zip(&batch_counts) {
            assert_eq!((plain.sent, plain.failed), (batch.sent, batch.failed), "HIO_UDP_MODEL_SEED={seed}");
            assert_eq!(plain.received, batch.received - batch.grams_recv_discarded, "HIO_UDP_MODEL_SEED={seed}");
        }
    }
}
