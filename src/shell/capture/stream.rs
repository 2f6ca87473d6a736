//! A worker's own `bind` of a TCP address.
//!
//! Some wait for their socket by epoll before they bind it, as Netty does.
//! Where a lane takes the place of such a one, the lane is waited for instead;
//! that takes the worker's epoll descriptors as well as its socket.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use crate::port::{Bind, LaneId};
use crate::supervisor::WorkerId;
use crate::sys::{binding, interest, remote};
use crate::table::Table;

use super::extraction::Wanted;
use super::socket::Purpose;
use super::{Caller, Capture, Reply, Shell};

/// How many epoll descriptors of a worker may wait for one socket. Where there
/// are more, it stays.
const MOST_WAITING: usize = 4;

/// Duplicates of a thread's descriptors, by its numbers. A thread that is
/// traced brings one, and makes its call again, until all are here.
pub(super) type Brought = Table<RawFd, OwnedFd>;

/// What becomes of a descriptor that is wanted.
enum Bringing {
    Here(OwnedFd),
    /// The thread makes its call again, and then it is here.
    UnderWay,
    NotToBeHad,
}

impl Capture {
    /// A descriptor of a thread's is here, for the call that it makes again.
    pub(super) fn keep(&mut self, of: (WorkerId, i32), descriptor: RawFd, duplicate: OwnedFd) {
        let mut brought = self.brought.remove(&of).unwrap_or_default();
        brought.insert(descriptor, duplicate);
        self.brought.insert(of, brought);
    }
}

impl Shell {
    /// A multipath socket takes no program: a plain one takes its place.
    pub(super) fn bind_stream(
        &mut self,
        caller: Caller<'_>,
        address: SocketAddr,
        multipath: bool,
        brought: Option<Brought>,
    ) -> Reply {
        let Caller { worker, call, .. } = caller;
        let inode = remote::inode(call.tid, call.descriptor);
        self.look_for_abandoned(worker, Some(caller.thread.process));
        let waiting = if self.lanes.ports.has_port(address.port()) {
            waiting(caller)
        } else {
            Vec::new()
        };
        let stays = self.has_to_stay(&waiting);
        let own = match self.answer_to_bind(caller, address, inode, stays) {
            Bind::Lend(lane) if waiting.is_empty() => return self.lend(caller, lane),
            Bind::Lend(lane) => match self.lend_polled(caller, lane, &waiting, brought) {
                Ok(reply) => return reply,
                Err(own) => own,
            },
            answer @ (Bind::Proceed | Bind::Again | Bind::Join { .. }) => {
                return match purpose_of(caller, address, answer) {
                    Some(purpose) if multipath => self.replace(caller, purpose),
                    Some(purpose) => self.with_socket(caller, purpose),
                    None => Reply::Proceed,
                };
            }
        };
        let answer = self.answer_to_bind(caller, address, inode, true);
        match (purpose_of(caller, address, answer), own) {
            (Some(purpose), Some(own)) if !multipath => self.put_to_use(worker, purpose, own),
            (Some(purpose), _) => self.replace(caller, purpose),
            (None, _) => Reply::Proceed,
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
        let Caller { worker, call, .. } = caller;
        let inode = remote::inode(call.tid, call.descriptor);
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
            match self.bring(caller, descriptor) {
                Bringing::Here(duplicate) => {
                    brought.insert(descriptor, duplicate);
                }
                Bringing::UnderWay => {
                    self.capture.brought.insert((worker, call.tid), brought);
                    return Ok(Reply::Later);
                }
                Bringing::NotToBeHad => return Err(brought.remove(&call.descriptor)),
            }
        }
        let own = brought.remove(&call.descriptor).ok_or(None)?;
        let Some(socket) = self.put_lane(caller, lane) else {
            return Ok(Reply::Proceed);
        };
        let waiting: Vec<&OwnedFd> = brought.values().collect();
        let (from, to) = (own.as_fd(), socket.as_fd());
        if let Err(error) = interest::transfer(&waiting, call.descriptor, from, to) {
            log::debug!("cannot have a worker wait for a lane: {error}");
            return if self.put(caller, from, false) {
                Err(Some(own))
            } else {
                Ok(Reply::Proceed)
            };
        }
        Ok(self.lent(caller, lane))
    }

    /// A worker whose socket clinit can only replace, and which must not be:
    /// it would serve nobody.
    pub(super) fn cannot_replace(&mut self, caller: Caller<'_>) -> Reply {
        let why = "it waits for its socket before it binds it, and clinit cannot get at that";
        self.cannot_share(caller, why);
        Reply::Proceed
    }

    /// Gets at a descriptor of the thread's process by the best way that there
    /// is.
    fn bring(&mut self, caller: Caller<'_>, descriptor: RawFd) -> Bringing {
        if self.capture.routes.may_duplicate() {
            match remote::duplicate(caller.thread.process, descriptor) {
                Ok(duplicate) => return Bringing::Here(duplicate),
                Err(error) => log::debug!("cannot duplicate a worker's descriptor: {error}"),
            }
        }
        let wanted = Wanted::Brought(descriptor);
        if self.capture.routes.may_trace() && self.trace(caller, wanted) {
            Bringing::UnderWay
        } else {
            Bringing::NotToBeHad
        }
    }
}

/// The epoll descriptors that wait for a caller's socket.
pub(super) fn waiting(Caller { call, thread, .. }: Caller<'_>) -> Vec<RawFd> {
    let inode = remote::inode(call.tid, call.descriptor);
    inode.map_or_else(Vec::new, |inode| {
        interest::waiting(thread.process, call.descriptor, inode)
    })
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
