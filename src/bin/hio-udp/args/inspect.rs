//! The options of `inspect`.

use std::path::PathBuf;

use clap::Args;

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
  hio-udp inspect kept/*.pcapng.zst --json | jq '.lost, .damage'

Several files are summed up as one capture. A damaged file is read as far as it can be, and damage is no \
failure: the report tells where, what kind and how many bytes. What the system cannot read is one.";
