//! Whose the terminal is: the child's, in init mode, as long as it runs and
//! clinit is in the foreground.

use crate::supervisor::{Claim, Event, Extent, Holder, Signal, WorkerId};
use crate::sys::terminal::{self, Through};

use super::Shell;

impl Shell {
    /// A signal has stopped a child, which in init mode clinit and the shell
    /// above are to make up for.
    pub(super) fn child_stopped(&mut self, pid: i32, by: i32) {
        if self.plan.is_cluster() {
            return;
        }
        let (Some(id), Some(by)) = (self.workers.of_pid(pid), Signal::from_number(by)) else {
            return;
        };
        let holder = match terminal::holder(Through::Any) {
            None => Holder::Nobody,
            Some(terminal::Holder::Own) => Holder::Own,
            Some(terminal::Holder::Group(group)) if group == pid => Holder::Child,
            Some(terminal::Holder::Group(_)) => Holder::Other,
        };
        self.events.push_back(Event::Stopped(id, by, holder));
    }

    pub(super) fn stop_job(&mut self, signal: Signal, extent: Extent, told: Signal) {
        if !terminal::stop_job(signal.number(), extent == Extent::Group) {
            self.events.push_back(Event::NotStopped(told));
        }
    }

    pub(super) fn lend_terminal(&mut self, id: WorkerId, claim: Claim) {
        let through = match claim {
            Claim::Stdin => Through::Stdin,
            Claim::Asked => Through::Any,
        };
        if let Some(worker) = self.workers.get(id)
            && terminal::lend(worker.pid, through)
        {
            self.lent_to = Some(worker.pid);
        }
    }

    /// The child is gone. Whoever started clinit, a script say, may want to read
    /// from the terminal; and at it a sweep can be hurried.
    pub(super) fn take_terminal_back(&self) {
        if let Some(group) = self.lent_to {
            terminal::take_back(group);
        }
    }
}
