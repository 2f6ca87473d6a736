//! Limits of what a process may take (`prlimit(2)`).
//!
//! musl's `setrlimit` has what changes the limit of each thread, as kernels
//! before 2.6.36 needed it: 1,700 bytes.

use std::ffi::c_int;
use std::ptr;

use nix::sys::resource::{Resource, rlim_t};

/// The soft limit and the hard one.
pub(super) type Limit = (rlim_t, rlim_t);

/// This process's limit of a resource; none where the kernel has no such.
pub(super) fn limit(resource: Resource) -> Option<Limit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    prlimit(resource, ptr::null(), &raw mut limit).then_some((limit.rlim_cur, limit.rlim_max))
}

/// Sets this process's limit, and returns whether that was allowed.
/// Async-signal-safe.
pub(super) fn set_limit(resource: Resource, (soft, hard): Limit) -> bool {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    prlimit(resource, &raw const limit, ptr::null_mut())
}

fn prlimit(resource: Resource, new: *const libc::rlimit, old: *mut libc::rlimit) -> bool {
    let number = resource as c_int;
    // SAFETY: each pointer is null, or to a limit that outlives the call: of
    // two 64-bit numbers, as the kernel has it.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, number, new, old) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_nix_reads_it_and_can_be_set_to_what_it_is() {
        for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_SIGPENDING] {
            let known = nix::sys::resource::getrlimit(resource).unwrap();
            assert_eq!(limit(resource), Some(known));
            assert!(set_limit(resource, known));
            // The soft one may not be above the hard one.
            assert!(!set_limit(resource, (1, 0)));
            assert_eq!(limit(resource), Some(known));
        }
    }
}
