//! The values that options take, and what is said of bad ones.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use hio_udp::{MAX_DATAGRAM_SIZE, MAX_PAYLOAD_V4};
use ipnet::IpNet;

use crate::failure::Failure;
use crate::probe;

/// A host, by name or address, and a port; not resolved yet.
#[derive(Clone, Debug)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// The address it stands for; the first IPv4 one if there are several. What fails is told with the option.
    pub fn resolve(&self, option: &str) -> Result<SocketAddr, Failure> {
        let Self { host, port } = self;
        let hint = "give an address such as 127.0.0.1 or a name that resolves";
        let found: Vec<SocketAddr> = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|error| Failure::run(format!("cannot resolve '{host}' of {option}: {error}; {hint}")))?
            .collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| Failure::run(format!("'{host}' of {option} has no address; {hint}")))
    }
}

pub fn destination(text: &str) -> Result<HostPort, String> {
    match host_port(text)? {
        HostPort { port: 0, .. } => Err("port 0 cannot be sent to; want a port from 1 to 65535".to_owned()),
        destination => Ok(destination),
    }
}

pub fn host_port(text: &str) -> Result<HostPort, String> {
    let expected = "want ADDR:PORT, such as 127.0.0.1:55000 or [::1]:55000";
    let (host, port) =
        text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).ok_or(format!("no port; {expected}"))?;
    let port = port.parse().map_err(|_| format!("'{port}' is not a port from 0 to 65535; {expected}"))?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(format!("an IPv6 address stands in brackets; {expected}"));
    }
    let host = bare.unwrap_or(host);
    if host.is_empty() {
        return Err(format!("no host; {expected}, or 0.0.0.0 for every interface"));
    }
    Ok(HostPort { host: host.to_owned(), port })
}

/// As [`host_port`]; a port alone is one of this machine's own address, where nobody else can come.
pub fn own_port(text: &str) -> Result<HostPort, String> {
    match text.strip_prefix(':').unwrap_or(text).parse() {
        Ok(port) => Ok(HostPort { host: "127.0.0.1".to_owned(), port }),
        Err(_) => host_port(text).map_err(|error| format!("{error}, or a port alone")),
    }
}

/// Datagrams a second.
#[derive(Clone, Copy, Debug)]
pub enum Rate {
    Max,
    PerSecond(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Self::PerSecond(rate)),
            _ => Err("want datagrams a second, more than 0, or max".to_owned()),
        }
    }
}

/// How fast a capture is sent again.
#[derive(Clone, Copy, Debug)]
pub enum Speed {
    Max,
    /// Times as fast as captured.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(Self::Times(factor)),
            _ => Err("want a factor, more than 0, or max".to_owned()),
        }
    }
}

/// A number from `low` to `high`, or an error that says so.
pub fn in_range(text: &str, what: &str, low: usize, high: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("want {what} from {low} to {high}")),
    }
}

pub fn shards(text: &str) -> Result<usize, String> {
    in_range(text, "a number of shards", 1, 1024)
}

pub fn workers(text: &str) -> Result<usize, String> {
    in_range(text, "a number of threads", 0, 1024)
}

/// A network such as `192.0.2.0/24`, or a single address.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "want a network such as 192.0.2.0/24 or 2001:db8::/32, or an address".to_owned())
}

pub fn ring_slots(text: &str) -> Result<usize, String> {
    in_range(text, "a number of slots", 1, 65_536)
}

pub fn gram_size(text: &str) -> Result<usize, String> {
    in_range(text, "bytes", 1, MAX_DATAGRAM_SIZE)
}

pub fn probe_size(text: &str) -> Result<usize, String> {
    in_range(text, "bytes", probe::HEADER_BYTES, MAX_PAYLOAD_V4)
        .map_err(|want| format!("{want}: number and checksum need the first, UDP carries the second"))
}

pub fn payload_size(text: &str) -> Result<usize, String> {
    in_range(text, "bytes", 0, MAX_PAYLOAD_V4)
}

pub fn datagrams_per_s(text: &str) -> Result<u64, String> {
    in_range(text, "datagrams a second", 1, 1_000_000_000).map(|rate| rate as u64)
}

pub fn sources(text: &str) -> Result<usize, String> {
    in_range(text, "sockets", 1, 10_000)
}

/// Bytes of a socket's buffer, which the system knows as a C int.
pub fn buffer_bytes(text: &str) -> Result<usize, String> {
    let bytes = size(text).ok().and_then(|bytes| i32::try_from(bytes).ok());
    bytes.map(|bytes| bytes as usize).ok_or(format!("want bytes from 1 to {}, or such as 512K or 64M", i32::MAX))
}

pub fn positive(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("want a whole number, at least 1".to_owned()),
    }
}

/// A number of bytes, such as `1048576`, `1024K` or `1M`.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or("want bytes, more than 0, such as 1048576, 1024K or 1M".to_owned())
}

/// A time, such as `60`, `0.5`, `1m` or `7d`.
pub fn period(text: &str) -> Result<Duration, String> {
    let (digits, seconds) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1.0),
        Some(b'm') => (&text[..text.len() - 1], 60.0),
        Some(b'h') => (&text[..text.len() - 1], 3600.0),
        Some(b'd') => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    let time = digits.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number * seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or("want seconds, more than 0, or such as 5m, 1h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, host, port) in
            [("127.0.0.1:5", "127.0.0.1", 5), ("[::1]:6", "::1", 6), ("localhost:0", "localhost", 0)]
        {
            let parsed = host_port(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
        }
        for (text, host, port) in [("9", "127.0.0.1", 9), (":9", "127.0.0.1", 9), ("0.0.0.0:9", "0.0.0.0", 9)] {
            let parsed = own_port(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
        }
        assert!(own_port("nine").unwrap_err().ends_with("or a port alone"));
    }

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        for (text, bytes) in [("4096", 4096), ("64M", 64 << 20), ("2147483647", i32::MAX as usize)] {
            assert_eq!(buffer_bytes(text), Ok(bytes));
        }
        for text in ["0", "2G", "2147483648", "64MB", "-1"] {
            assert!(buffer_bytes(text).unwrap_err().contains("from 1 to 2147483647"), "{text}");
        }
        for (text, bytes) in [("1", 1), ("1048576", 1 << 20), ("64K", 64 << 10), ("2M", 2 << 20), ("3G", 3 << 30)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "0", "M", "-1", "1.5M", "99999999999G", "1T"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, seconds) in [("1", 1.0), ("0.1", 0.1), ("2s", 2.0), ("5m", 300.0), ("1h", 3600.0), ("7d", 604_800.0)]
        {
            assert_eq!(period(text), Ok(Duration::from_secs_f64(seconds)));
        }
        for text in ["", "0", "m", "-1", "1w", "NaN", "inf"] {
            assert!(period(text).is_err(), "{text}");
        }
    }
}
