//! The built program while system calls fail, as strace makes them: from outside, with everything in place.
//!
//! Needs strace and the right to trace one's own children; without them these are left out. With
//! STRACE_ERRNOS=all they must run, with every errno of the manual pages, and otherwise with a few.
#![cfg(target_os = "linux")]

#[path = "util/captures.rs"]
mod captures;
#[path = "util/errnos.rs"]
mod errnos;
#[path = "util/program.rs"]
mod util;

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use captures::read_capture;
use errnos::*;
use hio_udp::pcapng::{Packet, put_interface, put_section};
use serde_json::Value;
use util::{
    Dir, Ingest, PROGRAM, assert_adds_up, blast, kernel_rows, metrics_of, number, resident_bytes, run, troubles,
    wait_until,
};

fn dir() -> Dir {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    Dir::new(&format!("strace-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// Lines of strace's log that it made fail or delayed.
fn hits(dir: &Dir) -> usize {
    let log = fs::read_to_string(dir.join("strace")).unwrap_or_default();
    log.lines().filter(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)")).count()
}

fn is_thorough() -> bool {
    std::env::var("STRACE_ERRNOS").as_deref() == Ok("all")
}

/// All of a list, or the first two.
fn some(errnos: &str) -> Vec<&str> {
    errnos.split(' ').take(if is_thorough() { usize::MAX } else { 2 }).collect()
}

/// The first two errnos of a list at all places, and with all errnos the others at the last one.
fn places<'a>(errnos: &'a str, whens: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let at =
        |(index, errno)| whens[if index < 2 { 0 } else { whens.len() - 1 }..].iter().map(move |when| (errno, *when));
    some(errnos).into_iter().enumerate().flat_map(at).collect()
}

/// Whether programs can be traced here; says so where not.
fn can_trace() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    let can = *CAN.get_or_init(|| {
        let output =
            Command::new("strace").args(["-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
        output.is_ok_and(|output| output.status.success())
    });
    if !can {
        assert!(!is_thorough(), "strace does not work here");
        println!("left out: needs strace, and the right to trace");
    }
    can
}

/// The program with `fault` in `calls`, as strace's option `inject` has it; only in those on `path`, if one is given.
fn traced(dir: &Dir, calls: &str, fault: &str, path: Option<&str>, args: &[&str]) -> Command {
    let mut command = Command::new("strace");
    // As a grandchild, so that the program is the child: it gets the signals, and its exit code is seen.
    command.args(["-D", "-f", "-qq", "--seccomp-bpf", "-o", &dir.join("strace")]);
    command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{fault}")]);
    command.args(path.into_iter().flat_map(|path| ["-P", path]));
    command.arg(PROGRAM).args(args);
    command
}

/// Holds what the program said to one line that names `part`.
#[track_caller]
fn assert_one_line(said: &str, part: &str, context: &str) {
    assert_eq!(said.lines().count(), 1, "{context}: {said}");
    assert!(said.starts_with("hio-udp: ") && said.contains(part), "{context}: {said}");
    assert!(!said.contains("panicked"), "{context}: {said}");
}

const INGEST: [&str; 4] = ["ingest", "--json", "--bind", "127.0.0.1:0"];

/// How an ingest ended that got `count` datagrams through its faults.
struct Ended {
    code: i32,
    account: Value,
    said: String,
}

/// Runs an ingest with faults, sends it four chunks full of datagrams, and stops it.
fn ingest_through(dir: &Dir, calls: &str, fault: &str, path: Option<&str>, args: &[&str]) -> Ended {
    let ingest = Ingest::spawn(traced(dir, calls, fault, path, &[&INGEST, args].concat()));
    let sent = number(&blast(ingest.addr, &["--count", "4000", "--size", "1000", "--rate", "40000"]), "sent");
    let (code, account, said) = ingest.stop();
    assert!(hits(dir) > 0, "{calls} {fault}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    let said = without_recovery(&said);
    // What fails for good ends the ingest before all has come.
    if !args.contains(&"--out") || code == 0 {
        assert_adds_up(&account, sent);
    }
    assert_sinks_add_up(&account);
    Ended { code, account, said }
}

/// Leaves out the line of a sink that works again, which comes after a second: only on a slow machine does it take so
/// long.
fn without_recovery(said: &str) -> String {
    said.split_inclusive('\n').filter(|line| !line.contains("works again")).collect()
}

/// Checks that every sink has written or lacks each delivered datagram, by reason.
fn assert_sinks_add_up(account: &Value) {
    for sink in account["sinks"].as_array().unwrap() {
        let reasons = sink["not_written_by_reason"].as_object().unwrap();
        let lacking: u64 = reasons.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(number(sink, "not_written"), lacking, "{account}");
        assert_eq!(number(sink, "written") + lacking, number(account, "delivered"), "{account}");
    }
}

#[test]
fn a_send_that_fails_at_any_place_leaves_the_counts_of_blast_exact() {
    if !can_trace() {
        return;
    }
    for errno in some("EPERM EIO EINVAL EMSGSIZE ECONNREFUSED ENETUNREACH EACCES EPIPE") {
        for when in ["1", "3", "2+3"] {
            through_failing_sends(&format!("error={errno}:when={when}"), true);
        }
    }
    for fault in some("error=ENOBUFS retval=0 error=ENOMEM error=EAGAIN error=EINTR") {
        for when in ["1", "3", "2+3"] {
            // A call for one datagram takes none only by failing.
            let fault = if cfg!(force_single) { fault.replace("retval=0", "error=EAGAIN") } else { fault.to_owned() };
            through_failing_sends(&format!("{fault}:when={when}"), false);
        }
    }
}

fn through_failing_sends(fault: &str, is_failure: bool) {
    let (dir, ingest) = (dir(), Ingest::start("127.0.0.1:0", &[]));
    let to = ingest.addr.to_string();
    let args = ["blast", "--json", "--to", &to, "--count", "320", "--rate", "max"];
    let output = traced(&dir, SEND, fault, None, &args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(hits(&dir) > 0, "{fault}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (sent, failed) = (number(&report, "sent"), number(&report, "failed"));
    assert_eq!(sent + failed, 320, "{fault}: {report}");
    assert_eq!(failed > 0, is_failure, "{fault}: {report}");
    assert_eq!(output.status.code(), Some(i32::from(is_failure)), "{fault}: {said}");
    // When it begins, and in the end.
    assert_eq!(said.lines().count(), if is_failure { 2 } else { 0 }, "{fault}: {said}");
    assert!(said.lines().all(|line| line.contains(&to)), "{fault}: {said}");
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 0, "{said}");
    assert_adds_up(&account, sent);
}

#[test]
fn a_send_that_fails_for_ever_ends_blast_in_one_line() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let args = ["blast", "--json", "--to", "127.0.0.1:9", "--count", "320"];
    let output = traced(&dir, SEND, "error=ENOBUFS", None, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_one_line(&String::from_utf8(output.stderr).unwrap(), "100 bytes to 127.0.0.1:9", "ENOBUFS");
}

#[test]
fn a_socket_to_send_from_that_cannot_be_opened_is_one_line() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let file = dir.join("capture");
    assert_eq!(Ingest::start("127.0.0.1:0", &["--out", &file]).stop().0, 0);
    let senders = [
        (&["blast", "--to", "127.0.0.1:9", "--count", "8", "--sources", "2"][..], "2 sending sockets", &["1", "2"][..]),
        (&["replay", "--to", "127.0.0.1:9", &file], "127.0.0.1:9", &["1"]),
    ];
    for (args, part, whens) in senders {
        for (call, errnos) in [("socket", SOCKET), ("bind", BIND), ("getsockname", GETSOCKNAME), ("getsockopt", OPTION)]
        {
            for (errno, when) in places(errnos, whens) {
                let fault = format!("error={errno}:when={when}");
                let output = traced(&dir, call, &fault, None, args).output().unwrap();
                let said = String::from_utf8(output.stderr).unwrap();
                assert_eq!((output.status.code(), hits(&dir)), (Some(1), 1), "{call} {fault}: {said}");
                assert_one_line(&said, part, &fault);
            }
        }
    }
}

#[test]
fn a_send_that_fails_at_any_place_leaves_the_counts_of_replay_exact() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let (file, ingest) = (dir.join("capture"), Ingest::start("127.0.0.1:0", &["--out", &dir.join("capture")]));
    blast(ingest.addr, &["--count", "320", "--rate", "50000"]);
    assert_eq!(ingest.stop().0, 0);
    for (errno, failing) in [("EPERM", true), ("EIO", true), ("ENOBUFS", false), ("EINTR", false), ("EAGAIN", false)] {
        for when in ["1", "3", "2+3"] {
            let ingest = Ingest::start("127.0.0.1:0", &[]);
            let to = ingest.addr.to_string();
            let args = ["replay", "--json", "--to", &to, "--speed", "max", &file];
            let fault = format!("error={errno}:when={when}");
            let output = traced(&dir, SEND, &fault, None, &args).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(hits(&dir) > 0, "{fault}: {said}");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(number(&report, "sent") + number(&report, "failed"), 320, "{fault}: {report}");
            assert_eq!(number(&report, "failed") > 0, failing, "{fault}: {report}");
            assert_eq!(output.status.code(), Some(i32::from(failing)), "{fault}: {said}");
            assert_eq!(said.lines().count(), if failing { 2 } else { 0 }, "{fault}: {said}");
            let (_, account, _) = ingest.stop();
            assert_adds_up(&account, number(&report, "sent"));
        }
    }
}

#[test]
fn a_capture_whose_disk_fails_is_read_as_far_as_it_can_be_and_then_a_failure() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let file = dir.join("capture");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", &file]);
    blast(ingest.addr, &["--count", "2000", "--size", "1000", "--rate", "40000"]);
    assert_eq!(ingest.stop().0, 0);
    let (inspect, replay) =
        (["inspect", "--json", &file], ["replay", "--json", "--to", "127.0.0.1:9", "--speed", "max", &file]);
    for (args, what) in [(&inspect[..], "udp"), (&replay[..], "packets")] {
        for (calls, errnos, when) in [("openat", OPEN, 1), ("read", READ, 1), ("read", READ, 5)] {
            for errno in some(errnos).into_iter().filter(|errno| *errno != "EINTR") {
                let context = format!("{} {calls} {errno} {when}", args[0]);
                let output =
                    traced(&dir, calls, &format!("error={errno}:when={when}"), Some(&file), args).output().unwrap();
                let said = String::from_utf8(output.stderr).unwrap();
                assert!(hits(&dir) > 0 && output.status.code() == Some(1), "{context}: {said}");
                assert_one_line(&said, &file, &context);
                if when > 1 {
                    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
                    let read = number(&report, what);
                    assert!(0 < read && read < 2000, "{context}: {report}");
                }
            }
        }
    }
}

/// A directory as an earlier run may have left it: a configuration, lines of which the last is torn, segments with a
/// torn tail and with nothing whole, and a socket that somebody reads.
fn used_dir() -> Dir {
    let dir = dir();
    fs::write(dir.join("conf"), "json = true\n").unwrap();
    fs::write(dir.join("log"), "{}\n{").unwrap();
    fs::create_dir(dir.join("kept")).unwrap();
    let (mut torn, any) = (Vec::new(), "127.0.0.1:9".parse().unwrap());
    put_section(&mut torn, "it");
    put_interface(&mut torn, "udp 127.0.0.1:9");
    let part =
        |number, bytes: &[u8]| fs::write(dir.join(&format!("kept/20240229T235959Z-{number}.pcapng.part")), bytes);
    part("000001", &torn).unwrap();
    Packet::new(b"kept", any, any, SystemTime::UNIX_EPOCH).put(&mut torn);
    part("000002", &[&torn[..], b"torn"].concat()).unwrap();
    dir
}

/// Starts an ingest in a used directory, of whose `calls` on `path` the `when`-th fails: whether it ended well and
/// not in one line that says what it was about.
fn starts(calls: &str, errno: &str, when: usize, path: Option<&str>, args: &[&str]) -> bool {
    let dir = used_dir();
    let args: Vec<String> = args.iter().map(|arg| arg.replace("DIR", &dir.join(""))).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (context, fault) = (format!("{calls} {errno} {when} {path:?}"), format!("error={errno}:when={when}"));
    let on = path.map(|path| dir.join(path));
    let output = traced(&dir, calls, &fault, on.as_deref(), &args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // Where they are for io_uring, some builds make none of them.
    assert!(hits(&dir) > 0 || calls.starts_with("io_uring") || calls == "socketpair", "{context}: {said}");
    assert!(!said.contains("panicked"), "{context}: {said}");
    let is_failure = |line: &&str| line.starts_with("hio-udp: ") && !line.starts_with("hio-udp: note: ");
    let failures: Vec<&str> = said.lines().filter(is_failure).collect();
    let code = output.status.code().unwrap_or_else(|| panic!("{context}: {said}"));
    if code == 0 {
        assert!(failures.is_empty(), "{context}: {said}");
        return true;
    }
    assert_eq!(code, if path == Some("conf") { 2 } else { 1 }, "{context}: {said}");
    let parts = ["127.0.0.1:", "pcapng:", "jsonl:", "unix:", "thread", "signals", "--user", "/conf:", "/out'"];
    assert!(failures.len() == 1 && parts.iter().any(|part| failures[0].contains(part)), "{context}: {said}");
    assert!(calls != "sched_setaffinity" || failures[0].contains("--pin"), "{context}: {said}");
    false
}

/// A call of a starting ingest that is made to fail.
struct Row {
    calls: &'static str,
    /// Only those that are about this file of the used directory.
    path: Option<&'static str>,
    errnos: &'static str,
    /// Which of them fails, counted from 1: each in a run of its own.
    places: RangeInclusive<usize>,
    /// Whether the ingest goes on without.
    works: bool,
}

#[test]
fn a_call_that_fails_at_the_start_of_an_ingest_is_one_line_or_does_no_harm() {
    // A build that must receive through io_uring tries it before, with some of the same calls.
    if !can_trace() || cfg!(force_uring) {
        return;
    }
    // In this order: a socket of the metrics, of the ingest, of the relay.
    let sinks = ["--sink", "pcapng:DIRkept", "--sink", "jsonl:DIRlog", "--sink", "udp:127.0.0.1:9"];
    let more =
        ["--duration", "0.02", "--config", "DIRconf", "--metrics", "127.0.0.1:0", "--pin", "0", "--out", "DIRout"];
    let args = [&INGEST[..], &more[..], &sinks[..], &["--sink", "unix:DIRsocket"]].concat();
    // The first ones are the standard library's own: it looks at each descriptor that it closes, in debug builds.
    let closed = if !cfg!(debug_assertions) {
        0
    } else if cfg!(force_single) {
        1
    } else {
        3
    };
    let (signals, fcntl) = (6, closed + 1);
    let torn = Some("kept/20240229T235959Z-000002.pcapng.part");
    for Row { calls, path, errnos, places, works } in [
        Row { calls: "socket", path: None, errnos: SOCKET, places: 1..=4, works: false },
        Row { calls: "bind", path: None, errnos: BIND, places: 1..=3, works: false },
        Row { calls: "listen", path: None, errnos: LISTEN, places: 1..=1, works: false },
        Row { calls: "setsockopt", path: None, errnos: OPTION, places: 1..=1, works: false },
        // Buffers that cannot be set are those of the system.
        Row { calls: "setsockopt", path: None, errnos: OPTION, places: 2..=3, works: true },
        Row { calls: "setsockopt", path: None, errnos: OPTION_NEEDED, places: 4..=6, works: false },
        Row { calls: "setsockopt", path: None, errnos: "ENOPROTOOPT", places: 4..=6, works: true },
        Row { calls: "getsockopt", path: None, errnos: OPTION, places: 1..=4, works: false },
        Row { calls: "getsockname", path: None, errnos: GETSOCKNAME, places: 1..=3, works: false },
        Row { calls: "fcntl", path: None, errnos: "EBADF EINVAL", places: fcntl..=fcntl + 1, works: false },
        // Whether standard error is a terminal; then, that the metrics shall not block.
        Row { calls: "ioctl", path: None, errnos: "EBADF EFAULT EINVAL ENOTTY", places: 1..=1, works: true },
        Row { calls: "ioctl", path: None, errnos: "EBADF EFAULT EINVAL ENOTTY", places: 2..=2, works: false },
        Row { calls: "rt_sigaction", path: None, errnos: "EINVAL EFAULT", places: signals..=signals + 9, works: false },
        Row { calls: "mkdir", path: None, errnos: MKDIR, places: 1..=1, works: false },
        Row { calls: "mkdir", path: None, errnos: "EEXIST", places: 1..=1, works: true },
        // Of the capture, the directory, the file of lines.
        Row { calls: "flock", path: None, errnos: "EAGAIN", places: 1..=3, works: false },
        // Some file systems know no locks.
        Row { calls: "flock", path: None, errnos: "ENOLCK EINTR EINVAL EBADF", places: 1..=3, works: true },
        Row { calls: "clone3", path: None, errnos: "EAGAIN ENOMEM EPERM", places: 1..=9, works: false },
        Row { calls: "sched_setaffinity", path: None, errnos: AFFINITY, places: 1..=1, works: false },
        Row { calls: "socketpair", path: None, errnos: SOCKETPAIR, places: 1..=1, works: true },
        Row { calls: "io_uring_setup", path: None, errnos: RING_SETUP, places: 1..=2, works: true },
        Row { calls: "io_uring_register", path: None, errnos: RING_REGISTER, places: 1..=2, works: true },
        Row { calls: "io_uring_enter", path: None, errnos: RING_ENTER, places: 1..=2, works: true },
        Row { calls: "openat", path: Some("conf"), errnos: OPEN, places: 1..=1, works: false },
        Row { calls: "fcntl", path: Some("out"), errnos: "EINVAL EMFILE", places: 1..=3, works: false },
        Row { calls: "openat", path: Some("out"), errnos: OPEN, places: 1..=1, works: false },
        Row { calls: "openat", path: Some("log"), errnos: OPEN, places: 1..=1, works: false },
        // To lock it, and to look what is in it.
        Row { calls: "openat", path: Some("kept"), errnos: OPEN, places: 1..=2, works: false },
        Row { calls: "openat", path: torn, errnos: OPEN, places: 1..=1, works: false },
        Row { calls: "openat", path: Some("log"), errnos: "EINTR", places: 1..=1, works: true },
        Row { calls: "read", path: Some("conf"), errnos: READ, places: 1..=1, works: false },
        Row { calls: "read", path: Some("log"), errnos: READ, places: 1..=1, works: false },
        Row { calls: "read", path: torn, errnos: READ, places: 1..=1, works: false },
        Row { calls: "read", path: Some("conf"), errnos: "EINTR", places: 1..=1, works: true },
        Row { calls: "read", path: Some("log"), errnos: "EINTR", places: 1..=1, works: true },
        Row { calls: "statx", path: Some("log"), errnos: STAT, places: 1..=2, works: false },
        Row { calls: "getdents64", path: None, errnos: "EBADF EFAULT EINVAL ENOTDIR", places: 1..=1, works: false },
        Row { calls: "ftruncate", path: None, errnos: TRUNCATE, places: 1..=3, works: false },
        Row { calls: "unlink", path: None, errnos: UNLINK, places: 1..=1, works: false },
    ] {
        for errno in some(errnos) {
            for place in places.clone() {
                assert_eq!(starts(calls, errno, place, path, &args), works, "{calls} {errno} {place} {path:?}");
            }
        }
    }
}

#[test]
fn root_that_cannot_be_given_up_is_one_line() {
    if !can_trace() || cfg!(force_uring) || !fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t") {
        return println!("left out: needs root, and the right to trace");
    }
    let args = [&INGEST[..], &["--duration", "0.02", "--user", "12345:23456", "--metrics", "127.0.0.1:0"]].concat();
    for (calls, errnos) in [
        ("setgroups", "EPERM ENOMEM EFAULT EINVAL"),
        ("setresgid", "EPERM EAGAIN EINVAL"),
        ("setresuid", "EPERM EAGAIN EINVAL"),
        ("getresuid", "EFAULT"),
        ("getresgid", "EFAULT"),
    ] {
        for errno in some(errnos) {
            assert!(!starts(calls, errno, 1, None, &args), "{calls} {errno}");
        }
    }
    // A call that says that it was done, and did nothing.
    for calls in ["setresgid", "setresuid"] {
        let dir = dir();
        let output = traced(&dir, calls, "retval=0:when=1", None, &args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("kept a way back"), "{calls}: {said}");
    }
}

/// Datagrams in all captures of a directory, read by somebody else.
fn paths_in(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn packets_in(dir: &Path, ending: &str) -> u64 {
    let paths = paths_in(dir).into_iter().filter(|path| path.to_str().unwrap().ends_with(ending));
    paths.map(|path| read_capture(&path).0.len() as u64).sum()
}

fn bytes_in(dir: &Path) -> u64 {
    paths_in(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn a_write_that_fails_ends_out_in_one_line_and_the_file_holds_what_the_account_says() {
    if !can_trace() {
        return;
    }
    // EPIPE is no failure there: who reads has gone.
    for errno in some(WRITE).into_iter().filter(|errno| *errno != "EPIPE") {
        // The first in the sink's thread, one behind it, and all from there on.
        for when in ["2", "3", "2+"] {
            let dir = dir();
            let file = dir.join("out");
            let fault = format!("error={errno}:when={when}");
            let Ended { code, account, said } = ingest_through(&dir, "write", &fault, Some(&file), &["--out", &file]);
            assert_eq!(code, 1, "{fault}: {said}");
            assert_one_line(&said, &file, &fault);
            assert_eq!(packets_in(&dir.0, "out"), number(&account, "written"), "{fault}: {account}");
        }
    }
}

#[test]
fn a_write_that_fails_costs_lines_of_json_that_are_counted_and_it_goes_on() {
    if !can_trace() {
        return;
    }
    for errno in some(WRITE) {
        for when in ["1", "3", "2+3"] {
            let dir = dir();
            let (file, fault) = (dir.join("log"), format!("error={errno}:when={when}"));
            let args = ["--sink", &format!("jsonl:{file}")];
            let Ended { code, account, said } = ingest_through(&dir, "write", &fault, Some(&file), &args);
            assert_eq!(code, 1, "{fault}: {said}");
            assert_eq!(said.lines().count(), 2, "when it begins and in the end: {fault}: {said}");
            assert!(said.lines().all(|line| line.contains(&format!("jsonl:{file}"))), "{fault}: {said}");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{fault}: torn lines");
            assert_eq!(text.lines().count() as u64, number(&account, "written"), "{fault}: {account}");
            assert!(number(&account, "not_written") > 0 && number(&account, "written") > 0, "{fault}: {account}");
        }
    }
}

#[test]
fn an_interrupted_write_is_made_again() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let (out, log) = (dir.join("out"), dir.join("log"));
    for (path, args) in
        [(&out, ["--out".to_owned(), out.clone()]), (&log, ["--sink".to_owned(), format!("jsonl:{log}")])]
    {
        let args = args.each_ref().map(String::as_str);
        let Ended { code, account, said } = ingest_through(&dir, "write", "error=EINTR:when=2+2", Some(path), &args);
        assert_eq!((code, number(&account, "not_written")), (0, 0), "{said}");
    }
}

#[test]
fn a_segment_that_cannot_be_written_is_counted_and_the_next_one_is() {
    // Elsewhere another number of writes comes before, of which the test must know the third.
    if !can_trace() || cfg!(force_uring) || cfg!(force_single) {
        return;
    }
    for errno in some(WRITE) {
        let dir = dir();
        // The third in one thread is a chunk's, or of the trial of io_uring, which is then done without.
        let (sink, fault) = (format!("pcapng:{}", dir.join("kept")), format!("error={errno}:when=3"));
        let Ended { code, account, said } = ingest_through(&dir, "write", &fault, None, &["--sink", &sink]);
        assert_eq!(code, 1, "{fault}: {said}");
        assert_eq!(said.lines().count(), 2, "when it begins and in the end: {fault}: {said}");
        assert!(said.lines().all(|line| line.contains(&sink)), "{fault}: {said}");
        assert_eq!(packets_in(&dir.0.join("kept"), ".pcapng"), number(&account, "written"), "{fault}: {account}");
        assert!(number(&account, "not_written") > 0 && number(&account, "written") > 0, "{fault}: {account}");
    }
}

#[test]
fn a_segment_that_cannot_be_named_keeps_everything_for_the_next_start() {
    if !can_trace() {
        return;
    }
    for (errno, when) in places(RENAME, &["1", "2", "1+"]) {
        let dir = dir();
        let (kept, fault) = (dir.0.join("kept"), format!("error={errno}:when={when}"));
        let sink = format!("pcapng:{}", kept.display());
        let args = ["--sink", &sink, "--rotate-bytes", "2M"];
        let Ended { code, account, said } = ingest_through(&dir, "rename", &fault, None, &args);
        assert_eq!((code, number(&account, "not_written")), (0, 0), "{fault}: {said}");
        assert_one_line(&said, &sink, &fault);
        assert!(said.contains("cannot name a segment"), "{fault}: {said}");
        // The next start names it.
        let next = Ingest::start("127.0.0.1:0", &["--sink", &sink]);
        assert!(next.noted.contains("left open"), "{fault}: {}", next.noted);
        assert_eq!(next.stop().0, 0);
        assert_eq!(packets_in(&kept, ".pcapng"), number(&account, "written"), "{fault}: {account}");
    }
}

/// Makes `calls` of a running ingest fail as long as the strace that is given runs, only those on `path` if there is
/// one; none where others' programs cannot be traced.
fn attach(dir: &Dir, ingest: &Ingest, calls: &str, fault: &str, path: Option<&str>) -> Option<Child> {
    let pid = ingest.child.id().to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", &dir.join("strace"), "-p", &pid])
        .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{fault}")])
        .args(path.into_iter().flat_map(|path| ["-P", path]))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_traced = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    };
    loop {
        if strace.try_wait().unwrap().is_some() {
            assert!(!is_thorough(), "strace cannot attach here");
            println!("left out: needs the right to trace a running program");
            return None;
        }
        if fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| is_traced(task.unwrap())) {
            return Some(strace);
        }
        thread::yield_now();
    }
}

#[test]
fn a_segment_that_cannot_be_begun_is_told_once_and_a_later_one_is() {
    if !can_trace() {
        return;
    }
    for errno in some(OPEN) {
        let dir = dir();
        let (sink, fault) = (format!("pcapng:{}", dir.join("kept")), format!("error={errno}:when=1"));
        let ingest = Ingest::start("127.0.0.1:0", &["--sink", &sink, "--rotate-bytes", "1M"]);
        if attach(&dir, &ingest, "openat", &fault, None).is_none() {
            return;
        }
        let sent = number(&blast(ingest.addr, &["--count", "8000", "--size", "1000", "--rate", "20000"]), "sent");
        let (code, account, said) = ingest.stop();
        assert_eq!(code, 1, "{fault}: {said}");
        assert_adds_up(&account, sent);
        assert_sinks_add_up(&account);
        assert!(number(&account, "not_written") > 0 && number(&account, "written") > 0, "{fault}: {account}");
        assert_eq!(packets_in(&dir.0.join("kept"), ".pcapng"), number(&account, "written"), "{fault}: {account}");
        let said = without_recovery(&said);
        // The thread that makes names sure opens the directory, and meets the same.
        let (names, others): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.contains("a segment's name"));
        assert!(names.len() <= 1 && others.len() == 2, "when it begins and in the end: {fault}: {said}");
        assert!(
            others[0].contains("cannot begin a segment") && said.lines().all(|line| line.contains(&sink)),
            "{said}"
        );
    }
}

/// Runs the program's own `inspect` over files; gives the datagrams in them.
fn inspected(paths: &[PathBuf]) -> u64 {
    let args = ["inspect", "--json"].into_iter().chain(paths.iter().map(|path| path.to_str().unwrap()));
    number(&serde_json::from_slice(&run(&args.collect::<Vec<_>>()).stdout).unwrap(), "packets")
}

#[test]
fn a_segment_that_cannot_be_compressed_stays_and_no_datagram_is_in_two_files() {
    if !can_trace() {
        return;
    }
    // The second fsync of the packer is that of the name.
    for (calls, when, errnos) in [("utimensat", 1, UTIMENSAT), ("unlink", 1, UNLINK), ("fsync", 2, FSYNC)] {
        for errno in some(errnos) {
            let (dir, fault) = (dir(), format!("error={errno}:when={when}"));
            let sink = format!("pcapng:{}", dir.join("kept"));
            let args = ["--sink", &sink, "--zstd", "--rotate-bytes", "2M"];
            let Ended { code, account, said } = ingest_through(&dir, calls, &fault, None, &args);
            assert_eq!((code, number(&account, "not_written")), (0, 0), "{calls} {fault}: {said}");
            // The thread that names segments meets it too.
            let (names, others): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.contains("a segment's name"));
            assert_eq!(names.len(), usize::from(calls == "fsync"), "{fault}: {said}");
            assert_one_line(&others.join("\n"), "cannot compress a segment, which stays as it is", &fault);
            let kept = paths_in(&dir.0.join("kept"));
            assert_eq!(inspected(&kept), number(&account, "written"), "{calls} {fault}: {kept:?}");
            assert_eq!(kept.iter().filter(|path| !path.to_str().unwrap().ends_with(".zst")).count(), 1, "{kept:?}");
        }
    }
}

#[test]
fn a_send_of_a_sink_that_fails_is_counted_and_those_behind_it_are_sent() {
    if !can_trace() {
        return;
    }
    let reader_dir = dir();
    let path = reader_dir.join("socket");
    let reader = UnixDatagram::bind(&path).unwrap();
    let reading = thread::spawn(move || {
        let mut buffer = [0; 2000];
        std::iter::from_fn(|| reader.recv(&mut buffer).ok().filter(|len| *len > 0)).count() as u64
    });
    let (mut read, relay, unix) = (0, "udp:127.0.0.1:9".to_owned(), format!("unix:{path}"));
    // What means "later" costs a relay nothing. A message that was refused as one goes datagram by datagram.
    let (later, alone) = ("ENOBUFS EINTR EAGAIN ENOMEM", "EINVAL EIO EMSGSIZE EOPNOTSUPP");
    for (calls, sink, whens) in [(SEND, relay, &["1", "2+3"][..]), ("sendto", unix, &["1", "3", "2+3"])] {
        let is_relay = sink.starts_with("udp:");
        for (errno, when) in [places(SENDS, whens), places(later, whens)].concat() {
            let (dir, fault) = (dir(), format!("error={errno}:when={when}"));
            let Ended { code, account, said } = ingest_through(&dir, calls, &fault, None, &["--sink", &sink]);
            let lacking = number(&account, "not_written");
            let is_failure = errno != "EINTR" && !(is_relay && later.contains(errno));
            if !(is_relay && alone.contains(errno)) {
                assert_eq!(lacking > 0, is_failure, "{calls} {fault}: {account}");
            }
            assert!(number(&account, "written") > 0, "{calls} {fault}: {account}");
            assert_eq!(code, i32::from(lacking > 0), "{calls} {fault}: {said}");
            // When it begins and in the end.
            assert_eq!(said.lines().count(), if lacking > 0 { 2 } else { 0 }, "{calls} {fault}: {said}");
            assert!(said.lines().all(|line| line.contains(&sink)), "{calls} {fault}: {said}");
            read += if is_relay { 0 } else { number(&account, "written") };
        }
    }
    UnixDatagram::unbound().unwrap().send_to(b"", &path).unwrap();
    assert_eq!(reading.join().unwrap(), read, "what counts as written has arrived");
}

#[test]
fn a_connection_to_the_metrics_that_cannot_be_taken_is_tried_again_and_told_if_it_stays_so() {
    if !can_trace() {
        return;
    }
    let start = |dir: &Dir, fault: &str| {
        let args = [&INGEST[..], &["--metrics", "127.0.0.1:0"]].concat();
        let ingest = Ingest::spawn(traced(dir, "accept4", fault, None, &args));
        let asking = TcpStream::connect(metrics_of(&ingest)).unwrap();
        (ingest, asking)
    };
    for errno in some(ACCEPT) {
        let (dir, fault) = (dir(), format!("error={errno}:when=1..2"));
        let (ingest, mut asking) = start(&dir, &fault);
        asking.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && hits(&dir) == 2, "{fault}: {answer}");
        assert_eq!((ingest.stop().0, hits(&dir)), (0, 2), "{fault}");
    }
    let dir = dir();
    let (mut ingest, _asking) = start(&dir, "error=EMFILE");
    let mut line = String::new();
    ingest.stderr.read_line(&mut line).unwrap();
    assert_one_line(&line, "metrics", "EMFILE");
    let (code, _, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn a_connection_to_the_metrics_that_fails_ends_alone_and_the_next_one_is_answered() {
    // There datagrams are received and sent by these calls, too.
    if !can_trace() || cfg!(force_single) {
        return;
    }
    for (calls, errnos, is_lost) in [
        ("recvfrom", "ECONNRESET EBADF EFAULT EINVAL ENOMEM ENOTCONN ENOTSOCK ETIMEDOUT", true),
        ("sendto", "EPIPE ECONNRESET EACCES EBADF EFAULT EINVAL ENOBUFS ENOMEM ENOTCONN ENOTSOCK ETIMEDOUT", true),
        ("recvfrom", "EAGAIN EINTR", false),
        ("sendto", "EAGAIN EINTR", false),
    ] {
        for errno in some(errnos) {
            let (dir, fault) = (dir(), format!("error={errno}:when=1"));
            let args = [&INGEST[..], &["--metrics", "127.0.0.1:0"]].concat();
            let ingest = Ingest::spawn(traced(&dir, calls, &fault, None, &args));
            let address = metrics_of(&ingest);
            let answered = [(); 2].map(|()| {
                let mut asking = TcpStream::connect(address).unwrap();
                let mut answer = String::new();
                let _ = asking
                    .write_all(b"GET /healthz HTTP/1.1\r\n\r\n")
                    .and_then(|()| asking.read_to_string(&mut answer));
                answer.starts_with("HTTP/1.1 200 ")
            });
            assert_eq!((answered, hits(&dir)), ([!is_lost, true], 1), "{calls} {fault}");
            let (code, _, said) = ingest.stop();
            assert_eq!((code, said.as_str()), (0, ""), "{calls} {fault}");
        }
    }
}

#[test]
fn a_call_that_only_tells_or_waits_may_fail_and_nothing_is_lost() {
    if !can_trace() {
        return;
    }
    for (calls, results, when) in [
        // Whether a file was removed, and what the socket has dropped.
        ("statx", STAT, "1+"),
        ("getsockopt", OPTION, "1+"),
        ("clock_nanosleep", "EINTR", "1+2"),
        ("futex", "EAGAIN EINTR 0", "1+2"),
    ] {
        for result in some(results) {
            let kind = if result == "0" { "retval" } else { "error" };
            let fault = format!("{kind}={result}:when={when}");
            let dir = dir();
            let (out, log, kept) = (dir.join("out"), dir.join("log"), dir.join("kept"));
            let sinks = ["--out", &out, "--sink", &format!("jsonl:{log}"), "--sink", &format!("pcapng:{kept}")];
            let ingest = Ingest::start("127.0.0.1:0", &sinks);
            if attach(&dir, &ingest, calls, &fault, None).is_none() {
                return;
            }
            let sent = number(&blast(ingest.addr, &["--count", "300", "--rate", "3000"]), "sent");
            let (code, account, said) = ingest.stop();
            assert!(hits(&dir) > 0, "{calls} {fault}");
            assert_eq!((code, said.as_str()), (0, ""), "{calls} {fault}");
            assert_adds_up(&account, sent);
            assert_sinks_add_up(&account);
            assert_eq!(number(&account, "not_written"), 0, "{calls} {fault}: {account}");
            let stored = [packets_in(&dir.0, "out"), packets_in(kept.as_ref(), ".pcapng")];
            assert_eq!(stored, [sent; 2], "{calls} {fault}");
            assert_eq!(fs::read_to_string(&log).unwrap().lines().count() as u64, sent, "{calls} {fault}");
        }
    }
}

#[test]
fn a_disk_that_cannot_promise_is_told_once_and_everything_is_written() {
    if !can_trace() {
        return;
    }
    for errno in some(FSYNC).into_iter().chain(is_thorough().then_some("EINTR")) {
        for (calls, when, fsync) in
            [("fsync", "1", "segment"), ("fsync", "1+", "segment"), ("fdatasync", "1+2", "batch")]
        {
            if errno == "EINTR" && when == "1+" {
                continue; // the standard library makes it again, for ever
            }
            let dir = dir();
            let (kept, fault) = (dir.0.join("kept"), format!("error={errno}:when={when}"));
            let sink = format!("pcapng:{}", kept.display());
            let args = ["--sink", &sink, "--rotate-bytes", "2M", "--fsync", fsync];
            let Ended { code, account, said } = ingest_through(&dir, calls, &fault, None, &args);
            assert_eq!((code, number(&account, "not_written")), (0, 0), "{calls} {fault}: {said}");
            assert_eq!(packets_in(&kept, ".pcapng"), number(&account, "written"), "{calls} {fault}: {account}");
            let lines = said.lines().filter(|line| line.contains(&sink) && line.contains("cannot ")).count();
            assert_eq!(lines, usize::from(errno != "EINTR"), "{calls} {fault}: {said}");
        }
    }
}

#[test]
fn a_disk_that_promises_nothing_for_ever_is_given_up_and_everything_counts_as_written() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let sink = format!("pcapng:{}", dir.join("kept"));
    let args = ["--sink", &sink, "--drain", "0.3"];
    // The standard library makes it again each time.
    let Ended { code, account, said } = ingest_through(&dir, "fsync", "error=EINTR:when=1+", None, &args);
    assert_eq!((code, number(&account, "not_written")), (1, 0), "{said}");
    assert_one_line(&said, &format!("cannot close {sink}: no call has ended in 300ms"), "fsync");
    assert!(said.contains("all datagrams were written"), "{said}");
}

#[test]
fn a_slow_disk_costs_nothing_that_the_queues_hold() {
    if !can_trace() {
        return;
    }
    for slow in ["out", "log"] {
        let dir = dir();
        let (out, log) = (dir.join("out"), format!("jsonl:{}", dir.join("log")));
        // The socket takes all of it, if it may: it is not the processor that is slow here.
        let (args, slow) = (["--out", &out, "--sink", &log, "--rcvbuf", "8000000"], dir.join(slow));
        let fault = "delay_enter=200000:when=2+"; // microseconds
        let Ended { code, account, said } = ingest_through(&dir, "write", fault, Some(&slow), &args);
        assert_eq!(code, 0, "{said}");
        assert_eq!((number(&account, "not_written"), number(&account, "kernel_dropped")), (0, 0), "{account}");
        assert_eq!(packets_in(&dir.0, "out"), number(&account, "delivered"));
    }
}

#[test]
fn killed_at_any_call_that_closes_or_packs_a_segment_it_is_in_one_file_after_the_next_start() {
    if !can_trace() {
        return;
    }
    // The first and the second of a thread, or those with a name of such an ending.
    for (calls, when, ending) in [
        ("fsync", 1, None),
        ("rename", 1, Some(".part")),
        ("fsync", 2, None),
        ("utimensat", 1, None),
        ("rename", 1, Some(".zst.part")),
        ("unlink", 1, None),
    ] {
        for again in [&[][..], &["--zstd"]] {
            let dir = dir();
            let (kept, sink) = (dir.0.join("kept"), format!("pcapng:{}", dir.join("kept")));
            let mut ingest = Ingest::start("127.0.0.1:0", &["--sink", &sink, "--zstd"]);
            let closed = paths_in(&kept).remove(0).with_extension("");
            let path = ending.map(|ending| format!("{}{ending}", closed.display()));
            let fault = format!("signal=SIGKILL:when={when}");
            let Some(mut strace) = attach(&dir, &ingest, calls, &fault, path.as_deref()) else { return };
            blast(ingest.addr, &["--count", "500", "--rate", "20000"]);
            wait_until("all that was sent", || inspected(&paths_in(&kept)) == 500);
            ingest.signal("USR1");
            wait_until("the kill", || ingest.child.try_wait().unwrap().is_some());
            strace.wait().unwrap();
            let left = paths_in(&kept);
            let next = Ingest::start("127.0.0.1:0", &[&["--sink", &sink], again].concat());
            assert_eq!(next.stop().0, 0);
            let now = paths_in(&kept);
            assert_eq!(
                (now.len(), inspected(&now)),
                (1, 500),
                "{calls} {when} {ending:?} {again:?}: {left:?}, {now:?}"
            );
        }
    }
}

/// Starts an ingest into segments, and makes each write to the open one take so many microseconds until the strace that
/// is given ends; none where it cannot be traced.
fn with_slow_segment(dir: &Dir, delay_us: u64, args: &[&str]) -> Option<(Ingest, Child)> {
    let sink = format!("pcapng:{}", dir.join("kept"));
    let ingest = Ingest::start("127.0.0.1:0", &[&["--sink", &sink], args].concat());
    let open = paths_in(&dir.0.join("kept")).remove(0);
    let strace = attach(dir, &ingest, "write", &format!("delay_enter={delay_us}:when=1+"), open.to_str())?;
    Some((ingest, strace))
}

/// Lets the program go on as if nobody had traced it. Asked to end, strace would wait for what it delays.
fn detach(mut strace: Child) {
    strace.kill().unwrap();
    strace.wait().unwrap();
}

#[test]
fn a_slow_disk_costs_segments_nothing_that_the_queues_hold() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let Some((ingest, _)) = with_slow_segment(&dir, 200_000, &["--rcvbuf", "8000000"]) else { return };
    let sent = number(&blast(ingest.addr, &["--count", "4000", "--size", "1000", "--rate", "40000"]), "sent");
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(hits(&dir) > 2);
    assert_adds_up(&account, sent);
    assert_eq!((number(&account, "written"), number(&account, "kernel_dropped")), (sent, 0), "{account}");
    assert_eq!(packets_in(&dir.0.join("kept"), ".pcapng"), sent);
}

/// Longer than any test.
const FOR_EVER_US: u64 = 60_000_000;

#[test]
fn segments_on_a_stuck_disk_cost_what_the_kernel_counts_and_are_written_when_it_moves_again() {
    if !can_trace() {
        return;
    }
    let (dir, mut sent) = (dir(), 0);
    let kept = dir.0.join("kept");
    let Some((ingest, strace)) = with_slow_segment(&dir, FOR_EVER_US, &["--rcvbuf", "200000"]) else { return };
    let before = bytes_in(&kept);
    let mut send = |count: &str| {
        let count = number(&blast(ingest.addr, &["--count", count, "--size", "1000", "--rate", "40000"]), "sent");
        sent += count;
        count
    };
    let dropped = || kernel_rows(ingest.addr.port()).2;
    wait_until("the queues and the socket to be full", || {
        let before = dropped();
        // The kernel leaves a row out when another socket goes away while its table is read.
        let sent = send("10000");
        dropped().checked_sub(before) == Some(sent)
    });
    assert_eq!(bytes_in(&kept), before, "it stands still");
    // 15 chunks of up to 1.1 MiB, a ring, and what the program is itself: 30 MB here, and 55 if all were kept.
    assert!(resident_bytes(&ingest) < 40 << 20, "{} bytes", resident_bytes(&ingest));
    detach(strace);
    wait_until("what the queues held", || bytes_in(&kept) > 10 << 20);
    send("100");
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""), "all that was received is written");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert!(number(&account, "kernel_dropped") > 0 && number(&account, "not_written") == 0, "{account}");
    assert!(account["sinks"][0]["waited_s"].as_f64().unwrap() > 0.0, "{account}");
    assert_eq!(packets_in(&kept, ".pcapng"), number(&account, "written"));
}

#[test]
fn segments_on_a_disk_that_stays_stuck_do_not_hold_up_the_stop_past_its_deadline() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let Some((ingest, strace)) = with_slow_segment(&dir, FOR_EVER_US, &["--drain", "0.3"]) else { return };
    let sent = number(&blast(ingest.addr, &["--count", "20000", "--size", "1000", "--rate", "40000"]), "sent");
    ingest.signal("TERM");
    let status = format!("/proc/{}/status", ingest.child.id());
    wait_until("its end", || fs::read_to_string(&status).unwrap().contains("State:\tZ"));
    detach(strace); // which holds what it delays even behind the end
    let (code, account, said) = ingest.end();
    assert_eq!(code, 1, "{said}");
    assert_one_line(&said, "no call has ended in 300ms", "stuck");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert_eq!((number(&account, "written"), number(&account, "not_written")), (0, number(&account, "delivered")));
    // What was received before is whole, and the next start closes or removes it.
    let next = Ingest::start("127.0.0.1:0", &["--sink", &format!("pcapng:{}", dir.join("kept"))]);
    assert_eq!(next.stop().0, 0);
    assert_eq!(paths_in(&dir.0.join("kept")), Vec::<PathBuf>::new());
}

/// The call that receives, unless io_uring does.
const RECEIVE: &str = if cfg!(force_single) { "recvfrom" } else { "recvmmsg" };

/// The call that sends datagrams.
const SEND: &str = if cfg!(force_single) { "sendto" } else { "sendmmsg" };

/// Runs an ingest with faults, and sends it datagrams so slowly that most come alone; gives how it ended, with all
/// of them in its account.
fn ingest_slowly_through(calls: &str, fault: &str, args: &[&str]) -> Ended {
    let dir = dir();
    let ingest = Ingest::spawn(traced(&dir, calls, fault, None, &[&INGEST, args].concat()));
    let sent = number(&blast(ingest.addr, &["--count", "300", "--rate", "3000"]), "sent");
    let (code, account, said) = ingest.stop();
    assert!(hits(&dir) > 0, "{calls} {fault}: {said}");
    assert_adds_up(&account, sent);
    assert!(!said.contains("panicked"), "{said}");
    Ended { code, account, said }
}

#[test]
fn a_receive_that_fails_at_any_place_is_told_once_and_loses_nothing() {
    if !can_trace() || cfg!(force_uring) {
        return;
    }
    for errno in some(RECEIVES) {
        for when in ["1", "4", "2+3"] {
            let fault = format!("error={errno}:when={when}");
            let Ended { code, account, said } = ingest_slowly_through(RECEIVE, &fault, &[]);
            assert_eq!((code, number(&account, "delivered")), (0, 300), "{fault}: {said}");
            assert!(number(&account, "receive_errors") > 0, "{fault}: {account}");
            let (failed, again) = troubles(&said, "failed: ");
            assert!(failed > 0 && failed <= again + 1, "{fault}: {said}");
        }
    }
    // It is told too when it works again, if there is time for it.
    let dir = dir();
    let mut ingest = Ingest::spawn(traced(&dir, RECEIVE, "error=EIO:when=1", None, &INGEST));
    blast(ingest.addr, &["--count", "300", "--rate", "3000"]);
    let mut lines = String::new();
    while !lines.contains("works again") {
        assert_ne!(ingest.stderr.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert_eq!(ingest.stop().0, 0);
    for fault in ["error=EAGAIN:when=2+3", "error=EINTR:when=2+2", "retval=0:when=2+3"] {
        let fault = if cfg!(force_single) { fault.replace("retval=0", "error=EAGAIN") } else { fault.to_owned() };
        let Ended { code, account, said } = ingest_slowly_through(RECEIVE, &fault, &[]);
        assert_eq!((code, said.as_str()), (0, ""), "{fault}");
        assert_eq!((number(&account, "delivered"), number(&account, "receive_errors")), (300, 0), "{fault}: {account}");
    }
}

#[test]
fn a_signal_at_any_call_loses_nothing() {
    if !can_trace() || cfg!(force_uring) {
        return;
    }
    for calls in [RECEIVE, "ppoll", "write"] {
        // The first in each thread; the signal opens the file anew.
        let (dir, fault) = (dir(), "signal=SIGUSR1:when=1");
        let log = dir.join("log");
        let sink = format!("jsonl:{log}");
        let args = [&INGEST[..], &["--sink", &sink]].concat();
        let ingest = Ingest::spawn(traced(&dir, calls, fault, None, &args));
        let sent = number(&blast(ingest.addr, &["--count", "300", "--rate", "3000"]), "sent");
        let (code, account, said) = ingest.stop();
        let strace = fs::read_to_string(dir.join("strace")).unwrap();
        assert!(strace.contains("--- SIGUSR1"), "{calls} {fault}: {strace}");
        assert_eq!((code, said.as_str()), (0, ""), "{calls} {fault}");
        assert_adds_up(&account, sent);
        assert_eq!(number(&account, "delivered"), 300, "{calls} {fault}: {account}");
        assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 300, "{calls} {fault}");
    }
}

#[test]
fn a_receive_that_fails_for_ever_is_told_and_is_no_success() {
    if !can_trace() || cfg!(force_uring) {
        return;
    }
    // An interrupted call is no error, so only the end tells of it.
    for (errno, lines, words) in [("EIO", 2, "Input/output error"), ("EINTR", 1, "its calls brought nothing")] {
        let dir = dir();
        let args = [&INGEST[..], &["--drain", "0.3"]].concat();
        let ingest = Ingest::spawn(traced(&dir, RECEIVE, &format!("error={errno}"), None, &args));
        let addr = ingest.addr.to_string();
        blast(ingest.addr, &["--count", "300", "--rate", "3000"]);
        let (code, account, said) = ingest.stop();
        assert_eq!((code, number(&account, "delivered")), (1, 0), "{said}");
        assert_eq!(said.lines().count(), lines, "when it begins and in the end: {said}");
        assert!(said.lines().all(|line| line.contains(&addr) && line.contains(words)), "{said}");
        assert!(said.contains("in no count"), "{said}");
    }
}

#[test]
fn a_wait_that_fails_loses_nothing() {
    if !can_trace() {
        return;
    }
    for fault in some("error=EINTR:when=1+2 error=ENOMEM:when=2+3 error=EINVAL:when=2+3 error=EFAULT:when=1") {
        let Ended { code, account, said } = ingest_slowly_through("ppoll", fault, &[]);
        assert_eq!((code, number(&account, "delivered")), (0, 300), "{fault}: {said}");
        let (failed, again) = troubles(&said, "failed: ");
        assert!(failed <= again + 1, "{fault}: {said}");
    }
}

#[test]
fn a_stop_whose_filter_is_refused_reads_out_all_the_same() {
    if !can_trace() {
        return;
    }
    for errno in some(OPTION) {
        // The first of the main thread asks for a buffer, the first of the reader's is the filter.
        let fault = format!("error={errno}:when=1");
        let Ended { code, account, said } = ingest_slowly_through("setsockopt", &fault, &[]);
        assert_eq!((code, number(&account, "delivered")), (0, 300), "{fault}: {said}");
    }
}
