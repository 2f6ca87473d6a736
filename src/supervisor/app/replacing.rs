//! Workers that take another's place: a reload, slot by slot, and the
//! renewal of a single worker.
//!
//! A successor runs beside its predecessor and has no part in serving until
//! it has proven itself; only then is the predecessor told to go (invariant
//! 3). The first one of a reload is its canary: where it fails, nothing has
//! changed (invariant 8).

use std::time::Duration;

use super::departing::{Manner, depart};
use super::{App, slot_number};
use crate::supervisor::Turn;
use crate::supervisor::event::{Failure, Note, Wear, WorkerId};
use crate::supervisor::policy::Ready;
use crate::supervisor::slot::{Departing, Next, Renewal, Slot, Stage, State, Successor, Trial};
use crate::supervisor::time::{Time, millis};

/// A reload under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::supervisor) struct Roll {
    /// The generation that all workers are to be of.
    pub(in crate::supervisor) to: u32,
    pub(in crate::supervisor) progress: Progress,
    /// Whether another one is to follow.
    pub(in crate::supervisor) again: bool,
}

/// How far a reload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::supervisor) enum Progress {
    /// No worker of its generation has proven itself.
    Canary,
    /// One has; the rest follows.
    Rest,
}

/// How much a slot has to lose by being a reload's first, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Serving,
    Beginning,
    Vacant,
}

impl App {
    // ---- a reload ----

    pub(in crate::supervisor) fn reload(&mut self, turn: &mut Turn<'_>) {
        if let Some(roll) = &mut self.roll {
            roll.again = true;
            turn.note(Note::ReloadQueued(roll.to.wrapping_add(1)));
            return;
        }
        let slots = self.slots.iter().map(|slot| slot.generation);
        let newest = slots.chain([self.generation]).max().unwrap_or(0);
        self.begin_roll(newest.wrapping_add(1), turn);
    }

    fn begin_roll(&mut self, to: u32, turn: &mut Turn<'_>) {
        turn.note(Note::Reloading(to));
        self.roll = Some(Roll {
            to,
            progress: Progress::Canary,
            again: false,
        });
        // What a renewal has begun ends here: it would be replaced at once.
        for number in 0..self.slots.len() {
            self.dismiss_successor(number, turn);
        }
    }

    fn end_roll(&mut self, turn: &mut Turn<'_>) {
        if let Some(Roll {
            to, again: true, ..
        }) = self.roll.take()
        {
            self.begin_roll(to.wrapping_add(1), turn);
        }
    }

    fn fail_roll(&mut self, failure: Failure, turn: &mut Turn<'_>) {
        let Some(roll) = self.roll else {
            return;
        };
        turn.note(Note::ReloadFailed {
            generation: roll.to,
            failure,
            partial: roll.progress == Progress::Rest,
        });
        for number in 0..self.slots.len() {
            self.dismiss_successor(number, turn);
        }
        self.end_roll(turn);
    }

    /// Nothing is replaced any more: clinit is to end.
    pub(in crate::supervisor) fn stop_replacing(&mut self, turn: &mut Turn<'_>) {
        if let Some(roll) = &mut self.roll {
            roll.again = false;
        }
        self.fail_roll(Failure::Shutdown, turn);
        for number in 0..self.slots.len() {
            self.dismiss_successor(number, turn);
        }
    }

    /// Starts the successors that there is room for.
    pub(in crate::supervisor) fn replace(&mut self, turn: &mut Turn<'_>) {
        while let Some(roll) = self.roll {
            if roll.progress == Progress::Rest {
                self.take_over_vacancies(roll.to, turn);
            }
            let room = match roll.progress {
                Progress::Canary => 1,
                Progress::Rest => self.policy.surge.beside(self.wanted()),
            };
            while self.extras() < room as usize {
                let Some(number) = self.next_to_replace(roll.to) else {
                    break;
                };
                self.start_successor(number, roll.to, turn);
            }
            if self.extras() > 0 || self.next_to_replace(roll.to).is_some() {
                return;
            }
            // Nobody is left to be replaced.
            self.take_over_vacancies(roll.to, turn);
            self.generation = roll.to;
            turn.note(Note::Reloaded(roll.to));
            self.end_roll(turn);
        }
        self.renew(turn);
    }

    /// Slots that have no worker of their own have nothing to lose: their next
    /// one is of the new generation, which has proven itself.
    fn take_over_vacancies(&mut self, to: u32, turn: &mut Turn<'_>) {
        for number in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            if slot.state.current().is_some() || slot.generation == to {
                continue;
            }
            slot.generation = to;
            if slot.state == State::Failed && slot.wanted {
                slot.failures = 0;
                self.spawn(number, turn);
            }
        }
    }

    fn extras(&self) -> usize {
        self.slots.iter().map(Slot::extras).sum()
    }

    /// The slot to be replaced next: one that serves, while there is one.
    fn next_to_replace(&self, to: u32) -> Option<usize> {
        let slots = self.slots.iter().enumerate();
        let candidates = slots.filter_map(|(number, slot)| {
            let due = slot.wanted && slot.generation != to && slot.extras() == 0;
            let standing = match slot.state {
                State::Ready { .. } => Standing::Serving,
                State::Spawning { .. } | State::Starting { .. } => Standing::Beginning,
                State::Departing {
                    next: Next::Park | Next::Stop,
                    ..
                }
                | State::Parked
                | State::Stopped => return None,
                State::Departing { .. }
                | State::Backoff { .. }
                | State::Held { .. }
                | State::Failed => Standing::Vacant,
            };
            due.then_some((standing, number))
        });
        candidates.min().map(|(_, number)| number)
    }

    // ---- renewal ----

    /// When a worker that is ready now is to be replaced.
    pub(super) fn renewal(&self, turn: &Turn<'_>) -> Renewal {
        let Some(lifetime) = self.policy.max_lifetime else {
            return Renewal::Never;
        };
        let jitter = millis(lifetime) / 10;
        let less = turn.now.entropy.checked_rem(jitter.saturating_add(1));
        let lifetime = lifetime.saturating_sub(Duration::from_millis(less.unwrap_or(0)));
        Renewal::At {
            time: turn.now.time + lifetime,
            wear: Wear::Lifetime,
        }
    }

    /// The worker is to be replaced. Where that has failed a while ago, it is
    /// not tried again before it is due.
    pub(in crate::supervisor) fn worn(&mut self, worker: WorkerId, wear: Wear) {
        for slot in &mut self.slots {
            if let State::Ready {
                worker: of,
                renewal,
                ..
            } = &mut slot.state
                && *of == worker
                && !matches!(*renewal, Renewal::At { wear: known, .. } if known == wear)
            {
                *renewal = Renewal::Due(wear);
            }
        }
    }

    fn renew(&mut self, turn: &mut Turn<'_>) {
        if self.extras() > 0 {
            return;
        }
        let due = self.slots.iter().enumerate().find_map(|(number, slot)| {
            let State::Ready {
                worker,
                renewal: Renewal::Due(wear),
                ..
            } = slot.state
            else {
                return None;
            };
            slot.wanted
                .then_some((number, worker, wear, slot.generation))
        });
        if let Some((number, worker, wear, generation)) = due {
            turn.note(Note::Renewing(worker, wear));
            self.start_successor(number, generation, turn);
        }
    }

    /// The renewal under way failed: the worker is better than none.
    fn put_off_renewal(&mut self, number: usize, failure: Failure, turn: &mut Turn<'_>) {
        let delay = self.policy.backoff_max;
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        turn.note(Note::RenewalFailed {
            slot: slot_number(number),
            failure,
            delay,
        });
        if let State::Ready { renewal, .. } = &mut slot.state
            && let Renewal::Due(wear) = *renewal
        {
            *renewal = Renewal::At {
                time: turn.now.time + delay,
                wear,
            };
        }
    }

    // ---- a successor's life ----

    fn start_successor(&mut self, number: usize, generation: u32, turn: &mut Turn<'_>) {
        let fail_at = turn.now.time + self.policy.ready_timeout;
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let worker = turn.issue_worker_id();
        slot.successor = Some(Successor {
            worker,
            generation,
            trial: Trial::Spawning { fail_at },
        });
        self.act_spawn(worker, number, generation, turn);
    }

    fn successor_of(&mut self, worker: WorkerId) -> Option<&mut Successor> {
        let successors = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.successor.as_mut());
        successors
            .into_iter()
            .find(|successor| successor.worker == worker)
    }

    pub(super) fn successor_executed(&mut self, worker: WorkerId, turn: &Turn<'_>) {
        let now = turn.now.time;
        // It must show what its predecessors have shown.
        let ready_at = match self.policy.ready {
            Ready::Auto if self.shows => None,
            Ready::Auto | Ready::Listen | Ready::Notify | Ready::After(_) => {
                self.presumed_ready_at(now)
            }
        };
        let fail_at = now + self.policy.ready_timeout;
        let fail_at = ready_at.map_or(fail_at, |ready_at| ready_at.max(fail_at));
        if let Some(successor) = self.successor_of(worker)
            && matches!(successor.trial, Trial::Spawning { .. })
        {
            successor.trial = Trial::Starting { ready_at, fail_at };
        }
    }

    pub(super) fn successor_ready(
        &mut self,
        number: usize,
        worker: WorkerId,
        presumed: bool,
        turn: &mut Turn<'_>,
    ) {
        let settled_at = turn.now.time + self.policy.settle;
        let Some(successor) = self
            .slots
            .get_mut(number)
            .and_then(|slot| slot.successor.as_mut())
        else {
            return;
        };
        if successor.worker != worker || matches!(successor.trial, Trial::Settling { .. }) {
            return;
        }
        successor.trial = Trial::Settling { settled_at };
        self.ran = true;
        self.shows |= !presumed && self.policy.ready == Ready::Auto;
        turn.note(Note::Ready { worker, presumed });
        self.pass_successor_deadline(number, turn);
    }

    /// It needs this long, and says so in time.
    pub(in crate::supervisor) fn extended(&mut self, worker: WorkerId, by: Duration, now: Time) {
        if let Some(successor) = self.successor_of(worker)
            && let Trial::Spawning { fail_at } | Trial::Starting { fail_at, .. } =
                &mut successor.trial
        {
            *fail_at = (*fail_at).max(now + by);
        }
        for slot in &mut self.slots {
            if let State::Starting {
                worker: of,
                late_at: Some(late_at),
                ..
            } = &mut slot.state
                && *of == worker
            {
                *late_at = (*late_at).max(now + by);
            }
        }
    }

    pub(super) fn pass_successor_deadline(&mut self, number: usize, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        let Some(Slot {
            successor: Some(successor),
            ..
        }) = self.slots.get(number)
        else {
            return;
        };
        let worker = successor.worker;
        match successor.trial {
            Trial::Starting {
                ready_at: Some(ready_at),
                ..
            } if ready_at <= now => self.successor_ready(number, worker, true, turn),
            Trial::Spawning { fail_at } | Trial::Starting { fail_at, .. } if fail_at <= now => {
                let failure = Failure::NotReady(self.policy.ready_timeout);
                self.dismiss_successor(number, turn);
                self.replacement_failed(number, failure, turn);
            }
            Trial::Settling { settled_at } if settled_at <= now => self.promote(number, turn),
            Trial::Spawning { .. } | Trial::Starting { .. } | Trial::Settling { .. } => {}
        }
    }

    /// The successor takes its slot's place, and its predecessor leaves
    /// (invariant 3).
    fn promote(&mut self, number: usize, turn: &mut Turn<'_>) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let Some(successor) = slot.successor.take() else {
            return;
        };
        let predecessor = slot.state;
        slot.generation = successor.generation;
        slot.failures = 0;
        turn.note(Note::Replaced(successor.worker));
        self.settle_in(number, successor.worker, turn);
        let departing = match predecessor {
            State::Ready { worker, .. } => {
                Some(depart(worker, Manner::Gracefully, &self.policy, turn))
            }
            State::Spawning { worker } | State::Starting { worker, .. } => {
                Some(depart(worker, Manner::AtOnce, &self.policy, turn))
            }
            State::Departing { departing, .. } => Some(departing),
            State::Backoff { .. }
            | State::Held { .. }
            | State::Parked
            | State::Stopped
            | State::Failed => None,
        };
        if let Some(slot) = self.slots.get_mut(number) {
            slot.departing = departing;
        }
        if let Some(roll) = &mut self.roll
            && roll.to == successor.generation
        {
            roll.progress = Progress::Rest;
            self.generation = roll.to;
        }
    }

    /// The worker, if it is a successor, cannot take its predecessor's place.
    /// Its process is gone.
    pub(super) fn successor_failed(
        &mut self,
        worker: WorkerId,
        failure: Failure,
        turn: &mut Turn<'_>,
    ) -> Option<usize> {
        let is_it = |slot: &Slot| slot.successor.is_some_and(|it| it.worker == worker);
        let number = self.slots.iter().position(is_it)?;
        self.slots.get_mut(number)?.successor = None;
        self.replacement_failed(number, failure, turn);
        Some(number)
    }

    /// The same of one whose main process is reaped, and whose group is told
    /// to go.
    pub(super) fn successor_exited(
        &mut self,
        worker: WorkerId,
        failure: Failure,
        until: Time,
        turn: &mut Turn<'_>,
    ) {
        let is_it = |slot: &Slot| slot.successor.is_some_and(|it| it.worker == worker);
        let Some(slot) = self.slots.iter_mut().find(|slot| is_it(slot)) else {
            return;
        };
        let departing = Departing {
            worker,
            stage: Stage::Leftover {
                until,
                killed: false,
            },
        };
        departing.end_group(false, turn);
        slot.departing = Some(departing);
        self.successor_failed(worker, failure, turn);
    }

    pub(super) fn replacement_failed(
        &mut self,
        number: usize,
        failure: Failure,
        turn: &mut Turn<'_>,
    ) {
        if self.roll.is_some() {
            self.fail_roll(failure, turn);
        } else {
            self.put_off_renewal(number, failure, turn);
        }
    }
}
