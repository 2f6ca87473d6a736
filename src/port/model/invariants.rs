//! What has to hold of every state, by the numbers of `port/mod.rs`.

use super::{Met, Model, Scope, address, indices, require};
use crate::port::lane::{Lane, Lease, Listener};
use crate::port::{Arrivals, Standing, Worker};

/// From the most willing on.
const RANKS: [&str; 7] = [
    "rank: ready",
    "rank: starting",
    "rank: failing",
    "rank: stuck",
    "rank: free",
    "rank: leaving",
    "rank: closing",
];

impl Model {
    pub(in crate::port) fn check(&self, scope: Scope, met: &mut Met) -> Result<(), String> {
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
                    let known = |of| self.ports.workers.contains_key(of);
                    !lessees.is_empty() && lessees.iter().all(known)
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
            require(
                is_target,
                2,
                "a lane that is not the best off is given some",
            )?;
        }
        if best == Some(&"rank: free") {
            let bests = self.bests(listener.address.port(), false);
            require(given.len() == 1, 2, "several free lanes are given some")?;
            let is_next = bests.contains(&listener.lanes[given[0]].id);
            return require(is_next, 2, "not the one that is next");
        }
        if self.ports.arrivals == Arrivals::Told && !listener.rotation.is_fast() {
            let watched = self.ports.watched();
            let all = listener.lanes.iter().all(|lane| watched.contains(&lane.id));
            let told = !scope.turns || targets.len() < 2 || all;
            require(told, 2, "nobody would say whose turn is next")?;
        }
        if self.ports.arrivals == Arrivals::Told && listener.rotation.is_slow() {
            let had = |at: &usize| listener.rotation.given_to(listener.lanes[*at].id);
            let fewest = targets.iter().map(had).min();
            let fewest = |at: &usize| Some(had(at)) == fewest;
            let due: Vec<usize> = targets.into_iter().filter(fewest).collect();
            return require(given == due, 2, "others than had fewest are given some");
        }
        require(given == targets, 2, "a lane is given none")
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
        let stays = |worker: &&Worker| worker.standing != Standing::TurnedAway;
        if lessees.is_empty() {
            "rank: free"
        } else if some(Standing::Admitted)
            && !lane.flow.is_stuck(self.now)
            && !lane.standstill.is_suspected()
        {
            "rank: ready"
        } else if some(Standing::Starting) {
            "rank: starting"
        } else if some(Standing::Failing) {
            "rank: failing"
        } else if lessees.iter().copied().any(|of| stays(&of)) {
            "rank: stuck"
        } else {
            "rank: leaving"
        }
    }

    pub(super) fn meet(&self, met: &mut Met) {
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
}
