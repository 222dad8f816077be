//! Where `ingest` has its options from: the command line, then the environment, then a file, then the
//! defaults. The first of them that gives an option gives all of it, lists too.
//!
//! ```text
//!   file ─────────┐
//!   environment ──┴─▶ settings ─▶ words ─▶ hio-udp ingest WORDS --what --was --given ─▶ clap
//! ```
//!
//! What the file and the environment say becomes words of a command line, so that clap alone decides what is
//! right. An option that is added to `ingest` can be given in all these ways without being named here.

mod environment;
mod file;
mod options;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use clap::parser::ValueSource;
use serde::Serialize;

pub use environment::{Variables, misspelt, variables};
pub use file::PROBLEMS_MAX;
pub use options::{Options, Value};

use crate::failure::Failure;

/// The command that can be configured.
const COMMAND: &str = "ingest";

/// The option that names the file.
const CONFIG: &str = "config";

/// What the environment or a file says of one option.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The option's long name.
    pub name: String,
    /// None if a switch is off, or a list empty: then it is as if it were not given, in lower places neither.
    pub values: Vec<Value>,
    pub origin: Origin,
}

/// Where a setting stands.
#[derive(Clone, Debug)]
pub enum Origin {
    Variable(String),
    Line(usize),
}

/// Something that is not right, where it stands, and what would be right.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// Absent if it is about a variable, or the file as a whole.
    pub line: Option<usize>,
    /// The option, or what stands in its place; empty if it is about none.
    pub key: String,
    pub message: String,
}

impl Problem {
    fn of(setting: &Setting, message: impl fmt::Display) -> Self {
        match &setting.origin {
            Origin::Variable(name) => Self { key: name.clone(), line: None, message: format!("{name}: {message}") },
            Origin::Line(line) => {
                let Setting { name, .. } = setting;
                Self { key: name.clone(), line: Some(*line), message: format!("{name}: {message}") }
            }
        }
    }

    /// As one line that begins with the place: what editors and compilers agree on.
    pub fn told(&self, file: &Path) -> String {
        let file = file.display();
        match self.line {
            Some(line) => format!("{file}:{line}: {}", self.message),
            None => format!("{file}: {}", self.message),
        }
    }
}

/// So many characters of a text of a stranger, so that it stays on its line.
fn shown(text: &str, chars_max: usize) -> String {
    let escaped = text.chars().take(chars_max).flat_map(|c| {
        let is_plain = !c.is_control();
        is_plain.then_some(c).into_iter().chain(c.escape_default().filter(move |_| !is_plain))
    });
    let end = if text.chars().nth(chars_max).is_some() { "…" } else { "" };
    escaped.chain(end.chars()).collect()
}

/// The command line `argv` with what environment and file add to it; as it is, if it is not about `ingest`.
pub fn merged(options: &mut Options, argv: Vec<OsString>, variables: &Variables) -> Result<Vec<OsString>, Failure> {
    if argv.get(1).is_none_or(|command| command != COMMAND) {
        return Ok(argv);
    }
    let Some((mut given, mut path)) = options.given(&argv[1..]) else { return Ok(argv) };
    let mut settings = environment::settings(options, variables, &given).map_err(Failure::Config)?;
    if let (None, Some(text)) = (&path, variables.get(&environment::name(CONFIG))) {
        path = Some(text.into());
        let origin = Origin::Variable(environment::name(CONFIG));
        settings.push(Setting { name: CONFIG.to_owned(), values: vec![Value::Text(text.clone())], origin });
    }
    given.extend(settings.iter().map(|setting| setting.name.clone()));
    if let Some(path) = &path {
        let read = file::settings(options, path).map_err(|problems| unusable(path, &problems))?;
        settings.extend(read.into_iter().filter(|setting| !given.contains(&setting.name)));
    }
    match conflicts(options, &settings, &given).first() {
        None => Ok(with_words(argv, &settings)),
        Some(Problem { message, line: None, .. }) => Err(Failure::Config(message.clone())),
        Some(problem) => Err(Failure::Config(problem.told(&path.expect("only a file has lines")))),
    }
}

/// What `ingest` is given by a file alone.
pub fn of_file(options: &mut Options, path: &Path) -> Result<(Vec<Setting>, Vec<OsString>), Vec<Problem>> {
    let settings = file::settings(options, path)?;
    let problems = conflicts(options, &settings, &[]);
    if !problems.is_empty() {
        return Err(problems);
    }
    let argv = with_words(vec!["hio-udp".into(), COMMAND.into()], &settings);
    Ok((settings, argv))
}

fn with_words(mut argv: Vec<OsString>, settings: &[Setting]) -> Vec<OsString> {
    let words: Vec<OsString> =
        settings.iter().flat_map(|setting| options::words(&setting.name, &setting.values)).collect();
    // In front of what was given: behind it might stand a `--`.
    argv.splice(2..2, words);
    argv
}

/// Settings that do not go together with another, or with an option that was given.
fn conflicts(options: &Options, settings: &[Setting], given: &[String]) -> Vec<Problem> {
    let effective = settings.iter().filter(|setting| !setting.values.is_empty());
    let mut problems = Vec::new();
    for setting in effective.clone() {
        let others = effective.clone().map(|other| &other.name).chain(given);
        let against: Vec<_> = others.filter(|other| options.conflict(&setting.name, other)).collect();
        if let Some(other) = against.first() {
            problems.push(Problem::of(setting, format!("cannot be used with {other}: leave one of them out")));
        }
    }
    problems
}

/// The first problem, and how to see the others.
fn unusable(path: &Path, problems: &[Problem]) -> Failure {
    let first = problems[0].told(path);
    match problems.len() - 1 {
        0 => Failure::Config(first),
        more => Failure::Config(format!("{first}; and {more} more: hio-udp check {}", path.display())),
    }
}

/// Whether this was typed, and not taken from the defaults.
fn is_given(matches: &clap::ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{Arg, ArgAction, Command, value_parser};

    use super::*;

    /// An `ingest` with an option of every kind that clap has, whatever the real one has today.
    fn program() -> Command {
        let ingest = Command::new(COMMAND)
            .arg(Arg::new("config").long("config").value_parser(value_parser!(PathBuf)))
            .arg(Arg::new("number").long("a-number").value_parser(value_parser!(u16).range(1..)).default_value("7"))
            .arg(Arg::new("path").long("path").value_parser(value_parser!(PathBuf)))
            .arg(Arg::new("list").long("list").action(ArgAction::Append))
            .arg(
                Arg::new("cpus")
                    .long("cpus")
                    .action(ArgAction::Append)
                    .value_delimiter(',')
                    .value_parser(value_parser!(u8)),
            )
            .arg(Arg::new("one").long("one").value_delimiter(',').value_parser(value_parser!(u8)))
            .arg(Arg::new("switch").long("switch").action(ArgAction::SetTrue))
            .arg(Arg::new("verbose").long("verbose").short('v').action(ArgAction::Count))
            .arg(
                Arg::new("top").long("top").num_args(0..=1).value_parser(value_parser!(u8)).default_missing_value("10"),
            )
            .arg(Arg::new("needy").long("needy").requires("path"))
            .arg(Arg::new("hermit").long("hermit").action(ArgAction::SetTrue).conflicts_with("list"));
        Command::new("hio-udp").subcommand(ingest)
    }

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(text: &str) -> Self {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("hio-udp-config-{}-{number}.toml", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// The words that `ingest` gets from a command line, the environment and a file.
    fn words(line: &str, variables: &[(&str, &str)], text: &str) -> Result<String, String> {
        let file = Scratch::new(text);
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
        let variables = variables.chain([("HIO_UDP_CONFIG".to_owned(), file.0.clone().into())]).collect();
        let argv = ["hio-udp", COMMAND].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
        let place = file.0.display().to_string();
        let merged = merged(&mut Options::of(program()), argv, &variables);
        let merged = merged.map_err(|failure| failure.to_string().replace(&place, "FILE"))?;
        // As it is used: clap must agree.
        program().try_get_matches_from(&merged).map_err(|error| error.to_string())?;
        let words = merged[2..].iter().map(|word| word.to_str().unwrap());
        // So that it is known that there is a file, however it was named.
        let (config, words): (Vec<_>, Vec<_>) = words.partition(|word| *word == format!("--config={place}"));
        assert_eq!(config.len(), 1, "{words:?}");
        Ok(words.join(" "))
    }

    #[test]
    fn every_kind_of_option_can_be_given_by_the_file() {
        for (text, expected) in [
            ("", ""),
            ("a-number = 1_0", "--a-number=10"),
            ("a-number = 0x10", "--a-number=16"),
            ("a-number = \"10\"", "--a-number=10"),
            ("path = '-x'", "--path=-x"),
            ("list = ['a,b', \"c d\"]", "--list=a,b --list=c d"),
            ("list = 'alone'", "--list=alone"),
            ("list = []", ""),
            ("cpus = [1, 2]", "--cpus=1 --cpus=2"),
            ("cpus = '1,2'", "--cpus=1,2"),
            ("one = [1, 2]", "--one=1,2"),
            ("switch = true", "--switch"),
            ("switch = false", ""),
            ("verbose = 2", "--verbose --verbose"),
            ("verbose = true", "--verbose"),
            ("top = true", "--top"),
            ("top = 3", "--top=3"),
            ("needy = '1'\npath = 'x'", "--needy=1 --path=x"),
        ] {
            assert_eq!(words("", &[], text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_kind_of_option_can_be_given_by_the_environment() {
        for (name, text, expected) in [
            ("HIO_UDP_A_NUMBER", "10", "--a-number=10"),
            ("HIO_UDP_PATH", "a,b", "--path=a,b"),
            ("HIO_UDP_LIST", "a, b,", "--list=a --list=b"),
            ("HIO_UDP_CPUS", "1,2", "--cpus=1,2"),
            ("HIO_UDP_SWITCH", "TRUE", "--switch"),
            ("HIO_UDP_SWITCH", "0", ""),
            ("HIO_UDP_VERBOSE", "yes", "--verbose"),
            ("HIO_UDP_TOP", "on", "--top"),
            ("HIO_UDP_TOP", "3", "--top=3"),
        ] {
            assert_eq!(words("", &[(name, text)], "").as_deref(), Ok(expected), "{name}={text}");
        }
    }

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
        let file = "a-number = 3\nlist = ['c', 'd']\nswitch = true";
        for (line, variables, expected) in [
            ("", &[][..], "--a-number=3 --list=c --list=d --switch"),
            ("", &[("HIO_UDP_A_NUMBER", "2"), ("HIO_UDP_LIST", "b")], "--a-number=2 --list=b --switch"),
            ("--a-number 1 --list a", &[("HIO_UDP_A_NUMBER", "2")], "--switch --a-number 1 --list a"),
            ("", &[("HIO_UDP_SWITCH", "false")], "--a-number=3 --list=c --list=d"),
        ] {
            assert_eq!(words(line, variables, file).as_deref(), Ok(expected), "{line} {variables:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (line, variables, text, expected) in [
            ("", &[][..], "\na-number = 0", "FILE:2: a-number: '0': 0 is not in 1..=65535"),
            ("", &[], "path = 5", "FILE:1: path: want a text, in quotes"),
            ("", &[], "a-number = [5]", "FILE:1: a-number: want one value, not a list"),
            ("", &[], "cpus = [1,\n2,\n'x']", "FILE:3: cpus: 'x': invalid digit found in string"),
            ("", &[], "list = [{ a = 1 }]", "FILE:1: list: want a number or a text in quotes, not a table"),
            ("", &[], "list = 2026-11-25", "FILE:1: list: want a number or a text in quotes, not a date"),
            ("", &[], "switch = 'true'", "FILE:1: switch: want true or false, without quotes"),
            ("", &[], "verbose = 256", "FILE:1: verbose: want how many times, from 0 to 255"),
            ("", &[], "a_number = 1", "FILE:1: a_number: no such option; did you mean a-number?"),
            ("", &[], "zzzzz = 1", "FILE:1: zzzzz: no such option; hio-udp ingest --help lists them"),
            ("", &[], "config = 'x'", "FILE:1: config: a file cannot name another: leave it out"),
            ("", &[], "help = true", "FILE:1: help: no such option; hio-udp ingest --help lists them"),
            (
                "",
                &[],
                "[ingest]\nlist = 'x'",
                "FILE:1: ingest: options stand by themselves, in no section: leave the [header] out",
            ),
            ("", &[], "list = 'a'\nlist = 'b'", "FILE:2: not TOML: duplicate key"),
            ("", &[], "hermit = true\nlist = 'b'", "FILE:1: hermit: cannot be used with list: leave one of them out"),
            ("--hermit", &[], "\n\nlist = 'b'", "FILE:3: list: cannot be used with hermit: leave one of them out"),
            (
                "--hermit",
                &[("HIO_UDP_LIST", "b")],
                "",
                "HIO_UDP_LIST: cannot be used with hermit: leave one of them out",
            ),
            ("", &[("HIO_UDP_A_NUMBER", "x")], "", "HIO_UDP_A_NUMBER: 'x': invalid digit found in string"),
            ("", &[("HIO_UDP_SWITCH", "maybe")], "", "HIO_UDP_SWITCH: 'maybe': want true or false"),
        ] {
            let told = words(line, variables, text).unwrap_err();
            assert_eq!(told, expected, "{text}");
        }
        let told = words("", &[], "path = 5\nswitch = 5").unwrap_err();
        assert!(told.starts_with("FILE:1: path") && told.ends_with("and 1 more: hio-udp check FILE"), "{told}");
    }

    #[test]
    fn all_that_is_wrong_is_found_up_to_the_first_line_that_is_no_toml() {
        let file = Scratch::new("a-number = 0\nswitch = 1\nlist = ['x', 2\npath = \nverbose = 'x'\n");
        let problems = file::settings(&mut Options::of(program()), &file.0).unwrap_err();
        let lines: Vec<_> = problems.iter().map(|problem| problem.line.unwrap()).collect();
        assert_eq!(lines[..2], [1, 2], "{problems:?}");
        assert!(problems[2..].iter().all(|problem| problem.message.starts_with("not TOML")), "{problems:?}");
    }

    #[test]
    fn hostile_files_give_a_few_short_lines() {
        let long = |unit: &str| unit.repeat(100_000 / unit.len());
        for text in [
            long("["),
            format!("a={}", long("[")),
            format!("a={}", long("{b=")),
            long("=\n"),
            long("\u{1}"),
            long("\""),
            long("[[a]]\n"),
            format!("a{}=1", long(".a")),
            format!("{}=1", long("k")),
            format!("a-number={}", long("9")),
            format!("a-number='{}'", long("\u{7f}")),
            format!("list=[{}]", long("'a',")),
            (0..20_000).map(|i| format!("a{i}=1\n")).collect(),
            "path = \"\\u0000\"".to_owned(),
            "a-number = \"\\u001b[2J\"".to_owned(),
        ] {
            let file = Scratch::new(&text);
            let problems = file::settings(&mut Options::of(program()), &file.0).unwrap_err();
            assert!((1..=PROBLEMS_MAX).contains(&problems.len()));
            for told in problems.iter().map(|problem| problem.told(Path::new("FILE"))) {
                assert!(told.len() < 300 && !told.contains(char::is_control), "{told:?}");
            }
        }
    }

    #[test]
    fn a_reason_that_quotes_a_hostile_value_is_one_short_line() {
        let long = "9".repeat(100_000);
        for text in [
            "bind = \"127.0.0.1:\\n[table]\"".to_owned(),
            format!("bind = '127.0.0.1:{long}'"),
            "join = \"\\u001b[2J\"".to_owned(),
            format!("join = '239.0.0.1%{long}'"),
            format!("sink = '{long}:x'"),
        ] {
            let file = Scratch::new(&text);
            let problems = file::settings(&mut Options::of(crate::args::command()), &file.0).unwrap_err();
            let told = problems[0].told(Path::new("FILE"));
            assert!(problems.len() == 1 && told.len() < 400 && !told.contains(char::is_control), "{problems:?}");
        }
    }

    #[test]
    fn a_command_line_that_is_not_about_ingest_stays_as_it_is() {
        let variables = Variables::from([("HIO_UDP_A_NUMBER".to_owned(), OsString::from("x"))]);
        for line in ["hio-udp", "hio-udp blast --to ingest", "hio-udp ingest --help", "hio-udp --help"] {
            let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let merged = merged(&mut Options::of(program()), argv.clone(), &variables).unwrap();
            assert_eq!(merged, argv);
        }
    }

    #[test]
    fn a_variable_with_nearly_the_name_of_an_option_is_noticed() {
        let variables = ["HIO_UDP_A_NUMBR", "HIO_UDP_PATH", "HIO_UDP_CONFIG", "HIO_UDP_SERVICE_HOST"];
        let variables = variables.map(|name| (name.to_owned(), OsString::from("x"))).into_iter().collect();
        let found = misspelt(&mut Options::of(program()), &variables);
        assert_eq!(found, [("HIO_UDP_A_NUMBR".to_owned(), "HIO_UDP_A_NUMBER".to_owned())]);
    }
}
