//! `hio-udp doctor`, from outside: exit codes, and what it prints wherever it runs.
#![cfg(unix)]

use std::net::UdpSocket;

use serde_json::Value;

#[path = "util/own_host.rs"]
mod own_host;
#[path = "util/program.rs"]
mod util;
use own_host::own_host;
use util::{number, run};

/// Exit code, what was printed, what was said.
fn doctor(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["doctor"], args].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_rate_that_every_machine_takes_is_fine() {
    let (code, printed, said) = doctor(&["--rate", "10", "--size", "10", "--pause", "0.001"]);
    assert_eq!((code, &*said), (Some(0), ""), "{printed}");
    for part in ["10 datagrams of 10 bytes a second", "receive buffer", "Nothing limits this rate"] {
        assert!(printed.contains(part), "{part:?} not in {printed}");
    }
}

#[test]
fn a_rate_that_no_buffer_bridges_is_a_failure_with_its_reason() {
    let (code, printed, said) = doctor(&["--rate", "1000000000", "--pause", "100"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("limited by receive buffer"), "{said}");
    assert!(printed.contains("LIMITS  receive buffer") && printed.contains("wanted 100,000,000,000"), "{printed}");
    #[cfg(target_os = "linux")]
    assert!(printed.contains("sysctl -w net.core.netdev_max_backlog=") && printed.contains("/etc/sysctl.d/"));
}

#[test]
fn json_has_findings_commands_and_facts() {
    let (_, printed, _) = doctor(&["--json", "--rate", "50000", "--size", "1000", "--bind", "[::]:0"]);
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((number(&report["need"], "datagrams_held"), &report["bind"]), (2500, &"[::]:0".into()));
    let findings = report["findings"].as_array().unwrap();
    let verdicts = ["fine", "note", "limits", "unknown"];
    assert!(findings.iter().all(|finding| verdicts.contains(&finding["verdict"].as_str().unwrap())));
    let limits = findings.iter().filter(|finding| finding["verdict"] == "limits").count();
    assert_eq!(report["limits"].as_array().unwrap().len(), limits);
    assert!(report["commands"].is_array() && report["machine"].is_object());
}

#[test]
fn an_address_that_cannot_be_received_on_limits_everything() {
    let taken = UdpSocket::bind((own_host(), 0)).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, printed, _) = doctor(&["--rate", "10", "--bind", &addr]);
    assert_eq!(code, Some(1), "{printed}");
    let hint = format!("or give any free one, --bind {}:0", taken.local_addr().unwrap().ip());
    assert!(printed.contains("cannot open the socket") && printed.contains(&hint), "{printed}");
    // The socket was only looked at: the port is free again.
    drop(taken);
    for _ in 0..2 {
        let (code, printed, _) = doctor(&["--rate", "10", "--pause", "0.001", "--bind", &addr]);
        assert_eq!(code, Some(0), "{printed}");
    }
}

#[test]
fn bad_input_gets_one_line_and_the_right_exit_code() {
    for (args, code, part) in [
        (&["--rate", "0"][..], 2, "datagrams a second from 1"),
        (&["--rate", "-3"], 2, "'-3'"),
        (&["--size", "65508"], 2, "from 0 to 65507"),
        (&["--pause", "0"], 2, "seconds, more than 0"),
        (&["--bind", "localhost"], 2, "ADDR:PORT"),
        (&["--bind", "no-such-host.invalid:5"], 1, "no-such-host.invalid"),
    ] {
        let (found, printed, said) = doctor(args);
        assert_eq!((found, said.lines().count()), (Some(code), 1), "{args:?}: {said}");
        assert!(said.contains(part) && printed.is_empty(), "{args:?}: {said}");
    }
    assert!(doctor(&["--help"]).1.contains("Examples:"));
}
