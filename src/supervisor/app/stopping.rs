//! Asking workers to stop, and making them.

use super::{App, KILL_TIMEOUT};
use crate::supervisor::Turn;
use crate::supervisor::event::{Action, Target, WorkerId};
use crate::supervisor::signal::Signal;
use crate::supervisor::slot::{Next, Slot, State};
use crate::supervisor::time::Time;

impl App {
    /// Asks every worker to stop and takes every restart back. Returns how
    /// many were asked.
    pub(in crate::supervisor) fn drain(&mut self, turn: &mut Turn<'_>) -> u32 {
        (0..self.slots.len())
            .filter(|&number| self.drain_slot(number, turn))
            .count()
            .try_into()
            .unwrap_or(u32::MAX)
    }

    /// Turns a slot's worker away from new connections, for good: it is asked
    /// to stop once it has taken those that wait for it, and in any case when
    /// half of its grace is over. A worker that is not ready has none.
    pub(super) fn empty_slot(&mut self, number: usize, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let grace = self.policy.grace;
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let State::Ready { worker, .. } = slot.state else {
            self.drain_slot(number, turn);
            return;
        };
        slot.state = State::Emptying {
            worker,
            stop_at: now + grace / 2,
            kill_at: now + grace,
        };
        turn.act(Action::TurnAway(worker));
    }

    /// Nothing waits for this worker any more, or it has had its time.
    pub(in crate::supervisor) fn emptied(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        for number in 0..self.slots.len() {
            if let Some(Slot {
                state: State::Emptying { worker: of, .. },
                ..
            }) = self.slots.get(number)
                && *of == worker
            {
                self.drain_slot(number, turn);
            }
        }
    }

    pub(super) fn drain_slot(&mut self, number: usize, turn: &mut Turn<'_>) -> bool {
        let kill_at = turn.now.time + self.policy.grace;
        let Some(slot) = self.slots.get_mut(number) else {
            return false;
        };
        match slot.state {
            State::Spawning { worker }
            | State::Starting { worker, .. }
            | State::Ready { worker, .. } => {
                turn.act(Action::TurnAway(worker));
                self.ask_to_stop(number, worker, kill_at, turn);
                true
            }
            // It keeps the deadline that it has (invariant 5).
            State::Emptying {
                worker, kill_at, ..
            } => {
                self.ask_to_stop(number, worker, kill_at, turn);
                true
            }
            State::Leftover {
                worker,
                until,
                killed,
                ..
            } => {
                slot.state = State::Leftover {
                    worker,
                    until: until.min(kill_at),
                    killed,
                    next: Next::Stop,
                };
                false
            }
            State::Backoff { .. } | State::Held { .. } => {
                slot.state = State::Stopped;
                false
            }
            // It keeps the deadline that it has.
            State::Draining { .. } | State::Killed { .. } | State::Stopped | State::Failed => false,
        }
    }

    fn ask_to_stop(&mut self, number: usize, worker: WorkerId, kill_at: Time, turn: &mut Turn<'_>) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.state = State::Draining { worker, kill_at };
        }
        turn.signal(worker, Target::Main, self.policy.stop_signal);
        // A worker that somebody stopped hears nothing until it goes on.
        turn.signal(worker, Target::Group, Signal::CONT);
    }

    /// SIGKILL to every worker, and to what is left of one.
    pub(in crate::supervisor) fn kill(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut killed = false;
        for slot in &mut self.slots {
            if let Some(state) = kill_slot(slot.state, turn) {
                slot.state = state;
                killed = true;
            }
        }
        killed
    }
}

/// The state after SIGKILL, which is sent.
pub(super) fn kill_slot(state: State, turn: &mut Turn<'_>) -> Option<State> {
    let gone_by = turn.now.time + KILL_TIMEOUT;
    let (worker, killed) = match state {
        State::Spawning { worker }
        | State::Starting { worker, .. }
        | State::Ready { worker, .. }
        | State::Emptying { worker, .. }
        | State::Draining { worker, .. } => (worker, State::Killed { worker, gone_by }),
        State::Leftover {
            worker,
            killed: false,
            next,
            ..
        } => (
            worker,
            State::Leftover {
                worker,
                until: gone_by,
                killed: true,
                next,
            },
        ),
        State::Killed { .. }
        | State::Leftover { killed: true, .. }
        | State::Backoff { .. }
        | State::Held { .. }
        | State::Stopped
        | State::Failed => return None,
    };
    turn.signal(worker, Target::Group, Signal::KILL);
    Some(killed)
}
