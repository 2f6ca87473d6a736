//! Whether an app's slots have all come to rest, and what that means.

use super::App;
use crate::supervisor::signal::Signal;
use crate::supervisor::slot::{Next, Slot, State};
use crate::supervisor::time::Time;

/// What an app whose slots have all come to rest amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Rest {
    /// Every worker finished, and none is to be run again.
    Finished,
    /// No slot can run its worker.
    GaveUp,
    /// Every worker obeyed a forwarded signal and left with 0.
    Obeyed(Signal),
}

impl App {
    /// What the app amounts to where no slot of it can go on by itself. Only
    /// a further failure makes it give up: scaling the good slots away does
    /// not.
    pub(in crate::supervisor) fn rest(&self, just_failed: bool, now: Time) -> Option<Rest> {
        let wanted = || self.slots.iter().filter(|slot| slot.wanted);
        let hopeless = |slot: &Slot| match slot.state {
            State::Ready { .. }
            | State::Emptying { .. }
            | State::Draining { .. }
            | State::Killed { .. } => false,
            // One that has been up for a while may be serving.
            State::Starting { aged_at, .. } if aged_at <= now => false,
            State::Failed
            | State::Leftover {
                next: Next::Fail, ..
            } => true,
            State::Spawning { .. }
            | State::Starting { .. }
            | State::Leftover { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Stopped => slot.failures >= self.policy.max_restarts,
        };
        if just_failed && wanted().all(hopeless) {
            return Some(Rest::GaveUp);
        }
        if !self.is_vacant() {
            return None;
        }
        if wanted().all(Slot::rests) {
            let failed = wanted().any(|slot| slot.state == State::Failed);
            return Some(if failed { Rest::GaveUp } else { Rest::Finished });
        }
        let obeyed = |slot: &Slot| matches!(slot.state, State::Held { .. });
        let obeying = self
            .obeying
            .filter(|_| wanted().all(|slot| obeyed(slot) || slot.rests()))?;
        Some(Rest::Obeyed(obeying.signal))
    }
}
