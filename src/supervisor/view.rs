//! What the slots are doing, for people and programs to read: nothing here
//! decides anything, and no date of the past is kept for it.

use super::event::WorkerId;
use super::slot::{Departing, Slot, State, Trial};
use super::{Phase, Supervisor};

/// What a worker, or a slot without one, is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is not ready yet.
    Starting,
    /// It serves.
    Ready,
    /// It is to take its slot's worker's place, and is not ready yet.
    Successor,
    /// The same; it is ready and has to last.
    Settling,
    /// It is on its way out.
    Draining,
    /// The slot's next worker comes after a delay.
    Backoff,
    /// The slot has no worker until somebody starts one.
    Stopped,
    /// The slot's worker finished, and is not to be run again.
    Finished,
    /// The slot can run no worker.
    Failed,
}

impl Doing {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Successor => "successor",
            Self::Settling => "settling",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// A worker, or a slot that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The slot's number.
    pub slot: u32,
    /// Of the worker, or of the slot's next one.
    pub generation: u32,
    /// The worker; none where the slot has none.
    pub worker: Option<WorkerId>,
    /// What it is doing.
    pub doing: Doing,
}

impl Supervisor {
    /// Every worker, and every slot without one that counts, in the order of
    /// the slots. Beside a slot's own worker there may be its successor or its
    /// predecessor.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        let mut views = Vec::new();
        for app in &self.apps {
            for (number, slot) in (0..).zip(&app.slots) {
                add_views(number, slot, &mut views);
            }
        }
        views
    }

    /// How many workers are ready.
    #[must_use]
    pub fn ready(&self) -> u32 {
        let slots = self.apps.iter().flat_map(|app| &app.slots);
        let ready = slots.filter(|slot| matches!(slot.state, State::Ready { .. }));
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    /// The generation of which a worker has proven itself, the newest.
    #[must_use]
    pub fn generation(&self) -> u32 {
        let generations = self.apps.iter().map(|app| app.generation);
        generations.max().unwrap_or(0)
    }

    /// The generation that a reload under way is to come to.
    #[must_use]
    pub fn reloading(&self) -> Option<u32> {
        self.apps.iter().find_map(|app| Some(app.roll?.to))
    }

    /// Whether clinit is to end.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.phase != Phase::Serving
    }
}

fn add_views(number: u32, slot: &Slot, views: &mut Vec<View>) {
    let doing = match slot.state {
        State::Spawning { .. } | State::Starting { .. } => Doing::Starting,
        State::Ready { .. } => Doing::Ready,
        State::Departing { .. } => Doing::Draining,
        State::Backoff { .. } | State::Held { .. } => Doing::Backoff,
        State::Parked => Doing::Stopped,
        State::Stopped => Doing::Finished,
        State::Failed => Doing::Failed,
    };
    let view = |worker, generation, doing| View {
        slot: number,
        generation,
        worker,
        doing,
    };
    let own = view(slot.state.worker(), slot.generation, doing);
    if slot.wanted || own.worker.is_some() {
        views.push(own);
    }
    if let Some(it) = slot.successor {
        let doing = match it.trial {
            Trial::Spawning { .. } | Trial::Starting { .. } => Doing::Successor,
            Trial::Settling { .. } => Doing::Settling,
        };
        views.push(view(Some(it.worker), it.generation, doing));
    }
    if let Some(Departing { worker, .. }) = slot.departing {
        views.push(view(Some(worker), slot.generation, Doing::Draining));
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Event, Request, Whom};
    use super::super::tests::policy;
    use super::super::{Now, Time};
    use super::*;

    fn step(core: &mut Supervisor, event: Event) {
        let time = Time::from_millis(1000);
        let _ = core.step(event, Now { time, entropy: 0 });
    }

    fn seen(core: &Supervisor) -> Vec<(u32, u32, Option<u32>, &'static str)> {
        let views = core.views();
        views
            .into_iter()
            .map(|it| {
                (
                    it.slot,
                    it.generation,
                    it.worker.map(WorkerId::index),
                    it.doing.name(),
                )
            })
            .collect()
    }

    #[test]
    fn every_worker_is_seen_and_every_slot() {
        let mut core = Supervisor::new(policy());
        assert_eq!(
            seen(&core),
            [(0, 1, None, "backoff"), (1, 1, None, "backoff")]
        );
        step(&mut core, Event::DeadlineReached);
        let worker = WorkerId::from_index;
        step(&mut core, Event::Ready(worker(0)));
        assert_eq!(
            seen(&core),
            [(0, 1, Some(0), "ready"), (1, 1, Some(1), "starting")]
        );
        assert_eq!(
            (core.ready(), core.generation(), core.reloading()),
            (1, 1, None)
        );
        step(&mut core, Event::Asked(Request::Reload));
        let reloading = [
            (0, 1, Some(0), "ready"),
            (0, 2, Some(2), "successor"),
            (1, 1, Some(1), "starting"),
        ];
        assert_eq!(seen(&core), reloading);
        assert_eq!(core.reloading(), Some(2));
        step(&mut core, Event::Asked(Request::Delete(1)));
        step(&mut core, Event::Asked(Request::Stop(Whom::Slot(0))));
        assert!(
            seen(&core).iter().all(|row| row.3 == "draining"),
            "{:?}",
            seen(&core)
        );
        assert!(!core.is_leaving());
    }
}
