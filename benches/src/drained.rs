//! Emptying a full socket queue: the timed part of every bench that drains.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use hio_udp::{BatchPeer, Transport};

use crate::harness::{self, Contestant, Outcome};
use crate::machine;
use crate::report::Report;
use crate::rivals::{Recvfrom, Recvmmsg, StdRecvFrom};
use crate::traffic::{self, RECV_BUF_BYTES, Tally};

/// Empties its socket's queue into a tally; it is told how many datagrams are queued, for those that
/// wait for each.
type Drain = Box<dyn FnMut(&mut Tally, u64)>;

/// A receiver, and the socket it empties.
pub struct Receiver {
    /// Its name in the tables.
    pub name: String,
    at: SocketAddr,
    drain: Drain,
    gives: Gives,
}

/// What of a datagram a receiver learns.
#[derive(Clone, Copy, Debug)]
enum Gives {
    All,
    NoAddresses,
    OnlyCounts,
}

impl Receiver {
    /// A receiver by its name, where it is, and how it empties its queue.
    pub fn new(name: impl Into<String>, at: SocketAddr, drain: impl FnMut(&mut Tally, u64) + 'static) -> Self {
        Self { name: name.into(), at, drain: Box::new(drain), gives: Gives::All }
    }

    /// Says that it does not learn the sources.
    pub fn without_addresses(self) -> Self {
        Self { gives: Gives::NoAddresses, ..self }
    }

    /// Says that it learns nothing but how many there were: a floor, and no rival.
    pub fn only_counting(self) -> Self {
        Self { gives: Gives::OnlyCounts, ..self }
    }

    /// Where it is.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Times the emptying of a queue that `fill` fills, and checks that it took exactly `expected`.
    ///
    /// # Panics
    ///
    /// If it took anything else.
    pub fn measure(&mut self, expected: Tally, fill: impl FnOnce()) -> Duration {
        fill();
        let mut tally = Tally::default();
        let start = machine::thread_time();
        (self.drain)(&mut tally, expected.grams);
        let time = machine::thread_time() - start;
        let expected = match self.gives {
            Gives::All => expected,
            Gives::NoAddresses => Tally { sources: 0, ..expected },
            Gives::OnlyCounts => Tally { grams: expected.grams, ..tally },
        };
        assert_eq!(tally, expected, "{}", self.name);
        time
    }

    /// The same with `depth` copies of one datagram.
    ///
    /// # Panics
    ///
    /// As [`measure`](Self::measure).
    pub fn measure_copies(&mut self, sender: &UdpSocket, payload: &[u8], depth: usize) -> Duration {
        let source = sender.local_addr().expect("the sender is bound");
        let at = self.at;
        self.measure(Tally::expected(depth, payload, source), || traffic::fill_queue(sender, at, payload, depth))
    }
}

/// Lets all empty queues of `depth` datagrams of `size` bytes, by turns; ns per datagram.
pub fn paired(
    report: &mut Report,
    receivers: &mut [Receiver],
    (size, depth): (usize, usize),
    title: &str,
    references: &[&str],
) -> Vec<Outcome<1>> {
    let (sender, payload) = (traffic::socket(0), traffic::payload(size));
    let mut contestants: Vec<Contestant<'_, 1>> = receivers
        .iter_mut()
        .map(|receiver| {
            let (sender, payload, name) = (&sender, &payload, receiver.name.clone());
            Contestant::new(name, move || {
                [receiver.measure_copies(sender, payload, depth).as_nanos() as f64 / depth as f64]
            })
        })
        .collect();
    let outcomes = harness::rounds(ROUNDS, &mut contestants);
    let title = format!("drain, {title}, {size} bytes, {depth} queued: ns per datagram");
    report.table(&title, &outcomes, 0, references);
    outcomes
}

/// Rounds of a drain.
pub const ROUNDS: usize = 41;

/// A bare `recvmmsg` loop over `slots` slots of the size a `BatchPeer` has.
pub fn recvmmsg(name: &str, slots: usize) -> Receiver {
    let mut bare = Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), slots, SLOT_BYTES);
    Receiver::new(name, bare.socket().local_addr().unwrap(), move |tally, _| bare.drain(tally))
}

/// The same with the one option a `BatchPeer` always sets.
pub fn recvmmsg_counting_drops(name: &str, slots: usize) -> Receiver {
    let mut bare = Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), slots, SLOT_BYTES).with_drop_counter();
    Receiver::new(name, bare.socket().local_addr().unwrap(), move |tally, _| bare.drain(tally))
}

/// The same without addresses, and a floor that does not copy payloads either.
pub fn recvmmsg_leaving_out(slots: usize) -> [Receiver; 2] {
    let made = || Recvmmsg::new(traffic::socket(RECV_BUF_BYTES), slots, SLOT_BYTES).without_addresses();
    let receiver = |name: &str, mut bare: Recvmmsg| {
        Receiver::new(name, bare.socket().local_addr().unwrap(), move |tally, _| bare.drain(tally))
    };
    [
        receiver("bare recvmmsg, no addresses", made()).without_addresses(),
        receiver("floor: nothing copied, no addresses", made().copying_nothing()).only_counting(),
    ]
}

/// A bare `recvfrom` loop.
pub fn recvfrom(name: &str) -> Receiver {
    let mut bare = Recvfrom::new(traffic::socket(RECV_BUF_BYTES), 65_536);
    Receiver::new(name, bare.socket().local_addr().unwrap(), move |tally, _| bare.drain(tally))
}

/// The standard library's `recv_from`.
pub fn std_recv_from() -> Receiver {
    let mut std = StdRecvFrom::new(traffic::socket(RECV_BUF_BYTES), 65_536);
    Receiver::new("std recv_from", std.socket().local_addr().unwrap(), move |tally, _| std.drain(tally))
}

/// `fill` and every gram read.
pub fn fill(name: impl Into<String>, mut peer: BatchPeer) -> Receiver {
    Receiver::new(name, peer.ha(), move |tally, _| drain(&mut peer, tally))
}

/// Takes all there is, by `fill`.
///
/// # Panics
///
/// If the peer fails.
pub fn drain(peer: &mut BatchPeer, tally: &mut Tally) {
    loop {
        let grams = peer.fill().expect("the peer is open");
        if grams.is_empty() {
            return;
        }
        for gram in grams {
            tally.add(gram.data, traffic::address(gram.src), gram.truncated);
        }
    }
}

/// `fill`, with the loop that is best where slots are coalesced.
pub fn for_each(name: impl Into<String>, mut peer: BatchPeer) -> Receiver {
    Receiver::new(name, peer.ha(), move |tally, _| {
        loop {
            let grams = peer.fill().expect("the peer is open");
            if grams.is_empty() {
                return;
            }
            grams.for_each(|gram| tally.add(gram.data, traffic::address(gram.src), gram.truncated));
        }
    })
}

/// `receive`, one by one.
pub fn receive<T: Transport + 'static>(name: impl Into<String>, mut peer: T) -> Receiver {
    Receiver::new(name, peer.ha(), move |tally, _| {
        while let (data, Some(src)) = peer.receive().expect("the peer is open") {
            tally.add(data, traffic::address(src), false);
        }
    })
}

/// `MAX_GRAM_SIZE`, rounded up to whole cache lines.
const SLOT_BYTES: usize = hio_udp::MAX_GRAM_SIZE.next_multiple_of(64);
