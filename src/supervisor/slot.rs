//! A slot: a worker's numbered place, which outlives it.
//!
//! ```text
//!          spawn          executed          ready       stop signal
//!  vacant ───────▶ spawning ──────▶ starting ─────▶ ready ─────────▶ draining
//!    ▲                 │ exit          │ exit         │ exit      exit │ │ kill deadline
//!    │                 ▼               ▼              ▼                ▼ ▼
//!    └─ group gone ─ leftover ◀────────┴──────────────┴────────────────┘ killed
//! ```
//!
//! A worker that is scaled away is `emptying` before it is asked to stop: no
//! new connection is for it, and it takes those that wait for it.
//!
//! A worker is its process group. `leftover` is a worker whose main process
//! is reaped while the rest of its group has been told to go.

use super::event::WorkerId;
use super::time::Time;

/// What becomes of a slot once its worker's group is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Next {
    /// Its next worker is due.
    Retry { retry_at: Time },
    /// Its next worker is due, unless all the others leave as well.
    Hold { retry_at: Time },
    /// It runs nothing any more.
    Stop,
    /// It can run nothing any more.
    Fail,
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
    },
    /// Its worker is ready.
    Ready {
        worker: WorkerId,
        /// From when on an exit is no failure.
        proven_at: Time,
    },
    /// Its worker is given no new connection, and is asked to stop once none
    /// waits for it, or at `stop_at`.
    Emptying {
        worker: WorkerId,
        stop_at: Time,
        kill_at: Time,
    },
    /// Its worker has been asked to stop (invariant 5: the deadline is part
    /// of the state).
    Draining { worker: WorkerId, kill_at: Time },
    /// Its worker's group has been sent SIGKILL.
    Killed { worker: WorkerId, gone_by: Time },
    /// Its worker's main process is reaped, and what is left of the group
    /// told to go: killed at `until`, or, if it is killed, given up then.
    Leftover {
        worker: WorkerId,
        until: Time,
        killed: bool,
        next: Next,
    },
    /// It has no worker, and starts one at `retry_at`.
    Backoff { retry_at: Time },
    /// As `Backoff`; its worker left with 0 after a forwarded signal.
    Held { retry_at: Time },
    /// It has no worker and wants none.
    Stopped,
    /// It has no worker and can have none.
    Failed,
}

impl State {
    /// Its next deadline.
    pub(super) fn deadline(self) -> Option<Time> {
        match self {
            Self::Starting { ready_at, .. } => ready_at,
            Self::Emptying {
                stop_at, kill_at, ..
            } => Some(stop_at.min(kill_at)),
            Self::Draining { kill_at, .. } => Some(kill_at),
            Self::Killed { gone_by, .. } => Some(gone_by),
            Self::Leftover { until, .. } => Some(until),
            Self::Backoff { retry_at } | Self::Held { retry_at } => Some(retry_at),
            Self::Spawning { .. } | Self::Ready { .. } | Self::Stopped | Self::Failed => None,
        }
    }

    /// The worker that it holds, if only what is left of one.
    pub(super) fn worker(self) -> Option<WorkerId> {
        match self {
            Self::Spawning { worker }
            | Self::Starting { worker, .. }
            | Self::Ready { worker, .. }
            | Self::Emptying { worker, .. }
            | Self::Draining { worker, .. }
            | Self::Killed { worker, .. }
            | Self::Leftover { worker, .. } => Some(worker),
            Self::Backoff { .. } | Self::Held { .. } | Self::Stopped | Self::Failed => None,
        }
    }

    /// The worker whose main process runs.
    pub(super) fn running(self) -> Option<WorkerId> {
        match self {
            Self::Spawning { worker }
            | Self::Starting { worker, .. }
            | Self::Ready { worker, .. }
            | Self::Emptying { worker, .. }
            | Self::Draining { worker, .. }
            | Self::Killed { worker, .. } => Some(worker),
            Self::Leftover { .. }
            | Self::Backoff { .. }
            | Self::Held { .. }
            | Self::Stopped
            | Self::Failed => None,
        }
    }
}

/// A worker's numbered place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// Whether it counts among the app's instances. Scaling down takes this
    /// away first and drains the worker then.
    pub(super) wanted: bool,
    /// What it is doing.
    pub(super) state: State,
    /// Failures in a row.
    pub(super) failures: u32,
}

impl Slot {
    /// A slot that has had no worker and is due for one.
    pub(super) fn new() -> Self {
        Self {
            wanted: true,
            state: State::Backoff {
                retry_at: Time::default(),
            },
            failures: 0,
        }
    }

    /// Whether it has no worker and will have none.
    pub(super) fn rests(&self) -> bool {
        matches!(self.state, State::Stopped | State::Failed)
    }
}
