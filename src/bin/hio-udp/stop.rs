//! Stopping on SIGINT and SIGTERM: the first asks, the second ends the program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A flag that anybody may raise; cloning gives another handle to the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that SIGINT and SIGTERM raise.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        // With any handler at all, a write past the limit on the size of files is an error like that
        // of a full disk; without, its signal would end the program and the account with it.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        for signal in [SIGINT, SIGTERM] {
            // Registered first, so that it sees the flag before this signal raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.0))?;
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    pub fn ask(&self) {
        // Relaxed is enough: the flag carries no data with it, and joining the thread orders the rest.
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
