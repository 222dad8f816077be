//! The last bench: reads what the others have left, and prints the table of goals.
//!
//! After a whole run of `cargo bench` it also writes `docs/plots` and the generated parts of
//! `docs/BENCHMARKS.md` and of the README. A figure of another run counts as not measured; with
//! `-- --last` the last one of each bench counts, whenever that was.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::process::Command;

use hio_udp_benches::goals::{GOALS, Verdict};
use hio_udp_benches::plot::Plot;
use hio_udp_benches::report::{self, Saved};
use hio_udp_benches::{harness, machine, traffic};

/// The others, in the order in which cargo runs them.
const BENCHES: [&str; 10] =
    ["calls", "drain", "flood", "handoff", "instructions", "latency", "offload", "portable", "scale", "send"];

/// Crates whose versions belong to the figures.
const RIVALS: [&str; 4] = ["io-uring", "nix", "quinn-udp", "tokio"];

/// Reports by bench; those of another run are left out, unless the last of each is wanted.
fn reports() -> BTreeMap<&'static str, Saved> {
    let (run, wants_last) = (report::run(), env::args().any(|argument| argument == "--last"));
    let read = |bench| {
        let saved = Saved::read(bench).ok()?;
        (wants_last || saved.run == run).then_some((bench, saved))
    };
    BENCHES.into_iter().filter_map(read).collect()
}

fn print_goals(figures: &BTreeMap<String, f64>) {
    let width = GOALS.iter().map(|goal| goal.what.chars().count()).max().unwrap_or(0);
    println!("\n{:<4} {:<width$}  {:<9} {:<12} measured", "goal", "", "wanted", "");
    for goal in GOALS {
        let (name, what, wanted) = (goal.name, goal.what, goal.wanted());
        let (verdict, measured) = (goal.verdict(figures), goal.measured(figures));
        println!("{name:<4} {what:<width$}  {wanted:<9} {verdict:<12} {measured}");
    }
    let count = |verdict| GOALS.iter().filter(|goal| goal.verdict(figures) == verdict).count();
    println!(
        "\n{} of {} met, {} missed, {} not measured in this run",
        count(Verdict::Met),
        GOALS.len(),
        count(Verdict::Missed),
        count(Verdict::NotMeasured),
    );
}

fn goals_markdown(figures: &BTreeMap<String, f64>) -> String {
    let row = |goal: &hio_udp_benches::goals::Goal| {
        let (wanted, measured, verdict) = (goal.wanted(), goal.measured(figures), goal.verdict(figures));
        let verdict = if verdict == Verdict::Met { "met".to_owned() } else { format!("**{verdict}**") };
        format!("| {} | {} | {wanted} | {measured} | {verdict} |\n", goal.name, goal.what)
    };
    let rows: String = GOALS.iter().map(row).collect();
    format!("| goal | what | wanted | measured | verdict |\n|---|---|---|---|---|\n{rows}")
}

/// The reference of the drains against itself: how far apart two equal things came out.
fn null_ratios(figures: &BTreeMap<String, f64>) -> String {
    let ratios: Vec<String> =
        figures.iter().filter(|(key, _)| key.starts_with("null_")).map(|(_, ratio)| format!("{ratio:.3}")).collect();
    if ratios.is_empty() { "not measured".to_owned() } else { ratios.join(", ") }
}

/// Where and with what it was measured.
fn circumstances(figures: &BTreeMap<String, f64>) -> String {
    let date = Command::new("date").args(["-u", "+%F"]).output().map(|output| output.stdout).unwrap_or_default();
    let lock = fs::read_to_string(report::root().join("Cargo.lock")).unwrap_or_default();
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    let rustc = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let rivals = RIVALS.into_iter().filter_map(version).collect::<Vec<_>>().join(", ");
    format!(
        "{}; {}; an empty system call takes {:.0} ns. {}. Rivals: {rivals}. The reference of the drains against \
         itself: {}.\n",
        text(&date),
        machine::describe(),
        machine::syscall_ns(),
        text(&rustc),
        null_ratios(figures),
    )
}

/// The figures that matter, for the README.
fn measured_markdown(figures: &BTreeMap<String, f64>) -> String {
    // A peer receives through io_uring by default, and by recvmmsg where the system forbids that.
    let shown = |keys: [&str; 2], size: usize| {
        let figure = keys.iter().find_map(|key| figures.get(&key.replace('#', &size.to_string())));
        figure.map_or("not measured".to_owned(), |figure| format!("{figure:.2}"))
    };
    let pair = |uring: &str, mmsg: &str, small: usize| [small, 1240].map(|size| shown([uring, mmsg], size));
    let [drain_bare, drain_quinn] = [pair("g3_#", "g1_#", 32), pair("g2_#_io_uring", "g2_#", 32)];
    let [cpu, delivered] = ["cpu_vs_mmsg", "delivered_vs_std"]
        .map(|key| pair(&format!("g5_#_io_uring_{key}"), &format!("g5_#_mmsg_{key}"), 64));
    let coalesced = pair("g7_#_delivered", "g7_#_delivered", 64);
    let rates = [64, 1240].map(|size| {
        let rate = figures.get(&format!("g7_{size}_rate"));
        rate.map_or("not measured".to_owned(), |rate| format!("{:.1} million/s", rate / 1000.0))
    });
    let rows = [0, 1].map(|at| {
        [
            format!("{} ×, {} ×", drain_bare[at], drain_quinn[at]),
            format!("{} ×, {} ×", cpu[at], delivered[at]),
            format!("{} × ({})", coalesced[at], rates[at]),
        ]
    });
    let what = [
        "emptying a full queue, `fill` and every gram read: time against a bare `recvmmsg` loop, against quinn-udp",
        "a flood, `fill_wait`: processor time of the receiver against `recvmmsg` and `poll`, delivered against std",
        "a flood, segmented by `send_batch` and coalesced by `fill_wait`: delivered against quinn-udp on both sides",
    ];
    let row = |i: usize| format!("| {} | {} | {} |\n", what[i], rows[0][i], rows[1][i]);
    format!("| what | 32 or 64 bytes | 1,240 bytes |\n|---|---|---|\n{}", (0..3).map(row).collect::<String>())
}

/// The plots by file name.
fn plots(reports: &BTreeMap<&str, Saved>) -> Vec<(&'static str, Plot)> {
    let series = |key: &str| {
        let mut series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for (_, name, x, y) in reports.values().flat_map(|report| &report.points).filter(|point| point.0 == key) {
            match series.iter_mut().find(|(known, _)| known == name) {
                Some((_, points)) => points.push((*x, *y)),
                None => series.push((name.clone(), vec![(*x, *y)])),
            }
        }
        series
    };
    let drain = |key: &str, title: &str, x: &str| Plot {
        title: title.to_owned(),
        x: x.to_owned(),
        y: "ns per datagram".to_owned(),
        is_log: true,
        is_scatter: false,
        series: series(key),
    };
    let flood = |size: usize| Plot {
        title: format!("Flood of {size}-byte datagrams: what arrives, and what it costs the receiver"),
        x: "receiver's processor time, ns per datagram".to_owned(),
        y: "thousand datagrams a second delivered".to_owned(),
        is_log: false,
        is_scatter: true,
        series: series(&format!("flood_{size}")),
    };
    vec![
        ("size.svg", drain("size", "Emptying a full queue, by size", "bytes of each datagram")),
        ("batch.svg", drain("batch", "Emptying a full queue, by batch", "datagrams per system call, at most")),
        ("depth.svg", drain("depth", "Emptying a queue of 64-byte datagrams, by depth", "datagrams queued")),
        ("flood_64.svg", flood(64)),
        ("flood_1240.svg", flood(1240)),
    ]
}

/// Replaces what stands between the marks of a generated part.
fn replace_part(text: &str, part: &str, new: &str) -> io::Result<String> {
    let [begin, end] = ["generated", "end of"].map(|what| format!("<!-- {what}: {part} -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| io::Error::other(format!("the marks of {part} are missing")))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", new.trim()))
}

fn write_documents(reports: &BTreeMap<&str, Saved>, figures: &BTreeMap<String, f64>) -> io::Result<()> {
    let docs = report::root().join("docs");
    fs::create_dir_all(docs.join("plots"))?;
    for (file, plot) in plots(reports) {
        fs::write(docs.join("plots").join(file), plot.svg())?;
    }
    let circumstances = circumstances(figures);
    let tables: String = reports.values().map(|report| report.tables.as_str()).collect();
    let mut text = fs::read_to_string(docs.join("BENCHMARKS.md"))?;
    for (part, new) in [("circumstances", &circumstances), ("goals", &goals_markdown(figures)), ("tables", &tables)] {
        text = replace_part(&text, part, new)?;
    }
    fs::write(docs.join("BENCHMARKS.md"), text)?;

    let readme = report::root().join("README.md");
    let measured = format!("{circumstances}\n{}", measured_markdown(figures));
    fs::write(&readme, replace_part(&fs::read_to_string(&readme)?, "measured", &measured)?)
}

fn main() {
    println!("{}", machine::describe());
    println!("{}", traffic::allowances());
    let reports = reports();
    let figures: BTreeMap<String, f64> =
        reports.values().flat_map(|report| report.figures.iter().map(|(key, value)| (key.clone(), *value))).collect();
    print_goals(&figures);
    println!("the reference of the drains against itself: {}", null_ratios(&figures));
    let missing: Vec<&str> = BENCHES.into_iter().filter(|bench| !reports.contains_key(bench)).collect();
    if harness::is_smoke_test() {
        return;
    }
    if !missing.is_empty() {
        println!("\nno document was written, because these have not run: {}", missing.join(", "));
        return;
    }
    match write_documents(&reports, &figures) {
        Ok(()) => println!("\ndocs/BENCHMARKS.md, docs/plots and the README's table were written"),
        Err(error) => eprintln!("\nthe documents were not written: {error}"),
    }
}
