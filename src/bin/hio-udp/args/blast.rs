//! The options of `blast`.

use std::time::Duration;

use clap::Args;

use super::values::{HostPort, Rate, destination, period, positive, probe_size, sources};

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

    /// Stop after so many seconds, or such as 0.5 or 5m.
    #[arg(long, value_name = "S", value_parser = period)]
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
