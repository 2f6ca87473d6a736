//! What is done with a worker's socket, once clinit has it: bound in the
//! worker's place, listened on, or replaced.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::port::LaneId;
use crate::supervisor::WorkerId;
use crate::sys::binding::{self, bind_as};
use crate::sys::errno::describe;
use crate::sys::listener::Listener;
use crate::sys::remote::{self, Thread};

use super::super::log;
use super::extraction::{Bringing, Wanted};
use super::{Caller, Reply, Shell, now};

/// What a worker's socket is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// To bind it and make it a lane.
    Bind {
        address: SocketAddr,
        /// Who binds it.
        thread: Thread,
        /// Whether nobody of ours has the address.
        first: bool,
        /// Whether the worker has it already: then only a socket that shares
        /// ports by itself may have it too.
        again: bool,
    },
    /// To bind a datagram socket.
    BindDatagrams {
        address: SocketAddr,
        thread: Thread,
        /// Whether the worker has the address already.
        again: bool,
    },
    /// To have a lane of it listen.
    Listen { lane: LaneId, backlog: i32 },
}

/// With whom an address may be shared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    pub(super) worker: WorkerId,
    /// Whether nobody of ours has the address.
    pub(super) first: bool,
    /// Whether the worker may have the port once for each family.
    pub(super) apart: bool,
}

impl Shell {
    /// Gets at the worker's socket by the best way that there is.
    pub(super) fn with_socket(&mut self, caller: Caller<'_>, purpose: Purpose) -> Reply {
        match self.bring(caller, Wanted::Socket(purpose)) {
            // The number may be another process's by now.
            Bringing::Here(_) if !self.still_waits(caller) => Reply::Proceed,
            Bringing::Here(socket) => self.put_to_use(caller.worker, purpose, socket),
            Bringing::UnderWay => Reply::Later,
            Bringing::NotToBeHad => self.replace(caller, purpose),
        }
    }

    /// Does with a worker's socket what it was wanted for.
    pub(super) fn put_to_use(
        &mut self,
        worker: WorkerId,
        purpose: Purpose,
        socket: OwnedFd,
    ) -> Reply {
        if self.workers.get(worker).is_none() {
            return Reply::Proceed;
        }
        match purpose {
            Purpose::Bind {
                address,
                thread,
                first,
                again,
            } => {
                let socket_shares = binding::shares_port(socket.as_fd());
                if again && !socket_shares {
                    return Reply::Errno(binding::EADDRINUSE);
                }
                if binding::is_bound(socket.as_fd()) {
                    return Reply::Proceed;
                }
                let errno = {
                    let apart = self.is_apart(worker, address, socket.as_fd());
                    let sharing = Sharing {
                        worker,
                        first,
                        apart,
                    };
                    self.bind_shared(socket.as_fd(), address, &thread, sharing)
                };
                match errno {
                    Ok(0) => {}
                    Ok(errno) => return Reply::Errno(errno),
                    Err(error) => {
                        log::debug!("cannot bind {address} for a worker: {}", describe(&error));
                        return Reply::Proceed;
                    }
                }
                let inode = binding::inode(&socket);
                let lane = self.joined(worker, address, inode, again);
                if self.lanes.ports.is_shared(lane) {
                    // The others are given this very socket.
                    self.hold(lane, socket);
                }
                Reply::Errno(0)
            }
            Purpose::BindDatagrams {
                address,
                thread,
                again,
            } => {
                let shared = self.shares_datagrams(worker, address, again);
                let errno = bind_datagrams(socket.as_fd(), address, &thread, shared);
                match errno {
                    Ok(0) => {
                        let inode = binding::inode(&socket);
                        self.capture.datagrams.insert((address, worker), inode);
                        Reply::Errno(0)
                    }
                    Ok(errno) => Reply::Errno(errno),
                    Err(_) => Reply::Proceed,
                }
            }
            // While it was on its way it may have been let go of, or have
            // listened already.
            Purpose::Listen { lane, .. } if self.lanes.inode(lane).is_none() => Reply::Proceed,
            Purpose::Listen { lane, backlog } => {
                if self.lanes.socket(lane).is_none() {
                    self.hold(lane, socket);
                }
                self.listen_on(worker, lane, backlog)
            }
        }
    }

    /// Puts a lane in place of the worker's socket.
    pub(super) fn lend(&mut self, caller: Caller<'_>, lane: LaneId) -> Reply {
        if self.put_lane(caller, lane).is_some() {
            self.lent(caller, lane)
        } else {
            Reply::Proceed
        }
    }

    /// The socket of a lane, once it is in place of the worker's.
    pub(super) fn put_lane(&mut self, caller: Caller<'_>, lane: LaneId) -> Option<OwnedFd> {
        if !self.lanes.ports.is_bound(lane) {
            self.lanes.revive(now());
        }
        let shared = self.lanes.ports.is_shared(lane);
        let socket = self.lanes.socket(lane)?.as_fd().try_clone_to_owned().ok()?;
        self.put(caller, socket.as_fd(), !shared).then_some(socket)
    }

    /// A lane is in place of the worker's socket.
    pub(super) fn lent(&mut self, caller: Caller<'_>, lane: LaneId) -> Reply {
        self.lanes.change().lent(caller.worker, lane);
        self.extend_baseline(caller.worker, lane);
        log::debug!(
            "a worker has taken over a lane of {}",
            self.lanes.local(lane)
        );
        Reply::Errno(0)
    }

    /// Puts a socket in place of the worker's, which closes on exec, and
    /// where only this worker has it blocks, as that did.
    pub(super) fn put(&self, caller: Caller<'_>, socket: BorrowedFd<'_>, own: bool) -> bool {
        let Caller { call, worker, .. } = caller;
        let Some(flags) = remote::flags(call.tid, call.descriptor) else {
            return false;
        };
        if own && let Err(error) = binding::set_nonblocking(socket, flags.nonblocking) {
            log::debug!("cannot set whether a socket blocks: {}", describe(&error));
        }
        let Some(notifications) = self.workers.notifications(worker) else {
            return false;
        };
        let put = notifications.put(call.id, socket, call.descriptor, flags.close_on_exec);
        if let Err(error) = &put {
            log::debug!("cannot put a socket into a worker: {}", describe(error));
        }
        put.is_ok()
    }

    /// Whether a worker's socket and those of the other family that it has at
    /// the port leave each other alone: it is for the IPv6 one to say.
    fn is_apart(&self, worker: WorkerId, address: SocketAddr, socket: BorrowedFd<'_>) -> bool {
        if address.is_ipv6() {
            return binding::is_only_v6(socket);
        }
        let is_v6 = |other: &SocketAddr| other.is_ipv6() && other.port() == address.port();
        let lanes = self.lanes.ports.lanes_of(worker).into_iter();
        let sockets = lanes.filter_map(|lane| self.lanes.socket(lane));
        sockets
            .filter(|socket| socket.address().as_ref().is_some_and(is_v6))
            .all(|socket| binding::is_only_v6(socket.as_fd()))
    }

    /// Binds a socket that is to be a lane. The first of an address is bound
    /// as it is, so that the answer is that of the kernel without clinit, and
    /// shares the address from then on.
    pub(super) fn bind_shared(
        &self,
        socket: BorrowedFd<'_>,
        address: SocketAddr,
        thread: &Thread,
        Sharing {
            worker,
            first,
            apart,
        }: Sharing,
    ) -> io::Result<i32> {
        let shares = binding::shares_port(socket);
        if first {
            let errno = bind_as(socket, address, thread)?;
            // In the way may be what another worker has at the port, at
            // another address.
            let others = errno == binding::EADDRINUSE
                && self.lanes.ports.has_port(address.port())
                && !self.lanes.ports.overlaps(worker, address, apart);
            if !others {
                if errno == 0 && !shares {
                    binding::share_port(socket, true)?;
                }
                return Ok(errno);
            }
        }
        binding::share_port(socket, true)?;
        let errno = bind_as(socket, address, thread)?;
        if errno != 0 && !shares {
            binding::share_port(socket, false)?;
        }
        Ok(errno)
    }

    /// A worker's socket is bound. Lanes that nobody will take over now are
    /// closed: not where it is one more of a worker's several, whose likes may
    /// be taken over yet.
    pub(super) fn joined(
        &mut self,
        worker: WorkerId,
        address: SocketAddr,
        inode: u64,
        again: bool,
    ) -> LaneId {
        let lane = self.lanes.change().joined(worker, address);
        // Unless the worker is gone by now.
        if self.lanes.ports.is_bound(lane) {
            self.lanes.know(lane, inode);
        }
        if !again {
            for lane in self.lanes.ports.passed_over(worker, address) {
                self.lanes.retire(lane, now());
            }
        }
        log::debug!("a worker has bound {address}");
        lane
    }

    pub(super) fn hold(&mut self, lane: LaneId, socket: OwnedFd) {
        match Listener::take(socket) {
            Ok(socket) => self.lanes.hold(lane, socket),
            Err(error) => log::warn!("cannot keep a worker's socket: {}", describe(&error)),
        }
    }
}

/// As [`Shell::bind_shared`], for datagrams, which no program steers.
pub(super) fn bind_datagrams(
    socket: BorrowedFd<'_>,
    address: SocketAddr,
    thread: &Thread,
    shared: bool,
) -> io::Result<i32> {
    let by_itself = binding::shares_port(socket);
    if shared {
        binding::share_port(socket, true)?;
    }
    let errno = bind_as(socket, address, thread)?;
    if errno == 0 {
        binding::share_port(socket, true)?;
    } else if shared && !by_itself {
        binding::share_port(socket, false)?;
    }
    Ok(errno)
}
