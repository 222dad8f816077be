//! Socket addresses: arbitrary bytes with an arbitrary claimed length never panic, and what comes out
//! is what the bytes say at their fixed places.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libfuzzer_sys::fuzz_target;

/// struct sockaddr_in: family, port, address, padding (ip(7)).
const V4_BYTES: u32 = 16;
/// struct sockaddr_in6: family, port, flow, address, scope (ipv6(7)).
const V6_BYTES: u32 = 28;

fn naive(bytes: &[u8; 128], claimed_len: u32) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    match i32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) {
        libc::AF_INET if claimed_len >= V4_BYTES => {
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 if claimed_len >= V6_BYTES => {
            let ip = <[u8; 16]>::try_from(&bytes[8..24]).unwrap();
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, word(4), word(24)).into())
        }
        _ => None,
    }
}

fuzz_target!(|input: (u32, &[u8])| {
    let (claimed_len, bytes) = input;
    // What the kernel did not write stays zero.
    let mut storage = [0; 128];
    let copied = bytes.len().min(storage.len());
    storage[..copied].copy_from_slice(&bytes[..copied]);
    assert_eq!(hio_udp::fuzzing::decode_address(bytes, claimed_len), naive(&storage, claimed_len));
});
