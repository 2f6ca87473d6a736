//! One worker more, one fewer.

use super::{App, slot_number};
use crate::supervisor::Turn;
use crate::supervisor::event::{Note, WorkerId};
use crate::supervisor::slot::{Next, Slot, State};

impl App {
    pub(in crate::supervisor) fn scale_up(&mut self, turn: &mut Turn<'_>) {
        let wanted = self.wanted();
        if wanted >= self.policy.most_instances {
            turn.note(Note::ScaleRefused(wanted));
            return;
        }
        turn.note(Note::Scaled(wanted + 1));
        let Some(number) = self.slots.iter().position(|slot| !slot.wanted) else {
            self.slots.push(Slot::new());
            self.spawn(self.slots.len() - 1, turn);
            return;
        };
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        slot.wanted = true;
        slot.failures = 0;
        match &mut slot.state {
            // Its next worker comes when this one is gone (invariant 2).
            State::Leftover { next, .. } => {
                *next = Next::Retry {
                    retry_at: turn.now.time,
                }
            }
            State::Emptying { .. } | State::Draining { .. } | State::Killed { .. } => {}
            State::Spawning { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Backoff { .. }
            | State::Held { .. }
            | State::Stopped
            | State::Failed => self.spawn(number, turn),
        }
    }

    pub(in crate::supervisor) fn scale_down(&mut self, turn: &mut Turn<'_>) {
        let wanted = self.wanted();
        let last = |counts: fn(&Slot) -> bool| {
            self.slots
                .iter()
                .rposition(|slot| slot.wanted && counts(slot))
        };
        // A slot that can run nothing is missed least.
        let last = last(Slot::rests).or_else(|| last(|_| true));
        let (Some(number), true) = (last, wanted > 1) else {
            turn.note(Note::ScaleRefused(wanted));
            return;
        };
        turn.note(Note::Scaled(wanted - 1));
        if let Some(slot) = self.slots.get_mut(number) {
            slot.wanted = false;
        }
        self.empty_slot(number, turn);
    }

    /// Scales every slot away but this worker's, for good; where that one is
    /// being scaled away itself, every one but the first.
    pub(in crate::supervisor) fn keep_only(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        let mut slots = self.slots.iter();
        let Some(own) = slots.position(|slot| slot.state.running() == Some(worker)) else {
            return;
        };
        let is_wanted = self.slots.get(own).is_some_and(|slot| slot.wanted);
        let first = self.slots.iter().position(|slot| slot.wanted);
        let kept = if is_wanted { own } else { first.unwrap_or(own) };
        self.policy.most_instances = 1;
        for number in 0..self.slots.len() {
            if let Some(slot) = self.slots.get_mut(number)
                && slot.wanted != (number == kept)
            {
                slot.wanted = number == kept;
                if !slot.wanted {
                    self.drain_slot(number, turn);
                }
            }
        }
    }

    pub(in crate::supervisor) fn wanted(&self) -> u32 {
        slot_number(self.slots.iter().filter(|slot| slot.wanted).count())
    }
}
