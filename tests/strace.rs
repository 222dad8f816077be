//! The built program while system calls fail, as strace makes them: from outside, with everything in place.
//!
//! Needs strace and the right to trace one's own children; without them these are left out. With
//! STRACE_ERRNOS=all they must run, with every errno of the manual pages, and otherwise with a few.
#![cfg(target_os = "linux")]

#[path = "util/captures.rs"]
mod captures;
#[path = "util/program.rs"]
mod util;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use captures::read_capture;
use serde_json::Value;
use util::{Dir, Ingest, PROGRAM, assert_adds_up, blast, number};

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

/// All of a row, or the first two.
fn some<'a>(errnos: &[&'a str]) -> Vec<&'a str> {
    errnos.iter().copied().take(if is_thorough() { errnos.len() } else { 2 }).collect()
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
    // What fails for good ends the ingest before all has come.
    if !args.contains(&"--out") || code == 0 {
        assert_adds_up(&account, sent);
    }
    assert_sinks_add_up(&account);
    Ended { code, account, said }
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
    for errno in some(&["EPERM", "EIO", "EINVAL", "EMSGSIZE", "ECONNREFUSED", "ENETUNREACH", "EACCES", "EPIPE"]) {
        for when in ["1", "3", "2+3"] {
            through_failing_sends(&format!("error={errno}:when={when}"), true);
        }
    }
    for fault in some(&["error=ENOBUFS", "retval=0", "error=ENOMEM", "error=EAGAIN", "error=EINTR"]) {
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

/// Runs commands that fail at the `when`-th of `calls`; each ends well or in one line that names one of `parts`.
/// Gives how many ended well.
fn fails_in_one_line_or_works(calls: &str, errno: &str, when: usize, args: &[&str], parts: &[&str]) -> usize {
    let dir = dir();
    let args: Vec<String> = args.iter().map(|arg| arg.replace("DIR", &dir.join(""))).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let context = format!("{calls} {errno} {when}: {args:?}");
    let output = traced(&dir, calls, &format!("error={errno}:when={when}"), None, &args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{context}: {said}");
    let said: String = said.lines().filter(|line| !line.starts_with("receiving on")).collect::<Vec<_>>().join("\n");
    match output.status.code() {
        Some(0) => 1,
        code => {
            assert_eq!(code, Some(1), "{context}: {said}");
            assert_eq!(said.lines().count(), 1, "{context}: {said}");
            assert!(said.starts_with("hio-udp: ") && parts.iter().any(|part| said.contains(part)), "{context}: {said}");
            0
        }
    }
}

#[test]
fn a_call_that_fails_at_the_start_of_an_ingest_is_one_line_or_does_no_harm() {
    // A build that must receive through io_uring tries it before, with some of the same calls.
    if !can_trace() || cfg!(force_uring) {
        return;
    }
    let sinks = ["--sink", "pcapng:DIRkept", "--sink", "jsonl:DIRlog", "--sink", "udp:127.0.0.1:9"];
    let args = [&INGEST[..], &["--duration", "0.02"], &sinks[..]].concat();
    let parts = ["127.0.0.1:", "pcapng:", "jsonl:", "thread", "signals"];
    for (calls, errnos, whens, works) in [
        ("socket", &["EACCES", "EAFNOSUPPORT", "EINVAL", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"][..], 1..=2, false),
        (
            "bind",
            &["EACCES", "EADDRINUSE", "EADDRNOTAVAIL", "EBADF", "EFAULT", "EINVAL", "ENOMEM", "EPERM"],
            1..=2,
            false,
        ),
        ("setsockopt", &["EINVAL", "ENOMEM", "EPERM"], 3..=4, false),
        // Buffers that cannot be set are those of the system.
        ("setsockopt", &["EINVAL", "ENOMEM", "EPERM"], 1..=2, true),
        ("getsockname", &["EINVAL", "ENOBUFS"], 1..=2, false),
        ("mkdir", &["EACCES", "EDQUOT", "EMLINK", "ENOMEM", "ENOSPC", "EPERM", "EROFS"], 1..=1, false),
        ("flock", &["EAGAIN"], 1..=1, false),
        // Some file systems know no locks.
        ("flock", &["ENOLCK", "EINTR", "EINVAL"], 1..=1, true),
        ("clone3", &["EAGAIN", "ENOMEM", "EPERM"], 1..=5, false),
        ("socketpair", &["EMFILE", "ENFILE", "EAFNOSUPPORT"], 1..=1, true),
        ("io_uring_setup", &["EFAULT", "EINVAL", "EMFILE", "ENFILE", "ENOMEM", "ENOSYS", "EPERM"], 1..=2, true),
        ("io_uring_register", &["EBUSY", "EEXIST", "EFAULT", "EINVAL", "EMFILE", "ENOMEM"], 1..=2, true),
        ("io_uring_enter", &["EAGAIN", "EBADF", "EBUSY", "EFAULT", "EINTR", "EINVAL", "ENXIO"], 1..=2, true),
    ] {
        for (errno, when) in some(errnos).into_iter().flat_map(|errno| whens.clone().map(move |when| (errno, when))) {
            let worked = fails_in_one_line_or_works(calls, errno, when, &args, &parts);
            assert_eq!(worked, usize::from(works), "{calls} {errno} {when}");
        }
    }
}

/// Datagrams in all captures of a directory, read by somebody else.
fn packets_in(dir: &Path, ending: &str) -> u64 {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().ends_with(ending)).map(|path| read_capture(&path).0.len() as u64).sum()
}

#[test]
fn a_write_that_fails_ends_out_in_one_line_and_the_file_holds_what_the_account_says() {
    if !can_trace() {
        return;
    }
    for errno in some(&["EIO", "ENOSPC", "EDQUOT", "EFBIG", "EPERM", "EBADF", "EINVAL", "EAGAIN", "EFAULT"]) {
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
    for errno in some(&["EIO", "ENOSPC", "EDQUOT", "EFBIG", "EPERM", "EBADF", "EINVAL", "EAGAIN", "EFAULT", "EPIPE"]) {
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
    for errno in some(&["EIO", "EDQUOT", "ENOSPC", "EFBIG", "EPERM", "EBADF", "EINVAL", "EAGAIN", "EFAULT", "EPIPE"]) {
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
    for errno in some(&["EIO", "ENOSPC", "EACCES", "EBUSY", "EDQUOT", "EINVAL", "EMLINK", "ENOMEM", "EPERM", "EROFS"]) {
        for when in ["1", "2", "1+"] {
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
}

/// Makes `calls` of a running ingest fail from now on; false where others' programs cannot be traced.
fn attach(dir: &Dir, ingest: &Ingest, calls: &str, fault: &str) -> bool {
    let pid = ingest.child.id().to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", &dir.join("strace"), "-p", &pid])
        .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{fault}")])
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
            return false;
        }
        if fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| is_traced(task.unwrap())) {
            return true;
        }
        thread::yield_now();
    }
}

#[test]
fn a_segment_that_cannot_be_begun_is_told_once_and_a_later_one_is() {
    if !can_trace() {
        return;
    }
    let errnos =
        ["EMFILE", "ENOSPC", "EACCES", "EDQUOT", "EEXIST", "EINVAL", "EIO", "ENFILE", "ENOMEM", "EPERM", "EROFS"];
    for errno in some(&errnos) {
        let dir = dir();
        let (sink, fault) = (format!("pcapng:{}", dir.join("kept")), format!("error={errno}:when=1"));
        let ingest = Ingest::start("127.0.0.1:0", &["--sink", &sink, "--rotate-bytes", "1M"]);
        if !attach(&dir, &ingest, "openat", &fault) {
            return;
        }
        let sent = number(&blast(ingest.addr, &["--count", "8000", "--size", "1000", "--rate", "20000"]), "sent");
        let (code, account, said) = ingest.stop();
        assert_eq!(code, 1, "{fault}: {said}");
        assert_adds_up(&account, sent);
        assert_sinks_add_up(&account);
        assert!(number(&account, "not_written") > 0 && number(&account, "written") > 0, "{fault}: {account}");
        assert_eq!(packets_in(&dir.0.join("kept"), ".pcapng"), number(&account, "written"), "{fault}: {account}");
        // The thread that makes names sure opens the directory, and meets the same.
        let (names, others): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.contains("a segment's name"));
        assert!(names.len() <= 1 && others.len() == 2, "when it begins and in the end: {fault}: {said}");
        assert!(
            others[0].contains("cannot begin a segment") && said.lines().all(|line| line.contains(&sink)),
            "{said}"
        );
    }
}

#[test]
fn a_disk_that_cannot_promise_is_told_once_and_everything_is_written() {
    if !can_trace() {
        return;
    }
    for errno in some(&["EIO", "ENOSPC", "EDQUOT", "EINTR", "EINVAL", "EROFS", "EBADF"]) {
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
            let Ended { account, said, .. } = ingest_through(&dir, calls, &fault, None, &args);
            assert_eq!(number(&account, "not_written"), 0, "{calls} {fault}: {said}");
            assert_eq!(packets_in(&kept, ".pcapng"), number(&account, "written"), "{calls} {fault}: {account}");
            let lines = said.lines().filter(|line| line.contains(&sink) && line.contains("cannot ")).count();
            assert_eq!(lines, usize::from(errno != "EINTR"), "{calls} {fault}: {said}");
        }
    }
}

#[test]
fn a_slow_disk_costs_nothing_that_the_queues_hold() {
    if !can_trace() {
        return;
    }
    let dir = dir();
    let (out, log) = (dir.join("out"), format!("jsonl:{}", dir.join("log")));
    // Microseconds.
    let args = ["--out", &out, "--sink", &log];
    let Ended { code, account, said } = ingest_through(&dir, "write", "delay_enter=200000:when=2+", Some(&out), &args);
    assert_eq!(code, 0, "{said}");
    assert_eq!((number(&account, "not_written"), number(&account, "kernel_dropped")), (0, 0), "{account}");
    assert_eq!(packets_in(&dir.0, "out"), number(&account, "delivered"));
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
    let errnos =
        ["EIO", "ENOMEM", "EBADF", "ECONNREFUSED", "EFAULT", "EINVAL", "ENOTCONN", "ENOTSOCK", "ENOBUFS", "EPERM"];
    for errno in some(&errnos) {
        for when in ["1", "4", "2+3"] {
            let fault = format!("error={errno}:when={when}");
            let Ended { code, account, said } = ingest_slowly_through(RECEIVE, &fault, &[]);
            assert_eq!((code, number(&account, "delivered")), (0, 300), "{fault}: {said}");
            assert!(number(&account, "receive_errors") > 0, "{fault}: {account}");
            assert_eq!(said.lines().filter(|line| line.contains("failed: ")).count(), 1, "{fault}: {said}");
        }
    }
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
    for (errno, lines, words) in [("EIO", 2, "Input/output error"), ("EINTR", 1, "nothing more was given")] {
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
    for fault in
        some(&["error=EINTR:when=1+2", "error=ENOMEM:when=2+3", "error=EINVAL:when=2+3", "error=EFAULT:when=1"])
    {
        let Ended { code, account, said } = ingest_slowly_through("ppoll", fault, &[]);
        assert_eq!((code, number(&account, "delivered")), (0, 300), "{fault}: {said}");
        assert!(said.lines().filter(|line| line.contains("failed: ")).count() <= 1, "{fault}: {said}");
    }
}

#[test]
fn a_stop_whose_filter_is_refused_reads_out_all_the_same() {
    if !can_trace() {
        return;
    }
    // The first of the main thread asks for a buffer, the first of the reader's is the filter.
    let Ended { code, account, said } = ingest_slowly_through("setsockopt", "error=ENOMEM:when=1", &[]);
    assert_eq!((code, number(&account, "delivered")), (0, 300), "{said}");
}
