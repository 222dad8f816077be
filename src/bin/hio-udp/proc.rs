//! Parsers of what Linux tells as text, in /proc and /sys: see proc(5) and cgroups(7).
//!
//! Functions from text to numbers, `None` where the text is not as expected.

use std::ops::RangeInclusive;

/// A file of one number.
pub fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A file of several numbers, such as `net.ipv4.udp_mem`.
pub fn numbers(text: &str) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

/// What a line of /proc/self/status tells that begins with this name and a colon.
pub fn status_line<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.next().map(str::trim)
}

/// Memory of a process that is in RAM, of `/proc/*/status`.
pub fn resident_bytes(status: &str) -> Option<u64> {
    let kibibytes = status_line(status, "VmRSS")?.trim().strip_suffix("kB")?;
    number(kibibytes).map(|number| number << 10)
}

/// Whether this process has CAP_NET_ADMIN, from /proc/self/status.
pub fn has_net_admin(status: &str) -> Option<bool> {
    const CAP_NET_ADMIN: u32 = 12;
    let effective = u64::from_str_radix(status_line(status, "CapEff")?, 16).ok()?;
    Some(effective >> CAP_NET_ADMIN & 1 == 1)
}

/// The processors this process may run on, from /proc/self/status: `0-1,4` are three.
pub fn cpu_ranges(status: &str) -> Option<Vec<RangeInclusive<u64>>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some(first..=last)
    };
    status_line(status, "Cpus_allowed_list")?.split(',').map(range).collect()
}

/// How many these are.
pub fn cpus_allowed(status: &str) -> Option<u64> {
    let ranges = cpu_ranges(status)?;
    ranges.iter().try_fold(0_u64, |sum, range| sum.checked_add((range.end() - range.start()).checked_add(1)?))
}

/// The soft limit on open files, from /proc/self/limits; `u64::MAX` is none.
pub fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

/// Size of a page, from /proc/self/auxv: pairs of words, of which this is number 6.
pub fn page_bytes(auxv: &[u8]) -> Option<u64> {
    const AT_PAGESZ: u64 = 6;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, usize::from_ne_bytes) as u64;
    let mut pairs = auxv.chunks_exact(2 * WORD).map(|pair| (word(&pair[..WORD]), word(&pair[WORD..])));
    pairs.find(|(kind, _)| *kind == AT_PAGESZ).map(|(_, value)| value)
}

/// What became of all UDP datagrams of this network namespace since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Delivered to sockets.
    pub received: u64,
    /// Not delivered, for whatever reason; those without room are among them.
    pub errors: u64,
    /// No room in the socket's buffer.
    pub rcvbuf_errors: u64,
}

/// IPv4's counters, from /proc/net/snmp: a line of names, then one of numbers.
pub fn udp_counters(snmp: &str) -> Option<UdpCounters> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let find = |name: &str| {
        let place = names.split_whitespace().position(|word| word == name)?;
        numbers.split_whitespace().nth(place)?.parse().ok()
    };
    Some(UdpCounters {
        received: find("InDatagrams")?,
        errors: find("InErrors")?,
        rcvbuf_errors: find("RcvbufErrors")?,
    })
}

/// IPv6's counters, from /proc/net/snmp6: a name and a number in each line.
pub fn udp6_counters(snmp6: &str) -> Option<UdpCounters> {
    let find = |name: &str| {
        let mut lines = snmp6.lines().map(str::split_whitespace);
        lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
    };
    Some(UdpCounters {
        received: find("Udp6InDatagrams")?,
        errors: find("Udp6InErrors")?,
        rcvbuf_errors: find("Udp6RcvbufErrors")?,
    })
}

/// Packets dropped because a processor's backlog was full, from /proc/net/softnet_stat: a line for each
/// processor, in hexadecimal.
pub fn backlog_dropped(softnet: &str) -> Option<u64> {
    let dropped = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let all: Option<Vec<u64>> = softnet.lines().map(dropped).collect();
    all.filter(|all| !all.is_empty()).map(|all| all.iter().fold(0, |sum: u64, dropped| sum.saturating_add(*dropped)))
}

/// The path of this process's cgroup, from /proc/self/cgroup: of version 2, or of a controller of version 1.
pub fn cgroup_path<'t>(cgroups: &'t str, controller: Option<&str>) -> Option<&'t str> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match controller {
            None => number == "0" && controllers.is_empty(),
            Some(name) => controllers.split(',').any(|controller| controller == name),
        };
        is_it.then_some(path)
    })
}

/// How many processors' time a cgroup of version 2 may use, from cpu.max: `50000 100000` is a half.
pub fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let (quota, period) = (words.next()?, words.next()?);
    cpu_quota(quota, period)
}

/// The same from the two files of version 1; a quota of -1 is none.
pub fn cpu_quota(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// A limit on memory in bytes; `max` of version 2 and the largest numbers of version 1 are none.
pub fn memory_limit(text: &str) -> Option<u64> {
    number(text).filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t0000000000001000\nCpus_allowed:\t3\n\
                          Cpus_allowed_list:\t0-1,4\n";

    #[test]
    fn the_status_of_a_process_tells_capabilities_and_processors() {
        assert_eq!((has_net_admin(STATUS), cpus_allowed(STATUS)), (Some(true), Some(3)));
        assert_eq!(has_net_admin("CapEff:\t0000000000000fff\n"), Some(false));
        for text in ["", "CapEff:\n", "CapEff: zz", "Cpus_allowed_list:\t4-1", "Cpus_allowed_list:\t-", "CapEff"] {
            assert_eq!((has_net_admin(text), cpus_allowed(text)), (None, None), "{text}");
        }
        assert_eq!(cpu_ranges("Cpus_allowed_list:\t0-1,4"), Some(vec![0..=1, 4..=4]));
        assert_eq!(cpus_allowed("Cpus_allowed_list:\t0-18446744073709551615"), None);
    }

    #[test]
    fn numbers_alone_and_in_rows() {
        assert_eq!((number("212992\n"), number("max"), number("")), (Some(212_992), None, None));
        assert_eq!(numbers("575799\t767734\t1151598\n"), Some(vec![575_799, 767_734, 1_151_598]));
        assert_eq!((numbers(""), numbers("1 x")), (None, None));
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let snmp = "Ip: Forwarding\nIp: 1\n\
                    Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\n\
                    Udp: 936603627 653751 274396604 1026276228 260281529 0\n\
                    UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\nUdpLite: 0 0 0 0 0 0\n";
        let expected = UdpCounters { received: 936_603_627, errors: 274_396_604, rcvbuf_errors: 260_281_529 };
        assert_eq!(udp_counters(snmp), Some(expected));
        let snmp6 = "Ip6InReceives\t9\nUdp6InDatagrams   7\nUdp6InErrors\t2\nUdp6RcvbufErrors\t1\n";
        assert_eq!(udp6_counters(snmp6), Some(UdpCounters { received: 7, errors: 2, rcvbuf_errors: 1 }));
        for text in ["", "Udp: InDatagrams\n", "Udp: InDatagrams InErrors RcvbufErrors\nUdp: 1 2\n"] {
            assert_eq!((udp_counters(text), udp6_counters(text)), (None, None));
        }
    }

    #[test]
    fn drops_of_the_backlog_are_hexadecimal_and_for_each_processor() {
        assert_eq!(backlog_dropped("1da26169 0000000a 00000002\n1fc8c7f6 00000010 0000000f\n"), Some(26));
        assert_eq!((backlog_dropped(""), backlog_dropped("1\n"), backlog_dropped("1 xyz")), (None, None, None));
    }

    #[test]
    fn resident_memory_is_told_in_kibibytes() {
        assert_eq!(resident_bytes("VmHWM:\t     900 kB\nVmRSS:\t     812 kB\n"), Some(812 << 10));
        assert_eq!((resident_bytes(""), resident_bytes("VmRSS: x kB")), (None, None));
    }

    #[test]
    fn limits_of_files_pages_and_memory() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            20000                1048576              files     \n";
        assert_eq!(open_files(limits), Some(20_000));
        assert_eq!(open_files("Max open files            unlimited   unlimited   files"), Some(u64::MAX));
        assert_eq!((open_files(""), open_files("Max open files")), (None, None));
        let words = [3_usize, 64, 6, 16_384, 0, 0].map(usize::to_ne_bytes).concat();
        assert_eq!((page_bytes(&words), page_bytes(&words[..20]), page_bytes(&[])), (Some(16_384), None, None));
        assert_eq!((memory_limit("536870912\n"), memory_limit("max\n")), (Some(512 << 20), None));
        assert_eq!(memory_limit("9223372036854771712\n"), None);
    }

    #[test]
    fn cgroups_of_both_versions_are_found() {
        let both = "4:memory:/a\n1:cpu,cpuacct:/b\n0::/c:d\n";
        assert_eq!((cgroup_path(both, None), cgroup_path(both, Some("memory"))), (Some("/c:d"), Some("/a")));
        assert_eq!((cgroup_path(both, Some("cpu")), cgroup_path(both, Some("pids"))), (Some("/b"), None));
        assert_eq!((cgroup_path("", None), cgroup_path("0", None)), (None, None));
        assert_eq!((cpu_max("max 100000\n"), cpu_max("50000 100000\n"), cpu_max("5")), (None, Some(0.5), None));
        assert_eq!((cpu_quota("-1\n", "100000\n"), cpu_quota("200000", "100000")), (None, Some(2.0)));
        assert_eq!(cpu_quota("1", "0"), None);
    }
}
