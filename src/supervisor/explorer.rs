//! Every event in every reachable state of small configurations.
//!
//! A breadth-first search over whole supervisors. Deadlines are kept relative
//! to now and workers are renumbered, so that states which behave alike are
//! one. The events are not limited to what a sane system would send: a worker
//! may be ready after it exited, and exit twice. What is asserted of each
//! transition is the invariants of `mod.rs`, by number; a violation is printed
//! with the shortest path of events that leads to it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::discriminant;
use std::time::Duration;

use super::app::KILL_TIMEOUT;
use super::policy::{Mode, Policy, Ready, Restart};
use super::slot::{Next, Slot, State};
use super::tests::policy;
use super::{
    Action, Arrival, Event, Exit, Now, Phase, Signal, SpawnError, Supervisor, Time, WorkerId,
};

/// The unit of every duration in the configurations, and the step of time.
const STEP: Duration = Duration::from_secs(1);

/// What can happen in a state: time passes, or an event comes.
#[derive(Clone, Copy, Debug)]
enum Move {
    Wait,
    Take(Event),
}

#[derive(Debug)]
struct Violation {
    invariant: u8,
    what: String,
}

type Checked = Result<(), Violation>;

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

/// Where every search stands: time itself carries no information.
const NOW: Time = Time::from_millis(1_000_000);

fn now_at(time: Time) -> Now {
    Now { time, entropy: 0 }
}

// ---- one representative for states that behave alike ----

/// Moves every deadline back by `elapsed`; a deadline that has passed, however
/// long ago, is due at `NOW`.
fn after(supervisor: &Supervisor, elapsed: Duration) -> Supervisor {
    let shift = |time: &mut Time| *time = (*time - elapsed).max(NOW);
    let mut supervisor = supervisor.clone();
    match &mut supervisor.phase {
        Phase::Serving | Phase::Over => {}
        Phase::Leaving { until } => shift(until),
        Phase::Draining { exit_by } => shift(exit_by),
        Phase::Sweeping { kill_at } => shift(kill_at),
        Phase::Killing { give_up_at } => shift(give_up_at),
    }
    for app in &mut supervisor.apps {
        app.obeying_until = app
            .obeying_until
            .map(|until| until - elapsed)
            .filter(|&until| until > NOW);
        for slot in &mut app.slots {
            match &mut slot.state {
                State::Spawning { .. } => {}
                State::Starting {
                    ready_at, aged_at, ..
                } => {
                    // How long ago a deadline passed matters to a silent
                    // worker's proof alone, which `min_uptime` bounds.
                    if let Some(ready_at) = ready_at {
                        *ready_at = (*ready_at - elapsed).max(NOW - app.policy.min_uptime);
                    }
                    shift(aged_at);
                }
                State::Ready { proven_at, .. } => shift(proven_at),
                State::Draining { kill_at, .. } => shift(kill_at),
                State::Killed { gone_by, .. } => shift(gone_by),
                State::Leftover { until, next, .. } => {
                    shift(until);
                    match next {
                        Next::Retry { retry_at } | Next::Hold { retry_at } => shift(retry_at),
                        Next::Stop | Next::Fail => {}
                    }
                }
                State::Backoff { retry_at } | State::Held { retry_at } => shift(retry_at),
                State::Stopped | State::Failed => {}
            }
        }
    }
    supervisor
}

/// Gives the workers the lowest numbers, in the order of their slots.
fn renumbered(mut supervisor: Supervisor) -> Supervisor {
    let mut next = 0;
    for slot in supervisor.apps.iter_mut().flat_map(|app| &mut app.slots) {
        match &mut slot.state {
            State::Spawning { worker }
            | State::Starting { worker, .. }
            | State::Ready { worker, .. }
            | State::Draining { worker, .. }
            | State::Killed { worker, .. }
            | State::Leftover { worker, .. } => {
                *worker = WorkerId(next);
                next += 1;
            }
            State::Backoff { .. } | State::Held { .. } | State::Stopped | State::Failed => {}
        }
    }
    supervisor.next_worker = next;
    supervisor
}

fn slots(supervisor: &Supervisor) -> impl Iterator<Item = &Slot> {
    supervisor.apps.iter().flat_map(|app| &app.slots)
}

fn policy_of(supervisor: &Supervisor) -> &Policy {
    &supervisor.apps[0].policy
}

// ---- what can happen ----

fn moves(supervisor: &Supervisor) -> Vec<Move> {
    let mut moves = vec![
        Move::Wait,
        Move::Take(Event::DeadlineReached),
        Move::Take(Event::TreeGone),
    ];
    let signals = [
        (Signal::TERM, false),
        (Signal::HUP, false),
        (Signal::HUP, true),
        (Signal::TTIN, false),
        (Signal::TTOU, false),
        (Signal::TTOU, true),
        (Signal::TSTP, false),
        (Signal::CONT, false),
        (Signal::USR1, false),
        (Signal::CHLD, true),
    ];
    for (signal, from_kernel) in signals {
        moves.push(Move::Take(Event::Signal(Arrival {
            signal,
            value: None,
            from_kernel,
        })));
    }
    // One worker that nobody has: its news came late.
    let stale = WorkerId(u32::MAX);
    let workers = slots(supervisor).filter_map(|slot| slot.state.worker());
    for worker in workers.chain([stale]) {
        moves.extend(
            [
                Event::Executed(worker),
                Event::Ready(worker),
                Event::GroupGone(worker),
            ]
            .map(Move::Take),
        );
        let errors = [
            SpawnError::Exhausted,
            SpawnError::NotFound,
            SpawnError::NotExecutable,
            SpawnError::Setup,
        ];
        moves.extend(errors.map(|error| Move::Take(Event::SpawnFailed(worker, error))));
        let exit = |code, served, backgrounded| {
            let exit = Exit::Code(code);
            Move::Take(Event::Exited {
                worker,
                exit,
                served,
                backgrounded,
            })
        };
        moves.extend([
            exit(0, false, false),
            exit(3, false, false),
            exit(3, true, false),
            exit(0, false, true),
        ]);
    }
    moves
}

// ---- what must hold ----

struct Step<'a> {
    before: &'a Supervisor,
    event: Event,
    after: &'a Supervisor,
    actions: &'a [Action],
}

impl Step<'_> {
    fn check(&self) -> Checked {
        self.no_status_is_lost()?;
        self.one_worker_a_slot()?;
        self.nothing_spawned_while_stopping()?;
        self.draining_has_its_deadline()?;
        self.end_is_earned()?;
        self.listeners_outlive_the_delay()?;
        self.restarts_are_bounded()?;
        self.memory_is_bounded()
    }

    fn spawned(&self) -> impl Iterator<Item = (WorkerId, u32)> {
        self.actions.iter().filter_map(|action| match *action {
            Action::Spawn { worker, slot, .. } => Some((worker, slot)),
            Action::Signal { .. }
            | Action::SuspendSelf
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
        let was_running = slots(self.before).any(|slot| slot.state.running() == Some(worker));
        let runs = slots(self.after).any(|slot| slot.state.running() == Some(worker));
        holds(!runs, 1, || format!("{worker:?} runs after its exit"))?;
        holds(
            !was_running || self.after.apps[0].last_status == Some(exit.status()),
            1,
            || format!("the status of {worker:?} is lost"),
        )
    }

    fn one_worker_a_slot(&self) -> Checked {
        for (worker, number) in self.spawned() {
            let same = slots(self.after)
                .filter(|slot| slot.state.worker() == Some(worker))
                .count();
            holds(same == 1, 2, || format!("{worker:?} is in {same} slots"))?;
            let Some(before) = self.before.apps[0].slots.get(number as usize) else {
                continue;
            };
            let Some(old) = before.state.worker() else {
                continue;
            };
            // Its predecessor's group is gone, never was, or hangs for good.
            let gone = match self.event {
                Event::GroupGone(gone) | Event::SpawnFailed(gone, _) => gone == old,
                Event::DeadlineReached => matches!(
                    before.state,
                    State::Killed { .. } | State::Leftover { killed: true, .. }
                ),
                Event::Signal(_)
                | Event::Executed(_)
                | Event::Ready(_)
                | Event::Exited { .. }
                | Event::TreeGone => false,
            };
            holds(gone, 2, || {
                format!("{worker:?} runs beside {old:?} in slot {number}")
            })?;
        }
        Ok(())
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
        for (number, slot) in slots(self.after).enumerate() {
            let State::Draining { worker, kill_at } = slot.state else {
                continue;
            };
            let latest = match slots(self.before).nth(number).map(|slot| slot.state) {
                Some(State::Draining {
                    kill_at,
                    worker: same,
                }) if same == worker => kill_at,
                _ => NOW + grace,
            };
            holds(kill_at <= latest, 5, || {
                format!("{worker:?} is killed {:?} late", kill_at.since(latest))
            })?;
            holds(
                self.after
                    .next_deadline()
                    .is_some_and(|next| next <= kill_at),
                5,
                || format!("nobody wakes to kill {worker:?}"),
            )?;
        }
        Ok(())
    }

    /// Whether this event asks for the end, or its delay is over.
    fn end_was_asked_for(&self) -> bool {
        match (self.event, self.before.phase) {
            (Event::Signal(arrival), _) => {
                matches!(arrival.signal, Signal::TERM)
                    || (arrival.signal == Signal::HUP && arrival.from_kernel)
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
                    State::Spawning { worker } | State::Starting { worker, .. } => {
                        own != Some(worker) && slot.failures < most && self.before.apps[0].ran
                    }
                    State::Backoff { .. } => slot.failures < most && self.before.apps[0].ran,
                    _ => false,
                };
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
        let asked = matches!(self.event, Event::Signal(arrival) if arrival.signal == Signal::TERM);
        let delay = policy_of(self.before).drain_delay;
        let first = self.before.phase == Phase::Serving;
        holds(!(ends && first && asked && !delay.is_zero()), 7, || {
            "the first request closed the listeners at once".to_owned()
        })
    }

    fn restarts_are_bounded(&self) -> Checked {
        let policy = policy_of(self.before);
        for (_, number) in self.spawned() {
            let Some(slot) = self.before.apps[0].slots.get(number as usize) else {
                continue;
            };
            let due = match slot.state {
                State::Backoff { retry_at }
                | State::Held { retry_at }
                | State::Leftover {
                    next: Next::Retry { retry_at } | Next::Hold { retry_at },
                    ..
                } => retry_at <= NOW || !slot.wanted,
                // A worker that hangs in the kernel, or a slot wanted again.
                _ => true,
            };
            holds(due, 9, || {
                format!("slot {number} restarts before its backoff is over")
            })?;
        }
        let Event::Exited {
            worker,
            served: false,
            ..
        } = self.event
        else {
            return Ok(());
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
            if let State::Leftover {
                next: Next::Retry { retry_at },
                ..
            } = after.state
            {
                let counted = after.failures > before.failures
                    || (after.failures == before.failures && after.failures >= policy.max_restarts);
                holds(counted, 9, || {
                    format!("a failure of {worker:?} is not counted")
                })?;
                holds(retry_at >= NOW + policy.backoff_min, 9, || {
                    format!("{worker:?} failed and its slot restarts at once")
                })?;
            }
        }
        Ok(())
    }

    fn memory_is_bounded(&self) -> Checked {
        let policy = policy_of(self.after);
        let slots = slots(self.after).count();
        holds(slots <= policy.most_instances as usize, 10, || {
            format!("{slots} slots")
        })?;
        let actions = self.actions.len();
        holds(actions <= 4 * slots + 8, 10, || {
            format!("{actions} actions")
        })?;
        holds(self.before.phase != Phase::Over || actions == 0, 10, || {
            "it acts after its end".to_owned()
        })
    }
}

/// Left alone, with nothing but deadlines, a supervisor that is ending ends in
/// time, and one that serves has a worker in every slot that is to have one.
fn comes_to_rest(state: &Supervisor) -> Checked {
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
        let resting = slots(&supervisor)
            .filter(|slot| slot.wanted)
            .all(|slot| match slot.state {
                State::Spawning { .. }
                | State::Starting { .. }
                | State::Ready { .. }
                | State::Stopped
                | State::Failed => true,
                State::Draining { .. }
                | State::Killed { .. }
                | State::Leftover { .. }
                | State::Backoff { .. }
                | State::Held { .. } => false,
            });
        if supervisor.phase == Phase::Serving && resting {
            let nobody = slots(&supervisor).all(|slot| slot.state.worker().is_none());
            return holds(!nobody, 6, || "nothing runs, and clinit stays".to_owned());
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

// ---- the search ----

struct Search {
    states: Vec<Supervisor>,
    known: HashMap<Supervisor, usize>,
    /// The state and the move that each state was first reached by.
    reached_by: Vec<Option<(usize, Move)>>,
    transitions: u64,
}

impl Search {
    fn run(policy: Policy) -> Self {
        let start = renumbered(after(&Supervisor::new(policy), Duration::ZERO));
        let mut search = Self {
            states: vec![start.clone()],
            known: HashMap::from([(start, 0)]),
            reached_by: vec![None],
            transitions: 0,
        };
        let mut next = 0;
        while let Some(state) = search.states.get(next).cloned() {
            if let Err(violation) = comes_to_rest(&state) {
                search.report(next, None, &violation);
            }
            for step in moves(&state) {
                search.take(next, &state, step);
            }
            next += 1;
        }
        search
    }

    fn take(&mut self, index: usize, state: &Supervisor, step: Move) {
        self.transitions += 1;
        let reached = match step {
            Move::Wait => after(state, STEP),
            Move::Take(event) => {
                let mut reached = state.clone();
                let actions = reached.step(event, now_at(NOW));
                let checked = Step {
                    before: state,
                    event,
                    after: &reached,
                    actions: &actions,
                }
                .check();
                if let Err(violation) = checked {
                    self.report(index, Some(step), &violation);
                }
                after(&reached, Duration::ZERO)
            }
        };
        let reached = renumbered(reached);
        if let Entry::Vacant(entry) = self.known.entry(reached) {
            self.states.push(entry.key().clone());
            self.reached_by.push(Some((index, step)));
            entry.insert(self.states.len() - 1);
        }
    }

    fn report(&self, mut index: usize, last: Option<Move>, violation: &Violation) -> ! {
        let mut path: Vec<Move> = last.into_iter().collect();
        let state = &self.states[index];
        while let Some((previous, step)) = self.reached_by[index] {
            path.push(step);
            index = previous;
        }
        let mut text = String::new();
        for step in path.iter().rev() {
            let _ = writeln!(text, "  {step:?}");
        }
        panic!(
            "invariant {} is violated: {}\nby these events:\n{text}in this state: {:?} {:#?}",
            violation.invariant,
            violation.what,
            state.phase,
            slots(state).collect::<Vec<_>>(),
        );
    }
}

/// Small in every number.
fn one_slot() -> Policy {
    Policy {
        instances: 1,
        most_instances: 1,
        ..policy()
    }
}

/// Smaller still, so that two of them stay explorable.
fn two_slots() -> Policy {
    Policy {
        instances: 2,
        most_instances: 2,
        ready: Ready::After(Duration::ZERO),
        min_uptime: STEP,
        backoff_min: STEP,
        backoff_max: STEP,
        max_restarts: 1,
        drain_delay: Duration::ZERO,
        grace: STEP,
        orphan_grace: Duration::ZERO,
        ..policy()
    }
}

/// Explores a configuration and requires it to meet so many kinds of slot
/// states, and every phase that its delays do not skip: what the explorer
/// never meets would be unexplored, not correct.
fn explore(name: &str, policy: Policy, slot_states: usize, phases: usize) {
    let search = Search::run(policy);
    let met: HashSet<_> = search
        .states
        .iter()
        .flat_map(slots)
        .map(|slot| discriminant(&slot.state))
        .collect();
    let met_phases: HashSet<_> = search
        .states
        .iter()
        .map(|state| discriminant(&state.phase))
        .collect();
    // Past the capture of the test harness: the counts are an answer.
    let _ = writeln!(
        std::io::stderr(),
        "explorer: {name}: {} states, {} transitions",
        search.states.len(),
        search.transitions,
    );
    assert_eq!(
        (met.len(), met_phases.len()),
        (slot_states, phases),
        "{name}"
    );
}

#[test]
fn init_mode_keeps_the_invariants() {
    let policy = Policy {
        mode: Mode::Init,
        restart: Restart::Never,
        ..one_slot()
    };
    explore("init mode", policy, 6, 4);
}

#[test]
fn one_slot_keeps_the_invariants() {
    // A single slot that is held ends it all: nobody sees it held.
    explore("one slot", one_slot(), 9, 6);
    let policy = Policy {
        ready: Ready::Notify,
        drain_delay: Duration::ZERO,
        ..one_slot()
    };
    explore("one slot, notify, no delay", policy, 9, 5);
    explore(
        "one slot, never",
        Policy {
            restart: Restart::Never,
            ..one_slot()
        },
        9,
        6,
    );
}

#[test]
fn two_slots_keep_the_invariants() {
    explore("two slots", two_slots(), 10, 4);
}

#[test]
fn two_slots_that_may_finish_keep_the_invariants() {
    let policy = Policy {
        restart: Restart::OnFailure,
        ..two_slots()
    };
    // A worker that leaves with 0 has finished: none is held.
    explore("two slots, on-failure", policy, 9, 4);
}
