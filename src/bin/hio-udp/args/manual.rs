//! The options of `manual` and `completions`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL_EXAMPLES)]
pub struct ManualOptions {
    /// A command, for its own page; without it, the page of the program.
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,

    /// Write all pages into this directory instead, which is made if it is not there.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub out: Option<PathBuf>,
}

const MANUAL_EXAMPLES: &str = "\
Examples:
  hio-udp manual ingest | man -l -
  hio-udp manual --out /usr/local/share/man/man1";

#[derive(Args, Clone, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsOptions {
    /// The shell to complete in.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  hio-udp completions bash > /etc/bash_completion.d/hio-udp
  hio-udp completions zsh > /usr/local/share/zsh/site-functions/_hio-udp
  hio-udp completions fish > ~/.config/fish/completions/hio-udp.fish";
