//! The options of `ingest` as clap knows them, and what each of them takes.

use std::any::TypeId;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ArgAction;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::{COMMAND, CONFIG, is_given, shown};
use crate::args::one_line;

/// The options that can be configured.
pub struct Options {
    /// The subcommand, ready to parse.
    command: Command,
}

/// One value of an option.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// The option without a value: a switch that is on.
    Bare,
    Text(OsString),
}

/// What an option takes.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    /// Nothing: it is there or it is not.
    pub nothing: bool,
    /// Nothing, and it counts how often it is there.
    pub count: bool,
    /// A value that may be left out.
    pub maybe: bool,
    /// Several values, an option for each.
    pub many: bool,
    /// Several values in one, with this between them.
    pub between: Option<char>,
    /// Any text at all, so that a number in its place is a mistake.
    pub text: bool,
}

impl Options {
    /// The options of `ingest` in the whole program's command line.
    pub fn of(program: Command) -> Self {
        let mut command = program.find_subcommand(COMMAND).expect("a command of the program").clone();
        command.build();
        Self { command }
    }

    /// Their long names, in the order in which help tells them.
    pub fn names(&self) -> Vec<String> {
        self.configurable().filter_map(Arg::get_long).map(str::to_owned).collect()
    }

    /// Whether there is such an option; `config` itself is none, because a file cannot name another.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub fn takes(&self, name: &str) -> Takes {
        let arg = self.find(name).expect("asked of options that are there");
        let parser = arg.get_value_parser().type_id();
        let texts = [TypeId::of::<PathBuf>(), TypeId::of::<String>(), TypeId::of::<OsString>()];
        Takes {
            nothing: matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse),
            count: matches!(arg.get_action(), ArgAction::Count),
            maybe: arg.get_action().takes_values() && arg.get_num_args().is_some_and(|n| n.min_values() == 0),
            many: matches!(arg.get_action(), ArgAction::Append),
            between: arg.get_value_delimiter(),
            text: texts.iter().any(|text| parser == *text),
        }
    }

    /// The default, as text; several for a list.
    pub fn defaults(&self, name: &str) -> Vec<OsString> {
        let arg = self.find(name).expect("asked of options that are there");
        if !arg.get_action().takes_values() {
            return Vec::new();
        }
        arg.get_default_values().iter().map(|value| value.to_os_string()).collect()
    }

    /// Whether clap refuses the two of them together.
    pub fn conflict(&self, one: &str, other: &str) -> bool {
        let (Some(one), Some(other)) = (self.find(one), self.find(other)) else { return false };
        let refuses =
            |a: &Arg, b: &Arg| self.command.get_arg_conflicts_with(a).iter().any(|c| c.get_id() == b.get_id());
        one.get_id() != other.get_id() && (refuses(one, other) || refuses(other, one))
    }

    /// The options given on a command line, from the subcommand on, and the file it names; `None` if it only
    /// asks for help. What is wrong with it is told later, when all of it is parsed.
    pub fn given(&self, argv: &[OsString]) -> Option<(Vec<String>, Option<PathBuf>)> {
        let matches = self.command.clone().ignore_errors(true).try_get_matches_from(argv).ok()?;
        let given = self.configurable().filter(|arg| is_given(&matches, arg.get_id().as_str()));
        let names = given.filter_map(Arg::get_long).map(str::to_owned).collect();
        Some((names, matches.try_get_one::<PathBuf>(CONFIG).ok().flatten().cloned()))
    }

    /// Whether an option takes these values, or what it wants.
    pub fn check(&mut self, name: &str, values: &[Value]) -> Result<(), String> {
        let argv = [OsString::from(COMMAND)].into_iter().chain(words(name, values));
        match self.command.try_get_matches_from_mut(argv) {
            Err(error) if !is_about_others(&error) => Err(reason(&error)),
            _ => Ok(()),
        }
    }

    /// The option whose name is most like this one.
    pub fn nearest(&mut self, name: &str) -> Option<String> {
        let argv = [OsString::from(COMMAND), format!("--{name}").into()];
        let error = self.command.try_get_matches_from_mut(argv).err()?;
        match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(option)) => Some(option.trim_start_matches('-').to_owned()),
            _ => None,
        }
    }

    fn find(&self, name: &str) -> Option<&Arg> {
        self.configurable().find(|arg| arg.get_long() == Some(name))
    }

    fn configurable(&self) -> impl Iterator<Item = &Arg> {
        self.command.get_arguments().filter(|arg| {
            let answers = matches!(
                arg.get_action(),
                ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
            );
            arg.get_long().is_some_and(|name| name != CONFIG) && !answers
        })
    }
}

/// An option with its values, as words of a command line.
pub fn words(name: &str, values: &[Value]) -> Vec<OsString> {
    let word = |value: &Value| {
        let mut word = OsString::from(format!("--{name}"));
        if let Value::Text(text) = value {
            word.push("=");
            word.push(text);
        }
        word
    };
    values.iter().map(word).collect()
}

/// Whether this is about options that are not there: these may be given elsewhere.
fn is_about_others(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict)
}

/// So much of a reason is told, which may quote the value.
const REASON_MAX: usize = 200;

/// What clap, or an option's own parser, has against a value.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = error.source() {
        return shown(&source.to_string(), REASON_MAX);
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => format!("want one of {}", valid.join(", ")),
        _ => one_line(&error.render().to_string()),
    }
}
