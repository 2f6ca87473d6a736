//! Taking part in the `bind` and `listen` of other processes
//! (`seccomp_unotify(2)`).
//!
//! What a notification says was read in the thread that waits, so nobody can
//! change it; what it points to, the thread's fellows can. A notification is
//! named by its id, and its thread may be gone at any time: so whatever is
//! read of the thread counts only if the id [is still
//! valid](Notifications::is_valid) after the reading.

mod filter;

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(super) use filter::install;

/// The calls of every thread under one filter: of a worker and of all that it
/// started. Readable when there is one; hung up once no thread is left.
#[derive(Debug)]
pub struct Notifications(OwnedFd);

/// What there was to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing, or a call whose thread is gone already.
    Nothing,
    /// Nobody is left under the filter, so nothing more will come.
    Gone,
    /// A call, whose thread waits for the answer.
    Call(Notification),
}

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names it, for as long as its thread waits.
    pub id: u64,
    /// The thread that made it; 0 where that is in no pid namespace that is
    /// visible from here.
    pub tid: i32,
    /// Which call it is.
    pub call: Call,
    /// The socket, as that thread numbers it; may be no socket, or none.
    pub descriptor: i32,
    /// Where `bind`'s address is in that thread's memory.
    pub address: u64,
    /// How many bytes `bind`'s address has; not checked by anyone.
    pub length: u32,
    /// `listen`'s second argument; may be negative.
    pub backlog: i32,
    /// Right behind the instruction that made the call.
    pub instruction_pointer: u64,
    /// The call's number and first arguments, as the registers have them.
    pub(super) number: i32,
    pub(super) arguments: [u64; 3],
}

/// The calls that are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `bind(2)`, with an address of 16 bytes or more.
    Bind,
    /// `listen(2)`.
    Listen,
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Notifications {
    fn from(listener: OwnedFd) -> Self {
        Self(listener)
    }
}

impl Notifications {
    /// Takes the next call, if there is one. Never blocks.
    ///
    /// # Errors
    ///
    /// Those of `poll(2)`, and `ENOMEM`.
    pub fn receive(&self) -> io::Result<Received> {
        // The kernel's receive waits for a call, however the descriptor is
        // set. Once one was there it does not: it counts even those that have
        // ended unreceived.
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Received::Nothing),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [polled] = fds;
        let events = polled.revents().unwrap_or(PollFlags::empty());
        if !events.contains(PollFlags::POLLIN) {
            let gone = events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
            return Ok(if gone {
                Received::Gone
            } else {
                Received::Nothing
            });
        }
        // SAFETY: seccomp_notif is plain data, and all zeros are a value of
        // it: the one that the kernel asks for.
        let mut raw: libc::seccomp_notif = unsafe { mem::zeroed() };
        // SAFETY: `raw` is what this request writes, and lives through it.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut raw,
            )
        };
        match Errno::result(result) {
            Ok(_) => match Notification::new(&raw) {
                Some(notification) => Ok(Received::Call(notification)),
                // The filter tells of no other call.
                None => self.proceed(raw.id).map(|()| Received::Nothing),
            },
            // Its thread was killed, or a signal's handler comes first.
            Err(Errno::ENOENT | Errno::EINTR) => Ok(Received::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether that call still waits, so that what was read of its thread
    /// since it was received is that thread's.
    #[must_use]
    pub fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the id is what this request reads, and lives through it.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
                &raw const id,
            )
        };
        result == 0
    }

    /// Lets the kernel carry out the call as if there were no filter. It reads
    /// the arguments' memory anew, so this is no way to permit anything.
    ///
    /// # Errors
    ///
    /// `EINPROGRESS` for a call that is answered already. A thread that is
    /// gone is no error.
    pub fn proceed(&self, id: u64) -> io::Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "it is 1")]
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        self.respond(id, 0, flags)
    }

    /// Ends the call: with 0, successfully, else with that error number.
    ///
    /// # Errors
    ///
    /// As for [`Self::proceed`].
    pub fn answer(&self, id: u64, errno: i32) -> io::Result<()> {
        self.respond(id, errno.checked_neg().unwrap_or(0), 0)
    }

    fn respond(&self, id: u64, error: i32, flags: u32) -> io::Result<()> {
        let mut response = libc::seccomp_notif_resp {
            id,
            val: 0,
            error,
            flags,
        };
        // SAFETY: the response is what this request reads, and lives through
        // it.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut response,
            )
        };
        match Errno::result(result) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes `source` the waiting thread's descriptor `target`, in place of
    /// what that was. The thread itself does it, when it next has a CPU; only
    /// that is waited for.
    ///
    /// # Errors
    ///
    /// `ENOENT` where the thread is gone, `EBADF` for a target above its
    /// limit, `EBUSY` for one that it is just opening, `EINVAL` before
    /// Linux 5.9.
    pub fn put(
        &self,
        id: u64,
        source: BorrowedFd<'_>,
        target: i32,
        close_on_exec: bool,
    ) -> io::Result<()> {
        let target = u32::try_from(target).map_err(|_| Errno::EBADF)?;
        self.add_descriptor(id, source, Some(target), close_on_exec)
            .map(drop)
    }

    /// Gives the waiting thread `source` as a further descriptor, and tells
    /// its number there.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`]; `EMFILE` where the thread has no room.
    pub fn add(&self, id: u64, source: BorrowedFd<'_>, close_on_exec: bool) -> io::Result<i32> {
        self.add_descriptor(id, source, None, close_on_exec)
    }

    fn add_descriptor(
        &self,
        id: u64,
        source: BorrowedFd<'_>,
        target: Option<u32>,
        close_on_exec: bool,
    ) -> io::Result<RawFd> {
        #[expect(clippy::cast_possible_truncation, reason = "it is 1")]
        let replace = libc::SECCOMP_ADDFD_FLAG_SETFD as u32;
        let mut request = libc::seccomp_notif_addfd {
            id,
            flags: target.map_or(0, |_| replace),
            srcfd: source.as_raw_fd().cast_unsigned(),
            newfd: target.unwrap_or(0),
            newfd_flags: if close_on_exec {
                libc::O_CLOEXEC.cast_unsigned()
            } else {
                0
            },
        };
        loop {
            // SAFETY: the request is what this reads, and lives through it.
            let result = unsafe {
                libc::ioctl(
                    self.0.as_raw_fd(),
                    libc::SECCOMP_IOCTL_NOTIF_ADDFD,
                    &raw mut request,
                )
            };
            match Errno::result(result) {
                // It then has not been done.
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Notification {
    fn new(raw: &libc::seccomp_notif) -> Option<Self> {
        let call = match i64::from(raw.data.nr) {
            libc::SYS_bind => Call::Bind,
            libc::SYS_listen => Call::Listen,
            _ => return None,
        };
        let [first, second, third, ..] = raw.data.args;
        Some(Self {
            id: raw.id,
            tid: raw.pid.cast_signed(),
            call,
            descriptor: lower_half(first).cast_signed(),
            address: second,
            length: lower_half(third),
            backlog: lower_half(second).cast_signed(),
            instruction_pointer: raw.data.instruction_pointer,
            number: raw.data.nr,
            arguments: [first, second, third],
        })
    }
}

/// What the kernel reads of an argument that is an `int`.
#[expect(clippy::cast_possible_truncation, reason = "that is its purpose")]
fn lower_half(argument: u64) -> u32 {
    argument as u32
}

#[cfg(test)]
mod tests;
