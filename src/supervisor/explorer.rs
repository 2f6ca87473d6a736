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
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::discriminant;
use std::time::Duration;

use super::app::App;
use super::policy::{Drain, Meaning, Mode, Policy, Ready, Restart, Routes, Surge, Target};
use super::slot::{Departing, Next, Renewal, Slot, Stage, State, Trial};
use super::tests::policy;
use super::{
    Arrival, Event, Exit, Holder, Now, Phase, Request, Scale, Served, Signal, SpawnError,
    Supervisor, Time, Wear, Whom, WorkerId,
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
            State::Departing { next, .. } => matches!(next, Next::Hold { .. }),
            _ => false,
        };
        let waiting = app.slots.iter().any(waits);
        app.obeying = app
            .obeying
            .filter(|obeying| waiting || obeying.until - elapsed > NOW);
        if let Some(obeying) = &mut app.obeying {
            shift(&mut obeying.until);
        }
        if let Some(shrink) = &mut app.shrink {
            shift(&mut shrink.at);
        }
        for slot in &mut app.slots {
            match &mut slot.state {
                State::Starting {
                    ready_at,
                    aged_at,
                    late_at,
                    ..
                } => {
                    // How long ago a deadline passed matters to a silent
                    // worker's proof alone, which `min_uptime` bounds.
                    if let Some(ready_at) = ready_at {
                        *ready_at = (*ready_at - elapsed).max(NOW - app.policy.min_uptime);
                    }
                    shift(aged_at);
                    late_at.iter_mut().for_each(shift);
                }
                State::Ready {
                    proven_at,
                    hung_at,
                    renewal,
                    ..
                } => {
                    shift(proven_at);
                    hung_at.iter_mut().for_each(shift);
                    if let Renewal::At { time, .. } = renewal {
                        shift(time);
                    }
                }
                State::Departing { departing, next } => {
                    shift_departing(departing, &shift);
                    match next {
                        Next::Retry { retry_at } | Next::Hold { retry_at } => shift(retry_at),
                        Next::Park | Next::Stop | Next::Fail => {}
                    }
                }
                State::Backoff { retry_at } | State::Held { retry_at } => shift(retry_at),
                State::Spawning { .. } | State::Parked | State::Stopped | State::Failed => {}
            }
            if let Some(successor) = &mut slot.successor {
                match &mut successor.trial {
                    Trial::Spawning { fail_at } => shift(fail_at),
                    Trial::Starting { ready_at, fail_at } => {
                        ready_at.iter_mut().for_each(shift);
                        shift(fail_at);
                    }
                    Trial::Settling { settled_at } => shift(settled_at),
                }
            }
            if let Some(departing) = &mut slot.departing {
                shift_departing(departing, &shift);
            }
        }
    }
    supervisor
}

fn shift_departing(departing: &mut Departing, shift: &impl Fn(&mut Time)) {
    match &mut departing.stage {
        Stage::Emptying { stop_at, kill_at } => {
            shift(stop_at);
            shift(kill_at);
        }
        Stage::Draining { kill_at } => shift(kill_at),
        Stage::Killed { gone_by } => shift(gone_by),
        Stage::Leftover { until, .. } => shift(until),
    }
}

/// Gives the workers the lowest numbers, in the order of their slots, and
/// likewise the generations in the order of their age.
fn renumbered(mut supervisor: Supervisor) -> Supervisor {
    let mut next = 0;
    let mut renumber = |worker: &mut WorkerId| {
        *worker = WorkerId(next);
        next += 1;
    };
    for slot in supervisor.apps.iter_mut().flat_map(|app| &mut app.slots) {
        match &mut slot.state {
            State::Spawning { worker }
            | State::Starting { worker, .. }
            | State::Ready { worker, .. }
            | State::Departing {
                departing: Departing { worker, .. },
                ..
            } => renumber(worker),
            State::Backoff { .. }
            | State::Held { .. }
            | State::Parked
            | State::Stopped
            | State::Failed => {}
        }
        if let Some(successor) = &mut slot.successor {
            renumber(&mut successor.worker);
        }
        if let Some(departing) = &mut slot.departing {
            renumber(&mut departing.worker);
        }
    }
    supervisor.next_worker = next;
    for app in &mut supervisor.apps {
        let mut known: Vec<u32> = generations(app).map(|generation| *generation).collect();
        known.sort_unstable();
        known.dedup();
        for generation in generations(app) {
            let rank = known.binary_search(generation).unwrap();
            *generation = u32::try_from(rank).unwrap();
        }
    }
    supervisor
}

fn generations(app: &mut App) -> impl Iterator<Item = &mut u32> {
    let slots = app.slots.iter_mut().flat_map(|slot| {
        let successor = slot.successor.iter_mut();
        let successor = successor.map(|successor| &mut successor.generation);
        successor.chain([&mut slot.generation])
    });
    let roll = app.roll.iter_mut().map(|roll| &mut roll.to);
    slots.chain(roll).chain([&mut app.generation])
}

fn slots(supervisor: &Supervisor) -> impl Iterator<Item = &Slot> {
    supervisor.apps.iter().flat_map(|app| &app.slots)
}

fn policy_of(supervisor: &Supervisor) -> &Policy {
    &supervisor.apps[0].policy
}

// ---- what can happen ----

/// What may happen in a search: all that there is would be too much for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Starts, exits and signals, with every trait that an exit may have.
    Lives,
    /// The same of slots beside each other, without what is alike for each.
    Neighbours,
    /// A reload, beside all that may be told of a worker then.
    Reloads,
    /// Reloads of several slots, beside plain exits and the end.
    Rolls,
    /// Reloads, while the number of workers changes.
    ReloadsAndScales,
    /// The CPUs become more and fewer.
    Resizes,
    /// Workers that are worn, hung, or leave by themselves.
    Wear,
    /// Slots that are stopped, started and restarted.
    Owner,
    /// Signals that mean something else than usual.
    Routes,
}

/// What stops a child, and whose the terminal may be then.
const JOB_SIGNALS: [Signal; 4] = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU];
const HOLDERS: [Holder; 4] = [Holder::Nobody, Holder::Own, Holder::Child, Holder::Other];

fn moves(supervisor: &Supervisor, theme: Theme) -> Vec<Move> {
    let mut events = vec![Event::DeadlineReached, Event::TreeGone];
    let signals: &[_] = match theme {
        Theme::Lives => &[
            (Signal::TERM, false),
            (Signal::HUP, true),
            (Signal::TTIN, false),
            (Signal::TTOU, false),
            (Signal::TTOU, true),
            (Signal::TSTP, false),
            (Signal::CONT, false),
            (Signal::USR1, false),
            (Signal::CHLD, true),
        ],
        Theme::Neighbours => &[
            (Signal::TERM, false),
            (Signal::TTIN, false),
            (Signal::TTOU, false),
            (Signal::USR1, false),
        ],
        Theme::Reloads | Theme::Rolls => &[(Signal::TERM, false), (Signal::HUP, false)],
        Theme::ReloadsAndScales => &[(Signal::HUP, false), (Signal::TTIN, false)],
        Theme::Resizes => &[(Signal::TERM, false)],
        Theme::Wear => &[(Signal::TERM, false), (Signal::TSTP, false)],
        Theme::Owner => &[(Signal::HUP, false)],
        Theme::Routes => &[
            (Signal::TERM, false),
            (Signal::USR1, false),
            (Signal::HUP, false),
            (Signal::HUP, true),
            (Signal::INT, true),
        ],
    };
    events.extend(signals.iter().map(|&(signal, from_kernel)| {
        Event::Signal(Arrival {
            signal,
            value: None,
            from_kernel,
        })
    }));
    match theme {
        Theme::Lives
        | Theme::Neighbours
        | Theme::Reloads
        | Theme::Rolls
        | Theme::Wear
        | Theme::Routes => {}
        Theme::ReloadsAndScales => events.push(Event::Asked(Request::Scale(Scale::By(-1)))),
        Theme::Resizes => events.extend([1, 2].map(Event::Resized)),
        Theme::Owner => {
            events.extend([
                Event::Asked(Request::Restart(Whom::Slot(0))),
                Event::Asked(Request::Stop(Whom::Slot(0))),
                Event::Asked(Request::Start(Whom::All)),
                Event::Asked(Request::Delete(1)),
                Event::Asked(Request::Forward(Signal::USR1, Whom::Slot(0))),
            ]);
        }
    }
    if policy_of(supervisor).mode == Mode::Init {
        events.extend(JOB_SIGNALS.map(Event::NotStopped));
    }
    // One worker that nobody has: its news came late.
    let stale = WorkerId(u32::MAX);
    let workers = slots(supervisor).flat_map(Slot::workers);
    for worker in workers.chain([stale]) {
        events.extend(news(worker, theme));
        if policy_of(supervisor).mode == Mode::Init {
            let stopped = |by| HOLDERS.map(|holder| Event::Stopped(worker, by, holder));
            events.extend(JOB_SIGNALS.into_iter().flat_map(stopped));
        }
    }
    [Move::Wait]
        .into_iter()
        .chain(events.into_iter().map(Move::Take))
        .collect()
}

/// What may be told of a worker.
fn news(worker: WorkerId, theme: Theme) -> Vec<Event> {
    let exit = |code, served, awaited, backgrounded| {
        let exit = Exit::Code(code);
        Event::Exited {
            worker,
            exit,
            served,
            awaited,
            backgrounded,
        }
    };
    let mut events = vec![
        Event::Ready(worker),
        Event::GroupGone(worker),
        exit(3, Served::Unknown, false, false),
    ];
    if matches!(
        theme,
        Theme::Lives | Theme::Neighbours | Theme::Reloads | Theme::Wear
    ) {
        events.extend([
            Event::Executed(worker),
            Event::Emptied(worker),
            Event::SpawnFailed(worker, SpawnError::NotFound),
        ]);
    }
    match theme {
        Theme::Lives => events.extend([
            Event::SharingLost(worker),
            Event::SpawnFailed(worker, SpawnError::Exhausted),
            Event::SpawnFailed(worker, SpawnError::NotExecutable),
            Event::SpawnFailed(worker, SpawnError::Setup),
            exit(0, Served::Unknown, false, false),
            exit(3, Served::Unknown, true, false),
            exit(3, Served::Someone, false, false),
            exit(3, Served::Itself, false, false),
            exit(0, Served::Unknown, false, true),
        ]),
        Theme::Neighbours => events.extend([
            Event::SharingLost(worker),
            exit(0, Served::Unknown, false, false),
            exit(3, Served::Someone, false, false),
            exit(0, Served::Unknown, false, true),
        ]),
        Theme::Reloads => events.extend([
            Event::SharingLost(worker),
            exit(0, Served::Unknown, false, true),
        ]),
        Theme::Wear => events.extend([
            Event::Alive(worker, Some(STEP)),
            Event::Alive(worker, None),
            Event::Hung(worker),
            Event::Stopping(worker),
            Event::Worn(worker, Wear::Memory),
            Event::Extended(worker, 2 * STEP),
        ]),
        Theme::Rolls | Theme::ReloadsAndScales | Theme::Resizes | Theme::Owner | Theme::Routes => {}
    }
    events
}

// ---- the search ----

struct Search {
    theme: Theme,
    states: Vec<Supervisor>,
    known: HashMap<Supervisor, usize>,
    /// The state and the move that each state was first reached by.
    reached_by: Vec<Option<(usize, Move)>>,
    transitions: u64,
}

impl Search {
    fn run(theme: Theme, policy: Policy) -> Self {
        let start = renumbered(after(&Supervisor::new(policy), Duration::ZERO));
        let mut search = Self {
            theme,
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
            for step in moves(&state, search.theme) {
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
        found(&format!(
            "invariant {} is violated: {}\nby these events:\n{text}in this state: {:?} {:#?}",
            violation.invariant,
            violation.what,
            state.phase,
            slots(state).collect::<Vec<_>>(),
        ));
    }
}

/// Fails the test; where a bug was planted, which one search is to find, also
/// those that are still under way.
fn found(violation: &str) -> ! {
    if std::env::var_os("CLINIT_PLANTED").is_some() {
        let _ = writeln!(std::io::stderr(), "{violation}");
        std::process::exit(1);
    }
    panic!("{violation}");
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

/// The kinds of what slots and workers have been seen to be.
fn kinds(slot: &Slot) -> Vec<String> {
    let name = |debug: String| {
        debug
            .split([' ', '{'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let state = match slot.state {
        State::Departing { departing, .. } => name(format!("{:?}", departing.stage)),
        state => name(format!("{state:?}")),
    };
    let successor = slot.successor.map(|it| name(format!("{:?}", it.trial)));
    let departing = slot.departing.map(|it| name(format!("{:?}", it.stage)));
    let successor = successor.map(|kind| format!("successor {kind}"));
    let departing = departing.map(|kind| format!("beside {kind}"));
    [state]
        .into_iter()
        .chain(successor)
        .chain(departing)
        .collect()
}

/// Explores a configuration and requires it to meet so many kinds of slot
/// states, and every phase that its delays do not skip: what the explorer
/// never meets would be unexplored, not correct.
fn explore(name: &str, theme: Theme, policy: Policy, slot_states: usize, phases: usize) {
    let search = Search::run(theme, policy);
    let met: BTreeSet<_> = search
        .states
        .iter()
        .flat_map(slots)
        .flat_map(kinds)
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
        "{name} {met:?}"
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
    let leaving = Policy {
        leaves_survivors: true,
        ..policy.clone()
    };
    explore("init mode", Theme::Lives, policy, 6, 4);
    explore("init mode, leaving survivors", Theme::Lives, leaving, 6, 2);
}

#[test]
fn one_slot_keeps_the_invariants() {
    // A single slot that is held ends it all: nobody sees it held.
    explore("one slot", Theme::Lives, one_slot(), 10, 6);
    let policy = Policy {
        ready: Ready::Notify,
        drain_delay: Duration::ZERO,
        ..one_slot()
    };
    explore("one slot, notify, no delay", Theme::Lives, policy, 10, 5);
    explore(
        "one slot, never",
        Theme::Lives,
        Policy {
            restart: Restart::Never,
            ..one_slot()
        },
        10,
        6,
    );
}

#[test]
fn two_slots_keep_the_invariants() {
    let policy = Policy {
        drain: Drain::Signal,
        ..two_slots()
    };
    explore("two slots", Theme::Neighbours, policy, 10, 4);
}

#[test]
fn two_slots_that_may_finish_keep_the_invariants() {
    let policy = Policy {
        restart: Restart::OnFailure,
        drain: Drain::Signal,
        ..two_slots()
    };
    // A worker that leaves with 0 has finished: none is held.
    explore("two slots, on-failure", Theme::Neighbours, policy, 9, 4);
}

/// What is quick where it is not what is looked into: a worker is ready at
/// once, and nobody is waited for.
fn quick() -> Policy {
    Policy {
        ready_timeout: Duration::ZERO,
        settle: Duration::ZERO,
        min_uptime: Duration::ZERO,
        max_restarts: 2,
        drain: Drain::Signal,
        ..two_slots()
    }
}

#[test]
fn a_reload_keeps_the_invariants() {
    explore("reloads, one slot", Theme::Reloads, one_slot(), 17, 6);
}

#[test]
fn reloads_of_two_slots_keep_the_invariants() {
    let policy = Policy {
        settle: STEP,
        ..quick()
    };
    explore("reloads, two slots", Theme::Rolls, policy, 12, 4);
}

#[test]
fn reloads_and_scaling_keep_the_invariants() {
    let policy = Policy {
        surge: Surge::Workers(2),
        ..quick()
    };
    explore(
        "reloads and scaling",
        Theme::ReloadsAndScales,
        policy,
        11,
        4,
    );
}

#[test]
fn resizes_keep_the_invariants() {
    explore("resizes", Theme::Resizes, quick(), 7, 4);
}

#[test]
fn worn_workers_keep_the_invariants() {
    let policy = Policy {
        max_lifetime: Some(2 * STEP),
        hang_timeout: Some(STEP),
        drain_delay: Duration::ZERO,
        ..one_slot()
    };
    explore("worn, one slot", Theme::Wear, policy, 17, 5);
}

#[test]
fn what_an_owner_asks_keeps_the_invariants() {
    explore("owner, two slots", Theme::Owner, quick(), 12, 4);
}

/// Who is told to shut down by a signal that is forwarded otherwise, to reload
/// by one that ends it, and to take nothing for a terminal's end.
#[test]
fn rerouted_signals_keep_the_invariants() {
    let mut routes = Routes::default();
    routes.set(Signal::USR1, Meaning::Shutdown);
    routes.set(Signal::TERM, Meaning::Reload);
    routes.set(Signal::HUP, Meaning::Nothing);
    routes.set(Signal::INT, Meaning::Forward(Signal::QUIT));
    let policy = Policy {
        routes: routes.clone(),
        forward_to: Target::Group,
        ..one_slot()
    };
    explore("routes, one slot", Theme::Routes, policy, 14, 6);
    routes.set(Signal::TERM, Meaning::Forward(Signal::USR1));
    let policy = Policy {
        mode: Mode::Init,
        restart: Restart::Never,
        drain_delay: Duration::ZERO,
        routes,
        forward_to: Target::Group,
        ..one_slot()
    };
    explore("routes, init mode", Theme::Routes, policy, 7, 5);
}
