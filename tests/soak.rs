//! The built program under load for a time: memory and descriptors flat, the account exact, drops as the kernel
//! counts them. `HIO_UDP_SOAK_S` is how many seconds.
#![cfg(target_os = "linux")]

#[path = "util/program.rs"]
mod util;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use util::{Dir, Ingest, PROGRAM, assert_adds_up, blast, free_port, kernel_rows, number, resident_bytes, wait_until};

const MIB: u64 = 1 << 20;
/// What may wait for a sink: memory that is touched when so much first waits.
const QUEUE_BYTES: u64 = 16 * MIB;

fn descriptors(ingest: &Ingest) -> usize {
    fs::read_dir(format!("/proc/{}/fd", ingest.child.id())).unwrap().count()
}

/// Ends it once it is read out: its account, in which the drops are those the kernel tells.
///
/// The kernel leaves a row out when another socket goes away while its table is read.
fn stop_and_compare(ingest: Ingest, sockets: usize, sent: u64) -> Value {
    let port = ingest.addr.port();
    let mut dropped = 0;
    wait_until("all sockets to be read out", || {
        let (rows, waiting, drops) = kernel_rows(port);
        dropped = drops;
        (rows, waiting) == (sockets, 0)
    });
    let (code, account, said) = ingest.stop();
    assert_eq!((code, number(&account, "kernel_dropped")), (0, dropped), "{said}");
    assert_adds_up(&account, sent);
    account
}

fn soak(name: &str, rate: &str) {
    let seconds = std::env::var("HIO_UDP_SOAK_S").unwrap_or("5".into());
    let dir = Dir::new(name);
    let sink = format!("pcapng:{}", dir.join("kept"));
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &sink, "--rotate-bytes", "16M", "--keep-bytes", "64M"]);
    let descriptors_before = descriptors(&ingest);
    let mut command = Command::new(PROGRAM);
    command.args(["blast", "--json", "--to", &ingest.addr.to_string(), "--rate", rate, "--duration", &seconds]);
    let mut load = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut samples = Vec::new();
    while load.try_wait().unwrap().is_none() {
        samples.push((resident_bytes(&ingest), descriptors(&ingest)));
        sleep(Duration::from_millis(100));
    }
    let sent: Value = serde_json::from_slice(&load.wait_with_output().unwrap().stdout).unwrap();
    // The file of a segment that is being closed is open beside the next one.
    wait_until("the descriptors there were before", || descriptors(&ingest) == descriptors_before);
    let descriptors_max = samples.iter().map(|sample| sample.1).max().unwrap();
    let settled = &samples[samples.len() / 5..];
    let median = |part: &[(u64, usize)]| {
        let mut resident: Vec<_> = part.iter().map(|sample| sample.0).collect();
        resident.sort_unstable();
        resident[resident.len() / 2]
    };
    let quarter = settled.len() / 4;
    let (early, late) = (median(&settled[..quarter]), median(&settled[settled.len() - quarter..]));
    let account = stop_and_compare(ingest, 1, number(&sent, "sent"));
    println!(
        "{name}, {seconds} s: {} sent, {} delivered, {} dropped by the kernel, as /proc/net/udp tells; \
         {:.2} MiB resident in the first quarter, {:.2} in the last; {descriptors_before} descriptors, {descriptors_max} at most",
        number(&sent, "sent"),
        number(&account, "delivered"),
        number(&account, "kernel_dropped"),
        early as f64 / MIB as f64,
        late as f64 / MIB as f64,
    );
    assert!(late < early + QUEUE_BYTES + 4 * MIB, "{early} bytes resident, then {late}");
    // Four segments may wait to be closed behind one that is, and two threads open the directory meanwhile.
    assert!(descriptors_max <= descriptors_before + 7, "{descriptors_max} descriptors, {descriptors_before} before");
}

#[test]
fn a_soak_at_full_rate_keeps_memory_and_descriptors_flat_and_the_account_exact() {
    soak("full-rate", "max");
}

#[test]
fn a_soak_at_a_thousand_a_second_keeps_memory_and_descriptors_flat_and_the_account_exact() {
    soak("1000-a-second", "1000");
}

#[test]
fn what_overflows_while_the_process_is_suspended_is_counted_exactly() {
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", "null", "--rcvbuf", "65536"]);
    ingest.signal("STOP");
    let sent = number(&blast(ingest.addr, &["--count", "20000", "--rate", "max"]), "sent");
    wait_until("drops", || kernel_rows(ingest.addr.port()).2 > 0);
    ingest.signal("CONT");
    let account = stop_and_compare(ingest, 1, sent);
    assert!(number(&account, "kernel_dropped") > 0, "{account}");
}

#[test]
fn sixty_four_sockets_account_for_every_datagram_and_stop() {
    // One port on as many addresses.
    let port = free_port();
    let binds: Vec<String> = (1..=64).map(|host| format!("127.0.0.{host}:{port}")).collect();
    let others: Vec<&str> = binds[1..].iter().flat_map(|bind| ["--bind", bind]).collect();
    let ingest = Ingest::start(&binds[0], &others);
    let count = |bind: &String| number(&blast(bind.parse().unwrap(), &["--count", "500", "--rate", "max"]), "sent");
    let sent = binds.iter().map(count).sum();
    stop_and_compare(ingest, 64, sent);
}

#[test]
fn sixty_four_shards_account_for_every_datagram_and_stop() {
    let ingest = Ingest::start("127.0.0.1:0", &["--shards", "64", "--spread", "random", "--sink", "null"]);
    let sent = number(&blast(ingest.addr, &["--count", "200000", "--rate", "max"]), "sent");
    let account = stop_and_compare(ingest, 64, sent);
    assert_eq!(account["shards"].as_array().unwrap().len(), 64);
}

/// A process that takes all of processor 0 that it is given.
struct Spinner(Child);

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_processor_shared_with_busy_processes_leaves_the_account_exact() {
    let spin =
        || Spinner(Command::new("taskset").args(["-c", "0", "sh", "-c", "while :; do :; done"]).spawn().unwrap());
    let _busy = [spin(), spin(), spin()];
    let ingest = Ingest::start("127.0.0.1:0", &["--pin", "0", "--sink", "null", "--rcvbuf", "65536"]);
    let sent = number(&blast(ingest.addr, &["--count", "500000", "--rate", "max"]), "sent");
    stop_and_compare(ingest, 1, sent);
}
