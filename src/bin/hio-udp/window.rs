//! A view into a file that is read from front to back: look ahead, then go on.

use std::io::{self, Read};

use crate::memory;

/// The most that can be looked ahead.
pub const AHEAD_BYTES_MAX: usize = 4 << 20;

/// Memory at the start; it grows with what is really read, never with what a file says of itself.
const START_BYTES: usize = 256 << 10;

/// What was read and not gone past yet is `buffer[start..end]`.
pub struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of the input lies before `start`.
    offset: u64,
    is_at_end: bool,
    /// Why reading ended early; taken by who tells it.
    error: Option<io::Error>,
}

impl<R: Read> Window<R> {
    pub fn new(input: R) -> Self {
        Self { input, buffer: vec![0; START_BYTES], start: 0, end: 0, offset: 0, is_at_end: false, error: None }
    }

    /// Where in the input the next byte stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Everything read ahead so far.
    pub fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The next bytes: at least `count` of them, unless the input ends before.
    pub fn peek(&mut self, count: usize) -> &[u8] {
        debug_assert!(count <= AHEAD_BYTES_MAX);
        while self.end - self.start < count && !self.is_at_end {
            let room = if self.end < self.buffer.len() { Ok(()) } else { self.make_room() };
            match room.and_then(|()| self.input.read(&mut self.buffer[self.end..])) {
                Ok(0) => self.is_at_end = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => (self.is_at_end, self.error) = (true, Some(error)),
            }
        }
        self.ahead()
    }

    /// What can be seen if nothing more is read.
    pub fn without_reading<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        let was_at_end = std::mem::replace(&mut self.is_at_end, true);
        let seen = look(self);
        self.is_at_end = was_at_end;
        seen
    }

    /// Goes past the next `count` bytes, which were looked at before.
    pub fn skip(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// Why the input could not be read to its end, once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Moves what is ahead to the front, or doubles the memory where that would bring little.
    ///
    /// Each move is paid for by as many bytes gone past before: reading takes time in proportion to the
    /// input, whatever stands in it.
    fn make_room(&mut self) -> io::Result<()> {
        let half = self.buffer.len() / 2;
        if self.start >= half {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            // At the largest, this is not reached: more than half would be ahead, and that is enough.
            let mut larger = memory::room((4 * half).min(2 * AHEAD_BYTES_MAX))?;
            larger.extend_from_slice(&self.buffer);
            larger.resize(larger.capacity(), 0);
            self.buffer = larger;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            (into[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    #[test]
    fn it_shows_every_byte_in_order_however_they_come() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut window = Window::new(Drops(&bytes));
        let (mut at, mut step) = (0, 1);
        while at < bytes.len() {
            let want = step;
            let seen = window.peek(want);
            assert!(seen.len() >= want.min(bytes.len() - at));
            assert_eq!(seen, &bytes[at..at + seen.len()]);
            let past = want.min(seen.len());
            window.skip(past);
            at += past;
            step = (step * 7 + 1) % 70_000;
            assert_eq!(window.offset(), at as u64);
        }
        assert!(window.peek(1).is_empty());
    }

    #[test]
    fn its_memory_is_bounded_and_grows_with_what_is_there_only() {
        let mut window = Window::new(io::repeat(7).take(40 << 20));
        while window.peek(AHEAD_BYTES_MAX).len() >= AHEAD_BYTES_MAX {
            window.skip(1 << 19);
            assert!(window.buffer.len() <= 2 * AHEAD_BYTES_MAX);
        }
        assert_eq!(window.offset() + window.ahead().len() as u64, 40 << 20);
        let mut short = Window::new(&[1, 2, 3][..]);
        assert_eq!(short.peek(AHEAD_BYTES_MAX), [1, 2, 3]);
        assert_eq!(short.buffer.len(), START_BYTES);
    }
}
