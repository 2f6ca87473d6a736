//! One app: its slots, and what becomes of their workers.

mod backoff;
mod departing;
mod exits;
mod hanging;
mod owner;
mod replacing;
mod rest;
mod scaling;

use std::time::Duration;

use super::Turn;
use super::event::{Action, Failure, Note, SpawnError, Target, WorkerId};
use super::policy::{Mode, Policy, Ready};
use super::signal::Signal;
use super::slot::{Next, Renewal, Slot, State};
use super::time::{Time, earlier};
use departing::Passed;
pub(super) use exits::Ended;
#[cfg(test)]
pub(super) use replacing::Progress;
pub(super) use replacing::Roll;
pub(super) use rest::Rest;
pub(super) use scaling::Shrink;

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
    /// Of a new slot's first worker: one has proven itself in it.
    pub(super) generation: u32,
    /// The reload under way.
    pub(super) roll: Option<Roll>,
    /// Fewer workers are enough, it seems.
    pub(super) shrink: Option<Shrink>,
    /// Whether its command has ever run.
    pub(super) ran: bool,
    /// Whether a worker of it has ever shown that it is ready.
    pub(super) shows: bool,
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
            slots: vec![Slot::new(1); policy.instances as usize],
            policy,
            generation: 1,
            roll: None,
            shrink: None,
            ran: false,
            shows: false,
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
        let generation = slot.generation;
        self.act_spawn(worker, number, generation, turn);
    }

    fn act_spawn(&self, worker: WorkerId, number: usize, generation: u32, turn: &mut Turn<'_>) {
        turn.act(Action::Spawn {
            worker,
            app: self.index,
            slot: slot_number(number),
            generation,
        });
    }

    pub(super) fn executed(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let ready_at = self.presumed_ready_at(now);
        let aged_at = now + self.policy.min_uptime;
        let late_at = now + self.policy.ready_timeout;
        let late_at = match self.policy.mode {
            Mode::Init => None,
            // It is said of nobody who counts as ready by then.
            Mode::Cluster => {
                Some(late_at).filter(|&at| ready_at.is_none_or(|ready_at| at < ready_at))
            }
        };
        for slot in &mut self.slots {
            if slot.running().any(|running| running == worker) {
                self.ran = true;
            }
            if slot.state == (State::Spawning { worker }) {
                slot.state = State::Starting {
                    worker,
                    ready_at,
                    aged_at,
                    late_at,
                };
            }
        }
        self.successor_executed(worker, turn);
    }

    /// When a worker that runs from now on counts as ready although it says
    /// nothing.
    fn presumed_ready_at(&self, now: Time) -> Option<Time> {
        match self.policy.ready {
            // Nobody waits for an init's child to be ready.
            Ready::Auto if self.policy.mode == Mode::Init => None,
            Ready::Auto => Some(now + self.policy.presumed_ready_after),
            Ready::After(delay) => Some(now + delay),
            Ready::Listen | Ready::Notify => None,
        }
    }

    pub(super) fn became_ready(&mut self, worker: WorkerId, presumed: bool, turn: &mut Turn<'_>) {
        for number in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            match slot.state {
                State::Spawning { worker: of } | State::Starting { worker: of, .. }
                    if of == worker =>
                {
                    turn.note(Note::Ready { worker, presumed });
                    self.settle_in(number, worker, turn);
                }
                State::Spawning { .. }
                | State::Starting { .. }
                | State::Ready { .. }
                | State::Departing { .. }
                | State::Backoff { .. }
                | State::Held { .. }
                | State::Parked
                | State::Stopped
                | State::Failed => {
                    self.successor_ready(number, worker, presumed, turn);
                    continue;
                }
            }
            self.ran = true;
            self.shows |= !presumed && self.policy.ready == Ready::Auto;
        }
    }

    /// The worker is its slot's, and ready.
    fn settle_in(&mut self, number: usize, worker: WorkerId, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let renewal = self.renewal(turn);
        if let Some(slot) = self.slots.get_mut(number) {
            slot.state = State::Ready {
                worker,
                proven_at: now + self.policy.min_uptime,
                hung_at: None,
                renewal,
            };
            turn.act(Action::Admit(worker));
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
        self.departing_gone(worker);
        self.successor_failed(worker, Failure::CannotRun(error), turn);
        let number = self.slot_running(worker)?;
        let state = self.slots.get(number)?.state;
        if let State::Departing { next, .. } = state {
            match next {
                Next::Retry { retry_at } => {
                    self.slots.get_mut(number)?.state = State::Backoff { retry_at };
                }
                Next::Hold { .. } | Next::Park | Next::Stop | Next::Fail => {
                    self.vacate(number, next, turn);
                }
            }
            return None;
        }
        if !serving {
            self.vacate(number, Next::Stop, turn);
        } else if error == SpawnError::Exhausted {
            let delay = SPAWN_RETRY.min(self.policy.backoff_max);
            turn.note(Note::SpawnRetryIn {
                slot: slot_number(number),
                delay,
            });
            self.slots.get_mut(number)?.state = State::Backoff {
                retry_at: turn.now.time + delay,
            };
        } else {
            self.last_status = Some(error.status());
            turn.note(Note::CannotRun(worker));
            if !self.ran {
                self.slots.get_mut(number)?.state = State::Failed;
                return Some(error);
            }
            let next = self.after_failure(number, turn);
            self.vacate(number, next, turn);
        }
        None
    }

    pub(super) fn group_gone(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        for number in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            if let State::Departing { departing, next } = slot.state
                && departing.worker == worker
                && departing.running().is_none()
            {
                self.vacate(number, next, turn);
            } else if let Some(departing) = slot.departing
                && departing.worker == worker
                && departing.running().is_none()
            {
                slot.departing = None;
            }
        }
    }

    fn departing_gone(&mut self, worker: WorkerId) {
        for slot in &mut self.slots {
            slot.departing = slot
                .departing
                .filter(|departing| departing.worker != worker);
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
            Next::Park => State::Parked,
            Next::Stop => State::Stopped,
            Next::Fail => State::Failed,
        };
    }

    /// Passes a signal on to every worker. One that leaves by that may be
    /// obeying it.
    pub(super) fn forward(&mut self, signal: Signal, value: Option<u64>, turn: &mut Turn<'_>) {
        if self.policy.mode == Mode::Cluster {
            let until = turn.now.time + self.policy.grace;
            self.obeying = Some(Obeying { signal, until });
        }
        self.signal_all(self.policy.forward_to, signal, value, turn);
    }

    /// Sends a signal to the group of every worker.
    pub(super) fn signal_groups(&self, signal: Signal, turn: &mut Turn<'_>) {
        self.signal_all(Target::Group, signal, None, turn);
    }

    fn signal_all(&self, to: Target, signal: Signal, value: Option<u64>, turn: &mut Turn<'_>) {
        for slot in &self.slots {
            for worker in slot.running() {
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
        let mut next = self.shrink.map(|shrink| shrink.at);
        for slot in &self.slots {
            next = earlier(next, slot.deadline());
        }
        next
    }

    /// Does what is due. Returns whether a worker had to be killed.
    pub(super) fn pass_deadlines(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut killed = false;
        self.pass_shrink_deadline(turn);
        for number in 0..self.slots.len() {
            killed |= self.pass_slot_deadlines(number, turn);
        }
        killed
    }

    fn pass_slot_deadlines(&mut self, number: usize, turn: &mut Turn<'_>) -> bool {
        let now = turn.now.time;
        let mut killed = false;
        let Some(slot) = self.slots.get_mut(number) else {
            return false;
        };
        if let Some(departing) = &mut slot.departing {
            match departing.pass_deadline(&self.policy, turn) {
                Passed::Nothing => {}
                Passed::Killed => killed = true,
                Passed::GivenUp => slot.departing = None,
            }
        }
        match &mut slot.state {
            State::Starting {
                worker,
                ready_at,
                late_at,
                ..
            } => {
                let worker = *worker;
                if ready_at.is_some_and(|ready_at| ready_at <= now) {
                    self.became_ready(worker, true, turn);
                } else if late_at.is_some_and(|late_at| late_at <= now) {
                    *late_at = None;
                    turn.note(Note::Late(worker, self.policy.ready_timeout));
                }
            }
            State::Ready {
                worker,
                hung_at,
                renewal,
                ..
            } => {
                if let Renewal::At { time, wear } = *renewal
                    && time <= now
                {
                    *renewal = Renewal::Due(wear);
                }
                if hung_at.is_some_and(|hung_at| hung_at <= now) {
                    let worker = *worker;
                    self.hung(worker, turn);
                }
            }
            State::Departing { departing, next } => {
                let next = *next;
                match departing.pass_deadline(&self.policy, turn) {
                    Passed::Nothing => {}
                    Passed::Killed => killed = true,
                    Passed::GivenUp => self.vacate(number, next, turn),
                }
            }
            State::Backoff { retry_at } | State::Held { retry_at } => {
                if *retry_at <= now {
                    self.spawn(number, turn);
                }
            }
            State::Spawning { .. } | State::Parked | State::Stopped | State::Failed => {}
        }
        self.pass_successor_deadline(number, turn);
        killed
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.workers().next().is_none())
    }

    /// The slot whose own worker this is, and runs.
    fn slot_running(&self, worker: WorkerId) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.state.running() == Some(worker))
    }
}

fn slot_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
