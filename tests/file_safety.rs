//! Files of `ingest` in directories where others are: who may read them, and what a planted link brings about.
#![cfg(unix)]

#[path = "util/program.rs"]
mod util;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use util::{Dir, Ingest, PROGRAM, blast, limited, run, wait_until};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_datagrams_are_written_to_is_read_by_its_owner_and_its_group_only() {
    let dir = Dir::new("modes");
    let (out, lines, segments) = (dir.join("out.pcapng"), dir.join("lines.jsonl"), dir.join("segments"));
    let sinks = [format!("jsonl:{lines}"), format!("pcapng:{segments}")];
    let args = ["--out", &out, "--sink", &sinks[0], "--sink", &sinks[1], "--zstd"];
    let command = limited("umask 0", &[&["ingest", "--json", "--bind", "127.0.0.1:0"][..], &args].concat());
    let ingest = Ingest::spawn(command);
    assert!(!ingest.noted.contains("others may"), "{}", ingest.noted);
    blast(ingest.addr, &["--count", "10", "--rate", "max"]);
    assert_eq!(ingest.stop().0, 0);
    let closed: Vec<PathBuf> = fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!(mode(Path::new(&segments)), 0o750);
    for path in closed.iter().map(PathBuf::as_path).chain([&out, &lines].map(Path::new)) {
        assert_eq!(mode(path), 0o640, "{path:?}");
    }
}

#[test]
fn a_link_under_the_name_of_a_file_is_one_line_and_what_it_leads_to_stays_as_it_is() {
    let dir = Dir::new("links");
    let (victim, link) = (dir.join("victim"), dir.join("link"));
    fs::write(&victim, "kept").unwrap();
    symlink(&victim, &link).unwrap();
    for args in [["--out".to_owned(), link.clone()], ["--sink".to_owned(), format!("jsonl:{link}")]] {
        let output = run(&["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1", &args[0], &args[1]]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&link) && said.contains("a symbolic link, which is not followed"), "{said}");
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
    }
    // Where the program has only another name for a file that is open already.
    let mut command = Command::new(PROGRAM);
    command.args(["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1", "--json", "--out", "/dev/stderr"]);
    assert_eq!(command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap().status.code(), Some(0));
}

#[test]
fn a_start_that_fails_leaves_the_file_of_out_as_it_was_and_makes_none_that_was_not_there() {
    let dir = Dir::new("failed-start");
    let (old, new) = (dir.join("old.pcapng"), dir.join("new.pcapng"));
    let (port, listener) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = [port.local_addr().unwrap(), listener.local_addr().unwrap()].map(|address| address.to_string());
    let held = "kept".repeat(10_000);
    fs::write(&old, &held).unwrap();
    for out in [&old, &new] {
        for args in [
            ["--sink", "jsonl:/no/such/directory/x"],
            ["--sink", "pcapng:/no/such/directory/x"],
            ["--sink", &format!("jsonl:{out}")],
            ["--bind", &taken[0]],
            ["--metrics", &taken[1]],
            ["--user", "no-such-user-here"],
            ["--pin", "100000"],
        ] {
            let output =
                run(&[&["ingest", "--duration", "0.1", "--bind", "127.0.0.1:0", "--out", out], &args[..]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{args:?}: {said}");
            assert_eq!(fs::read_to_string(&old).unwrap(), held, "{args:?}");
            assert!(!fs::exists(&new).unwrap(), "{args:?}");
        }
    }
    let output = run(&["ingest", "--duration", "0.1", "--bind", "127.0.0.1:0", "--out", &old]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = fs::read(&old).unwrap();
    assert!(bytes.len() < held.len() && bytes.starts_with(&[0x0A, 0x0D, 0x0D, 0x0A]), "{} bytes", bytes.len());
}

#[test]
fn the_file_of_a_demo_is_read_by_its_owner_and_its_group_only() {
    let dir = Dir::new("demo-mode");
    let mut command = limited("umask 0", &["ingest", "--demo", "--json"]);
    let mut demo = command.env("TMPDIR", &dir.0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let file = || fs::read_dir(&dir.0).unwrap().next().map(|entry| entry.unwrap().path());
    wait_until("the demo's file", || file().is_some());
    let mode = mode(&file().unwrap());
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert_eq!(mode, 0o640);
}

#[test]
fn a_demo_that_cannot_start_leaves_no_file() {
    let dir = Dir::new("failed-demo");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = listener.local_addr().unwrap().to_string();
    let mut command = Command::new(PROGRAM);
    let output = command.args(["ingest", "--demo", "--metrics", &metrics]).env("TMPDIR", &dir.0).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
}

#[test]
#[cfg(target_os = "linux")] // for its `date`
fn links_under_the_names_of_coming_segments_are_left_alone() {
    let dir = Dir::new("segments");
    let victim = dir.join("victim");
    fs::write(&victim, "kept").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for second in now..now + 60 {
        let date = Command::new("date").args(["-u", "-d", &format!("@{second}"), "+%Y%m%dT%H%M%SZ"]).output().unwrap();
        let time = String::from_utf8(date.stdout).unwrap();
        symlink(&victim, dir.join(&format!("{}-000001.pcapng.part", time.trim()))).unwrap();
    }
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o777)).unwrap();
    let sink = format!("pcapng:{}", dir.0.display());
    let output = run(&["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1", "--sink", &sink]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("others may write to this directory"), "{said}");
    assert!(said.contains(&sink) && said.contains("exists"), "{said}");
    assert_eq!(fs::read(&victim).unwrap(), b"kept");
}

#[test]
fn names_with_the_highest_numbers_in_a_directory_of_segments_are_no_panic_and_what_is_written_stays_in_order() {
    let dir = Dir::new("numbers");
    let sink = format!("pcapng:{}", dir.0.display());
    let args = ["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1", "--sink", &sink];
    let foreign = |number: &str| dir.join(&format!("20240229T235959Z-{number}.pcapng"));
    // Longer than any that is given: none of ours.
    for number in ["18446744073709551615", "18446744073709551614", "1000000000000"] {
        fs::write(foreign(number), "").unwrap();
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{number}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (number, is_last) in [("999999999998", false), ("999999999999", true)] {
        fs::write(foreign(number), "").unwrap();
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(is_last)), "{said}");
        assert!(!is_last || (said.lines().count() == 1 && said.contains("999999999999")), "{said}");
    }
}
