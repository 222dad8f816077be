//! What tests of the built program share: runs of it, and files that go with the test.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "dir.rs"]
mod dir;
#[allow(unused_imports)]
pub use dir::Dir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_hio-udp");

/// A file that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("hio-udp-test-{}-{name}.pcapng", std::process::id())))
    }

    pub fn arg(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running `ingest --json`; killed if the test fails.
pub struct Ingest {
    pub child: Child,
    /// The first, of several.
    pub addr: SocketAddr,
    /// What it said before it received.
    pub noted: String,
    pub stderr: BufReader<std::process::ChildStderr>,
}

impl Ingest {
    pub fn start(bind: &str, args: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["ingest", "--json", "--bind", bind]).args(args);
        Self::spawn(command)
    }

    /// Starts `command` and waits until it says where it receives.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut line, mut noted) = (String::new(), String::new());
        let addr = loop {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "ended before it received: {noted}");
            if let Some(rest) = line.strip_prefix("receiving on ") {
                break rest.split([';', ',']).next().unwrap().parse().unwrap();
            }
            noted.push_str(&line);
        };
        Self { child, addr, noted, stderr }
    }

    /// Behind a STOP all its threads have stopped, where proc(5) tells: each stops when it is next scheduled.
    pub fn signal(&self, name: &str) {
        assert!(send_signal(name, self.child.id()));
        if name == "STOP" && cfg!(target_os = "linux") {
            let tasks = || std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
            let has_stopped = |task: PathBuf| {
                let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|state| state.starts_with(['T', 't']))
            };
            wait_until("all threads to stop", || tasks().all(|task| has_stopped(task.unwrap().path())));
        }
    }

    /// Waits for its end: exit code, account, and what else it said.
    pub fn end(mut self) -> (i32, Value, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        let code = self.child.wait().unwrap().code().expect("ended by itself");
        let account = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed:?}, said {said:?}"));
        (code, account, said)
    }

    pub fn stop(self) -> (i32, Value, String) {
        self.signal("TERM");
        self.end()
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Whether the signal could be sent, by the shell's own `kill`: not every system has a program of that name.
pub fn send_signal(name: &str, pid: u32) -> bool {
    let line = format!("kill -{name} {pid}");
    Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status().unwrap().success()
}

pub fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

pub fn blast(to: SocketAddr, args: &[&str]) -> Value {
    let output = run(&[&["blast", "--json", "--to", &to.to_string()], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A port that is free on every address, and that nobody is given who asks for any: it lies below those.
pub fn free_port() -> u16 {
    const PORTS: u32 = 8000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests that run at once have others, if they are few.
    let first = std::process::id().wrapping_mul(61) % PORTS + NEXT.fetch_add(1, Ordering::Relaxed);
    let mut ports = (first..first + PORTS).map(|n| 2000 + (n % PORTS) as u16);
    let is_free = |port: &u16| {
        let has_v6 = UdpSocket::bind("[::1]:0").is_ok();
        let is_free_in_v6 = !has_v6 || UdpSocket::bind(("::", *port)).is_ok();
        is_free_in_v6 && UdpSocket::bind(("0.0.0.0", *port)).is_ok() && TcpListener::bind(("0.0.0.0", *port)).is_ok()
    };
    ports.find(is_free).expect("a free port")
}

/// The same on 127.0.0.1.
pub fn free_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

pub fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

/// The program under a limit that `sh` sets first.
pub fn limited(limit: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit}; exec \"$0\" \"$@\""), PROGRAM]).args(args);
    command
}

/// Where an ingest said that its metrics are.
pub fn metrics_of(ingest: &Ingest) -> SocketAddr {
    let (_, rest) = ingest.noted.split_once("metrics on http://").expect("it says where");
    rest.split_once("/metrics").unwrap().0.parse().unwrap()
}

/// What the metrics tell, with the headers of the answer.
pub fn scrape(metrics: SocketAddr) -> String {
    let (mut stream, mut answer) = (TcpStream::connect(metrics).unwrap(), String::new());
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Checks that every datagram sent is in the account.
pub fn assert_adds_up(account: &Value, sent: u64) {
    let parts = ["delivered", "denied", "rate_limited", "kernel_dropped", "left_behind"];
    let sum = parts.iter().map(|name| number(account, name)).sum::<u64>();
    assert_eq!(sum, sent, "{account}");
}

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// How often a trouble was told to begin, by a line with `begins`, and how often it was told that all works again: a
/// second after the last failure, so only where the machine is slow or the next failure comes late.
pub fn troubles(said: &str, begins: &str) -> (usize, usize) {
    let lines = |part: &str| said.lines().filter(|line| line.contains(part)).count();
    (lines(begins), lines("works again"))
}

/// Waits so long that a failure is over a second ago, after which a sink that works again says so; even one that came
/// to what was sent over a second late.
pub fn wait_past_trouble() {
    let since = Instant::now();
    wait_until("a pause", || since.elapsed() > Duration::from_millis(2700));
}

/// What an ingest has in memory, as the kernel tells it (proc(5), VmRSS).
pub fn resident_bytes(ingest: &Ingest) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ingest.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What /proc/net/udp tells of the sockets on `port` (proc(5)): how many, bytes that wait in them, datagrams dropped.
pub fn kernel_rows(port: u16) -> (usize, u64, u64) {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[1].ends_with(&format!(":{port:04X}"))).fold((0, 0, 0), |(count, queued, dropped), row| {
        let (_, waiting) = row[4].split_once(':').unwrap();
        (count + 1, queued + u64::from_str_radix(waiting, 16).unwrap(), dropped + row[12].parse::<u64>().unwrap())
    })
}
