//! `hio-udp replay`, from outside: what it sends, when, and how it accounts for it.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use hio_udp::pcapng::{self, Packet};
use serde_json::Value;

#[path = "util/own_host.rs"]
mod own_host;
#[path = "util/program.rs"]
mod util;
use own_host::own_host;
use util::{Dir, Ingest, PROGRAM, Scratch, blast, number, run, send_signal, wait_until};

/// A socket of its own that waits for what must come, and not for ever.
fn receiver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind((own_host(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    (socket, addr)
}

fn receive(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut buffer = [0; 65_535];
    let payload = |_| {
        let len = socket.recv(&mut buffer).expect("another datagram");
        buffer[..len].to_vec()
    };
    (0..count).map(payload).collect()
}

fn assert_nothing_more(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 10]).is_err());
}

/// A capture of these payloads, each with its milliseconds.
fn capture(name: &str, payloads: &[(u64, &[u8])]) -> Scratch {
    let mut bytes = start_of_capture();
    for (millis, payload) in payloads {
        put(&mut bytes, *millis, payload, payload.len());
    }
    let file = Scratch::new(name);
    std::fs::write(&file.0, bytes).unwrap();
    file
}

fn start_of_capture() -> Vec<u8> {
    let mut bytes = Vec::new();
    pcapng::put_section(&mut bytes, "test");
    pcapng::put_interface(&mut bytes, "lo");
    bytes
}

fn put(bytes: &mut Vec<u8>, millis: u64, payload: &[u8], original_len: usize) {
    let (src, dst): (SocketAddr, _) = ("[2001:db8::1]:9".parse().unwrap(), "[2001:db8::2]:9".parse().unwrap());
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_564_800_000 + millis);
    let mut packet = Packet::new(payload, src, dst, time);
    packet.original_len = original_len;
    packet.put(bytes);
}

fn replay(files: &[&Scratch], to: &str, args: &[&str]) -> Value {
    let names: Vec<&str> = files.iter().map(|file| file.arg()).collect();
    let output = run(&[&["replay", "--json", "--to", to], args, &names[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = serde_json::from_slice(&output.stdout).unwrap();
    assert_adds_up(&report);
    report
}

fn assert_adds_up(report: &Value) {
    let skipped = report["skipped"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>();
    let sum = number(report, "sent") + number(report, "failed") + number(report, "not_sent") + skipped;
    assert_eq!(sum, number(report, "packets"), "{report}");
}

#[test]
fn every_payload_is_sent_in_order_and_bit_by_bit() {
    let payloads: Vec<Vec<u8>> =
        [0, 1, 2, 100, 100, 100, 99, 1472, 9000, 65_507, 0, 3].iter().map(|len| vec![*len as u8; *len]).collect();
    let timed: Vec<(u64, &[u8])> = payloads.iter().map(|payload| (0, &payload[..])).collect();
    let file = capture("replay-all", &timed);
    for args in [&["--speed", "max"][..], &["--speed", "max", "--segment"], &[]] {
        let (socket, to) = receiver();
        let report = replay(&[&file], &to, args);
        assert_eq!(receive(&socket, payloads.len()), payloads, "{args:?}");
        assert_nothing_more(&socket);
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum::<u64>();
        assert_eq!((number(&report, "sent"), number(&report, "bytes")), (12, bytes));
    }
}

#[test]
fn what_ingest_stored_is_replayed_into_another_ingest() {
    let (first, second) = (Scratch::new("replay-first"), Scratch::new("replay-second"));
    let ingest = Ingest::start("127.0.0.1:0", &["--out", first.arg()]);
    blast(ingest.addr, &["--count", "3000", "--rate", "30000", "--sources", "3", "--size", "200"]);
    let (_, account, _) = ingest.stop();
    let written = number(&account, "written");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", second.arg()]);
    let report = replay(&[&first], &ingest.addr.to_string(), &[]);
    assert_eq!(number(&report, "sent"), written);
    let (_, account, _) = ingest.stop();
    assert_eq!(number(&account, "delivered") + number(&account, "kernel_dropped"), written, "{account}");
    assert_eq!((number(&account, "duplicates"), number(&account, "malformed")), (0, 0), "{account}");
}

#[test]
fn the_original_timing_is_kept_and_scaled() {
    let file = capture("replay-timing", &[(0, b"a"), (100, b"b"), (150, b"c"), (120, b"early"), (400, b"d")]);
    for (speed, seconds) in [("1", 0.4), ("4", 0.1), ("0.8", 0.5)] {
        let (socket, to) = receiver();
        let start = Instant::now();
        let report = replay(&[&file], &to, &["--speed", speed]);
        let took = start.elapsed().as_secs_f64();
        assert!(report["seconds"].as_f64().unwrap() >= seconds && took < seconds + 8.0, "{speed}: {report}");
        assert_eq!(receive(&socket, 5), [&b"a"[..], b"b", b"c", b"early", b"d"]);
    }
    let file = capture("replay-hour", &[(0, b"a"), (3_600_000, b"in an hour")]);
    let (socket, to) = receiver();
    let report = replay(&[&file], &to, &["--speed", "max"]);
    assert!(report["seconds"].as_f64().unwrap() < 60.0 && number(&report, "late") == 0, "{report}");
    assert_eq!(receive(&socket, 2).len(), 2);
}

#[test]
fn a_replay_takes_as_long_as_its_capture() {
    // 500 datagrams, a millisecond apart. That no delay adds to the next is a unit test's claim.
    let timed: Vec<(u64, &[u8])> = (0..500).map(|ms| (ms, &b"x"[..])).collect();
    let file = capture("replay-drift", &timed);
    let (_socket, to) = receiver();
    let report = replay(&[&file], &to, &[]);
    let late = report["latest_ms"].as_f64().unwrap() / 1e3;
    let seconds = report["seconds"].as_f64().unwrap();
    assert!((0.499..1.0 + late).contains(&seconds), "{report}");
}

#[test]
fn files_follow_each_other_and_rounds_repeat_them() {
    let first = capture("replay-a", &[(0, b"1"), (50, b"2")]);
    let second = capture("replay-b", &[(86_400_000, b"3"), (86_400_050, b"4")]);
    let (socket, to) = receiver();
    let report = replay(&[&first, &second], &to, &["--loop", "3"]);
    assert_eq!(receive(&socket, 12).concat(), b"123412341234");
    let seconds = report["seconds"].as_f64().unwrap();
    assert!((0.3..9.0).contains(&seconds) && number(&report, "packets") == 12, "{report}");
}

/// A capture of what cannot be sent: one each of cut, too long, fragment, TCP, contradictory; and `whole`.
fn odd_capture(name: &str) -> Scratch {
    let mut bytes = start_of_capture();
    put(&mut bytes, 0, b"part", 400);
    put(&mut bytes, 0, &[1; 65_520], 65_520);
    for (place, value) in [(6, 44), (6, 6), (44, 0xFF)] {
        let start = bytes.len();
        put(&mut bytes, 0, &[0, 0, 0, 0, 0, 0, 0, 1], 8);
        let packet = start + 28;
        bytes[packet + place] = value;
        bytes[packet + 43] = 1; // as a fragment: with an offset
    }
    put(&mut bytes, 0, b"whole", 5);
    bytes.truncate(bytes.len() - 1);
    bytes.extend_from_slice(&[0xEE; 40]);
    put(&mut bytes, 0, b"whole", 5);
    let file = Scratch::new(name);
    std::fs::write(&file.0, bytes).unwrap();
    file
}

#[test]
fn what_cannot_be_sent_is_skipped_with_its_reason() {
    let file = odd_capture("replay-odd");
    let (socket, to) = receiver();
    let report = replay(&[&file], &to, &["--speed", "max"]);
    assert_eq!(receive(&socket, 1), [b"whole"]);
    assert_nothing_more(&socket);
    for name in ["cut", "too_long", "fragments", "not_udp", "unreadable"] {
        assert_eq!(number(&report["skipped"], name), 1, "{name}: {report}");
    }
    assert!(number(&report, "damaged_bytes") > 40, "{report}");
    let (socket, to) = receiver();
    let report = replay(&[&file], &to, &["--speed", "max", "--allow-cut"]);
    assert_eq!(
        (receive(&socket, 2), number(&report["skipped"], "cut")),
        (vec![b"part".to_vec(), b"whole".to_vec()], 0)
    );
}

#[test]
fn a_capture_with_nothing_to_send_is_a_failure_that_says_so() {
    let mut bytes = start_of_capture();
    put(&mut bytes, 0, b"part", 400);
    let file = Scratch::new("replay-nothing");
    std::fs::write(&file.0, bytes).unwrap();
    let (_socket, to) = receiver();
    let output = run(&["replay", file.arg(), "--to", &to]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("nothing to send: 1 packets skipped"), "{said}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("--allow-cut"));
}

#[test]
fn a_signal_ends_it_cleanly_while_it_waits() {
    let file = capture("replay-signal", &[(0, b"now"), (3_600_000, b"in an hour"), (3_600_001, b"never")]);
    for signal in ["INT", "TERM"] {
        let (socket, to) = receiver();
        let mut child = Command::new(PROGRAM)
            .args(["replay", "--json", file.arg(), "--to", &to])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(receive(&socket, 1), [b"now"]);
        // From this line on it waits.
        let (mut printed, mut said) = (String::new(), String::new());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        assert!(["in 36", "in 35"].iter().any(|when| said.contains(&format!("the next is due {when}"))), "{said}");
        assert!(send_signal(signal, child.id()));
        child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
        let report: Value = serde_json::from_str(&printed).unwrap();
        assert_adds_up(&report);
        assert_eq!((number(&report, "sent"), number(&report, "not_sent")), (1, 1), "{report}");
    }
}

/// A replay that is running, with this for a standard input.
fn start(file: &str, to: &str, stdin: Stdio) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(["replay", "--json", file, "--to", to]).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Asks once, and gives what it printed; it must say nothing and end well.
fn stop(mut child: Child, signal: &str) -> Value {
    assert!(send_signal(signal, child.id()));
    wait_until("its end", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_due_goes_out_while_its_input_stands_still() {
    let (socket, to) = receiver();
    let mut child = start("-", &to, Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    for round in 0..3_u8 {
        let mut bytes = if round == 0 { start_of_capture() } else { Vec::new() };
        put(&mut bytes, 0, &[round], 1);
        stdin.write_all(&bytes).unwrap();
        assert_eq!(receive(&socket, 1), [[round]], "before there is more to read");
    }
    drop(stdin);
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn what_is_due_goes_out_while_the_next_input_stands_still() {
    let dir = Dir::new("replay-next");
    let mut bytes = start_of_capture();
    (0..3_u8).for_each(|number| put(&mut bytes, 0, &[number], 1));
    let file = dir.join("file");
    std::fs::write(&file, &bytes).unwrap();
    let (socket, to) = receiver();
    let mut command = Command::new(PROGRAM);
    command.args(["replay", "--json", "--to", &to, &file, "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    receive(&socket, 3); // before there is anything to read
    child.stdin.take().unwrap().write_all(&start_of_capture()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn one_signal_ends_it_while_its_input_stands_still() {
    let mut bytes = start_of_capture();
    (0..70_u8).for_each(|number| put(&mut bytes, 0, &[number], 1));
    let dir = Dir::new("replay-still");
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (file, signal) in [("-", "TERM"), ("-", "INT"), (pipe.as_str(), "TERM")] {
        let (socket, to) = receiver();
        let mut child = start(file, &to, Stdio::piped());
        let mut writer: Box<dyn Write> = match child.stdin.take() {
            Some(stdin) if file == "-" => Box::new(stdin),
            _ => Box::new(std::fs::File::options().write(true).open(&pipe).unwrap()),
        };
        writer.write_all(&bytes).unwrap();
        receive(&socket, 70);
        let report = stop(child, signal);
        assert_adds_up(&report);
        assert_eq!(["packets", "sent"].map(|name| number(&report, name)), [70, 70], "{report}");
    }
}

#[cfg(target_os = "linux")] // for proc(5)
#[test]
fn one_signal_ends_it_while_nobody_writes_to_its_input() {
    let dir = Dir::new("replay-nobody");
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in ["-", &pipe] {
        let (_socket, to) = receiver();
        let mut child = start(file, &to, Stdio::piped());
        let _stdin = child.stdin.take();
        wait_until("its handlers", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
            u64::from_str_radix(caught, 16).unwrap() & (1 << (libc::SIGTERM - 1)) != 0
        });
        let report = stop(child, "TERM");
        assert_eq!(number(&report, "packets"), 0, "{report}");
    }
}

#[test]
fn a_named_pipe_is_a_file_too_and_is_read_once() {
    let file = capture("replay-pipe", &[(0, b"one"), (1, b"two")]);
    let (dir, (socket, to)) = (Dir::new("replay-named"), receiver());
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let child = start(&pipe, &to, Stdio::null());
    std::fs::write(&pipe, std::fs::read(&file.0).unwrap()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(receive(&socket, 2), [b"one", b"two"]);
    let output = run(&["replay", &pipe, "--to", &to, "--loop", "2"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains(&pipe) && said.contains("read once only"), "{said}");
}

#[test]
fn what_fails_is_told_by_its_errno() {
    let file = capture("replay-fails", &[(0, b"a"), (0, b"b")]);
    // A broadcast address, which an ordinary socket may not send to: nothing leaves the machine.
    let output = run(&["replay", "--json", file.arg(), "--to", "127.255.255.255:9"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_adds_up(&report);
    assert_eq!((output.status.code(), number(&report, "failed")), (Some(1), 2));
    assert_eq!(report["failed_by_errno"][0][1], 2);
    assert!(String::from_utf8(output.stderr).unwrap().contains("127.255.255.255:9"));
}

#[test]
fn standard_input_is_a_file_too() {
    let file = capture("replay-stdin", &[(0, b"one"), (1, b"two")]);
    let (socket, to) = receiver();
    let mut child = Command::new(PROGRAM)
        .args(["replay", "-", "--to", &to])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(&file.0).unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(receive(&socket, 2), [b"one", b"two"]);
}

#[test]
fn bad_input_gets_one_line_and_the_right_exit_code() {
    let good = capture("replay-good", &[(0, b"a")]);
    let text = Scratch::new("replay-text");
    std::fs::write(&text.0, "no capture").unwrap();
    let (socket, to) = receiver();
    for (args, code, part) in [
        (&["replay", good.arg()][..], 2, "--to"),
        (&["replay", "--to", &to], 2, "<FILE>"),
        (&["replay", good.arg(), "--to", "127.0.0.1"], 2, "ADDR:PORT"),
        (&["replay", good.arg(), "--to", &to, "--speed", "0"], 2, "more than 0, or max"),
        (&["replay", good.arg(), "--to", &to, "--speed", "-1"], 2, "'-1'"),
        (&["replay", good.arg(), "--to", &to, "--loop", "0"], 2, "at least 1"),
        (&["replay", "-", "--to", &to, "--loop", "2"], 2, "standard input"),
        (&["replay", good.arg(), "/no/such/file", "--to", &to], 1, "'/no/such/file'"),
        (&["replay", good.arg(), text.arg(), "--to", &to], 1, "want pcap or pcapng"),
    ] {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
    // Nothing is sent where one of the files is wrong.
    assert_nothing_more(&socket);
    assert!(String::from_utf8(run(&["replay", "--help"]).stdout).unwrap().contains("Examples:"));
}
