//! The errors of a port that somebody has.

use std::io::{Error, ErrorKind};

/// Whether an open failed because somebody else has the port.
///
/// Windows has another error for those who would share a port that its holder shares with nobody.
pub fn is_in_use(error: &Error) -> bool {
    error.kind() == ErrorKind::AddrInUse || (cfg!(windows) && error.kind() == ErrorKind::PermissionDenied)
}
