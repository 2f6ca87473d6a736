//! More workers, and fewer.

use std::time::Duration;

use super::App;
use super::departing::Manner;
use crate::supervisor::Turn;
use crate::supervisor::event::{Failure, Note, Scale, WorkerId};
use crate::supervisor::slot::{Next, Slot};
use crate::supervisor::time::Time;

/// How long CPUs must be gone before workers are.
const SHRINK_DELAY: Duration = Duration::from_secs(3);

/// A number of workers that is to come, unless there is news before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::supervisor) struct Shrink {
    pub(in crate::supervisor) to: u32,
    pub(in crate::supervisor) at: Time,
}

impl App {
    /// Has as many workers as are asked for, within the bounds.
    pub(in crate::supervisor) fn scale(&mut self, scale: Scale, turn: &mut Turn<'_>) {
        let now = self.wanted();
        let asked = match scale {
            Scale::To(instances) => instances,
            Scale::By(more) => now.saturating_add_signed(more),
        };
        let to = asked.clamp(1, self.policy.most_instances.max(1));
        self.shrink = None;
        if to == now {
            if asked != now {
                turn.note(Note::ScaleRefused(now));
            }
            return;
        }
        turn.note(Note::Scaled(to));
        for _ in now..to {
            self.add_slot(turn);
        }
        for _ in to..now {
            self.remove_last(turn);
        }
    }

    /// The CPUs are enough for so many workers. More come at once; for fewer
    /// it is waited whether that stays so.
    pub(in crate::supervisor) fn resized(&mut self, to: u32, turn: &mut Turn<'_>) {
        let to = to.clamp(1, self.policy.most_instances.max(1));
        let now = self.wanted();
        if to >= now {
            self.scale(Scale::To(to), turn);
            return;
        }
        let at = self
            .shrink
            .map_or(turn.now.time + SHRINK_DELAY, |shrink| shrink.at);
        if self.shrink.is_none_or(|shrink| shrink.to != to) {
            turn.note(Note::ShrinkIn(to, at.since(turn.now.time)));
        }
        self.shrink = Some(Shrink { to, at });
    }

    pub(super) fn pass_shrink_deadline(&mut self, turn: &mut Turn<'_>) {
        if let Some(shrink) = self.shrink.filter(|shrink| shrink.at <= turn.now.time) {
            self.scale(Scale::To(shrink.to), turn);
        }
    }

    fn add_slot(&mut self, turn: &mut Turn<'_>) {
        let unused = self.slots.iter().position(|slot| !slot.wanted);
        let number = unused.unwrap_or_else(|| {
            self.slots.push(Slot::new(self.generation));
            self.slots.len() - 1
        });
        let generation = self.generation;
        if let Some(slot) = self.slots.get_mut(number) {
            slot.wanted = true;
            slot.generation = generation;
        }
        self.start_slot(number, turn);
    }

    fn remove_last(&mut self, turn: &mut Turn<'_>) {
        let last = |counts: fn(&Slot) -> bool| {
            self.slots
                .iter()
                .rposition(|slot| slot.wanted && counts(slot))
        };
        // A slot that can run nothing is missed least.
        let last = last(Slot::rests).or_else(|| last(|_| true));
        if let Some(number) = last {
            self.remove(number, Manner::Gracefully, turn);
        }
    }

    /// The slot does not count any more, and its workers leave.
    pub(super) fn remove(&mut self, number: usize, manner: Manner, turn: &mut Turn<'_>) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        slot.wanted = false;
        let rests = slot.rests();
        self.dismiss_successor(number, turn);
        if !rests {
            self.vacate_later(number, manner, Next::Stop, turn);
        }
    }

    /// Scales every slot away but this worker's, for good; where that one is
    /// being scaled away itself, every one but the first. A successor is the
    /// one that cannot share.
    pub(in crate::supervisor) fn keep_only(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        let is_it = |slot: &Slot| slot.successor.is_some_and(|it| it.worker == worker);
        if let Some(number) = self.slots.iter().position(is_it) {
            self.dismiss_successor(number, turn);
            self.replacement_failed(number, Failure::CannotShare, turn);
            return;
        }
        let Some(own) = self.slot_running(worker) else {
            return;
        };
        let is_wanted = self.slots.get(own).is_some_and(|slot| slot.wanted);
        let first = self.slots.iter().position(|slot| slot.wanted);
        let kept = if is_wanted { own } else { first.unwrap_or(own) };
        self.policy.most_instances = 1;
        self.shrink = None;
        for number in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            if number == kept && !slot.wanted {
                slot.wanted = true;
                self.start_slot(number, turn);
            } else if number != kept && slot.wanted {
                self.remove(number, Manner::AtOnce, turn);
            }
        }
    }
}
