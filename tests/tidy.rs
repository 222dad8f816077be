//! The rules of the house, held by a test: layers, unsafe code, SAFETY comments, and facts told once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file with this ending below `folder`, as paths from the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// Unit tests in files of their own.
const TEST_FILES: &str = "src/fault_tests/";

fn library_files() -> Vec<String> {
    files("src", "rs")
        .into_iter()
        .filter(|path| !path.starts_with("src/bin/") && !path.starts_with(TEST_FILES))
        .collect()
}

/// The code in front of a file's unit tests, without comments.
fn code(path: &str) -> String {
    let text = read(path);
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let uncommented = code.lines().map(|line| line.split("//").next().unwrap());
    uncommented.collect::<Vec<_>>().join("\n")
}

/// Layer of each file, from the table in ARCHITECTURE.md.
fn layers() -> BTreeMap<String, u32> {
    let table = read("docs/ARCHITECTURE.md");
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let layer = cells.next()?.parse().ok()?;
        Some((cells.next()?.trim_matches('`').to_owned(), layer))
    });
    rows.collect()
}

/// The file that `crate::name` leads to, if it is a module.
fn module_file(name: &str) -> Option<String> {
    let candidates = [format!("src/{name}.rs"), format!("src/{name}/mod.rs")];
    candidates.into_iter().find(|path| root().join(path).exists())
}

#[test]
fn every_file_uses_lower_layers_only() {
    let layers = layers();
    for path in library_files() {
        let layer = *layers.get(&path).unwrap_or_else(|| panic!("{path} has no row in docs/ARCHITECTURE.md"));
        if path == "src/lib.rs" {
            continue;
        }
        for rest in code(&path).split("crate::").skip(1) {
            assert!(!rest.starts_with('{'), "{path}: one `use crate::` for each file, so that this test sees them");
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            // A name re-exported at the root, in a macro or a doc, is no use of a module.
            let Some(used) = module_file(&name) else { continue };
            if path.starts_with("src/sys/") {
                panic!("{path} uses crate::{name}: sys uses nothing of the crate");
            }
            assert!(layers[&used] < layer, "{path} (layer {layer}) uses {used} (layer {})", layers[&used]);
        }
    }
    for path in layers.keys() {
        assert!(root().join(path).exists(), "docs/ARCHITECTURE.md names {path}, which is not there");
    }
}

#[test]
fn the_program_uses_the_public_api_only_and_every_file_of_it_is_on_the_map() {
    let map = read("docs/ARCHITECTURE.md");
    for path in files("src/bin/hio-udp", "rs") {
        let name = path.strip_prefix("src/bin/hio-udp/").unwrap();
        assert!(map.contains(&format!("`{name}`")), "{name} is not in docs/ARCHITECTURE.md");
        let is_ours = |line: &str| !line.contains("#[path") || line.contains("tests/support/");
        assert!(code(&path).lines().all(is_ours), "{path} reaches into the library");
    }
}

#[test]
fn every_file_of_tests_is_on_the_map() {
    let map = read("docs/ARCHITECTURE.md");
    for path in files("tests", "rs").into_iter().filter(|path| path.matches('/').count() == 1) {
        let is_on_map = path.starts_with("tests/hio_") || map.contains(&format!("`{path}`"));
        assert!(is_on_map, "{path} is not in docs/ARCHITECTURE.md");
    }
}

#[test]
fn the_fuzz_target_of_command_lines_has_every_module_of_the_program() {
    let modules = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).map(str::to_owned).collect()
    };
    let target = read("fuzz/fuzz_targets/specs.rs");
    assert_eq!(modules(&read("src/bin/hio-udp/main.rs")), modules(&target), "fuzz/fuzz_targets/specs.rs");
}

/// Whether a line of code has the keyword `unsafe`, not as part of a longer word or a lint's name.
fn has_unsafe(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[test]
fn unsafe_code_lives_in_sys_only_and_single_has_none() {
    for path in files("src", "rs") {
        let is_allowed = path.starts_with("src/sys/") && path != "src/sys/single.rs";
        for (number, line) in code(&path).lines().enumerate() {
            assert!(is_allowed || !has_unsafe(line), "{path}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn every_unsafe_block_has_a_safety_comment_right_above_it() {
    let mut blocks = 0;
    for path in files("src/sys", "rs") {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if !has_unsafe(line.split("//").next().unwrap()) {
                continue;
            }
            blocks += 1;
            // The statement may have begun a few lines above; the comment stands over that.
            let above = lines[..number].iter().rev().take(12).map(|line| line.trim());
            // What an unsafe function asks of its callers is part of its documentation.
            let mark = if line.contains("unsafe fn ") { "/// # Safety" } else { "// SAFETY:" };
            let is_explained = above.take_while(|line| !line.is_empty()).any(|line| line.starts_with(mark));
            assert!(is_explained, "{path}:{}: no {mark}: {}", number + 1, line.trim());
        }
    }
    assert!(blocks > 10, "the search finds nothing any more");
}

#[test]
fn every_unsafe_block_has_its_row_in_the_list_and_every_test_named_there_exists() {
    let list = read("docs/UNSAFE.md");
    let code: String = ["src", "tests"].iter().flat_map(|folder| files(folder, "rs")).map(|path| read(&path)).collect();
    for path in files("src/sys", "rs") {
        let text = read(&path);
        let before_tests = text.split("mod tests {").next().unwrap();
        let blocks = before_tests.lines().filter(|line| has_unsafe(line.split("//").next().unwrap())).count();
        let section = list.split("\n## ").find_map(|section| section.strip_prefix(&path)).unwrap_or_default();
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), blocks, "docs/UNSAFE.md, {path}: a row for each");
        for row in rows {
            let test = row.trim_end_matches("` |").rsplit('`').next().unwrap();
            assert!(code.contains(&format!("fn {test}(")), "docs/UNSAFE.md, {path}: there is no test {test}");
        }
    }
}

#[test]
fn nothing_is_left_open_in_the_code() {
    // Written in two parts, so that this file does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("un", "implemented!("),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("#[ig", "nore"),
    ];
    for folder in ["src", "tests", "examples", "benches", "fuzz/fuzz_targets"] {
        for path in files(folder, "rs").into_iter().filter(|path| !path.contains("/target/")) {
            let text = read(&path);
            for mark in marks {
                assert!(!text.contains(mark), "{path} has {mark}");
            }
        }
    }
    for path in ["README.md", "CHANGELOG.md"].map(str::to_owned).into_iter().chain(files("docs", "md")) {
        let text = read(&path);
        let is_placeholder = |line: &&str| line.len() > 3 && line.chars().all(|c| c.is_ascii_uppercase());
        assert_eq!(text.lines().find(is_placeholder), None, "{path} has a placeholder");
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for path in files("src", "rs").into_iter().filter(|path| !path.starts_with(TEST_FILES)) {
        let lines = code(&path).lines().count();
        assert!(lines <= 500, "{path} has {lines} lines before its tests");
    }
}

#[test]
fn comments_are_no_wider_than_code() {
    for path in ["src", "tests", "examples", "benches"].iter().flat_map(|folder| files(folder, "rs")) {
        for (number, line) in read(&path).lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//")) {
            // A table has a line for each row.
            let is_wide = line.chars().count() > 120 && !line.trim_start().starts_with("//! |");
            assert!(!is_wide, "{path}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn every_test_that_the_reliability_document_names_exists_and_no_cell_is_empty() {
    let document = read("docs/RELIABILITY.md") + &read("docs/SECURITY.md");
    let code: String = ["src", "tests"].iter().flat_map(|folder| files(folder, "rs")).map(|path| read(&path)).collect();
    let functions: BTreeSet<&str> = code.split("fn ").map(|rest| rest.split(['(', '<']).next().unwrap()).collect();
    let mut rows = 0;
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.iter().all(|cell| !["", "–"].contains(cell)), "an empty cell: {line}");
        // The last cell is the test's.
        for name in cells.last().unwrap().split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '/'])) {
            rows += 1;
            assert!(
                functions.contains(name),
                "docs/RELIABILITY.md or docs/SECURITY.md names {name}, which is not there"
            );
        }
    }
    assert!(rows > 20, "the search finds nothing any more");
    // Sentences name tests too, by names that nothing else has.
    for name in document.split('`').filter(|name| name.matches('_').count() > 3 && !name.contains([' ', '/', '|'])) {
        assert!(functions.contains(name), "docs/RELIABILITY.md or docs/SECURITY.md names {name}, which is not there");
    }
}

#[test]
fn the_oldest_rust_is_told_once() {
    let manifest = read("Cargo.toml");
    let msrv = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("told in Cargo.toml");
    let msrv = msrv.trim_matches('"');
    for path in
        ["README.md", "CHANGELOG.md", "docs/ARCHITECTURE.md", "docs/DESIGN.md", "docs/RELIABILITY.md", "src/lib.rs"]
    {
        assert!(!read(path).contains(msrv), "{path} tells the oldest Rust again");
    }
}

#[test]
fn tests_sleep_only_in_loops_with_a_deadline_or_say_why() {
    for path in files("tests", "rs").into_iter().filter(|path| path != "tests/tidy.rs") {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("sleep(")) {
            let before = lines[number.saturating_sub(15)..number].join("\n");
            let is_bounded = ["deadline", "while ", "loop {"].iter().any(|word| before.contains(word));
            let is_explained = lines[number - 1].trim().starts_with("// Sleeps ");
            assert!(is_bounded || is_explained, "{path}:{}: a bare sleep: {}", number + 1, line.trim());
        }
    }
}

/// What stands between a function's name and its end.
fn body(path: &str, function: &str) -> String {
    let text = read(path);
    let start = text.find(function).unwrap_or_else(|| panic!("{path} has no {function}"));
    text[start..].split("\n    }\n").next().unwrap().to_owned()
}

#[test]
fn three_functions_lead_from_a_call_to_the_system_call() {
    for (path, function, next) in [
        ("src/lib.rs", "batch_peer::{", "BatchPeer"),
        ("src/batch_peer.rs", "pub fn fill(", "self.endpoint.fill("),
        ("src/receive.rs", "pub(crate) fn fill(", "RecvSlots::recv("),
        ("src/sys/mmsg.rs", "pub(crate) fn recv(", "libc::recvmmsg("),
    ] {
        assert!(body(path, function).contains(next), "{path}: {function} does not lead to {next}");
    }
}
