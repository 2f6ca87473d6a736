//! Reaping (`waitid(2)`).
//!
//! nix's `waitpid` answers EINVAL for a child that died of a real-time
//! signal, which is then reaped and lost; so this is the C library's.

use std::mem;

use nix::errno::Errno;

/// A child that has exited, and is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Its pid, which is free to be used again.
    pub pid: i32,
    /// How it ended.
    pub exit: RawExit,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawExit {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// A signal killed it.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether it dumped core.
        core: bool,
    },
}

/// What became of a child, or of a thread that clinit traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has exited. A traced thread that does not lead its process is told
    /// of by its own id, which is no process.
    Exited(Reaped),
    /// A traced thread has stopped (`ptrace(2)`).
    Trapped {
        /// The thread, of a child or of any other process.
        tid: i32,
        /// Why, as [`super::super::trace::Extraction::advance`] reads it.
        status: i32,
    },
    /// A signal has stopped a child.
    Stopped {
        /// The child.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
    /// SIGCONT has continued a child, or a traced thread.
    Continued {
        /// The child; or the thread, which may lead no process.
        pid: i32,
    },
}

/// There is no child, running or exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChildren;

/// Learns what became of one child, if anything did, and reaps it where it
/// has exited: an adopted one too. To be called until it gives none, since
/// SIGCHLDs merge.
///
/// This is the only one to wait for all children: even without `WSTOPPED` it
/// takes in the stops of every thread that clinit traces.
///
/// # Errors
///
/// [`NoChildren`] where there is none to wait for.
pub fn reap() -> Result<Option<Change>, NoChildren> {
    let changes = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED;
    wait(libc::P_ALL, 0, changes | libc::WNOHANG)
}

/// Whether there is any child, reaped or not yet.
#[must_use]
pub fn has_children() -> bool {
    wait(
        libc::P_ALL,
        0,
        libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
    )
    .is_ok()
}

/// Whether a process is clinit's to reap: a child that is not reaped, or one
/// that it traces.
#[must_use]
pub fn is_child(pid: i32) -> bool {
    let only_look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    libc::id_t::try_from(pid).is_ok_and(|id| wait(libc::P_PID, id, only_look).is_ok())
}

/// `waitid`, on the children in scope. Tests have siblings that wait for
/// children of their own, so they name theirs.
fn wait(scope: libc::idtype_t, id: libc::id_t, options: i32) -> Result<Option<Change>, NoChildren> {
    loop {
        // SAFETY: siginfo_t is plain data, and all zeros are a value of it.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: `info` is a siginfo_t that lives through the call.
        let result = unsafe { libc::waitid(scope, id, &raw mut info, options) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            // ECHILD. Nothing else can go wrong with these arguments.
            Err(_) => return Err(NoChildren),
            Ok(_) => {}
        }
        // SAFETY: waitid succeeded, and fills this in or leaves it zero.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        return Ok(match info.si_code {
            _ if pid == 0 => None,
            libc::CLD_TRAPPED => Some(Change::Trapped { tid: pid, status }),
            libc::CLD_STOPPED => Some(Change::Stopped {
                pid,
                signal: status,
            }),
            libc::CLD_CONTINUED => Some(Change::Continued { pid }),
            code => Some(Change::Exited(Reaped {
                pid,
                exit: if code == libc::CLD_EXITED {
                    RawExit::Code(status)
                } else {
                    RawExit::Signal {
                        number: status,
                        core: code == libc::CLD_DUMPED,
                    }
                },
            })),
        });
    }
}

/// Waits for this child's end. Whatever it has to do it does at once: where a
/// signal has stopped it, it is killed, and nobody can have clinit wait.
pub(in super::super) fn wait_for_one(pid: i32) -> Result<RawExit, NoChildren> {
    let id = libc::id_t::try_from(pid).map_err(|_| NoChildren)?;
    loop {
        match wait(
            libc::P_PID,
            id,
            libc::WEXITED | libc::WSTOPPED | libc::__WALL,
        )? {
            Some(Change::Exited(reaped)) => return Ok(reaped.exit),
            Some(Change::Stopped { pid, .. }) => {
                // SAFETY: kill touches no memory. The child is not reaped yet,
                // so the number is its own.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            Some(Change::Trapped { .. } | Change::Continued { .. }) | None => {}
        }
    }
}

/// Waits until something becomes of this child or traced thread.
#[cfg(test)]
pub(in super::super) fn wait_for_change(tid: i32) -> Change {
    change(tid, 0)
}

/// Likewise, and leaves it to be waited for again.
#[cfg(test)]
pub(in super::super) fn look_at_change(tid: i32) -> Change {
    change(tid, libc::WNOWAIT)
}

#[cfg(test)]
fn change(tid: i32, options: i32) -> Change {
    let id = libc::id_t::try_from(tid).unwrap();
    let changes = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::__WALL;
    wait(libc::P_PID, id, changes | options).unwrap().unwrap()
}

/// Waits for the end of a child that leads a group, of the group's other
/// children and of its traced threads.
#[cfg(test)]
pub(in super::super) fn wait_for_group(group: i32) -> Option<RawExit> {
    let id = libc::id_t::try_from(group).unwrap();
    let mut leader = None;
    while let Ok(change) = wait(libc::P_PGID, id, libc::WEXITED | libc::__WALL) {
        if let Some(Change::Exited(Reaped { pid, exit })) = change
            && pid == group
        {
            leader = Some(exit);
        }
    }
    leader
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn shell(script: &str) -> RawExit {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn();
        wait_for_one(child.unwrap().id().try_into().unwrap()).unwrap()
    }

    #[test]
    fn every_end_is_told_exactly() {
        assert_eq!(shell("exit 0"), RawExit::Code(0));
        assert_eq!(shell("exit 255"), RawExit::Code(255));
        for number in [libc::SIGKILL, libc::SIGTERM, 34, 40, 64] {
            let expected = RawExit::Signal {
                number,
                core: false,
            };
            assert_eq!(shell(&format!("kill -{number} $$")), expected);
        }
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "waiting is what is tested")]
    fn a_child_that_runs_is_not_waited_for_and_one_that_is_gone_is_none() {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let options = libc::WEXITED | libc::WNOHANG;
        assert_eq!(wait(libc::P_PID, child.id(), options), Ok(None));
        drop(child.stdin.take());
        let pid = child.id().try_into().unwrap();
        assert_eq!(wait_for_one(pid), Ok(RawExit::Code(0)));
        let again = wait(libc::P_PID, child.id(), options);
        assert_eq!(again, Err(NoChildren));
    }

    #[test]
    fn a_child_that_is_stopped_is_not_waited_for_in_vain() {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn();
        let pid = child.unwrap().id().try_into().unwrap();
        super::super::super::kill::send(pid, libc::SIGSTOP, None).unwrap();
        let killed = RawExit::Signal {
            number: libc::SIGKILL,
            core: false,
        };
        assert_eq!(wait_for_one(pid), Ok(killed));
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "waiting is what is tested")]
    fn a_child_that_is_stopped_and_continued_is_told_apart() {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let pid = child.id().try_into().unwrap();
        for (signal, expected) in [
            (
                libc::SIGSTOP,
                Change::Stopped {
                    pid,
                    signal: libc::SIGSTOP,
                },
            ),
            (libc::SIGCONT, Change::Continued { pid }),
        ] {
            super::super::super::kill::send(pid, signal, None).unwrap();
            assert_eq!(look_at_change(pid), expected);
            assert_eq!(wait_for_change(pid), expected);
        }
        drop(child.stdin.take());
        assert_eq!(wait_for_one(pid), Ok(RawExit::Code(0)));
    }
}
