//! Doing something as another user, for a moment (`credentials(7)`,
//! `capabilities(7)`).
//!
//! Clinit may be root without `CAP_SYS_PTRACE`, a container's default, and its
//! workers another user's. It may not look into them then, but whoever is that
//! user may, where the kernel goes by the ids for files
//! (`PTRACE_MODE_FSCREDS` in `ptrace(2)`): in all of /proc/PID. For
//! `process_vm_readv`, `pidfd_getfd` and `ptrace` it goes by the real ids,
//! which stay clinit's: so that nobody but its own user can stop, kill or
//! trace it meanwhile, and the way back takes no right at all.
//!
//! No child does this: there is none to wait for, none that its worker could
//! stop, and none to find room for in a full pids cgroup; and where Yama's
//! `ptrace_scope` is 1, only an ancestor may look.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;

/// `CAP_SETUID` of linux/capability.h.
const CAP_SETUID: u64 = 1 << 7;

/// Likewise `CAP_SYS_PTRACE`.
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// What `setresuid(2)` takes for an id that stays.
const KEPT: u32 = u32::MAX;

/// This thread as another user, until it is dropped.
#[derive(Debug)]
#[must_use = "dropped, it is over"]
pub(super) struct Guise {
    /// Clinit's own: user and group.
    ids: (u32, u32),
    capabilities: Capabilities,
    dumpable: i32,
    parent_death_signal: i32,
}

impl Guise {
    /// Takes on a user, a group and these effective capabilities.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_SETUID` or `CAP_SETGID`, or for a capability that
    /// clinit does not have itself.
    pub(super) fn of(uid: u32, gid: u32, effective: u64) -> Result<Self, Errno> {
        let capabilities = Capabilities::own()?;
        // Dropped early, it goes back to where it began.
        let guise = Self {
            ids: own_ids(),
            capabilities,
            // SAFETY: PR_GET_DUMPABLE touches no memory.
            dumpable: unsafe { libc::prctl(libc::PR_GET_DUMPABLE) },
            parent_death_signal: parent_death_signal(),
        };
        // As long as there are capabilities.
        set_effective_gid(gid)?;
        set_effective_uid(uid)?;
        Capabilities {
            effective,
            ..capabilities
        }
        .take()?;
        Ok(guise)
    }

    /// Takes on the user of a process or thread, where clinit itself may not
    /// look into it and as that user may; else, and where nothing is to be
    /// had, none.
    pub(super) fn to_look_into(tid: i32) -> Option<Self> {
        let effective = Capabilities::own().ok()?.effective;
        if effective & CAP_SYS_PTRACE != 0 || effective & CAP_SETUID == 0 {
            return None;
        }
        // The directory is its effective user's, whatever may be done with it.
        let status = fs::metadata(format!("/proc/{tid}")).ok()?;
        let (uid, gid) = (status.uid(), status.gid());
        if (uid, gid) == own_ids() {
            return None;
        }
        Self::of(uid, gid, effective).ok()
    }
}

impl Drop for Guise {
    /// Each of these asks for what this thread has as its real or saved id, or
    /// among its permitted capabilities: so none is refused.
    fn drop(&mut self) {
        let (uid, gid) = self.ids;
        let _ = set_effective_uid(uid);
        let _ = set_effective_gid(gid);
        let _ = self.capabilities.take();
        // The kernel takes these two from whoever changes its user.
        // SAFETY: PR_SET_DUMPABLE touches no memory.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, i64::from(self.dumpable)) };
        if self.parent_death_signal != 0 {
            super::process::set_parent_death_signal(self.parent_death_signal);
        }
    }
}

/// The effective ones: user and group.
fn own_ids() -> (u32, u32) {
    // SAFETY: geteuid has no precondition.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: getegid has no precondition.
    (uid, unsafe { libc::getegid() })
}

fn parent_death_signal() -> i32 {
    let mut signal = 0;
    // SAFETY: the signal is writable, and lives through the call.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    signal
}

/// For this thread alone: the C libraries' own functions would look for
/// others.
fn set_effective_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: setresuid touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, KEPT, uid, KEPT) };
    Errno::result(result).map(drop)
}

/// Likewise.
fn set_effective_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: setresgid touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, KEPT, gid, KEPT) };
    Errno::result(result).map(drop)
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// This thread's.
const OWN: Header = Header {
    // _LINUX_CAPABILITY_VERSION_3
    version: 0x2008_0522,
    pid: 0,
};

/// `struct __user_cap_data_struct`, one for each half of the bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// A thread's capabilities, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capabilities {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

impl Capabilities {
    fn own() -> Result<Self, Errno> {
        let header = OWN;
        let mut halves = [Half::default(); 2];
        // SAFETY: the header is readable and the two halves that this version
        // has are writable, and they live through the call.
        let result =
            unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) };
        Errno::result(result)?;
        let [low, high] = halves;
        let whole = |low, high| u64::from(low) | u64::from(high) << 32;
        Ok(Self {
            effective: whole(low.effective, high.effective),
            permitted: whole(low.permitted, high.permitted),
            inheritable: whole(low.inheritable, high.inheritable),
        })
    }

    fn take(self) -> Result<(), Errno> {
        let header = OWN;
        let half = |shift: u32| {
            #[expect(clippy::cast_possible_truncation, reason = "half of it is meant")]
            let part = |bits: u64| (bits >> shift) as u32;
            Half {
                effective: part(self.effective),
                permitted: part(self.permitted),
                inheritable: part(self.inheritable),
            }
        };
        let halves = [half(0), half(32)];
        // SAFETY: the header and the two halves that this version has are
        // readable, and live through the call.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
        Errno::result(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::forked::in_child;
    use super::super::remote;
    use super::*;

    const NOBODY: u32 = 65_534;

    /// What nobody may do.
    fn lose_sys_ptrace() -> bool {
        let own = Capabilities::own();
        own.is_ok_and(|own| {
            let rest = Capabilities {
                effective: own.effective & !CAP_SYS_PTRACE,
                permitted: own.permitted & !CAP_SYS_PTRACE,
                inheritable: 0,
            };
            rest.take().is_ok()
        })
    }

    /// Real, effective and saved: of the user, then of the group.
    fn ids() -> [[u32; 3]; 2] {
        let [mut users, mut groups] = [[0; 3]; 2];
        let [real, effective, saved] = &mut users;
        // SAFETY: all three are writable, and live through the call.
        unsafe { libc::getresuid(real, effective, saved) };
        let [real, effective, saved] = &mut groups;
        // SAFETY: as above.
        unsafe { libc::getresgid(real, effective, saved) };
        [users, groups]
    }

    #[test]
    fn only_what_is_effective_changes_and_all_of_it_comes_back() {
        if own_ids().0 != 0 {
            assert_eq!(Guise::of(NOBODY, NOBODY, 0).unwrap_err(), Errno::EPERM);
            return;
        }
        assert!(in_child(|| {
            super::super::process::set_parent_death_signal(libc::SIGUSR1);
            // SAFETY: PR_SET_DUMPABLE touches no memory.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1_u64) };
            let before = (ids(), Capabilities::own(), parent_death_signal());
            let Ok(capabilities) = before.1 else {
                return false;
            };
            let Ok(guise) = Guise::of(NOBODY, 7, CAP_SETUID) else {
                return false;
            };
            let meanwhile = Capabilities {
                effective: CAP_SETUID,
                ..capabilities
            };
            let is_other =
                ids() == [[0, NOBODY, 0], [0, 7, 0]] && Capabilities::own() == Ok(meanwhile);
            drop(guise);
            // SAFETY: PR_GET_DUMPABLE touches no memory.
            let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
            let after = (ids(), Capabilities::own(), parent_death_signal());
            is_other && after == before && after.2 == libc::SIGUSR1 && dumpable == 1
        }));
    }

    #[test]
    fn what_clinit_does_not_have_it_cannot_take_on() {
        assert!(in_child(|| {
            let (ids, may) = (ids(), Capabilities::own());
            let (uid, gid) = own_ids();
            lose_sys_ptrace()
                && Guise::of(uid, gid, CAP_SYS_PTRACE).err() == Some(Errno::EPERM)
                && self::ids() == ids
                && may.is_ok()
        }));
    }

    #[test]
    fn another_users_process_is_looked_into_as_that_user_does() {
        if own_ids().0 != 0 {
            return;
        }
        let mut child = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65533", "--clear-groups", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Until then it is root's, or has changed its user and not executed
        // anything since: nobody may look into it.
        while fs::read(format!("/proc/{pid}/comm")).unwrap() != b"cat\n" {
            std::thread::yield_now();
        }
        let found = std::thread::spawn(move || {
            assert!(Guise::to_look_into(pid).is_none(), "it may by itself");
            assert!(lose_sys_ptrace());
            let own = i32::try_from(std::process::id()).unwrap();
            assert!(Guise::to_look_into(own).is_none());
            let unaided = fs::read_link(format!("/proc/{pid}/fd/0"));
            assert!(unaided.is_err(), "it may without that");
            let guise = Guise::to_look_into(pid).unwrap();
            assert_eq!(ids(), [[0, NOBODY, 0], [0, 65_533, 0]]);
            drop(guise);
            let mut memory = [0; 4];
            // Where it is mapped is nobody's secret then.
            let address = {
                let _guise = Guise::to_look_into(pid);
                let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
                u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap()
            };
            let read = remote::read_memory(pid, address, &mut memory);
            (read.ok(), memory, remote::flags(pid, 0).is_some())
        });
        assert_eq!(found.join().unwrap(), (Some(4), *b"\x7fELF", true));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
