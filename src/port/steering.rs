//! Which lanes are given new connections, and the programs that say so.

use super::lane::{Lane, Lease, Listener};
use super::program::Program;
use super::rotation::{Arrivals, Flow};
use super::{LaneId, Ports, Standing};
use crate::supervisor::{Time, WorkerId};

/// How many may wait at a lane of a busy listener that is looked at once a
/// second, and mean nothing: what waits then need not be what waited before.
const BUSY: u32 = 16;

/// How willingly a lane is given new connections. Those that fare best by it
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Its worker is ready.
    Ready,
    /// Its worker starts.
    Starting,
    /// Its worker starts, and the one before it was never ready.
    Failing,
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
            listener.note_given();
        }
        due
    }

    /// The kernel could not be told: it is to be tried again.
    pub fn not_told(&mut self, lane: LaneId) {
        if let Some(listener) = self.listener_of(lane) {
            listener.attached = None;
        }
    }

    /// The lanes whose arrivals clinit has to be told of, for the next
    /// connection to go to another lane.
    #[must_use]
    pub fn watched(&self) -> Vec<LaneId> {
        if self.arrivals == Arrivals::Untold {
            return Vec::new();
        }
        let mut watched = Vec::new();
        for listener in self.listeners.values() {
            if listener.rotation.takes_turns() {
                watched.extend(listener.lanes.iter().map(|lane| lane.id));
            }
        }
        watched
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

    /// Looks again at the pace of the listeners where that is due, and at the
    /// queues: at those that were not empty before, and at all where arrivals
    /// were not told.
    pub fn look(&mut self, now: Time, queued: &dyn Fn(LaneId) -> u32) {
        for listener in self.listeners.values_mut() {
            if listener.rotation.until().is_none_or(|until| until > now) {
                continue;
            }
            let untold = listener.rotation.is_fast();
            listener.rotation.look(now);
            for lane in &mut listener.lanes {
                let length = match lane.flow {
                    Flow::Moving if !untold => continue,
                    Flow::Moving | Flow::Still { .. } | Flow::Held { .. } => queued(lane.id),
                };
                lane.flow = if untold && length < BUSY {
                    Flow::Moving
                } else {
                    lane.flow.after(length, now)
                };
            }
        }
    }

    /// Workers that take nothing from a lane of theirs, and have not been
    /// looked at since: whether they still have it is to be found out.
    #[must_use]
    pub fn doubtful(&self, now: Time) -> Vec<WorkerId> {
        let mut unseen = Vec::new();
        for listener in self.listeners.values() {
            for lane in &listener.lanes {
                if matches!(lane.flow, Flow::Still { .. }) && lane.flow.is_stuck(now) {
                    unseen.push(&lane.lease);
                }
            }
        }
        let has_any = |worker: &&WorkerId| unseen.iter().any(|lease| lease.is_to(**worker));
        self.workers.keys().filter(has_any).copied().collect()
    }

    /// Those that are doubtful have the lanes that they have kept.
    pub fn held_after_all(&mut self, now: Time) {
        for listener in self.listeners.values_mut() {
            for lane in &mut listener.lanes {
                if let Flow::Still { length, .. } = lane.flow
                    && lane.flow.is_stuck(now)
                {
                    lane.flow = Flow::Held { length };
                }
            }
        }
    }

    /// Whoever has a lane that is stuck may have let go of it since.
    pub fn doubt(&mut self, now: Time) {
        let stuck_at = now;
        for listener in self.listeners.values_mut() {
            for lane in &mut listener.lanes {
                if let Flow::Held { length } = lane.flow {
                    lane.flow = Flow::Still { stuck_at, length };
                }
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
            let next = listener.next_free(queued);
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
        let of = |worker: &WorkerId| self.rank_for(*worker, lane, now);
        match &lane.lease {
            Lease::Free(_) => Rank::Free,
            Lease::Retiring => Rank::Closing,
            Lease::To(worker) | Lease::Passed(worker) => of(worker),
            // As willingly as the one of them that is given some most so.
            Lease::Shared(lessees) => lessees.iter().map(of).min().unwrap_or(Rank::Free),
        }
    }

    fn rank_for(&self, worker: WorkerId, lane: &Lane, now: Time) -> Rank {
        match self.workers.get(&worker) {
            None => Rank::Free,
            Some(worker) => match worker.standing {
                Standing::TurnedAway => Rank::Leaving,
                _ if worker.suspended => Rank::Stuck,
                Standing::Starting => Rank::Starting,
                Standing::Failing => Rank::Failing,
                Standing::Admitted if lane.flow.is_stuck(now) => Rank::Stuck,
                Standing::Admitted if lane.standstill.is_suspected() => Rank::Stuck,
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
    let id = |index: usize| listener.lanes.get(index).map(|lane| lane.id);
    let ids: Vec<LaneId> = targets.iter().filter_map(|&index| id(index)).collect();
    let due = listener.rotation.turn(&ids);
    let all = arrivals == Arrivals::Untold || !listener.rotation.is_slow();
    let given = |index: &usize| all || id(*index).is_some_and(|lane| due.contains(&lane));
    let given: Vec<u32> = targets.iter().copied().filter(given).map(number).collect();
    match given[..] {
        [] => None,
        [only] => Some(Program::Pinned(only)),
        [..] => Some(Program::Random(given)),
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Sharing;
    use crate::supervisor::WorkerId;

    fn worker(number: u32) -> WorkerId {
        WorkerId::from_index(number)
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(1_000_000 + ms)
    }

    fn none_wait(_: LaneId) -> u32 {
        0
    }

    /// Workers one a slot, that are ready and listen.
    fn ready(arrivals: Arrivals, workers: u32) -> (Ports, Vec<LaneId>) {
        let mut ports = Ports::new(Sharing::Lanes, arrivals);
        let lanes = (0..workers).map(|number| {
            ports.starting(worker(number), number);
            let lane = ports.joined(worker(number), ([127, 0, 0, 1], 80).into());
            ports.joins_group(lane);
            ports.admit(worker(number), &none_wait);
            lane
        });
        let lanes = lanes.collect();
        (ports, lanes)
    }

    fn due(ports: &mut Ports, now: Time) -> Option<Program> {
        let due = ports.due_programs(now, &none_wait);
        due.into_iter().next().map(|(_, program)| program)
    }

    fn random(indices: &[u32]) -> Program {
        Program::Random(indices.to_vec())
    }

    #[test]
    fn one_lane_needs_no_program_and_what_is_told_is_told_once() {
        let (mut ports, _) = ready(Arrivals::Untold, 1);
        assert_eq!(due(&mut ports, at(0)), None);
        let (mut ports, lanes) = ready(Arrivals::Untold, 2);
        let told = ports.due_programs(at(0), &none_wait);
        assert_eq!(told, [(lanes[0], random(&[0, 1]))]);
        assert_eq!(due(&mut ports, at(0)), None);
    }

    #[test]
    fn only_the_ready_are_given_connections() {
        let (mut ports, _) = ready(Arrivals::Untold, 4);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1, 2, 3])));
        ports.gone(worker(0));
        assert_eq!(due(&mut ports, at(0)), Some(random(&[1, 2, 3])));
        ports.turn_away(worker(1));
        assert_eq!(due(&mut ports, at(0)), Some(random(&[2, 3])));
        ports.suspend(worker(2), true);
        assert_eq!(due(&mut ports, at(0)), Some(Program::Pinned(3)));
        ports.suspend(worker(2), false);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[2, 3])));
    }

    /// Nobody is known to be ready, and one slot's workers keep failing.
    #[test]
    fn a_slot_that_fails_is_given_connections_last() {
        let (mut ports, lanes) = ready(Arrivals::Untold, 0);
        assert!(lanes.is_empty());
        let listener = ports.open(([127, 0, 0, 1], 80).into(), crate::port::Sharing::Lanes);
        for number in 0..3 {
            ports.starting(worker(number), number);
            ports.made(listener);
            let _ = ports.lease(worker(number), listener, &none_wait);
        }
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1, 2])));
        ports.exited(worker(1));
        ports.gone(worker(1));
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 2])));
        ports.starting(worker(3), 1);
        let _ = ports.lease(worker(3), listener, &none_wait);
        assert_eq!(due(&mut ports, at(0)), None, "it would be the same");
        ports.admit(worker(3), &none_wait);
        assert_eq!(due(&mut ports, at(0)), Some(Program::Pinned(1)));
    }

    /// Each takes its turn while connections come slowly, and whoever is
    /// turned away or stopped takes none.
    #[test]
    fn turns_are_taken_by_those_that_take_connections() {
        let (mut ports, lanes) = ready(Arrivals::Told, 3);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1, 2])));
        assert_eq!(ports.watched(), lanes);
        ports.arrived(lanes[0], at(0), &none_wait);
        assert_eq!(due(&mut ports, at(0)), None, "there may be a burst of them");
        ports.look(at(2), &none_wait);
        assert_eq!(due(&mut ports, at(2)), Some(random(&[1, 2])));
        ports.suspend(worker(1), true);
        assert_eq!(due(&mut ports, at(0)), Some(Program::Pinned(2)));
        ports.turn_away(worker(2));
        assert_eq!(due(&mut ports, at(0)), Some(Program::Pinned(0)));
        assert_eq!(ports.watched(), [], "there is no other to turn to");
    }

    #[test]
    fn a_stuck_lanes_connections_go_elsewhere_and_come_back() {
        let (mut ports, lanes) = ready(Arrivals::Told, 2);
        let stuck = |lane| u32::from(lane == lanes[0]);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
        ports.arrived(lanes[0], at(0), &stuck);
        let _ = due(&mut ports, at(0));
        ports.look(at(2), &stuck);
        assert_eq!(due(&mut ports, at(2)), Some(Program::Pinned(1)));
        // The other takes what it is given: its turn comes again and again.
        for ms in [250, 500, 750] {
            ports.arrived(lanes[1], at(ms), &stuck);
            let _ = due(&mut ports, at(ms));
            assert_eq!(
                ports.listeners.values().next().unwrap().attached,
                Some(Program::Pinned(1)),
                "{ms}"
            );
        }
        // Somebody has taken from the first.
        ports.arrived(lanes[1], at(1000), &none_wait);
        assert_eq!(due(&mut ports, at(1000)), Some(random(&[0, 1])));
    }

    #[test]
    fn where_all_are_stuck_all_are_given_connections() {
        let (mut ports, _) = ready(Arrivals::Untold, 3);
        let _ = due(&mut ports, at(0));
        ports.turn_away(worker(2));
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
        ports.suspend(worker(0), true);
        assert_eq!(due(&mut ports, at(0)), Some(Program::Pinned(1)));
        ports.suspend(worker(1), true);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
    }

    /// Its next worker takes over one lane: what comes meanwhile waits there.
    #[test]
    fn of_free_lanes_only_the_one_that_the_next_worker_takes() {
        let (mut ports, lanes) = ready(Arrivals::Untold, 3);
        let _ = due(&mut ports, at(0));
        (0..3).for_each(|number| drop(ports.gone(worker(number))));
        let queued = |lane| u32::from(lane == lanes[1]);
        let told = ports.due_programs(at(0), &queued);
        assert_eq!(told, [(lanes[0], Program::Pinned(1))]);
        ports.starting(worker(3), 0);
        let address = ([127, 0, 0, 1], 80).into();
        let answer = ports.bind(worker(3), address, None, false, &queued);
        assert_eq!(answer, crate::port::Bind::Lend(lanes[1]));
    }

    #[test]
    fn a_lane_that_closes_is_given_none_and_nor_is_the_last() {
        let (mut ports, lanes) = ready(Arrivals::Untold, 4);
        let _ = due(&mut ports, at(0));
        ports.gone(worker(1));
        ports.retiring(lanes[1]);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 2])));
        ports.retire(lanes[1]);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1, 2])));
    }

    /// It has closed its listener, say: whoever binds next is to have what
    /// waits there.
    #[test]
    fn whoever_takes_nothing_is_doubted_once_and_again_before_a_bind() {
        let (mut ports, lanes) = ready(Arrivals::Told, 2);
        let stuck = |lane| u32::from(lane == lanes[0]);
        let _ = due(&mut ports, at(0));
        ports.arrived(lanes[0], at(0), &stuck);
        assert_eq!(ports.doubtful(at(249)), []);
        assert_eq!(ports.doubtful(at(250)), [worker(0)]);
        ports.held_after_all(at(250));
        assert_eq!(ports.doubtful(at(250)), []);
        ports.arrived(lanes[1], at(260), &stuck);
        assert_eq!(due(&mut ports, at(260)), Some(Program::Pinned(1)));
        ports.doubt(at(270));
        assert_eq!(ports.doubtful(at(270)), [worker(0)]);
        ports.abandoned(worker(0), lanes[0]);
        assert_eq!(ports.doubtful(at(270)), []);
        ports.starting(worker(2), 2);
        let address = ([127, 0, 0, 1], 80).into();
        let answer = ports.bind(worker(2), address, None, false, &stuck);
        assert_eq!(answer, crate::port::Bind::Lend(lanes[0]));
        ports.held_after_all(at(280));
        ports.arrived(lanes[0], at(280), &none_wait);
        ports.doubt(at(290));
        assert_eq!(ports.doubtful(at(900)), [], "its queue moves");
    }

    /// Measured on Linux 6.18: the only socket of a group is shut down, and
    /// the program is gone with the group.
    #[test]
    fn the_program_is_told_again_after_the_only_lane_was_shut_down() {
        let (mut ports, lanes) = ready(Arrivals::Untold, 2);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
        ports.gone(worker(1));
        ports.retiring(lanes[1]);
        let _ = due(&mut ports, at(0));
        ports.retire(lanes[1]);
        let _ = due(&mut ports, at(0));
        ports.shut_down(lanes[0]);
        ports.joins_group(lanes[0]);
        assert_eq!(due(&mut ports, at(0)), None);
        ports.starting(worker(2), 1);
        let lane = ports.joined(worker(2), ([127, 0, 0, 1], 80).into());
        ports.joins_group(lane);
        assert_eq!(due(&mut ports, at(0)), Some(Program::Pinned(0)));
    }

    /// What is left has other indices, and must not be asked for by the old
    /// ones.
    #[test]
    fn a_lane_that_is_shut_down_leaves_its_group_until_it_listens_again() {
        let (mut ports, lanes) = ready(Arrivals::Untold, 3);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1, 2])));
        ports.shut_down(lanes[0]);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
        assert_eq!(ports.listening().collect::<Vec<_>>(), [lanes[2], lanes[1]]);
        assert_eq!(ports.lanes_of(worker(0)), [lanes[0]], "it is its own still");
        ports.joins_group(lanes[0]);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1, 2])));
        ports.turn_away(worker(0));
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
    }

    #[test]
    fn what_the_kernel_has_refused_is_due_again() {
        let (mut ports, lanes) = ready(Arrivals::Untold, 2);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
        assert_eq!(due(&mut ports, at(0)), None);
        ports.not_told(lanes[1]);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1])));
    }

    /// As servers of gRPC do when all are asked to stop. Taken out and put back
    /// one by one they would have other indices than the kernel's.
    #[test]
    fn a_group_that_was_shut_down_as_a_whole_has_the_order_of_its_return() {
        let (mut ports, lanes) = ready(Arrivals::Untold, 3);
        assert_eq!(due(&mut ports, at(0)), Some(random(&[0, 1, 2])));
        for lane in &lanes {
            ports.shut_down(*lane);
        }
        for lane in &lanes {
            ports.joins_group(*lane);
        }
        assert_eq!(ports.listening().collect::<Vec<_>>(), lanes);
        let again = due(&mut ports, at(0));
        assert_eq!(again, Some(random(&[0, 1, 2])), "it is forgotten");
        ports.turn_away(worker(0));
        assert_eq!(due(&mut ports, at(0)), Some(random(&[1, 2])));
    }
}
