//! Packets for pcapng files: datagrams with the IP and UDP headers they came without.
//!
//! Each packet starts with headers made from the true source and destination (link type RAW).

use std::net::{IpAddr, SocketAddr};

use crate::gram::Gram;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;

/// Makes the packet that carried `gram`: IP and UDP headers, then what was kept of the payload.
/// Gives the length of the headers.
pub fn put_packet(packet: &mut Vec<u8>, gram: &Gram<'_>, dst: SocketAddr) -> usize {
    packet.clear();
    let udp_len = UDP_HEADER + gram.original_len;
    // Longer than any real one only where the kernel said something impossible.
    let udp_len_field = (udp_len.min(usize::from(u16::MAX)) as u16).to_be_bytes();
    let addresses = (gram.src.ip().to_canonical(), dst.ip().to_canonical());
    let headers = match addresses {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = ((IPV4_HEADER + udp_len).min(usize::from(u16::MAX)) as u16).to_be_bytes();
            packet.extend_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0, 0, HOPS, PROTOCOL_UDP, 0, 0]);
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            let sum = (!ones_complement_sum(0, packet)).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
            IPV4_HEADER
        }
        (from, to) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0, udp_len_field[0], udp_len_field[1], PROTOCOL_UDP, HOPS]);
            packet.extend_from_slice(&as_v6(from));
            packet.extend_from_slice(&as_v6(to));
            IPV6_HEADER
        }
    };
    packet.extend_from_slice(&gram.src.port().to_be_bytes());
    packet.extend_from_slice(&dst.port().to_be_bytes());
    packet.extend_from_slice(&udp_len_field);
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(gram.data);
    // IPv4 may go without a UDP checksum, IPv6 may not (RFC 8200, 8.1). What was cut cannot have one.
    if headers == IPV6_HEADER && !gram.truncated {
        put_udp_checksum(packet);
    }
    headers + UDP_HEADER
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn put_udp_checksum(packet: &mut [u8]) {
    let addresses_and_udp = &packet[8..];
    let udp_len = packet.len() - IPV6_HEADER;
    let pseudo = udp_len as u32 + u32::from(PROTOCOL_UDP);
    let sum = !ones_complement_sum(pseudo, addresses_and_udp);
    let field = if sum == 0 { 0xFFFF } else { sum }; // 0 would mean "none" (RFC 768)
    packet[IPV6_HEADER + 6..IPV6_HEADER + 8].copy_from_slice(&field.to_be_bytes());
}

/// The Internet checksum's sum (RFC 1071), before it is inverted.
fn ones_complement_sum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = u64::from(start);
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        sum += u64::from(u16::from_be_bytes([*last, 0]));
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}
