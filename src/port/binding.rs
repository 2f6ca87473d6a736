//! A worker's own `bind` and `listen`, and what to make of them.

use std::net::{Ipv4Addr, SocketAddr};

use super::lane::{Lane, Lease, Listener};
use super::{LaneId, Ports};
use crate::supervisor::WorkerId;
use crate::table::Set;

/// Where Node's debugger listens unless it is told otherwise: no server.
pub(super) const INSPECTOR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9229);

/// How many sockets of one worker may be bound and not listen. Who binds more
/// does so without clinit.
const MOST_BOUND: usize = 256;

/// How many lanes there may be, each of which is a descriptor of clinit's. Who
/// binds more does so without clinit.
const MOST_LANES: usize = 4096;

/// What answers a worker's `bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// The kernel, as without clinit.
    Proceed,
    /// The worker has bound that address before. The kernel says no, unless
    /// both of its sockets share ports by themselves; then it is given the one
    /// that it is [paired](Ports::paired) with, or its own joins.
    Again,
    /// This lane, in place of the worker's socket.
    Lend(LaneId),
    /// The worker's own socket, which is to be bound and become a lane.
    Join {
        /// Whether it is the first at this address: then the kernel's answer
        /// has to be as without clinit, and only afterwards is the port
        /// shared.
        first: bool,
    },
}

impl Ports {
    /// What answers a worker's `bind` of a socket to an address with a port.
    /// `socket` is the lane that its socket is already; `stays` says whether
    /// that has to stay where it is: the worker waits for events of it already,
    /// and cannot be made to wait for another's. That may only be seen once a
    /// lane is to be lent, and then this is asked again.
    #[must_use]
    pub fn bind(
        &self,
        worker: WorkerId,
        address: SocketAddr,
        socket: Option<LaneId>,
        stays: bool,
        queued: &dyn Fn(LaneId) -> u32,
    ) -> Bind {
        if socket.is_some() || !self.workers.contains_key(&worker) {
            return Bind::Proceed;
        }
        let has_room = self.bound_by(worker) < MOST_BOUND && self.lanes() < MOST_LANES;
        let own = |bind| if has_room { bind } else { Bind::Proceed };
        let join = |first| own(Bind::Join { first });
        let Some((_, listener)) = self.at(address) else {
            return join(true);
        };
        let passed = listener.passed_to(worker);
        if passed.is_none() && listener.is_held_by(worker) {
            return own(Bind::Again);
        }
        if stays {
            return join(false);
        }
        let lane = passed.or_else(|| listener.shared_lane());
        match lane.or_else(|| listener.best_free(queued)) {
            Some(lane) => Bind::Lend(lane),
            None => join(false),
        }
    }

    /// The worker's own socket is bound, and becomes a lane when it listens:
    /// unless the worker is gone meanwhile, for then nobody has it. The lane
    /// that it was started with, if any, is not the one that it serves.
    pub fn joined(&mut self, worker: WorkerId, address: SocketAddr) -> LaneId {
        let id = self.next_lane_id();
        let Some(slot) = self.workers.get(&worker).map(|worker| worker.slot) else {
            return id;
        };
        let known = self.at(address).map(|(known, _)| known);
        let sharing = self.sharing;
        let known =
            known.unwrap_or_else(|| self.add_listener(Listener::new(address, false, sharing)));
        if let Some(listener) = self.listeners.get_mut(&known) {
            if let Some(passed) = listener.passed_to(worker) {
                listener.release(worker, Some(slot), Some(passed));
            }
            let mut lane = Lane::new(id, listener.first_lease(worker));
            if let Some((bundle, place)) = listener.next_place(worker) {
                (lane.bundle, lane.place) = (bundle, place);
            }
            listener.bound.push(lane);
        }
        id
    }

    /// The lane for one more of a worker's sockets at an address, where these
    /// share ports by themselves: as its k-th the one that was its
    /// predecessor's (invariant 8). None where there is none, or somebody else
    /// has it.
    #[must_use]
    pub fn paired(&self, worker: WorkerId, address: SocketAddr) -> Option<LaneId> {
        self.at(address)?.1.paired(worker)
    }

    /// The free lane that has the same place as this one, which does not listen
    /// yet, among the sockets that belong together.
    #[must_use]
    pub fn twin(&self, lane: LaneId) -> Option<LaneId> {
        let mut listeners = self.listeners.values();
        listeners.find_map(|listener| listener.twin(lane))
    }

    /// The address of a lane.
    #[must_use]
    pub fn address_of(&self, lane: LaneId) -> Option<SocketAddr> {
        self.listener_with(lane).map(|listener| listener.address)
    }

    /// The lanes to [retire](Self::retiring) where a worker's own socket has
    /// joined although lanes were free: those of slots, its own among them,
    /// whose worker holds another lane of this listener and will not take them
    /// over; and of any other slot all but one, for its next worker takes over
    /// no more (invariant 5).
    #[must_use]
    pub fn passed_over(&self, worker: WorkerId, address: SocketAddr) -> Vec<LaneId> {
        let Some((_, listener)) = self.at(address) else {
            return Vec::new();
        };
        let own = self.workers.get(&worker).map(|worker| worker.slot);
        let holders = self.workers.iter();
        let holders = holders.filter(|&(&worker, _)| listener.is_held_by(worker));
        let mut slots: Set<u32> = holders.map(|(_, of)| of.slot).chain(own).collect();
        let passed_over = |lane: &&Lane| match lane.lease {
            Lease::Free(Some(slot)) => !slots.insert(slot),
            Lease::Free(None)
            | Lease::To(_)
            | Lease::Passed(_)
            | Lease::Shared(_)
            | Lease::Retiring => false,
        };
        // Who has others of those may yet ask for it.
        let lanes = listener.lanes.iter().filter(|lane| listener.is_whole(lane));
        let lanes = lanes.filter(passed_over);
        lanes.map(|lane| lane.id).collect()
    }

    /// A lane has been put in place of the worker's socket.
    pub fn lent(&mut self, worker: WorkerId, lane: LaneId) {
        if self.workers.contains_key(&worker)
            && let Some(listener) = self.listener_of(lane)
        {
            listener.lease(lane, worker);
        }
    }

    /// Whether this lane is bound and does not listen yet.
    #[must_use]
    pub fn is_bound(&self, lane: LaneId) -> bool {
        let mut listeners = self.listeners.values();
        listeners.any(|listener| listener.bound.iter().any(|known| known.id == lane))
    }

    /// A bound lane listens: it is the last of its group.
    pub fn joins_group(&mut self, lane: LaneId) {
        let Some(listener) = self.listener_of(lane) else {
            return;
        };
        if let Some(index) = listener.bound.iter().position(|known| known.id == lane) {
            let lane = listener.bound.swap_remove(index);
            listener.lanes.push(lane);
        }
    }

    /// A worker has called `listen`: on a lane, or on a socket that is none of
    /// clinit's business. Returns whether that shows that it is ready.
    pub fn listened(&mut self, worker: WorkerId, lane: Option<LaneId>) -> bool {
        let address = lane.and_then(|lane| self.listener_of(lane).map(|of| of.address));
        if address == Some(INSPECTOR) {
            return false;
        }
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.listens.extend(address);
        }
        self.set_example(worker);
        self.workers.get(&worker).is_some_and(|worker| {
            let expected = self.expected.get(&worker.slot);
            expected.is_none_or(|expected| expected.at.is_subset(&worker.listens))
        })
    }

    /// Whether any listener has this port, at whatever address.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        let mut listeners = self.listeners.values();
        listeners.any(|listener| listener.address.port() == port)
    }

    /// Whether a worker has a socket that leaves this address to no other one
    /// of its own; `apart` says whether the two families may be kept apart.
    #[must_use]
    pub fn overlaps(&self, worker: WorkerId, address: SocketAddr, apart: bool) -> bool {
        let held = self.listeners.values();
        let mut held = held.filter(|listener| listener.is_held_by(worker));
        held.any(|listener| overlap(listener.address, address, apart))
    }

    /// Whether any listener has exactly this address.
    #[must_use]
    pub fn has_address(&self, address: SocketAddr) -> bool {
        self.at(address).is_some()
    }

    /// Whether a lane is not of clinit's making.
    #[must_use]
    pub fn is_captured(&self, lane: LaneId) -> bool {
        self.listener_with(lane)
            .is_some_and(|listener| !listener.is_own)
    }

    fn listener_with(&self, lane: LaneId) -> Option<&Listener> {
        let mut listeners = self.listeners.values();
        listeners.find(|listener| listener.lane(lane).is_some())
    }

    pub(super) fn at(&self, address: SocketAddr) -> Option<(super::ListenerId, &Listener)> {
        let mut listeners = self.listeners.iter();
        let found = listeners.find(|(_, listener)| listener.address == address);
        found.map(|(id, listener)| (*id, listener))
    }

    fn lanes(&self) -> usize {
        let listeners = self.listeners.values();
        listeners.map(|listener| listener.all().count()).sum()
    }

    fn bound_by(&self, worker: WorkerId) -> usize {
        let bound = self.listeners.values().flat_map(|listener| &listener.bound);
        bound.filter(|lane| lane.lease.is_to(worker)).count()
    }
}

/// Whether two sockets that share no port cannot have these addresses, as far
/// as the addresses tell.
fn overlap(first: SocketAddr, second: SocketAddr, apart: bool) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    first.port() == second.port()
        && match (first.is_ipv6(), second.is_ipv6()) {
            (true, false) => any(first) && !apart,
            (false, true) => any(second) && !apart,
            (false, false) | (true, true) => first.ip() == second.ip() || any(first) || any(second),
        }
}

#[cfg(test)]
mod tests;
