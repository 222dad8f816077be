//! `--log`: what happens, one line for each event on standard error, as text or as JSON.
//!
//! Never a line for a datagram: an event is something that begins, ends, or is counted over a time. While it is
//! off, which is the default, standard error has plain sentences instead.

use std::fmt::Write;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use crate::notes;
use crate::packets::Nanos;
use crate::utc;

/// How events are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// Not at all.
    Off,
    /// Time, level, event, and name=value for each field.
    Text,
    /// An object.
    Json,
}

/// One for the process, as its standard error is.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Says how events are written, once.
pub fn start(format: LogFormat) {
    let _ = FORMAT.set(format);
}

fn format() -> LogFormat {
    FORMAT.get().copied().unwrap_or(LogFormat::Off)
}

/// Whether events are written, and sentences are not.
pub fn is_on() -> bool {
    format() != LogFormat::Off
}

/// Something that has happened.
#[derive(Debug)]
#[must_use = "an event is told by `log`"]
pub struct Event {
    at: Nanos,
    level: &'static str,
    name: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl Event {
    pub fn info(name: &'static str) -> Self {
        Self::new("info", name)
    }

    pub fn warn(name: &'static str) -> Self {
        Self::new("warn", name)
    }

    pub fn error(name: &'static str) -> Self {
        Self::new("error", name)
    }

    fn new(level: &'static str, name: &'static str) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as Nanos;
        Self { at, level, name, fields: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).expect("plain numbers, texts and lists always serialise");
        self.fields.push((name, value));
        self
    }

    /// Writes it, if events are written.
    pub fn log(self) {
        let line = match format() {
            LogFormat::Off => return,
            LogFormat::Text => self.as_text(),
            LogFormat::Json => serde_json::to_string(&self).expect("texts and values always serialise"),
        };
        notes::write(&line);
    }

    fn as_text(&self) -> String {
        let mut line = format!("{} {} {}", utc::exact(self.at), self.level, self.name);
        for (name, value) in &self.fields {
            let _ = match value.as_str() {
                // Quoted where a reader could not tell its end.
                Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"') => {
                    write!(line, " {name}={text}")
                }
                _ => write!(line, " {name}={value}"),
            };
        }
        line
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3 + self.fields.len()))?;
        map.serialize_entry("time", &utc::exact(self.at))?;
        map.serialize_entry("level", self.level)?;
        map.serialize_entry("event", self.name)?;
        self.fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// Tells a sentence that is no event of its own.
pub fn note(sentence: &str) {
    let rest = sentence.strip_prefix("hio-udp: ").unwrap_or(sentence);
    Event::info("note").with("message", rest.strip_prefix("note: ").unwrap_or(rest)).log();
}

/// The library's messages, those that RUST_LOG asks for: as env_logger writes them, or as events among the others.
struct Messages(env_logger::Logger);

/// Takes the library's messages from now on; none of them unless RUST_LOG asks.
pub fn take_messages() {
    let env = env_logger::Env::default().default_filter_or("off");
    let logger = env_logger::Builder::from_env(env).build();
    log::set_max_level(logger.filter());
    let _ = log::set_boxed_logger(Box::new(Messages(logger))); // nobody else sets one
}

impl log::Log for Messages {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !is_on() {
            return self.0.log(record);
        }
        if self.0.matches(record) {
            let level = match record.level() {
                log::Level::Error => "error",
                log::Level::Warn => "warn",
                log::Level::Info => "info",
                log::Level::Debug => "debug",
                log::Level::Trace => "trace",
            };
            let event = Event::new(level, "message").with("target", record.target());
            event.with("message", record.args().to_string()).log();
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_as_text_and_as_json() {
        let event = Event { at: 0, ..Event::warn("loss") }
            .with("bind", "127.0.0.1:5")
            .with("datagrams", 7)
            .with("why", "a \"quoted\"\nline")
            .with("list", [1, 2]);
        let time = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(
            event.as_text(),
            format!(r#"{time} warn loss bind=127.0.0.1:5 datagrams=7 why="a \"quoted\"\nline" list=[1,2]"#)
        );
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            format!(r#"{{"time":"{time}","level":"warn","event":"loss","bind":"127.0.0.1:5","datagrams":7,"#,)
                + r#""why":"a \"quoted\"\nline","list":[1,2]}"#
        );
    }
}
