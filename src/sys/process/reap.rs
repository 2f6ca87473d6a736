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

/// There is no child, running or exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChildren;

/// Reaps one child that has exited, if any has: an adopted one too. To be
/// called until it gives none, since SIGCHLDs merge.
///
/// # Errors
///
/// [`NoChildren`] where there is none to wait for.
pub fn reap() -> Result<Option<Reaped>, NoChildren> {
    wait(libc::P_ALL, 0, libc::WNOHANG)
}

/// Whether there is any child, reaped or not yet.
#[must_use]
pub fn has_children() -> bool {
    wait(libc::P_ALL, 0, libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// `waitid`, on the children in scope. Tests have siblings that wait for
/// children of their own, so they name theirs.
fn wait(scope: libc::idtype_t, id: libc::id_t, options: i32) -> Result<Option<Reaped>, NoChildren> {
    loop {
        // SAFETY: siginfo_t is plain data, and all zeros are a value of it.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: `info` is a siginfo_t that lives through the call.
        let result = unsafe { libc::waitid(scope, id, &raw mut info, libc::WEXITED | options) };
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
        let exit = match info.si_code {
            _ if pid == 0 => return Ok(None),
            libc::CLD_EXITED => RawExit::Code(status),
            libc::CLD_KILLED | libc::CLD_DUMPED => RawExit::Signal {
                number: status,
                core: info.si_code == libc::CLD_DUMPED,
            },
            // A ptrace stop, which waitid reports unasked. Nobody is gone.
            _ => continue,
        };
        return Ok(Some(Reaped { pid, exit }));
    }
}

/// Waits for this child's end.
#[cfg(test)]
pub(in super::super) fn wait_for_one(pid: i32) -> RawExit {
    let id = libc::id_t::try_from(pid).unwrap();
    wait(libc::P_PID, id, 0).unwrap().unwrap().exit
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn shell(script: &str) -> RawExit {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn();
        wait_for_one(child.unwrap().id().try_into().unwrap())
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
        assert_eq!(wait(libc::P_PID, child.id(), libc::WNOHANG), Ok(None));
        drop(child.stdin.take());
        let pid = child.id().try_into().unwrap();
        assert_eq!(wait_for_one(pid), RawExit::Code(0));
        let again = wait(libc::P_PID, child.id(), libc::WNOHANG);
        assert_eq!(again, Err(NoChildren));
    }
}
