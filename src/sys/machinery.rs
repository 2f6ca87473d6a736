//! Which ways there are to take part in a worker's calls, found out by trying
//! them on a child.
//!
//! A container engine's profile, a security module or an old kernel may refuse
//! each of them by itself, so no version and no capability tells.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::{ForkResult, fork, getpid, getppid};

use super::notification::{self, Notifications};
use super::process::{
    Credentials, SpawnFailure, Step, report_channel, set_parent_death_signal, take_on, to_take_on,
    wait_for_one,
};
use super::{remote, rights, trace};

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is refused by itself")]
pub struct Machinery {
    /// Whether a worker can be put under the filter; or the step that failed
    /// and its error number. `EBUSY` at [`Step::Filter`] is the listener of
    /// another supervisor around this one, `EINVAL` gVisor. With a failure
    /// there is nothing else either.
    pub filter: Result<(), SpawnFailure>,
    /// Whether a descriptor can be put into a worker: since Linux 5.9.
    pub can_put: bool,
    /// Whether a worker's descriptor can be duplicated (`pidfd_getfd(2)`).
    pub can_duplicate: bool,
    /// Whether a worker can be traced (`ptrace(2)`).
    pub can_trace: bool,
    /// Whether a worker's memory can be read.
    pub can_read: bool,
}

/// How long the child may take: it makes a handful of system calls.
const LONGEST_MS: u16 = 2_000;

/// What the child's memory has at one place, to be found there.
static MARK: u64 = 0x7461_6874_2065_6573;

/// No notification has this id: they count up from a random number.
const BOGUS_ID: u64 = 0;

/// Finds out what there is for workers with these credentials.
///
/// Only ever called from clinit's one thread: it starts a child, and reaps it
/// before it returns, after two seconds at the latest.
#[must_use]
pub fn probe(no_new_privs: bool, credentials: Option<Credentials<'_>>) -> Machinery {
    let credentials = to_take_on(credentials);
    match start(no_new_privs, credentials.as_ref()) {
        Ok(child) => child.examine(),
        Err(error) => Machinery::none(SpawnFailure {
            step: Step::Filter,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }),
    }
}

impl Machinery {
    fn none(failure: SpawnFailure) -> Self {
        Self {
            filter: Err(failure),
            can_put: false,
            can_duplicate: false,
            can_trace: false,
            can_read: false,
        }
    }
}

/// A child that waits to be examined; killed and reaped when it is dropped.
struct Child {
    pid: i32,
    report: OwnedFd,
    /// One of its descriptors.
    descriptor: RawFd,
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: kill touches no memory. The child is not reaped yet, so the
        // number is its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let _ = wait_for_one(self.pid);
    }
}

fn start(no_new_privs: bool, credentials: Option<&Credentials<'_>>) -> io::Result<Child> {
    let (report, answer) = report_channel()?;
    let parent = getpid();
    // SAFETY: the child makes system calls on memory that is prepared, and
    // waits to be killed or exits: it neither allocates, locks, panics nor
    // returns.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let descriptor = answer.as_raw_fd();
            if let Err((step, errno)) = present_itself(no_new_privs, credentials, descriptor) {
                let errno = errno as i32;
                let record = SpawnFailure { step, errno }.record();
                // SAFETY: the record is readable for its length.
                unsafe { libc::write(descriptor, record.as_ptr().cast(), record.len()) };
            } else {
                while getppid() == parent {
                    // SAFETY: pause has no precondition.
                    unsafe { libc::pause() };
                }
            }
            // SAFETY: _exit runs no handler and no destructor.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => Ok(Child {
            pid: child.as_raw(),
            report,
            descriptor: answer.as_raw_fd(),
        }),
    }
}

/// What the child does: it becomes what a worker is after its exec.
fn present_itself(
    no_new_privs: bool,
    credentials: Option<&Credentials<'_>>,
    report: RawFd,
) -> Result<(), (Step, Errno)> {
    let listener = notification::install(no_new_privs).map_err(|errno| (Step::Filter, errno))?;
    if let Some(credentials) = credentials {
        take_on(credentials)?;
    }
    set_parent_death_signal(libc::SIGKILL);
    // Another user makes it a stranger to clinit, until an exec.
    // SAFETY: PR_SET_DUMPABLE touches no memory.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1_u64) };
    // The listener and itself are clinit's business from here on.
    rights::send(report, &[0], listener).map_err(|errno| (Step::Listener, errno))
}

impl Child {
    fn examine(&self) -> Machinery {
        let mut record = [0; 5];
        let message = self
            .wait()
            .and_then(|()| rights::receive(&self.report, &mut record));
        let failed = |step, errno: Errno| {
            let errno = errno as i32;
            Machinery::none(SpawnFailure { step, errno })
        };
        let listener = match message {
            Ok(message) => match message.descriptor {
                Some(listener) => Notifications::from(listener),
                None if message.lost => return failed(Step::Listener, Errno::EMFILE),
                None => {
                    return SpawnFailure::from_record(record)
                        .map_or_else(|| failed(Step::Filter, Errno::EIO), Machinery::none);
                }
            },
            Err(errno) => return failed(Step::Filter, errno),
        };
        Machinery {
            filter: Ok(()),
            can_put: can_put(&listener, &self.report),
            can_duplicate: remote::duplicate(self.pid, self.descriptor).is_ok(),
            can_trace: trace::can_trace(self.pid),
            can_read: can_read(self.pid),
        }
    }

    /// Waits until the child has said something.
    fn wait(&self) -> Result<(), Errno> {
        let mut fds = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, LONGEST_MS) {
            Ok(0) => Err(Errno::ETIMEDOUT),
            // Only a signal that is not blocked, which clinit has none of.
            Err(Errno::EINTR) | Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// Whether the kernel looks for the notification at all.
fn can_put(listener: &Notifications, any: &OwnedFd) -> bool {
    let added = listener.add(BOGUS_ID, any.as_fd(), true);
    added.is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
}

fn can_read(pid: i32) -> bool {
    let mut found = [0; size_of::<u64>()];
    // The child has it where we have it.
    let read = remote::read_memory(pid, (&raw const MARK) as u64, &mut found);
    read.is_ok_and(|length| length == found.len()) && found == MARK.to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::forked::in_child;
    use super::*;

    #[test]
    fn what_works_here_is_found() {
        let found = probe(true, None);
        assert_eq!(found.filter, Ok(()));
        assert!(found.can_put && found.can_read, "{found:?}");
        // A container's profile may forbid these, by answering EPERM.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        if status.contains("\nSeccomp:\t0\n") {
            assert!(found.can_duplicate && found.can_trace, "{found:?}");
        }
    }

    #[test]
    fn another_user_takes_the_filter_before_it_is_one() {
        let nobody = Credentials {
            uid: 65_534,
            gid: 65_533,
            groups: &[],
        };
        let found = probe(false, Some(nobody));
        // SAFETY: geteuid has no precondition.
        if unsafe { libc::geteuid() } == 0 {
            assert_eq!(found, probe(true, None));
        } else {
            let failed = found.filter.unwrap_err();
            assert_eq!((failed.step, failed.errno), (Step::Filter, libc::EACCES));
        }
    }

    #[test]
    fn an_outer_listener_is_told() {
        assert!(in_child(|| {
            let outer = notification::install(true);
            let busy = SpawnFailure {
                step: Step::Filter,
                errno: libc::EBUSY,
            };
            outer.is_ok() && probe(true, None) == Machinery::none(busy)
        }));
    }
}
