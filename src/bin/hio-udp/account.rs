//! What became of every datagram: the account printed at the end.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use hio_udp::ShardStats;
use serde::Serialize;

use crate::failure::Failure;
use crate::heavy::Weight;
pub use crate::notes::say;
use crate::sinks::SinkAccount;

/// The final account of an ingest.
///
/// Every datagram that reached a socket is in exactly one of `delivered`, `denied`, `rate_limited`,
/// `kernel_dropped` and `left_behind`. For each sink, every delivered one is in exactly one of its `written` and
/// `not_written`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    /// Datagrams the demo's own sender sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Datagrams sent, as far as the numbers in blast's datagrams tell; absent without any.
    pub sent_seen: Option<u64>,
    /// Datagrams received and handed on, cut and malformed ones included.
    pub delivered: u64,
    /// Datagrams from a source that --deny or --allow keeps out.
    pub denied: u64,
    /// Datagrams above what --rate-limit lets a source send.
    pub rate_limited: u64,
    /// Datagrams the kernel dropped because the socket's buffer was full.
    pub kernel_dropped: u64,
    /// Datagrams that arrived too late or too many: read after the deadline of a stop, beyond `--count`
    /// or after a failure, or turned away while stopping.
    pub left_behind: u64,
    /// Of the delivered: longer than the slot, cut.
    pub truncated: u64,
    /// Of the delivered: blast's with a wrong checksum, or without a readable source.
    pub malformed: u64,
    /// Datagrams in the file, or written by all sinks together.
    pub written: u64,
    /// Delivered with a sink to write to, and yet not written: of all sinks together.
    pub not_written: u64,
    /// Payload bytes delivered, without what was cut off.
    pub bytes: u64,
    /// From the first datagram to the last.
    pub seconds: f64,
    pub datagrams_per_s: u64,
    /// System calls made to receive, wait and write.
    pub syscalls: u64,
    /// Numbers below the highest seen that never came; those sent before the socket was open are among them.
    pub gaps: u64,
    pub duplicates: u64,
    pub reordered: u64,
    /// Receive calls that failed; they lose nothing.
    pub receive_errors: u64,
    /// `mmsg`, `io_uring` or `single`.
    pub backend: &'static str,
    /// Any bytes but 0 may stand in a path; JSON has only UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossily")]
    pub file: Option<PathBuf>,
    /// Each sink's part, `--out` first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkAccount>,
    /// Each shard's part.
    pub shards: Vec<ShardAccount>,
    /// The heaviest sources of the delivered, heaviest first.
    pub sources: Vec<SourceAccount>,
    /// How many datagrams may be missing from each of these counts.
    pub sources_missing_max: u64,
}

/// What came through one socket: each datagram is in exactly one of its counts.
#[derive(Clone, Debug, Serialize)]
pub struct ShardAccount {
    pub bind: SocketAddr,
    pub shard: usize,
    /// Datagrams read, whatever became of them.
    pub received: u64,
    pub kernel_dropped: u64,
    pub left_behind: u64,
}

impl ShardAccount {
    pub fn new(bind: SocketAddr, shard: usize, stats: &ShardStats) -> Self {
        Self {
            bind,
            shard,
            received: stats.grams_delivered + stats.socket.grams_undecodable,
            kernel_dropped: stats.socket.kernel_dropped,
            left_behind: stats.grams_left_behind,
        }
    }
}

/// What was delivered of one source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceAccount {
    pub source: IpAddr,
    pub datagrams: u64,
    pub bytes: u64,
}

impl From<(IpAddr, Weight)> for SourceAccount {
    fn from((source, Weight { datagrams, bytes }): (IpAddr, Weight)) -> Self {
        Self { source, datagrams, bytes }
    }
}

impl Account {
    /// Everything that reached the socket.
    pub fn arrived(&self) -> u64 {
        self.delivered + self.denied + self.rate_limited + self.kernel_dropped + self.left_behind
    }

    /// How that adds up, in words and numbers, without what is nothing anyway.
    fn sum(&self) -> (String, String) {
        let parts = [
            ("delivered", self.delivered, true),
            ("denied", self.denied, false),
            ("rate_limited", self.rate_limited, false),
            ("kernel_dropped", self.kernel_dropped, true),
            ("left_behind", self.left_behind, true),
        ];
        let told = parts.iter().filter(|(_, count, is_always)| *is_always || *count > 0);
        let (names, counts): (Vec<&str>, Vec<String>) = told.map(|(name, count, _)| (*name, count.to_string())).unzip();
        (names.join(" + "), counts.join(" + "))
    }

    pub fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json { print_json(self) } else { print_line(&self.to_string()) }
    }

    /// As [`Account::print`], but to standard error.
    pub fn say(&self, as_json: bool) -> Result<(), Failure> {
        say(&if as_json { to_json(self) } else { self.to_string() });
        Ok(())
    }
}

fn lossily<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// Prints one object to standard output; a reader that has gone away is no error.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print_line(&to_json(value))
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain numbers and strings always serialise")
}

/// As [`print_json`], for text.
pub fn print_line(text: &str) -> Result<(), Failure> {
    printed(writeln!(io::stdout(), "{text}"))
}

/// What became of printing to standard output; a reader that has gone away is no error.
pub fn printed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::run(format!("cannot print to standard output: {error}; choose another place for it")))
        }
        _ => Ok(()),
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String, note: &str| {
            let line = format!("  {name:<16}{value:>16}  {note}");
            writeln!(f, "{}", line.trim_end())
        };
        if let Some(sent) = self.sent {
            row("sent", grouped(sent), "by the demo's own sender")?;
        }
        if let Some(sent_seen) = self.sent_seen {
            row("sent_seen", grouped(sent_seen), "as far as blast's numbers tell")?;
        }
        row("delivered", grouped(self.delivered), "")?;
        if self.denied > 0 {
            row("denied", grouped(self.denied), "from sources that are kept out")?;
        }
        if self.rate_limited > 0 {
            row("rate_limited", grouped(self.rate_limited), "above --rate-limit")?;
        }
        row("kernel_dropped", grouped(self.kernel_dropped), "the socket's buffer was full")?;
        row("left_behind", grouped(self.left_behind), "past the stop, --count or a failure")?;
        row("truncated", grouped(self.truncated), "of the delivered: longer than --gram-size")?;
        row("malformed", grouped(self.malformed), "of the delivered: damaged")?;
        if !self.sinks.is_empty() {
            row("written", grouped(self.written), "")?;
            row("not_written", grouped(self.not_written), "")?;
        }
        if self.sent_seen.is_some() {
            row("gaps", grouped(self.gaps), "numbers below the highest seen that never came")?;
            row("duplicates", grouped(self.duplicates), "")?;
            row("reordered", grouped(self.reordered), "")?;
        }
        row("bytes", grouped(self.bytes), "")?;
        row("seconds", format!("{:.3}", self.seconds), "")?;
        row("datagrams_per_s", grouped(self.datagrams_per_s), "")?;
        let share = self.delivered as f64 / self.syscalls.max(1) as f64;
        row("syscalls", grouped(self.syscalls), &format!("{share:.1} datagrams each ({})", self.backend))?;
        for sink in self.sinks.iter().filter(|sink| self.sinks.len() > 1 || sink.not_written > 0) {
            writeln!(f, "  {sink}")?;
        }
        if self.receive_errors > 0 {
            writeln!(f, "  {} receive calls failed; they lost nothing", grouped(self.receive_errors))?;
        }
        if self.shards.len() > 1 {
            for ShardAccount { bind, shard, received, kernel_dropped, left_behind } in &self.shards {
                let counts = [received, kernel_dropped, left_behind].map(|count| grouped(*count));
                let [received, dropped, left] = counts;
                writeln!(f, "  {bind} shard {shard}: {received} received, {dropped} dropped, {left} left behind")?;
            }
        }
        let (names, counts) = self.sum();
        write!(f, "  {names} = {counts} = {}", self.arrived())?;
        if let Some(sent) = self.sent {
            write!(f, ", sent {sent}: {}", if sent == self.arrived() { "exact" } else { "NOT EQUAL" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_account_names_every_field_and_adds_up() {
        let account = Account { sent: Some(10), delivered: 7, kernel_dropped: 2, left_behind: 1, ..Account::default() };
        assert_eq!(account.arrived(), 10);
        assert!(account.to_string().contains("7 + 2 + 1 = 10, sent 10: exact"));
        let json = serde_json::to_value(&account).unwrap();
        for name in [
            "sent",
            "sent_seen",
            "delivered",
            "kernel_dropped",
            "truncated",
            "malformed",
            "written",
            "left_behind",
            "bytes",
            "seconds",
            "datagrams_per_s",
            "syscalls",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
    }
}
