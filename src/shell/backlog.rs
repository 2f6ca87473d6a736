//! Signals that the child has no room for.
//!
//! A real-time signal that comes with a value is queued or refused, as
//! `RLIMIT_SIGPENDING` has it (`sigqueue(3)`); every other one is at least made
//! pending. One that was queued for clinit is promised to whoever sent it, and
//! in init mode the child stands for clinit: so it is kept until there is room,
//! and no further real-time signal is taken in before. They wait in the
//! kernel, where the sender's next is refused as it would be without clinit;
//! standard ones, which never need room, pass them by. In cluster mode one
//! worker is not to hold up the others, and loses the value.

use std::collections::VecDeque;
use std::time::Duration;

use crate::supervisor::{Signal, Target, Time, WorkerId};

use super::log;
use super::{Shell, now};

/// How long to wait for room: nobody tells of it. It doubles up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// The last of the signals that merge while they wait.
const LAST_STANDARD: i32 = 31;

/// A signal on its way to a worker.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    pub(super) worker: WorkerId,
    pub(super) to: Target,
    pub(super) signal: Signal,
    pub(super) value: Option<u64>,
}

/// Whom a signal is for has no room for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What has to wait, in its order. There are no more than were read in one
/// turn of the loop: none is read while any waits.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Passed>,
    pause: Duration,
    retry_at: Option<Time>,
}

impl Backlog {
    /// Whether this signal has to wait too, behind those that do.
    pub(super) fn is_behind(&self, signal: Signal) -> bool {
        !self.waiting.is_empty() && signal.number() > LAST_STANDARD
    }

    pub(super) fn keep(&mut self, passed_on: Passed) {
        self.waiting.push_back(passed_on);
    }

    /// When to look for room again.
    pub(super) fn retry_at(&self) -> Option<Time> {
        self.retry_at
    }

    fn wait_for(&mut self, pause: Duration) {
        self.pause = pause;
        self.retry_at = Some(now() + pause);
    }
}

impl Shell {
    /// Has a signal wait for which there is no room, or sends it without its
    /// value.
    pub(super) fn has_no_room(&mut self, passed_on: Passed) {
        if self.plan.is_cluster() {
            let value = None;
            let _ = self.pass_on(Passed { value, ..passed_on });
            let signal = passed_on.signal;
            log::warn!("a worker's queue of signals is full: {signal} loses its value");
            return;
        }
        log::debug!("the child's queue of signals is full");
        self.backlog.keep(passed_on);
        self.backlog.wait_for(FIRST_PAUSE);
        self.signals.read_real_time(false);
    }

    /// Sends what has waited for room, where it is time to look for some.
    pub(super) fn send_backlog(&mut self) {
        if self.backlog.retry_at.is_none_or(|at| at > now()) {
            return;
        }
        let mut any = false;
        while let Some(passed_on) = self.backlog.waiting.front().copied() {
            if self.pass_on(passed_on) == Err(Full) {
                let pause = if any {
                    FIRST_PAUSE
                } else {
                    (self.backlog.pause * 2).min(LAST_PAUSE)
                };
                self.backlog.wait_for(pause);
                return;
            }
            any = true;
            let _ = self.backlog.waiting.pop_front();
        }
        self.backlog.retry_at = None;
        self.signals.read_real_time(true);
    }
}
