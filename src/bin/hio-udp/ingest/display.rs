//! What a running ingest shows on a terminal: a line, or the view of `--top`.

use super::Watch;
use crate::account::say;
use crate::status::StatusLine;
use crate::top::Top;

pub enum Display {
    Line(StatusLine),
    View(Box<Top>),
}

impl Display {
    pub fn open(has_view: bool) -> Self {
        if has_view {
            match Top::open() {
                Ok(top) => return Self::View(Box::new(top)),
                Err(error) => say(&format!("hio-udp: note: cannot show a view on this terminal: {error}; going on")),
            }
        }
        Self::Line(StatusLine::new())
    }

    /// To be called often. Whether somebody asks for a stop.
    pub fn turn(&mut self, watch: &Watch) -> bool {
        match self {
            Self::Line(line) if line.is_due() => line.show(&watch.snapshot()),
            Self::Line(_) => {}
            Self::View(top) => match top.turn(watch) {
                Ok(is_stop_asked) => return is_stop_asked,
                Err(error) => {
                    *self = Self::Line(StatusLine::new());
                    say(&format!("hio-udp: note: the terminal takes no picture any more: {error}; going on"));
                }
            },
        }
        false
    }

    /// Gives the terminal back.
    pub fn close(self) {
        if let Self::Line(line) = self {
            line.clear();
        }
    }
}
