//! The words the tests are written in.
#![allow(dead_code)] // each test binary uses its own part

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hio_udp::{BatchPeer, Direction, Peer, PeerConfig, Transport, WireLog};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

pub mod noted;
mod own_host;
pub use own_host::own_host;
mod in_use;
pub use in_use::is_in_use;

/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Makes each generic test run for `Peer` and for `BatchPeer`.
#[macro_export]
macro_rules! for_both_peers {
    ($($name:ident),+ $(,)?) => {
        mod peer {
            $(#[test] fn $name() { super::$name::<hio_udp::Peer>() })+
        }
        mod batch_peer {
            $(#[test] fn $name() { super::$name::<hio_udp::BatchPeer>() })+
        }
    };
}

/// What the tests need of both peers beside [`Transport`].
pub trait TestPeer: Transport + std::fmt::Debug {
    fn set_ha(&mut self, host: &str, port: u16) -> io::Result<()>;
    fn set_host(&mut self, host: &str) -> io::Result<()>;
    fn set_port(&mut self, port: u16);
    fn bcast(&self) -> bool;
    fn set_bcast(&mut self, bcast: bool);
    fn wl(&self) -> Option<&WireLog>;
    fn set_wl(&mut self, log: Option<WireLog>);
    fn is_clamped(&self, direction: Direction) -> bool;
    /// Waits until the peer can send, at most [`PATIENCE`].
    fn wait_writable(&self) -> bool;
    /// The peer's own socket, for looking at its options.
    fn socket(&self) -> SockRef<'_>;
}

macro_rules! test_peer {
    ($peer:ty) => {
        impl TestPeer for $peer {
            fn set_ha(&mut self, host: &str, port: u16) -> io::Result<()> {
                <$peer>::set_ha(self, (host, port))
            }
            fn set_host(&mut self, host: &str) -> io::Result<()> {
                <$peer>::set_host(self, host)
            }
            fn set_port(&mut self, port: u16) {
                <$peer>::set_port(self, port);
            }
            fn bcast(&self) -> bool {
                <$peer>::bcast(self)
            }
            fn set_bcast(&mut self, bcast: bool) {
                <$peer>::set_bcast(self, bcast);
            }
            fn wl(&self) -> Option<&WireLog> {
                <$peer>::wl(self)
            }
            fn set_wl(&mut self, log: Option<WireLog>) {
                <$peer>::set_wl(self, log);
            }
            fn is_clamped(&self, direction: Direction) -> bool {
                self.buf_report(direction).expect("the peer is open").clamped
            }
            fn wait_writable(&self) -> bool {
                <$peer>::wait_writable(self, PATIENCE).expect("wait")
            }
            fn socket(&self) -> SockRef<'_> {
                SockRef::from(self)
            }
        }
    };
}

test_peer!(Peer);
test_peer!(BatchPeer);

/// A peer on a loopback host of its own, on a port no other socket has or can get.
///
/// Without `exclusive` the kernel may give one port to two peers that ask for any (H73).
pub fn any_local_config() -> PeerConfig {
    PeerConfig::new().ha((own_host(), 0)).exclusive(true)
}

/// As [`any_local_config`], on every interface.
pub fn any_wildcard_config() -> PeerConfig {
    PeerConfig::new().ha(("", 0)).exclusive(true)
}

/// Settings that take any datagram whole, with either peer.
pub fn any_size(config: PeerConfig) -> PeerConfig {
    config.bc(4).gram_size(65_507)
}

pub fn opened<T: Transport>(config: PeerConfig) -> T {
    T::new(config.reopen(true)).expect("the peer opens")
}

/// An open peer made with [`any_local_config`].
pub fn any_local<T: Transport>() -> T {
    opened(any_local_config())
}

/// Settings that share ports, as hio's do, on a host of their own.
pub fn own_host_config() -> PeerConfig {
    PeerConfig::new().ha((own_host(), 0))
}

/// Whether no socket is left on `ha`.
pub fn is_free(ha: SocketAddr) -> bool {
    let config = PeerConfig::new().ha((ha.ip().to_string(), ha.port())).exclusive(true);
    match Peer::new(config.reopen(true)) {
        Ok(_) => true,
        Err(error) if is_in_use(&error) => false,
        Err(error) => panic!("{ha}: {error}"),
    }
}

/// A plain socket, neither bound nor set in any way: what peers are compared with.
pub fn bare_socket() -> Socket {
    Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket")
}

/// Waits for the next datagram.
pub fn receive_one<T: Transport>(peer: &mut T) -> (Vec<u8>, SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (data, src) = peer.receive().expect("receive");
        if let Some(src) = src {
            return (data.to_vec(), src);
        }
        assert!(Instant::now() < deadline, "nothing came within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Takes everything that is there now.
pub fn receive_rest<T: Transport>(peer: &mut T) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut grams = Vec::new();
    while let (data, Some(src)) = peer.receive().expect("receive") {
        grams.push((data.to_vec(), src));
    }
    grams
}

pub fn is_nothing_there<T: Transport>(peer: &mut T) -> bool {
    matches!(peer.receive(), Ok((b"", None)))
}

/// Asserts that nothing stands before a datagram sent now, from the peer to itself.
pub fn assert_nothing_queued<T: Transport>(peer: &mut T) {
    const MARKER: &[u8] = b"marker of assert_nothing_queued";
    let me = peer.ha();
    // A peer with a small bs or slot gives only the beginning.
    assert_eq!(peer.send(MARKER, me).expect("send to itself"), MARKER.len());
    let (data, src) = receive_one(peer);
    assert!(!data.is_empty() && MARKER.starts_with(&data), "{data:?} from {src} was queued");
}

/// An address on 127.0.0.1 nobody listens on; the socket beside it keeps others from the port.
///
/// The socket is bound to 127.0.0.2 on the same port, which shuts out whoever asks for any port on
/// every interface, and it never reads.
#[cfg(target_os = "linux")]
pub fn closed_port() -> (SocketAddr, Socket) {
    use std::net::Ipv4Addr;

    let keeper = bare_socket();
    keeper.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).expect("bind");
    let port = keeper.local_addr().expect("address").as_socket().expect("an IP address").port();
    (SocketAddr::from((own_host().parse::<Ipv4Addr>().expect("an address"), port)), keeper)
}

/// `len` bytes that show a shift or a mix-up.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Says on the test's output that it was left out, and why.
pub fn left_out(why: &str) {
    println!("left out: {why}");
}

/// The entry hio writes for one datagram on an IPv4 socket.
pub fn wire_entry(dx: &str, who: SocketAddr, data: &[u8]) -> Vec<u8> {
    let who = format!("('{}', {})", who.ip(), who.port());
    [b"\n", dx.as_bytes(), b" ", who.as_bytes(), b":\n", data, b"\n"].concat()
}
