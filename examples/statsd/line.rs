//! One line of StatsD: `name:value|type`, perhaps with `|@rate` behind it.

/// What a line says, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line<'a> {
    pub name: &'a str,
    pub sample: Sample<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample<'a> {
    /// `c`: to be added, already divided by the rate.
    Count(f64),
    /// `g` without a sign: what the gauge is now.
    Gauge(f64),
    /// `g` with a sign: by how much the gauge has changed.
    Change(f64),
    /// `ms` and `h`: a value that stands for `weight` of them.
    Time { value: f64, weight: f64 },
    /// `s`: a member of a set.
    Member(&'a str),
}

impl<'a> Line<'a> {
    /// Reads a line; the error says what is wrong with it.
    pub fn parse(line: &'a [u8]) -> Result<Self, &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        let (name, rest) = line.split_once(':').ok_or("no ':' behind a name")?;
        if name.is_empty() || name.bytes().any(|byte| byte <= b' ') {
            return Err("the name is empty or has white space in it");
        }
        let mut fields = rest.split('|');
        let value = fields.next().unwrap_or_default();
        let kind = fields.next().ok_or("no '|' behind the value")?;
        let rate = fields.next().map_or(Ok(1.0), rate)?;
        if fields.next().is_some() {
            return Err("there is more than a name, a value, a type and a rate");
        }
        let sample = match kind {
            "c" => Sample::Count(number(value)? / rate),
            "g" if value.starts_with(['+', '-']) => Sample::Change(number(value)?),
            "g" => Sample::Gauge(number(value)?),
            "ms" | "h" => Sample::Time { value: number(value)?, weight: 1.0 / rate },
            "s" => Sample::Member(value),
            _ => return Err("the type is none of c, g, ms, h and s"),
        };
        Ok(Self { name, sample })
    }
}

/// Larger ones, infinity among them, could spoil every sum they come to; so could "nan", which is within no range.
const VALUE_MAX: f64 = 1e18;

fn number(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number| (-VALUE_MAX..=VALUE_MAX).contains(number));
    number.ok_or("the value is not a number, or beyond 1e18")
}

fn rate(field: &str) -> Result<f64, &'static str> {
    let rate = field.strip_prefix('@').and_then(|rate| rate.parse().ok());
    rate.filter(|rate| (1e-9..=1.0).contains(rate)).ok_or("behind the type stands no '@' and a rate from 1e-9 to 1")
}
