//! The built program and its configuration: files, variables, `check`.
#![cfg(unix)]

use std::io::BufRead;
use std::process::{Command, Output};

use serde_json::Value;

#[path = "util/program.rs"]
mod util;
use util::{Ingest, PROGRAM, Scratch, number, run};

fn file(name: &str, text: &str) -> Scratch {
    let file = Scratch::new(name);
    std::fs::write(&file.0, text).unwrap();
    file
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What `check --json` prints.
fn checked(file: &Scratch) -> Value {
    serde_json::from_slice(&run(&["check", "--json", file.arg()]).stdout).unwrap()
}

#[test]
fn a_file_alone_runs_an_ingest_and_a_flag_goes_before_it() {
    let config = file("run", "bind = '127.0.0.1:0'\nsink = ['null']\njson = true\nduration = 20\n");
    let output = run(&["ingest", "--config", config.arg(), "--duration", "0.05"]);
    let account: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), account["sinks"][0]["sink"].as_str()), (Some(0), Some("null")));
    let mut command = Command::new(PROGRAM);
    command.arg("ingest").env("HIO_UDP_CONFIG", config.arg()).env("HIO_UDP_DURATION", "0.05");
    let output = command.env("HIO_UDP_JSON", "false").env("HIO_UDP_SINK", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8(output.stdout).unwrap().contains("delivered + kernel_dropped"));
}

#[test]
fn a_file_that_a_variable_names_is_reloaded_like_any_other() {
    let config = file("reload", "bind = '127.0.0.1:0'\njson = true\n");
    let mut command = Command::new(PROGRAM);
    command.arg("ingest").env("HIO_UDP_CONFIG", config.arg());
    let mut ingest = Ingest::spawn(command);
    std::fs::write(&config.0, "deny = '192.0.2.0/24'\njson = true\n").unwrap();
    ingest.signal("HUP");
    let mut line = String::new();
    ingest.stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "hio-udp: reloaded: deny; a restart is needed for bind\n");
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn a_file_that_has_become_a_pipe_is_not_waited_for_at_a_reload() {
    let config = file("pipe", "bind = '127.0.0.1:0'\njson = true\n");
    let mut ingest = Ingest::start("127.0.0.1:0", &["--config", config.arg()]);
    std::fs::remove_file(&config.0).unwrap();
    assert!(Command::new("mkfifo").arg(config.arg()).status().unwrap().success());
    ingest.signal("HUP");
    let mut line = String::new();
    ingest.stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("hio-udp: not reloaded: ") && line.contains("reload from a regular file"), "{line}");
    assert_eq!(ingest.stop().0, 0);
    // At the start it is read, as a shell's <(…) is.
    let text = std::thread::spawn({
        let path = config.0.clone();
        move || std::fs::write(path, "bc = 0\n")
    });
    let output = run(&["check", config.arg()]);
    assert!(said(&output).contains(":1: bc: '0'"), "{}", said(&output));
    text.join().unwrap().unwrap();
}

#[test]
fn a_wrong_file_is_one_clear_line_and_a_usage_error() {
    let config = file("wrong", "bc = 0\nbidn = 'x'\n");
    let output = run(&["ingest", "--config", config.arg()]);
    let line = said(&output);
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.contains(&format!("{}:1: bc: '0': want", config.arg())) && line.contains("1 more"), "{line}");
    for args in [["ingest", "--config", "/nowhere/at.all"], ["ingest", "--config", "/"]] {
        let output = run(&args);
        let line = said(&output);
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains(args[2]) && line.contains("cannot read it"), "{line}");
    }
}

#[test]
fn check_tells_all_that_is_wrong_with_lines() {
    let config = file("all", "bc = 0\n\nbidn = 'x'\nout = 5\nsink = ['null', 'tape:0']\n");
    let output = run(&["check", config.arg()]);
    let told = said(&output);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((output.status.code(), output.stdout.len(), lines.len()), (Some(1), 0, 5), "{told}");
    for (line, (at, parts)) in lines.iter().zip([
        (1, vec!["bc", "'0'", "from 1 to"]),
        (3, vec!["bidn", "did you mean bind?"]),
        (4, vec!["out", "in quotes"]),
        (5, vec!["sink", "'tape:0'", "pcapng:DIR"]),
    ]) {
        assert!(line.starts_with(&format!("{}:{at}: ", config.arg())), "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    let report = checked(&config);
    assert_eq!((report["valid"].as_bool(), report["problems"].as_array().unwrap().len()), (Some(false), 4));
    assert_eq!((number(&report["problems"][1], "line"), report["problems"][1]["key"].as_str()), (3, Some("bidn")));
}

#[test]
fn check_finds_what_only_all_options_together_show() {
    let config = file("together", "bc = 1\nrotate-every = '5m'\nsink = 'null'\n");
    let report = checked(&config);
    assert_eq!((report["valid"].as_bool(), number(&report["problems"][0], "line")), (Some(false), 2), "{report}");
    let config = file("twice", "sink = ['null', 'null']\n");
    assert_eq!(number(&checked(&config)["problems"][0], "line"), 1);
    let config = file("pins", "shards = 2\npin = [0, 1, 2]\n");
    assert_eq!(number(&checked(&config)["problems"][0], "line"), 2);
    let config = file("view", "sink = 'jsonl:-'\ntop = true\n");
    assert_eq!(number(&checked(&config)["problems"][0], "line"), 2);
    let config = file("demo", "demo = true\ncount = 5\n");
    assert_eq!(checked(&config)["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn all_that_only_all_options_together_show_is_told_at_once_by_check_and_by_the_start() {
    let config = file("several", "rotate-every = '5m'\nzstd = true\nsink = ['null', 'null']\nshards = 2\npin = [0]\n");
    let report = checked(&config);
    let problems = report["problems"].as_array().unwrap().iter();
    let lines: Vec<u64> = problems.map(|problem| number(problem, "line")).collect();
    assert_eq!(lines, [1, 2, 3, 5], "{report}");
    let output = run(&["ingest", "--config", config.arg()]);
    let line = said(&output);
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    for part in
        ["--rotate-every is about segments", "--zstd is about segments", "--sink null is given twice", "--pin names 1"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn what_check_prints_is_a_file_that_says_the_same() {
    let config =
        file("round", "bind = '127.0.0.1:0'\nbc = 0x10\nsink = ['pcapng:a\"b\\c', 'jsonl:ü\u{9}']\nzstd = true\n");
    let output = run(&["check", config.arg()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("bc = 16") && printed.contains("# line 2") && printed.contains("# default"), "{printed}");
    let values = |report: &Value| {
        let rows = report["options"].as_array().unwrap().iter();
        rows.map(|row| (row["name"].clone(), row["values"].clone())).collect::<Vec<_>>()
    };
    let again = file("again", &printed);
    assert_eq!(values(&checked(&again)), values(&checked(&config)));
    // Of the options themselves, not of what the environment adds.
    let output = Command::new(PROGRAM).args(["check", config.arg()]).env("HIO_UDP_BC", "7").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), printed);
}

#[test]
fn a_variable_is_named_when_it_is_wrong() {
    let output = Command::new(PROGRAM).arg("ingest").env("HIO_UDP_RCVBUF", "much").output().unwrap();
    let line = said(&output);
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.contains("HIO_UDP_RCVBUF: 'much': want bytes"), "{line}");
    let mut several = Command::new(PROGRAM);
    let output = several.arg("ingest").env("HIO_UDP_RCVBUF", "much").env("HIO_UDP_BC", "0").output().unwrap();
    let line = said(&output);
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.contains("HIO_UDP_RCVBUF: 'much'") && line.contains("HIO_UDP_BC: '0'"), "{line}");
    let args = ["ingest", "--bind", "127.0.0.1:0", "--duration", "0.01"];
    let output = Command::new(PROGRAM).args(args).env("HIO_UDP_ROTATE_EVRY", "5m").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).contains("did you mean HIO_UDP_ROTATE_EVERY?"), "{}", said(&output));
    // Other commands have no variables.
    let output = Command::new(PROGRAM).args(["doctor", "--json"]).env("HIO_UDP_RCVBUF", "much").output().unwrap();
    assert!(!said(&output).contains("HIO_UDP"), "{}", said(&output));
}

#[test]
fn files_that_are_no_configuration_are_refused_at_once() {
    let big = file("big", &"#".repeat((1 << 20) + 1));
    let output = run(&["check", big.arg()]);
    assert!(said(&output).contains("larger than 1048576 bytes"), "{}", said(&output));
    let binary = file("binary", "");
    std::fs::write(&binary.0, b"bc = 1\n\xff\xfe").unwrap();
    assert_eq!(number(&checked(&binary)["problems"][0], "line"), 2);
    assert_eq!(run(&["check"]).status.code(), Some(2));
}

/// The file that is installed, and what `check` says of a text.
fn packaged() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/hio-udp.toml")).unwrap()
}

fn options(text: &str, name: &str) -> Vec<Value> {
    let report = checked(&file(name, text));
    assert_eq!(report["valid"].as_bool(), Some(true), "{}", report["problems"]);
    report["options"].as_array().unwrap().clone()
}

#[test]
fn the_packaged_file_is_valid_and_shows_every_option() {
    let text = packaged();
    let as_it_is = options(&text, "packaged");
    // Comments begin with a blank, options that are commented out do not.
    let all: Vec<&str> =
        text.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)).collect();
    let uncommented = options(&all.join("\n"), "uncommented");
    for (row, shown) in as_it_is.iter().zip(&uncommented) {
        let name = row["name"].as_str().unwrap();
        if name == "demo" {
            continue; // nothing for a service
        }
        assert!(
            !shown["line"].is_null(),
            "packaging/hio-udp.toml does not show {name}: add what it does, and #{name} = …"
        );
        let is_default = row["line"].is_null() && !row["values"].as_array().unwrap().is_empty();
        assert!(
            !is_default || row["values"] == shown["values"],
            "packaging/hio-udp.toml shows another default of {name}"
        );
    }
}
