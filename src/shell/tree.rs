//! The processes below clinit that are no workers.

use std::collections::BTreeSet;
use std::time::Duration;

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

/// How old a worker may be that puts itself into the background: later, an
/// orphan in its group is just that.
const BACKGROUND_WITHIN: Duration = Duration::from_secs(10);

/// Whether a worker that exited just now left a server behind: a process that
/// it started, that is below no other worker, and that holds a listener.
///
/// Such a server leaves its session; but its parent may be gone before it has,
/// so at first one in the worker's group counts as well.
pub(super) fn left_a_server(worker: &Departed, workers: &Workers, listeners: &Listeners) -> bool {
    // Daemons fork twice: who was there at the first look may have handed
    // over by the second.
    (0..LOOKS).any(|_| holds_a_listener(&left_by(worker, workers), listeners))
}

/// How often to look for a server that is forking its way into the background.
const LOOKS: u32 = 3;

/// The processes that a worker left behind, as far as they are no plain
/// leftovers of its group.
fn left_by(worker: &Departed, workers: &Workers) -> Vec<i32> {
    let own = own_pid();
    let all = proc::processes();
    let Some(session) = all
        .iter()
        .find(|process| process.pid == own)
        .map(|own| own.session)
    else {
        return Vec::new();
    };
    let young = worker.age < BACKGROUND_WITHIN;
    let is_left = |process: &&Process| {
        worker
            .started_ticks
            .is_none_or(|started| process.start_time_ticks >= started)
            && (process.session != session || young && process.group == worker.pid)
    };
    let adopted = |process: &Process| process.parent == own && !workers.has_main(process.pid);
    let below = all
        .iter()
        .filter(|process| adopted(process))
        .flat_map(|process| {
            let below = proc::descendants_in(&all, process.pid);
            below.into_iter().chain([process.pid])
        });
    let below: BTreeSet<i32> = below.collect();
    let left = all
        .iter()
        .filter(|process| below.contains(&process.pid))
        .filter(is_left);
    left.map(|process| process.pid).collect()
}

fn holds_a_listener(processes: &[i32], listeners: &Listeners) -> bool {
    if processes.is_empty() {
        return false;
    }
    let mut listening = proc::listening_inodes();
    listening.extend(listeners.inodes());
    processes.iter().any(|&pid| {
        let held = proc::socket_inodes(pid);
        held.iter().any(|inode| listening.contains(inode))
    })
}

/// What is to be known of a worker whose main process is reaped.
pub(super) struct Departed {
    /// Its pid, which its group still has.
    pub(super) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(super) started_ticks: Option<u64>,
    /// How old it became.
    pub(super) age: Duration,
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
