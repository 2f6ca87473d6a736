//! From what the kernel reports to the core's events.

use crate::supervisor::{Arrival, Event, Exit, Signal, SpawnError, WorkerId};
use crate::sys::notify::{self, NotifySocket};
use crate::sys::process::{
    NoChildren, RawExit, Reaped, Report, SpawnFailure, Step, read_report, reap,
};
use crate::sys::signals::group_exists;
use crate::sys::start::own_uid;

use super::seconds::Seconds;
use super::token::Token;
use super::tree::{self, Departed};
use super::{Shell, now};

/// How often to look at the queues again where connections keep arriving.
const MOST_READINGS: u32 = 8;

/// How much of one worker's talk is listened to before the others'.
const DATAGRAMS_A_TURN: u32 = 64;

impl Shell {
    /// Waits for the next thing to happen, or the next deadline.
    pub(super) fn wait(&mut self) {
        let timeout = self
            .supervisor
            .next_deadline()
            .map(|deadline| u64::try_from(deadline.since(now()).as_millis()).unwrap_or(u64::MAX));
        let ready = match self.poller.wait(timeout) {
            Ok(ready) => ready,
            // Only a bug of clinit's own brings one of epoll_wait(2)'s errors,
            // and process 1 must not spin on it.
            Err(error) => {
                log::error!("cannot wait for events: {error}");
                return;
            }
        };
        for ready in ready.iter() {
            match Token::unpack(ready) {
                Some(Token::Signals) if self.read_signals() => self.credit_workers(),
                Some(Token::Report(index)) => self.read_report(index),
                Some(Token::Notify(index)) => self.read_notify(index),
                Some(Token::Signals) | None => {}
            }
        }
    }

    /// Takes in every signal that is pending. Returns whether one told of an
    /// arrival.
    fn read_signals(&mut self) -> bool {
        let mut arrivals = false;
        loop {
            let received = match self.signals.next() {
                Ok(Some(received)) => received,
                Ok(None) => return arrivals,
                Err(error) => {
                    log::error!("cannot read signals: {error}");
                    return arrivals;
                }
            };
            if let Some(descriptor) = received.arrival() {
                self.listeners.arrived(descriptor);
                arrivals = true;
                continue;
            }
            let Some(signal) = Signal::from_number(received.number) else {
                continue;
            };
            let from_kernel = received.from_kernel();
            // What clinit's own writing to a closed pipe raised.
            if signal == Signal::PIPE && received.pid == std::process::id() {
                continue;
            }
            if !(signal == Signal::CHLD && from_kernel) {
                log::debug!("received {signal} from pid {}", received.pid);
            }
            let value = received.value;
            self.events.push_back(Event::Signal(Arrival {
                signal,
                value,
                from_kernel,
            }));
        }
    }

    /// Reads whether a worker's exec succeeded.
    fn read_report(&mut self, index: u32) {
        let Some(worker) = self.workers.at(index) else {
            return;
        };
        let Some(report) = &worker.report else {
            return;
        };
        let id = worker.id;
        match read_report(report) {
            Report::Pending => return,
            Report::Executed => self.events.push_back(Event::Executed(id)),
            Report::Failed(failure) => worker.failure = Some(failure),
        }
        // Closed, it is no longer polled.
        worker.report = None;
    }

    fn read_notify(&mut self, index: u32) {
        let worker_uid = self.plan.uid();
        let Some(worker) = self.workers.at(index) else {
            return;
        };
        let Some(socket) = &worker.notify else {
            return;
        };
        if says_ready(socket, worker_uid) {
            self.events.push_back(Event::Ready(worker.id));
        }
    }

    /// How many connections wait in each queue, at a moment at which every
    /// arrival has been counted: what waits and what came belong together.
    pub(super) fn settle_queues(&mut self) -> Vec<u32> {
        let mut waiting = self.listeners.waiting();
        for _ in 0..MOST_READINGS {
            if !self.read_signals() {
                break;
            }
            waiting = self.listeners.waiting();
        }
        waiting
    }

    /// Notes which workers run, or were reaped just now, that a connection
    /// has been taken beside.
    fn credit_workers(&mut self) {
        let waiting = self.settle_queues();
        for worker in self.workers.iter_mut() {
            worker.served = worker.served || self.listeners.taken_since(&worker.baseline, &waiting);
        }
        if self.workers.iter_mut().all(|worker| worker.served) {
            self.listeners.unwatch();
        }
    }

    /// Reaps every child that has exited (invariant 1), and looks whose groups
    /// and whether the whole tree are gone by that.
    pub(super) fn reap(&mut self) {
        let mut anyone = true;
        loop {
            match reap() {
                Ok(Some(reaped)) => self.reaped(reaped),
                Ok(None) => break,
                Err(NoChildren) => {
                    anyone = false;
                    break;
                }
            }
        }
        for (id, group) in self.workers.leftovers() {
            if !group_exists(group) {
                self.events.push_back(Event::GroupGone(id));
            }
        }
        match self.sweep {
            Some(_) if !anyone => self.events.push_back(Event::TreeGone),
            // Whoever lost a parent by that is a child now.
            Some(Signal::KILL) if !self.inherited.is_pid1 => tree::signal(Signal::KILL, false),
            Some(_) | None => {}
        }
    }

    fn reaped(&mut self, Reaped { pid, exit }: Reaped) {
        let exit = exit_of(exit);
        if !self.workers.has_main(pid) {
            log::trace!(pid; "reaped an orphan that {exit}");
            return;
        }
        // Its last word on its exec may be unread.
        if let Some(index) = self.workers.reaped(pid).map(|worker| worker.id.index()) {
            self.read_report(index);
            self.main_reaped(index, exit);
        }
    }

    fn main_reaped(&mut self, index: u32, exit: Exit) {
        self.credit_workers();
        let Some(worker) = self.workers.at(index) else {
            return;
        };
        let (id, slot, pid) = (worker.id, worker.slot, worker.pid);
        if let Some(failure) = worker.failure {
            self.events
                .push_back(Event::SpawnFailed(id, spawn_error(failure)));
            return;
        }
        let served = worker.served;
        let age = now().since(worker.started);
        let departed = Departed {
            pid,
            started_ticks: worker.started_ticks,
            age,
        };
        let backgrounded = exit == Exit::Code(0)
            && self.plan.is_cluster()
            && tree::left_a_server(&departed, &self.workers, &self.listeners);
        let memory = if self.closing.killed_for_memory(exit) {
            ", out of memory by the kernel's count"
        } else {
            ""
        };
        log::info!(slot, pid; "worker {exit} after {}{memory}", Seconds(age));
        self.closing.note_exit(exit, self.supervisor.is_serving());
        self.events.push_back(Event::Exited {
            worker: id,
            exit,
            served,
            backgrounded,
        });
    }

    /// Lets go of what clinit holds of a worker.
    pub(super) fn forget(&mut self, id: WorkerId) {
        drop(self.workers.remove(id));
    }
}

/// Reads what is waiting and returns whether `READY=1` was in it, from someone
/// who may say so (`sd_notify(3)`).
fn says_ready(socket: &NotifySocket, worker_uid: Option<u32>) -> bool {
    let mut buffer = [0; notify::LONGEST];
    let mut ready = false;
    for _ in 0..DATAGRAMS_A_TURN {
        let datagram = match socket.receive(&mut buffer) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => break,
            Err(error) => {
                log::warn!("cannot read a notification: {error}");
                break;
            }
        };
        let (pid, uid) = (datagram.pid, datagram.uid);
        if datagram.truncated {
            log::warn!(pid; "a notification of more than {} bytes is ignored", notify::LONGEST);
        } else if ![Some(0), Some(own_uid()), worker_uid].contains(&Some(uid)) {
            log::warn!(pid, uid; "a notification is ignored: it comes from another user");
        } else {
            let text = buffer.get(..datagram.length).unwrap_or_default();
            ready |= text
                .split(|&byte| byte == b'\n')
                .any(|line| line == b"READY=1");
        }
    }
    ready
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
        _ if failure.passes() => SpawnError::Exhausted,
        Step::Exec if failure.is_not_found() => SpawnError::NotFound,
        Step::Exec => SpawnError::NotExecutable,
        Step::Descriptors
        | Step::Setgroups
        | Step::Setgid
        | Step::Setuid
        | Step::Chdir
        | Step::Affinity
        | Step::ParentGone => SpawnError::Setup,
    }
}
