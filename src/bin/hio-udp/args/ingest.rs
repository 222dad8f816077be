//! The options of `ingest`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use hio_udp::MAX_DATAGRAM_SIZE;
use ipnet::IpNet;

use super::join::Join;
use super::values::{
    HostPort, buffer_bytes, gram_size, host_port, network, own_port, period, positive, ring_slots, shards, workers,
};
use crate::events::LogFormat;
use crate::privileges::Account;
use crate::screen::Limit;
use crate::sinks;

/// Bytes of a socket's receive buffer unless others are asked for.
pub const DEFAULT_RCVBUF: usize = 4 << 20;

#[derive(Args, Debug)]
#[command(after_help = INGEST_EXAMPLES, allow_negative_numbers = true)]
pub struct IngestOptions {
    /// Address to receive on, may be given several times: 0.0.0.0 or [::] is every interface, port 0 any free
    /// port. [::] has IPv4 too, unless an IPv4 address is given with the same port. Not looked at where a service
    /// manager passes sockets.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:55000", value_parser = host_port)]
    pub bind: Vec<HostPort>,

    /// Multicast group to join, may be given several times; behind % an interface, by name, index or IPv4
    /// address. With several shards the first has it.
    #[arg(long, value_name = "GROUP[%IFACE]")]
    pub join: Vec<Join>,

    /// Sockets on each address, each with a thread that reads it (Linux).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = shards)]
    pub shards: usize,

    /// Threads for each address that datagrams are handed to; 0 leaves all to those that read.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = workers)]
    pub workers: usize,

    /// How datagrams are spread over the shards.
    #[arg(long, value_name = "HOW", default_value = "flow")]
    pub spread: Spread,

    /// Processors for the shards, one for each, such as 0,1 (Linux).
    #[arg(long, value_name = "CPU,…", value_delimiter = ',')]
    pub pin: Vec<usize>,

    /// Take in datagrams from these networks only, such as 192.0.2.0/24; may be given several times. 0.0.0.0/0 is all
    /// of IPv4, ::/0 all of IPv6.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub allow: Vec<IpNet>,

    /// Refuse datagrams from these networks, even if --allow names them; may be given several times.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub deny: Vec<IpNet>,

    /// Datagrams a second that each source address may send, and behind : how many at once.
    #[arg(long, value_name = "RATE[:BURST]")]
    pub rate_limit: Option<Limit>,

    /// Once the ports are bound, become this user (not root) and its group, or another group (Unix but macOS, as
    /// root).
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<Account>,

    /// Datagrams taken with one system call at most.
    #[arg(long, value_name = "N", default_value_t = hio_udp::DEFAULT_BC, value_parser = ring_slots)]
    pub bc: usize,

    /// Bytes kept of each datagram; longer ones are cut, flagged and counted.
    #[arg(long, value_name = "B", default_value_t = MAX_DATAGRAM_SIZE, value_parser = gram_size)]
    pub gram_size: usize,

    /// Socket receive buffer in bytes, of each shard: what a burst may pile up before the kernel drops; K, M, G may
    /// stand behind. [default: 4M]
    #[arg(long, value_name = "BYTES", value_parser = buffer_bytes)]
    pub rcvbuf: Option<usize>,

    /// The time that is stored with a datagram: of its arrival, by the kernel, or of its batch, which takes a tenth
    /// less of the processor.
    #[arg(long, value_name = "WHAT", default_value = "arrival")]
    pub stamp: Stamp,

    /// Store every datagram in this pcapng file (Wireshark, tcpdump), or print it (-, on Unix); without it they are
    /// only counted. A file that exists is overwritten, once everything else has started.
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().map(sinks::out_path))]
    pub out: Option<PathBuf>,

    /// Where every datagram goes; may be given several times: pcapng:DIR (segments), jsonl:FILE or jsonl:-
    /// (a line each), udp:ADDR:PORT (once more, to there), unix:PATH (to a local datagram socket) or null.
    #[arg(long = "sink", value_name = "KIND:PLACE")]
    pub sinks: Vec<sinks::Spec>,

    #[command(flatten)]
    pub segments: sinks::Limits,

    /// Serve /metrics for Prometheus, /healthz and /readyz over HTTP on this address; a port alone is one of
    /// 127.0.0.1.
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = own_port)]
    pub metrics: Option<HostPort>,

    /// Tell what happens on standard error, a line for each event, instead of in sentences.
    #[arg(long, value_name = "FORMAT", default_value = "off")]
    pub log: LogFormat,

    /// Stop after so many datagrams.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub count: Option<u64>,

    /// Stop after so many seconds, or such as 0.5 or 5m.
    #[arg(long, value_name = "S", value_parser = period)]
    pub duration: Option<Duration>,

    /// Seconds to read out and store, after a stop, what the kernel still holds.
    #[arg(long, value_name = "S", default_value = "5", value_parser = period)]
    pub drain: Duration,

    /// Take the options that are not given from this TOML file, by the same names; hio-udp check reads it too.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Show rates, losses, shards, sinks and the heaviest sources on the whole terminal, which standard error
    /// must be (Unix). Keys: q stops, ? tells the others.
    #[arg(long)]
    pub top: bool,

    /// Print the final account as one JSON object.
    #[arg(long)]
    pub json: bool,

    /// Show it on this machine: five seconds of load from a sender of its own, on a free port, into
    /// a temporary file.
    #[arg(long, conflicts_with_all = ["bind", "out", "sinks", "count", "duration"])]
    pub demo: bool,

    /// All of it as words of a command line.
    #[arg(skip)]
    pub words: Vec<OsString>,
}

/// Which time is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Stamp {
    /// When the kernel received the datagram.
    Arrival,
    /// When a batch was read: the clock is looked at once for all in it.
    Batch,
}

/// How datagrams are spread over shards.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Spread {
    /// All of one sender to one shard, in order.
    Flow,
    /// Each by lot, even those of a single sender.
    Random,
    /// By the processor that the kernel received it on.
    Cpu,
}

impl From<Spread> for hio_udp::Spread {
    fn from(spread: Spread) -> Self {
        match spread {
            Spread::Flow => Self::FlowHash,
            Spread::Random => Self::Random,
            Spread::Cpu => Self::Processor,
        }
    }
}

const INGEST_EXAMPLES: &str = "\
Examples:
  hio-udp ingest --demo
  hio-udp ingest --bind '[::]:6343' --out sflow.pcapng --duration 60
  hio-udp ingest --bind 0.0.0.0:2055 --sink pcapng:/var/lib/flows --rotate-every 5m --keep-bytes 20G
  hio-udp ingest --sink jsonl:- | jq -r .text
  hio-udp ingest --bind 0.0.0.0:8125 --bind '[::]:8125' --shards 2 --spread random --sink null
  hio-udp ingest --bind 0.0.0.0:5000 --join 239.1.1.1%eth0 --allow 192.0.2.0/24 --rate-limit 1000:50
  hio-udp ingest --sink pcapng:kept --sink udp:192.0.2.7:2055 --sink udp:192.0.2.8:2055
  hio-udp ingest --bind 0.0.0.0:2055 --sink pcapng:kept --metrics :9100 --log json
  hio-udp ingest --count 1000 --json | jq .kernel_dropped
  hio-udp ingest --bind 0.0.0.0:2055 --shards 2 --top

The account: every datagram that reached a socket is in exactly one of delivered, denied, rate_limited, \
kernel_dropped and left_behind; for --out and each --sink, every delivered one is in written or not_written. \
What stores (--out, pcapng, jsonl) may make receiving wait, and the kernel counts what its buffer \
then cannot hold; what passes on (udp, unix) never does, and counts what its queue cannot hold. \
With jsonl:- or --out - the account is printed on standard error; a reader that goes away ends it, if it is the \
only sink.

Each option may be given by the environment too, as HIO_UDP_ROTATE_EVERY=5m for --rotate-every (a switch by \
true or false, a list with commas), and in the file of --config, as rotate-every = \"5m\" (a switch by true or \
false, a list in brackets). The command line goes before the environment, that before the file.";
