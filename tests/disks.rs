//! The sinks of the built program on disks that fail and come back: what is written, what is counted, and that
//! nothing needs a restart.
#![cfg(target_os = "linux")]

#[path = "util/captures.rs"]
mod captures;
#[path = "util/program.rs"]
mod util;

use std::fs;
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::slice;

use captures::{read_capture, sequence};
use pcap_file::pcapng::PcapNgReader;
use serde_json::Value;
use util::{Dir, Ingest, PROGRAM, assert_adds_up, blast, number, troubles, wait_past_trouble, wait_until};

/// A disk of its own, which only the program sees; not every system lets one make it.
struct Disk {
    dir: Dir,
    mount: String,
}

impl Disk {
    /// With these options of mount(8).
    fn new(name: &str, options: &str) -> Option<Self> {
        let dir = Dir::new(name);
        let mount = format!("mount -t tmpfs -o {options} tmpfs {}", dir.0.display());
        let can = Command::new("unshare").args(["-rm", "sh", "-c", &mount]).stderr(Stdio::null()).status();
        if can.is_ok_and(|status| status.success()) {
            return Some(Self { dir, mount });
        }
        println!("left out: this system lets nobody mount a disk of his own");
        None
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &format!("{}; exec \"$0\" \"$@\"", self.mount), PROGRAM]);
        command.args(["ingest", "--json", "--bind", "127.0.0.1:0"]).args(args);
        command
    }

    fn ingest(&self, args: &[&str]) -> Ingest {
        Ingest::spawn(self.command(args))
    }

    /// The disk as others can see it.
    fn seen_through(&self, ingest: &Ingest) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", ingest.child.id(), self.dir.0.display()))
    }

    /// Whether its mount could be changed so.
    fn remount(&self, ingest: &Ingest, how: &str) -> bool {
        let pid = ingest.child.id().to_string();
        let inside = ["--preserve-credentials", "-U", "-m", "-t", &pid, "mount", "-o", &format!("remount,{how}")];
        let mut command = Command::new("nsenter");
        command.args(inside).arg(&self.dir.0).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// What a test sends, and how much.
struct Load<'a> {
    ingest: &'a Ingest,
    sent: u64,
}

impl<'a> Load<'a> {
    fn to(ingest: &'a Ingest) -> Self {
        Self { ingest, sent: 0 }
    }

    fn send(&mut self, count: &str) {
        self.sent += number(&blast(self.ingest.addr, &["--count", count, "--rate", "20000"]), "sent");
    }
}

/// Starts an ingest that has received a hundred datagrams, of which `written` tells how many are there.
fn start_with_a_hundred(args: &[&str], written: impl Fn() -> u64) -> Ingest {
    let ingest = Ingest::start("127.0.0.1:0", args);
    Load::to(&ingest).send("100");
    wait_until("the first hundred", || written() == 100);
    ingest
}

/// Files in a directory whose names end so, in order; none if it is not there.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    found.sort();
    found
}

fn packets_in(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|path| read_capture(path).0.len() as u64).sum()
}

/// Packets that can be read from the start of captures that are being written.
fn readable(paths: &[PathBuf]) -> u64 {
    let read = |path: &PathBuf| {
        let Ok(mut reader) = PcapNgReader::new(fs::File::open(path).ok()?) else { return None };
        let blocks =
            std::iter::from_fn(|| reader.next_block()?.ok().map(|block| block.into_enhanced_packet().is_some()));
        Some(blocks.filter(|is_packet| *is_packet).count() as u64)
    };
    paths.iter().filter_map(read).sum()
}

/// Whole lines in a file that is being written.
fn lines_so_far(path: &Path) -> u64 {
    fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u64
}

fn lines_in(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "a torn line in {path:?}");
    text.lines().count() as u64
}

/// Sets a limit of a running ingest, as prlimit(1) names it.
fn set_limit(ingest: &Ingest, limit: &str) {
    let args = ["--pid", &ingest.child.id().to_string(), &format!("--{limit}")];
    assert!(Command::new("prlimit").args(args).status().unwrap().success());
}

fn assert_one_trouble(said: &str, begins: &str) {
    assert_eq!(troubles(said, begins), (1, 1), "{said}");
}

/// Checks the account of the only sink, and gives how many it has written and how many it lacks.
fn written_and_not(account: &Value, sent: u64) -> (u64, u64) {
    assert_adds_up(account, sent);
    let reasons = account["sinks"][0]["not_written_by_reason"].as_object().unwrap();
    let lacking: u64 = reasons.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(lacking, number(account, "not_written"), "{account}");
    assert_eq!(number(account, "written") + lacking, number(account, "delivered"), "{account}");
    (number(account, "written"), lacking)
}

#[test]
fn a_disk_that_is_read_only_at_the_start_is_one_line_that_names_the_place() {
    let Some(disk) = Disk::new("read-only-start", "ro,mode=755") else { return };
    let place = disk.dir.0.display();
    let out = format!("{place}/out");
    let sinks = [format!("pcapng:{place}"), format!("pcapng:{place}/new"), format!("jsonl:{place}/log")];
    let places = sinks.iter().map(|sink| ("--sink", sink)).chain([("--out", &out)]);
    for (option, place) in places {
        let output = disk.command(&[option, place]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(place) && said.contains("Read-only file system"), "{said}");
    }
}

#[test]
fn a_disk_that_becomes_read_only_is_told_once_and_writing_goes_on_when_it_is_not() {
    let Some(disk) = Disk::new("read-only", "size=10m") else { return };
    let sink = format!("pcapng:{}", disk.dir.0.display());
    let ingest = disk.ingest(&["--sink", &sink, "--rotate-every", "0.2"]);
    let seen = disk.seen_through(&ingest);
    let mut load = Load::to(&ingest);
    load.send("100");
    // A disk cannot become read-only while something writes to it.
    wait_until("the first segments", || readable(&files(&seen, ".pcapng")) == 100 && files(&seen, ".part").is_empty());
    wait_until("a read-only disk", || disk.remount(&ingest, "ro"));
    load.send("200");
    wait_past_trouble();
    assert!(disk.remount(&ingest, "rw"));
    load.send("300");
    wait_until("all that is written", || readable(&files(&seen, ".pcapng")) == 400);
    let (stored, sent) = (packets_in(&files(&seen, ".pcapng")), load.sent);
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_one_trouble(&said, "cannot begin a segment: Read-only file system");
    assert_eq!((written_and_not(&account, sent), stored), ((400, 200), 400), "{account}");
}

#[test]
fn lines_of_json_on_a_full_disk_are_counted_and_written_again_when_there_is_room() {
    let Some(disk) = Disk::new("full", "size=1m") else { return };
    let ingest = disk.ingest(&["--sink", &format!("jsonl:{}", disk.dir.0.join("log").display())]);
    let (seen, mut load) = (disk.seen_through(&ingest), Load::to(&ingest));
    let (log, ballast) = (seen.join("log"), seen.join("ballast"));
    let before = fill_and_make_room(&log, &ballast, &mut load);
    let sent = load.sent;
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_one_trouble(&said, "cannot write: No space left on device");
    assert_eq!(written_and_not(&account, sent), (before + 300, 4000 - before), "{account}");
}

#[test]
fn a_capture_on_a_full_disk_names_the_reason_for_all_that_it_lacks() {
    let Some(disk) = Disk::new("full-out", "size=1m") else { return };
    let ingest = disk.ingest(&["--out", disk.dir.0.join("out").to_str().unwrap()]);
    // The disk goes with the program, but for what is open.
    let out = fs::File::open(disk.seen_through(&ingest).join("out")).unwrap();
    blast(ingest.addr, &["--count", "5000", "--rate", "20000", "--size", "1000"]);
    let (code, account, said) = ingest.end();
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("No space left on device") && said.contains("free some space"), "{said}");
    let [written, lacking, delivered] = ["written", "not_written", "delivered"].map(|name| number(&account, name));
    assert!(written > 0 && lacking > 0 && written + lacking == delivered, "{account}");
    let reasons = serde_json::json!({ "No space left on device (os error 28)": lacking });
    assert_eq!(account["sinks"][0]["not_written_by_reason"], reasons, "{account}");
    let (packets, _) = read_capture(Path::new(&format!("/proc/self/fd/{}", out.as_raw_fd())));
    let sequences: Vec<u64> = packets.iter().map(|packet| sequence(packet.payload())).collect();
    assert_eq!(sequences, (0..written).collect::<Vec<u64>>(), "the first that came, without a hole");
}

/// Fills the disk of `log`, makes room, and waits until 300 more are written; gives how many lines there were before.
fn fill_and_make_room(log: &Path, ballast: &Path, load: &mut Load) -> u64 {
    fs::write(ballast, vec![1; 700 << 10]).unwrap();
    load.send("4000"); // a megabyte
    wait_until("a full disk", || lines_so_far(log) > 500);
    wait_past_trouble();
    fs::remove_file(ballast).unwrap();
    let before = lines_in(log);
    load.send("300");
    wait_until("the last datagram", || lines_so_far(log) == before + 300);
    before
}

#[test]
fn what_others_add_to_a_file_of_lines_stays_when_a_line_that_is_not_whole_is_cut() {
    let dir = Dir::new("others");
    let log = dir.0.join("log");
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &format!("jsonl:{}", log.display())]);
    let mut load = Load::to(&ingest);
    load.send("10");
    wait_until("the first ten", || lines_so_far(&log) == 10);
    let mut other = fs::File::options().append(true).open(&log).unwrap();
    other.write_all(&b"{}\n".repeat(500)).unwrap();
    let room = fs::metadata(&log).unwrap().len() + 1000; // for three lines and a part of the next
    set_limit(&ingest, &format!("fsize={room}:"));
    load.send("100");
    wait_until("a file that takes no more", || lines_so_far(&log) > 510);
    wait_past_trouble();
    set_limit(&ingest, "fsize=unlimited:");
    let before = lines_so_far(&log);
    load.send("20");
    wait_until("the last twenty", || lines_so_far(&log) == before + 20);
    let sent = load.sent;
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    let (written, _) = written_and_not(&account, sent);
    assert_eq!(written + 500, lines_in(&log), "{account}");
}

#[test]
fn a_file_of_lines_that_is_emptied_is_written_to_from_its_start_and_never_filled_with_zeros() {
    let Some(disk) = Disk::new("emptied", "size=1m") else { return };
    let ingest = disk.ingest(&["--sink", &format!("jsonl:{}", disk.dir.0.join("log").display())]);
    let (seen, mut load) = (disk.seen_through(&ingest), Load::to(&ingest));
    let (log, ballast) = (seen.join("log"), seen.join("ballast"));
    load.send("100");
    wait_until("the first hundred", || lines_so_far(&log) == 100);
    fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap(); // as logrotate's copytruncate does
    fill_and_make_room(&log, &ballast, &mut load);
    let (sent, left) = (load.sent, lines_in(&log));
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_eq!(written_and_not(&account, sent).0, 100 + left, "{account}");
}

#[test]
fn a_directory_that_is_removed_and_made_again_is_written_to_again() {
    let dir = Dir::new("made-again");
    let kept = dir.0.join("kept");
    let sink = format!("pcapng:{}", kept.display());
    let ingest = start_with_a_hundred(&["--sink", &sink], || readable(&files(&kept, ".part")));
    let mut load = Load { ingest: &ingest, sent: 100 };
    fs::remove_dir_all(&kept).unwrap();
    load.send("50");
    wait_past_trouble();
    fs::create_dir(&kept).unwrap();
    load.send("30");
    wait_until("the last thirty", || readable(&files(&kept, ".part")) == 30);
    let sent = load.sent;
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_one_trouble(&said, "cannot write: the segment was removed");
    assert_eq!(written_and_not(&account, sent), (30, 150), "{account}");
    assert_eq!(packets_in(&files(&kept, ".pcapng")), 30);
}

#[test]
fn a_file_of_lines_that_is_removed_is_begun_anew_and_what_was_in_it_counts_as_lost() {
    let dir = Dir::new("removed-log");
    let log = dir.0.join("log");
    let sink = format!("jsonl:{}", log.display());
    let ingest = start_with_a_hundred(&["--sink", &sink], || lines_so_far(&log));
    let mut load = Load { ingest: &ingest, sent: 100 };
    fs::remove_file(&log).unwrap();
    load.send("50");
    wait_until("the next fifty", || lines_so_far(&log) == 50);
    let sent = load.sent;
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("was removed")).count(), 2, "then, and in the end: {said}");
    assert_eq!((written_and_not(&account, sent), lines_in(&log)), ((50, 100), 50), "{account}");
}

#[test]
fn a_file_of_lines_that_cannot_be_opened_anew_is_gone_on_with_until_it_can() {
    let dir = Dir::new("put-aside");
    let (log, aside) = (dir.0.join("log"), dir.0.join("log.1"));
    let sink = format!("jsonl:{}", log.display());
    let mut ingest = start_with_a_hundred(&["--sink", &sink], || lines_so_far(&log));
    let mut sent = 100;
    let mut send_to = |file: &Path, ingest: &Ingest, count: &str, lines: u64| {
        let mut load = Load::to(ingest);
        load.send(count);
        sent += load.sent;
        wait_until("the lines", || lines_so_far(file) == lines);
    };
    fs::rename(&log, &aside).unwrap();
    send_to(&aside, &ingest, "10", 110); // until it is told, it goes on there
    set_limit(&ingest, "nofile=3:1024");
    ingest.signal("USR1");
    let mut said = String::new();
    ingest.stderr.read_line(&mut said).unwrap();
    assert!(said.contains("cannot open it anew: Too many open files"), "{said}");
    send_to(&aside, &ingest, "50", 160);
    wait_past_trouble();
    send_to(&aside, &ingest, "50", 210);
    set_limit(&ingest, "nofile=1024:1024");
    wait_until("the file", || log.exists());
    wait_past_trouble();
    send_to(&log, &ingest, "30", 30);
    let (code, account, more) = ingest.stop();
    said += &more;
    assert_eq!(code, 0, "{said}");
    assert_one_trouble(&said, "cannot open it anew");
    assert_eq!(written_and_not(&account, sent), (240, 0), "{account}");
    assert_eq!((lines_in(&log), lines_in(&aside)), (30, 210));
}

#[test]
fn a_file_of_lines_whose_directory_is_removed_is_counted_until_it_is_back() {
    let dir = Dir::new("removed-log-directory");
    let place = dir.0.join("place");
    fs::create_dir(&place).unwrap();
    let log = place.join("log");
    let sink = format!("jsonl:{}", log.display());
    let ingest = start_with_a_hundred(&["--sink", &sink], || lines_so_far(&log));
    let mut load = Load { ingest: &ingest, sent: 100 };
    fs::remove_dir_all(&place).unwrap();
    load.send("50");
    wait_past_trouble();
    fs::create_dir(&place).unwrap();
    load.send("30");
    wait_until("the last thirty", || lines_so_far(&log) == 30);
    let sent = load.sent;
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_one_trouble(&said, "cannot write: the file was removed");
    assert_eq!((written_and_not(&account, sent), lines_in(&log)), ((30, 150), 30), "{account}");
}

#[test]
fn a_capture_that_is_removed_while_it_is_written_ends_the_ingest_and_counts_as_lost() {
    let dir = Dir::new("removed-out");
    let out = dir.0.join("out");
    let ingest = start_with_a_hundred(&["--out", out.to_str().unwrap()], || readable(slice::from_ref(&out)));
    fs::remove_file(&out).unwrap();
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains(out.to_str().unwrap()) && said.contains("was removed"), "{said}");
    assert_eq!(written_and_not(&account, 100), (0, 100), "{account}");
}

#[test]
fn a_segment_that_cannot_be_removed_is_told_once_and_newer_ones_are_removed_all_the_same() {
    let dir = Dir::new("stuck");
    let stuck = dir.join("20240229T235959Z-000001.pcapng");
    fs::write(&stuck, "old").unwrap();
    // What something is mounted on cannot be removed, by root neither.
    let mount = format!("mount --bind {stuck} {stuck}");
    let mut command = Command::new("unshare");
    if !command.args(["-rm", "sh", "-c", &mount]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return println!("left out: this system lets nobody mount a disk of his own");
    }
    let sink = format!("pcapng:{}", dir.0.display());
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{mount}; exec \"$0\" \"$@\""), PROGRAM, "ingest", "--json"]);
    command.args(["--bind", "127.0.0.1:0", "--sink", &sink, "--rotate-every", "0.1", "--keep-bytes", "50K"]);
    let ingest = Ingest::spawn(command);
    let mut load = Load::to(&ingest);
    let segments = || files(&dir.0, ".pcapng");
    for _ in 0..10 {
        let before = segments().last().cloned();
        load.send("100");
        wait_until("another segment", || segments().last().cloned() > before);
    }
    wait_until("what is kept", || segments().len() < 6);
    let sent = load.sent;
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.lines().count()), (0, 1), "{said}");
    assert!(said.contains(&stuck) && said.contains("cannot remove"), "{said}");
    assert_eq!(written_and_not(&account, sent), (sent, 0), "{account}");
    let bytes: u64 = segments().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(Path::new(&stuck).exists() && bytes <= 50 << 10, "{bytes} in {:?}", segments());
}

#[test]
fn a_directory_that_cannot_be_looked_into_for_old_segments_is_told_once() {
    let dir = Dir::new("no-look");
    let args = ["--sink", &format!("pcapng:{}", dir.0.display()), "--keep-for", "1h"];
    let mut ingest = Ingest::start("127.0.0.1:0", &args);
    let mut line = String::new();
    set_limit(&ingest, "nofile=3:1024");
    ingest.stderr.read_line(&mut line).unwrap();
    assert!(line.contains(args[1]) && line.contains("look for old segments: Too many open files"), "{line}");
    line.clear();
    set_limit(&ingest, "nofile=1024:1024");
    ingest.stderr.read_line(&mut line).unwrap();
    assert!(line.contains("works again"), "{line}");
    let (code, _, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn no_descriptor_left_for_a_segment_is_told_once_and_writing_goes_on_when_there_is_one() {
    let dir = Dir::new("descriptors");
    let kept = dir.0.join("kept");
    let args = ["--sink", &format!("pcapng:{}", kept.display()), "--rotate-every", "0.2"];
    let ingest = Ingest::start("127.0.0.1:0", &args);
    let mut load = Load::to(&ingest);
    load.send("100");
    wait_until("the first segments", || readable(&files(&kept, ".pcapng")) == 100 && files(&kept, ".part").is_empty());
    set_limit(&ingest, "nofile=3:1024");
    load.send("200");
    wait_past_trouble();
    set_limit(&ingest, "nofile=1024:1024");
    load.send("300");
    wait_until("all that is written", || readable(&files(&kept, ".pcapng")) == 400);
    let sent = load.sent;
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_one_trouble(&said, "cannot begin a segment: Too many open files");
    assert_eq!(written_and_not(&account, sent), (400, 200), "{account}");
    assert_eq!(packets_in(&files(&kept, ".pcapng")), 400);
}
