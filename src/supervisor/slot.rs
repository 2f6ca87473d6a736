//! A slot: a worker's numbered place, which outlives it.
//!
//! ```text
//!          spawn          executed          ready
//!  vacant ───────▶ spawning ──────▶ starting ─────▶ ready
//!    ▲                 │                │             │ told to stop, or exit
//!    │                 ▼                ▼             ▼
//!    └────── departing: emptying ─▶ draining ─▶ killed ─▶ leftover
//! ```
//!
//! Beside its worker a slot may have a *successor*, which is to take the
//! worker's place and has not proven itself, and one more that is *departing*:
//! the worker whose place was taken, or a successor that failed (invariant 2).
//!
//! A worker is its process group. `leftover` is a worker whose main process
//! is reaped while the rest of its group has been told to go.

use super::event::{Wear, WorkerId};
use super::time::{Time, earlier};

/// What becomes of a slot once its worker's group is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Next {
    /// Its next worker is due.
    Retry { retry_at: Time },
    /// Its next worker is due, unless all the others leave as well.
    Hold { retry_at: Time },
    /// It runs nothing until it is started again.
    Park,
    /// It runs nothing any more.
    Stop,
    /// It can run nothing any more.
    Fail,
}

/// A worker on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Departing {
    pub(super) worker: WorkerId,
    pub(super) stage: Stage,
}

/// How far a worker on its way out has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// It is given no new connection, and is asked to stop once it owes no
    /// client anything, or at `stop_at`.
    Emptying { stop_at: Time, kill_at: Time },
    /// It has been asked to stop (invariant 5: the deadline is part of the
    /// state).
    Draining { kill_at: Time },
    /// Its group has been sent SIGKILL.
    Killed { gone_by: Time },
    /// Its main process is reaped, and what is left of the group told to go:
    /// killed at `until`, or, if it is killed, given up then.
    Leftover { until: Time, killed: bool },
}

impl Departing {
    pub(super) fn deadline(self) -> Time {
        match self.stage {
            Stage::Emptying { stop_at, kill_at } => stop_at.min(kill_at),
            Stage::Draining { kill_at } => kill_at,
            Stage::Killed { gone_by } => gone_by,
            Stage::Leftover { until, .. } => until,
        }
    }

    /// It, if its main process runs.
    pub(super) fn running(self) -> Option<WorkerId> {
        match self.stage {
            Stage::Emptying { .. } | Stage::Draining { .. } | Stage::Killed { .. } => {
                Some(self.worker)
            }
            Stage::Leftover { .. } => None,
        }
    }
}

/// When a ready worker is to be replaced although nobody asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Renewal {
    /// Not as far as is known.
    Never,
    /// Then, for this reason.
    At { time: Time, wear: Wear },
    /// As soon as it is its turn.
    Due(Wear),
}

/// What a slot is doing. Instants are deadlines, never dates of the past, so
/// that two states which behave alike are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// Its worker's process does not run the command yet, as far as is known.
    Spawning { worker: WorkerId },
    /// Its worker runs and is not ready.
    Starting {
        worker: WorkerId,
        /// When it counts as ready although it said nothing.
        ready_at: Option<Time>,
        /// When it will have been alive for `min_uptime`.
        aged_at: Time,
        /// When it is said that it takes long.
        late_at: Option<Time>,
    },
    /// Its worker is ready.
    Ready {
        worker: WorkerId,
        /// From when on an exit is no failure.
        proven_at: Time,
        /// When it counts as hung: it has said that it is alive, and must say
        /// so again before.
        hung_at: Option<Time>,
        renewal: Renewal,
    },
    /// Its worker is on its way out, and this comes next.
    Departing { departing: Departing, next: Next },
    /// It has no worker, and starts one at `retry_at`.
    Backoff { retry_at: Time },
    /// As `Backoff`; its worker left with 0 after a forwarded signal.
    Held { retry_at: Time },
    /// It has no worker until it is started again.
    Parked,
    /// It has no worker and wants none.
    Stopped,
    /// It has no worker and can have none.
    Failed,
}

impl State {
    /// Its next deadline.
    pub(super) fn deadline(self) -> Option<Time> {
        match self {
            Self::Starting {
                ready_at, late_at, ..
            } => earlier(ready_at, late_at),
            Self::Ready {
                hung_at, renewal, ..
            } => {
                let renewed_at = match renewal {
                    Renewal::At { time, .. } => Some(time),
                    Renewal::Never | Renewal::Due(_) => None,
                };
                earlier(hung_at, renewed_at)
            }
            Self::Departing { departing, .. } => Some(departing.deadline()),
            Self::Backoff { retry_at } | Self::Held { retry_at } => Some(retry_at),
            Self::Spawning { .. } | Self::Parked | Self::Stopped | Self::Failed => None,
        }
    }

    /// The worker that it holds, if only what is left of one.
    pub(super) fn worker(self) -> Option<WorkerId> {
        match self {
            Self::Spawning { worker }
            | Self::Starting { worker, .. }
            | Self::Ready { worker, .. } => Some(worker),
            Self::Departing { departing, .. } => Some(departing.worker),
            Self::Backoff { .. }
            | Self::Held { .. }
            | Self::Parked
            | Self::Stopped
            | Self::Failed => None,
        }
    }

    /// The worker whose main process runs.
    pub(super) fn running(self) -> Option<WorkerId> {
        match self {
            Self::Departing { departing, .. } => departing.running(),
            Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Ready { .. }
            | Self::Backoff { .. }
            | Self::Held { .. }
            | Self::Parked
            | Self::Stopped
            | Self::Failed => self.worker(),
        }
    }

    /// The worker that has not been told to stop.
    pub(super) fn current(self) -> Option<WorkerId> {
        match self {
            Self::Spawning { worker }
            | Self::Starting { worker, .. }
            | Self::Ready { worker, .. } => Some(worker),
            Self::Departing { .. }
            | Self::Backoff { .. }
            | Self::Held { .. }
            | Self::Parked
            | Self::Stopped
            | Self::Failed => None,
        }
    }

    /// Whether it has no worker until somebody starts one.
    pub(super) fn is_parked(self) -> bool {
        matches!(
            self,
            Self::Parked
                | Self::Departing {
                    next: Next::Park,
                    ..
                }
        )
    }
}

/// A worker that is to take the place of a slot's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Successor {
    pub(super) worker: WorkerId,
    pub(super) generation: u32,
    pub(super) trial: Trial,
}

/// How far a successor has come in proving itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trial {
    /// Its process does not run the command yet, as far as is known.
    Spawning { fail_at: Time },
    /// It runs and is not ready.
    Starting {
        /// When it counts as ready although it said nothing.
        ready_at: Option<Time>,
        /// When it has failed.
        fail_at: Time,
    },
    /// It is ready, and takes its predecessor's place if it lives until then
    /// (invariant 3).
    Settling { settled_at: Time },
}

impl Successor {
    pub(super) fn deadline(self) -> Time {
        match self.trial {
            Trial::Spawning { fail_at } => fail_at,
            Trial::Starting { ready_at, fail_at } => ready_at.map_or(fail_at, |at| at.min(fail_at)),
            Trial::Settling { settled_at } => settled_at,
        }
    }
}

/// A worker's numbered place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// Whether it counts among the app's instances. Scaling down takes this
    /// away first and drains the worker then.
    pub(super) wanted: bool,
    /// Of its worker, and of the next one that is no successor.
    pub(super) generation: u32,
    /// What it is doing.
    pub(super) state: State,
    /// Who is to take its worker's place.
    pub(super) successor: Option<Successor>,
    /// Who leaves beside its worker: the one whose place was taken, or a
    /// successor that failed. While it is there, there is no successor.
    pub(super) departing: Option<Departing>,
    /// Failures in a row.
    pub(super) failures: u32,
}

impl Slot {
    /// A slot that has had no worker and is due for one.
    pub(super) fn new(generation: u32) -> Self {
        Self {
            wanted: true,
            generation,
            state: State::Backoff {
                retry_at: Time::default(),
            },
            successor: None,
            departing: None,
            failures: 0,
        }
    }

    /// Whether it has no worker and will have none.
    pub(super) fn rests(&self) -> bool {
        matches!(self.state, State::Stopped | State::Failed)
    }

    /// All workers that it holds, if only what is left of one.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        let successor = self.successor.map(|successor| successor.worker);
        let departing = self.departing.map(|departing| departing.worker);
        let current = self.state.worker();
        current.into_iter().chain(successor).chain(departing)
    }

    /// Those of them whose main process runs.
    pub(super) fn running(&self) -> impl Iterator<Item = WorkerId> {
        let successor = self.successor.map(|successor| successor.worker);
        let departing = self.departing.and_then(Departing::running);
        let current = self.state.running();
        current.into_iter().chain(successor).chain(departing)
    }

    /// How many workers it has beside its own.
    pub(super) fn extras(&self) -> usize {
        usize::from(self.successor.is_some()) + usize::from(self.departing.is_some())
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let successor = self.successor.map(Successor::deadline);
        let departing = self.departing.map(Departing::deadline);
        let current = self.state.deadline();
        earlier(current, earlier(successor, departing))
    }
}
