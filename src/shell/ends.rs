//! Why workers end, or are made to.

use std::fmt;

use crate::supervisor::{Exit, Wear};

/// Why a worker ended, or is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// For a reason of its own, or as it was told to.
    Exited(Exit),
    /// The kernel needed its memory, under this limit in bytes.
    OutOfMemory {
        /// None where it is the machine's.
        limit: Option<u64>,
    },
    /// It was replaced.
    Worn(Wear),
    /// It did nothing any more.
    Hung,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(exit) => exit.fmt(f),
            Self::OutOfMemory { limit: None } => {
                f.write_str("was killed by the kernel: out of memory")
            }
            Self::OutOfMemory { limit: Some(limit) } => {
                write!(
                    f,
                    "was killed by the kernel: out of memory, of {limit} bytes"
                )
            }
            Self::Worn(Wear::Lifetime) => f.write_str("had lived long enough"),
            Self::Worn(Wear::Memory) => f.write_str("had more memory than it may have"),
            Self::Hung => f.write_str("was hung"),
        }
    }
}
