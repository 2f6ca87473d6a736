//! The end: from the first request to the last process.

use super::app::{App, KILL_TIMEOUT};
use super::event::{Action, Cause, Note, Outcome};
use super::policy::Mode;
use super::signal::Signal;
use super::time::Time;
use super::{Phase, Supervisor, Turn};

impl Supervisor {
    pub(super) fn request_shutdown(&mut self, signal: Signal, turn: &mut Turn<'_>) {
        self.requests = self.requests.saturating_add(1).min(3);
        match self.phase {
            Phase::Serving => {
                let delay = self.longest(|policy| policy.drain_delay);
                turn.note(Note::ShutdownIn(delay));
                self.each_app(|app| app.stop_replacing(turn));
                self.cause = Some(Cause::Requested(signal));
                if delay.is_zero() {
                    self.begin_drain(Cause::Requested(signal), turn);
                } else {
                    self.phase = Phase::Leaving {
                        until: turn.now.time + delay,
                    };
                }
            }
            Phase::Leaving { .. } => {
                turn.note(Note::DelaySkipped);
                self.begin_drain(Cause::Requested(signal), turn);
                self.each_app(|app| app.hurry(turn));
            }
            Phase::Draining { .. } if self.requests < 3 => {
                turn.note(Note::NextRequestKills);
                self.each_app(|app| app.hurry(turn));
            }
            Phase::Draining { .. } => {
                turn.note(Note::Forced);
                let mut killed = false;
                self.each_app(|app| killed |= app.kill(turn));
                self.killed |= killed;
                self.phase = Phase::Draining {
                    exit_by: turn.now.time + KILL_TIMEOUT,
                };
            }
            Phase::Sweeping { .. } => self.kill_tree(turn.now.time + KILL_TIMEOUT, turn),
            Phase::Killing { .. } | Phase::Over => {}
        }
    }

    /// Stops every worker for good. The first cause stays.
    pub(super) fn begin_drain(&mut self, cause: Cause, turn: &mut Turn<'_>) {
        self.cause.get_or_insert(cause);
        // Where no worker is left there is only the tree to wait for; a request
        // is never to take longer than the grace.
        let orphan_grace = self.longest(|policy| policy.orphan_grace);
        let grace = self.longest(|policy| policy.grace);
        let grace = match (self.mode, cause) {
            (Mode::Cluster, Cause::Requested(_)) if self.is_vacant() => grace.min(orphan_grace),
            _ if self.is_vacant() => orphan_grace,
            _ => grace,
        };
        // Clinit's own end is never later than this.
        let exit_by = turn.now.time + grace + KILL_TIMEOUT;
        self.phase = Phase::Draining { exit_by };
        turn.act(Action::CloseListeners);
        let mut workers = 0;
        self.each_app(|app| workers += app.drain(turn));
        if workers > 0 {
            turn.note(Note::Draining { workers, grace });
        }
        if self.is_vacant() {
            self.begin_sweep(exit_by, turn);
        }
    }

    pub(super) fn begin_sweep(&mut self, exit_by: Time, turn: &mut Turn<'_>) {
        if self.apps.iter().any(|app| app.policy.leaves_survivors) {
            turn.act(Action::TermTree);
            return self.leave(turn);
        }
        let now = turn.now.time;
        let orphans = now + self.longest(|policy| policy.orphan_grace);
        let kill_at = orphans.min(exit_by - KILL_TIMEOUT);
        if kill_at > now {
            self.phase = Phase::Sweeping { kill_at };
            turn.act(Action::TermTree);
        } else {
            self.kill_tree(exit_by.min(now + KILL_TIMEOUT), turn);
        }
    }

    pub(super) fn kill_tree(&mut self, give_up_at: Time, turn: &mut Turn<'_>) {
        self.phase = Phase::Killing { give_up_at };
        turn.act(Action::KillTree);
    }

    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Over;
        let cause = self.cause.unwrap_or(Cause::Finished);
        let statuses = |of: fn(&App) -> Option<u8>| self.apps.iter().find_map(of);
        let code = match cause {
            Cause::Requested(_) if self.killed => 124,
            Cause::Requested(_) => 0,
            Cause::Finished => statuses(|app| app.first_failure).unwrap_or(0),
            Cause::GaveUp => statuses(|app| app.last_status).unwrap_or(0).max(1),
            Cause::CannotRun(error) => error.status(),
        };
        turn.act(Action::Exit(Outcome { cause, code }));
    }
}
