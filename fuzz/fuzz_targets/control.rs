//! Control messages: arbitrary bytes never panic, and say what a second, naive reader finds in them.
#![no_main]

use std::mem::size_of;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;

const WORD: usize = size_of::<libc::c_long>();
const HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(WORD);

/// Every whole message of `bytes`, read front to back with indices only.
fn naive(bytes: &[u8]) -> Vec<(i32, i32, &[u8])> {
    let int = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut found, mut at) = (Vec::new(), 0);
    while bytes.len() - at >= size_of::<libc::cmsghdr>() {
        let len = usize::from_ne_bytes(bytes[at..at + WORD].try_into().unwrap());
        if len < HEADER || len > bytes.len() - at {
            break;
        }
        found.push((int(at + WORD), int(at + WORD + 4), &bytes[at + HEADER..at + len]));
        at = bytes.len().min(at + len.next_multiple_of(WORD));
    }
    found
}

fn u32_at(payload: &[u8], at: usize) -> Option<u32> {
    payload.get(at..at + 4).map(|bytes| u32::from_ne_bytes(bytes.try_into().unwrap()))
}

fuzz_target!(|bytes: &[u8]| {
    let meta = hio_udp::fuzzing::meta(bytes);
    let messages = naive(bytes);
    let of = |level, kind| messages.iter().filter(move |m| (m.0, m.1) == (level, kind)).map(|m| m.2);

    let drops = of(libc::SOL_SOCKET, libc::SO_RXQ_OVFL).filter_map(|payload| u32_at(payload, 0)).next_back();
    assert_eq!(meta.kernel_drops, drops);

    let segment_len = of(libc::SOL_UDP, libc::UDP_GRO).next_back().and_then(|payload| u32_at(payload, 0));
    assert_eq!(hio_udp::fuzzing::segment_len(bytes), segment_len.map(|len| len as usize).filter(|len| *len > 0));

    let has_v4 = of(libc::IPPROTO_IP, libc::IP_PKTINFO).any(|payload| payload.len() >= 12);
    let has_v6 = of(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO).any(|payload| payload.len() >= 20);
    assert_eq!(meta.dst.is_some(), has_v4 || has_v6);
    assert_eq!(meta.ifindex.is_some(), has_v4 || has_v6);
    assert!(meta.dst.is_none_or(|ip| if ip.is_ipv4() { has_v4 } else { has_v6 }));

    let has_class = of(libc::IPPROTO_IP, libc::IP_TOS).any(|payload| !payload.is_empty())
        || of(libc::IPPROTO_IPV6, libc::IPV6_TCLASS).any(|payload| payload.len() >= 4);
    assert_eq!(meta.ecn.is_some(), has_class);
    assert!(meta.ecn.is_none_or(|ecn| ecn < 4));

    let mut times = of(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS).filter_map(|payload| {
        let long = |at: usize| payload.get(at..at + WORD).map(|b| libc::c_long::from_ne_bytes(b.try_into().unwrap()));
        let (seconds, nanos) = (u64::try_from(long(0)?).ok()?, u32::try_from(long(WORD)?).ok()?);
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    });
    assert_eq!(meta.rx_time, times.next_back());
});
