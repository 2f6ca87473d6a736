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
struct Sharing {
    worker: WorkerId,
    /// Whether nobody of ours has the address.
    first: bool,
    /// Whether the worker may have the port once for each family.
    apart: bool,
}

impl Shell {
    /// Gets at the worker's socket by the best way that there is.
    pub(super) fn with_socket(&mut self, caller: Caller<'_>, purpose: Purpose) -> Reply {
        let Caller { call, thread, .. } = caller;
        if self.capture.routes.may_duplicate() {
            match remote::duplicate(thread.process, call.descriptor) {
                // The number may be another process's by now.
                Ok(_) if !self.still_waits(caller) => return Reply::Proceed,
                Ok(socket) => {
                    return match self.pair_of(caller.worker, purpose, &socket) {
                        Some(lane) => self.lend(caller, lane),
                        None => self.put_to_use(caller.worker, purpose, socket),
                    };
                }
                Err(error) => log::debug!("cannot duplicate a worker's socket: {error}"),
            }
        }
        if self.capture.routes.may_trace() && self.trace(caller, purpose) {
            return Reply::Later;
        }
        self.replace(caller, purpose)
    }

    /// The lane that is to take the place of a worker's k-th socket at an
    /// address, where those share it by themselves.
    pub(super) fn pair_of(
        &self,
        worker: WorkerId,
        purpose: Purpose,
        socket: &OwnedFd,
    ) -> Option<LaneId> {
        let Purpose::Bind {
            address,
            again: true,
            ..
        } = purpose
        else {
            return None;
        };
        let shares = binding::shares_port(socket.as_fd()) && !binding::is_bound(socket.as_fd());
        shares.then(|| self.lanes.ports.paired(worker, address))?
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
                        log::debug!("cannot bind {address} for a worker: {error}");
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

    /// Puts another socket in place of the worker's, which clinit cannot or
    /// need not have.
    pub(super) fn replace(&mut self, caller: Caller<'_>, purpose: Purpose) -> Reply {
        let worker = caller.worker;
        match purpose {
            // Whether the worker's own shares ports by itself is not to be
            // seen from here, but the kernel sees it. If it does, another takes
            // its place once it listens: no lane may be unknown to clinit.
            Purpose::Bind {
                address,
                again: true,
                ..
            } => {
                if let Some(inode) = remote::inode(caller.call.tid, caller.call.descriptor) {
                    let lane = self.joined(worker, address, inode, true);
                    let ports = &self.lanes.ports;
                    self.capture.unproven.retain(|known| ports.is_bound(*known));
                    self.capture.unproven.insert(lane);
                }
                Reply::Proceed
            }
            Purpose::Bind { address, first, .. } => {
                let socket = match self.put_replica(caller, address, first) {
                    Ok(Ok(socket)) => socket,
                    Ok(Err(errno)) => return Reply::Errno(errno),
                    Err(error) => {
                        log::debug!("cannot bind {address} for a worker: {error}");
                        return Reply::Proceed;
                    }
                };
                let lane = self.joined(worker, address, binding::inode(&socket), false);
                self.hold(lane, socket);
                Reply::Errno(0)
            }
            Purpose::BindDatagrams {
                address,
                thread,
                again,
            } => {
                let shared = self.shares_datagrams(worker, address, again);
                let bound = self.replica(address, true, &thread, |_, socket| {
                    bind_datagrams(socket, address, &thread, shared)
                });
                match bound {
                    Ok(Ok(socket)) => {
                        if !self.put(caller, socket.as_fd(), true) {
                            return Reply::Proceed;
                        }
                        self.tell_of_replicas(address);
                        let inode = binding::inode(&socket);
                        self.capture.datagrams.insert((address, worker), inode);
                        Reply::Errno(0)
                    }
                    Ok(Err(errno)) => Reply::Errno(errno),
                    Err(_) => Reply::Proceed,
                }
            }
            Purpose::Listen { lane, backlog } => self.replace_bound(caller, lane, backlog),
        }
    }

    /// Puts another socket in place of one that is bound and is to listen. It
    /// would join the others unknown to clinit, and shift their order: so where
    /// that cannot be, it does not listen.
    fn replace_bound(&mut self, caller: Caller<'_>, lane: LaneId, backlog: i32) -> Reply {
        let worker = caller.worker;
        let Some(address) = self.lanes.ports.address_of(lane) else {
            return Reply::Proceed;
        };
        if let Some(twin) = self.lanes.ports.twin(lane) {
            self.lanes.abandoned(worker, lane, now());
            return match self.lend(caller, twin) {
                Reply::Errno(0) => self.listen_on(worker, twin, backlog),
                Reply::Errno(_) | Reply::Proceed | Reply::Later => Reply::Errno(binding::EIO),
            };
        }
        match self.put_replica(caller, address, false) {
            Ok(Ok(socket)) => {
                self.capture.unproven.remove(&lane);
                self.hold(lane, socket);
                self.listen_on(worker, lane, backlog)
            }
            Ok(Err(errno)) => Reply::Errno(errno),
            Err(error) => {
                let why = describe(&error);
                log::warn!("cannot have a worker listen on {address}: {why}");
                Reply::Errno(error.raw_os_error().unwrap_or(binding::EIO))
            }
        }
    }

    /// Puts a socket that is bound in place of the worker's; or the kernel's
    /// error number.
    fn put_replica(
        &mut self,
        caller: Caller<'_>,
        address: SocketAddr,
        first: bool,
    ) -> io::Result<Result<OwnedFd, i32>> {
        let Caller { worker, thread, .. } = caller;
        let bound = self.replica(address, false, &thread, |shell, socket| {
            // The worker's own may leave IPv4 alone: that is not to be seen
            // from here.
            let apart = true;
            let sharing = Sharing {
                worker,
                first,
                apart,
            };
            shell.bind_shared(socket, address, &thread, sharing)
        })?;
        if let Ok(socket) = &bound {
            if !self.put(caller, socket.as_fd(), true) {
                return Err(io::Error::from_raw_os_error(binding::EIO));
            }
            self.tell_of_replicas(address);
        }
        Ok(bound)
    }

    /// Puts a lane in place of the worker's socket.
    pub(super) fn lend(&mut self, caller: Caller<'_>, lane: LaneId) -> Reply {
        if !self.lanes.ports.is_bound(lane) {
            self.lanes.revive(now());
        }
        let shared = self.lanes.ports.is_shared(lane);
        let Some(socket) = self
            .lanes
            .socket(lane)
            .map(|it| it.as_fd().try_clone_to_owned())
        else {
            return Reply::Proceed;
        };
        let Ok(socket) = socket else {
            return Reply::Proceed;
        };
        if !self.put(caller, socket.as_fd(), !shared) {
            return Reply::Proceed;
        }
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
    fn put(&self, caller: Caller<'_>, socket: BorrowedFd<'_>, own: bool) -> bool {
        let Caller { call, worker, .. } = caller;
        let Some(flags) = remote::flags(call.tid, call.descriptor) else {
            return false;
        };
        if own && let Err(error) = binding::set_nonblocking(socket, flags.nonblocking) {
            log::debug!("cannot set whether a socket blocks: {error}");
        }
        let Some(notifications) = self.workers.notifications(worker) else {
            return false;
        };
        let put = notifications.put(call.id, socket, call.descriptor, flags.close_on_exec);
        if let Err(error) = &put {
            log::debug!("cannot put a socket into a worker: {error}");
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
    fn bind_shared(
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

    /// A bound socket in place of the worker's, or the kernel's error number.
    fn replica(
        &self,
        address: SocketAddr,
        datagrams: bool,
        thread: &Thread,
        bind: impl FnOnce(&Self, BorrowedFd<'_>) -> io::Result<i32>,
    ) -> io::Result<Result<OwnedFd, i32>> {
        // Whether the worker's leaves IPv4 alone is not to be seen from here.
        let v4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
        let only_v6 = self.lanes.ports.has_address(v4);
        let socket = binding::replica(address, datagrams, only_v6)?;
        // All that share a port have one owner.
        if let Err(error) = binding::give_to(socket.as_fd(), thread.uid) {
            log::debug!("cannot give a socket to user {}: {error}", thread.uid);
        }
        let errno = bind(self, socket.as_fd())?;
        Ok(if errno == 0 { Ok(socket) } else { Err(errno) })
    }

    /// A worker's socket is bound. Lanes that nobody will take over now are
    /// closed: not where it is one more of a worker's several, whose likes may
    /// be taken over yet.
    fn joined(&mut self, worker: WorkerId, address: SocketAddr, inode: u64, again: bool) -> LaneId {
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

    fn hold(&mut self, lane: LaneId, socket: OwnedFd) {
        match Listener::take(socket) {
            Ok(socket) => self.lanes.hold(lane, socket),
            Err(error) => log::warn!("cannot keep a worker's socket: {}", describe(&error)),
        }
    }

    fn tell_of_replicas(&mut self, address: SocketAddr) {
        if !std::mem::replace(&mut self.capture.told_of_replicas, true) {
            log::info!(
                "{address}: another socket takes the place of the worker's; options that it set before bind are lost"
            );
        }
    }
}

/// As [`Shell::bind_shared`], for datagrams, which no program steers.
fn bind_datagrams(
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
