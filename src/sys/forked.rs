//! Runs a test's body in a child, where it may change what belongs to a whole
//! process: signal mask, dispositions, descriptors, limits.
//!
//! libtest has other threads, which do not exist in the child and may have
//! held any lock. A body must therefore only make system calls: it neither
//! allocates nor panics, and says by its value whether all was as expected.

use nix::unistd::{ForkResult, fork};

use super::process::{RawExit, wait_for_one};

/// Whether `body` was true, in a child.
pub(super) fn in_child(body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the body makes system calls only, as this module demands, and
    // `_exit` runs no destructor and no handler.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let code = i32::from(!body());
            // SAFETY: `_exit` has no precondition.
            unsafe { libc::_exit(code) }
        }
        Ok(ForkResult::Parent { child }) => wait_for_one(child.as_raw()) == Ok(RawExit::Code(0)),
        Err(errno) => panic!("cannot fork: {errno}"),
    }
}
