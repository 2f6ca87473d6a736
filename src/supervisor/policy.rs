//! What an app's owner asked for, in the units that the core computes with.

use std::time::Duration;

pub use super::event::Target;
pub use super::signal::Signal;
pub use super::signals::{Meaning, Routes};

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

/// A number of extra workers, which is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surge {
    /// So many.
    Workers(u32),
    /// So many hundredths of those that there are to be, rounded up.
    Percent(u32),
}

impl Surge {
    /// How many that is beside so many workers.
    #[must_use]
    pub fn beside(self, workers: u32) -> u32 {
        let extra = match self {
            Self::Workers(extra) => extra,
            Self::Percent(percent) => {
                let share = (u64::from(workers) * u64::from(percent)).div_ceil(100);
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        };
        extra.max(1)
    }
}

/// How a worker's draining begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drain {
    /// With a wait until it owes no client anything, for at most this long
    /// and for at most half of the grace.
    Connections(Duration),
    /// With the stop signal.
    Signal,
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
    /// What signals mean to which the owner has given another meaning.
    pub routes: Routes,
    /// Which of a worker's processes get what is forwarded to it.
    pub forward_to: Target,
    /// The signal that asks a worker to stop.
    pub stop_signal: Signal,
    /// From a request to shut down to the first stop signal.
    pub drain_delay: Duration,
    /// From the start of a worker's draining to SIGKILL.
    pub grace: Duration,
    /// Whether a worker takes what waits for it before it is asked to stop.
    pub drain: Drain,
    /// A successor that is not ready by then has failed; of another worker
    /// that is only said.
    pub ready_timeout: Duration,
    /// How long a successor must live past ready before its predecessor
    /// drains.
    pub settle: Duration,
    /// How many workers there may be beside those that there are to be, while
    /// some are replaced.
    pub surge: Surge,
    /// A worker that has been ready for this long, less up to a tenth of
    /// jitter, is replaced.
    pub max_lifetime: Option<Duration>,
    /// A worker that says it is alive, and then not for this long, is hung.
    /// Kept by the shell: a worker may ask for another time of its own.
    pub hang_timeout: Option<Duration>,
    /// From TERM to KILL for what is left of the tree at the end.
    pub orphan_grace: Duration,
    /// Whether what is left of the tree at the end is told to go, with TERM,
    /// and not waited for: then there is no grace.
    pub leaves_survivors: bool,
}
