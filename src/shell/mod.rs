//! The shell: waits for events, tells the core, performs its actions.
//!
//! One thread and one epoll. Whatever fails here becomes an event; once the
//! loop runs, nothing returns an error.

mod abandoned;
mod background;
mod backlog;
mod capture;
mod client;
mod closing;
mod control;
mod cpus;
mod emptying;
mod ends;
mod handover;
mod hanging;
mod lanes;
mod listeners;
mod log;
mod main_process;
mod manager;
mod memory;
mod notes;
mod notify;
mod owing;
mod pause;
mod perform;
mod plan;
mod proof;
mod reaping;
mod resizing;
mod seconds;
mod start;
mod terminal;
mod token;
mod tree;
mod voice;
mod wait;
mod workers;

use std::collections::VecDeque;
use std::time::Duration;

use crate::config;
use crate::supervisor::policy::Ready;
use crate::supervisor::{Cause, Event, Now, Outcome, Signal, Supervisor, Time};
use crate::sys::clock;
use crate::sys::poll::Poller;
use crate::sys::random::Jitter;
use crate::sys::signals::SignalQueue;
use crate::sys::start::let_go;
use crate::table::Table;
use backlog::Backlog;
use capture::Capture;
use closing::Closing;
use control::Control;
use emptying::Emptying;
use ends::End;
use hanging::Hanging;
use lanes::Lanes;
use listeners::Listeners;
use manager::Manager;
use memory::Memory;
use plan::Plan;
use resizing::Resizing;
pub use start::run;
use voice::Voice;
use workers::Workers;

pub use crate::sys::start::{Inherited, arguments};

/// Clinit, running.
struct Shell {
    inherited: Inherited,
    poller: Poller,
    signals: SignalQueue,
    /// What the kernel raises because clinit gives its terminal away.
    ignored_once: Vec<Signal>,
    /// Signals that the child has no room for.
    backlog: Backlog,
    supervisor: Supervisor,
    plan: Plan,
    /// What it says by another init's name.
    voice: Voice,
    /// What it shares with other inits.
    plain: config::Plain,
    /// What shows that a worker is ready.
    ready: Ready,
    /// How long a worker may fall silent that says it is alive.
    hang_timeout: Option<Duration>,
    listeners: Listeners,
    lanes: Lanes,
    /// Whether arrivals may be told of. They are sent in clinit's name, and a
    /// worker that shares the socket can have SIGKILL sent in their place: so
    /// not where it could not send that itself.
    may_be_told: bool,
    capture: Capture,
    /// Workers that are to take what waits for them before they stop.
    emptying: Emptying,
    workers: Workers,
    /// The CPUs that the number of workers follows.
    resizing: Resizing,
    /// How much memory a worker may have.
    memory: Memory,
    /// What waits for workers that may hang.
    hanging: Hanging,
    /// Why the last worker of each slot ended.
    ends: Table<u32, End>,
    /// What has happened and the core does not know yet.
    events: VecDeque<Event>,
    /// Whether there may be children to reap that no signal will tell of.
    unreaped: bool,
    /// The group that the terminal was lent to.
    lent_to: Option<i32>,
    /// What the rest of the tree has been sent, once it has.
    sweep: Option<Signal>,
    /// How often in a row there was no room for a worker.
    exhausted: u32,
    /// Whether the workers have been looked at for masters among them.
    looked_for_masters: bool,
    /// Where people and programs talk to it.
    control: Control,
    /// Who started clinit, and is told how it fares.
    manager: Manager,
    closing: Closing,
    jitter: Jitter,
    outcome: Option<Outcome>,
}

impl Shell {
    /// Runs to the end and returns the exit code.
    fn run(mut self) -> u8 {
        loop {
            self.catch_up();
            self.tell_manager();
            if let Some(mut outcome) = self.outcome {
                if let Cause::CannotRun(_) = outcome.cause {
                    outcome.code = self.voice.code_of(outcome.code);
                }
                outcome.code = self.plain.exit_code(outcome.code);
                self.closing.say(outcome, now());
                return outcome.code;
            }
            self.lanes.settle(now());
            self.tell_arrivals();
            self.wait();
        }
    }

    /// Tells the core everything that has happened, and then that time has
    /// passed: a worker that left just before its deadline has left.
    fn catch_up(&mut self) {
        loop {
            self.tell_events();
            if self
                .supervisor
                .next_deadline()
                .is_some_and(|deadline| deadline <= now())
            {
                self.step(Event::DeadlineReached);
            }
            self.lanes.look(now());
            self.lanes.revive_last(now());
            self.look_at_doubtful();
            self.look_for_emptied();
            self.look_for_cpus();
            self.look_for_hung();
            self.look_at_memory();
            self.resume_accepting();
            self.send_backlog();
            self.reap();
            if self.events.is_empty() || self.outcome.is_some() {
                return;
            }
        }
    }

    /// Tells the core what has happened so far.
    fn tell_events(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        let now = Now {
            time: now(),
            entropy: self.jitter.draw(),
        };
        if let Event::GroupGone(worker) | Event::SpawnFailed(worker, _) = event {
            // Before its slot's next worker, which takes its lanes over.
            self.lanes.worker_gone(worker, now.time);
        }
        if let Event::Executed(_) = event
            && !self.plan.is_cluster()
        {
            // It has its own, and is never started again.
            let_go();
        }
        if let Event::Alive(worker, _) = event {
            self.lanes.change().vouches(worker);
        }
        self.observe_event(event);
        for action in self.supervisor.step(event, now) {
            self.perform(action);
        }
        if let Event::GroupGone(worker) | Event::SpawnFailed(worker, _) = event {
            self.forget(worker);
        }
        self.look_at_readiness();
    }
}

/// Now, for the core: milliseconds of the monotonic clock.
fn now() -> Time {
    Time::from_millis(clock::monotonic_ms())
}
