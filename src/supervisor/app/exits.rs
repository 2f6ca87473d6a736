//! What follows a main process's end: for its group, and for its slot.

use std::time::Duration;

use super::departing::Manner;
use super::{App, backoff};
use crate::supervisor::Turn;
use crate::supervisor::event::{Exit, Failure, Note, Served, WorkerId};
use crate::supervisor::policy::{Mode, Restart};
use crate::supervisor::slot::{Departing, Next, Slot, Stage, State};
use crate::supervisor::time::Time;

/// How long a group outlives its main process that exited unasked, from TERM
/// to KILL.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);

/// How a worker ended: the fields of `Event::Exited`.
#[derive(Clone, Copy, Debug)]
pub(in crate::supervisor) struct Ended {
    pub(in crate::supervisor) exit: Exit,
    pub(in crate::supervisor) served: Served,
    pub(in crate::supervisor) awaited: bool,
    pub(in crate::supervisor) backgrounded: bool,
}

impl App {
    pub(in crate::supervisor) fn exited(
        &mut self,
        worker: WorkerId,
        ended: Ended,
        serving: bool,
        turn: &mut Turn<'_>,
    ) {
        let Ended {
            exit, backgrounded, ..
        } = ended;
        let now = turn.now.time;
        let until = now + LEFTOVER_GRACE;
        // A worker that exits is a worker that ran, whatever news of its exec
        // is still under way.
        self.ran |= self
            .slots
            .iter()
            .any(|slot| slot.running().any(|running| running == worker));
        let failure = if backgrounded {
            Failure::Backgrounded
        } else {
            Failure::Exited(exit)
        };
        self.successor_exited(worker, failure, until, turn);
        self.departing_exited(worker, turn);
        let Some(number) = self
            .slots
            .iter()
            .position(|slot| slot.state.current() == Some(worker))
        else {
            return;
        };
        self.last_status = Some(exit.status());
        let next = if !serving {
            Next::Stop
        } else if backgrounded {
            turn.note(Note::Backgrounded(worker));
            Next::Fail
        } else {
            self.after_unasked_exit(number, ended, turn)
        };
        if next == Next::Stop && exit.status() != 0 {
            self.first_failure.get_or_insert(exit.status());
        }
        // In init mode the rest of the group is the rest of the tree, which
        // has a grace of its own.
        let state = match self.policy.mode {
            Mode::Init => State::Stopped,
            Mode::Cluster => {
                let departing = Departing {
                    worker,
                    stage: Stage::Leftover {
                        until,
                        killed: false,
                    },
                };
                departing.end_group(false, turn);
                State::Departing { departing, next }
            }
        };
        if let Some(slot) = self.slots.get_mut(number) {
            slot.state = state;
        }
    }

    /// A worker on its way out has come to its main process's end.
    fn departing_exited(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        for slot in &mut self.slots {
            if let Some(departing) = &mut slot.departing
                && departing.worker == worker
            {
                departing.exited(turn);
            }
            if let State::Departing { departing, .. } = &mut slot.state
                && departing.worker == worker
            {
                match self.policy.mode {
                    Mode::Init => slot.state = State::Stopped,
                    Mode::Cluster => departing.exited(turn),
                }
            }
        }
    }

    /// The worker says that it goes. That is no failure, unless it does so as
    /// soon as it runs.
    pub(in crate::supervisor) fn stopping(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let ready =
            |slot: &Slot| matches!(slot.state, State::Ready { worker: of, .. } if of == worker);
        let Some(number) = self.slots.iter().position(ready) else {
            return;
        };
        let proven = self
            .slots
            .get(number)
            .is_some_and(|slot| self.proven(slot, now));
        let next = match self.policy.restart {
            Restart::Always if proven => Next::Retry { retry_at: now },
            Restart::Always => self.after_failure(number, turn),
            // Its exit status decides.
            Restart::OnFailure | Restart::Never => return,
        };
        self.vacate_later(number, Manner::Untold, next, turn);
    }

    fn after_unasked_exit(&mut self, number: usize, ended: Ended, turn: &Turn<'_>) -> Next {
        let Ended {
            exit,
            served,
            awaited,
            ..
        } = ended;
        match self.policy.restart {
            Restart::Never => return Next::Stop,
            Restart::OnFailure if exit.status() == 0 => return Next::Stop,
            Restart::OnFailure | Restart::Always => {}
        }
        let now = turn.now.time;
        if exit.status() == 0
            && let Some(retry_at) = self
                .obeying
                .map(|obeying| obeying.until)
                .filter(|&until| until > now)
        {
            return Next::Hold { retry_at };
        }
        let proven = self
            .slots
            .get(number)
            .is_some_and(|slot| self.proven(slot, now));
        // This exit is not a start that failed, and clients may be waiting.
        // Of several workers that share a queue, the one that took a
        // connection is this one where no other is old enough.
        let served = match served {
            Served::Unknown => false,
            Served::Someone => !self.another_has_aged(number, now),
            Served::Itself => true,
        };
        if !proven && !served {
            return match self.after_failure(number, turn) {
                // Clients wait in its queue: its successor is tried at once,
                // but only once.
                Next::Retry { .. } if awaited && self.is_first_failure(number) => {
                    Next::Retry { retry_at: now }
                }
                next @ (Next::Retry { .. }
                | Next::Hold { .. }
                | Next::Park
                | Next::Stop
                | Next::Fail) => next,
            };
        }
        let delay = if served || awaited {
            Duration::ZERO
        } else {
            self.policy.backoff_min
        };
        if let Some(slot) = self.slots.get_mut(number) {
            slot.failures = 0;
        }
        Next::Retry {
            retry_at: now + delay,
        }
    }

    /// Counts a failure and returns when to try again (invariant 9).
    pub(super) fn after_failure(&mut self, number: usize, turn: &Turn<'_>) -> Next {
        let most = backoff::most_failures(&self.policy);
        let failures = self.slots.get_mut(number).map_or(1, |slot| {
            slot.failures = slot.failures.saturating_add(1).min(most);
            slot.failures
        });
        let delay = backoff::delay(&self.policy, failures, turn.now.entropy);
        Next::Retry {
            retry_at: turn.now.time + delay,
        }
    }

    /// Whether an exit of this slot's worker now is no failure.
    pub(super) fn proven(&self, slot: &Slot, now: Time) -> bool {
        match slot.state {
            State::Ready { proven_at, .. } => proven_at <= now,
            State::Starting { ready_at, .. } => {
                ready_at.is_some_and(|ready_at| ready_at + self.policy.min_uptime <= now)
            }
            State::Spawning { .. }
            | State::Departing { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Parked
            | State::Stopped
            | State::Failed => false,
        }
    }

    fn is_first_failure(&self, number: usize) -> bool {
        self.slots
            .get(number)
            .is_some_and(|slot| slot.failures == 1)
    }

    /// Whether a worker of another slot has been up for `min_uptime`.
    fn another_has_aged(&self, number: usize, now: Time) -> bool {
        let others = self
            .slots
            .iter()
            .enumerate()
            .filter(|&(other, _)| other != number);
        others.into_iter().any(|(_, slot)| match slot.state {
            State::Ready { .. } => true,
            State::Starting { aged_at, .. } => aged_at <= now,
            State::Spawning { .. }
            | State::Departing { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Parked
            | State::Stopped
            | State::Failed => false,
        })
    }
}
