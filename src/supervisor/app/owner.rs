//! What the app's owner asks of single slots, or of all of them.

use super::departing::Manner;
use super::{App, slot_number};
use crate::supervisor::Turn;
use crate::supervisor::event::{Action, Note, Whom};
use crate::supervisor::signal::Signal;
use crate::supervisor::slot::{Next, State};

impl App {
    /// The slots that are meant and count. Where none is, that is said.
    fn meant(&self, whom: Whom, turn: &mut Turn<'_>) -> Vec<usize> {
        let slots = self.slots.iter().enumerate();
        let meant = slots.filter(|(number, slot)| slot.wanted && whom.includes(*number));
        let meant: Vec<usize> = meant.map(|(number, _)| number).collect();
        if let (Whom::Slot(slot), true) = (whom, meant.is_empty()) {
            turn.note(Note::NoSuchSlot(slot));
        }
        meant
    }

    /// Workers end, and none follows until it is started.
    pub(in crate::supervisor) fn stop(&mut self, whom: Whom, turn: &mut Turn<'_>) {
        for number in self.meant(whom, turn) {
            self.dismiss_successor(number, turn);
            self.vacate_later(number, Manner::Gracefully, Next::Park, turn);
        }
    }

    /// Slots without a worker get one.
    pub(in crate::supervisor) fn start(&mut self, whom: Whom, turn: &mut Turn<'_>) {
        for number in self.meant(whom, turn) {
            self.start_slot(number, turn);
        }
    }

    /// The slot's next worker comes now, or as soon as its last one is gone
    /// (invariant 2).
    pub(super) fn start_slot(&mut self, number: usize, turn: &mut Turn<'_>) {
        let retry_at = turn.now.time;
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        match &mut slot.state {
            State::Spawning { .. } | State::Starting { .. } | State::Ready { .. } => {}
            State::Departing { next, .. } => {
                if matches!(next, Next::Park | Next::Stop | Next::Fail) {
                    slot.failures = 0;
                    *next = Next::Retry { retry_at };
                }
            }
            State::Backoff { .. }
            | State::Held { .. }
            | State::Parked
            | State::Stopped
            | State::Failed => {
                slot.failures = 0;
                self.spawn(number, turn);
            }
        }
    }

    /// Workers end, and others follow.
    pub(in crate::supervisor) fn restart(&mut self, whom: Whom, turn: &mut Turn<'_>) {
        let retry_at = turn.now.time;
        for number in self.meant(whom, turn) {
            self.dismiss_successor(number, turn);
            if let Some(slot) = self.slots.get_mut(number) {
                slot.failures = 0;
            }
            self.vacate_later(number, Manner::Gracefully, Next::Retry { retry_at }, turn);
        }
    }

    /// The slot does not count any more.
    pub(in crate::supervisor) fn delete(&mut self, slot: u32, turn: &mut Turn<'_>) {
        for number in self.meant(Whom::Slot(slot), turn) {
            let wanted = self.wanted();
            if wanted > 1 {
                turn.note(Note::Scaled(wanted - 1));
                self.remove(number, Manner::Gracefully, turn);
            } else {
                turn.note(Note::ScaleRefused(wanted));
            }
        }
    }

    /// Passes a signal on to the slots' own workers.
    pub(in crate::supervisor) fn forward_to(
        &mut self,
        whom: Whom,
        signal: Signal,
        turn: &mut Turn<'_>,
    ) {
        if whom == Whom::All {
            self.forward(signal, None, turn);
            return;
        }
        for number in self.meant(whom, turn) {
            let running = self.slots.get(number).and_then(|slot| slot.state.running());
            if let Some(worker) = running {
                turn.act(Action::Signal {
                    worker,
                    to: self.policy.forward_to,
                    signal,
                    value: None,
                });
            }
        }
    }

    pub(in crate::supervisor) fn wanted(&self) -> u32 {
        slot_number(self.slots.iter().filter(|slot| slot.wanted).count())
    }
}
