//! A network of the tests' own, which they may change.
#![allow(dead_code)]

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The private network, for one test at a time; what it undoes when dropped.
pub struct Network {
    pub undo: Vec<&'static str>,
    _alone: MutexGuard<'static, ()>,
}

impl Network {
    /// `None`, with a line that says so, unless the tests run as `tests/netns.sh` runs them.
    pub fn private() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        if std::env::var("HIO_UDP_NETNS").as_deref() != Ok("1") {
            println!("left out: needs a private network namespace: tests/netns.sh");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = std::fs::read_to_string("/proc/net/route").expect("the routing table");
        assert!(routes.lines().count() <= 1, "HIO_UDP_NETNS=1 is for tests/netns.sh to set: this changes lo");
        Some(Self { undo: Vec::new(), _alone: alone })
    }

    pub fn change(&mut self, command: &str, undo: &'static str) {
        assert!(run(command), "{command}");
        self.undo.push(undo);
    }

    /// Slows loopback down to 8 Mbit/s, behind a queue of `queue_bytes`.
    pub fn slow_down(&mut self, queue_bytes: usize) {
        let command = format!("tc qdisc add dev lo root tbf rate 8mbit burst 5kb limit {queue_bytes}");
        self.change(&command, "tc qdisc del dev lo root");
    }

    /// A virtual Ethernet with 10.9.0.1 and fd09::1 on it; gives its index.
    pub fn add_ethernet(&mut self) -> u32 {
        self.change("ip link add veth0 type veth peer name veth1", "ip link del veth0");
        for command in [
            "ip addr add 10.9.0.1/24 dev veth0",
            "ip -6 addr add fd09::1/64 dev veth0 nodad",
            "ip link set veth1 up",
            "ip link set veth0 up",
        ] {
            assert!(run(command), "{command}");
        }
        // A thread of the kernel's own sees to the rest of it, routes too (net/core/link_watch.c).
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_up = |end| shown(&["-oneline", "link", "show", end]).contains(" state UP ");
        let has_groups = || !shown(&["-6", "route", "show", "table", "all", "ff00::/8", "dev", "veth0"]).is_empty();
        while !(is_up("veth0") && is_up("veth1") && has_groups()) {
            assert!(Instant::now() < deadline, "the Ethernet does not come up");
        }
        let link = shown(&["-oneline", "link", "show", "veth0"]);
        link.split(':').next().and_then(|index| index.parse().ok()).expect("an index in front")
    }

    pub fn set_ethernet_mtu(&mut self) {
        self.change("ip link set lo mtu 1500", "ip link set lo mtu 65536");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for command in self.undo.drain(..).rev() {
            run(command);
        }
    }
}

/// What `ip` prints.
fn shown(args: &[&str]) -> String {
    String::from_utf8(Command::new("ip").args(args).output().expect("ip").stdout).expect("text")
}

pub fn run(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program).args(words).status().unwrap_or_else(|error| panic!("{program}: {error}")).success()
}
