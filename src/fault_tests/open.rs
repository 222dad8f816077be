//! What opening meets.

use super::table::{BIND, OPTION, SOCKET};
use super::*;
use crate::Direction;

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

/// A peer with every setting that asks the kernel for an option.
fn closed_with_all_options<T: Transport>() -> T {
    T::new(config().rx_time(true).dst_addr(true).ecn(true).gram_size(65_535).coalesce(true).reopen(false)).unwrap()
}

fn refused_opens<T: Transport>() {
    let faults = Faults::new();
    let mut peer: T = closed_with_all_options();
    peer.reopen().unwrap();
    let options = fault::made(Call::SetOption) as usize;
    assert_eq!(
        options,
        if !is_batch::<T>() {
            1
        } else if BACKEND == "mmsg" {
            5
        } else {
            4
        }
    );
    // The last of them asks for coalescing.
    let set_last = if options == 5 { 4 } else { options };
    for (call, errnos, calls) in [(Call::Socket, SOCKET, 1), (Call::Bind, BIND, 1), (Call::SetOption, OPTION, options)]
    {
        for &errno in errnos {
            for at in 0..calls {
                let is_spared = call == Call::SetOption && (errno == libc::ENOPROTOOPT || at == set_last);
                fault::clear();
                faults.inject(call, at, 1, Fault::Errno(errno));
                let mut result = Ok(());
                let logged = logged_by(|| result = peer.reopen());
                assert!(fault::is_over(), "{call:?} {errno} at {at}");
                // An option the system does not have is no reason not to open, nor is coalescing.
                assert_eq!(result.as_ref().err().and_then(std::io::Error::raw_os_error), (!is_spared).then_some(errno));
                assert_eq!((peer.opened(), logged.len()), (is_spared, usize::from(!is_spared)), "{logged:?}");
                if !is_spared {
                    assert!(logged[0].starts_with("ERROR Error opening UDP 127."), "{logged:?}");
                    assert_eq!(peer.receive().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
                    assert_eq!(peer.send(b"x", peer.ha()).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
                }
            }
        }
    }
    peer.reopen().unwrap();
    let me = peer.ha();
    assert_eq!(peer.send(b"again", me).unwrap(), 5);
    assert_eq!(receive_one(&mut peer), b"again");
    let stats = peer.stats();
    assert_eq!((stats.grams_sent, stats.grams_received, stats.recv_failed, stats.grams_send_failed), (1, 1, 0, 0));
}

#[test]
fn every_errno_of_an_open_is_given_and_told_once_and_the_peer_may_be_opened_again() {
    refused_opens::<Peer>();
    refused_opens::<BatchPeer>();
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
        fault::clear();
    }
}
