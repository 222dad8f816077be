//! `--metrics` of the built program, over HTTP: against its account, and against strangers.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

#[path = "util/program.rs"]
mod util;
use util::{Ingest, assert_adds_up, blast, metrics_of, number, run};

/// Longest a test waits for anything: a machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(args: &[&str]) -> (Ingest, SocketAddr) {
    let ingest = Ingest::start("127.0.0.1:0", &[&["--metrics", "127.0.0.1:0"], args].concat());
    let addr = metrics_of(&ingest);
    (ingest, addr)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request as it stands; gives status, headers and body.
fn ask(to: SocketAddr, request: &[u8]) -> (u16, String, String) {
    let mut stream = connect(to);
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let code = head.strip_prefix("HTTP/1.1 ").unwrap().split(' ').next().unwrap().parse().unwrap();
    (code, head.to_owned(), body.to_owned())
}

fn get(to: SocketAddr, path: &str) -> (u16, String) {
    let (code, _, body) = ask(to, format!("GET {path} HTTP/1.1\r\nHost: it\r\n\r\n").as_bytes());
    (code, body)
}

/// A scrape: values by series, as they stand there.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Reads the text as strictly as its description: each family once, with help and type before its samples, each
    /// series once, counters by their name, histograms that add up.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let (mut series, mut families, mut family) = (BTreeMap::new(), BTreeSet::new(), (String::new(), String::new()));
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(help.ends_with('.') && families.insert(name.to_owned()), "{line}");
                let kind =
                    lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).expect("a type after the help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                family = (name.to_owned(), kind.to_owned());
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
            let allowed: &[&str] = if family.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.iter().any(|end| name == format!("{}{end}", family.0)), "{line} in {family:?}");
            let value: f64 = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(series.insert(key.to_owned(), value).is_none(), "twice: {key}");
        }
        Self(series)
    }

    fn of(to: SocketAddr) -> Self {
        let (code, text) = get(to, "/metrics");
        assert_eq!(code, 200);
        Self::parse(&text)
    }

    /// Sum over all series of a name.
    fn sum(&self, name: &str) -> u64 {
        let of_name = self.0.iter().filter(|(key, _)| key.split('{').next() == Some(name));
        of_name.map(|(_, value)| *value as u64).sum()
    }

    /// Those of a name that have this in their labels.
    fn with(&self, name: &str, label: &str) -> u64 {
        let mut found = self.0.iter().filter(|(key, _)| key.split('{').next() == Some(name) && key.contains(label));
        *found.next().unwrap_or_else(|| panic!("no {name} with {label}")).1 as u64
    }

    fn arrived(&self) -> u64 {
        ["delivered", "denied", "rate_limited", "left_behind", "kernel_dropped"]
            .iter()
            .map(|part| self.sum(&format!("hio_udp_{part}_datagrams_total")))
            .sum()
    }
}

/// Scrapes until it is as wanted.
fn scrape_until(to: SocketAddr, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let scrape = Scrape::of(to);
        if wanted(&scrape) {
            return scrape;
        }
        assert!(Instant::now() < deadline, "{:#?}", scrape.0);
        thread::sleep(Duration::from_millis(50));
    }
}

fn send_from(source: &str, to: SocketAddr, count: usize) {
    let socket = UdpSocket::bind((source, 0)).unwrap();
    (0..count).for_each(|_| _ = socket.send_to(b"seven b", to).unwrap());
}

#[test]
fn the_counters_are_those_of_the_account_and_never_fall_under_load() {
    let args = ["--sink", "null", "--deny", "127.0.0.2", "--gram-size", "64"];
    let (ingest, metrics) = start(&args);
    let to = ingest.addr;
    let load =
        thread::spawn(move || number(&blast(to, &["--duration", "1", "--rate", "20000", "--size", "100"]), "sent"));
    let mut before = 0;
    loop {
        let now = Scrape::of(metrics).arrived();
        assert!(now >= before, "{now} after {before}");
        before = now;
        if load.is_finished() {
            break;
        }
    }
    send_from("127.0.0.2", to, 10);
    let sent = load.join().unwrap() + 10;
    let written = |scrape: &Scrape| scrape.sum("hio_udp_sink_written_datagrams_total");
    let delivered = |scrape: &Scrape| scrape.sum("hio_udp_delivered_datagrams_total");
    let scrape = scrape_until(metrics, |scrape| scrape.arrived() == sent && written(scrape) == delivered(scrape));
    let delivered = delivered(&scrape);
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_adds_up(&account, sent);

    for (name, field) in [
        ("delivered_datagrams", "delivered"),
        ("denied_datagrams", "denied"),
        ("rate_limited_datagrams", "rate_limited"),
        ("kernel_dropped_datagrams", "kernel_dropped"),
        ("left_behind_datagrams", "left_behind"),
        ("truncated_datagrams", "truncated"),
        ("delivered_bytes", "bytes"),
        ("receive_errors", "receive_errors"),
    ] {
        assert_eq!(scrape.sum(&format!("hio_udp_{name}_total")), number(&account, field), "{name}");
    }
    // On a busy machine the kernel may have dropped some, of the ten too.
    let (denied, dropped) = (number(&account, "denied"), number(&account, "kernel_dropped"));
    assert!(denied == 10 || dropped > 0, "{account}");
    assert_eq!((denied + delivered + dropped, number(&account, "truncated")), (sent, delivered), "{account}");
    let shard = &account["shards"][0];
    assert_eq!(scrape.with("hio_udp_received_datagrams_total", "shard=\"0\""), number(shard, "received"));
    assert_eq!(scrape.with("hio_udp_sink_written_datagrams_total", "sink=\"null\""), delivered);
    assert_eq!(scrape.with("hio_udp_sink_lacking_datagrams_total", "sink=\"null\""), 0);
    assert_eq!(scrape.sum("hio_udp_sink_written_bytes_total"), number(&account["sinks"][0], "bytes"));
    assert_eq!(scrape.sum("hio_udp_source_datagrams"), delivered);
    assert_eq!(scrape.sum("hio_udp_source_datagrams_missing_max"), 0);
    assert_eq!(scrape.sum("hio_udp_batch_datagrams_sum"), sent - dropped);
    assert_eq!(scrape.with("hio_udp_batch_datagrams_bucket", "+Inf"), scrape.sum("hio_udp_batch_datagrams_count"));
    let backend = format!("backend=\"{}\"", account["backend"].as_str().unwrap());
    assert_eq!(scrape.with("hio_udp_build_info", &backend), 1);
    for name in ["hio_udp_receive_calls_total", "process_start_time_seconds", "hio_udp_socket_receive_buffer_bytes"] {
        assert!(scrape.sum(name) > 0, "{name}");
    }
    let is_linux = cfg!(target_os = "linux");
    assert_eq!(scrape.sum("process_resident_memory_bytes") > 1 << 20, is_linux);
}

#[test]
fn there_are_ten_sources_however_many_send() {
    if !cfg!(target_os = "linux") {
        return; // elsewhere only one address is this machine's own
    }
    let (ingest, metrics) = start(&["--shards", "2", "--workers", "2"]);
    for last in 1..=30 {
        send_from(&format!("127.0.0.{last}"), ingest.addr, last);
    }
    let sent = (1..=30).sum::<usize>() as u64;
    let scrape = scrape_until(metrics, |scrape| scrape.arrived() == sent);
    let sources: Vec<_> = scrape.0.iter().filter(|(key, _)| key.starts_with("hio_udp_source_datagrams{")).collect();
    assert_eq!(sources.len(), 10, "{sources:?}");
    assert_eq!(scrape.with("hio_udp_source_datagrams", "\"127.0.0.30\""), 30);
    assert_eq!(scrape.with("hio_udp_rings", "shard=\"1\""), scrape.with("hio_udp_rings", "shard=\"0\""));
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn a_request_is_answered_or_refused_as_http_wants_it() {
    let (ingest, metrics) = start(&[]);
    let (code, head, body) = ask(metrics, b"GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n");
    assert!(code == 200 && head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains("Connection: close"), "{head}");
    assert_eq!(get(metrics, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(metrics, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(get(metrics, "/").0, 404);
    let (code, head, body) = ask(metrics, b"HEAD /healthz HTTP/1.1\r\n\r\n");
    assert!(code == 200 && head.contains("Content-Length: 3") && body.is_empty(), "{head}");
    let (code, head, _) = ask(metrics, b"DELETE /metrics HTTP/1.1\r\n\r\n");
    assert!(code == 405 && head.contains("Allow: GET, HEAD"), "{head}");
    assert_eq!(ask(metrics, b"no request at all\r\n\r\n").0, 400);
    let mut long = b"GET /metrics HTTP/1.1\r\nA: ".to_vec();
    long.resize(100_000, b'a');
    assert_eq!(ask(metrics, &long).0, 431);
    assert_eq!(get(metrics, "/metrics").0, 200);
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn who_asks_slowly_is_let_go_and_keeps_others_waiting_no_longer() {
    let (ingest, metrics) = start(&[]);
    let mut slow = connect(metrics);
    let dribble = thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while Instant::now() < deadline {
            let is_over = match slow.read(&mut [0; 10]) {
                Ok(count) => count == 0,
                Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            };
            if is_over || slow.write_all(b"G").is_err() {
                return true;
            }
        }
        false
    });
    let silent = connect(metrics);
    assert_eq!(get(metrics, "/metrics").0, 200);
    assert!(dribble.join().unwrap(), "the slow one is still connected");
    drop(silent);
    assert_eq!(ingest.stop().0, 0);
}

/// Longest a connection is listened to, as docs/SECURITY.md tells.
const CONNECTION: Duration = Duration::from_secs(2);

/// Whether the other end has closed it; waits for that.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.read_to_end(&mut Vec::new()).is_ok_and(|count| count == 0)
}

#[test]
fn fifteen_idle_connections_keep_nobody_waiting_and_end_at_their_deadline() {
    let (ingest, metrics) = start(&[]);
    let begun = Instant::now();
    let idle: Vec<TcpStream> = (0..15).map(|_| connect(metrics)).collect();
    for _ in 0..3 {
        let asked = Instant::now();
        assert_eq!(get(metrics, "/healthz"), (200, "ok\n".to_owned()));
        assert!(asked.elapsed() < CONNECTION, "it waited for an idle one: {:?}", asked.elapsed());
    }
    assert!(idle.into_iter().all(is_closed));
    // Not one after the other.
    assert!(begun.elapsed() >= CONNECTION && begun.elapsed() < CONNECTION * 5, "{:?}", begun.elapsed());
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn a_connection_beyond_sixteen_takes_the_place_of_the_oldest_that_has_no_answer() {
    let (ingest, metrics) = start(&[]);
    let asked_slowly = {
        let mut stream = connect(metrics);
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        stream
    };
    let begun = Instant::now();
    let mut idle: Vec<TcpStream> = (0..15).map(|_| connect(metrics)).collect();
    idle.push(connect(metrics));
    assert!(is_closed(asked_slowly) && begun.elapsed() < CONNECTION, "{:?}", begun.elapsed());
    assert_eq!(get(metrics, "/healthz").0, 200);
    assert!(is_closed(idle.remove(0)) && begun.elapsed() < CONNECTION, "{:?}", begun.elapsed());
    // The others have their time.
    assert!(idle.into_iter().all(is_closed) && begun.elapsed() >= CONNECTION);
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn hundreds_of_idle_connections_keep_nobody_waiting() {
    let (ingest, metrics) = start(&[]);
    let _idle: Vec<TcpStream> = (0..300).map(|_| connect(metrics)).collect();
    let asked = Instant::now();
    assert_eq!(get(metrics, "/healthz").0, 200);
    assert!(asked.elapsed() < CONNECTION, "it waited for idle ones: {:?}", asked.elapsed());
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn a_port_that_is_taken_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = run(&["ingest", "--bind", "127.0.0.1:0", "--metrics", &format!(":{port}")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    let expected = format!("cannot serve metrics on 127.0.0.1:{port}: ");
    assert!(said.contains(&expected) && said.contains("choose another --metrics"), "{said}");
    let output = run(&["ingest", "--metrics", "everywhere"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("--metrics") && said.contains("or a port alone"), "{said}");
}

#[test]
fn it_is_not_ready_while_datagrams_are_dropped_and_then_again() {
    if cfg!(not(target_os = "linux")) {
        return; // nobody else tells what the kernel has dropped
    }
    let (ingest, metrics) = start(&["--rcvbuf", "4096"]);
    assert_eq!(get(metrics, "/readyz").0, 200);
    ingest.signal("STOP");
    blast(ingest.addr, &["--count", "500", "--rate", "max"]);
    ingest.signal("CONT");
    let until = |wanted: u16| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, sentence) = get(metrics, "/readyz");
            if code == wanted {
                return sentence;
            }
            assert!(Instant::now() < deadline, "{code}: {sentence}");
            thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!(until(503), "datagrams were lost in the last 10 seconds, by the kernel\n");
    assert_eq!(Scrape::of(metrics).sum("hio_udp_ready"), 0);
    assert_eq!(get(metrics, "/healthz").0, 200);
    until(200);
    assert_eq!(Scrape::of(metrics).sum("hio_udp_ready"), 1);
    let (code, account, _) = ingest.stop();
    assert!(code == 0 && number(&account, "kernel_dropped") > 0, "{account}");
    assert_adds_up(&account, 500);
}
