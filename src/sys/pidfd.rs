//! A hold on one process, whatever becomes of its number (`pidfd_open(2)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::kill::{QueuedInfo, sent};
use super::remote::owned;

/// `PIDFD_SIGNAL_PROCESS_GROUP` (linux/pidfd.h).
const TO_GROUP: u32 = 1 << 2;

/// A process. Readable once it has ended, reaped or not; close-on-exec.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// Takes hold of a process.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is none, `EINVAL` for a number below 1 or a thread
    /// that leads none, `ENOSYS` before Linux 5.3, `EPERM` where an engine's
    /// profile forbids it.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open touches no memory.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) };
        owned(opened).map(Self)
    }

    /// Whether the process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut entries = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut entries, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends it signal `number`; with `value` as `sigqueue(3)` does
    /// (`pidfd_send_signal(2)`).
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that is no signal, `EPERM`, and with a value
    /// `EAGAIN` where the queue is full. A process that is gone is no error.
    pub fn send(&self, number: i32, value: Option<u64>) -> io::Result<()> {
        sent(self.send_signal(number, value, 0))
    }

    /// Sends signal `number` to every process of the group that it leads, with
    /// `value` as `sigqueue(3)` does.
    ///
    /// # Errors
    ///
    /// `EINVAL` before Linux 6.9, `EPERM` where no member may be signalled,
    /// `EAGAIN` where no member's queue has room.
    pub(super) fn queue_group(&self, number: i32, value: u64) -> io::Result<()> {
        sent(self.send_signal(number, Some(value), TO_GROUP))
    }

    fn send_signal(&self, number: i32, value: Option<u64>, flags: u32) -> Result<(), Errno> {
        let info = value.map(|value| QueuedInfo::new(number, value));
        let info = info.as_ref().map_or(ptr::null(), ptr::from_ref);
        let own = self.0.as_raw_fd();
        // SAFETY: `info` is null, or as large as the kernel's siginfo_t with
        // all of it initialised, and lives through the call.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, own, number, info, flags) };
        Errno::result(result).map(drop)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_held_beyond_its_end() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let handle = Handle::open(i32::try_from(cat.id()).unwrap()).unwrap();
        assert!(!handle.has_ended());
        handle.send(0, None).unwrap();
        handle.send(libc::SIGKILL, None).unwrap();
        cat.wait().unwrap();
        assert!(handle.has_ended());
        handle.send(libc::SIGKILL, None).unwrap();
        handle.send(libc::SIGTERM, Some(3)).unwrap();
        let refused = Handle::open(0).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }
}
