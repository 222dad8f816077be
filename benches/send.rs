//! Sending over loopback: processor time per datagram of the sending thread.
//!
//! Loopback does the receiver's part inside the send call, so every figure has it. After each round
//! the receivers are read empty, untimed, and what arrived is checked.

use std::net::{SocketAddr, UdpSocket};

use hio_udp::{BatchPeer, MAX_GRAM_SIZE, Transport};
use hio_udp_benches::harness::{self, Contestant};
use hio_udp_benches::machine;
use hio_udp_benches::report::Report;
use hio_udp_benches::rivals::{Recvmmsg, Sendmmsg};
use hio_udp_benches::traffic::{self, RECV_BUF_BYTES, Tally};

mod crates;

/// Datagrams in a round, if the receivers' buffers may be so large.
const COUNT: usize = 1024;
const ROUNDS: usize = 61;
/// Datagrams in one system call.
const BATCH: usize = 64;
/// Datagrams in one system call of a peer that sends rows: many messages of up to 64.
const ROWS_BATCH: usize = 1024;
/// Receivers in the table of many destinations.
const MANY: usize = 64;

const SENDMMSG: &str = "bare sendmmsg, 64 a call";
const SEND_TO: &str = "std send_to";
const CONNECTED: &str = "std send, connected";
const SEND_BATCH: &str = "BatchPeer::send_batch";
const SEND_BATCH_BY_DEFAULT: &str = "BatchPeer::send_batch, by default";
const QUINN_SEGMENTED: &str = "quinn-udp, segmented";
const BARE_SEGMENTED: &str = "bare sendto, segmented";
const SEND_BATCH_SEGMENTED: &str = "BatchPeer::send_batch, segmented, bc 1024";

/// Reads a receiver empty.
type Drain = fn(&mut Recvmmsg, &mut Tally);

/// What each sender sends in a round: one payload to each of these, in order.
struct Load {
    payload: Vec<u8>,
    to: Vec<SocketAddr>,
}

impl Load {
    /// As many rounds of all receivers as they surely hold, in whole batches.
    fn new(size: usize, receivers: &[SocketAddr]) -> Self {
        let held = traffic::queue_depth_of(RECV_BUF_BYTES / receivers.len(), COUNT / receivers.len(), size);
        let count = (held * receivers.len() / BATCH).max(1) * BATCH;
        Self { payload: traffic::payload(size), to: receivers.iter().copied().cycle().take(count).collect() }
    }

    /// The datagrams one behind the other in memory, with `gap` bytes between them.
    fn contents(&self, gap: usize) -> Vec<u8> {
        [self.payload.as_slice(), &vec![0; gap]].concat().repeat(self.to.len())
    }
}

/// Sends a load; gives the number of datagrams the kernel took.
struct Sender {
    name: &'static str,
    at: SocketAddr,
    send: Box<dyn FnMut() -> usize>,
}

impl Sender {
    fn new(name: &'static str, at: SocketAddr, send: impl FnMut() -> usize + 'static) -> Self {
        Self { name, at, send: Box::new(send) }
    }

    /// Sends one round, checks that all of it arrived, and gives the time of the sending.
    fn measure(&mut self, receivers: &mut [Recvmmsg], drain: Drain, load: &Load) -> f64 {
        let start = machine::thread_time();
        let sent = (self.send)();
        let time = machine::thread_time() - start;
        let mut tally = Tally::default();
        receivers.iter_mut().for_each(|receiver| drain(receiver, &mut tally));
        let count = load.to.len();
        assert_eq!((sent, tally), (count, Tally::expected(count, &load.payload, self.at)), "{}", self.name);
        time.as_nanos() as f64 / count as f64
    }
}

fn sendmmsg(name: &'static str, load: &Load) -> Sender {
    let mut bare = Sendmmsg::new(traffic::socket(0), &load.payload, load.to.iter().copied());
    Sender::new(name, bare.socket().local_addr().unwrap(), move || bare.send(BATCH))
}

fn std_send_to(load: &Load) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), load.payload.clone(), load.to.clone());
    let at = socket.local_addr().unwrap();
    Sender::new(SEND_TO, at, move || to.iter().filter(|to| socket.send_to(&payload, **to).is_ok()).count())
}

fn std_connected(load: &Load) -> Sender {
    let (socket, payload, count) = (traffic::socket(0), load.payload.clone(), load.to.len());
    socket.connect(load.to[0]).expect("a UDP socket connects at once");
    let at = socket.local_addr().unwrap();
    Sender::new(CONNECTED, at, move || (0..count).filter(|_| socket.send(&payload).is_ok()).count())
}

/// One datagram a call: no segmentation, which would be another table.
fn quinn(load: &Load) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), load.payload.clone(), load.to.clone());
    let at = socket.local_addr().unwrap();
    let quinn = crates::quinn::Sender::new(socket);
    Sender::new("quinn-udp, one a call", at, move || to.iter().filter(|to| quinn.send(&payload, **to, None)).count())
}

fn nix(load: &Load) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), load.payload.clone(), load.to.clone());
    let at = socket.local_addr().unwrap();
    let mut nix = crates::nix::Sender::new(socket);
    Sender::new("nix sendmmsg, 64 a call", at, move || nix.send(&payload, &to))
}

fn tokio(load: &Load) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), load.payload.clone(), load.to.clone());
    let at = socket.local_addr().unwrap();
    let tokio = crates::tokio::Sender::new(socket);
    Sender::new("tokio send_to", at, move || tokio.send(&payload, &to))
}

/// As many datagrams a call as quinn-udp allows, and 65,507 bytes.
fn quinn_segmented(load: &Load) -> Sender {
    let (socket, size, to) = (traffic::socket(0), load.payload.len(), load.to[0]);
    let at = socket.local_addr().unwrap();
    let quinn = crates::quinn::Sender::new(socket);
    let run = quinn.max_segments().min(65_507 / size);
    let contents = load.contents(0);
    Sender::new(QUINN_SEGMENTED, at, move || {
        let sent = |run: &[u8]| if quinn.send(run, to, Some(size)) { run.len() / size } else { 0 };
        contents.chunks(run * size).map(sent).sum()
    })
}

/// Whole runs in one piece of memory, cut by an option of the socket: nothing is left to do in user space.
fn bare_segmented(load: &Load) -> Sender {
    let (socket, size, to) = (traffic::socket(0), load.payload.len(), load.to[0]);
    let at = socket.local_addr().unwrap();
    traffic::set_segment_len(&socket, size);
    let contents = load.contents(0);
    Sender::new(BARE_SEGMENTED, at, move || {
        let sent = |run: &[u8]| socket.send_to(run, to).map_or(0, |bytes| bytes / size);
        contents.chunks(BATCH.min(65_507 / size) * size).map(sent).sum()
    })
}

/// Segmentation off: as where nothing can be joined.
fn batch_peer() -> BatchPeer {
    peer(BATCH, MAX_GRAM_SIZE, false)
}

fn peer(bc: usize, gram_size: usize, segment: bool) -> BatchPeer {
    let config = traffic::config(0).bc(bc).gram_size(gram_size).segment(segment);
    BatchPeer::new(config).expect("a free port on 127.0.0.1")
}

/// Payloads in one piece of memory, as a caller has them who cuts up something longer.
fn send_batch_segmented(name: &'static str, bc: usize, load: &Load) -> Sender {
    let (mut peer, size, to) = (peer(bc, MAX_GRAM_SIZE, true), load.payload.len(), load.to[0]);
    let contents = load.contents(0);
    Sender::new(name, peer.ha(), move || peer.send_batch(contents.chunks(size).map(|data| (data, to))).sent)
}

/// Payloads apart from each other in memory.
fn send_batch_apart(load: &Load) -> Sender {
    let (mut peer, size, to) = (peer(ROWS_BATCH, MAX_GRAM_SIZE, true), load.payload.len(), load.to[0]);
    let contents = load.contents(64);
    Sender::new("the same, payloads apart in memory, bc 1024", peer.ha(), move || {
        peer.send_batch(contents.chunks(size + 64).map(|data| (&data[..size], to))).sent
    })
}

/// Slots of the ring as long as the datagrams, so that they too are one piece of memory.
fn queue_and_flush_segmented(load: &Load) -> Sender {
    let (payload, to) = (load.payload.clone(), load.to.clone());
    let mut peer = peer(BATCH, payload.len(), true);
    Sender::new("BatchPeer::queue, flush, segmented, bc 64", peer.ha(), move || {
        let mut sent = 0;
        for batch in to.chunks(BATCH) {
            batch.iter().for_each(|to| peer.queue(&payload, *to).expect("the ring was flushed"));
            sent += peer.flush().sent;
        }
        sent
    })
}

fn send_batch(load: &Load) -> Sender {
    let (mut peer, payload, to) = (batch_peer(), load.payload.clone(), load.to.clone());
    Sender::new(SEND_BATCH, peer.ha(), move || peer.send_batch(to.iter().map(|to| (payload.as_slice(), *to))).sent)
}

/// With the settings a peer has by default, so that equal datagrams to one destination are segmented.
fn send_batch_by_default(load: &Load) -> Sender {
    let (mut peer, payload, to) = (peer(BATCH, MAX_GRAM_SIZE, true), load.payload.clone(), load.to.clone());
    Sender::new(SEND_BATCH_BY_DEFAULT, peer.ha(), move || {
        peer.send_batch(to.iter().map(|to| (payload.as_slice(), *to))).sent
    })
}

fn queue_and_flush(load: &Load) -> Sender {
    let (mut peer, payload, to) = (batch_peer(), load.payload.clone(), load.to.clone());
    Sender::new("BatchPeer::queue, flush", peer.ha(), move || {
        let mut sent = 0;
        for batch in to.chunks(BATCH) {
            for to in batch {
                peer.queue(&payload, *to).expect("the ring was flushed");
            }
            sent += peer.flush().sent;
        }
        sent
    })
}

fn send(load: &Load) -> Sender {
    let (mut peer, payload, to) = (batch_peer(), load.payload.clone(), load.to.clone());
    Sender::new("BatchPeer::send", peer.ha(), move || {
        to.iter().filter(|to| peer.send(&payload, **to).is_ok_and(|sent| sent > 0)).count()
    })
}

fn paired(report: &mut Report, size: usize, receiver_count: usize) {
    let socket = |_| traffic::socket(RECV_BUF_BYTES / receiver_count);
    let sockets: Vec<UdpSocket> = (0..receiver_count).map(socket).collect();
    let to: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let receivers = sockets.into_iter().map(|socket| Recvmmsg::new(socket, BATCH, MAX_GRAM_SIZE)).collect();
    let load = Load::new(size, &to);
    let mut senders = vec![
        sendmmsg(SENDMMSG, &load),
        sendmmsg("the same again (null ratio)", &load),
        std_send_to(&load),
        tokio(&load),
        nix(&load),
        quinn(&load),
        send_batch(&load),
        queue_and_flush(&load),
        send(&load),
    ];
    let mut references = vec![SENDMMSG, SEND_TO];
    if receiver_count == 1 {
        senders.push(send_batch_by_default(&load));
        senders.push(std_connected(&load));
        references.push(CONNECTED);
    }
    let outcomes = measured(senders, receivers, Recvmmsg::drain, &load);
    let title =
        format!("send, {size} bytes, {receiver_count} destination(s): ns per datagram, loopback delivery included");
    report.table(&title, &outcomes, 0, &references);
    let mut figure = |key: &str, ours: &str, reference: &str| {
        report.figure(&format!("g8_{size}_{key}"), harness::ratio(&outcomes, ours, reference, 0));
    };
    if receiver_count == MANY {
        figure("many_vs_sendmmsg", SEND_BATCH, SENDMMSG);
    } else {
        for (key, reference) in [("std", SEND_TO), ("connected", CONNECTED)] {
            figure(&format!("one_vs_{key}"), SEND_BATCH, reference);
            figure(&format!("one_vs_{key}_barest"), SENDMMSG, reference);
            figure(&format!("default_vs_{key}"), SEND_BATCH_BY_DEFAULT, reference);
        }
    }
}

/// Rows of datagrams to one destination, which may take them as they come, uncut.
fn segmented(report: &mut Report, size: usize, is_coalescing: bool) {
    let socket = traffic::socket(RECV_BUF_BYTES);
    let load = Load::new(size, &[socket.local_addr().unwrap()]);
    let senders = vec![
        sendmmsg(SENDMMSG, &load),
        bare_segmented(&load),
        quinn_segmented(&load),
        send_batch_segmented(SEND_BATCH_SEGMENTED, ROWS_BATCH, &load),
        send_batch_segmented("the same, bc 64", BATCH, &load),
        send_batch_apart(&load),
        queue_and_flush_segmented(&load),
    ];
    let (receiver, kind, drain): (_, _, Drain) = if is_coalescing {
        let drain: Drain = |receiver, tally| receiver.drain_coalesced(|data, source| tally.add(data, source, false));
        (Recvmmsg::new(socket, BATCH, 65_536).with_coalescing(), "coalescing", drain)
    } else {
        (Recvmmsg::new(socket, BATCH, MAX_GRAM_SIZE), "plain", Recvmmsg::drain)
    };
    let outcomes = measured(senders, vec![receiver], drain, &load);
    let title = format!("send, segmented, {size} bytes, to a {kind} receiver: ns per datagram, delivery included");
    report.table(&title, &outcomes, 0, &[SENDMMSG, QUINN_SEGMENTED]);
    let to = if is_coalescing { "_coalescing" } else { "" };
    for (key, reference) in [("sendmmsg", SENDMMSG), ("quinn_gso", QUINN_SEGMENTED)] {
        let key = format!("g9_{size}{to}_vs_{key}");
        report.figure(&key, harness::ratio(&outcomes, SEND_BATCH_SEGMENTED, reference, 0));
        report.figure(&format!("{key}_barest"), harness::ratio(&outcomes, BARE_SEGMENTED, reference, 0));
    }
}

fn measured(
    mut senders: Vec<Sender>,
    mut receivers: Vec<Recvmmsg>,
    drain: Drain,
    load: &Load,
) -> Vec<harness::Outcome<1>> {
    let receivers = std::cell::RefCell::new(&mut receivers[..]);
    let mut contestants: Vec<Contestant<'_, 1>> = senders
        .iter_mut()
        .map(|sender| {
            let (receivers, name) = (&receivers, sender.name);
            Contestant::new(name, move || [sender.measure(&mut receivers.borrow_mut(), drain, load)])
        })
        .collect();
    harness::rounds(ROUNDS, &mut contestants)
}

fn main() {
    println!("{}", machine::describe());
    let is_quiet = machine::quieten(0);
    println!("one thread on processor 0, {}", if is_quiet { "SCHED_FIFO" } else { "ordinary priority" });
    let mut report = Report::new("send");
    for size in [64, 1240] {
        paired(&mut report, size, 1);
        paired(&mut report, size, MANY);
        segmented(&mut report, size, false);
        segmented(&mut report, size, true);
    }
    report.save();
}
