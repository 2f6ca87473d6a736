//! What happens, for those who listen; and what has become of each slot's
//! workers, for a status.

use std::time::Duration;

use crate::control::Object;
use crate::supervisor::{Action, Doing, Event, Exit, Note, SpawnError, Wear, WorkerId, millis};
use crate::sys::clock;

use super::super::Shell;
use super::clients::Role;

/// What a slot has been through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct History {
    /// How many of its workers have ended unasked.
    pub(super) restarts: u64,
    pub(super) last: Option<End>,
}

/// How a worker came to its end unasked.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Exit(Exit),
    CannotRun(SpawnError),
    Hung,
}

impl End {
    pub(super) fn reason(self) -> String {
        match self {
            Self::Exit(exit) => exit.to_string(),
            Self::CannotRun(error) => cannot_run(error).into(),
            Self::Hung => "hung".into(),
        }
    }
}

fn cannot_run(error: SpawnError) -> &'static str {
    match error {
        SpawnError::Exhausted => "no room for a process",
        SpawnError::NotFound => "not found",
        SpawnError::NotExecutable => "not executable",
        SpawnError::Setup => "cannot be set up",
    }
}

/// The beginning of an event.
fn event(name: &str) -> Object {
    let of = Object::line().text("event", name);
    of.number("time_ms", clock::realtime_ms())
}

fn with_delay(of: Object, delay: Duration) -> Object {
    of.number("delay_ms", millis(delay))
}

fn of_slot(name: &str, slot: u32) -> Object {
    event(name).number("slot", u64::from(slot))
}

fn of_generation(name: &str, generation: u32) -> Object {
    event(name).number("generation", u64::from(generation))
}

impl Shell {
    /// Before the core is told of it.
    pub(in crate::shell) fn observe_event(&mut self, event: Event) {
        let line = match event {
            Event::Executed(id) => self.of_worker("online", id),
            Event::Exited { worker, exit, .. } => {
                self.keep(worker, End::Exit(exit));
                self.of_worker("exit", worker).map(|of| {
                    let of = of.number("status", u64::from(exit.status()));
                    of.text("reason", &exit.to_string())
                })
            }
            Event::SpawnFailed(worker, error) => {
                self.keep(worker, End::CannotRun(error));
                let of = self.of_worker("failed", worker);
                of.map(|of| of.text("reason", cannot_run(error)))
            }
            Event::DeadlineReached
            | Event::Signal(_)
            | Event::Ready(_)
            | Event::Stopped(..)
            | Event::NotStopped(_)
            | Event::GroupGone(_)
            | Event::Emptied(_)
            | Event::Stopping(_)
            | Event::Alive(..)
            | Event::Hung(_)
            | Event::Worn(..)
            | Event::Extended(..)
            | Event::SharingLost(_)
            | Event::TreeGone
            | Event::Resized(_)
            | Event::Asked(_) => None,
        };
        self.tell(line);
    }

    /// Before it is performed.
    pub(in crate::shell) fn observe_action(&mut self, action: Action) {
        match action {
            Action::TurnAway(worker) => {
                let line = self.of_worker("draining", worker);
                self.tell(line);
            }
            Action::Note(note) => {
                if self.has_listeners() {
                    let line = self.of_note(note);
                    self.tell(line);
                }
                self.heed_note(note);
            }
            Action::Spawn { .. }
            | Action::Signal { .. }
            | Action::Admit(_)
            | Action::SuspendSelf
            | Action::StopJob { .. }
            | Action::LendTerminal(..)
            | Action::CloseListeners
            | Action::TermTree
            | Action::KillTree
            | Action::Exit(_) => {}
        }
    }

    /// What a decision is to those who listen; none where others tell of the
    /// same.
    fn of_note(&self, note: Note) -> Option<Object> {
        Some(match note {
            Note::Ready { worker, .. } => self.of_worker("ready", worker)?,
            Note::Replaced(worker) => self.of_worker("replaced", worker)?,
            Note::Killed(worker) => self.of_worker("killed", worker)?,
            Note::Late(worker, _) => self.of_worker("late", worker)?,
            Note::Hung(worker) => self.of_worker("hung", worker)?,
            Note::Renewing(worker, wear) => {
                let of = self.of_worker("renewing", worker)?;
                of.text(
                    "reason",
                    match wear {
                        Wear::Lifetime => "lifetime",
                        Wear::Memory => "memory",
                    },
                )
            }
            Note::RestartIn { slot, delay, .. }
            | Note::RestartHeld { slot, delay }
            | Note::SpawnRetryIn { slot, delay } => with_delay(of_slot("backoff", slot), delay),
            Note::RenewalFailed { slot, failure, .. } => {
                of_slot("renewal_failed", slot).text("reason", &failure.to_string())
            }
            Note::Scaled(to) => event("scaled").number("instances", u64::from(to)),
            Note::Reloading(generation) => of_generation("reloading", generation),
            Note::ReloadQueued(generation) => of_generation("reload_queued", generation),
            Note::Reloaded(generation) => of_generation("reloaded", generation),
            Note::ReloadFailed {
                generation,
                failure,
                partial,
            } => {
                let of = of_generation("reload_failed", generation);
                of.flag("partial", partial)
                    .text("reason", &failure.to_string())
            }
            Note::ShutdownIn(delay) => with_delay(event("shutdown"), delay),
            Note::GivingUp(_) => event("giving_up"),
            Note::CannotRun(_)
            | Note::NoSuchSlot(_)
            | Note::ScaleRefused(_)
            | Note::Backgrounded(_)
            | Note::Unkillable(_)
            | Note::ShrinkIn(..)
            | Note::DelaySkipped
            | Note::NextRequestKills
            | Note::Forced
            | Note::Draining { .. } => return None,
        })
    }

    /// What a decision is to those who wait for an answer, and to a status.
    fn heed_note(&mut self, note: Note) {
        match note {
            Note::Hung(worker) => self.keep(worker, End::Hung),
            Note::Reloading(generation) | Note::ReloadQueued(generation) => {
                self.reload_begins(generation);
            }
            Note::Reloaded(generation) => self.reload_ends(generation, None),
            Note::ReloadFailed {
                generation,
                failure,
                partial,
            } => {
                self.reload_ends(generation, Some((failure, partial)));
            }
            Note::NoSuchSlot(slot) => {
                self.refuse(["there is no slot ", &slot.to_string()].concat());
            }
            Note::ScaleRefused(stays) => {
                let stays = stays.to_string();
                self.refuse(["at its bound: the number of workers stays ", &stays].concat());
            }
            Note::Ready { .. }
            | Note::Replaced(_)
            | Note::Killed(_)
            | Note::Late(..)
            | Note::Renewing(..)
            | Note::RestartIn { .. }
            | Note::RestartHeld { .. }
            | Note::SpawnRetryIn { .. }
            | Note::RenewalFailed { .. }
            | Note::Scaled(_)
            | Note::ShutdownIn(_)
            | Note::GivingUp(_)
            | Note::CannotRun(_)
            | Note::Backgrounded(_)
            | Note::Unkillable(_)
            | Note::ShrinkIn(..)
            | Note::DelaySkipped
            | Note::NextRequestKills
            | Note::Forced
            | Note::Draining { .. } => {}
        }
    }

    fn refuse(&mut self, why: String) {
        if self.control.asker.is_some() {
            self.control.refused = Some(why);
        }
    }

    /// Keeps in mind how a worker ended that nobody had asked to.
    fn keep(&mut self, worker: WorkerId, end: End) {
        let is_it = |view: &&crate::supervisor::View| {
            let doing = matches!(view.doing, Doing::Starting | Doing::Ready);
            view.worker == Some(worker) && doing
        };
        // The core has decided already that a hung one is to go.
        let slot = match end {
            End::Hung => self.workers.get(worker).map(|worker| worker.slot),
            End::Exit(_) | End::CannotRun(_) => {
                let views = self.supervisor.views();
                views.iter().find(is_it).map(|view| view.slot)
            }
        };
        if let Some(slot) = slot.filter(|_| self.control.listener.is_some()) {
            self.control
                .histories
                .insert_if_new(slot, History::default());
            if let Some(history) = self.control.histories.get_mut(&slot) {
                history.restarts = history.restarts.saturating_add(1);
                history.last = Some(end);
            }
        }
    }

    /// The beginning of an event of a worker; none where nobody listens.
    fn of_worker(&self, name: &str, id: WorkerId) -> Option<Object> {
        let worker = self.workers.get(id).filter(|_| self.has_listeners())?;
        let of = of_slot(name, worker.slot);
        let of = of.number("pid", u64::from(worker.pid.unsigned_abs()));
        Some(of.number("generation", u64::from(worker.generation)))
    }

    /// Whether anybody wants to hear what happens.
    fn has_listeners(&self) -> bool {
        !self.control.with_role(listens).is_empty()
    }

    /// Tells those who listen, and those who follow a reload.
    fn tell(&mut self, line: Option<Object>) {
        if let Some(line) = line.map(Object::finish) {
            for id in self.control.with_role(listens) {
                self.send(id, &line);
            }
        }
    }
}

fn listens(role: Role) -> bool {
    matches!(role, Role::Events | Role::Reload(_))
}
