//! What is received on: sockets of our own, or those that a service manager passed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use hio_udp::{BoundPipeline, Direction, PeerConfig, Pipeline, PipelineBuilder};

use crate::account::say;
use crate::args::{DEFAULT_RCVBUF, IngestOptions, Join, Stamp};
use crate::failure::Failure;

/// An address whose sockets are open.
pub struct Bound {
    pub pipeline: BoundPipeline,
    pub sockets: usize,
    /// Whether it leaves the port to others for IPv4; not known of sockets that were passed.
    is_only_v6: bool,
    /// Whether the sockets were passed, and so are older than this process.
    pub is_passed: bool,
}

/// What does not go together.
pub fn problems(options: &IngestOptions) -> Vec<String> {
    let (shards, pins) = (options.shards, options.pin.len());
    let is_wrong = pins > 0 && pins != shards;
    let problem = || format!("--pin names {pins} processors for {shards} shards: want one for each");
    is_wrong.then(problem).into_iter().collect()
}

/// Opens the sockets of every `--bind`, or takes those that were passed.
pub fn bind(options: &IngestOptions) -> Result<Vec<Bound>, Failure> {
    let passed = passed_sockets()?;
    let bound = if passed.is_empty() {
        let addresses = options.bind.iter().map(|bind| bind.resolve("--bind")).collect::<Result<Vec<_>, _>>()?;
        let is_only_v6 = |ha| addresses.iter().any(|other| leaves_ipv4_to(ha, *other));
        addresses.iter().map(|ha| bind_one(options, *ha, is_only_v6(*ha))).collect::<Result<Vec<_>, _>>()?
    } else {
        passed.into_iter().map(|(local, sockets)| take_over(options, local, sockets)).collect::<Result<Vec<_>, _>>()?
    };
    for join in &options.join {
        if !bound.iter().any(|bound| takes_group(bound.pipeline.ha(), join.group)) {
            let any = if join.group.is_ipv4() { "0.0.0.0" } else { "[::]" };
            let group = join.group;
            return Err(Failure::Usage(format!("--join {group}: nothing receives it; want a --bind {any}:PORT")));
        }
    }
    Ok(bound)
}

/// Whether a socket on `ha`, every interface for IPv6, must leave IPv4 to that on another address: both have one port,
/// which would else be taken for both families. Two free ports are two.
fn leaves_ipv4_to(ha: SocketAddr, other: SocketAddr) -> bool {
    let is_one_port = ha.port() == other.port() && ha.port() != 0;
    ha.is_ipv6() && ha.ip().is_unspecified() && other.ip().to_canonical().is_ipv4() && is_one_port
}

/// Whether datagrams to a group can come to a socket bound to this address.
fn takes_group(local: SocketAddr, group: IpAddr) -> bool {
    local.ip() == group || (local.ip().is_unspecified() && local.is_ipv4() == group.is_ipv4())
}

/// Whether datagrams sent to this address from here come to one of these sockets.
pub fn leads_back(bound: &[Bound], joins: &[Join], mut to: SocketAddr) -> bool {
    to.set_ip(match to.ip().to_canonical() {
        // What is sent to no address stays on this machine.
        ip if ip.is_unspecified() && ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        ip if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    });
    bound.iter().filter(|bound| bound.pipeline.ha().port() == to.port()).any(|bound| {
        let ip = bound.pipeline.ha().ip().to_canonical();
        // A socket of IPv6 has IPv4 datagrams too, unless the system says otherwise (ipv6(7)).
        let has_family = ip.is_ipv4() == to.is_ipv4() || (ip.is_ipv6() && !bound.is_only_v6);
        let is_any = ip.is_unspecified() && has_family;
        let is_here = || match to.ip().is_multicast() {
            true => joins.iter().any(|join| join.group == to.ip()),
            false => is_own(to),
        };
        ip == to.ip() || (is_any && is_here())
    })
}

/// Whether an address is one of this machine's: only such can be bound, unless the system lets any be
/// (ip_nonlocal_bind, ip(7)), and then there is no telling.
fn is_own(mut address: SocketAddr) -> bool {
    address.set_port(0);
    // A dummy's, which no machine has (RFC 7600); and one of a prefix for what is to be discarded (RFC 6666).
    let nobodys = if address.is_ipv4() { "192.0.0.8:0" } else { "[100::1]:0" };
    address.ip().is_loopback() || (UdpSocket::bind(address).is_ok() && UdpSocket::bind(nobodys).is_err())
}

fn bind_one(options: &IngestOptions, ha: SocketAddr, is_only_v6: bool) -> Result<Bound, Failure> {
    let config = config(options, ha).ha(ha).recv_buf_bytes(options.rcvbuf.unwrap_or(DEFAULT_RCVBUF));
    let builder = builder(options, ha, config.only_v6(is_only_v6)).shards(options.shards);
    let pipeline = builder.bind().map_err(|error| why_not_bound(&error, ha))?;
    report_clamp(&pipeline);
    Ok(Bound { pipeline, sockets: options.shards, is_only_v6, is_passed: false })
}

fn take_over(options: &IngestOptions, local: SocketAddr, sockets: Vec<UdpSocket>) -> Result<Bound, Failure> {
    let count = sockets.len();
    let mut config = config(options, local);
    // Whoever bound it has chosen its buffer, unless something else is asked for here.
    if let Some(bytes) = options.rcvbuf {
        config = config.recv_buf_bytes(bytes);
    }
    let pipeline = builder(options, local, config).sockets(sockets).bind().map_err(|error| {
        Failure::run(format!("cannot take over the socket passed on {local}: {error}; pass bound UDP sockets"))
    })?;
    report_clamp(&pipeline);
    Ok(Bound { pipeline, sockets: count, is_only_v6: false, is_passed: true })
}

fn builder(options: &IngestOptions, local: SocketAddr, config: PeerConfig) -> PipelineBuilder {
    let builder = Pipeline::builder(config)
        .workers(options.workers)
        .spread(options.spread.into())
        .pin(options.pin.iter().copied())
        .drain(options.drain)
        .held(true);
    let groups = options.join.iter().filter(|join| takes_group(local, join.group));
    groups.fold(builder, |builder, Join { group, on }| builder.join(*group, *on))
}

fn config(options: &IngestOptions, local: SocketAddr) -> PeerConfig {
    let is_stored = options.out.is_some() || !options.sinks.is_empty();
    PeerConfig::new()
        .name("ingest")
        .bc(options.bc)
        .gram_size(options.gram_size)
        // Both cost time per datagram, so only where a sink needs them.
        .rx_time(is_stored && options.stamp == Stamp::Arrival)
        .dst_addr(is_stored && local.ip().to_canonical().is_unspecified())
}

fn report_clamp(pipeline: &BoundPipeline) {
    let report = pipeline.buf_report(Direction::Receive);
    if report.clamped {
        say(&format!("hio-udp: note: {report}"));
    }
}

fn why_not_bound(error: &io::Error, bind: SocketAddr) -> Failure {
    // Windows says so of a port that somebody has for himself alone; low ports need no privileges there.
    let kind = if cfg!(windows) && error.kind() == io::ErrorKind::PermissionDenied {
        io::ErrorKind::AddrInUse
    } else {
        error.kind()
    };
    let hint = match kind {
        io::ErrorKind::AddrInUse => {
            format!("another process or another --bind has port {}: stop it or choose another --bind", bind.port())
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another --bind".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher --bind".to_owned(),
        io::ErrorKind::OutOfMemory => "choose a smaller --bc or --gram-size".to_owned(),
        _ => "choose another --bind".to_owned(),
    };
    Failure::run(format!("cannot bind {bind}: {error}; {hint}"))
}

/// So many sockets may be passed, which is more than anybody does; a list is made of as many as are said to be.
#[cfg(unix)]
const PASSED_MAX: u64 = 1024;

/// The UDP sockets that a service manager has passed (sd_listen_fds(3)), by their addresses.
#[cfg(unix)]
fn passed_sockets() -> Result<Vec<(SocketAddr, Vec<UdpSocket>)>, Failure> {
    let told = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(count) = told.filter(|count| *count > PASSED_MAX) {
        return Err(Failure::run(format!("LISTEN_FDS={count} sockets cannot be passed; want {PASSED_MAX} at most")));
    }
    let mut passed = listenfd::ListenFd::from_env();
    let mut by_address: Vec<(SocketAddr, Vec<UdpSocket>)> = Vec::new();
    for index in 0..passed.len() {
        let refused = |error: io::Error| {
            Failure::run(format!("passed socket number {index}: {error}; want UDP sockets only (ListenDatagram=)"))
        };
        let Some(socket) = passed.take_udp_socket(index).map_err(refused)? else { continue };
        let local = socket.local_addr().map_err(refused)?;
        match by_address.iter_mut().find(|(address, _)| *address == local) {
            Some((_, sockets)) => sockets.push(socket),
            None => by_address.push((local, vec![socket])),
        }
    }
    Ok(by_address)
}

#[cfg(not(unix))]
fn passed_sockets() -> Result<Vec<(SocketAddr, Vec<UdpSocket>)>, Failure> {
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_of_ipv6_leaves_ipv4_to_another_address_with_its_port_but_not_for_two_free_ports() {
        for (ha, other, is_left) in [
            ("[::]:9", "0.0.0.0:9", true),
            ("[::]:9", "192.0.2.1:9", true),
            ("[::]:9", "[::ffff:192.0.2.1]:9", true),
            ("[::]:9", "0.0.0.0:10", false),
            ("[::]:9", "[::]:9", false),
            ("[::1]:9", "0.0.0.0:9", false),
            ("0.0.0.0:9", "[::]:9", false),
            // Each becomes a port of its own.
            ("[::]:0", "0.0.0.0:0", false),
        ] {
            assert_eq!(leaves_ipv4_to(ha.parse().unwrap(), other.parse().unwrap()), is_left, "{ha} {other}");
        }
    }
}
