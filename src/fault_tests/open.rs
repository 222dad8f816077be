//! What opening meets.

use super::table::{BIND, OPTION, SOCKET};
use std::net::Ipv4Addr;

use super::*;
use crate::{BoundPipeline, Direction, Interface, Pipeline, Spread};

/// The system's limit for one direction, if it says.
#[cfg(target_os = "linux")]
fn limit(name: &str) -> Option<usize> {
    std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?.trim().parse().ok()
}

#[test]
#[cfg(target_os = "linux")]
fn t20_h38_a_clamped_buffer_says_so_and_names_what_lifts_it() {
    const HUGE: usize = 1 << 29;
    let faults = Faults::new();
    faults.errno(Call::ForceBuffer, usize::MAX, EPERM);
    for (direction, name) in [(Direction::Receive, "rmem_max"), (Direction::Send, "wmem_max")] {
        let Some(limit) = limit(name).filter(|limit| *limit < HUGE) else { continue };
        // Half as much again as the limit is less than what Linux then reports, and clamped all the same.
        for asked in [HUGE, limit + limit / 2] {
            let mut report = None;
            let logged = logged_by(|| {
                let config = match direction {
                    Direction::Receive => config().recv_buf_bytes(asked),
                    Direction::Send => config().send_buf_bytes(asked),
                };
                let mut peer = Peer::new(config).expect("a clamp is no failure");
                for _ in 0..3 {
                    peer.reopen().unwrap();
                }
                report = peer.buf_report(direction);
            });
            let report = report.unwrap();
            assert_eq!((report.asked_bytes, report.actual_bytes, report.clamped), (asked, 2 * limit, true));
            let advice = format!("sysctl -w net.core.{name}={asked}");
            assert!(report.to_string().contains(&advice), "{report}");
            assert_eq!(logged.len(), 1, "once in a peer's life: {logged:?}");
            assert!(logged[0].starts_with("WARN peer 'main'") && logged[0].contains(&advice), "{logged:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn t20_where_force_is_allowed_nothing_is_clamped() {
    use crate::sys::socket::{force_recv_buffer, force_send_buffer};

    const HUGE: usize = 1 << 29;
    let faults = Faults::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let is_allowed = force_recv_buffer(&socket, HUGE).is_ok() && force_send_buffer(&socket, HUGE).is_ok();
    let peer = Peer::new(config().recv_buf_bytes(HUGE).send_buf_bytes(HUGE)).unwrap();
    for (direction, name) in [(Direction::Receive, "rmem_max"), (Direction::Send, "wmem_max")] {
        let Some(limit) = limit(name) else { continue };
        let report = peer.buf_report(direction).unwrap();
        assert_eq!(report.clamped, !is_allowed && limit < HUGE, "{report:?}");
        assert_eq!(report.actual_bytes, if report.clamped { 2 * limit } else { 2 * HUGE });
    }

    faults.errno(Call::ForceBuffer, usize::MAX, EPERM);
    let default = Peer::new(config()).unwrap();
    let report = default.buf_report(Direction::Receive).unwrap();
    assert_eq!((report.asked_bytes, report.clamped), (0, false), "the default is enough: nothing was asked");
    let small = Peer::new(config().recv_buf_bytes(8_192)).unwrap();
    let report = small.buf_report(Direction::Receive).unwrap();
    assert_eq!((report.asked_bytes, report.actual_bytes, report.clamped), (8_192, 16_384, false), "lowered as asked");
    assert_eq!(small.actual_buf_sizes().1, report.actual_bytes);
}

/// What an error of a call means to an open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Costs {
    /// It fails.
    TheOpen,
    /// It fails, unless the system does not have the option.
    TheOpenUnlessMissing,
    /// It goes on without.
    Nothing,
}
use Costs::{Nothing, TheOpen, TheOpenUnlessMissing};

/// A closed peer with every setting that asks the kernel for an option.
macro_rules! closed_with_all_options {
    ($peer:ty) => {{
        let config = config().exclusive(false).bcast(true).recv_buf_bytes(65_536).send_buf_bytes(65_536);
        let config = config.rx_time(true).dst_addr(true).ecn(true).gram_size(65_535).coalesce(true);
        let mut peer = <$peer>::new(config.reopen(false)).unwrap();
        peer.join_multicast(GROUP.into(), Interface::Address(Ipv4Addr::LOCALHOST)).unwrap();
        peer.set_multicast_ttl(2).unwrap();
        peer.set_multicast_loop(false).unwrap();
        peer.set_multicast_interface(Interface::Address(Ipv4Addr::LOCALHOST)).unwrap();
        peer
    }};
}

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 7, 7);

fn refused_opens<T: Transport>(mut peer: T) {
    let faults = Faults::new();
    peer.reopen().unwrap();
    // Broadcast, both ways of sharing, no blocking.
    let mut options = vec![TheOpen; 4];
    // Both buffers, which are the system's then; the drop counter.
    options.extend([Nothing, Nothing, TheOpenUnlessMissing]);
    if is_batch::<T>() {
        options.extend([TheOpenUnlessMissing; 3]); // time, destination, ECN
        options.extend((BACKEND == "mmsg").then_some(Nothing)); // coalescing
    }
    // Membership, hops, loop, interface.
    options.extend([TheOpen; 4]);
    assert_eq!(fault::made(Call::SetOption), options.len() as u64);
    // Each buffer before and after, and the address.
    assert_eq!(fault::made(Call::GetNeeded), 5);
    refuse_each(&mut peer, &faults, Call::Socket, SOCKET, &[TheOpen]);
    refuse_each(&mut peer, &faults, Call::Bind, BIND, &[TheOpen]);
    refuse_each(&mut peer, &faults, Call::SetOption, OPTION, &options);
    refuse_each(&mut peer, &faults, Call::GetNeeded, OPTION, &[TheOpen; 5]);
    peer.reopen().unwrap();
    let me = peer.ha();
    assert_eq!(peer.send(b"again", me).unwrap(), 5);
    assert_eq!(receive_one(&mut peer), b"again");
    let stats = peer.stats();
    assert_eq!((stats.grams_sent, stats.grams_received, stats.recv_failed, stats.grams_send_failed), (1, 1, 0, 0));
}

/// Makes the calls of one kind fail in turn, with each errno; `costs` says for each of them what that means.
fn refuse_each<T: Transport>(peer: &mut T, faults: &Faults, call: Call, errnos: &[i32], costs: &[Costs]) {
    for (at, costs) in costs.iter().enumerate() {
        for &errno in errnos {
            refuse_one(peer, faults, call, at, errno, *costs);
        }
    }
}

/// Opens the peer while the call behind `at` others of its kind fails with `errno`.
fn refuse_one<T: Transport>(peer: &mut T, faults: &Faults, call: Call, at: usize, errno: i32, costs: Costs) {
    let is_spared = costs == Nothing || (costs == TheOpenUnlessMissing && errno == libc::ENOPROTOOPT);
    fault::clear();
    faults.inject(call, at, 1, Fault::Errno(errno));
    let mut result = Ok(());
    let logged = logged_by(|| result = peer.reopen());
    assert!(fault::is_over(), "{call:?} {errno} at {at}");
    let errno_given = result.err().and_then(|error| error.raw_os_error());
    assert_eq!(errno_given, (!is_spared).then_some(errno), "{call:?} at {at}");
    assert_eq!((peer.opened(), logged.len()), (is_spared, usize::from(!is_spared)), "{logged:?}");
    if !is_spared {
        assert!(logged[0].starts_with("ERROR Error opening UDP 127."), "{logged:?}");
        assert_eq!(peer.actual_buf_sizes(), (0, 0));
        assert_eq!(peer.receive().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
        assert_eq!(peer.send(b"x", peer.ha()).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    }
}

#[test]
fn every_errno_of_an_open_is_given_and_told_once_and_the_peer_may_be_opened_again() {
    refused_opens(closed_with_all_options!(Peer));
    refused_opens(closed_with_all_options!(BatchPeer));
}

#[test]
fn every_errno_of_ipv6_only_fails_the_open_and_the_peer_may_be_opened_again() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return eprintln!("no IPv6 here: left out");
    }
    let faults = Faults::new();
    // No sharing, and buffers that are large enough: IPv6 only, no blocking, the drop counter.
    let mut peer = Peer::new(config().ha(("::1", 0)).only_v6(true)).unwrap();
    assert_eq!(fault::made(Call::SetOption), 3);
    for errno in OPTION {
        fault::clear();
        faults.errno(Call::SetOption, 1, *errno);
        assert_eq!(peer.reopen().unwrap_err().raw_os_error(), Some(*errno));
        assert!(fault::is_over() && !peer.opened(), "{errno}");
    }
    peer.reopen().unwrap();
}

#[test]
fn a_multicast_option_of_an_open_peer_that_is_refused_is_not_remembered() {
    /// Something that a peer is asked for.
    type Asked = fn(&mut Peer) -> std::io::Result<()>;
    const ON: Interface = Interface::Address(Ipv4Addr::LOCALHOST);
    let faults = Faults::new();
    let mut peer: Peer = open();
    let options_of_an_open = |peer: &mut Peer| {
        fault::clear();
        peer.reopen().unwrap();
        fault::made(Call::SetOption)
    };
    let plain = options_of_an_open(&mut peer);
    let asked: [Asked; 4] = [
        |peer| peer.join_multicast(GROUP.into(), ON),
        |peer| peer.set_multicast_ttl(2),
        |peer| peer.set_multicast_loop(false),
        |peer| peer.set_multicast_interface(ON),
    ];
    for errno in OPTION {
        for ask in asked {
            faults.errno(Call::SetOption, 1, *errno);
            assert_eq!(ask(&mut peer).unwrap_err().raw_os_error(), Some(*errno));
            assert_eq!((peer.opened(), options_of_an_open(&mut peer)), (true, plain), "{errno}");
        }
    }
    asked[0](&mut peer).unwrap();
    for errno in OPTION {
        faults.errno(Call::SetOption, 1, *errno);
        assert_eq!(peer.leave_multicast(GROUP.into(), ON).unwrap_err().raw_os_error(), Some(*errno));
        assert_eq!(options_of_an_open(&mut peer), plain + 1, "still a member: {errno}");
    }
    peer.leave_multicast(GROUP.into(), ON).unwrap();
    assert_eq!(options_of_an_open(&mut peer), plain);
}

/// Makes every call of `bind` fail in turn, for as long as there is one; each time the error is given, and the next
/// pipeline finds the port free.
fn refused_pipelines(call: Call, errnos: &[i32], bind: impl Fn() -> std::io::Result<BoundPipeline>) {
    let faults = Faults::new();
    drop(bind().unwrap());
    for at in 0..fault::made(call) as usize {
        for errno in errnos.iter().filter(|errno| **errno != libc::ENOPROTOOPT) {
            fault::clear();
            faults.inject(call, at, 1, Fault::Errno(*errno));
            let errno_given = bind().err().and_then(|error| error.raw_os_error());
            assert!(fault::is_over(), "{call:?} {errno} at {at}");
            assert_eq!(errno_given, Some(*errno), "{call:?} {errno} at {at}");
        }
    }
    drop(bind().unwrap());
}

#[test]
fn a_pipeline_whose_socket_is_refused_at_any_call_holds_no_port() {
    let port = std::net::UdpSocket::bind((own_host(), 0)).unwrap().local_addr().unwrap().port();
    let config = || PeerConfig::new().ha((own_host(), port)).gram_size(64).bc(4).bs(0).coalesce(false).segment(false);
    let one = || Pipeline::builder(config()).bind();
    let two = || Pipeline::builder(config()).shards(2).spread(Spread::Random).bind();
    let own_groups = || Pipeline::builder(config()).join(GROUP.into(), Interface::Address(Ipv4Addr::LOCALHOST)).bind();
    for (call, errnos) in
        [(Call::Socket, SOCKET), (Call::Bind, BIND), (Call::SetOption, OPTION), (Call::GetNeeded, OPTION)]
    {
        refused_pipelines(call, errnos, one);
        // With a group for both to bind, and a program that says which of them a datagram goes to.
        refused_pipelines(call, errnos, two);
        refused_pipelines(call, errnos, own_groups);
    }
}

#[test]
fn a_passed_socket_that_is_refused_at_any_call_is_closed() {
    let _faults = Faults::new();
    let port = std::net::UdpSocket::bind((own_host(), 0)).unwrap().local_addr().unwrap().port();
    let passed = || {
        let socket = std::net::UdpSocket::bind((own_host(), port)).expect("the port is free again");
        Pipeline::builder(PeerConfig::new().gram_size(64).bc(4).coalesce(false).segment(false)).sockets([socket]).bind()
    };
    // Its name, protocol, type and both buffers; no blocking and the drop counter.
    for (call, calls) in [(Call::GetNeeded, 5), (Call::SetOption, 2)] {
        refused_pipelines(call, OPTION, passed);
        fault::clear();
        drop(passed().unwrap());
        assert_eq!(fault::made(call), calls);
    }
}

#[test]
fn an_option_that_cannot_be_read_costs_what_it_tells_and_nothing_else() {
    let faults = Faults::new();
    for &errno in OPTION {
        faults.errno(Call::GetOption, usize::MAX, errno);
        let mut peer = BatchPeer::new(config().segment(true)).unwrap();
        assert!(!peer.segments(), "{errno}");
        let me = peer.ha();
        assert_eq!(peer.send_batch(to(&numbered(4), me)).sent, 4);
        assert_eq!(peer.fill().unwrap().len(), 4);
        let stats = peer.stats();
        assert_eq!((stats.grams_sent, stats.grams_received, stats.kernel_dropped), (4, 4, 0), "{errno}");
        if BACKEND == "mmsg" {
            // What overflows is known from the next datagram.
            let mut small = BatchPeer::new(config().recv_buf_bytes(4_096)).unwrap();
            let me = small.ha();
            let grams = vec![[b'#', 0]; 200];
            assert_eq!(small.send_batch(to(&grams, me)).sent, 200);
            while !small.fill().unwrap().is_empty() {}
            small.send(b"next", me).unwrap();
            assert_eq!(receive_one(&mut small), b"next");
            let stats = small.stats();
            assert!(stats.kernel_dropped > 0, "{errno}: {stats:?}");
            assert_eq!(stats.kernel_dropped + stats.grams_received, 201, "{errno}");
        }
        fault::clear();
    }
}
