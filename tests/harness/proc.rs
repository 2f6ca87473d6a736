//! Other processes, by pid: in /proc, and by signals.

use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

/// A descriptor of the process, readable once that has ended. None where
/// there is no such process.
pub(crate) fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: it takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made it, for us alone.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn kill_by(process: &OwnedFd) {
    let fd = process.as_raw_fd();
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: without an info the kernel makes one as for kill(2).
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, no_info, 0) };
}

/// kill(2).
#[track_caller]
pub(crate) fn send(pid: i32, signal: i32) {
    assert!(pid > 1, "signal {signal} to {pid}");
    // SAFETY: it takes two numbers.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(
        result,
        0,
        "signal {signal} to {pid}: {}",
        std::io::Error::last_os_error()
    );
}

/// sigqueue(3).
#[track_caller]
pub(crate) fn send_with_value(pid: i32, signal: i32, value: usize) {
    assert!(try_send_with_value(pid, signal, value), "no room");
}

/// sigqueue(3). False where there is no room for it.
#[track_caller]
pub(crate) fn try_send_with_value(pid: i32, signal: i32, value: usize) -> bool {
    assert!(pid > 1, "signal {signal} to {pid}");
    let value = libc::sigval {
        sival_ptr: ptr::without_provenance_mut(value),
    };
    // SAFETY: the value is only handed on.
    let result = unsafe { libc::sigqueue(pid, signal, value) };
    let error = std::io::Error::last_os_error();
    let is_full = result != 0 && error.raw_os_error() == Some(libc::EAGAIN);
    assert!(result == 0 || is_full, "signal {signal} to {pid}: {error}");
    !is_full
}

/// The one-letter state; none where there is no such process.
pub(crate) fn state(pid: i32) -> Option<char> {
    status_field(pid, "State:")?.chars().next()
}

/// What follows this key, such as `State:`, in /proc/PID/status.
pub(crate) fn status_field(pid: i32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().to_owned())
}

pub(crate) fn children(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| parent_of(*pid) == Some(parent);
    processes().filter(is_child).collect()
}

/// All processes below this one, as far as they can be told.
pub(crate) fn descendants(ancestor: i32) -> Vec<i32> {
    let parents: Vec<_> = processes()
        .filter_map(|pid| Some((pid, parent_of(pid)?)))
        .collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| pid),
        );
        next += 1;
    }
    found.split_off(1)
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The port of a TCP listener that this process holds.
pub(crate) fn listening_port(pid: i32) -> Option<u16> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes: Vec<String> = targets
        .filter_map(|target| {
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    ["tcp", "tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok()?;
        table.lines().find_map(|line| {
            // sl, local, remote, state, …, the tenth is the inode.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let is_it = *state == "0A" && inodes.iter().any(|own| own == inode);
            let port = is_it.then(|| local.rsplit_once(':'))??.1;
            u16::from_str_radix(port, 16).ok()
        })
    })
}

/// Processes, held so that they can be told from later ones of the same pid.
pub(crate) struct Gone(Vec<(i32, Option<OwnedFd>)>);

impl Gone {
    /// To be asked while they live.
    pub(crate) fn watch(pids: &[i32]) -> Self {
        let watched = pids.iter().map(|&pid| {
            let fd = pidfd(pid);
            assert!(fd.is_some(), "process {pid} is gone already");
            (pid, fd)
        });
        Self(watched.collect())
    }

    /// Asserts that each of them has ended by now.
    #[track_caller]
    pub(crate) fn assert(&self) {
        use std::os::fd::AsFd as _;
        let left = self.0.iter().filter(|(_, fd)| {
            let fd = fd.as_ref().expect("it was there");
            !super::readable(&[fd.as_fd()], std::time::Duration::ZERO)
        });
        let left: Vec<i32> = left.map(|(pid, _)| *pid).collect();
        assert!(left.is_empty(), "still running: {left:?}");
    }
}
