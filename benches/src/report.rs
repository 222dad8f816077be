//! What a bench leaves for `summary`: the figures of its goals, points of its plots, and its tables.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::harness::{self, Outcome};

/// One bench's measurements, kept in `target/hio-bench`.
#[derive(Debug, Default)]
pub struct Report {
    bench: String,
    rows: String,
    tables: String,
}

impl Report {
    /// An empty report of the bench of this name.
    pub fn new(bench: &str) -> Self {
        Self { bench: bench.to_owned(), ..Self::default() }
    }

    /// Prints one figure of every contestant, as [`harness::print_table`] does, and keeps the table.
    pub fn table<const M: usize>(&mut self, title: &str, outcomes: &[Outcome<M>], figure: usize, references: &[&str]) {
        harness::print_table(title, outcomes, figure, references);
        let heads: String = references.iter().map(|reference| format!(" × {reference} |")).collect();
        let rule = "---:|".repeat(references.len());
        self.tables += &format!("\n### {title}\n\n| what | median | quartiles |{heads}\n|---|---:|---:|{rule}\n");
        for outcome in outcomes {
            let it = outcome.figures[figure];
            self.tables += &format!("| {} | {:.1} | {:.1} – {:.1} |", outcome.name, it.median, it.low, it.high);
            for reference in references {
                let ratio = harness::ratio(outcomes, &outcome.name, reference, figure);
                self.tables += &ratio.map_or(" – |".to_owned(), |ratio| format!(" {ratio:.3} |"));
            }
            self.tables += "\n";
        }
    }

    /// Keeps a table made elsewhere, in Markdown.
    pub fn markdown(&mut self, title: &str, table: &str) {
        self.tables += &format!("\n### {title}\n\n{table}");
    }

    /// Keeps a figure a goal is judged by; what could not be measured is left out.
    pub fn figure(&mut self, key: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.rows += &format!("{key}\t{value}\n");
        }
    }

    /// Keeps a point of a plot.
    pub fn point(&mut self, plot: &str, series: &str, x: f64, y: f64) {
        self.rows += &format!("{plot}\t{series}\t{x}\t{y}\n");
    }

    /// Writes it down, unless this is only a smoke test.
    pub fn save(self) {
        if harness::is_smoke_test() {
            return;
        }
        let text = format!("# run {}\n{}", run(), self.rows);
        let saved = fs::create_dir_all(folder())
            .and_then(|()| fs::write(folder().join(&self.bench).with_extension("tsv"), text))
            .and_then(|()| fs::write(folder().join(&self.bench).with_extension("md"), self.tables));
        if let Err(error) = saved {
            eprintln!("{}: {error}", folder().display());
        }
    }
}

/// A report that a bench has left.
#[derive(Debug, Default)]
pub struct Saved {
    /// The run of `cargo bench` it comes from.
    pub run: String,
    /// Goals' figures by key.
    pub figures: BTreeMap<String, f64>,
    /// Plot, series, x, y.
    pub points: Vec<(String, String, f64, f64)>,
    /// Tables in Markdown.
    pub tables: String,
}

impl Saved {
    /// Reads the report of a bench.
    ///
    /// # Errors
    ///
    /// The file system's, if there is none.
    pub fn read(bench: &str) -> io::Result<Self> {
        let path = folder().join(bench);
        let mut saved =
            Self { tables: fs::read_to_string(path.with_extension("md")).unwrap_or_default(), ..Self::default() };
        for line in fs::read_to_string(path.with_extension("tsv"))?.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                [key, value] => {
                    saved.figures.extend(value.parse().ok().map(|value| (key.to_owned(), value)));
                }
                [plot, series, x, y] => {
                    let point = x.parse().ok().zip(y.parse().ok());
                    saved.points.extend(point.map(|(x, y)| (plot.to_owned(), series.to_owned(), x, y)));
                }
                _ => saved.run = line.trim_start_matches("# run ").to_owned(),
            }
        }
        Ok(saved)
    }
}

/// Where reports are kept.
pub fn folder() -> PathBuf {
    root().join("target/hio-bench")
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("benches/ is in the root")
}

/// Tells one run of `cargo bench` from another: the same in every bench that one cargo runs.
pub fn run() -> String {
    env::var(RUN).unwrap_or_else(|_| {
        let parent = std::os::unix::process::parent_id();
        let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold spaces; the start time is the 20th field behind it (proc(5)).
        let start = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(19)).unwrap_or("0");
        format!("{parent}-{start}")
    })
}

/// The environment variable by which a bench passes [`run`] on to a cargo of its own.
pub const RUN: &str = "HIO_BENCH_RUN";
