//! One app: its slots, and what becomes of their workers.

mod backoff;
mod rest;
mod scaling;
mod stopping;

use std::time::Duration;

use super::Turn;
use super::event::{Action, Exit, Note, SpawnError, Target, WorkerId};
use super::policy::{Mode, Policy, Ready, Restart};
use super::signal::Signal;
use super::slot::{Next, Slot, State};
use super::time::Time;
pub(super) use rest::Rest;
use stopping::kill_slot;

/// How long a group outlives its main process that exited unasked: from TERM
/// to KILL, and, like every group, from KILL to being given up.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);

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
    /// Until when a worker that exits with 0 may be obeying a signal that
    /// was forwarded to all.
    pub(super) obeying_until: Option<Time>,
    /// The first exit status that was not 0 and was a slot's last.
    pub(super) first_failure: Option<u8>,
    /// The exit status of the worker that ended unasked last.
    pub(super) last_status: Option<u8>,
}

impl App {
    pub(super) fn new(index: usize, policy: Policy) -> Self {
        Self {
            index,
            slots: vec![Slot::new(); policy.instances as usize],
            policy,
            generation: 1,
            ran: false,
            obeying_until: None,
            first_failure: None,
            last_status: None,
        }
    }

    // ---- starting ----

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
            Ready::Notify => None,
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
                }
                State::Spawning { .. }
                | State::Starting { .. }
                | State::Ready { .. }
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

    // ---- ending ----

    pub(super) fn exited(
        &mut self,
        worker: WorkerId,
        exit: Exit,
        served: bool,
        backgrounded: bool,
        serving: bool,
        turn: &mut Turn<'_>,
    ) {
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
                    self.after_unasked_exit(number, exit, served, turn)
                };
                if next == Next::Stop && exit.status() != 0 {
                    self.first_failure.get_or_insert(exit.status());
                }
                (now + LEFTOVER_GRACE, false, next)
            }
            State::Draining { kill_at, .. } => (kill_at, false, next_if_asked),
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
    fn after_asked_exit(&self, number: usize, serving: bool, now: Time) -> Next {
        if serving && self.slots.get(number).is_some_and(|slot| slot.wanted) {
            Next::Retry { retry_at: now }
        } else {
            Next::Stop
        }
    }

    fn after_unasked_exit(
        &mut self,
        number: usize,
        exit: Exit,
        served: bool,
        turn: &Turn<'_>,
    ) -> Next {
        match self.policy.restart {
            Restart::Never => return Next::Stop,
            Restart::OnFailure if exit.status() == 0 => return Next::Stop,
            Restart::OnFailure | Restart::Always => {}
        }
        let now = turn.now.time;
        if exit.status() == 0
            && let Some(retry_at) = self.obeying_until.filter(|&until| until > now)
        {
            return Next::Hold { retry_at };
        }
        let proven = self
            .slots
            .get(number)
            .is_some_and(|slot| self.proven(slot, now));
        // A connection was taken while this worker ran, and no other worker
        // is old enough to have been the one that took it: this exit is not a
        // start that failed, and clients may be waiting.
        let served = served && !self.another_has_aged(number, now);
        if !proven && !served {
            return self.after_failure(number, turn);
        }
        let delay = if served {
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
    fn after_failure(&mut self, number: usize, turn: &Turn<'_>) -> Next {
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

    // ---- signals ----

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
            self.obeying_until = Some(turn.now.time + self.policy.grace);
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

    // ---- time ----

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

    // ---- questions ----

    pub(super) fn is_vacant(&self) -> bool {
        self.slots.iter().all(|slot| slot.state.worker().is_none())
    }

    fn slot_running(&self, worker: WorkerId) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.state.running() == Some(worker))
    }

    /// Whether an exit of this slot's worker now is no failure.
    fn proven(&self, slot: &Slot, now: Time) -> bool {
        match slot.state {
            State::Ready { proven_at, .. } => proven_at <= now,
            State::Starting { ready_at, .. } => {
                ready_at.is_some_and(|ready_at| ready_at + self.policy.min_uptime <= now)
            }
            State::Spawning { .. }
            | State::Draining { .. }
            | State::Killed { .. }
            | State::Leftover { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Stopped
            | State::Failed => false,
        }
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

fn slot_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
