//! What is said on standard error. While a view has the terminal it is held, shown there, and said once it has gone;
//! and a standard error that takes nothing holds up nobody for long.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;
use std::{mem, panic};

use log::LevelFilter;
#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, poll};
#[cfg(unix)]
use rustix::io::Errno;

use crate::events;

/// So many notes are held at most; of more, the last.
const NOTES_MAX: usize = 1000;

/// What every pipe takes at once or not at all (PIPE_BUF, pipe(7)).
const PART_BYTES: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// How long standard error may take nothing; then lines are left out, at once, until it takes some again.
const PATIENCE: Duration = Duration::from_secs(1);

static HELD: Mutex<Option<Notes>> = Mutex::new(None);

/// Lines that were left out since the last one that was not.
static LEFT_OUT: Mutex<u64> = Mutex::new(0);

#[derive(Default)]
struct Notes {
    texts: VecDeque<String>,
    /// Those that had to make room.
    lost: u64,
}

impl Notes {
    fn add(&mut self, text: &str) {
        if self.texts.len() == NOTES_MAX {
            self.texts.pop_front();
            self.lost += 1;
        }
        self.texts.push_back(text.to_owned());
    }
}

fn held() -> MutexGuard<'static, Option<Notes>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says something on standard error, as one of the events where these are logged.
pub fn say(text: &str) {
    if events::is_on() { events::note(text) } else { write(text) }
}

/// Writes a line to standard error, or holds it; that nobody hears it is no reason to stop, as it is for
/// `eprintln!`.
pub fn write(text: &str) {
    if let Some(notes) = held().as_mut() {
        return notes.add(text);
    }
    let mut left_out = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    if !put(&format!("{text}\n"), if *left_out == 0 { PATIENCE } else { Duration::ZERO }) {
        *left_out += 1;
        return;
    }
    let count = mem::take(&mut *left_out);
    drop(left_out);
    if count > 0 {
        say(&format!(
            "hio-udp: note: {count} lines before the last were not said, because standard error took nothing"
        ));
    }
}

/// Writes a line in parts that a pipe takes at once if it takes any; `false` if it takes nothing for so long.
fn put(line: &str, patience: Duration) -> bool {
    let mut parts = line.as_bytes().chunks(PART_BYTES);
    parts.all(|part| {
        let is_ready = is_ready(patience);
        if is_ready {
            let _ = io::stderr().write_all(part);
        }
        is_ready
    })
}

/// Whether standard error takes something, or fails.
#[cfg(unix)]
fn is_ready(patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let wait = deadline.saturating_duration_since(Instant::now()).try_into().ok();
        match poll(&mut [PollFd::new(&io::stderr(), PollFlags::OUT)], wait.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return ready != Ok(0),
        }
    }
}

#[cfg(not(unix))]
fn is_ready(_patience: Duration) -> bool {
    true
}

/// As long as it lives, what is said is held, panics too; then it is said. One at a time.
pub struct Hold {
    /// What RUST_LOG asks for: its lines would stand across the view.
    log_level: LevelFilter,
}

impl Hold {
    pub fn begin() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(hold_panics);
        *held() = Some(Notes::default());
        let log_level = log::max_level();
        log::set_max_level(LevelFilter::Off);
        Self { log_level }
    }

    /// The last notes, oldest first.
    pub fn last(&self, count: usize) -> Vec<String> {
        let held = held();
        let Some(notes) = held.as_ref() else { return Vec::new() };
        notes.texts.iter().skip(notes.texts.len().saturating_sub(count)).cloned().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        log::set_max_level(self.log_level);
        let Some(notes) = held().take() else { return };
        if notes.lost > 0 {
            say(&format!("hio-udp: note: {} notes before these had to make room", notes.lost));
        }
        notes.texts.iter().for_each(|text| write(text));
    }
}

/// Makes a panic a note while notes are held.
fn hold_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if held().is_none() {
            return before(panic);
        }
        let thread = std::thread::current();
        let mut text = format!("thread '{}' {panic}", thread.name().unwrap_or("<unnamed>"));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            text.push_str(&format!("\n{backtrace}"));
        }
        say(&text);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_notes_are_kept_and_those_before_are_counted() {
        let mut notes = Notes::default();
        for number in 0..NOTES_MAX + 3 {
            notes.add(&number.to_string());
        }
        assert_eq!((notes.lost, notes.texts.len()), (3, NOTES_MAX));
        assert_eq!(notes.texts.front().map(String::as_str), Some("3"));
    }

    #[test]
    fn what_is_said_is_held_and_a_panic_of_a_thread_too() {
        let hold = Hold::begin();
        say("one");
        let joined = std::thread::Builder::new().name("sinking".to_owned()).spawn(|| panic!("on purpose")).unwrap();
        assert!(joined.join().is_err());
        say("two");
        // Tests beside this one may say something too.
        let all = hold.last(usize::MAX);
        let place = |part: &str| all.iter().position(|text| text.contains(part)).unwrap_or_else(|| panic!("{all:?}"));
        assert!(place("one") < place("on purpose") && place("on purpose") < place("two"), "{all:?}");
        assert!(all[place("on purpose")].contains("'sinking'"), "{all:?}");
        *held() = None; // not to be said among the results
        drop(hold);
        assert!(held().is_none());
    }
}
