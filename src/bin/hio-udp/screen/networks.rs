//! A set of IP networks, asked for single addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks as ranges of addresses, in order and apart: looked up by halving.
#[derive(Debug)]
pub struct Networks(Box<[Range]>);

/// First and last address; an IPv4 address is its IPv6-mapped one.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u128,
    last: u128,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Networks {
    pub fn new(networks: &[IpNet]) -> Self {
        let range = |net: &IpNet| Range { first: number(net.network()), last: number(net.broadcast()) };
        let mut ranges: Vec<Range> = networks.iter().map(range).collect();
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

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        let behind = self.0.partition_point(|range| range.first <= address);
        behind > 0 && address <= self.0[behind - 1].last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                let edges = [number(net.network()), number(net.broadcast())];
                for number in edges.iter().flat_map(|edge| [edge.wrapping_sub(1), *edge, edge.wrapping_add(1)]) {
                    let address = IpAddr::from(number.to_be_bytes()).to_canonical();
                    let expected = chosen.iter().any(|net| net.contains(&address));
                    assert_eq!(networks.contains(address), expected, "{address} in {chosen:?}");
                }
            }
        }
    }
}
