//! Stopping on SIGINT and SIGTERM: the first asks, the second ends the program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A flag that anybody may raise; cloning gives another handle to the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    /// When it counts as raised in any case.
    at: Option<Instant>,
}

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
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.flag))?;
            flag::register(signal, Arc::clone(&stop.flag))?;
        }
        Ok(stop)
    }

    /// The same flag, which also counts as raised from `at` on.
    pub fn or_at(self, at: Option<Instant>) -> Self {
        Self { at, ..self }
    }

    pub fn ask(&self) {
        // Relaxed is enough: the flag carries no data with it, and joining the thread orders the rest.
        self.flag.store(true, Ordering::Relaxed);
    }

    pub fn asked(&self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.at.is_some_and(|at| Instant::now() >= at)
    }
}
