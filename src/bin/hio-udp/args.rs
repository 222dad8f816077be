//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use hio_udp::{MAX_DATAGRAM_SIZE, MAX_PAYLOAD_V4};

use crate::account::printed;
use crate::failure::Failure;
use crate::probe;
use crate::sinks;

/// Receive UDP datagrams at high rate, store them, and account for every one of them.
#[derive(Debug, Parser)]
#[command(name = "hio-udp", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hio-udp ingest --demo                                    see it work: five seconds of load, stored and accounted for
  hio-udp ingest --bind 0.0.0.0:2055 --out flows.pcapng    store what arrives on port 2055 until Ctrl-C
  hio-udp blast --to 127.0.0.1:55000 --rate max            load for it, from another terminal

Exit codes: 0 done, 1 failure, 2 usage. Set RUST_LOG=debug for the library's messages.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive datagrams, count or store them, and print what became of every one.
    Ingest(IngestOptions),
    /// Send numbered, checksummed datagrams, which ingest recognises.
    Blast(BlastOptions),
    /// Tell what captures hold: counts, rates, sizes, sources, losses, damage.
    Inspect(InspectOptions),
    /// Send the datagrams of captures again, with the original timing or another.
    Replay(ReplayOptions),
    /// Tell what limits this machine for a rate of datagrams, and how to lift it.
    Doctor(DoctorOptions),
}

#[derive(Args, Debug)]
#[command(after_help = INGEST_EXAMPLES, allow_negative_numbers = true)]
pub struct IngestOptions {
    /// Address to receive on: 0.0.0.0 or [::] is every interface, port 0 any free port.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:55000", value_parser = host_port)]
    pub bind: HostPort,

    /// Datagrams taken with one system call at most.
    #[arg(long, value_name = "N", default_value_t = hio_udp::DEFAULT_BC, value_parser = ring_slots)]
    pub bc: usize,

    /// Bytes kept of each datagram; longer ones are cut, flagged and counted.
    #[arg(long, value_name = "B", default_value_t = MAX_DATAGRAM_SIZE, value_parser = gram_size)]
    pub gram_size: usize,

    /// Socket receive buffer in bytes: what a burst may pile up before the kernel drops.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = buffer_bytes)]
    pub rcvbuf: usize,

    /// Store every datagram in this pcapng file (Wireshark, tcpdump); without it they are only counted. A
    /// file that exists is overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Where every datagram goes; may be given several times: pcapng:DIR (segments), jsonl:FILE or jsonl:-
    /// (a line each), udp:ADDR:PORT (once more, to there), unix:PATH (to a local datagram socket) or null.
    #[arg(long = "sink", value_name = "KIND:PLACE")]
    pub sinks: Vec<sinks::Spec>,

    #[command(flatten)]
    pub segments: sinks::Limits,

    /// Stop after so many datagrams.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub count: Option<u64>,

    /// Stop after so many seconds; fractions are allowed.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Seconds to read out and store, after a stop, what the kernel still holds.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    pub drain: Duration,

    /// Print the final account as one JSON object.
    #[arg(long)]
    pub json: bool,

    /// Show it on this machine: five seconds of load from a sender of its own, on a free port, into
    /// a temporary file.
    #[arg(long, conflicts_with_all = ["bind", "out", "sinks", "count", "duration"])]
    pub demo: bool,
}

const INGEST_EXAMPLES: &str = "\
Examples:
  hio-udp ingest --demo
  hio-udp ingest --bind '[::]:6343' --out sflow.pcapng --duration 60
  hio-udp ingest --bind 0.0.0.0:2055 --sink pcapng:/var/lib/flows --rotate-every 5m --keep-bytes 20G
  hio-udp ingest --sink jsonl:- | jq -r .text
  hio-udp ingest --sink pcapng:kept --sink udp:192.0.2.7:2055 --sink udp:192.0.2.8:2055
  hio-udp ingest --count 1000 --json | jq .kernel_dropped

The account: every datagram that reached the socket is in exactly one of delivered, kernel_dropped
and left_behind; for --out and each --sink, every delivered one is in written or not_written.
What stores (--out, pcapng, jsonl) may make receiving wait, and the kernel counts what its buffer
then cannot hold; what passes on (udp, unix) never does, and counts what its queue cannot hold.
With jsonl:- the account is printed on standard error.";

#[derive(Args, Clone, Debug)]
#[command(after_help = BLAST_EXAMPLES, allow_negative_numbers = true)]
pub struct BlastOptions {
    /// Where to send.
    #[arg(long, value_name = "ADDR:PORT", value_parser = destination)]
    pub to: HostPort,

    /// Payload bytes of each datagram.
    #[arg(long, value_name = "B", default_value_t = 100, value_parser = probe_size)]
    pub size: usize,

    /// Datagrams to send; without it, until --duration or Ctrl-C.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub count: Option<u64>,

    /// Stop after so many seconds; fractions are allowed.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Datagrams a second, or max for as many as go.
    #[arg(long, value_name = "R|max", default_value = "10000")]
    pub rate: Rate,

    /// Sending sockets, each with a port of its own.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = sources)]
    pub sources: usize,

    /// Let the kernel cut each batch from one message (UDP_SEGMENT): several times as many
    /// datagrams a second, but as one fast sender has them, not as many small ones.
    #[arg(long)]
    pub segment: bool,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
}

const BLAST_EXAMPLES: &str = "\
Examples:
  hio-udp blast --to 127.0.0.1:55000 --count 1000000 --rate max
  hio-udp blast --to telemetry.example:55000 --rate 200000 --size 512 --sources 16 --duration 10";

#[derive(Args, Clone, Debug)]
#[command(after_help = INSPECT_EXAMPLES)]
pub struct InspectOptions {
    /// Captures, pcap or pcapng, as they are or compressed by gzip or zstd; - is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Print everything as one JSON object.
    #[arg(long)]
    pub json: bool,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  hio-udp inspect flows.pcapng
  hio-udp inspect segment-*.pcapng.zst --json | jq '.lost, .damage'

Several files are summed up as one capture. A damaged file is read as far as it can be, and damage is no
failure: the report tells where, what kind and how many bytes.";

#[derive(Args, Clone, Debug)]
#[command(after_help = REPLAY_EXAMPLES, allow_negative_numbers = true)]
pub struct ReplayOptions {
    /// Captures, pcap or pcapng, as they are or compressed by gzip or zstd; - is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Where to send.
    #[arg(long, value_name = "ADDR:PORT", value_parser = destination)]
    pub to: HostPort,

    /// Times as fast as captured, or max for as fast as the socket takes them.
    #[arg(long, value_name = "X|max", default_value = "1")]
    pub speed: Speed,

    /// How many times to send all of it.
    #[arg(long = "loop", value_name = "N", default_value_t = 1, value_parser = positive)]
    pub rounds: u64,

    /// Send also datagrams of which the capture holds only a part, as far as it does.
    #[arg(long)]
    pub allow_cut: bool,

    /// Let the kernel cut rows of equal datagrams from one message (UDP_SEGMENT): much faster at max.
    #[arg(long)]
    pub segment: bool,

    /// Print the account as one JSON object.
    #[arg(long)]
    pub json: bool,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  hio-udp replay flows.pcapng --to 127.0.0.1:2055
  hio-udp replay monday.pcap.gz tuesday.pcap.gz --to collector.example:2055 --speed 10
  hio-udp replay flows.pcapng --to 127.0.0.1:2055 --speed max --loop 100 --json | jq .datagrams_per_s

All datagrams go to one destination, from one port of this machine, in the order of the captures. A file
follows the one before without a pause. Every packet is sent, failed, not_sent (a stop) or skipped, by why.";

#[derive(Args, Clone, Debug)]
#[command(after_help = DOCTOR_EXAMPLES, allow_negative_numbers = true)]
pub struct DoctorOptions {
    /// Datagrams a second that are to be received.
    #[arg(long, value_name = "R", default_value_t = 100_000, value_parser = datagrams_per_s)]
    pub rate: u64,

    /// Payload bytes of each datagram.
    #[arg(long, value_name = "B", default_value_t = 100, value_parser = payload_size)]
    pub size: usize,

    /// Address to receive on, as ingest has it: a socket is opened there to see what it gets.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = host_port)]
    pub bind: HostPort,

    /// Seconds for which the receiver may be kept from reading without loss: by other programs on its
    /// processor, a slow disk, a restart.
    #[arg(long, value_name = "S", default_value = "0.05", value_parser = seconds)]
    pub pause: Duration,

    /// Print everything as one JSON object.
    #[arg(long)]
    pub json: bool,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  hio-udp doctor --rate 500000 --size 200
  hio-udp doctor --rate 20000 --size 1400 --bind '[::]:2055' --pause 1
  hio-udp doctor --json | jq -r '.commands[]'

Exit codes: 0 nothing limits the rate, 1 something does, 2 usage.";

/// A host, by name or address, and a port; not resolved yet.
#[derive(Clone, Debug)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// The address it stands for; the first IPv4 one if there are several.
    pub fn resolve(&self) -> Result<SocketAddr, Failure> {
        let Self { host, port } = self;
        let hint = "give an address such as 127.0.0.1 or a name that resolves";
        let found: Vec<SocketAddr> = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|error| Failure::run(format!("cannot resolve '{host}': {error}; {hint}")))?
            .collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| Failure::run(format!("'{host}' has no address; {hint}")))
    }
}

pub fn destination(text: &str) -> Result<HostPort, String> {
    match host_port(text)? {
        HostPort { port: 0, .. } => Err("port 0 cannot be sent to; want a port from 1 to 65535".to_owned()),
        destination => Ok(destination),
    }
}

fn host_port(text: &str) -> Result<HostPort, String> {
    let expected = "want ADDR:PORT, such as 127.0.0.1:55000 or [::1]:55000";
    let (host, port) =
        text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).ok_or(format!("no port; {expected}"))?;
    let port = port.parse().map_err(|_| format!("'{port}' is not a port from 0 to 65535; {expected}"))?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(format!("an IPv6 address stands in brackets; {expected}"));
    }
    let host = bare.unwrap_or(host);
    if host.is_empty() {
        return Err(format!("no host; {expected}, or 0.0.0.0 for every interface"));
    }
    Ok(HostPort { host: host.to_owned(), port })
}

/// Datagrams a second.
#[derive(Clone, Copy, Debug)]
pub enum Rate {
    Max,
    PerSecond(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Self::PerSecond(rate)),
            _ => Err("want datagrams a second, more than 0, or max".to_owned()),
        }
    }
}

/// How fast a capture is sent again.
#[derive(Clone, Copy, Debug)]
pub enum Speed {
    Max,
    /// Times as fast as captured.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(Self::Times(factor)),
            _ => Err("want a factor, more than 0, or max".to_owned()),
        }
    }
}

/// A number from `low` to `high`, or an error that says so.
fn in_range(text: &str, what: &str, low: usize, high: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("want {what} from {low} to {high}")),
    }
}

fn ring_slots(text: &str) -> Result<usize, String> {
    in_range(text, "a number of slots", 1, 65_536)
}

fn gram_size(text: &str) -> Result<usize, String> {
    in_range(text, "bytes", 1, MAX_DATAGRAM_SIZE)
}

fn probe_size(text: &str) -> Result<usize, String> {
    in_range(text, "bytes", probe::HEADER_BYTES, MAX_PAYLOAD_V4)
        .map_err(|want| format!("{want}: number and checksum need the first, UDP carries the second"))
}

fn payload_size(text: &str) -> Result<usize, String> {
    in_range(text, "bytes", 0, MAX_PAYLOAD_V4)
}

fn datagrams_per_s(text: &str) -> Result<u64, String> {
    in_range(text, "datagrams a second", 1, 1_000_000_000).map(|rate| rate as u64)
}

fn sources(text: &str) -> Result<usize, String> {
    in_range(text, "sockets", 1, 10_000)
}

fn buffer_bytes(text: &str) -> Result<usize, String> {
    in_range(text, "bytes", 1, i32::MAX as usize)
}

fn positive(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("want a whole number, at least 1".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    parsed.filter(|time| !time.is_zero()).ok_or("want seconds, more than 0".to_owned())
}

/// Reads the command line; `None` if it only asked for help or the version, which is printed.
pub fn parse() -> Result<Option<Command>, Failure> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli.command)),
        Err(error) if !error.use_stderr() => {
            printed(error.print())?;
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::Usage("no command given: want ingest, blast, inspect, replay or doctor".to_owned()))
        }
        Err(error) => Err(Failure::Usage(one_line(&error.render().to_string()))),
    }
}

/// Clap's message without its usage text, on one line.
fn one_line(message: &str) -> String {
    let told = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let kept: Vec<&str> = told.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    kept.join(" ").trim_start_matches("error: ").to_owned()
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
        use clap::CommandFactory;
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
    fn hosts_and_ports_are_told_apart() {
        for (text, host, port) in
            [("127.0.0.1:5", "127.0.0.1", 5), ("[::1]:6", "::1", 6), ("localhost:0", "localhost", 0)]
        {
            let parsed = host_port(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
        }
    }
}
