//! The sinks of the built program, each read back by somebody else.
#![cfg(unix)]

#[path = "util/captures.rs"]
mod captures;
#[path = "util/program.rs"]
mod util;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use captures::{Packet, read_capture, sequence};
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;
use util::{
    Dir, Ingest, PATIENCE, PROGRAM, assert_adds_up, blast, free_addr, free_port, limited, metrics_of, number, run,
    scrape, troubles, wait_past_trouble, wait_until,
};

/// Files in a directory whose names end so, in order.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    found.sort();
    found
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    files(dir, ".pcapng")
}

/// The datagrams of all closed segments, in order.
fn read_segments(dir: &Path) -> Vec<Packet> {
    segments(dir).iter().flat_map(|path| read_capture(path).0).collect()
}

/// Received, dropped and delivered, as each statistics block of a capture tells them.
fn statistics(path: &Path) -> Vec<[u64; 3]> {
    let mut reader = PcapNgReader::new(fs::File::open(path).unwrap()).unwrap();
    let mut found = Vec::new();
    while let Some(block) = reader.next_block() {
        let Block::InterfaceStatistics(block) = block.unwrap() else { continue };
        let mut told = [0; 3];
        for option in block.options {
            match option {
                InterfaceStatisticsOption::IsbIfRecv(count) => told[0] = count,
                InterfaceStatisticsOption::IsbOsDrop(count) => told[1] = count,
                InterfaceStatisticsOption::IsbUsrDeliv(count) => told[2] = count,
                _ => {}
            }
        }
        found.push(told);
    }
    found
}

/// The account of one sink.
fn sink<'a>(account: &'a Value, name: &str) -> &'a Value {
    let sinks = account["sinks"].as_array().unwrap();
    sinks.iter().find(|sink| sink["sink"] == name).unwrap_or_else(|| panic!("no {name} in {account}"))
}

/// Checks that every sink has an account that adds up, and that the sum is that of the whole.
fn assert_sinks_add_up(account: &Value) {
    let (mut written, mut not_written) = (0, 0);
    for sink in account["sinks"].as_array().unwrap() {
        let reasons = sink["not_written_by_reason"].as_object().unwrap();
        let by_reason: u64 = reasons.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(by_reason, number(sink, "not_written"), "{account}");
        assert_eq!(number(sink, "written") + by_reason, number(account, "delivered"), "{account}");
        written += number(sink, "written");
        not_written += number(sink, "not_written");
    }
    assert_eq!((number(account, "written"), number(account, "not_written")), (written, not_written), "{account}");
}

#[test]
fn segments_together_hold_every_datagram_once_and_in_order() {
    let dir = Dir::new("rotate");
    let name = format!("pcapng:{}", dir.join("kept"));
    let kept = dir.0.join("kept");
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &name, "--rotate-bytes", "2M", "--rotate-every", "0.2"]);
    let args = ["--duration", "2", "--rate", "20000", "--size", "200"];
    let sent = number(&blast(ingest.addr, &args), "sent");
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 0, "{said}");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert_eq!(number(&account, "written"), number(&account, "delivered"));
    let paths = segments(&kept);
    assert!(paths.len() >= 5, "{paths:?}");
    assert_eq!(files(&kept, ".part"), Vec::<PathBuf>::new());
    let sequences: Vec<u64> = read_segments(&kept).iter().map(|packet| sequence(packet.payload())).collect();
    assert_eq!(sequences.len() as u64, number(&account, "written"));
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]));
    // Each begins with what the last ended with, and no segment lacks anything of what its statistics tell.
    let mut before = [0; 3];
    for (number, path) in paths.iter().enumerate() {
        let file_name = path.file_name().unwrap().to_str().unwrap();
        assert!(file_name.ends_with(&format!("Z-{:06}.pcapng", number + 1)), "{file_name}");
        assert!(fs::metadata(path).unwrap().len() < 4 << 20);
        let told = statistics(path);
        assert_eq!(told[0], before, "{file_name}");
        before = *told.last().unwrap();
        assert_eq!(before[2] - told[0][2], read_capture(path).0.len() as u64, "{file_name}");
    }
    assert_eq!(before[1], number(&account, "kernel_dropped"));
    assert_eq!(before[2], number(&account, "delivered"));
}

/// How often it is killed, unless `HIO_UDP_KILLS` says so.
fn kills(otherwise: u32) -> u32 {
    std::env::var("HIO_UDP_KILLS").map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A blast that goes on until it is dropped.
struct Load(Child);

impl Load {
    fn start(to: SocketAddr, args: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["blast", "--to", &to.to_string()]).args(args).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills it under its load, and waits until nothing is left of it. The load ends at once: it would go to whoever is
/// given the port next.
fn kill(mut ingest: Ingest, load: Load) {
    ingest.child.kill().unwrap();
    drop(load);
    ingest.child.wait().unwrap();
    wait_until("its end", || UdpSocket::bind(ingest.addr).is_ok());
}

/// Waits for the moment to kill it at, another in each round and `most` later at most.
fn wait_for_a_moment(round: u32, most: Duration) {
    // Sleeps a time of its own in each round, until the deadline it is killed at.
    std::thread::sleep(Duration::from_micros(u64::from(round) * 104_729 % most.as_micros() as u64));
}

const FSYNC: [&str; 4] = ["never", "interval", "segment", "batch"];

#[test]
fn killed_at_any_moment_it_keeps_every_whole_block_and_the_next_start_closes_the_segment() {
    let dir = Dir::new("kill");
    let name = format!("pcapng:{}", dir.0.display());
    let mut args = vec!["--sink", &name, "--rotate-bytes", "300K", "--fsync"];
    let mut total = 0;
    for round in 0..kills(20) {
        args.push(FSYNC[round as usize % 4]);
        let ingest = Ingest::start("127.0.0.1:0", &args);
        args.pop();
        let load = Load::start(ingest.addr, &["--rate", "max", "--size", "1000", "--sources", "2"]);
        let has_begun = || !files(&dir.0, ".part").is_empty() && dir_bytes(&dir.0) > 1000;
        wait_until("something written", has_begun);
        wait_for_a_moment(round, Duration::from_millis(60));
        kill(ingest, load);
        // Whatever whole blocks there are, somebody else can read them before anything is repaired.
        let left = files(&dir.0, ".part");
        assert!(left.len() <= 6, "{left:?}"); // the open one, and those that wait for their names
        let whole: usize = left.iter().map(|path| readable(path)).sum();
        if let Some(path) = left.last().filter(|_| round % 3 == 0) {
            // A power failure may leave a torn tail even where a kill does not.
            let mut file = fs::File::options().append(true).open(path).unwrap();
            file.write_all(&6_u32.to_le_bytes()).unwrap();
            file.write_all(&[200, 0, 0, 0, 1, 2, 3]).unwrap();
        }
        let closed: usize = segments(&dir.0).iter().map(|path| read_capture(path).0.len()).sum();
        let next = Ingest::start("127.0.0.1:0", &["--sink", &name]);
        let is_told = next.noted.lines().filter(|line| line.contains("left open")).count();
        assert_eq!(is_told, left.iter().filter(|path| path.with_extension("").exists()).count(), "{}", next.noted);
        let was_torn = round % 3 == 0 && left.last().is_some_and(|path| path.with_extension("").exists());
        let cut_nothing = next.noted.lines().filter(|line| line.contains(", 0 bytes of a torn tail")).count();
        assert!(cut_nothing <= is_told - usize::from(was_torn), "{}", next.noted);
        let (code, _, said) = next.stop();
        assert_eq!(code, 0, "{said}");
        assert_eq!(files(&dir.0, ".part"), Vec::<PathBuf>::new());
        let now: usize = segments(&dir.0).iter().map(|path| read_capture(path).0.len()).sum();
        assert_eq!(now, closed + whole, "round {round}");
        total += now;
        for path in segments(&dir.0) {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(total > 0);
}

#[test]
fn killed_at_any_moment_every_sink_has_what_metrics_told_as_written() {
    let mut told_in_all = 0;
    for round in 0..kills(5) {
        let dir = Dir::new("kill-all");
        let (kept, log, out) = (dir.0.join("kept"), dir.0.join("log"), dir.0.join("out"));
        let sinks = [format!("pcapng:{}", kept.display()), format!("jsonl:{}", log.display())];
        let sink_args = ["--sink", &sinks[0], "--sink", &sinks[1]];
        // A reader that stands still for a second drops nothing: `single` could not tell between which two.
        let more = ["--out", out.to_str().unwrap(), "--metrics", "127.0.0.1:0", "--zstd", "--rcvbuf", "32000000"];
        // A chunk is a segment, or a segment takes several.
        let rotate = ["--rotate-bytes", ["300K", "4M"][round as usize % 2]];
        let fsync = ["--fsync", FSYNC[(round + round / 4) as usize % 4]];
        let ingest = Ingest::start("127.0.0.1:0", &[&sink_args[..], &more, &rotate, &fsync].concat());
        let metrics = metrics_of(&ingest);
        let load = Load::start(ingest.addr, &["--rate", "20000", "--size", "500"]);
        let names = [&sinks[0], &sinks[1], more[1]];
        wait_until("something in every sink", || told_as_written(metrics, &names).iter().all(|count| *count > 0));
        wait_for_a_moment(round, Duration::from_millis(600));
        let told = told_as_written(metrics, &names);
        kill(ingest, load);
        let in_out = readable(&out) as u64; // which the next start would empty
        let again = if round / 2 % 2 == 0 { &["--zstd"][..] } else { &[] };
        let (code, _, said) = Ingest::start("127.0.0.1:0", &[&sink_args[..], again].concat()).stop();
        assert_eq!(code, 0, "{said}");
        let lines = whole_lines(&log);
        let packets = read_numbered_segments(&kept);
        // All that was lost between two is what the kernel has dropped there, and each is there once.
        for pair in packets.windows(2) {
            let [first, second] = [&pair[0], &pair[1]].map(|packet| sequence(packet.payload()));
            assert_eq!(second, first + 1 + pair[1].dropped, "round {round}");
        }
        let have = [packets.len() as u64, lines, in_out];
        assert!(have.iter().zip(&told).all(|(have, told)| have >= told), "round {round}: {have:?}, told {told:?}");
        told_in_all += told.iter().sum::<u64>();
    }
    println!("{told_in_all} datagrams were told as written, and are there");
}

/// What the metrics tell as written to each of these sinks.
fn told_as_written(metrics: SocketAddr, names: &[&str]) -> Vec<u64> {
    let answer = scrape(metrics);
    let told = |name: &&str| {
        let series = format!("hio_udp_sink_written_datagrams_total{{sink=\"{name}\"}} ");
        let line = answer.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series} in {answer}")).parse().unwrap()
    };
    names.iter().map(told).collect()
}

fn whole_lines(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{path:?} ends with a part of a line");
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "a torn line in {path:?}");
    text.lines().count() as u64
}

/// The datagrams of all segments, packed or not, in order; their numbers are 1, 2, 3 …, and nothing else is there.
fn read_numbered_segments(dir: &Path) -> Vec<Packet> {
    let paths = files(dir, "");
    for (index, path) in paths.iter().enumerate() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = format!("-{:06}.pcapng", index + 1);
        assert!(name.trim_end_matches(".zst").ends_with(&number), "no segment{number}: {paths:?}");
    }
    paths.iter().flat_map(|path| read_packed(path)).collect()
}

/// The datagrams of a segment that may be packed.
fn read_packed(path: &Path) -> Vec<Packet> {
    if path.extension().is_some_and(|ending| ending != "zst") {
        return read_capture(path).0;
    }
    let mut packed = ruzstd::decoding::StreamingDecoder::new(fs::File::open(path).unwrap()).unwrap();
    let unpacked = path.with_extension("unpacked");
    std::io::copy(&mut packed, &mut fs::File::create(&unpacked).unwrap()).unwrap();
    let packets = read_capture(&unpacked).0;
    fs::remove_file(unpacked).unwrap();
    packets
}

fn dir_bytes(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().filter_map(|entry| Some(entry.unwrap().metadata().ok()?.len())).sum()
}

/// Packets that can be read from the start of a file; none if it is not there any more.
fn readable(path: &Path) -> usize {
    let Some(mut reader) = fs::File::open(path).ok().and_then(|file| PcapNgReader::new(file).ok()) else { return 0 };
    let mut count = 0;
    while let Some(Ok(block)) = reader.next_block() {
        count += usize::from(matches!(block, Block::EnhancedPacket(_)));
    }
    count
}

#[test]
fn what_a_file_size_limit_refuses_is_counted_and_later_segments_are_written() {
    let dir = Dir::new("limit");
    let name = format!("pcapng:{}", dir.0.display());
    let args = ["ingest", "--json", "--bind", "127.0.0.1:0", "--sink", &name];
    let ingest = Ingest::spawn(limited("ulimit -f 400", &args)); // below a chunk's length
    let sent = number(&blast(ingest.addr, &["--count", "20000", "--rate", "50000", "--size", "200"]), "sent");
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    let (failed, again) = troubles(&said, "cannot write: ");
    assert!(failed > 0 && failed <= again + 1, "{said}");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert!(number(&account, "not_written") > 0, "{account}");
    assert!(segments(&dir.0).len() >= 2);
    assert_eq!(read_segments(&dir.0).len() as u64, number(&account, "written"));
}

#[test]
fn a_full_disk_is_told_once_and_counted_and_writing_goes_on_when_there_is_room() {
    let dir = Dir::new("full");
    // A disk of its own, which only this program sees; not every system lets one make it.
    let mount = format!("mount -t tmpfs -o size=1m tmpfs {}", dir.0.display());
    let can = Command::new("unshare").args(["-rm", "sh", "-c", &mount]).stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{mount}; exec \"$0\" \"$@\""), PROGRAM]);
    command.args(["ingest", "--json", "--bind", "127.0.0.1:0", "--sink", &format!("pcapng:{}", dir.0.display())]);
    let ingest = Ingest::spawn(command);
    let inside = PathBuf::from(format!("/proc/{}/root{}", ingest.child.id(), dir.0.display()));
    let ballast = inside.join("ballast");
    fs::write(&ballast, vec![1; 700 << 10]).unwrap();
    let is_full = || {
        let probe = inside.join("probe");
        let result = fs::write(&probe, [1; 8192]);
        fs::remove_file(&probe).unwrap();
        result.is_err()
    };
    let mut sent = 0;
    let mut send = |count: &str| {
        sent += number(&blast(ingest.addr, &["--count", count, "--rate", "20000", "--size", "100"]), "sent");
    };
    send("4000"); // 700 kB with its headers
    wait_until("a full disk", is_full);
    send("2000");
    wait_past_trouble();
    fs::remove_file(&ballast).unwrap();
    send("1000");
    let captured = PathBuf::from(&inside);
    wait_until("the last datagram", || {
        let parts = files(&captured, ".part");
        parts.last().is_some_and(|path| last_sequence(path) == Some(999))
    });
    let packets: usize = files(&inside, ".part").iter().map(|path| readable(path)).sum();
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_eq!(troubles(&said, "cannot write: No space left on device"), (1, 1), "{said}");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert_eq!(number(&account, "written"), packets as u64);
    assert!(number(&account, "not_written") >= 2000, "{account}");
}

/// The number of the last of blast's datagrams in a capture.
fn last_sequence(path: &Path) -> Option<u64> {
    let mut reader = PcapNgReader::new(fs::File::open(path).ok()?).ok()?;
    let mut last = None;
    while let Some(Ok(block)) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block {
            last = Some(sequence(&packet.data[28..]));
        }
    }
    last
}

#[test]
fn a_directory_that_is_removed_is_told_and_its_datagrams_are_not_written() {
    let dir = Dir::new("removed");
    let name = format!("pcapng:{}", dir.join("gone"));
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &name]);
    let mut sent = number(&blast(ingest.addr, &["--count", "100"]), "sent");
    let part = files(&dir.0.join("gone"), ".part").remove(0);
    wait_until("the first hundred", || readable(&part) == 100);
    fs::remove_dir_all(dir.0.join("gone")).unwrap();
    sent += number(&blast(ingest.addr, &["--count", "50"]), "sent");
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("removed") && said.contains("gone"), "{said}");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert_eq!((number(&account, "written"), number(&account, "not_written")), (0, 150));
}

#[test]
fn retention_removes_the_oldest_segments_and_nothing_else() {
    let dir = Dir::new("keep");
    fs::write(dir.0.join("flows.pcapng"), "mine").unwrap();
    let name = format!("pcapng:{}", dir.0.display());
    let args = ["--sink", &name, "--rotate-every", "0.1", "--keep-bytes", "100K"];
    let ingest = Ingest::start("127.0.0.1:0", &args);
    blast(ingest.addr, &["--duration", "3", "--rate", "2000", "--size", "200"]);
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 0, "{said}");
    assert_sinks_add_up(&account);
    assert_eq!(fs::read(dir.0.join("flows.pcapng")).unwrap(), b"mine");
    fs::remove_file(dir.0.join("flows.pcapng")).unwrap();
    let left = segments(&dir.0);
    assert!(left.len() == 1 || dir_bytes(&dir.0) <= 100 << 10, "{left:?}");
    assert!(!left[0].to_str().unwrap().ends_with("-000001.pcapng"), "{left:?}");
    // What is left is the newest.
    let packets = read_segments(&dir.0);
    assert_eq!(sequence(packets.last().unwrap().payload()), number(&account, "written") - 1);
    // By age, all but the newest go.
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &name, "--rotate-every", "0.1", "--keep-for", "0.2"]);
    blast(ingest.addr, &["--duration", "1", "--rate", "2000"]);
    let before = left.last().unwrap();
    wait_until("the removal of the old ones", || !before.exists() && segments(&dir.0).len() == 1);
    assert_eq!(ingest.stop().0, 0);
}

/// Sends datagrams of 1000 bytes, and waits until so many more can be read.
fn send_and_wait(ingest: &Ingest, dir: &Path, count: usize) {
    let in_all = || files(dir, "").iter().map(|path| readable(path)).sum::<usize>();
    let before = in_all();
    blast(ingest.addr, &["--count", &count.to_string(), "--size", "1000", "--rate", "20000"]);
    wait_until("what was sent", || in_all() >= before + count);
}

#[test]
fn what_is_open_counts_for_keep_bytes_too_and_the_newest_closed_segment_stays() {
    let dir = Dir::new("keep-open");
    let name = format!("pcapng:{}", dir.0.display());
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &name, "--keep-bytes", "2M"]);
    for number in 1..=3 {
        send_and_wait(&ingest, &dir.0, 500); // half a megabyte
        ingest.signal("USR1");
        wait_until("a closed segment", || segments(&dir.0).len() == number);
    }
    let closed = segments(&dir.0);
    for (more, left) in [(800, 1), (2000, 2)] {
        blast(ingest.addr, &["--count", &more.to_string(), "--size", "1000", "--rate", "20000"]);
        wait_until("the removal of the oldest", || segments(&dir.0) == closed[left..]);
    }
    assert!(dir_bytes(&dir.0) > 2 << 20, "the newest closed one stays beside the open one");
    assert_eq!(ingest.stop().0, 0);
}

#[test]
fn no_segment_is_longer_than_asked_for() {
    let dir = Dir::new("exact");
    let name = format!("pcapng:{}", dir.0.display());
    // How long one is with two times ten datagrams.
    let bind = free_addr().to_string();
    let first = Ingest::start(&bind, &["--sink", &name]);
    let send_twice = |ingest: &Ingest| (0..2).for_each(|_| send_and_wait(ingest, &dir.0, 10));
    send_twice(&first);
    assert_eq!(first.stop().0, 0);
    let len = dir_bytes(&dir.0);
    fs::remove_file(&segments(&dir.0)[0]).unwrap();
    for less in [1, 63, 64, 65] {
        let most = len - less;
        let ingest = Ingest::start(&bind, &["--sink", &name, "--rotate-bytes", &most.to_string()]);
        send_twice(&ingest);
        assert_eq!(ingest.stop().0, 0);
        assert_eq!(read_segments(&dir.0).len(), 20);
        for path in segments(&dir.0) {
            let len = fs::metadata(&path).unwrap().len();
            assert!(len <= most, "{len} bytes, not {most}");
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn closed_segments_are_compressed_and_hold_the_same() {
    let dir = Dir::new("zstd");
    let name = format!("pcapng:{}", dir.0.display());
    // One that is left for the next run, and what a kill may leave of its packing.
    let first = Ingest::start("127.0.0.1:0", &["--sink", &name]);
    let mut sent = number(&blast(first.addr, &["--count", "100"]), "sent");
    assert_eq!(first.stop().0, 0);
    fs::write(segments(&dir.0)[0].with_extension("pcapng.zst.part"), "half").unwrap();
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &name, "--zstd", "--rotate-every", "0.1"]);
    wait_until("three of them", || {
        sent += number(&blast(ingest.addr, &["--duration", "0.2", "--rate", "5000"]), "sent");
        files(&dir.0, ".pcapng.zst").len() >= 3
    });
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 0, "{said}");
    assert_sinks_add_up(&account);
    let packed = files(&dir.0, ".pcapng.zst");
    assert!(packed.len() >= 3, "{packed:?}");
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), packed.len(), "nothing else is left");
    let paths = packed.iter().map(|path| path.to_str().unwrap());
    let args: Vec<&str> = ["inspect", "--json"].into_iter().chain(paths).collect();
    let report: Value = serde_json::from_slice(&run(&args).stdout).unwrap();
    assert_eq!((number(&report, "packets"), sent), (sent, number(&account, "written") + 100), "{report}");
}

#[test]
fn a_packed_segment_that_a_kill_left_beside_its_original_goes_at_the_next_start() {
    let dir = Dir::new("both");
    let name = format!("pcapng:{}", dir.0.display());
    let first = Ingest::start("127.0.0.1:0", &["--sink", &name]);
    let sent = number(&blast(first.addr, &["--count", "100"]), "sent");
    assert_eq!(first.stop().0, 0);
    let original = segments(&dir.0).remove(0);
    let packed = original.with_extension("pcapng.zst");
    let alone = dir.0.join("20240229T235959Z-000001.pcapng.zst"); // of another segment, whose original is gone
    for more in [&[][..], &["--zstd"]] {
        for path in [&packed, &alone] {
            fs::write(path, "not whole, as a loss of power may leave it").unwrap();
        }
        let next = Ingest::start("127.0.0.1:0", &[&["--sink", &name], more].concat());
        assert!(alone.exists() && (!packed.exists() || !more.is_empty()), "{more:?}");
        assert_eq!(next.stop().0, 0);
        assert!(original.exists() != packed.exists(), "{more:?}: one of them");
        let left = if more.is_empty() { &original } else { &packed };
        let report: Value =
            serde_json::from_slice(&run(&["inspect", "--json", left.to_str().unwrap()]).stdout).unwrap();
        assert_eq!(number(&report, "packets"), sent, "{more:?}");
    }
}

#[test]
fn two_ingests_do_not_share_a_directory() {
    let dir = Dir::new("shared");
    let name = format!("pcapng:{}", dir.0.display());
    let first = Ingest::start("127.0.0.1:0", &["--sink", &name]);
    let second = run(&["ingest", "--bind", "127.0.0.1:0", "--sink", &name]);
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!((second.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(&name) && said.contains("another ingest"), "{said}");
    assert_eq!(first.stop().0, 0);
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0, "an empty segment is not kept");
}

#[test]
fn two_sinks_do_not_share_a_file_and_it_can_be_opened_anew_under_its_name_or_put_aside() {
    let dir = Dir::new("one-file");
    let (log, out) = (dir.join("log"), dir.join("out"));
    let name = format!("jsonl:{log}");
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &name, "--out", &out]);
    let mut sent = 0;
    // As it is, again, and put aside, as logrotate does.
    for aside in [None, None, Some(dir.join("log.1"))] {
        let before = aside.as_ref().map_or(sent, |_| 0);
        if let Some(aside) = &aside {
            fs::rename(&log, aside).unwrap();
        }
        ingest.signal("USR1");
        wait_until("the file", || Path::new(&log).exists());
        sent += number(&blast(ingest.addr, &["--count", "10"]), "sent");
        wait_until("ten more lines", || fs::read_to_string(&log).unwrap().lines().count() as u64 >= before + 10);
        for (option, place) in [("--sink", &name), ("--out", &out)] {
            let second = run(&["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1", option, place]);
            let said = String::from_utf8(second.stderr).unwrap();
            assert_eq!((second.status.code(), said.lines().count()), (Some(1), 1), "{said}");
            assert!(said.contains(place.as_str()) && said.contains("another ingest or sink"), "{said}");
        }
    }
    let both = ["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1"];
    let place = format!("{}/./both", dir.0.display());
    let twice = ["--sink", &format!("jsonl:{place}"), "--out", &dir.join("both")];
    assert_eq!(run(&[&both[..], &twice].concat()).status.code(), Some(1));
    let (code, account, said) = ingest.stop();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_sinks_add_up(&account);
    let lines: usize =
        [&log, &dir.join("log.1")].map(|path| fs::read_to_string(path).unwrap().lines().count()).iter().sum();
    assert_eq!((lines as u64, read_capture(Path::new(&out)).0.len() as u64), (sent, sent));
}

#[test]
fn lines_of_json_tell_what_was_sent_and_a_torn_line_is_cut() {
    let dir = Dir::new("jsonl");
    let path = dir.join("log");
    fs::write(&path, "{\"older\":1}\n{\"torn\":").unwrap();
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &format!("jsonl:{path}"), "--gram-size", "1000"]);
    assert!(ingest.noted.contains("cut 8 bytes"), "{}", ingest.noted);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let payloads: [&[u8]; 5] = [b"", b"plain", "\u{fc}mlaut \"\\\n\0".as_bytes(), &[0, 255, 128], &[7; 2000]];
    for payload in payloads {
        sender.send_to(payload, ingest.addr).unwrap();
    }
    let to = ingest.addr;
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 0, "{said}");
    assert_sinks_add_up(&account);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), number(&lines[0], "older")), (6, 1));
    for (line, payload) in lines[1..].iter().zip(payloads) {
        assert_eq!(line["src"], sender.local_addr().unwrap().to_string());
        assert_eq!(line["dst"], to.to_string());
        assert_eq!(number(line, "len"), payload.len().min(1000) as u64);
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
        match std::str::from_utf8(payload) {
            Ok(text) => assert_eq!(line["text"], text[..text.len().min(1000)]),
            Err(_) => assert_eq!(line["base64"], "AP+A"),
        }
    }
    assert_eq!((number(&lines[5], "original_len"), &lines[5]["truncated"]), (2000, &Value::Bool(true)));
}

#[test]
fn standard_output_takes_lines_at_once_and_its_reader_may_go_away() {
    let mut child = Command::new(PROGRAM)
        .args(["ingest", "--json", "--bind", "127.0.0.1:0", "--sink", "jsonl:-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let to = line.strip_prefix("receiving on ").unwrap().split(';').next().unwrap().to_owned();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"first", &to).unwrap();
    line.clear();
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("\"text\":\"first\""), "{line}");
    drop(stdout);
    wait_until("its end", || {
        let _ = sender.send_to(b"more", &to);
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(0), "as with any other reader that goes away");
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let account: Value = serde_json::from_str(said.trim()).unwrap();
    assert_sinks_add_up(&account);
    assert!(number(&account, "written") >= 1);
}

#[test]
fn what_is_written_to_standard_output_has_no_account_in_it_however_it_is_named() {
    let dir = Dir::new("stdout");
    let shell = dir.join("by-the-shell");
    for (args, output) in [
        (["--out", "-"], None),
        (["--out", "/dev/stdout"], None),
        (["--out", "/dev/stdout"], Some(&shell)),
        (["--out", &shell], Some(&shell)),
        (["--sink", "jsonl:/dev/stdout"], Some(&shell)),
    ] {
        let path = dir.join("output");
        let file = fs::File::create(output.unwrap_or(&path)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["ingest", "--json", "--bind", "127.0.0.1:0", "--count", "10"]).args(args);
        let child = command.stdout(if output.is_some() { Stdio::from(file) } else { Stdio::piped() });
        let mut child = child.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let to = line.strip_prefix("receiving on ").unwrap().split(';').next().unwrap();
        blast(to.parse().unwrap(), &["--count", "10"]);
        if let Some(mut pipe) = child.stdout.take() {
            std::io::copy(&mut pipe, &mut fs::File::create(&path).unwrap()).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}");
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        let account: Value =
            serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{args:?} {error}: {said}"));
        assert_eq!(number(&account, "written"), 10, "{args:?}");
        let path = output.unwrap_or(&path);
        if args[0] == "--out" {
            let report: Value = serde_json::from_slice(&run(&["inspect", "--json", path]).stdout).unwrap();
            assert_eq!((number(&report, "udp"), number(&report, "damaged_bytes")), (10, 0), "{args:?}: {report}");
        } else {
            let text = fs::read_to_string(path).unwrap();
            assert!(text.lines().count() == 10 && text.lines().all(|line| line.contains("\"src\"")), "{text}");
        }
    }
    assert!(!Path::new("-").exists());
    let both = run(&["ingest", "--out", "-", "--sink", "jsonl:-", "--duration", "0.1"]);
    let said = String::from_utf8_lossy(&both.stderr);
    assert!(both.status.code() == Some(2) && said.lines().count() == 1 && said.contains("standard output"), "{said}");
}

#[test]
fn a_reader_of_standard_output_that_goes_away_is_told_once_and_other_sinks_go_on() {
    let dir = Dir::new("reader-gone");
    let path = dir.join("lines");
    let file = format!("jsonl:{path}");
    let mut ingest = Ingest::start("127.0.0.1:0", &["--sink", "jsonl:-", "--sink", &file]);
    let lines = || fs::read_to_string(&path).unwrap_or_default().lines().count();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"first", ingest.addr).unwrap();
    let mut stdout = BufReader::new(ingest.child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("\"text\":\"first\""), "{line}");
    drop(stdout);
    for sent in 2..=11 {
        sender.send_to(b"more", ingest.addr).unwrap();
        wait_until("the next line", || lines() == sent);
    }
    ingest.signal("TERM");
    let mut said = String::new();
    ingest.stderr.read_to_string(&mut said).unwrap();
    assert_eq!(ingest.child.wait().unwrap().code(), Some(1), "{said}");
    let (account, said): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with('{'));
    let account: Value = serde_json::from_str(account[0]).unwrap();
    assert_sinks_add_up(&account);
    assert_eq!(number(sink(&account, &file), "written"), 11);
    assert_eq!(number(sink(&account, "jsonl:-"), "not_written"), 10);
    assert_eq!(said.len(), 2, "when it begins and in the end: {said:?}");
    assert!(said.iter().all(|line| line.contains("jsonl:-") && line.contains("Broken pipe")), "{said:?}");
}

#[test]
fn relays_fan_out_every_datagram_beside_what_is_stored() {
    let dir = Dir::new("relay");
    let places: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let names: Vec<String> = places.iter().map(|place| format!("udp:{}", place.local_addr().unwrap())).collect();
    let stored = format!("pcapng:{}", dir.0.display());
    let args = ["--sink", &names[0], "--sink", &names[1], "--sink", &stored, "--gram-size", "1000"];
    let ingest = Ingest::start("127.0.0.1:0", &args);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for size in [0, 1, 100, 1000, 1001] {
        sender.send_to(&vec![size as u8; size], ingest.addr).unwrap();
    }
    for place in &places {
        place.set_read_timeout(Some(PATIENCE)).unwrap();
        // They come at once, not with the end.
        let sizes: Vec<usize> = (0..4).map(|_| place.recv(&mut [0; 2000]).unwrap()).collect();
        assert_eq!(sizes, [0, 1, 100, 1000]);
    }
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "a cut one is not passed on: {said}");
    assert_sinks_add_up(&account);
    for name in &names {
        let relay = sink(&account, name);
        assert_eq!((number(relay, "written"), number(relay, "not_written")), (4, 1));
        assert_eq!(relay["not_written_by_reason"]["cut, so not passed on"], 1);
    }
    assert_eq!(number(sink(&account, &stored), "written"), 5);
    assert_eq!(read_segments(&dir.0).len(), 5);
}

/// Whether an ingest with these options would relay to itself, which it refuses; it works for a moment if not.
fn is_refused_as_a_loop(binds: &[String], place: &str, more: &[&str]) -> bool {
    let name = format!("udp:{place}");
    let binds = binds.iter().flat_map(|bind| ["--bind", bind]);
    let args: Vec<&str> = ["ingest", "--duration", "0.05", "--sink", &name].into_iter().chain(binds).collect();
    let output = run(&[&args[..], more].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    if output.status.success() {
        return false;
    }
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{args:?}: {said}");
    assert!(said.contains(&name) && said.contains("would go round for ever"), "{args:?}: {said}");
    true
}

#[test]
fn a_relay_to_a_socket_of_its_own_ingest_is_refused_however_it_is_named() {
    let port = free_port();
    let at = |host: &str| format!("{host}:{port}");
    let refused = |bind: &str, place: &str| is_refused_as_a_loop(&[at(bind)], &at(place), &[]);
    assert!(refused("127.0.0.1", "127.0.0.1") && refused("127.0.0.1", "localhost"));
    assert!(refused("0.0.0.0", "127.0.0.1") && refused("0.0.0.0", "127.9.9.9"));
    assert!(refused("0.0.0.0", "0.0.0.0") && refused("127.0.0.1", "0.0.0.0"), "0.0.0.0 is this machine");
    assert!(is_refused_as_a_loop(&["127.0.0.1:0".to_owned(), at("127.0.0.2")], &at("127.0.0.2"), &[]));
    let joined = |group: &str, place: &str| {
        is_refused_as_a_loop(&[at("0.0.0.0")], &at(place), &["--join", &format!("{group}%127.0.0.1")])
    };
    assert!(joined("239.255.3.4", "239.255.3.4"));
    // To other addresses, ports and groups it may pass on what comes.
    assert!(!refused("127.0.0.1", "127.0.0.2") && !refused("0.0.0.0", "192.0.0.8"));
    assert!(!is_refused_as_a_loop(&["127.0.0.1:0".to_owned()], &at("127.0.0.1"), &[]));
    assert!(!joined("239.255.3.4", "239.255.3.5"));
    if UdpSocket::bind("[::1]:0").is_ok() {
        assert!(refused("[::1]", "[::1]") && refused("[::]", "[::1]") && refused("[::]", "[::]"));
        assert!(refused("[::]", "127.0.0.1") && refused("[::]", "[::ffff:127.0.0.1]"));
        assert!(refused("127.0.0.1", "[::ffff:127.0.0.1]"));
        assert!(!refused("0.0.0.0", "[::1]") && !refused("[::1]", "127.0.0.1"));
    }
    // The address that this machine has on its network, if it has one.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("192.0.0.8:9").is_ok() {
        let own = probe.local_addr().unwrap().ip().to_string();
        assert!(refused("0.0.0.0", &own) && refused(&own, &own), "{own}");
        assert!(!refused("127.0.0.1", &own) && !refused(&own, "127.0.0.1"), "{own}");
    }
}

#[test]
fn a_relay_counts_what_it_cannot_send_by_why() {
    // A broadcast address, which an ordinary socket may not send to: nothing leaves the machine.
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", "udp:127.255.255.255:9", "--sink", "null"]);
    blast(ingest.addr, &["--count", "70"]);
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1);
    assert_sinks_add_up(&account);
    let relay = sink(&account, "udp:127.255.255.255:9");
    assert_eq!(number(relay, "not_written"), 70);
    let reasons = relay["not_written_by_reason"].as_object().unwrap();
    assert!(reasons.keys().all(|reason| reason.contains("Permission denied")), "{account}");
    assert_eq!(said.lines().filter(|line| line.contains("cannot send")).count(), 1, "{said}");
    assert_eq!(number(sink(&account, "null"), "written"), 70);
}

#[test]
fn a_local_socket_gets_messages_and_one_that_takes_nothing_holds_up_nobody() {
    let dir = Dir::new("unix");
    let (path, stuck) = (dir.join("reader"), dir.join("stuck"));
    let reader = UnixDatagram::bind(&path).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let _stuck = UnixDatagram::bind(&stuck).unwrap();
    let [name, stuck] = [path, stuck].map(|path| format!("unix:{path}"));
    let stored = format!("pcapng:{}", dir.join("kept"));
    let args = ["--sink", &name, "--sink", &stuck, "--sink", &stored, "--drain", "0.3"];
    let ingest = Ingest::start("127.0.0.1:0", &args);
    let count = std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        let mut sequences = BTreeSet::new();
        while sequences.len() < 500 {
            let len = reader.recv(&mut buffer).unwrap();
            assert_eq!(len, 100);
            assert!(sequences.insert(sequence(&buffer)));
        }
        sequences
    });
    let sent = number(&blast(ingest.addr, &["--count", "500", "--rate", "5000"]), "sent");
    assert_eq!(count.join().unwrap(), (0..500).collect());
    let (code, account, said) = ingest.stop();
    assert_eq!(code, 1, "{said}");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert_eq!(number(sink(&account, &name), "written"), 500);
    assert_eq!(number(sink(&account, &stored), "written"), 500);
    assert!(number(sink(&account, &stuck), "not_written") > 0, "{account}");
    assert_eq!(number(&account, "kernel_dropped"), 0);
}

#[test]
fn a_store_that_stalls_costs_nothing_that_its_queue_holds() {
    let dir = Dir::new("stall");
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let stored = format!("pcapng:{}", dir.join("kept"));
    let args = ["--sink", &format!("jsonl:{pipe}"), "--sink", &stored, "--rcvbuf", "8000000"];
    let ingest = Ingest::start("127.0.0.1:0", &args);
    // 5 MB, which the socket takes, if it may, and of which a pipe that nobody reads takes 64 kB.
    let sent = number(&blast(ingest.addr, &["--count", "5000", "--rate", "10000", "--size", "1000"]), "sent");
    wait_until("what is stored elsewhere meanwhile", || {
        files(&dir.0.join("kept"), ".part").iter().map(|path| readable(path)).sum::<usize>() >= 4000
    });
    let reader = BufReader::new(fs::File::open(&pipe).unwrap());
    ingest.signal("TERM");
    let lines: Vec<Value> = reader.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let (code, account, said) = ingest.end();
    assert_eq!(code, 0, "{said}");
    assert_adds_up(&account, sent);
    assert_sinks_add_up(&account);
    assert_eq!((lines.len() as u64, number(&account, "delivered")), (sent, sent), "{account}");
    assert_eq!(read_segments(&dir.0.join("kept")).len() as u64, sent);
}

#[cfg(target_os = "linux")] // for its list of sockets
#[test]
fn a_capture_into_a_pipe_waits_for_its_reader_and_a_stop_ends_the_wait() {
    let dir = Dir::new("pipe-out");
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for has_reader in [true, false] {
        let free = free_addr();
        let mut command = Command::new(PROGRAM);
        command.args(["ingest", "--json", "--bind", &free.to_string(), "--out", &pipe]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("its socket", || util::kernel_rows(free.port()).0 == 1);
        let reader = has_reader.then(|| {
            let mut reader = fs::File::open(&pipe).unwrap();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).map(|_| bytes)
            })
        });
        if has_reader {
            // It waits for the pipe to be read when that is full, and writes all of it.
            blast(free, &["--count", "2000", "--size", "1000", "--rate", "20000"]);
        }
        assert!(util::send_signal("TERM", child.id()));
        wait_until("its end", || child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(i32::from(!has_reader)), 1), "{said}");
        match reader {
            Some(reader) => {
                let copy = dir.0.join("copy");
                fs::write(&copy, reader.join().unwrap().unwrap()).unwrap();
                assert_eq!(read_capture(&copy).0.len(), 2000);
            }
            None => assert!(said.contains(&pipe) && said.contains("nobody has read this pipe"), "{said}"),
        }
    }
}

#[test]
fn a_start_whose_pipe_is_full_waits_for_its_reader_and_a_stop_ends_the_wait() {
    let dir = Dir::new("pipe-full");
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut full = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let page = [0; 4096];
    (0..16).for_each(|_| full.write_all(&page).unwrap());
    for is_read in [false, true] {
        let free = free_addr();
        let mut command = Command::new(PROGRAM);
        command.args(["ingest", "--json", "--bind", &free.to_string(), "--out", &pipe]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let has_housekeeper = |child: &Child| {
            let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten();
            let mut names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.any(|name| name.trim() == "housekeeper")
        };
        wait_until("the last thread before", || has_housekeeper(&child));
        if is_read {
            full.read_exact(&mut [0; 2 * 4096]).unwrap();
            let mut said = [0];
            child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap(); // that it receives
        }
        assert!(util::send_signal("TERM", child.id()));
        wait_until("its end", || child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(!is_read)), "{said}");
        assert!(is_read || said.contains("nobody has read this pipe before the stop"), "{said}");
    }
}

#[test]
fn a_reader_of_a_capture_that_goes_away_ends_it_which_is_a_failure_where_there_are_other_sinks() {
    let dir = Dir::new("pipe-gone");
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (more, code, lines) in [(&[][..], 0, 0), (&["--sink", "null"], 1, 1)] {
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::File::open(pipe).unwrap().read(&mut [0]).unwrap()
        });
        let ingest = Ingest::start("127.0.0.1:0", &[&["--out", &pipe], more].concat());
        assert_eq!(reader.join().unwrap(), 1);
        blast(ingest.addr, &["--count", "10", "--rate", "max"]);
        let (ended, account, said) = ingest.end();
        assert_eq!((ended, said.lines().count()), (code, lines), "{said}");
        assert!(!said.contains("free some space"), "which would not help: {said}");
        assert_sinks_add_up(&account);
    }
}

#[test]
fn a_stop_brings_what_is_queued_to_every_sink() {
    let dir = Dir::new("drain");
    let place = UdpSocket::bind("127.0.0.1:0").unwrap();
    let names = [
        format!("pcapng:{}", dir.join("kept")),
        format!("jsonl:{}", dir.join("log")),
        format!("udp:{}", place.local_addr().unwrap()),
        "null".to_owned(),
    ];
    let args: Vec<&str> = names.iter().flat_map(|name| ["--sink", name]).collect();
    let ingest = Ingest::start("127.0.0.1:0", &args);
    ingest.signal("STOP");
    blast(ingest.addr, &["--count", "200", "--rate", "max"]);
    ingest.signal("TERM");
    ingest.signal("CONT");
    let (code, account, said) = ingest.end();
    assert_eq!(code, 0, "{said}");
    assert_sinks_add_up(&account);
    for name in &names {
        assert_eq!(number(sink(&account, name), "written"), 200, "{name}");
    }
    assert_eq!(read_segments(&dir.0.join("kept")).len(), 200);
    assert_eq!(fs::read_to_string(dir.0.join("log")).unwrap().lines().count(), 200);
    place.set_nonblocking(true).unwrap();
    assert_eq!((0..201).take_while(|_| place.recv(&mut [0; 200]).is_ok()).count(), 200);
}

#[test]
fn what_is_no_sink_or_no_place_gets_one_line_and_the_right_exit_code() {
    let dir = Dir::new("bad");
    let file = dir.join("file");
    fs::write(&file, "").unwrap();
    for (args, code, part) in [
        (&["--sink", "kafka:x"][..], 2, "jsonl:FILE"),
        (&["--sink", "udp:127.0.0.1:0"], 2, "port 0"),
        (&["--sink", "null", "--sink", "null"], 2, "twice"),
        (&["--rotate-bytes", "1M"], 2, "--sink pcapng:DIR"),
        (&["--sink", "pcapng:x", "--rotate-bytes", "0"], 2, "'0'"),
        (&["--sink", "pcapng:x", "--fsync", "often"], 2, "'often'"),
        (&["--sink", "pcapng:/no/such/directory"], 1, "/no/such/directory"),
        (&["--sink", &format!("pcapng:{file}")], 1, &file),
        (&["--sink", "jsonl:/no/such/directory/x"], 1, "/no/such/directory/x"),
        (&["--sink", "pcapng:/proc"], 1, "pcapng:/proc"), // even root can write nothing there
    ] {
        let output = run(&[&["ingest", "--bind", "127.0.0.1:0"], args].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
}
