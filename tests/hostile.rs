//! Input that a stranger made up: floods of sources, forged numbers, damaged captures. The program counts it, in
//! flat memory and few lines, and never panics.
#![cfg(target_os = "linux")]

#[path = "util/captures.rs"]
mod captures;
#[path = "util/program.rs"]
mod util;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use captures::read_capture;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use util::{Dir, Ingest, Scratch, assert_adds_up, blast, number, resident_bytes, run};

/// Numbers that look random and are the same in each run (Knuth's linear congruence).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// How many sources a flood has; more with `HIO_UDP_SOURCES`.
fn sources() -> u32 {
    std::env::var("HIO_UDP_SOURCES").map_or(200_000, |text| text.parse().expect("a number"))
}

/// Source number `i`: an address of 127.0.0.0/8, any port, 0 among them.
fn source(i: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x7f00_0000 | i.wrapping_mul(2_654_435_761) >> 8), i as u16)
}

/// A socket whose packets are sent as they are; `None` without the right to make packets up.
fn raw_socket() -> Option<Socket> {
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).ok();
    if raw.is_none() {
        println!("left out: needs the right to make packets up (CAP_NET_RAW)");
    }
    raw
}

/// An IPv4 packet with a datagram that claims to be from `src`.
fn packet(src: SocketAddrV4, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(dst) = dst else { panic!("{dst}") };
    let udp_len = (8 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]); // the kernel fills the checksum in
    packet.extend(src.ip().octets());
    packet.extend(dst.ip().octets());
    packet.extend(src.port().to_be_bytes());
    packet.extend(dst.port().to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    packet.extend([0, 0]); // no checksum
    packet.extend(payload);
    packet
}

#[test]
fn a_flood_of_sources_is_counted_in_flat_memory() {
    let Some(raw) = raw_socket() else { return };
    let dir = Dir::new("sources");
    let (segments, lines) = (format!("pcapng:{}/kept", dir.0.display()), format!("jsonl:{}/log", dir.0.display()));
    let args =
        ["--sink", &segments, "--rotate-bytes", "8M", "--keep-bytes", "16M", "--sink", &lines, "--rate-limit", "100"];
    let ingest = Ingest::start("127.0.0.1:0", &args);
    let send = |range: std::ops::Range<u32>| {
        for i in range {
            let sent = raw.send_to(&packet(source(i), ingest.addr, &i.to_be_bytes()), &ingest.addr.into()).unwrap();
            assert_eq!(sent, 32);
        }
    };
    // Every table has its size after a tenth of them.
    send(0..sources() / 10);
    let before = resident_bytes(&ingest) / 1024;
    send(sources() / 10..sources());
    let grown = (resident_bytes(&ingest) / 1024).saturating_sub(before);
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    let sum: u64 = ["delivered", "denied", "rate_limited", "kernel_dropped", "left_behind"]
        .iter()
        .map(|name| number(&account, name))
        .sum();
    assert_eq!(sum, u64::from(sources()), "{account}");
    assert!(number(&account, "delivered") > 0, "{account}");
    // The queues of the sinks are touched when they are first used.
    println!("{} sources: {before} kB, and {grown} kB more", sources());
    assert!(grown < 48 << 10, "from {before} kB by {grown} kB");
}

#[test]
fn sources_that_cannot_be_are_stored_as_they_came_and_can_be_denied() {
    let Some(raw) = raw_socket() else { return };
    let dir = Dir::new("spoofed");
    let lines = format!("jsonl:{}/log", dir.0.display());
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &lines, "--deny", "240.0.0.0/4"]);
    // Somebody else's, a group's, port 0, its own; then every station's and a reserved one, which are denied.
    let claimed = ["203.0.113.9:53", "224.0.0.1:9", "198.51.100.1:0", &ingest.addr.to_string()].map(String::from);
    let denied = ["255.255.255.255:68", "240.0.0.1:65535"].map(String::from);
    for src in claimed.iter().chain(&denied) {
        raw.send_to(&packet(src.parse().unwrap(), ingest.addr, b"spoofed"), &ingest.addr.into()).unwrap();
    }
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_adds_up(&account, 6);
    assert_eq!((number(&account, "delivered"), number(&account, "denied")), (4, 2), "{account}");
    let text = fs::read_to_string(dir.0.join("log")).unwrap();
    let stored: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(stored.iter().map(|line| line["src"].as_str().unwrap()).eq(&claimed), "{text}");
}

/// A datagram of blast's, as it leaves.
fn probe() -> Vec<u8> {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    blast(receiver.local_addr().unwrap(), &["--count", "1"]);
    let mut buffer = [0; 2000];
    let len = receiver.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

#[test]
fn forged_numbers_of_blast_are_counted_and_neither_told_nor_believed() {
    const FORGED: usize = 20_000;
    let dir = Dir::new("forged");
    let (segments, lines) = (format!("pcapng:{}/kept", dir.0.display()), format!("jsonl:{}/log", dir.0.display()));
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &segments, "--sink", &lines]);
    let (sender, probe, mut numbers) = (UdpSocket::bind("127.0.0.1:0").unwrap(), probe(), Numbers(1));
    for _ in 0..FORGED {
        let mut forged = probe.clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(forged.len());
            forged[at] = numbers.below(256) as u8;
        }
        // A byte may have been given the value it had.
        forged[0] ^= u8::from(forged == probe);
        forged.truncate(numbers.below(forged.len() + 1));
        sender.send_to(&forged, ingest.addr).unwrap();
    }
    let before = resident_bytes(&ingest) / 1024;
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_adds_up(&account, FORGED as u64);
    let malformed = number(&account, "malformed");
    assert!(malformed > 0 && malformed <= number(&account, "delivered"), "{account}");
    assert!(account["sent_seen"].is_null(), "no number is believed: {account}");
    assert_eq!(["gaps", "duplicates", "reordered"].map(|name| number(&account, name)), [0; 3], "{account}");
    assert!(before < 256 << 10, "{before} kB");
}

#[test]
fn an_empty_and_the_longest_datagram_follow_each_other_through_every_sink() {
    let dir = Dir::new("sizes");
    let (segments, lines) = (format!("pcapng:{}/kept", dir.0.display()), dir.0.join("log"));
    let place = UdpSocket::bind("127.0.0.1:0").unwrap();
    place.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (log, relay) = (format!("jsonl:{}", lines.display()), format!("udp:{}", place.local_addr().unwrap()));
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &segments, "--sink", &log, "--sink", &relay]);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sizes = [65_507, 0, 65_507, 1, 0, 0, 65_506, 3];
    let mut buffer = vec![0; 65_536];
    for size in sizes {
        sender.send_to(&vec![0xff; size], ingest.addr).unwrap();
        assert_eq!(place.recv(&mut buffer).unwrap(), size);
    }
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_adds_up(&account, sizes.len() as u64);
    let text = fs::read_to_string(&lines).unwrap();
    let lens: Vec<u64> = text.lines().map(|line| number(&serde_json::from_str(line).unwrap(), "len")).collect();
    assert_eq!(lens, sizes.map(|size| size as u64));
}

/// The same packets as pcapng, as classic pcap, and the pcapng compressed in both ways.
fn captures() -> [(&'static str, Vec<u8>); 4] {
    let whole = Scratch::new("whole");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", whole.arg()]);
    blast(ingest.addr, &["--count", "2000", "--rate", "20000", "--size", "60"]);
    assert_eq!(ingest.stop().0, 0);
    let pcapng = fs::read(&whole.0).unwrap();
    let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
    let mut pcap = PcapWriter::with_header(Vec::new(), header).unwrap();
    for packet in read_capture(&whole.0).0 {
        pcap.write_packet(&PcapPacket::new(packet.time, packet.bytes.len() as u32, &packet.bytes)).unwrap();
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&pcapng).unwrap();
    let zst = ruzstd::encoding::compress_to_vec(&pcapng[..], ruzstd::encoding::CompressionLevel::Fastest);
    [("pcapng", pcapng), ("pcap", pcap.into_writer()), ("gz", gz.finish().unwrap()), ("zst", zst)]
}

/// Bytes that were changed, cut off or put in, at places and in numbers that `seed` says.
fn damage(bytes: &[u8], seed: u64) -> Vec<u8> {
    let (mut numbers, mut copy) = (Numbers(seed), bytes.to_vec());
    for _ in 0..=numbers.below(12) {
        let at = numbers.below(copy.len());
        match numbers.below(4) {
            0 => copy[at] = 0xff, // a length that lies
            1 => copy.truncate(at.max(1)),
            2 => drop(copy.splice(at..at, [0; 3])),
            _ => copy[at] = numbers.below(256) as u8,
        }
    }
    copy
}

fn sum_of(report: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| number(report, name)).sum()
}

#[test]
fn damaged_captures_are_inspected_and_replayed_without_a_panic_and_with_counts_that_add_up() {
    const DAMAGED: u64 = 40;
    let damaged = Scratch::new("damaged");
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap(); // which reads nothing
    let to = nobody.local_addr().unwrap().to_string();
    let captures = captures();
    let start = Instant::now();
    for (kind, bytes) in &captures {
        let mut read = 0;
        for seed in 0..DAMAGED {
            fs::write(&damaged.0, damage(bytes, seed)).unwrap();
            for args in [
                &["inspect", "--json", damaged.arg()][..],
                &["replay", "--json", "--speed", "max", "--to", &to, damaged.arg()],
            ] {
                let output = run(args);
                let said = String::from_utf8(output.stderr).unwrap();
                let context = format!("{kind} {seed}: {said}");
                assert!(matches!(output.status.code(), Some(0 | 1)), "{context}");
                assert!(!said.contains("panicked") && said.lines().count() <= 3, "{context}");
                let names = [damaged.arg(), &to, "nothing to send"];
                assert!(output.status.success() || names.iter().any(|name| said.contains(name)), "{context}");
                let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
                    assert_eq!(output.status.code(), Some(1), "{context}");
                    continue;
                };
                read += 1;
                if args[0] == "replay" {
                    let skipped: u64 =
                        report["skipped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
                    let sum = sum_of(&report, &["sent", "failed", "not_sent"]) + skipped;
                    assert_eq!(sum, number(&report, "packets"), "{context}: {report}");
                } else {
                    let kinds = ["udp", "fragments", "not_udp", "not_ip", "unknown_link", "short", "malformed"];
                    assert_eq!(sum_of(&report, &kinds), number(&report, "packets"), "{context}: {report}");
                    assert!(number(&report, "damaged_bytes") <= number(&report["files"][0], "bytes"), "{context}");
                }
            }
        }
        assert!(read > 0, "no damaged {kind} could be read at all");
    }
    assert!(start.elapsed() < Duration::from_secs(120), "lengths that lie take time");
}
