//! `WireLog`: what went over the wire, for debugging; hio's text, or a pcapng capture.
//!
//! A peer writes an entry when it hands a datagram out and when the kernel has taken one.
//!
//! ```text
//!   Peer, BatchPeer ──Entry──▶ WireLog: one lock ──WireFormat──▶ Sinks: rx, tx or one for both
//! ```

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pcapng::Flow;
use sinks::{Sink, Sinks};

mod config;
mod doer;
mod files;
mod format;
mod sinks;

pub use config::WireLogConfig;
pub use doer::WireLogDoer;
pub(crate) use format::Entry;
pub use format::WireFormat;

/// A log of what went over the wire, for debugging: in memory or in files, as hio's text or as a
/// pcapng capture ([`WireFormat::pcapng`]).
///
/// A handle, cheap to clone: one for a peer ([`PeerConfig::wl`](crate::PeerConfig::wl)) and one to read
/// from; several peers may share a log, from several threads too. Each datagram is one entry, with
/// its data as the caller has it: a received one when it is handed out, cut if it was cut; a sent one
/// when the kernel has taken it. What would block, fails or is never looked at has none.
///
/// A log that fails never costs a datagram, nor fails a call: the peer counts the lost entries in
/// [`Stats::wire_log_failed`](crate::Stats::wire_log_failed), and logs the first. A log that was never
/// opened takes nothing, and that is no failure; one that was closed again fails.
///
/// ```
/// use hio_udp::{Peer, PeerConfig, Transport, WireLogConfig, open_wire_log};
///
/// let log = open_wire_log(WireLogConfig::new().samed(true))?;
/// let mut peer = Peer::new(PeerConfig::new().port(0).wl(log.clone()).reopen(true))?;
/// let me = peer.ha();
/// peer.send(b"hello", me)?;
/// peer.receive()?;
/// let who = format!("('127.0.0.1', {})", me.port());
/// assert_eq!(log.read_rx()?.unwrap(), format!("\nTx {who}:\nhello\n\nRx {who}:\nhello\n").into_bytes());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct WireLog {
    state: Arc<Mutex<State>>,
}

impl WireLog {
    /// Makes a log from its settings, and opens it if these say so.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a name or prefix that is absolute or has `..` in it; with
    /// [`reopen`](WireLogConfig::reopen), also what [`reopen`](Self::reopen) gives.
    pub fn new(config: WireLogConfig) -> io::Result<Self> {
        config.check()?;
        let is_to_open = config.reopen;
        let state = State { config, stage: Stage::New, dir_path: None, entry: Vec::new() };
        let log = Self { state: Arc::new(Mutex::new(state)) };
        if is_to_open {
            log.reopen()?;
        }
        Ok(log)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the log as usable as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the log, if it is open, and opens it again, empty: a new memory, or new files whose
    /// names have the time of now. The files of before stay, unless they were temporary.
    ///
    /// # Errors
    ///
    /// That of creating a directory or a file; the log is closed then.
    pub fn reopen(&self) -> io::Result<()> {
        self.reopen_with(|config| config)
    }

    /// Reopens the log with changed settings; `change` gets those of now.
    ///
    /// ```
    /// use hio_udp::{WireLog, WireLogConfig};
    ///
    /// let log = WireLog::new(WireLogConfig::new())?;
    /// log.reopen_with(|config| config.samed(true).name("bob"))?;
    /// assert!(log.opened() && log.samed() && log.name() == "bob");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), in which case nothing has changed, and as [`reopen`](Self::reopen).
    pub fn reopen_with(&self, change: impl FnOnce(WireLogConfig) -> WireLogConfig) -> io::Result<()> {
        let config = self.state().config.clone();
        let config = change(config); // the caller's code, so without the lock
        config.check()?;
        // Files are opened and closed without the lock: peers do not wait for them, and a logger that
        // sends what is told there through a logged peer may take it.
        let opened = Sinks::open(&config);
        let (before, reopened) = self.state().replace(config, opened);
        let closed = before.map_or(Ok(()), Sinks::close);
        reopened.and(closed)
    }

    /// Closes the log, whatever happens; a temporary directory is removed. Closing again does nothing.
    ///
    /// # Errors
    ///
    /// That of bringing the last entries to the disk.
    pub fn close(&self) -> io::Result<()> {
        let sinks = self.state().take();
        sinks.map_or(Ok(()), Sinks::close) // without the lock, as in `reopen_with`
    }

    /// Whether the log is open.
    pub fn opened(&self) -> bool {
        self.state().sinks().is_some()
    }

    /// Brings what was logged to the disk; in memory there is nothing to do.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn flush(&self) -> io::Result<()> {
        let Some((flushed, files)) = self.state().sinks().map(|sinks| (sinks.flush(), sinks.files())) else {
            return Ok(());
        };
        // A disk may take its time; without the lock no peer waits for it.
        flushed.and(sinks::sync(&files))
    }

    /// The whole log of received datagrams so far, of the sent ones too if they are
    /// [`samed`](WireLogConfig::samed). Reading takes nothing away. `None` while the log is not open,
    /// and if received datagrams are not logged.
    ///
    /// # Errors
    ///
    /// That of reading the file.
    #[doc(alias = "readRx")]
    pub fn read_rx(&self) -> io::Result<Option<Vec<u8>>> {
        self.state().read(Flow::Inbound)
    }

    /// The log of sent datagrams, as [`read_rx`](Self::read_rx) gives that of received ones.
    ///
    /// # Errors
    ///
    /// As [`read_rx`](Self::read_rx).
    #[doc(alias = "readTx")]
    pub fn read_tx(&self) -> io::Result<Option<Vec<u8>>> {
        self.state().read(Flow::Outbound)
    }

    /// Logs `data` as received from `who`; peers do so by themselves.
    ///
    /// Does nothing if the log was never opened, or received datagrams are not logged.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](ErrorKind::NotConnected) on a log that was closed again; that of writing the
    /// file. The entry is then lost, and no part of it is in the file.
    #[doc(alias = "writeRx")]
    pub fn write_rx(&self, data: &[u8], who: SocketAddr) -> io::Result<()> {
        self.write(Flow::Inbound, data, who)
    }

    /// Logs `data` as sent to `who`, as [`write_rx`](Self::write_rx) does what was received.
    ///
    /// # Errors
    ///
    /// As [`write_rx`](Self::write_rx).
    #[doc(alias = "writeTx")]
    pub fn write_tx(&self, data: &[u8], who: SocketAddr) -> io::Result<()> {
        self.write(Flow::Outbound, data, who)
    }

    fn write(&self, flow: Flow, data: &[u8], who: SocketAddr) -> io::Result<()> {
        let nowhere = match who.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let local = SocketAddr::new(nowhere, 0);
        self.state().write(&Entry { flow, data, original_len: data.len(), who, local, time: None })
    }

    /// Logs several entries; says how many failed, and the first error.
    pub(crate) fn write_all<'a>(&self, entries: impl Iterator<Item = Entry<'a>>) -> Result<(), (u64, io::Error)> {
        let mut state = self.state();
        let mut failures = entries.filter_map(|entry| state.write(&entry).err());
        match failures.next() {
            None => Ok(()),
            Some(first) => Err((1 + failures.count() as u64, first)),
        }
    }

    /// Whether received datagrams are logged.
    pub fn rxed(&self) -> bool {
        self.state().config.rxed
    }

    /// Whether sent datagrams are logged.
    pub fn txed(&self) -> bool {
        self.state().config.txed
    }

    /// Whether both are in one file or memory.
    pub fn samed(&self) -> bool {
        self.state().config.samed
    }

    /// Whether the log is in files.
    pub fn filed(&self) -> bool {
        self.state().config.filed
    }

    /// Whether these are temporary.
    pub fn temp(&self) -> bool {
        self.state().config.is_temp()
    }

    /// What an entry looks like.
    pub fn fmt(&self) -> WireFormat {
        self.state().config.fmt.clone()
    }

    /// The log's name.
    pub fn name(&self) -> String {
        self.state().config.name_or_main().to_owned()
    }

    /// The directory below the head.
    pub fn prefix(&self) -> PathBuf {
        self.state().config.prefix.clone()
    }

    /// The directory that files are asked to be below.
    #[doc(alias = "headDirPath")]
    pub fn head_dir_path(&self) -> PathBuf {
        self.state().config.head_dir_path.clone()
    }

    /// The directory the files are in, or were before the log was closed; `None` for a log in memory.
    #[doc(alias = "dirPath")]
    pub fn dir_path(&self) -> Option<PathBuf> {
        self.state().dir_path.clone()
    }

    /// The open file of received datagrams.
    #[doc(alias = "rxl")]
    pub fn rx_path(&self) -> Option<PathBuf> {
        self.state().sinks()?.path(Flow::Inbound)
    }

    /// The open file of sent datagrams.
    #[doc(alias = "txl")]
    pub fn tx_path(&self) -> Option<PathBuf> {
        self.state().sinks()?.path(Flow::Outbound)
    }
}

impl fmt::Debug for WireLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireLog").field("name", &self.name()).field("opened", &self.opened()).finish_non_exhaustive()
    }
}

/// A log that is closed when this guard goes, on every path out: see [`open_wire_log`].
#[derive(Debug)]
pub struct OpenWireLog(WireLog);

impl Deref for OpenWireLog {
    type Target = WireLog;

    fn deref(&self) -> &WireLog {
        &self.0
    }
}

impl Drop for OpenWireLog {
    fn drop(&mut self) {
        if let Err(error) = self.0.close() {
            log::error!("Error closing wire log '{}': {error}", self.0.name());
        }
    }
}

/// Makes and opens a log that closes when the guard goes out of scope, for every handle of it. It is
/// named `test` and temporary unless the settings say otherwise.
///
/// ```
/// use hio_udp::{WireLogConfig, open_wire_log};
///
/// let log = open_wire_log(WireLogConfig::new().filed(true))?;
/// log.write_tx(b"hello", "127.0.0.1:6102".parse().unwrap())?;
/// assert_eq!(log.read_tx()?.unwrap(), b"\nTx ('127.0.0.1', 6102):\nhello\n");
/// let directory = log.dir_path().unwrap();
/// drop(log);
/// assert!(!directory.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`WireLog::new`] and [`WireLog::reopen`].
#[doc(alias = "openWL")]
pub fn open_wire_log(mut config: WireLogConfig) -> io::Result<OpenWireLog> {
    config.name.get_or_insert_with(|| "test".to_owned());
    config.temp.get_or_insert(true);
    WireLog::new(config.reopen(true)).map(OpenWireLog)
}

#[derive(Debug)]
enum Stage {
    /// Never opened: entries are for nobody (H127).
    New,
    Open(Sinks),
    /// Was open: an entry is lost, and that is an error (H126).
    Closed,
}

#[derive(Debug)]
struct State {
    config: WireLogConfig,
    stage: Stage,
    /// Of the files that are or were open last.
    dir_path: Option<PathBuf>,
    /// One entry, before it goes out in one piece.
    entry: Vec<u8>,
}

impl State {
    fn sinks(&mut self) -> Option<&mut Sinks> {
        match &mut self.stage {
            Stage::Open(sinks) => Some(sinks),
            Stage::New | Stage::Closed => None,
        }
    }

    /// Closes the log; gives what it was open on.
    fn take(&mut self) -> Option<Sinks> {
        self.sinks()?;
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Open(sinks) => Some(sinks),
            Stage::New | Stage::Closed => None,
        }
    }

    /// Goes on with what was opened, closed if nothing was; gives what the log was open on before.
    fn replace(&mut self, config: WireLogConfig, opened: io::Result<Sinks>) -> (Option<Sinks>, io::Result<()>) {
        let before = self.take();
        self.config = config;
        self.stage = Stage::Closed;
        let reopened = opened.map(|sinks| {
            self.dir_path.clone_from(&sinks.dir_path);
            self.stage = Stage::Open(sinks);
        });
        (before, reopened)
    }

    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let sinks = match &mut self.stage {
            Stage::Open(sinks) => sinks,
            Stage::New => return Ok(()),
            Stage::Closed => return Err(io::Error::new(ErrorKind::NotConnected, "the wire log is closed")),
        };
        let Some(sink) = sinks.of(entry.flow) else { return Ok(()) };
        self.entry.clear();
        entry.put(&self.config.fmt, &mut self.entry);
        sink.append(&self.entry)
    }

    fn read(&mut self, flow: Flow) -> io::Result<Option<Vec<u8>>> {
        self.sinks().and_then(|sinks| sinks.of(flow)).map(Sink::read).transpose()
    }
}
