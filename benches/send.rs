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

/// Datagrams in a round.
const COUNT: usize = 1024;
const ROUNDS: usize = 61;
/// Datagrams in one system call.
const BATCH: usize = 64;
/// Receivers in the table of many destinations.
const MANY: usize = 64;

const SENDMMSG: &str = "bare sendmmsg, 64 a call";
const SEND_TO: &str = "std send_to";
const CONNECTED: &str = "std send, connected";
const SEND_BATCH: &str = "BatchPeer::send_batch";
const QUINN_SEGMENTED: &str = "quinn-udp, segmented";
const SEND_BATCH_SEGMENTED: &str = "BatchPeer::send_batch, segmented";

/// Reads a receiver empty.
type Drain = fn(&mut Recvmmsg, &mut Tally);

/// Sends `COUNT` datagrams; gives the number the kernel took.
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
    fn measure(&mut self, receivers: &mut [Recvmmsg], drain: Drain, payload: &[u8]) -> f64 {
        let start = machine::thread_time();
        let sent = (self.send)();
        let time = machine::thread_time() - start;
        let mut tally = Tally::default();
        receivers.iter_mut().for_each(|receiver| drain(receiver, &mut tally));
        assert_eq!((sent, tally), (COUNT, Tally::expected(COUNT, payload, self.at)), "{}", self.name);
        time.as_nanos() as f64 / COUNT as f64
    }
}

/// The destination of each datagram of a round.
fn round_robin(destinations: &[SocketAddr]) -> Vec<SocketAddr> {
    destinations.iter().copied().cycle().take(COUNT).collect()
}

fn sendmmsg(name: &'static str, payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let mut bare = Sendmmsg::new(traffic::socket(0), payload, round_robin(destinations).into_iter());
    Sender::new(name, bare.socket().local_addr().unwrap(), move || bare.send(BATCH))
}

fn std_send_to(payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), payload.to_vec(), round_robin(destinations));
    let at = socket.local_addr().unwrap();
    Sender::new(SEND_TO, at, move || to.iter().filter(|to| socket.send_to(&payload, **to).is_ok()).count())
}

fn std_connected(payload: &[u8], destination: SocketAddr) -> Sender {
    let (socket, payload) = (traffic::socket(0), payload.to_vec());
    socket.connect(destination).expect("a UDP socket connects at once");
    let at = socket.local_addr().unwrap();
    Sender::new(CONNECTED, at, move || (0..COUNT).filter(|_| socket.send(&payload).is_ok()).count())
}

/// One datagram a call: no segmentation, which would be another table.
fn quinn(payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), payload.to_vec(), round_robin(destinations));
    let at = socket.local_addr().unwrap();
    let quinn = crates::quinn::Sender::new(socket);
    Sender::new("quinn-udp, one a call", at, move || to.iter().filter(|to| quinn.send(&payload, **to, None)).count())
}

fn nix(payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), payload.to_vec(), round_robin(destinations));
    let at = socket.local_addr().unwrap();
    let mut nix = crates::nix::Sender::new(socket);
    Sender::new("nix sendmmsg, 64 a call", at, move || nix.send(&payload, &to))
}

fn tokio(payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let (socket, payload, to) = (traffic::socket(0), payload.to_vec(), round_robin(destinations));
    let at = socket.local_addr().unwrap();
    let tokio = crates::tokio::Sender::new(socket);
    Sender::new("tokio send_to", at, move || tokio.send(&payload, &to))
}

/// As many datagrams a call as quinn-udp allows, and 65,507 bytes.
fn quinn_segmented(payload: &[u8], to: SocketAddr) -> Sender {
    let (socket, size) = (traffic::socket(0), payload.len());
    let at = socket.local_addr().unwrap();
    let quinn = crates::quinn::Sender::new(socket);
    let run = quinn.max_segments().min(65_507 / size);
    let contents = payload.repeat(COUNT);
    Sender::new(QUINN_SEGMENTED, at, move || {
        let sent = |run: &[u8]| if quinn.send(run, to, Some(size)) { run.len() / size } else { 0 };
        contents.chunks(run * size).map(sent).sum()
    })
}

/// Whole runs in one piece of memory, cut by an option of the socket: nothing is left to do in user space.
fn bare_segmented(payload: &[u8], to: SocketAddr) -> Sender {
    let (socket, size) = (traffic::socket(0), payload.len());
    let at = socket.local_addr().unwrap();
    traffic::set_segment_len(&socket, size);
    let contents = payload.repeat(COUNT);
    Sender::new("bare sendto, segmented", at, move || {
        let sent = |run: &[u8]| socket.send_to(run, to).map_or(0, |bytes| bytes / size);
        contents.chunks(BATCH.min(65_507 / size) * size).map(sent).sum()
    })
}

/// Segmentation off: as where nothing can be joined.
fn batch_peer() -> BatchPeer {
    peer(MAX_GRAM_SIZE, false)
}

fn peer(gram_size: usize, segment: bool) -> BatchPeer {
    let config = traffic::config(0).bc(BATCH).gram_size(gram_size).segment(segment);
    BatchPeer::new(config).expect("a free port on 127.0.0.1")
}

/// Payloads in one piece of memory, as a caller has them who cuts up something longer.
fn send_batch_segmented(payload: &[u8], to: SocketAddr) -> Sender {
    let (mut peer, size) = (peer(MAX_GRAM_SIZE, true), payload.len());
    let contents = payload.repeat(COUNT);
    Sender::new(SEND_BATCH_SEGMENTED, peer.ha(), move || {
        peer.send_batch(contents.chunks(size).map(|data| (data, to))).sent
    })
}

/// Payloads apart from each other in memory.
fn send_batch_apart(payload: &[u8], to: SocketAddr) -> Sender {
    let (mut peer, size) = (peer(MAX_GRAM_SIZE, true), payload.len());
    let contents = [payload, &[0; 64]].concat().repeat(COUNT);
    Sender::new("the same, payloads apart in memory", peer.ha(), move || {
        peer.send_batch(contents.chunks(size + 64).map(|data| (&data[..size], to))).sent
    })
}

/// Slots of the ring as long as the datagrams, so that they too are one piece of memory.
fn queue_and_flush_segmented(payload: &[u8], to: SocketAddr) -> Sender {
    let (mut peer, payload) = (peer(payload.len(), true), payload.to_vec());
    Sender::new("BatchPeer::queue, flush, segmented", peer.ha(), move || {
        let mut sent = 0;
        for _ in 0..COUNT / BATCH {
            (0..BATCH).for_each(|_| peer.queue(&payload, to).expect("the ring was flushed"));
            sent += peer.flush().sent;
        }
        sent
    })
}

fn send_batch(payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let (mut peer, payload, to) = (batch_peer(), payload.to_vec(), round_robin(destinations));
    Sender::new(SEND_BATCH, peer.ha(), move || peer.send_batch(to.iter().map(|to| (payload.as_slice(), *to))).sent)
}

fn queue_and_flush(payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let (mut peer, payload, to) = (batch_peer(), payload.to_vec(), round_robin(destinations));
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

fn send(payload: &[u8], destinations: &[SocketAddr]) -> Sender {
    let (mut peer, payload, to) = (batch_peer(), payload.to_vec(), round_robin(destinations));
    Sender::new("BatchPeer::send", peer.ha(), move || {
        to.iter().filter(|to| peer.send(&payload, **to).is_ok_and(|sent| sent > 0)).count()
    })
}

fn paired(report: &mut Report, size: usize, receiver_count: usize) {
    let payload = traffic::payload(size);
    let socket = |_| traffic::socket(RECV_BUF_BYTES / receiver_count);
    let sockets: Vec<UdpSocket> = (0..receiver_count).map(socket).collect();
    let to: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let receivers = sockets.into_iter().map(|socket| Recvmmsg::new(socket, BATCH, MAX_GRAM_SIZE)).collect();
    let mut senders = vec![
        sendmmsg(SENDMMSG, &payload, &to),
        sendmmsg("the same again (null ratio)", &payload, &to),
        std_send_to(&payload, &to),
        tokio(&payload, &to),
        nix(&payload, &to),
        quinn(&payload, &to),
        send_batch(&payload, &to),
        queue_and_flush(&payload, &to),
        send(&payload, &to),
    ];
    let mut references = vec![SENDMMSG, SEND_TO];
    if let [only] = to[..] {
        senders.push(std_connected(&payload, only));
        references.push(CONNECTED);
    }
    let outcomes = measured(senders, receivers, Recvmmsg::drain, &payload);
    let title =
        format!("send, {size} bytes, {receiver_count} destination(s): ns per datagram, loopback delivery included");
    report.table(&title, &outcomes, 0, &references);
    let mut figure = |key: &str, reference: &str| {
        report.figure(&format!("g8_{size}_{key}"), harness::ratio(&outcomes, SEND_BATCH, reference, 0));
    };
    if receiver_count == MANY {
        figure("many_vs_sendmmsg", SENDMMSG);
    } else {
        figure("one_vs_std", SEND_TO);
        figure("one_vs_connected", CONNECTED);
    }
}

/// Rows of datagrams to one destination, which may take them as they come, uncut.
fn segmented(report: &mut Report, size: usize, is_coalescing: bool) {
    let (payload, socket) = (traffic::payload(size), traffic::socket(RECV_BUF_BYTES));
    let to = socket.local_addr().unwrap();
    let senders = vec![
        sendmmsg(SENDMMSG, &payload, &[to]),
        bare_segmented(&payload, to),
        quinn_segmented(&payload, to),
        send_batch_segmented(&payload, to),
        send_batch_apart(&payload, to),
        queue_and_flush_segmented(&payload, to),
    ];
    let (receiver, kind, drain): (_, _, Drain) = if is_coalescing {
        let drain: Drain = |receiver, tally| receiver.drain_coalesced(|data, source| tally.add(data, source, false));
        (Recvmmsg::new(socket, BATCH, 65_536).with_coalescing(), "coalescing", drain)
    } else {
        (Recvmmsg::new(socket, BATCH, MAX_GRAM_SIZE), "plain", Recvmmsg::drain)
    };
    let outcomes = measured(senders, vec![receiver], drain, &payload);
    let title = format!("send, segmented, {size} bytes, to a {kind} receiver: ns per datagram, delivery included");
    report.table(&title, &outcomes, 0, &[SENDMMSG, QUINN_SEGMENTED]);
    let to = if is_coalescing { "_coalescing" } else { "" };
    for (key, reference) in [("sendmmsg", SENDMMSG), ("quinn_gso", QUINN_SEGMENTED)] {
        let figure = harness::ratio(&outcomes, SEND_BATCH_SEGMENTED, reference, 0);
        report.figure(&format!("g9_{size}{to}_vs_{key}"), figure);
    }
}

fn measured(
    mut senders: Vec<Sender>,
    mut receivers: Vec<Recvmmsg>,
    drain: Drain,
    payload: &[u8],
) -> Vec<harness::Outcome<1>> {
    let receivers = std::cell::RefCell::new(&mut receivers[..]);
    let mut contestants: Vec<Contestant<'_, 1>> = senders
        .iter_mut()
        .map(|sender| {
            let (receivers, name) = (&receivers, sender.name);
            Contestant::new(name, move || [sender.measure(&mut receivers.borrow_mut(), drain, payload)])
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
