//! A short-lived child, which may change what belongs to a whole process: its
//! user, signal mask, dispositions, descriptors, limits.
//!
//! Of other threads there is none in the child, and any lock may be held by
//! one. What runs there must therefore only make system calls: it neither
//! allocates nor panics, and says by its value what came of it.

use std::io;

use nix::errno::Errno;
use nix::unistd::{ForkResult, fork};

use super::process::{RawExit, wait_for_one};

/// Runs `errand` in a child, and returns its value: an exit code, so none
/// below 0 or above 255. The child is reaped before this returns, however it
/// ends; none where it did not come to its end.
///
/// # Errors
///
/// Those of `fork(2)`.
pub(super) fn code_of(errand: impl FnOnce() -> i32) -> io::Result<Option<i32>> {
    Ok(match ending_of(errand)? {
        RawExit::Code(code) => Some(code),
        RawExit::Signal { .. } => None,
    })
}

/// Runs `errand` in a child, and returns how that ended.
///
/// # Errors
///
/// Those of `fork(2)`, and `ECHILD` where somebody else has reaped it.
pub(super) fn ending_of(errand: impl FnOnce() -> i32) -> io::Result<RawExit> {
    // SAFETY: the errand makes system calls only, as this module demands, and
    // `_exit` runs no destructor and no handler.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let code = errand();
            // SAFETY: `_exit` has no precondition.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            wait_for_one(child.as_raw()).map_err(|_| Errno::ECHILD.into())
        }
    }
}

/// Whether `body`, of a test, was true in a child.
#[cfg(test)]
pub(super) fn in_child(body: impl FnOnce() -> bool) -> bool {
    code_of(|| i32::from(!body())).unwrap() == Some(0)
}
