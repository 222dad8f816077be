//! The built program under limits on its descriptors, its memory and its threads: it works or says in one line what it
//! lacks.
#![cfg(target_os = "linux")]

#[path = "util/program.rs"]
mod util;

use std::process::{Command, Output};

use serde_json::Value;
use util::{Dir, Ingest, PROGRAM, Scratch, assert_adds_up, blast, limited, number};

/// Descriptors: from those the linker needs to start a program up to more than enough.
const DESCRIPTORS: std::ops::Range<usize> = 4..20;

/// Runs a command under each limit, and holds it to one line that names what it was about, until it works.
fn under_each_limit(args: &[&str], parts: &[&str]) {
    let mut works = false;
    for descriptors in DESCRIPTORS {
        let output = limited(&format!("ulimit -n {descriptors}"), args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => works = true,
            code => {
                assert_eq!(code, Some(1), "{descriptors}: {said}");
                assert!(!works, "with {descriptors} it fails again: {said}");
                let line = said.lines().last().unwrap();
                // A build that may not receive otherwise cannot do without its io_uring.
                let is_why =
                    line.contains("Too many open files") || (cfg!(force_uring) && line.contains("unsupported"));
                assert!(line.starts_with("hio-udp: ") && is_why, "{descriptors}: {said}");
                assert!(parts.iter().any(|part| line.contains(part)), "{descriptors}: {said}");
                assert_eq!(said.lines().count(), 1, "{descriptors}: {said}");
            }
        }
    }
    assert!(works, "{args:?}");
}

#[test]
fn too_few_descriptors_for_the_sinks_are_one_line_that_names_the_sink() {
    let dir = Dir::new("ingest");
    let (segments, lines) = (format!("pcapng:{}/kept", dir.0.display()), format!("jsonl:{}/log", dir.0.display()));
    let sinks = ["--sink", &segments, "--sink", &lines, "--sink", "udp:127.0.0.1:9", "--sink", "null"];
    let args = [&["ingest", "--json", "--bind", "127.0.0.1:0", "--duration", "0.02"], &sinks[..]].concat();
    under_each_limit(&args, &["127.0.0.1:0", &segments, &lines, "udp:127.0.0.1:9"]);
}

#[test]
fn too_few_descriptors_for_senders_and_readers_are_one_line() {
    let args = ["blast", "--to", "127.0.0.1:9", "--count", "8", "--sources", "8", "--rate", "max"];
    under_each_limit(&args, &["8 sending sockets", "signals"]);
    let file = Scratch::new("limits");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg()]);
    assert_eq!(number(&blast(ingest.addr, &["--count", "8"]), "sent"), 8);
    assert_eq!(ingest.stop().0, 0);
    let replay = ["replay", "--to", "127.0.0.1:9", "--speed", "max", file.arg(), file.arg()];
    under_each_limit(&replay, &[file.arg(), "127.0.0.1:9", "signals"]);
    under_each_limit(&["inspect", file.arg()], &[file.arg()]);
}

#[test]
fn sinks_that_do_not_fit_into_memory_are_one_line() {
    let dir = Dir::new("memory");
    let names: Vec<String> = (0..6).map(|i| format!("jsonl:{}/{i}", dir.0.display())).collect();
    let sinks = names.iter().flat_map(|name| ["--sink", name]);
    let args: Vec<&str> =
        ["ingest", "--json", "--bc", "16", "--bind", "127.0.0.1:0"].into_iter().chain(sinks).collect();
    // Of the 100 MB that the queues of six sinks take.
    for kilobytes in [32_000, 48_000, 64_000, 80_000] {
        let output = limited(&format!("ulimit -v {kilobytes}"), &args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{kilobytes}: {said}");
        assert!(said.contains("the queues of the sinks do not fit into memory"), "{kilobytes}: {said}");
    }
}

/// Whether it worked, or else said in one line why not.
#[track_caller]
fn worked(output: &Output, why: &[&str], context: &str) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains(" on ")).collect(); // "receiving on", "metrics on"
    match output.status.code() {
        Some(0) => true,
        code => {
            assert_eq!((code, lines.len()), (Some(1), 1), "{context}: {said}");
            assert!(why.iter().any(|why| lines[0].contains(why)), "{context}: {said}");
            false
        }
    }
}

/// Starts it with more and more memory for its addresses, until it works: how often its own code began, and how
/// often a signal ended it.
///
/// Below that, the system's loader and the start of the standard library fail, each in its own way.
fn starts_under_each_limit_on_memory(args: &[&str], step_kilobytes: usize) -> (usize, usize) {
    let why = ["not enough memory", "does not fit into memory", "do not fit into memory", "cannot start a thread"];
    let (mut starts, mut ended_by_signal) = (0, 0);
    for kilobytes in (4_000..200_000).step_by(step_kilobytes) {
        let context = format!("{kilobytes} kB, {args:?}");
        let mut command = limited(&format!("ulimit -v {kilobytes}"), args);
        // The standard library's backtrace of a failed allocation waits for ever if it fails to allocate.
        let output = command.env_remove("RUST_BACKTRACE").output().unwrap();
        starts += usize::from(starts > 0 || matches!(output.status.code(), Some(0 | 1)));
        match output.status.code() {
            _ if starts == 0 => {}
            None => {
                println!("{context}: {}", String::from_utf8_lossy(&output.stderr));
                ended_by_signal += 1;
            }
            Some(_) if worked(&output, &why, &context) => return (starts, ended_by_signal),
            Some(_) => {}
        }
    }
    panic!("it never works: {args:?}");
}

#[test]
fn too_little_memory_is_one_line_and_in_fewer_than_one_of_fifty_starts_a_signal() {
    let file = Scratch::new("memory");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg()]);
    blast(ingest.addr, &["--count", "8"]);
    assert_eq!(ingest.stop().0, 0);
    let per_step = std::env::var("HIO_UDP_MEMORY_STEPS").map_or(1, |text| text.parse().expect("a number"));
    let ingest = ["ingest", "--json", "--bind", "127.0.0.1:0", "--duration", "0.02"];
    let mut sum = (0, 0);
    for (args, step_kilobytes) in [
        (&[&ingest[..], &["--rate-limit", "100", "--metrics", "127.0.0.1:0"]].concat()[..], 240),
        (&[&ingest[..], &["--sink", "null"]].concat(), 960),
        (&["blast", "--to", "127.0.0.1:9", "--count", "8", "--size", "60000"], 120),
        (&["replay", "--to", "127.0.0.1:9", "--speed", "max", file.arg()], 120),
        (&["inspect", file.arg()], 120),
    ] {
        let (starts, ended_by_signal) = starts_under_each_limit_on_memory(args, step_kilobytes / per_step);
        println!("{args:?}: {starts} starts, {ended_by_signal} ended by a signal");
        sum = (sum.0 + starts, sum.1 + ended_by_signal);
    }
    println!("together {} starts, {} ended by a signal", sum.0, sum.1);
    assert!(sum.1 * 50 < sum.0, "{sum:?}");
}

/// An ingest of a user of its own, whom the limit binds as it does not bind root; `None` where that cannot be.
///
/// Nobody else is that user, whose threads are counted together.
fn of_own_user(number: u32, limit: &str, args: &[&str]) -> Option<Command> {
    if !std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t") {
        println!("left out: needs root");
        return None;
    }
    let user = (1_000_000 + 4 * std::process::id() + number).to_string();
    let mut command = Command::new("prlimit");
    command.args([limit, PROGRAM, "ingest", "--json", "--bind", "127.0.0.1:0", "--user", &user]).args(args);
    Some(command)
}

#[test]
fn too_few_threads_are_one_line() {
    let mut most = 1;
    loop {
        let args = ["--shards", "2", "--workers", "2", "--sink", "null", "--duration", "0.02"];
        let Some(mut command) = of_own_user(1, &format!("--nproc={most}"), &args) else { return };
        if worked(&command.output().unwrap(), &["cannot start a thread"], &format!("{most} threads")) {
            break;
        }
        most += 1;
    }
    // Readers, workers, a sink, the housekeeper, and the first.
    assert_eq!(most, 7);
}

#[test]
fn a_stop_starts_no_thread() {
    // Two readers, a sink, the housekeeper, and the first.
    let Some(command) = of_own_user(2, "--nproc=5", &["--bind", "127.0.0.2:0", "--sink", "null"]) else { return };
    let ingest = Ingest::spawn(command);
    let sent = number(&blast(ingest.addr, &["--count", "1000"]), "sent");
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_adds_up(&account, sent);
}

#[test]
fn without_locked_memory_everything_is_received() {
    let Some(command) = of_own_user(3, "--memlock=0", &["--bc", "1024", "--sink", "null"]) else { return };
    let ingest = Ingest::spawn(command);
    let sent = number(&blast(ingest.addr, &["--count", "20000", "--rate", "max"]), "sent");
    let (code, account, said): (i32, Value, String) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_adds_up(&account, sent);
}
