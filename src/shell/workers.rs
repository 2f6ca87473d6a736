//! The processes behind the core's workers.

use std::os::fd::OwnedFd;

use crate::supervisor::{Served, Time, WorkerId};
use crate::sys::notification::Notifications;
use crate::sys::notify::NotifySocket;
use crate::sys::process::SpawnFailure;
use crate::sys::signals::group_exists;
use crate::table::Table;

use super::ends::End;
use super::main_process::MainProcess;
use super::notify::Said;
use super::proof::Baseline;

/// A worker's process and what clinit holds of it.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: u32,
    pub(super) generation: u32,
    /// The process that was started, and the group.
    pub(super) pid: i32,
    /// What has become the main process in its place.
    pub(super) main: Option<MainProcess>,
    /// Whether the main process has ended.
    pub(super) has_ended: bool,
    pub(super) started: Time,
    /// Where it says whether its exec succeeded; none once it has.
    pub(super) report: Option<OwnedFd>,
    /// Why it never ran.
    pub(super) failure: Option<SpawnFailure>,
    /// Where it says that it is ready.
    pub(super) notify: Option<NotifySocket>,
    /// Its calls of `bind` and `listen`; none once nobody is left to make any.
    pub(super) notifications: Option<Notifications>,
    /// Its queues since it has had them.
    pub(super) baseline: Baseline,
    /// Whether a connection has been taken since.
    pub(super) served: Served,
    /// Which of its processes there still are.
    pub(super) presence: Presence,
    /// How much memory it had last, and may have, in bytes.
    pub(super) memory: Option<(u64, u64)>,
    /// Why it is to end, where that is not its own doing.
    pub(super) end: Option<End>,
    /// Whether clinit has sent it SIGKILL.
    pub(super) killed: bool,
    /// What it has said of itself.
    pub(super) said: Said,
}

/// Which of a worker's processes there still are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The process that was started is not reaped, so its number is its own.
    Main,
    /// Others of its group, which keep the number in use.
    Group,
    /// None: the number may be another's.
    Nobody,
}

impl Presence {
    /// What it is once the process that was started is reaped.
    pub(super) fn after_reaping(group: i32) -> Self {
        if group_exists(group) {
            Self::Group
        } else {
            Self::Nobody
        }
    }
}

/// All workers that have a process.
#[derive(Default)]
pub(super) struct Workers {
    by_id: Table<WorkerId, Worker>,
    /// Main processes, and those that were started, that are not reaped.
    by_pid: Table<i32, WorkerId>,
    /// The calls of what a worker that is gone has left behind, in groups of
    /// its own: without an answer they would fail.
    survivors: Table<WorkerId, Notifications>,
}

impl Workers {
    pub(super) fn insert(&mut self, worker: Worker) {
        self.by_pid.insert(worker.pid, worker.id);
        self.by_id.insert(worker.id, worker);
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.by_id.get_mut(&id)
    }

    /// The calls of a worker, or of what it has left behind.
    pub(super) fn notifications(&self, id: WorkerId) -> Option<&Notifications> {
        let of_worker = self.by_id.get(&id);
        let of_worker = of_worker.and_then(|worker| worker.notifications.as_ref());
        of_worker.or_else(|| self.survivors.get(&id))
    }

    /// Likewise, for nobody to answer them any more.
    pub(super) fn take_notifications(&mut self, id: WorkerId) -> Option<Notifications> {
        let of_worker = self.by_id.get_mut(&id);
        let of_worker = of_worker.and_then(|worker| worker.notifications.take());
        of_worker.or_else(|| self.survivors.remove(&id))
    }

    /// The worker whose process this is.
    pub(super) fn of_pid(&self, pid: i32) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }

    /// Takes note that a process was reaped just now. Returns whether it was
    /// a main process.
    pub(super) fn reaped(&mut self, pid: i32) -> bool {
        let Some(id) = self.by_pid.remove(&pid) else {
            return false;
        };
        let Some(worker) = self.by_id.get_mut(&id) else {
            return false;
        };
        if worker.pid == pid {
            worker.presence = Presence::after_reaping(pid);
        }
        let is_main = worker.main_pid() == pid;
        worker.has_ended |= is_main;
        is_main
    }

    /// A process has become a worker's main process, or the one that was
    /// started is that again.
    pub(super) fn change_main(
        &mut self,
        id: WorkerId,
        main: Option<MainProcess>,
    ) -> Option<MainProcess> {
        let worker = self.by_id.get_mut(&id)?;
        if let Some(main) = &main {
            self.by_pid.insert(main.pid, id);
        }
        let before = std::mem::replace(&mut worker.main, main);
        if let Some(before) = &before {
            self.by_pid.remove(&before.pid);
        }
        before
    }

    /// A worker is gone. Its calls stay, until their end is told.
    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let mut worker = self.by_id.remove(&id)?;
        self.by_pid.remove(&worker.pid);
        if let Some(main) = &worker.main {
            self.by_pid.remove(&main.pid);
        }
        if let Some(notifications) = worker.notifications.take() {
            self.survivors.insert(id, notifications);
        }
        Some(worker)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.by_id.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.by_id.values_mut()
    }
}
