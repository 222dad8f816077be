//! `hio-udp`: receive UDP datagrams at high rate, store them, and account for every one of them.
//!
//! ```text
//!  main ── args ── ingest ── screen  (which datagrams are taken in)
//!            │        ├───── sinks   (where they go, each in a thread of its own)
//!            │        ├───── probe   (recognises blast's datagrams), heavy (counts sources)
//!            │        ├───── status  (the live line), top (the whole terminal) ── notes
//!            │        ├───── metrics (over HTTP), events (as lines) ── notes
//!            │        └───── account (what became of every datagram)
//!            ├── blast ───── probe   (makes them)
//!            ├── demo: both at once
//!            ├── replay ──── packets, sender
//!            ├── config  (ingest's options from environment and file) ─ check
//!            ├── manual  (pages and completions)
//!            ├── doctor ──── machine ── proc
//!            └── inspect ─── capture ── unpack, packets ── blocks (pcapng), records (pcap) ── window
//!                  └── summary ── headers, heavy, timeline
//! ```
//!
//! Built on the library's public API only. Exit codes: 0 done, 1 failure, 2 usage.

mod account;
mod args;
mod blast;
mod blocks;
mod capture;
mod check;
mod config;
mod demo;
mod doctor;
mod endian;
mod events;
mod expansion;
mod failure;
mod headers;
mod heavy;
mod ingest;
mod input;
mod inspect;
mod machine;
mod manual;
mod memory;
mod metrics;
mod notes;
mod packets;
mod privileges;
mod probe;
mod proc;
mod records;
mod replay;
mod screen;
mod sender;
mod sinks;
mod status;
mod stop;
mod summary;
mod timeline;
mod top;
mod unpack;
mod utc;
mod window;

use std::process::ExitCode;

use args::Command;
use failure::Failure;

fn main() -> ExitCode {
    let begun = memory::require_small_parts().map_err(|_| Failure::run(memory::TOO_LITTLE));
    match begun.and_then(|()| parse_and_run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            failure.exit_code()
        }
    }
}

fn parse_and_run() -> Result<(), Failure> {
    // Silent unless RUST_LOG asks: what a user must know is said once, in a sentence of our own.
    events::take_messages();
    args::parse()?.map_or(Ok(()), run)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ingest(options) if options.demo => demo::run(*options),
        Command::Ingest(options) => ingest::run(*options),
        Command::Blast(options) => blast::run(options),
        Command::Inspect(options) => inspect::run(options),
        Command::Replay(options) => replay::run(options),
        Command::Check(options) => check::run(&options),
        Command::Doctor(options) => doctor::run(options),
        Command::Manual(options) => manual::run(&options),
        Command::Completions(options) => manual::complete(&options),
    }
}
