//! Which metrics there are. docs/OPERATING.md tells what each means.
//!
//! The number of series is bounded: by addresses, shards and sinks, which are configured; by the reasons that a
//! ledger tells apart; by [`SOURCES_TOLD`].

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hio_udp::ShardStats;

use super::format::{Kind, Text};
use crate::ingest::{ListenerNow, Snapshot, Watch};
use crate::proc;
use crate::sinks::SinkNow;

/// So many of the heaviest sources have a series each.
const SOURCES_TOLD: usize = 10;

/// Name, help, and where the number stands.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);

const SHARD_COUNTERS: &[Metric<ShardStats>] = &[
    ("received_datagrams_total", "Datagrams read from the socket and handed on.", |shard| {
        shard.grams_delivered + shard.socket.grams_undecodable
    }),
    ("received_bytes_total", "Payload bytes read from the socket.", |shard| shard.socket.bytes_received),
    ("kernel_dropped_datagrams_total", "Datagrams the kernel dropped because the socket's buffer was full.", |shard| {
        shard.socket.kernel_dropped
    }),
    ("undecodable_datagrams_total", "Of the delivered: without a readable source; no sink has them.", |shard| {
        shard.socket.grams_undecodable
    }),
    ("receive_calls_total", "System calls that asked for datagrams.", |shard| shard.socket.recv_calls),
    ("receive_errors_total", "Receive calls that failed; they lose nothing.", |shard| shard.receive_errors),
    (
        "reader_stalls_total",
        "Times the reader waited for a ring because those who handle datagrams were slow.",
        |shard| shard.reader_stalls,
    ),
];

const SHARD_GAUGES: &[Metric<ShardStats>] = &[
    ("rings", "Receive rings.", |shard| shard.rings),
    ("rings_free", "Of the rings: free.", |shard| shard.rings_free),
    ("rings_full", "Of the rings: filled, and waiting for a worker.", |shard| shard.rings_full),
];

const LISTENER_COUNTERS: &[Metric<ListenerNow>] = &[
    ("delivered_datagrams_total", "Datagrams let in and handed to the sinks.", |one| {
        one.counts.delivered + one.stats.total().socket.grams_undecodable
    }),
    ("delivered_bytes_total", "Payload bytes of these, without what was cut off.", |one| one.counts.bytes),
    ("denied_datagrams_total", "Datagrams from sources that --allow or --deny keeps out.", |one| one.counts.denied),
    ("rate_limited_datagrams_total", "Datagrams above what --rate-limit lets a source send.", |one| one.counts.limited),
    ("truncated_datagrams_total", "Of the delivered: longer than --gram-size, and cut.", |one| one.counts.truncated),
    ("left_behind_datagrams_total", "Datagrams past --count, or read too late in a stop.", |one| {
        one.counts.left_behind + one.stats.total().grams_left_behind
    }),
    ("handler_panics_total", "Bugs of this program that have cost a batch.", |one| one.stats.total().handler_panics),
];

const LISTENER_GAUGES: &[Metric<ListenerNow>] = &[
    (
        "socket_receive_buffer_bytes",
        "Receive buffer of each socket, as the kernel reports it (Linux: doubled).",
        |one| one.recv_buf_bytes as u64,
    ),
    ("socket_receive_buffer_clamped", "1 if the kernel granted less than was asked.", |one| u64::from(one.is_clamped)),
];

const SINK_COUNTERS: &[Metric<SinkNow>] = &[
    ("sink_written_datagrams_total", "Datagrams this sink has written.", |sink| sink.written),
    ("sink_written_bytes_total", "Bytes these took.", |sink| sink.bytes),
    // There from the start, so that the first of them is seen as an increase; a reason is there once it has been met.
    ("sink_lacking_datagrams_total", "Datagrams this sink has not written, whatever the reason.", |sink| {
        sink.not_written
    }),
];

const SINK_GAUGES: &[Metric<SinkNow>] = &[
    ("sink_queue_chunks", "Chunks of datagrams that wait for this sink.", |sink| sink.queued as u64),
    ("sink_queue_capacity_chunks", "Chunks that may wait for it.", |sink| sink.queue as u64),
];

/// Everything; without a `watch`, what there is before datagrams are received.
pub fn metrics(watch: Option<&Watch>, started: SystemTime, is_ready: bool) -> String {
    let mut text = Text::default();
    process(&mut text, started);
    text.family("hio_udp_ready", Kind::Gauge, "1 if /readyz says so: receiving, and nothing lost in 10 seconds.");
    text.sample("hio_udp_ready", &[], u8::from(is_ready));
    if let Some(watch) = watch {
        let snapshot = watch.snapshot();
        build_info(&mut text, &snapshot);
        listeners(&mut text, &snapshot.listeners);
        sinks(&mut text, &snapshot.sinks);
        sources(&mut text, watch);
    }
    text.finish()
}

fn process(text: &mut Text, started: SystemTime) {
    let name = "process_start_time_seconds";
    text.family(name, Kind::Gauge, "When the process started, in seconds since 1970.");
    let since_epoch = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    text.sample(name, &[], format_args!("{:.3}", since_epoch.as_secs_f64()));
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    if let Some(bytes) = proc::resident_bytes(&status) {
        text.family("process_resident_memory_bytes", Kind::Gauge, "Memory that is in RAM.");
        text.sample("process_resident_memory_bytes", &[], bytes);
    }
}

fn build_info(text: &mut Text, snapshot: &Snapshot) {
    text.family("hio_udp_build_info", Kind::Gauge, "Version, and how datagrams are received.");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("backend", snapshot.backend())];
    text.sample("hio_udp_build_info", &labels, 1);
}

fn listeners(text: &mut Text, listeners: &[ListenerNow]) {
    for (kind, metrics) in [(Kind::Counter, SHARD_COUNTERS), (Kind::Gauge, SHARD_GAUGES)] {
        for (name, help, number) in metrics {
            let name = begin(text, name, kind, help);
            for listener in listeners {
                let bind = listener.local.to_string();
                for (shard, stats) in listener.stats.shards.iter().enumerate() {
                    text.sample(&name, &[("bind", &bind), ("shard", &shard.to_string())], number(stats));
                }
            }
        }
    }
    for (kind, metrics) in [(Kind::Counter, LISTENER_COUNTERS), (Kind::Gauge, LISTENER_GAUGES)] {
        for (name, help, number) in metrics {
            let name = begin(text, name, kind, help);
            for listener in listeners {
                text.sample(&name, &[("bind", &listener.local.to_string())], number(listener));
            }
        }
    }
    let name = begin(text, "batch_datagrams", Kind::Histogram, "Datagrams handed on at once.");
    for listener in listeners {
        batches(text, &name, listener);
    }
}

/// Sizes of batches: each bound is the largest size that is counted with it.
fn batches(text: &mut Text, name: &str, listener: &ListenerNow) {
    let (bind, mut batches) = (listener.local.to_string(), 0);
    let bucket = format!("{name}_bucket");
    for (i, count) in listener.counts.fills.iter().enumerate() {
        batches += count;
        let largest = (2_u64 << i) - 1;
        text.sample(&bucket, &[("bind", &bind), ("le", &largest.to_string())], batches);
    }
    text.sample(&bucket, &[("bind", &bind), ("le", "+Inf")], batches);
    text.sample(&format!("{name}_sum"), &[("bind", &bind)], listener.counts.handled());
    text.sample(&format!("{name}_count"), &[("bind", &bind)], batches);
}

fn sinks(text: &mut Text, sinks: &[SinkNow]) {
    if sinks.is_empty() {
        return;
    }
    for (kind, metrics) in [(Kind::Counter, SINK_COUNTERS), (Kind::Gauge, SINK_GAUGES)] {
        for (name, help, number) in metrics {
            let name = begin(text, name, kind, help);
            for sink in sinks {
                text.sample(&name, &[("sink", &sink.name)], number(sink));
            }
        }
    }
    let help = "The same, by the reason.";
    let name = begin(text, "sink_not_written_datagrams_total", Kind::Counter, help);
    for sink in sinks {
        for (reason, count) in &sink.not_written_by_reason {
            text.sample(&name, &[("sink", &sink.name), ("reason", reason)], count);
        }
    }
    let help = "How long receiving has waited for this sink.";
    let name = begin(text, "sink_wait_seconds_total", Kind::Counter, help);
    for sink in sinks {
        text.sample(&name, &[("sink", &sink.name)], sink.waited.as_secs_f64());
    }
}

fn sources(text: &mut Text, watch: &Watch) {
    let (heaviest, missing_max) = watch.heaviest(SOURCES_TOLD);
    let help = "Datagrams delivered of the heaviest sources.";
    let name = begin(text, "source_datagrams", Kind::Gauge, help);
    for (source, weight) in heaviest {
        text.sample(&name, &[("source", &source.to_string())], weight.datagrams);
    }
    let help = "How many datagrams may be missing from each hio_udp_source_datagrams.";
    let name = begin(text, "source_datagrams_missing_max", Kind::Gauge, help);
    text.sample(&name, &[], missing_max);
}

/// Begins a family of ours; gives its whole name.
fn begin(text: &mut Text, name: &str, kind: Kind, help: &str) -> String {
    let name = format!("hio_udp_{name}");
    text.family(&name, kind, help);
    name
}
