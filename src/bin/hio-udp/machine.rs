//! What this machine says of itself, as far as it does: each fact may be missing, in a container or on another system.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::proc::{self, UdpCounters};

/// Facts that limit how fast datagrams can be received.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    pub rmem_max: Option<u64>,
    pub rmem_default: Option<u64>,
    pub wmem_max: Option<u64>,
    pub netdev_max_backlog: Option<u64>,
    /// Pages of all UDP sockets together: from none is taken back, from some is, the most.
    pub udp_mem_pages: Option<Vec<u64>>,
    pub udp_rmem_min: Option<u64>,
    pub page_bytes: Option<u64>,
    /// Processors this process may run on.
    pub cpus: Option<u64>,
    /// How many processors' time its cgroups may use.
    pub cpu_quota: Option<f64>,
    /// Bytes its cgroups may use.
    pub memory_limit: Option<u64>,
    pub open_files: Option<u64>,
    pub has_net_admin: Option<bool>,
    /// 0: everybody may use io_uring; 1: privileged processes; 2: nobody.
    pub io_uring_disabled: Option<u64>,
    #[serde(skip)]
    pub udp: Option<UdpCounters>,
    #[serde(skip)]
    pub udp6: Option<UdpCounters>,
    pub backlog_dropped: Option<u64>,
    pub has_ipv6: Option<bool>,
}

impl Machine {
    /// Reads what is below `root`, which is `/`.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let sysctl = |name: &str| text(&format!("proc/sys/{}", name.replace('.', "/")));
        let number = |name: &str| proc::number(&sysctl(name)?);
        let status = text("proc/self/status").unwrap_or_default();
        let cgroups = text("proc/self/cgroup").unwrap_or_default();
        Self {
            rmem_max: number("net.core.rmem_max"),
            rmem_default: number("net.core.rmem_default"),
            wmem_max: number("net.core.wmem_max"),
            netdev_max_backlog: number("net.core.netdev_max_backlog"),
            udp_mem_pages: sysctl("net.ipv4.udp_mem")
                .and_then(|text| proc::numbers(&text))
                .filter(|mem| mem.len() == 3),
            udp_rmem_min: number("net.ipv4.udp_rmem_min"),
            page_bytes: fs::read(root.join("proc/self/auxv")).ok().and_then(|auxv| proc::page_bytes(&auxv)),
            cpus: proc::cpus_allowed(&status),
            cpu_quota: cpu_quota(root, &cgroups),
            memory_limit: memory_limit(root, &cgroups),
            open_files: text("proc/self/limits").and_then(|text| proc::open_files(&text)),
            has_net_admin: proc::has_net_admin(&status),
            io_uring_disabled: number("kernel.io_uring_disabled"),
            udp: text("proc/net/snmp").and_then(|text| proc::udp_counters(&text)),
            udp6: text("proc/net/snmp6").and_then(|text| proc::udp6_counters(&text)),
            backlog_dropped: text("proc/net/softnet_stat").and_then(|text| proc::backlog_dropped(&text)),
            has_ipv6: root
                .join("proc/net")
                .exists()
                .then(|| text("proc/net/if_inet6").is_some_and(|addresses| !addresses.trim().is_empty())),
        }
    }
}

/// Which of these processors this process may not run on, or which are not there, as far as the system tells.
pub fn out_of_reach(processors: &[usize]) -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(allowed) = proc::cpu_ranges(&status) else { return Vec::new() };
    let is_allowed = |processor: usize| allowed.iter().any(|range| range.contains(&(processor as u64)));
    processors.iter().copied().filter(|processor| !is_allowed(*processor)).collect()
}

/// The directories of this process's cgroup and of those around it, inmost first.
fn cgroup_dirs(root: &Path, cgroups: &str, controller: Option<&str>) -> Vec<PathBuf> {
    let Some(path) = proc::cgroup_path(cgroups, controller) else { return Vec::new() };
    let mount = root.join("sys/fs/cgroup").join(controller.unwrap_or(""));
    let inmost = Path::new(path.trim_start_matches('/'));
    // In a container the path may be the host's, and only the outermost directory be there.
    inmost.ancestors().map(|dir| mount.join(dir)).collect()
}

/// The least of what `limit` finds in any of the cgroups around this process.
fn least<T: PartialOrd>(dirs: Vec<PathBuf>, limit: impl Fn(&Path) -> Option<T>) -> Option<T> {
    let limits = dirs.iter().filter_map(|dir| limit(dir));
    limits.reduce(|least, other| if other < least { other } else { least })
}

fn cpu_quota(root: &Path, cgroups: &str) -> Option<f64> {
    let text = |dir: &Path, name: &str| fs::read_to_string(dir.join(name)).ok();
    least(cgroup_dirs(root, cgroups, None), |dir| proc::cpu_max(&text(dir, "cpu.max")?)).or_else(|| {
        least(cgroup_dirs(root, cgroups, Some("cpu")), |dir| {
            proc::cpu_quota(&text(dir, "cpu.cfs_quota_us")?, &text(dir, "cpu.cfs_period_us")?)
        })
    })
}

fn memory_limit(root: &Path, cgroups: &str) -> Option<u64> {
    let limit = |name: &'static str| move |dir: &Path| proc::memory_limit(&fs::read_to_string(dir.join(name)).ok()?);
    least(cgroup_dirs(root, cgroups, None), limit("memory.max"))
        .or_else(|| least(cgroup_dirs(root, cgroups, Some("memory")), limit("memory.limit_in_bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for `/`, with these files.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("hio-udp-machine-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn where_nothing_is_told_nothing_is_known() {
        let machine = Machine::read(Path::new("/no/such/root"));
        assert_eq!((machine.rmem_max, machine.cpus, machine.cpu_quota, machine.has_ipv6), (None, None, None, None));
    }

    #[test]
    fn the_narrowest_cgroup_counts() {
        let root = Root::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a/b/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/a/memory.max", "536870912\n"),
                ("proc/sys/net/core/rmem_max", "212992\n"),
            ],
        );
        let machine = Machine::read(&root.0);
        let found = (machine.cpu_quota, machine.memory_limit, machine.rmem_max);
        assert_eq!(found, (Some(1.5), Some(512 << 20), Some(212_992)));
    }

    #[test]
    fn cgroups_of_version_1_are_asked_too() {
        let root = Root::new(
            "v1",
            &[
                ("proc/self/cgroup", "4:memory:/host/path\n1:cpu:/\n0::/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
        );
        let machine = Machine::read(&root.0);
        assert_eq!((machine.cpu_quota, machine.memory_limit), (Some(0.5), Some(1 << 20)));
    }
}
