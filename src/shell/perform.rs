//! From the core's actions to system calls.

use std::fmt;
use std::io;

use crate::config::Level;
use crate::supervisor::{Action, Event, Served, Signal, SpawnError, Target, WorkerId};
use crate::sys::binding::set_nonblocking;
use crate::sys::notify::NotifySocket;
use crate::sys::process::{Spawned, has_children};
use crate::sys::signals::{is_full, stop_self};
use crate::sys::{cgroup, errno, proc};

use super::backlog::{Full, Passed};
use super::log;
use super::notify::Said;
use super::plan::Place;
use super::token::Token;
use super::workers::{Presence, Worker};
use super::{Shell, now, tree};

impl Shell {
    pub(super) fn perform(&mut self, action: Action) {
        self.observe_action(action);
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
            } => {
                self.voice.forwarded(signal);
                self.signal(worker, to, signal, value);
            }
            Action::Admit(worker) => {
                self.manager.admitted(worker);
                self.admit(worker);
            }
            Action::TurnAway(worker) => {
                self.manager.left(worker);
                self.turn_away(worker);
            }
            Action::SuspendSelf => {
                if !self.inherited.is_pid1 {
                    stop_self();
                }
            }
            Action::StopJob {
                signal,
                extent,
                told,
            } => self.stop_job(signal, extent, told),
            Action::LendTerminal(worker, claim) => self.lend_terminal(worker, claim),
            Action::CloseListeners => {
                self.closing.draining_since = Some(now());
                self.listeners.close();
                self.lanes.keep_out();
            }
            Action::TermTree => self.sweep(Signal::TERM),
            Action::KillTree => self.sweep(Signal::KILL),
            Action::Note(note) => self.note(note),
            Action::Exit(outcome) => {
                self.take_terminal_back();
                self.outcome = Some(outcome);
            }
        }
    }

    fn spawn(&mut self, id: WorkerId, slot: u32, generation: u32) -> io::Result<()> {
        let notify = self.open_notify(id, slot)?;
        self.lease_lanes(id, slot)?;
        let baseline = self.baseline(id);
        let place = Place {
            slot,
            slots: self.supervisor.instances(),
            generation,
            notify: notify.as_ref().map(|(_, address)| address.as_str()),
        };
        let descriptors = self.listeners.descriptors(id, &self.lanes);
        let spawned = self
            .plan
            .spawn(place, &self.listeners, &descriptors, &self.inherited)?;
        let Spawned {
            pid,
            report,
            foreground,
        } = spawned;
        self.lent_to = foreground.then_some(pid);
        let level = if self.plan.is_cluster() {
            Level::Debug
        } else {
            Level::Info
        };
        log::log!(level, slot, pid; "worker spawned");
        self.voice.spawned(self.plan.program(), pid);
        self.lanes.copied(id);
        self.workers.insert(Worker {
            id,
            slot,
            generation,
            pid,
            started: now(),
            report: None,
            failure: None,
            notify: notify.map(|(socket, _)| socket),
            notifications: None,
            baseline,
            served: Served::Unknown,
            presence: Presence::Main,
            memory: None,
            end: None,
            killed: false,
            has_ended: false,
            main: None,
            said: Said::default(),
        });
        // From here on the process is there, and its exit tells what this
        // does not.
        match self.poller.add(&report, Token::Report(id).pack()) {
            Ok(()) => {
                if let Some(worker) = self.workers.get_mut(id) {
                    worker.report = Some(report);
                }
            }
            Err(error) => {
                log::warn!(slot, pid; "cannot watch a worker's start: {}", errno::describe(&error));
                if self.plan.is_filtered() {
                    // Nobody would learn how to answer its calls.
                    self.end_unanswered(id, &error);
                } else {
                    self.events.push_back(Event::Executed(id));
                }
            }
        }
        Ok(())
    }

    /// Leases to a worker a lane of each listener that has lanes.
    fn lease_lanes(&mut self, id: WorkerId, slot: u32) -> io::Result<()> {
        self.look_at_doubtful_again();
        self.lanes.revive(now());
        self.lanes.change().starting(id, slot);
        let listeners: Vec<_> = self.listeners.with_lanes().collect();
        for listener in listeners {
            let lane = self.lanes.lease(id, listener)?;
            // Its last worker may have made it what suited that one.
            if let Some(socket) = self.lanes.descriptor(lane)
                && !self.lanes.ports.is_shared(lane)
            {
                set_nonblocking(socket, false)?;
            }
        }
        Ok(())
    }

    /// A worker is ready: it is given new connections.
    fn admit(&mut self, id: WorkerId) {
        self.look_for_abandoned(id, None);
        self.lanes.admit(id, now());
        self.watch(id);
    }

    /// The socket that the worker tells of its readiness through, polled, and
    /// its address. A worker can do without.
    fn open_notify(&self, id: WorkerId, slot: u32) -> io::Result<Option<(NotifySocket, String)>> {
        if !self.plan.is_cluster() {
            return Ok(None);
        }
        let opened = NotifySocket::open().and_then(|socket| {
            self.poller.add(&socket, Token::Notify(id).pack())?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                let address = socket.name();
                Ok(Some((socket, address)))
            }
            Err(error) if errno::passes(&error) => Err(error),
            Err(error) => {
                let error = errno::describe(&error);
                log::warn!(slot; "no socket for a worker's readiness: {error}");
                Ok(None)
            }
        }
    }

    fn cannot_spawn(&mut self, id: WorkerId, slot: u32, error: &io::Error) {
        let why = errno::describe(error);
        let error = if errno::passes(error) {
            self.note_exhausted(slot, &why);
            SpawnError::Exhausted
        } else {
            log::error!(slot; "cannot start a worker: {why}");
            SpawnError::Setup
        };
        self.events.push_back(Event::SpawnFailed(id, error));
    }

    /// Tells that there is no room, less often the longer it lasts.
    pub(super) fn note_exhausted(&mut self, slot: u32, why: &dyn fmt::Display) {
        self.exhausted = self.exhausted.saturating_add(1);
        if self.exhausted.is_power_of_two() {
            let limit = cgroup::pids_limit(&cgroup::Root::system())
                .map(|(current, max)| {
                    format!(" ({current} of {max} pids of this container are in use)")
                })
                .unwrap_or_default();
            log::warn!(slot; "cannot start a worker: {why}{limit}");
        }
    }

    fn signal(&mut self, id: WorkerId, to: Target, signal: Signal, value: Option<u64>) {
        self.excuse(id, signal);
        let passed_on = Passed {
            worker: id,
            to,
            signal,
            value,
        };
        if self.backlog.is_behind(signal) {
            self.backlog.keep(passed_on);
            return;
        }
        if self.pass_on(passed_on) == Err(Full) {
            self.has_no_room(passed_on);
        }
    }

    /// Sends a signal, unless whom it is for has no room for it.
    pub(super) fn pass_on(&mut self, passed_on: Passed) -> Result<(), Full> {
        let Passed {
            worker: id,
            to,
            signal,
            value,
        } = passed_on;
        let Some(worker) = self.workers.get_mut(id) else {
            return Ok(());
        };
        worker.killed |= signal == Signal::KILL;
        let (pid, slot) = (worker.main_pid(), worker.slot);
        let sent = match to {
            Target::Main => worker.signal_main(signal, value),
            Target::Group => worker.signal_group(signal, value),
        };
        match sent {
            Err(error) if value.is_some() && is_full(&error) => return Err(Full),
            Err(error) => {
                log::warn!(slot, pid; "cannot send {signal} to a worker: {}", errno::describe(&error));
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// Sends a signal to whoever can be found below clinit. Without a /proc that
    /// is who is left of a child's own group.
    fn signal_tree(&self, signal: Signal) {
        if self.inherited.is_pid1 || proc::is_ours() {
            tree::signal(signal, self.inherited.is_pid1);
            return;
        }
        if signal != Signal::CONT {
            log::warn!("without a /proc, {signal} goes to the child's own group alone");
        }
        let groups = self
            .workers
            .iter()
            .filter(|worker| worker.presence == Presence::Group);
        for worker in groups {
            if let Err(error) = worker.signal_group(signal, None) {
                log::debug!("cannot send {signal}: {}", errno::describe(&error));
            }
        }
    }

    fn sweep(&mut self, signal: Signal) {
        self.sweep = Some(signal);
        // Mostly nobody is left, and then there is no need to look for whom to
        // signal: clinit has no child, so it has no descendant.
        if has_children() {
            self.take_terminal_back();
            self.signal_tree(signal);
            if signal == Signal::TERM {
                // Who is stopped hears it only when it goes on.
                self.signal_tree(Signal::CONT);
            }
        }
    }
}
