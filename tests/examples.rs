//! The command lines of README, of docs/OPERATING.md and of `--help`, run as they stand there: each starts, does what
//! it says on this machine, and stops with the exit code of success.
//!
//! Ports become free ones, hosts that are made up this machine, places elsewhere a directory of the test, and what
//! takes long is cut short. That all of them are right as command lines, a unit test in `args/mod.rs` shows.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

#[path = "util/program.rs"]
mod util;
use util::{Dir, Ingest, PROGRAM, blast, free_port, run, send_signal};

/// Command lines of the program in documents and in its own help, each once.
fn examples() -> BTreeSet<String> {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let documents = read("README.md") + &read("docs/OPERATING.md");
    let mut found: BTreeSet<String> =
        documents.lines().filter_map(|line| line.strip_prefix(['$', '#'])).map(|line| line.trim().to_owned()).collect();
    for command in ["ingest", "blast", "inspect", "replay", "check", "doctor", "manual", "completions"] {
        let help = Command::new(PROGRAM).args([command, "--help"]).env("COLUMNS", "120").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        // A second column says what it does.
        found.extend(help.lines().map(|line| line.trim().split("  ").next().unwrap().to_owned()));
    }
    found.retain(|line| line.starts_with("hio-udp "));
    found
}

/// Its words, as far as they are this program's: up to a pipe, a redirection or a comment, without quotes.
fn words(line: &str) -> Vec<String> {
    let words = line.split_whitespace().take_while(|word| !["|", ">", "&&", "#"].contains(word));
    words.skip(1).map(|word| word.replace(['\'', '"'], "")).collect()
}

/// Why it cannot run wherever the tests do.
fn why_not_here(words: &[String]) -> Option<&'static str> {
    let has = |part: &str| words.iter().any(|word| word.contains(part));
    let is_root = || Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    match () {
        () if has("--top") => Some("it needs a terminal: tests/top.rs"),
        () if has("--demo") => Some("it takes five seconds: tests/program.rs"),
        () if has("%eth0") => Some("it needs an interface of that name"),
        () if has("--shards") && cfg!(not(target_os = "linux")) => Some("it needs Linux"),
        () if has("--user") && !is_root() => Some("it needs root"),
        () if has("[::]") && UdpSocket::bind("[::1]:0").is_err() => Some("it needs IPv6"),
        () => None,
    }
}

/// The same command line for this machine: `ports` has free ones in the place of those that are named.
fn made_to_run(words: &[String], dir: &Dir, ports: &mut BTreeMap<String, u16>) -> Vec<String> {
    let mut free = |port: &str| *ports.entry(port.to_owned()).or_insert_with(free_port);
    let mut before = "";
    let mut made = Vec::new();
    for word in words {
        made.push(match (before, word.rsplit_once(':')) {
            ("--bind" | "--to" | "--metrics", Some((host, port))) => {
                let host = if host.ends_with(".example") { "127.0.0.1" } else { host };
                format!("{host}:{}", if port == "0" { 0 } else { free(port) })
            }
            ("--count", _) => "100".to_owned(),
            ("--duration", _) => "0.2".to_owned(),
            (_, Some(("pcapng", path))) if path.starts_with('/') => {
                format!("pcapng:{}", dir.join(&path.replace('/', "_")))
            }
            _ if word.starts_with('/') => dir.join(word.trim_start_matches('/').rsplit('/').next().unwrap()),
            _ => word.replace('*', "1"),
        });
        before = word;
    }
    made
}

/// Puts the captures and configurations there that a command line reads.
fn prepare(made: &[String], dir: &Dir, capture: &[u8], config: &str) {
    let is_read = ["inspect", "replay", "check"].contains(&&*made[0]);
    for (at, word) in made.iter().enumerate().skip(1) {
        let path = dir.0.join(word);
        if word.ends_with(".toml") {
            std::fs::write(path, config).unwrap();
        } else if is_read && !word.starts_with('-') && !made[at - 1].starts_with("--") {
            std::fs::write(path, capture).unwrap();
        }
    }
}

/// Runs it, and stops an ingest that would go on: exit code, and what it said.
fn run_to_its_end(made: &[String], dir: &Dir) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.args(made).current_dir(&dir.0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut from = 0;
    while stderr.read_line(&mut said).unwrap() > 0 {
        if said[from..].starts_with("receiving on ") || said[from..].contains("\"event\":\"started\"") {
            assert!(send_signal("TERM", child.id()));
        }
        from = said.len();
    }
    reading.join().unwrap().unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn every_example_of_readme_operating_and_help_runs_as_it_stands_there() {
    let dir = Dir::new("examples");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", &dir.join("capture")]);
    blast(ingest.addr, &["--count", "20", "--rate", "max"]);
    assert_eq!(ingest.stop().0, 0);
    let capture = std::fs::read(dir.0.join("capture")).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/hio-udp.toml");
    let config = std::fs::read_to_string(config).unwrap().replace("/var/lib", &dir.join("lib"));
    std::fs::create_dir(dir.0.join("lib")).unwrap();

    let (mut ran, mut ports) = (0, BTreeMap::new());
    for line in examples() {
        let words = words(&line);
        if let Some(why) = why_not_here(&words) {
            println!("left out: {line}: {why}");
            continue;
        }
        let made = made_to_run(&words, &dir, &mut ports);
        prepare(&made, &dir, &capture, &config);
        let (code, said) = run_to_its_end(&made, &dir);
        // A machine may be too small for the rate that doctor is asked about.
        let is_right = code == Some(0) || (made[0] == "doctor" && code == Some(1) && said.contains("limited by"));
        assert!(is_right, "{line}\nrun as {made:?}: {code:?}, {said}");
        ran += 1;
    }
    assert!(ran > 25, "only {ran} of the examples ran");
    assert!(run(&["--help"]).status.success());
}
