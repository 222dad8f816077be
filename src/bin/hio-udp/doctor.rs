//! `doctor`: what limits this machine for a rate of datagrams, in words, and the commands that lift it.

use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hio_udp::{BatchPeer, Direction, PeerConfig, Transport, datagrams_held};
use serde::Serialize;

use crate::account::{self, grouped};
use crate::args::{DoctorOptions, HostPort};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::proc::UdpCounters;

/// What `ingest` asks for if it is not told otherwise.
const RCVBUF_DEFAULT: u64 = 4 << 20;

/// The largest buffer that can be asked for: Linux doubles it, and the result is a C int.
const RCVBUF_MAX: u64 = 1 << 30;

/// Linux doubles what it is asked for, and charges each datagram against the double.
const DOUBLING: u64 = if cfg!(target_os = "linux") { 2 } else { 1 };

/// How long the backlog of a processor should last: about the time a softirq may take before it gives way
/// (net.core.netdev_budget_usecs is 2,000 or more).
const BACKLOG_SECONDS: f64 = 0.002;

/// Processor time that a datagram of 100 bytes takes to be received and written to a file: measured 0.8 µs.
const CPU_SECONDS: f64 = 1e-6;

/// What the program itself takes.
const PROGRAM_BYTES: u64 = 64 << 20;

/// Standard input, output and error, the socket, io_uring, files; with room.
const OPEN_FILES: u64 = 64;

/// Payload of an Ethernet frame, without headers of IPv4 and UDP.
const UNFRAGMENTED_MAX: usize = 1472;

/// Where the commands put what is to last.
const SYSCTL_FILE: &str = "/etc/sysctl.d/90-hio-udp.conf";

pub fn run(options: DoctorOptions) -> Result<(), Failure> {
    let need = Need::new(options.rate, options.size, options.pause);
    let socket = open(&options.bind, &need)?;
    let machine = Machine::read(Path::new("/"));
    let report = Report::new(&options.bind, need, machine, socket);
    if options.json {
        account::print_json(&report)?;
    } else {
        account::print_line(&report.to_string())?;
    }
    match report.limits.as_slice() {
        [] => Ok(()),
        limits => Err(Failure::run(format!("limited by {}: what would help stands above", limits.join(", ")))),
    }
}

/// Opens the socket that would be received with, and lets it go again; tells how many datagrams it holds.
fn open(bind: &HostPort, need: &Need) -> Result<Socket, Failure> {
    let addr = bind.resolve("--bind")?;
    let config = PeerConfig::new()
        .name("doctor")
        .ha((addr.ip().to_string(), addr.port()))
        .bc(1)
        .gram_size(1)
        .recv_buf_bytes(need.rcvbuf as usize)
        .exclusive(true)
        .reopen(true);
    let held = BatchPeer::new(config).map(|peer| {
        let report = peer.buf_report(Direction::Receive);
        report.map_or(0, |report| report.holds(need.size) as u64)
    });
    Ok(held.map_err(|error| why_not_opened(&error, addr)))
}

fn why_not_opened(error: &io::Error, addr: SocketAddr) -> String {
    let any_port = SocketAddr::new(addr.ip(), 0);
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {} is taken: stop who has it, or give any free one, --bind {any_port}", addr.port())
        }
        io::ErrorKind::PermissionDenied => format!("ports below 1024 need privileges: give --bind {any_port}"),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another --bind".to_owned(),
        _ => "choose another --bind".to_owned(),
    };
    format!("{error}; {hint}")
}

/// How many datagrams the socket holds, or why there is none.
type Socket = Result<u64, String>;

/// What is asked of the machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Need {
    datagrams_per_s: u64,
    size: usize,
    pause_ms: f64,
    /// Datagrams that come during a pause.
    datagrams_held: u64,
    /// Bytes the kernel charges a buffer for each.
    charged_each: u64,
    /// The buffer to ask for.
    rcvbuf: u64,
}

impl Need {
    fn new(datagrams_per_s: u64, size: usize, pause: Duration) -> Self {
        const LARGE: usize = 1 << 30;
        let charged_each = (LARGE / datagrams_held(LARGE, size)) as u64;
        let datagrams_held = ((datagrams_per_s as f64 * pause.as_secs_f64()).ceil() as u64).max(1);
        let rcvbuf = datagrams_held.saturating_mul(charged_each).div_ceil(DOUBLING);
        let rcvbuf = rcvbuf.checked_next_multiple_of(4096).unwrap_or(u64::MAX).min(RCVBUF_MAX);
        Self { datagrams_per_s, size, pause_ms: pause.as_secs_f64() * 1e3, datagrams_held, charged_each, rcvbuf }
    }

    /// What a buffer holds, in words, that was asked for with so many bytes.
    fn held_by(&self, rcvbuf: u64) -> String {
        self.held_words(rcvbuf.saturating_mul(DOUBLING) / self.charged_each)
    }

    fn held_words(&self, held: u64) -> String {
        let lasts = lasting(held, self.datagrams_per_s);
        let (held, size, rate) = (grouped(held), grouped(self.size as u64), grouped(self.datagrams_per_s));
        format!("{held} datagrams of {size} bytes, {lasts} at {rate}/s")
    }

    fn wanted_words(&self) -> String {
        format!("{} for a pause of {} ms", grouped(self.datagrams_held), self.pause_ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Fine,
    /// Worth knowing, but no limit for the rate.
    Note,
    /// Too little for the rate.
    Limits,
    /// This system does not tell.
    Unknown,
}

#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    says: String,
    /// A setting that would lift the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    sysctl: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, says: impl Into<String>) -> Self {
        Self { check, verdict, says: says.into(), sysctl: None }
    }

    /// The finding of a value, or that it is not told.
    fn of<T>(check: &'static str, value: Option<T>, judge: impl FnOnce(T) -> (Verdict, String)) -> Self {
        let (verdict, says) = value.map_or((Verdict::Unknown, "not told here".to_owned()), judge);
        Self::new(check, verdict, says)
    }

    /// The setting that helps, if it is not fine.
    fn fix(mut self, value: impl Display) -> Self {
        if self.verdict == Verdict::Limits {
            self.sysctl = Some(format!("{}={value}", self.check));
        }
        self
    }
}

#[derive(Debug, Serialize)]
struct Report {
    bind: String,
    need: Need,
    findings: Vec<Finding>,
    /// The checks that limit the rate.
    limits: Vec<&'static str>,
    /// To be run by root.
    commands: Vec<String>,
    machine: Machine,
}

impl Report {
    fn new(bind: &HostPort, need: Need, machine: Machine, socket: Socket) -> Self {
        let findings = judge(&need, &machine, &socket);
        let limits = findings.iter().filter(|finding| finding.verdict == Verdict::Limits);
        let limits = limits.map(|finding| finding.check).collect();
        let commands = commands(&findings);
        let HostPort { host, port } = bind;
        let bind = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { bind, need, findings, limits, commands, machine }
    }
}

/// Everything that can be said, from facts alone.
fn judge(need: &Need, machine: &Machine, socket: &Socket) -> Vec<Finding> {
    let mut findings = vec![
        buffer(need, socket),
        rmem_max(need, machine),
        rmem_default(need, machine),
        udp_mem(need, machine),
        Finding::of("net.ipv4.udp_rmem_min", machine.udp_rmem_min, |bytes| {
            (Verdict::Fine, format!("{} bytes are a socket's even when all together have too much", grouped(bytes)))
        }),
        backlog(need, machine),
        Finding::of("net.core.wmem_max", machine.wmem_max, |bytes| {
            (
                Verdict::Fine,
                format!("{} bytes: for sending only, where a full buffer waits and loses nothing", grouped(bytes)),
            )
        }),
        cpus(need, machine),
        memory(need, machine),
        Finding::of("open files", machine.open_files, |limit| match limit {
            u64::MAX => (Verdict::Fine, "no limit".to_owned()),
            0..OPEN_FILES => (Verdict::Limits, format!("{limit}, want {OPEN_FILES}: ulimit -n {OPEN_FILES}")),
            _ => (Verdict::Fine, grouped(limit)),
        }),
        Finding::of("CAP_NET_ADMIN", machine.has_net_admin, |has| match has {
            true => (Verdict::Fine, "there: buffers may exceed net.core.rmem_max".to_owned()),
            false => (Verdict::Fine, "not there: net.core.rmem_max is the limit".to_owned()),
        }),
        io_uring(machine),
        Finding::of("IPv6", machine.has_ipv6, |has| match has {
            true => (Verdict::Fine, "there".to_owned()),
            false => (Verdict::Note, "not there: only IPv4 can be received".to_owned()),
        }),
        counters("UDP since boot", machine.udp),
        counters("UDP over IPv6", machine.udp6),
    ];
    if need.size > UNFRAGMENTED_MAX {
        let says = format!(
            "{} bytes do not fit an Ethernet frame ({UNFRAGMENTED_MAX} do): each goes in parts, and one lost part loses all",
            grouped(need.size as u64)
        );
        findings.push(Finding::new("size", Verdict::Note, says));
    }
    findings
}

/// What a real socket gets.
fn buffer(need: &Need, socket: &Socket) -> Finding {
    let wanted = need.wanted_words();
    match socket {
        Err(error) => Finding::new("receive buffer", Verdict::Limits, format!("cannot open the socket: {error}")),
        Ok(held) => {
            let has = format!("asked {} bytes: holds {}", grouped(need.rcvbuf), need.held_words(*held));
            if *held < need.datagrams_held {
                Finding::new("receive buffer", Verdict::Limits, format!("{has}; wanted {wanted}"))
            } else if need.rcvbuf > RCVBUF_DEFAULT {
                let option = format!("; give ingest --rcvbuf {}", need.rcvbuf);
                Finding::new("receive buffer", Verdict::Fine, format!("{has}{option}"))
            } else {
                Finding::new("receive buffer", Verdict::Fine, has)
            }
        }
    }
}

fn rmem_max(need: &Need, machine: &Machine) -> Finding {
    let finding = Finding::of("net.core.rmem_max", machine.rmem_max, |bytes| {
        let holds = format!("{} bytes: holds {}", grouped(bytes), need.held_by(bytes));
        let who = match machine.has_net_admin {
            Some(true) => ", but this process may exceed it (CAP_NET_ADMIN)",
            _ => "",
        };
        if bytes >= need.rcvbuf {
            return (Verdict::Fine, holds);
        }
        let verdict = if who.is_empty() { Verdict::Limits } else { Verdict::Note };
        (verdict, format!("{holds}; wanted {}{who}", need.wanted_words()))
    });
    finding.fix(need.rcvbuf)
}

fn rmem_default(need: &Need, machine: &Machine) -> Finding {
    Finding::of("net.core.rmem_default", machine.rmem_default, |bytes| {
        // What is read there counts as it is: only what a program asks for is doubled.
        let held = need.held_words(bytes / need.charged_each);
        let verdict = if bytes / need.charged_each < need.datagrams_held { Verdict::Note } else { Verdict::Fine };
        (verdict, format!("{} bytes: a program that asks for nothing holds {held}", grouped(bytes)))
    })
}

/// The buffers of all UDP sockets together, in pages.
fn udp_mem(need: &Need, machine: &Machine) -> Finding {
    let page = machine.page_bytes.unwrap_or(4096);
    let needed = need.datagrams_held.saturating_mul(need.charged_each).div_ceil(page);
    let known = machine.udp_mem_pages.as_deref().and_then(|pages| <[u64; 3]>::try_from(pages).ok());
    let finding = Finding::of("net.ipv4.udp_mem", known, |[_, _, max]| {
        let bytes = grouped(max.saturating_mul(page));
        let verdict = if max < needed { Verdict::Limits } else { Verdict::Fine };
        (
            verdict,
            format!(
                "{bytes} bytes for all UDP sockets together; the buffer wants {}",
                grouped(needed.saturating_mul(page))
            ),
        )
    });
    finding.fix(format!("\"{} {} {}\"", needed, needed.saturating_mul(3) / 2, needed.saturating_mul(2)))
}

/// Packets between a device, or loopback, and the UDP layer, for each processor.
fn backlog(need: &Need, machine: &Machine) -> Finding {
    let wanted = ((need.datagrams_per_s as f64 * BACKLOG_SECONDS).ceil() as u64).next_multiple_of(1000);
    let dropped = match machine.backlog_dropped {
        Some(count) if count > 0 => format!("; {} packets have been dropped there since boot", grouped(count)),
        _ => String::new(),
    };
    let finding = Finding::of("net.core.netdev_max_backlog", machine.netdev_max_backlog, |packets| {
        let lasts = lasting(packets, need.datagrams_per_s);
        let verdict = if (packets as f64) < BACKLOG_SECONDS * need.datagrams_per_s as f64 {
            Verdict::Limits
        } else if dropped.is_empty() {
            Verdict::Fine
        } else {
            Verdict::Note
        };
        (verdict, format!("{} packets, {lasts} for one processor{dropped}", grouped(packets)))
    });
    finding.fix(wanted)
}

fn cpus(need: &Need, machine: &Machine) -> Finding {
    let needed = need.datagrams_per_s as f64 * CPU_SECONDS;
    let usable = match (machine.cpus, machine.cpu_quota) {
        (Some(cpus), Some(quota)) => Some((cpus as f64).min(quota)),
        (cpus, quota) => quota.or(cpus.map(|cpus| cpus as f64)),
    };
    Finding::of("processors", usable, |usable| {
        let quota =
            machine.cpu_quota.map_or(String::new(), |quota| format!(", a cgroup allows the time of {quota:.1}"));
        let cpus = machine.cpus.map_or(String::new(), |cpus| format!("{cpus} may be used{quota}; "));
        let wanted = format!("{cpus}the rate takes about {needed:.1} of them, at a microsecond each datagram");
        if needed > usable {
            (Verdict::Limits, wanted)
        } else if needed > 1.0 {
            (Verdict::Note, format!("{wanted}: more than one thread has to receive"))
        } else {
            (Verdict::Fine, wanted)
        }
    })
}

fn memory(need: &Need, machine: &Machine) -> Finding {
    let needed = need.datagrams_held.saturating_mul(need.charged_each).saturating_add(PROGRAM_BYTES);
    if machine.memory_limit.is_none() && machine.rmem_max.is_some() {
        return Finding::new("memory", Verdict::Fine, "no cgroup limits it");
    }
    Finding::of("memory", machine.memory_limit, |limit| {
        let verdict = if limit < needed { Verdict::Limits } else { Verdict::Fine };
        let (limit, needed) = (grouped(limit), grouped(needed));
        (verdict, format!("a cgroup allows {limit} bytes; socket buffer and program take about {needed}"))
    })
}

fn io_uring(machine: &Machine) -> Finding {
    Finding::of("io_uring", machine.io_uring_disabled, |disabled| match disabled {
        0 => (Verdict::Fine, "allowed".to_owned()),
        1 => (Verdict::Note, "for privileged processes only; others go by recvmmsg, a fifth slower".to_owned()),
        _ => (Verdict::Note, "turned off; recvmmsg does it, a fifth slower".to_owned()),
    })
}

/// What has been lost so far, by whatever program.
fn counters(check: &'static str, counters: Option<UdpCounters>) -> Finding {
    Finding::of(check, counters, |UdpCounters { received, errors, rcvbuf_errors }| {
        let share = 100.0 * rcvbuf_errors as f64 / (received.saturating_add(errors)).max(1) as f64;
        let lost = format!("{} of them without room in the socket ({share:.2}% of all)", grouped(rcvbuf_errors));
        let says = format!("{} received, {} not, {lost}", grouped(received), grouped(errors));
        (if rcvbuf_errors > 0 { Verdict::Note } else { Verdict::Fine }, says)
    })
}

/// How long so many last at this rate, in words.
fn lasting(count: u64, per_second: u64) -> String {
    match count as f64 / per_second as f64 {
        seconds if seconds < 10.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{} s", grouped(seconds as u64)),
    }
}

/// What root has to run: now, and so that it lasts.
fn commands(findings: &[Finding]) -> Vec<String> {
    let settings: Vec<&String> = findings.iter().filter_map(|finding| finding.sysctl.as_ref()).collect();
    let mut commands: Vec<String> = settings.iter().map(|setting| format!("sysctl -w {setting}")).collect();
    if !settings.is_empty() {
        let lines = settings.iter().map(|setting| format!("'{}'", setting.replace('"', "").replacen('=', " = ", 1)));
        let lines: Vec<String> = lines.collect();
        commands.push(format!("printf '%s\\n' {} >> {SYSCTL_FILE}", lines.join(" ")));
    }
    commands
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, size) = (grouped(self.need.datagrams_per_s), grouped(self.need.size as u64));
        writeln!(f, "{rate} datagrams of {size} bytes a second, received on {}:", self.bind)?;
        for Finding { check, verdict, says, .. } in &self.findings {
            let word = match verdict {
                Verdict::Fine => "fine",
                Verdict::Note => "note",
                Verdict::Limits => "LIMITS",
                Verdict::Unknown => "unknown",
            };
            writeln!(f, "  {word:<8}{check:<28}{says}")?;
        }
        if !self.commands.is_empty() {
            writeln!(f, "As root, now and so that it lasts:")?;
            self.commands.iter().try_for_each(|command| writeln!(f, "  {command}"))?;
        }
        match self.limits.len() {
            0 => write!(f, "Nothing limits this rate, as far as this system tells."),
            count => write!(f, "{count} of these {} this rate.", if count == 1 { "limits" } else { "limit" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine as it comes: with the settings of a new Linux.
    fn machine() -> Machine {
        Machine {
            rmem_max: Some(212_992),
            rmem_default: Some(212_992),
            wmem_max: Some(212_992),
            netdev_max_backlog: Some(1000),
            udp_mem_pages: Some(vec![100_000, 150_000, 200_000]),
            udp_rmem_min: Some(4096),
            page_bytes: Some(4096),
            cpus: Some(4),
            open_files: Some(1024),
            has_net_admin: Some(false),
            io_uring_disabled: Some(0),
            udp: Some(UdpCounters::default()),
            has_ipv6: Some(true),
            ..Machine::default()
        }
    }

    fn need(rate: u64, size: usize, pause_ms: u64) -> Need {
        Need::new(rate, size, Duration::from_millis(pause_ms))
    }

    fn limits(need: &Need, machine: &Machine, socket: &Socket) -> Vec<&'static str> {
        let findings = judge(need, machine, socket);
        findings.iter().filter(|finding| finding.verdict == Verdict::Limits).map(|finding| finding.check).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_buffer_to_ask_for_holds_what_comes_during_a_pause() {
        // A datagram of 100 bytes is charged 832; the kernel doubles what it is asked for.
        let need = need(100_000, 100, 50);
        assert_eq!((need.datagrams_held, need.charged_each), (5000, 832));
        assert_eq!(need.rcvbuf, (5000_u64 * 832 / 2).next_multiple_of(4096));
        for size in [0, 100, 1400, 9000, 65_507] {
            for rate in [1, 1000, 123_456] {
                let need = super::tests::need(rate, size, 100);
                assert!(datagrams_held(2 * need.rcvbuf as usize, size) as u64 >= need.datagrams_held, "{need:?}");
            }
        }
    }

    #[test]
    fn a_machine_as_it_comes_is_too_small_for_a_hundred_thousand_and_is_told_why() {
        let need = need(100_000, 100, 50);
        let findings = judge(&need, &machine(), &Ok(512));
        let says: Vec<&str> = findings.iter().map(|finding| &*finding.says).collect();
        assert!(says[0].contains("holds 512 datagrams of 100 bytes, 5.1 ms at 100,000/s; wanted 5,000"), "{}", says[0]);
        assert_eq!(limits(&need, &machine(), &Ok(512)), ["receive buffer", "net.core.rmem_max"]);
        let value = need.rcvbuf;
        let expected = [
            format!("sysctl -w net.core.rmem_max={value}"),
            format!("printf '%s\\n' 'net.core.rmem_max = {value}' >> /etc/sysctl.d/90-hio-udp.conf"),
        ];
        assert_eq!(commands(&findings), expected);
        // With the capability, the socket gets it all the same.
        let able = Machine { has_net_admin: Some(true), ..machine() };
        assert!(limits(&need, &able, &Ok(5000)).is_empty());
        // And a modest rate is fine.
        assert!(limits(&super::tests::need(1000, 100, 50), &machine(), &Ok(512)).is_empty());
    }

    #[test]
    fn every_other_limit_is_found() {
        let need = need(500_000, 100, 1);
        let socket = Ok(10_000);
        let large = Machine { rmem_max: Some(1 << 26), ..machine() };
        assert!(limits(&need, &large, &socket).is_empty());
        for (check, machine) in [
            ("net.core.netdev_max_backlog", Machine { netdev_max_backlog: Some(500), ..large.clone() }),
            ("net.ipv4.udp_mem", Machine { udp_mem_pages: Some(vec![1, 2, 3]), ..large.clone() }),
            ("processors", Machine { cpu_quota: Some(0.25), ..large.clone() }),
            ("memory", Machine { memory_limit: Some(32 << 20), ..large.clone() }),
            ("open files", Machine { open_files: Some(16), ..large.clone() }),
        ] {
            assert_eq!(limits(&need, &machine, &socket), [check]);
        }
        assert_eq!(limits(&need, &large, &Err("in use".to_owned())), ["receive buffer"]);
    }

    #[test]
    fn the_commands_are_what_a_shell_understands() {
        let mut small = Machine { udp_mem_pages: Some(vec![1, 2, 3]), netdev_max_backlog: Some(10), ..machine() };
        small.rmem_max = Some(1);
        let commands = commands(&judge(&need(1_000_000, 100, 10), &small, &Ok(1)));
        assert_eq!(commands.len(), 4);
        assert!(commands[1].starts_with("sysctl -w net.ipv4.udp_mem=\"2"), "{commands:?}");
        assert!(commands[3].contains("'net.ipv4.udp_mem = 2") && !commands[3].contains('"'), "{commands:?}");
        assert_eq!(commands[2], "sysctl -w net.core.netdev_max_backlog=2000");
    }

    #[test]
    fn what_is_not_told_limits_nothing_and_nothing_overflows() {
        let nothing = Machine::default();
        assert!(limits(&need(100_000, 100, 50), &nothing, &Ok(u64::MAX)).is_empty());
        for machine in [&nothing, &machine()] {
            for (rate, size, pause) in [(1, 0, Duration::from_nanos(1)), (1_000_000_000, 65_507, Duration::MAX)] {
                judge(&Need::new(rate, size, pause), machine, &Ok(u64::MAX));
            }
        }
    }
}
