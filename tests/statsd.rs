//! The example `statsd`: its sums against a naive model, bad lines, bounds, and what it allocates.

#[path = "support/allocator.rs"]
mod allocator;
#[allow(dead_code)]
#[path = "../examples/statsd/main.rs"]
mod statsd;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use statsd::{Format, Metrics, Options, Statsd};
use support::until;

fn start(options: &str) -> Statsd {
    let line = format!("statsd --bind {}:0 {options}", support::own_host());
    Statsd::start(&Options::try_parse_from(line.split_whitespace()).unwrap()).unwrap()
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Keeps everything and sums it up in the plainest way.
#[derive(Default)]
struct Model {
    counts: BTreeMap<String, f64>,
    gauges: BTreeMap<String, f64>,
    times: BTreeMap<String, Vec<(f64, f64)>>,
    sets: BTreeMap<String, BTreeSet<u64>>,
}

impl Model {
    /// A line that nobody has sent yet. Numbers are such that sums of them are exact in any order.
    fn line(&mut self, random: &mut Random, has_gauges: bool) -> String {
        let (number, value) = (random.below(5), random.below(1_000));
        let rate = [1.0, 0.5, 0.25, 0.1][random.below(4) as usize];
        let at = if rate == 1.0 { String::new() } else { format!("|@{rate}") };
        match random.below(if has_gauges { 5 } else { 3 }) {
            0 => {
                let name = format!("count.{number}");
                *self.counts.entry(name.clone()).or_default() += value as f64 / rate;
                format!("{name}:{value}|c{at}")
            }
            1 => {
                let name = format!("time.{number}");
                self.times.entry(name.clone()).or_default().push((value as f64, 1.0 / rate));
                format!("{name}:{value}|ms{at}")
            }
            2 => {
                let name = format!("set.{number}");
                self.sets.entry(name.clone()).or_default().insert(value);
                format!("{name}:{value}|s")
            }
            3 => {
                let name = format!("gauge.{number}");
                self.gauges.insert(name.clone(), value as f64);
                format!("{name}:{value}|g")
            }
            _ => {
                let (name, sign) = (format!("gauge.{number}"), [1.0, -1.0][random.below(2) as usize]);
                *self.gauges.entry(name.clone()).or_default() += sign * value as f64;
                format!("{name}:{}{value}|g", if sign > 0.0 { '+' } else { '-' })
            }
        }
    }

    /// What a flush is to print, but for the rates, and ends the interval.
    fn end_interval(&mut self) -> BTreeMap<String, f64> {
        let mut rows = BTreeMap::new();
        for (name, sum) in &mut self.counts {
            rows.insert(format!("stats.counters.{name}.count"), std::mem::take(sum));
        }
        for (name, value) in &self.gauges {
            rows.insert(format!("stats.gauges.{name}"), *value);
        }
        for (name, times) in &mut self.times {
            let mut row = |what: &str, value| _ = rows.insert(format!("stats.timers.{name}.{what}"), value);
            let mut sorted: Vec<f64> = times.iter().map(|(value, _)| *value).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            row("count", times.drain(..).map(|(_, weight)| weight).sum());
            let Some(max) = sorted.last() else { continue };
            row("min", sorted[0]);
            row("max", *max);
            row("mean", sorted.iter().sum::<f64>() / sorted.len() as f64);
            for percent in [50, 95, 99] {
                // The first that so many percent are not above.
                let is_enough = |at: &usize| (at + 1) * 100 >= percent * sorted.len();
                row(&format!("p{percent}"), sorted[(0..sorted.len()).find(is_enough).unwrap()]);
            }
        }
        for (name, set) in &mut self.sets {
            rows.insert(format!("stats.sets.{name}.count"), std::mem::take(set).len() as f64);
        }
        rows.insert("stats.statsd.lines_malformed.total".to_owned(), 0.0);
        rows
    }
}

/// The rows of a Graphite text, without the rates: those depend on the clock.
fn graphite(text: &[u8]) -> BTreeMap<String, f64> {
    let rows = std::str::from_utf8(text).unwrap().lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [path, value, time] = fields[..] else { panic!("{line:?} is not three fields") };
        assert!(time.parse::<u64>().unwrap() > 1_700_000_000, "{line}");
        (path.to_owned(), value.parse().unwrap())
    });
    rows.filter(|(path, _)| !path.ends_with(".rate")).collect()
}

#[test]
fn every_flush_prints_exactly_the_sums_of_a_naive_model() {
    let shards = if cfg!(target_os = "linux") { 2 } else { 1 };
    // With several threads, what comes for one gauge has no order.
    for (options, has_gauges) in [
        ("--workers 1".to_owned(), true),
        ("--workers 0".to_owned(), true),
        (format!("--workers 3 --shards {shards}"), false),
    ] {
        let (mut statsd, mut model, mut random) = (start(&options), Model::default(), Random(7));
        let sockets: Vec<UdpSocket> = (0..8).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
        let (mut sent, mut lines_sent) = (0, 0);
        let mut send_some = |statsd: &Statsd, model: &mut Model| {
            for _ in 0..500 {
                let lines: Vec<String> =
                    (0..1 + random.below(8)).map(|_| model.line(&mut random, has_gauges)).collect();
                let end = ["", "\n", "\r\n"][random.below(3) as usize];
                // One sender where order matters.
                let socket = &sockets[if has_gauges { 0 } else { sent as usize % sockets.len() }];
                socket.send_to(format!("{}{end}", lines.join("\n")).as_bytes(), statsd.pipeline().ha()).unwrap();
                (sent, lines_sent) = (sent + 1, lines_sent + lines.len() as u64);
                // The default buffer of some systems is small.
                until("a datagram", || statsd.pipeline().stats().total().grams_delivered == sent);
            }
        };
        for interval in 0..3 {
            send_some(&statsd, &mut model);
            let mut text = Vec::new();
            statsd.flush(&mut text).unwrap();
            assert_eq!(graphite(&text), model.end_interval(), "{options}, interval {interval}");
        }
        // And one that only the stop prints.
        send_some(&statsd, &mut model);
        let mut text = Vec::new();
        let (stats, all) = statsd.stop(&mut text).unwrap();
        assert_eq!(graphite(&text), model.end_interval(), "{options}, the last");
        assert_eq!((stats.grams_delivered, stats.grams_accounted()), (sent, sent));
        assert_eq!((all.lines_taken, all.lines_malformed, all.lines_without_room), (lines_sent, 0, 0));
    }
}

fn print(metrics: &mut Metrics, format: Format) -> String {
    let mut text = Vec::new();
    metrics.print(&mut text, format, SystemTime::now(), Duration::from_secs(2)).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_line_that_cannot_be_read_is_counted_and_the_first_is_shown() {
    for (line, why) in [
        (&b"hits"[..], "no ':'"),
        (b":1|c", "name is empty"),
        (b"two words:1|c", "white space"),
        (b"hits:1", "no '|'"),
        (b"hits:|c", "not a number"),
        (b"hits:one|c", "not a number"),
        (b"hits:nan|c", "not a number"),
        (b"hits:inf|g", "not a number"),
        (b"hits:1e19|ms", "beyond 1e18"),
        (b"hits:1|x", "none of c, g"),
        (b"hits:1|c|@0", "a rate"),
        (b"hits:1|c|@1.5", "a rate"),
        (b"hits:1|c|@-1", "a rate"),
        (b"hits:1|c|@nan", "a rate"),
        (b"hits:1|c|0.1", "'@'"),
        (b"hits:1|c|@0.1|#tag", "more than"),
        (b"hits\xFF:1|c", "not UTF-8"),
    ] {
        let mut metrics = Metrics::default();
        let datagram = [b"good:1|c\n", line, b"\n\ngood:2|c\n"].concat();
        metrics.add(&datagram, false, Instant::now());
        assert_eq!((metrics.lines_taken, metrics.lines_malformed), (2, 1), "{}", line.escape_ascii());
        let complaint = metrics.complaint().unwrap();
        for part in ["1 malformed", why, &line.escape_ascii().to_string()] {
            assert!(complaint.contains(part), "{part:?} not in {complaint:?}");
        }
        assert!(print(&mut metrics, Format::Graphite).contains("stats.counters.good.count 3 "));
        metrics.end_interval();
        assert_eq!((metrics.complaint(), metrics.lines_malformed), (None, 1));
    }
}

#[test]
fn any_bytes_are_taken_or_counted() {
    let (mut random, mut metrics, mut lines) = (Random(3), Metrics::default(), 0);
    for _ in 0..100_000 {
        let alphabet = b"a.:|@#+-019ecgmshinf\n\r \xC3\xFF";
        let bytes: Vec<u8> =
            (0..random.below(24)).map(|_| alphabet[random.below(alphabet.len() as u64) as usize]).collect();
        metrics.add(&bytes, false, Instant::now());
        let mut there = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines += there.by_ref().filter(|line| !line.is_empty()).count() as u64;
    }
    assert_eq!(metrics.lines_taken + metrics.lines_malformed + metrics.lines_without_room, lines);
    assert!(metrics.lines_taken > 0, "the alphabet makes some good lines");
    print(&mut metrics, Format::Graphite);
    print(&mut metrics, Format::Prometheus);
}

#[test]
fn the_last_line_of_a_datagram_that_was_cut_is_not_taken() {
    let mut metrics = Metrics::default();
    metrics.add(b"hits:1|c\nhits:10", true, Instant::now());
    metrics.add(b"hits:1|c\nhits:10|c", true, Instant::now()); // it may have gone on with "|@0.1"
    assert_eq!((metrics.lines_taken, metrics.lines_malformed), (2, 2));
    assert!(print(&mut metrics, Format::Graphite).contains("stats.counters.hits.count 2 "));
    // So it goes through a socket, whatever the length.
    let statsd = start("");
    let mut lines = "hits:1|c\n".repeat(2_000);
    lines.truncate(statsd::GRAM_SIZE + 1);
    UdpSocket::bind("0.0.0.0:0").unwrap().send_to(lines.as_bytes(), statsd.pipeline().ha()).unwrap();
    until("it", || statsd.pipeline().stats().total().grams_delivered == 1);
    let (_, all) = statsd.stop(&mut std::io::sink()).unwrap();
    assert_eq!((all.lines_taken, all.lines_malformed), ((statsd::GRAM_SIZE / 9) as u64, 1));
}

#[test]
fn prometheus_counters_go_on_and_names_become_valid() {
    let mut metrics = Metrics::default();
    metrics.add(
        b"web.hits-a:2|c|@0.5\n2xx:1|c\nrtt:10|ms\nrtt:20|ms\nusers:a|s\nload:3|g\nload:-4|g",
        false,
        Instant::now(),
    );
    metrics.end_interval();
    metrics.add("web.hits-a:1|c\nrtt:40|ms\ngröße:1|g".as_bytes(), false, Instant::now());
    let text = print(&mut metrics, Format::Prometheus);
    for line in [
        "# TYPE web_hits_a_total counter",
        "web_hits_a_total 5",
        "_2xx_total 1",
        "# TYPE rtt summary",
        "rtt_sum 70",
        "rtt_count 3",
        "rtt{quantile=\"0.5\"} 40",
        "rtt_min 40",
        "load -1",
        "gr__e 1",
        "users 0",
        "statsd_lines_malformed_total 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line:?} not in\n{text}");
    }
}

#[test]
fn names_members_and_kept_values_are_bounded_and_what_finds_no_room_is_counted() {
    const MORE: usize = 10;
    let (mut metrics, now) = (Metrics::default(), Instant::now());
    (0..statsd::NAMES_MAX + MORE).for_each(|i| metrics.add(format!("n{i}:1|c").as_bytes(), false, now));
    (0..statsd::VALUES_MAX + MORE).for_each(|i| metrics.add(format!("set:{i}|s").as_bytes(), false, now));
    assert_eq!(metrics.lines_without_room, 2 * MORE as u64);
    assert!(metrics.complaint().unwrap().starts_with("20 lines without room"));
    // What is known has room for ever.
    metrics.add(b"n0:1|c\nset:0|s", false, now);
    assert_eq!(metrics.lines_without_room, 2 * MORE as u64);
    // Of more values than are kept, percentiles are near what they are.
    let values = 4 * statsd::VALUES_MAX;
    (0..values).for_each(|i| metrics.add(format!("t:{i}|ms").as_bytes(), false, now));
    let rows = graphite(print(&mut metrics, Format::Graphite).as_bytes());
    for (what, exact, off) in
        [("count", 1.0, 0.0), ("min", 0.0, 0.0), ("p50", 0.5, 0.02), ("p95", 0.95, 0.02), ("p99", 0.99, 0.02)]
    {
        let value = rows[&format!("stats.timers.t.{what}")] / values as f64;
        assert!((value - exact).abs() <= off, "{what}: {value}");
    }
    assert_eq!(rows["stats.timers.t.max"], (values - 1) as f64);
}

#[test]
fn lines_of_known_names_are_summed_up_and_flushed_without_allocating_in_the_thread_that_does() {
    let (mut share, mut all, now) = (Metrics::default(), Metrics::default(), Instant::now());
    let datagram: Vec<String> = (0..50).map(|i| format!("c{i}:1|c|@0.1\ng:+1|g\nt:{i}|ms\ns:{i}|s\nbad")).collect();
    let datagram = datagram.join("\n");
    let mut interval = || {
        let allocated = allocator::allocations(|| {
            (0..20).for_each(|_| share.add(datagram.as_bytes(), false, now));
        });
        all.absorb(&mut share);
        all.end_interval();
        allocated
    };
    assert!(interval() > 0, "the names are new");
    assert_eq!([0; 5].map(|_| interval()), [0; 5]);
}
