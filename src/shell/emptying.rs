//! Workers that are given no new connection, until they owe no client
//! anything: nothing waits for them or is about to, and what they have been
//! asked they have answered.

use std::time::Duration;

use crate::supervisor::{Event, Time, WorkerId};
use crate::sys::diag::{self, Handshake, Socket};
use crate::sys::errno::describe;
use crate::sys::listener::Listener;
use crate::sys::proc::{self, Process};
use crate::table::{Set, Table};

use super::log;
use super::owing::owes;
use super::{Shell, now};

/// How soon to look whether a worker owes nothing, and how seldom at the most:
/// only looking tells.
const SOONEST: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_millis(50);

/// At most one part in so many of the time is spent on looking.
const SHARE: u32 = 10;

/// How long one look may keep clinit from everything else, before it goes on
/// with the others.
const LONGEST: Duration = Duration::from_millis(20);

/// The most handshakes that one look takes in; beyond, it is a flood and not
/// clients.
const MOST_HANDSHAKES: usize = 4096;

/// What has been found of a worker so far.
#[derive(Default)]
struct Leaving {
    /// Where it listens, and the handshakes that were under way there when it
    /// was turned away and may still join its queue; none before the first
    /// look.
    ports: Option<Table<u16, Vec<Handshake>>>,
    /// Its sockets.
    sockets: Option<Vec<u64>>,
    /// Whether something waited for it at the last look: then it has sockets
    /// by now that are not among those.
    was_awaited: bool,
    /// Whether it owed nothing at the last look. A connection that is being
    /// accepted is, for an instant, in no queue and nobody's.
    was_clear: bool,
}

/// All of them. They are looked at together, since what one of them asks the
/// kernel for is mostly what the others do.
#[derive(Default)]
pub(super) struct Emptying {
    leaving: Table<WorkerId, Leaving>,
    look_at: Time,
    pause: Duration,
    /// Who comes first at the next look, where the last was long.
    first: Option<WorkerId>,
    /// Whether it has been told that somebody cannot be looked into.
    told: bool,
}

impl Emptying {
    /// When to look again.
    pub(super) fn next_look(&self) -> Option<Time> {
        (!self.leaving.is_empty()).then_some(self.look_at)
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.leaving.remove(&worker);
    }

    fn tell(&mut self, what: &str, why: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.told, true) {
            log::debug!("{what}: {why}; draining goes by accept queues alone");
        }
    }
}

/// What the kernel says of a port.
struct Port {
    handshakes: Vec<Handshake>,
    /// The inodes of the connections that are owed something.
    owed: Vec<u64>,
}

/// One look: what is asked of the kernel once for all workers.
#[derive(Default)]
struct Look {
    ports: Table<u16, Option<Port>>,
    listening: Option<Vec<(u64, u16)>>,
    processes: Option<Vec<Process>>,
}

impl Look {
    /// None where the kernel does not say.
    fn at(&mut self, port: u16, emptying: &mut Emptying) -> Option<&Port> {
        if !self.ports.contains_key(&port) {
            let (mut handshakes, mut owed) = (Vec::new(), Vec::new());
            let listed = diag::each_at_port(port, |socket| match socket {
                Socket::Handshake(one) if handshakes.len() < MOST_HANDSHAKES => {
                    handshakes.push(one);
                }
                Socket::Connection(one) if one.inode != 0 && owes(&one) => owed.push(one.inode),
                Socket::Handshake(_) | Socket::Connection(_) => {}
            });
            if let Err(error) = &listed {
                emptying.tell("cannot list connections", &describe(error));
            }
            let found = listed.is_ok().then_some(Port { handshakes, owed });
            self.ports.insert(port, found);
        }
        self.ports.get(&port)?.as_ref()
    }

    /// The sockets of a process group and of what its leader has started.
    fn sockets_of(&mut self, leader: i32, emptying: &mut Emptying) -> Vec<u64> {
        let processes = self.processes.get_or_insert_with(proc::processes);
        let mut sockets = Vec::new();
        for &pid in worker_processes(processes, leader).iter() {
            match proc::certain_socket_inodes(pid) {
                Some(of_process) => sockets.extend(of_process),
                // It may just be exiting.
                None => emptying.tell("cannot see a worker's sockets", &format_args!("pid {pid}")),
            }
        }
        sockets
    }

    /// The ports of the listeners among these sockets.
    fn ports_of(&mut self, sockets: &[u64]) -> Vec<u16> {
        let listening = self
            .listening
            .get_or_insert_with(|| diag::listening().unwrap_or_default());
        let mut ports = Vec::new();
        for (inode, port) in listening {
            if sockets.contains(inode) {
                ports.push(*port);
            }
        }
        ports
    }
}

/// The processes of a worker: the group of this leader, and what the leader has
/// started.
pub(super) fn worker_processes(processes: &[Process], leader: i32) -> Set<i32> {
    let mut all: Set<i32> = proc::descendants_in(processes, leader)
        .into_iter()
        .collect();
    for process in processes {
        if process.group == leader {
            all.insert(process.pid);
        }
    }
    all.insert(leader);
    all
}

impl Leaving {
    /// Whether handshakes are under way that were when it was turned away.
    fn shakes_hands(&mut self, look: &mut Look, emptying: &mut Emptying) -> bool {
        let Some(ports) = &mut self.ports else {
            return false;
        };
        // Nothing is looked for where nothing was found.
        ports.retain(|port, before| {
            if !before.is_empty()
                && let Some(now) = look.at(*port, emptying)
            {
                before.retain(|handshake| now.handshakes.contains(handshake));
            }
            true
        });
        ports.values().any(|under_way| !under_way.is_empty())
    }

    /// Whether one of its connections is owed something.
    fn owes(&mut self, leader: i32, look: &mut Look, emptying: &mut Emptying) -> bool {
        let Some(ports) = &self.ports else {
            return false;
        };
        ports.keys().any(|&port| {
            let owed = look.at(port, emptying).map(|port| port.owed.clone());
            let owed = owed.filter(|owed| !owed.is_empty());
            owed.is_some_and(|owed| {
                let sockets = self
                    .sockets
                    .get_or_insert_with(|| look.sockets_of(leader, emptying));
                owed.iter().any(|inode| sockets.contains(inode))
            })
        })
    }
}

impl Shell {
    /// Steers new connections away from a worker, and begins to look what it
    /// owes if the core waits for that.
    pub(super) fn turn_away(&mut self, id: WorkerId) {
        self.lanes.change().turn_away(id);
        self.lanes.settle(now());
        self.emptying.leaving.insert(id, Leaving::default());
        self.emptying.look_at = now();
        self.emptying.pause = SOONEST;
    }

    /// Tells the core which of them owe nothing any more.
    pub(super) fn look_for_emptied(&mut self) {
        let start = now();
        if self.emptying.next_look().is_none_or(|due| due > start) {
            return;
        }
        let mut look = Look::default();
        let mut nearly = false;
        let first = self.emptying.first.take();
        let ids = self.emptying.leaving.keys().copied();
        let ids: Vec<WorkerId> = ids.filter(|id| Some(*id) >= first).collect();
        for id in ids {
            if now().since(start) > LONGEST {
                self.emptying.first = Some(id);
                self.emptying.look_at = now();
                return;
            }
            if !self.supervisor.is_emptying(id) {
                // It has been asked to stop without that.
                self.end_emptying(id);
                continue;
            }
            let Some(mut leaving) = self.emptying.leaving.remove(&id) else {
                continue;
            };
            let is_clear = self.is_clear(id, &mut leaving, &mut look);
            let has_nothing = leaving.ports.as_ref().is_none_or(Table::is_empty);
            if is_clear && (leaving.was_clear || has_nothing) {
                self.end_emptying(id);
                self.events.push_back(Event::Emptied(id));
                continue;
            }
            nearly |= is_clear;
            leaving.was_clear = is_clear;
            self.emptying.leaving.insert(id, leaving);
        }
        let end = now();
        let pause = self.emptying.pause;
        self.emptying.pause = (pause * 2).min(SELDOM);
        // One more look, and it is known.
        let pause = if nearly {
            SOONEST
        } else {
            pause.max(end.since(start) * SHARE)
        };
        self.emptying.look_at = end + pause;
    }

    /// Whether a worker owes nothing, as far as one look tells.
    fn is_clear(&mut self, id: WorkerId, leaving: &mut Leaving, look: &mut Look) -> bool {
        let Some(leader) = self.workers.get(id).map(|worker| worker.pid) else {
            return true;
        };
        let emptying = &mut self.emptying;
        let is_awaited = self.lanes.awaits(id) || self.listeners.awaits();
        if leaving.ports.is_none() {
            let sockets = look.sockets_of(leader, emptying);
            let mut ports = look.ports_of(&sockets);
            for lane in self.lanes.ports.lanes_of(id) {
                ports.extend(self.lanes.socket(lane).and_then(Listener::port));
            }
            let mut under_way = Table::new();
            for port in ports {
                let found = look.at(port, emptying);
                let handshakes = found.map(|found| found.handshakes.clone());
                under_way.insert(port, handshakes.unwrap_or_default());
            }
            leaving.ports = Some(under_way);
            leaving.sockets = Some(sockets);
        } else if leaving.was_awaited || is_awaited || !self.lanes.steers(id) {
            leaving.sockets = None;
        }
        leaving.was_awaited = is_awaited;
        // All are looked at, whatever the first says.
        let shakes_hands = leaving.shakes_hands(look, emptying);
        let owes = leaving.owes(leader, look, emptying);
        if shakes_hands {
            // Those that come to their end bring it connections.
            leaving.was_awaited = true;
        }
        !is_awaited && !shakes_hands && !owes
    }

    /// Nobody waits for what a worker owes any more. At the end nobody else
    /// will take what comes to its queues.
    fn end_emptying(&mut self, id: WorkerId) {
        self.emptying.forget(id);
        self.lanes.let_go(id);
        if self.emptying.leaving.is_empty() {
            self.listeners.let_go();
        }
    }
}
