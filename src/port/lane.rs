//! A listener and its lanes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::LaneId;
use super::program::Program;
use super::rotation::{Flow, Rotation};
use crate::supervisor::WorkerId;

/// Who has a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lease {
    /// Nobody; whose slot had it last.
    Free(Option<u32>),
    /// One worker.
    To(WorkerId),
    /// Every worker that has bound the address: the lane is their one queue.
    Shared(BTreeSet<WorkerId>),
    /// Nobody any more: it is about to be closed.
    Retiring,
}

impl Lease {
    pub(super) fn is_to(&self, worker: WorkerId) -> bool {
        match self {
            Self::Free(_) | Self::Retiring => false,
            Self::To(lessee) => *lessee == worker,
            Self::Shared(lessees) => lessees.contains(&worker),
        }
    }
}

/// A socket of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) lease: Lease,
    /// Whether its queue moves.
    pub(super) flow: Flow,
}

impl Lane {
    pub(super) fn new(id: LaneId, lease: Lease) -> Self {
        Self {
            id,
            lease,
            flow: Flow::Moving,
        }
    }
}

/// An address and the sockets that share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    /// Whether clinit made it, for `--listen`.
    pub(super) is_own: bool,
    /// Those that listen, by their index in the kernel's group.
    pub(super) lanes: Vec<Lane>,
    /// Those that are bound and do not listen yet: in no group.
    pub(super) bound: Vec<Lane>,
    pub(super) rotation: Rotation,
    /// What the kernel has been told, if anything.
    pub(super) attached: Option<Program>,
}

impl Listener {
    pub(super) fn new(address: SocketAddr, is_own: bool) -> Self {
        Self {
            address,
            is_own,
            lanes: Vec::new(),
            bound: Vec::new(),
            rotation: Rotation::default(),
            attached: None,
        }
    }

    /// Every lane, bound ones too.
    pub(super) fn all(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().chain(&self.bound)
    }

    pub(super) fn is_held(&self) -> bool {
        let held = |lane: &Lane| matches!(lane.lease, Lease::To(_) | Lease::Shared(_));
        self.all().any(held)
    }

    pub(super) fn is_held_by(&self, worker: WorkerId) -> bool {
        self.all().any(|lane| lane.lease.is_to(worker))
    }

    /// The free lane that the next worker takes over: the one where most
    /// connections wait, else the first.
    pub(super) fn best_free(&self, queued: &dyn Fn(LaneId) -> u32) -> Option<LaneId> {
        let free = self.lanes.iter().rev();
        let free = free.filter(|lane| matches!(lane.lease, Lease::Free(_)));
        // The last of equal ones: so the first, of the reversed.
        free.max_by_key(|lane| queued(lane.id)).map(|lane| lane.id)
    }

    /// Leases a lane to one worker more.
    pub(super) fn lease(&mut self, id: LaneId, worker: WorkerId) {
        let mut lanes = self.lanes.iter_mut().chain(&mut self.bound);
        if let Some(lane) = lanes.find(|lane| lane.id == id) {
            match &mut lane.lease {
                Lease::Shared(lessees) => {
                    lessees.insert(worker);
                }
                Lease::Retiring => {}
                lease @ (Lease::Free(_) | Lease::To(_)) => *lease = Lease::To(worker),
            }
        }
    }

    /// Takes all leases of a worker back; returns the lanes that are dropped,
    /// since they never listened.
    pub(super) fn release(&mut self, worker: WorkerId, slot: u32) -> Vec<LaneId> {
        for lane in self.lanes.iter_mut().chain(&mut self.bound) {
            match &mut lane.lease {
                Lease::Shared(lessees) => {
                    lessees.remove(&worker);
                }
                Lease::To(lessee) if *lessee == worker => lane.lease = Lease::Free(Some(slot)),
                Lease::Free(_) | Lease::To(_) | Lease::Retiring => {}
            }
        }
        let held = |lane: &Lane| match &lane.lease {
            Lease::Free(_) | Lease::Retiring => false,
            Lease::To(_) => true,
            Lease::Shared(lessees) => !lessees.is_empty(),
        };
        let dropped = self.bound.iter().filter(|lane| !held(lane));
        let dropped = dropped.map(|lane| lane.id).collect();
        self.bound.retain(held);
        dropped
    }

    /// Frees a lane whose worker has let go of it; one that never listened is
    /// forgotten.
    pub(super) fn free(&mut self, id: LaneId, worker: WorkerId, slot: Option<u32>) {
        let mut lanes = self.lanes.iter_mut().chain(&mut self.bound);
        if let Some(lane) = lanes.find(|lane| lane.id == id) {
            match &mut lane.lease {
                Lease::To(_) => lane.lease = Lease::Free(slot),
                Lease::Shared(lessees) => drop(lessees.remove(&worker)),
                Lease::Free(_) | Lease::Retiring => {}
            }
        }
        let held = |lane: &Lane| match &lane.lease {
            Lease::To(_) => true,
            Lease::Shared(lessees) => !lessees.is_empty(),
            Lease::Free(_) | Lease::Retiring => false,
        };
        self.bound.retain(held);
    }

    /// Removes a lane as the kernel does: the last takes its index.
    pub(super) fn take_out(&mut self, id: LaneId) -> Option<Lane> {
        let index = self.lanes.iter().position(|lane| lane.id == id)?;
        Some(self.lanes.swap_remove(index))
    }

    /// Removes a lane for good.
    pub(super) fn remove(&mut self, id: LaneId) {
        let _ = self.take_out(id);
        self.bound.retain(|lane| lane.id != id);
        self.rotation.forget(id);
    }
}
