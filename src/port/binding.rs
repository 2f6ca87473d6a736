//! A worker's own `bind` and `listen`, and what to make of them.

use std::net::{Ipv4Addr, SocketAddr};

use super::lane::{Lane, Lease, Listener};
use super::{LaneId, Ports, Sharing};
use crate::supervisor::WorkerId;

/// Where Node's debugger listens unless it is told otherwise: no server.
const INSPECTOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9229);

/// How many sockets of one worker may be bound and not listen. Who binds more
/// does so without clinit.
const MOST_BOUND: usize = 256;

/// What answers a worker's `bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// The kernel, as without clinit.
    Proceed,
    /// The worker has bound that address before. The kernel says no, unless
    /// both of its sockets share ports by themselves; then its own joins.
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
    /// `socket` is the lane that its socket is already; `polled` says whether
    /// the worker waits for events of its socket, which another one in its
    /// place would not bring.
    #[must_use]
    pub fn bind(
        &self,
        worker: WorkerId,
        address: SocketAddr,
        socket: Option<LaneId>,
        polled: bool,
        queued: &dyn Fn(LaneId) -> u32,
    ) -> Bind {
        if socket.is_some() || !self.workers.contains_key(&worker) {
            return Bind::Proceed;
        }
        let Some((_, listener)) = self.at(address) else {
            return match self.bound_by(worker) {
                MOST_BOUND.. => Bind::Proceed,
                _ => Bind::Join { first: true },
            };
        };
        if listener.is_own {
            // Its worker was given a lane when it started.
            let lanes = listener.lanes.iter();
            let mut held = lanes.filter(|lane| lane.lease.is_to(worker));
            return held
                .next()
                .map_or(Bind::Proceed, |lane| Bind::Lend(lane.id));
        }
        if listener.is_held_by(worker) {
            return Bind::Again;
        }
        if polled {
            return Bind::Join { first: false };
        }
        match self
            .shared_lane(listener)
            .or_else(|| listener.best_free(queued))
        {
            Some(lane) => Bind::Lend(lane),
            None => Bind::Join { first: false },
        }
    }

    /// The worker's own socket is bound, and becomes a lane when it listens.
    pub fn joined(&mut self, worker: WorkerId, address: SocketAddr) -> LaneId {
        let id = self.next_lane_id();
        let lease = match self.sharing {
            Sharing::Lanes => Lease::To(worker),
            Sharing::OneQueue => Lease::Shared([worker].into()),
        };
        let known = self.at(address).map(|(known, _)| known);
        let known = known.unwrap_or_else(|| self.add_listener(Listener::new(address, false)));
        if let Some(listener) = self.listeners.get_mut(&known) {
            listener.bound.push(Lane::new(id, lease));
        }
        id
    }

    /// The lanes to [retire](Self::retiring) where a worker's own socket has
    /// joined although lanes were free: those that its slot had, which none
    /// of its workers will take over.
    #[must_use]
    pub fn passed_over(&self, worker: WorkerId, address: SocketAddr) -> Vec<LaneId> {
        let slot = self.workers.get(&worker).map(|worker| worker.slot);
        let lanes = self.at(address).into_iter();
        lanes
            .flat_map(|(_, listener)| &listener.lanes)
            .filter(|lane| slot.is_some() && lane.lease == Lease::Free(slot))
            .map(|lane| lane.id)
            .collect()
    }

    /// A lane has been put in place of the worker's socket.
    pub fn lent(&mut self, worker: WorkerId, lane: LaneId) {
        if let Some(listener) = self.listener_of(lane) {
            listener.lease(lane, worker);
        }
    }

    /// Whether this lane is bound and does not listen yet.
    #[must_use]
    pub fn is_bound(&self, lane: LaneId) -> bool {
        let mut bound = self.listeners.values().flat_map(|listener| &listener.bound);
        bound.any(|known| known.id == lane)
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
        let Some(worker) = self.workers.get_mut(&worker) else {
            return false;
        };
        if address == Some(INSPECTOR) {
            return false;
        }
        worker.listens.extend(address);
        match self.expected.get(&worker.slot) {
            Some(expected) => expected.is_subset(&worker.listens),
            None => true,
        }
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
        let mut captured = self.listeners.values().filter(|of| !of.is_own);
        captured.any(|listener| listener.all().any(|known| known.id == lane))
    }

    fn at(&self, address: SocketAddr) -> Option<(super::ListenerId, &Listener)> {
        let mut listeners = self.listeners.iter();
        let found = listeners.find(|(_, listener)| listener.address == address);
        found.map(|(id, listener)| (*id, listener))
    }

    /// The one lane for all, where that is how the port is shared.
    fn shared_lane(&self, listener: &Listener) -> Option<LaneId> {
        let shared = |lane: &&Lane| matches!(lane.lease, Lease::Shared(_));
        listener.all().find(shared).map(|lane| lane.id)
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
mod tests {
    use super::*;

    #[test]
    fn addresses_that_one_worker_cannot_have_both() {
        for (first, second, apart, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", false, true),
            ("127.0.0.1:80", "127.0.0.1:81", false, false),
            ("127.0.0.1:80", "127.0.0.2:80", false, false),
            ("0.0.0.0:80", "127.0.0.2:80", false, true),
            ("127.0.0.2:80", "0.0.0.0:80", false, true),
            ("0.0.0.0:80", "[::]:80", false, true),
            ("0.0.0.0:80", "[::]:80", true, false),
            ("[::]:80", "127.0.0.1:80", false, true),
            ("[::1]:80", "127.0.0.1:80", false, false),
            ("[::1]:80", "[::]:80", true, true),
        ] {
            let [one, other] = [first, second].map(|address| address.parse().unwrap());
            assert_eq!(overlap(one, other, apart), expected, "{first} {second}");
        }
    }
}
