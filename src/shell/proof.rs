//! Whether a worker has taken a connection: one that exits right after it
//! served is no failed start.
//!
//! Nobody tells who took a connection, but a queue that is shorter than what
//! was there and what has come has been taken from: by the one worker that
//! has the lane, or by some worker where they share it.

use std::thread;
use std::time::Duration;

use crate::port::LaneId;
use crate::supervisor::{Served, WorkerId};
use crate::table::{Set, Table};

use super::Shell;
use super::wait::Read;

/// How often to look at the queues again where connections keep arriving.
const MOST_READINGS: u32 = 8;

/// How long a signal may be under way, and how often it is waited for before
/// others' events are looked at.
const SIGNAL_UNDER_WAY: [Duration; 3] = [
    Duration::from_micros(50),
    Duration::from_micros(200),
    Duration::from_millis(1),
];
pub(super) const LOOKS_A_TURN: u32 = 12;

/// A queue that workers take connections from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum QueueId {
    /// That of a socket without lanes, by its place among the listeners.
    Plain(usize),
    Lane(LaneId),
}

/// A queue at a moment.
#[derive(Clone, Copy, Debug)]
struct Queue {
    waiting: u32,
    /// How many have arrived so far.
    arrivals: u32,
    /// Whether `waiting` is a count, and not only whether anything waits.
    counted: bool,
    /// Whether only this worker takes from it.
    own: bool,
}

/// A worker's queues since it has had them.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline(Table<QueueId, Queue>);

impl Shell {
    /// A worker is about to run: what is in its queues was not taken by it.
    /// From here on arrivals are told; asked for anew, since its predecessor
    /// may have turned that off.
    pub(super) fn baseline(&mut self, id: WorkerId) -> Baseline {
        if self.may_be_told {
            self.listeners.tell_arrivals(false);
            self.listeners.tell_arrivals(true);
            for lane in self.lanes.ports.lanes_of(id) {
                self.lanes.tell_anew(lane);
            }
        }
        Baseline(self.settled_queues(id).unwrap_or_default())
    }

    /// A worker has this lane too.
    pub(super) fn extend_baseline(&mut self, id: WorkerId, lane: LaneId) {
        if self.may_be_told {
            self.lanes.tell_anew(lane);
        }
        let queues = self.settled_queues(id).unwrap_or_default();
        if let Some(worker) = self.workers.get_mut(id) {
            for (id, queue) in queues {
                worker.baseline.0.insert_if_new(id, queue);
            }
        }
    }

    /// Has arrivals told at the queues of workers that have yet to prove
    /// themselves; never for good, since each costs a wake-up.
    pub(super) fn tell_arrivals(&mut self) {
        if !self.may_be_told {
            return;
        }
        let mut unproven = Set::new();
        let mut any = false;
        for worker in self.workers.iter() {
            if worker.served == Served::Unknown {
                any = true;
                unproven.extend(worker.baseline.0.keys().filter_map(|id| match id {
                    QueueId::Plain(_) => None,
                    QueueId::Lane(lane) => Some(*lane),
                }));
            }
        }
        self.listeners.tell_arrivals(any);
        self.lanes.tell_arrivals(&unproven);
    }

    /// Notes which workers run, or were reaped just now, that a connection
    /// has been taken beside. The queues that nothing has come to are not
    /// asked for: a connection costs the same among few workers and many.
    pub(super) fn credit_workers(&mut self) {
        let workers = self.workers.iter();
        let unproven: Vec<WorkerId> = workers
            .filter(|worker| worker.served == Served::Unknown)
            .filter(|worker| worker.baseline.may_be_behind(|id| self.arrivals(id)))
            .map(|worker| worker.id)
            .collect();
        for id in unproven {
            self.credit_worker(id);
        }
    }

    fn credit_worker(&mut self, id: WorkerId) {
        let Some(now) = self.settled_queues(id) else {
            return;
        };
        if let Some(worker) = self.workers.get_mut(id)
            && worker.served == Served::Unknown
        {
            worker.served = worker.baseline.taken_since(&now);
        }
    }

    /// Finds out whether a worker that has exited had taken a connection. One
    /// that has just joined a queue may not have been told of yet: its signal
    /// is under way on another CPU, so a queue that proves nothing is looked
    /// at again.
    pub(super) fn credit_exit(&mut self, id: WorkerId, looks: &mut u32) {
        self.credit_worker(id);
        for pause in SIGNAL_UNDER_WAY {
            let worker = self.workers.get(id);
            let idle = self.queues(id).values().all(|queue| queue.waiting == 0);
            if worker.is_none_or(|worker| worker.served != Served::Unknown) || *looks == 0 || idle {
                return;
            }
            *looks -= 1;
            thread::sleep(pause);
            self.credit_worker(id);
        }
    }

    /// A worker's queues, at a moment at which every arrival has been counted:
    /// what waits and what came belong together. None where no such moment
    /// comes.
    fn settled_queues(&mut self, id: WorkerId) -> Option<Table<QueueId, Queue>> {
        for _ in 0..MOST_READINGS {
            let queues = self.queues(id);
            if queues.is_empty() || self.read_signals() == Read::Nothing {
                return Some(queues);
            }
        }
        None
    }

    /// How many have arrived at a queue so far, where that is a lane's.
    fn arrivals(&self, id: QueueId) -> Option<u32> {
        match id {
            QueueId::Plain(_) => None,
            QueueId::Lane(lane) => Some(self.lanes.arrivals(lane)),
        }
    }

    fn queues(&self, id: WorkerId) -> Table<QueueId, Queue> {
        let plain = self.listeners.queues();
        let mut queues: Table<_, _> = plain
            .map(|(index, waiting, arrivals)| {
                let queue = Queue {
                    waiting,
                    arrivals,
                    counted: false,
                    own: false,
                };
                (QueueId::Plain(index), queue)
            })
            .collect();
        for lane in self.lanes.ports.lanes_of(id) {
            let queue = Queue {
                waiting: self.lanes.queued(lane),
                arrivals: self.lanes.arrivals(lane),
                counted: true,
                own: !self.lanes.ports.is_shared(lane),
            };
            queues.insert(QueueId::Lane(lane), queue);
        }
        queues
    }
}

impl Baseline {
    /// Whether something may have been taken since, as far as that is known
    /// without a look at the queues.
    fn may_be_behind(&self, arrivals: impl Fn(QueueId) -> Option<u32>) -> bool {
        let mut queues = self.0.iter();
        queues.any(|(id, then)| then.waiting > 0 || arrivals(*id) != Some(then.arrivals))
    }

    /// Whether, and by whom, a connection has certainly been taken since.
    fn taken_since(&self, now: &Table<QueueId, Queue>) -> Served {
        let mut served = Served::Unknown;
        for (id, then) in self.0.iter() {
            let Some(now) = now.get(id) else {
                continue;
            };
            let came = now.arrivals.wrapping_sub(then.arrivals);
            let known = now.counted || now.waiting == 0;
            if known && then.waiting.saturating_add(came) > now.waiting {
                if now.own {
                    return Served::Itself;
                }
                served = Served::Someone;
            }
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(waiting: u32, arrivals: u32, counted: bool, own: bool) -> Queue {
        Queue {
            waiting,
            arrivals,
            counted,
            own,
        }
    }

    #[test]
    fn a_queue_that_nothing_waited_at_or_has_come_to_is_not_looked_at() {
        let behind = |then, arrivals| {
            let baseline = Baseline([(QueueId::Plain(0), then)].into());
            baseline.may_be_behind(|_| arrivals)
        };
        assert!(!behind(queue(0, 7, true, true), Some(7)));
        assert!(behind(queue(1, 7, true, true), Some(7)));
        assert!(behind(queue(0, 7, true, true), Some(8)));
        assert!(behind(queue(0, 7, true, true), None), "it is not known");
    }

    #[test]
    fn a_queue_that_is_shorter_than_what_came_was_taken_from() {
        for (then, now, served) in [
            (
                queue(0, 0, true, true),
                queue(0, 0, true, true),
                Served::Unknown,
            ),
            (
                queue(3, 0, true, true),
                queue(3, 0, true, true),
                Served::Unknown,
            ),
            (
                queue(3, 0, true, true),
                queue(2, 0, true, true),
                Served::Itself,
            ),
            (
                queue(0, 7, true, true),
                queue(0, 8, true, true),
                Served::Itself,
            ),
            (
                queue(0, u32::MAX, true, true),
                queue(0, 0, true, true),
                Served::Itself,
            ),
            (
                queue(0, 0, true, false),
                queue(0, 1, true, false),
                Served::Someone,
            ),
            // One waits, but how many do is not known.
            (
                queue(0, 0, false, false),
                queue(1, 2, false, false),
                Served::Unknown,
            ),
            (
                queue(0, 0, false, false),
                queue(0, 2, false, false),
                Served::Someone,
            ),
        ] {
            let id = QueueId::Plain(0);
            let baseline = Baseline([(id, then)].into());
            assert_eq!(
                baseline.taken_since(&[(id, now)].into()),
                served,
                "{then:?} {now:?}"
            );
        }
        let id = QueueId::Plain(0);
        let gone = Baseline([(id, queue(3, 0, true, true))].into());
        assert_eq!(gone.taken_since(&Table::new()), Served::Unknown);
    }
}
