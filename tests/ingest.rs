//! `ingest` on several sockets and threads: shards, several addresses, what is let in, passed sockets, users.
#![cfg(unix)]

#[path = "util/captures.rs"]
mod captures;
#[path = "util/program.rs"]
mod program;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use program::{Ingest, PROGRAM, Scratch, assert_adds_up, blast, number, run, wait_until};
use serde_json::Value;

fn sum(rows: &Value, name: &str) -> u64 {
    rows.as_array().unwrap().iter().map(|row| number(row, name)).sum()
}

#[cfg(target_os = "linux")]
#[test]
fn shards_and_workers_share_the_load_of_one_sender_and_the_account_is_exact() {
    for workers in ["0", "2"] {
        let file = Scratch::new("shards");
        let args = ["--shards", "4", "--workers", workers, "--spread", "random", "--out", file.arg()];
        let ingest = Ingest::start("127.0.0.1:0", &args);
        let sent = number(&blast(ingest.addr, &["--count", "20000", "--rate", "100000"]), "sent");
        let (code, account, said) = ingest.stop();
        assert_eq!(code, 0, "{said}");
        assert_adds_up(&account, sent);
        assert_eq!(number(&account, "written"), number(&account, "delivered"));
        let shards = account["shards"].as_array().unwrap();
        assert_eq!((shards.len(), sum(&account["shards"], "received")), (4, number(&account, "delivered")));
        assert!(shards.iter().all(|shard| number(shard, "received") > 0), "{shards:?}");
        // In the file are all of them, and the drops that packets tell are no more than there were.
        let inspected: Value =
            serde_json::from_slice(&run(&["inspect", file.arg(), "--json"]).stdout).expect("a report");
        assert_eq!(number(&inspected, "udp"), number(&account, "written"));
        assert_eq!(number(&inspected, "lost"), number(&account, "kernel_dropped"), "{inspected}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn pinned_shards_by_processor_receive_too_and_a_processor_that_is_not_there_is_one_line() {
    let ingest = Ingest::start("127.0.0.1:0", &["--shards", "2", "--spread", "cpu", "--pin", "0,0"]);
    blast(ingest.addr, &["--count", "100", "--rate", "max"]);
    let (code, account, _) = ingest.stop();
    assert_eq!((code, number(&account, "delivered")), (0, 100));
    for (pins, named) in [("8000", "processor 8000:"), ("0,8000", "processor 8000:"), ("7999,8000", "7999 or 8000:")] {
        let shards = pins.split(',').count().to_string();
        let output = run(&["ingest", "--bind", "127.0.0.1:0", "--shards", &shards, "--pin", pins]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("--pin") && said.contains(named), "{said}");
    }
}

#[test]
fn several_addresses_are_received_on_at_once() {
    let file = Scratch::new("binds");
    let free = program::free_addr();
    let mut command = Command::new(PROGRAM);
    command.args(["ingest", "--json", "--out", file.arg(), "--bind", &free.to_string(), "--bind", "127.0.0.2:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    let told = line.strip_prefix("receiving on ").and_then(|rest| rest.split(';').next()).expect(&line);
    let addresses: Vec<SocketAddr> = told.split(", ").map(|text| text.parse().unwrap()).collect();
    assert_eq!((addresses.len(), addresses[0]), (2, free));
    for address in &addresses {
        blast(*address, &["--count", "50", "--rate", "max"]);
    }
    let ingest = Ingest { child, addr: free, noted: String::new(), stderr };
    let (code, account, _) = ingest.stop();
    assert_eq!((code, number(&account, "delivered"), number(&account, "written")), (0, 100, 100));
    let received: Vec<u64> = account["shards"].as_array().unwrap().iter().map(|s| number(s, "received")).collect();
    assert_eq!(received, [50, 50]);
}

#[test]
fn both_address_families_are_received_on_one_port_each_on_its_own_socket() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return println!("left out: needs IPv6");
    }
    for (v4, v6_comes_first) in [("0.0.0.0", false), ("0.0.0.0", true), ("127.0.0.1", false)] {
        let port = program::free_port();
        let mut binds = [format!("{v4}:{port}"), format!("[::]:{port}")];
        if v6_comes_first {
            binds.reverse();
        }
        let shards = if cfg!(target_os = "linux") { "2" } else { "1" };
        let ingest = Ingest::start(&binds[0], &["--bind", &binds[1], "--shards", shards, "--sink", "null"]);
        for (to, count) in [("127.0.0.1", "30"), ("[::1]", "40")] {
            blast(format!("{to}:{port}").parse().unwrap(), &["--count", count, "--rate", "max"]);
        }
        let (code, account, said) = ingest.stop();
        assert_eq!((code, said.as_str()), (0, ""));
        let of = |bind: &str| {
            let rows = account["shards"].as_array().unwrap().iter().filter(|row| row["bind"] == bind);
            rows.map(|row| number(row, "received")).sum::<u64>()
        };
        let received = (of(&format!("{v4}:{port}")), of(&format!("[::]:{port}")));
        assert_eq!(received, (30, 40), "{account}");
    }
}

#[test]
fn a_bind_that_fails_names_its_address_and_its_option() {
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let free = program::free_addr().to_string();
    for (binds, address, hint) in [
        (&["127.0.0.1:0", &*taken][..], &*taken, "another process or another --bind has port"),
        (&[&*free, &*free], &*free, "another process or another --bind has port"),
        (&["192.0.2.1:9"], "192.0.2.1:9", "no such address"),
        (&["no-such-host.invalid:9"], "no-such-host.invalid", "cannot resolve"),
    ] {
        let mut args = vec!["ingest"];
        args.extend(binds.iter().flat_map(|bind| ["--bind", bind]));
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        for part in ["--bind", address, hint] {
            assert!(said.contains(part), "{binds:?}: {part:?} is not in {said}");
        }
    }
}

#[test]
fn who_is_not_let_in_is_counted_and_stored_nowhere() {
    let file = Scratch::new("denied");
    let nets = ["--allow", "127.0.0.0/24", "--deny", "127.0.0.8/29", "--out", file.arg()];
    let ingest = Ingest::start("0.0.0.0:0", &nets);
    for (source, count) in [("127.0.0.1", 3), ("127.0.0.9", 4), ("127.0.1.1", 5)] {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        for _ in 0..count {
            socket.send_to(b"x", ("127.0.0.1", ingest.addr.port())).unwrap();
        }
    }
    let (code, account, _) = ingest.stop();
    let counts = ["delivered", "denied", "written", "rate_limited"].map(|name| number(&account, name));
    assert_eq!((code, counts), (0, [3, 9, 3, 0]));
    assert_eq!(account["sources"][0]["source"], "127.0.0.1");
    assert_eq!((account["sources"].as_array().unwrap().len(), sum(&account["sources"], "datagrams")), (1, 3));
}

#[test]
fn on_a_socket_of_both_families_ipv4_sources_are_let_in_as_ipv4() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return println!("left out: needs IPv6");
    }
    for (rule, from_v4, from_v6) in [
        (["--deny", "::/0"], 3, 0),
        (["--deny", "0.0.0.0/0"], 0, 4),
        (["--allow", "::/0"], 0, 4),
        (["--allow", "::ffff:127.0.0.0/104"], 3, 0),
    ] {
        let ingest = Ingest::start("[::]:0", &rule);
        for (to, count) in [("127.0.0.1", "3"), ("[::1]", "4")] {
            let to = format!("{to}:{}", ingest.addr.port()).parse().unwrap();
            blast(to, &["--count", count, "--rate", "max"]);
        }
        let (code, account, _) = ingest.stop();
        assert_adds_up(&account, 7);
        assert_eq!((code, number(&account, "delivered")), (0, from_v4 + from_v6), "{rule:?}: {account}");
    }
}

#[test]
fn a_source_above_its_rate_is_held_down_and_others_are_not() {
    let ingest = Ingest::start("0.0.0.0:0", &["--rate-limit", "1:20"]);
    ingest.signal("STOP");
    for (source, count) in [("127.0.0.1", 100), ("127.0.0.2", 10)] {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        for _ in 0..count {
            socket.send_to(b"x", ("127.0.0.1", ingest.addr.port())).unwrap();
        }
    }
    ingest.signal("CONT");
    ingest.signal("TERM");
    let (_, account, _) = ingest.end();
    // All at once, but a slow machine may take a second or two, in which one or two more are paid for.
    let [delivered, limited] = ["delivered", "rate_limited"].map(|name| number(&account, name));
    assert!((30..40).contains(&delivered), "{account}");
    assert_eq!(delivered + limited, 110);
}

/// The command of an ingest with a socket that is passed to it as a service manager does: its number 3.
fn passing(socket: &UdpSocket, args: &[&str]) -> Command {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, PROGRAM, "ingest", "--json"]).args(args);
    command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    command
}

fn with_passed(socket: &UdpSocket, args: &[&str]) -> Ingest {
    Ingest::spawn(passing(socket, args))
}

#[test]
fn more_passed_sockets_than_anybody_passes_are_one_line_at_once() {
    for count in ["1025", "300000000"] {
        let limit = format!("export LISTEN_PID=$$ LISTEN_FDS={count}; ulimit -v 1000000");
        let output =
            program::limited(&limit, &["ingest", "--bind", "127.0.0.1:0", "--duration", "0.1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(&format!("LISTEN_FDS={count}")), "{said}");
    }
}

#[test]
fn a_passed_socket_keeps_its_queue_from_one_run_to_the_next() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut expected = 0;
    for round in 0..3 {
        let ingest = with_passed(&socket, &["--count", &(expected + 10).to_string()]);
        assert_eq!(ingest.addr, address);
        blast(address, &["--count", "10", "--rate", "max"]);
        let (code, account, said) = ingest.end();
        assert_eq!((code, number(&account, "delivered")), (0, expected + 10), "{said}");
        // Nobody reads now, and nothing is lost.
        expected = 7 + round;
        blast(address, &["--count", &expected.to_string(), "--rate", "max"]);
    }
}

#[cfg(target_os = "linux")] // for its full device
#[test]
fn a_start_that_fails_at_its_last_step_leaves_what_a_passed_socket_holds() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    blast(socket.local_addr().unwrap(), &["--count", "20", "--rate", "max"]);
    let output = passing(&socket, &["--out", "/dev/full"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("cannot write '/dev/full': No space left on device"), "{said}");
    let (code, account, said) = with_passed(&socket, &["--count", "20"]).end();
    assert_eq!((code, number(&account, "delivered")), (0, 20), "{said}");
}

#[test]
fn a_passed_file_that_is_no_udp_socket_is_one_line() {
    let script = "exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" ingest";
    let output = Command::new("sh").args(["-c", script, PROGRAM]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("UDP sockets"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn privileges_are_given_up_once_the_port_is_bound() {
    let status = |pid: &str, field: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
    };
    if !status("self", "Uid:").starts_with("0\t") {
        return eprintln!("left out: needs root");
    }
    let dir = program::Dir::new("user");
    assert!(Command::new("chown").args(["12345:23456", dir.0.to_str().unwrap()]).status().unwrap().success());
    let sink = format!("jsonl:{}", dir.join("lines"));
    // A port that only root may bind.
    let port = (600..1000).find(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    let ingest = Ingest::start(&format!("127.0.0.1:{port}"), &["--user", "12345:23456", "--sink", &sink]);
    let pid = ingest.child.id().to_string();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = format!("{pid}/task/{}", task.unwrap().file_name().to_str().unwrap());
        assert_eq!(status(&task, "Uid:"), "12345\t12345\t12345\t12345");
        assert_eq!(status(&task, "Gid:"), "23456\t23456\t23456\t23456");
        assert_eq!(status(&task, "Groups:"), "23456");
        assert_eq!(status(&task, "CapEff:").trim_start_matches('0'), "", "capabilities");
    }
    blast(ingest.addr, &["--count", "5", "--rate", "max"]);
    let (code, account, said) = ingest.stop();
    assert_eq!((code, number(&account, "written")), (0, 5), "{said}");
}

#[test]
fn files_are_opened_anew_on_sigusr1_and_no_line_is_lost() {
    let file = Scratch::new("reopen");
    let aside = Scratch::new("aside");
    let sink = format!("jsonl:{}", file.arg());
    let ingest = Ingest::start("127.0.0.1:0", &["--sink", &sink]);
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    blast(ingest.addr, &["--count", "10", "--rate", "max"]);
    wait_until("the first lines", || lines(&file.0) == 10);
    std::fs::rename(&file.0, &aside.0).unwrap();
    ingest.signal("USR1");
    wait_until("a new file", || file.0.exists());
    blast(ingest.addr, &["--count", "15", "--rate", "max"]);
    let (code, account, _) = ingest.stop();
    assert_eq!((code, number(&account, "written"), lines(&aside.0), lines(&file.0)), (0, 25, 10, 15));
}

#[cfg(target_os = "linux")]
#[test]
fn a_reload_changes_who_is_let_in_and_a_bad_file_changes_nothing() {
    let file = Scratch::new("config");
    let write = |text: &str| std::fs::write(&file.0, text).unwrap();
    write("deny = [\"127.0.0.1\"]\n");
    let mut ingest = Ingest::start("127.0.0.1:0", &["--config", file.arg(), "--metrics", "127.0.0.1:0"]);
    let metrics = program::metrics_of(&ingest);
    let hangup = |ingest: &mut Ingest, text: &str| {
        write(text);
        ingest.signal("HUP");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut ingest.stderr, &mut line).unwrap();
        line
    };
    let (addr, mut sent) = (ingest.addr, 0);
    let mut send = |addr: SocketAddr| {
        blast(addr, &["--count", "10", "--rate", "max"]);
        sent += 10;
        // What was received, but not yet looked at, would be let in by the next rules.
        wait_until("a verdict on each", || {
            let told = program::scrape(metrics);
            let of = |part: &str| -> u64 {
                let series = format!("hio_udp_{part}_datagrams_total");
                let lines = told.lines().filter(|line| line.starts_with(&series));
                lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
            };
            of("delivered") + of("denied") + of("rate_limited") == sent
        });
    };
    send(addr);
    let said = hangup(&mut ingest, "allow = [\"127.0.0.0/8\"]\nbc = 7\n");
    assert_eq!(said, "hio-udp: reloaded: allow, deny; a restart is needed for bc\n");
    send(addr);
    let said = hangup(&mut ingest, "allow = [\"127.0.0.0/80\"]\n");
    assert!(said.contains("not reloaded") && said.contains(":1: allow"), "{said}");
    send(addr);
    let said = hangup(&mut ingest, "rate-limit = \"1:1\"\n");
    assert_eq!(said, "hio-udp: reloaded: allow, rate-limit\n");
    send(addr);
    let (code, account, _) = ingest.stop();
    let [delivered, denied, limited] = ["delivered", "denied", "rate_limited"].map(|name| number(&account, name));
    assert_eq!((code, denied, delivered + limited), (0, 10, 30));
    assert!((21..25).contains(&delivered), "{account}");
}

#[test]
fn options_that_do_not_go_together_are_one_line() {
    for (args, code, part) in [
        (&["--bind", "127.0.0.1:0", "--join", "239.1.1.1"][..], 2, "0.0.0.0:PORT"),
        (&["--join", "192.0.2.1"], 2, "no multicast group"),
        (&["--join", "239.1.1.1%no-such-interface"], 2, "ip link"),
        (&["--allow", "192.0.2.0/33"], 2, "192.0.2.0/24"),
        (&["--rate-limit", "0"], 2, "RATE:BURST"),
        (&["--shards", "0"], 2, "from 1 to 1024"),
        (&["--workers", "x"], 2, "from 0 to 1024"),
        (&["--bind", "127.0.0.1:0", "--pin", "0,0"], 2, "one for each"),
        (&["--spread", "round"], 2, "flow"),
        (&["--user", ":x"], 2, "USER:GROUP"),
        (&["--user", "root"], 2, "would keep all privileges"),
        (&["--user", "0:nogroup"], 2, "would keep all privileges"),
        (&["--bind", "127.0.0.1:0", "--user", "no-such-user-here"], 1, "no user 'no-such-user-here'"),
    ] {
        let output = run(&[&["ingest"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {part:?} not in {said:?}");
    }
}

#[test]
fn datagrams_of_a_batch_share_its_time_if_that_is_asked_for() {
    let file = Scratch::new("stamp");
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ingest = Ingest::start("127.0.0.1:0", &["--stamp", "batch", "--out", file.arg(), "--count", "50"]);
    ingest.signal("STOP");
    blast(ingest.addr, &["--count", "50", "--rate", "max"]);
    ingest.signal("CONT");
    let (code, account, _) = ingest.end();
    let after = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let times: Vec<Duration> = captures::read_capture(&file.0).0.iter().map(|packet| packet.time).collect();
    assert!((before..after).contains(&times[0]), "{:?}", times[0]);
    if account["backend"] != "single" {
        assert!(code == 0 && times.len() == 50 && times.iter().all(|time| *time == times[0]), "{times:?}");
    }
}
