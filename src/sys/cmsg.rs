//! Control messages (`cmsg(3)`): what the kernel says about a datagram beside its bytes.
//!
//! Everything here reads bytes that the kernel wrote, so everything takes arbitrary bytes without
//! panicking; the fuzz target `control` holds it to that.
#![allow(unsafe_code)]
#![cfg_attr(force_single, allow(dead_code))]

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libc::{c_int, cmsghdr};

/// The kernel aligns control messages to the size of a C `long` (CMSG_ALIGN in linux/socket.h).
const ALIGN: usize = size_of::<libc::c_long>();
const HEADER_BYTES: usize = align(size_of::<cmsghdr>());
const TIME_BYTES: usize = size_of::<libc::timespec>();

// cmsg(3). musl has an int and padding, in the order of the processor, where the kernel has a size_t.
const _: () = assert!(size_of::<cmsghdr>() == size_of::<usize>() + 8 && offset_of!(cmsghdr, cmsg_len) < 8);
const _: () = assert!(offset_of!(cmsghdr, cmsg_level) == size_of::<usize>());
const _: () = assert!(offset_of!(cmsghdr, cmsg_type) == size_of::<usize>() + 4);

const fn align(len: usize) -> usize {
    (len + ALIGN - 1) & !(ALIGN - 1)
}

/// Room a control message with `payload` bytes takes (CMSG_SPACE).
const fn space(payload: usize) -> usize {
    HEADER_BYTES + align(payload)
}

/// Room for every control message this crate can ask for, all at once, on a dual-stack socket,
/// where IPv4 and IPv6 forms can both arrive. Too little makes the kernel drop the last ones
/// (MSG_CTRUNC), which has cost other libraries their ECN marks and segment sizes.
pub(crate) const CONTROL_BYTES: usize = space(TIME_BYTES)                    // SO_TIMESTAMPNS
    + space(size_of::<libc::in_pktinfo>())                                 // IP_PKTINFO
    + space(size_of::<libc::in6_pktinfo>())                                // IPV6_PKTINFO
    + space(size_of::<c_int>())                                            // IP_TOS
    + space(size_of::<c_int>())                                            // IPV6_TCLASS
    + space(size_of::<c_int>())                                            // UDP_GRO
    + space(size_of::<u32>()); // SO_RXQ_OVFL

// What the readers below expect where in a payload (recvmsg(2), ip(7), ipv6(7)).
const _: () = assert!(offset_of!(libc::timespec, tv_nsec) == size_of::<libc::c_long>());
const _: () = assert!(TIME_BYTES == 2 * size_of::<libc::c_long>());
const _: () = assert!(offset_of!(libc::in_pktinfo, ipi_ifindex) == 0 && offset_of!(libc::in_pktinfo, ipi_addr) == 8);
const _: () = assert!(size_of::<libc::in_pktinfo>() == 12 && size_of::<libc::in6_pktinfo>() == 20);
const _: () =
    assert!(offset_of!(libc::in6_pktinfo, ipi6_addr) == 0 && offset_of!(libc::in6_pktinfo, ipi6_ifindex) == 16);

/// Everything the control messages of one datagram said; `None` where they said nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Control {
    /// Kernel receive time since 1970 (SO_TIMESTAMPNS).
    pub rx_time: Option<Duration>,
    /// Address the datagram was sent to (IP_PKTINFO, IPV6_PKTINFO).
    pub dst: Option<IpAddr>,
    /// Interface it came in by.
    pub ifindex: Option<u32>,
    /// Traffic class byte; its two low bits are ECN (IP_TOS, IPV6_TCLASS).
    pub traffic_class: Option<u8>,
    /// The socket's cumulative drop counter when the datagram was queued (SO_RXQ_OVFL).
    pub kernel_drops: Option<u32>,
}

/// Reads every control message in `bytes`. Unknown, short and damaged ones are passed over.
///
/// Nothing, or a receive time alone, is what most callers find here: that much is inlined into their
/// loop, and the rest is a call.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Control {
    match lone(bytes, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, TIME_BYTES).and_then(read_timespec) {
        Some(rx_time) => Control { rx_time: Some(rx_time), ..Control::default() },
        None if bytes.is_empty() => Control::default(),
        None => parse_any(bytes),
    }
}

#[inline(never)]
fn parse_any(bytes: &[u8]) -> Control {
    let mut control = Control::default();
    let mut rest = bytes;
    while let Some((header, payload, next)) = split_first(rest) {
        read_one(&mut control, header.cmsg_level, header.cmsg_type, payload);
        rest = next;
    }
    control
}

/// The drop counter alone: no message at all is the common case.
#[inline]
pub(crate) fn kernel_drops(bytes: &[u8]) -> Option<u32> {
    parse(bytes).kernel_drops
}

/// The size of the datagrams coalesced into a slot: nothing else is looked at.
#[inline]
pub(crate) fn segment_len(bytes: &[u8]) -> Option<usize> {
    match lone(bytes, libc::SOL_UDP, libc::UDP_GRO, size_of::<c_int>()) {
        Some(payload) => read_segment_len(payload),
        None => find_segment_len(bytes),
    }
}

#[inline(never)]
fn find_segment_len(bytes: &[u8]) -> Option<usize> {
    let (mut segment_len, mut rest) = (None, bytes);
    while let Some((header, payload, next)) = split_first(rest) {
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO) {
            segment_len = read_segment_len(payload);
        }
        rest = next;
    }
    segment_len
}

/// The payload, if `bytes` are one message of this kind and payload length and nothing else.
#[inline(always)]
fn lone(bytes: &[u8], level: c_int, kind: c_int, len: usize) -> Option<&[u8]> {
    if bytes.len() != space(len) {
        return None;
    }
    let header = read_header(bytes)?;
    #[allow(clippy::unnecessary_cast, reason = "an u32 in musl")]
    let cmsg_len = header.cmsg_len as usize;
    let is_it = (cmsg_len, header.cmsg_level, header.cmsg_type) == (HEADER_BYTES + len, level, kind);
    if is_it { bytes.get(HEADER_BYTES..HEADER_BYTES + len) } else { None }
}

/// Splits the first message off: its header, its payload, and what follows it.
#[inline]
fn split_first(bytes: &[u8]) -> Option<(cmsghdr, &[u8], &[u8])> {
    let header = read_header(bytes)?;
    #[allow(clippy::unnecessary_cast, reason = "an u32 in musl")]
    let len = header.cmsg_len as usize;
    if len < HEADER_BYTES {
        return None; // damaged: going on would never end
    }
    let payload = bytes.get(HEADER_BYTES..len)?;
    let next = bytes.get(len.checked_next_multiple_of(ALIGN)?..).unwrap_or(&[]);
    Some((header, payload, next))
}

#[inline]
fn read_header(bytes: &[u8]) -> Option<cmsghdr> {
    if bytes.len() < size_of::<cmsghdr>() {
        return None;
    }
    // SAFETY: the check above says that size_of::<cmsghdr>() bytes are readable; the read may be
    // unaligned; cmsghdr is made of integers, for which every byte pattern is valid.
    Some(unsafe { bytes.as_ptr().cast::<cmsghdr>().read_unaligned() })
}

fn read_one(control: &mut Control, level: c_int, kind: c_int, payload: &[u8]) {
    match (level, kind) {
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => control.rx_time = read_timespec(payload).or(control.rx_time),
        (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
            control.kernel_drops = read_u32(payload, 0).or(control.kernel_drops);
        }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // struct in_pktinfo: ifindex, address that answered, address on the wire (ip(7)).
            if let (Some(ifindex), Some(dst)) = (read_u32(payload, 0), payload.get(8..12)) {
                control.ifindex = Some(ifindex);
                control.dst = <[u8; 4]>::try_from(dst).ok().map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
            }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // struct in6_pktinfo: address on the wire, ifindex (ipv6(7)).
            if let (Some(dst), Some(ifindex)) = (payload.get(..16), read_u32(payload, 16)) {
                control.ifindex = Some(ifindex);
                control.dst = <[u8; 16]>::try_from(dst).ok().map(|ip| IpAddr::V6(Ipv6Addr::from(ip)));
            }
        }
        // IP_TOS comes as one byte, IPV6_TCLASS as an int (ip_sockglue.c, datagram.c).
        (libc::IPPROTO_IP, libc::IP_TOS) => {
            control.traffic_class = payload.first().copied().or(control.traffic_class);
        }
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            control.traffic_class = read_u32(payload, 0).map(|v| v as u8).or(control.traffic_class);
        }
        _ => {}
    }
}

/// An int, not the u16 its send-side twin takes (udp_cmsg_recv in net/ipv4/udp.c).
#[inline]
fn read_segment_len(payload: &[u8]) -> Option<usize> {
    read_u32(payload, 0).map(|len| len as usize).filter(|len| *len > 0)
}

#[inline]
fn read_u32(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[inline]
fn read_timespec(payload: &[u8]) -> Option<Duration> {
    let long = size_of::<libc::c_long>();
    let seconds = read_long(payload.get(..long)?)?;
    let nanos = read_long(payload.get(long..2 * long)?)?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos as u32))
}

#[inline]
fn read_long(bytes: &[u8]) -> Option<u64> {
    let value = libc::c_long::from_ne_bytes(bytes.try_into().ok()?);
    u64::try_from(value).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Appends one control message as the kernel would lay it out.
    pub(crate) fn put(bytes: &mut Vec<u8>, level: c_int, kind: c_int, payload: &[u8]) {
        let start = bytes.len();
        bytes.resize(start + space(payload.len()), 0);
        let len = HEADER_BYTES + payload.len();
        // SAFETY: all zeroes is a valid cmsghdr; it is made of integers.
        let mut header: cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = len as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: `bytes` was just extended by at least size_of::<cmsghdr>() bytes from `start`.
        let target = unsafe { bytes.as_mut_ptr().add(start) };
        // SAFETY: `target` has room for a cmsghdr, as above; the write may be unaligned.
        unsafe { target.cast::<cmsghdr>().write_unaligned(header) };
        bytes[start + HEADER_BYTES..start + len].copy_from_slice(payload);
    }

    #[test]
    fn t12_the_segment_size_is_a_four_byte_int() {
        let mut bytes = Vec::new();
        put(&mut bytes, libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes());
        assert_eq!(segment_len(&bytes), Some(1200));
        let mut two = Vec::new();
        put(&mut two, libc::SOL_UDP, libc::UDP_GRO, &1200_u16.to_ne_bytes());
        assert_eq!(segment_len(&two), None);
        let mut zero = Vec::new();
        put(&mut zero, libc::SOL_UDP, libc::UDP_GRO, &0_i32.to_ne_bytes());
        assert_eq!(segment_len(&zero), None);
    }

    #[test]
    fn t15_the_control_space_holds_everything_a_dual_stack_socket_can_send() {
        let mut bytes = Vec::new();
        let mut time = Vec::from((1_700_000_000 as libc::c_long).to_ne_bytes());
        time.extend_from_slice(&(123 as libc::c_long).to_ne_bytes());
        put(&mut bytes, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &time);
        put(&mut bytes, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
        put(&mut bytes, libc::IPPROTO_IP, libc::IP_PKTINFO, &[2, 0, 0, 0, 1, 1, 1, 1, 127, 0, 0, 9]);
        let mut six = vec![0; 15];
        six.push(1);
        six.extend_from_slice(&3_u32.to_ne_bytes());
        put(&mut bytes, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &six);
        put(&mut bytes, libc::IPPROTO_IP, libc::IP_TOS, &[1]);
        put(&mut bytes, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &2_i32.to_ne_bytes());
        put(&mut bytes, libc::SOL_UDP, libc::UDP_GRO, &500_i32.to_ne_bytes());
        // The largest mix another project met on a real socket was 152 bytes, where a long has 8.
        let largest = if ALIGN == 8 { 152 } else { 0 };
        assert!(CONTROL_BYTES >= bytes.len().max(largest), "{CONTROL_BYTES} < {}", bytes.len());
        let control = parse(&bytes);
        assert_eq!(control.rx_time, Some(Duration::new(1_700_000_000, 123)));
        assert_eq!(control.kernel_drops, Some(7));
        assert_eq!(control.dst, Some("::1".parse().unwrap()));
        assert_eq!(control.ifindex, Some(3));
        assert_eq!(control.traffic_class, Some(2));
        assert_eq!(segment_len(&bytes), Some(500));
    }

    #[test]
    fn a_stamp_of_before_1970_is_none() {
        let mut bytes = Vec::new();
        let time = [-1, 0].map(|n: libc::c_long| n.to_ne_bytes()).concat();
        put(&mut bytes, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &time);
        assert_eq!(parse(&bytes).rx_time, None);
    }

    #[test]
    fn the_short_ways_say_what_the_long_ones_say() {
        let (long, int) = (|n: libc::c_long| n.to_ne_bytes(), |n: c_int| n.to_ne_bytes());
        let times = [[5, 7], [5, 999_999_999], [5, 1_000_000_000], [-5, 7], [5, -7]];
        let time = |[seconds, nanos]: [libc::c_long; 2]| [long(seconds), long(nanos)].concat();
        let mut lone = Vec::from(times.map(|t| (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, time(t))));
        lone.push((libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, long(5).to_vec()));
        lone.push((libc::SOL_SOCKET, libc::SO_RXQ_OVFL, time([5, 7])));
        lone.extend([0, 1, 1200, -1].map(|n| (libc::SOL_UDP, libc::UDP_GRO, int(n).to_vec())));
        lone.push((libc::SOL_SOCKET, libc::UDP_GRO, int(1200).to_vec()));
        for (level, kind, payload) in lone {
            let mut bytes = Vec::new();
            put(&mut bytes, level, kind, &payload);
            for at in 0..bytes.len() {
                for value in [0, 1, 20, 32, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    for bytes in [&bytes[..], &bytes[..at], &damaged] {
                        assert_eq!(parse(bytes), parse_any(bytes), "{bytes:?}");
                        assert_eq!(segment_len(bytes), find_segment_len(bytes), "{bytes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_cut_of_a_good_buffer_is_read_without_panic() {
        let mut bytes = Vec::new();
        put(&mut bytes, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
        put(&mut bytes, libc::SOL_UDP, libc::UDP_GRO, &500_i32.to_ne_bytes());
        for end in 0..=bytes.len() {
            parse(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                parse(&damaged);
            }
        }
    }
}
