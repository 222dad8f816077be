//! Command lines and files of options: whatever stands there is read, or refused with lines that say why; and so
//! is every text they are made of.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/bin/hio-udp/account.rs"]
mod account;
#[path = "../../src/bin/hio-udp/args/mod.rs"]
mod args;
#[path = "../../src/bin/hio-udp/blast.rs"]
mod blast;
#[path = "../../src/bin/hio-udp/blocks.rs"]
mod blocks;
#[path = "../../src/bin/hio-udp/capture.rs"]
mod capture;
#[path = "../../src/bin/hio-udp/check.rs"]
mod check;
#[path = "../../src/bin/hio-udp/config/mod.rs"]
mod config;
#[path = "../../src/bin/hio-udp/demo.rs"]
mod demo;
#[path = "../../src/bin/hio-udp/doctor.rs"]
mod doctor;
#[path = "../../src/bin/hio-udp/endian.rs"]
mod endian;
#[path = "../../src/bin/hio-udp/events.rs"]
mod events;
#[path = "../../src/bin/hio-udp/expansion.rs"]
mod expansion;
#[path = "../../src/bin/hio-udp/failure.rs"]
mod failure;
#[path = "../../src/bin/hio-udp/headers.rs"]
mod headers;
#[path = "../../src/bin/hio-udp/heavy.rs"]
mod heavy;
#[path = "../../src/bin/hio-udp/ingest/mod.rs"]
mod ingest;
#[path = "../../src/bin/hio-udp/input.rs"]
mod input;
#[path = "../../src/bin/hio-udp/inspect.rs"]
mod inspect;
#[path = "../../src/bin/hio-udp/machine.rs"]
mod machine;
#[path = "../../src/bin/hio-udp/manual.rs"]
mod manual;
#[path = "../../src/bin/hio-udp/memory.rs"]
mod memory;
#[path = "../../src/bin/hio-udp/metrics/mod.rs"]
mod metrics;
#[path = "../../src/bin/hio-udp/notes.rs"]
mod notes;
#[path = "../../src/bin/hio-udp/packets.rs"]
mod packets;
#[path = "../../src/bin/hio-udp/privileges.rs"]
mod privileges;
#[path = "../../src/bin/hio-udp/probe.rs"]
mod probe;
#[path = "../../src/bin/hio-udp/proc.rs"]
mod proc;
#[path = "../../src/bin/hio-udp/records.rs"]
mod records;
#[path = "../../src/bin/hio-udp/replay.rs"]
mod replay;
#[path = "../../src/bin/hio-udp/screen/mod.rs"]
mod screen;
#[path = "../../src/bin/hio-udp/sender.rs"]
mod sender;
#[path = "../../src/bin/hio-udp/sinks/mod.rs"]
mod sinks;
#[path = "../../src/bin/hio-udp/status.rs"]
mod status;
#[path = "../../src/bin/hio-udp/stop.rs"]
mod stop;
#[path = "../../src/bin/hio-udp/summary.rs"]
mod summary;
#[path = "../../src/bin/hio-udp/timeline.rs"]
mod timeline;
#[path = "../../src/bin/hio-udp/top/mod.rs"]
mod top;
#[path = "../../src/bin/hio-udp/unpack.rs"]
mod unpack;
#[path = "../../src/bin/hio-udp/utc.rs"]
mod utc;
#[path = "../../src/bin/hio-udp/window.rs"]
mod window;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use failure::Failure;
use libfuzzer_sys::fuzz_target;
use sinks::Spec;

/// Words whose answer is printed, at length.
const PRINTED: [&[u8]; 4] = [b"help", b"-h", b"-V", b"--version"];

/// In memory, if there is such a place.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let dir = if memory.is_dir() { memory } else { std::env::temp_dir() };
    dir.join(format!("hio-udp-fuzz-{}.toml", std::process::id()))
});

fn assert_is_told_in_one_line(result: Result<Option<args::Command>, Failure>) {
    match result {
        Ok(command) => assert!(command.is_some()),
        Err(Failure::Usage(line) | Failure::Config(line)) => {
            assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
        }
        Err(Failure::Run(line)) => panic!("nothing was run: {line}"),
    }
}

fn read_command_line(input: &[u8]) {
    if PRINTED.iter().any(|word| input.windows(word.len()).any(|part| part == *word)) {
        return;
    }
    let words = input.split(|byte| *byte == b' ').map(|word| OsString::from_vec(word.to_vec()));
    assert_is_told_in_one_line(args::parse_from(std::iter::once("hio-udp".into()).chain(words).collect()));
}

fn read_file(input: &[u8]) {
    fs::write(&*FILE, input).unwrap();
    let mut options = config::Options::of(args::command());
    match config::of_file(&mut options, &FILE) {
        Ok((_, argv)) => assert_is_told_in_one_line(args::parse_from(argv)),
        Err(problems) => {
            assert!(!problems.is_empty() && problems.len() <= config::PROBLEMS_MAX + 1);
            for problem in problems {
                assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem:?}");
            }
        }
    }
}

fn read_texts(text: &str) {
    if let Ok(spec) = text.parse::<Spec>() {
        assert_eq!((spec.takes_stdout(), spec.is_segments()), (text == "jsonl:-", text.starts_with("pcapng:")));
        assert!(text == "null" || text.split_once(':').is_some_and(|(_, place)| !place.is_empty()));
    }
    if let Ok(to) = args::destination(text) {
        assert!(to.port > 0 && !to.host.is_empty());
        assert!(text.contains(&to.host) && text.contains(':'));
    }
}

fuzz_target!(|input: &[u8]| {
    read_command_line(input);
    read_file(input);
    if let Ok(text) = std::str::from_utf8(input) {
        read_texts(text);
    }
});
