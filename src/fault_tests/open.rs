//! What opening meets.

use super::*;

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
