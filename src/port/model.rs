//! The kernel beside the decisions: its groups, in the order of `listen`, with
//! the last taking the place of one that leaves, and the programs that it was
//! told. It does what the shell does, and what holds of every state is asserted
//! by the numbers of `mod.rs`.

mod invariants;
mod moves;
mod normal;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::binding::INSPECTOR;
use super::lane::{Lane, Lease, Listener};
use super::program::Program;
use super::program::tests::run;
use super::rotation::Flow;
use super::standstill::Standstill;
use super::{Arrivals, Bind, LaneId, Ports, Sharing, Standing};
use crate::supervisor::{Time, WorkerId};
pub(super) use moves::{KINDS, Met, Move, Scope};

pub(super) const NOW: Time = Time::from_millis(1_000_000);

/// The step of time: every wait is over with one.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// One that nobody knows: its news came late.
fn stale() -> WorkerId {
    WorkerId::from_index(99)
}

/// Where a slot's next worker has to listen, by what was seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Example {
    /// The worker that sets it, while it is ready.
    by: Option<WorkerId>,
    at: BTreeSet<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Model {
    pub(super) ports: Ports,
    pub(super) now: Time,
    /// The kernel's groups, by port.
    groups: BTreeMap<u16, Vec<LaneId>>,
    programs: BTreeMap<u16, Program>,
    /// How many connections wait.
    queues: BTreeMap<LaneId, u32>,
    /// Sockets that listened and were shut down.
    silent: BTreeSet<LaneId>,
    /// Where each worker listens.
    heard: BTreeMap<WorkerId, BTreeSet<u16>>,
    examples: BTreeMap<u32, Example>,
    /// Suspected lanes that somebody has taken from since.
    moved: BTreeSet<LaneId>,
}

pub(super) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn require(holds: bool, invariant: u8, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("invariant {invariant} is violated: {what}"))
    }
}

impl Model {
    pub(super) fn new(sharing: Sharing, arrivals: Arrivals, scope: Scope) -> Self {
        let mut ports = Ports::new(sharing, arrivals);
        if scope.hangs {
            ports.find_hung(STEP, NOW);
        }
        if scope.own {
            ports.open(address(scope.ports[0]), sharing);
        }
        Self {
            ports,
            now: NOW,
            groups: BTreeMap::new(),
            programs: BTreeMap::new(),
            queues: BTreeMap::new(),
            silent: BTreeSet::new(),
            heard: BTreeMap::new(),
            examples: BTreeMap::new(),
            moved: BTreeSet::new(),
        }
    }

    pub(super) fn take(&mut self, step: Move, scope: Scope, met: &mut Met) -> Result<(), String> {
        let queued = self.queued();
        let ports = &mut self.ports;
        match step {
            Move::Wait => self.wait(),
            Move::Look => ports.look(self.now, &queued),
            Move::LookForHung => self.look_for_hung(met)?,
            Move::Excuse(worker, excused) => ports.excuse(worker, excused),
            Move::Start { worker, slot } => {
                ports.starting(worker, slot);
                if scope.own {
                    self.pass(worker, met);
                }
            }
            Move::Bind {
                worker,
                port,
                stays,
            } => self.bind((worker, port, stays), scope, met)?,
            Move::Listen { worker, lane } => self.listen(worker, lane, met)?,
            Move::Admit(worker) => {
                if let Some(of) = ports.workers.get(&worker)
                    && matches!(of.standing, Standing::Starting | Standing::Failing)
                {
                    let at = self.heard.get(&worker).cloned().unwrap_or_default();
                    let by = Some(worker);
                    self.examples.insert(of.slot, Example { by, at });
                }
                for lane in self.ports.admit(worker, &queued) {
                    self.retire(lane, met)?;
                }
            }
            Move::Exit(worker) => {
                ports.exited(worker);
                self.is_no_example(worker);
            }
            Move::TurnAway(worker) => {
                ports.turn_away(worker);
                self.is_no_example(worker);
            }
            Move::Suspend(worker, suspended) => ports.suspend(worker, suspended),
            Move::Gone(worker) => {
                let own = ports.lanes_of(worker);
                for lane in own {
                    self.revive(lane);
                }
                let ports = &mut self.ports;
                let bound: Vec<_> = ports.listeners.values().flat_map(|of| &of.bound).collect();
                let own = bound.iter().filter(|lane| lane.lease.is_to(worker));
                let own: Vec<_> = own.map(|lane| lane.id).collect();
                let dropped = ports.gone(worker);
                let known = dropped.iter().all(|lane| own.contains(lane));
                require(known, 1, "a lane of another is dropped")?;
                self.is_no_example(worker);
                self.heard.remove(&worker);
            }
            Move::Abandon { worker, lane } => self.abandon(worker, lane, met)?,
            Move::ShutDown(lane) => self.shut_down(lane),
            Move::Arrive(lane) => {
                let waiting = self.queues.entry(lane).or_default();
                *waiting = (*waiting + 1).min(scope.queues);
                let queued = self.queued();
                if scope.turns {
                    self.ports.arrived(lane, self.now, &queued);
                }
            }
            Move::Accept(lane) => {
                if let Some(waiting) = self.queues.get_mut(&lane) {
                    *waiting -= 1;
                    self.moved.insert(lane);
                }
                self.queues.retain(|_, waiting| *waiting > 0);
            }
        }
        self.look_at_doubtful()?;
        self.settle(met);
        Ok(())
    }

    fn queued(&self) -> impl Fn(LaneId) -> u32 + use<> {
        let queues = self.queues.clone();
        move |lane| queues.get(&lane).copied().unwrap_or(0)
    }

    fn port_of(&mut self, lane: LaneId) -> Option<u16> {
        let listener = self.ports.listener_of(lane);
        listener.map(|listener| listener.address.port())
    }

    fn wait(&mut self) {
        let shift = |time: &mut Time| *time = (*time - STEP).max(NOW);
        for listener in self.ports.listeners.values_mut() {
            listener.rotation.shift(shift);
            for lane in listener.lanes.iter_mut().chain(&mut listener.bound) {
                if let Flow::Still { stuck_at, .. } = &mut lane.flow {
                    shift(stuck_at);
                }
                if let Standstill::Noticed {
                    suspected_at: due, ..
                }
                | Standstill::Suspected { hung_at: due, .. } = &mut lane.standstill
                {
                    shift(due);
                }
            }
        }
    }

    /// Whoever takes nothing is looked at, and has what it has not closed.
    fn look_at_doubtful(&mut self) -> Result<(), String> {
        let doubtful = self.ports.doubtful(self.now);
        let known = |of: &WorkerId| self.ports.workers.contains_key(of);
        require(
            doubtful.iter().all(known),
            5,
            "one that is gone is looked at",
        )?;
        self.ports.held_after_all(self.now);
        let none = self.ports.doubtful(self.now).is_empty();
        require(none, 5, "whoever was looked at is looked at again")
    }

    /// As the shell does, which knows of each connection whether it was taken.
    fn look_for_hung(&mut self, met: &mut Met) -> Result<(), String> {
        let lanes = self.ports.listeners.values().flat_map(|it| &it.lanes);
        let mut still: Vec<Lane> = lanes.cloned().collect();
        still.retain(|lane| lane.standstill.is_suspected() && !self.moved.contains(&lane.id));
        let (queued, moved) = (self.queued(), self.moved.clone());
        let untouched = |lane| !moved.contains(&lane);
        self.ports.find_hung(STEP, self.now);
        let found = self.ports.look_for_hung(self.now, &queued, &untouched);
        for worker in found.hung {
            met.insert("look: hung");
            let own = still.iter().any(|lane| lane.lease.is_to(worker));
            let of = self.ports.workers.get(&worker);
            let stopped = of.is_some_and(|of| of.suspended);
            require(own || stopped, 7, "a worker that took some is hung")?;
            let ready = of.is_some_and(|of| of.standing == Standing::Admitted && !of.is_excused);
            require(ready, 7, "one that is not expected to take any is hung")?;
        }
        for lane in found.suspected {
            met.insert("look: suspected");
            self.moved.remove(&lane);
        }
        Ok(())
    }

    /// Whether the kernel may give a lane a connection.
    fn is_given(&self, lane: LaneId) -> bool {
        self.groups.iter().any(|(port, group)| {
            let index = group.iter().position(|known| *known == lane);
            index.is_some_and(|index| {
                let program = self.programs.get(port);
                program.is_none_or(|program| indices(program).contains(&index.try_into().unwrap()))
            })
        })
    }

    /// A lane of each listener of clinit's own for a worker that starts.
    fn pass(&mut self, worker: WorkerId, met: &mut Met) {
        let own = self.ports.listeners.iter().filter(|(_, of)| of.is_own);
        let own: Vec<_> = own.map(|(id, of)| (*id, of.address.port())).collect();
        let queued = self.queued();
        for (listener, port) in own {
            if self.ports.lease(worker, listener, &queued).is_none() {
                let lane = self.ports.made(listener);
                self.groups.entry(port).or_default().push(lane);
                self.meet(met);
                assert_eq!(self.ports.lease(worker, listener, &queued), Some(lane));
            }
        }
    }

    fn bind(
        &mut self,
        (worker, port, stays): (WorkerId, u16, bool),
        scope: Scope,
        met: &mut Met,
    ) -> Result<(), String> {
        let queued = self.queued();
        let held: Vec<_> = self.lanes_at(port, |lane| lane.lease.is_to(worker));
        let free = self.lanes_at(port, |lane| matches!(lane.lease, Lease::Free(_)));
        let at = address(port);
        let answer = self.ports.bind(worker, at, None, stays, &queued);
        let joins = match answer {
            Bind::Proceed => {
                met.insert("answer: proceed");
                let before = self.ports.listeners.clone();
                // What was under way for one that is gone.
                let _ = self.ports.joined(worker, at);
                for &lane in &free {
                    self.ports.lent(worker, lane);
                }
                let known = self.ports.workers.contains_key(&worker);
                let same = self.ports.listeners == before;
                require(!known && same, 5, "one that is gone is lent a lane")?;
                false
            }
            Bind::Again => {
                met.insert("answer: again");
                require(!held.is_empty(), 1, "it has not bound that before")?;
                let paired = self.ports.paired(worker, at);
                let pairs = self.pairs(port, worker);
                let right = paired.map_or(pairs.is_empty(), |lane| pairs.contains(&lane));
                let has_room = scope.several && held.len() < 2;
                require(
                    right || !has_room,
                    8,
                    "its next is not paired with its predecessor's",
                )?;
                if let Some(lane) = paired.filter(|_| has_room) {
                    met.insert("answer: lend its pair");
                    self.ports.lent(worker, lane);
                }
                has_room && paired.is_none()
            }
            Bind::Lend(lane) => {
                met.insert("answer: lend");
                let own = held.contains(&lane);
                let lessee = |lane: &Lane| matches!(lane.lease, Lease::To(_) | Lease::Passed(_));
                let taken = self.lanes_at(port, lessee).contains(&lane) && !own;
                require(!taken, 1, "a lane of another is lent")?;
                require(own || held.is_empty(), 1, "it has a lane")?;
                let is_best = self.bests(port, true).contains(&lane);
                let is_free = free.contains(&lane);
                require(!is_free || is_best, 3, "a shorter queue was taken over")?;
                self.ports.lent(worker, lane);
                false
            }
            Bind::Join { first } => {
                met.insert(if first {
                    "answer: join first"
                } else {
                    "answer: join"
                });
                let none = self.bests(port, true).is_empty();
                require(stays || none, 3, "a lane is free")?;
                let known = self.ports.at(at).is_some();
                require(first != known, 1, "it is, or is not, the first")?;
                true
            }
        };
        if joins {
            let before = free.len();
            let _ = self.ports.joined(worker, at);
            if answer != Bind::Again && (stays || before > 0) {
                for lane in self.ports.passed_over(worker, at) {
                    self.retire(lane, met)?;
                }
            }
        }
        Ok(())
    }

    /// The free lanes that a worker's next socket may be paired with, by what
    /// its sockets and those had in common.
    fn pairs(&self, port: u16, worker: WorkerId) -> Vec<LaneId> {
        let here = self.ports.at(address(port)).map(|(_, listener)| listener);
        let all: Vec<&Lane> = here.into_iter().flat_map(Listener::all).collect();
        let own = || all.iter().filter(|lane| lane.lease.is_to(worker));
        let place = u32::from(own().any(|lane| lane.place == 0));
        let bundle = own().map(|lane| lane.bundle).next();
        let pairs = all
            .iter()
            .filter(|lane| lane.is_free() && Some(lane.bundle) == bundle && lane.place == place);
        let listens = |lane: &&&Lane| self.ports.listening().any(|known| known == lane.id);
        pairs.filter(listens).map(|lane| lane.id).collect()
    }

    /// The free lanes that are taken over before any other, of equal ones all;
    /// to be lent, or only to be given connections.
    fn bests(&self, port: u16, lent: bool) -> Vec<LaneId> {
        let queued = self.queued();
        let here = self.ports.at(address(port)).map(|(_, listener)| listener);
        let all: Vec<&Lane> = here.into_iter().flat_map(Listener::all).collect();
        let beside = |lane: &Lane| {
            let bundle = lane.bundle;
            let mut beside: Vec<&Lane> = all.clone();
            beside.retain(|other| other.bundle == bundle);
            beside
        };
        let of_nobody = |lane: &Lane| beside(lane).iter().all(|other| !other.lease.is_held());
        let waiting = |lane: &Lane| -> u32 {
            let free = beside(lane).into_iter().filter(|other| other.is_free());
            free.map(|other| queued(other.id)).sum()
        };
        let mut free: Vec<&Lane> = all.iter().copied().filter(|lane| lane.is_free()).collect();
        free.retain(|lane| self.ports.listening().any(|known| known == lane.id));
        let may_be_lent = |lane: &&Lane| of_nobody(lane) || queued(lane.id) > 0;
        if lent || free.iter().any(may_be_lent) {
            free.retain(may_be_lent);
        }
        let any_of_nobody = free.iter().any(|lane| of_nobody(lane));
        free.retain(|lane| of_nobody(lane) == any_of_nobody);
        let most = free.iter().map(|lane| waiting(lane)).max();
        free.retain(|lane| Some(waiting(lane)) == most);
        free.into_iter().map(|lane| lane.id).collect()
    }

    fn lanes_at(&self, port: u16, which: impl Fn(&Lane) -> bool) -> Vec<LaneId> {
        let here = self.ports.at(address(port)).map(|(_, listener)| listener);
        let lanes = here.into_iter().flat_map(Listener::all);
        lanes.filter(|lane| which(lane)).map(|of| of.id).collect()
    }

    fn listen(
        &mut self,
        worker: WorkerId,
        lane: Option<LaneId>,
        met: &mut Met,
    ) -> Result<(), String> {
        let port = lane.and_then(|lane| self.port_of(lane));
        if let (Some(lane), Some(port)) = (lane, port)
            && self.ports.is_bound(lane)
        {
            self.ports.joins_group(lane);
            self.groups.entry(port).or_default().push(lane);
            self.silent.remove(&lane);
        }
        let Some(slot) = self.ports.workers.get(&worker).map(|worker| worker.slot) else {
            let shown = self.ports.listened(worker, lane);
            return require(!shown, 6, "one that is gone is ready");
        };
        let is_server = port != Some(INSPECTOR.port());
        let heard = self.heard.entry(worker).or_default();
        heard.extend(port.filter(|_| is_server));
        self.sets_example(worker);
        let heard = self.heard.get(&worker);
        let example = self.examples.get(&slot);
        let as_before = |example: &Example| heard.is_some_and(|at| example.at.is_subset(at));
        let is_ready = is_server && example.is_none_or(as_before);
        let shown = self.ports.listened(worker, lane);
        met.insert(if shown {
            "listen: ready"
        } else {
            "listen: not ready"
        });
        require(
            !shown || is_ready,
            6,
            "it does not listen where it has to, and is ready",
        )?;
        require(
            shown || !is_ready,
            6,
            "it listens wherever it has to, and is not ready",
        )
    }

    fn sets_example(&mut self, worker: WorkerId) {
        for example in self.examples.values_mut() {
            if example.by == Some(worker) {
                example.at = self.heard.get(&worker).cloned().unwrap_or_default();
            }
        }
    }

    fn is_no_example(&mut self, worker: WorkerId) {
        for example in self.examples.values_mut() {
            example.by = example.by.filter(|by| *by != worker);
        }
    }

    fn abandon(&mut self, worker: WorkerId, lane: LaneId, met: &mut Met) -> Result<(), String> {
        let Some(port) = self.port_of(lane) else {
            return Ok(());
        };
        let others = |ports: &Ports| {
            let lanes = ports.listeners.values().flat_map(Listener::all);
            let leases = lanes.map(|lane| {
                let holds = |of: &&WorkerId| **of != worker && lane.lease.is_to(**of);
                (lane.id, ports.workers.keys().filter(holds).count())
            });
            let held = leases.filter(|(_, held)| *held > 0);
            held.collect::<BTreeSet<_>>()
        };
        self.revive(lane);
        let before = others(&self.ports);
        self.ports.abandoned(worker, lane);
        let same = others(&self.ports) == before;
        require(same, 1, "another's lane is taken away")?;
        if self
            .lanes_at(port, |lane| lane.lease.is_to(worker))
            .is_empty()
            && let Some(heard) = self.heard.get_mut(&worker)
        {
            heard.remove(&port);
            self.sets_example(worker);
        }
        let own = self.ports.at(address(port)).is_some_and(|(_, l)| l.is_own);
        let listens = self.ports.listening().any(|known| known == lane);
        if listens && !own && !self.ports.is_held(lane) && self.queued()(lane) == 0 {
            self.retire(lane, met)?;
        }
        Ok(())
    }

    /// The worker's `shutdown`. What nobody has listens again at once; else the
    /// worker's `listen` makes it good, or clinit's, by the same move.
    fn shut_down(&mut self, lane: LaneId) {
        self.ports.shut_down(lane);
        self.queues.remove(&lane);
        self.silent.insert(lane);
        for (port, group) in &mut self.groups {
            if let Some(index) = group.iter().position(|known| *known == lane) {
                group.swap_remove(index);
                if group.is_empty() {
                    self.programs.remove(port);
                }
            }
        }
        if !self.ports.is_held(lane) {
            self.revive(lane);
        }
    }

    fn revive(&mut self, lane: LaneId) {
        if !self.silent.remove(&lane) {
            return;
        }
        if let Some(port) = self.port_of(lane) {
            self.ports.joins_group(lane);
            self.groups.entry(port).or_default().push(lane);
        }
    }

    /// As the shell does: a program without the lane, the close, and then one
    /// that is right again.
    fn retire(&mut self, lane: LaneId, met: &mut Met) -> Result<(), String> {
        let held = self.ports.is_held(lane);
        require(!held, 1, "a lane that somebody holds is to be closed")?;
        self.ports.retiring(lane);
        self.settle(met);
        self.meet(met);
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
        self.settle(met);
        Ok(())
    }

    /// Tells the kernel what it is to be told.
    fn settle(&mut self, met: &mut Met) {
        let queued = self.queued();
        for (lane, program) in self.ports.due_programs(self.now, &queued) {
            met.insert(match program {
                Program::Pinned(_) => "program: pinned",
                Program::Random(_) => "program: random",
            });
            if let Some(port) = self.port_of(lane) {
                self.programs.insert(port, program);
            }
        }
        // With its last socket the kernel forgets a group.
        self.groups.retain(|_, group| !group.is_empty());
        let groups = &self.groups;
        self.programs.retain(|port, _| groups.contains_key(port));
    }
}

fn indices(program: &Program) -> Vec<u32> {
    let instructions = program.instructions();
    let mut indices: Vec<_> = (0..16).map(|random| run(&instructions, random)).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}
