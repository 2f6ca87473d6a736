//! A worker's main process, which may be another than the one that was
//! started: `MAINPID=` of `sd_notify(3)`.
//!
//! A worker stays its process group, and only a member of that may become its
//! main process. It is held by a descriptor, since clinit need not be its
//! parent: then its number could be another's at any time.

use std::io;

use crate::supervisor::{Exit, Signal, WorkerId};
use crate::sys::errno::describe;
use crate::sys::pidfd::Handle;
use crate::sys::proc;
use crate::sys::process::is_child;
use crate::sys::signals::{queue_group, send, send_group};

use super::Shell;
use super::log;
use super::proof::LOOKS_A_TURN;
use super::token::Token;
use super::workers::{Presence, Worker};

/// A process that a worker has named as its main process.
pub(super) struct MainProcess {
    pub(super) pid: i32,
    pub(super) handle: Handle,
}

impl Worker {
    /// The process that is meant where the worker is.
    pub(super) fn main_pid(&self) -> i32 {
        self.main.as_ref().map_or(self.pid, |main| main.pid)
    }

    /// The processes that all others of it descend from.
    pub(super) fn roots(&self) -> Vec<i32> {
        let mut roots = Vec::new();
        if self.main.is_none() || self.presence == Presence::Main {
            roots.push(self.pid);
        }
        if let Some(main) = &self.main {
            roots.push(main.pid);
        }
        roots
    }

    /// Sends the main process a signal, if it has not ended.
    pub(super) fn signal_main(&self, signal: Signal, value: Option<u64>) -> io::Result<()> {
        match &self.main {
            Some(main) => main.handle.send(signal.number(), value),
            None if self.presence == Presence::Main => send(self.pid, signal.number(), value),
            None => Ok(()),
        }
    }

    /// Sends every process of the group a signal, and a main process that has
    /// left it since.
    pub(super) fn signal_group(&self, signal: Signal, value: Option<u64>) -> io::Result<()> {
        let main = self.main.as_ref().filter(|main| {
            !self.has_ended
                && proc::process(main.pid).is_some_and(|process| process.group != self.pid)
        });
        let to_main = main.map_or(Ok(()), |main| main.handle.send(signal.number(), value));
        match (self.presence, value) {
            (Presence::Main, Some(value)) => queue_group(self.pid, signal.number(), value),
            (Presence::Main | Presence::Group, _) => send_group(self.pid, signal.number()),
            (Presence::Nobody, _) => to_main,
        }
    }
}

impl Shell {
    /// Takes a process for a worker's main process from now on.
    pub(super) fn change_main(&mut self, id: WorkerId, pid: i32) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (slot, group) = (worker.slot, worker.pid);
        if pid == worker.main_pid() || worker.has_ended {
            return;
        }
        let main = if pid == group && worker.presence == Presence::Main {
            None
        } else {
            match hold(pid, group) {
                Ok(handle) => Some(MainProcess { pid, handle }),
                Err(why) => {
                    self.ignore(id, &format!("process {pid} is not its main process: {why}"));
                    return;
                }
            }
        };
        if let Some(main) = &main
            && let Err(error) = self.poller.add(&main.handle, Token::Main(id).pack())
        {
            log::warn!(slot, pid; "cannot watch a worker's main process: {}", describe(&error));
            return;
        }
        log::info!(slot, pid; "worker has another main process");
        if let Some(before) = self.workers.change_main(id, main) {
            // As with its report, a child before its exec may hold a copy.
            let _ = self.poller.remove(&before.handle);
        }
    }

    /// A main process has ended that may have a parent other than clinit, who
    /// alone learns how.
    pub(super) fn look_at_main(&mut self, id: WorkerId) {
        let Some(main) = self.workers.get(id).and_then(|worker| worker.main.as_ref()) else {
            return;
        };
        let pid = main.pid;
        // Else it is reaped before anything else is waited for.
        if main.handle.has_ended() && !is_child(pid) {
            let _ = self.poller.remove(&main.handle);
            self.hear_last_words(id);
            if self.workers.reaped(pid) {
                log::debug!(pid; "a worker's main process has ended, and its parent is not clinit");
                self.main_ended(id, Exit::Code(u8::MAX), &mut LOOKS_A_TURN.clone());
            }
        }
    }
}

/// Takes hold of a living process of this group.
fn hold(pid: i32, group: i32) -> Result<Handle, String> {
    let handle = Handle::open(pid).map_err(|error| describe(&error).to_string())?;
    let is_member = proc::process(pid).is_some_and(|process| process.group == group);
    // Looked at last: as long as it lives the number is its own.
    if !is_member || handle.has_ended() {
        return Err("no process of the worker's group".to_owned());
    }
    Ok(handle)
}
