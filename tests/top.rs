//! `ingest --top` on a terminal: the built program, its keys, and the terminal it gives back.
#![cfg(target_os = "linux")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

#[path = "util/program.rs"]
mod util;
use util::{PROGRAM, assert_adds_up, blast, number, run, send_signal};

/// What the view begins and ends with.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal, as a person in front of it sees it: what is typed on one end, is read on the other.
struct Pty {
    person: Option<File>,
    program: File,
    before: Termios,
    /// Everything that has been shown.
    shown: String,
}

impl Pty {
    fn new() -> Self {
        let person: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let mut options = OpenOptions::new();
        let program = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&program, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = tcgetattr(&program).unwrap();
        Self { person: Some(person.into()), program, before, shown: String::new() }
    }

    fn end(&self) -> Stdio {
        self.program.try_clone().unwrap().into()
    }

    fn press(&self, keys: &[u8]) {
        self.person.as_ref().unwrap().write_all(keys).unwrap();
    }

    /// Reads what is shown next, if anything is within `wait`.
    fn read(&mut self, wait: &Timespec) -> bool {
        let Some(person) = &mut self.person else { return false };
        let is_ready = poll(&mut [PollFd::new(person, PollFlags::IN)], Some(wait)).unwrap() > 0;
        if is_ready {
            let mut buffer = [0; 65_536];
            let count = person.read(&mut buffer).unwrap();
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        is_ready
    }

    fn read_until(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown.contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.shown);
            self.read(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 });
        }
    }

    /// What was shown after the view, once the program has ended.
    fn after_view(&mut self) -> &str {
        // A terminal shows things a while after they were written, and in order: up to this nothing is missing.
        const LAST: &str = "written by the test, behind all that the program wrote";
        self.program.write_all(LAST.as_bytes()).unwrap();
        self.read_until(LAST);
        let shown = self.shown.split(LAST).next().unwrap();
        let (view, after) = shown.split_once(LEAVE).unwrap_or_else(|| panic!("not left: {:?}", self.shown));
        assert_eq!((view.matches(ENTER).count(), after.contains('\x1b')), (1, false), "{:?}", self.shown);
        after
    }

    fn assert_restored(&self) {
        let now = tcgetattr(&self.program).unwrap();
        let modes = |t: &Termios| (t.local_modes, t.input_modes, t.output_modes, t.control_modes);
        assert_eq!(modes(&now), modes(&self.before));
    }
}

/// `ingest --top --json` on a terminal; killed if the test fails.
struct Viewed {
    child: Child,
    addr: SocketAddr,
    pty: Pty,
}

impl Viewed {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["ingest", "--top", "--json", "--bind", "127.0.0.1:0"]).args(args);
        Self::spawn(command)
    }

    /// Starts it, and waits until the first picture is shown.
    fn spawn(mut command: Command) -> Self {
        let mut pty = Pty::new();
        let child = command.stdin(pty.end()).stderr(pty.end()).stdout(Stdio::piped()).spawn().unwrap();
        pty.read_until(ENTER);
        pty.read_until("pause");
        let line = pty.shown.split("receiving on ").nth(1).unwrap();
        let addr = line.split(';').next().unwrap().parse().unwrap();
        assert!(!tcgetattr(&pty.program).unwrap().local_modes.contains(LocalModes::ECHO));
        Self { child, addr, pty }
    }

    /// Waits for its end: exit code and account.
    fn end(&mut self) -> (Option<i32>, Value) {
        let mut printed = String::new();
        // A terminal holds little, so somebody must go on looking.
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "does not end: {:?}", self.pty.shown);
            if !self.pty.read(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (self.child.wait().unwrap().code(), serde_json::from_str(&printed).unwrap_or_default())
    }
}

impl Drop for Viewed {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn q_ends_it_with_the_account_and_gives_the_terminal_back() {
    let mut viewed = Viewed::start(&["--sink", "null"]);
    let sent = number(&blast(viewed.addr, &["--count", "500", "--rate", "10000"]), "sent");
    viewed.pty.press(b"q");
    let (code, account) = viewed.end();
    assert_eq!((code, number(&account, "written")), (Some(0), number(&account, "delivered")));
    assert_adds_up(&account, sent);
    assert_eq!(viewed.pty.after_view(), "");
    viewed.pty.assert_restored();
}

#[test]
fn every_key_and_signal_that_stops_it_gives_the_terminal_back() {
    for key in [b"\x03", b"\x1b"] {
        let mut viewed = Viewed::start(&[]);
        viewed.pty.press(key);
        assert_eq!(viewed.end().0, Some(0), "{key:?}");
        assert_eq!(viewed.pty.after_view(), "");
        viewed.pty.assert_restored();
    }
    for signal in ["TERM", "INT"] {
        let mut viewed = Viewed::start(&[]);
        // A second one may come before the view has gone: it must not end the program with it.
        assert!(send_signal(signal, viewed.child.id()));
        send_signal(signal, viewed.child.id());
        let (code, _) = viewed.end();
        assert!(code == Some(0) || code > Some(128), "{signal}: {code:?}");
        assert_eq!(viewed.pty.after_view(), "");
        viewed.pty.assert_restored();
    }
}

#[test]
fn keys_that_stop_nothing_change_the_picture() {
    let mut viewed = Viewed::start(&[]);
    viewed.pty.press(b"?");
    viewed.pty.read_until("words");
    viewed.pty.press(b"?s\x1b[A\x1bOP");
    blast(viewed.addr, &["--count", "50", "--rate", "10000"]);
    viewed.pty.read_until("SOURCE by bytes");
    viewed.pty.press(b"p");
    viewed.pty.read_until("PAUSED");
    let program = &viewed.pty.program;
    tcsetwinsize(program, Winsize { ws_row: 2, ws_col: 10, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    viewed.pty.press(b"p");
    viewed.pty.read_until("\x1b[2;1H\x1b[0;7m q stop   "); // the last row now, of ten columns
    viewed.pty.press(b"q");
    assert_eq!(viewed.end().0, Some(0));
    viewed.pty.assert_restored();
}

#[test]
fn what_is_said_meanwhile_is_said_after_the_view() {
    let nobody = std::env::temp_dir().join(format!("hio-udp-test-{}-nobody", std::process::id()));
    let sink = format!("unix:{}", nobody.display());
    let mut viewed = Viewed::start(&["--sink", &sink]);
    blast(viewed.addr, &["--count", "5", "--rate", "max"]);
    // Shown in the view too, word by word.
    viewed.pty.read_until("nobody");
    viewed.pty.press(b"q");
    let (code, account) = viewed.end();
    assert_eq!((code, number(&account, "not_written")), (Some(1), 5));
    let after = viewed.pty.after_view().to_owned();
    let lines: Vec<&str> = after.lines().collect();
    assert!(lines.len() >= 2 && lines.iter().all(|line| line.starts_with("hio-udp: ")), "{after:?}");
    assert!(lines[0].contains(&sink) && lines[0].contains("going on"), "{after:?}");
    viewed.pty.assert_restored();
}

#[test]
fn a_sink_that_fails_ends_the_view_too() {
    let file = util::Scratch::new("top");
    let limit = "trap '' XFSZ; ulimit -f 64";
    let args = ["ingest", "--top", "--json", "--bind", "127.0.0.1:0", "--out", file.arg()];
    let mut viewed = Viewed::spawn(util::limited(limit, &args));
    blast(viewed.addr, &["--count", "3000", "--rate", "100000", "--size", "200"]);
    let (code, account) = viewed.end();
    assert_eq!((code, number(&account, "not_written") > 0), (Some(1), true));
    assert!(viewed.pty.after_view().contains(file.arg()), "{:?}", viewed.pty.shown);
    viewed.pty.assert_restored();
}

#[test]
fn a_terminal_that_goes_away_takes_nothing_with_it() {
    let mut viewed = Viewed::start(&[]);
    viewed.pty.person = None;
    let sent = number(&blast(viewed.addr, &["--count", "500", "--rate", "1000"]), "sent");
    assert!(viewed.child.try_wait().unwrap().is_none());
    assert!(send_signal("TERM", viewed.child.id()));
    let (code, account) = viewed.end();
    assert_eq!(code, Some(0));
    assert_adds_up(&account, sent);
}

#[test]
fn without_a_terminal_or_with_lines_on_it_the_view_is_refused_in_one_line() {
    let output = run(&["ingest", "--top", "--bind", "127.0.0.1:0"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("--top") && said.contains("no terminal"), "{said}");

    let mut pty = Pty::new();
    let mut command = Command::new(PROGRAM);
    command.args(["ingest", "--top", "--bind", "127.0.0.1:0", "--sink", "jsonl:-"]);
    let code = command.stdin(pty.end()).stderr(pty.end()).stdout(Stdio::piped()).status().unwrap().code();
    pty.read_until("jsonl:-");
    assert_eq!((code, pty.shown.lines().count()), (Some(2), 1), "{}", pty.shown);
    assert!(!pty.shown.contains(ENTER));
}
