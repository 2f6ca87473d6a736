//! Every event in every reachable state of small configurations.
//!
//! A breadth-first search over whole supervisors. Deadlines are kept relative
//! to now and workers are renumbered, so that states which behave alike are
//! one. The events are not limited to what a sane system would send: a worker
//! may be ready after it exited, and exit twice. What is asserted of each
//! transition is the invariants of `mod.rs`, by number; a violation is printed
//! with the shortest path of events that leads to it.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is asserted of some events and states is not of others"
)]

mod invariants;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::discriminant;
use std::time::Duration;

use super::policy::{Mode, Policy, Ready, Restart};
use super::slot::{Next, Slot, State};
use super::tests::policy;
use super::{
    Arrival, Event, Exit, Now, Phase, Served, Signal, SpawnError, Supervisor, Time, WorkerId,
};
use invariants::{Step, Violation, comes_to_rest};

/// The unit of every duration in the configurations, and the step of time.
const STEP: Duration = Duration::from_secs(1);

/// What can happen in a state: time passes, or an event comes.
#[derive(Clone, Copy, Debug)]
enum Move {
    Wait,
    Take(Event),
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
        // It is forgotten once it is over and no slot waits for the others.
        let waits = |slot: &Slot| match slot.state {
            State::Held { .. } => true,
            State::Leftover { next, .. } => matches!(next, Next::Hold { .. }),
            _ => false,
        };
        let waiting = app.slots.iter().any(waits);
        app.obeying = app
            .obeying
            .filter(|obeying| waiting || obeying.until - elapsed > NOW);
        if let Some(obeying) = &mut app.obeying {
            shift(&mut obeying.until);
        }
        for slot in &mut app.slots {
            match &mut slot.state {
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
                State::Emptying {
                    stop_at, kill_at, ..
                } => {
                    shift(stop_at);
                    shift(kill_at);
                }
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
                State::Spawning { .. } | State::Stopped | State::Failed => {}
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
            | State::Emptying { worker, .. }
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
                Event::Emptied(worker),
                Event::SharingLost(worker),
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
        let exit = |code, served, awaited, backgrounded| {
            let exit = Exit::Code(code);
            Move::Take(Event::Exited {
                worker,
                exit,
                served,
                awaited,
                backgrounded,
            })
        };
        moves.extend([
            exit(0, Served::Unknown, false, false),
            exit(3, Served::Unknown, false, false),
            exit(3, Served::Unknown, true, false),
            exit(3, Served::Someone, false, false),
            exit(3, Served::Itself, false, false),
            exit(0, Served::Unknown, false, true),
        ]);
    }
    moves
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
        drain_delay: Duration::ZERO,
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
    explore("two slots", two_slots(), 11, 4);
}

#[test]
fn two_slots_that_may_finish_keep_the_invariants() {
    let policy = Policy {
        restart: Restart::OnFailure,
        ..two_slots()
    };
    // A worker that leaves with 0 has finished: none is held.
    explore("two slots, on-failure", policy, 10, 4);
}
