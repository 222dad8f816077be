//! `--join`: a multicast group, and the interface to join it on.

use std::net::IpAddr;
use std::str::FromStr;

use hio_udp::Interface;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Join {
    pub group: IpAddr,
    pub on: Interface,
}

impl FromStr for Join {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (group, interface) = match text.split_once('%') {
            Some((group, interface)) => (group, Some(interface)),
            None => (text, None),
        };
        let group: IpAddr = group.parse().ok().filter(IpAddr::is_multicast).ok_or_else(|| {
            format!("'{group}' is no multicast group: want 224.0.0.0 to 239.255.255.255, or ff00::/8")
        })?;
        let on = interface.map_or(Ok(Interface::Any), |name| read_interface(name, group))?;
        Ok(Self { group, on })
    }
}

fn read_interface(name: &str, group: IpAddr) -> Result<Interface, String> {
    if let (Ok(address), true) = (name.parse(), group.is_ipv4()) {
        return Ok(Interface::Address(address));
    }
    let index = name.parse().ok().or_else(|| index_of(name));
    index.map(Interface::Index).ok_or_else(|| {
        format!("'{name}' is no interface: want its name or index as `ip link` tells it, or for IPv4 its address")
    })
}

/// The index of an interface by its name, where the system tells it in a file (sysfs(5)).
fn index_of(name: &str) -> Option<u32> {
    if name.is_empty() || name.contains(['/', '.']) {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_interfaces_are_told_apart() {
        let join = |text: &str| text.parse::<Join>().map(|join| join.on);
        assert_eq!(join("239.1.1.1"), Ok(Interface::Any));
        assert_eq!(join("239.1.1.1%192.0.2.5"), Ok(Interface::Address([192, 0, 2, 5].into())));
        assert_eq!(join("239.1.1.1%3"), Ok(Interface::Index(3)));
        assert_eq!(join("ff02::1%7"), Ok(Interface::Index(7)));
        if cfg!(target_os = "linux") {
            assert!(matches!(join("ff02::1%lo"), Ok(Interface::Index(_))));
        }
        for text in ["", "192.0.2.1", "ff02::1%", "ff02::1%192.0.2.5", "239.1.1.1%no-such", "239.1.1.1%../x"] {
            assert!(join(text).is_err(), "{text}");
        }
    }
}
