//! Reaping: what became of children, of workers' groups and of the tree.

use crate::config::Level;
use crate::supervisor::{Event, Exit, Signal, SpawnError, WorkerId};
use crate::sys::errno::describe;
use crate::sys::process::{Change, NoChildren, RawExit, Reaped, SpawnFailure, Step, reap};
use crate::sys::signals::send;

use super::ends::End;
use super::log;
use super::proof::LOOKS_A_TURN;
use super::seconds::Seconds;
use super::workers::Presence;
use super::{Shell, background, now, tree};

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
                Ok(Some(Change::Trapped { tid, status })) => self.trapped(tid, status),
                Ok(Some(Change::Stopped { pid, signal })) => {
                    self.suspended(pid, true);
                    self.child_stopped(pid, signal);
                }
                Ok(Some(Change::Continued { pid })) => self.suspended(pid, false),
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
            if worker.presence == Presence::Nobody && worker.has_ended {
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
        self.thread_gone(pid);
        let Some(id) = self.workers.of_pid(pid) else {
            let warns = self.plain.warn_reaped;
            if self.voice.reaped(pid, exit, warns) {
                return;
            }
            let level = if warns { Level::Warn } else { Level::Debug };
            log::log!(level, pid; "reaped an orphan that {exit}");
            return;
        };
        // Its last words may be unread: on its exec, and on who goes on in
        // its place.
        self.read_report(id);
        self.hear_last_words(id);
        if self.workers.reaped(pid) {
            self.main_ended(id, exit, looks);
        } else {
            log::debug!(pid; "the process that a worker began as {exit}");
        }
    }

    /// A worker's main process has ended.
    pub(super) fn main_ended(&mut self, id: WorkerId, exit: Exit, looks: &mut u32) {
        self.manager.left(id);
        self.credit_exit(id, looks);
        self.lanes.change().exited(id);
        self.main_reaped(id, exit);
    }

    /// A signal has stopped a child, or let it go on: while it stands still,
    /// new connections are for others.
    fn suspended(&mut self, pid: i32, suspended: bool) {
        if let Some(id) = self.workers.of_pid(pid) {
            self.lanes.change().suspend(id, suspended);
            if !suspended {
                self.watch(id);
            }
        }
    }

    fn main_reaped(&mut self, id: WorkerId, exit: Exit) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (slot, pid, served) = (worker.slot, worker.main_pid(), worker.served);
        let (killed, told) = (worker.killed, worker.end);
        if let Some(failure) = worker.failure {
            self.never_ran(id, slot, failure);
            return;
        }
        self.voice.main_ended(pid, exit);
        let age = now().since(worker.started);
        let servers = match exit {
            Exit::Code(0) => background::servers_left(worker, age, &self.listeners, &self.lanes),
            Exit::Code(_) | Exit::Signal { .. } => Vec::new(),
        };
        // It is no worker, so it is not to serve beside the workers either.
        for server in &servers {
            if let Err(error) = send(*server, Signal::TERM.number(), None) {
                log::debug!(slot; "cannot end a server in the background: {}", describe(&error));
            }
        }
        let awaited = self.lanes.awaits(id);
        let end = self.closing.end_of(exit, killed, now());
        if let End::OutOfMemory { .. } = end {
            log::error!(slot, pid; "worker {end}, after {}", Seconds(age));
        } else {
            log::info!(slot, pid; "worker {end} after {}", Seconds(age));
        }
        self.ends.insert(slot, told.unwrap_or(end));
        self.closing.note_end(end, self.supervisor.is_serving());
        self.events.push_back(Event::Exited {
            worker: id,
            exit,
            served,
            awaited,
            backgrounded: !servers.is_empty(),
        });
    }

    fn never_ran(&mut self, id: WorkerId, slot: u32, failure: SpawnFailure) {
        let error = spawn_error(failure);
        if error == SpawnError::Exhausted {
            self.note_exhausted(slot, &failure);
        }
        self.events.push_back(Event::SpawnFailed(id, error));
    }

    /// Lets go of what clinit holds of a worker. Its calls are answered for as
    /// long as anybody is left to make some.
    pub(super) fn forget(&mut self, id: WorkerId) {
        self.capture.forget(id);
        self.lanes.copies_closed(id, now());
        self.emptying.forget(id);
        if let Some(worker) = self.workers.remove(id) {
            // As with its report, a child before its exec may hold copies.
            if let Some(notify) = &worker.notify {
                let _ = self.poller.remove(notify);
            }
            if let Some(main) = &worker.main {
                let _ = self.poller.remove(&main.handle);
            }
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
