//! Which lanes are given new connections, and the programs that say so.

use super::lane::{Lane, Lease, Listener};
use super::program::Program;
use super::rotation::{Arrivals, Flow};
use super::{LaneId, Ports, Standing};
use crate::supervisor::Time;

/// How willingly a lane is given new connections. Those that fare best by it
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Its worker is ready.
    Ready,
    /// Its worker starts.
    Starting,
    /// Its worker is ready, and takes nothing from its queue, or is stopped.
    Stuck,
    /// It has no worker; the next one takes it over.
    Free,
    /// Its worker is about to leave.
    Leaving,
    /// It is about to be closed.
    Closing,
}

impl Ports {
    /// The programs that the kernel has not been told of, each with a lane of
    /// the group to tell it through. To be called after every change; what is
    /// returned counts as told.
    pub fn due_programs(
        &mut self,
        now: Time,
        queued: &dyn Fn(LaneId) -> u32,
    ) -> Vec<(LaneId, Program)> {
        let mut due = Vec::new();
        let ids: Vec<_> = self.listeners.keys().copied().collect();
        for id in ids {
            let Some(listener) = self.listeners.get(&id) else {
                continue;
            };
            let targets = self.targets(listener, now, queued);
            let arrivals = self.arrivals;
            let Some(listener) = self.listeners.get_mut(&id) else {
                continue;
            };
            let program = program(listener, &targets, arrivals);
            if program.is_some()
                && program != listener.attached
                && let Some(lane) = listener.lanes.first()
            {
                due.extend(program.clone().map(|program| (lane.id, program)));
                listener.attached = program;
            }
        }
        due
    }

    /// The lanes whose arrivals clinit has to be told of, for the next
    /// connection to go to another lane.
    #[must_use]
    pub fn watched(&self) -> Vec<LaneId> {
        if self.arrivals == Arrivals::Untold {
            return Vec::new();
        }
        let listeners = self.listeners.values();
        let slow = listeners.filter(|listener| listener.rotation.takes_turns());
        slow.flat_map(|listener| &listener.lanes)
            .map(|lane| lane.id)
            .collect()
    }

    /// A connection has arrived at a lane. Looks at that one's queue, and at
    /// those that were not empty before: in any other nothing has arrived.
    pub fn arrived(&mut self, lane: LaneId, now: Time, queued: &dyn Fn(LaneId) -> u32) {
        let Some(listener) = self.listener_of(lane) else {
            return;
        };
        listener.rotation.arrived(lane, now);
        for known in &mut listener.lanes {
            if known.id == lane || known.flow != Flow::Moving {
                known.flow = known.flow.after(queued(known.id), now);
            }
        }
    }

    /// Looks again at the pace, and at all queues, of the listeners where that
    /// is due.
    pub fn look(&mut self, now: Time, queued: &dyn Fn(LaneId) -> u32) {
        for listener in self.listeners.values_mut() {
            if listener.rotation.until().is_none_or(|until| until > now) {
                continue;
            }
            listener.rotation.look(now);
            for lane in &mut listener.lanes {
                lane.flow = lane.flow.after(queued(lane.id), now);
            }
        }
    }

    /// When [`Self::look`] is due.
    #[must_use]
    pub fn next_look(&self) -> Option<Time> {
        let listeners = self.listeners.values();
        listeners
            .filter_map(|listener| listener.rotation.until())
            .min()
    }

    /// The indices of the lanes that are given new connections, ascending.
    fn targets(
        &self,
        listener: &Listener,
        now: Time,
        queued: &dyn Fn(LaneId) -> u32,
    ) -> Vec<usize> {
        let rank = |lane: &Lane| self.rank(lane, now);
        let Some(best) = listener.lanes.iter().map(rank).min() else {
            return Vec::new();
        };
        let of_best = listener.lanes.iter().enumerate();
        let of_best = of_best.filter(|(_, lane)| rank(lane) == best);
        if best == Rank::Free {
            // Only one: whoever starts takes over one.
            let next = listener.best_free(queued);
            let next = of_best.filter(|(_, lane)| Some(lane.id) == next);
            return next.map(|(index, _)| index).collect();
        }
        let mut targets: Vec<usize> = of_best.map(|(index, _)| index).collect();
        let closing = |lane: &Lane| lane.lease == Lease::Retiring;
        // The last is about to have another index. Where it is the only one,
        // its own is out of range afterwards: then the kernel takes any.
        if targets.len() > 1
            && targets.last() == Some(&(listener.lanes.len() - 1))
            && listener.lanes.iter().any(closing)
        {
            targets.pop();
        }
        targets
    }

    fn rank(&self, lane: &Lane, now: Time) -> Rank {
        let worker = match &lane.lease {
            Lease::Free(_) => return Rank::Free,
            Lease::Retiring => return Rank::Closing,
            Lease::To(worker) => self.workers.get(worker),
            // There is no other.
            Lease::Shared(_) => return Rank::Ready,
        };
        match worker {
            None => Rank::Free,
            Some(worker) => match worker.standing {
                Standing::TurnedAway => Rank::Leaving,
                _ if worker.suspended => Rank::Stuck,
                Standing::Starting => Rank::Starting,
                Standing::Admitted if lane.flow.is_stuck(now) => Rank::Stuck,
                Standing::Admitted => Rank::Ready,
            },
        }
    }
}

/// What the kernel is to be told. Nothing where there has never been a
/// choice.
fn program(listener: &mut Listener, targets: &[usize], arrivals: Arrivals) -> Option<Program> {
    if listener.lanes.is_empty() {
        // With its last socket the kernel has forgotten the group.
        listener.attached = None;
    }
    if listener.lanes.len() < 2 && listener.attached.is_none() {
        return None;
    }
    let ids: Vec<LaneId> = targets
        .iter()
        .filter_map(|&index| listener.lanes.get(index).map(|lane| lane.id))
        .collect();
    let turn = listener.rotation.turn(&ids)?;
    if ids.len() == 1 || (arrivals == Arrivals::Told && listener.rotation.is_slow()) {
        let index = listener.lanes.iter().position(|lane| lane.id == turn)?;
        return Some(Program::Pinned(number(index)));
    }
    Some(Program::Random(
        targets.iter().map(|&index| number(index)).collect(),
    ))
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
