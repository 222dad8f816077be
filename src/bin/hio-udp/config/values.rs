//! Values of a TOML file as an option takes them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::options::{Takes, Value};

/// So many values a list may have; the sinks are compared with each other.
const LIST_MAX: usize = 1024;

/// What an option is given by a value; or what would be right, and the place of what is not.
pub fn values(takes: Takes, value: &Spanned<DeValue<'_>>) -> Result<Vec<Value>, (Range<usize>, String)> {
    let err = |message: &str| Err((value.span(), message.to_owned()));
    match value.get_ref() {
        DeValue::Boolean(true) if takes.nothing || takes.count || takes.maybe => Ok(vec![Value::Bare]),
        DeValue::Boolean(false) if takes.nothing || takes.count || takes.maybe => Ok(Vec::new()),
        DeValue::Integer(number) if takes.count => match decimal(number).and_then(|number| u8::try_from(number).ok()) {
            Some(times) => Ok(vec![Value::Bare; times.into()]),
            None => err("want how many times, from 0 to 255"),
        },
        _ if takes.count => err("want how many times, from 0 to 255"),
        _ if takes.nothing => err("want true or false, without quotes"),
        DeValue::Array(list) if list.len() > LIST_MAX => err(&format!("want at most {LIST_MAX} values")),
        DeValue::Array(list) if takes.many => list.iter().map(|value| one(takes, value).map(Value::Text)).collect(),
        DeValue::Array(list) => match takes.between {
            Some(between) => {
                let texts: Vec<String> = list.iter().map(|value| text(takes, value)).collect::<Result<_, _>>()?;
                let joined = (!texts.is_empty()).then(|| Value::Text(texts.join(&between.to_string()).into()));
                Ok(joined.into_iter().collect())
            }
            None => err("want one value, not a list"),
        },
        _ => one(takes, value).map(|text| vec![Value::Text(text)]),
    }
}

fn one(takes: Takes, value: &Spanned<DeValue<'_>>) -> Result<std::ffi::OsString, (Range<usize>, String)> {
    text(takes, value).map(Into::into)
}

/// One value as the text that would stand on a command line.
fn text(takes: Takes, value: &Spanned<DeValue<'_>>) -> Result<String, (Range<usize>, String)> {
    let err = |message: &str| Err((value.span(), message.to_owned()));
    match value.get_ref() {
        DeValue::String(text) if text.contains('\0') => err("want a text without NUL"),
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if takes.text => err("want a text, in quotes"),
        DeValue::Integer(number) => match decimal(number) {
            Some(number) => Ok(number.to_string()),
            None => err("want a smaller number"),
        },
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Ok(switch.to_string()),
        DeValue::Datetime(_) => err("want a number or a text in quotes, not a date"),
        DeValue::Array(_) => err("want a number or a text in quotes, not a list in a list"),
        DeValue::Table(_) => err("want a number or a text in quotes, not a table"),
    }
}

fn decimal(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What a switch is set to by a text, as other programs take it from the environment.
pub fn switched(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
