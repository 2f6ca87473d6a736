//! What must hold of every transition, by the numbers of `supervisor/mod.rs`.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is asserted of some events and states is not of others"
)]

use super::{NOW, now_at, policy_of, slots};
use crate::supervisor::app::KILL_TIMEOUT;
use crate::supervisor::app::Progress;
use crate::supervisor::policy::{Meaning, Mode};
use crate::supervisor::slot::{Departing, Next, Slot, Stage, State, Successor, Trial};
use crate::supervisor::{
    Action, Event, Failure, Holder, Note, Phase, Served, Signal, Supervisor, Time, WorkerId,
};

#[derive(Debug)]
pub(super) struct Violation {
    pub(super) invariant: u8,
    pub(super) what: String,
}

pub(super) type Checked = Result<(), Violation>;

fn holds(condition: bool, invariant: u8, what: impl FnOnce() -> String) -> Checked {
    if condition {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            what: what(),
        })
    }
}

pub(super) struct Step<'a> {
    pub(super) before: &'a Supervisor,
    pub(super) event: Event,
    pub(super) after: &'a Supervisor,
    pub(super) actions: &'a [Action],
}

impl Step<'_> {
    pub(super) fn check(&self) -> Checked {
        self.no_status_is_lost()?;
        self.one_worker_a_slot()?;
        self.extras_are_within_the_surge()?;
        self.predecessors_are_replaced_first()?;
        self.a_failed_canary_changes_nothing()?;
        self.nothing_spawned_while_stopping()?;
        self.draining_has_its_deadline()?;
        self.end_is_earned()?;
        self.listeners_outlive_the_delay()?;
        self.restarts_are_bounded()?;
        self.the_only_one_stays_alone()?;
        self.the_ready_alone_are_admitted()?;
        self.a_terminal_alone_stops_it()?;
        self.memory_is_bounded()
    }

    fn spawned(&self) -> impl Iterator<Item = (WorkerId, u32)> {
        self.actions.iter().filter_map(|action| match *action {
            Action::Spawn { worker, slot, .. } => Some((worker, slot)),
            Action::Signal { .. }
            | Action::Admit(_)
            | Action::TurnAway(_)
            | Action::SuspendSelf
            | Action::StopJob { .. }
            | Action::LendTerminal(..)
            | Action::CloseListeners
            | Action::TermTree
            | Action::KillTree
            | Action::Note(_)
            | Action::Exit(_) => None,
        })
    }

    fn no_status_is_lost(&self) -> Checked {
        let (Event::Exited { worker, exit, .. }, true) =
            (self.event, self.before.phase != Phase::Over)
        else {
            return Ok(());
        };
        let was_unasked = slots(self.before).any(|slot| slot.state.current() == Some(worker));
        let runs = slots(self.after)
            .flat_map(Slot::running)
            .any(|of| of == worker);
        holds(!runs, 1, || format!("{worker:?} runs after its exit"))?;
        holds(
            !was_unasked || self.after.apps[0].last_status == Some(exit.status()),
            1,
            || format!("the status of {worker:?} is lost"),
        )
    }

    fn one_worker_a_slot(&self) -> Checked {
        for (worker, number) in self.spawned() {
            let same = slots(self.after)
                .flat_map(Slot::workers)
                .filter(|of| *of == worker)
                .count();
            holds(same == 1, 2, || format!("{worker:?} is in {same} slots"))?;
            let Some(before) = self.before.apps[0].slots.get(number as usize) else {
                continue;
            };
            let own = slots(self.after).any(|slot| slot.state.worker() == Some(worker));
            let Some(old) = before.state.worker().filter(|_| own) else {
                continue;
            };
            // Its predecessor's group is gone, never was, or hangs for good.
            let gone = match self.event {
                Event::GroupGone(gone) | Event::SpawnFailed(gone, _) => gone == old,
                Event::DeadlineReached => matches!(
                    before.state,
                    State::Departing {
                        departing: Departing {
                            stage: Stage::Killed { .. } | Stage::Leftover { killed: true, .. },
                            ..
                        },
                        ..
                    }
                ),
                _ => false,
            };
            holds(gone, 2, || {
                format!("{worker:?} runs beside {old:?} in slot {number}")
            })?;
        }
        Ok(())
    }

    fn extras_are_within_the_surge(&self) -> Checked {
        let extras: usize = slots(self.after).map(Slot::extras).sum();
        let most = policy_of(self.after).surge.beside(self.after.instances()) as usize;
        holds(extras <= most, 2, || format!("{extras} workers too many"))?;
        let crowded = slots(self.after).find(|slot| slot.extras() > 1);
        holds(crowded.is_none(), 2, || format!("too many in {crowded:?}"))
    }

    /// Who leaves beside a slot's worker has been replaced by a successor that
    /// had proven itself.
    fn predecessors_are_replaced_first(&self) -> Checked {
        for (before, after) in slots(self.before).zip(slots(self.after)) {
            let (Some(old), Some(departing)) = (before.state.worker(), after.departing) else {
                continue;
            };
            if departing.worker != old {
                continue;
            }
            let proven = match before.successor {
                Some(Successor {
                    worker,
                    trial: Trial::Settling { settled_at },
                    ..
                }) if settled_at <= NOW => Some(worker),
                // Where nothing is to settle, being ready is enough.
                Some(Successor { worker, .. }) if policy_of(self.before).settle.is_zero() => {
                    Some(worker)
                }
                _ => None,
            };
            holds(
                proven.is_some() && after.state.current() == proven,
                3,
                || format!("{old:?} is to leave for {:?}", before.successor),
            )?;
        }
        Ok(())
    }

    fn a_failed_canary_changes_nothing(&self) -> Checked {
        let failed = |action: &Action| {
            matches!(
                action,
                Action::Note(Note::ReloadFailed { partial: false, failure, .. })
                    if *failure != Failure::Shutdown
            )
        };
        let canary = self.before.apps[0]
            .roll
            .is_some_and(|roll| roll.progress == Progress::Canary);
        if !canary || !self.after.is_serving() || !self.actions.iter().any(failed) {
            return Ok(());
        }
        let of = |supervisor: &Supervisor| {
            let slots = slots(supervisor).map(|slot| (slot.wanted, slot.generation, slot.state));
            (supervisor.apps[0].generation, slots.collect::<Vec<_>>())
        };
        // Other deadlines may be due in the same turn.
        let same = match self.event {
            Event::DeadlineReached => of(self.before).0 == of(self.after).0,
            _ => of(self.before) == of(self.after),
        };
        holds(same, 8, || "a failed canary changed something".to_owned())
    }

    fn nothing_spawned_while_stopping(&self) -> Checked {
        let spawns = self.spawned().count();
        holds(self.after.is_serving() || spawns == 0, 4, || {
            format!("{spawns} spawned in {:?}", self.after.phase)
        })?;
        holds(
            self.before.is_serving() || !self.after.is_serving(),
            4,
            || "serving again after the end began".to_owned(),
        )
    }

    fn draining_has_its_deadline(&self) -> Checked {
        let grace = policy_of(self.after).grace;
        for after in slots(self.after).flat_map(departing) {
            let worker = after.worker;
            let Some(kill_at) = kill_deadline(after) else {
                continue;
            };
            let mut before = slots(self.before).flat_map(departing);
            let before = before.find(|before| before.worker == worker);
            let latest = before.and_then(kill_deadline).unwrap_or(NOW + grace);
            holds(kill_at <= latest, 5, || {
                format!("{worker:?} is killed {:?} late", kill_at.since(latest))
            })?;
            let woken = self.after.next_deadline();
            holds(woken.is_some_and(|next| next <= kill_at), 5, || {
                format!("nobody wakes to kill {worker:?}")
            })?;
        }
        Ok(())
    }

    /// Whether this event asks for the end, or its delay is over.
    fn end_was_asked_for(&self) -> bool {
        match (self.event, self.before.phase) {
            (Event::Signal(arrival), _) => {
                let is_init = self.before.mode == Mode::Init;
                let usually = |signal| {
                    signal == Signal::TERM
                        || (signal == Signal::HUP && (arrival.from_kernel || is_init))
                };
                match self.before.routes.of(arrival.signal) {
                    None => usually(arrival.signal),
                    Some(Meaning::Shutdown) => true,
                    Some(Meaning::Forward(other)) => {
                        is_init && (usually(arrival.signal) || usually(other))
                    }
                    Some(_) => false,
                }
            }
            (Event::DeadlineReached, Phase::Leaving { until }) => until <= NOW,
            _ => false,
        }
    }

    fn end_is_earned(&self) -> Checked {
        if self.before.is_serving() && !self.after.is_serving() && !self.end_was_asked_for() {
            let own = match self.event {
                Event::SpawnFailed(worker, _) | Event::Exited { worker, .. } => Some(worker),
                _ => None,
            };
            let most = policy_of(self.before).max_restarts;
            for slot in slots(self.before).filter(|slot| slot.wanted) {
                let serves = match slot.state {
                    State::Ready { worker, .. } => own != Some(worker),
                    State::Starting {
                        worker, aged_at, ..
                    } if aged_at <= NOW => own != Some(worker) && self.before.apps[0].ran,
                    State::Spawning { worker } | State::Starting { worker, .. } => {
                        own != Some(worker) && slot.failures < most && self.before.apps[0].ran
                    }
                    State::Backoff { .. } => slot.failures < most && self.before.apps[0].ran,
                    _ => false,
                };
                let tried = slot.successor.is_some_and(|it| Some(it.worker) != own);
                let serves = serves || (tried && self.before.apps[0].ran);
                holds(!serves, 6, || {
                    format!("the end began while {slot:?} could go on")
                })?;
            }
        }
        let exits = self
            .actions
            .iter()
            .any(|action| matches!(action, Action::Exit(_)));
        let waited = match self.before.phase {
            Phase::Killing { give_up_at } => give_up_at <= NOW,
            _ => false,
        };
        let vacant = self.after.is_vacant();
        holds(!exits || vacant || waited, 6, || {
            "a worker is not reaped".to_owned()
        })?;
        holds(
            exits == (self.after.phase == Phase::Over && self.before.phase != Phase::Over),
            6,
            || "clinit exits other than once".to_owned(),
        )
    }

    fn listeners_outlive_the_delay(&self) -> Checked {
        let closes = self
            .actions
            .iter()
            .filter(|action| **action == Action::CloseListeners)
            .count();
        let ends = self.before.is_serving() && !self.after.is_serving();
        holds(closes == usize::from(ends), 7, || {
            format!("listeners closed {closes} times")
        })?;
        let asked = matches!(self.event, Event::Signal(_)) && self.end_was_asked_for();
        let delay = policy_of(self.before).drain_delay;
        let first = self.before.phase == Phase::Serving;
        holds(!(ends && first && asked && !delay.is_zero()), 7, || {
            "the first request closed the listeners at once".to_owned()
        })
    }

    /// Whether somebody asks for workers to be started, or ended.
    fn is_asked_for(&self) -> bool {
        matches!(self.event, Event::Asked(_))
    }

    fn restarts_are_bounded(&self) -> Checked {
        let policy = policy_of(self.before);
        for (worker, number) in self.spawned() {
            let is_successor =
                slots(self.after).any(|slot| slot.successor.is_some_and(|it| it.worker == worker));
            let Some(slot) = self.before.apps[0].slots.get(number as usize) else {
                continue;
            };
            let due = match slot.state {
                State::Backoff { retry_at }
                | State::Held { retry_at }
                | State::Departing {
                    next: Next::Retry { retry_at } | Next::Hold { retry_at },
                    ..
                } => retry_at <= NOW || !slot.wanted || self.is_asked_for() || is_successor,
                // A worker that hangs in the kernel, or a slot wanted again.
                _ => true,
            };
            holds(due, 9, || {
                format!("slot {number} restarts before its backoff is over")
            })?;
        }
        let (worker, awaited) = match self.event {
            Event::Exited {
                worker,
                served: Served::Unknown,
                awaited,
                ..
            } => (worker, awaited),
            Event::Hung(worker) => (worker, false),
            _ => return Ok(()),
        };
        for (before, after) in slots(self.before).zip(slots(self.after)) {
            let early = match before.state {
                State::Spawning { .. } => true,
                State::Starting { ready_at, .. } => {
                    ready_at.is_none_or(|ready_at| ready_at + policy.min_uptime > NOW)
                }
                State::Ready { proven_at, .. } => proven_at > NOW,
                _ => false,
            };
            if !early || before.state.running() != Some(worker) {
                continue;
            }
            if let State::Departing {
                next: Next::Retry { retry_at },
                ..
            } = after.state
            {
                let counted = after.failures > before.failures
                    || (after.failures == before.failures
                        && after.failures >= policy.max_restarts.max(2));
                holds(counted, 9, || {
                    format!("a failure of {worker:?} is not counted")
                })?;
                // Whom clients wait for is tried at once, the first time.
                let due = if awaited && before.failures == 0 {
                    NOW
                } else {
                    NOW + policy.backoff_min
                };
                holds(retry_at >= due, 9, || {
                    format!("{worker:?} failed and its slot restarts at once")
                })?;
            }
        }
        Ok(())
    }

    /// Where the port cannot be shared only one slot is to have a worker, and
    /// no other starts one.
    fn the_only_one_stays_alone(&self) -> Checked {
        for (worker, number) in self.spawned() {
            let slot = slots(self.after).nth(number as usize);
            holds(slot.is_some_and(|slot| slot.wanted), 9, || {
                format!("{worker:?} starts in slot {number}, which is to have none")
            })?;
        }
        let Event::SharingLost(worker) = self.event else {
            return Ok(());
        };
        let mut before = slots(self.before).enumerate();
        let of_worker = before.find(|(_, slot)| slot.state.running() == Some(worker));
        let Some((own, slot)) = of_worker else {
            return Ok(());
        };
        let after = slots(self.after).enumerate();
        let left: Vec<usize> = after
            .filter(|(_, slot)| slot.wanted)
            .map(|(number, _)| number)
            .collect();
        // One that is being scaled away leaves the port to another.
        let alone = if slot.wanted {
            left == [own]
        } else {
            left.len() == 1
        };
        let alone = alone || !self.before.is_serving();
        holds(alone, 9, || {
            format!("{worker:?} cannot share, and others are to run")
        })
    }

    /// Who becomes ready is admitted, and who is to stop is turned away first.
    fn the_ready_alone_are_admitted(&self) -> Checked {
        for (before, after) in slots(self.before).zip(slots(self.after)) {
            let told = |action: Action| self.actions.contains(&action);
            match (before.state, after.state) {
                (State::Ready { .. }, State::Ready { .. }) => {}
                (_, State::Ready { worker, .. }) => holds(told(Action::Admit(worker)), 2, || {
                    format!("{worker:?} is ready and not admitted")
                })?,
                _ => {}
            }
            let current = before.state.current().into_iter();
            let successor = before.successor.map(|successor| successor.worker);
            for worker in current.chain(successor) {
                // Who is gone needs no word.
                let stays =
                    departing(after).any(|it| it.worker == worker && it.running().is_some());
                holds(!stays || told(Action::TurnAway(worker)), 3, || {
                    format!("{worker:?} is to stop and is given connections")
                })?;
            }
        }
        Ok(())
    }

    /// Clinit stands still for a child at a terminal, where somebody can see it,
    /// and for nobody else.
    fn a_terminal_alone_stops_it(&self) -> Checked {
        let stops = |action: &Action| matches!(action, Action::StopJob { .. });
        let may = matches!(
            self.event,
            Event::Stopped(worker, _, holder)
                if holder != Holder::Nobody
                    && policy_of(self.before).mode == Mode::Init
                    && slots(self.before).flat_map(Slot::running).any(|of| of == worker)
        );
        holds(may || !self.actions.iter().any(stops), 10, || {
            format!("{:?} stops clinit", self.event)
        })
    }

    fn memory_is_bounded(&self) -> Checked {
        let policy = policy_of(self.after);
        // Fewer may be allowed than there have been.
        let most = slots(self.before).count();
        let most = most.max(policy.most_instances as usize);
        let slots = slots(self.after).count();
        holds(slots <= most, 10, || format!("{slots} slots"))?;
        let actions = self.actions.len();
        holds(actions <= 12 * slots + 8, 10, || {
            format!("{actions} actions")
        })?;
        holds(self.before.phase != Phase::Over || actions == 0, 10, || {
            "it acts after its end".to_owned()
        })
    }
}

/// The workers of a slot that are on their way out.
fn departing(slot: &Slot) -> impl Iterator<Item = Departing> {
    let own = match slot.state {
        State::Departing { departing, .. } => Some(departing),
        _ => None,
    };
    own.into_iter().chain(slot.departing)
}

/// When a worker that has not been killed is.
fn kill_deadline(departing: Departing) -> Option<Time> {
    match departing.stage {
        Stage::Emptying { kill_at, .. } | Stage::Draining { kill_at } => Some(kill_at),
        Stage::Killed { .. } | Stage::Leftover { .. } => None,
    }
}

/// Left alone, with nothing but deadlines, a supervisor that is ending ends in
/// time, and one that serves has a worker in every slot that is to have one.
pub(super) fn comes_to_rest(state: &Supervisor) -> Checked {
    let latest = match state.phase {
        Phase::Serving | Phase::Leaving { .. } => None,
        Phase::Draining { exit_by } => Some(exit_by),
        Phase::Sweeping { kill_at } => Some(kill_at + KILL_TIMEOUT),
        Phase::Killing { give_up_at } => Some(give_up_at),
        Phase::Over => return Ok(()),
    };
    let bound = policy_of(state).grace.max(policy_of(state).orphan_grace) + KILL_TIMEOUT;
    holds(latest.is_none_or(|latest| latest <= NOW + bound), 6, || {
        format!("the end takes longer than {bound:?}")
    })?;
    // A deadline that is met late still gives KILL its second.
    let latest = latest.map(|latest| latest.max(NOW + KILL_TIMEOUT));
    let mut supervisor = state.clone();
    let mut now = NOW;
    for _ in 0..32 {
        let resting = slots(&supervisor).filter(|slot| slot.wanted).all(|slot| {
            slot.departing.is_none()
                && match slot.state {
                    State::Spawning { .. }
                    | State::Starting { .. }
                    | State::Ready { .. }
                    | State::Parked
                    | State::Stopped
                    | State::Failed => true,
                    State::Departing { .. } | State::Backoff { .. } | State::Held { .. } => false,
                }
        }) && supervisor.apps[0].roll.is_none()
            && supervisor.apps[0].shrink.is_none();
        if supervisor.phase == Phase::Serving && resting {
            let nobody = slots(&supervisor).all(|slot| slot.state.worker().is_none());
            let parked = slots(&supervisor).any(|slot| slot.state == State::Parked);
            return holds(!nobody || parked, 6, || {
                "nothing runs, and clinit stays".to_owned()
            });
        }
        if supervisor.phase == Phase::Over {
            return holds(latest.is_none_or(|latest| now <= latest), 6, || {
                format!("the end came {:?} late", now.since(latest.unwrap_or(now)))
            });
        }
        let Some(deadline) = supervisor.next_deadline() else {
            break;
        };
        now = now.max(deadline);
        let _ = supervisor.step(Event::DeadlineReached, now_at(now));
    }
    holds(false, 10, || "it waits for ever".to_owned())
}
