//! Stands in for `terminal.rs` where there is none such.

use std::io;

use ratatui::backend::{Backend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};

/// There is none, ever.
pub enum Terminal {}

impl Terminal {
    pub fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn keys(&mut self) -> Vec<u8> {
        match *self {}
    }
}

impl Backend for Terminal {
    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, _content: I) -> io::Result<()> {
        match *self {}
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        match *self {}
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        match *self {}
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        match *self {}
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, _position: P) -> io::Result<()> {
        match *self {}
    }

    fn clear(&mut self) -> io::Result<()> {
        match *self {}
    }

    fn size(&self) -> io::Result<Size> {
        match *self {}
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}
