//! The sockets behind the lanes, and what the kernel is told of them.

mod ends;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::port::program::Program;
use crate::port::{Arrivals, Found, LaneId, Ports, Sharing};
use crate::supervisor::{Time, WorkerId};
use crate::sys::diag::{self, Socket};
use crate::sys::errno::describe;
use crate::sys::listener::{Instruction, Late, Listener};
use crate::sys::poll::Poller;
use crate::table::{Set, Table};

use super::log;

/// One lane's socket.
struct Lane {
    /// The socket's, by which a worker's descriptor of it is known.
    inode: u64,
    /// None as long as it is a worker's own that does not listen: it may yet
    /// become something else, which clinit must not keep open.
    socket: Option<Listener>,
    /// How many connections have arrived while that was told.
    arrivals: u32,
    /// Whether arrivals are told.
    told: bool,
}

impl Lane {
    /// Has arrivals told, or not.
    fn tell(&mut self, wanted: bool) {
        let Some(socket) = &self.socket else {
            return;
        };
        self.told = wanted;
        if let Err(error) = socket.announce(wanted) {
            log::debug!("cannot watch {}: {}", socket.local(), describe(&error));
        }
    }
}

/// All lanes.
pub(super) struct Lanes {
    pub(super) ports: Ports,
    held: Table<LaneId, Lane>,
    by_inode: Table<u64, LaneId>,
    /// By clinit's own descriptor, which arrivals name.
    by_descriptor: Table<i32, LaneId>,
    /// Those that are to be closed once nobody has copies.
    closing: Vec<LaneId>,
    /// Workers that are forked and have not reached their exec: each has a copy
    /// of every lane, which stays in its group for as long.
    with_copies: Set<WorkerId>,
    /// Where it is told that one has been shut down, or connected.
    ends: Poller,
    /// Those whose ends could not be watched for.
    unwatched: Vec<LaneId>,
    /// Those that have been shut down, in that order.
    silent: Vec<LaneId>,
    /// When those listen again that are all that their address has.
    revive_at: Option<Time>,
    /// Whether programs may be due.
    changed: bool,
    /// Whether the kernel has refused a program.
    refused: bool,
    /// Whether clinit is to end: nobody new is let in.
    closed: bool,
}

impl Lanes {
    pub(super) fn new(sharing: Sharing, arrivals: Arrivals) -> io::Result<Self> {
        Ok(Self {
            ports: Ports::new(sharing, arrivals),
            held: Table::new(),
            by_inode: Table::new(),
            by_descriptor: Table::new(),
            closing: Vec::new(),
            with_copies: Set::new(),
            ends: Poller::new()?,
            unwatched: Vec::new(),
            silent: Vec::new(),
            revive_at: None,
            changed: false,
            refused: false,
            closed: false,
        })
    }

    /// What is readable once a lane has come to an end.
    pub(super) fn ends(&self) -> &Poller {
        &self.ends
    }

    /// Something was decided that the kernel may have to be told of.
    pub(super) fn change(&mut self) -> &mut Ports {
        self.changed = true;
        &mut self.ports
    }

    // ---- sockets ----

    /// A lane has a socket that clinit holds.
    pub(super) fn hold(&mut self, lane: LaneId, socket: Listener) {
        let (inode, descriptor) = (socket.inode(), socket.descriptor());
        self.by_descriptor.insert(descriptor, lane);
        self.know(lane, inode);
        if self.closed {
            keep_out(&socket);
        }
        let token = u64::try_from(descriptor).unwrap_or(u64::MAX);
        if let Err(error) = self.ends.add_end(&socket, token) {
            // It is looked at whenever a worker binds or starts.
            self.unwatched.push(lane);
            log::debug!("cannot watch {}: {}", socket.local(), describe(&error));
        }
        if let Some(known) = self.held.get_mut(&lane) {
            // It may be another one than it was as the worker's own.
            let before = std::mem::replace(&mut known.inode, inode);
            known.socket = Some(socket);
            if before != inode {
                self.by_inode.remove(&before);
            }
        }
        self.changed = true;
    }

    /// A lane is a worker's own socket, which clinit does not hold.
    pub(super) fn know(&mut self, lane: LaneId, inode: u64) {
        self.by_inode.insert(inode, lane);
        let known = Lane {
            inode,
            socket: None,
            arrivals: 0,
            told: false,
        };
        self.held.insert_if_new(lane, known);
    }

    /// The lane whose socket has this inode.
    pub(super) fn of_inode(&self, inode: u64) -> Option<LaneId> {
        self.by_inode.get(&inode).copied()
    }

    pub(super) fn inode(&self, lane: LaneId) -> Option<u64> {
        self.held.get(&lane).map(|lane| lane.inode)
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> + '_ {
        self.held.values().map(|lane| lane.inode)
    }

    /// Where it listens, for people.
    pub(super) fn local(&self, lane: LaneId) -> String {
        self.socket(lane).map(Listener::local).unwrap_or_default()
    }

    /// Its socket, where clinit holds it.
    pub(super) fn socket(&self, lane: LaneId) -> Option<&Listener> {
        self.held.get(&lane)?.socket.as_ref()
    }

    pub(super) fn descriptor(&self, lane: LaneId) -> Option<BorrowedFd<'_>> {
        self.socket(lane).map(AsFd::as_fd)
    }

    /// How many connections wait at a lane.
    pub(super) fn queued(&self, lane: LaneId) -> u32 {
        self.socket(lane).map_or(0, Listener::queued)
    }

    /// How many have arrived at it while that was told.
    pub(super) fn arrivals(&self, lane: LaneId) -> u32 {
        self.held.get(&lane).map_or(0, |lane| lane.arrivals)
    }

    /// Lets a lane go that has never listened.
    pub(super) fn drop_bound(&mut self, id: LaneId) {
        if let Some(lane) = self.held.remove(&id) {
            self.by_inode.remove(&lane.inode);
            if let Some(socket) = lane.socket {
                self.by_descriptor.remove(&socket.descriptor());
                // A worker may hold it open for longer.
                let _ = self.ends.remove(&socket);
            }
        }
        self.silent.retain(|known| *known != id);
        self.unwatched.retain(|known| *known != id);
    }

    /// Closes a lane of a group, as soon as that makes it leave the group: in
    /// between, no index may mean another lane than it does before and after.
    pub(super) fn retire(&mut self, lane: LaneId, now: Time) {
        self.change().retiring(lane);
        self.settle(now);
        self.closing.push(lane);
        self.close_retiring(now);
    }

    fn close_retiring(&mut self, now: Time) {
        if !self.with_copies.is_empty() {
            return;
        }
        for lane in std::mem::take(&mut self.closing) {
            self.drop_bound(lane);
            self.change().retire(lane);
            self.settle(now);
        }
    }

    /// A worker is forked.
    pub(super) fn copied(&mut self, worker: WorkerId) {
        self.with_copies.insert(worker);
    }

    /// A worker has reached its exec, or is gone.
    pub(super) fn copies_closed(&mut self, worker: WorkerId, now: Time) {
        if self.with_copies.remove(&worker) {
            self.close_retiring(now);
        }
    }

    // ---- the end ----

    /// Keeps new connections out, for good. A lane that no worker has is
    /// closed: nobody is left to come for what waits there. The others' queues
    /// are their workers' to empty.
    pub(super) fn keep_out(&mut self) {
        self.closed = true;
        let mut others = Vec::new();
        for (id, lane) in self.held.iter_mut() {
            if lane.socket.as_ref().is_some_and(keep_out) {
                lane.tell(false);
                others.push(*id);
            }
        }
        for lane in others {
            self.point_at(lane);
            self.drop_bound(lane);
        }
        self.close_unheld();
    }

    /// Has a lane that others go on with have all new connections.
    fn point_at(&self, lane: LaneId) {
        let group = self.ports.group_of(lane);
        let index = group.iter().position(|of| *of == lane);
        let (Some(index), Some(socket)) = (index, self.socket(lane)) else {
            return;
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if group.len() > 1
            && let Err(error) = attach(socket, &Program::Pinned(index))
        {
            log::debug!("cannot steer to {}: {}", socket.local(), describe(&error));
        }
    }

    fn close_unheld(&mut self) {
        let lanes: Vec<LaneId> = self.held.keys().copied().collect();
        for lane in lanes {
            if !self.ports.is_held(lane) {
                self.drop_bound(lane);
                self.ports.retire(lane);
            }
        }
    }

    /// Nobody waits any more for this worker's queues to be empty. At the end
    /// they are closed with it, and so that late clients fail soon, with its
    /// own copies.
    pub(super) fn let_go(&mut self, worker: WorkerId) {
        if self.closed {
            for lane in self.ports.lanes_of(worker) {
                if !self.ports.is_shared(lane) {
                    self.drop_bound(lane);
                }
            }
        }
    }

    /// Where they listen, each address once.
    pub(super) fn addresses(&self) -> Vec<String> {
        let sockets = self.ports.listening().filter_map(|lane| self.socket(lane));
        let mut addresses: Vec<String> = sockets.map(Listener::local).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// The ports that they listen at.
    pub(super) fn ports_in_use(&self) -> impl Iterator<Item = u16> + '_ {
        let sockets = self.ports.listening().filter_map(|lane| self.socket(lane));
        sockets.filter_map(Listener::port)
    }

    /// How many connections wait for this worker.
    pub(super) fn waiting_for(&self, worker: WorkerId) -> u32 {
        let lanes = self.ports.lanes_of(worker).into_iter();
        lanes.map(|lane| self.queued(lane)).sum()
    }

    // ---- steering ----

    /// Counts an arrival at the lane with this descriptor; returns the lane.
    pub(super) fn arrived(&mut self, descriptor: i32, now: Time) -> Option<LaneId> {
        let id = *self.by_descriptor.get(&descriptor)?;
        let lane = self.held.get_mut(&id)?;
        lane.arrivals = lane.arrivals.wrapping_add(1);
        let lanes = &self.held;
        self.ports.arrived(id, now, &|lane| queued(lanes, lane));
        self.changed = true;
        Some(id)
    }

    /// Looks at queues and the pace again, where that is due.
    pub(super) fn look(&mut self, now: Time) {
        if self.ports.next_look().is_some_and(|due| due <= now) {
            let lanes = &self.held;
            self.ports.look(now, &|lane| queued(lanes, lane));
            self.changed = true;
        }
    }

    /// Looks for workers that take nothing, where that is due. `untouched`:
    /// whether, of what waited at this lane's port when it was suspected, none
    /// has been taken.
    pub(super) fn look_for_hung(
        &mut self,
        now: Time,
        untouched: &dyn Fn(LaneId, u16) -> bool,
    ) -> Found {
        let lanes = &self.held;
        let port = |lane| lanes.get(&lane)?.socket.as_ref()?.port();
        let untouched = |lane| port(lane).is_some_and(|port| untouched(lane, port));
        self.changed = true;
        self.ports
            .look_for_hung(now, &|lane| queued(lanes, lane), &untouched)
    }

    /// Tells the kernel of the programs that are due.
    pub(super) fn settle(&mut self, now: Time) {
        if !std::mem::take(&mut self.changed) || self.closed {
            return;
        }
        let lanes = &self.held;
        let due = self.ports.due_programs(now, &|lane| queued(lanes, lane));
        for (lane, program) in due {
            // Through one that a worker has shut down it would be attached to a
            // group of its own, and that one could never listen again.
            let group = self.ports.group_of(lane).into_iter();
            let mut sockets = group.filter_map(|lane| self.socket(lane));
            let socket = sockets.find(|socket| socket.is_listening());
            let told = socket.map(|socket| (socket.local(), attach(socket, &program)));
            if let Some((local, Ok(()))) = &told {
                log::trace!("connections of {local} go to {program}");
                continue;
            }
            // At the next turn of the loop it is tried again.
            self.change().not_told(lane);
            if let Some((local, Err(error))) = told
                && !std::mem::replace(&mut self.refused, true)
            {
                let error = describe(&error);
                log::warn!("cannot steer connections of {local}: {error}");
            }
        }
    }

    /// Has arrivals told at these lanes, and at those whose turns are taken;
    /// never for good at a busy one, since each costs a wake-up.
    pub(super) fn tell_arrivals(&mut self, unproven: &Set<LaneId>) {
        let turns: Set<LaneId> = self.ports.watched().into_iter().collect();
        for (id, lane) in self.held.iter_mut() {
            let wanted = unproven.contains(id) || turns.contains(id);
            if wanted != lane.told {
                lane.tell(wanted);
            }
        }
    }

    /// Asks for arrivals anew: a worker may have turned them off.
    pub(super) fn tell_anew(&mut self, lane: LaneId) {
        if let Some(lane) = self.held.get_mut(&lane) {
            lane.tell(true);
        }
    }

    // ---- leases ----

    /// Whether connections wait that only this worker will take. At the end a
    /// queue that others share is nobody's to leave.
    pub(super) fn awaits(&self, worker: WorkerId) -> bool {
        let lanes = self.ports.lanes_of(worker).into_iter();
        lanes
            .filter(|lane| self.closed || !self.ports.is_shared(*lane))
            .any(|lane| self.queued(lane) > 0)
    }

    /// Whether a worker that is turned away is given no new connection: not
    /// so where it shares its queue, or has one that clinit does not hold.
    pub(super) fn steers(&self, worker: WorkerId) -> bool {
        let lanes = self.ports.lanes_of(worker);
        let own = |lane: &LaneId| self.socket(*lane).is_some() && !self.ports.is_shared(*lane);
        self.closed || (!lanes.is_empty() && lanes.iter().all(own))
    }

    /// A worker is gone: its lanes are free.
    pub(super) fn worker_gone(&mut self, worker: WorkerId, now: Time) {
        self.revive_lanes_of(worker, now);
        for lane in self.change().gone(worker) {
            self.drop_bound(lane);
        }
        if self.closed {
            self.close_unheld();
        }
    }

    /// A worker is ready: what only its predecessor had is let go of.
    ///
    /// A lane may have handshakes under way that are not in its queue yet, and
    /// the kernel does not say whose they are: while there are any at its port,
    /// it stays.
    pub(super) fn admit(&mut self, worker: WorkerId, now: Time) {
        let lanes = &self.held;
        let awaited = |lane| match queued(lanes, lane) {
            0 => u32::from(has_handshakes(lanes, lane)),
            queued => queued,
        };
        let stale = self.ports.admit(worker, &awaited);
        self.changed = true;
        for lane in stale {
            self.retire(lane, now);
        }
    }

    /// A worker does not hold a lane any more, though it lives.
    pub(super) fn abandoned(&mut self, worker: WorkerId, lane: LaneId, now: Time) {
        self.listen_again(lane);
        let was_bound = self.ports.is_bound(lane);
        self.change().abandoned(worker, lane);
        if self.ports.is_held(lane) {
            return;
        }
        if was_bound {
            self.drop_bound(lane);
        } else if self.queued(lane) == 0 && self.ports.is_captured(lane) {
            self.retire(lane, now);
        }
    }

    /// The lane that a worker of a listener of clinit's own is to have.
    pub(super) fn lease(
        &mut self,
        worker: WorkerId,
        listener: crate::port::ListenerId,
    ) -> io::Result<LaneId> {
        let lanes = &self.held;
        let free = self
            .ports
            .lease(worker, listener, &|lane| queued(lanes, lane));
        self.changed = true;
        if let Some(lane) = free {
            return Ok(lane);
        }
        let model = self.ports.first_lane(listener);
        let model = model.and_then(|lane| self.socket(lane));
        let socket = model.ok_or(io::ErrorKind::NotFound)?.sibling()?;
        let lane = self.change().made(listener);
        self.hold(lane, socket);
        self.change().lent(worker, lane);
        Ok(lane)
    }
}

/// Keeps new connections out of a socket. Returns whether that cannot be,
/// because others have it who go on with it.
fn keep_out(socket: &Listener) -> bool {
    match socket.keep_out() {
        Ok(late) => {
            log::debug!("who comes late to {} is {late:?}", socket.local());
            late == Late::Welcome
        }
        Err(error) => {
            let (local, error) = (socket.local(), describe(&error));
            log::warn!("cannot keep new connections from {local}: {error}");
            false
        }
    }
}

/// Whether handshakes are under way at a lane's port.
fn has_handshakes(lanes: &Table<LaneId, Lane>, lane: LaneId) -> bool {
    let socket = lanes.get(&lane).and_then(|lane| lane.socket.as_ref());
    let mut found = false;
    if let Some(port) = socket.and_then(Listener::port) {
        let listed = diag::each_at_port(port, |socket| {
            found |= matches!(socket, Socket::Handshake(_));
        });
        if let Err(error) = listed {
            log::debug!(
                "cannot list the handshakes at port {port}: {}",
                describe(&error)
            );
        }
    }
    found
}

fn attach(socket: &Listener, program: &Program) -> io::Result<()> {
    let instructions: Vec<Instruction> = program
        .instructions()
        .iter()
        .map(|it| (it.code, it.jump_true, it.jump_false, it.constant))
        .collect();
    socket.attach(&instructions)
}

fn queued(lanes: &Table<LaneId, Lane>, lane: LaneId) -> u32 {
    let socket = lanes.get(&lane).and_then(|lane| lane.socket.as_ref());
    socket.map_or(0, Listener::queued)
}
