//! `ingest --top`: a view of a running ingest that takes the whole terminal.
//!
//! ```text
//!   Watch ── snapshot, heaviest ──▶ rates (differences) ──▶ Picture ──▶ view (drawing) ──▶ terminal
//!                                                             keys ──▶ Mode ──┘
//! ```
//!
//! All of it in the main thread, which has nothing else to do while an ingest runs.

#[cfg(not(unix))]
mod no_terminal;
mod rates;
#[cfg(unix)]
mod terminal;
mod view;

use std::io;
use std::time::{Duration, Instant};

use crate::args::IngestOptions;
use crate::failure::Failure;
use crate::ingest::Watch;
use crate::notes::Hold;
use crate::sinks;
#[cfg(not(unix))]
use no_terminal::Terminal;
use rates::{Meter, Sources};
#[cfg(unix)]
use terminal::Terminal;
use view::{Mode, Picture};

/// How often the picture changes.
const REFRESH_EVERY: Duration = Duration::from_millis(250);

/// How often sources are looked at, which holds up each thread for as long as it takes to copy its table.
const SOURCES_EVERY: Duration = Duration::from_secs(1);

/// So many notes are shown at most.
const NOTES_SHOWN: usize = 3;

/// Why the view that is asked for does not go together with the rest.
pub fn problems(options: &IngestOptions) -> Vec<String> {
    let mut problems = Vec::new();
    if options.top && cfg!(not(unix)) {
        problems.push("--top is for Unix: leave it out".to_owned());
    }
    if options.top && options.sinks.iter().any(sinks::Spec::takes_stdout) {
        let why = "cannot be used with --sink jsonl:-, whose lines would stand across it: write them to a file";
        problems.push(format!("--top {why}"));
    }
    problems
}

/// Whether the view that is asked for can be shown where we are.
pub fn check_terminal(options: &IngestOptions) -> Result<(), Failure> {
    use std::io::IsTerminal;
    if options.top && !io::stderr().is_terminal() {
        let why = "shows its view on standard error, which is no terminal: leave it out, or redirect the rest only";
        return Err(Failure::Usage(format!("--top {why}")));
    }
    Ok(())
}

/// The view, as long as it is shown; the terminal is given back when it goes out of scope, and what was said
/// meanwhile is said then.
pub struct Top {
    // Dropped in this order: notes are to be seen.
    terminal: ratatui::Terminal<Terminal>,
    notes: Hold,
    meter: Meter,
    sources: Sources,
    picture: Picture,
    mode: Mode,
    next_refresh: Instant,
    next_sources: Instant,
}

impl Top {
    pub fn open() -> io::Result<Self> {
        let terminal = ratatui::Terminal::new(Terminal::open()?)?;
        let now = Instant::now();
        // https://no-color.org
        let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            terminal,
            notes: Hold::begin(),
            meter: Meter::default(),
            sources: Sources::default(),
            picture: Picture::default(),
            mode: Mode { has_colour, ..Mode::default() },
            next_refresh: now,
            next_sources: now,
        })
    }

    /// To be called often: takes keys, and draws when it is time. Whether a stop is asked for.
    pub fn turn(&mut self, watch: &Watch) -> io::Result<bool> {
        let mut has_changed = false;
        for key in self.terminal.backend_mut().keys() {
            has_changed = true;
            match key {
                b'q' | ESCAPE | CTRL_C => return Ok(true),
                b'p' => self.mode.is_paused = !self.mode.is_paused,
                b's' => self.mode.order = self.mode.order.other(),
                b'?' => self.mode.is_help = !self.mode.is_help,
                _ => {}
            }
        }
        let now = Instant::now();
        if now >= self.next_refresh {
            self.next_refresh = now + REFRESH_EVERY;
            has_changed = true;
            self.look(watch, now);
        }
        if has_changed {
            let Self { terminal, picture, mode, .. } = self;
            terminal.draw(|frame| view::draw(frame, picture, mode))?;
        }
        Ok(false)
    }

    /// Takes the counters; while the picture is held, for its history only.
    fn look(&mut self, watch: &Watch, now: Instant) {
        let rates = self.meter.add(watch.snapshot().into());
        let is_time = now >= self.next_sources;
        let sources = is_time.then(|| {
            self.next_sources = now + SOURCES_EVERY;
            let (weights, missing_max) = watch.heaviest(usize::MAX);
            (self.sources.add(&weights, now), missing_max)
        });
        if self.mode.is_paused {
            return;
        }
        if let Some((sources, missing_max)) = sources {
            (self.picture.sources, self.picture.missing_max) = (sources, missing_max);
        }
        self.picture.rates = rates;
        self.picture.history.clone_from(&self.meter.history);
        self.picture.notes = self.notes.last(NOTES_SHOWN);
    }
}

const ESCAPE: u8 = 0x1b;
const CTRL_C: u8 = 0x03;
