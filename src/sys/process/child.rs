//! The child's side, from fork to exec.
//!
//! Everything here is async-signal-safe: system calls on memory that was
//! prepared before the fork. Nothing allocates, panics or returns.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::resource::Resource;
use nix::unistd::{Pid, chdir, getpid, getppid, setpgid};

use super::super::affinity;
use super::super::limit::set_limit;
use super::super::notification;
use super::super::rights;
use super::super::session;
use super::super::signals::{ChildStatuses, set_child_statuses};
use super::super::start::Inherited;
use super::super::terminal::{is_own_stdin, set_foreground};
use super::credentials::{take_on, to_take_on};
use super::image::Image;
use super::{Credentials, FILTERED, Filter, Group, SpawnFailure, SpawnRequest, Stdin, Step};

/// The first descriptor that is handed down.
const FIRST: RawFd = 3;

/// A child to be.
pub(super) struct Child<'a> {
    request: &'a SpawnRequest<'a>,
    inherited: &'a Inherited,
    image: Image<'a>,
    /// The descriptors to hand down, and what they become.
    moves: Vec<Move>,
    /// None where clinit's own will do.
    credentials: Option<Credentials<'a>>,
    affinity: Option<Vec<u64>>,
    /// Whether it is to become the terminal's foreground group. Decided before
    /// the fork: after it either side may already have moved it to a group of
    /// its own.
    pub(super) foreground: bool,
    /// clinit, as the child is to find it.
    parent: Pid,
}

struct Move {
    source: RawFd,
    target: RawFd,
}

impl<'a> Child<'a> {
    pub(super) fn prepare(
        request: &'a SpawnRequest<'a>,
        inherited: &'a Inherited,
    ) -> io::Result<Self> {
        let stdin = match request.stdin {
            Stdin::Inherit => None,
            Stdin::Null(null) => Some(Move {
                source: null.as_raw_fd(),
                target: 0,
            }),
        };
        let handed_down = (FIRST..)
            .zip(request.descriptors)
            .map(|(target, descriptor)| Move {
                source: descriptor.as_raw_fd(),
                target,
            });
        Ok(Self {
            request,
            inherited,
            image: Image::new(request.argv, request.env, request.own_pid)?,
            moves: handed_down.chain(stdin).collect(),
            credentials: to_take_on(request.credentials),
            affinity: request.cpu.map(affinity::only),
            foreground: request.group == Group::NewForeground && is_own_stdin(),
            parent: getpid(),
        })
    }

    /// Whether it is to lead a group, and no session.
    pub(super) fn leads_a_group(&self) -> bool {
        matches!(self.request.group, Group::New | Group::NewForeground)
    }

    /// Becomes the command; or says to `report` why not, and exits.
    pub(super) fn run(&mut self, mut report: RawFd) -> ! {
        let (step, errno) = match self.arrange(&mut report) {
            Ok(()) => (Step::Exec, self.image.exec()),
            Err(failed) => failed,
        };
        let record = SpawnFailure {
            step,
            errno: errno as i32,
        }
        .record();
        // SAFETY: the record is readable for its length.
        unsafe { libc::write(report, record.as_ptr().cast(), record.len()) };
        // SAFETY: _exit runs no handler and no destructor.
        unsafe { libc::_exit(127) }
    }

    fn arrange(&mut self, report: &mut RawFd) -> Result<(), (Step, Errno)> {
        let request = self.request;
        match request.group {
            Group::New | Group::NewForeground => lead_group(self.foreground),
            Group::NewSession => session::lead(),
            Group::Own => {}
        }
        self.move_descriptors(report)
            .map_err(|errno| (Step::Descriptors, errno))?;
        if let Some(filter) = request.filter {
            // Before the user is taken on: that takes the capability which
            // the filter needs without no_new_privs. From here on clinit must
            // answer whatever calls of `bind` and `listen` there are, and
            // nothing in the child makes one.
            install_filter(filter, *report)?;
        }
        if let Some(credentials) = &self.credentials {
            take_on(credentials)?;
        }
        if let Some(directory) = request.chdir {
            chdir(directory).map_err(|errno| (Step::Chdir, errno))?;
        }
        if let Some(mask) = &self.affinity {
            affinity::set(mask).map_err(|errno| (Step::Affinity, errno))?;
        }
        if let Some(limit) = self.inherited.nofile {
            // Only the soft limit was raised, so this lowers it and cannot be
            // refused.
            let _ = set_limit(Resource::RLIMIT_NOFILE, limit);
        }
        if let Some(limit) = self.inherited.sigpending {
            // Likewise: what was lowered is the soft one, up to which anybody
            // may raise it again.
            let _ = set_limit(Resource::RLIMIT_SIGPENDING, limit);
        }
        if let Some(signal) = request.parent_death_signal {
            // After setuid, which clears it.
            set_parent_death_signal(signal);
            if getppid() != self.parent {
                // It died before there was a signal to send.
                return Err((Step::ParentGone, Errno::ESRCH));
            }
        }
        if self.inherited.child_statuses == ChildStatuses::Lost {
            set_child_statuses(ChildStatuses::Lost);
        }
        // Last: a signal may end the child from here on.
        self.inherited.blocked.block_exactly();
        Ok(())
    }

    /// Puts each descriptor where the command is to find it.
    ///
    /// A source may have the number of another's target. So all are first
    /// duplicated above the targets, the report with them. What is left over
    /// is close-on-exec.
    fn move_descriptors(&mut self, report: &mut RawFd) -> Result<(), Errno> {
        let targets = self.moves.iter().map(|step| step.target);
        let Some(last) = targets.max() else {
            return Ok(());
        };
        let above = last.max(2) + 1;
        *report = duplicate_above(*report, above)?;
        for step in &mut self.moves {
            step.source = duplicate_above(step.source, above)?;
        }
        for step in &self.moves {
            // The duplicate is not close-on-exec.
            // SAFETY: nothing in the child uses what is replaced.
            let result = unsafe { libc::dup2(step.source, step.target) };
            Errno::result(result)?;
        }
        Ok(())
    }
}

/// A close-on-exec duplicate numbered `least` or more.
fn duplicate_above(descriptor: RawFd, least: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC touches no memory and replaces no descriptor.
    let result = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, least) };
    Errno::result(result)
}

fn lead_group(foreground: bool) {
    // A process that was just forked leads neither a session nor a group, so
    // it may always do this.
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    if foreground {
        // SIGTTOU is blocked, so this does not stop the child. A terminal
        // that has gone away meanwhile is no reason not to run.
        let _ = set_foreground(0, getpid().as_raw());
    }
}

/// Comes under the filter and hands its listener to clinit.
fn install_filter(filter: Filter, report: RawFd) -> Result<(), (Step, Errno)> {
    let listener =
        notification::install(filter.no_new_privs).map_err(|errno| (Step::Filter, errno))?;
    let sent = rights::send(report, &FILTERED, listener);
    // Nobody in the child may answer. Exec would close it too.
    // SAFETY: the listener is the child's own, and nothing else knows of it.
    unsafe { libc::close(listener) };
    sent.map_err(|errno| (Step::Listener, errno))
}

// nix's knows no real-time signals.
pub(in super::super) fn set_parent_death_signal(signal: i32) {
    // It fails only for a number that is no signal, and then there is none to
    // be had.
    // SAFETY: PR_SET_PDEATHSIG touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, i64::from(signal)) };
}
