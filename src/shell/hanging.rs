//! Workers that take nothing of what waits for them.

use crate::port::LaneId;
use crate::supervisor::{Event, Signal, WorkerId};
use crate::sys::diag::{Handshake, waiting};
use crate::sys::errno::describe;
use crate::sys::listener::Listener;
use crate::table::Table;

use super::log;
use super::{Shell, now};

/// What waited at the ports of suspected lanes, when they became so.
#[derive(Default)]
pub(super) struct Hanging(Table<LaneId, Vec<Handshake>>);

impl Shell {
    /// Looks for them, where that is due, and tells the core.
    pub(super) fn look_for_hung(&mut self) {
        let now = now();
        if self
            .lanes
            .ports
            .next_look_for_hung()
            .is_none_or(|due| due > now)
        {
            return;
        }
        let evidence = &self.hanging.0;
        let untouched = |lane, port| {
            evidence.get(&lane).is_some_and(|before| {
                let still = waits_at(port);
                !before.is_empty() && before.iter().all(|known| still.contains(known))
            })
        };
        let found = self.lanes.look_for_hung(now, &untouched);
        let ports = &self.lanes.ports;
        self.hanging.0.retain(|lane, _| ports.is_suspected(*lane));
        for lane in found.suspected {
            let port = self.lanes.socket(lane).and_then(Listener::port);
            let waits = port.map(waits_at).unwrap_or_default();
            self.hanging.0.insert(lane, waits);
        }
        self.events.extend(found.hung.into_iter().map(Event::Hung));
    }

    /// A worker is sent a signal: one that clinit itself stops is not expected
    /// to do anything until it goes on.
    pub(super) fn excuse(&mut self, worker: WorkerId, signal: Signal) {
        if signal == Signal::STOP || signal == Signal::CONT {
            self.lanes.change().excuse(worker, signal == Signal::STOP);
        }
    }
}

/// The connections at a port that nobody has accepted.
fn waits_at(port: u16) -> Vec<Handshake> {
    waiting(port).unwrap_or_else(|error| {
        let why = describe(&error);
        log::debug!("cannot list what waits at port {port}: {why}");
        Vec::new()
    })
}
