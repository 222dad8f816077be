//! Multicast: the groups a peer listens to, and how its own datagrams to groups go out.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use crate::sys::socket as sys_socket;

/// The network interface that a multicast group is joined on, or that datagrams to groups leave by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Interface {
    /// The one the system's routes choose.
    #[default]
    Any,
    /// By an address of its own; for IPv4 groups only.
    Address(Ipv4Addr),
    /// By its index, as `if_nametoindex(3)` or `ip link` tell it; for IPv6 groups, and for IPv4 ones
    /// where the system can.
    Index(u32),
}

/// What a peer has asked for; it holds from one open to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Multicast {
    groups: Vec<(IpAddr, Interface)>,
    /// Take datagrams of these groups only. Else Linux also gives those that any other socket of this machine
    /// has joined (IP_MULTICAST_ALL, ip(7)).
    is_only_own: bool,
    hops: Option<u32>,
    is_looped: Option<bool>,
    interface: Option<Interface>,
}

impl Multicast {
    /// Sets a socket that is being opened as was asked for.
    pub(crate) fn apply(&self, socket: &UdpSocket, is_ipv6: bool) -> io::Result<()> {
        if self.is_only_own {
            refuse_other_groups(socket, is_ipv6)?;
        }
        for (group, interface) in &self.groups {
            change_membership(socket, *group, *interface, Membership::Join)?;
        }
        if let Some(hops) = self.hops {
            set_hops(socket, is_ipv6, hops)?;
        }
        if let Some(is_looped) = self.is_looped {
            set_loop(socket, is_ipv6, is_looped)?;
        }
        self.interface.map_or(Ok(()), |interface| set_interface(socket, is_ipv6, interface))
    }

    /// Joins a group, on `socket` if it is open, and notes it for the next open.
    pub(crate) fn join(&mut self, socket: Option<&UdpSocket>, group: IpAddr, on: Interface) -> io::Result<()> {
        check_group(group)?;
        if let Some(socket) = socket {
            change_membership(socket, group, on, Membership::Join)?;
        }
        if !self.groups.contains(&(group, on)) {
            self.groups.push((group, on));
        }
        Ok(())
    }

    pub(crate) fn only_own(&mut self) {
        self.is_only_own = true;
    }

    /// Leaves a group, on `socket` if it is open, and forgets it.
    pub(crate) fn leave(&mut self, socket: Option<&UdpSocket>, group: IpAddr, on: Interface) -> io::Result<()> {
        let Some(index) = self.groups.iter().position(|joined| *joined == (group, on)) else {
            let message = format!("group {group} was not joined on {on:?}");
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        };
        if let Some(socket) = socket {
            change_membership(socket, group, on, Membership::Leave)?;
        }
        self.groups.remove(index);
        Ok(())
    }

    pub(crate) fn set_hops(&mut self, socket: Option<&UdpSocket>, is_ipv6: bool, hops: u32) -> io::Result<()> {
        socket.map_or(Ok(()), |socket| set_hops(socket, is_ipv6, hops))?;
        self.hops = Some(hops);
        Ok(())
    }

    pub(crate) fn set_loop(&mut self, socket: Option<&UdpSocket>, is_ipv6: bool, on: bool) -> io::Result<()> {
        socket.map_or(Ok(()), |socket| set_loop(socket, is_ipv6, on))?;
        self.is_looped = Some(on);
        Ok(())
    }

    pub(crate) fn set_interface(&mut self, socket: Option<&UdpSocket>, is_ipv6: bool, by: Interface) -> io::Result<()> {
        socket.map_or(Ok(()), |socket| set_interface(socket, is_ipv6, by))?;
        self.interface = Some(by);
        Ok(())
    }
}

fn refuse_other_groups(socket: &UdpSocket, is_ipv6: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // An IPv6 socket may have IPv4 datagrams too.
        sys_socket::set(socket, |socket| socket.set_multicast_all_v4(false))?;
        if is_ipv6 {
            sys_socket::set(socket, |socket| socket.set_multicast_all_v6(false))?;
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, is_ipv6);
    Ok(())
}

fn check_group(group: IpAddr) -> io::Result<()> {
    if group.is_multicast() {
        return Ok(());
    }
    let message = format!("{group} is no multicast group: want 224.0.0.0 to 239.255.255.255, or ff00::/8");
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

fn wrong_interface(interface: Interface, what: &str) -> io::Error {
    let message = format!("{interface:?} names no interface for {what}: want an index for IPv6, an address for IPv4");
    io::Error::new(ErrorKind::InvalidInput, message)
}

#[derive(Clone, Copy)]
enum Membership {
    Join,
    Leave,
}

fn change_membership(socket: &UdpSocket, group: IpAddr, on: Interface, change: Membership) -> io::Result<()> {
    sys_socket::set(socket, |socket| match (group, on) {
        (IpAddr::V4(group), Interface::Any | Interface::Address(_)) => {
            let address = if let Interface::Address(address) = on { address } else { Ipv4Addr::UNSPECIFIED };
            match change {
                Membership::Join => socket.join_multicast_v4(&group, &address),
                Membership::Leave => socket.leave_multicast_v4(&group, &address),
            }
        }
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
        (IpAddr::V4(group), Interface::Index(index)) => {
            let index = socket2::InterfaceIndexOrAddress::Index(index);
            match change {
                Membership::Join => socket.join_multicast_v4_n(&group, &index),
                Membership::Leave => socket.leave_multicast_v4_n(&group, &index),
            }
        }
        (IpAddr::V6(group), Interface::Any | Interface::Index(_)) => {
            let index = if let Interface::Index(index) = on { index } else { 0 };
            match change {
                Membership::Join => socket.join_multicast_v6(&group, index),
                Membership::Leave => socket.leave_multicast_v6(&group, index),
            }
        }
        _ => Err(wrong_interface(on, &group.to_string())),
    })
}

fn set_hops(socket: &UdpSocket, is_ipv6: bool, hops: u32) -> io::Result<()> {
    sys_socket::set(socket, |socket| match is_ipv6 {
        true => socket.set_multicast_hops_v6(hops),
        false => socket.set_multicast_ttl_v4(hops),
    })
}

fn set_loop(socket: &UdpSocket, is_ipv6: bool, on: bool) -> io::Result<()> {
    sys_socket::set(socket, |socket| match is_ipv6 {
        true => socket.set_multicast_loop_v6(on),
        false => socket.set_multicast_loop_v4(on),
    })
}

fn set_interface(socket: &UdpSocket, is_ipv6: bool, by: Interface) -> io::Result<()> {
    sys_socket::set(socket, |socket| match (is_ipv6, by) {
        (true, Interface::Index(index)) => socket.set_multicast_if_v6(index),
        (true, Interface::Any) => socket.set_multicast_if_v6(0),
        (false, Interface::Address(address)) => socket.set_multicast_if_v4(&address),
        (false, Interface::Any) => socket.set_multicast_if_v4(&Ipv4Addr::UNSPECIFIED),
        (true, Interface::Address(_)) => Err(wrong_interface(by, "an IPv6 socket")),
        (false, Interface::Index(_)) => Err(wrong_interface(by, "an IPv4 socket")),
    })
}
