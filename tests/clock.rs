//! The built program while its wall clock is stepped: an hour forward, an hour back, to before 1970.
//!
//! Needs libfaketime (Debian: faketime), which gives the program a wall clock of the test's own; the machine's is
//! left alone, and so are the clock that only goes forward, the kernel's stamps and the times of files. Without it
//! these are left out; with `HIO_UDP_FAKETIME=1` they must run.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

#[path = "util/captures.rs"]
mod captures;
#[path = "util/program.rs"]
mod util;
use captures::{read_capture, sequence};
use util::{Dir, Ingest, PROGRAM, Scratch, assert_adds_up, blast, number, run, wait_until};

const HOUR: Duration = Duration::from_secs(3600);

/// Offsets from the real time, one after the other; 70 years ago is before 1970.
const STEPS: [&str; 5] = ["+0", "+3600", "-3600", "-70y", "+0"];

/// A wall clock for programs, which is stepped by what stands in a file.
struct Clock {
    preloaded: String,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right. `None`, with a line that says so, without libfaketime.
    fn new(dir: &Dir) -> Option<Self> {
        let preloaded = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        if !Path::new(&preloaded).exists() {
            assert!(std::env::var("HIO_UDP_FAKETIME").as_deref() != Ok("1"), "there is no {preloaded}");
            println!("left out: needs {preloaded}");
            return None;
        }
        let clock = Self { preloaded, file: dir.0.join("clock") };
        clock.step("+0");
        Some(clock)
    }

    /// Moves the clock to so much from the real time, at one moment.
    fn step(&self, offset: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, offset).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    /// The program by this clock.
    fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).env("LD_PRELOAD", &self.preloaded).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.envs(["FAKETIME_NO_CACHE", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"].map(|name| (name, "1")));
        command
    }

    fn ingest(&self, args: &[&str]) -> Ingest {
        Ingest::spawn(self.program(&[&["ingest", "--json", "--bind", "127.0.0.1:0"], args].concat()))
    }

    /// Steps until the program ends; gives what it printed and how long it took.
    fn step_during(&self, args: &[&str]) -> (Value, Duration) {
        let start = Instant::now();
        let mut child = self.program(args).stdout(Stdio::piped()).spawn().unwrap();
        for offset in STEPS.iter().cycle() {
            self.step(offset);
            if !is_running_after(&mut child, Duration::from_millis(100)) {
                break;
            }
        }
        let took = start.elapsed();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        (serde_json::from_slice(&output.stdout).unwrap(), took)
    }
}

fn is_running_after(child: &mut Child, wait: Duration) -> bool {
    let deadline = Instant::now() + wait;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Closed segments by their numbers, which go on from one to the next.
fn segments(dir: &Path) -> Vec<(u64, PathBuf)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let numbered = paths.filter_map(|path| {
        let (_, number) = path.file_name()?.to_str()?.strip_suffix(".pcapng")?.split_once('-')?;
        Some((number.parse().unwrap(), path))
    });
    let mut found: Vec<_> = numbered.collect();
    found.sort();
    found
}

/// Puts a closed segment of an earlier run into a directory, last written at `time`.
fn leave_segment(dir: &Path, name: &str, time: SystemTime) -> PathBuf {
    let path = dir.join(name);
    let file = File::create_new(&path).unwrap();
    file.set_modified(time).unwrap();
    path
}

fn secs(value: &Value) -> f64 {
    value["seconds"].as_f64().unwrap()
}

#[test]
fn steps_of_the_clock_remove_no_segment_and_leave_account_and_files_exact() {
    let dir = Dir::new("steps");
    let Some(clock) = Clock::new(&dir) else { return };
    let (kept, lines) = (dir.0.join("kept"), dir.0.join("lines"));
    let (kept_sink, lines_sink) = (format!("pcapng:{}", kept.display()), format!("jsonl:{}", lines.display()));
    let args = ["--stamp", "batch", "--rotate-every", "0.3", "--keep-for", "30m", "--sink", &kept_sink];
    let start = Instant::now();
    let ingest = clock.ingest(&[&args[..], &["--sink", &lines_sink]].concat());
    let mut sent = 0;
    for offset in STEPS {
        clock.step(offset);
        // Rotation goes on at its pace, and whoever closes a segment looks for those that are too old.
        let before = segments(&kept).len();
        wait_until("the next segments", || {
            sent += number(&blast(ingest.addr, &["--count", "50", "--rate", "1000"]), "sent");
            segments(&kept).len() >= before + 2
        });
        assert!(segments(&kept)[0].0 == 1, "{offset}: the first segment is gone");
    }
    let stopped = Instant::now();
    clock.step("+3600");
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(stopped.elapsed() < util::PATIENCE, "a stop waits for no clock");
    assert_adds_up(&account, sent);
    assert!(secs(&account) <= start.elapsed().as_secs_f64(), "{account}");
    assert!(account["sinks"].as_array().unwrap().iter().all(|sink| number(sink, "written") == sent), "{account}");

    let found = segments(&kept);
    assert!(found.iter().map(|(number, _)| *number).eq(1..=found.len() as u64), "{found:?}");
    assert!(found.len() as f64 <= start.elapsed().as_secs_f64() / 0.3 + 1.0, "{found:?}");
    // Before 1970 there is no time for names and captures, so that is the first there is.
    assert!(found.iter().any(|(_, path)| path.to_str().unwrap().contains("/19700101T000000Z-")), "{found:?}");
    let packets: Vec<_> = found.iter().flat_map(|(_, path)| read_capture(path).0).collect();
    assert_eq!(packets.len() as u64, sent);
    let steps = packets.windows(2).filter(|pair| pair[0].time.abs_diff(pair[1].time) > HOUR / 2).count();
    // The last of them may have been read only after the last step.
    assert!((STEPS.len() - 1..=STEPS.len()).contains(&steps), "{steps} steps in {found:?}");
    let in_order = packets.chunks(50).all(|blast| blast.iter().map(|packet| sequence(packet.payload())).eq(0..50));
    assert!(in_order, "the numbers of segments tell the order");
    let paths: Vec<&str> = found.iter().map(|(_, path)| path.to_str().unwrap()).collect();
    let report = run(&[&["inspect", "--json"], &paths[..]].concat());
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((number(&report, "udp"), number(&report, "damaged_bytes")), (sent, 0), "{report}");
    let text = fs::read_to_string(&lines).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert_eq!(text.lines().count() as u64, sent);
}

#[test]
fn a_clock_that_is_set_back_keeps_old_segments_no_longer() {
    let dir = Dir::new("back");
    let Some(clock) = Clock::new(&dir) else { return };
    let kept = dir.0.join("kept");
    fs::create_dir(&kept).unwrap();
    let now = SystemTime::now();
    let old = leave_segment(&kept, "20200101T000000Z-000001.pcapng", now - HOUR);
    let of_the_future = leave_segment(&kept, "20200101T000000Z-000002.pcapng", now + HOUR);
    let sink = format!("pcapng:{}", kept.display());
    let start = Instant::now();
    let ingest = clock.ingest(&["--rotate-every", "0.1", "--keep-for", "2", "--sink", &sink]);
    wait_until("the removal of what was old at the start", || !old.exists());
    clock.step("-3600");
    wait_until("two segments of its own", || {
        blast(ingest.addr, &["--count", "50", "--rate", "1000"]);
        segments(&kept).last().is_some_and(|(number, _)| *number >= 4)
    });
    assert!(of_the_future.exists() || start.elapsed() > Duration::from_secs(2), "it is no older than this run");
    wait_until("the removal of all but the newest", || segments(&kept).len() == 1);
    assert!(!of_the_future.exists());
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn an_ingest_of_a_duration_ends_after_it_whatever_the_clock_says() {
    let dir = Dir::new("duration");
    let Some(clock) = Clock::new(&dir) else { return };
    let (_, took) = clock.step_during(&["ingest", "--json", "--bind", "127.0.0.1:0", "--duration", "1"]);
    assert!((Duration::from_secs(1)..util::PATIENCE).contains(&took), "{took:?}");
}

#[test]
fn blast_and_replay_keep_their_pace_whatever_the_clock_says() {
    let dir = Dir::new("pace");
    let Some(clock) = Clock::new(&dir) else { return };
    let file = Scratch::new("pace");
    let ingest = Ingest::start("127.0.0.1:0", &["--out", file.arg()]);
    let to = ingest.addr.to_string();
    let (report, took) = clock.step_during(&["blast", "--json", "--to", &to, "--rate", "500", "--duration", "1"]);
    let (sent, seconds) = (number(&report, "sent"), secs(&report));
    assert!((1.0..=took.as_secs_f64()).contains(&seconds) && took < util::PATIENCE, "{took:?}: {report}");
    assert!(sent > 0 && sent as f64 <= 500.0 * seconds + 1.0, "{report}");
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 0, "{said}");
    assert_adds_up(&account, sent);
    let packets = read_capture(&file.0).0;
    let span = packets.last().unwrap().time - packets[0].time;
    let (report, took) = clock.step_during(&["replay", "--json", "--to", "127.0.0.1:9", file.arg()]);
    assert_eq!(number(&report, "packets"), sent);
    assert!(secs(&report) >= span.as_secs_f64() && took < span + util::PATIENCE, "{span:?}, {took:?}: {report}");
}
