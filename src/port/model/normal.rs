//! One representative for states that behave alike.

use super::{Model, NOW, Scope, stale};
use crate::port::lane::{Lane, Lease, Listener};
use crate::port::rotation::Rotation;
use crate::port::{LaneId, ListenerId};
use crate::supervisor::WorkerId;
use crate::table::{Set, Table};

impl Model {
    /// Lanes and listeners have the lowest numbers, and what cannot matter in
    /// this scope is as it was at first.
    pub(in crate::port) fn normal(mut self, scope: Scope) -> Self {
        if scope.successors {
            self.reorder(scope);
        }
        let mut names = Table::new();
        let mut listeners: Vec<_> = std::mem::take(&mut self.ports.listeners)
            .into_iter()
            .map(|(_, listener)| listener)
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
            lanes.for_each(|lane| lane.id = *names.get(&lane.id).unwrap());
            // Sockets that were had together are known by the first of them.
            let bundles: Vec<_> = listener.all().map(|lane| (lane.bundle, lane.id)).collect();
            let first = |of| bundles.iter().filter(move |(bundle, _)| *bundle == of);
            for lane in listener.lanes.iter_mut().chain(&mut listener.bound) {
                lane.bundle = first(lane.bundle).map(|(_, id)| *id).min().unwrap();
            }
            if scope.turns {
                listener.rotation.renumber(&names);
                listener.rotation.round(NOW);
            } else {
                listener.rotation = Rotation::default();
            }
        }
        self.ports.next_lane = u32::try_from(names.len()).unwrap();
        self.ports.next_listener = u32::try_from(listeners.len()).unwrap();
        self.ports.listeners = (0..).map(ListenerId).zip(listeners).collect();
        for group in self.groups.values_mut() {
            for lane in group {
                *lane = *names.get(lane).unwrap();
            }
        }
        let queues = std::mem::take(&mut self.queues).into_iter();
        self.queues = queues
            .filter_map(|(lane, length)| Some((*names.get(&lane)?, length)))
            .collect();
        let silent = std::mem::take(&mut self.silent).into_iter();
        self.silent = silent
            .filter_map(|lane| names.get(&lane).copied())
            .collect();
        let suspected = |id| {
            let mut lanes = self.ports.listeners.values().flat_map(Listener::all);
            lanes.any(|lane| lane.id == id && lane.standstill.is_suspected())
        };
        let moved = self.moved.iter();
        let moved = moved.filter_map(|lane| names.get(lane).copied());
        self.moved = moved.filter(|lane| suspected(*lane)).collect();
        if scope.hangs {
            self.ports.find_hung(super::STEP, NOW);
        }
        if scope.readiness {
            self.heard.retain(|_, heard| !heard.is_empty());
            // Who is gone or turned away sets no example any more.
            let examples = &self.examples;
            for (slot, expected) in self.ports.expected.iter_mut() {
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
            workers.for_each(|worker| worker.listens = Set::new());
        }
        self
    }

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
