//! What is in a captured packet: link, IP and UDP headers, down to the payload.
//!
//! ```text
//!   link header    Ethernet and VLAN tags, Linux cooked, loopback, or none
//!   └ IP header    version 4 with options, 6 with extension headers
//!     └ UDP        addresses, and as much of the payload as was kept
//! ```
//!
//! Everything here may have been written by anybody: no length is believed before it is checked against the
//! bytes that are there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Link types, as <https://www.tcpdump.org/linktypes.html> numbers them.
pub mod link {
    pub const NULL: u16 = 0;
    pub const ETHERNET: u16 = 1;
    /// What DLT_RAW is on OpenBSD, and elsewhere; files have it although they should not.
    pub const RAW_BSD: u16 = 12;
    pub const RAW_OPENBSD: u16 = 14;
    pub const RAW: u16 = 101;
    pub const LOOP: u16 = 108;
    pub const LINUX_SLL: u16 = 113;
    pub const IPV4: u16 = 228;
    pub const IPV6: u16 = 229;
    pub const LINUX_SLL2: u16 = 276;
}

/// What a packet turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content<'a> {
    Udp(Datagram<'a>),
    /// A part of an IP packet that was cut on its way.
    Fragment,
    /// IP, but with something else in it.
    NotUdp,
    /// Not IP: ARP and the like.
    NotIp,
    /// A link type that is not known here.
    UnknownLink,
    /// Too little was kept of it to tell.
    Short,
    /// Its headers contradict each other.
    Malformed,
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Datagram<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// The payload, or what was kept of it.
    pub payload: &'a [u8],
    /// Bytes of the whole payload.
    pub original_len: usize,
}

impl Datagram<'_> {
    /// Whether the capture holds less than there was.
    pub fn is_cut(&self) -> bool {
        self.payload.len() < self.original_len
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
/// 802.1Q, 802.1ad, and the number that was used before that.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88A8, 0x9100];

const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER: usize = 8;

/// Looks into a packet of this link type.
pub fn content(link_type: u16, packet: &[u8]) -> Content<'_> {
    match datagram(link_type, packet) {
        Ok(datagram) => Content::Udp(datagram),
        Err(other) => other,
    }
}

fn datagram(link_type: u16, packet: &[u8]) -> Result<Datagram<'_>, Content<'_>> {
    let ip = match link_type {
        link::RAW | link::RAW_BSD | link::RAW_OPENBSD | link::IPV4 | link::IPV6 => packet,
        link::ETHERNET => after_ethertype(packet, 12)?,
        link::LINUX_SLL => after_ethertype(packet, 14)?,
        link::LINUX_SLL2 => {
            let ethertype = u16_at(packet, 0)?;
            after_tags(ethertype, from(packet, 20)?)?
        }
        link::NULL | link::LOOP => after_family(packet)?,
        _ => return Err(Content::UnknownLink),
    };
    match byte(ip, 0)? >> 4 {
        4 => ipv4(ip),
        6 => ipv6(ip),
        _ => Err(Content::Malformed),
    }
}

/// What follows an EtherType that stands at `at`, and VLAN tags.
fn after_ethertype(packet: &[u8], at: usize) -> Result<&[u8], Content<'_>> {
    after_tags(u16_at(packet, at)?, from(packet, at + 2)?)
}

fn after_tags(mut ethertype: u16, mut rest: &[u8]) -> Result<&[u8], Content<'_>> {
    while ETHERTYPES_VLAN.contains(&ethertype) {
        (ethertype, rest) = (u16_at(rest, 2)?, from(rest, 4)?);
    }
    match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(rest),
        _ => Err(Content::NotIp),
    }
}

/// What follows an address family of four bytes, in the order of the machine that captured it.
fn after_family(packet: &[u8]) -> Result<&[u8], Content<'_>> {
    let [a, b, c, d] = array(packet, 0)?;
    let family = if a == 0 && b == 0 { u16::from_be_bytes([c, d]) } else { u16::from_le_bytes([a, b]) };
    match family {
        // AF_INET everywhere; AF_INET6 on Linux, NetBSD and OpenBSD, FreeBSD, macOS.
        2 | 10 | 24 | 28 | 30 => from(packet, 4),
        _ => Err(Content::NotIp),
    }
}

fn ipv4(ip: &[u8]) -> Result<Datagram<'_>, Content<'_>> {
    let header_len = usize::from(byte(ip, 0)? & 0x0F) * 4;
    let total_len = usize::from(u16_at(ip, 2)?);
    let fragment = u16_at(ip, 6)?;
    let protocol = byte(ip, 9)?;
    let (src, dst): ([u8; 4], [u8; 4]) = (array(ip, 12)?, array(ip, 16)?);
    // Segments that the card is to cut are captured whole, with a length of 0 where it does not fit.
    let total_len = if total_len == 0 { ip.len() } else { total_len };
    if header_len < 20 || total_len < header_len {
        return Err(Content::Malformed);
    }
    const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3FFF;
    if fragment & MORE_FRAGMENTS_OR_OFFSET != 0 {
        return Err(Content::Fragment);
    }
    if protocol != PROTOCOL_UDP {
        return Err(Content::NotUdp);
    }
    // What lies behind the IP packet is Ethernet's padding.
    let kept = &ip[..ip.len().min(total_len)];
    udp(from(kept, header_len)?, total_len - header_len, Ipv4Addr::from(src).into(), Ipv4Addr::from(dst).into())
}

fn ipv6(ip: &[u8]) -> Result<Datagram<'_>, Content<'_>> {
    const HEADER: usize = 40;
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;

    let payload_len = usize::from(u16_at(ip, 4)?);
    let mut next = byte(ip, 6)?;
    let (src, dst): ([u8; 16], [u8; 16]) = (array(ip, 8)?, array(ip, 24)?);
    let payload_len = if payload_len == 0 { ip.len() - HEADER } else { payload_len };
    let mut rest = &ip[HEADER..ip.len().min(HEADER + payload_len)];
    let mut rest_len = payload_len;
    loop {
        let len = match next {
            PROTOCOL_UDP => return udp(rest, rest_len, Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into()),
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(byte(rest, 1)?),
            AUTHENTICATION => 8 + 4 * usize::from(byte(rest, 1)?),
            // A fragment that is the whole packet is allowed (RFC 6946).
            FRAGMENT if u16_at(rest, 2)? & 0xFFF9 == 0 => 8,
            FRAGMENT => return Err(Content::Fragment),
            _ => return Err(Content::NotUdp),
        };
        rest_len = rest_len.checked_sub(len).ok_or(Content::Malformed)?;
        (next, rest) = (byte(rest, 0)?, from(rest, len)?);
    }
}

/// `udp` is what was kept of `len` bytes of UDP.
fn udp(udp: &[u8], len: usize, src: IpAddr, dst: IpAddr) -> Result<Datagram<'_>, Content<'_>> {
    let (src_port, dst_port, told_len) = (u16_at(udp, 0)?, u16_at(udp, 2)?, usize::from(u16_at(udp, 4)?));
    // 0 in a jumbogram (RFC 2675) and where a card is to cut.
    let udp_len = if told_len == 0 { len } else { told_len };
    if udp_len < UDP_HEADER || udp_len > len {
        return Err(Content::Malformed);
    }
    let payload = from(&udp[..udp.len().min(udp_len)], UDP_HEADER)?;
    let (src, dst) = (SocketAddr::new(src, src_port), SocketAddr::new(dst, dst_port));
    Ok(Datagram { src, dst, payload, original_len: udp_len - UDP_HEADER })
}

fn byte(bytes: &[u8], at: usize) -> Result<u8, Content<'_>> {
    bytes.get(at).copied().ok_or(Content::Short)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Content<'_>> {
    array(bytes, at).map(u16::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Content<'_>> {
    from(bytes, at)?.first_chunk().copied().ok_or(Content::Short)
}

fn from(bytes: &[u8], at: usize) -> Result<&[u8], Content<'_>> {
    bytes.get(at..).ok_or(Content::Short)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP datagram of these payload bytes, without checksum.
    fn udp_bytes(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x23, 0x28, 0x08, 0x07];
        bytes.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn ipv4_bytes(protocol: u8, flags: u16, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0];
        bytes.extend_from_slice(&(20 + inner.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&[64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        bytes.extend_from_slice(inner);
        bytes
    }

    fn ipv6_bytes(next: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend_from_slice(&(inner.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&[next, 64]);
        bytes.extend_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend_from_slice(&"2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend_from_slice(inner);
        bytes
    }

    fn v4() -> Vec<u8> {
        ipv4_bytes(17, 0x4000, &udp_bytes(b"four"))
    }

    fn v6() -> Vec<u8> {
        ipv6_bytes(17, &udp_bytes(b"six"))
    }

    #[track_caller]
    fn assert_payload(link_type: u16, packet: &[u8], payload: &[u8]) {
        let Content::Udp(datagram) = content(link_type, packet) else { panic!("{:?}", content(link_type, packet)) };
        assert_eq!((datagram.payload, datagram.original_len), (payload, payload.len()));
        assert_eq!((datagram.src.port(), datagram.dst.port()), (9000, 2055));
    }

    #[test]
    fn every_link_type_leads_to_the_datagram() {
        let in_link = |header: &[u8], ip: Vec<u8>| [header, &ip].concat();
        for link_type in [link::RAW, link::RAW_BSD, link::RAW_OPENBSD] {
            assert_payload(link_type, &v4(), b"four");
            assert_payload(link_type, &v6(), b"six");
        }
        assert_payload(link::IPV4, &v4(), b"four");
        assert_payload(link::IPV6, &v6(), b"six");
        let macs = [9; 12];
        let ethernet = |types: &[u8]| [&macs[..], types].concat();
        assert_payload(link::ETHERNET, &in_link(&ethernet(&[8, 0]), v4()), b"four");
        assert_payload(link::ETHERNET, &in_link(&ethernet(&[0x86, 0xDD]), v6()), b"six");
        assert_payload(link::ETHERNET, &in_link(&ethernet(&[0x81, 0, 0, 5, 8, 0]), v4()), b"four");
        let two_tags = [0x88, 0xA8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xDD];
        assert_payload(link::ETHERNET, &in_link(&ethernet(&two_tags), v6()), b"six");
        let sll: [u8; 16] = [0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0];
        assert_payload(link::LINUX_SLL, &in_link(&sll, v4()), b"four");
        let mut sll2 = [0; 20];
        sll2[..2].copy_from_slice(&[0x86, 0xDD]);
        assert_payload(link::LINUX_SLL2, &in_link(&sll2, v6()), b"six");
        for link_type in [link::NULL, link::LOOP] {
            assert_payload(link_type, &in_link(&[2, 0, 0, 0], v4()), b"four");
            assert_payload(link_type, &in_link(&[0, 0, 0, 2], v4()), b"four");
            for family in [10, 24, 28, 30] {
                assert_payload(link_type, &in_link(&[family, 0, 0, 0], v6()), b"six");
                assert_payload(link_type, &in_link(&[0, 0, 0, family], v6()), b"six");
            }
        }
    }

    #[test]
    fn what_is_no_udp_is_named() {
        let ethernet = |ethertype: [u8; 2], inner: &[u8]| [&[9; 12][..], &ethertype, inner].concat();
        assert_eq!(content(link::ETHERNET, &ethernet([8, 6], &[0; 28])), Content::NotIp);
        assert_eq!(content(link::NULL, &[7, 0, 0, 0, 0x45]), Content::NotIp);
        assert_eq!(content(147, &v4()), Content::UnknownLink);
        assert_eq!(content(link::RAW, &ipv4_bytes(6, 0, &[0; 20])), Content::NotUdp);
        assert_eq!(content(link::RAW, &ipv6_bytes(58, &[0; 20])), Content::NotUdp);
        // The first and a later fragment; a whole packet with a fragment header is none.
        for flags in [0x2000, 0x0001, 0x2005] {
            assert_eq!(content(link::RAW, &ipv4_bytes(17, flags, &udp_bytes(b"x"))), Content::Fragment);
        }
        let with_fragment =
            |offset: [u8; 2]| [&[17, 0, offset[0], offset[1], 0, 0, 0, 0][..], &udp_bytes(b"x")].concat();
        assert_eq!(content(link::RAW, &ipv6_bytes(44, &with_fragment([0, 1]))), Content::Fragment);
        assert_eq!(content(link::RAW, &ipv6_bytes(44, &with_fragment([0, 8]))), Content::Fragment);
        assert_payload(link::RAW, &ipv6_bytes(44, &with_fragment([0, 0])), b"x");
    }

    #[test]
    fn extension_headers_and_options_are_gone_past() {
        let chain = [&[43, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 51, 1][..], &[0; 14], &[17, 1], &[0; 10]];
        assert_payload(link::RAW, &ipv6_bytes(0, &[&chain.concat()[..], &udp_bytes(b"deep")].concat()), b"deep");
        let mut with_options = ipv4_bytes(17, 0, &[&[1; 4][..], &udp_bytes(b"late")].concat());
        with_options[0] = 0x46;
        assert_payload(link::RAW, &with_options, b"late");
    }

    #[test]
    fn padding_is_left_out_and_what_was_cut_is_told() {
        assert_payload(link::RAW, &[v4(), vec![0; 14]].concat(), b"four");
        let cut = v4();
        for kept in 0..cut.len() {
            match content(link::RAW, &cut[..kept]) {
                Content::Udp(datagram) => {
                    assert_eq!((datagram.payload, datagram.original_len), (&b"four"[..kept - 28], 4));
                    assert!(datagram.is_cut() && kept >= 28);
                }
                other => assert!(other == Content::Short && kept < 28, "{kept}: {other:?}"),
            }
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_malformed() {
        let change = |at: usize, value: u8| {
            let mut bytes = v4();
            bytes[at] = value;
            bytes
        };
        // Version, header length, total length, UDP length: too short, too long.
        for (at, value) in [(0, 0x55), (0, 0x44), (3, 19), (25, 7), (25, 13)] {
            assert_eq!(content(link::RAW, &change(at, value)), Content::Malformed, "{at}");
        }
        // Without lengths, as where a card is to cut: what is there.
        assert_payload(link::RAW, &change(3, 0), b"four");
        assert_payload(link::RAW, &change(25, 0), b"four");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let packets = [v4(), v6(), [&[9; 12][..], &[0x81, 0, 0, 5, 8, 0], &v4()].concat()];
        let links = [0, 1, 12, 14, 101, 108, 113, 228, 229, 276, 999];
        for packet in &packets {
            for at in 0..packet.len() {
                for flip in [1, 0x0F, 0x80, 0xFF] {
                    let mut bytes = packet.clone();
                    bytes[at] ^= flip;
                    for kept in [at, at + 1, bytes.len()] {
                        links.iter().for_each(|link| _ = content(*link, &bytes[..kept]));
                    }
                }
            }
        }
    }
}
