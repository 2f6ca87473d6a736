//! Reaping: what became of children, of workers' groups and of the tree.

use std::thread;
use std::time::Duration;

use crate::supervisor::{Event, Exit, Served, Signal, SpawnError, WorkerId};
use crate::sys::process::{Change, NoChildren, RawExit, Reaped, SpawnFailure, Step, reap};

use super::seconds::Seconds;
use super::workers::Presence;
use super::{Shell, background, now, tree};

/// How long a signal may be under way, and how often it is waited for before
/// others' events are looked at.
const SIGNAL_UNDER_WAY: [Duration; 3] = [
    Duration::from_micros(50),
    Duration::from_micros(200),
    Duration::from_millis(1),
];
const LOOKS_A_TURN: u32 = 12;

/// How many children are reaped before signals are read and deadlines met
/// again: someone may fork faster than they can be reaped.
const MOST_A_TURN: u32 = 1024;

impl Shell {
    /// Reaps the children that have exited (invariant 1), and looks whose
    /// groups and whether the whole tree are gone by that.
    pub(super) fn reap(&mut self) {
        let mut anyone = true;
        self.unreaped = true;
        let mut looks = LOOKS_A_TURN;
        for _ in 0..MOST_A_TURN {
            match reap() {
                Ok(Some(Change::Exited(reaped))) => self.reaped(reaped, &mut looks),
                // Nothing is traced, and a worker that is stopped stays one.
                Ok(Some(
                    Change::Trapped { .. } | Change::Stopped { .. } | Change::Continued { .. },
                )) => {}
                Ok(None) => {
                    self.unreaped = false;
                    break;
                }
                Err(NoChildren) => {
                    self.unreaped = false;
                    anyone = false;
                    break;
                }
            }
        }
        for worker in self.workers.iter_mut() {
            if worker.presence == Presence::Group {
                worker.presence = Presence::after_reaping(worker.pid);
            }
            if worker.presence == Presence::Nobody {
                self.events.push_back(Event::GroupGone(worker.id));
            }
        }
        match self.sweep {
            Some(_) if !anyone => self.events.push_back(Event::TreeGone),
            // Whoever lost a parent by that is a child now.
            Some(Signal::KILL) if !self.inherited.is_pid1 => tree::signal(Signal::KILL, false),
            Some(_) | None => {}
        }
    }

    fn reaped(&mut self, Reaped { pid, exit }: Reaped, looks: &mut u32) {
        let exit = exit_of(exit);
        let Some(worker) = self.workers.reaped(pid) else {
            log::trace!(pid; "reaped an orphan that {exit}");
            return;
        };
        let id = worker.id;
        // Its last word on its exec may be unread.
        self.read_report(id);
        self.credit(id, looks);
        self.main_reaped(id, exit);
    }

    /// Finds out whether a connection was taken while this worker ran. One
    /// that has just joined a queue may not have been told of yet: its signal
    /// is under way on another CPU, so a queue that proves nothing is looked
    /// at again.
    fn credit(&mut self, id: WorkerId, looks: &mut u32) {
        self.credit_workers();
        for pause in SIGNAL_UNDER_WAY {
            let served = self.workers.get(id).is_none_or(|worker| worker.served);
            if served || *looks == 0 || self.listeners.are_idle() {
                return;
            }
            *looks -= 1;
            thread::sleep(pause);
            self.credit_workers();
        }
    }

    fn main_reaped(&mut self, id: WorkerId, exit: Exit) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (slot, pid, served) = (worker.slot, worker.pid, worker.served);
        if let Some(failure) = worker.failure {
            self.never_ran(id, slot, failure);
            return;
        }
        let age = now().since(worker.started);
        let backgrounded =
            exit == Exit::Code(0) && background::left_a_server(worker, age, &self.listeners);
        let memory = if self.closing.is_oom_kill(exit) {
            ", out of memory by the kernel's count"
        } else {
            ""
        };
        log::info!(slot, pid; "worker {exit} after {}{memory}", Seconds(age));
        self.closing.note_exit(exit, self.supervisor.is_serving());
        self.events.push_back(Event::Exited {
            worker: id,
            exit,
            served: if served {
                Served::Someone
            } else {
                Served::Unknown
            },
            awaited: false,
            backgrounded,
        });
    }

    fn never_ran(&mut self, id: WorkerId, slot: u32, failure: SpawnFailure) {
        let error = spawn_error(failure);
        if error == SpawnError::Exhausted {
            self.note_exhausted(slot, &failure);
        }
        self.events.push_back(Event::SpawnFailed(id, error));
    }

    /// Lets go of what clinit holds of a worker.
    pub(super) fn forget(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.remove(id)
            && let Some(notify) = &worker.notify
        {
            // As with its report, a child before its exec may hold a copy.
            let _ = self.poller.remove(notify);
        }
    }
}

fn exit_of(exit: RawExit) -> Exit {
    match exit {
        RawExit::Code(code) => Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        RawExit::Signal { number, core } => match Signal::from_number(number) {
            Some(signal) => Exit::Signal { signal, core },
            None => Exit::Code(u8::MAX),
        },
    }
}

/// What a child's failure before its command amounts to.
fn spawn_error(failure: SpawnFailure) -> SpawnError {
    match failure.step {
        // Its own limit of descriptors does not grow.
        Step::Descriptors => SpawnError::Setup,
        _ if failure.passes() => SpawnError::Exhausted,
        Step::Exec if failure.is_not_found() => SpawnError::NotFound,
        Step::Exec => SpawnError::NotExecutable,
        Step::Filter
        | Step::Listener
        | Step::Setgroups
        | Step::Setgid
        | Step::Setuid
        | Step::Chdir
        | Step::Affinity
        | Step::ParentGone => SpawnError::Setup,
    }
}
