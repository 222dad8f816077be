//! `--log` of the built program: what is told, and that a flood makes no flood of lines.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "util/program.rs"]
mod util;
use util::{PROGRAM, Scratch, blast, number, run, send_signal};

/// A running `ingest --log json`.
struct Logged {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    events: Vec<Value>,
}

impl Logged {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["ingest", "--json", "--bind", "127.0.0.1:0", "--log", "json"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, events: Vec::new() }
    }

    /// Reads on until this has happened.
    fn until(&mut self, name: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "no {name}: {:?}", self.events);
            self.events.push(event(&line));
            if self.events.last().unwrap()["event"] == name {
                return self.events.last().unwrap().clone();
            }
        }
    }

    /// Stops it: everything it told, and its account.
    fn stop(mut self) -> (Vec<Value>, Value) {
        assert!(send_signal("TERM", self.child.id()));
        let (mut told, mut printed) = (String::new(), String::new());
        self.stderr.read_to_string(&mut told).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        self.child.wait().unwrap();
        self.events.extend(told.lines().map(event));
        (std::mem::take(&mut self.events), serde_json::from_str(&printed).unwrap())
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// A line is an object with a time, a level and a name.
fn event(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    for name in ["time", "level", "event"] {
        assert!(event[name].is_string(), "{line}");
    }
    event
}

fn named<'e>(events: &'e [Value], name: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn a_flood_of_drops_refusals_and_errors_is_told_in_few_lines() {
    let since = Instant::now();
    let args = ["--rcvbuf", "4096", "--rate-limit", "10", "--deny", "127.0.0.2", "--sink", "unix:/no/such/socket"];
    let mut logged = Logged::start(&args);
    let started = logged.until("started");
    let listener = &started["listeners"][0];
    let to: SocketAddr = listener["bind"].as_str().unwrap().parse().unwrap();
    assert!(number(listener, "receive_buffer_bytes") > 0 && started["backend"] != "", "{started}");
    let denied = UdpSocket::bind("127.0.0.2:0").ok();
    let is_stopped = send_signal("STOP", logged.child.id());
    blast(to, &["--count", "2000", "--rate", "max"]);
    assert!(is_stopped && send_signal("CONT", logged.child.id()));
    for _ in 0..20 {
        blast(to, &["--count", "1000", "--rate", "max"]);
        denied.iter().for_each(|socket| (0..100).for_each(|_| _ = socket.send_to(b"x", to).unwrap()));
    }
    logged.until("rate_limited");
    let (events, account) = logged.stop();

    // One a time, whatever the time was: a machine may be slow.
    let times = 1 + since.elapsed().as_secs() as usize / 10;
    assert!(events.len() <= 8 + 3 * times, "{events:#?}");
    let limited = named(&events, "rate_limited")[0];
    assert_eq!(number(limited, "sources"), 1, "{limited}");
    assert!(number(limited, "datagrams") <= number(&account, "rate_limited"));
    assert_eq!(named(&events, "sink_trouble").len(), 1, "{events:#?}");
    let stopped = named(&events, "stopped")[0];
    assert_eq!(stopped["account"]["delivered"], account["delivered"]);
    assert_eq!(named(&events, "failed").len(), 1); // the sink has not written everything
    if cfg!(target_os = "linux") {
        let lost: u64 = named(&events, "loss").iter().map(|event| number(event, "kernel_dropped")).sum();
        assert!(lost > 0 && lost <= number(&account, "kernel_dropped"), "{events:#?}");
        let losses = &named(&events, "loss")[0]["listeners"][0];
        assert!(losses["bind"] == to.to_string() && number(losses, "kernel_dropped") > 0, "{losses}");
    }
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], &names[names.len() - 2..]), ("started", &["stopped", "failed"][..]), "{names:?}");
}

#[test]
fn as_text_an_event_is_one_line_too_and_the_librarys_messages_are_events() {
    let args = ["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1", "--rcvbuf", "2147483647", "--log"];
    let log = |format: &str| {
        let output = Command::new(PROGRAM).args(args).arg(format).env("RUST_LOG", "hio_udp=warn").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let text = log("text");
    for (line, name) in text.lines().rev().zip(["stopped", "stopping"]) {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words[0].ends_with('Z') && words[1..3] == ["info", name], "{text}");
    }
    assert!(text.contains(" info started version="), "{text}");
    let events: Vec<Value> = log("json").lines().map(event).collect();
    // Such a buffer is clamped, or the process may do everything.
    let clamped = named(&events, "started")[0]["listeners"][0]["is_clamped"].as_bool().unwrap();
    let message = named(&events, "message");
    assert_eq!(message.iter().any(|event| event["level"] == "warn"), clamped, "{events:#?}");
}

#[test]
fn a_failure_is_an_event_and_without_log_everything_is_a_sentence() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let output = run(&["ingest", "--bind", &bind, "--log", "json"]);
    let failed = event(&String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), failed["event"].as_str()), (Some(1), Some("failed")));
    assert!(failed["message"].as_str().unwrap().contains("choose another --bind"), "{failed}");
    let output = run(&["ingest", "--bind", &bind]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("hio-udp: cannot bind "), "{said}");
    let output = run(&["ingest", "--bind", "127.0.0.1:0", "--duration", "0.01", "--log", "loud"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reload_is_an_event_whether_or_not_it_could_be_done() {
    let file = Scratch::new("reload");
    std::fs::write(&file.0, "deny = '127.0.0.2'\n").unwrap();
    let mut logged = Logged::start(&["--config", file.arg()]);
    logged.until("started");
    std::fs::write(&file.0, "deny = '127.0.0.3'\nbc = 7\n").unwrap();
    assert!(send_signal("HUP", logged.child.id()));
    let reloaded = logged.until("reloaded");
    assert_eq!(reloaded["taken"], serde_json::json!(["deny"]), "{reloaded}");
    assert_eq!(reloaded["restart_needed_for"], serde_json::json!(["bc"]), "{reloaded}");
    std::fs::write(&file.0, "deny = 'everybody'\n").unwrap();
    assert!(send_signal("HUP", logged.child.id()));
    assert!(logged.until("not_reloaded")["error"].as_str().unwrap().contains("everybody"));
    assert_eq!(logged.stop().0.len(), 5);
}

#[test]
fn a_quiet_ingest_says_nothing_while_it_runs() {
    let mut logged = Logged::start(&["--metrics", "0", "--sink", "null"]);
    let to = logged.until("started")["listeners"][0]["bind"].as_str().unwrap().parse().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_200) {
        blast(to, &["--count", "100"]);
    }
    let (events, account) = logged.stop();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["note", "started", "stopping", "stopped"]);
    assert_eq!(number(&account, "kernel_dropped"), 0);
}

#[cfg(target_os = "linux")] // for its list of sockets
mod stuck {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    use super::util::{Dir, free_addr, kernel_rows, wait_until};
    use super::*;

    /// An ingest whose standard error is a pipe that is full already, its port, the pipe, and how many bytes are in it.
    fn unheard(dir: &Dir, args: &[&str]) -> (Child, SocketAddr, fs::File, usize) {
        let pipe = dir.join("stderr");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let stderr = fs::File::options().read(true).write(true).open(&pipe).unwrap();
        let mut filler = fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
        let filled = std::iter::from_fn(|| filler.write(&[0; 4096]).ok()).sum();
        let free = free_addr();
        let mut command = Command::new(PROGRAM);
        command.args(["ingest", "--json", "--bind", &free.to_string()]).args(args);
        let child = command.stdout(Stdio::piped()).stderr(stderr.try_clone().unwrap()).spawn().unwrap();
        (child, free, stderr, filled)
    }

    #[test]
    fn a_standard_error_that_takes_nothing_holds_up_neither_start_nor_sinks_nor_stop() {
        let dir = Dir::new("stuck-stderr");
        let kept = format!("jsonl:{}", dir.join("log"));
        // The relay may not send there, which it says.
        let (mut child, to, _pipe, _) =
            unheard(&dir, &["--drain", "1", "--sink", "udp:127.255.255.255:9", "--sink", &kept]);
        wait_until("its socket", || kernel_rows(to.port()).0 == 1);
        blast(to, &["--count", "70"]);
        wait_until("what is stored", || {
            fs::read_to_string(dir.join("log")).is_ok_and(|text| text.lines().count() == 70)
        });
        let since = Instant::now();
        assert!(send_signal("TERM", child.id()));
        wait_until("its end", || child.try_wait().unwrap().is_some());
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        let output = child.wait_with_output().unwrap();
        let account: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), number(&account, "written"), number(&account, "not_written")),
            (Some(1), 70, 70)
        );
    }

    #[test]
    fn lines_that_standard_error_did_not_take_are_counted_when_it_takes_some_again() {
        let (config, dir) = (Scratch::new("again"), Dir::new("stderr-again"));
        fs::write(&config.0, "").unwrap();
        let log = dir.join("log");
        let args = ["--config", config.arg(), "--drain", "1", "--sink", &format!("jsonl:{log}")];
        let (mut child, _, mut pipe, filled) = unheard(&dir, &args);
        wait_until("its file", || fs::exists(&log).unwrap());
        fs::remove_file(&log).unwrap();
        // It has said where it receives, to nobody, once it looks for what is asked of it.
        wait_until("its file anew", || send_signal("USR1", child.id()) && fs::exists(&log).unwrap());
        pipe.read_exact(&mut vec![0; filled]).unwrap();
        assert!(send_signal("HUP", child.id()));
        let mut lines = BufReader::new(pipe).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().starts_with("hio-udp: reloaded"));
        let note = "hio-udp: note: 1 lines before the last were not said, because standard error took nothing";
        assert_eq!(lines.next().unwrap(), note);
        assert!(send_signal("TERM", child.id()));
        wait_until("its end", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
