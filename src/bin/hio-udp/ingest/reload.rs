//! SIGHUP: reads the configuration again, and takes from it what can change without unbinding.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use super::{Ingest, check, rules};
use crate::account::say;
use crate::args;
use crate::events::{self, Event};
use crate::failure::Failure;

/// Options that count from a reload on; all others count from the start on.
const RELOADED: [&str; 3] = ["allow", "deny", "rate-limit"];

impl Ingest {
    /// Takes new rules about who is let in, and opens files anew. What is not valid changes nothing.
    pub(super) fn reload(&mut self) {
        let argv: Vec<OsString> = std::env::args_os().collect();
        let read = self.check_config().and_then(|()| args::reparse(&argv));
        let options = match read.and_then(|options| check(&options).map(|()| options)) {
            Ok(options) => options,
            Err(failure) => return tell_refused(&failure),
        };
        let changed = changed(&self.words, &options.words);
        self.screen.replace(rules(&options));
        self.watch.sinks.iter().for_each(|sinks| sinks.reopen());
        let (taken, left): (Vec<&String>, Vec<&String>) =
            changed.iter().partition(|name| RELOADED.contains(&name.as_str()));
        tell(&taken, &left);
        // What needs a restart is told again until there is one.
        let old = std::mem::take(&mut self.words);
        self.words = old.into_iter().filter(|word| !is_reloaded(word)).collect();
        self.words.extend(options.words.into_iter().filter(is_reloaded));
    }

    /// A pipe has been read to its end, or would be waited for.
    fn check_config(&self) -> Result<(), Failure> {
        match self.config.as_ref().filter(|path| fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())) {
            Some(path) => Err(Failure::Config(format!(
                "{} is a pipe or a device, which is read at the start only: reload from a regular file",
                path.display()
            ))),
            None => Ok(()),
        }
    }
}

fn tell_refused(failure: &Failure) {
    if events::is_on() {
        return Event::error("not_reloaded").with("error", failure.to_string()).log();
    }
    say(&format!("hio-udp: not reloaded: {failure}; going on as before"));
}

/// Tells what counts from now on, and what a restart is needed for.
fn tell(taken: &[&String], left: &[&String]) {
    if events::is_on() {
        return Event::info("reloaded").with("taken", taken).with("restart_needed_for", left).log();
    }
    let list = |names: &[&String]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let taken = if taken.is_empty() { "nothing new".to_owned() } else { list(taken) };
    let left = if left.is_empty() { String::new() } else { format!("; a restart is needed for {}", list(left)) };
    say(&format!("hio-udp: reloaded: {taken}{left}"));
}

/// The option of a word `--option=value`.
fn option(word: &OsString) -> Option<String> {
    let text = word.to_string_lossy();
    let (name, _) = text.strip_prefix("--")?.split_once('=').unwrap_or((&text[2..], ""));
    Some(name.to_owned())
}

fn is_reloaded(word: &OsString) -> bool {
    option(word).is_some_and(|name| RELOADED.contains(&name.as_str()))
}

/// The options that one command line gives otherwise than the other.
fn changed(old: &[OsString], new: &[OsString]) -> BTreeSet<String> {
    let count = |words: &[OsString], word: &OsString| words.iter().filter(|other| *other == word).count();
    let words = old.iter().chain(new).filter(|word| count(old, word) != count(new, word));
    words.filter_map(option).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_command_lines_give_otherwise_is_named_once() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let old = words("hio-udp ingest --bc=1 --allow=a --allow=b --json --out x");
        let new = words("hio-udp ingest --bc=2 --allow=a --allow=c --out x");
        assert_eq!(changed(&old, &new).into_iter().collect::<Vec<_>>(), ["allow", "bc", "json"]);
        assert!(changed(&old, &old).is_empty());
    }
}
