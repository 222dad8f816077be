//! The terminal that a view has to itself, and the keys pressed on it.
//!
//! Not crossterm: its reader never comes back from a terminal that has gone away, which would keep the ingest
//! from stopping. What is needed here are a few control sequences that every terminal knows (ECMA-48).

use std::io::{self, IsTerminal, Write};
use std::os::fd::BorrowedFd;

use ratatui::backend::{Backend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

/// Another screen, without a cursor, empty.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
/// Ordinary letters, a cursor, and the screen from before.
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// How long the rest of a key's sequence may take to come after its escape.
const ESCAPE_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Standard error as a view's own; given back as it was when this goes out of scope.
pub struct Terminal {
    before: Termios,
    /// What is drawn, until it is flushed: a picture goes out with one call.
    out: Vec<u8>,
    has_keys: bool,
}

impl Terminal {
    pub fn open() -> io::Result<Self> {
        let before = with_keys(|fd| termios::tcgetattr(fd))?;
        let mut own = before.clone();
        // Each key at once, unseen, and none of them a signal: what Ctrl-C means is our matter.
        own.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        let terminal = Self { before, out: Vec::new(), has_keys: true };
        with_keys(|fd| termios::tcsetattr(fd, OptionalActions::Now, &own))?;
        io::stderr().write_all(ENTER.as_bytes())?;
        Ok(terminal)
    }

    /// The keys pressed since it was last asked. Never waits, but for the rest of a key.
    pub fn keys(&mut self) -> Vec<u8> {
        let mut read = Vec::new();
        let mut wait = &NO_WAIT;
        while self.has_keys && is_ready(wait) {
            let mut buffer = [0; 64];
            match with_keys(|fd| rustix::io::read(fd, &mut buffer)) {
                // Nobody will press a key any more.
                Ok(0) | Err(_) => self.has_keys = false,
                Ok(count) => read.extend_from_slice(&buffer[..count]),
            }
            if read.len() > buffer.len() {
                break; // somebody leans on the keyboard
            }
            wait = if read.ends_with(b"\x1b") { &ESCAPE_WAIT } else { &NO_WAIT };
        }
        plain_keys(&read)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have gone away; then there is nothing to give back.
        let _ = io::stderr().write_all(LEAVE.as_bytes());
        let _ = with_keys(|fd| termios::tcsetattr(fd, OptionalActions::Now, &self.before));
    }
}

/// Calls `f` with where keys come from: standard input, unless that is something else.
fn with_keys<R>(f: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<R>) -> io::Result<R> {
    use std::os::fd::AsFd;
    let (stdin, stderr) = (io::stdin(), io::stderr());
    Ok(f(if stdin.is_terminal() { stdin.as_fd() } else { stderr.as_fd() })?)
}

fn is_ready(wait: &Timespec) -> bool {
    let ready = with_keys(|fd| poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(wait)));
    matches!(ready, Ok(count) if count > 0)
}

/// What was typed, without the sequences of arrow keys and their like.
fn plain_keys(read: &[u8]) -> Vec<u8> {
    let (mut keys, mut rest) = (Vec::new(), read.iter().copied());
    while let Some(byte) = rest.next() {
        if byte != 0x1b {
            keys.push(byte);
            continue;
        }
        match rest.next() {
            None => keys.push(byte),
            // A sequence ends with its first byte that is no parameter.
            Some(b'[') => _ = rest.find(|byte| (0x40..=0x7e).contains(byte)),
            Some(b'O') => _ = rest.next(),
            Some(_) => {} // a key together with Alt
        }
    }
    keys
}

/// The parameters of the control sequence that makes letters look like this.
fn look(cell: &Cell) -> String {
    let mut look = String::from("0");
    for (modifier, parameter) in [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::REVERSED, ";7")] {
        if cell.modifier.contains(modifier) {
            look.push_str(parameter);
        }
    }
    // The view uses no others.
    look.push_str(match cell.fg {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Cyan => ";36",
        _ => "",
    });
    look
}

/// Cells as control sequences: places and looks where they change only.
fn encode<'a>(out: &mut Vec<u8>, content: impl Iterator<Item = (u16, u16, &'a Cell)>) -> io::Result<()> {
    let (mut last_look, mut next_place) = (None, None);
    for (x, y, cell) in content {
        if next_place != Some((x, y)) {
            write!(out, "\x1b[{};{}H", y + 1, x + 1)?;
        }
        let look = look(cell);
        if last_look.as_ref() != Some(&look) {
            write!(out, "\x1b[{look}m")?;
            last_look = Some(look);
        }
        out.extend_from_slice(cell.symbol().as_bytes());
        next_place = Some((x + 1, y));
    }
    Ok(())
}

impl Backend for Terminal {
    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        encode(&mut self.out, content)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(()) // it is hidden from the beginning to the end
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN) // nobody asks who has the whole screen
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, _position: P) -> io::Result<()> {
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.out.extend_from_slice(b"\x1b[0m\x1b[2J");
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let size = termios::tcgetwinsize(io::stderr())?;
        // A terminal that does not tell its size has none; what most have will do.
        let told = |told, usual| if told == 0 { usual } else { told };
        Ok(Size { width: told(size.ws_col, 80), height: told(size.ws_row, 24) })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = io::stderr().write_all(&self.out);
        self.out.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrow_keys_and_their_like_are_no_escape() {
        for (read, keys) in [
            (&b"q"[..], &b"q"[..]),
            (b"\x1b", b"\x1b"),
            (b"\x1b[A", b""),
            (b"\x1b[1;5Cp\x1bOPs", b"ps"),
            (b"\x1bqs", b"s"),
            (b"\x1b[", b""),
            (b"s\x1b", b"s\x1b"),
        ] {
            assert_eq!(plain_keys(read), keys, "{read:?}");
        }
    }

    #[test]
    fn a_picture_goes_out_with_places_and_looks_where_they_change_only() {
        let mut out = Vec::new();
        let mut red = Cell::new("b");
        red.set_fg(Color::Red);
        let plain = Cell::new("a");
        encode(&mut out, [(0, 0, &plain), (1, 0, &plain), (2, 0, &red), (5, 1, &red)].into_iter()).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "\x1b[1;1H\x1b[0maa\x1b[0;31mb\x1b[2;6Hb");
    }
}
