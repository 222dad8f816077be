//! The portable backend against a bare `recvfrom` loop (G13).
//!
//! A backend is chosen when the crate is built, so this builds the program `drain_portable` once more,
//! for the portable backend, in a target folder of its own, and runs it.

use std::env;
use std::process::{Command, ExitCode};

use hio_udp_benches::harness;
use hio_udp_benches::report::{self, Report};

fn main() -> ExitCode {
    if harness::is_smoke_test() {
        println!("a smoke test builds nothing more: the portable backend is not measured");
        return ExitCode::SUCCESS;
    }
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--release", "-p", "hio-udp-benches", "--bin", "drain_portable"])
        .arg("--target-dir")
        .arg(report::root().join("target/single"))
        .args(["--", "--bench"])
        .current_dir(report::root())
        .env("RUSTFLAGS", "--cfg force_single")
        .env(report::RUN, report::run())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        // The other benches, and the goals they have measured, are worth going on for.
        failed => {
            eprintln!("the portable backend was not measured: {failed:?}");
            Report::new("portable").save();
            ExitCode::SUCCESS
        }
    }
}
