//! Asking workers to stop, and making them.

use super::{App, KILL_TIMEOUT};
use crate::supervisor::Turn;
use crate::supervisor::event::Target;
use crate::supervisor::signal::Signal;
use crate::supervisor::slot::{Next, State};

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

    pub(super) fn drain_slot(&mut self, number: usize, turn: &mut Turn<'_>) -> bool {
        let kill_at = turn.now.time + self.policy.grace;
        let Some(slot) = self.slots.get_mut(number) else {
            return false;
        };
        match slot.state {
            State::Spawning { worker }
            | State::Starting { worker, .. }
            | State::Ready { worker, .. } => {
                slot.state = State::Draining { worker, kill_at };
                turn.signal(worker, Target::Main, self.policy.stop_signal);
                // A worker that somebody stopped hears nothing until it goes on.
                turn.signal(worker, Target::Group, Signal::CONT);
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
