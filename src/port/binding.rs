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
        let mut listeners = self.listeners.values();
        let of = listeners.find(|listener| listener.all().any(|known| known.id == lane));
        of.map(|listener| listener.address)
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
        let mut captured = self.listeners.values().filter(|of| !of.is_own);
        captured.any(|listener| listener.all().any(|known| known.id == lane))
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
mod tests {
    use super::*;
    use crate::port::{Arrivals, ListenerId, Sharing};

    fn worker(number: u32) -> WorkerId {
        WorkerId::from_index(number)
    }

    fn at(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn none_wait(_: LaneId) -> u32 {
        0
    }

    /// These workers start, one a slot.
    fn ports(sharing: Sharing, workers: u32) -> Ports {
        let mut ports = Ports::new(sharing, Arrivals::Untold);
        (0..workers).for_each(|number| ports.starting(worker(number), number));
        ports
    }

    /// A worker's own socket joins and listens.
    fn serve(ports: &mut Ports, number: u32, port: u16) -> LaneId {
        let lane = ports.joined(worker(number), at(port));
        ports.joins_group(lane);
        let _ = ports.listened(worker(number), Some(lane));
        lane
    }

    fn bind(ports: &Ports, number: u32, port: u16) -> Bind {
        ports.bind(worker(number), at(port), None, false, &none_wait)
    }

    #[test]
    fn the_first_is_first_and_the_next_is_not() {
        let mut ports = ports(Sharing::Lanes, 2);
        assert_eq!(bind(&ports, 0, 80), Bind::Join { first: true });
        serve(&mut ports, 0, 80);
        assert_eq!(bind(&ports, 1, 80), Bind::Join { first: false });
        assert_eq!(bind(&ports, 1, 81), Bind::Join { first: true });
        assert!(ports.has_port(80) && !ports.has_port(81));
    }

    #[test]
    fn the_dead_workers_lane_with_the_queue_is_lent_first() {
        let mut ports = ports(Sharing::Lanes, 3);
        let lanes = [0, 1, 2].map(|number| serve(&mut ports, number, 80));
        for number in [0, 1, 2] {
            assert_eq!(ports.gone(worker(number)), []);
        }
        let queued = |lane| if lane == lanes[1] { 3 } else { 0 };
        for (number, lane) in [(3, lanes[1]), (4, lanes[0]), (5, lanes[2])] {
            ports.starting(worker(number), number - 3);
            let answer = ports.bind(worker(number), at(80), None, false, &queued);
            assert_eq!(answer, Bind::Lend(lane));
            ports.lent(worker(number), lane);
        }
        assert_eq!(ports.lanes_of(worker(3)), [lanes[1]]);
    }

    #[test]
    fn a_second_bind_of_the_same_worker_is_again() {
        let mut ports = ports(Sharing::Lanes, 2);
        let lane = serve(&mut ports, 0, 80);
        assert_eq!(bind(&ports, 0, 80), Bind::Again);
        let same_socket = ports.bind(worker(0), at(80), Some(lane), false, &none_wait);
        assert_eq!(same_socket, Bind::Proceed, "the kernel says EINVAL");
        assert_eq!(ports.gone(worker(0)), []);
        ports.lent(worker(1), lane);
        assert_eq!(bind(&ports, 1, 80), Bind::Again);
    }

    #[test]
    fn a_socket_that_stays_joins_although_a_lane_is_free() {
        let mut ports = ports(Sharing::Lanes, 1);
        let old = serve(&mut ports, 0, 80);
        ports.gone(worker(0));
        ports.starting(worker(1), 0);
        let answer = ports.bind(worker(1), at(80), None, true, &none_wait);
        assert_eq!(answer, Bind::Join { first: false });
        ports.joined(worker(1), at(80));
        assert_eq!(ports.passed_over(worker(1), at(80)), [old]);
    }

    /// One that stays in one start and another server in the next: slot 0's worker took
    /// slot 1's lane over, so nobody would ever take its own.
    #[test]
    fn a_lane_whose_slot_has_another_by_now_is_passed_over() {
        let mut ports = ports(Sharing::Lanes, 2);
        let lanes = [0, 1].map(|number| serve(&mut ports, number, 80));
        ports.gone(worker(0));
        ports.gone(worker(1));
        ports.starting(worker(2), 0);
        ports.starting(worker(3), 1);
        ports.lent(worker(2), lanes[1]);
        ports.joined(worker(3), at(80));
        assert_eq!(ports.passed_over(worker(3), at(80)), [lanes[0]]);
    }

    #[test]
    fn of_a_slot_without_a_worker_one_lane_waits_for_the_next() {
        let mut ports = ports(Sharing::Lanes, 2);
        let lanes = [0, 0, 1].map(|number| serve(&mut ports, number, 80));
        ports.gone(worker(0));
        assert_eq!(ports.passed_over(worker(1), at(80)), [lanes[1]]);
    }

    #[test]
    fn one_queue_is_one_lane_for_all_and_outlives_them() {
        let mut ports = ports(Sharing::OneQueue, 3);
        let lane = serve(&mut ports, 0, 80);
        for number in [1, 2] {
            assert_eq!(bind(&ports, number, 80), Bind::Lend(lane));
            ports.lent(worker(number), lane);
        }
        ports.gone(worker(0));
        ports.abandoned(worker(1), lane);
        assert!(ports.is_held(lane), "the third has it");
        ports.gone(worker(2));
        ports.starting(worker(3), 0);
        assert_eq!(bind(&ports, 3, 80), Bind::Lend(lane));
    }

    /// Two bind, neither listens yet, and the first closes its socket: the
    /// other has it still.
    #[test]
    fn one_queue_is_not_lost_with_the_first_that_closes_it() {
        let mut ports = ports(Sharing::OneQueue, 2);
        let lane = ports.joined(worker(0), at(80));
        ports.lent(worker(1), lane);
        ports.abandoned(worker(0), lane);
        assert!(ports.is_bound(lane));
        assert_eq!(ports.lanes_of(worker(1)), [lane]);
    }

    #[test]
    fn beside_one_queue_a_socket_that_stays_is_a_lane_that_dies_with_its_worker() {
        let mut ports = ports(Sharing::OneQueue, 2);
        let queue = serve(&mut ports, 0, 80);
        let own = serve(&mut ports, 1, 80);
        ports.gone(worker(1));
        assert!(ports.is_held(queue) && !ports.is_held(own));
    }

    /// Beside `--listen 80` a server that knows nothing of it binds port 80:
    /// it gets the lane that it was started with.
    #[test]
    fn a_bind_of_clinits_own_listener_gets_the_lane_that_was_handed_down() {
        let mut ports = ports(Sharing::Lanes, 1);
        let listener: ListenerId = ports.open(at(80), Sharing::Lanes);
        assert_eq!(ports.lease(worker(0), listener, &none_wait), None);
        let lane = ports.made(listener);
        let leased = ports.lease(worker(0), listener, &none_wait);
        assert_eq!(leased, Some(lane));
        assert_eq!(bind(&ports, 0, 80), Bind::Lend(lane));
        ports.lent(worker(0), lane);
        assert_eq!(bind(&ports, 0, 80), Bind::Again);
    }

    #[test]
    fn a_socket_that_stays_takes_the_place_of_the_lane_that_was_handed_down() {
        let mut ports = ports(Sharing::Lanes, 1);
        let listener = ports.open(at(80), Sharing::Lanes);
        let lane = ports.made(listener);
        ports.lease(worker(0), listener, &none_wait);
        let answer = ports.bind(worker(0), at(80), None, true, &none_wait);
        assert_eq!(answer, Bind::Join { first: false });
        let own = ports.joined(worker(0), at(80));
        assert_eq!(ports.lanes_of(worker(0)), [own]);
        assert_eq!(ports.passed_over(worker(0), at(80)), [lane]);
    }

    #[test]
    fn what_was_under_way_for_a_worker_that_is_gone_leaves_nothing() {
        let mut ports = ports(Sharing::Lanes, 1);
        ports.gone(worker(0));
        let lane = ports.joined(worker(0), at(80));
        assert!(!ports.is_bound(lane) && !ports.has_port(80));
        assert_eq!(bind(&ports, 0, 80), Bind::Proceed);
    }

    #[test]
    fn who_binds_too_much_does_so_without_clinit() {
        let mut ports = ports(Sharing::Lanes, 2);
        for port in 1..=256 {
            assert_eq!(bind(&ports, 0, port), Bind::Join { first: true });
            ports.joined(worker(0), at(port));
        }
        assert_eq!(bind(&ports, 0, 257), Bind::Proceed);
        assert_eq!(bind(&ports, 1, 257), Bind::Join { first: true });
        assert_eq!(ports.gone(worker(0)).len(), 256);
        for port in 1..=4096 {
            serve(&mut ports, 1, port);
        }
        assert_eq!(bind(&ports, 1, 4097), Bind::Proceed);
    }

    #[test]
    fn the_inspectors_port_is_no_readiness() {
        let mut ports = ports(Sharing::Lanes, 1);
        let inspector = ports.joined(worker(0), INSPECTOR);
        ports.joins_group(inspector);
        assert!(!ports.listened(worker(0), Some(inspector)));
        let lane = ports.joined(worker(0), at(80));
        assert!(ports.listened(worker(0), Some(lane)));
    }

    #[test]
    fn a_successor_is_ready_where_its_predecessor_was() {
        let mut ports = ports(Sharing::Lanes, 1);
        serve(&mut ports, 0, 80);
        ports.admit(worker(0), &none_wait);
        // After it was ready, and it counts too.
        serve(&mut ports, 0, 81);
        // Beside it, as in a reload.
        ports.starting(worker(1), 0);
        let lane = ports.joined(worker(1), at(81));
        assert!(!ports.listened(worker(1), Some(lane)));
        assert!(!ports.listened(worker(1), None));
        let lane = ports.joined(worker(1), at(80));
        assert!(ports.listened(worker(1), Some(lane)));
    }

    /// It was asked to stop before it was ready: the one before it is still
    /// the example.
    #[test]
    fn one_that_never_was_ready_sets_no_example() {
        let mut ports = ports(Sharing::Lanes, 1);
        serve(&mut ports, 0, 80);
        serve(&mut ports, 0, 81);
        ports.admit(worker(0), &none_wait);
        ports.gone(worker(0));
        ports.starting(worker(1), 0);
        serve(&mut ports, 1, 80);
        ports.turn_away(worker(1));
        ports.gone(worker(1));
        ports.starting(worker(2), 0);
        let lane = ports.joined(worker(2), at(80));
        assert!(!ports.listened(worker(2), Some(lane)));
    }

    /// A port that a worker tries and closes (Node's port probe) is none that
    /// its successor has to have; what it closes at its end is.
    #[test]
    fn a_port_that_was_closed_in_time_is_not_expected() {
        let mut ports = ports(Sharing::Lanes, 1);
        let server = serve(&mut ports, 0, 80);
        ports.admit(worker(0), &none_wait);
        let probe = serve(&mut ports, 0, 4711);
        ports.abandoned(worker(0), probe);
        ports.turn_away(worker(0));
        ports.abandoned(worker(0), server);
        ports.gone(worker(0));
        ports.starting(worker(1), 0);
        assert!(!ports.listened(worker(1), None));
        ports.lent(worker(1), server);
        assert!(ports.listened(worker(1), Some(server)));
    }

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
