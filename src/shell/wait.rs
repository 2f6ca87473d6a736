//! From what the kernel reports to the core's events.

use std::io;
use std::thread;
use std::time::Duration;

use crate::supervisor::{Arrival, Event, Signal, Time, WorkerId, millis};
use crate::sys::binding::EIO;
use crate::sys::errno::describe;
use crate::sys::process::{Report, SpawnFailure, Step, read_report};
use crate::sys::signals::{Received, send_group};

use super::log;
use super::token::Token;
use super::workers::Presence;
use super::{Shell, now};

/// How much of one worker's talk is listened to before the others'.
pub(super) const MOST_A_TURN: u32 = 64;

/// How often signals are taken in, as many as come at once, before children
/// are reaped and deadlines met.
const MOST_BATCHES_A_TURN: u32 = 4;

/// How long to wait where waiting fails.
const PAUSE: Duration = Duration::from_millis(100);

impl Shell {
    /// Waits for the next thing to happen, or the next deadline.
    pub(super) fn wait(&mut self) {
        let until = |deadline: Time| millis(deadline.since(now()));
        let deadlines = [
            self.supervisor.next_deadline(),
            self.lanes.ports.next_look(),
            self.lanes.next_revival(),
            self.emptying.next_look(),
            self.resizing.next_look(),
            self.lanes.ports.next_look_for_hung(),
            self.memory.next_look(),
            self.control.paused_until(),
            self.manager.next_deadline(),
            self.backlog.retry_at(),
        ];
        let timeout = deadlines.into_iter().flatten().min().map(until);
        let timeout = if self.unreaped { Some(0) } else { timeout };
        if self.hears_signals_alone() {
            if let Some(received) = self.signals.wait(timeout) {
                let is_an_end = Signal::CHLD.number() == received.number && received.from_kernel();
                self.received(received);
                if !is_an_end {
                    self.read_signals();
                }
            }
            return;
        }
        let ready = match self.poller.wait(timeout) {
            Ok(ready) => ready,
            // Only a bug of clinit's own brings one of epoll_wait(2)'s errors,
            // and process 1 must not spin on it.
            Err(error) => {
                log::error!("cannot wait for events: {}", describe(&error));
                thread::sleep(PAUSE);
                return;
            }
        };
        for token in ready.tokens() {
            match Token::unpack(token) {
                Some(Token::Signals) => self.take_in_signals(),
                Some(Token::Report(worker)) => self.read_report(worker),
                Some(Token::Notify(worker)) => self.read_notify(worker),
                Some(Token::Calls(worker)) => self.answer_calls(worker),
                Some(Token::Cpus) => self.count_cpus(),
                Some(Token::Control) => self.accept_clients(),
                Some(Token::Client(client)) => self.serve_client(client),
                Some(Token::Main(worker)) => self.look_at_main(worker),
                Some(Token::Ends) => self.lanes.look_for_ends(now()),
                None => {}
            }
        }
    }

    /// Whether nothing is waited for but signals and deadlines: in init mode,
    /// once the child runs.
    fn hears_signals_alone(&self) -> bool {
        !self.plan.is_cluster()
            && self.backlog.retry_at().is_none()
            && self.workers.iter().all(|worker| worker.report.is_none())
    }

    fn take_in_signals(&mut self) {
        if self.read_signals() != Read::Nothing {
            self.credit_workers();
        }
    }

    /// Takes in signals that are pending, but not without end: someone may
    /// send faster than they can be read.
    pub(super) fn read_signals(&mut self) -> Read {
        let mut read = Read::Nothing;
        for _ in 0..MOST_BATCHES_A_TURN {
            let batch = match self.signals.read() {
                Ok(batch) => batch,
                Err(error) => {
                    log::error!("cannot read signals: {}", describe(&error));
                    return read;
                }
            };
            for received in batch.signals() {
                if self.received(received) {
                    read = Read::Arrivals;
                }
            }
            if !batch.is_full() {
                return read;
            }
        }
        Read::NotAll
    }

    /// Takes one signal in, and returns whether it told of an arrival.
    fn received(&mut self, received: Received) -> bool {
        if let Some(descriptor) = received.arrival() {
            if self.lanes.arrived(descriptor, now()).is_none() {
                self.listeners.arrived(descriptor);
            }
            return true;
        }
        let Some(signal) = Signal::from_number(received.number) else {
            return false;
        };
        let from_kernel = received.from_kernel();
        // What clinit's own writing raised: to a closed pipe, or to a file that
        // may not grow.
        let is_own =
            matches!(signal, Signal::PIPE | Signal::XFSZ) && received.pid == std::process::id();
        // An end, which reaping tells of.
        let is_an_end = signal == Signal::CHLD && from_kernel;
        if received.is_forged() || is_own || is_an_end {
            return false;
        }
        if received.pid == std::process::id() && self.is_ignored_once(signal) {
            return false;
        }
        self.voice.received(signal);
        log::debug!("received {signal} from pid {}", received.pid);
        self.events.push_back(Event::Signal(Arrival {
            signal,
            value: received.value,
            from_kernel,
        }));
        false
    }

    fn is_ignored_once(&mut self, signal: Signal) -> bool {
        let position = self.ignored_once.iter().position(|it| *it == signal);
        position
            .map(|it| self.ignored_once.swap_remove(it))
            .is_some()
    }

    /// Reads whether a worker's exec succeeded.
    pub(super) fn read_report(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        let Some(report) = &worker.report else {
            return;
        };
        let mut unanswered = None;
        loop {
            match read_report(report) {
                Report::Pending => return,
                Report::Filtered(notifications) => {
                    let watched = self.poller.add(&notifications, Token::Calls(id).pack());
                    match watched {
                        Ok(()) => worker.notifications = Some(notifications),
                        Err(error) => {
                            let why = describe(&error);
                            log::warn!("cannot take part in a worker's calls: {why}");
                            unanswered = Some(error);
                            break;
                        }
                    }
                }
                Report::Executed => {
                    self.exhausted = 0;
                    self.events.push_back(Event::Executed(id));
                    break;
                }
                Report::Failed(failure) if failure.step == Step::Listener => {
                    unanswered = Some(io::Error::from_raw_os_error(failure.errno));
                    break;
                }
                Report::Failed(failure) => {
                    worker.failure = Some(failure);
                    break;
                }
            }
        }
        // Closing it is not enough: a child that was forked meanwhile and has
        // not reached its exec holds a copy, which would go on being polled.
        let _ = self.poller.remove(report);
        worker.report = None;
        self.lanes.copies_closed(id, now());
        if let Some(error) = unanswered {
            self.end_unanswered(id, &error);
        }
    }

    /// Kills a worker whose calls cannot be answered: it would go on, and each
    /// of them would fail.
    pub(super) fn end_unanswered(&mut self, id: WorkerId, error: &io::Error) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        if worker.presence != Presence::Nobody
            && let Err(error) = send_group(worker.pid, Signal::KILL.number())
        {
            log::warn!(
                "cannot kill a worker that nobody answers: {}",
                describe(&error)
            );
        }
        worker.failure = Some(SpawnFailure {
            step: Step::Listener,
            errno: error.raw_os_error().unwrap_or(EIO),
        });
    }
}

/// What reading signals brought, as far as it matters to the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// No arrival.
    Nothing,
    /// Arrivals, all that there were.
    Arrivals,
    /// There may be more to read.
    NotAll,
}
