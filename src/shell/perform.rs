//! From the core's actions to system calls.

use std::io;

use crate::supervisor::{Action, Event, Signal, SpawnError, Target, WorkerId};
use crate::sys::notify::NotifySocket;
use crate::sys::poll::Interest;
use crate::sys::process::Spawned;
use crate::sys::signals::{send, send_group, stop_self};
use crate::sys::{cgroup, errno, proc};

use super::plan::Place;
use super::token::Token;
use super::workers::Worker;
use super::{Shell, now, tree};

impl Shell {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn {
                worker,
                slot,
                generation,
                app: _,
            } => {
                if let Err(error) = self.spawn(worker, slot, generation) {
                    self.cannot_spawn(worker, slot, &error);
                }
            }
            Action::Signal {
                worker,
                to,
                signal,
                value,
            } => self.signal(worker, to, signal, value),
            Action::SuspendSelf => {
                if !self.inherited.is_pid1 {
                    stop_self();
                }
            }
            Action::CloseListeners => {
                self.closing.draining_since = Some(now());
                self.listeners.close();
            }
            Action::TermTree => self.sweep(Signal::TERM),
            Action::KillTree => self.sweep(Signal::KILL),
            Action::Note(note) => self.note(note),
            Action::Exit(outcome) => self.outcome = Some(outcome),
        }
    }

    // ---- spawning ----

    fn spawn(&mut self, id: WorkerId, slot: u32, generation: u32) -> io::Result<()> {
        let index = id.index();
        let notify = self.open_notify(index)?;
        self.listeners.watch();
        let waiting = self.settle_queues();
        let baseline = self.listeners.baseline(&waiting);
        let place = Place {
            slot,
            slots: self.supervisor.instances(),
            generation,
            notify: notify.as_ref().map(|(_, address)| address.as_str()),
        };
        let Spawned { pid, report } = self.plan.spawn(place, &self.listeners, &self.inherited)?;
        self.exhausted = 0;
        log::debug!(slot, pid; "worker spawned");
        self.workers.insert(Worker {
            id,
            slot,
            pid,
            started: now(),
            started_ticks: self
                .plan
                .is_cluster()
                .then(|| proc::start_time(pid))
                .flatten(),
            report: None,
            failure: None,
            notify: notify.map(|(socket, _)| socket),
            baseline,
            served: false,
            reaped: false,
        });
        // From here on the process is there, and its exit tells what this
        // does not.
        match self
            .poller
            .add(&report, Token::Report(index).pack(), Interest::Level)
        {
            Ok(()) => {
                if let Some(worker) = self.workers.at(index) {
                    worker.report = Some(report);
                }
            }
            Err(error) => {
                log::warn!(slot, pid; "cannot watch a worker's start: {error}");
                self.events.push_back(Event::Executed(id));
            }
        }
        Ok(())
    }

    /// The socket that the worker tells of its readiness through, polled, and
    /// its address.
    fn open_notify(&self, index: u32) -> io::Result<Option<(NotifySocket, String)>> {
        if !self.plan.is_cluster() {
            return Ok(None);
        }
        let socket = NotifySocket::open()?;
        self.poller
            .add(&socket, Token::Notify(index).pack(), Interest::Level)?;
        let address = socket.name();
        Ok(Some((socket, address)))
    }

    fn cannot_spawn(&mut self, id: WorkerId, slot: u32, error: &io::Error) {
        let error_kind = if errno::passes(error) {
            SpawnError::Exhausted
        } else {
            SpawnError::Setup
        };
        self.exhausted = self.exhausted.saturating_add(1);
        // It may be tried every second for as long as there is no room.
        if self.exhausted.is_power_of_two() {
            let limit = cgroup::pids_limit(&cgroup::Root::system())
                .map(|(current, max)| {
                    format!(" ({current} of {max} pids of this container are in use)")
                })
                .unwrap_or_default();
            log::warn!(slot; "cannot start a worker: {error}{limit}");
        }
        self.events.push_back(Event::SpawnFailed(id, error_kind));
    }

    // ---- signals ----

    fn signal(&mut self, id: WorkerId, to: Target, signal: Signal, value: Option<u64>) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (pid, slot) = (worker.pid, worker.slot);
        let sent = match to {
            // The pid of a reaped process may be another's by now.
            Target::Main if worker.reaped => return,
            Target::Main => send(pid, signal.number(), value),
            Target::Group => send_group(pid, signal.number()),
        };
        if let Err(error) = sent {
            log::warn!(slot, pid; "cannot send {signal} to a worker: {error}");
        }
    }

    fn sweep(&mut self, signal: Signal) {
        self.sweep = Some(signal);
        tree::signal(signal, self.inherited.is_pid1);
    }
}
