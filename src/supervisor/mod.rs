//! The pure core: `(Event, now)` in, actions and a next deadline out.
//!
//! It imports nothing of the system: no clock, no descriptor, no process id.
//! What an action brings about, and what fails about it, comes back as an
//! event.
//!
//! # Phases
//!
//! ```text
//!  serving ──▶ leaving ──▶ draining ──▶ sweeping ──▶ killing ──▶ over
//! ```
//!
//! *Serving*: dead workers are replaced. *Leaving*: a shutdown was asked for,
//! and the drain delay runs; everything is as before, so that clients which
//! a load balancer still sends are served. *Draining*: every worker has been
//! asked to stop. *Sweeping*: no worker is left, and what their trees left
//! behind has been told to go. *Killing*: that, too, has been killed.
//!
//! A slot's states are in `slot.rs`; `docs/states.md` has every state and
//! event, made by the code itself.
//!
//! # Invariants
//!
//! Each is asserted by the explorer, in every state that a small
//! configuration can reach, and cited by its number elsewhere.
//!
//! 1. An exited child is reaped in the loop turn that learns of it; no status
//!    is lost.
//! 2. A slot has at most one current worker (starting or ready), one successor
//!    within the surge, and one draining predecessor; the next replacement
//!    waits for that one.
//! 3. A predecessor drains only after its successor is ready and settled.
//! 4. Once workers are being stopped for good nothing is spawned.
//! 5. Every draining worker has a kill deadline, set when draining starts.
//! 6. Clinit exits only when every worker is reaped, or 1 s after KILL (a
//!    process in D state), and never while serving can go on.
//! 7. A listener lives until a shutdown's drain delay is over, whatever its
//!    workers do.
//! 8. A failed canary changes nothing.
//! 9. Restarts are bounded by backoff; giving up needs every slot to fail.
//! 10. No input makes clinit exit or block; memory is bounded.
#![forbid(unsafe_code)]

mod app;
mod ending;
mod event;
#[cfg(test)]
mod explorer;
mod job;
pub mod policy;
mod signal;
pub mod signals;
mod slot;
#[cfg(test)]
mod table;
mod time;
mod view;

use std::time::Duration;

use app::{App, Ended, KILL_TIMEOUT, Rest};
pub use event::{
    Action, Arrival, Cause, Event, Exit, Failure, Note, Outcome, Request, Scale, Served,
    SpawnError, Target, Wear, Whom, WorkerId,
};
pub use job::{Claim, Extent, Holder};
use policy::{Mode, Policy, Routes};
pub use signal::Signal;
use signals::Meaning;
use time::earlier;
pub use time::{Now, Time, millis};
pub use view::{Doing, View};

/// The signals that end a process which does not expect them, and are sent to
/// that end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// How far clinit's own life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Serving,
    Leaving { until: Time },
    Draining { exit_by: Time },
    Sweeping { kill_at: Time },
    Killing { give_up_at: Time },
    Over,
}

/// The core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Supervisor {
    mode: Mode,
    routes: Routes,
    apps: Vec<App>,
    phase: Phase,
    /// Why it ends, once it does.
    cause: Option<Cause>,
    /// How often a shutdown has been asked for: 0 to 3.
    requests: u8,
    /// Whether, in a shutdown, a worker had to be killed.
    killed: bool,
    /// Whether, in init mode, the child has stopped and was not continued
    /// since, as far as is known.
    suspended: bool,
    next_worker: u32,
}

/// One call of [`Supervisor::step`] under way.
struct Turn<'a> {
    now: Now,
    actions: Vec<Action>,
    next_worker: &'a mut u32,
}

impl Turn<'_> {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn note(&mut self, note: Note) {
        self.act(Action::Note(note));
    }

    fn signal(&mut self, worker: WorkerId, to: Target, signal: Signal) {
        self.act(Action::Signal {
            worker,
            to,
            signal,
            value: None,
        });
    }

    fn issue_worker_id(&mut self) -> WorkerId {
        let worker = WorkerId(*self.next_worker);
        *self.next_worker = self.next_worker.wrapping_add(1);
        worker
    }
}

impl Supervisor {
    /// A supervisor of one app, whose workers are due at once.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            mode: policy.mode,
            routes: policy.routes.clone(),
            apps: vec![App::new(0, policy)],
            phase: Phase::Serving,
            cause: None,
            requests: 0,
            killed: false,
            suspended: false,
            next_worker: 0,
        }
    }

    /// Takes one event in and returns what is to be done, in order.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        let mut next_worker = self.next_worker;
        let mut turn = Turn {
            now,
            actions: Vec::new(),
            next_worker: &mut next_worker,
        };
        self.take_in(event, &mut turn);
        self.move_on(event, &mut turn);
        if self.phase == Phase::Serving {
            self.each_app(|app| app.replace(&mut turn));
        }
        let actions = turn.actions;
        self.next_worker = next_worker;
        actions
    }

    /// When [`Event::DeadlineReached`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let mut next = match self.phase {
            Phase::Serving => None,
            Phase::Leaving { until } => Some(until),
            Phase::Draining { exit_by } => Some(exit_by),
            Phase::Sweeping { kill_at } => Some(kill_at),
            Phase::Killing { give_up_at } => Some(give_up_at),
            Phase::Over => return None,
        };
        for app in &self.apps {
            next = earlier(next, app.next_deadline());
        }
        next
    }

    /// Whether dead workers are replaced.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Leaving { .. })
    }

    /// Whether [`Event::Emptied`] is awaited of a worker.
    #[must_use]
    pub fn is_emptying(&self, worker: WorkerId) -> bool {
        self.apps.iter().any(|app| app.is_emptying(worker))
    }

    /// How many workers there are to be.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.apps.iter().map(App::wanted).sum()
    }

    fn take_in(&mut self, event: Event, turn: &mut Turn<'_>) {
        let serving = self.is_serving();
        match event {
            Event::DeadlineReached => self.pass_deadlines(turn),
            Event::Signal(arrival) => self.obey(arrival, turn),
            Event::Executed(worker) => self.each_app(|app| app.executed(worker, turn)),
            Event::Ready(worker) => self.each_app(|app| app.became_ready(worker, false, turn)),
            Event::SpawnFailed(worker, error) => {
                let mut fatal = None;
                self.each_app(|app| {
                    fatal = fatal.or(app.spawn_failed(worker, error, serving, turn));
                });
                if let (Some(error), true) = (fatal, serving) {
                    self.begin_drain(Cause::CannotRun(error), turn);
                }
            }
            Event::Exited {
                worker,
                exit,
                served,
                awaited,
                backgrounded,
            } => {
                let ended = Ended {
                    exit,
                    served,
                    awaited,
                    backgrounded,
                };
                self.each_app(|app| app.exited(worker, ended, serving, turn));
            }
            Event::Stopped(worker, by, holder) => self.stopped(worker, by, holder, turn),
            Event::NotStopped(by) => self.not_stopped(by, turn),
            Event::GroupGone(worker) => self.each_app(|app| app.group_gone(worker, turn)),
            Event::Alive(worker, timeout) => {
                self.each_app(|app| app.alive(worker, timeout, turn.now.time));
            }
            Event::Extended(worker, by) => {
                self.each_app(|app| app.extended(worker, by, turn.now.time));
            }
            Event::Hung(worker) if serving => self.each_app(|app| app.hung(worker, turn)),
            Event::Stopping(worker) if serving => self.each_app(|app| app.stopping(worker, turn)),
            Event::Worn(worker, wear) => self.each_app(|app| app.worn(worker, wear)),
            Event::Resized(to) if serving => self.each_app(|app| app.resized(to, turn)),
            Event::Asked(request) if serving => self.grant(request, turn),
            Event::Emptied(worker) => self.each_app(|app| app.emptied(worker, turn)),
            Event::SharingLost(worker) if serving => {
                self.each_app(|app| app.keep_only(worker, turn));
            }
            Event::SharingLost(_)
            | Event::Hung(_)
            | Event::Stopping(_)
            | Event::Resized(_)
            | Event::Asked(_) => {}
            Event::TreeGone => match self.phase {
                Phase::Sweeping { .. } | Phase::Killing { .. } => self.leave(turn),
                Phase::Serving | Phase::Leaving { .. } | Phase::Draining { .. } | Phase::Over => {}
            },
        }
    }

    /// Follows up on what the slots have come to.
    fn move_on(&mut self, event: Event, turn: &mut Turn<'_>) {
        match self.phase {
            // Who asks may take slots away, and brings none to rest.
            Phase::Serving | Phase::Leaving { .. }
                if matches!(
                    event,
                    Event::Signal(_) | Event::Asked(_) | Event::Resized(_)
                ) => {}
            Phase::Serving | Phase::Leaving { .. } => {
                let just_failed = matches!(event, Event::Exited { .. } | Event::SpawnFailed(..));
                let Some(rest) = self.rest(just_failed, turn.now.time) else {
                    return;
                };
                match rest {
                    Rest::Finished => self.begin_drain(Cause::Finished, turn),
                    Rest::Obeyed(signal) => self.begin_drain(Cause::Requested(signal), turn),
                    Rest::GaveUp => {
                        let failures = self.apps.iter().flat_map(|app| &app.slots);
                        let failures = failures.map(|slot| slot.failures).max();
                        turn.note(Note::GivingUp(failures.unwrap_or(0)));
                        self.begin_drain(Cause::GaveUp, turn);
                    }
                }
            }
            Phase::Draining { exit_by } if self.is_vacant() => self.begin_sweep(exit_by, turn),
            Phase::Draining { .. }
            | Phase::Sweeping { .. }
            | Phase::Killing { .. }
            | Phase::Over => {}
        }
    }

    /// What all apps amount to, where none of them can go on by itself.
    fn rest(&self, just_failed: bool, now: Time) -> Option<Rest> {
        let mut rests = self.apps.iter().map(|app| app.rest(just_failed, now));
        let first = rests.next()??;
        rests.try_fold(first, |worst, rest| {
            rest.map(|rest| if rest == Rest::GaveUp { rest } else { worst })
        })
    }

    fn is_vacant(&self) -> bool {
        self.apps.iter().all(App::is_vacant)
    }

    fn each_app(&mut self, act: impl FnMut(&mut App)) {
        self.apps.iter_mut().for_each(act);
    }

    // ---- signals ----

    fn obey(&mut self, arrival: Arrival, turn: &mut Turn<'_>) {
        let Arrival { signal, value, .. } = arrival;
        match self.routes.meaning(arrival, self.mode) {
            Meaning::Shutdown => self.request_shutdown(signal, turn),
            Meaning::Reload => self.grant_if_serving(Request::Reload, turn),
            Meaning::ScaleUp => self.grant_if_serving(Request::Scale(Scale::By(1)), turn),
            Meaning::ScaleDown => self.grant_if_serving(Request::Scale(Scale::By(-1)), turn),
            Meaning::Suspend => {
                self.each_app(|app| {
                    app.signal_groups(Signal::STOP, turn);
                    app.wait_for_no_life();
                });
                turn.act(Action::SuspendSelf);
            }
            Meaning::Resume => self.each_app(|app| app.signal_groups(Signal::CONT, turn)),
            // In init mode, without a child to have it: these ask for the end,
            // whatever the child would have got in their place.
            Meaning::Forward(other) if self.mode == Mode::Init && self.is_vacant() => {
                if ENDING.contains(&signal) || ENDING.contains(&other) {
                    self.request_shutdown(signal, turn);
                }
            }
            Meaning::Forward(Signal::CONT) if self.mode == Mode::Init => {
                self.continued(value, turn);
            }
            Meaning::Forward(other) => self.each_app(|app| app.forward(other, value, turn)),
            Meaning::Nothing => {}
        }
    }

    fn grant_if_serving(&mut self, request: Request, turn: &mut Turn<'_>) {
        if self.is_serving() {
            self.grant(request, turn);
        }
    }

    fn grant(&mut self, request: Request, turn: &mut Turn<'_>) {
        let leaving = self.phase != Phase::Serving;
        self.each_app(|app| match request {
            // A shutdown has been asked for, which wins.
            Request::Reload if leaving => turn.note(Note::ReloadFailed {
                generation: app.generation,
                failure: Failure::Shutdown,
                partial: false,
            }),
            Request::Reload => app.reload(turn),
            Request::Scale(scale) => app.scale(scale, turn),
            Request::Restart(whom) => app.restart(whom, turn),
            Request::Stop(whom) => app.stop(whom, turn),
            Request::Start(whom) => app.start(whom, turn),
            Request::Delete(slot) => app.delete(slot, turn),
            Request::Forward(signal, whom) => app.forward_to(whom, signal, turn),
        });
    }

    // ---- time ----

    fn pass_deadlines(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.time;
        if let Phase::Leaving { until } = self.phase
            && until <= now
        {
            self.begin_drain(self.cause.unwrap_or(Cause::Finished), turn);
        }
        let serving = self.is_serving();
        let mut killed = false;
        self.each_app(|app| killed |= app.pass_deadlines(turn));
        self.killed |= killed && !serving;
        match self.phase {
            // However late this comes, KILL has its second (invariant 6).
            Phase::Draining { exit_by } if killed => {
                self.phase = Phase::Draining {
                    exit_by: exit_by.max(now + KILL_TIMEOUT),
                };
            }
            Phase::Draining { exit_by } if exit_by <= now => self.begin_sweep(exit_by, turn),
            Phase::Sweeping { kill_at } if kill_at <= now => {
                self.kill_tree(now + KILL_TIMEOUT, turn);
            }
            Phase::Killing { give_up_at } if give_up_at <= now => self.leave(turn),
            Phase::Serving
            | Phase::Leaving { .. }
            | Phase::Draining { .. }
            | Phase::Sweeping { .. }
            | Phase::Killing { .. }
            | Phase::Over => {}
        }
    }

    fn longest(&self, of: fn(&Policy) -> Duration) -> Duration {
        let all = self.apps.iter().map(|app| of(&app.policy));
        all.max().unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests;
