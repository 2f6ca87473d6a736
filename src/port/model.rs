//! The kernel beside the decisions: its groups, in the order of `listen`, with
//! the last taking the place of one that leaves, and the programs that it was
//! told. It does what the shell does, and what holds of every state is asserted
//! by the numbers of `mod.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::binding::INSPECTOR;
use super::lane::{Lane, Lease, Listener};
use super::program::Program;
use super::program::tests::run;
use super::rotation::Flow;
use super::{Arrivals, Bind, LaneId, ListenerId, Ports, Sharing, Standing};
use crate::supervisor::{Time, WorkerId};

pub(super) const NOW: Time = Time::from_millis(1_000_000);

/// The step of time: every wait is over with one.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// One that nobody knows: its news came late.
fn stale() -> WorkerId {
    WorkerId::from_index(99)
}

/// What a search takes in: all of it at once is too much.
#[expect(clippy::struct_excessive_bools, reason = "each is in or out")]
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) ports: &'static [u16],
    pub(super) slots: u32,
    /// Whether a successor runs beside its predecessor.
    pub(super) successors: bool,
    /// Whether the first port is a listener of clinit's own.
    pub(super) own: bool,
    /// How many connections may wait in a queue.
    pub(super) queues: u32,
    /// Turns, and queues that stand still.
    pub(super) turns: bool,
    /// Time that passes.
    pub(super) time: bool,
    /// Workers that a signal stops.
    pub(super) stops: bool,
    /// Sockets that are polled before they are bound.
    pub(super) polled: bool,
    /// Workers that bind an address twice, with sockets that share ports.
    pub(super) several: bool,
    /// Sockets that a worker closes while it lives.
    pub(super) closes: bool,
    /// Sockets that a worker shuts down.
    pub(super) shuts_down: bool,
    /// Who is ready.
    pub(super) readiness: bool,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Wait,
    Look,
    Start {
        worker: WorkerId,
        slot: u32,
    },
    Bind {
        worker: WorkerId,
        port: u16,
        polled: bool,
    },
    Listen {
        worker: WorkerId,
        lane: Option<LaneId>,
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

/// The kinds of events, answers, leases, ranks and programs that were met.
pub(super) type Met = BTreeSet<&'static str>;

/// All of them.
pub(super) const KINDS: &[&str] = &[
    "move: wait",
    "move: look",
    "move: start",
    "move: bind",
    "move: bind polled",
    "move: listen",
    "move: admit",
    "move: turn away",
    "move: suspend",
    "move: gone",
    "move: abandon",
    "move: shut down",
    "move: arrive",
    "move: accept",
    "answer: proceed",
    "answer: again",
    "answer: lend",
    "answer: join first",
    "answer: join",
    "lease: free, made",
    "lease: free",
    "lease: to one",
    "lease: passed",
    "lease: shared",
    "lease: retiring",
    "rank: ready",
    "rank: starting",
    "rank: stuck",
    "rank: free",
    "rank: leaving",
    "rank: closing",
    "program: none",
    "program: pinned",
    "program: random",
    "listen: ready",
    "listen: not ready",
];

impl Move {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Wait => "move: wait",
            Self::Look => "move: look",
            Self::Start { .. } => "move: start",
            Self::Bind { polled: false, .. } => "move: bind",
            Self::Bind { polled: true, .. } => "move: bind polled",
            Self::Listen { .. } => "move: listen",
            Self::Admit(_) => "move: admit",
            Self::TurnAway(_) => "move: turn away",
            Self::Suspend(..) => "move: suspend",
            Self::Gone(_) => "move: gone",
            Self::Abandon { .. } => "move: abandon",
            Self::ShutDown(_) => "move: shut down",
            Self::Arrive(_) => "move: arrive",
            Self::Accept(_) => "move: accept",
        }
    }
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
    /// Where each worker listens.
    heard: BTreeMap<WorkerId, BTreeSet<u16>>,
    examples: BTreeMap<u32, Example>,
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
        if scope.own {
            ports.open(address(scope.ports[0]));
        }
        Self {
            ports,
            now: NOW,
            groups: BTreeMap::new(),
            programs: BTreeMap::new(),
            queues: BTreeMap::new(),
            heard: BTreeMap::new(),
            examples: BTreeMap::new(),
        }
    }

    // ---- what can happen ----

    pub(super) fn moves(&self, scope: Scope) -> Vec<Move> {
        let mut moves = Vec::new();
        if scope.time {
            moves.extend([Move::Wait, Move::Look]);
        }
        let copies = 1 + u32::from(scope.successors);
        for slot in 0..scope.slots {
            let ids = (0..copies).map(|copy| WorkerId::from_index(slot + copy * scope.slots));
            let free = |worker: &WorkerId| !self.ports.workers.contains_key(worker);
            let next = ids.into_iter().find(free);
            moves.extend(next.map(|worker| Move::Start { worker, slot }));
        }
        for worker in self.ports.workers.keys().copied().chain([stale()]) {
            moves.extend([
                Move::Admit(worker),
                Move::TurnAway(worker),
                Move::Gone(worker),
            ]);
            if scope.stops {
                moves.extend([true, false].map(|stopped| Move::Suspend(worker, stopped)));
            }
            for &port in scope.ports {
                for polled in [false, true]
                    .into_iter()
                    .take(1 + usize::from(scope.polled))
                {
                    moves.push(Move::Bind {
                        worker,
                        port,
                        polled,
                    });
                }
            }
            let lanes = self.ports.lanes_of(worker);
            let nothing = scope.readiness.then_some(None);
            let listened = lanes.iter().copied().map(Some).chain(nothing);
            moves.extend(listened.map(|lane| Move::Listen { worker, lane }));
        }
        if scope.closes {
            // Of its own lanes and, late, of those that are not.
            for worker in self.ports.workers.keys().copied() {
                let lanes = self.ports.listeners.values().flat_map(Listener::all);
                moves.extend(lanes.map(|lane| Move::Abandon {
                    worker,
                    lane: lane.id,
                }));
            }
        }
        if scope.shuts_down {
            moves.extend(self.ports.listening().map(Move::ShutDown));
        }
        if scope.queues > 0 {
            for lane in self.ports.listening() {
                moves.extend([Move::Arrive(lane), Move::Accept(lane)]);
            }
        }
        moves
    }

    pub(super) fn take(&mut self, step: Move, scope: Scope, met: &mut Met) -> Result<(), String> {
        let queued = self.queued();
        let ports = &mut self.ports;
        match step {
            Move::Wait => self.wait(),
            Move::Look => ports.look(self.now, &queued),
            Move::Start { worker, slot } => {
                ports.starting(worker, slot);
                if scope.own {
                    self.pass(worker, met);
                }
            }
            Move::Bind {
                worker,
                port,
                polled,
            } => self.bind((worker, port, polled), scope, met)?,
            Move::Listen { worker, lane } => self.listen(worker, lane, met)?,
            Move::Admit(worker) => {
                if let Some(of) = ports.workers.get(&worker)
                    && of.standing == Standing::Starting
                {
                    let at = self.heard.get(&worker).cloned().unwrap_or_default();
                    let by = Some(worker);
                    self.examples.insert(of.slot, Example { by, at });
                }
                for lane in self.ports.admit(worker, &queued) {
                    self.retire(lane, met)?;
                }
            }
            Move::TurnAway(worker) => {
                ports.turn_away(worker);
                self.is_no_example(worker);
            }
            Move::Suspend(worker, suspended) => ports.suspend(worker, suspended),
            Move::Gone(worker) => {
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
                }
                self.queues.retain(|_, waiting| *waiting > 0);
            }
        }
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
            }
        }
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
        (worker, port, polled): (WorkerId, u16, bool),
        scope: Scope,
        met: &mut Met,
    ) -> Result<(), String> {
        let queued = self.queued();
        let held: Vec<_> = self.lanes_at(port, |lane| lane.lease.is_to(worker));
        let free = self.lanes_at(port, |lane| matches!(lane.lease, Lease::Free(_)));
        let at = address(port);
        let answer = self.ports.bind(worker, at, None, polled, &queued);
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
                scope.several && held.len() < 2
            }
            Bind::Lend(lane) => {
                met.insert("answer: lend");
                let own = held.contains(&lane);
                let lessee = |lane: &Lane| matches!(lane.lease, Lease::To(_) | Lease::Passed(_));
                let taken = self.lanes_at(port, lessee).contains(&lane) && !own;
                require(!taken, 1, "a lane of another is lent")?;
                require(own || held.is_empty(), 1, "it has a lane")?;
                let longest = free.iter().map(|&lane| queued(lane)).max();
                let is_best = longest.is_none_or(|longest| queued(lane) == longest);
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
                require(polled || free.is_empty(), 3, "a lane is free")?;
                let known = self.ports.at(at).is_some();
                require(first != known, 1, "it is, or is not, the first")?;
                true
            }
        };
        if joins {
            let before = free.len();
            let _ = self.ports.joined(worker, at);
            if polled || before > 0 {
                for lane in self.ports.passed_over(worker, at) {
                    self.retire(lane, met)?;
                }
            }
        }
        Ok(())
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

    /// The worker's `shutdown`, and the `listen` that makes it good.
    fn shut_down(&mut self, lane: LaneId) {
        self.ports.revived(lane);
        self.queues.remove(&lane);
        for (port, group) in &mut self.groups {
            if let Some(index) = group.iter().position(|known| *known == lane) {
                group.swap_remove(index);
                if group.is_empty() {
                    self.programs.remove(port);
                }
                group.push(lane);
            }
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

    // ---- what holds of every state ----

    pub(super) fn check(&self, scope: Scope, met: &mut Met) -> Result<(), String> {
        self.meet(met);
        let workers = scope.slots * (1 + u32::from(scope.successors));
        let most = workers as usize * if scope.several { 2 } else { 1 };
        for listener in self.ports.listeners.values() {
            let own: Vec<_> = listener.lanes.iter().map(|lane| lane.id).collect();
            let group = self.groups.get(&listener.address.port());
            let group = group.cloned().unwrap_or_default();
            require(own == group, 4, "the order is not the kernel's")?;
            self.check_leases(listener, scope)?;
            let lanes = listener.all().count();
            require(lanes <= most, 5, "there are ever more lanes")?;
            let some = listener.is_own || lanes > 0;
            require(some, 5, "a listener has no lane")?;
            self.check_targets(listener, scope, met)?;
        }
        let known = |port| self.ports.at(address(port)).is_some();
        let known = self.groups.keys().all(|&port| known(port));
        require(known, 5, "a lane is forgotten")?;
        let listeners = self.ports.listeners.len();
        require(listeners <= scope.ports.len(), 5, "ever more listeners")
    }

    fn check_leases(&self, listener: &Listener, scope: Scope) -> Result<(), String> {
        for &worker in self.ports.workers.keys() {
            let held = listener.all().filter(|lane| lane.lease.is_to(worker));
            let most = if scope.several { 2 } else { 1 };
            require(held.count() <= most, 1, "a worker has two lanes")?;
        }
        let shared = |lane: &&Lane| matches!(lane.lease, Lease::Shared(_));
        let one = listener.all().filter(shared).count() <= 1;
        require(one, 1, "one queue is two")?;
        for lane in listener.all() {
            let known = match &lane.lease {
                Lease::Free(_) => true,
                Lease::To(worker) | Lease::Passed(worker) => {
                    self.ports.workers.contains_key(worker)
                }
                Lease::Shared(lessees) => {
                    let mut lessees = lessees.iter();
                    lessees.len() > 0 && lessees.all(|of| self.ports.workers.contains_key(of))
                }
                Lease::Retiring => false,
            };
            require(known, 5, "a lane is leased to nobody")?;
        }
        Ok(())
    }

    /// Invariant 2, by what the kernel does with its program: exactly the
    /// lanes that are best off, or, where they take turns, one of those.
    fn check_targets(
        &self,
        listener: &Listener,
        scope: Scope,
        met: &mut Met,
    ) -> Result<(), String> {
        let Some(program) = self.programs.get(&listener.address.port()) else {
            met.insert("program: none");
            return require(listener.lanes.len() < 2, 2, "there is no program");
        };
        let ranks = listener.lanes.iter().map(|lane| self.rank(lane));
        let ranks: Vec<&str> = ranks.collect();
        let best = RANKS.iter().find(|rank| ranks.contains(rank));
        let is_best = |index: &usize| best == ranks.get(*index);
        let targets: Vec<usize> = (0..ranks.len()).filter(is_best).collect();
        let given: Vec<usize> = indices(program).iter().map(|at| *at as usize).collect();
        let in_range = given.iter().all(|index| *index < ranks.len());
        require(in_range, 4, "an index is out of range")?;
        for index in &given {
            let is_target = targets.contains(index);
            require(is_target, 2, "a lane that is not the best off is given some")?;
        }
        if best == Some(&"rank: free") {
            let queued = self.queued();
            let lengths = targets.iter().map(|at| queued(listener.lanes[*at].id));
            let longest = lengths.max();
            require(given.len() == 1, 2, "several free lanes are given some")?;
            let length = queued(listener.lanes[given[0]].id);
            return require(Some(length) == longest, 2, "not the one that is next");
        }
        let by_turns = self.ports.arrivals == Arrivals::Told && listener.rotation.is_slow();
        if by_turns {
            let watched = self.ports.watched();
            let all = listener.lanes.iter().all(|lane| watched.contains(&lane.id));
            let told = !scope.turns || targets.len() < 2 || all;
            require(told, 2, "nobody would say whose turn is next")?;
            require(given.len() == 1, 2, "it is the turn of several")
        } else {
            require(given == targets, 2, "a lane is given none")
        }
    }

    /// How willingly a lane is given connections, said another way than in
    /// `steering.rs`.
    fn rank(&self, lane: &Lane) -> &'static str {
        if lane.lease == Lease::Retiring {
            return "rank: closing";
        }
        let mut lessees = self.ports.workers.iter();
        let lessees: Vec<_> = lessees
            .by_ref()
            .filter(|(id, _)| lane.lease.is_to(**id))
            .map(|(_, worker)| worker)
            .collect();
        let some = |standing| {
            let mut lessees = lessees.iter();
            lessees.any(|of| of.standing == standing && !of.suspended)
        };
        let stays = |worker: &&super::Worker| worker.standing != Standing::TurnedAway;
        if lessees.is_empty() {
            "rank: free"
        } else if some(Standing::Admitted) && !lane.flow.is_stuck(self.now) {
            "rank: ready"
        } else if some(Standing::Starting) {
            "rank: starting"
        } else if lessees.iter().copied().any(|of| stays(&of)) {
            "rank: stuck"
        } else {
            "rank: leaving"
        }
    }

    fn meet(&self, met: &mut Met) {
        for lane in self.ports.listeners.values().flat_map(Listener::all) {
            met.insert(self.rank(lane));
            met.insert(match lane.lease {
                Lease::Free(None) => "lease: free, made",
                Lease::Free(Some(_)) => "lease: free",
                Lease::To(_) => "lease: to one",
                Lease::Passed(_) => "lease: passed",
                Lease::Shared(_) => "lease: shared",
                Lease::Retiring => "lease: retiring",
            });
        }
    }

    // ---- one representative for states that behave alike ----

    /// Lanes and listeners have the lowest numbers, and what cannot matter in
    /// this scope is as it was at first.
    pub(super) fn normal(mut self, scope: Scope) -> Self {
        if scope.successors {
            self.reorder(scope);
        }
        let mut names = BTreeMap::new();
        let mut listeners: Vec<_> = std::mem::take(&mut self.ports.listeners)
            .into_values()
            .collect();
        listeners.sort_by_key(|listener| listener.address);
        for listener in &mut listeners {
            // Sockets that are bound are in no order.
            let workers = &self.ports.workers;
            let lessee = |lane: &Lane| workers.keys().position(|of| lane.lease.is_to(*of));
            listener.bound.sort_by_key(lessee);
        }
        for lane in listeners.iter().flat_map(Listener::all) {
            let next = LaneId(u32::try_from(names.len()).unwrap());
            names.insert(lane.id, next);
        }
        for listener in &mut listeners {
            let lanes = listener.lanes.iter_mut().chain(&mut listener.bound);
            lanes.for_each(|lane| lane.id = names[&lane.id]);
            if scope.turns {
                listener.rotation.renumber(&names);
                listener.rotation.round(NOW);
            } else {
                listener.rotation = super::rotation::Rotation::default();
            }
        }
        self.ports.next_lane = u32::try_from(names.len()).unwrap();
        self.ports.next_listener = u32::try_from(listeners.len()).unwrap();
        self.ports.listeners = (0..).map(ListenerId).zip(listeners).collect();
        for group in self.groups.values_mut() {
            for lane in group {
                *lane = names[lane];
            }
        }
        let queues = std::mem::take(&mut self.queues).into_iter();
        self.queues = queues
            .filter_map(|(lane, length)| Some((*names.get(&lane)?, length)))
            .collect();
        if scope.readiness {
            self.heard.retain(|_, heard| !heard.is_empty());
            // Who is gone or turned away sets no example any more.
            let examples = &self.examples;
            for (slot, expected) in &mut self.ports.expected {
                if examples
                    .get(slot)
                    .is_none_or(|example| example.by.is_none())
                {
                    expected.of = stale();
                }
            }
        } else {
            self.heard.clear();
            self.examples.clear();
            self.ports.expected.clear();
            let workers = self.ports.workers.values_mut();
            workers.for_each(|worker| worker.listens.clear());
        }
        self
    }
}

impl Model {
    /// Of two workers in a slot the first is the one that has come less far.
    fn reorder(&mut self, scope: Scope) {
        for first in (0..scope.slots).map(WorkerId::from_index) {
            let second = WorkerId::from_index(first.index() + scope.slots);
            let order = |worker| {
                let of = self.ports.workers.get(&worker)?;
                let standing = std::cmp::Reverse(of.standing as u8);
                Some((standing, of.suspended, of.listens.iter().copied()))
            };
            let is_lower = match (order(first), order(second)) {
                (Some(first), Some(second)) => {
                    (first.0, first.1) < (second.0, second.1)
                        || (first.0, first.1) == (second.0, second.1) && first.2.lt(second.2)
                }
                (first, second) => first.is_none() && second.is_some(),
            };
            if is_lower {
                self.swap(first, second);
            }
        }
    }

    fn swap(&mut self, first: WorkerId, second: WorkerId) {
        let name = |worker: WorkerId| match worker {
            of if of == first => second,
            of if of == second => first,
            of => of,
        };
        for listener in self.ports.listeners.values_mut() {
            for lane in listener.lanes.iter_mut().chain(&mut listener.bound) {
                match &mut lane.lease {
                    Lease::To(worker) | Lease::Passed(worker) => *worker = name(*worker),
                    Lease::Shared(lessees) => {
                        *lessees = lessees.iter().copied().map(name).collect();
                    }
                    Lease::Free(_) | Lease::Retiring => {}
                }
            }
        }
        let workers = std::mem::take(&mut self.ports.workers).into_iter();
        self.ports.workers = workers.map(|(id, of)| (name(id), of)).collect();
        let heard = std::mem::take(&mut self.heard).into_iter();
        self.heard = heard.map(|(id, at)| (name(id), at)).collect();
        for example in self.examples.values_mut() {
            example.by = example.by.map(name);
        }
        for expected in self.ports.expected.values_mut() {
            expected.of = name(expected.of);
        }
    }
}

/// From the most willing on.
const RANKS: [&str; 6] = [
    "rank: ready",
    "rank: starting",
    "rank: stuck",
    "rank: free",
    "rank: leaving",
    "rank: closing",
];

fn indices(program: &Program) -> Vec<u32> {
    let instructions = program.instructions();
    let mut indices: Vec<_> = (0..16).map(|random| run(&instructions, random)).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}
