//! pcapng: datagrams as packets of a capture that Wireshark and tcpdump read.
//!
//! An encoder only, for programs that store what they receive: it is what a pcapng
//! [`WireLog`](crate::WireLog) and the program `hio-udp` write with. Blocks are appended to a buffer of
//! the caller's and nothing else is allocated. A capture is one [`put_section`], then one
//! [`put_interface`], then packets and statistics in any number; every block stands for itself, so a
//! file that ends behind one is whole.
//!
//! Datagrams come without their headers, so each packet starts with IP and UDP headers made from its
//! addresses (link type RAW). Words are little-endian on every machine.
//!
//! ```
//! use hio_udp::pcapng::{self, Flow, Packet};
//! use std::time::SystemTime;
//!
//! let mut file = Vec::new();
//! pcapng::put_section(&mut file, "my program 1.0");
//! pcapng::put_interface(&mut file, "telemetry");
//! let (src, dst) = ("192.0.2.1:9000".parse().unwrap(), "192.0.2.2:9000".parse().unwrap());
//! let mut packet = Packet::new(b"hello", src, dst, SystemTime::now());
//! packet.flow = Some(Flow::Inbound);
//! packet.put(&mut file);
//! std::io::Write::write_all(&mut std::io::sink(), &file)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The format: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

/// Types of blocks.
const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Codes of options, each by its name in the format's description.
const OPT_ENDOFOPT: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const ISB_IFRECV: u16 = 4;
const ISB_OSDROP: u16 = 7;
const ISB_USRDELIV: u16 = 8;

/// Packets begin with an IP header, version 4 or 6.
const LINKTYPE_RAW: u16 = 101;
/// Tells a reader the order of bytes.
const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
/// Times are in units of 10^-9 seconds.
const NANOSECONDS: u8 = 9;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;

/// Which way a packet went: its direction in epb_flags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

impl Flow {
    /// The two low bits of epb_flags.
    fn bits(self) -> u32 {
        match self {
            Self::Inbound => 0b01,
            Self::Outbound => 0b10,
        }
    }
}

/// Begins a capture: appends a Section Header Block that names the program that writes it.
pub fn put_section(out: &mut Vec<u8>, application: &str) {
    put_block(out, SECTION_HEADER, |out| {
        put_u32(out, BYTE_ORDER_MAGIC);
        put_u16(out, 1); // version 1.0
        put_u16(out, 0);
        out.extend_from_slice(&u64::MAX.to_le_bytes()); // the section's length is not told
        put_option(out, SHB_USERAPPL, application.as_bytes());
        put_option(out, OPT_ENDOFOPT, &[]);
    });
}

/// Appends the Interface Description Block that all packets behind it belong to.
pub fn put_interface(out: &mut Vec<u8>, name: &str) {
    put_block(out, INTERFACE_DESCRIPTION, |out| {
        put_u16(out, LINKTYPE_RAW);
        put_u16(out, 0);
        put_u32(out, 0); // no limit on a packet's length
        put_option(out, IF_NAME, name.as_bytes());
        put_option(out, IF_TSRESOL, &[NANOSECONDS]);
        put_option(out, OPT_ENDOFOPT, &[]);
    });
}

/// One datagram, to become an Enhanced Packet Block.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Packet<'a> {
    /// The payload, or what was kept of it.
    pub data: &'a [u8],
    /// Length in bytes of the whole payload; more than `data.len()` if it was cut.
    pub original_len: usize,
    /// Who sent it.
    pub src: SocketAddr,
    /// Who it was sent to.
    pub dst: SocketAddr,
    /// When.
    pub time: SystemTime,
    /// Which way it went, if that is to be told.
    pub flow: Option<Flow>,
    /// How many datagrams were lost between the packet before and this one; 0 is not told.
    pub dropped: u64,
}

impl<'a> Packet<'a> {
    /// A whole datagram, without a direction and without losses before it.
    pub fn new(data: &'a [u8], src: SocketAddr, dst: SocketAddr, time: SystemTime) -> Self {
        Self { data, original_len: data.len(), src, dst, time, flow: None, dropped: 0 }
    }

    /// Appends the packet.
    ///
    /// An IPv4 address beside an IPv6 one is written as its mapped form.
    pub fn put(&self, out: &mut Vec<u8>) {
        let addresses = (self.src.ip().to_canonical(), self.dst.ip().to_canonical());
        let ip_header = if matches!(addresses, (IpAddr::V4(_), IpAddr::V4(_))) { IPV4_HEADER } else { IPV6_HEADER };
        let headers = ip_header + UDP_HEADER;
        put_block(out, ENHANCED_PACKET, |out| {
            put_u32(out, 0); // the interface
            put_time(out, self.time);
            put_u32(out, (headers + self.data.len()) as u32);
            put_u32(out, (headers + self.original_len) as u32);
            self.put_headers(out, addresses);
            out.extend_from_slice(self.data);
            // IPv4 may go without a UDP checksum, IPv6 may not (RFC 8200, 8.1).
            if ip_header == IPV6_HEADER {
                let start = out.len() - headers - self.data.len();
                put_udp_checksum(&mut out[start..], self.data.len() < self.original_len);
            }
            put_padding(out, headers + self.data.len());
            if let Some(flow) = self.flow {
                put_option(out, EPB_FLAGS, &flow.bits().to_le_bytes());
            }
            if self.dropped > 0 {
                put_option(out, EPB_DROPCOUNT, &self.dropped.to_le_bytes());
            }
            if self.flow.is_some() || self.dropped > 0 {
                put_option(out, OPT_ENDOFOPT, &[]);
            }
        });
    }

    /// Appends IP and UDP headers, without a UDP checksum.
    fn put_headers(&self, out: &mut Vec<u8>, addresses: (IpAddr, IpAddr)) {
        let start = out.len();
        // Longer than any real one only where the kernel said something impossible.
        let udp_len = be_u16_at_most(UDP_HEADER + self.original_len);
        match addresses {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = be_u16_at_most(IPV4_HEADER + UDP_HEADER + self.original_len);
                out.extend_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0, 0, HOPS, PROTOCOL_UDP, 0, 0]);
                out.extend_from_slice(&from.octets());
                out.extend_from_slice(&to.octets());
                let sum = (!ones_complement_sum(0, &out[start..])).to_be_bytes();
                out[start + 10..start + 12].copy_from_slice(&sum);
            }
            (from, to) => {
                out.extend_from_slice(&[0x60, 0, 0, 0, udp_len[0], udp_len[1], PROTOCOL_UDP, HOPS]);
                out.extend_from_slice(&as_v6(from));
                out.extend_from_slice(&as_v6(to));
            }
        }
        out.extend_from_slice(&self.src.port().to_be_bytes());
        out.extend_from_slice(&self.dst.port().to_be_bytes());
        out.extend_from_slice(&udp_len);
        out.extend_from_slice(&[0, 0]);
    }
}

/// What became of all datagrams up to a moment, to become an Interface Statistics Block.
///
/// ```
/// use hio_udp::pcapng::Statistics;
///
/// let mut file = Vec::new();
/// Statistics { time: std::time::SystemTime::now(), received: 10, dropped: 3, delivered: 7 }.put(&mut file);
/// assert_eq!(file.len() % 4, 0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// The moment.
    pub time: SystemTime,
    /// Datagrams that reached the socket (isb_ifrecv).
    pub received: u64,
    /// Datagrams the kernel dropped (isb_osdrop).
    pub dropped: u64,
    /// Datagrams delivered (isb_usrdeliv).
    pub delivered: u64,
}

impl Statistics {
    /// Appends the statistics.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_block(out, INTERFACE_STATISTICS, |out| {
            put_u32(out, 0); // the interface
            put_time(out, self.time);
            put_option(out, ISB_IFRECV, &self.received.to_le_bytes());
            put_option(out, ISB_OSDROP, &self.dropped.to_le_bytes());
            put_option(out, ISB_USRDELIV, &self.delivered.to_le_bytes());
            put_option(out, OPT_ENDOFOPT, &[]);
        });
    }
}

/// Appends a block: its type, its length, what `put_body` appends, and its length again.
fn put_block(out: &mut Vec<u8>, kind: u32, put_body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_u32(out, kind);
    put_u32(out, 0);
    put_body(out);
    let len = (out.len() - start + 4) as u32;
    put_u32(out, len);
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
}

/// Appends an option; what is longer than an option can be is cut.
fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    put_u16(out, code);
    put_u16(out, value.len() as u16);
    out.extend_from_slice(value);
    put_padding(out, value.len());
}

/// Fills up to a multiple of four bytes.
fn put_padding(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&[0; 3][..len.wrapping_neg() % 4]);
}

/// Appends a time: nanoseconds since 1970, the high word first; a time outside of what fits is the
/// nearest that does.
fn put_time(out: &mut Vec<u8>, time: SystemTime) {
    let nanos = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX); // in the year 2554
    put_u32(out, (nanos >> 32) as u32);
    put_u32(out, nanos as u32);
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn be_u16_at_most(value: usize) -> [u8; 2] {
    (value.min(usize::from(u16::MAX)) as u16).to_be_bytes()
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Puts the UDP checksum into an IPv6 packet; that of a cut one cannot be known, nor checked.
fn put_udp_checksum(packet: &mut [u8], is_cut: bool) {
    let addresses_and_udp = &packet[8..];
    let udp_len = packet.len() - IPV6_HEADER;
    let pseudo = udp_len as u32 + u32::from(PROTOCOL_UDP);
    let sum = if is_cut { 0 } else { !ones_complement_sum(pseudo, addresses_and_udp) };
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
