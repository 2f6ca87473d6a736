//! What epoll hands back of a descriptor: whose it is.

use crate::sys::poll;

/// Whose descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The signal queue.
    Signals,
    /// The report of the worker with this index on its exec.
    Report(u32),
    /// The notify socket of the worker with this index.
    Notify(u32),
}

impl Token {
    pub(super) fn pack(self) -> u64 {
        let (kind, index) = match self {
            Self::Signals => (0, 0),
            Self::Report(index) => (1, index),
            Self::Notify(index) => (2, index),
        };
        kind << 32 | u64::from(index)
    }

    pub(super) fn unpack(ready: poll::Ready) -> Option<Self> {
        let index = (ready.token & u64::from(u32::MAX)).try_into().ok()?;
        match ready.token >> 32 {
            0 => Some(Self::Signals),
            1 => Some(Self::Report(index)),
            2 => Some(Self::Notify(index)),
            _ => None,
        }
    }
}
