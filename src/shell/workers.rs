//! The processes behind the core's workers.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::supervisor::{Time, WorkerId};
use crate::sys::notify::NotifySocket;
use crate::sys::process::SpawnFailure;

use super::listeners::Baseline;

/// A worker's process and what clinit holds of it.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: u32,
    /// The main process, and the group.
    pub(super) pid: i32,
    pub(super) started: Time,
    /// The same as /proc has it, in clock ticks since boot.
    pub(super) started_ticks: Option<u64>,
    /// Where it says whether its exec succeeded; none once it has.
    pub(super) report: Option<OwnedFd>,
    /// Why it never ran.
    pub(super) failure: Option<SpawnFailure>,
    /// Where it says that it is ready.
    pub(super) notify: Option<NotifySocket>,
    /// The listeners' queues when it started.
    pub(super) baseline: Baseline,
    /// Whether a connection has been taken since.
    pub(super) served: bool,
    /// Whether its main process is reaped, and only its group may be left.
    pub(super) reaped: bool,
}

/// All workers that have a process.
#[derive(Default)]
pub(super) struct Workers {
    by_id: BTreeMap<WorkerId, Worker>,
    /// Main processes that are not reaped.
    by_pid: BTreeMap<i32, WorkerId>,
}

impl Workers {
    pub(super) fn insert(&mut self, worker: Worker) {
        self.by_pid.insert(worker.pid, worker.id);
        self.by_id.insert(worker.id, worker);
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.by_id.get(&id)
    }

    /// The worker with this index, where it still has a process.
    pub(super) fn at(&mut self, index: u32) -> Option<&mut Worker> {
        self.by_id
            .values_mut()
            .find(|worker| worker.id.index() == index)
    }

    /// The worker whose main process was reaped just now.
    pub(super) fn reaped(&mut self, pid: i32) -> Option<&mut Worker> {
        let id = self.by_pid.remove(&pid)?;
        let worker = self.by_id.get_mut(&id)?;
        worker.reaped = true;
        Some(worker)
    }

    /// Whether this is a worker's main process.
    pub(super) fn has_main(&self, pid: i32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Those whose group alone may be left.
    pub(super) fn leftovers(&self) -> Vec<(WorkerId, i32)> {
        let reaped = self.by_id.values().filter(|worker| worker.reaped);
        reaped.map(|worker| (worker.id, worker.pid)).collect()
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.by_id.remove(&id)?;
        self.by_pid.remove(&worker.pid);
        Some(worker)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.by_id.values_mut()
    }
}
