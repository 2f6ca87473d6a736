//! What workers say on their notify sockets (`sd_notify(3)`).

use crate::notify::{Message, Phase, Watchdog};
use crate::supervisor::policy::Ready;
use crate::supervisor::{Event, WorkerId};
use crate::sys::errno::describe;
use crate::sys::notify::{Datagram, LONGEST};
use crate::sys::proc;
use crate::sys::start::own_uid;

use super::Shell;
use super::log;
use super::wait::MOST_A_TURN;
use super::workers::Worker;

use std::time::Duration;

/// What a worker has said of itself.
#[derive(Default)]
pub(super) struct Said {
    /// What it has come to.
    pub(super) phase: Option<Phase>,
    /// What it does, for people.
    pub(super) status: Option<String>,
    /// How long it may fall silent, if it has said so; zero: for ever.
    timeout: Option<Duration>,
    /// Whether it has said that it is alive.
    is_alive: bool,
    /// Whether something that it said has been ignored: told once.
    was_ignored: bool,
}

/// What is to be done about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing any more.
    Nothing,
    /// The core has to be told, before anything that was said later is heard.
    Events,
    /// There is none.
    Silence,
}

impl Shell {
    /// Hears what a worker says, up to what the core is to be told.
    ///
    /// Who sends `BARRIER=1` waits until all before it has been done, and it
    /// is answered by being read. So nothing is read before what came earlier
    /// has been done; the rest is there for the next turn.
    pub(super) fn read_notify(&mut self, id: WorkerId) {
        hear_until_told(|| self.hear(id));
    }

    /// Hears what a process of a worker said before it ended.
    pub(super) fn hear_last_words(&mut self, id: WorkerId) {
        for _ in 0..MOST_A_TURN {
            if self.hear(id) == Heard::Silence {
                return;
            }
        }
    }

    fn hear(&mut self, id: WorkerId) -> Heard {
        let Some(worker) = self.workers.get(id) else {
            return Heard::Silence;
        };
        let Some(socket) = &worker.notify else {
            return Heard::Silence;
        };
        let mut buffer = [0; LONGEST];
        let datagram = match socket.receive(&mut buffer) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => return Heard::Silence,
            Err(error) => {
                log::warn!("cannot read a notification: {}", describe(&error));
                return Heard::Silence;
            }
        };
        if datagram.truncated {
            self.ignore(id, &format!("it is longer than {LONGEST} bytes"));
            return Heard::Nothing;
        }
        if !is_trusted(worker, &datagram, self.plan.uid()) {
            let Datagram { pid, uid, .. } = datagram;
            self.ignore(
                id,
                &format!("it comes from another user: uid {uid}, pid {pid}"),
            );
            return Heard::Nothing;
        }
        let text = buffer.get(..datagram.length).unwrap_or_default();
        let before = self.events.len();
        self.heed(id, Message::parse(text));
        if self.events.len() == before {
            Heard::Nothing
        } else {
            Heard::Events
        }
    }

    /// Does what a message calls for, in systemd's order.
    fn heed(&mut self, id: WorkerId, message: Message) {
        if let Some(accepted) = message.refused {
            self.ignore(id, &accepted.to_string());
        }
        if let Some(pid) = message.main_pid {
            self.change_main(id, pid);
        }
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        if let Some(phase) = message.phase {
            worker.said.phase = Some(phase);
            match phase {
                Phase::Ready if self.ready == Ready::Listen => {}
                Phase::Ready => self.events.push_back(Event::Ready(id)),
                Phase::Reloading(_) => {
                    let (slot, pid) = (worker.slot, worker.main_pid());
                    log::debug!(slot, pid; "worker reloads by itself");
                }
                Phase::Stopping => self.events.push_back(Event::Stopping(id)),
            }
        }
        if let Some(status) = message.status {
            worker.said.status = Some(status).filter(|status| !status.is_empty());
        }
        if let Some(by) = message.extension {
            self.events.push_back(Event::Extended(id, by));
        }
        if let Some(timeout) = message.watchdog_timeout {
            worker.said.timeout = Some(timeout);
            worker.said.is_alive = true;
        }
        match message.watchdog {
            Some(Watchdog::Trigger) => self.events.push_back(Event::Hung(id)),
            Some(Watchdog::Alive) => {
                worker.said.is_alive = true;
                self.watch(id);
            }
            None if message.watchdog_timeout.is_some() => self.watch(id),
            None => {}
        }
    }

    /// Has a worker watched from now on that says it is alive. What it said
    /// before it was ready counts once it is.
    pub(super) fn watch(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let own = worker.said.timeout;
        // Where nobody waits for it, a sign of life means nothing.
        if worker.said.is_alive && (own.is_some() || self.hang_timeout.is_some()) {
            let timeout = own.or(self.hang_timeout).filter(|time| !time.is_zero());
            self.events.push_back(Event::Alive(id, timeout));
        }
    }

    /// Says so once a worker: whoever sends much must not fill the log.
    pub(super) fn ignore(&mut self, id: WorkerId, why: &str) {
        if let Some(worker) = self.workers.get_mut(id) {
            let (slot, pid) = (worker.slot, worker.main_pid());
            if !std::mem::replace(&mut worker.said.was_ignored, true) {
                log::warn!(slot, pid; "a notification is ignored: {why}");
            }
        }
    }
}

/// Hears up to what the core has to be told, and no more than is heard in one
/// turn.
fn hear_until_told(mut hear: impl FnMut() -> Heard) {
    for _ in 0..MOST_A_TURN {
        match hear() {
            Heard::Nothing => {}
            Heard::Events | Heard::Silence => return,
        }
    }
}

/// The sender may be anyone who has seen the address, in /proc/net/unix say.
/// Its pid may be gone by now, so its uid decides; the worker's own processes
/// may have changed theirs.
fn is_trusted(worker: &Worker, datagram: &Datagram, worker_uid: Option<u32>) -> bool {
    let uid = datagram.uid;
    [Some(0), Some(own_uid()), worker_uid].contains(&Some(uid))
        || datagram.pid == worker.main_pid()
        || proc::process(datagram.pid).is_some_and(|process| process.group == worker.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test from outside can tell: the time between an answer that comes too
    /// soon and what it was to wait for is too short.
    #[test]
    fn a_barrier_stays_unread_until_what_came_before_it_is_done() {
        // A status, a word that the core is to be told, and the barrier.
        let mut said = [Heard::Nothing, Heard::Events, Heard::Nothing].into_iter();
        hear_until_told(|| said.next().unwrap_or(Heard::Silence));
        assert_eq!(said.len(), 1);
        hear_until_told(|| said.next().unwrap_or(Heard::Silence));
        assert_eq!(said.len(), 0);
    }

    #[test]
    fn who_says_much_is_not_heard_for_ever() {
        let mut heard = 0;
        hear_until_told(|| {
            heard += 1;
            Heard::Nothing
        });
        assert_eq!(heard, MOST_A_TURN);
    }
}
