//! Section G of docs/HIO.md: the wire log, and what the peers write into it.
//!
//! What the kernel must be made to do, and what is told to the log of the program, is tested beside
//! the source, in `src/fault_tests/`.

#[path = "util/dir.rs"]
mod dir;
mod util;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use dir::Dir;
use hio_udp::{
    BatchPeer, Doist, OpenWireLog, RecvRing, Transport, WireFormat, WireLog, WireLogConfig, WireLogDoer, open_wire_log,
};
use util::{PATIENCE, TestPeer, any_local, any_local_config, is_nothing_there, opened, receive_one, wire_entry};

for_both_peers!(
    h119_a_sent_datagram_is_an_entry,
    h120_a_received_datagram_is_an_entry,
    h121_who_is_the_destination_as_it_was_passed,
    h122_data_is_written_as_it_is,
    h123_what_the_caller_gets_is_logged,
    h124_what_is_no_datagram_is_not_logged,
    h125_empty_datagrams_are_logged,
    h126_a_closed_log_loses_no_datagram,
    h126_a_log_that_works_again_goes_on,
    h127_a_log_never_opened_is_left_alone,
    h130_two_peers_share_one_log_in_order,
    h132_a_side_that_is_off_is_not_logged,
);

fn samed() -> OpenWireLog {
    open_wire_log(WireLogConfig::new().samed(true)).unwrap()
}

/// A peer of its own that logs there.
fn logging<T: Transport>(log: &WireLog) -> T {
    opened(any_local_config().wl(log.clone()))
}

fn rx(log: &WireLog) -> Vec<u8> {
    log.read_rx().unwrap().expect("received datagrams are logged")
}

fn tx(log: &WireLog) -> Vec<u8> {
    log.read_tx().unwrap().expect("sent datagrams are logged")
}

fn them() -> SocketAddr {
    "127.0.0.1:6102".parse().unwrap()
}

fn h119_a_sent_datagram_is_an_entry<T: TestPeer>() {
    let (log, receiver): (_, T) = (samed(), any_local());
    let mut sender: T = logging(&log);
    sender.send(b"abc", receiver.ha()).unwrap();
    let expected = format!("\nTx ('{}', {}):\nabc\n", receiver.host(), receiver.port());
    assert_eq!(tx(&log), expected.into_bytes());
}

fn h120_a_received_datagram_is_an_entry<T: TestPeer>() {
    let (log, mut sender): (_, T) = (samed(), any_local());
    let mut receiver: T = logging(&log);
    sender.send(b"abc", receiver.ha()).unwrap();
    receive_one(&mut receiver);
    let expected = format!("\nRx ('{}', {}):\nabc\n", sender.host(), sender.port());
    assert_eq!(rx(&log), expected.into_bytes());
}

/// 0.0.0.0 reaches 127.0.0.1 and is logged as 0.0.0.0, on systems where it reaches anything.
fn h121_who_is_the_destination_as_it_was_passed<T: TestPeer>() {
    let (log, receiver): (_, T) = (samed(), any_local());
    let mut sender: T = logging(&log);
    let dst = SocketAddr::from(([0, 0, 0, 0], receiver.port()));
    if sender.send(b"abc", dst).is_ok() {
        assert_eq!(tx(&log), wire_entry("Tx", dst, b"abc"));
    }
}

fn h122_data_is_written_as_it_is<T: TestPeer>() {
    let log = open_wire_log(WireLogConfig::new()).unwrap();
    let mut peer: T = logging(&log);
    let (me, data) = (peer.ha(), b"\n%(who)b\0%\r\n\xFF%d%%");
    peer.send(data, me).unwrap();
    receive_one(&mut peer);
    assert_eq!(tx(&log), wire_entry("Tx", me, data));
    assert_eq!(rx(&log), wire_entry("Rx", me, data));
}

fn h123_what_the_caller_gets_is_logged<T: TestPeer>() {
    let log = open_wire_log(WireLogConfig::new()).unwrap();
    let mut peer: T = opened(any_local_config().bs(4).gram_size(4).wl(log.clone()));
    let me = peer.ha();
    peer.send(b"0123456789", me).unwrap();
    assert_eq!(tx(&log), wire_entry("Tx", me, b"0123456789"));
    assert_eq!(rx(&log), b"", "still in the socket");
    assert_eq!(receive_one(&mut peer).0, b"0123");
    assert_eq!(rx(&log), wire_entry("Rx", me, b"0123"));
}

fn h124_what_is_no_datagram_is_not_logged<T: TestPeer>() {
    let log = samed();
    let mut peer: T = logging(&log);
    let me = peer.ha();
    assert!(is_nothing_there(&mut peer));
    peer.send(&[0; 65_508], me).unwrap_err();
    peer.close();
    peer.send(b"closed", me).unwrap_err();
    peer.receive().unwrap_err();
    assert_eq!((rx(&log), peer.stats().wire_log_failed), (Vec::new(), 0));
}

fn h125_empty_datagrams_are_logged<T: TestPeer>() {
    let log = samed();
    let mut peer: T = logging(&log);
    let me = peer.ha();
    assert_eq!(peer.send(b"", me).unwrap(), 0);
    receive_one(&mut peer);
    assert_eq!(rx(&log), [wire_entry("Tx", me, b""), wire_entry("Rx", me, b"")].concat());
}

fn h126_a_closed_log_loses_no_datagram<T: TestPeer>() {
    let log = samed();
    let mut peer: T = logging(&log);
    let me = peer.ha();
    log.close().unwrap();
    assert_eq!(peer.send(b"abc", me).unwrap(), 3);
    assert_eq!(receive_one(&mut peer), (b"abc".to_vec(), me));
    let stats = peer.stats();
    assert_eq!((stats.grams_sent, stats.grams_received, stats.wire_log_failed), (1, 1, 2));
    assert_eq!(log.write_rx(b"abc", me).unwrap_err().kind(), ErrorKind::NotConnected);
}

fn h126_a_log_that_works_again_goes_on<T: TestPeer>() {
    let log = samed();
    let mut peer: T = logging(&log);
    let me = peer.ha();
    log.close().unwrap();
    peer.send(b"lost", me).unwrap();
    log.reopen().unwrap();
    assert_eq!(receive_one(&mut peer).0, b"lost");
    assert_eq!((rx(&log), peer.stats().wire_log_failed), (wire_entry("Rx", me, b"lost"), 1));
}

fn h127_a_log_never_opened_is_left_alone<T: TestPeer>() {
    let log = WireLog::new(WireLogConfig::new()).unwrap();
    let mut peer: T = logging(&log);
    let me = peer.ha();
    peer.send(b"abc", me).unwrap();
    assert_eq!(receive_one(&mut peer).0, b"abc");
    assert_eq!((peer.stats().wire_log_failed, log.read_rx().unwrap()), (0, None));
}

fn h130_two_peers_share_one_log_in_order<T: TestPeer>() {
    let log = samed();
    let (mut alpha, mut beta): (T, T) = (logging(&log), logging(&log));
    let mut expected = Vec::new();
    for data in [&b"first"[..], b"", b"third"] {
        alpha.send(data, beta.ha()).unwrap();
        receive_one(&mut beta);
        expected.extend([wire_entry("Tx", beta.ha(), data), wire_entry("Rx", alpha.ha(), data)].concat());
    }
    assert_eq!(rx(&log), expected);
    assert_eq!(tx(&log), expected);
}

fn h132_a_side_that_is_off_is_not_logged<T: TestPeer>() {
    for is_samed in [false, true] {
        for (is_rxed, is_txed) in [(true, false), (false, true), (false, false)] {
            let config = WireLogConfig::new().rxed(is_rxed).txed(is_txed).samed(is_samed);
            let log = open_wire_log(config).unwrap();
            let mut peer: T = logging(&log);
            let me = peer.ha();
            peer.send(b"abc", me).unwrap();
            receive_one(&mut peer);
            assert!(log.opened());
            assert_eq!(log.read_rx().unwrap(), is_rxed.then(|| wire_entry("Rx", me, b"abc")));
            assert_eq!(log.read_tx().unwrap(), is_txed.then(|| wire_entry("Tx", me, b"abc")));
            assert_eq!(peer.stats().wire_log_failed, 0);
        }
    }
}

mod batches {
    use super::*;

    const DATA: [&[u8]; 4] = [b"one", b"", b"three", b"four"];

    fn all(dx: &str, who: SocketAddr) -> Vec<u8> {
        DATA.iter().flat_map(|data| wire_entry(dx, who, data)).collect()
    }

    /// A peer with the four grams in its socket, and its empty log of received ones.
    fn filled() -> (OpenWireLog, BatchPeer) {
        let log = open_wire_log(WireLogConfig::new().txed(false)).unwrap();
        let mut peer: BatchPeer = logging(&log);
        let me = peer.ha();
        assert_eq!(peer.send_batch(DATA.map(|data| (data, me))).sent, 4);
        (log, peer)
    }

    #[test]
    fn h123_a_batch_is_logged_once_when_it_is_handed_out() {
        let (log, mut peer) = filled();
        let me = peer.ha();
        let mut seen = 0;
        while seen < 4 {
            seen += peer.fill_wait(PATIENCE).unwrap().len(); // and none is looked at
        }
        assert_eq!(rx(&log), all("Rx", me));
        assert!(peer.fill().unwrap().is_empty());
        assert_eq!(rx(&log), all("Rx", me));
    }

    #[test]
    fn h123_grams_in_the_ring_wait_for_their_turn() {
        let (log, mut peer) = filled();
        let me = peer.ha();
        receive_one(&mut peer);
        assert_eq!(rx(&log), wire_entry("Rx", me, b"one"));
        let mut seen = 1;
        while seen < 4 {
            seen += peer.fill().unwrap().len();
        }
        assert_eq!(rx(&log), all("Rx", me));
    }

    #[test]
    fn h123_a_ring_that_is_handed_over_is_logged_once() {
        let (log, mut peer) = filled();
        let me = peer.ha();
        let mut ring = RecvRing::new(64, 1_240).unwrap();
        let mut seen = 0;
        while seen < 4 {
            seen += peer.fill_into_wait(&mut ring, PATIENCE).unwrap();
        }
        assert_eq!(rx(&log), all("Rx", me));
        assert_eq!(peer.fill_into(&mut ring).unwrap(), 0);
        assert_eq!(rx(&log), all("Rx", me));
    }

    #[test]
    fn h123_an_exchanged_ring_is_logged_once() {
        let (log, mut peer) = filled();
        let me = peer.ha();
        // Some were given out by receive, the rest goes with the ring or stays in the socket …
        receive_one(&mut peer);
        let mut seen = 1 + peer.exchange(RecvRing::new(64, 1_240).unwrap()).len();
        // … and of a batch that fill gave, the ring takes along what is in the log already.
        while seen < 4 {
            let grams = peer.fill().unwrap().len();
            assert_eq!(peer.exchange(RecvRing::new(64, 1_240).unwrap()).len(), grams);
            seen += grams;
        }
        assert_eq!(rx(&log), all("Rx", me));
    }

    #[test]
    fn h123_a_queued_gram_is_logged_at_the_flush() {
        let log = open_wire_log(WireLogConfig::new()).unwrap();
        let mut peer: BatchPeer = logging(&log);
        let me = peer.ha();
        DATA.iter().for_each(|data| peer.queue(data, me).unwrap());
        assert_eq!(tx(&log), b"");
        assert_eq!(peer.flush().sent, 4);
        assert_eq!(tx(&log), all("Tx", me));
    }

    /// With a log too, grams that are made on the way go out as they come.
    #[test]
    fn h123_sent_grams_are_logged_before_the_last_ones_are_made() {
        let log = open_wire_log(WireLogConfig::new().rxed(false)).unwrap();
        let mut peer: BatchPeer = opened(any_local_config().bc(4).wl(log.clone()));
        let me = peer.ha();
        let mut logged = Vec::new();
        let grams = (0..10).map(|_| {
            logged.push(tx(&log).len() / wire_entry("Tx", me, b"x").len());
            (b"x", me)
        });
        assert_eq!(peer.send_batch(grams).sent, 10);
        // A batch, of four grams or a single one, has gone before the gram behind it is asked for.
        let batch = if peer.stats().backend == "single" { 1 } else { 4 };
        assert_eq!(logged, (0..10).map(|i| i / batch * batch).collect::<Vec<_>>());
        assert_eq!(tx(&log), wire_entry("Tx", me, b"x").repeat(10));
    }

    #[test]
    fn h123_both_halves_log() {
        let log = samed();
        let (mut client, mut server): (BatchPeer, BatchPeer) = (any_local(), logging(&log));
        client.send(b"ping", server.ha()).unwrap();
        let (mut rx_half, mut tx_half) = server.split();
        let report = tx_half.send_batch(rx_half.fill_wait(PATIENCE).unwrap().map(|gram| (gram.data, gram.src)));
        assert_eq!(report.sent, 1);
        client.send(b"", server.ha()).unwrap();
        let (mut rx_half, mut tx_half) = server.split();
        while rx_half.receive().unwrap().1.is_none() {}
        tx_half.send(b"pong", client.ha()).unwrap();
        let entries = [("Rx", &b"ping"[..]), ("Tx", b"ping"), ("Rx", b""), ("Tx", b"pong")];
        assert_eq!(rx(&log), entries.map(|(dx, data)| wire_entry(dx, client.ha(), data)).concat());
    }

    #[test]
    fn h124_only_what_the_kernel_took_of_a_batch_is_logged() {
        let log = samed();
        let mut peer: BatchPeer = logging(&log);
        let me = peer.ha();
        let long = vec![0; 65_508];
        let report = peer.send_batch([(&b"one"[..], me), (&long, me), (b"never tried", me)]);
        assert_eq!((report.sent, report.pending), (1, 1));
        assert_eq!(tx(&log), wire_entry("Tx", me, b"one"));
        peer.close();
        assert_eq!(peer.send_batch([(&b"closed"[..], me)]).sent, 0);
        assert_eq!(tx(&log), wire_entry("Tx", me, b"one"));
    }

    #[test]
    fn h126_every_gram_of_a_batch_the_log_lacks_is_counted() {
        let (log, mut peer) = filled();
        log.close().unwrap();
        let mut seen = 0;
        while seen < 4 {
            seen += peer.fill_wait(PATIENCE).unwrap().count();
        }
        let me = peer.ha();
        assert_eq!(peer.send_batch(DATA.map(|data| (data, me))).sent, 4);
        assert_eq!(peer.stats().wire_log_failed, 8);
    }
}

/// A log that can be read from one thread while peers write to it on others.
#[test]
fn h130_peers_on_several_threads_share_one_log() {
    let log = samed();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut peer: BatchPeer = logging(&log);
                let me = peer.ha();
                for _ in 0..50 {
                    peer.send(b"abc", me).unwrap();
                    receive_one(&mut peer);
                }
            });
        }
    });
    let text = String::from_utf8(rx(&log)).unwrap();
    assert_eq!((text.matches("\nTx (").count(), text.matches("\nRx (").count()), (200, 200));
    assert_eq!(text.matches("):\nabc\n").count(), 400, "no entry inside another");
}

#[test]
fn h129_a_new_log_has_hios_defaults() {
    let log = WireLog::new(WireLogConfig::new()).unwrap();
    assert!(log.rxed() && log.txed());
    assert!(!log.samed() && !log.filed() && !log.temp() && !log.opened());
    assert_eq!(log.fmt(), WireFormat::parse("\n%(dx)b %(who)b:\n%(data)b\n").unwrap());
    assert_eq!(log.name(), "main");
    assert_eq!((log.prefix(), log.head_dir_path()), ("hio".into(), "/usr/local/var".into()));
    assert_eq!((log.dir_path(), log.rx_path(), log.tx_path()), (None, None, None));
    assert_eq!(WireLog::new(WireLogConfig::new().name("")).unwrap().name(), "main");
}

#[test]
fn h130_in_memory_each_side_has_a_log_unless_they_share_one() {
    let log = open_wire_log(WireLogConfig::new()).unwrap();
    log.write_tx(b"1", them()).unwrap();
    log.write_rx(b"2", them()).unwrap();
    assert_eq!((tx(&log), rx(&log)), (wire_entry("Tx", them(), b"1"), wire_entry("Rx", them(), b"2")));
    let log = samed();
    log.write_tx(b"1", them()).unwrap();
    log.write_rx(b"2", them()).unwrap();
    let both = [wire_entry("Tx", them(), b"1"), wire_entry("Rx", them(), b"2")].concat();
    assert_eq!((tx(&log), rx(&log)), (both.clone(), both));
}

#[test]
fn h131_reading_takes_nothing_away_and_writing_goes_on_behind() {
    for is_filed in [false, true] {
        let log = open_wire_log(WireLogConfig::new().filed(is_filed)).unwrap();
        assert_eq!((rx(&log), tx(&log)), (Vec::new(), Vec::new()));
        let mut expected = Vec::new();
        // In a file, more than is held back in memory.
        for data in [&b"a"[..], &[b'b'; 60_000], &[b'c'; 60_000], &[b'd'; 60_000], b"e"] {
            log.write_rx(data, them()).unwrap();
            expected.extend(wire_entry("Rx", them(), data));
            assert_eq!(rx(&log), expected);
            assert_eq!(rx(&log), expected, "again");
        }
        assert_eq!(tx(&log), b"");
        log.close().unwrap();
        assert_eq!((log.read_rx().unwrap(), log.read_tx().unwrap()), (None, None));
    }
    let log = WireLog::new(WireLogConfig::new()).unwrap();
    assert_eq!((log.read_rx().unwrap(), log.read_tx().unwrap()), (None, None));
}

#[test]
fn h133_who_is_written_as_python_writes_it() {
    let log = open_wire_log(WireLogConfig::new().fmt(WireFormat::parse("%(who)b").unwrap())).unwrap();
    // As `str` of what Python's recvfrom gives.
    for (who, text) in [
        ("127.0.0.1:6102", "('127.0.0.1', 6102)"),
        ("0.0.0.0:0", "('0.0.0.0', 0)"),
        ("255.255.255.255:65535", "('255.255.255.255', 65535)"),
        ("[::1]:6102", "('::1', 6102, 0, 0)"),
        ("[2001:db8::]:1", "('2001:db8::', 1, 0, 0)"),
        ("[1:0:0:2::3]:1", "('1:0:0:2::3', 1, 0, 0)"),
        ("[::ffff:1.2.3.4]:1", "('::ffff:1.2.3.4', 1, 0, 0)"),
        ("[fe80::1%3]:6102", "('fe80::1', 6102, 0, 3)"),
    ] {
        log.reopen().unwrap();
        log.write_rx(b"", who.parse().unwrap()).unwrap();
        assert_eq!(String::from_utf8(rx(&log)).unwrap(), text);
    }
    // Python turns the flow label into the machine's order, Rust leaves it as it stood on the wire.
    let labelled = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 1, 5_u32.to_be(), 0);
    log.reopen().unwrap();
    log.write_rx(b"", labelled.into()).unwrap();
    assert_eq!(rx(&log), b"('::1', 1, 5, 0)");
}

#[test]
fn h134_a_format_is_printf_style_over_three_keys() {
    let log = open_wire_log(WireLogConfig::new()).unwrap();
    for (fmt, text) in [
        ("%(data)b", "abc"),
        ("%(dx)b|%(who)b|%(data)b", "Rx|('127.0.0.1', 6102)|abc"),
        ("%(data)s %(data)s", "abc abc"),
        ("100%% of %%(data)b: %(data)b%%", "100% of %(data)b: abc%"),
        ("text\n", "text\n"),
        ("", ""),
        ("%(dx)b é", "Rx é"),
    ] {
        log.reopen_with(|config| config.fmt(fmt.parse().unwrap())).unwrap();
        log.write_rx(b"abc", them()).unwrap();
        log.write_rx(b"abc", them()).unwrap();
        assert_eq!(String::from_utf8(rx(&log)).unwrap(), text.repeat(2), "{fmt:?}");
    }
    let raw = WireFormat::parse(b"\xFF%(data)b\0").unwrap();
    log.reopen_with(|config| config.fmt(raw)).unwrap();
    log.write_rx(b"\xFE", them()).unwrap();
    assert_eq!(rx(&log), b"\xFF\xFE\0");
}

#[test]
fn h134_what_a_format_does_not_know_is_refused_at_once() {
    for (fmt, place) in [
        ("%(payload)b", 0),
        ("ab %(DX)b", 3),
        ("%(who)b%d", 7),
        ("%(who)d", 0),
        ("%(dx)5b", 0),
        ("%%%", 2),
        ("%(data", 0),
        ("%(data)", 0),
        ("%b", 0),
    ] {
        let error = WireFormat::parse(fmt).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains(&format!("byte {place} ")) && text.contains("%(data)b"), "{fmt:?}: {text}");
    }
}

#[test]
fn h135_every_call_is_harmless_before_the_open_and_after_the_close() {
    for is_filed in [false, true] {
        for (is_rxed, is_txed) in [(true, true), (true, false), (false, true), (false, false)] {
            let config = WireLogConfig::new().temp(true).filed(is_filed).rxed(is_rxed).txed(is_txed);
            let log = WireLog::new(config).unwrap();
            log.write_rx(b"nobody's", them()).unwrap();
            log.flush().unwrap();
            log.close().unwrap();
            assert!(!log.opened());
            log.write_rx(b"still nobody's", them()).unwrap();
            log.reopen().unwrap();
            assert!(log.opened());
            log.flush().unwrap();
            assert_eq!(log.read_rx().unwrap(), is_rxed.then(Vec::new));
            log.close().unwrap();
            log.close().unwrap();
            log.flush().unwrap();
            assert_eq!(log.write_rx(b"too late", them()).unwrap_err().kind(), ErrorKind::NotConnected);
            assert_eq!(log.write_tx(b"too late", them()).unwrap_err().kind(), ErrorKind::NotConnected);
        }
    }
}

#[test]
fn h136_a_reopened_memory_is_empty() {
    let log = samed();
    log.write_rx(b"before", them()).unwrap();
    log.reopen().unwrap();
    assert_eq!(rx(&log), b"");
    log.write_rx(b"after", them()).unwrap();
    assert_eq!(rx(&log), wire_entry("Rx", them(), b"after"));
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn h137_temporary_files_go_when_the_log_is_closed() {
    let log = open_wire_log(WireLogConfig::new().filed(true)).unwrap();
    let (directory, rx_path, tx_path) = (log.dir_path().unwrap(), log.rx_path().unwrap(), log.tx_path().unwrap());
    assert!(directory.starts_with(std::env::temp_dir()) && directory.ends_with("hio/wirelogs"));
    assert_eq!((rx_path.parent(), tx_path.parent()), (Some(&*directory), Some(&*directory)));
    log.write_tx(b"abc", them()).unwrap();
    log.flush().unwrap();
    assert_eq!(std::fs::read(&tx_path).unwrap(), wire_entry("Tx", them(), b"abc"));
    assert_eq!(std::fs::read(&rx_path).unwrap(), b"");
    let own = directory.ancestors().nth(2).unwrap().to_owned();
    let name = file_name(&own);
    assert!(name.starts_with("test_") && name.ends_with("_temp"), "{name}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
    }
    log.close().unwrap();
    assert!(!own.exists());
    assert_eq!((log.dir_path(), log.rx_path(), log.tx_path()), (Some(directory), None, None));
}

#[test]
fn h137_the_last_handle_takes_temporary_files_along() {
    let log = WireLog::new(WireLogConfig::new().filed(true).temp(true).reopen(true)).unwrap();
    let (other, directory) = (log.clone(), log.dir_path().unwrap());
    drop(log);
    assert!(directory.exists());
    drop(other);
    assert!(!directory.exists());
}

#[cfg(unix)]
#[test]
fn h137_files_that_stay_are_read_by_their_owner_and_its_group_only() {
    use std::os::unix::fs::PermissionsExt;

    let head = Dir::new("h137-modes");
    let log = open_wire_log(WireLogConfig::new().filed(true).temp(false).head_dir_path(&head.0)).unwrap();
    for path in [log.rx_path().unwrap(), log.tx_path().unwrap()] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o007, 0);
    }
}

#[test]
fn h137_files_that_stay_are_below_the_head_and_named_after_log_and_time() {
    let head = Dir::new("h137");
    let config = WireLogConfig::new().filed(true).temp(false).name("bob").head_dir_path(&head.0);
    for (config, endings) in [
        (config.clone(), vec![".rx.log", ".tx.log"]),
        (config.clone().samed(true), vec![".log"]),
        (config.clone().rxed(false), vec![".tx.log"]),
        (config.clone().samed(true).txed(false).fmt(WireFormat::pcapng()), vec![".pcapng"]),
        (config.clone().fmt(WireFormat::pcapng()), vec![".rx.pcapng", ".tx.pcapng"]),
        (config.rxed(false).txed(false), vec![]),
    ] {
        let log = open_wire_log(config).unwrap();
        let mut paths: Vec<_> = [log.rx_path(), log.tx_path()].into_iter().flatten().collect();
        log.write_rx(b"abc", them()).unwrap();
        let read = log.read_rx().unwrap();
        drop(log);
        paths.dedup(); // both sides may have one
        assert_eq!(paths.len(), endings.len());
        if let Some(read) = read.filter(|_| endings.len() != 1) {
            assert_eq!(std::fs::read(&paths[0]).unwrap(), read);
        }
        for (path, ending) in paths.iter().zip(endings) {
            assert!(path.starts_with(head.0.join("hio/wirelogs")), "{}", path.display());
            // bob.2026-01-31_23-59-59_123456.rx.log
            let time = file_name(path).strip_prefix("bob.").unwrap().strip_suffix(ending).unwrap();
            let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert_eq!(shape, "0000-00-00_00-00-00_000000");
        }
    }
}

#[test]
fn h138_reopened_files_accept_entries() {
    let head = Dir::new("h138");
    let log = open_wire_log(WireLogConfig::new().filed(true).samed(true).temp(false).head_dir_path(&head.0)).unwrap();
    let first = log.rx_path().unwrap();
    log.write_rx(b"one", them()).unwrap();
    log.close().unwrap();
    log.reopen().unwrap();
    log.write_rx(b"two", them()).unwrap();
    assert_eq!(rx(&log), wire_entry("Rx", them(), b"two"));
    assert_ne!(log.rx_path().unwrap(), first);
    assert_eq!(std::fs::read(first).unwrap(), wire_entry("Rx", them(), b"one"), "the file of before stays");
}

#[test]
fn h139_an_absolute_name_or_prefix_is_refused() {
    for config in [WireLogConfig::new().name("/tmp/x"), WireLogConfig::new().prefix("/tmp")] {
        assert_eq!(WireLog::new(config.clone()).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(open_wire_log(config).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let log = samed();
    log.write_rx(b"kept", them()).unwrap();
    let error = log.reopen_with(|config| config.name("/tmp/x")).unwrap_err();
    assert!(error.to_string().contains("/tmp/x"), "{error}");
    assert_eq!((log.name(), rx(&log)), ("test".to_owned(), wire_entry("Rx", them(), b"kept")));
}

#[test]
fn h139_a_name_or_prefix_that_leads_out_is_refused() {
    for path in ["..", "../x", "x/../../y"] {
        for config in [WireLogConfig::new().name(path), WireLogConfig::new().prefix(path)] {
            let error = WireLog::new(config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(path), "{error}");
        }
    }
    WireLog::new(WireLogConfig::new().name("a..b").prefix("x/..y")).unwrap();
}

#[test]
fn h139_a_file_that_cannot_be_leaves_the_log_closed() {
    let log = open_wire_log(WireLogConfig::new().filed(true)).unwrap();
    let error = log.reopen_with(|config| config.name("no/such/directory")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!log.opened());
    assert_eq!(log.write_rx(b"", them()).unwrap_err().kind(), ErrorKind::NotConnected);
    log.reopen_with(|config| config.name("fine")).unwrap();
    assert!(log.opened());
}

#[test]
fn h140_open_wire_log_closes_on_every_path_out() {
    let kept = {
        let log = open_wire_log(WireLogConfig::new()).unwrap();
        assert!(log.opened() && log.temp() && !log.filed());
        assert_eq!(log.name(), "test");
        log.clone()
    };
    assert!(!kept.opened(), "for every handle");

    let failed = std::panic::catch_unwind(|| {
        let log = open_wire_log(WireLogConfig::new().filed(true).name("mine").temp(true)).unwrap();
        assert_eq!(log.name(), "mine");
        std::panic::panic_any((*log).clone());
    });
    let kept = *failed.unwrap_err().downcast::<WireLog>().unwrap();
    assert!(!kept.opened() && !kept.dir_path().unwrap().exists());
}

#[test]
fn h141_a_wire_log_doer_opens_its_log_unless_it_is_open() {
    let log = WireLog::new(WireLogConfig::new()).unwrap();
    let from = "127.0.0.1:1".parse().unwrap();
    let mut doist = Doist::new().with_limit(2.0 * Doist::TOCK);
    doist.add(WireLogDoer::new(log.clone()));
    assert!(!doist.run().unwrap(), "it is never done by itself");
    assert!(!log.opened());

    log.reopen().unwrap();
    log.write_rx(b"before", from).unwrap();
    doist.enter().unwrap();
    assert!(String::from_utf8(log.read_rx().unwrap().unwrap()).unwrap().contains("before"), "an open log is kept");
    doist.exit().unwrap();
    assert!(!log.opened());

    doist.enter().unwrap();
    assert_eq!(log.read_rx().unwrap().unwrap(), b"", "a closed one is opened afresh");
}
