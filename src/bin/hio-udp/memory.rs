//! Memory that may not be there. Where it is not, one line says so: an allocation of the standard library would end
//! the program by SIGABRT.

use std::hint::black_box;
use std::io;

/// More than a command takes in small parts, for which nobody asks.
const SMALL_PARTS_BYTES: usize = 2 << 20;

/// Said where [`require`] fails; there may be no memory to put it into an error.
pub const TOO_LITTLE: &str = "not enough memory: allow it more (ulimit -v, a service's limits)";

/// Room for so many bytes.
///
/// # Errors
///
/// [`io::ErrorKind::OutOfMemory`] if the system has not as much.
pub fn room(bytes: usize) -> io::Result<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    Ok(room)
}

/// Makes sure of room for what is taken in small parts.
///
/// # Errors
///
/// As [`room`]; in words, [`TOO_LITTLE`].
pub fn require_small_parts() -> io::Result<()> {
    require(0)
}

/// Makes sure of room for so many bytes, and then for what is taken in small parts.
///
/// # Errors
///
/// As [`room`]; in words, [`TOO_LITTLE`].
pub fn require(bytes: usize) -> io::Result<()> {
    // Kept from being left out as of no use.
    room(bytes.saturating_add(SMALL_PARTS_BYTES)).map(|room| drop(black_box(room)))
}
