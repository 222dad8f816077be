//! `check`: what a configuration says, or all that is wrong with it.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;

use crate::account::{print_json, print_line, say};
use crate::args::{self, CheckOptions};
use crate::config::{self, Options, Origin, PROBLEMS_MAX, Problem, Setting, Value};
use crate::failure::Failure;
use crate::ingest;

pub fn run(options: &CheckOptions) -> Result<(), Failure> {
    let CheckOptions { file, json } = options;
    let (rows, problems) = match checked(file) {
        Ok(rows) => (rows, Vec::new()),
        Err(problems) => (Vec::new(), problems),
    };
    if *json {
        print_json(&Report {
            file: &file.to_string_lossy(),
            valid: problems.is_empty(),
            problems: &problems,
            options: &rows,
        })?;
    } else if problems.is_empty() {
        print_line(&as_file(file, &rows))?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    for problem in problems.iter().filter(|_| !json) {
        say(&problem.told(file));
    }
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        PROBLEMS_MAX => format!("{PROBLEMS_MAX} problems or more"),
        several => format!("{several} problems"),
    };
    Err(Failure::run(format!("{} is not valid: {count}", file.display())))
}

/// One option, as `ingest` would have it.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// As it would be written on a command line; none if it is not set, or off.
    values: Vec<String>,
    is_list: bool,
    is_switch: bool,
    /// Where the file says so; absent for a default.
    line: Option<usize>,
}

#[derive(Serialize)]
struct Report<'a> {
    file: &'a str,
    valid: bool,
    problems: &'a [Problem],
    options: &'a [Row],
}

fn checked(file: &Path) -> Result<Vec<Row>, Vec<Problem>> {
    let mut options = Options::of(args::command());
    let (settings, argv) = config::of_file(&mut options, file)?;
    // Each value is right by itself; what is left is what only all of them together show.
    let problems = match args::ingest_from(argv) {
        Ok(options) => ingest::problems(&options),
        Err(Failure::Usage(message) | Failure::Config(message) | Failure::Run(message)) => vec![message],
    };
    if !problems.is_empty() {
        return Err(problems.into_iter().map(|message| placed(message, &settings)).collect());
    }
    Ok(options.names().into_iter().map(|name| row(&options, name, &settings)).collect())
}

/// A problem told by words of the command line, at the line of the option it names first.
fn placed(message: String, settings: &[Setting]) -> Problem {
    let words = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let mut named = words.filter_map(|word| settings.iter().find(|s| word.strip_prefix("--") == Some(&s.name)));
    match named.next() {
        Some(Setting { name, origin: Origin::Line(line), .. }) => {
            Problem { key: name.clone(), line: Some(*line), message }
        }
        _ => Problem { key: String::new(), line: None, message },
    }
}

fn row(options: &Options, name: String, settings: &[Setting]) -> Row {
    let takes = options.takes(&name);
    let setting = settings.iter().find(|setting| setting.name == name);
    let line = setting.and_then(|setting| match setting.origin {
        Origin::Line(line) => Some(line),
        Origin::Variable(_) => None,
    });
    let text = |text: &OsString| text.to_string_lossy().into_owned();
    let values = match setting {
        Some(setting) => setting
            .values
            .iter()
            .map(|value| match value {
                Value::Bare => "true".to_owned(),
                Value::Text(value) => text(value),
            })
            .collect(),
        None => options.defaults(&name).iter().map(text).collect(),
    };
    Row { is_list: takes.many, is_switch: takes.nothing, name, values, line }
}

/// The rows as a file that says the same.
fn as_file(file: &Path, rows: &[Row]) -> String {
    let mut lines = vec![format!("# {} is valid. With it alone, ingest has:", file.display())];
    let mut unset = Vec::new();
    for row in rows {
        let Row { name, values, line, .. } = row;
        let value = match (&values[..], row.is_list, row.is_switch) {
            ([], false, true) => "false".to_owned(),
            ([], _, _) => {
                unset.push(name.as_str());
                continue;
            }
            (_, false, true) => "true".to_owned(),
            ([value], false, _) => toml_value(value),
            _ => format!("[{}]", values.iter().map(|value| toml_value(value)).collect::<Vec<_>>().join(", ")),
        };
        let from = line.map_or("default".to_owned(), |line| format!("line {line}"));
        lines.push(format!("{:<39} # {from}", format!("{name} = {value}")));
    }
    if !unset.is_empty() {
        lines.push(format!("# not set: {}", unset.join(", ")));
    }
    lines.join("\n")
}

/// A text as TOML has it: a number if it is one, else in quotes.
fn toml_value(text: &str) -> String {
    if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) || text == "true" {
        return text.to_owned();
    }
    // JSON's quotes and escapes are TOML's, but for one character.
    serde_json::to_string(text).expect("a text always serialises").replace('\x7f', "\\u007f")
}
