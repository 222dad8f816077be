//! Holds docs/HIO.md to what it says: every row once, and every test it names exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The table lines of docs/HIO.md by row number: what stands in the cells behind the number.
fn rows() -> BTreeMap<u32, Vec<String>> {
    let table = fs::read_to_string(root().join("docs/HIO.md")).expect("docs/HIO.md");
    let mut rows: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in table.lines() {
        let Some((number, cells)) = line.strip_prefix("| H").and_then(|rest| rest.split_once(" | ")) else { continue };
        let number = number.parse().unwrap_or_else(|_| panic!("no row number in {line:?}"));
        rows.entry(number).or_default().push(cells.to_owned());
    }
    rows
}

/// The names of tests in the last cell of a line.
fn tests_named(cells: &str) -> Vec<&str> {
    let last = cells.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
    last.split('`').skip(1).step_by(2).collect()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a source directory").map(|entry| entry.expect("an entry").path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = directories.iter().flat_map(|directory| sources(directory));
    files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).chain(below).collect()
}

#[test]
fn every_row_has_exactly_one_line() {
    let rows = rows();
    let wanted: Vec<u32> = (1..=173).chain(192..=201).collect();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), wanted);
    for (number, lines) in rows {
        assert_eq!(lines.len(), 1, "H{number}");
    }
}

#[test]
fn every_test_named_exists_and_carries_its_rows_number() {
    let files = ["src", "tests"].iter().flat_map(|directory| sources(&root().join(directory)));
    let code: String = files.map(|file| fs::read_to_string(file).expect("a source file")).collect();
    let mut missing = Vec::new();
    for (number, lines) in rows() {
        for name in lines.iter().flat_map(|line| tests_named(line)) {
            assert!(name.starts_with(&format!("h{number:03}_")), "H{number} names {name}");
            if !code.contains(&format!("fn {name}(")) && !code.contains(&format!("fn {name}<")) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "named in docs/HIO.md but not there: {missing:#?}");
}

#[test]
fn a_row_without_a_test_is_typed_away_or_says_why() {
    for (number, lines) in rows() {
        for line in lines.iter().filter(|line| tests_named(line).is_empty()) {
            let reasons = ["typed away", "differs: "];
            assert!(reasons.iter().any(|reason| line.contains(reason)), "H{number} has no test: {line}");
        }
    }
}

#[test]
fn every_hio_test_of_a_row_is_named_in_its_line() {
    let is_hio = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("hio_"));
    let rows = rows();
    for file in sources(&root().join("tests")).into_iter().filter(is_hio) {
        let code = fs::read_to_string(&file).expect("a source file");
        let names = code.lines().filter_map(|line| line.trim_start().strip_prefix("fn h"));
        for name in names.map(|rest| format!("h{}", rest.split(['(', '<']).next().unwrap_or_default())) {
            let Some(number) = name.get(1..4).and_then(|digits| digits.parse().ok()) else { continue };
            let named = rows.get(&number).is_some_and(|lines| tests_named(&lines[0]).contains(&&*name));
            assert!(named, "{name} in {} is not in docs/HIO.md", file.display());
        }
    }
}

/// Every name in the documentation of `hio.core.udp.udping`.
const NAMES: [&str; 27] = [
    "Peer",
    "__init__",
    "name",
    "ha",
    "host",
    "port",
    "path",
    "bc",
    "bs",
    "wl",
    "ls",
    "opened",
    "bcast",
    "BufSize",
    "MaxGramSize",
    "actualBufSizes",
    "open",
    "reopen",
    "close",
    "receive",
    "send",
    "PeerDoer",
    "PeerDoer.peer",
    "enter",
    "recur",
    "exit",
    "openPeer",
];

#[test]
fn every_name_of_udping_leads_to_an_item_and_a_test() {
    let guide = fs::read_to_string(root().join("docs/HIO.md")).expect("docs/HIO.md");
    let table = guide.split("## Where each name of udping is").nth(1).expect("the table of names");
    let table = table.split("\n## ").next().expect("its end");
    let code: Vec<String> = [root().join("src"), root().join("tests")]
        .iter()
        .flat_map(|directory| sources(directory))
        .map(|file| fs::read_to_string(file).expect("a source file"))
        .collect();
    let is_there = |wanted: &str| code.iter().any(|text| text.contains(wanted));
    for name in NAMES {
        let row =
            table.lines().find(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))));
        let row = row.unwrap_or_else(|| panic!("no row for {name}"));
        let mut cells = row.split('|').skip(2).map(|cell| cell.trim().trim_matches('`'));
        let (item, test) = (cells.next().expect("an item"), cells.next().expect("a test"));
        let last = item.rsplit("::").next().expect("a name");
        let kinds = ["pub struct ", "pub trait ", "pub const ", "fn "];
        assert!(kinds.iter().any(|kind| is_there(&format!("{kind}{last}"))), "{name}: no item {item}");
        assert!(is_there(&format!("fn {test}")), "{name}: no test {test}");
    }
}
