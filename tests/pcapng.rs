//! The pcapng encoder, and wire logs written with it, read back by somebody else's reader; checksums by a naive one.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use hio_udp::pcapng::{self, Flow, Packet, Statistics};
use hio_udp::{BatchPeer, Peer, PeerConfig, Transport, WireFormat, WireLogConfig, open_wire_log};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, Endianness};

const TIME: Duration = Duration::new(1_700_000_000, if cfg!(windows) { 123_456_700 } else { 123_456_789 });

fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + TIME
}

fn started() -> Vec<u8> {
    let mut file = Vec::new();
    pcapng::put_section(&mut file, "tests 1");
    pcapng::put_interface(&mut file, "udp of tests");
    file
}

fn read(file: &[u8]) -> Vec<Block<'static>> {
    let mut reader = PcapNgReader::new(file).expect("a section header");
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block() {
        blocks.push(block.expect("a whole block").into_owned());
    }
    blocks
}

/// What one packet becomes.
fn read_packet(packet: &Packet<'_>) -> EnhancedPacketBlock<'static> {
    let mut file = started();
    packet.put(&mut file);
    assert_eq!(file.len() % 4, 0);
    match read(&file).pop() {
        Some(Block::EnhancedPacket(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The sum over 16-bit words that a correct checksum makes all ones, written for clearness.
fn sum(bytes: &[u8]) -> u32 {
    let words = (0..bytes.len()).step_by(2).map(|i| (bytes[i], bytes.get(i + 1).copied().unwrap_or(0)));
    words.fold(0, |sum, (high, low)| {
        let sum = sum + u32::from(u16::from_be_bytes([high, low]));
        (sum & 0xFFFF) + (sum >> 16)
    })
}

#[test]
fn a_capture_begins_with_its_program_and_its_interface() {
    let file = started();
    let reader = PcapNgReader::new(&file[..]).unwrap();
    let section = reader.section();
    assert_eq!((section.endianness, section.major_version, section.minor_version), (Endianness::Little, 1, 0));
    assert_eq!(section.section_length, -1);
    assert_eq!(section.options, [SectionHeaderOption::UserApplication("tests 1".into())]);
    let [Block::InterfaceDescription(interface)] = &read(&file)[..] else { panic!("one interface") };
    assert_eq!((interface.linktype, interface.snaplen), (DataLink::RAW, 0));
    let options = [InterfaceDescriptionOption::IfName("udp of tests".into()), InterfaceDescriptionOption::IfTsResol(9)];
    assert_eq!(interface.options, options);
}

#[test]
fn a_packet_of_any_length_is_read_back_in_both_families() {
    let families = [("10.1.2.3:4567", "192.0.2.9:53", 20), ("[2001:db8::1]:4567", "[::1]:53", 40)];
    for (src, dst, ip_header) in families {
        for len in [0, 1, 2, 3, 4, 5, 1_240, 65_507] {
            let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let block = read_packet(&Packet::new(&data, address(src), address(dst), time()));
            assert_eq!((block.timestamp, block.interface_id), (TIME, 0));
            assert_eq!(block.options, []);
            let packet = &block.data;
            assert_eq!((packet.len(), block.original_len as usize), (ip_header + 8 + len, ip_header + 8 + len));
            assert_eq!(&packet[ip_header + 8..], data);
            let udp = &packet[ip_header..];
            assert_eq!(udp[..4], [0x11, 0xD7, 0, 53], "the ports");
            assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), 8 + len);
            if ip_header == 20 {
                assert_eq!((packet[0], packet[9]), (0x45, 17));
                assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), 28 + len);
                assert_eq!(packet[12..20], [10, 1, 2, 3, 192, 0, 2, 9]);
                assert_eq!(sum(&packet[..20]), 0xFFFF);
                assert_eq!(udp[6..8], [0, 0], "no checksum");
            } else {
                assert_eq!((packet[0], packet[6]), (0x60, 17));
                assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), 8 + len);
                let mut covered = packet[8..].to_vec();
                covered.extend_from_slice(&[0; 4][..len % 2]);
                covered.extend_from_slice(&(8 + len as u32).to_be_bytes());
                covered.extend_from_slice(&17_u32.to_be_bytes());
                assert_eq!(sum(&covered), 0xFFFF, "{len} bytes");
            }
        }
    }
}

#[test]
fn an_ipv6_checksum_of_zero_is_written_as_ones() {
    let (src, dst) = (address("[::]:0"), address("[::]:0"));
    // Two lengths and the protocol are all there is besides; this data makes the sum all ones.
    let data = (0xFFFF_u16 - 2 * 10 - 17).to_be_bytes();
    let block = read_packet(&Packet::new(&data, src, dst, time()));
    assert_eq!(block.data[46..48], [0xFF, 0xFF]);
}

#[test]
fn direction_and_losses_are_options() {
    let (src, dst) = (address("127.0.0.1:1"), address("127.0.0.1:2"));
    for (flow, flags) in [(None, None), (Some(Flow::Inbound), Some(1)), (Some(Flow::Outbound), Some(2))] {
        for dropped in [0, 1, u64::MAX] {
            let mut packet = Packet::new(b"odd", src, dst, time());
            (packet.flow, packet.dropped) = (flow, dropped);
            let flags = flags.map(EnhancedPacketOption::Flags);
            let losses = (dropped > 0).then_some(EnhancedPacketOption::DropCount(dropped));
            let options: Vec<_> = flags.into_iter().chain(losses).collect();
            assert_eq!(read_packet(&packet).options, options);
        }
    }
}

#[test]
fn a_cut_datagram_keeps_its_true_length_and_has_no_real_checksum() {
    // 0 means "none", which IPv6 does not allow; a checksum of what is missing nobody can check.
    for (host, headers, checksum) in [("127.0.0.1", 28, [0, 0]), ("[::1]", 48, [0xFF, 0xFF])] {
        let me = address(&format!("{host}:9"));
        let mut packet = Packet::new(b"beginning", me, me, time());
        packet.original_len = 3_000;
        let block = read_packet(&packet);
        assert_eq!((block.data.len(), block.original_len), (headers + 9, headers as u32 + 3_000));
        assert_eq!(block.data[headers - 4..headers - 2], 3_008_u16.to_be_bytes());
        assert_eq!(block.data[headers - 2..headers], checksum);
        // No length there is makes the fields overflow.
        packet.original_len = 70_000;
        assert_eq!(read_packet(&packet).data[headers - 4..headers - 2], [0xFF, 0xFF]);
    }
}

#[test]
fn families_can_be_mixed() {
    let (v4, mapped, v6) = (address("127.0.0.1:9"), address("[::ffff:10.0.0.1]:9"), address("[2001:db8::1]:9"));
    assert_eq!(read_packet(&Packet::new(b"", v4, mapped, time())).data[12..20], [127, 0, 0, 1, 10, 0, 0, 1]);
    let mixed = read_packet(&Packet::new(b"", v4, v6, time())).data;
    assert_eq!(mixed[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 127, 0, 0, 1]);
}

#[test]
fn statistics_are_read_back() {
    let mut file = started();
    Statistics { time: time(), received: 10, dropped: u64::MAX, delivered: 7 }.put(&mut file);
    let Some(Block::InterfaceStatistics(statistics)) = read(&file).pop() else { panic!("no statistics") };
    let options = [
        InterfaceStatisticsOption::IsbIfRecv(10),
        InterfaceStatisticsOption::IsbOsDrop(u64::MAX),
        InterfaceStatisticsOption::IsbUsrDeliv(7),
    ];
    assert_eq!(statistics.options, options);
    // The reader takes the time for one word, which has its halves the other way round.
    assert_eq!(u128::from(statistics.timestamp.rotate_left(32)), TIME.as_nanos());
}

#[test]
fn an_endless_name_is_cut_and_times_before_1970_are_its_beginning() {
    let mut file = started();
    pcapng::put_interface(&mut file, &"x".repeat(70_000));
    let src = address("127.0.0.1:1");
    Packet::new(b"", src, src, SystemTime::UNIX_EPOCH - TIME).put(&mut file);
    let blocks = read(&file);
    let Block::InterfaceDescription(interface) = &blocks[1] else { panic!("{blocks:?}") };
    assert_eq!(interface.options[0], InterfaceDescriptionOption::IfName("x".repeat(65_535).into()));
    let Block::EnhancedPacket(packet) = &blocks[2] else { panic!("{blocks:?}") };
    assert_eq!(packet.timestamp, Duration::ZERO);
}

#[test]
fn a_time_beyond_the_last_is_the_last() {
    let src = address("127.0.0.1:1");
    for seconds in [u64::MAX / 1_000_000_000 + 1, 1 << 40] {
        // Windows' clock ends before the second of them.
        let Some(far) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) else { continue };
        assert_eq!(read_packet(&Packet::new(b"", src, src, far)).timestamp, Duration::from_nanos(u64::MAX));
    }
}

/// A packet of a wire log: direction, source port, destination port, data, original length.
type Logged = (Option<u32>, u16, u16, Vec<u8>, usize);

fn read_log(file: &[u8]) -> Vec<Logged> {
    let mut blocks = read(file).into_iter();
    assert!(matches!(blocks.next(), Some(Block::InterfaceDescription(_))));
    let packets = blocks.map(|block| {
        let Block::EnhancedPacket(packet) = block else { panic!("{block:?}") };
        let flags = packet.options.iter().find_map(|option| match option {
            EnhancedPacketOption::Flags(flags) => Some(*flags),
            _ => None,
        });
        let headers = if packet.data[0] >> 4 == 4 { 28 } else { 48 };
        let port = |at: usize| u16::from_be_bytes([packet.data[headers - 8 + at], packet.data[headers - 7 + at]]);
        let data = packet.data[headers..].to_vec();
        (flags, port(0), port(2), data, packet.original_len as usize - headers)
    });
    packets.collect()
}

const INBOUND: Option<u32> = Some(1);
const OUTBOUND: Option<u32> = Some(2);

fn a_wire_log_is_a_capture<T: Transport>(host: &str) {
    for is_filed in [false, true] {
        let log = open_wire_log(WireLogConfig::new().samed(true).filed(is_filed).fmt(WireFormat::pcapng())).unwrap();
        let config = PeerConfig::new().ha((host, 0)).exclusive(true).reopen(true).wl(log.clone());
        // A Peer cuts at bs, a BatchPeer at its slot.
        let mut alpha = T::new(config.clone()).unwrap();
        let mut beta = T::new(config.bs(100).gram_size(100)).unwrap();
        let (a, b) = (alpha.port(), beta.port());
        let long = [7; 1_000];
        for data in [&b"hello"[..], b"", &long] {
            alpha.send(data, beta.ha()).unwrap();
            support::next(&mut beta);
        }
        beta.send(b"back", alpha.ha()).unwrap();
        support::next(&mut alpha);
        let expected = [
            (OUTBOUND, a, b, b"hello".to_vec(), 5),
            (INBOUND, a, b, b"hello".to_vec(), 5),
            (OUTBOUND, a, b, vec![], 0),
            (INBOUND, a, b, vec![], 0),
            (OUTBOUND, a, b, long.to_vec(), 1_000),
            (INBOUND, a, b, long[..100].to_vec(), 1_000),
            (OUTBOUND, b, a, b"back".to_vec(), 4),
            (INBOUND, b, a, b"back".to_vec(), 4),
        ];
        let file = log.read_rx().unwrap().unwrap();
        assert_eq!(read_log(&file), expected);
        if let Some(path) = log.rx_path() {
            assert_eq!(std::fs::read(path).unwrap(), file);
        }
        log.reopen().unwrap();
        assert_eq!(read_log(&log.read_tx().unwrap().unwrap()), [], "a capture from the first");
    }
}

#[test]
fn a_peers_wire_log_is_a_capture() {
    a_wire_log_is_a_capture::<Peer>("127.0.0.1");
}

#[test]
fn a_batch_peers_wire_log_is_a_capture() {
    a_wire_log_is_a_capture::<BatchPeer>("127.0.0.1");
}

#[test]
fn an_ipv6_wire_log_is_a_capture() {
    if support::has_ipv6() {
        a_wire_log_is_a_capture::<Peer>("::1");
        a_wire_log_is_a_capture::<BatchPeer>("::1");
    }
}

#[test]
fn two_sides_are_two_captures() {
    let log = open_wire_log(WireLogConfig::new().fmt(WireFormat::pcapng())).unwrap();
    let (me, v6) = (address("127.0.0.1:5"), address("[::1]:6"));
    log.write_rx(b"in", me).unwrap();
    log.write_tx(b"out", v6).unwrap();
    assert_eq!(read_log(&log.read_rx().unwrap().unwrap()), [(INBOUND, 5, 0, b"in".to_vec(), 2)]);
    assert_eq!(read_log(&log.read_tx().unwrap().unwrap()), [(OUTBOUND, 0, 6, b"out".to_vec(), 3)]);
}

/// What the kernel says of a datagram goes into its packet: here its time and its true destination.
#[test]
fn a_capture_has_the_kernels_time_and_destination() {
    let log = open_wire_log(WireLogConfig::new().fmt(WireFormat::pcapng())).unwrap();
    let config = PeerConfig::new().ha(("", 0)).exclusive(true).reopen(true).dst_addr(true).rx_time(true);
    let mut peer = BatchPeer::new(config.wl(log.clone())).unwrap();
    let me = SocketAddr::from(([127, 0, 0, 1], peer.port()));
    peer.send(b"abc", me).unwrap();
    let (mut time, mut dst) = (None, None);
    for gram in peer.fill_wait(support::PATIENCE).unwrap() {
        (time, dst) = (gram.meta().rx_time, gram.meta().dst);
    }
    let Some(Block::EnhancedPacket(packet)) = read(&log.read_rx().unwrap().unwrap()).pop() else { panic!("a packet") };
    let dst = dst.unwrap_or(peer.host());
    let written: [u8; 4] = packet.data[16..20].try_into().unwrap();
    assert_eq!(dst, std::net::IpAddr::from(written));
    if let Some(time) = time {
        assert_eq!(packet.timestamp, time);
    }
}
