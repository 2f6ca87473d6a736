//! The shell: waits for events, tells the core, performs its actions.
//!
//! One thread and one epoll. Whatever fails here becomes an event; once the
//! loop runs, nothing returns an error.

mod abandoned;
mod background;
mod capture;
mod closing;
mod cpus;
mod emptying;
mod lanes;
mod listeners;
mod log;
mod notes;
mod perform;
mod plan;
mod proof;
mod reaping;
mod seconds;
mod start;
mod token;
mod tree;
mod wait;
mod workers;

use std::collections::VecDeque;

use crate::supervisor::policy::Ready;
use crate::supervisor::{Event, Now, Outcome, Signal, Supervisor, Time};
use crate::sys::poll::Poller;
use crate::sys::signals::SignalQueue;
use crate::sys::{clock, random};
use capture::Capture;
use closing::Closing;
use emptying::Emptying;
use lanes::Lanes;
use listeners::Listeners;
use plan::Plan;
pub use start::run;
use workers::Workers;

pub use crate::sys::start::{Inherited, arguments};

/// Clinit, running.
struct Shell {
    inherited: Inherited,
    poller: Poller,
    signals: SignalQueue,
    supervisor: Supervisor,
    plan: Plan,
    /// What shows that a worker is ready.
    ready: Ready,
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
    /// What has happened and the core does not know yet.
    events: VecDeque<Event>,
    /// Whether there may be children to reap that no signal will tell of.
    unreaped: bool,
    /// What the rest of the tree has been sent, once it has.
    sweep: Option<Signal>,
    /// How often in a row there was no room for a worker.
    exhausted: u32,
    /// Whether the workers have been looked at for masters among them.
    looked_for_masters: bool,
    closing: Closing,
    outcome: Option<Outcome>,
}

impl Shell {
    /// Runs to the end and returns the exit code.
    fn run(mut self) -> u8 {
        loop {
            self.catch_up();
            if let Some(outcome) = self.outcome {
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
            self.look_for_empty_lanes();
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
            entropy: random::entropy(),
        };
        if let Event::GroupGone(worker) | Event::SpawnFailed(worker, _) = event {
            // Before its slot's next worker, which takes its lanes over.
            self.lanes.worker_gone(worker, now.time);
        }
        for action in self.supervisor.step(event, now) {
            self.perform(action);
        }
        if let Event::GroupGone(worker) | Event::SpawnFailed(worker, _) = event {
            self.forget(worker);
        }
    }
}

/// Now, for the core: milliseconds of the monotonic clock.
fn now() -> Time {
    Time::from_millis(clock::monotonic_ms())
}
