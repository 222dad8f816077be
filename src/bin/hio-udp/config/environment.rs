//! Options given by the environment: `HIO_UDP_` and the option's name in upper case.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::options::{Options, Value};
use super::values::switched;
use super::{CONFIG, Origin, Problem, Setting};

const PREFIX: &str = "HIO_UDP_";

/// Variables by name. Those that are empty are left out: that is how many tools say "not set".
pub type Variables = BTreeMap<String, OsString>;

/// The variables of this process that may be options.
pub fn variables() -> Variables {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    named.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty()).collect()
}

/// The variable of an option.
pub fn name(option: &str) -> String {
    format!("{PREFIX}{}", option.to_ascii_uppercase().replace('-', "_"))
}

/// What the variables say of options that are not `given` already; or all that is wrong with it, as one line.
pub fn settings(options: &mut Options, variables: &Variables, given: &[String]) -> Result<Vec<Setting>, String> {
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for option in options.names().into_iter().filter(|option| !given.contains(option)) {
        let Some(text) = variables.get(&name(&option)) else { continue };
        let setting = Setting { origin: Origin::Variable(name(&option)), name: option, values: Vec::new() };
        match checked(options, &setting.name, text) {
            Ok(values) => settings.push(Setting { values, ..setting }),
            Err(reason) => {
                problems.push(Problem::of(&setting, format!("'{}': {reason}", text.to_string_lossy())).message);
            }
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems.join("; ")) }
}

fn checked(options: &mut Options, option: &str, text: &OsStr) -> Result<Vec<Value>, String> {
    let values = values(options, option, text)?;
    options.check(option, &values)?;
    Ok(values)
}

/// Variables that are no option's, but have nearly the name of one: the option.
pub fn misspelt(options: &mut Options, variables: &Variables) -> Vec<(String, String)> {
    let known: Vec<String> = options.names().iter().map(|option| name(option)).chain([name(CONFIG)]).collect();
    let unknown = variables.keys().filter(|variable| !known.contains(variable));
    let pairs = unknown.filter_map(|variable| {
        let option = variable[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
        Some((variable.clone(), name(&options.nearest(&option)?)))
    });
    pairs.collect()
}

fn values(options: &Options, option: &str, text: &OsStr) -> Result<Vec<Value>, String> {
    let takes = options.takes(option);
    if takes.nothing || takes.count || takes.maybe {
        match text.to_str().and_then(switched) {
            Some(true) => return Ok(vec![Value::Bare]),
            Some(false) => return Ok(Vec::new()),
            None if takes.maybe => {}
            None => return Err("want true or false".to_owned()),
        }
    }
    match text.to_str() {
        // With a delimiter of its own, clap takes a list apart.
        Some(list) if takes.many && takes.between.is_none() => {
            let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(parts.map(|part| Value::Text(part.into())).collect())
        }
        _ => Ok(vec![Value::Text(text.to_owned())]),
    }
}
