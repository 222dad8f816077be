//! The options of `replay`.

use std::path::PathBuf;

use clap::Args;

use super::values::{HostPort, Speed, destination, positive};

#[derive(Args, Clone, Debug)]
#[command(after_help = REPLAY_EXAMPLES, allow_negative_numbers = true)]
pub struct ReplayOptions {
    /// Captures, pcap or pcapng, as they are or compressed by gzip or zstd; - is standard input. A pipe is
    /// read once.
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
  hio-udp replay flows.pcapng --to 127.0.0.1:2055 --speed max --loop 100 --json | jq .seconds

All datagrams go to one destination, from one port of this machine, in the order of the captures. A file \
follows the one before without a pause. Every packet is sent, failed, not_sent (a stop) or skipped, by why.";
