//! Workers on their way out: of their own accord, or told to go.

use super::{App, KILL_TIMEOUT, slot_number};
use crate::supervisor::Turn;
use crate::supervisor::event::{Action, Note, Target, WorkerId};
use crate::supervisor::policy::{Drain, Policy};
use crate::supervisor::signal::Signal;
use crate::supervisor::slot::{Departing, Next, Stage, State};

/// How a worker is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As the policy has it: it may first finish what it has begun.
    Gracefully,
    /// By the stop signal at once: no client is served by it.
    AtOnce,
    /// Not at all: it says itself that it goes.
    Untold,
}

/// Turns a worker away from new connections, and asks it to stop, sooner or
/// later (invariant 5: with a deadline from the start).
pub(super) fn depart(
    worker: WorkerId,
    manner: Manner,
    policy: &Policy,
    turn: &mut Turn<'_>,
) -> Departing {
    let now = turn.now.time;
    let kill_at = now + policy.grace;
    turn.act(Action::TurnAway(worker));
    let stage = match (manner, policy.drain) {
        (Manner::Gracefully, Drain::Connections(most)) => Stage::Emptying {
            stop_at: now + most.min(policy.grace / 2),
            kill_at,
        },
        (Manner::Gracefully, Drain::Signal) | (Manner::AtOnce, _) => {
            ask_to_stop(worker, policy, turn);
            Stage::Draining { kill_at }
        }
        (Manner::Untold, _) => Stage::Draining { kill_at },
    };
    Departing { worker, stage }
}

fn ask_to_stop(worker: WorkerId, policy: &Policy, turn: &mut Turn<'_>) {
    turn.signal(worker, Target::Main, policy.stop_signal);
    // A worker that somebody stopped hears nothing until it goes on.
    turn.signal(worker, Target::Group, Signal::CONT);
}

impl Departing {
    /// The time for what it had begun is over.
    fn stop(&mut self, policy: &Policy, turn: &mut Turn<'_>) {
        if let Stage::Emptying { kill_at, .. } = self.stage {
            self.stage = Stage::Draining { kill_at };
            ask_to_stop(self.worker, policy, turn);
        }
    }

    /// Its main process is reaped. In init mode the rest of the group is the
    /// rest of the tree, which has a grace of its own.
    pub(super) fn exited(&mut self, turn: &mut Turn<'_>) {
        let (until, killed) = match self.stage {
            Stage::Emptying { kill_at, .. } | Stage::Draining { kill_at } => (kill_at, false),
            Stage::Killed { gone_by } => (gone_by, true),
            Stage::Leftover { .. } => return,
        };
        self.stage = Stage::Leftover { until, killed };
        self.end_group(killed, turn);
    }

    /// What the main process of a worker has left behind is to go, too.
    pub(super) fn end_group(&self, killed: bool, turn: &mut Turn<'_>) {
        let signal = if killed { Signal::KILL } else { Signal::TERM };
        turn.signal(self.worker, Target::Group, signal);
        // Who is stopped hears TERM only when it goes on.
        turn.signal(self.worker, Target::Group, Signal::CONT);
    }

    /// SIGKILL to its group, unless that has been sent. Returns whether it is
    /// now.
    pub(super) fn kill(&mut self, turn: &mut Turn<'_>) -> bool {
        let gone_by = turn.now.time + KILL_TIMEOUT;
        self.stage = match self.stage {
            Stage::Emptying { .. } | Stage::Draining { .. } => Stage::Killed { gone_by },
            Stage::Leftover { killed: false, .. } => Stage::Leftover {
                until: gone_by,
                killed: true,
            },
            Stage::Killed { .. } | Stage::Leftover { killed: true, .. } => return false,
        };
        turn.signal(self.worker, Target::Group, Signal::KILL);
        true
    }

    /// Does what is due.
    pub(super) fn pass_deadline(&mut self, policy: &Policy, turn: &mut Turn<'_>) -> Passed {
        let now = turn.now.time;
        if self.deadline() > now {
            return Passed::Nothing;
        }
        match self.stage {
            Stage::Emptying { kill_at, .. } if kill_at > now => {
                self.stop(policy, turn);
                Passed::Nothing
            }
            Stage::Emptying { .. }
            | Stage::Draining { .. }
            | Stage::Leftover { killed: false, .. } => {
                turn.note(Note::Killed(self.worker));
                self.kill(turn);
                Passed::Killed
            }
            Stage::Killed { .. } | Stage::Leftover { killed: true, .. } => {
                turn.note(Note::Unkillable(self.worker));
                Passed::GivenUp
            }
        }
    }
}

/// What the deadline of a worker on its way out has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Nothing,
    /// It is killed.
    Killed,
    /// It hangs in the kernel, and counts as gone.
    GivenUp,
}

impl App {
    /// Has the slot's worker, if it has one, leave, and `next` come then.
    /// Returns whether it was told to.
    pub(super) fn vacate_later(
        &mut self,
        number: usize,
        manner: Manner,
        next: Next,
        turn: &mut Turn<'_>,
    ) -> bool {
        let now = turn.now.time;
        let Some(slot) = self.slots.get_mut(number) else {
            return false;
        };
        let (worker, manner) = match &mut slot.state {
            State::Ready { worker, .. } => (*worker, manner),
            // A worker that is not ready has no client to finish with.
            State::Spawning { worker } | State::Starting { worker, .. } => {
                (*worker, Manner::AtOnce)
            }
            // It keeps the deadline that it has (invariant 5), or gets a
            // nearer one.
            State::Departing {
                departing,
                next: planned,
            } => {
                *planned = next;
                if let Stage::Leftover { until, .. } = &mut departing.stage {
                    *until = (*until).min(now + self.policy.grace);
                }
                if manner == Manner::AtOnce {
                    departing.stop(&self.policy, turn);
                }
                return false;
            }
            State::Backoff { .. }
            | State::Held { .. }
            | State::Parked
            | State::Stopped
            | State::Failed => {
                self.vacate(number, next, turn);
                return false;
            }
        };
        let departing = depart(worker, manner, &self.policy, turn);
        slot.state = State::Departing { departing, next };
        true
    }

    /// Has the slot's successor, if it has one, leave beside the worker.
    /// Returns whether there was one.
    pub(super) fn dismiss_successor(&mut self, number: usize, turn: &mut Turn<'_>) -> bool {
        let Some(slot) = self.slots.get_mut(number) else {
            return false;
        };
        let Some(successor) = slot.successor.take() else {
            return false;
        };
        let leaves = depart(successor.worker, Manner::AtOnce, &self.policy, turn);
        slot.departing = Some(leaves);
        true
    }

    /// Has everybody leave for good. Returns how many were told to.
    pub(in crate::supervisor) fn drain(&mut self, turn: &mut Turn<'_>) -> u32 {
        let mut told = 0;
        for number in 0..self.slots.len() {
            let current = match self.slots.get(number).map(|slot| slot.state) {
                // What it amounts to, it has come to.
                Some(State::Stopped | State::Failed | State::Parked) | None => false,
                Some(_) => self.vacate_later(number, Manner::Gracefully, Next::Stop, turn),
            };
            told += usize::from(current) + usize::from(self.dismiss_successor(number, turn));
        }
        slot_number(told)
    }

    fn each_departing(&mut self, mut act: impl FnMut(&mut Departing, &Policy)) {
        for slot in &mut self.slots {
            if let State::Departing { departing, .. } = &mut slot.state {
                act(departing, &self.policy);
            }
            if let Some(departing) = &mut slot.departing {
                act(departing, &self.policy);
            }
        }
    }

    /// Whether this worker is given time for what it has begun.
    pub(in crate::supervisor) fn is_emptying(&self, worker: WorkerId) -> bool {
        let is_it = |departing: &Departing| {
            departing.worker == worker && matches!(departing.stage, Stage::Emptying { .. })
        };
        self.slots.iter().any(|slot| {
            let current =
                matches!(&slot.state, State::Departing { departing, .. } if is_it(departing));
            current || slot.departing.as_ref().is_some_and(is_it)
        })
    }

    /// Nothing waits for this worker any more.
    pub(in crate::supervisor) fn emptied(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.each_departing(|departing, policy| {
            if departing.worker == worker {
                departing.stop(policy, turn);
            }
        });
    }

    /// Nobody is given time any more for what was begun.
    pub(in crate::supervisor) fn hurry(&mut self, turn: &mut Turn<'_>) {
        self.each_departing(|departing, policy| departing.stop(policy, turn));
    }

    /// SIGKILL to everybody who has been asked to stop, and to what is left
    /// of others. Returns whether anybody was.
    pub(in crate::supervisor) fn kill(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut killed = false;
        self.each_departing(|departing, _| killed |= departing.kill(turn));
        killed
    }
}
