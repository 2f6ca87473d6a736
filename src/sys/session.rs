//! Sessions and their terminal (`setsid(2)`, `ioctl_tty(2)`).

use nix::errno::Errno;
use nix::unistd::{getpid, getsid};

/// Gives the terminal on descriptor 0 up, so that a child's session may have
/// it. Where this process leads the terminal's session, that brings it a HUP
/// and a CONT, as if it had sent them itself, which is what is returned.
#[must_use]
pub fn give_up_terminal() -> bool {
    // SAFETY: TIOCNOTTY takes no argument and touches no memory.
    let result = unsafe { libc::ioctl(0, libc::TIOCNOTTY) };
    Errno::result(result).is_ok() && getsid(None) == Ok(getpid())
}

/// Leads a session of its own, at the terminal on descriptor 0 where that is
/// nobody's. Async-signal-safe.
pub(super) fn lead() {
    // A process that was just forked leads no group, so it may always do this.
    let _ = nix::unistd::setsid();
    // Refused where there is no terminal, or where it is another session's.
    // SAFETY: TIOCSCTTY takes a number and touches no memory.
    unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
}
