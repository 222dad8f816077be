//! Emptying a full socket queue on the portable backend: what `cargo bench --bench portable` builds
//! once more with `--cfg force_single` and runs. Built as everybody builds, it would measure the
//! default backend, so it refuses.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use hio_udp::{MAX_GRAM_SIZE, Peer, Transport};
    use hio_udp_benches::report::Report;
    use hio_udp_benches::{drained, harness, machine, traffic};

    const RECVFROM: &str = "bare recvfrom";

    if traffic::backend() != "single" {
        eprintln!("built for another backend; `cargo bench --bench portable` builds it for the portable one");
        return ExitCode::FAILURE;
    }
    println!("{}", machine::describe());
    machine::quieten(0);
    let mut report = Report::new("portable");
    for size in [32, 1240] {
        let peer = Peer::new(traffic::config(traffic::RECV_BUF_BYTES)).expect("a free port");
        let mut receivers = [
            drained::recvfrom(RECVFROM),
            drained::recvfrom("the same again (null ratio)"),
            drained::std_recv_from(),
            drained::fill(FILL, traffic::batch_peer(64, MAX_GRAM_SIZE, traffic::RECV_BUF_BYTES)),
            drained::receive("Peer::receive, portable", peer),
        ];
        let load = (size, traffic::queue_depth(4096, size));
        let outcomes = drained::paired(&mut report, &mut receivers, load, "portable backend", &[RECVFROM]);
        report.figure(&format!("g13_{size}"), harness::ratio(&outcomes, FILL, RECVFROM, 0));
        report.figure(&format!("g13_{size}_barest"), harness::ratio(&outcomes, STD, RECVFROM, 0));
    }
    report.save();
    return ExitCode::SUCCESS;

    const FILL: &str = "BatchPeer::fill, portable";
    const STD: &str = "std recv_from";
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("the benchmarks need Linux");
    ExitCode::FAILURE
}
