//! One app: its slots, and what becomes of their workers.

mod backoff;
mod exits;
mod rest;
mod scaling;
mod stopping;

use std::time::Duration;

use super::Turn;
use super::event::{Action, Note, SpawnError, Target, WorkerId};
use super::policy::{Mode, Policy, Ready};
use super::signal::Signal;
use super::slot::{Next, Slot, State};
use super::time::Time;
pub(super) use exits::Ended;
pub(super) use rest::Rest;
use stopping::kill_slot;

/// How long a killed process may hang in the kernel before it counts as gone.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a spawn is tried again for which there was no room.
const SPAWN_RETRY: Duration = Duration::from_secs(1);

/// One app and its slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct App {
    pub(super) index: usize,
    pub(super) policy: Policy,
    pub(super) slots: Vec<Slot>,
    pub(super) generation: u32,
    /// Whether its command has ever run.
    pub(super) ran: bool,
    /// The signal that a worker which exits with 0 may be obeying.
    pub(super) obeying: Option<Obeying>,
    /// The first exit status that was not 0 and was a slot's last.
    pub(super) first_failure: Option<u8>,
    /// The exit status of the worker that ended unasked last.
    pub(super) last_status: Option<u8>,
}

/// A signal that was forwarded to all workers, and may be their stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Obeying {
    pub(super) signal: Signal,
    pub(super) until: Time,
}

impl App {
    pub(super) fn new(index: usize, policy: Policy) -> Self {
        Self {
            index,
            slots: vec![Slot::new(); policy.instances as usize],
            policy,
            generation: 1,
            ran: false,
            obeying: None,
            first_failure: None,
            last_status: None,
        }
    }

    fn spawn(&mut self, number: usize, turn: &mut Turn<'_>) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let worker = turn.issue_worker_id();
        slot.state = State::Spawning { worker };
        turn.act(Action::Spawn {
            worker,
            app: self.index,
            slot: slot_number(number),
            generation: self.generation,
        });
    }

    pub(super) fn executed(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let ready_at = match self.policy.ready {
            // Nobody waits for an init's child to be ready.
            Ready::Auto if self.policy.mode == Mode::Init => None,
            Ready::Auto => Some(now + self.policy.presumed_ready_after),
            Ready::After(delay) => Some(now + delay),
            Ready::Listen | Ready::Notify => None,
        };
        let aged_at = now + self.policy.min_uptime;
        for slot in &mut self.slots {
            if slot.state.running() == Some(worker) {
                self.ran = true;
            }
            if slot.state == (State::Spawning { worker }) {
                slot.state = State::Starting {
                    worker,
                    ready_at,
                    aged_at,
                };
            }
        }
    }

    pub(super) fn became_ready(&mut self, worker: WorkerId, presumed: bool, turn: &mut Turn<'_>) {
        let proven_at = turn.now.time + self.policy.min_uptime;
        for slot in &mut self.slots {
            match slot.state {
                State::Spawning { worker: of } | State::Starting { worker: of, .. }
                    if of == worker =>
                {
                    self.ran = true;
                    slot.state = State::Ready { worker, proven_at };
                    turn.note(Note::Ready { worker, presumed });
                    turn.act(Action::Admit(worker));
                }
                State::Spawning { .. }
                | State::Starting { .. }
                | State::Ready { .. }
                | State::Emptying { .. }
                | State::Draining { .. }
                | State::Killed { .. }
                | State::Leftover { .. }
                | State::Backoff { .. }
                | State::Held { .. }
                | State::Stopped
                | State::Failed => {}
            }
        }
    }

    /// Takes note of a worker that never ran. Returns the error where it
    /// means that none ever will.
    pub(super) fn spawn_failed(
        &mut self,
        worker: WorkerId,
        error: SpawnError,
        serving: bool,
        turn: &mut Turn<'_>,
    ) -> Option<SpawnError> {
        let number = self.slot_running(worker)?;
        let wanted = self.slots.get(number)?.wanted && serving;
        let state = if !wanted {
            State::Stopped
        } else if error == SpawnError::Exhausted {
            let delay = SPAWN_RETRY.min(self.policy.backoff_max);
            turn.note(Note::SpawnRetryIn {
                slot: slot_number(number),
                delay,
            });
            State::Backoff {
                retry_at: turn.now.time + delay,
            }
        } else {
            self.last_status = Some(error.status());
            turn.note(Note::CannotRun(worker));
            if !self.ran {
                self.slots.get_mut(number)?.state = State::Failed;
                return Some(error);
            }
            let next = self.after_failure(number, turn);
            self.vacate(number, next, turn);
            return None;
        };
        self.slots.get_mut(number)?.state = state;
        None
    }

    pub(super) fn group_gone(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        for number in 0..self.slots.len() {
            if let Some(Slot {
                state: State::Leftover {
                    worker: of, next, ..
                },
                ..
            }) = self.slots.get(number)
                && *of == worker
            {
                let next = *next;
                self.vacate(number, next, turn);
            }
        }
    }

    fn vacate(&mut self, number: usize, next: Next, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let slot_number = slot_number(number);
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        slot.state = match next {
            Next::Retry { retry_at } if retry_at <= now => {
                self.spawn(number, turn);
                return;
            }
            Next::Retry { retry_at } => {
                let (delay, failures) = (retry_at.since(now), slot.failures);
                turn.note(Note::RestartIn {
                    slot: slot_number,
                    delay,
                    failures,
                });
                State::Backoff { retry_at }
            }
            Next::Hold { retry_at } => {
                let delay = retry_at.since(now);
                turn.note(Note::RestartHeld {
                    slot: slot_number,
                    delay,
                });
                State::Held { retry_at }
            }
            Next::Stop => State::Stopped,
            Next::Fail => State::Failed,
        };
    }

    /// Sends a signal to the main process, or the group, of every worker.
    pub(super) fn forward(
        &mut self,
        to: Target,
        signal: Signal,
        value: Option<u64>,
        turn: &mut Turn<'_>,
    ) {
        let obeyed_by_leaving = match self.policy.mode {
            Mode::Cluster => to == Target::Main,
            Mode::Init => false,
        };
        if obeyed_by_leaving {
            let until = turn.now.time + self.policy.grace;
            self.obeying = Some(Obeying { signal, until });
        }
        for slot in &self.slots {
            if let Some(worker) = slot.state.running() {
                turn.act(Action::Signal {
                    worker,
                    to,
                    signal,
                    value,
                });
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.slots
            .iter()
            .filter_map(|slot| slot.state.deadline())
            .min()
    }

    /// Does what is due. Returns whether a worker had to be killed.
    pub(super) fn pass_deadlines(&mut self, serving: bool, turn: &mut Turn<'_>) -> bool {
        let mut killed = false;
        for number in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            if slot
                .state
                .deadline()
                .is_none_or(|deadline| deadline > turn.now.time)
            {
                continue;
            }
            match slot.state {
                State::Starting { worker, .. } => self.became_ready(worker, true, turn),
                State::Emptying { worker, .. } => self.emptied(worker, turn),
                State::Draining { worker, .. }
                | State::Leftover {
                    worker,
                    killed: false,
                    ..
                } => {
                    turn.note(Note::Killed(worker));
                    if let Some(state) = kill_slot(slot.state, turn) {
                        slot.state = state;
                        killed = true;
                    }
                }
                State::Killed { worker, .. } => {
                    turn.note(Note::Unkillable(worker));
                    let next = self.after_asked_exit(number, serving, turn.now.time);
                    self.vacate(number, next, turn);
                }
                State::Leftover {
                    worker,
                    next,
                    killed: true,
                    ..
                } => {
                    turn.note(Note::Unkillable(worker));
                    self.vacate(number, next, turn);
                }
                State::Backoff { .. } | State::Held { .. } => self.spawn(number, turn),
                State::Spawning { .. } | State::Ready { .. } | State::Stopped | State::Failed => {}
            }
        }
        killed
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.slots.iter().all(|slot| slot.state.worker().is_none())
    }

    fn slot_running(&self, worker: WorkerId) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.state.running() == Some(worker))
    }
}

fn slot_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
