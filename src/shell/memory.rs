//! Workers that have more memory than a worker may have.

use std::time::Duration;

use crate::config::MaxMemory;
use crate::supervisor::{Event, Time, Wear, WorkerId};
use crate::sys::cgroup::{Root, memory_limit};
use crate::sys::proc::{self, proportional_bytes, resident_bytes};
use crate::table::Set;

use super::emptying::worker_processes;
use super::log;
use super::workers::Presence;
use super::{Shell, now};

/// How often to look, and how often while one is near its bound.
const SELDOM: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_secs(1);

/// From so many hundredths of its bound on a worker is near it.
const NEAR: u64 = 80;

/// To look takes at most one part of so many of the time: where there are
/// many processes, or much memory, it is done less often.
const PART: u32 = 50;

/// What a worker may have, and when to look whether it has more.
pub(super) struct Memory {
    /// None: as much as there is, and nobody looks.
    most: Option<MaxMemory>,
    look_at: Time,
}

impl Memory {
    pub(super) fn new(most: Option<MaxMemory>) -> Self {
        let limit = memory_limit_bytes(most);
        let most = most.filter(|most| {
            let known = most.of(limit, 1).is_some();
            if !known {
                log::warn!("--max-memory in % is of no effect: this container has no memory limit; a size as in 300M needs none");
            }
            known
        });
        Self {
            most,
            look_at: now() + OFTEN,
        }
    }

    /// When to look.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.most.map(|_| self.look_at)
    }
}

/// The container's limit, where that matters.
fn memory_limit_bytes(most: Option<MaxMemory>) -> Option<u64> {
    match most {
        Some(MaxMemory::Percent(_)) => memory_limit(&Root::system()).map(|(limit, _)| limit),
        Some(MaxMemory::Bytes(_)) | None => None,
    }
}

impl Shell {
    /// Tells the core of workers that have too much, where it is time to look.
    pub(super) fn look_at_memory(&mut self) {
        let begun = now();
        let Some(most) = self.memory.most.filter(|_| self.memory.look_at <= begun) else {
            return;
        };
        // Of both the limit and the number of workers there may be news.
        let bound = most.of(memory_limit_bytes(Some(most)), self.supervisor.instances());
        let near = bound.is_some_and(|bound| self.weigh(bound));
        let pause = if near { OFTEN } else { SELDOM };
        let spent = now().since(begun);
        self.memory.look_at = now() + pause.max(spent * PART);
    }

    /// Compares every worker's memory to the bound. Returns whether one is
    /// near it.
    fn weigh(&mut self, bound: u64) -> bool {
        let processes = proc::processes();
        let near = bound / 100 * NEAR;
        let mut most = 0;
        let mut worn: Vec<WorkerId> = Vec::new();
        for worker in self.workers.iter_mut() {
            if worker.presence != Presence::Main {
                continue;
            }
            let memory = used(&worker_processes(&processes, worker.pid), bound);
            worker.memory = Some((memory, bound));
            most = most.max(memory);
            if memory > bound {
                worn.push(worker.id);
            }
        }
        let worn = worn.into_iter();
        self.events
            .extend(worn.map(|id| Event::Worn(id, Wear::Memory)));
        most > near
    }
}

/// What these have together. Only where it may be too much is it worth asking
/// what of it they share, each among themselves or with others.
fn used(members: &Set<i32>, bound: u64) -> u64 {
    let resident = |pid: &i32| resident_bytes(*pid).unwrap_or(0);
    let all: u64 = members.iter().map(resident).sum();
    if all <= bound {
        return all;
    }
    let proportional = |pid: &i32| proportional_bytes(*pid).unwrap_or_else(|| resident(pid));
    members.iter().map(proportional).sum()
}
