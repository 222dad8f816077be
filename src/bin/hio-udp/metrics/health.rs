//! Whether datagrams are received and none is lost, for whoever has to decide on that.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long after a loss it counts as going on.
pub const LOSS_COUNTS_FOR: Duration = Duration::from_secs(10);

/// Where an ingest stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    #[default]
    Starting,
    Receiving,
    Stopping,
}

#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// When something was lost last, and where.
    last_loss: Option<(Instant, String)>,
}

impl Health {
    pub fn enter(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// Something has been lost by `whom`.
    pub fn on_loss(&self, whom: String, now: Instant) {
        self.state().last_loss = Some((now, whom));
    }

    /// A sentence, unless all is well.
    pub fn why_not_ready(&self, now: Instant) -> Option<String> {
        let state = self.state();
        match (state.phase, &state.last_loss) {
            (Phase::Starting, _) => Some("not receiving yet".to_owned()),
            (Phase::Stopping, _) => Some("stopping".to_owned()),
            (Phase::Receiving, Some((at, whom))) if now.saturating_duration_since(*at) < LOSS_COUNTS_FOR => {
                let seconds = LOSS_COUNTS_FOR.as_secs();
                Some(format!("datagrams were lost in the last {seconds} seconds, by {whom}"))
            }
            (Phase::Receiving, _) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_receives_and_has_lost_nothing_for_ten_seconds() {
        let (health, start) = (Health::default(), Instant::now());
        let why = |seconds: u64| health.why_not_ready(start + Duration::from_secs(seconds));
        assert_eq!(why(0).as_deref(), Some("not receiving yet"));
        health.enter(Phase::Receiving);
        assert_eq!(why(0), None);
        health.on_loss("the kernel".to_owned(), start + Duration::from_secs(1));
        assert_eq!(why(10).as_deref(), Some("datagrams were lost in the last 10 seconds, by the kernel"));
        assert_eq!(why(11), None);
        health.enter(Phase::Stopping);
        assert_eq!(why(11).as_deref(), Some("stopping"));
    }
}
