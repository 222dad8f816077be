//! The built program, from outside: what it prints, stores, and how it ends.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;

#[path = "util/captures.rs"]
mod captures;
#[path = "util/program.rs"]
mod util;
use captures::read_capture;
use util::{Dir, Ingest, PROGRAM, Scratch, assert_adds_up, blast, limited, number, run, send_signal};

/// Whether this process, and so every program it starts, was started with SIGHUP ignored (`nohup`).
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
}

#[test]
fn the_demo_accounts_for_every_datagram_and_its_file_holds_them() {
    let output = run(&["ingest", "--demo", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let account: Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = Scratch(account["file"].as_str().unwrap().into());
    assert_adds_up(&account, number(&account, "sent"));
    let (packets, _) = read_capture(&file.0);
    assert!(number(&account, "written") > 10_000, "{account}");
    assert_eq!(packets.len() as u64, number(&account, "written"));
    assert_eq!(number(&account, "written"), number(&account, "delivered"));
    let port = packets[0].port(2);
    for pair in packets.windows(2) {
        assert!(pair[0].time <= pair[1].time);
        assert_eq!((pair[1].port(2), pair[1].payload().len(), pair[1].original_len), (port, 100, 128));
    }
    for name in ["gaps", "duplicates", "reordered", "malformed", "truncated", "not_written"] {
        let expected = if name == "gaps" { number(&account, "kernel_dropped") } else { 0 };
        assert!(number(&account, name) <= expected, "{name}: {account}");
    }
}

#[test]
fn a_stop_reads_out_and_writes_what_the_kernel_still_holds() {
    let file = Scratch::new("stop");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg()]);
    ingest.signal("STOP");
    blast(ingest.addr, &["--count", "200", "--rate", "max"]);
    ingest.signal("TERM");
    ingest.signal("CONT");
    let (code, account, _) = ingest.end();
    assert_eq!((code, number(&account, "written"), number(&account, "sent_seen")), (0, 200, 200));
    assert_eq!(read_capture(&file.0).0.len(), 200);
    assert_adds_up(&account, 200);
}

#[test]
fn sigint_and_sighup_end_it_too_and_a_second_signal_ends_it_at_once() {
    for signal in ["INT", "HUP"] {
        if signal == "HUP" && ignores_hangups() {
            continue; // under nohup the program goes on, as it should
        }
        let ingest = Ingest::start("127.0.0.1:0", &[]);
        ingest.signal(signal);
        assert_eq!(ingest.end().0, 0, "{signal}");
    }
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut blaster = Command::new(PROGRAM)
        .args(["blast", "--to", &nobody.local_addr().unwrap().to_string(), "--rate", "1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // The first signal may come before it is listened for; then that one ends it, which is fine too.
    while blaster.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline);
        send_signal("INT", blaster.id());
    }
}

#[test]
fn what_the_kernel_drops_is_counted_in_the_account_and_in_the_file() {
    let file = Scratch::new("drops");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg(), "--rcvbuf", "4096"]);
    ingest.signal("STOP");
    let sent = number(&blast(ingest.addr, &["--count", "5000", "--rate", "max"]), "sent");
    ingest.signal("CONT");
    // What fitted is written, so there is room again: one more carries the number of those lost before it.
    let deadline = Instant::now() + Duration::from_secs(10);
    while read_capture_len(&file) == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"last", ingest.addr).unwrap();
    let (_, account, _) = ingest.stop();
    assert_adds_up(&account, sent + 1);
    assert!(number(&account, "kernel_dropped") > 0);
    let (packets, dropped) = read_capture(&file.0);
    assert_eq!(packets.len() as u64, number(&account, "written"));
    assert_eq!(dropped, Some(number(&account, "kernel_dropped")));
    if account["backend"] != "single" {
        assert_eq!(packets.iter().map(|p| p.dropped).sum::<u64>(), number(&account, "kernel_dropped"));
    }
}

/// Number of packets in a capture that is still being written.
fn read_capture_len(file: &Scratch) -> usize {
    let Ok(reader) = std::fs::File::open(&file.0) else { return 0 };
    let Ok(mut reader) = PcapNgReader::new(reader) else { return 0 };
    let mut count = 0;
    while let Some(Ok(block)) = reader.next_block() {
        count += usize::from(matches!(block, Block::EnhancedPacket(_)));
    }
    count
}

#[test]
fn every_kind_of_datagram_is_stored_as_it_came() {
    let file = Scratch::new("kinds");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg(), "--gram-size", "1000"]);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sizes = [0, 1, 2, 3, 999, 1000, 1001, 9001, 65_507];
    for size in sizes {
        sender.send_to(&vec![size as u8; size], ingest.addr).unwrap();
    }
    let to = ingest.addr;
    let (code, account, _) = ingest.stop();
    assert_eq!((code, number(&account, "written"), number(&account, "truncated")), (0, 9, 3));
    assert_eq!(account["sent_seen"], Value::Null);
    let (packets, _) = read_capture(&file.0);
    for (packet, size) in packets.iter().zip(sizes) {
        assert_eq!(packet.payload(), vec![size as u8; size.min(1000)], "{size}");
        assert_eq!(packet.original_len, 28 + size);
        assert_eq!((packet.port(0), packet.port(2)), (sender.local_addr().unwrap().port(), to.port()));
        assert_eq!(packet.bytes[12..20], [127, 0, 0, 1, 127, 0, 0, 1]);
    }
}

#[test]
fn a_wildcard_ingest_takes_both_families_and_stores_true_destinations() {
    let file = Scratch::new("wildcard");
    let ingest = Ingest::start("[::]:0", &["--out", file.arg()]);
    let port = ingest.addr.port();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"four", ("127.0.0.2", port)).unwrap();
    UdpSocket::bind("[::1]:0").unwrap().send_to(b"six", ("::1", port)).unwrap();
    let (_, account, _) = ingest.stop();
    assert_eq!(number(&account, "written"), 2);
    let (packets, _) = read_capture(&file.0);
    let [four, six] = packets.as_slice() else { panic!("{packets:?}") };
    if account["backend"] != "single" {
        assert_eq!(four.bytes[12..20], [127, 0, 0, 1, 127, 0, 0, 2]);
        assert_eq!((six.payload(), six.bytes[23], six.bytes[39]), (&b"six"[..], 1, 1));
    }
    assert_eq!((six.is_v4(), six.payload()), (false, &b"six"[..]));
    assert_eq!(four.payload(), b"four");
}

#[test]
fn count_stops_exactly_and_what_was_read_beyond_is_left_behind() {
    let file = Scratch::new("count");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg(), "--count", "150"]);
    ingest.signal("STOP");
    blast(ingest.addr, &["--count", "200", "--rate", "max"]);
    ingest.signal("CONT");
    let (code, account, _) = ingest.end();
    assert_eq!((code, number(&account, "delivered"), number(&account, "left_behind")), (0, 150, 50));
    assert_eq!(read_capture(&file.0).0.len(), 150);
}

#[test]
fn gaps_duplicates_reordering_and_corruption_are_reported() {
    let catcher = UdpSocket::bind("127.0.0.1:0").unwrap();
    catcher.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    blast(catcher.local_addr().unwrap(), &["--count", "6", "--rate", "max", "--size", "40"]);
    let probes: Vec<Vec<u8>> = (0..6)
        .map(|_| {
            let mut buffer = [0; 100];
            let len = catcher.recv(&mut buffer).unwrap();
            buffer[..len].to_vec()
        })
        .collect();
    let ingest = Ingest::start("127.0.0.1:0", &[]);
    let mut corrupt = probes[3].clone();
    corrupt[30] ^= 1;
    // 0, 2, 1 (late), 1 again, 3 damaged, 5: number 3 and 4 are missing.
    for probe in [&probes[0], &probes[2], &probes[1], &probes[1], &corrupt, &probes[5]] {
        catcher.send_to(probe, ingest.addr).unwrap();
    }
    let (_, account, _) = ingest.stop();
    let found = ["sent_seen", "gaps", "duplicates", "reordered", "malformed", "delivered"].map(|n| number(&account, n));
    assert_eq!(found, [6, 2, 1, 1, 1, 6]);
}

#[test]
fn two_ingests_cannot_share_a_port() {
    let first = Ingest::start("127.0.0.1:0", &[]);
    let second = run(&["ingest", "--bind", &first.addr.to_string()]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&first.addr.to_string()) && said.contains("another process"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(first.stop().0, 0);
}

#[test]
fn bad_input_gets_one_line_and_the_right_exit_code() {
    for (args, code, part) in [
        (&["ingest", "--nonsense"][..], 2, "'--nonsense'"),
        (&["ingest", "--bc", "0"], 2, "'0'"),
        (&["ingest", "--bc", "-1"], 2, "slots from 1"),
        (&["ingest", "--duration", "-1"], 2, "want seconds"),
        (&["blast", "--to", "127.0.0.1:9", "--rate", "-5"], 2, "want datagrams a second"),
        (&["ingest", "--bind", "127.0.0.1"], 2, "ADDR:PORT"),
        (&["blast", "--to", "127.0.0.1:9", "--size", "65508"], 2, "'65508'"),
        (&["frobnicate"], 2, "'frobnicate'"),
        (&[], 2, "want ingest, blast"),
        (&["ingest", "--bind", "no-such-host.invalid:5"], 1, "no-such-host.invalid"),
        (&["ingest", "--bind", "203.0.113.5:0"], 1, "203.0.113.5"),
        (
            &["ingest", "--bind", "127.0.0.1:0", "--out", "/no/such/directory/x.pcapng"],
            1,
            "/no/such/directory/x.pcapng",
        ),
    ] {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

#[test]
fn help_has_examples() {
    for args in [&["--help"][..], &["ingest", "--help"], &["blast", "--help"]] {
        let output = run(args);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("Examples:"));
    }
}

#[test]
fn a_disk_that_fills_up_ends_it_and_the_file_keeps_whole_blocks() {
    let file = Scratch::new("full");
    // A limit on the size of files stands in for a full disk; ignoring its signal makes it an error.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"", PROGRAM]);
    command.args(["ingest", "--json", "--bind", "127.0.0.1:0", "--out", file.arg()]);
    let ingest = Ingest::spawn(command);
    let sent = number(&blast(ingest.addr, &["--count", "3000", "--rate", "100000", "--size", "200"]), "sent");
    let (code, account, said) = ingest.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(file.arg()) && said.contains("first"), "{said}");
    let (packets, _) = read_capture(&file.0);
    assert!(!packets.is_empty());
    assert_eq!(packets.len() as u64, number(&account, "written"));
    let delivered = number(&account, "delivered");
    assert_eq!(number(&account, "written") + number(&account, "not_written"), delivered);
    assert!(delivered <= sent);
    // Those in the file are the first that came, without a hole.
    for (sequence, packet) in packets.iter().enumerate() {
        assert_eq!(packet.payload()[16..24], (sequence as u64).to_be_bytes());
    }
}

#[test]
fn without_a_file_it_only_counts_with_few_system_calls() {
    let ingest = Ingest::start("127.0.0.1:0", &[]);
    ingest.signal("STOP");
    let sent = number(&blast(ingest.addr, &["--count", "2000", "--rate", "max", "--sources", "5"]), "sent");
    ingest.signal("CONT");
    let (_, account, _) = ingest.stop();
    assert_adds_up(&account, sent);
    assert_eq!((number(&account, "written"), account.get("file")), (0, None));
    assert_eq!(number(&account, "bytes"), 100 * number(&account, "delivered"));
    if account["backend"] != "single" {
        assert!(number(&account, "syscalls") < 2000 / 12, "{account}");
    }
}

#[test]
fn blast_sends_datagram_by_datagram_unless_told_to_segment() {
    for (extra, segmented) in [(&[][..], 0_u64), (&["--segment"], 2000)] {
        let ingest = Ingest::start("127.0.0.1:0", &[]);
        let args = ["--count", "2000", "--rate", "max", "--sources", "5"];
        let report = blast(ingest.addr, &[&args[..], extra].concat());
        let (_, account, _) = ingest.stop();
        assert_adds_up(&account, number(&report, "sent"));
        let expected = if account["backend"] == "single" { 0 } else { segmented };
        // The last batch may be a single one.
        assert!([expected, expected.saturating_sub(1)].contains(&number(&report, "segmented")), "{report}");
        assert_eq!(number(&report, "bytes"), 200_000);
    }
}

#[test]
fn blast_tells_what_failed_and_why() {
    // A broadcast address, which an ordinary socket may not send to: nothing leaves the machine.
    let output = run(&["blast", "--json", "--to", "127.255.255.255:9", "--count", "70", "--rate", "max"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((number(&report, "sent"), number(&report, "failed")), (0, 70));
    assert_eq!(report["failed_by_errno"][0][1], 70);
    let said = String::from_utf8(output.stderr).unwrap();
    for part in ["127.255.255.255:9", "Permission denied", "a broadcast address"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn blast_tells_a_failure_when_it_happens_and_goes_on() {
    let mut blaster = Command::new(PROGRAM)
        .args(["blast", "--json", "--to", "127.255.255.255:9", "--rate", "100", "--duration", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(blaster.stderr.take().unwrap());
    let mut first = String::new();
    stderr.read_line(&mut first).unwrap();
    assert!(first.contains("127.255.255.255:9") && first.contains("Permission denied"), "{first}");
    assert!(blaster.try_wait().unwrap().is_none(), "it goes on, because a network may come back");
    assert!(send_signal("TERM", blaster.id()));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!((blaster.wait().unwrap().code(), rest.lines().count()), (Some(1), 1), "{rest}");
}

#[test]
fn blast_keeps_its_rate_and_its_count() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap(); // which reads nothing
    let report = blast(nobody.local_addr().unwrap(), &["--count", "500", "--rate", "2000"]);
    assert_eq!((number(&report, "sent"), number(&report, "failed")), (500, 0));
    let seconds = report["seconds"].as_f64().unwrap();
    assert!(seconds >= 0.24, "500 at 2000 a second in {seconds} s");
}

#[test]
fn rings_larger_than_the_memory_are_one_clear_line() {
    let args = ["ingest", "--bind", "127.0.0.1:0", "--bc", "65536"];
    let output = limited("ulimit -v 2000000", &args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--bc") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_wait_as_long_as_time_itself_is_taken() {
    for option in ["--drain", "--duration"] {
        let ingest = Ingest::start("127.0.0.1:0", &[option, "1e19"]);
        blast(ingest.addr, &["--count", "3"]);
        let (code, account, said) = ingest.stop();
        assert_eq!((code, number(&account, "delivered")), (0, 3), "{option}: {said}");
    }
}

#[test]
fn a_file_whose_name_is_not_utf8_is_named_in_the_account_as_well_as_can_be() {
    use std::os::unix::ffi::OsStrExt;

    let mut path = std::env::temp_dir().into_os_string().into_encoded_bytes();
    path.extend_from_slice(format!("/hio-udp-test-{}-", std::process::id()).as_bytes());
    path.extend_from_slice(b"\xff.pcapng");
    let file = Scratch(PathBuf::from(std::ffi::OsStr::from_bytes(&path)));
    let mut command = Command::new(PROGRAM);
    command.args(["ingest", "--json", "--bind", "127.0.0.1:0", "--out"]).arg(&file.0);
    let (code, account, said) = Ingest::spawn(command).stop();
    assert_eq!(code, 0, "{said}");
    assert!(account["file"].as_str().unwrap().ends_with("-\u{fffd}.pcapng"), "{account}");
}

#[test]
fn standard_error_that_takes_nothing_stops_nothing() {
    if !std::path::Path::new("/dev/full").exists() {
        return; // Linux's
    }
    let args = ["ingest", "--json", "--bind", "127.0.0.1:0", "--duration", "0.1", "--rcvbuf", "2147483647"];
    let output = limited("exec 2>/dev/full", &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
    // A failure keeps its exit code.
    assert_eq!(limited("exec 2>/dev/full", &["ingest", "--bc", "0"]).status().unwrap().code(), Some(2));
}

#[test]
fn what_cannot_be_printed_is_a_failure() {
    if !std::path::Path::new("/dev/full").exists() {
        return; // Linux's
    }
    for args in [
        &["ingest", "--json", "--bind", "127.0.0.1:0", "--duration", "0.01"][..],
        &["blast", "--to", "127.0.0.1:9", "--duration", "0.01"],
        &["--help"],
        &["blast", "--help"],
        &["--version"],
    ] {
        let output = limited("exec >/dev/full", args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("standard output"), "{args:?}: {said}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_death() {
    let file = Scratch::new("limited");
    // The signal of that limit, SIGXFSZ, ends a process that has not said otherwise.
    let args = ["ingest", "--json", "--bind", "127.0.0.1:0", "--out", file.arg()];
    let ingest = Ingest::spawn(limited("ulimit -f 20", &args));
    blast(ingest.addr, &["--count", "1000", "--rate", "100000", "--size", "200"]);
    let (code, account, said) = ingest.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(file.arg()), "{said}");
    assert_eq!(read_capture(&file.0).0.len() as u64, number(&account, "written"));
}

#[test]
fn the_account_of_a_demo_whose_disk_is_full_adds_up_too() {
    let output = limited("ulimit -f 200", &["ingest", "--demo", "--json"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let account: Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = Scratch(account["file"].as_str().unwrap().into());
    assert!(said.contains(file.arg()), "{said}");
    assert_adds_up(&account, number(&account, "sent"));
    assert!(
        number(&account, "written") > 0 && account["seconds"].as_f64().unwrap() < 4.0,
        "its load ends with it: {account}"
    );
}

#[test]
fn a_stuck_disk_does_not_hold_up_the_stop_past_its_deadline() {
    let file = Scratch::new("stuck");
    assert!(Command::new("mkfifo").arg(&file.0).status().unwrap().success());
    // Opened for both ways, so that nobody waits for the other end; and never read.
    let _pipe = std::fs::File::options().read(true).write(true).open(&file.0).unwrap();
    for (option, place) in [("--out", file.arg().to_owned()), ("--sink", format!("jsonl:{}", file.arg()))] {
        let ingest = Ingest::start("127.0.0.1:0", &[option, &place, "--drain", "0.2"]);
        // More than all chunks hold, so that the receiver waits for the disk when the stop comes; not even the first,
        // which may be handed over alone, fits into the pipe.
        let sent = number(&blast(ingest.addr, &["--count", "1000", "--rate", "5000", "--size", "65507"]), "sent");
        let asked = Instant::now();
        ingest.signal("TERM");
        let (ended, waits) = std::sync::mpsc::channel();
        std::thread::spawn(move || ended.send(ingest.end()));
        let (code, account, said) = waits.recv_timeout(Duration::from_secs(20)).expect("a stop");
        assert!(asked.elapsed() < Duration::from_secs(10));
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&place), "{said}");
        assert_adds_up(&account, sent);
        let parts = ["written", "not_written", "delivered"].map(|name| number(&account, name));
        assert_eq!((parts[0] + parts[1], parts[0]), (parts[2], 0), "{place}");
    }
}

#[test]
fn the_scope_of_a_link_local_address_is_kept() {
    // No such interface: with the scope lost it would be EINVAL, or on some systems a success.
    let output = run(&["ingest", "--bind", "[fe80::1%4000000]:0", "--duration", "0.01"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("Invalid argument"), "{said}");
}

#[test]
fn many_sources_of_long_datagrams_share_their_memory() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap(); // which reads nothing
    let to = nobody.local_addr().unwrap().to_string();
    let args = ["blast", "--to", &to, "--sources", "400", "--size", "60000", "--count", "400", "--rate", "max"];
    // 400 MB, were each source to prepare datagrams of its own.
    let output = limited("ulimit -v 300000", &args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = limited("ulimit -n 100", &args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("400") && said.contains("--sources"), "{said}");
}

#[test]
fn the_demo_follows_no_link_that_lies_in_wait() {
    let dir = Dir::new("trap");
    std::fs::write(dir.join("victim"), "dear").unwrap();
    // `$$` is the program's own number too, which its file is named after.
    let mut demo = limited(
        "for n in '' -0; do ln -s victim \"$TMPDIR/hio-udp-demo-$$$n.pcapng\"; done",
        &["ingest", "--demo", "--json"],
    );
    let output = demo.env("TMPDIR", &dir.0).output().unwrap();
    assert_eq!(std::fs::read(dir.join("victim")).unwrap(), b"dear");
    let account: Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_there = std::path::Path::new(account["file"].as_str().unwrap()).is_file();
    assert!(output.status.success() && is_there);
}
