//! Datagrams from the unspecified address, as a station sends that has no address yet (0.0.0.0, `::`).
//!
//! `tests/netns.sh` runs these as root in a private network namespace; otherwise they are left out.
#![cfg(target_os = "linux")]

#[path = "util/network.rs"]
mod network;
#[path = "util/program.rs"]
mod program;
mod util;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::UNIX_EPOCH;

use hio_udp::PeerConfig;
use hio_udp::pcapng::Packet;
use network::Network;
use program::{Dir, Ingest, assert_adds_up, number};
use serde_json::Value;
use util::{TestPeer, is_nothing_there, opened, receive_one};

for_both_peers!(a_datagram_from_nowhere_is_received_and_a_reply_to_it_stays_on_this_machine);

/// The unspecified address, all stations of a link, this machine, and another station, of each family.
const FAMILIES: [[&str; 4]; 2] =
    [["0.0.0.0", "255.255.255.255", "127.0.0.1", "10.9.0.2"], ["::", "ff02::1", "::1", "fd09::2"]];

fn families() -> impl Iterator<Item = [IpAddr; 4]> {
    FAMILIES.iter().map(|family| family.map(|text| text.parse().unwrap()))
}

/// Puts a datagram onto the Ethernet of [`Network::add_ethernet`], as another station would, from any address.
fn send_as_another(data: &[u8], src: SocketAddr, dst: SocketAddr) {
    // Of the block of a capture: the packet behind 28 bytes, and in front of padding and 4 bytes.
    let mut block = Vec::new();
    Packet::new(data, src, dst, UNIX_EPOCH).put(&mut block);
    let len = u32::from_le_bytes(block[20..24].try_into().unwrap()) as usize;
    let (all_stations, kind) =
        if src.is_ipv4() { ([0xff; 6], [0x08, 0x00]) } else { ([0x33, 0x33, 0, 0, 0, 1], [0x86, 0xdd]) };
    let frame = [&all_stations[..], &[2, 0, 0, 0, 0, 9], &kind, &block[28..28 + len]].concat();
    let script = "import socket, sys
ethernet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
ethernet.bind(('veth1', 0))
ethernet.send(bytes.fromhex(sys.argv[1]))";
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(Command::new("python3").args(["-c", script, &hex]).status().expect("python3").success());
}

fn a_datagram_from_nowhere_is_received_and_a_reply_to_it_stays_on_this_machine<T: TestPeer>() {
    let Some(mut network) = Network::private() else { return };
    network.add_ethernet();
    for [nowhere, everyone, loopback, _] in families() {
        let mut peer: T = opened(PeerConfig::new().ha((nowhere.to_string(), 0)).exclusive(true));
        let own = UdpSocket::bind((loopback, 0)).unwrap();
        own.set_read_timeout(Some(util::PATIENCE)).unwrap();
        let src = SocketAddr::new(nowhere, own.local_addr().unwrap().port());
        send_as_another(b"discover", src, SocketAddr::new(everyone, peer.port()));
        assert_eq!(receive_one(&mut peer), (b"discover".to_vec(), src));
        assert_eq!(peer.send(b"offer", src).unwrap(), 5);
        let mut buffer = [0; 9];
        assert_eq!(own.recv_from(&mut buffer).unwrap(), (5, SocketAddr::new(loopback, peer.port())));
        assert!(is_nothing_there(&mut peer));
    }
}

#[test]
fn datagrams_from_nowhere_are_stored_as_they_came_and_can_be_denied() {
    let Some(mut network) = Network::private() else { return };
    network.add_ethernet();
    for [nowhere, everyone, _, neighbour] in families() {
        for denied in [0, 1] {
            let (dir, deny) = (Dir::new("unspecified"), nowhere.to_string());
            let (lines, count) = (dir.join("lines"), (2 - denied).to_string());
            let (sink, bind) = (format!("jsonl:{lines}"), SocketAddr::new(nowhere, 0).to_string());
            let args = ["--sink", &sink, "--count", &count, "--deny", &deny];
            let ingest = Ingest::start(&bind, &args[..if denied == 1 { 6 } else { 4 }]);
            let ingest_addr = ingest.addr;
            let dst = SocketAddr::new(everyone, ingest_addr.port());
            let sources = [nowhere, neighbour].map(|host| SocketAddr::new(host, 68));
            sources.iter().for_each(|src| send_as_another(b"discover", *src, dst));
            let (code, account, said) = ingest.end();
            assert_eq!((code, said.as_str()), (0, ""));
            assert_adds_up(&account, 2);
            assert_eq!(number(&account, "denied"), denied, "{account}");
            let text = std::fs::read_to_string(&lines).unwrap();
            let stored = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let stored: Vec<_> = stored.map(|line| (line["src"].to_string(), line["dst"].to_string())).collect();
            let dst = if cfg!(force_single) { ingest_addr } else { dst }; // which is not told of a datagram there
            let sent = sources.map(|src| (format!("\"{src}\""), format!("\"{dst}\"")));
            assert_eq!(stored, sent[denied as usize..]);
        }
    }
}
