//! Sending signals (`kill(2)`, `rt_sigqueueinfo(2)`).
//!
//! `kill` gives some pids a meaning of their own: 0, -1, and a group of 1
//! read as -1. None of them can be reached by a number that went wrong here.

use std::io;

use nix::errno::Errno;

use super::pidfd::Handle;
use super::start::own_uid;

/// Sends signal `number` to one process; with `value` as `sigqueue(3)` does.
///
/// # Errors
///
/// `EINVAL` for a pid below 1 or a number that is no signal, `EPERM`, and
/// with a value `EAGAIN` where the queue is full. A process that is gone is
/// no error.
pub fn send(pid: i32, number: i32, value: Option<u64>) -> io::Result<()> {
    if pid < 1 {
        return Err(Errno::EINVAL.into());
    }
    sent(match value {
        None => kill(pid, number),
        Some(value) => queue(pid, number, value),
    })
}

/// Sends signal `number` to every process of a group.
///
/// # Errors
///
/// `EINVAL` for a group below 2 or a number that is no signal, `EPERM` where
/// no member may be signalled. A group that is gone is no error.
pub fn send_group(group: i32, number: i32) -> io::Result<()> {
    if group < 2 {
        return Err(Errno::EINVAL.into());
    }
    sent(kill(-group, number))
}

/// Sends signal `number` to every process of a group whose leader is not
/// reaped yet, with `value` as `sigqueue(3)` does. Before Linux 6.9 there is
/// no such call, and the value is lost.
///
/// # Errors
///
/// Those of [`send_group`], and `EAGAIN` where no member's queue has room.
pub fn queue_group(group: i32, number: i32, value: u64) -> io::Result<()> {
    let sent = Handle::open(group).and_then(|leader| leader.queue_group(number, value));
    match sent {
        Err(error) if is_full(&error) => Err(error),
        Err(_) => send_group(group, number),
        Ok(()) => Ok(()),
    }
}

/// Whether a signal was refused because the queue of whom it was for is full
/// (`RLIMIT_SIGPENDING`). Only a real-time one with a value is.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}

/// Whether a process group has a member, a zombie included.
#[must_use]
pub fn group_exists(group: i32) -> bool {
    // EPERM means that there is one, of another user.
    group >= 2 && matches!(kill(-group, 0), Ok(()) | Err(Errno::EPERM))
}

/// Sends signal `number` to every process of this pid namespace but clinit.
///
/// # Errors
///
/// `EPERM` unless clinit is process 1: anywhere else this would end processes
/// that are none of clinit's.
pub fn kill_everything(number: i32) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(Errno::EPERM.into());
    }
    sent(kill(-1, number))
}

/// Stops this process until someone continues it.
pub fn stop_self() {
    // SAFETY: raise has no precondition; SIGSTOP runs no code of ours.
    unsafe { libc::raise(libc::SIGSTOP) };
}

pub(super) fn sent(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

// nix's kill knows no real-time signals.
fn kill(target: i32, number: i32) -> Result<(), Errno> {
    // SAFETY: kill has no precondition on memory.
    let result = unsafe { libc::kill(target, number) };
    Errno::result(result).map(drop)
}

/// `siginfo_t` as the kernel reads it of a queued signal: 128 bytes.
#[repr(C)]
pub(super) struct QueuedInfo {
    number: i32,
    errno: i32,
    code: i32,
    _padding: i32,
    pid: u32,
    uid: u32,
    value: u64,
    _rest: [u64; 12],
}

const _: () = assert!(size_of::<QueuedInfo>() == size_of::<libc::siginfo_t>());

impl QueuedInfo {
    pub(super) fn new(number: i32, value: u64) -> Self {
        Self {
            number,
            errno: 0,
            code: libc::SI_QUEUE,
            _padding: 0,
            pid: std::process::id(),
            uid: own_uid(),
            value,
            _rest: [0; 12],
        }
    }
}

fn queue(pid: i32, number: i32, value: u64) -> Result<(), Errno> {
    let info = QueuedInfo::new(number, value);
    // SAFETY: `info` is as large as the kernel's siginfo_t, all of it
    // initialised.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, number, &raw const info) };
    Errno::result(result).map(drop)
}

/// [`send`] with a value and any `si_code` that the kernel takes.
#[cfg(test)]
pub(super) fn send_with_code(pid: i32, number: i32, code: i32, value: u64) -> Result<(), Errno> {
    let info = QueuedInfo {
        code,
        ..QueuedInfo::new(number, value)
    };
    // SAFETY: as in `queue`.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, number, &raw const info) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::forked::in_child;
    use super::*;

    fn errno_of(result: io::Result<()>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }

    #[test]
    fn pids_with_a_meaning_of_their_own_are_refused() {
        for pid in [0, -1, -2, i32::MIN] {
            assert_eq!(errno_of(send(pid, 0, None)), Some(libc::EINVAL));
            assert_eq!(errno_of(send(pid, 0, Some(1))), Some(libc::EINVAL));
        }
        for group in [1, 0, -1, i32::MIN] {
            assert_eq!(errno_of(send_group(group, 0)), Some(libc::EINVAL));
            assert!(!group_exists(group));
        }
    }

    #[test]
    fn only_process_1_may_signal_everything() {
        // In a child, which is never process 1.
        assert!(in_child(|| {
            errno_of(kill_everything(0)) == Some(libc::EPERM)
        }));
    }

    #[test]
    fn nobody_there_is_no_error() {
        // Above the largest pid that Linux gives.
        let nobody = 1 << 23;
        send(nobody, 0, None).unwrap();
        send(nobody, 40, Some(7)).unwrap();
        send_group(nobody, 0).unwrap();
        assert!(!group_exists(nobody));
    }

    #[test]
    fn oneself_is_there() {
        let own = i32::try_from(std::process::id()).unwrap();
        send(own, 0, None).unwrap();
        assert_eq!(errno_of(send(own, 65, None)), Some(libc::EINVAL));
    }
}
