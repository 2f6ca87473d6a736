//! What clinit was started with, and how it makes itself at home.
//!
//! A worker is owed the mask, dispositions, limits and descriptors that
//! clinit was started with. They are recorded before anything changes them;
//! the binary is `#![no_main]`, because Rust's runtime would change some
//! before `main`.

mod descriptors;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl;
use nix::sys::resource::{Resource, rlim_t};
use nix::sys::stat::Mode;
use nix::unistd::getppid;

use super::limit::{Limit, limit, set_limit};
use super::process::set_parent_death_signal;
use super::signals::{ChildStatuses, SignalSet, set_child_statuses};
pub use descriptors::{close_inherited, let_go, take_descriptors};

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
    pub(super) nofile: Option<Limit>,
    /// The limit of signals that wait in queues: soft, hard.
    pub(super) sigpending: Option<Limit>,
    /// The parent's pid; 0 where that is in another pid namespace.
    pub parent: i32,
    /// The signal that the parent's death would bring, which a fork loses.
    pub parent_death_signal: Option<i32>,
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
            nofile: limit(Resource::RLIMIT_NOFILE),
            sigpending: limit(Resource::RLIMIT_SIGPENDING),
            parent: getppid().as_raw(),
            parent_death_signal: parent_death_signal(),
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

/// The environment as it is, in its order. An entry that is no `NAME=value`
/// has an empty name, and is its value.
///
/// Rust's own leaves such entries out.
#[must_use]
pub fn environment() -> Vec<(OsString, OsString)> {
    unsafe extern "C" {
        /// `environ(7)`.
        static environ: *const *const c_char;
    }
    // SAFETY: nothing in clinit ever writes to it.
    let mut entry = unsafe { environ };
    let mut found = Vec::new();
    // `clearenv(3)` leaves a null.
    while !entry.is_null() {
        // SAFETY: the array goes on up to the null that ends it.
        let string = unsafe { entry.read() };
        if string.is_null() {
            break;
        }
        // SAFETY: each entry before that is NUL-terminated.
        found.push(variable(unsafe { CStr::from_ptr(string) }.to_bytes()));
        // SAFETY: this was not the last one.
        entry = unsafe { entry.add(1) };
    }
    found
}

fn variable(entry: &[u8]) -> (OsString, OsString) {
    let owned = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let mut parts = entry.splitn(2, |byte| *byte == b'=');
    match (parts.next(), parts.next()) {
        (Some(name), Some(value)) if !name.is_empty() => (owned(name), owned(value)),
        _ => (OsString::new(), owned(entry)),
    }
}

/// What [`prepare`] could not do; all else it has done nevertheless.
#[derive(Debug)]
pub enum Unprepared {
    /// There is no descriptor to occupy a closed one with.
    Descriptors(io::Error),
    /// The kernel lets nobody but process 1 adopt orphans.
    Subreaper(io::Error),
}

/// Makes clinit safe from its surroundings: blocks all signals, has the
/// kernel keep children's statuses, occupies descriptors 0 to 2 where they
/// were closed, raises the soft limit of open descriptors to the hard one,
/// lowers that of queued signals, and, if it `adopts`, adopts orphans. What the
/// children must not see of this, spawning undoes.
///
/// # Errors
///
/// See [`Unprepared`].
pub fn prepare(inherited: &Inherited, adopts: bool) -> Result<(), Unprepared> {
    SignalSet::ALL.block_exactly();
    set_child_statuses(ChildStatuses::Kept);
    let occupied = occupy(inherited.closed);
    if let Some((_, hard)) = inherited.nofile {
        // Refused, it stays what it was; workers are then fewer.
        let _ = set_limit(Resource::RLIMIT_NOFILE, (hard, hard));
    }
    if let Some((soft, hard)) = inherited.sigpending {
        let _ = set_limit(Resource::RLIMIT_SIGPENDING, (with_reserve(soft), hard));
    }
    if adopts && !inherited.is_pid1 {
        prctl::set_child_subreaper(true).map_err(|errno| Unprepared::Subreaper(errno.into()))?;
    }
    occupied.map_err(|errno| Unprepared::Descriptors(errno.into()))
}

/// Has the kernel send clinit this signal when its parent dies
/// (`PR_SET_PDEATHSIG(2const)`). A parent that died since clinit was started
/// is not missed: then clinit sends it itself.
pub fn end_with_parent(signal: i32, inherited: &Inherited) {
    set_parent_death_signal(signal);
    if getppid().as_raw() != inherited.parent {
        // It is blocked, so it waits to be read like any other.
        // SAFETY: raise touches no memory.
        unsafe { libc::raise(signal) };
    }
}

fn parent_death_signal() -> Option<i32> {
    let mut signal: c_int = 0;
    // nix's knows no real-time signals.
    // SAFETY: the kernel writes one int, to `signal`.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    (signal != 0).then_some(signal)
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
            let prepared = prepare(&inherited, true).is_ok();
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
            let prepared = prepare(&inherited, true).is_ok();
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
    fn an_entry_that_is_no_variable_is_its_value() {
        for (entry, name, value) in [
            ("A=1", "A", "1"),
            ("A=x=y", "A", "x=y"),
            ("A=", "A", ""),
            ("A", "", "A"),
            ("", "", ""),
            ("=A", "", "=A"),
            ("=A=B", "", "=A=B"),
        ] {
            let expected = (OsString::from(name), OsString::from(value));
            assert_eq!(variable(entry.as_bytes()), expected);
        }
    }

    #[test]
    fn variables_are_those_that_rust_finds() {
        let mut found = environment();
        found.retain(|(name, _)| !name.is_empty());
        assert_eq!(found, std::env::vars_os().collect::<Vec<_>>());
    }

    #[test]
    fn a_parent_that_is_gone_already_is_not_missed() {
        assert!(in_child(|| {
            let mut inherited = Inherited::record();
            if prepare(&inherited, true).is_err() {
                return false;
            }
            let Ok(queue) = super::super::signals::SignalQueue::open() else {
                return false;
            };
            end_with_parent(40, &inherited);
            let pending = || {
                let batch = queue.read().ok()?;
                Some(batch.signals().map(|got| got.number).collect::<Vec<_>>())
            };
            let waits = pending() == Some(Vec::new());
            let arranged = parent_death_signal() == Some(40);
            inherited.parent += 1;
            end_with_parent(41, &inherited);
            let sent = pending() == Some(vec![41]);
            waits && arranged && sent
        }));
    }
}
