//! What clinit was started with, and how it makes itself at home.
//!
//! A worker is owed the mask, dispositions, limits and descriptors that
//! clinit was started with. They are recorded before anything changes them;
//! the binary is `#![no_main]`, because Rust's runtime would change some
//! before `main`.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::getppid;

use super::signals::{ChildStatuses, SignalSet, set_child_statuses};

/// What clinit was started with.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// The signals that were blocked.
    pub blocked: SignalSet,
    /// Whether children's statuses were kept. No other disposition is ever
    /// changed.
    pub(super) child_statuses: ChildStatuses,
    /// Which of descriptors 0 to 2 were closed.
    pub closed: [bool; 3],
    /// The limit of open descriptors: soft, hard.
    pub(super) nofile: Option<(rlim_t, rlim_t)>,
    /// The limit of signals that wait in queues: soft, hard.
    pub(super) sigpending: Option<(rlim_t, rlim_t)>,
    /// The parent's pid; 0 where that is in another pid namespace.
    pub parent: i32,
    /// Whether clinit is process 1 of its pid namespace.
    pub is_pid1: bool,
}

impl Inherited {
    /// Records it. To be called first of all.
    #[must_use]
    pub fn record() -> Self {
        Self {
            blocked: SignalSet::blocked(),
            child_statuses: ChildStatuses::now(),
            closed: [0, 1, 2].map(is_closed),
            nofile: getrlimit(Resource::RLIMIT_NOFILE).ok(),
            sigpending: getrlimit(Resource::RLIMIT_SIGPENDING).ok(),
            parent: getppid().as_raw(),
            is_pid1: std::process::id() == 1,
        }
    }
}

/// The arguments that `main` was called with, the program's name included.
///
/// # Safety
///
/// `strings` holds `count` pointers to NUL-terminated strings, as the C
/// library gives them to `main`.
#[must_use]
pub unsafe fn arguments(count: c_int, strings: *const *const c_char) -> Vec<OsString> {
    (0..usize::try_from(count).unwrap_or(0))
        .map(|index| {
            // SAFETY: the caller promises `count` pointers; index is below.
            let slot = unsafe { strings.add(index) };
            // SAFETY: as above, so this slot may be read.
            let string = unsafe { slot.read() };
            // SAFETY: the caller promises that it is NUL-terminated.
            let bytes = unsafe { CStr::from_ptr(string) };
            OsStr::from_bytes(bytes.to_bytes()).to_owned()
        })
        .collect()
}

/// Makes clinit safe from its surroundings: blocks all signals, has the
/// kernel keep children's statuses, occupies descriptors 0 to 2 where they
/// were closed, raises the soft limit of open descriptors to the hard one,
/// lowers that of queued signals, and adopts orphans. What the children must not see of this, spawning
/// undoes.
///
/// # Errors
///
/// Where a descriptor cannot be had to occupy a closed one, or the kernel has
/// no subreapers. Everything that could be done has been done nevertheless.
pub fn prepare(inherited: &Inherited) -> io::Result<()> {
    SignalSet::ALL.block_exactly();
    set_child_statuses(ChildStatuses::Kept);
    let occupied = occupy(inherited.closed);
    if let Some((_, hard)) = inherited.nofile {
        // Refused, it stays what it was; workers are then fewer.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    if let Some((soft, hard)) = inherited.sigpending {
        let _ = setrlimit(Resource::RLIMIT_SIGPENDING, with_reserve(soft), hard);
    }
    if !inherited.is_pid1 {
        prctl::set_child_subreaper(true)?;
    }
    Ok(occupied?)
}

/// The limit of queued signals that leaves some room to forward them: all
/// processes of a user share what room there is, and each is refused by its own
/// limit. So whoever sends clinit more than there is room for is refused before
/// the child is that clinit hands them on to.
fn with_reserve(soft: rlim_t) -> rlim_t {
    const RESERVE: rlim_t = 1024;
    soft - (soft / 2).min(RESERVE)
}

fn is_closed(descriptor: c_int) -> bool {
    // SAFETY: F_GETFD only looks the number up.
    let result = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    Errno::result(result) == Err(Errno::EBADF)
}

/// Puts placeholders where standard descriptors are closed, so that nothing
/// that clinit opens lands there. They are close-on-exec: a child finds the
/// descriptors closed, as clinit did.
fn occupy(closed: [bool; 3]) -> Result<(), Errno> {
    for _ in closed.into_iter().filter(|closed| *closed) {
        // The kernel gives the lowest free number, which is a closed one.
        let _held_for_ever = placeholder()?.into_raw_fd();
    }
    Ok(())
}

/// A descriptor that reads as empty; without a /dev, one that nobody uses.
fn placeholder() -> Result<OwnedFd, Errno> {
    open(
        c"/dev/null",
        OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .or_else(|_| {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags).map(OwnedFd::from)
    })
}

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
    // SAFETY: nothing in clinit owns a descriptor yet, as the contract of
    // `close_inherited` says.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) };
    Errno::result(result).map(drop)
}

/// The open descriptors' numbers; without a /proc, all that there could be
/// under a usual limit.
fn open_descriptors() -> Vec<i32> {
    const USUAL: i32 = 65_536;
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return (0..USUAL).collect();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
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

/// This process's user id (nix's getuid needs its `user` feature, and that
/// links getpwnam).
#[must_use]
pub fn own_uid() -> u32 {
    // SAFETY: getuid has no precondition and cannot fail.
    unsafe { libc::getuid() }
}

/// /dev/null, for workers' stdin.
///
/// # Errors
///
/// Those of `open(2)`, in an image without a /dev.
pub fn open_null() -> io::Result<OwnedFd> {
    File::open("/dev/null").map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::super::forked::in_child;
    use super::*;

    #[test]
    fn arguments_are_taken_as_bytes() {
        let strings = [c"clinit", c"", c"\xff\xfe"];
        let pointers = strings.map(CStr::as_ptr);
        // SAFETY: three pointers to C strings that outlive the call.
        let taken = unsafe { arguments(3, pointers.as_ptr()) };
        assert_eq!(taken.len(), 3);
        assert_eq!(taken[0], "clinit");
        assert_eq!(taken[2].as_bytes(), b"\xff\xfe");
        // SAFETY: with no arguments nothing is read.
        assert!(unsafe { arguments(0, std::ptr::null()) }.is_empty());
    }

    #[test]
    fn preparing_changes_what_it_says_and_no_more() {
        assert!(in_child(|| {
            set_child_statuses(ChildStatuses::Lost);
            let inherited = Inherited::record();
            let prepared = prepare(&inherited).is_ok();
            let after = Inherited::record();
            prepared
                && inherited.child_statuses == ChildStatuses::Lost
                && after.child_statuses == ChildStatuses::Kept
                && (1..=64)
                    .filter(|number| ![libc::SIGKILL, libc::SIGSTOP].contains(number))
                    .all(|number| after.blocked.contains(number))
                && after.nofile.is_some_and(|(soft, hard)| soft == hard)
                && match (inherited.sigpending, after.sigpending) {
                    (Some((before, _)), Some((after, _))) => after == with_reserve(before),
                    (None, _) | (_, None) => false,
                }
                && prctl::get_child_subreaper() == Ok(true)
        }));
    }

    #[test]
    fn closed_standard_descriptors_are_occupied_but_not_for_children() {
        assert!(in_child(|| {
            for descriptor in [0, 2] {
                // SAFETY: this child uses neither.
                unsafe { libc::close(descriptor) };
            }
            let inherited = Inherited::record();
            let before = inherited.closed;
            let prepared = prepare(&inherited).is_ok();
            // SAFETY: F_GETFD only looks the number up.
            let flags = [0, 2].map(|fd| unsafe { libc::fcntl(fd, libc::F_GETFD) });
            prepared
                && before[0]
                && before[2]
                && Inherited::record().closed == [false; 3]
                && flags == [libc::FD_CLOEXEC; 2]
        }));
    }

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
    fn open_descriptors_are_found_in_proc() {
        let file = placeholder().unwrap();
        let open = open_descriptors();
        assert!(open.contains(&file.as_raw_fd()) && open.contains(&0));
        assert!(open.len() < 65_536);
    }
}
