//! What there is to tell of clinit and every worker.

use crate::control::{Object, quote};
use crate::supervisor::{View, Whom, millis};
use crate::sys::proc::usage;

use super::super::cpus::Cpus;
use super::super::{Shell, now};
use super::connections::Connections;

impl Shell {
    /// The answer to a request for a status.
    pub(super) fn status(&self, whom: Whom) -> String {
        let facts = &self.control.facts;
        let phase = if self.supervisor.is_leaving() {
            "shutting down"
        } else {
            "serving"
        };
        let connections = Connections::at(self.lanes.ports_in_use());
        let mut workers = Vec::new();
        for view in self.supervisor.views() {
            if whom == Whom::All || whom == Whom::Slot(view.slot) {
                workers.push(self.worker_status(view, &connections));
            }
        }
        let mut listeners = self.lanes.addresses();
        listeners.extend(self.listeners.plain_addresses());
        for address in &mut listeners {
            *address = quote(address);
        }
        let line = Object::line()
            .flag("ok", true)
            .text("app", &facts.app)
            .number("pid", u64::from(std::process::id()))
            .text("version", env!("CARGO_PKG_VERSION"))
            .text("phase", phase)
            .number("uptime_ms", millis(now().since(facts.started)))
            .number("instances", u64::from(self.supervisor.instances()))
            .number("ready", u64::from(self.supervisor.ready()))
            .number("generation", u64::from(self.supervisor.generation()));
        let line = match self.supervisor.reloading() {
            Some(to) => line.number("reloading", u64::from(to)),
            None => line,
        };
        line.text("cpus", &Cpus::count(&facts.sizing).to_string())
            .text("share", facts.share)
            .text("capture", facts.capture)
            .list("listeners", &listeners)
            .list("workers", &workers)
            .finish()
    }

    fn worker_status(&self, view: View, connections: &Connections) -> String {
        let history = self.control.histories.get(&view.slot).copied();
        let history = history.unwrap_or_default();
        let mut of = Object::new()
            .number("slot", u64::from(view.slot))
            .text("state", view.doing.name())
            .number("restarts", history.restarts);
        if let Some(end) = history.last {
            of = of.text("last", &end.reason());
        }
        let Some(id) = view.worker else {
            let generation = u64::from(view.generation);
            return of.number("generation", generation).finish();
        };
        if let Some(worker) = self.workers.get(id) {
            of = of
                .number("pid", u64::from(worker.pid.unsigned_abs()))
                .number("generation", u64::from(worker.generation))
                .number("age_ms", millis(now().since(worker.started)));
            if let Some(count) = connections.of(worker.pid) {
                of = of.number("connections", count);
            }
            if let Some(status) = &worker.said.status {
                of = of.text("says", status);
            }
            if let Some(usage) = usage(worker.pid) {
                of = of
                    .number("cpu_ms", usage.cpu_ms)
                    .number("memory_bytes", usage.resident_bytes);
            }
        }
        let queue = u64::from(self.lanes.waiting_for(id));
        of.number("queue", queue).finish()
    }
}
