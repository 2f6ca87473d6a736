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
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, fork, setpgid};

use super::errno::{Described, errno_passes};
use super::notification::Notifications;
use super::rights;
use super::start::Inherited;
use child::Child;
pub(super) use child::set_parent_death_signal;
pub(super) use credentials::{take_on, to_take_on};
pub(super) use reap::wait_for_one;
pub use reap::{Change, NoChildren, RawExit, Reaped, has_children, is_child, reap};
#[cfg(test)]
pub(super) use reap::{look_at_change, wait_for_change, wait_for_group};

/// What to start, and as what.
#[derive(Clone, Copy, Debug)]
pub struct SpawnRequest<'a> {
    /// The command; the first is looked for in the PATH of `env`, as
    /// `execvp(3)` does.
    pub argv: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub env: &'a [CString],
    /// Variables whose value is to be the child's own pid: in the place of the
    /// first of that name, or else the last.
    pub own_pid: &'a [&'a str],
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
    /// Whether its calls of `bind` and `listen` come to clinit, and those of
    /// all that it starts.
    pub filter: Option<Filter>,
}

/// The filter that a child is put under before it takes on its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Whether nothing that it executes can gain rights, by setuid or file
    /// capabilities. Without that the filter takes `CAP_SYS_ADMIN`.
    pub no_new_privs: bool,
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
    /// That of a new session, whose terminal is the one on descriptor 0 where
    /// that is nobody's.
    NewSession,
    /// Clinit's own.
    Own,
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
    /// Whether it was given the terminal.
    pub foreground: bool,
}

/// What a child says of its start.
#[derive(Debug)]
pub enum Report {
    /// Nothing yet.
    Pending,
    /// It is under the filter, and this is how its calls are answered. More
    /// is to come.
    Filtered(Notifications),
    /// The command runs, or the child was killed before it could.
    Executed,
    /// The child has exited, or is about to, without running the command. With
    /// [`Step::Listener`] it is to be killed: it goes on, but nobody answers
    /// its calls.
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
    /// Installing the filter.
    Filter,
    /// Handing the filter's listener to clinit, which has no descriptor left
    /// for it.
    Listener,
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
    const ALL: [Self; 10] = [
        Self::Descriptors,
        Self::Filter,
        Self::Listener,
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
            Self::Filter => "install the seccomp filter",
            Self::Listener => "hand over the seccomp filter's listener",
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

/// What a child says along with its filter's listener. It is no record, whose
/// length is another.
const FILTERED: [u8; 1] = [0];

impl SpawnFailure {
    pub(super) fn record(self) -> Record {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.step as u8, a, b, c, d]
    }

    pub(super) fn from_record([code, a, b, c, d]: Record) -> Option<Self> {
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
/// `EINVAL` for an empty `argv`; those of `socketpair(2)` and `fork(2)`,
/// `EAGAIN` where the pids limit is reached.
pub fn spawn(request: &SpawnRequest<'_>, inherited: &Inherited) -> io::Result<Spawned> {
    // Everything that needs memory happens here, before the fork.
    let mut child = Child::prepare(request, inherited)?;
    let (report, answer) = report_channel()?;
    // SAFETY: the child makes system calls on memory that is prepared, and
    // execs or exits: it neither allocates, locks, panics nor returns.
    match unsafe { fork() }? {
        ForkResult::Child => child.run(answer.as_raw_fd()),
        ForkResult::Parent { child: pid } => {
            // The child does the same. Whoever comes first, the group exists
            // before either goes on; after the exec it is EACCES.
            if child.leads_a_group() {
                let _ = setpgid(pid, Pid::from_raw(0));
            }
            Ok(Spawned {
                pid: pid.as_raw(),
                report,
                foreground: child.foreground,
            })
        }
    }
}

/// Two sockets that keep messages apart; close-on-exec and non-blocking.
pub(super) fn report_channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

/// The next thing that the child says of its start. To be called again until
/// it has executed its command or failed.
#[must_use]
pub fn read_report(report: &OwnedFd) -> Report {
    let mut record = Record::default();
    let message = match rights::receive(report, &mut record) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return Report::Pending,
        // Nothing else is to be expected; an exit status would tell.
        Err(_) => return Report::Executed,
    };
    if message.length == record.len() {
        return SpawnFailure::from_record(record).map_or(Report::Executed, Report::Failed);
    }
    match message.descriptor {
        Some(listener) => Report::Filtered(Notifications::from(listener)),
        None if message.length > 0 => Report::Failed(SpawnFailure {
            step: Step::Listener,
            errno: libc::EMFILE,
        }),
        // At the end exec has closed the child's side.
        None => Report::Executed,
    }
}

#[cfg(test)]
mod tests;
