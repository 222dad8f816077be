//! `hio-udp inspect`, from outside: what it makes of our captures, of other programs', and of damaged ones.
#![cfg(unix)]

use std::io::Write;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use hio_udp::pcapng::{self, Packet, Statistics};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use serde_json::Value;

#[path = "util/program.rs"]
mod util;
use util::{Dir, Ingest, Scratch, blast, limited, number, run, wait_until};

fn inspect(files: &[&Scratch]) -> Value {
    let names: Vec<&str> = files.iter().map(|file| file.arg()).collect();
    let output = run(&[&["inspect", "--json"], &names[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(file: &Scratch) -> String {
    let output = run(&["inspect", file.arg()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_564_800_000 + millis)
}

/// A capture of ours: `count` datagrams, a millisecond apart, of sizes 0, 1, 2 …, from ten sources.
fn ours(name: &str, count: u64) -> (Scratch, Vec<u8>) {
    let mut bytes = Vec::new();
    pcapng::put_section(&mut bytes, "test");
    pcapng::put_interface(&mut bytes, "lo");
    for n in 0..count {
        let src = format!("192.0.2.{}:9000", n % 10).parse().unwrap();
        Packet::new(&vec![7; n as usize], src, "192.0.2.99:2055".parse().unwrap(), at(n)).put(&mut bytes);
    }
    let file = Scratch::new(name);
    std::fs::write(&file.0, &bytes).unwrap();
    (file, bytes)
}

#[test]
fn counts_times_sizes_and_sources_are_those_of_the_file() {
    let (file, bytes) = ours("inspect-counts", 1001);
    let report = inspect(&[&file]);
    for (name, expected) in [("packets", 1001), ("udp", 1001), ("bytes", 500_500), ("lost", 0), ("damaged_bytes", 0)] {
        assert_eq!(number(&report, name), expected, "{name}");
    }
    assert_eq!(number(&report["files"][0], "bytes"), bytes.len() as u64);
    assert_eq!((&report["first"], &report["last"]), (&"2026-11-25T00:00:00Z".into(), &"2026-11-25T00:00:01Z".into()));
    assert_eq!((report["seconds"].as_f64(), number(&report, "datagrams_per_s")), (Some(1.0), 1001));
    let sizes = ["min", "mean", "p50", "p90", "p99", "max"].map(|name| number(&report["sizes"], name));
    assert_eq!(sizes, [0, 500, 500, 900, 990, 1000]);
    let histogram = report["size_histogram"].as_array().unwrap();
    assert_eq!(histogram.iter().map(|pair| pair[1].as_u64().unwrap()).sum::<u64>(), 1001);
    assert_eq!((number(&report["sources"], "distinct"), number(&report["destinations"], "distinct")), (10, 1));
    let heaviest = &report["sources"]["heaviest"][0];
    assert_eq!((&heaviest["address"], number(heaviest, "datagrams")), (&"192.0.2.0".into(), 101));
    let rate = report["rate"]["datagrams"].as_array().unwrap();
    assert!(rate.len() == 1001 && rate.iter().all(|count| *count == 1));
}

/// A number below a million as people read it.
fn grouped(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

#[test]
fn captures_that_the_zstd_program_has_compressed_at_any_level_are_read_whole() {
    let mut bytes = Vec::new();
    pcapng::put_section(&mut bytes, "test");
    pcapng::put_interface(&mut bytes, "lo");
    // Some like each other, some like nothing.
    let mut seed = 1_u64;
    for n in 0..1000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let text = format!("{n} {} ", seed >> 54).repeat((seed >> 58) as usize + 1);
        let src = format!("192.0.2.{}:9000", seed >> 57).parse().unwrap();
        let payload = [text.as_bytes(), &seed.to_le_bytes()].concat();
        Packet::new(&payload, src, "192.0.2.99:2055".parse().unwrap(), at(n)).put(&mut bytes);
    }
    let (plain, packed) = (Scratch::new("inspect-zstd-plain"), Scratch::new("inspect-zstd-packed"));
    std::fs::write(&plain.0, &bytes).unwrap();
    for level in ["--fast=3", "-1", "-3", "-6", "-12", "-19"] {
        let zstd =
            std::process::Command::new("zstd").args(["-q", "-f", level, plain.arg(), "-o", packed.arg()]).status();
        if !zstd.is_ok_and(|status| status.success()) {
            return println!("left out: needs the program zstd");
        }
        let report = inspect(&[&packed]);
        let found = ["udp", "damaged_bytes"].map(|name| number(&report, name));
        assert_eq!((found, number(&report["files"][0], "bytes")), ([1000, 0], bytes.len() as u64), "{level}: {report}");
        assert!(report["files"][0]["error"].is_null(), "{level}: {report}");
    }
}

#[test]
fn of_a_compressed_file_both_sizes_are_told() {
    let (file, bytes) = ours("inspect-plain", 300);
    let whole = grouped(bytes.len());
    assert_eq!(text(&file).lines().next().unwrap(), format!("{}: {whole} bytes", file.arg()));
    assert!(inspect(&[&file])["files"][0]["packed_bytes"].is_null());
    let packed = Scratch::new("inspect-packed");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    let compressed = encoder.finish().unwrap();
    std::fs::write(&packed.0, &compressed).unwrap();
    let sizes = format!("{}: {} bytes, {whole} bytes unpacked", packed.arg(), grouped(compressed.len()));
    assert_eq!(text(&packed).lines().next().unwrap(), sizes);
    let report = inspect(&[&packed]);
    let told = ["bytes", "packed_bytes"].map(|name| number(&report["files"][0], name));
    assert_eq!(told, [bytes.len() as u64, compressed.len() as u64]);
    let piped = std::process::Command::new(util::PROGRAM)
        .args(["inspect", "-"])
        .stdin(std::fs::File::open(&packed.0).unwrap())
        .output()
        .unwrap();
    let piped = String::from_utf8(piped.stdout).unwrap();
    assert_eq!(piped.lines().next().unwrap(), format!("-: {whole} bytes unpacked"));
}

#[test]
fn people_get_a_plot_and_a_histogram_of_lines_that_fit_a_terminal() {
    let (file, _) = ours("inspect-text", 1001);
    let text = text(&file);
    for part in ["1,001", "rate: up to 1,", "█", "99% up to 990", "up to  1,024", "192.0.2.9", "192.0.2.99:2055"] {
        assert!(text.contains(part), "{part:?} not in {text}");
    }
    let longest = text.lines().skip(1).map(|line| line.chars().count()).max().unwrap();
    assert!(longest <= 100, "{longest}: {text}");
}

#[test]
fn an_ingest_is_told_as_it_accounts_for_itself() {
    let file = Scratch::new("inspect-ingest");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg(), "--rcvbuf", "4096"]);
    ingest.signal("STOP");
    blast(ingest.addr, &["--count", "3000", "--rate", "max", "--size", "300"]);
    ingest.signal("CONT");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"last", ingest.addr).unwrap();
    let (_, account, _) = ingest.stop();
    let report = inspect(&[&file]);
    for (ours, theirs) in [("written", "udp"), ("kernel_dropped", "lost"), ("bytes", "bytes")] {
        assert_eq!(number(&account, ours), number(&report, theirs), "{account} {report}");
    }
    assert!(number(&report, "lost") > 0 && !report["losses"].as_array().unwrap().is_empty());
    let lost: u64 = report["losses"].as_array().unwrap().iter().map(|loss| number(loss, "lost")).sum();
    assert_eq!(lost, number(&report, "lost"));
}

#[test]
fn all_segments_of_an_ingest_are_told_as_it_accounts_for_itself() {
    let dir = Dir::new("inspect-segments");
    let sink = format!("pcapng:{}", dir.0.display());
    let args = ["--sink", &sink, "--rotate-bytes", "1M", "--rcvbuf", "20000"];
    let ingest = Ingest::start("127.0.0.1:0", &args);
    let segments = || std::fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().path());
    wait_until("more than one segment", || {
        blast(ingest.addr, &["--count", "10000", "--rate", "max", "--size", "300"]);
        ingest.signal("STOP");
        blast(ingest.addr, &["--count", "1000", "--rate", "max", "--size", "300"]);
        ingest.signal("CONT");
        segments().count() > 2
    });
    let (_, account, said) = ingest.stop();
    let segments: Vec<Scratch> = segments().map(Scratch).collect();
    let report = inspect(&segments.iter().collect::<Vec<_>>());
    assert!(segments.len() > 1 && number(&report, "lost") > 0, "{account} {said}");
    let accounted = [number(&account, "delivered"), number(&account, "kernel_dropped")];
    assert_eq!([number(&report, "udp"), number(&report, "lost")], accounted, "{account} {report}");
}

#[test]
fn losses_are_told_with_their_times() {
    let mut bytes = Vec::new();
    pcapng::put_section(&mut bytes, "test");
    pcapng::put_interface(&mut bytes, "lo");
    let (src, dst) = ("192.0.2.1:9".parse().unwrap(), "192.0.2.2:9".parse().unwrap());
    let mut packet = Packet::new(b"x", src, dst, at(0));
    packet.put(&mut bytes);
    (packet.time, packet.dropped) = (at(2000), 40);
    packet.put(&mut bytes);
    // Statistics that tell the same losses, and then more.
    for (millis, dropped) in [(3000, 40), (9000, 50)] {
        Statistics { time: at(millis), received: 42 + dropped, dropped, delivered: 2 }.put(&mut bytes);
    }
    let file = Scratch::new("inspect-losses");
    std::fs::write(&file.0, bytes).unwrap();
    let report = inspect(&[&file]);
    let losses = serde_json::json!([
        { "from": "2026-11-25T00:00:00Z", "to": "2026-11-25T00:00:02Z", "lost": 40 },
        { "from": "2026-11-25T00:00:03Z", "to": "2026-11-25T00:00:09Z", "lost": 10 },
    ]);
    assert_eq!((number(&report, "lost"), &report["losses"]), (50, &losses));
    assert!(text(&file).contains("lost by who captured: 50 datagrams"));
}

/// A UDP datagram in IPv4 in Ethernet.
fn ethernet(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    bytes.extend_from_slice(&[8, 0, 0x45, 0]);
    bytes.extend_from_slice(&(28 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 0, 2, 0]);
    bytes.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn captures_by_somebody_elses_writer_are_read_in_both_orders_and_units() {
    for (endianness, ts_resolution) in [
        (Endianness::Big, TsResolution::MicroSecond),
        (Endianness::Little, TsResolution::MicroSecond),
        (Endianness::Big, TsResolution::NanoSecond),
        (Endianness::Little, TsResolution::NanoSecond),
    ] {
        let header = PcapHeader { endianness, ts_resolution, datalink: DataLink::ETHERNET, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
        for (seconds, packet) in [(10, ethernet(b"one")), (11, arp), (12, ethernet(b"three"))] {
            let packet = PcapPacket::new(Duration::from_secs(seconds), packet.len() as u32, &packet);
            writer.write_packet(&packet).unwrap();
        }
        let file = Scratch::new("inspect-theirs");
        std::fs::write(&file.0, writer.into_writer()).unwrap();
        let report = inspect(&[&file]);
        let found = ["packets", "udp", "not_ip", "bytes"].map(|name| number(&report, name));
        assert_eq!((found, report["seconds"].as_f64()), ([3, 2, 1, 8], Some(2.0)), "{endianness:?} {report}");
    }
}

#[test]
fn damage_is_told_with_its_place_and_its_kind_and_is_no_failure() {
    let (file, bytes) = ours("inspect-damage", 100);
    let mut damaged = bytes[..bytes.len() - 30].to_vec();
    damaged[5000..5004].copy_from_slice(&[0xFF; 4]);
    damaged.splice(9000..9000, [0xAA; 5000]);
    std::fs::write(&file.0, &damaged).unwrap();
    let report = inspect(&[&file]);
    assert!(number(&report, "udp") >= 97, "{report}");
    let places = report["damage"].as_array().unwrap();
    let (last, middle) = (places.last().unwrap(), &places[places.len() - 2]);
    assert_eq!((last["kind"].as_str(), middle["kind"].as_str()), (Some("cut off"), Some("garbage")));
    assert_eq!(number(last, "at") + number(last, "bytes"), damaged.len() as u64);
    assert!(number(middle, "bytes") >= 5000 && last["file"] == file.arg());
    assert!(text(&file).contains("damage: "));
}

#[test]
fn several_files_are_summed_up() {
    let ((first, _), (second, _)) = (ours("inspect-first", 10), ours("inspect-second", 20));
    let report = inspect(&[&first, &second]);
    assert_eq!((number(&report, "udp"), report["files"].as_array().unwrap().len()), (30, 2));
}

#[test]
fn standard_input_is_a_file_too() {
    let (file, bytes) = ours("inspect-stdin", 50);
    let mut child = limited("true", &["inspect", "-", "--json"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let report: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(number(&report, "udp"), number(&inspect(&[&file]), "udp"));
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let file = Scratch::new("inspect-large");
    let mut writer = std::io::BufWriter::new(std::fs::File::create(&file.0).unwrap());
    let mut bytes = Vec::new();
    pcapng::put_section(&mut bytes, "test");
    pcapng::put_interface(&mut bytes, "lo");
    for n in 0..100_000_u64 {
        // Ever new sources: what is counted by source must not grow either.
        let src = std::net::SocketAddr::from((std::net::Ipv4Addr::from(n as u32), 9));
        Packet::new(&[0; 500], src, "192.0.2.99:2055".parse().unwrap(), at(n)).put(&mut bytes);
        writer.write_all(&bytes).unwrap();
        bytes.clear();
    }
    drop(writer);
    // 57 MB of file in 40 MB of address space, of which the program itself and its libraries take most.
    let output = limited("ulimit -v 40000", &["inspect", "--json", file.arg()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((number(&report, "udp"), &report["sources"]["distinct"]), (100_000, &Value::Null));
    assert!(number(&report["sources"], "missing_max") <= 100_000 / 1024);
}

#[test]
fn bad_input_gets_one_line_and_the_right_exit_code() {
    let text = Scratch::new("inspect-text-file");
    std::fs::write(&text.0, "no capture").unwrap();
    for (args, code, part) in [
        (&["inspect"][..], 2, "<FILE>"),
        (&["inspect", "/no/such/file"], 1, "'/no/such/file'"),
        (&["inspect", "/"], 1, "'/'"),
        (&["inspect", text.arg()], 1, "want pcap or pcapng"),
        (&["inspect", "--wrong", text.arg()], 2, "'--wrong'"),
    ] {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
    assert!(String::from_utf8(run(&["inspect", "--help"]).stdout).unwrap().contains("Examples:"));
}
