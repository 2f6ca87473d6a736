//! What an app's owner asked for, in the units that the core computes with.

use std::time::Duration;

pub use super::signal::Signal;

/// When a worker that has exited is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Whatever its exit status was.
    Always,
    /// Where its exit status was not 0.
    OnFailure,
    /// Never: its slot is stopped.
    Never,
}

/// What shows that a worker is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ready {
    /// `READY=1` on its notify socket, a `listen` that clinit sees, or
    /// [`Policy::presumed_ready_after`] alive, whichever comes first.
    Auto,
    /// A listen(2) seen by clinit, and nothing else.
    Listen,
    /// `READY=1` on its notify socket, and nothing else.
    Notify,
    /// Having been alive for this long.
    After(Duration),
}

/// Which of clinit's two modes this is: it decides what a signal means and
/// what an exit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One child, never restarted; every signal is its own, and its exit
    /// status is clinit's.
    Init,
    /// Supervised workers.
    Cluster,
}

/// The rules for one app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Init mode or cluster mode.
    pub mode: Mode,
    /// How many slots it starts with; at least 1.
    pub instances: u32,
    /// How many slots it may ever have; at least `instances`.
    pub most_instances: u32,
    /// When a worker that has exited is run again.
    pub restart: Restart,
    /// What shows that a worker is ready.
    pub ready: Ready,
    /// How long a silent worker must be alive under [`Ready::Auto`] to be
    /// taken for ready.
    pub presumed_ready_after: Duration,
    /// The delay before the first restart of a streak of failures.
    pub backoff_min: Duration,
    /// The delay that doubling ends at.
    pub backoff_max: Duration,
    /// An exit later than this after ready is no failure.
    pub min_uptime: Duration,
    /// So many failures in a row in every slot, and clinit gives up.
    pub max_restarts: u32,
    /// The signal that asks a worker to stop.
    pub stop_signal: Signal,
    /// From a request to shut down to the first stop signal.
    pub drain_delay: Duration,
    /// From the start of a worker's draining to SIGKILL.
    pub grace: Duration,
    /// From TERM to KILL for what is left of the tree at the end.
    pub orphan_grace: Duration,
}
