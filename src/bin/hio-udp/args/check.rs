//! The options of `check`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckOptions {
    /// A TOML file, as ingest --config takes it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Print what it says, or what is wrong with it, as one JSON object.
    #[arg(long)]
    pub json: bool,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  hio-udp check /etc/hio-udp.toml
  hio-udp check /etc/hio-udp.toml && systemctl reload hio-udp
  hio-udp check flows.toml --json | jq -r '.problems[].message'

It prints every option that ingest would have with this file alone, as a file again, and where it is from. \
Nothing is opened and no name is resolved. Exit codes: 0 valid, 1 not valid, 2 usage.";
