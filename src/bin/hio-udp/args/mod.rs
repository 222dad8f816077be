//! The command line: one file for each command's options.

mod blast;
mod check;
mod doctor;
mod ingest;
mod inspect;
mod join;
mod manual;
mod replay;
mod values;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

pub use blast::BlastOptions;
pub use check::CheckOptions;
pub use doctor::DoctorOptions;
pub use ingest::{DEFAULT_RCVBUF, IngestOptions, Stamp};
pub use inspect::InspectOptions;
pub use join::Join;
pub use manual::{CompletionsOptions, ManualOptions};
pub use replay::ReplayOptions;
pub use values::{HostPort, Rate, Speed, destination, period, size};

use crate::account::{printed, say};
use crate::config::{self, Options};
use crate::failure::Failure;

/// Receive UDP datagrams at high rate, store them, and account for every one of them.
#[derive(Debug, Parser)]
#[command(name = "hio-udp", version, max_term_width = 120, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hio-udp ingest --demo                                    see it work: five seconds of load
  hio-udp ingest --bind 0.0.0.0:2055 --out flows.pcapng    store what arrives until Ctrl-C
  hio-udp blast --to 127.0.0.1:55000 --rate max            load for it, from another terminal

Exit codes: 0 done, 1 failure, 2 usage. Set RUST_LOG=debug for the library's messages.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive datagrams, count or store them, and print what became of every one.
    Ingest(Box<IngestOptions>),
    /// Send numbered, checksummed datagrams, which ingest recognises.
    Blast(BlastOptions),
    /// Tell what captures hold: counts, rates, sizes, sources, losses, damage.
    Inspect(InspectOptions),
    /// Send the datagrams of captures again, with the original timing or another.
    Replay(ReplayOptions),
    /// Tell what a configuration for ingest --config says, or all that is wrong with it.
    Check(CheckOptions),
    /// Tell what limits this machine for a rate of datagrams, and how to lift it.
    Doctor(DoctorOptions),
    /// Write the manual pages.
    Manual(ManualOptions),
    /// Print a script that completes command lines in a shell.
    Completions(CompletionsOptions),
}

/// The command line as clap knows it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line, and what environment and file add to it; `None` if it only asked for help or the
/// version, which is printed.
pub fn parse() -> Result<Option<Command>, Failure> {
    let (mut options, variables) = (Options::of(command()), config::variables());
    let command = parse_from(config::merged(&mut options, std::env::args_os().collect(), &variables)?)?;
    if let Some(Command::Ingest(_)) = command {
        for (variable, option) in config::misspelt(&mut options, &variables) {
            say(&format!("hio-udp: note: {variable} is the variable of no option; did you mean {option}?"));
        }
    }
    Ok(command)
}

/// Reads the options of `ingest` once more, by the command line it was started with: the file may say
/// something else now.
pub fn reparse(argv: &[OsString]) -> Result<IngestOptions, Failure> {
    ingest_from(config::merged(&mut Options::of(command()), argv.to_vec(), &config::variables())?)
}

/// The options of an ingest that is started by this command line and nothing else.
pub fn ingest_from(argv: Vec<OsString>) -> Result<IngestOptions, Failure> {
    match parse_from(argv)? {
        Some(Command::Ingest(options)) => Ok(*options),
        _ => Err(Failure::run("this was not started as an ingest")),
    }
}

pub fn parse_from(argv: Vec<OsString>) -> Result<Option<Command>, Failure> {
    match Cli::try_parse_from(&argv) {
        Ok(Cli { command: Command::Ingest(mut options) }) => {
            options.words = argv;
            Ok(Some(Command::Ingest(options)))
        }
        Ok(cli) => Ok(Some(cli.command)),
        Err(error) if !error.use_stderr() => {
            printed(error.print())?;
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Failure::Usage(
            "no command given: want ingest, blast, inspect, replay, check, doctor, manual or completions".to_owned(),
        )),
        Err(error) => Err(Failure::Usage(one_line(&error.render().to_string()))),
    }
}

/// Clap's message without its usage text, on one line; what it suggests stands behind a semicolon.
pub fn one_line(message: &str) -> String {
    let told = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let kept = told.filter(|line| !line.is_empty() && !line.starts_with("For more"));
    let joined = kept.fold(String::new(), |joined, line| match line.strip_prefix("tip: ") {
        Some(tip) => format!("{joined}; {tip}"),
        None if joined.is_empty() => line.to_owned(),
        None => format!("{joined} {line}"),
    });
    joined.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage_error(line: &str) -> String {
        let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
        one_line(&error.render().to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_input_gets_one_line_that_names_it_and_what_would_be_right() {
        for (line, parts) in [
            ("hio-udp ingest --bc 0", vec!["'0'", "--bc", "from 1 to 65536"]),
            ("hio-udp ingest --gram-size 70000", vec!["'70000'", "--gram-size", "from 1 to 65535"]),
            ("hio-udp ingest --bind localhost", vec!["'localhost'", "--bind", "ADDR:PORT"]),
            ("hio-udp ingest --bind ::1:5", vec!["'::1:5'", "brackets"]),
            ("hio-udp ingest --bind [::1]", vec!["'[::1]'", "no port"]),
            ("hio-udp ingest --bind 1.2.3.4:70000", vec!["'70000'", "0 to 65535"]),
            ("hio-udp ingest --duration -1", vec!["-1"]),
            ("hio-udp ingest --duration zero", vec!["'zero'", "seconds, more than 0"]),
            ("hio-udp ingest --wrong", vec!["'--wrong'"]),
            ("hio-udp ingest --shard 2", vec!["'--shard' found; a similar argument exists: '--shards'"]),
            ("hio-udp blst", vec!["'blst'; a similar subcommand exists: 'blast'"]),
            (
                "hio-udp ingest --log jsn",
                vec!["'jsn' for '--log <FORMAT>' [possible values: ", "]; a similar value exists"],
            ),
            ("hio-udp ingest --rcvbuf 4X", vec!["'4X'", "--rcvbuf", "such as 512K or 64M"]),
            ("hio-udp blast --to 127.0.0.1:1 --size 65508", vec!["'65508'", "from 24 to 65507"]),
            ("hio-udp blast --to 127.0.0.1:1 --rate fast", vec!["'fast'", "or max"]),
            ("hio-udp blast", vec!["--to"]),
            ("hio-udp blast --to 127.0.0.1:0", vec!["'127.0.0.1:0'", "from 1 to 65535"]),
        ] {
            let message = usage_error(line);
            assert!(!message.contains('\n'), "{message:?}");
            for part in parts {
                assert!(message.contains(part), "{line}: {part:?} not in {message:?}");
            }
        }
    }

    #[test]
    fn help_in_a_pipe_breaks_no_example_and_its_sentences_only_where_a_line_is_full() {
        const COLUMNS: usize = 100; // clap's, where nothing tells the width
        let program = command();
        for command in [&program].into_iter().chain(program.get_subcommands()) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in lines.iter().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= COLUMNS, "{line}");
            }
            for pair in lines.windows(2).filter(|pair| pair[0] != "Examples:") {
                let are_sentences = pair.iter().all(|line| !line.is_empty() && !line.starts_with(' '));
                assert!(!are_sentences, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_reload_takes_what_the_file_says_now() {
        let path = std::env::temp_dir().join(format!("hio-udp-reload-{}.toml", std::process::id()));
        let argv = ["hio-udp", "ingest", "--gram-size", "500", "--config", path.to_str().unwrap()].map(OsString::from);
        let mut seen = Vec::new();
        for text in ["bc = 1\ngram-size = 2", "bc = 2", "bc = 0"] {
            std::fs::write(&path, text).unwrap();
            seen.push(reparse(&argv).map(|options| (options.bc, options.gram_size)).map_err(|error| error.to_string()));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(seen[..2], [Ok((1, 500)), Ok((2, 500))]);
        assert!(seen[2].as_ref().unwrap_err().contains(":1: bc: '0': want"), "{seen:?}");
        assert!(reparse(&["hio-udp", "doctor"].map(OsString::from)).is_err());
    }

    /// The words of a command line in a document, as far as they are this program's: up to a pipe, a redirection
    /// or a comment, without quotes.
    fn words(line: &str) -> Vec<String> {
        let words = line.split_whitespace().take_while(|word| !["|", ">", "&&", "#"].contains(word));
        words.map(|word| word.replace(['\'', '"'], "")).collect()
    }

    #[test]
    fn every_command_line_in_documents_and_examples_is_right() {
        let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut lines: Vec<String> = Vec::new();
        for path in ["README.md", "docs/OPERATING.md"] {
            lines.extend(read(path).lines().filter_map(|line| line.strip_prefix(['$', '#'])).map(str::to_owned));
        }
        let program = command();
        for command in [&program].into_iter().chain(program.get_subcommands()) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            // A second column says what it does.
            let examples = text.lines().map(|line| line.trim().split("  ").next().unwrap().to_owned());
            lines.extend(examples.filter(|line| line.starts_with("hio-udp ")));
        }
        let commands: Vec<_> =
            lines.iter().map(|line| words(line)).filter(|words| words.len() > 1 && words[0] == "hio-udp").collect();
        assert!(commands.len() > 30, "{commands:?}");
        for words in commands {
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{}: {}", words.join(" "), one_line(&error.render().to_string()));
            }
        }
    }
}
