//! The descriptors that clinit was started with: which it takes, and how it
//! lets go of the rest.

use std::ffi::c_int;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::chdir;

use super::super::numbered::numbers_in;

/// Closes every descriptor from 3 on that is outside of `keep`.
///
/// To be called before clinit has opened any that it means to keep. An empty
/// range keeps none.
pub fn close_inherited(keep: &Range<i32>) {
    let (first, end) = if keep.is_empty() {
        (3, 3)
    } else {
        (keep.start.max(3), keep.end.max(3))
    };
    if close_range(3, first).is_ok() && close_range(end, i32::MAX).is_ok() {
        return;
    }
    // No close_range: a kernel before 5.9, or a seccomp profile of its time.
    for descriptor in open_descriptors() {
        if descriptor >= 3 && !(first..end).contains(&descriptor) {
            // SAFETY: nothing in clinit owns a descriptor yet, as this
            // function's contract says.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Closes `first` to `end - 1`.
fn close_range(first: i32, end: i32) -> Result<(), Errno> {
    if first >= end {
        return Ok(());
    }
    // SAFETY: nothing in clinit owns a descriptor there, as the contract of
    // `close_inherited` and the count in `let_go` have it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) };
    Errno::result(result).map(drop)
}

/// The open descriptors' numbers; without a /proc, all that there could be
/// under a usual limit.
fn open_descriptors() -> Vec<i32> {
    const USUAL: i32 = 65_536;
    numbers_in(Path::new("/proc/self/fd")).unwrap_or_else(|_| (0..USUAL).collect())
}

/// The descriptors of this range that are open, with their numbers.
///
/// To be called once, for descriptors that clinit was given to keep: they are
/// its own from then on.
pub fn take_descriptors(range: &Range<i32>) -> impl Iterator<Item = (i32, OwnedFd)> + use<> {
    range.clone().filter_map(|number| {
        // SAFETY: F_GETFD touches no memory.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        // SAFETY: the descriptor is open, and nothing in clinit owns it: it
        // was there before clinit opened any.
        (flags >= 0).then(|| (number, unsafe { OwnedFd::from_raw_fd(number) }))
    })
}

/// Lets go of what clinit was started with and only its child needs, which
/// would keep files open and a mount busy: the working directory, and every
/// descriptor from 3 on that was not closed on exec. Clinit's own all are.
///
/// To be called once the child has its own.
pub fn let_go() {
    // More than clinit itself ever has open by then. The kernel gives out the
    // lowest free numbers, so no own descriptor is above so many others.
    const MOST_OWN: u32 = 32;
    let (mut number, mut not_inherited) = (3, 0);
    while not_inherited < MOST_OWN {
        if !close_if_kept_on_exec(number) {
            not_inherited += 1;
        }
        number += 1;
    }
    if close_range(number, i32::MAX).is_err() {
        let others = open_descriptors().into_iter();
        others.filter(|other| *other >= number).for_each(|other| {
            close_if_kept_on_exec(other);
        });
    }
    // It cannot fail: nobody has taken clinit's right to search its root.
    let _ = chdir(c"/");
}

fn close_if_kept_on_exec(number: c_int) -> bool {
    // SAFETY: F_GETFD only looks the number up.
    let kept = unsafe { libc::fcntl(number, libc::F_GETFD) } == 0;
    if kept {
        // SAFETY: whatever owns a descriptor in clinit has it closed on exec.
        unsafe { libc::close(number) };
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::super::super::forked::in_child;
    use super::super::{is_closed, placeholder};
    use super::*;

    #[test]
    fn inherited_descriptors_are_closed_but_for_those_to_keep() {
        let files = [(); 3].map(|()| placeholder().unwrap());
        let numbers = files.each_ref().map(AsRawFd::as_raw_fd);
        let kept = numbers[1];
        assert!(in_child(|| {
            close_inherited(&(kept..kept + 1));
            let only_it = is_closed(numbers[0]) && !is_closed(kept) && is_closed(numbers[2]);
            close_inherited(&(0..0));
            only_it && is_closed(kept) && !is_closed(0)
        }));
    }

    #[test]
    fn what_only_the_child_needs_is_let_go_of() {
        let own = placeholder().unwrap();
        assert!(in_child(|| {
            // Far above, and beside its own.
            let inherited = [900, own.as_raw_fd() + 1, own.as_raw_fd() + 7];
            for number in inherited {
                // SAFETY: this child uses none of them.
                unsafe { libc::dup2(0, number) };
            }
            let_go();
            let cwd = std::env::current_dir();
            inherited.into_iter().all(is_closed)
                && !is_closed(own.as_raw_fd())
                && [0, 1, 2].map(is_closed) == [false; 3]
                && cwd.is_ok_and(|cwd| cwd == std::path::Path::new("/"))
        }));
    }

    #[test]
    fn open_descriptors_are_found_in_proc() {
        let file = placeholder().unwrap();
        let open = open_descriptors();
        assert!(open.contains(&file.as_raw_fd()) && open.contains(&0));
        assert!(open.len() < 65_536);
    }
}
