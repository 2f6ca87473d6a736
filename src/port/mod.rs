//! One port, many workers: which socket answers which `bind(2)`, and where
//! new connections go. Pure decisions, like the core's.
//!
//! A **listener** is an address. It has **lanes**: sockets that share it by
//! `SO_REUSEPORT`, each with an accept queue, all held by clinit, each leased
//! to one worker at a time. In the kernel they are a group, in which a lane is
//! known by an index: the order of its `listen(2)`; where one leaves, the last
//! takes its place. A worker's own socket becomes a lane when it listens; where
//! a lane is free, because its worker has died, the next worker is lent that
//! one in place of its own socket, and with it the connections in its queue.
//!
//! The shell asks before it acts and says afterwards what came of it. It knows
//! the sockets, by their inodes; this knows lanes by number.
//!
//! # Invariants
//!
//! Asserted by the explorer against a model of the kernel's group.
//!
//! 1. No lane has two lessees, and no worker is lent a second lane of one
//!    listener, unless its sockets share ports by themselves.
//! 2. While any worker is ready and takes connections from its queue, new ones
//!    go to the lanes of such workers alone; else to those of starting ones;
//!    else to those of workers that take none; else to the one lane that the
//!    next worker takes over.
//! 3. A free lane is lent before another is made; of several, the one whose
//!    queue is longest, with the queues of what its worker had beside it. One
//!    where nobody waits stays for a worker that has others of those.
//! 4. An index is the kernel's own, whatever has joined and left.
//! 5. Memory is bounded: what nobody holds and nobody will take over is let
//!    go of.
//! 6. A worker is shown to be ready only once it listens wherever the worker of
//!    its slot that was ready last listens, or did.
//! 7. A worker counts as hung only if nobody took from a queue of its own for
//!    as long as that queue was suspected.
//! 8. Of several sockets that a worker has at one address the k-th takes over
//!    the k-th of those of which its first took over the first.
#![forbid(unsafe_code)]

pub mod address;
mod binding;
#[cfg(test)]
mod explorer;
mod lane;
#[cfg(test)]
mod model;
#[cfg(test)]
mod notification;
pub mod program;
#[cfg(test)]
mod random;
mod rotation;
mod standstill;
mod steering;

use std::net::SocketAddr;

use crate::supervisor::WorkerId;
use crate::table::{Set, Table};
pub use binding::Bind;
use lane::{Lane, Lease, Listener};
pub use rotation::Arrivals;
use rotation::Flow;
pub use standstill::Found;
use standstill::{Hang, Standstill};

/// A socket of a listener. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(u32);

/// A listener. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(u32);

/// How the workers share a port that they bind themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// A lane each.
    Lanes,
    /// One lane for all: the first worker's socket.
    OneQueue,
}

/// Whether a worker is given new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// Only where nobody is ready.
    Starting,
    /// As `Starting`, and only where nobody else starts: the last worker of its
    /// slot was never ready.
    Failing,
    /// It is.
    Admitted,
    /// It is to stop, and is given none.
    TurnedAway,
}

/// What is known of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Worker {
    slot: u32,
    standing: Standing,
    /// Whether a signal has stopped it.
    suspended: bool,
    /// Whether clinit itself has done that.
    is_excused: bool,
    /// Whether it says itself that it is alive.
    vouches: bool,
    /// Where it has called `listen`.
    listens: Set<SocketAddr>,
}

/// Where a worker's successor is to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Expected {
    /// By this worker's example.
    of: WorkerId,
    at: Set<SocketAddr>,
}

/// All listeners, lanes and their lessees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    sharing: Sharing,
    arrivals: Arrivals,
    listeners: Table<ListenerId, Listener>,
    workers: Table<WorkerId, Worker>,
    /// Where the last worker of a slot to be ready listens, or did: its
    /// successor is not ready before it does too (invariant 6).
    expected: Table<u32, Expected>,
    /// Slots whose last worker was never ready.
    failing: Set<u32>,
    /// Whether workers that hang are looked for.
    hang: Option<Hang>,
    next_listener: u32,
    next_lane: u32,
}

impl Ports {
    /// No listener yet.
    #[must_use]
    pub fn new(sharing: Sharing, arrivals: Arrivals) -> Self {
        Self {
            sharing,
            arrivals,
            listeners: Table::new(),
            workers: Table::new(),
            expected: Table::new(),
            failing: Set::new(),
            hang: None,
            next_listener: 0,
            next_lane: 0,
        }
    }

    // ---- listeners that clinit makes ----

    /// A listener of clinit's own, which stays for good.
    pub fn open(&mut self, address: SocketAddr, sharing: Sharing) -> ListenerId {
        self.add_listener(Listener::new(address, true, sharing))
    }

    /// A lane that clinit made: it listens, and is the listener's last.
    pub fn made(&mut self, listener: ListenerId) -> LaneId {
        let id = self.next_lane_id();
        if let Some(listener) = self.listeners.get_mut(&listener) {
            listener.lanes.push(Lane::new(id, Lease::Free(None)));
        }
        id
    }

    /// Leases a lane of a listener of clinit's own to a worker that starts.
    /// None where none is free: then one is to be made.
    pub fn lease(
        &mut self,
        worker: WorkerId,
        listener: ListenerId,
        queued: &dyn Fn(LaneId) -> u32,
    ) -> Option<LaneId> {
        let listener = self.listeners.get_mut(&listener)?;
        let shared = listener.shared_lane();
        let lane = shared.or_else(|| listener.best_free(queued))?;
        listener.pass(lane, worker);
        Some(lane)
    }

    /// Any lane of a listener.
    #[must_use]
    pub fn first_lane(&self, listener: ListenerId) -> Option<LaneId> {
        let listener = self.listeners.get(&listener)?;
        listener.lanes.first().map(|lane| lane.id)
    }

    /// Whether a lane is the one queue of all workers.
    #[must_use]
    pub fn is_shared(&self, lane: LaneId) -> bool {
        self.lane(lane)
            .is_some_and(|lane| matches!(lane.lease, Lease::Shared(_)))
    }

    // ---- workers ----

    /// A worker is about to run.
    pub fn starting(&mut self, worker: WorkerId, slot: u32) {
        let standing = Worker {
            slot,
            standing: if self.failing.contains(&slot) {
                Standing::Failing
            } else {
                Standing::Starting
            },
            suspended: false,
            is_excused: false,
            vouches: false,
            listens: Set::new(),
        };
        self.workers.insert(worker, standing);
    }

    /// A worker is ready: new connections are for it. Returns the lanes to
    /// [retire](Self::retiring): its predecessor had them, nobody has taken them
    /// over, and nobody waits there, or nobody listens there any more.
    pub fn admit(&mut self, worker: WorkerId, queued: &dyn Fn(LaneId) -> u32) -> Vec<LaneId> {
        let Some(admitted) = self.workers.get_mut(&worker) else {
            return Vec::new();
        };
        self.failing.remove(&admitted.slot);
        if matches!(admitted.standing, Standing::Starting | Standing::Failing) {
            admitted.standing = Standing::Admitted;
            let at = admitted.listens.clone();
            let expected = Expected { of: worker, at };
            self.expected.insert(admitted.slot, expected);
        }
        let slot = admitted.slot;
        let mut stale = Vec::new();
        for listener in self.listeners.values().filter(|of| !of.is_own) {
            for lane in &listener.lanes {
                if lane.lease == Lease::Free(Some(slot))
                    // Who has others of those may yet ask for it.
                    && listener.is_whole(lane)
                    && (queued(lane.id) == 0 || !listener.is_held())
                {
                    stale.push(lane.id);
                }
            }
        }
        stale
    }

    /// A worker is to stop: no new connection is for it.
    pub fn turn_away(&mut self, worker: WorkerId) {
        if let Some(of) = self.workers.get_mut(&worker) {
            of.standing = Standing::TurnedAway;
        }
        self.begin_anew(worker);
    }

    /// Whether a worker is to stop.
    #[must_use]
    pub fn is_turned_away(&self, worker: WorkerId) -> bool {
        let known = self.workers.get(&worker);
        known.is_some_and(|worker| worker.standing == Standing::TurnedAway)
    }

    /// A worker's main process has exited: no new connection is for what is
    /// left of it.
    pub fn exited(&mut self, worker: WorkerId) {
        if let Some(Worker {
            slot,
            standing: Standing::Starting | Standing::Failing,
            ..
        }) = self.workers.get(&worker)
        {
            self.failing.insert(*slot);
        }
        self.turn_away(worker);
    }

    /// A signal has stopped a worker, or let it go on.
    pub fn suspend(&mut self, worker: WorkerId, suspended: bool) {
        if let Some(of) = self.workers.get_mut(&worker)
            && std::mem::replace(&mut of.suspended, suspended) != suspended
        {
            self.begin_anew(worker);
        }
    }

    /// A worker is gone. Its lanes stay, free; sockets that it had bound and
    /// that never listened are gone with it. Returns those.
    pub fn gone(&mut self, worker: WorkerId) -> Vec<LaneId> {
        let slot = self.workers.remove(&worker).map(|gone| gone.slot);
        let mut dropped = Vec::new();
        for listener in self.listeners.values_mut() {
            dropped.extend(listener.release(worker, slot, None));
        }
        self.forget_empty_listeners();
        dropped
    }

    /// The lanes that a worker holds, bound ones too.
    #[must_use]
    pub fn lanes_of(&self, worker: WorkerId) -> Vec<LaneId> {
        let mut held = Vec::new();
        for listener in self.listeners.values() {
            for lane in listener.all() {
                if lane.lease.is_to(worker) {
                    held.push(lane.id);
                }
            }
        }
        held
    }

    /// Who holds a lane.
    #[must_use]
    pub fn lessees(&self, lane: LaneId) -> Vec<WorkerId> {
        let has = |worker: &&WorkerId| self.lanes_of(**worker).contains(&lane);
        self.workers.keys().filter(has).copied().collect()
    }

    /// The lane of a listener that a worker holds.
    #[must_use]
    pub fn lane_of(&self, worker: WorkerId, listener: ListenerId) -> Option<LaneId> {
        let mut lanes = self.listeners.get(&listener)?.all();
        let held = lanes.find(|lane| lane.lease.is_to(worker));
        held.map(|lane| lane.id)
    }

    /// Every lane that listens.
    pub fn listening(&self) -> impl Iterator<Item = LaneId> + '_ {
        let lanes = self.listeners.values().flat_map(|listener| &listener.lanes);
        lanes.map(|lane| lane.id)
    }

    /// The lanes of a group, of which this is one.
    #[must_use]
    pub fn group_of(&self, lane: LaneId) -> Vec<LaneId> {
        let ids = |listener: &Listener| listener.lanes.iter().map(|lane| lane.id).collect();
        let mut groups = self.listeners.values().map(ids);
        groups
            .find(|group: &Vec<LaneId>| group.contains(&lane))
            .unwrap_or_default()
    }

    // ---- lanes that leave or move ----

    /// A lane is about to be closed. The programs that are due now give it
    /// nothing, and nothing to the last, which is about to take its place.
    pub fn retiring(&mut self, lane: LaneId) {
        for listener in self.listeners.values_mut() {
            if let Some(lane) = listener.lanes.iter_mut().find(|known| known.id == lane) {
                lane.lease = Lease::Retiring;
            }
        }
    }

    /// A lane is closed. The programs that are due now know it no more.
    pub fn retire(&mut self, lane: LaneId) {
        for listener in self.listeners.values_mut() {
            listener.remove(lane);
        }
        self.forget_empty_listeners();
    }

    /// A worker has closed its descriptors of a lane while it lives on. Its
    /// successor is not expected to listen there.
    pub fn abandoned(&mut self, worker: WorkerId, lane: LaneId) {
        let Some(of) = self.workers.get(&worker) else {
            return;
        };
        let slot = of.slot;
        let Some(listener) = self.listener_of(lane) else {
            return;
        };
        listener.release(worker, Some(slot), Some(lane));
        let (address, held) = (listener.address, listener.is_held_by(worker));
        self.forget_empty_listeners();
        if let Some(of) = self.workers.get_mut(&worker)
            && !held
        {
            of.listens.remove(&address);
        }
        self.set_example(worker);
    }

    /// A lane has been shut down (`shutdown(2)`): it is bound and does not
    /// listen, and the kernel has removed it from its group. With a group's
    /// last one it has forgotten the program too.
    pub fn shut_down(&mut self, lane: LaneId) {
        let Some(listener) = self.listener_of(lane) else {
            return;
        };
        if let Some(mut lane) = listener.take_out(lane) {
            lane.flow = Flow::Moving;
            lane.standstill = Standstill::Nothing;
            listener.bound.push(lane);
            if listener.lanes.is_empty() {
                listener.attached = None;
            }
        }
    }

    /// Whether no lane of the listener that has this one listens.
    #[must_use]
    pub fn is_silent(&self, lane: LaneId) -> bool {
        let mut silent = self.listeners.values().filter(|of| of.lanes.is_empty());
        silent.any(|of| of.bound.iter().any(|known| known.id == lane))
    }

    /// Whether somebody holds this lane: one that its worker has let go of may
    /// be another's too.
    #[must_use]
    pub fn is_held(&self, lane: LaneId) -> bool {
        self.lane(lane).is_some_and(|lane| lane.lease.is_held())
    }

    /// Expects of a slot's next worker what the one that was ready last does,
    /// as long as it is: what it does at its end is no example.
    fn set_example(&mut self, worker: WorkerId) {
        if let Some(of) = self.workers.get(&worker)
            && of.standing == Standing::Admitted
            && let Some(expected) = self.expected.get_mut(&of.slot)
            && expected.of == worker
        {
            expected.at.clone_from(&of.listens);
        }
    }

    fn add_listener(&mut self, listener: Listener) -> ListenerId {
        let id = ListenerId(self.next_listener);
        self.next_listener = self.next_listener.wrapping_add(1);
        self.listeners.insert(id, listener);
        id
    }

    fn next_lane_id(&mut self) -> LaneId {
        let id = LaneId(self.next_lane);
        self.next_lane = self.next_lane.wrapping_add(1);
        id
    }

    fn forget_empty_listeners(&mut self) {
        self.listeners
            .retain(|_, listener| listener.is_own || listener.all().next().is_some());
    }

    fn listener_of(&mut self, lane: LaneId) -> Option<&mut Listener> {
        self.listeners
            .values_mut()
            .find(|listener| listener.lane(lane).is_some())
    }

    fn lane(&self, lane: LaneId) -> Option<&Lane> {
        let mut listeners = self.listeners.values();
        listeners.find_map(|listener| listener.lane(lane))
    }
}
