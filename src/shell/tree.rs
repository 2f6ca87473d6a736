//! The processes below clinit that are no workers.

use crate::supervisor::Signal;
use crate::sys::proc::{self, Process};
use crate::sys::signals::{kill_everything, send};

use super::listeners::Listeners;
use super::workers::Workers;

/// Sends a signal to every process below clinit, whatever its session.
///
/// As process 1 that is everything; else it is every descendant that /proc
/// shows, and for SIGKILL only the direct ones: a child that is not reaped yet
/// keeps its pid, while a deeper one's could be another's by now. Those below
/// become direct as they lose their parents.
pub(super) fn signal(signal: Signal, is_pid1: bool) {
    if is_pid1 {
        if let Err(error) = kill_everything(signal.number()) {
            log::debug!("cannot send {signal} to everything: {error}");
        }
        return;
    }
    let own = own_pid();
    let targets = if signal == Signal::KILL {
        proc::children_of(own)
    } else {
        proc::descendants(own)
    };
    for pid in targets {
        if let Err(error) = send(pid, signal.number(), None) {
            log::debug!(pid; "cannot send {signal}: {error}");
        }
    }
}

/// The pid of a process that was started by a worker after `since` (clock
/// ticks), left its session and was adopted by clinit, and that holds a
/// listener: a server that put itself into the background.
pub(super) fn background_server(
    since: Option<u64>,
    workers: &Workers,
    listeners: &Listeners,
) -> Option<i32> {
    let own = own_pid();
    let session = proc::process(own)?.session;
    let adopted: Vec<Process> = proc::processes()
        .into_iter()
        .filter(|process| process.parent == own && process.session != session)
        .filter(|process| !workers.has_main(process.pid))
        .filter(|process| since.is_none_or(|since| process.start_time_ticks >= since))
        .collect();
    if adopted.is_empty() {
        return None;
    }
    let mut listening = proc::listening_inodes();
    listening.extend(listeners.inodes());
    adopted.into_iter().map(|process| process.pid).find(|&pid| {
        proc::socket_inodes(pid)
            .iter()
            .any(|inode| listening.contains(inode))
    })
}

/// How many children of a process run its own executable.
pub(super) fn own_copies(pid: i32) -> usize {
    let Some(executable) = proc::executable_id(pid) else {
        return 0;
    };
    let children = proc::children_of(pid).into_iter();
    children
        .filter(|&child| proc::executable_id(child) == Some(executable))
        .count()
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
