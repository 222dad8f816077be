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

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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

/// Bytes of an Enhanced Packet Block in front of the packet: type, length, interface, time, and both lengths.
const PACKET_FRONT: usize = 28;

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
        match (self.src.ip().to_canonical(), self.dst.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.put_behind(self.ipv4_headers(from, to), out),
            (from, to) => self.put_behind(self.ipv6_headers(as_v6(from), as_v6(to)), out),
        }
    }

    /// Appends the packet as it stands behind its headers.
    ///
    /// All lengths are known before, and what has a fixed place in front is put together first, so that it takes a
    /// few copies and not one for each field: most of what it costs to store a small datagram is spent here.
    fn put_behind<const HEADERS: usize>(&self, headers: [u8; HEADERS], out: &mut Vec<u8>) {
        let captured = HEADERS + self.data.len();
        let padding = captured.wrapping_neg() % 4;
        let options = self.options_len();
        let len = (PACKET_FRONT + captured + padding + options + 4) as u32;
        let nanos = nanos(self.time);
        let mut front = [0; PACKET_FRONT];
        front[..4].copy_from_slice(&ENHANCED_PACKET.to_le_bytes());
        front[4..8].copy_from_slice(&len.to_le_bytes());
        // Behind them the interface's number, 0.
        front[12..16].copy_from_slice(&((nanos >> 32) as u32).to_le_bytes());
        front[16..20].copy_from_slice(&(nanos as u32).to_le_bytes());
        front[20..24].copy_from_slice(&(captured as u32).to_le_bytes());
        front[24..].copy_from_slice(&((HEADERS + self.original_len) as u32).to_le_bytes());
        out.reserve(len as usize);
        out.extend_from_slice(&front);
        out.extend_from_slice(&headers);
        out.extend_from_slice(self.data);
        out.extend_from_slice(&[0; 3][..padding]);
        if options > 0 {
            self.put_options(out);
        }
        put_u32(out, len);
    }

    fn options_len(&self) -> usize {
        let flow = if self.flow.is_some() { 4 + 4 } else { 0 };
        let dropped = if self.dropped > 0 { 4 + 8 } else { 0 };
        let end = if flow + dropped > 0 { 4 } else { 0 };
        flow + dropped + end
    }

    /// Appends the options there are, and their end.
    fn put_options(&self, out: &mut Vec<u8>) {
        if let Some(flow) = self.flow {
            put_option(out, EPB_FLAGS, &flow.bits().to_le_bytes());
        }
        if self.dropped > 0 {
            put_option(out, EPB_DROPCOUNT, &self.dropped.to_le_bytes());
        }
        put_option(out, OPT_ENDOFOPT, &[]);
    }

    /// IPv4 may go without a UDP checksum (RFC 768), so this one does.
    fn ipv4_headers(&self, from: Ipv4Addr, to: Ipv4Addr) -> [u8; IPV4_HEADER + UDP_HEADER] {
        let total = be_u16_at_most(IPV4_HEADER + UDP_HEADER + self.original_len);
        let mut headers = [0; IPV4_HEADER + UDP_HEADER];
        headers[..12].copy_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0, 0, HOPS, PROTOCOL_UDP, 0, 0]);
        headers[12..16].copy_from_slice(&from.octets());
        headers[16..20].copy_from_slice(&to.octets());
        let sum = (!ones_complement_sum(0, &headers[..IPV4_HEADER])).to_be_bytes();
        headers[10..12].copy_from_slice(&sum);
        headers[IPV4_HEADER..].copy_from_slice(&self.udp_header());
        headers
    }

    /// IPv6 may not go without a UDP checksum (RFC 8200, 8.1); that of a cut packet cannot be known, nor checked.
    fn ipv6_headers(&self, from: [u8; 16], to: [u8; 16]) -> [u8; IPV6_HEADER + UDP_HEADER] {
        let udp = self.udp_header();
        let mut headers = [0; IPV6_HEADER + UDP_HEADER];
        headers[..8].copy_from_slice(&[0x60, 0, 0, 0, udp[4], udp[5], PROTOCOL_UDP, HOPS]);
        headers[8..24].copy_from_slice(&from);
        headers[24..40].copy_from_slice(&to);
        headers[IPV6_HEADER..].copy_from_slice(&udp);
        let is_cut = self.data.len() < self.original_len;
        let pseudo = (UDP_HEADER + self.data.len()) as u32 + u32::from(PROTOCOL_UDP);
        // The addresses and the UDP header are of even length, so what follows them can be summed up apart.
        let before_data = u32::from(ones_complement_sum(pseudo, &headers[8..]));
        let sum = if is_cut { 0 } else { !ones_complement_sum(before_data, self.data) };
        let field = if sum == 0 { 0xFFFF } else { sum }; // 0 would mean "none" (RFC 768)
        headers[IPV6_HEADER + 6..].copy_from_slice(&field.to_be_bytes());
        headers
    }

    /// Without a checksum.
    fn udp_header(&self) -> [u8; UDP_HEADER] {
        let (src, dst) = (self.src.port().to_be_bytes(), self.dst.port().to_be_bytes());
        // Longer than any real one only where the kernel said something impossible.
        let len = be_u16_at_most(UDP_HEADER + self.original_len);
        [src[0], src[1], dst[0], dst[1], len[0], len[1], 0, 0]
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

/// Appends a time, the high word first.
fn put_time(out: &mut Vec<u8>, time: SystemTime) {
    let nanos = nanos(time);
    put_u32(out, (nanos >> 32) as u32);
    put_u32(out, nanos as u32);
}

/// Nanoseconds since 1970; of a time outside of what fits, the nearest that does.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Ends in the year 2554.
    since.as_secs().saturating_mul(1_000_000_000).saturating_add(since.subsec_nanos().into())
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
