//! Lanes that a worker has shut down for all who have them (`shutdown(2)`), as
//! servers do that stop: their queues are reset, and they leave their groups.

use std::time::Duration;

use crate::port::LaneId;
use crate::supervisor::{Time, WorkerId};
use crate::sys::errno::describe;

use super::super::log;
use super::Lanes;

/// How long a lane is left alone, for the worker's own threads to see that
/// accept(2) fails there: many a server wakes them by that.
const SEEN: Duration = Duration::from_millis(20);

/// How often the ends are asked for in a row: a worker may shut down and
/// listen without end.
const MOST_LOOKS: u32 = 8;

impl Lanes {
    /// Takes in which lanes have been shut down. What nobody has listens again
    /// at once; where nothing else listens at the address, soon; and what a
    /// worker has that serves no more, when that one has let go of it.
    pub(in crate::shell) fn look_for_ends(&mut self, now: Time) {
        self.take_in_ends(now);
        self.revive_free();
        let ports = &self.ports;
        if self.revive_at.is_none() && self.silent.iter().any(|lane| ports.is_silent(*lane)) {
            self.revive_at = Some(now + SEEN);
        }
    }

    /// When [`Self::revive_last`] is due.
    pub(in crate::shell) fn next_revival(&self) -> Option<Time> {
        self.revive_at
    }

    /// Makes addresses be listened at again, where that is due.
    pub(in crate::shell) fn revive_last(&mut self, now: Time) {
        if self.revive_at.is_some_and(|due| due <= now) {
            self.revive_at = None;
            self.revive_silent();
        }
    }

    /// Makes good whatever a bind or a new worker may meet: no address of a
    /// worker that lives on is left alone any longer.
    pub(in crate::shell) fn revive(&mut self, now: Time) {
        self.take_in_ends(now);
        // What could not be watched is looked for.
        let ended = |lane: &LaneId| self.socket(*lane).is_some_and(|it| !it.is_listening());
        let listening = |lane: &LaneId| self.ports.listening().any(|known| known == *lane);
        let unwatched = self.unwatched.iter().copied().filter(listening);
        let ended: Vec<LaneId> = unwatched.filter(ended).collect();
        for lane in ended {
            self.shut_down(lane);
        }
        self.revive_free();
        self.revive_silent();
    }

    /// A lane that was bound, or shut down, listens by now.
    pub(in crate::shell) fn joins_group(&mut self, lane: LaneId) {
        self.silent.retain(|known| *known != lane);
        self.change().joins_group(lane);
    }

    /// Makes the lanes of a worker listen that is about to let go of them.
    pub(super) fn revive_lanes_of(&mut self, worker: WorkerId, now: Time) {
        self.take_in_ends(now);
        for lane in self.ports.lanes_of(worker) {
            self.listen_again(lane);
        }
    }

    /// The order in which the ends are told is that in which lanes have left
    /// their groups.
    fn take_in_ends(&mut self, now: Time) {
        for _ in 0..MOST_LOOKS {
            let ended: Vec<LaneId> = match self.ends.wait(Some(0)) {
                Ok(events) => events
                    .tokens()
                    .filter_map(|token| i32::try_from(token).ok())
                    .filter_map(|descriptor| self.by_descriptor.get(&descriptor).copied())
                    .collect(),
                Err(error) => {
                    log::debug!("cannot look for ends: {}", describe(&error));
                    return;
                }
            };
            if ended.is_empty() {
                return;
            }
            for lane in ended {
                self.ended(lane, now);
            }
        }
    }

    fn ended(&mut self, lane: LaneId, now: Time) {
        let Some(socket) = self.socket(lane) else {
            return;
        };
        if self.ports.is_bound(lane) {
            // It is no server: clinit must not keep its connection open.
            if socket.is_connected() {
                for worker in self.ports.lessees(lane) {
                    self.abandoned(worker, lane, now);
                }
            }
        } else if !socket.is_listening() {
            self.shut_down(lane);
        }
    }

    fn shut_down(&mut self, lane: LaneId) {
        log::debug!("a worker has shut down {}", self.local(lane));
        self.change().shut_down(lane);
        self.silent.push(lane);
    }

    fn revive_free(&mut self) {
        let free = self.silent.iter().copied();
        let free: Vec<LaneId> = free.filter(|lane| !self.ports.is_held(*lane)).collect();
        for lane in free {
            self.listen_again(lane);
        }
    }

    fn revive_silent(&mut self) {
        let silent = self.silent.iter().copied();
        let silent: Vec<LaneId> = silent.filter(|lane| self.ports.is_silent(*lane)).collect();
        for lane in silent {
            self.listen_again(lane);
        }
    }

    /// Makes a lane listen again that was shut down (invariant 7 of the core).
    pub(super) fn listen_again(&mut self, lane: LaneId) {
        // At the end late clients are to fail at once.
        if self.closed || !self.silent.contains(&lane) {
            return;
        }
        let Some(socket) = self.socket(lane) else {
            return;
        };
        match socket.revive() {
            Ok(()) => self.joins_group(lane),
            Err(error) => {
                let (local, error) = (socket.local(), describe(&error));
                log::warn!("cannot listen on {local} again: {error}");
            }
        }
    }
}
