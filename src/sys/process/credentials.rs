//! Whether there is anything to take on: who already is that user may lack
//! the capability that the kernel asks for even then (`setgroups(2)`).

use std::ptr;

use nix::errno::Errno;

use super::{Credentials, Step};

/// What of `asked` a child does not have from clinit anyway: all or nothing.
pub(in super::super) fn to_take_on(asked: Option<Credentials<'_>>) -> Option<Credentials<'_>> {
    asked.filter(|asked| !Own::read().is_ok_and(|own| own.is(asked)))
}

/// Takes on a user and groups, for this thread, which is the child's only
/// one: the C libraries' own functions would look for others.
/// Async-signal-safe.
pub(in super::super) fn take_on(credentials: &Credentials<'_>) -> Result<(), (Step, Errno)> {
    let Credentials { uid, gid, groups } = *credentials;
    // SAFETY: the groups are readable for the count given.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(result).map_err(|errno| (Step::Setgroups, errno))?;
    // SAFETY: setresgid touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    Errno::result(result).map_err(|errno| (Step::Setgid, errno))?;
    // SAFETY: setresuid touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    Errno::result(result).map_err(|errno| (Step::Setuid, errno))?;
    Ok(())
}

/// Whom clinit runs as.
struct Own {
    /// Real, effective, saved.
    uids: [u32; 3],
    /// Likewise.
    gids: [u32; 3],
    groups: Vec<u32>,
}

impl Own {
    // nix's functions need its `user` feature, and that links getpwnam.
    fn read() -> Result<Self, Errno> {
        let ([mut real, mut effective, mut saved], mut gids) = ([0; 3], [0; 3]);
        // SAFETY: all three are writable and live through the call.
        let result = unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
        Errno::result(result)?;
        let uids = [real, effective, saved];
        let [real, effective, saved] = &mut gids;
        // SAFETY: as above.
        Errno::result(unsafe { libc::getresgid(real, effective, saved) })?;
        let groups = groups()?;
        Ok(Self { uids, gids, groups })
    }

    /// Whether that would change neither an id nor a membership. The primary
    /// group may stand among the supplementary ones, as runtimes put it.
    fn is(&self, asked: &Credentials<'_>) -> bool {
        let supplementary = |groups: &[u32]| {
            let mut groups: Vec<u32> = groups.to_vec();
            groups.retain(|group| *group != asked.gid);
            groups.sort_unstable();
            groups.dedup();
            groups
        };
        self.uids == [asked.uid; 3]
            && self.gids == [asked.gid; 3]
            && supplementary(&self.groups) == supplementary(asked.groups)
    }
}

/// The supplementary groups.
fn groups() -> Result<Vec<u32>, Errno> {
    // SAFETY: with a size of 0 nothing is written.
    let count = Errno::result(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: `groups` is writable for the count given. They cannot have
    // become more: only this thread could have changed that.
    let result = unsafe { libc::getgroups(count, groups.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whom_clinit_runs_as_is_what_proc_says() {
        let own = Own::read().unwrap();
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let numbers = |name: &str| -> Vec<u32> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let numbers = line.unwrap().split_ascii_whitespace();
            numbers.map(|number| number.parse().unwrap()).collect()
        };
        assert_eq!(own.uids, numbers("Uid:")[..3]);
        assert_eq!(own.gids, numbers("Gid:")[..3]);
        assert_eq!(own.groups, numbers("Groups:"));
    }

    #[test]
    fn what_clinit_is_already_is_not_taken_on() {
        let own = Own::read().unwrap();
        let same = Credentials {
            uid: own.uids[0],
            gid: own.gids[0],
            groups: &own.groups,
        };
        assert_eq!(to_take_on(Some(same)), None);
        let other = Credentials {
            uid: same.uid + 1,
            ..same
        };
        assert_eq!(to_take_on(Some(other)), Some(other));
        assert_eq!(to_take_on(None), None);
    }

    #[test]
    fn any_difference_is_one() {
        let own = |uids, gids, groups: &[u32]| Own {
            uids,
            gids,
            groups: groups.to_vec(),
        };
        let asked = Credentials {
            uid: 1,
            gid: 2,
            groups: &[7, 3],
        };
        for groups in [&[3, 7][..], &[7, 3], &[2, 3, 7], &[3, 3, 7]] {
            assert!(own([1; 3], [2; 3], groups).is(&asked), "{groups:?}");
        }
        for groups in [&[][..], &[3], &[3, 7, 8], &[2]] {
            assert!(!own([1; 3], [2; 3], groups).is(&asked), "{groups:?}");
        }
        for index in 0..3 {
            let mut changed = [1; 3];
            changed[index] = 0;
            assert!(!own(changed, [2; 3], &[3, 7]).is(&asked));
            let mut changed = [2; 3];
            changed[index] = 0;
            assert!(!own([1; 3], changed, &[3, 7]).is(&asked));
        }
    }
}
