//! The terminal of clinit's session: which process group it is with, and
//! stopping as a job does (`tty_ioctl(4)`, `setpgid(2)`, `credentials(7)`).
//!
//! All signals are blocked in clinit, SIGTTOU among them: so the kernel lets it
//! move the terminal even from the background. That it is not to do so is kept
//! here alone.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::getpgrp;

use super::kill::group_exists;
use super::signals::SignalSet;

/// Where the terminal is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// Descriptor 0 alone: what may read it there is meant to have it. A shell
    /// without job control gives a program in the background /dev/null.
    Stdin,
    /// Every standard descriptor, and /dev/tty: `something | pager` reads keys
    /// there.
    Any,
}

/// Whose the terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Clinit's own process group's.
    Own,
    /// The group's with this number; 0 where that is of another pid namespace.
    Group(i32),
}

/// Whose the terminal of clinit's session is. None where there is none to be
/// had this way.
#[must_use]
pub fn holder(through: Through) -> Option<Holder> {
    find(through).map(|(_, holder)| holder)
}

/// Makes a group of this session the terminal's foreground group, where that is
/// clinit's own. Returns whether it was.
#[must_use]
pub fn lend(to: i32, through: Through) -> bool {
    match find(through) {
        Some((terminal, Holder::Own)) => set_foreground(terminal.number(), to).is_ok(),
        Some((_, Holder::Group(_))) | None => false,
    }
}

/// Makes clinit's own group the foreground group again, where the one that the
/// terminal was lent to still is that, or one that is no more. A shell that has
/// taken the terminal keeps it.
pub fn take_back(lent_to: i32) {
    if let Some((terminal, Holder::Group(group))) = find(Through::Any)
        && (group == lent_to || (group > 1 && !group_exists(group)))
    {
        // Without a terminal there is nothing to have back.
        let _ = set_foreground(terminal.number(), getpgrp().as_raw());
    }
}

/// As [`holder`] finds it on descriptor 0, for a child that is to have it.
pub(super) fn is_own_stdin() -> bool {
    holder(Through::Stdin) == Some(Holder::Own)
}

/// Makes this group the foreground group of the terminal on this descriptor.
/// Async-signal-safe.
///
/// To be called with SIGTTOU blocked, which would stop the caller.
pub(super) fn set_foreground(terminal: RawFd, group: i32) -> Result<(), Errno> {
    // SAFETY: tcsetpgrp touches no memory.
    let result = unsafe { libc::tcsetpgrp(terminal, group) };
    Errno::result(result).map(drop)
}

/// Stops clinit, and with `whole` all of its process group, by one of SIGTSTP,
/// SIGTTIN and SIGTTOU, until someone continues it. Returns whether it was
/// stopped: the kernel does not do so as process 1, nor in a process group that
/// nobody of another group of this session looks after (`setpgid(2)`: an
/// orphaned one). What continued it is in the queue of signals.
#[must_use]
pub fn stop_job(number: i32, whole: bool) -> bool {
    // Sending a stop would throw it away.
    if SignalSet::pending().contains(libc::SIGCONT) {
        return true;
    }
    let target = if whole { 0 } else { std::process::id() };
    let target = i32::try_from(target).unwrap_or(0);
    // SAFETY: kill touches no memory; 0 is clinit's own group.
    unsafe { libc::kill(target, number) };
    // Where it is not discarded, clinit stands still in here.
    SignalSet::ALL.without(number).block_exactly();
    SignalSet::ALL.block_exactly();
    SignalSet::pending().contains(libc::SIGCONT)
}

/// A descriptor of the terminal.
enum Terminal {
    Standard(RawFd),
    Opened(OwnedFd),
}

impl Terminal {
    fn number(&self) -> RawFd {
        match self {
            Self::Standard(number) => *number,
            Self::Opened(descriptor) => descriptor.as_raw_fd(),
        }
    }
}

fn find(through: Through) -> Option<(Terminal, Holder)> {
    let standard: &[RawFd] = match through {
        Through::Stdin => &[0],
        Through::Any => &[0, 1, 2],
    };
    let found = standard
        .iter()
        .find_map(|&number| Some((Terminal::Standard(number), foreground(number)?)));
    let (terminal, group) = match (found, through) {
        (Some(found), _) => found,
        (None, Through::Stdin) => return None,
        (None, Through::Any) => {
            let opened = open_tty()?;
            let group = foreground(opened.as_raw_fd())?;
            (Terminal::Opened(opened), group)
        }
    };
    let is_own = group == getpgrp().as_raw() && (group != 0 || is_in_foreground());
    let holder = if is_own {
        Holder::Own
    } else {
        Holder::Group(group)
    };
    Some((terminal, holder))
}

/// The foreground group of the terminal on this descriptor; none where that is
/// no terminal, or another session's.
fn foreground(terminal: RawFd) -> Option<i32> {
    // SAFETY: tcgetpgrp touches no memory of ours.
    let group = unsafe { libc::tcgetpgrp(terminal) };
    Errno::result(group).ok()
}

/// The terminal of this session, whichever it is. Whoever else has it open is
/// not concerned.
fn open_tty() -> Option<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(c"/dev/tty", flags, Mode::empty()).ok()
}

/// Whether clinit's group has the terminal, where the numbers do not tell:
/// started by `unshare --pid --fork`, both groups are of another pid namespace.
/// The kernel refuses to read, be it nothing at all, in the background with
/// SIGTTIN blocked (EIO).
fn is_in_foreground() -> bool {
    open_tty().is_some_and(|terminal| {
        let mut nothing = [0; 0];
        nix::unistd::read(&terminal, &mut nothing) != Err(Errno::EIO)
    })
}
