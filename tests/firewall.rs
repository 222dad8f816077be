//! A packet filter on the way: what it refuses fails with EPERM, is told and counted, and everything else arrives.
//!
//! `tests/netns.sh` runs these as root in a private network namespace; otherwise they are left out.
#![cfg(target_os = "linux")]

#[path = "util/network.rs"]
mod network;
#[path = "util/program.rs"]
mod program;
mod util;

use std::net::SocketAddr;
use std::process::Command;

use hio_udp::{BatchPeer, Stopped, Transport};
use network::Network;
use program::{Ingest, assert_adds_up, number, run};
use serde_json::Value;
use util::{TestPeer, any_local, any_local_config, is_nothing_there, opened, receive_one, receive_rest};

for_both_peers!(a_refused_datagram_is_eperm_and_the_next_one_goes);

/// A packet filter in the private network, for one test at a time; gone when dropped.
struct Filter {
    _network: Network,
}

impl Filter {
    /// Drops what matches `rule` on its way out. `None`, with a line that says so, unless the tests run as
    /// `tests/netns.sh` runs them.
    fn drop_out(rule: &str) -> Option<Self> {
        let filter = Self { _network: Network::private()? };
        nft("add table inet hio");
        nft("add chain inet hio out { type filter hook output priority 0; }");
        nft(&format!("add rule inet hio out {rule} drop"));
        Some(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        nft("delete table inet hio");
    }
}

fn nft(command: &str) {
    let status = Command::new("nft").arg(command).status().expect("nft");
    assert!(status.success(), "{command}");
}

fn a_refused_datagram_is_eperm_and_the_next_one_goes<T: TestPeer>() {
    let (mut sender, mut refused, mut open): (T, T, T) = (any_local(), any_local(), any_local());
    let Some(_filter) = Filter::drop_out(&format!("udp dport {}", refused.port())) else { return };
    for _ in 0..3 {
        let error = sender.send(b"refused", refused.ha()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(sender.send(b"open", open.ha()).unwrap(), 4);
        assert_eq!(receive_one(&mut open).0, b"open");
    }
    assert!(is_nothing_there(&mut refused));
    let stats = sender.stats();
    assert_eq!((stats.grams_sent, stats.grams_send_failed_by_errno.of(libc::EPERM)), (3, 3));
}

/// Sends all of them, going on behind each that fails; gives the indices of those.
fn send_all(sender: &mut BatchPeer, grams: &[([u8; 2], SocketAddr)]) -> Vec<usize> {
    let (mut settled, mut failed) = (0, Vec::new());
    while settled < grams.len() {
        let report = sender.send_batch(grams[settled..].iter().map(|(data, dst)| (&data[..], *dst)));
        settled += report.settled();
        if let Some((_, error)) = report.first_error {
            assert_eq!((error.raw_os_error(), report.stopped), (Some(libc::EPERM), Stopped::Failed));
            failed.push(settled - 1);
        }
    }
    failed
}

#[test]
fn of_a_batch_exactly_the_refused_datagrams_fail() {
    for segment in [false, true] {
        let mut sender: BatchPeer = opened(any_local_config().segment(segment));
        let (mut refused, mut open): (BatchPeer, BatchPeer) = (any_local(), any_local());
        let Some(_filter) = Filter::drop_out(&format!("udp dport {}", refused.port())) else { return };
        // The first, the last, some in a row and some alone.
        let is_refused = |i: usize| i % 7 == 0 || (20..24).contains(&i) || i == 49;
        let dst = |i| if is_refused(i) { refused.ha() } else { open.ha() };
        let grams: Vec<_> = (0..50).map(|i| ([b'#', i as u8], dst(i))).collect();
        let failed = send_all(&mut sender, &grams);
        assert_eq!(failed, (0..50).filter(|i| is_refused(*i)).collect::<Vec<_>>());
        let received: Vec<u8> = receive_rest(&mut open).iter().map(|(data, _)| data[1]).collect();
        assert_eq!(received, (0..50).filter(|i| !is_refused(*i)).map(|i| i as u8).collect::<Vec<_>>());
        assert!(is_nothing_there(&mut refused));
        assert_eq!(sender.stats().grams_send_failed_by_errno.of(libc::EPERM), failed.len() as u64);
    }
}

#[test]
fn a_filter_that_refuses_every_third_packet_leaves_the_counts_exact() {
    for segment in [false, true] {
        let mut sender: BatchPeer = opened(any_local_config().segment(segment));
        let mut receiver: BatchPeer = any_local();
        let rule = format!("udp dport {} numgen inc mod 3 2", receiver.port());
        let Some(_filter) = Filter::drop_out(&rule) else { return };
        let grams: Vec<_> = (0..100).map(|i| ([b'#', i], receiver.ha())).collect();
        let failed = send_all(&mut sender, &grams);
        let received: Vec<usize> = receive_rest(&mut receiver).iter().map(|(data, _)| data[1].into()).collect();
        assert_eq!(received, (0..100).filter(|i| !failed.contains(i)).collect::<Vec<_>>());
        let stats = sender.stats();
        assert_eq!((stats.grams_sent, stats.grams_send_failed), (received.len() as u64, failed.len() as u64));
    }
}

/// What a command of the program says that sends to a port where a filter refuses every fourth packet.
fn sent_through_a_filter(args: &[&str]) {
    let ingest = Ingest::start("127.0.0.1:0", &[]);
    let rule = format!("udp dport {} numgen inc mod 4 0", ingest.addr.port());
    let Some(_filter) = Filter::drop_out(&rule) else { return };
    let to = ingest.addr.to_string();
    let output = run(&[args, &["--json", "--to", &to]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let (sent, failed) = (number(&report, "sent"), number(&report, "failed"));
    assert_eq!(sent + failed, 300, "{report}");
    assert!(failed > 0 && sent > 0, "{report}");
    assert_eq!(report["failed_by_errno"], serde_json::json!([[libc::EPERM, failed]]));
    assert_eq!(said.lines().count(), 2, "when it begins and in the end: {said}");
    assert!(said.lines().all(|line| line.contains(&to) && line.contains("Operation not permitted")), "{said}");
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 0, "{said}");
    assert_adds_up(&account, sent);
}

#[test]
fn blast_counts_what_a_filter_refuses() {
    sent_through_a_filter(&["blast", "--count", "300", "--rate", "max"]);
    sent_through_a_filter(&["blast", "--count", "300", "--rate", "max", "--segment"]);
}

#[test]
fn replay_counts_what_a_filter_refuses() {
    let file = program::Scratch::new("firewall");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg()]);
    program::blast(ingest.addr, &["--count", "300", "--rate", "50000"]);
    assert_eq!(ingest.stop().0, 0);
    sent_through_a_filter(&["replay", "--speed", "max", file.arg()]);
}

#[test]
fn a_relay_counts_what_a_filter_refuses_and_what_is_stored_is_whole() {
    let mut place: BatchPeer = opened(any_local_config().recv_buf_bytes(1 << 20));
    let rule = format!("udp dport {} numgen inc mod 4 0", place.port());
    let Some(_filter) = Filter::drop_out(&rule) else { return };
    let (relay, file) = (format!("udp:{}", place.ha()), program::Scratch::new("relay-firewall"));
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &relay, "--out", file.arg()]);
    let sent = number(&program::blast(ingest.addr, &["--count", "300", "--rate", "20000"]), "sent");
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_adds_up(&account, sent);
    let sinks = account["sinks"].as_array().unwrap();
    let of = |name: &str| sinks.iter().find(|sink| sink["sink"].as_str().unwrap().ends_with(name)).unwrap();
    let relayed = of(&relay);
    assert_eq!(number(relayed, "written"), receive_rest(&mut place).len() as u64);
    let reasons = relayed["not_written_by_reason"].as_object().unwrap();
    assert!(reasons.keys().all(|reason| reason.contains("Operation not permitted")), "{account}");
    assert_eq!(number(relayed, "written") + number(relayed, "not_written"), sent, "{account}");
    assert!(number(relayed, "not_written") > 0, "{account}");
    assert_eq!(number(of(file.arg()), "written"), sent, "{account}");
    assert_eq!(said.lines().filter(|line| line.contains("cannot send")).count(), 1, "{said}");
}
