//! A listener and its lanes.

use std::cmp::Reverse;
use std::iter;
use std::net::SocketAddr;

use super::program::Program;
use super::rotation::{Flow, Rotation};
use super::standstill::Standstill;
use super::{LaneId, Sharing};
use crate::supervisor::WorkerId;
use crate::table::Set;

/// Who has a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lease {
    /// Nobody; whose slot had it last.
    Free(Option<u32>),
    /// One worker.
    To(WorkerId),
    /// One worker, which was started with it and has not bound the address
    /// itself.
    Passed(WorkerId),
    /// Every worker that has bound the address, and there is one: the lane
    /// is their one queue.
    Shared(Set<WorkerId>),
    /// Nobody any more: it is about to be closed.
    Retiring,
}

impl Lease {
    pub(super) fn is_held(&self) -> bool {
        match self {
            Self::Free(_) | Self::Retiring => false,
            Self::To(_) | Self::Passed(_) | Self::Shared(_) => true,
        }
    }

    pub(super) fn is_to(&self, worker: WorkerId) -> bool {
        match self {
            Self::Free(_) | Self::Retiring => false,
            Self::To(lessee) | Self::Passed(lessee) => *lessee == worker,
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
    /// The first of the sockets that one worker has had here together.
    pub(super) bundle: LaneId,
    /// Which of those it is, from 0 on.
    pub(super) place: u32,
    /// How long it has not, where that is looked for.
    pub(super) standstill: Standstill,
}

impl Lane {
    pub(super) fn new(id: LaneId, lease: Lease) -> Self {
        Self {
            id,
            lease,
            flow: Flow::Moving,
            bundle: id,
            place: 0,
            standstill: Standstill::Nothing,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        matches!(self.lease, Lease::Free(_))
    }
}

/// An address and the sockets that share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    /// Whether clinit made it, for `--listen`.
    pub(super) is_own: bool,
    pub(super) sharing: Sharing,
    /// Those that listen, by their index in the kernel's group.
    pub(super) lanes: Vec<Lane>,
    /// Those that are bound and do not listen yet: in no group.
    pub(super) bound: Vec<Lane>,
    pub(super) rotation: Rotation,
    /// What the kernel has been told, if anything.
    pub(super) attached: Option<Program>,
}

impl Listener {
    pub(super) fn new(address: SocketAddr, is_own: bool, sharing: Sharing) -> Self {
        Self {
            address,
            is_own,
            sharing,
            lanes: Vec::new(),
            bound: Vec::new(),
            rotation: Rotation::default(),
            attached: None,
        }
    }

    /// Every lane, bound ones too. One after the other: what is done with all
    /// of a chain is in the program twice.
    pub(super) fn all(&self) -> impl Iterator<Item = &Lane> {
        let mut all = self.lanes.iter().chain(&self.bound);
        iter::from_fn(move || all.next())
    }

    pub(super) fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.all().find(|lane| lane.id == id)
    }

    pub(super) fn is_held(&self) -> bool {
        self.all().any(|lane| lane.lease.is_held())
    }

    pub(super) fn is_held_by(&self, worker: WorkerId) -> bool {
        self.all().any(|lane| lane.lease.is_to(worker))
    }

    /// The free lane that the next worker takes over: where most connections
    /// wait, else the first. Those that one worker has had together are taken
    /// over together, from the first of them on.
    ///
    /// What is left where a worker has some of them stays for that one, unless
    /// somebody waits there; and then it comes last.
    pub(super) fn best_free(&self, queued: &dyn Fn(LaneId) -> u32) -> Option<LaneId> {
        self.best_of(
            &|lane| lane.is_free() && (self.is_whole(lane) || queued(lane.id) > 0),
            queued,
        )
    }

    /// The free lane that is given connections where no other is.
    pub(super) fn next_free(&self, queued: &dyn Fn(LaneId) -> u32) -> Option<LaneId> {
        self.best_free(queued)
            .or_else(|| self.best_of(&Lane::is_free, queued))
    }

    fn best_of(
        &self,
        may_be: &dyn Fn(&Lane) -> bool,
        queued: &dyn Fn(LaneId) -> u32,
    ) -> Option<LaneId> {
        let preference = |of: &&Lane| {
            let free = self.bundle(of).filter(|lane| lane.is_free());
            let waiting: u64 = free.map(|lane| u64::from(queued(lane.id))).sum();
            (self.is_whole(of), waiting, Reverse(of.place))
        };
        // The last of equal ones: so the first, of the reversed.
        let lanes = self.lanes.iter().rev().filter(|lane| may_be(lane));
        lanes.max_by_key(preference).map(|lane| lane.id)
    }

    /// The sockets that belong together with this one.
    fn bundle(&self, of: &Lane) -> impl Iterator<Item = &Lane> {
        let bundle = of.bundle;
        self.all().filter(move |lane| lane.bundle == bundle)
    }

    /// Whether nobody has any of those.
    pub(super) fn is_whole(&self, of: &Lane) -> bool {
        !self.bundle(of).any(|lane| lane.lease.is_held())
    }

    /// The sockets among which a worker's next one here belongs, and its place
    /// there; none where the worker has no other.
    pub(super) fn next_place(&self, worker: WorkerId) -> Option<(LaneId, u32)> {
        let own = || self.all().filter(|lane| lane.lease.is_to(worker));
        let bundle = own().next()?.bundle;
        let taken: Set<u32> = own().map(|lane| lane.place).collect();
        // One of as many and one more is not taken.
        let most = u32::try_from(taken.len()).ok()?;
        let place = (0..=most).find(|place| !taken.contains(place))?;
        Some((bundle, place))
    }

    /// The free lane that was in the place of a worker's next socket here.
    pub(super) fn paired(&self, worker: WorkerId) -> Option<LaneId> {
        self.free_at(self.next_place(worker)?)
    }

    /// The free lane that was in the place of one that is bound.
    pub(super) fn twin(&self, id: LaneId) -> Option<LaneId> {
        let bound = self.bound.iter().find(|lane| lane.id == id)?;
        self.free_at((bound.bundle, bound.place))
    }

    fn free_at(&self, place: (LaneId, u32)) -> Option<LaneId> {
        let mut free = self.lanes.iter().filter(|lane| lane.is_free());
        let free = free.find(|lane| (lane.bundle, lane.place) == place);
        free.map(|lane| lane.id)
    }

    /// The one lane for all, where that is how the port is shared.
    pub(super) fn shared_lane(&self) -> Option<LaneId> {
        let shared = |lane: &&Lane| matches!(lane.lease, Lease::Shared(_));
        self.all().find(shared).map(|lane| lane.id)
    }

    /// The lane that a worker was started with and may ask for by `bind`.
    pub(super) fn passed_to(&self, worker: WorkerId) -> Option<LaneId> {
        let passed = |lane: &&Lane| match &lane.lease {
            Lease::Passed(lessee) => *lessee == worker,
            // Whether it has asked before is not kept: it may again.
            Lease::Shared(lessees) => self.is_own && lessees.contains(&worker),
            Lease::Free(_) | Lease::To(_) | Lease::Retiring => false,
        };
        self.all().find(passed).map(|lane| lane.id)
    }

    /// What a lane that is leased to this worker first is to be.
    pub(super) fn first_lease(&self, worker: WorkerId) -> Lease {
        match self.sharing {
            Sharing::OneQueue if self.shared_lane().is_none() => Lease::Shared([worker].into()),
            Sharing::OneQueue | Sharing::Lanes => Lease::To(worker),
        }
    }

    /// Leases a lane to one worker more. One that is another's stays so
    /// (invariant 1).
    pub(super) fn lease(&mut self, id: LaneId, worker: WorkerId) {
        let first = self.first_lease(worker);
        let mut lanes = self.lanes.iter_mut().chain(&mut self.bound);
        if let Some(lane) = lanes.find(|lane| lane.id == id) {
            match &mut lane.lease {
                Lease::Shared(lessees) => {
                    lessees.insert(worker);
                }
                lease @ Lease::Free(_) => *lease = first,
                lease @ Lease::Passed(_) if lease.is_to(worker) => *lease = Lease::To(worker),
                Lease::To(_) | Lease::Passed(_) | Lease::Retiring => {}
            }
        }
    }

    /// Leases a lane to a worker that is started with it.
    pub(super) fn pass(&mut self, id: LaneId, worker: WorkerId) {
        self.lease(id, worker);
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id)
            && lane.lease == Lease::To(worker)
        {
            lane.lease = Lease::Passed(worker);
        }
    }

    /// Takes a worker's leases back: that of one lane, or all. Returns the
    /// lanes that are dropped, since they never listened.
    pub(super) fn release(
        &mut self,
        worker: WorkerId,
        slot: Option<u32>,
        only: Option<LaneId>,
    ) -> Vec<LaneId> {
        for lane in self.lanes.iter_mut().chain(&mut self.bound) {
            if only.is_some_and(|only| only != lane.id) {
                continue;
            }
            if lane.lease.is_to(worker) {
                // What was seen of this worker says nothing of the next.
                lane.standstill = Standstill::Nothing;
            }
            if let Lease::Shared(lessees) = &mut lane.lease
                && lessees.len() > 1
            {
                lessees.remove(&worker);
            } else if lane.lease.is_to(worker) {
                lane.lease = Lease::Free(slot);
            }
        }
        let dropped = self.bound.iter().filter(|lane| !lane.lease.is_held());
        let dropped = dropped.map(|lane| lane.id).collect();
        self.bound.retain(|lane| lane.lease.is_held());
        dropped
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

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(number: u32) -> WorkerId {
        WorkerId::from_index(number)
    }

    fn listener(leases: &[Lease]) -> Listener {
        let address = ([127, 0, 0, 1], 80).into();
        let mut listener = Listener::new(address, false, Sharing::Lanes);
        let lanes = (0..).map(LaneId).zip(leases.iter().cloned());
        listener.lanes = lanes.map(|(id, lease)| Lane::new(id, lease)).collect();
        listener
    }

    #[test]
    fn of_free_lanes_with_equal_queues_the_first_is_the_next() {
        let leases = [
            Lease::To(worker(0)),
            Lease::Free(None),
            Lease::Free(Some(1)),
        ];
        let listener = listener(&leases);
        assert_eq!(listener.best_free(&|_| 0), Some(LaneId(1)));
        assert_eq!(listener.best_free(&|_| 7), Some(LaneId(1)));
        assert_eq!(listener.best_free(&|lane| lane.0), Some(LaneId(2)));
    }

    #[test]
    fn the_last_takes_the_place_of_one_that_leaves() {
        let mut listener = listener(&[const { Lease::Free(None) }; 4]);
        listener.remove(LaneId(1));
        let order: Vec<_> = listener.lanes.iter().map(|lane| lane.id.0).collect();
        assert_eq!(order, [0, 3, 2]);
    }

    #[test]
    fn late_news_takes_no_lane_from_another() {
        let mut listener = listener(&[Lease::To(worker(1)), Lease::Retiring]);
        listener.release(worker(0), Some(0), Some(LaneId(0)));
        listener.lease(LaneId(0), worker(0));
        listener.lease(LaneId(1), worker(0));
        assert!(!listener.is_held_by(worker(0)));
        assert!(listener.is_held_by(worker(1)));
    }

    #[test]
    fn a_lane_that_never_listened_dies_with_its_last_lessee() {
        let mut listener = listener(&[]);
        let lessees = [worker(0), worker(1)].into();
        listener.bound = vec![Lane::new(LaneId(0), Lease::Shared(lessees))];
        assert_eq!(listener.release(worker(0), Some(0), None), []);
        assert_eq!(listener.release(worker(1), Some(1), None), [LaneId(0)]);
        assert_eq!(listener.all().count(), 0);
    }
}
