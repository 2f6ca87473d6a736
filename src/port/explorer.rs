//! Every event in every reachable state of two slots, at one address or two.
//!
//! Beside the decisions runs a model of the kernel: its group, in the order of
//! `listen`, with the last taking the place of one that leaves, and the
//! program that it was told. What is asserted of each state is the invariants
//! of `mod.rs`, by number.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::lane::Lease;
use super::program::Program;
use super::program::tests::run;
use super::{Arrivals, Bind, LaneId, ListenerId, Ports, Sharing, Standing};
use crate::supervisor::{Time, WorkerId};

const NOW: Time = Time::from_millis(1_000_000);
const STEP: Duration = Duration::from_millis(250);
const SLOTS: u32 = 2;

/// What a search takes in: all of it at once is too much.
#[derive(Clone, Copy)]
struct Scope {
    ports: &'static [u16],
    /// Connections that wait.
    queues: bool,
    /// Turns, and queues that stand still.
    flow: bool,
    /// Workers that a signal stops.
    stops: bool,
    /// Sockets that are polled before they are bound.
    polled: bool,
    /// Sockets that a worker closes or shuts down while it lives.
    closes: bool,
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Move {
    Wait,
    Look,
    Start {
        slot: u32,
    },
    Bind {
        worker: WorkerId,
        port: u16,
        polled: bool,
    },
    Listen {
        worker: WorkerId,
        lane: LaneId,
    },
    Admit(WorkerId),
    TurnAway(WorkerId),
    Suspend(WorkerId, bool),
    Gone(WorkerId),
    Abandon {
        worker: WorkerId,
        lane: LaneId,
    },
    ShutDown(LaneId),
    Arrive(LaneId),
    Accept(LaneId),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Model {
    ports: Ports,
    /// The kernel's groups, by port.
    groups: BTreeMap<u16, Vec<LaneId>>,
    programs: BTreeMap<u16, Program>,
    /// Whether a connection waits.
    queues: BTreeMap<LaneId, u32>,
}

impl Model {
    fn new(sharing: Sharing, arrivals: Arrivals) -> Self {
        Self {
            ports: Ports::new(sharing, arrivals),
            groups: BTreeMap::new(),
            programs: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }

    fn moves(&self, scope: Scope) -> Vec<Move> {
        let mut moves = Vec::new();
        if scope.flow {
            moves.extend([Move::Wait, Move::Look]);
        }
        for slot in 0..SLOTS {
            if !self
                .ports
                .workers
                .values()
                .any(|worker| worker.slot == slot)
            {
                moves.push(Move::Start { slot });
            }
        }
        // One that nobody knows: its news came late.
        let stale = WorkerId::from_index(99);
        for worker in self.ports.workers.keys().copied().chain([stale]) {
            moves.extend([
                Move::Admit(worker),
                Move::TurnAway(worker),
                Move::Gone(worker),
            ]);
            if scope.stops {
                moves.extend([true, false].map(|stopped| Move::Suspend(worker, stopped)));
            }
            for &port in scope.ports {
                let kinds = [false, true]
                    .into_iter()
                    .filter(|polled| !polled || scope.polled);
                moves.extend(kinds.map(|polled| Move::Bind {
                    worker,
                    port,
                    polled,
                }));
            }
            let lanes = self.ports.lanes_of(worker);
            moves.extend(lanes.iter().map(|&lane| Move::Listen { worker, lane }));
            if scope.closes {
                moves.extend(lanes.into_iter().map(|lane| Move::Abandon { worker, lane }));
            }
        }
        for lane in self.ports.listening() {
            if scope.queues {
                moves.extend([Move::Arrive(lane), Move::Accept(lane)]);
            }
            if scope.closes {
                moves.push(Move::ShutDown(lane));
            }
        }
        moves
    }

    fn take(&mut self, step: Move, scope: Scope) -> Result<(), String> {
        let queues = self.queues.clone();
        let queued = move |lane: LaneId| queues.get(&lane).copied().unwrap_or(0);
        let ports = &mut self.ports;
        match step {
            Move::Wait => self.wait(),
            Move::Look => ports.look(NOW, &queued),
            Move::Start { slot } => ports.starting(WorkerId::from_index(slot), slot),
            Move::Bind {
                worker,
                port,
                polled,
            } => self.bind(worker, port, polled, &queued)?,
            Move::Listen { worker, lane } => {
                if ports.is_bound(lane) {
                    let of = ports.listener_of(lane).unwrap().address.port();
                    ports.joins_group(lane);
                    self.groups.entry(of).or_default().push(lane);
                }
                if !scope.flow {
                    let _ = self.ports.listened(worker, Some(lane));
                }
            }
            Move::Admit(worker) => {
                for lane in ports.admit(worker, &queued) {
                    self.retire(lane)?;
                }
            }
            Move::TurnAway(worker) => ports.turn_away(worker),
            Move::Suspend(worker, suspended) => ports.suspend(worker, suspended),
            Move::Gone(worker) => {
                let _ = ports.gone(worker);
            }
            Move::Abandon { worker, lane } => {
                ports.abandoned(worker, lane);
                if ports.listening().any(|known| known == lane) && queued(lane) == 0 {
                    self.retire(lane)?;
                }
            }
            Move::ShutDown(lane) => {
                ports.revived(lane);
                self.queues.remove(&lane);
                for group in self.groups.values_mut() {
                    if let Some(index) = group.iter().position(|known| *known == lane) {
                        group.swap_remove(index);
                        group.push(lane);
                    }
                }
            }
            // Of what stands still only a look can tell.
            Move::Arrive(lane) if !scope.flow => {
                self.queues.insert(lane, 1);
            }
            Move::Arrive(lane) => {
                self.queues.insert(lane, 1);
                let queued = |of| if of == lane { 1 } else { queued(of) };
                self.ports.arrived(lane, NOW, &queued);
            }
            Move::Accept(lane) => {
                self.queues.remove(&lane);
            }
        }
        self.settle();
        self.check()
    }

    fn wait(&mut self) {
        let shift = |time: &mut Time| *time = (*time - STEP).max(NOW);
        for listener in self.ports.listeners.values_mut() {
            listener.rotation.shift(shift);
            for lane in listener.lanes.iter_mut().chain(&mut listener.bound) {
                if let super::rotation::Flow::Still { stuck_at, .. } = &mut lane.flow {
                    shift(stuck_at);
                }
            }
        }
    }

    fn bind(
        &mut self,
        worker: WorkerId,
        port: u16,
        polled: bool,
        queued: &dyn Fn(LaneId) -> u32,
    ) -> Result<(), String> {
        let answer = self.ports.bind(worker, address(port), None, polled, queued);
        let free = self.free_lanes(port);
        match answer {
            Bind::Proceed | Bind::Again => {}
            Bind::Lend(lane) => {
                self.ports.lent(worker, lane);
                let longest = free.iter().map(|&lane| queued(lane)).max();
                let is_best = longest.is_none_or(|longest| queued(lane) == longest);
                require(is_best, 3, "a shorter queue was taken over")?;
            }
            Bind::Join { first } => {
                require(polled || free.is_empty(), 3, "a lane is free")?;
                require(
                    !first || !self.ports.has_port(port),
                    1,
                    "it is not the first",
                )?;
                let _ = self.ports.joined(worker, address(port));
                if polled {
                    for lane in self.ports.passed_over(worker, address(port)) {
                        self.retire(lane)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn free_lanes(&self, port: u16) -> Vec<LaneId> {
        let listeners = self.ports.listeners.values();
        let here = listeners.filter(|listener| listener.address == address(port));
        let lanes = here.flat_map(|listener| &listener.lanes);
        lanes
            .filter(|lane| matches!(lane.lease, Lease::Free(_)))
            .map(|lane| lane.id)
            .collect()
    }

    /// As the shell does: a program without the lane, the close, and then one
    /// that is right again.
    fn retire(&mut self, lane: LaneId) -> Result<(), String> {
        self.ports.retiring(lane);
        self.settle();
        for (port, group) in &mut self.groups {
            let before = group.clone();
            let Some(index) = group.iter().position(|known| *known == lane) else {
                continue;
            };
            group.swap_remove(index);
            let program = self.programs.get(port).into_iter();
            for index in program.flat_map(indices) {
                let (was, is) = (before.get(index as usize), group.get(index as usize));
                let right = group.is_empty() || (was != Some(&lane) && (is.is_none() || is == was));
                require(right, 4, "a program means another lane while one is closed")?;
            }
        }
        self.ports.retire(lane);
        self.queues.remove(&lane);
        self.settle();
        Ok(())
    }

    /// Tells the kernel what it is to be told.
    fn settle(&mut self) {
        let queues = self.queues.clone();
        let queued = move |lane: LaneId| queues.get(&lane).copied().unwrap_or(0);
        for (lane, program) in self.ports.due_programs(NOW, &queued) {
            let of = self.ports.listener_of(lane).unwrap().address.port();
            self.programs.insert(of, program);
        }
        self.groups.retain(|_, group| !group.is_empty());
        let groups = &self.groups;
        self.programs.retain(|port, _| groups.contains_key(port));
    }

    fn check(&self) -> Result<(), String> {
        for listener in self.ports.listeners.values() {
            let own: Vec<_> = listener.lanes.iter().map(|lane| lane.id).collect();
            let group = self.groups.get(&listener.address.port());
            let group = group.cloned().unwrap_or_default();
            require(own == group, 4, "the order is not the kernel's")?;
            for &worker in self.ports.workers.keys() {
                let held = listener.all().filter(|lane| lane.lease.is_to(worker));
                require(held.count() <= 1, 1, "a worker has two lanes")?;
            }
            let lanes = listener.all().count();
            require(lanes <= 2 * SLOTS as usize, 5, "there are ever more lanes")?;
            require(listener.all().next().is_some(), 5, "a listener has no lane")?;
            self.check_targets(listener)?;
        }
        let most = 2 * SLOTS as usize;
        require(self.ports.listeners.len() <= most, 5, "ever more listeners")
    }

    /// Invariant 2, by what the kernel does with its program.
    fn check_targets(&self, listener: &super::Listener) -> Result<(), String> {
        let Some(program) = self.programs.get(&listener.address.port()) else {
            return require(listener.lanes.len() < 2, 2, "there is no program");
        };
        let standing = |lane: &super::Lane| match &lane.lease {
            Lease::Free(_) | Lease::Retiring => None,
            Lease::Shared(_) => Some(Standing::Admitted),
            Lease::To(worker) => {
                let worker = self.ports.workers.get(worker);
                worker
                    .filter(|worker| !worker.suspended)
                    .map(|worker| worker.standing)
            }
        };
        let any = |wanted| {
            listener
                .lanes
                .iter()
                .any(|lane| standing(lane) == Some(wanted))
        };
        for index in indices(program) {
            let lane = listener.lanes.get(index as usize);
            let Some(lane) = lane else {
                return require(false, 4, "an index is out of range");
            };
            let found = standing(lane);
            if any(Standing::Admitted) && found != Some(Standing::Admitted) {
                // Unless all that are ready take nothing.
                let stuck = |lane: &super::Lane| lane.flow.is_stuck(NOW);
                let ready = listener.lanes.iter();
                let mut ready = ready.filter(|lane| standing(lane) == Some(Standing::Admitted));
                require(
                    ready.all(stuck),
                    2,
                    "a lane that is not ready is given some",
                )?;
            } else if any(Standing::Starting) && !any(Standing::Admitted) {
                let starts = found == Some(Standing::Starting);
                require(starts, 2, "a lane without a worker is given some")?;
            }
        }
        Ok(())
    }

    /// Lanes and listeners with the lowest numbers.
    fn renumbered(&self) -> Self {
        let mut names = BTreeMap::new();
        let mut model = self.clone();
        let mut listeners: Vec<_> = model.ports.listeners.into_values().collect();
        listeners.sort_by_key(|listener| listener.address);
        for lane in listeners.iter().flat_map(super::Listener::all) {
            let next = LaneId(u32::try_from(names.len()).unwrap());
            names.insert(lane.id, next);
        }
        for listener in &mut listeners {
            let lanes = listener.lanes.iter_mut().chain(&mut listener.bound);
            lanes.for_each(|lane| lane.id = names[&lane.id]);
            listener.rotation.renumber(&names);
        }
        model.ports.next_lane = u32::try_from(names.len()).unwrap();
        model.ports.next_listener = u32::try_from(listeners.len()).unwrap();
        model.ports.listeners = (0..).map(ListenerId).zip(listeners).collect();
        for group in model.groups.values_mut() {
            group.iter_mut().for_each(|lane| *lane = names[lane]);
        }
        let queues = model.queues.into_iter();
        model.queues = queues
            .filter_map(|(lane, length)| Some((*names.get(&lane)?, length)))
            .collect();
        model
    }
}

fn require(holds: bool, invariant: u8, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("invariant {invariant} is violated: {what}"))
    }
}

fn indices(program: &Program) -> Vec<u32> {
    let instructions = program.instructions();
    let mut indices: Vec<_> = (0..16).map(|random| run(&instructions, random)).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

fn explore(name: &str, start: Model, scope: Scope) {
    let mut states = vec![start.clone()];
    let mut known = HashMap::from([(start, 0_usize)]);
    let mut reached_by: Vec<Option<(usize, Move)>> = vec![None];
    let mut transitions = 0_u64;
    let mut next = 0;
    while let Some(state) = states.get(next).cloned() {
        for step in state.moves(scope) {
            transitions += 1;
            let mut reached = state.clone();
            if let Err(violation) = reached.take(step, scope) {
                let mut path = vec![step];
                let mut index = next;
                while let Some((previous, step)) = reached_by[index] {
                    path.push(step);
                    index = previous;
                }
                let mut text = String::new();
                for step in path.iter().rev() {
                    let _ = writeln!(text, "  {step:?}");
                }
                panic!(
                    "{violation}\nby these events:\n{text}in this state: {:#?}",
                    reached.ports
                );
            }
            let reached = reached.renumbered();
            if !known.contains_key(&reached) {
                assert!(states.len() < MOST_STATES, "{name} is too large");
                known.insert(reached.clone(), states.len());
                states.push(reached);
                reached_by.push(Some((next, step)));
            }
        }
        next += 1;
    }
    let _ = writeln!(
        std::io::stderr(),
        "port explorer: {name}: {} states, {transitions} transitions",
        states.len(),
    );
}

const MOST_STATES: usize = 500_000;

const SMALL: Scope = Scope {
    ports: &[1],
    queues: true,
    flow: false,
    stops: false,
    polled: false,
    closes: false,
};

#[test]
fn two_addresses_keep_the_invariants() {
    let start = Model::new(Sharing::Lanes, Arrivals::Untold);
    let ports = &[1, 2];
    let scope = Scope {
        ports,
        queues: false,
        stops: true,
        ..SMALL
    };
    explore("two addresses", start, scope);
}

#[test]
fn sockets_that_are_polled_closed_and_shut_down_keep_the_invariants() {
    let start = Model::new(Sharing::Lanes, Arrivals::Untold);
    let scope = Scope {
        polled: true,
        closes: true,
        ..SMALL
    };
    explore("polled and closed", start, scope);
}

#[test]
fn turns_and_queues_that_stand_still_keep_the_invariants() {
    let start = Model::new(Sharing::Lanes, Arrivals::Told);
    explore(
        "turns",
        start,
        Scope {
            flow: true,
            ..SMALL
        },
    );
}

#[test]
fn one_queue_keeps_the_invariants() {
    let start = Model::new(Sharing::OneQueue, Arrivals::Untold);
    let scope = Scope {
        closes: true,
        ..SMALL
    };
    explore("one queue", start, scope);
}
