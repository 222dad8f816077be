//! A whole `Pipeline` over real loopback sockets, with calls of its readers that fail, handlers that panic or hold
//! their batches back, and a stop, against what was sent: every datagram once, in order, or in one counter.
#![no_main]

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use hio_udp::fuzzing::{self, Call};
use hio_udp::{Batch, BatchPeer, PeerConfig, Pipeline, PipelineBuilder, PipelineStats, ShardStats, Spread, Transport};
use libfuzzer_sys::fuzz_target;

const OPS_MAX: usize = 32;
/// Datagrams in one run: far below what a socket's buffer holds, so that none is ever dropped.
const GRAMS_MAX: usize = 128;
/// Faults in one run: so few that no reader gives up.
const FAULTS_MAX: usize = 12;
const PATIENCE: Duration = Duration::from_secs(30);
/// A stop that has the time for it reads out, and ends long before its deadline.
const DRAIN: Duration = Duration::from_secs(60);

#[derive(Arbitrary, Debug)]
struct Input {
    shards: u8,
    workers: u8,
    queue: u8,
    bc: u8,
    gram_size: u8,
    coalesce: bool,
    io_uring: bool,
    by_lot: bool,
    /// The pipeline is given a socket, which keeps what it holds.
    passed: bool,
    no_time_to_drain: bool,
    /// Which of 16 batches a handler panics in.
    panics: u16,
    ops: Vec<Op>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    /// So many datagrams of one length.
    Send {
        from: bool,
        len: u8,
        count: u8,
    },
    Fail(Fault),
    Shorten {
        after: u8,
        times: u8,
        slots: u8,
    },
    /// Handlers keep their batches from now on.
    Hold,
    Release,
    /// Waits until all that was sent is delivered.
    Settle,
    LookAround,
}

/// So many calls that fail.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Fault {
    call: u8,
    after: u8,
    times: u8,
    errno: u8,
}

impl Input {
    fn shards(&self) -> usize {
        1 + usize::from(self.shards % 2)
    }

    fn workers(&self) -> usize {
        usize::from(self.workers % 3)
    }

    fn gram_size(&self) -> usize {
        1 + usize::from(self.gram_size) % 100
    }

    fn builder(&self, passed: Option<&UdpSocket>) -> io::Result<PipelineBuilder> {
        // Coalescing slots are 65,535 bytes long: few are enough, and quickly made.
        let bc = 1 + usize::from(self.bc) % if self.coalesce { 2 } else { 20 };
        let config = PeerConfig::new().ha(("127.0.0.1", 0)).bc(bc).gram_size(self.gram_size());
        let config = config.coalesce(self.coalesce).io_uring(self.io_uring).recv_buf_bytes(1 << 20);
        let builder = Pipeline::builder(config)
            .shards(self.shards())
            .workers(self.workers())
            .queue(usize::from(self.queue % 3))
            .spread(if self.by_lot { Spread::Random } else { Spread::FlowHash })
            .drain(if self.no_time_to_drain { Duration::ZERO } else { DRAIN });
        Ok(if let Some(socket) = passed { builder.sockets([socket.try_clone()?]) } else { builder })
    }

    /// A datagram as it arrives.
    fn cut(&self, bytes: &[u8]) -> Datagram {
        let len = if self.coalesce { bytes.len() } else { bytes.len().min(self.gram_size()) };
        Datagram { bytes: bytes[..len].to_vec(), original_len: bytes.len() }
    }
}

/// What can be made to fail, with which errnos.
const FAILURES: [(Call, &[i32]); 6] = [
    (Call::Recv, &[libc::EAGAIN, libc::EIO, libc::ENOMEM, libc::ECONNREFUSED, libc::EBADF, libc::EINTR]),
    (Call::Wait, &[libc::ENOMEM, libc::EBADF, libc::EINTR]),
    (Call::Ring, &[libc::ENOSYS, libc::EPERM, libc::ENOMEM]),
    (Call::Register, &[libc::EINVAL, libc::ENOMEM]),
    (Call::Shot, &[libc::EIO, libc::ENOBUFS, libc::EINTR, libc::ECONNREFUSED]),
    (Call::Enter, &[libc::EIO, libc::EINTR, libc::EBUSY, libc::EAGAIN]),
];

fn is_silent(errno: i32) -> bool {
    matches!(errno, libc::EINTR | libc::EAGAIN)
}

fn refuses_uring(call: Call, errno: i32, error: &io::Error) -> bool {
    matches!(call, Call::Ring | Call::Register) && error.raw_os_error() == Some(errno)
}

/// As it was sent, or as it was received: cut, with its length before.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Datagram {
    bytes: Vec<u8>,
    original_len: usize,
}

/// What one call of a handler saw.
struct Seen {
    shard: usize,
    has_panicked: bool,
    grams: Vec<(SocketAddr, Datagram)>,
}

#[derive(Default)]
struct Handled {
    batches: Vec<Seen>,
    grams: usize,
    is_held: bool,
}

#[derive(Default)]
struct Handlers {
    state: Mutex<Handled>,
    changed: Condvar,
}

impl Handlers {
    fn handle(&self, batch: Batch<'_>, panics: u16) {
        let grams: Vec<(SocketAddr, Datagram)> = batch
            .grams()
            .map(|gram| {
                assert!(gram.data.len() <= batch.gram_size());
                assert_eq!(gram.truncated, gram.data.len() < gram.original_len);
                (gram.src, Datagram { bytes: gram.data.to_vec(), original_len: gram.original_len })
            })
            .collect();
        assert!(!grams.is_empty() && grams.len() == batch.len());
        let state = self.state.lock().unwrap();
        let (mut state, timeout) = self.changed.wait_timeout_while(state, PATIENCE, |state| state.is_held).unwrap();
        assert!(!timeout.timed_out());
        let has_panicked = panics & (1 << (state.batches.len() % 16)) != 0;
        state.grams += grams.len();
        state.batches.push(Seen { shard: batch.shard(), has_panicked, grams });
        drop(state);
        self.changed.notify_all();
        if has_panicked {
            resume_unwind(Box::new("a panic that prints nothing"));
        }
    }

    fn hold(&self, on: bool) {
        self.state.lock().unwrap().is_held = on;
        self.changed.notify_all();
    }

    /// Waits until handlers have seen so many datagrams.
    fn settle(&self, grams: usize) {
        self.hold(false);
        let state = self.state.lock().unwrap();
        let (state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| state.grams < grams).unwrap();
        assert_eq!(state.grams, grams);
    }
}

/// The faults of one run, to tell which have come.
#[derive(Default)]
struct Faults {
    count: usize,
    planned: HashMap<(Call, i32), usize>,
}

impl Faults {
    /// Does nothing where there are as many as there may be.
    fn plan(&mut self, fault: &Fault) {
        if self.count == FAULTS_MAX {
            return;
        }
        let (call, errnos) = FAILURES[usize::from(fault.call) % FAILURES.len()];
        let (errno, times) = (errnos[usize::from(fault.errno) % errnos.len()], 1 + usize::from(fault.times % 3));
        self.count += 1;
        fuzzing::fail(call, usize::from(fault.after % 8), times, errno);
        *self.planned.entry((call, errno)).or_default() += times;
    }

    /// How many of these have come.
    fn fired(&self, is_meant: impl Fn(Call, i32) -> bool) -> usize {
        let meant = self.planned.iter().filter(|((call, errno), _)| is_meant(*call, *errno));
        meant.map(|((call, errno), times)| times - fuzzing::failures_left(*call, *errno)).sum()
    }
}

/// The `number`-th datagram of a source: none of the others that is not empty begins as it does.
fn payload(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (number as u8).wrapping_add((i as u8).wrapping_mul(31))).collect()
}

/// Whether `part` is `whole` without some of it, in the same order.
fn is_part(part: &[Datagram], whole: &[Datagram]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|datagram| whole.any(|other| other == datagram))
}

fn assert_rising<'a>(datagrams: impl Iterator<Item = &'a Datagram>) {
    let numbers: Vec<u8> = datagrams.filter_map(|datagram| datagram.bytes.first().copied()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// What was sent from each source.
type Sent = [Vec<Vec<u8>>; 2];

fn count(sent: &Sent) -> usize {
    sent.iter().map(Vec::len).sum()
}

fn run(input: &Input, sources: &mut [BatchPeer; 2]) -> io::Result<()> {
    let kept = if input.passed && !input.coalesce { Some(UdpSocket::bind("127.0.0.1:0")?) } else { None };
    let mut faults = Faults::default();
    // Rings are made in the bind: what comes before the first datagram is planned before it.
    let first = input.ops.iter().map_while(|op| if let Op::Fail(fault) = op { Some(fault) } else { None });
    let ops = &input.ops[first.clone().count()..];
    first.for_each(|fault| faults.plan(fault));
    let handlers = Arc::new(Handlers::default());
    let (handling, panics) = (Arc::clone(&handlers), input.panics);
    let pipeline = match input.builder(kept.as_ref())?.start(move |batch| handling.handle(batch, panics)) {
        // Nothing makes good for an io_uring that must be there.
        Err(error) if cfg!(force_uring) && faults.fired(|call, errno| refuses_uring(call, errno, &error)) > 0 => {
            return Ok(());
        }
        pipeline => pipeline?,
    };
    assert_eq!(pipeline.stats().shards.len(), if kept.is_some() { 1 } else { input.shards() });

    let sent = act(ops, &pipeline, &handlers, &mut faults, sources);
    handlers.hold(false);
    let start = Instant::now();
    let stats = pipeline.stop();
    assert!(start.elapsed() < PATIENCE);
    let handlers = Arc::into_inner(handlers).expect("no thread is left that has a handler");
    let batches = handlers.state.into_inner().unwrap().batches;
    let rest = kept.map_or_else(|| Ok(Vec::new()), |socket| read_rest(&socket))?;

    let end = End { input, stats, batches, rest };
    end.assert_order(sources);
    end.assert_counts(count(&sent), end.assert_given(sources, &sent));
    end.assert_errors(&faults);
    Ok(())
}

/// Does what `ops` say to a pipeline; gives what it sent.
fn act(
    ops: &[Op],
    pipeline: &Pipeline,
    handlers: &Handlers,
    faults: &mut Faults,
    sources: &mut [BatchPeer; 2],
) -> Sent {
    let mut sent = Sent::default();
    for op in ops.iter().take(OPS_MAX) {
        match *op {
            Op::Send { from, len, count: wanted } => {
                let wanted = usize::from(wanted % 32).min(GRAMS_MAX - count(&sent));
                let (source, sent) = (&mut sources[usize::from(from)], &mut sent[usize::from(from)]);
                send(source, sent, pipeline.ha(), usize::from(len), wanted);
            }
            Op::Fail(ref fault) => faults.plan(fault),
            Op::Shorten { after, times, slots } => {
                fuzzing::shorten(usize::from(after % 8), 1 + usize::from(times % 8), 1 + usize::from(slots % 8));
            }
            Op::Hold => handlers.hold(true),
            Op::Release => handlers.hold(false),
            Op::Settle => handlers.settle(count(&sent)),
            Op::LookAround => assert!(pipeline.stats().total().grams_accounted() <= count(&sent) as u64),
        }
    }
    sent
}

/// Sends the next `count` datagrams of a source.
fn send(source: &mut BatchPeer, sent: &mut Vec<Vec<u8>>, to: SocketAddr, len: usize, count: usize) {
    let first = sent.len();
    sent.extend((first..first + count).map(|number| payload(number, len)));
    let report = source.send_batch(sent[first..].iter().map(|bytes| (bytes.as_slice(), to)));
    assert_eq!((report.sent, report.first_error.is_some()), (count, false));
}

/// What there is when a pipeline has stopped.
struct End<'a> {
    input: &'a Input,
    stats: PipelineStats,
    batches: Vec<Seen>,
    /// What a passed socket still held.
    rest: Vec<(SocketAddr, Vec<u8>)>,
}

impl End<'_> {
    fn of_shard(&self, shard: usize) -> impl Iterator<Item = &Seen> + Clone {
        self.batches.iter().filter(move |seen| seen.shard == shard)
    }

    /// Holds the batches of one thread to the order in which a source sent.
    fn assert_order(&self, sources: &[BatchPeer; 2]) {
        // No order is promised between batches that several workers have.
        let groups: Vec<Vec<&Seen>> = match self.input.workers() {
            0 | 1 => (0..self.stats.shards.len()).map(|shard| self.of_shard(shard).collect()).collect(),
            _ => self.batches.iter().map(|seen| vec![seen]).collect(),
        };
        for src in sources.iter().map(BatchPeer::ha) {
            for group in &groups {
                let grams = group.iter().flat_map(|seen| &seen.grams);
                assert_rising(grams.filter(|(from, _)| *from == src).map(|(_, datagram)| datagram));
            }
        }
    }

    /// Holds what handlers and a passed socket were given to what was sent; says how many that were.
    fn assert_given(&self, sources: &[BatchPeer; 2], sent: &Sent) -> usize {
        let in_order = self.input.workers() < 2 && (self.stats.shards.len() == 1 || !self.input.by_lot);
        let mut given = 0;
        for (source, sent) in sources.iter().zip(sent) {
            let src = source.ha();
            let rest = self.rest.iter().filter(|(from, _)| *from == src).map(|(_, bytes)| self.input.cut(bytes));
            let grams = self.batches.iter().flat_map(|seen| &seen.grams).filter(|(from, _)| *from == src);
            let mut received: Vec<Datagram> = grams.map(|(_, datagram)| datagram.clone()).chain(rest).collect();
            let mut expected: Vec<Datagram> = sent.iter().map(|bytes| self.input.cut(bytes)).collect();
            if !in_order {
                received.sort();
                expected.sort();
            }
            assert!(is_part(&received, &expected), "{received:?} of {expected:?}");
            given += received.len();
        }
        let everything = self.rest.len() + self.batches.iter().map(|seen| seen.grams.len()).sum::<usize>();
        assert_eq!(given, everything, "datagrams that nobody sent");
        given
    }

    /// Holds the counters to what was sent and given.
    fn assert_counts(&self, sent: usize, given: usize) {
        for (shard, stats) in self.stats.shards.iter().enumerate() {
            assert_counts(stats, self.of_shard(shard));
        }
        let (total, no_time) = (self.stats.total(), self.input.no_time_to_drain);
        let ended = given + total.grams_left_behind as usize;
        if total.is_unread {
            assert!(no_time && ended <= sent);
        } else {
            assert_eq!(ended, sent, "{:?}", self.stats);
        }
        assert!(no_time || total.grams_left_behind == 0);
    }

    /// Holds the counted errors to the faults that came.
    fn assert_errors(&self, faults: &Faults) {
        let total = self.stats.total();
        let counted = total.receive_errors as usize;
        let fired = faults.fired(|call, errno| matches!(call, Call::Recv | Call::Wait) && !is_silent(errno));
        // One behind good datagrams is told by the next call, which a passed socket may not see; several, by one error.
        let (untold, of_shots) = (usize::from(self.input.passed), faults.fired(|call, _| call == Call::Shot));
        assert!((fired.saturating_sub(untold)..=fired + of_shots).contains(&counted), "{counted} of {fired}");
        assert_eq!(total.receive_errno.is_some(), counted > 0);
    }
}

/// What a passed socket still holds.
fn read_rest(socket: &UdpSocket) -> io::Result<Vec<(SocketAddr, Vec<u8>)>> {
    let (mut rest, mut buffer) = (Vec::new(), [0; 256]);
    socket.set_nonblocking(true)?;
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, src)) => rest.push((src, buffer[..len].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(rest),
            Err(error) => return Err(error),
        }
    }
}

/// Holds a shard's counters to what the handlers saw of it.
fn assert_counts<'a>(stats: &ShardStats, batches: impl Iterator<Item = &'a Seen> + Clone) {
    let sum = |of: fn(&Seen) -> usize| batches.clone().map(of).sum::<usize>() as u64;
    let grams = sum(|seen| seen.grams.len());
    assert_eq!(stats.grams_delivered, grams);
    assert_eq!(stats.batches_delivered, sum(|_| 1));
    assert_eq!(stats.handler_panics, sum(|seen| usize::from(seen.has_panicked)));
    assert_eq!(stats.grams_panicked, sum(|seen| if seen.has_panicked { seen.grams.len() } else { 0 }));
    assert_eq!(stats.grams_accounted(), grams + stats.grams_left_behind);
    let socket = &stats.socket;
    assert_eq!(socket.grams_received, grams + stats.grams_left_behind);
    assert_eq!((socket.grams_undecodable, socket.grams_control_truncated, socket.kernel_dropped), (0, 0, 0));
    if stats.grams_left_behind == 0 {
        assert_eq!(socket.bytes_received, sum(|seen| seen.grams.iter().map(|(_, gram)| gram.bytes.len()).sum()));
        let is_cut = |gram: &Datagram| gram.bytes.len() < gram.original_len;
        let cut = batches.clone().flat_map(|seen| &seen.grams).filter(|(_, gram)| is_cut(gram)).count();
        assert_eq!(socket.grams_truncated, cut as u64);
    }
    // The reader took one to its end.
    assert_eq!(stats.rings_full, 0);
    assert!(stats.rings_free <= stats.rings && stats.rings_free + 1 >= stats.rings);
}

thread_local! {
    /// The first of these tries out whether io_uring is there, before any fault.
    static SOURCES: std::cell::RefCell<[BatchPeer; 2]> = std::cell::RefCell::new([(); 2].map(|()| {
        BatchPeer::new(PeerConfig::new().ha(("127.0.0.1", 0)).bc(1).gram_size(1).reopen(true)).unwrap()
    }));
}

fuzz_target!(|input: Input| {
    SOURCES.with_borrow_mut(|sources| {
        fuzzing::clear_faults();
        let before = open_files();
        run(&input, sources).unwrap();
        assert_eq!(open_files(), before, "descriptors are left open");
    });
});
