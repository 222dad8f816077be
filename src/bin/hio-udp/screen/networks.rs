//! A set of IP networks, asked for single addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Networks as ranges of addresses, in order and apart: looked up by halving.
#[derive(Debug)]
pub struct Networks(Box<[Range]>);

/// First and last address. All of IPv4 come before all of IPv6, so none of the one is in a range of the other.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: IpAddr,
    last: IpAddr,
}

/// Bits of an IPv4-mapped address that say that it is one: `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

/// A network of IPv4-mapped addresses as the IPv4 network it stands for; any other as it is.
fn canonical(network: &IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return *network };
    match (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED_BITS)) {
        (Some(first), Some(bits)) => Ipv4Net::new(first, bits).map_or(*network, IpNet::V4),
        _ => *network,
    }
}

impl Networks {
    pub fn new(networks: &[IpNet]) -> Self {
        let range = |net: IpNet| Range { first: net.network(), last: net.broadcast() };
        let mut ranges: Vec<Range> = networks.iter().map(canonical).map(range).collect();
        ranges.sort_unstable_by_key(|range| range.first);
        let mut apart: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match apart.last_mut() {
                Some(before) if range.first <= before.last => before.last = before.last.max(range.last),
                _ => apart.push(range),
            }
        }
        Self(apart.into())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them; an IPv4-mapped one is the IPv4 address it stands for.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let behind = self.0.partition_point(|range| range.first <= address);
        behind > 0 && address <= self.0[behind - 1].last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address among those of IPv6, where IPv4 has the mapped ones.
    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    /// Whether a network has an address, a network of mapped ones that of IPv4.
    fn is_in(net: &IpNet, address: IpAddr) -> bool {
        match (net, address) {
            (IpNet::V6(net), IpAddr::V4(v4)) => net.prefix_len() >= 96 && net.contains(&v4.to_ipv6_mapped()),
            _ => net.contains(&address),
        }
    }

    #[test]
    fn no_network_of_one_family_has_an_address_of_the_other_but_mapped_ones_are_ipv4() {
        let contains =
            |net: &str, address: &str| Networks::new(&[net.parse().unwrap()]).contains(address.parse().unwrap());
        for (net, v4, mapped, v6) in [
            ("::/0", false, false, true),
            ("::/64", false, false, false),
            ("0.0.0.0/0", true, true, false),
            ("::ffff:0:0/96", true, true, false),
            ("::ffff:192.0.2.0/120", true, true, false),
            ("::ffff:198.51.100.0/120", false, false, false),
            ("192.0.2.1/32", true, true, false),
            // Wider than the mapped ones: a network of IPv6.
            ("::fffe:0:0/95", false, false, false),
        ] {
            let found = [contains(net, "192.0.2.1"), contains(net, "::ffff:192.0.2.1"), contains(net, "2001:db8::1")];
            assert_eq!(found, [v4, mapped, v6], "{net}");
        }
        assert!(contains("::/64", "::1") && contains("::fffe:0:0/95", "::fffe:0:1"));
    }

    #[test]
    fn lookups_match_asking_every_network() {
        let texts = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7/32",
            "192.0.2.8/29",
            "255.255.255.255/32",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "::1/128",
            "fe80::/10",
            "0.0.0.0/0",
            "::/0",
            "::/64",
            "::fffe:0:0/95",
            "::ffff:0:0/97",
            "::ffff:192.0.2.0/120",
        ];
        let nets: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let mut state = 7_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for _ in 0..2_000 {
            let chosen: Vec<IpNet> = nets.iter().copied().filter(|_| random() % 2 == 0).collect();
            let networks = Networks::new(&chosen);
            // The edges of every network, and what is next to them.
            for net in &nets {
                for number in [number(net.network()), number(net.broadcast())] {
                    for number in [number.wrapping_sub(1), number, number.wrapping_add(1)] {
                        let address = IpAddr::from(number.to_be_bytes()).to_canonical();
                        let expected = chosen.iter().any(|net| is_in(net, address));
                        assert_eq!(networks.contains(address), expected, "{address} in {chosen:?}");
                    }
                }
            }
        }
    }
}
