//! What is said on standard error while a view has the terminal: held, shown there, and said once it has gone.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::LevelFilter;

use crate::events;

/// So many notes are held at most; of more, the last.
const NOTES_MAX: usize = 1000;

static HELD: Mutex<Option<Notes>> = Mutex::new(None);

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
    match held().as_mut() {
        Some(notes) => notes.add(text),
        None => _ = io::stderr().write_all(format!("{text}\n").as_bytes()),
    }
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
