//! Starting processes and reaping them (`fork(2)`, `execve(2)`, `waitid(2)`).

mod child;
mod credentials;
mod image;
mod reap;

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, Pid, fork, pipe2, read, setpgid};

use super::errno::{Described, errno_passes};
use super::start::Inherited;
use child::Child;
#[cfg(test)]
pub(super) use reap::wait_for_one;
pub use reap::{NoChildren, RawExit, Reaped, has_children, reap};

/// What to start, and as what.
#[derive(Clone, Copy, Debug)]
pub struct SpawnRequest<'a> {
    /// The command; the first is looked for in the PATH of `env`, as
    /// `execvp(3)` does.
    pub argv: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub env: &'a [CString],
    /// Adds `LISTEN_PID`, the child's own pid, to the environment.
    pub listen_pid: bool,
    /// What the child finds as descriptors 3, 4, …
    pub descriptors: &'a [BorrowedFd<'a>],
    /// What the child finds as descriptor 0.
    pub stdin: Stdin<'a>,
    /// Its process group.
    pub group: Group,
    /// Whom it runs as; clinit's own user with none.
    pub credentials: Option<Credentials<'a>>,
    /// Its working directory, entered as that user.
    pub chdir: Option<&'a CStr>,
    /// The signal that it gets when clinit dies.
    pub parent_death_signal: Option<i32>,
    /// The one CPU that it runs on.
    pub cpu: Option<usize>,
}

/// A child's descriptor 0.
#[derive(Clone, Copy, Debug)]
pub enum Stdin<'a> {
    /// Clinit's own.
    Inherit,
    /// This one, /dev/null.
    Null(BorrowedFd<'a>),
}

/// A child's process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A new one.
    New,
    /// A new one, which becomes the foreground group of the terminal on
    /// descriptor 0 where that is clinit's own group until then.
    NewForeground,
}

/// A child's user and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// All supplementary group ids.
    pub groups: &'a [u32],
}

/// A process that was started, and how to learn whether its exec succeeded.
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, which is its process group too.
    pub pid: i32,
    /// Readable once [`read_report`] has an answer; close-on-exec,
    /// non-blocking.
    pub report: OwnedFd,
}

/// What a child says of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing yet.
    Pending,
    /// The command runs, or the child was killed before it could.
    Executed,
    /// The child has exited, or is about to, without running the command.
    Failed(SpawnFailure),
}

/// Why a child could not run its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// What it was about to do.
    pub step: Step,
    /// What the kernel answered.
    pub errno: i32,
}

/// The steps from fork to exec that can fail, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Arranging descriptors.
    Descriptors,
    /// Setting the supplementary groups.
    Setgroups,
    /// Setting the group id.
    Setgid,
    /// Setting the user id.
    Setuid,
    /// Entering the working directory.
    Chdir,
    /// Binding to a CPU.
    Affinity,
    /// Seeing that clinit is still there to supervise it.
    ParentGone,
    /// Executing the command.
    Exec,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Descriptors,
        Self::Setgroups,
        Self::Setgid,
        Self::Setuid,
        Self::Chdir,
        Self::Affinity,
        Self::ParentGone,
        Self::Exec,
    ];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == code)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "hand down descriptors",
            Self::Setgroups => "set the supplementary groups",
            Self::Setgid => "set the group id",
            Self::Setuid => "set the user id",
            Self::Chdir => "enter the working directory",
            Self::Affinity => "pin to a CPU",
            Self::ParentGone => "start without a supervisor",
            Self::Exec => "execute the command",
        })
    }
}

impl SpawnFailure {
    /// Whether there was no room, and may be later.
    #[must_use]
    pub fn passes(self) -> bool {
        errno_passes(self.errno)
    }

    /// Whether what was to be used is not there.
    #[must_use]
    pub fn is_not_found(self) -> bool {
        self.errno == libc::ENOENT
    }
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = Described(self.errno);
        if self.step == Step::Exec {
            write!(f, "{why}")
        } else {
            write!(f, "cannot {}: {why}", self.step)
        }
    }
}

/// A failure on the way from the child to [`read_report`]: the step's code,
/// then the error number.
type Record = [u8; 5];

impl SpawnFailure {
    fn record(self) -> Record {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.step as u8, a, b, c, d]
    }

    fn from_record([code, a, b, c, d]: Record) -> Option<Self> {
        let step = Step::from_code(code)?;
        let errno = i32::from_ne_bytes([a, b, c, d]);
        Some(Self { step, errno })
    }
}

/// Starts a process. The child's own failures come back through
/// [`read_report`]; it then exits with 127, and is to be reaped either way.
///
/// Only ever called from clinit's one thread: the parent-death signal is sent
/// when the thread that forked ends.
///
/// # Errors
///
/// `EINVAL` for an empty `argv`; those of `pipe2(2)` and `fork(2)`, `EAGAIN`
/// where the pids limit is reached.
pub fn spawn(request: &SpawnRequest<'_>, inherited: &Inherited) -> io::Result<Spawned> {
    // Everything that needs memory happens here, before the fork.
    let mut child = Child::prepare(request, inherited)?;
    let (report, answer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // SAFETY: the child makes system calls on memory that is prepared, and
    // execs or exits: it neither allocates, locks, panics nor returns.
    match unsafe { fork() }? {
        ForkResult::Child => child.run(answer.as_raw_fd()),
        ForkResult::Parent { child: pid } => {
            // The child does the same. Whoever comes first, the group exists
            // before either goes on; after the exec it is EACCES.
            let _ = setpgid(pid, Pid::from_raw(0));
            Ok(Spawned {
                pid: pid.as_raw(),
                report,
            })
        }
    }
}

/// What the child has said of its start so far.
#[must_use]
pub fn read_report(report: &OwnedFd) -> Report {
    let mut record = Record::default();
    loop {
        match read(report, &mut record) {
            // A record is far below PIPE_BUF, so it comes whole.
            Ok(length) if length == record.len() => {
                return SpawnFailure::from_record(record).map_or(Report::Executed, Report::Failed);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Report::Pending,
            // At the end of the pipe exec has closed the child's side.
            // Nothing else is to be expected; an exit status would tell.
            Ok(_) | Err(_) => return Report::Executed,
        }
    }
}

#[cfg(test)]
mod tests;
