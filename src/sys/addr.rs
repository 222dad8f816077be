//! Socket addresses between Rust and the kernel's C structs.
#![allow(unsafe_code)]

use std::mem::{align_of, offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::{AF_INET, AF_INET6, sa_family_t, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

const _: () = assert!(size_of::<sockaddr_in>() <= size_of::<sockaddr_storage>());
const _: () = assert!(size_of::<sockaddr_in6>() <= size_of::<sockaddr_storage>());
const _: () = assert!(align_of::<sockaddr_in>() <= align_of::<sockaddr_storage>());
const _: () = assert!(align_of::<sockaddr_in6>() <= align_of::<sockaddr_storage>());
// The family stands at one place in all three, which is what tells them apart.
const _: () = assert!(offset_of!(sockaddr_in, sin_family) == offset_of!(sockaddr_storage, ss_family));
const _: () = assert!(offset_of!(sockaddr_in6, sin6_family) == offset_of!(sockaddr_storage, ss_family));
// ip(7), ipv6(7): without gaps, so that an address of the length the kernel tells has no byte that nobody wrote.
const _: () = assert!(size_of::<sockaddr_in>() == 16 && offset_of!(sockaddr_in, sin_port) == 2);
const _: () = assert!(offset_of!(sockaddr_in, sin_addr) == 4);
const _: () = assert!(size_of::<sockaddr_in6>() == 28 && offset_of!(sockaddr_in6, sin6_port) == 2);
const _: () = assert!(offset_of!(sockaddr_in6, sin6_flowinfo) == 4 && offset_of!(sockaddr_in6, sin6_addr) == 8);
const _: () = assert!(offset_of!(sockaddr_in6, sin6_scope_id) == 24);

/// A storage of zeroes, which is a valid address of family AF_UNSPEC.
pub(super) fn empty() -> sockaddr_storage {
    // SAFETY: sockaddr_storage is a C struct of integers only (socket.h); all zeroes is a valid value.
    unsafe { std::mem::zeroed() }
}

/// Whether the `len` bytes the kernel says it wrote are an IPv4 or IPv6 address that [`decode`] can read.
///
/// The family alone is not enough: a header used for two families reports the longer length while
/// only the shorter was written, and a failed or closed peer reports length 0.
#[inline]
pub(super) fn is_decodable(storage: &sockaddr_storage, len: socklen_t) -> bool {
    match i32::from(storage.ss_family) {
        AF_INET => len as usize >= size_of::<sockaddr_in>(),
        AF_INET6 => len as usize >= size_of::<sockaddr_in6>(),
        _ => false,
    }
}

/// Reads an address of `len` bytes; `None` for anything but a whole IPv4 or IPv6 address.
#[inline]
pub(super) fn decode(storage: &sockaddr_storage, len: socklen_t) -> Option<SocketAddr> {
    if !is_decodable(storage, len) {
        return None;
    }
    Some(if i32::from(storage.ss_family) == AF_INET {
        SocketAddr::V4(read_v4(storage))
    } else {
        SocketAddr::V6(read_v6(storage))
    })
}

/// Reads the storage as an IPv4 address, whatever it holds.
#[inline(always)]
pub(super) fn read_v4(storage: &sockaddr_storage) -> SocketAddrV4 {
    // SAFETY: sockaddr_storage is at least as large and as aligned as sockaddr_in (asserted above),
    // all its bytes are initialised, and sockaddr_in is made of integers only.
    let v4 = unsafe { &*ptr::from_ref(storage).cast::<sockaddr_in>() };
    let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
    SocketAddrV4::new(ip, u16::from_be(v4.sin_port))
}

/// Reads the storage as an IPv6 address, whatever it holds.
#[inline(always)]
pub(super) fn read_v6(storage: &sockaddr_storage) -> SocketAddrV6 {
    // SAFETY: as in `read_v4`, for sockaddr_in6.
    let v6 = unsafe { &*ptr::from_ref(storage).cast::<sockaddr_in6>() };
    let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
    SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id)
}

/// Writes `address` into `storage` and gives the length the kernel wants with it.
#[inline(always)]
pub(super) fn encode(address: SocketAddr, storage: &mut sockaddr_storage) -> socklen_t {
    match address {
        SocketAddr::V4(v4) => encode_v4(v4, storage),
        SocketAddr::V6(v6) => encode_v6(&v6, storage),
    }
}

#[inline(always)]
fn encode_v4(v4: SocketAddrV4, storage: &mut sockaddr_storage) -> socklen_t {
    let value = sockaddr_in {
        sin_family: AF_INET as sa_family_t,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: the target comes from an exclusive reference to a sockaddr_storage, which is
    // large and aligned enough for a sockaddr_in (asserted above).
    unsafe { ptr::from_mut(storage).cast::<sockaddr_in>().write(value) };
    size_of::<sockaddr_in>() as socklen_t
}

/// By itself, so that a loop over IPv4 addresses does not pay for its registers.
#[inline(never)]
fn encode_v6(v6: &SocketAddrV6, storage: &mut sockaddr_storage) -> socklen_t {
    let value = sockaddr_in6 {
        sin6_family: AF_INET6 as sa_family_t,
        sin6_port: v6.port().to_be(),
        sin6_flowinfo: v6.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
        sin6_scope_id: v6.scope_id(),
    };
    // SAFETY: as in `encode_v4`, for a sockaddr_in6.
    unsafe { ptr::from_mut(storage).cast::<sockaddr_in6>().write(value) };
    size_of::<sockaddr_in6>() as socklen_t
}

/// What [`short`] gives for an address that is longer.
pub(super) const NO_SHORT: u64 = u64::MAX;

/// An IPv4 address as one number, for quick comparing; all others have [`NO_SHORT`].
#[inline(always)]
pub(super) fn short(address: SocketAddr) -> u64 {
    match address {
        SocketAddr::V4(v4) => u64::from(u32::from_ne_bytes(v4.ip().octets())) << 16 | u64::from(v4.port()),
        SocketAddr::V6(_) => NO_SHORT,
    }
}

/// Whether `storage` holds the IPv6 address `address`.
#[inline(never)]
pub(super) fn is_v6(storage: &sockaddr_storage, address: SocketAddr) -> bool {
    i32::from(storage.ss_family) == AF_INET6 && SocketAddr::V6(read_v6(storage)) == address
}

/// Decodes an address from raw bytes as a stranger might lay them out: for fuzzing and tests.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode_bytes(bytes: &[u8], claimed_len: u32) -> Option<SocketAddr> {
    let mut storage = empty();
    let copied = bytes.len().min(size_of::<sockaddr_storage>());
    // SAFETY: `copied` bytes are readable in `bytes` and writable in `storage`, which do not overlap;
    // any byte pattern is a valid sockaddr_storage.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), ptr::from_mut(&mut storage).cast(), copied) };
    decode(&storage, claimed_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_survives_the_round_trip() {
        for text in ["127.0.0.1:1", "255.255.255.255:65535", "[::1]:9", "[fe80::1%7]:5", "[::ffff:1.2.3.4]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut storage = empty();
            let len = encode(address, &mut storage);
            assert_eq!(decode(&storage, len), Some(address), "{text}");
        }
    }

    #[test]
    fn two_destinations_are_the_same_if_all_of_their_parts_are() {
        let texts = [
            "127.0.0.1:1",
            "127.0.0.1:2",
            "127.0.0.2:1",
            "255.255.255.255:65535",
            "[::ffff:127.0.0.1]:1",
            "[::1]:1",
            "[::1]:2",
            "[fe80::1%1]:1",
            "[fe80::1%2]:1",
        ];
        let addresses = texts.map(|text| text.parse::<SocketAddr>().unwrap());
        for one in addresses {
            let mut storage = empty();
            encode(one, &mut storage);
            for other in addresses {
                let is_same = short(one) == short(other) && (short(one) != NO_SHORT || is_v6(&storage, other));
                assert_eq!(is_same, one == other, "{one} {other}");
            }
        }
        assert!(!is_v6(&empty(), "[::]:0".parse().unwrap()));
    }

    #[test]
    fn t05_a_length_shorter_than_the_family_needs_is_refused() {
        let mut storage = empty();
        let len = encode("[::1]:9".parse().unwrap(), &mut storage);
        assert_eq!(decode(&storage, len - 1), None);
        assert_eq!(decode(&storage, size_of::<sockaddr_in>() as socklen_t), None);
        assert_eq!(decode(&storage, 0), None);
    }

    #[test]
    fn an_unknown_family_is_refused() {
        assert_eq!(decode(&empty(), 128), None);
        assert_eq!(decode_bytes(&[1, 0, b'x'], 3), None);
    }
}
