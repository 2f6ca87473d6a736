//! Workers that take nothing of what waits for them, for as long as a worker
//! may: they hang.
//!
//! A queue that is as long as before proves nothing: as many may have come as
//! were taken, and a worker that is merely busy must not be killed for that.
//! So, half of the time after something was first seen to wait, the lane is
//! suspected, and given no new connection while another lane can be. Where it
//! is not shorter after the other half, nobody has taken any. Where it was
//! given some, for there is no other or they fare no better, the shell has to
//! know that none was taken of what waited when it was suspected.
//!
//! A worker that somebody has stopped takes nothing for certain. It is given
//! none, so that none may wait for it; it hangs all the same.

use std::time::Duration;

use super::lane::{Lane, Lease, Listener};
use super::program::Program;
use super::{LaneId, Ports, Standing, Worker};
use crate::supervisor::{Time, WorkerId};
use crate::table::Table;

/// How often queues are looked at in the time that a worker may take: seldom
/// as long as nothing waits, and often once something does.
const LOOKS_WHILE_EMPTY: u32 = 4;
const LOOKS: u32 = 8;

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(10);

/// How long nobody has been seen to take from a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standstill {
    /// Nothing waits.
    Nothing,
    /// Something waits.
    Noticed { suspected_at: Time, length: u32 },
    /// It has waited for half of the time.
    Suspected {
        hung_at: Time,
        length: u32,
        /// Whether the lane may have been given connections since.
        given: bool,
    },
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hang {
    timeout: Duration,
    /// When to look.
    pub(super) look_at: Time,
}

/// What a look has brought.
#[derive(Debug, Default)]
pub struct Found {
    /// Lanes that are suspected from now on: of what waits there now, it has
    /// to be known later whether any was taken.
    pub suspected: Vec<LaneId>,
    /// Workers that hang.
    pub hung: Vec<WorkerId>,
}

impl Standstill {
    pub(super) fn is_suspected(self) -> bool {
        matches!(self, Self::Suspected { .. })
    }

    /// What it is, now that the queue is this long.
    fn after(self, length: u32, now: Time, half: Duration) -> Self {
        let noticed = Self::Noticed {
            suspected_at: now + half,
            length,
        };
        match self {
            _ if length == 0 => Self::Nothing,
            Self::Nothing => noticed,
            Self::Noticed { length: before, .. } | Self::Suspected { length: before, .. }
                if length < before =>
            {
                noticed
            }
            Self::Noticed { suspected_at, .. } if suspected_at <= now => {
                Self::suspected(length, now, half)
            }
            Self::Noticed { suspected_at, .. } => Self::Noticed {
                suspected_at,
                length,
            },
            Self::Suspected {
                hung_at,
                length: before,
                given,
            } => Self::Suspected {
                hung_at,
                length,
                // A handshake that had begun may have ended.
                given: given || length > before,
            },
        }
    }

    fn suspected(length: u32, now: Time, half: Duration) -> Self {
        Self::Suspected {
            hung_at: now + half,
            length,
            given: false,
        }
    }
}

impl Listener {
    /// Takes note of the suspected lanes that the kernel gives connections to.
    pub(super) fn note_given(&mut self) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let is_target = match &self.attached {
                None => true,
                Some(Program::Pinned(only)) => *only as usize == index,
                Some(Program::Random(several)) => {
                    several.iter().any(|target| *target as usize == index)
                }
            };
            if let Standstill::Suspected { given, .. } = &mut lane.standstill {
                *given |= is_target;
            }
        }
    }
}

impl Ports {
    /// Looks for workers that take nothing for this long, from now on.
    pub fn find_hung(&mut self, timeout: Duration, now: Time) {
        self.hang = Some(Hang {
            timeout,
            look_at: now,
        });
    }

    /// When [`Self::look_for_hung`] is due.
    #[must_use]
    pub fn next_look_for_hung(&self) -> Option<Time> {
        self.hang.map(|hang| hang.look_at)
    }

    /// Whether nobody has been seen to take from a lane for half of the time.
    #[must_use]
    pub fn is_suspected(&self, lane: LaneId) -> bool {
        self.lane(lane)
            .is_some_and(|lane| lane.standstill.is_suspected())
    }

    /// Clinit itself has stopped a worker, or let it go on: it is not to be
    /// expected to do anything.
    pub fn excuse(&mut self, worker: WorkerId, excused: bool) {
        if let Some(of) = self.workers.get_mut(&worker)
            && std::mem::replace(&mut of.is_excused, excused) != excused
        {
            self.begin_anew(worker);
        }
    }

    /// What was seen of a worker's queues means nothing any more.
    pub(super) fn begin_anew(&mut self, worker: WorkerId) {
        for listener in self.listeners.values_mut() {
            for lane in &mut listener.lanes {
                if lane.lease.is_to(worker) {
                    lane.standstill = Standstill::Nothing;
                }
            }
        }
    }

    /// A worker says itself that it is alive: its queues prove nothing from
    /// now on.
    pub fn vouches(&mut self, worker: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.vouches = true;
        }
    }

    /// Looks at the queues of workers that are ready, where that is due.
    /// `untouched`: whether, of what waited at a lane when it was suspected,
    /// none has been taken.
    pub fn look_for_hung(
        &mut self,
        now: Time,
        queued: &dyn Fn(LaneId) -> u32,
        untouched: &dyn Fn(LaneId) -> bool,
    ) -> Found {
        let mut found = Found::default();
        let Some(hang) = self.hang.filter(|hang| hang.look_at <= now) else {
            return found;
        };
        let half = hang.timeout / 2;
        let workers = &self.workers;
        let mut waits = false;
        for lane in self.listeners.values_mut().flat_map(|it| &mut it.lanes) {
            let Some((worker, suspended)) = answerable(lane, workers) else {
                lane.standstill = Standstill::Nothing;
                continue;
            };
            let before = lane.standstill;
            let length = if suspended { 1 } else { queued(lane.id) };
            lane.standstill = before.after(length, now, half);
            if let Standstill::Suspected {
                hung_at,
                length,
                given,
            } = lane.standstill
                && hung_at <= now
            {
                if suspended || !given || untouched(lane.id) {
                    found.hung.push(worker);
                    lane.standstill = Standstill::Nothing;
                } else {
                    lane.standstill = Standstill::suspected(length, now, half);
                    found.suspected.push(lane.id);
                }
            } else if lane.standstill.is_suspected() && !before.is_suspected() {
                found.suspected.push(lane.id);
            }
            waits |= lane.standstill != Standstill::Nothing;
        }
        found.hung.sort_unstable();
        found.hung.dedup();
        let looks = if waits { LOOKS } else { LOOKS_WHILE_EMPTY };
        let look_at = now + (hang.timeout / looks).max(SHORTEST);
        self.hang = Some(Hang { look_at, ..hang });
        found
    }
}

/// The worker that is to take from a lane, and whether somebody has stopped
/// it. Of several that share it, any may: it is the one that has been there
/// longest, and when that is replaced, the next one shows whether the queue
/// moves.
fn answerable(lane: &Lane, workers: &Table<WorkerId, Worker>) -> Option<(WorkerId, bool)> {
    let answers = |id: &WorkerId| {
        let worker = workers.get(id)?;
        let expected =
            worker.standing == Standing::Admitted && !worker.is_excused && !worker.vouches;
        expected.then_some((*id, worker.suspended))
    };
    match &lane.lease {
        Lease::Free(_) | Lease::Retiring => None,
        Lease::To(worker) | Lease::Passed(worker) => answers(worker),
        Lease::Shared(lessees) => {
            let all = || lessees.iter().filter_map(answers);
            all()
                .find(|(_, suspended)| *suspended)
                .or_else(|| all().next())
        }
    }
}

#[cfg(test)]
mod tests;
