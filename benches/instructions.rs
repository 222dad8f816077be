//! User-space instructions per datagram, counted by callgrind: the same at every run, however busy
//! the machine is, so this is the figure that continuous integration holds on to.
//!
//! `cargo bench --bench instructions` prints them; with `-- --gate` it fails when a path has grown by
//! more than its tolerance over what is written down in `PATHS`. The kernel's work is not counted.

use std::env;
use std::hint::black_box;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, ExitCode};

use hio_udp::{BatchPeer, Gram, Grams, MAX_GRAM_SIZE, PeerConfig, Transport};
use hio_udp_benches::report::Report;
use hio_udp_benches::rivals::{Recvmmsg, Sendmmsg};
use hio_udp_benches::traffic;

/// Datagrams in the queue: as many as a socket of any system's default buffer holds, a whole number
/// of batches.
const COUNT: usize = 256;
/// Times the queue is filled and emptied.
const TIMES: usize = 16;
/// Slots of every ring.
const SLOTS: usize = 64;
/// Bytes of each datagram; no instruction depends on it.
const SIZE: usize = 32;

/// How far in per cent a path may grow over its record before the gate fails.
const TOLERANCE_PERCENT: f64 = 3.0;

/// A path through the library, and what is known of it.
struct Counted {
    name: &'static str,
    what: &'static str,
    /// Goal G4, where this path has one.
    goal: Option<f64>,
    /// Instructions per datagram when it was last changed on purpose; the bare loops are not held to any.
    record: Option<f64>,
    /// Runs the path; the work to count goes into `measured`.
    run: fn(),
}

const PATHS: &[Counted] = &[
    Counted { name: "bare", what: "bare recvmmsg loop, addresses read", goal: None, record: None, run: bare_recvmmsg },
    Counted { name: "fill", what: "fill, a for loop", goal: Some(28.0), record: Some(25.3), run: fill },
    Counted {
        name: "fill_io_uring",
        what: "fill, a for loop, io_uring",
        goal: Some(40.0),
        record: Some(60.9),
        run: fill_io_uring,
    },
    Counted {
        name: "fill_meta",
        what: "with receive time and drop counter, for_each",
        goal: Some(55.0),
        record: Some(50.0),
        run: fill_meta,
    },
    Counted {
        name: "fill_meta_for",
        what: "with receive time and drop counter, a for loop",
        goal: None,
        record: Some(89.5),
        run: fill_meta_for,
    },
    Counted { name: "receive", what: "receive one by one", goal: Some(45.0), record: Some(50.2), run: receive },
    Counted {
        name: "coalesced",
        what: "a segment of a coalesced slot, for_each",
        goal: Some(10.0),
        record: Some(10.0),
        run: coalesced,
    },
    Counted {
        name: "coalesced_for",
        what: "a segment of a coalesced slot, a for loop",
        goal: None,
        record: Some(35.3),
        run: coalesced_for,
    },
    Counted { name: "bare_send", what: "bare sendmmsg, headers ready", goal: None, record: None, run: bare_sendmmsg },
    Counted {
        name: "send_batch",
        what: "send_batch to many destinations",
        goal: None,
        record: Some(67.8),
        run: send_batch,
    },
    Counted {
        name: "send_row",
        what: "send_batch of equal ones to one destination",
        goal: None,
        record: Some(75.1),
        run: send_row,
    },
];

/// What callgrind counts, and nothing else.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

/// Fills a queue and lets `drain` empty it, again and again; `drain` says how many it saw.
///
/// What is sent with one call comes as `per_send` datagrams.
fn drained(at: SocketAddr, sender: &UdpSocket, per_send: usize, mut drain: impl FnMut() -> usize) {
    let payload = traffic::payload(SIZE * per_send);
    for _ in 0..TIMES {
        traffic::fill_queue(sender, at, &payload, COUNT / per_send);
        let mut seen = 0;
        measured(&mut || seen = drain());
        assert_eq!(seen, COUNT);
    }
}

/// The least a user does with a datagram: its address, its length, whether it was cut.
#[derive(Default)]
struct Seen {
    grams: usize,
    sum: u64,
}

impl Seen {
    #[inline(always)]
    fn add(&mut self, len: usize, source: u64, truncated: bool) {
        self.grams += 1;
        self.sum += len as u64 + source + u64::from(truncated);
    }

    #[inline(always)]
    fn add_gram(&mut self, gram: &Gram<'_>) {
        self.add(gram.data.len(), traffic::address(gram.src), gram.truncated);
    }

    #[inline(always)]
    fn add_meta(&mut self, gram: &Gram<'_>) {
        let meta = gram.meta();
        self.add_gram(gram);
        self.sum += u64::from(meta.kernel_drops.unwrap_or(0));
        black_box(meta.rx_time);
    }

    fn count(self) -> usize {
        black_box(self.sum);
        self.grams
    }
}

/// Settings of a peer that receives by `recvmmsg`.
fn plain() -> PeerConfig {
    PeerConfig::new().io_uring(false)
}

fn peer(config: PeerConfig) -> BatchPeer {
    BatchPeer::new(config.port(0).exclusive(true).bc(SLOTS).gram_size(MAX_GRAM_SIZE).reopen(true))
        .expect("a free port on 127.0.0.1")
}

fn bare_recvmmsg() {
    let mut bare = Recvmmsg::new(traffic::socket(0), SLOTS, MAX_GRAM_SIZE);
    let at = bare.socket().local_addr().unwrap();
    drained(at, &traffic::socket(0), 1, || {
        let mut seen = Seen::default();
        bare.drain_with(|data, source, truncated| seen.add(data.len(), source, truncated));
        seen.count()
    });
}

/// Drains by `fill`; `walk` looks at each batch.
#[inline(always)]
fn filled(config: PeerConfig, per_send: usize, walk: impl Fn(Seen, Grams<'_>) -> Seen) {
    let (mut peer, sender) = (peer(config), traffic::socket(0));
    if per_send > 1 {
        traffic::set_segment_len(&sender, SIZE);
    }
    drained(peer.ha(), &sender, per_send, || {
        let mut seen = Seen::default();
        loop {
            let grams = peer.fill().expect("the peer is open");
            if grams.is_empty() {
                return seen.count();
            }
            seen = walk(seen, grams);
        }
    });
}

#[inline(always)]
fn for_loop(mut seen: Seen, grams: Grams<'_>) -> Seen {
    for gram in grams {
        seen.add_gram(&gram);
    }
    seen
}

fn fill() {
    filled(plain(), 1, for_loop);
}

/// In a queue that is always deep: io_uring is asked only after two deep batches.
fn fill_io_uring() {
    let (mut peer, sender) = (peer(plain().io_uring(true)), traffic::socket(0));
    let (to, payload) = (peer.ha(), traffic::payload(SIZE));
    for _ in 0..TIMES {
        traffic::fill_queue(&sender, to, &payload, 2 * SLOTS);
        assert_eq!([(); 2].map(|()| peer.fill().expect("the peer is open").len()), [SLOTS; 2]);
        traffic::fill_queue(&sender, to, &payload, COUNT);
        let mut seen = Seen::default();
        measured(&mut || {
            for _ in 0..COUNT / SLOTS {
                seen = for_loop(std::mem::take(&mut seen), peer.fill().expect("the peer is open"));
            }
        });
        assert_eq!(seen.count(), COUNT);
        assert!(peer.fill().expect("the peer is open").is_empty());
    }
}

fn fill_meta() {
    filled(plain().rx_time(true), 1, |mut seen, grams| {
        grams.for_each(|gram| seen.add_meta(&gram));
        seen
    });
}

fn fill_meta_for() {
    filled(plain().rx_time(true), 1, |mut seen, grams| {
        for gram in grams {
            seen.add_meta(&gram);
        }
        seen
    });
}

fn coalesced() {
    filled(plain().coalesce(true), SLOTS, |mut seen, grams| {
        grams.for_each(|gram| seen.add_gram(&gram));
        seen
    });
}

fn coalesced_for() {
    filled(plain().coalesce(true), SLOTS, for_loop);
}

fn receive() {
    let mut peer = peer(plain());
    drained(peer.ha(), &traffic::socket(0), 1, || {
        let mut seen = Seen::default();
        while let (data, Some(src)) = peer.receive().expect("the peer is open") {
            seen.add(data.len(), traffic::address(src), false);
        }
        seen.count()
    });
}

/// One receiver for each datagram of a batch.
fn receivers() -> Vec<UdpSocket> {
    (0..SLOTS).map(|_| traffic::socket(0)).collect()
}

fn read_empty(receivers: &[UdpSocket]) {
    for receiver in receivers {
        while receiver.recv(&mut [0; SIZE]).is_ok() {}
    }
}

fn bare_sendmmsg() {
    let receivers = receivers();
    let to = receivers.iter().map(|receiver| receiver.local_addr().unwrap());
    let mut bare = Sendmmsg::new(traffic::socket(0), &traffic::payload(SIZE), to.cycle().take(COUNT));
    for _ in 0..TIMES {
        measured(&mut || assert_eq!(bare.send(SLOTS), COUNT));
        read_empty(&receivers);
    }
}

fn send_batch() {
    let (receivers, mut peer, payload) = (receivers(), peer(plain()), traffic::payload(SIZE));
    let to: Vec<_> = receivers.iter().map(|receiver| receiver.local_addr().unwrap()).cycle().take(COUNT).collect();
    for _ in 0..TIMES {
        measured(&mut || assert_eq!(peer.send_batch(to.iter().map(|to| (&payload, *to))).sent, COUNT));
        read_empty(&receivers);
    }
}

fn send_row() {
    let (receiver, mut peer) = ([traffic::socket(0)], peer(plain()));
    let (to, payloads) = (receiver[0].local_addr().unwrap(), traffic::payload(SIZE * COUNT));
    for _ in 0..TIMES {
        measured(&mut || assert_eq!(peer.send_batch(payloads.chunks(SIZE).map(|data| (data, to))).sent, COUNT));
        read_empty(&receiver);
    }
}

/// Runs this program again under callgrind, for one path; gives instructions per datagram.
fn count(name: &str) -> Result<f64, String> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*instructions*measured*"])
        .arg(this)
        .args(["--path", name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name} under valgrind: {}\n{report}", output.status));
    }
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok());
    collected.map(|total| total / (COUNT * TIMES) as f64).ok_or_else(|| format!("{name}: no count in\n{report}"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--path") {
        let path = PATHS.iter().find(|path| Some(path.name) == arguments.get(at + 1).map(String::as_str));
        (path.expect("a path of this bench").run)();
        return ExitCode::SUCCESS;
    }
    let is_gate = arguments.iter().any(|argument| argument == "--gate");
    println!("user-space instructions per datagram (callgrind), {} bytes, {SLOTS} slots", SIZE);
    println!("  {:<50} {:>8} {:>8} {:>8} {:>8}", "", "counted", "record", "change", "goal");
    let (mut report, mut has_failed) = (Report::new("instructions"), false);
    for path in PATHS {
        let counted = match count(path.name) {
            Ok(counted) => counted,
            Err(error) => {
                eprintln!("not counted: {error}");
                report.save();
                return if is_gate { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            }
        };
        report.figure(path.name, counted);
        let change = path.record.map(|record| (counted / record - 1.0) * 100.0);
        let grew = change.is_some_and(|change| change > TOLERANCE_PERCENT);
        has_failed |= grew;
        let or_dash = |figure: Option<f64>, unit: &str| figure.map_or("–".to_owned(), |f| format!("{f:.1}{unit}"));
        println!(
            "  {:<50} {counted:>8.1} {:>8} {:>8} {:>8}{}",
            path.what,
            or_dash(path.record, ""),
            or_dash(change, "%"),
            or_dash(path.goal, ""),
            if grew { "  GREW" } else { "" },
        );
    }
    report.save();
    if is_gate && has_failed {
        eprintln!("a path grew by more than {TOLERANCE_PERCENT}% over its record in benches/instructions.rs");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
