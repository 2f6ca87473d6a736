//! Workers that do nothing any more.

use std::time::Duration;

use super::App;
use super::departing::Manner;
use crate::supervisor::Turn;
use crate::supervisor::event::{Note, WorkerId};
use crate::supervisor::policy::Restart;
use crate::supervisor::signal::Signal;
use crate::supervisor::slot::{Next, Slot, State};
use crate::supervisor::time::Time;

impl App {
    /// The worker says that it is alive, and will say so again in this time.
    pub(in crate::supervisor) fn alive(
        &mut self,
        worker: WorkerId,
        timeout: Option<Duration>,
        now: Time,
    ) {
        for slot in &mut self.slots {
            if let State::Ready {
                worker: of,
                hung_at,
                ..
            } = &mut slot.state
                && *of == worker
            {
                *hung_at = timeout.map(|timeout| now + timeout);
            }
        }
    }

    /// Every worker is stopped, and cannot say that it is alive. Once it goes on
    /// it will say so by itself.
    pub(in crate::supervisor) fn wait_for_no_life(&mut self) {
        for slot in &mut self.slots {
            if let State::Ready { hung_at, .. } = &mut slot.state {
                *hung_at = None;
            }
        }
    }

    /// Ends a worker that does nothing any more: its connections wait for the
    /// next one. What it has begun is lost, and nobody could have had that.
    pub(in crate::supervisor) fn hung(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let ready =
            |slot: &Slot| matches!(slot.state, State::Ready { worker: of, .. } if of == worker);
        let Some(number) = self.slots.iter().position(ready) else {
            return;
        };
        turn.note(Note::Hung(worker));
        let proven = self
            .slots
            .get(number)
            .is_some_and(|slot| self.proven(slot, now));
        let killed = 128_u8.saturating_add(u8::try_from(Signal::KILL.number()).unwrap_or(0));
        let next = match self.policy.restart {
            Restart::Never => {
                self.first_failure.get_or_insert(killed);
                Next::Stop
            }
            Restart::Always | Restart::OnFailure if proven => Next::Retry { retry_at: now },
            // One that hangs as soon as it is ready would do so again at once
            // (invariant 9).
            Restart::Always | Restart::OnFailure => self.after_failure(number, turn),
        };
        self.vacate_later(number, Manner::Untold, next, turn);
        if let Some(Slot {
            state: State::Departing { departing, .. },
            ..
        }) = self.slots.get_mut(number)
        {
            departing.kill(turn);
        }
    }
}
