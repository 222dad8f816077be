//! `WireLogDoer`: a wire log that is open while a doer runs.

use std::io;

use super::WireLog;
use crate::doer::{Cue, Doer};

/// A doer with a wire log: enter opens it unless it is open, exit closes it; it is never done by itself.
///
/// A log that was open before is kept, with what it holds (H141). `temp` of the run makes a log that is
/// opened here temporary.
///
/// ```
/// use hio_udp::{Doist, WireLog, WireLogConfig, WireLogDoer};
///
/// let log = WireLog::new(WireLogConfig::new())?;
/// let mut doist = Doist::new().with_limit(0.0625);
/// doist.add(WireLogDoer::new(log.clone()));
/// doist.enter()?;
/// assert!(log.opened());
/// doist.exit()?;
/// assert!(!log.opened());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WireLogDoer {
    log: WireLog,
}

impl WireLogDoer {
    /// A doer of `log`; other handles to the same log may go to peers.
    pub fn new(log: WireLog) -> Self {
        Self { log }
    }
}

impl Doer for WireLogDoer {
    fn enter(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
        match (self.log.opened(), cue.temp) {
            (true, _) => Ok(()),
            (false, true) => self.log.reopen_with(|config| config.temp(true)),
            (false, false) => self.log.reopen(),
        }
    }

    fn recur(&mut self, _: &mut Cue<'_>) -> io::Result<bool> {
        Ok(false)
    }

    fn exit(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        self.log.close()
    }
}
