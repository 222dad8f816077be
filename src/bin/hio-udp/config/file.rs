//! The file: TOML, with an option's name for a key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::Options;
use super::values::values;
use super::{CONFIG, Origin, Problem, Setting, shown};

/// A configuration is small; what is larger is some other file.
const BYTES_MAX: u64 = 1 << 20;

/// Past so many problems, the file is not what it was taken for.
pub const PROBLEMS_MAX: usize = 20;

/// What a file says, in its order; or all that is wrong with it.
pub fn settings(options: &mut Options, path: &Path) -> Result<Vec<Setting>, Vec<Problem>> {
    let text = read(path).map_err(|message| vec![whole(message)])?;
    let text = String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        vec![Problem {
            line: Some(Lines::of(error.as_bytes()).at(at)),
            ..whole("not UTF-8: want a TOML file".to_owned())
        }]
    })?;
    settings_of(options, &text)
}

fn whole(message: String) -> Problem {
    Problem { key: String::new(), line: None, message }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let hint = "name a TOML file";
    let cannot = |error: io::Error| format!("cannot read it: {error}; {hint}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("larger than {BYTES_MAX} bytes; {hint}"));
    }
    Ok(bytes)
}

fn settings_of(options: &mut Options, text: &str) -> Result<Vec<Setting>, Vec<Problem>> {
    let lines = Lines::of(text.as_bytes());
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems = syntax(&errors, &lines);
    // From the line of an error on, what was found may be a part of something else.
    let starts = errors.iter().map(|error| error.span().map_or(0, |span| lines.start_of(span.start)));
    let sound_bytes = starts.min().unwrap_or(text.len());
    let mut entries: Vec<_> = table.get_ref().iter().filter(|(_, value)| value.span().end <= sound_bytes).collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut settings = Vec::new();
    for (key, value) in entries {
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
        match setting(options, key.get_ref(), value) {
            Ok(values) => {
                let origin = Origin::Line(lines.at(key.span().start));
                settings.push(Setting { name: key.get_ref().to_string(), values, origin });
            }
            Err((span, message)) => {
                let at = lines.at(span.unwrap_or(key.span()).start);
                let key = shown(key.get_ref(), SHOWN_MAX);
                problems.push(Problem { message: format!("{key}: {message}"), key, line: Some(at) });
            }
        }
    }
    problems.sort_by_key(|problem| problem.line);
    problems.truncate(PROBLEMS_MAX);
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// What keeps the text from being TOML at all: of each line the first, because the others mostly follow from it.
fn syntax(errors: &[toml::de::Error], lines: &Lines) -> Vec<Problem> {
    let mut first = BTreeMap::new();
    for error in errors {
        let line = error.span().map(|span| lines.at(span.start));
        first.entry(line).or_insert(error);
    }
    let problem = |(line, error): (_, &toml::de::Error)| {
        let message = format!("not TOML: {}", error.message());
        Problem { line, key: String::new(), message }
    };
    first.into_iter().take(PROBLEMS_MAX).map(problem).collect()
}

/// The place of a problem, if it is not the key's own, and what would be right.
type Wrong = (Option<Range<usize>>, String);

/// What an entry of the file gives an option.
fn setting(options: &mut Options, name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<super::Value>, Wrong> {
    if !options.has(name) {
        return Err((None, unknown(options, name, value.get_ref())));
    }
    let takes = options.takes(name);
    let found = values(takes, value).map_err(|(span, message)| (Some(span), message))?;
    let Err(message) = options.check(name, &found) else { return Ok(found) };
    let parts = value.get_ref().as_array().map_or(&[][..], |list| list);
    // The list as a whole is wrong because one of its values is, if that is wrong alone.
    for (part, value) in parts.iter().zip(&found).filter(|_| takes.many) {
        if let Err(message) = options.check(name, std::slice::from_ref(value)) {
            return Err((Some(part.span()), format!("'{}': {message}", text(value))));
        }
    }
    let texts: Vec<String> = found.iter().map(text).collect();
    Err((Some(value.span()), format!("'{}': {message}", texts.join(", "))))
}

fn unknown(options: &mut Options, name: &str, value: &DeValue<'_>) -> String {
    if name == CONFIG {
        return "a file cannot name another: leave it out".to_owned();
    }
    if value.is_table() {
        return "options stand by themselves, in no section: leave the [header] out".to_owned();
    }
    // Every name is near to a very short one, and to look for the nearest of a very long one takes long.
    let nearest = (3..=SHOWN_MAX).contains(&name.len()).then(|| options.nearest(name)).flatten();
    match nearest {
        Some(option) => format!("no such option; did you mean {option}?"),
        None => "no such option; hio-udp ingest --help lists them".to_owned(),
    }
}

/// So much of a text is shown.
const SHOWN_MAX: usize = 60;

fn text(value: &super::Value) -> String {
    match value {
        super::Value::Bare => "true".to_owned(),
        super::Value::Text(text) => shown(&text.to_string_lossy(), SHOWN_MAX),
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &[u8]) -> Self {
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    /// The number of the line with this byte, from 1.
    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte)
    }

    /// Where the line with this byte begins.
    fn start_of(&self, byte: usize) -> usize {
        self.0[self.at(byte) - 1]
    }
}
