//! The options of `doctor`.

use std::time::Duration;

use clap::Args;

use super::values::{HostPort, datagrams_per_s, host_port, payload_size, period};

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
    #[arg(long, value_name = "S", default_value = "0.05", value_parser = period)]
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
