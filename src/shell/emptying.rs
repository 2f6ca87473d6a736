//! Workers that are given no new connection, until none waits for them.

use std::time::Duration;

use crate::supervisor::{Event, Time, WorkerId};
use crate::sys::diag::{Handshake, handshakes};
use crate::table::{Set, Table};

use super::{Shell, now};

/// How soon to look whether a queue is empty, and how seldom at the most: only
/// looking tells.
const SOONEST: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_millis(50);

/// A worker that takes what waits for it.
struct Leaving {
    /// The handshakes that were under way when it was turned away, and may
    /// still join its queue.
    handshakes: Table<u16, Vec<Handshake>>,
    look_at: Time,
    pause: Duration,
}

/// All of them.
#[derive(Default)]
pub(super) struct Emptying(Table<WorkerId, Leaving>);

impl Emptying {
    /// When to look again.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.0.values().map(|leaving| leaving.look_at).min()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }
}

impl Shell {
    /// Steers new connections away from a worker, and looks for those that
    /// are on their way to it.
    pub(super) fn turn_away(&mut self, id: WorkerId) {
        self.lanes.change().turn_away(id);
        self.lanes.settle(now());
        let lanes = self.lanes.ports.lanes_of(id).into_iter();
        let ports: Set<u16> = lanes
            .filter_map(|lane| self.lanes.socket(lane)?.port())
            .collect();
        let under_way = |port: u16| match handshakes(port) {
            Ok(found) => found,
            Err(error) => {
                log::debug!("cannot list the handshakes of port {port}: {error}");
                Vec::new()
            }
        };
        let handshakes = ports.into_iter().map(|port| (port, under_way(port)));
        let leaving = Leaving {
            handshakes: handshakes.collect(),
            look_at: now(),
            pause: SOONEST,
        };
        self.emptying.0.insert(id, leaving);
        self.look_for_empty_lanes();
    }

    /// Tells the core which of them have nothing to take any more.
    pub(super) fn look_for_empty_lanes(&mut self) {
        let now = now();
        let leaving = self.emptying.0.iter();
        let due: Vec<WorkerId> = leaving
            .filter(|(_, leaving)| leaving.look_at <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let waits = self.lanes.awaits(id);
            let Some(leaving) = self.emptying.0.get_mut(&id) else {
                continue;
            };
            leaving.handshakes.retain(|port, before| {
                // Nothing is looked for where nothing was found.
                if !before.is_empty() {
                    match handshakes(*port) {
                        Ok(still) => before.retain(|handshake| still.contains(handshake)),
                        // As far as is known they are still under way.
                        Err(error) => {
                            log::debug!("cannot list the handshakes of port {port}: {error}");
                        }
                    }
                }
                !before.is_empty()
            });
            if waits || !leaving.handshakes.is_empty() {
                leaving.look_at = now + leaving.pause;
                leaving.pause = (leaving.pause * 2).min(SELDOM);
            } else {
                self.emptying.0.remove(&id);
                self.events.push_back(Event::Emptied(id));
            }
        }
    }
}
