//! Signals. SIGINT, SIGTERM, and SIGHUP unless `nohup` has it ignored, stop: the first asks, the second ends the
//! program at once. Others ask for something and end nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// A flag that anybody may raise; cloning gives another handle to the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    /// When it counts as raised in any case.
    at: Option<Instant>,
    /// Those that raise it.
    signals: Vec<i32>,
}

/// What to say where signals cannot be caught.
pub fn not_caught(error: io::Error) -> Failure {
    Failure::run(format!("cannot catch signals: {error}"))
}

impl Stop {
    /// A flag that SIGINT, SIGTERM and SIGHUP raise; a second one ends the program.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::on_first_signal(true)?;
        stop.end_on_second_signal()?;
        Ok(stop)
    }

    /// A flag that SIGINT and SIGTERM raise, and SIGHUP if asked for, as often as they come.
    pub fn on_first_signal(is_hangup_one: bool) -> io::Result<Self> {
        let signals = if is_hangup_one { stopping_signals() } else { vec![SIGINT, SIGTERM] };
        let stop = Self { signals, ..Self::default() };
        // With any handler at all, a write past the limit on the size of files is an error like that
        // of a full disk; without, its signal would end the program and the account with it.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        for signal in &stop.signals {
            flag::register(*signal, Arc::clone(&stop.flag))?;
        }
        Ok(stop)
    }

    /// From now on the program ends at once with a signal that comes when a stop has been asked for.
    pub fn end_on_second_signal(&self) -> io::Result<()> {
        let is_second = Arc::new(AtomicBool::new(self.flag.load(Ordering::Relaxed)));
        for signal in &self.signals {
            // Registered first, so that it sees the flag before this signal raises it.
            flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(&is_second))?;
            flag::register(*signal, Arc::clone(&is_second))?;
        }
        Ok(())
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

/// Asks of an operator that end nothing: flags that signals raise.
#[derive(Debug, Default)]
pub struct Asks {
    reopen: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Asks {
    /// SIGUSR1 asks for files to be opened anew, SIGHUP for the configuration to be read again if there is one.
    pub fn on_signals(is_configured: bool) -> io::Result<Self> {
        let asks = Self::default();
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&asks.reopen))?;
        #[cfg(unix)]
        if is_configured {
            flag::register(signal_hook::consts::SIGHUP, Arc::clone(&asks.reload))?;
        }
        #[cfg(not(unix))]
        let _ = is_configured;
        Ok(asks)
    }

    /// Whether the configuration is to be read again, since it was last looked at.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }

    /// Whether files are to be opened anew, since it was last looked at.
    pub fn take_reopen(&self) -> bool {
        self.reopen.swap(false, Ordering::Relaxed)
    }
}

fn stopping_signals() -> Vec<i32> {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    if !ignores_hangups() {
        signals.push(signal_hook::consts::SIGHUP);
    }
    signals
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does; read from proc(5), so
/// `false` where there is none.
#[cfg(unix)]
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or(0);
    mask & (1 << (signal_hook::consts::SIGHUP - 1)) != 0
}
