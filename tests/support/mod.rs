//! What these test files share: peers on free ports, and waits that end.
#![allow(dead_code)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

#[path = "../util/own_host.rs"]
mod own_host;
pub use own_host::own_host;
#[path = "../util/in_use.rs"]
mod in_use;
#[allow(unused_imports)]
pub use in_use::is_in_use;

use hio_udp::{BatchPeer, PeerConfig, SendReport, Stats, Stopped, Transport};

/// Longest a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A datagram as a test remembers it.
pub type Owned = (Vec<u8>, SocketAddr);

/// Settings of an open peer on a host and a free port of its own: without `exclusive`, two peers may get one port.
pub fn config() -> PeerConfig {
    PeerConfig::new().ha((own_host(), 0)).exclusive(true).reopen(true)
}

pub fn open<T: Transport>() -> T {
    T::new(config()).unwrap()
}

pub fn open_batch(config: PeerConfig) -> BatchPeer {
    BatchPeer::new(config).unwrap()
}

/// Whether the backend moves many datagrams a call.
pub fn takes_batches<T: Transport>(peer: &T) -> bool {
    peer.stats().backend != "single"
}

/// Asserts that one fill of `bc` slots that brought `grams` took as few system calls as its backend can.
pub fn assert_recv_calls(stats: &Stats, grams: usize, bc: usize) {
    let expected = match stats.backend {
        "mmsg" => 1..=1,
        // 33 in the first shot, 32 times as many in each later call, and perhaps a look at an empty socket.
        "io_uring" => 1..=3 + grams / (32 * 33),
        _ => grams + usize::from(grams < bc)..=grams + usize::from(grams < bc),
    };
    assert!(expected.contains(&(stats.recv_calls as usize)), "{expected:?}, {stats:?}");
}

/// A plain socket beside the crate's, which gives up waiting after `PATIENCE`.
pub fn plain() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Whether this machine has IPv6; a test that needs it says so and passes without.
pub fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("no IPv6 here: skipped");
    }
    has
}

/// A loopback address where nobody listens, on a host no other test uses; the socket beside it, on another host, keeps
/// the port from those who ask for any on every interface.
pub fn dead_address(host: &str) -> (SocketAddr, UdpSocket) {
    let keeper = UdpSocket::bind("127.0.0.2:0").unwrap();
    let port = keeper.local_addr().unwrap().port();
    (SocketAddr::new(host.parse().unwrap(), port), keeper)
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Waits until what this thread sent over loopback before stands in the receivers' sockets: the
/// kernel hands over in order, so a datagram that comes through says that those before it did.
pub fn settle() {
    let (from, to) = (plain(), plain());
    from.send_to(b"last", to.local_addr().unwrap()).unwrap();
    assert_eq!(to.recv_from(&mut [0; 8]).unwrap().0, 4);
}

/// Waits for the next datagram.
#[track_caller]
pub fn next<T: Transport>(peer: &mut T) -> Owned {
    let start = Instant::now();
    loop {
        if let (data, Some(src)) = peer.receive().unwrap() {
            return (data.to_vec(), src);
        }
        assert!(start.elapsed() < PATIENCE, "nothing came within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Waits for the next `count` datagrams' bytes.
#[track_caller]
pub fn next_data<T: Transport>(peer: &mut T, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| next(peer).0).collect()
}

/// Everything that stands in the peer's ring and socket now.
pub fn drain<T: Transport>(peer: &mut T) -> Vec<Owned> {
    settle();
    let mut all = Vec::new();
    while let (data, Some(src)) = peer.receive().unwrap() {
        all.push((data.to_vec(), src));
    }
    all
}

#[track_caller]
pub fn assert_nothing_left<T: Transport>(peer: &mut T) {
    settle();
    assert_eq!(peer.receive().unwrap(), (&b""[..], None));
}

/// A report's parts: sent, bytes, pending, index and errno of the failure, why it stopped.
pub fn parts(report: &SendReport) -> (usize, usize, usize, Option<(usize, i32)>, Stopped) {
    let failure = report.first_error.as_ref().map(|(index, error)| (*index, error.raw_os_error().unwrap_or(0)));
    (report.sent, report.bytes, report.pending, failure, report.stopped)
}

/// Sends every gram that can be sent, going on behind each that fails; gives those by place and errno.
#[track_caller]
pub fn send_all(peer: &mut BatchPeer, grams: &[(&[u8], SocketAddr)]) -> Vec<(usize, i32)> {
    let (mut failures, mut done) = (Vec::new(), 0);
    while done < grams.len() {
        let report = peer.send_batch(grams[done..].iter().copied());
        let (sent, bytes, pending, failure, _) = parts(&report);
        assert_eq!(bytes, grams[done..done + sent].iter().map(|(data, _)| data.len()).sum::<usize>());
        assert_eq!(sent + pending + usize::from(failure.is_some()), grams.len() - done, "{report:?}");
        if let Some((index, errno)) = failure {
            assert_eq!((index, report.stopped), (sent, Stopped::Failed));
            failures.push((done + index, errno));
        }
        assert!(report.settled() > 0, "no way forward: {report:?}");
        done += report.settled();
    }
    failures
}

/// Sets a socket option that no crate here has a name for.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn set_option(peer: &BatchPeer, level: i32, name: i32, value: i32) {
    use std::os::fd::{AsFd, AsRawFd};
    let fd = peer.as_fd().as_raw_fd();
    // SAFETY: the value is an i32 on this stack frame, with its true size; the peer owns the open descriptor.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Makes the kernel refuse every segmented message of an IPv4 socket with EINVAL: it cuts nothing without
/// checksums (udp_send_skb in net/ipv4/udp.c). Plain datagrams go.
#[cfg(target_os = "linux")]
pub fn refuse_segments(peer: &BatchPeer) {
    const SO_NO_CHECK: i32 = 11;
    set_option(peer, libc::SOL_SOCKET, SO_NO_CHECK, 1);
}

/// A small pseudo-random generator (splitmix64): same seed, same test.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
