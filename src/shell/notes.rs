//! What the core decided, as lines of the log.

use std::fmt;

use crate::config::Level;
use crate::supervisor::{Note, Wear, WorkerId};

use super::ends::End;
use super::log;
use super::seconds::Seconds;
use super::workers::Worker;
use super::{Shell, background, now};

impl Shell {
    pub(super) fn note(&mut self, note: Note) {
        self.manager.note(note, now());
        match note {
            Note::Ready { worker, presumed } => self.note_ready(worker, presumed),
            Note::RestartIn { slot, delay, failures: 0 } => {
                log::info!(slot; "restarting in {}", Seconds(delay));
            }
            Note::RestartIn { slot, delay, failures } => {
                log::warn!(slot, failures; "restarting in {}", Seconds(delay));
            }
            Note::RestartHeld { slot, delay } => {
                log::info!(slot; "restarting in {}, unless the other workers leave too", Seconds(delay));
            }
            Note::SpawnRetryIn { slot, delay } => log::debug!(slot; "trying again in {}", Seconds(delay)),
            Note::CannotRun(id) => self.note_cannot_run(id),
            Note::Backgrounded(id) => self.note_worker(id, Level::Error, format_args!(
                "the server put itself into the background: run it in the foreground (nginx: -g 'daemon off;')"
            )),
            Note::Killed(id) => {
                self.closing.killed = self.closing.killed.saturating_add(1);
                self.note_worker(id, Level::Warn, format_args!("worker outlived its deadline: killed"));
            }
            Note::Unkillable(id) => self.note_worker(id, Level::Error, format_args!(
                "worker outlived SIGKILL: it hangs in the kernel and is given up"
            )),
            Note::Scaled(workers) => log::info!(workers; "scaled"),
            Note::ScaleRefused(workers) => log::warn!(workers; "not scaled: the number of workers is at its bound"),
            Note::ShrinkIn(workers, delay) => {
                log::info!(workers; "fewer CPUs: scaling in {}, unless they come back", Seconds(delay));
            }
            Note::Reloading(generation) => log::info!(generation; "reloading"),
            Note::ReloadQueued(generation) => {
                log::info!(generation; "a reload is under way: the next one follows it");
            }
            Note::Reloaded(generation) => log::info!(generation; "reloaded"),
            Note::ReloadFailed { generation, failure, partial: false } => {
                log::error!(generation; "reload failed, and nothing has changed: {failure}");
            }
            Note::ReloadFailed { generation, failure, partial: true } => {
                log::error!(generation; "reload failed, and some workers are not replaced: {failure}");
            }
            Note::Renewing(id, wear) => self.note_renewing(id, wear),
            Note::RenewalFailed { slot, failure, delay } => {
                self.is_to_end(|worker| worker.slot == slot, None);
                log::error!(slot; "worker is not replaced: {failure}; trying again in {}", Seconds(delay));
            }
            Note::Replaced(id) => self.note_worker(id, Level::Info, format_args!("worker takes its predecessor's place")),
            Note::Late(id, time) => {
                self.note_worker(id, Level::Warn, format_args!("worker is not ready after {}", Seconds(time)));
            }
            Note::Hung(id) => {
                self.is_to_end(|worker| worker.id == id, Some(End::Hung));
                self.note_worker(id, Level::Error, format_args!("worker is hung: killed"));
            }
            Note::NoSuchSlot(slot) => log::warn!(slot; "there is no such slot"),
            Note::ShutdownIn(delay) if delay.is_zero() => log::info!("shutting down"),
            Note::ShutdownIn(delay) => log::info!("shutting down: draining in {}", Seconds(delay)),
            Note::DelaySkipped => log::info!("asked again: draining now"),
            Note::NextRequestKills => log::info!("asked again: the next request kills"),
            Note::Forced => log::warn!("asked a third time: killing"),
            Note::Draining { workers, grace } => log::info!(workers; "draining for at most {}", Seconds(grace)),
            Note::GivingUp(0) => log::error!("giving up: no slot can run its worker"),
            Note::GivingUp(failures) => log::error!(failures; "giving up: every slot has failed too often in a row"),
        }
    }

    fn note_ready(&mut self, id: WorkerId, presumed: bool) {
        let now = now();
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (slot, pid) = (worker.slot, worker.main_pid());
        let after = Seconds(now.since(worker.started));
        let (level, how) = if presumed {
            (Level::Debug, "taken for ready")
        } else {
            (Level::Info, "ready")
        };
        log::log!(level, slot, pid; "worker is {how} after {after}");
        let instances = self.supervisor.instances();
        if !self.plan.is_cluster()
            || instances < 2
            || std::mem::replace(&mut self.looked_for_masters, true)
        {
            return;
        }
        let copies = background::own_copies(pid);
        if copies > 0 {
            log::warn!(
                "each worker runs {copies} workers of its own: {instances} x {copies} = {} in all; let either clinit or the server multiply",
                copies * instances as usize,
            );
        }
    }

    fn note_renewing(&mut self, id: WorkerId, wear: Wear) {
        self.is_to_end(|worker| worker.id == id, Some(End::Worn(wear)));
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (slot, pid) = (worker.slot, worker.pid);
        let end = End::Worn(wear);
        match worker.memory {
            Some((memory, most)) if wear == Wear::Memory => {
                log::warn!(slot, pid, memory, most; "worker {end}: replacing it");
            }
            Some(_) | None => log::info!(slot, pid; "worker {end}: replacing it"),
        }
    }

    /// These workers are to end for this reason, or are not.
    fn is_to_end(&mut self, which: impl Fn(&Worker) -> bool, end: Option<End>) {
        let workers = self.workers.iter_mut().filter(|worker| which(worker));
        workers.for_each(|worker| worker.end = end);
    }

    fn note_cannot_run(&self, id: WorkerId) {
        let Some((worker, failure)) = self
            .workers
            .get(id)
            .and_then(|worker| Some((worker, worker.failure?)))
        else {
            return;
        };
        if self.voice.cannot_run(self.plan.program(), failure) {
            return;
        }
        let (slot, pid) = (worker.slot, worker.main_pid());
        let program = self.plan.program().display();
        let hint = self.plan.hint(failure);
        log::error!(slot, pid; "cannot run {program}: {failure}{hint}");
    }

    fn note_worker(&self, id: WorkerId, level: Level, what: fmt::Arguments<'_>) {
        if let Some(worker) = self.workers.get(id) {
            log::log!(level, slot = worker.slot, pid = worker.main_pid(); "{what}");
        }
    }
}
