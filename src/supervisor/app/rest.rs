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
        // A slot that somebody parked says nothing of the others.
        let wanted = || {
            self.slots
                .iter()
                .filter(|slot| slot.wanted && !slot.state.is_parked())
        };
        let hopeless = |slot: &Slot| match slot.state {
            State::Ready { .. } => false,
            State::Departing {
                next: Next::Fail, ..
            }
            | State::Failed => true,
            State::Departing { departing, .. } if departing.running().is_some() => false,
            // One that has been up for a while may be serving.
            State::Starting { aged_at, .. } if aged_at <= now => false,
            State::Spawning { .. }
            | State::Starting { .. }
            | State::Departing { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Parked
            | State::Stopped => slot.failures >= self.policy.max_restarts,
        };
        // Who is to replace a worker may be the one that can run.
        let hopeless = |slot: &Slot| slot.successor.is_none() && hopeless(slot);
        let somebody = wanted().next().is_some();
        if just_failed && somebody && wanted().all(hopeless) {
            return Some(Rest::GaveUp);
        }
        if !self.is_vacant() || !somebody {
            return None;
        }
        if wanted().all(Slot::rests) {
            let failed = wanted().any(|slot| slot.state == State::Failed);
            let parked = self.slots.iter().any(|slot| slot.state.is_parked());
            return match (failed, parked) {
                (true, _) => Some(Rest::GaveUp),
                (false, true) => None,
                (false, false) => Some(Rest::Finished),
            };
        }
        let obeyed = |slot: &Slot| matches!(slot.state, State::Held { .. });
        let obeying = self
            .obeying
            .filter(|_| wanted().all(|slot| obeyed(slot) || slot.rests()))?;
        Some(Rest::Obeyed(obeying.signal))
    }
}
