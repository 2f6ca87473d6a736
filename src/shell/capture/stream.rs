//! A worker's own `bind` of a TCP address.
//!
//! Some wait for their socket by epoll before they bind it, as Netty does.
//! Where a lane takes the place of such a one, the lane is waited for instead;
//! that takes the worker's epoll descriptors as well as its socket.
//!
//! Others bind an address several times, with sockets that share it by
//! themselves (nginx `reuseport`, Envoy): the k-th is given what the
//! predecessor's k-th was.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use crate::port::{Bind, LaneId};
use crate::sys::errno::describe;
use crate::sys::{binding, interest};
use crate::table::Table;

use super::super::log;
use super::extraction::{Bringing, Wanted};
use super::socket::Purpose;
use super::{Caller, Reply, Shell, now};

/// How many epoll descriptors of a worker may wait for one socket. Where there
/// are more, it stays.
const MOST_WAITING: usize = 4;

/// Duplicates of a thread's descriptors, by its numbers. A thread that is
/// traced brings one, and makes its call again, until all are here.
pub(super) type Brought = Table<RawFd, OwnedFd>;

impl Shell {
    /// A multipath socket takes no program: a plain one takes its place.
    pub(super) fn bind_stream(
        &mut self,
        caller: Caller<'_>,
        address: SocketAddr,
        multipath: bool,
        brought: Option<Brought>,
    ) -> Reply {
        let worker = caller.worker;
        let inode = caller.inode();
        self.look_for_lost(caller, address, inode);
        let waiting = if self.lanes.ports.has_port(address.port()) {
            caller.waiting()
        } else {
            Vec::new()
        };
        let stays = self.has_to_stay(&waiting);
        let answer = self.answer_to_bind(caller, address, inode, stays);
        let lent = match answer {
            Bind::Lend(lane) if waiting.is_empty() => return self.lend(caller, lane),
            Bind::Lend(lane) => self.lend_polled(caller, lane, &waiting, brought),
            Bind::Again if !stays && !multipath => match self.lanes.ports.paired(worker, address) {
                Some(pair) => self.lend_pair(caller, pair, &waiting, brought),
                None => return self.with_own(caller, address, answer, multipath),
            },
            Bind::Proceed | Bind::Again | Bind::Join { .. } => {
                return self.with_own(caller, address, answer, multipath);
            }
        };
        let own = match lent {
            Ok(reply) => return reply,
            Err(own) => own,
        };
        // Its numbers may be another process's by now.
        if !self.still_waits(caller) {
            return Reply::Proceed;
        }
        let answer = self.answer_to_bind(caller, address, inode, true);
        match (purpose_of(caller, address, answer), own) {
            (Some(purpose), Some(own)) if !multipath => self.put_to_use(worker, purpose, own),
            (Some(purpose), _) => self.replace(caller, purpose),
            (None, _) => Reply::Proceed,
        }
    }

    /// Looks for what the worker, or whoever takes nothing at this address, has
    /// let go of: it may be what is lent next.
    fn look_for_lost(&mut self, caller: Caller<'_>, address: SocketAddr, inode: Option<u64>) {
        let worker = caller.worker;
        let known = inode.and_then(|inode| self.lanes.of_inode(inode));
        if let Some(lane) = known.filter(|lane| self.capture.unproven.contains(lane)) {
            // It was refused, and tries another address.
            self.lanes.abandoned(worker, lane, now());
        }
        if self.lanes.ports.has_address(address) {
            self.look_at_doubtful_again();
        }
        self.look_for_abandoned(worker, Some(caller.thread.process));
    }

    fn with_own(
        &mut self,
        caller: Caller<'_>,
        address: SocketAddr,
        answer: Bind,
        multipath: bool,
    ) -> Reply {
        match purpose_of(caller, address, answer) {
            Some(purpose) if multipath => self.replace(caller, purpose),
            Some(purpose) => self.with_socket(caller, purpose),
            None => Reply::Proceed,
        }
    }

    fn answer_to_bind(
        &self,
        caller: Caller<'_>,
        address: SocketAddr,
        inode: Option<u64>,
        stays: bool,
    ) -> Bind {
        let lanes = &self.lanes;
        let known = inode.and_then(|inode| lanes.of_inode(inode));
        let queued = |lane: LaneId| lanes.queued(lane);
        let ports = &lanes.ports;
        ports.bind(caller.worker, address, known, stays, &queued)
    }

    /// Whether a socket that these epoll descriptors wait for has to stay: they
    /// could not be made to wait for another.
    fn has_to_stay(&self, waiting: &[RawFd]) -> bool {
        // The ways to a socket are the ways to any descriptor.
        let may_bring = self.capture.routes.may_trace() && waiting.len() <= MOST_WAITING;
        !waiting.is_empty() && !may_bring
    }

    /// Puts a lane in place of a worker's k-th socket at an address, if its
    /// sockets there share the address by themselves: that is not to be seen
    /// before the socket is at hand.
    ///
    /// # Errors
    ///
    /// As those of [`Self::lend_polled`].
    fn lend_pair(
        &mut self,
        caller: Caller<'_>,
        pair: LaneId,
        waiting: &[RawFd],
        brought: Option<Brought>,
    ) -> Result<Reply, Option<OwnedFd>> {
        let descriptor = caller.call.descriptor;
        let Some(mut brought) = self.bring_all(caller, &[], brought)? else {
            return Ok(Reply::Later);
        };
        let own = brought.get(&descriptor).map(AsFd::as_fd).ok_or(None)?;
        if !binding::shares_port(own) || binding::is_bound(own) {
            return Err(brought.remove(&descriptor));
        }
        if waiting.is_empty() {
            return Ok(self.lend(caller, pair));
        }
        self.lend_polled(caller, pair, waiting, Some(brought))
    }

    /// Puts a lane in place of a worker's socket, and has these epoll
    /// descriptors of the worker wait for it in that one's stead.
    ///
    /// What the worker's other threads ask epoll about the socket meanwhile
    /// counts until the lane is in its place, and fails with `ENOENT` from then
    /// until this is done.
    ///
    /// # Errors
    ///
    /// The worker's socket, if it is at hand, where it has to stay: nothing has
    /// changed.
    fn lend_polled(
        &mut self,
        caller: Caller<'_>,
        lane: LaneId,
        waiting: &[RawFd],
        brought: Option<Brought>,
    ) -> Result<Reply, Option<OwnedFd>> {
        let call = caller.call;
        let Some(mut brought) = self.bring_all(caller, waiting, brought)? else {
            return Ok(Reply::Later);
        };
        let own = brought.remove(&call.descriptor).ok_or(None)?;
        let Some(socket) = self.put_lane(caller, lane) else {
            return Ok(Reply::Proceed);
        };
        let waiting: Vec<&OwnedFd> = brought.values().collect();
        let (from, to) = (own.as_fd(), socket.as_fd());
        if let Err(error) = interest::transfer(&waiting, call.descriptor, from, to) {
            log::debug!("cannot have a worker wait for a lane: {}", describe(&error));
            return if self.put(caller, from, false) {
                Err(Some(own))
            } else {
                Ok(Reply::Proceed)
            };
        }
        Ok(self.lent(caller, lane))
    }

    /// Brings a worker's socket, and these epoll descriptors of it, unless they
    /// have been brought; none while the thread is traced for one of them.
    ///
    /// # Errors
    ///
    /// As those of [`Self::lend_polled`].
    fn bring_all(
        &mut self,
        caller: Caller<'_>,
        waiting: &[RawFd],
        brought: Option<Brought>,
    ) -> Result<Option<Brought>, Option<OwnedFd>> {
        let Caller { worker, call, .. } = caller;
        let inode = caller.inode();
        // It may have been brought for another call, from a signal's handler.
        let is_of_call = |brought: &Brought| {
            let own = brought.get(&call.descriptor);
            own.is_some_and(|own| Some(binding::inode(own)) == inode)
        };
        let mut brought = brought.filter(is_of_call).unwrap_or_default();
        for &descriptor in [call.descriptor].iter().chain(waiting) {
            if brought.contains_key(&descriptor) {
                continue;
            }
            match self.bring(caller, Wanted::Brought(descriptor)) {
                Bringing::Here(duplicate) => {
                    brought.insert(descriptor, duplicate);
                }
                Bringing::UnderWay => {
                    self.capture.brought.insert((worker, call.tid), brought);
                    return Ok(None);
                }
                Bringing::NotToBeHad => return Err(brought.remove(&call.descriptor)),
            }
        }
        Ok(Some(brought))
    }
}

/// What a worker's own socket is wanted for, if it is.
fn purpose_of(caller: Caller<'_>, address: SocketAddr, answer: Bind) -> Option<Purpose> {
    let (first, again) = match answer {
        Bind::Proceed | Bind::Lend(_) => return None,
        Bind::Again => (false, true),
        Bind::Join { first } => (first, false),
    };
    Some(Purpose::Bind {
        address,
        thread: caller.thread,
        first,
        again,
    })
}
