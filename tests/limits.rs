//! The built program under limits on its descriptors and its memory: it works or says in one line what it lacks.
#![cfg(unix)]

#[path = "util/program.rs"]
mod util;

use util::{Dir, Scratch, blast, limited, number};

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
    let ingest = util::Ingest::start("127.0.0.1:0", &["--out", file.arg()]);
    assert_eq!(number(&blast(ingest.addr, &["--count", "8"]), "sent"), 8);
    assert_eq!(ingest.stop().0, 0);
    let replay = ["replay", "--to", "127.0.0.1:9", "--speed", "max", file.arg(), file.arg()];
    under_each_limit(&replay, &[file.arg(), "127.0.0.1:9", "signals"]);
    under_each_limit(&["inspect", file.arg()], &[file.arg()]);
}

#[test]
#[cfg(target_os = "linux")]
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
