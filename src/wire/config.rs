//! What a wire log is made from: plain data, with hio's defaults.

use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::format::WireFormat;

/// Settings of a [`WireLog`](crate::WireLog), with hio's defaults.
///
/// ```
/// use hio_udp::{WireLog, WireLogConfig};
///
/// let log = WireLog::new(WireLogConfig::new().samed(true).reopen(true))?;
/// assert!(log.opened() && log.samed() && log.name() == "main");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WireLogConfig {
    pub(super) rxed: bool,
    pub(super) txed: bool,
    pub(super) samed: bool,
    pub(super) filed: bool,
    pub(super) fmt: WireFormat,
    pub(super) name: Option<String>,
    pub(super) temp: Option<bool>,
    pub(super) prefix: PathBuf,
    pub(super) head_dir_path: PathBuf,
    pub(super) reopen: bool,
}

impl Default for WireLogConfig {
    fn default() -> Self {
        Self {
            rxed: true,
            txed: true,
            samed: false,
            filed: false,
            fmt: WireFormat::default(),
            name: None,
            temp: None,
            prefix: PathBuf::from("hio"),
            head_dir_path: PathBuf::from("/usr/local/var"),
            reopen: false,
        }
    }
}

impl WireLogConfig {
    /// hio's defaults: received and sent datagrams, each in a memory of its own, named `main`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Logs received datagrams; on by default.
    pub fn rxed(mut self, on: bool) -> Self {
        self.rxed = on;
        self
    }

    /// Logs sent datagrams; on by default.
    pub fn txed(mut self, on: bool) -> Self {
        self.txed = on;
        self
    }

    /// Keeps both in one file or memory, so that their order is seen.
    pub fn samed(mut self, on: bool) -> Self {
        self.samed = on;
        self
    }

    /// Logs to files instead of memory. A log in memory grows without bound.
    pub fn filed(mut self, on: bool) -> Self {
        self.filed = on;
        self
    }

    /// Sets what an entry looks like.
    pub fn fmt(mut self, fmt: WireFormat) -> Self {
        self.fmt = fmt;
        self
    }

    /// Sets the name, with which the names of files begin; by default `main`. It cannot be absolute,
    /// nor have `..` in it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Puts files into a directory of their own below the system's temporary one, which is removed
    /// when the log is closed.
    pub fn temp(mut self, on: bool) -> Self {
        self.temp = Some(on);
        self
    }

    /// Sets the directory below the head that the logs of one kind of program are in; by default
    /// `hio`. It cannot be absolute, nor have `..` in it.
    pub fn prefix(mut self, prefix: impl Into<PathBuf>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the directory that files are below, by default `/usr/local/var`: they are in
    /// `<head>/<prefix>/wirelogs`, or in `~/.<prefix>/wirelogs` if that cannot be.
    #[doc(alias = "headDirPath")]
    pub fn head_dir_path(mut self, head: impl Into<PathBuf>) -> Self {
        self.head_dir_path = head.into();
        self
    }

    /// Opens the log as it is made.
    pub fn reopen(mut self, reopen: bool) -> Self {
        self.reopen = reopen;
        self
    }

    pub(super) fn name_or_main(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("main")
    }

    pub(super) fn is_temp(&self) -> bool {
        self.temp.unwrap_or(false)
    }

    /// hio's FilerError (H139). With `..` files would be outside of the directory that is this user's alone,
    /// and goes when the log is closed.
    pub(super) fn check(&self) -> io::Result<()> {
        for (what, path) in [("name", Path::new(self.name_or_main())), ("prefix", &self.prefix)] {
            let wrong = if path.has_root() {
                "is absolute: give a relative one"
            } else if path.components().any(|part| part == Component::ParentDir) {
                "leads out of its directory: give one without '..'"
            } else {
                continue;
            };
            let message = format!("wire log {what} '{}' {wrong}", path.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(())
    }
}
