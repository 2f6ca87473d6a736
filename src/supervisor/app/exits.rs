//! What follows a main process's end: for its group, and for its slot.

use std::time::Duration;

use super::{App, backoff};
use crate::supervisor::Turn;
use crate::supervisor::event::{Exit, Note, Served, Target, WorkerId};
use crate::supervisor::policy::{Mode, Restart};
use crate::supervisor::signal::Signal;
use crate::supervisor::slot::{Next, Slot, State};
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
        let Some(number) = self.slot_running(worker) else {
            return;
        };
        let Some(&Slot { state, .. }) = self.slots.get(number) else {
            return;
        };
        let now = turn.now.time;
        let next_if_asked = self.after_asked_exit(number, serving, now);
        // A worker that exits is a worker that ran, whatever news of its exec
        // is still under way.
        self.ran = true;
        let (until, killed, next) = match state {
            State::Spawning { .. } | State::Starting { .. } | State::Ready { .. } => {
                self.last_status = Some(exit.status());
                let next = if backgrounded {
                    turn.note(Note::Backgrounded(worker));
                    Next::Fail
                } else {
                    self.after_unasked_exit(number, ended, turn)
                };
                if next == Next::Stop && exit.status() != 0 {
                    self.first_failure.get_or_insert(exit.status());
                }
                (now + LEFTOVER_GRACE, false, next)
            }
            State::Emptying { kill_at, .. } | State::Draining { kill_at, .. } => {
                (kill_at, false, next_if_asked)
            }
            State::Killed { gone_by, .. } => (gone_by, true, next_if_asked),
            State::Leftover { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Stopped
            | State::Failed => return,
        };
        // In init mode the rest of the group is the rest of the tree, which
        // has a grace of its own.
        let state = match self.policy.mode {
            Mode::Init => State::Stopped,
            Mode::Cluster => {
                let signal = if killed { Signal::KILL } else { Signal::TERM };
                turn.signal(worker, Target::Group, signal);
                // Who is stopped hears TERM only when it goes on.
                turn.signal(worker, Target::Group, Signal::CONT);
                State::Leftover {
                    worker,
                    until,
                    killed,
                    next,
                }
            }
        };
        if let Some(slot) = self.slots.get_mut(number) {
            slot.state = state;
        }
    }

    /// A slot that was scaled away, and is wanted again meanwhile, goes on.
    pub(super) fn after_asked_exit(&self, number: usize, serving: bool, now: Time) -> Next {
        if serving && self.slots.get(number).is_some_and(|slot| slot.wanted) {
            Next::Retry { retry_at: now }
        } else {
            Next::Stop
        }
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
                next @ (Next::Retry { .. } | Next::Hold { .. } | Next::Stop | Next::Fail) => next,
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
    fn proven(&self, slot: &Slot, now: Time) -> bool {
        match slot.state {
            State::Ready { proven_at, .. } => proven_at <= now,
            State::Starting { ready_at, .. } => {
                ready_at.is_some_and(|ready_at| ready_at + self.policy.min_uptime <= now)
            }
            State::Spawning { .. }
            | State::Emptying { .. }
            | State::Draining { .. }
            | State::Killed { .. }
            | State::Leftover { .. }
            | State::Backoff { .. }
            | State::Held { .. }
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
            | State::Emptying { .. }
            | State::Draining { .. }
            | State::Killed { .. }
            | State::Leftover { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Stopped
            | State::Failed => false,
        })
    }
}
