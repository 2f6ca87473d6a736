//! What epoll hands back of a descriptor: whose it is.

use crate::supervisor::WorkerId;

/// Whose descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The signal queue.
    Signals,
    /// A worker's report on its exec.
    Report(WorkerId),
    /// A worker's notify socket.
    Notify(WorkerId),
    /// A worker's calls of `bind` and `listen`.
    Calls(WorkerId),
    /// The files that say how many CPUs there are.
    Cpus,
    /// The control socket.
    Control,
    /// Somebody who talks to it.
    Client(u32),
    /// The process that has become a worker's main process.
    Main(WorkerId),
    /// The ends of lanes.
    Ends,
}

impl Token {
    pub(super) fn pack(self) -> u64 {
        let (kind, index) = match self {
            Self::Signals => (0, 0),
            Self::Report(worker) => (1, worker.index()),
            Self::Notify(worker) => (2, worker.index()),
            Self::Calls(worker) => (3, worker.index()),
            Self::Cpus => (4, 0),
            Self::Control => (8, 0),
            Self::Client(client) => (9, client),
            Self::Main(worker) => (10, worker.index()),
            Self::Ends => (11, 0),
        };
        kind << 32 | u64::from(index)
    }

    pub(super) fn unpack(token: u64) -> Option<Self> {
        let index = (token & u64::from(u32::MAX)).try_into().ok()?;
        let worker = WorkerId::from_index(index);
        match token >> 32 {
            0 => Some(Self::Signals),
            1 => Some(Self::Report(worker)),
            2 => Some(Self::Notify(worker)),
            3 => Some(Self::Calls(worker)),
            4 => Some(Self::Cpus),
            8 => Some(Self::Control),
            9 => Some(Self::Client(index)),
            10 => Some(Self::Main(worker)),
            11 => Some(Self::Ends),
            _ => None,
        }
    }
}
