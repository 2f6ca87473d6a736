//! Servers that do what clinit is there for: daemons and masters.

use std::time::Duration;

use crate::supervisor::Served;
use crate::sys::proc::{self, Process};

use super::lanes::Lanes;
use super::listeners::Listeners;
use super::workers::Worker;

/// How old a worker may be that puts itself into the background. Later, a
/// process that it leaves behind is a helper.
const STARTING: Duration = Duration::from_secs(10);

/// How old, where what it left behind is still in its process group.
const JUST_STARTED: Duration = Duration::from_secs(1);

/// How often to look for a server that is forking its way into the
/// background: who was there at one look may have handed over to a child that
/// was not, by the time that it is asked for its descriptors.
const LOOKS: u32 = 3;

/// The server that a worker which exited with 0 at this age left behind, if it
/// did: processes that hold a listener, and left the session as daemons do or
/// are about to.
///
/// What it started is known by the address of its notify socket, which is in
/// no other environment. Where clinit may not read that of a process
/// (`proc_pid_environ(5)`) it finds none.
pub(super) fn servers_left(
    worker: &Worker,
    age: Duration,
    listeners: &Listeners,
    lanes: &Lanes,
) -> Vec<i32> {
    let Some(notify) = worker
        .notify
        .as_ref()
        .filter(|_| age < STARTING && worker.served == Served::Unknown)
    else {
        return Vec::new();
    };
    let mark = format!("NOTIFY_SOCKET={}", notify.name());
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let Some(session) = proc::process(own).map(|process| process.session) else {
        return Vec::new();
    };
    let is_daemon = |process: &Process| {
        let leaving = age < JUST_STARTED && process.group == worker.pid;
        (process.session != session || leaving)
            && proc::environment_has(process.pid, mark.as_bytes())
    };
    let look = || {
        let left: Vec<_> = proc::processes().into_iter().filter(is_daemon).collect();
        if left.is_empty() {
            return left;
        }
        let mut sockets = proc::listening_inodes();
        // A UDP socket listens without being said to.
        sockets.extend(listeners.inodes());
        sockets.extend(lanes.inodes());
        left.into_iter()
            .filter(|process| holds_any(process, &sockets))
            .collect()
    };
    let found = (0..LOOKS).map(|_| look()).find(|left| !left.is_empty());
    let found = found.unwrap_or_default().into_iter();
    found.map(|process| process.pid).collect()
}

fn holds_any(process: &Process, sockets: &[u64]) -> bool {
    let held = proc::socket_inodes(process.pid);
    held.iter().any(|inode| sockets.contains(inode))
}

/// How many children of a process run its own executable: a master that
/// multiplies by itself.
pub(super) fn own_copies(pid: i32) -> usize {
    let Some(executable) = proc::executable_id(pid) else {
        return 0;
    };
    let children = proc::children_of(pid).into_iter();
    children
        .filter(|&child| proc::executable_id(child) == Some(executable))
        .count()
}
