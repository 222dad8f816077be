//! Manual pages and completions of the built program.
#![cfg(unix)]

use std::process::{Command, Stdio};

#[path = "util/program.rs"]
mod util;
use util::{Dir, Scratch, run};

fn printed(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pages_are_printed_one_by_one_and_written_all_at_once() {
    let dir = Dir::new("manual");
    let folder = dir.0.join("new");
    printed(&["manual", "--out", folder.to_str().unwrap()]);
    for (args, page) in [(&["manual"][..], "hio-udp.1"), (&["manual", "ingest"], "hio-udp-ingest.1")] {
        assert_eq!(std::fs::read_to_string(folder.join(page)).unwrap(), printed(args));
    }
    let pages = std::fs::read_dir(&folder).unwrap().count();
    let commands = printed(&["--help"]);
    let commands = commands.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    // Each begins a line by two blanks; `help` has no page, the program itself has one.
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    assert_eq!(pages, names.count());
}

#[test]
fn an_unknown_command_and_a_folder_that_cannot_be_are_told() {
    let output = run(&["manual", "ingets"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("'ingets'") && said.contains("ingest, "), "{said}");
    let output = run(&["manual", "--out", "/dev/null/x"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("/dev/null/x") && said.contains("--out"), "{said}");
}

#[test]
fn completions_name_every_option_and_the_shell_reads_them() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for word in ["ingest", "rotate-every", "completions", "fsync"] {
            assert!(script.contains(word), "{shell} has no {word}");
        }
        let there = Command::new(shell).arg("-c").arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !["bash", "zsh", "fish"].contains(&shell) || there.is_err() {
            continue; // that shell is not here
        }
        let file = Scratch::new(shell);
        std::fs::write(&file.0, script).unwrap();
        let output = Command::new(shell).arg("-n").arg(&file.0).output().unwrap();
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
