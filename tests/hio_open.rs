//! Section B of docs/HIO.md: open, reopen, close.

mod util;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use hio_udp::{BatchPeer, Direction, Peer, PeerConfig, Transport};
use util::{
    TestPeer, any_local, any_local_config, assert_nothing_queued, bare_socket, is_in_use, is_nothing_there, left_out,
    opened, receive_one,
};

for_both_peers!(
    h032_buffer_sizes_are_zero_while_closed,
    h033_the_pair_of_sizes_is_send_then_receive,
    h038_a_buffer_above_the_limit_opens_all_the_same,
    h042_bcast_is_read_by_open_alone,
    h043_an_open_peer_has_the_kernels_address,
    h044_port_zero_becomes_a_real_port_and_stays,
    h045_reopen_opens_a_closed_peer,
    h046_reopen_in_the_settings_opens_at_once,
    h046_new_gives_the_error_of_a_failed_open,
    h047_open_on_an_open_peer_closes_the_first_socket,
    h048_reopen_drops_what_was_queued,
    h049_an_address_of_another_machine_is_an_error_of_open,
    h050_a_failed_open_leaves_no_socket,
    h050_a_failed_open_can_be_tried_again,
    h051_an_ipv6_host_opens_an_ipv6_socket,
    h054_a_port_in_use_is_an_error_unless_shared,
    h055_a_failed_open_of_an_open_peer_closes_it,
    h056_a_failed_reopen_closes_the_peer,
    h058_a_host_set_later_is_bound_resolved,
    h060_close_is_always_true,
    h062_a_closed_peer_neither_receives_nor_sends,
    h065_a_dropped_peer_frees_its_port,
);

/// An address no socket of this machine can have (RFC 5737), if that is so.
const ELSEWHERE: &str = "203.0.113.5";

fn is_elsewhere_bindable() -> bool {
    let address: Ipv4Addr = ELSEWHERE.parse().unwrap();
    bare_socket().bind(&SocketAddr::from((address, 0)).into()).is_ok()
}

fn h032_buffer_sizes_are_zero_while_closed<T: TestPeer>() {
    let mut peer = T::new(any_local_config()).unwrap();
    assert_eq!(peer.actual_buf_sizes(), (0, 0));
    peer.open().unwrap();
    let (send, receive) = peer.actual_buf_sizes();
    assert!(send > 0 && receive > 0);
    peer.close();
    assert_eq!(peer.actual_buf_sizes(), (0, 0));
}

fn h033_the_pair_of_sizes_is_send_then_receive<T: TestPeer>() {
    let peer: T = any_local();
    let (send, receive) = peer.actual_buf_sizes();
    peer.socket().set_send_buffer_size(send / 4).unwrap();
    let (smaller, same) = peer.actual_buf_sizes();
    assert!(smaller < send);
    assert_eq!(same, receive);
}

/// What a socket's (send, receive) buffers become by hio's rule: set to `bs` if smaller, else left.
fn sizes_by_hios_rule(bs: usize) -> (usize, usize) {
    let socket = bare_socket();
    if socket.send_buffer_size().unwrap() < bs {
        socket.set_send_buffer_size(bs).unwrap();
    }
    if socket.recv_buffer_size().unwrap() < bs {
        socket.set_recv_buffer_size(bs).unwrap();
    }
    (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap())
}

/// Asserts that a `Peer` with this `bs` has the buffers hio's would have.
///
/// Where the system's limit gives hio less than it asked for, a peer may have more: as much as it
/// asked for, if it was allowed to force it (H38).
fn assert_sizes_by_hios_rule(bs: usize) {
    let peer: Peer = opened(any_local_config().bs(bs));
    let (send, receive) = sizes_by_hios_rule(bs);
    let (peers_send, peers_receive) = peer.actual_buf_sizes();
    for (hios, peers) in [(send, peers_send), (receive, peers_receive)] {
        let is_forced = hios / 2 < bs && peers / 2 == bs;
        assert!(peers == hios || is_forced, "bs {bs}: {peers}, hio has {hios}");
    }
}

#[test]
fn h034_a_default_open_leaves_large_enough_buffers_alone() {
    assert_sizes_by_hios_rule(65_535);
}

#[test]
fn h035_a_buffer_that_is_not_smaller_than_bs_is_left_alone() {
    let (_, default) = sizes_by_hios_rule(0);
    let peer: Peer = opened(any_local_config().bs(default));
    assert_eq!(peer.actual_buf_sizes().1, default);
    assert_eq!(peer.buf_report(Direction::Receive).unwrap().asked_bytes, 0);
    assert_sizes_by_hios_rule(default);
}

#[test]
fn h036_a_smaller_buffer_is_set_to_bs() {
    let (_, default) = sizes_by_hios_rule(0);
    for bs in [default + 1, default + 87_008, 172 * 1_240, 1_024 * 1_240] {
        assert_sizes_by_hios_rule(bs);
    }
}

#[test]
fn h037_a_small_bs_never_lowers_a_buffer() {
    for bs in [0, 1, 1_240] {
        let peer: Peer = opened(any_local_config().bs(bs));
        assert_eq!(peer.actual_buf_sizes(), sizes_by_hios_rule(0), "bs {bs}");
    }
}

fn h038_a_buffer_above_the_limit_opens_all_the_same<T: TestPeer>() {
    const ASKED_BYTES: usize = 128 << 20;
    let peer: T = opened(any_local_config().recv_buf_bytes(ASKED_BYTES).send_buf_bytes(ASKED_BYTES));
    let (hios_send, hios_receive) = sizes_by_hios_rule(ASKED_BYTES);
    let (send, receive) = peer.actual_buf_sizes();
    for (direction, hios, peers) in [(Direction::Send, hios_send, send), (Direction::Receive, hios_receive, receive)] {
        if peer.is_clamped(direction) {
            assert_eq!(peers, hios, "{direction:?} clamped as hio's");
        } else {
            assert!(peers >= ASKED_BYTES, "{direction:?} allowed, forced or not");
        }
    }
}

#[test]
fn h039_a_bs_no_socket_option_takes_opens_all_the_same() {
    let peer: Peer = opened(any_local_config().bs(usize::MAX));
    assert!(peer.opened());
    assert_eq!(peer.bs(), usize::MAX);
    assert!(peer.actual_buf_sizes().1 >= sizes_by_hios_rule(0).1);
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    for_both_peers!(
        h041_a_peers_socket_has_hios_options,
        h053_a_privileged_port_is_an_error_of_open,
        h059_loopback_broadcast_and_multicast_addresses_can_be_bound,
    );

    fn h041_a_peers_socket_has_hios_options<T: TestPeer>() {
        for bcast in [false, true] {
            let peer: T = opened(util::own_host_config().bcast(bcast));
            let (socket, bare) = (peer.socket(), bare_socket());
            assert_eq!(socket.domain().unwrap(), socket2::Domain::IPV4);
            assert_eq!(socket.r#type().unwrap(), socket2::Type::DGRAM);
            assert_eq!(socket.protocol().unwrap(), Some(socket2::Protocol::UDP));
            assert!(socket.nonblocking().unwrap() && is_close_on_exec(&peer.socket()));
            assert!(socket.reuse_address().unwrap() && socket.reuse_port().unwrap());
            assert_eq!(socket.broadcast().unwrap(), bcast);
            assert_eq!(socket.ttl_v4().unwrap(), bare.ttl_v4().unwrap());
            assert!(socket.peer_addr().is_err(), "not connected");
        }
    }

    fn is_close_on_exec(socket: &socket2::SockRef<'_>) -> bool {
        use std::os::fd::AsRawFd;

        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        i32::from_str_radix(flags, 8).unwrap() & libc::O_CLOEXEC != 0
    }

    fn h053_a_privileged_port_is_an_error_of_open<T: TestPeer>() {
        let address = SocketAddr::from((util::own_host().parse::<Ipv4Addr>().unwrap(), 1));
        match bare_socket().bind(&address.into()) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            _ => return left_out("this user may bind port 1"),
        }
        let mut peer = T::new(PeerConfig::new().ha((address.ip().to_string(), 1))).unwrap();
        assert_eq!(peer.open().unwrap_err().raw_os_error(), Some(libc::EACCES));
        assert!(!peer.opened());
    }

    fn h059_loopback_broadcast_and_multicast_addresses_can_be_bound<T: TestPeer>() {
        for host in [util::own_host(), "127.255.255.255".into(), "255.255.255.255".into(), "224.0.0.1".into()] {
            let peer: T = opened(PeerConfig::new().ha((host.clone(), 0)));
            assert_eq!(peer.host().to_string(), host);
        }
    }
}

fn h042_bcast_is_read_by_open_alone<T: TestPeer>() {
    let mut peer: T = opened(any_local_config().bcast(true));
    peer.set_bcast(false);
    assert!(peer.socket().broadcast().unwrap(), "an open socket stays as it is");
    peer.reopen().unwrap();
    assert!(!peer.socket().broadcast().unwrap());
}

fn h043_an_open_peer_has_the_kernels_address<T: TestPeer>() {
    let mut peer = T::new(any_local_config()).unwrap();
    peer.open().unwrap();
    assert!(peer.opened());
    assert_eq!(Some(peer.ha()), peer.socket().local_addr().unwrap().as_socket());
}

fn h044_port_zero_becomes_a_real_port_and_stays<T: TestPeer>() {
    let mut peer = T::new(any_local_config()).unwrap();
    assert_eq!(peer.port(), 0);
    peer.open().unwrap();
    let ha = peer.ha();
    assert_ne!(ha.port(), 0);
    peer.close();
    assert_eq!(peer.ha(), ha, "kept while closed");
    peer.reopen().unwrap();
    assert_eq!(peer.ha(), ha, "bound again");
}

fn h045_reopen_opens_a_closed_peer<T: TestPeer>() {
    let mut peer = T::new(any_local_config()).unwrap();
    peer.reopen().unwrap();
    let ha = peer.ha();
    peer.reopen().unwrap();
    assert!(peer.opened());
    assert_eq!(peer.ha(), ha);
}

fn h046_reopen_in_the_settings_opens_at_once<T: TestPeer>() {
    let peer = T::new(any_local_config().reopen(true)).unwrap();
    assert!(peer.opened() && peer.port() != 0);
}

fn h046_new_gives_the_error_of_a_failed_open<T: TestPeer>() {
    let holder: Peer = any_local();
    let error = T::new(PeerConfig::new().ha((holder.host().to_string(), holder.port())).reopen(true)).unwrap_err();
    assert!(is_in_use(&error), "{error}");
}

fn h047_open_on_an_open_peer_closes_the_first_socket<T: TestPeer>() {
    let mut peer: T = opened(any_local_config().exclusive(false));
    let (me, mut sender): (_, T) = (peer.ha(), any_local());
    sender.send(b"to the first socket", me).unwrap();
    peer.open().unwrap();
    assert_eq!(peer.ha(), me);
    assert_nothing_queued(&mut peer);
    peer.close();
    let alone: Peer = opened(PeerConfig::new().ha((me.ip().to_string(), me.port())).exclusive(true));
    assert_eq!(alone.ha(), me, "nothing is left on the port");
}

fn h048_reopen_drops_what_was_queued<T: TestPeer>() {
    let (mut peer, mut sender): (T, T) = (any_local(), any_local());
    for data in [b"1", b"2", b"3"] {
        sender.send(data, peer.ha()).unwrap();
    }
    assert_eq!(receive_one(&mut peer).0, b"1"); // a BatchPeer now holds the other two in its ring
    peer.reopen().unwrap();
    assert!(is_nothing_there(&mut peer));
    sender.send(b"4", peer.ha()).unwrap();
    assert_eq!(receive_one(&mut peer), (b"4".to_vec(), sender.ha()));
    assert!(is_nothing_there(&mut peer));
}

fn h049_an_address_of_another_machine_is_an_error_of_open<T: TestPeer>() {
    if is_elsewhere_bindable() {
        return left_out("this machine binds any address");
    }
    let mut peer = T::new(PeerConfig::new().ha((ELSEWHERE, 0))).unwrap();
    assert_eq!(peer.open().unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    assert_eq!(peer.reopen().unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

fn h050_a_failed_open_leaves_no_socket<T: TestPeer>() {
    let (holder, mut receiver): (T, T) = (any_local(), any_local());
    let mut peer = T::new(PeerConfig::new().ha((holder.host().to_string(), holder.port()))).unwrap();
    peer.open().unwrap_err();
    assert!(!peer.opened());
    assert_eq!(peer.ha(), holder.ha(), "unchanged");
    assert_eq!(peer.actual_buf_sizes(), (0, 0));
    assert_eq!(peer.receive().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(peer.send(b"from nowhere", receiver.ha()).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_nothing_queued(&mut receiver);
    assert!(peer.close());
}

fn h050_a_failed_open_can_be_tried_again<T: TestPeer>() {
    let mut holder: T = any_local();
    let mut peer = T::new(PeerConfig::new().ha((holder.host().to_string(), holder.port()))).unwrap();
    peer.open().unwrap_err();
    holder.close();
    peer.reopen().unwrap();
    assert_eq!(peer.ha(), holder.ha());
}

fn h051_an_ipv6_host_opens_an_ipv6_socket<T: TestPeer>() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return left_out("this machine has no IPv6 loopback");
    }
    let config = PeerConfig::new().ha(("::1", 0)).exclusive(true);
    let (mut alpha, mut beta): (T, T) = (opened(config.clone()), opened(config));
    assert_eq!(alpha.send(b"over IPv6", beta.ha()).unwrap(), 9);
    assert_eq!(receive_one(&mut beta), (b"over IPv6".to_vec(), alpha.ha()));
}

/// Every flag the holder of a port can have set, on the same host and on every interface.
fn h054_a_port_in_use_is_an_error_unless_shared<T: TestPeer>() {
    for host in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        for (reuse_address, reuse_port) in [(false, false), (true, false), (false, true), (true, true)] {
            let holder = bare_socket();
            holder.bind(&SocketAddr::from((host, 0)).into()).unwrap(); // on a port nobody else has
            set_reuse(&holder, reuse_address, reuse_port);
            let port = holder.local_addr().unwrap().as_socket().unwrap().port();
            let mut peer = T::new(PeerConfig::new().ha(("127.0.0.1", port))).unwrap();
            let result = peer.open();
            if reuse_address || (reuse_port && cfg!(unix)) {
                result.unwrap_or_else(|error| panic!("{host} {reuse_address} {reuse_port}: {error}"));
            } else {
                assert!(is_in_use(&result.unwrap_err()), "{host}");
                assert!(!peer.opened());
            }
        }
    }
}

fn set_reuse(socket: &socket2::Socket, reuse_address: bool, reuse_port: bool) {
    socket.set_reuse_address(reuse_address).unwrap();
    #[cfg(unix)]
    socket.set_reuse_port(reuse_port).unwrap();
    #[cfg(not(unix))]
    let _ = reuse_port;
}

fn h055_a_failed_open_of_an_open_peer_closes_it<T: TestPeer>() {
    let (mut peer, holder): (T, T) = (any_local(), any_local());
    peer.set_ha(&holder.host().to_string(), holder.port()).unwrap();
    peer.open().unwrap_err();
    assert!(!peer.opened());
}

fn h056_a_failed_reopen_closes_the_peer<T: TestPeer>() {
    let (mut peer, holder): (T, T) = (any_local(), any_local());
    peer.set_ha(&holder.host().to_string(), holder.port()).unwrap();
    peer.reopen().unwrap_err();
    assert!(!peer.opened());
}

fn h058_a_host_set_later_is_bound_resolved<T: TestPeer>() {
    let mut peer = T::new(any_local_config()).unwrap();
    for (host, bound) in [("localhost", "127.0.0.1"), ("", "0.0.0.0"), ("127.0.0.1", "127.0.0.1")] {
        peer.set_ha(host, 0).unwrap();
        peer.reopen().unwrap();
        assert_eq!(peer.host().to_string(), bound);
    }
}

fn h060_close_is_always_true<T: TestPeer>() {
    let mut peer = T::new(any_local_config()).unwrap();
    assert!(peer.close(), "never opened");
    peer.open().unwrap();
    let ha = peer.ha();
    assert!(peer.close());
    assert!(peer.close(), "a second time");
    assert!(!peer.opened());
    assert_eq!(peer.ha(), ha);
}

fn h062_a_closed_peer_neither_receives_nor_sends<T: TestPeer>() {
    let mut peer = T::new(any_local_config().name("shut")).unwrap();
    for _ in ["never opened", "closed"] {
        let errors = [peer.receive().unwrap_err(), peer.send(b"x", "127.0.0.1:9".parse().unwrap()).unwrap_err()];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            assert!(error.to_string().contains("'shut'"), "{error}");
        }
        peer.open().unwrap();
        peer.close();
    }
}

#[test]
fn h062_a_closed_batch_peer_refuses_its_batch_calls_too() {
    let mut peer = BatchPeer::new(any_local_config()).unwrap();
    let dst = "127.0.0.1:9".parse().unwrap();
    assert_eq!(peer.fill().unwrap_err().kind(), ErrorKind::NotConnected);
    let report = peer.send_batch([(&b"x"[..], dst)]);
    assert_eq!(report.sent, 0);
    assert_eq!(report.first_error.unwrap().1.kind(), ErrorKind::NotConnected);
    peer.queue(b"x", dst).unwrap();
    let _ = peer.flush();
    assert_eq!(peer.queued(), 1, "kept for the open");
}

fn h065_a_dropped_peer_frees_its_port<T: TestPeer>() {
    let peer: T = any_local();
    let ha = peer.ha();
    drop(peer);
    let next: T = opened(PeerConfig::new().ha((ha.ip().to_string(), ha.port())).exclusive(true));
    assert_eq!(next.ha(), ha);
}

/// What was logged, as (level, text).
static LOGGED: std::sync::Mutex<Vec<(log::Level, String)>> = std::sync::Mutex::new(Vec::new());

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push((record.level(), record.args().to_string()));
    }
    fn flush(&self) {}
}

fn errors_logged(peer_name: &str) -> Vec<String> {
    let logged = LOGGED.lock().unwrap();
    let errors = logged.iter().filter(|(level, text)| *level == log::Level::Error && text.contains(peer_name));
    errors.map(|(_, text)| text.clone()).collect()
}

#[test]
fn h066_errors_go_to_the_log_with_hios_words() {
    log::set_logger(&Recorder).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    for_each_peer_logs_its_errors::<Peer>("of one datagram");
    for_each_peer_logs_its_errors::<BatchPeer>("of batches");
}

fn for_each_peer_logs_its_errors<T: TestPeer>(name: &str) {
    let holder: T = any_local();
    let mut peer = T::new(any_local_config().name(name)).unwrap();
    peer.set_ha(&holder.host().to_string(), holder.port()).unwrap();
    peer.open().unwrap_err();
    peer.set_port(0);
    peer.open().unwrap();
    peer.send(&[0; 65_508], holder.ha()).unwrap_err();
    let errors = errors_logged(name);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with(&format!("Error opening UDP {}", holder.ha())), "{}", errors[0]);
    assert!(errors[1].starts_with(&format!("Error send UDP from {}", peer.ha())), "{}", errors[1]);
    assert!(is_nothing_there(&mut peer));
    assert_eq!(errors_logged(name).len(), 2, "nothing there is no error");
    #[cfg(target_os = "linux")]
    logs_a_refused_connection(&mut peer, name);
}

#[cfg(target_os = "linux")]
fn logs_a_refused_connection<T: TestPeer>(peer: &mut T, name: &str) {
    let (nobody, _keeper) = util::closed_port();
    peer.socket().connect(&nobody.into()).unwrap();
    peer.send(b"refused", nobody).unwrap();
    peer.receive().unwrap_err();
    let errors = errors_logged(name);
    assert!(errors[2].starts_with(&format!("Error receive on UDP {}", peer.ha())), "{errors:?}");
}
