//! Where a worker's own socket is not to be had: another that is bound in its
//! place takes it. Options that were set before are lost.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::port::LaneId;
use crate::sys::binding;
use crate::sys::errno::describe;
use crate::sys::remote::{self, Thread};

use super::super::log;
use super::socket::{Purpose, Sharing, bind_datagrams};
use super::{Caller, Reply, Shell, now};

impl Shell {
    /// Puts another socket in place of the worker's, which clinit cannot or
    /// need not have.
    pub(super) fn replace(&mut self, caller: Caller<'_>, purpose: Purpose) -> Reply {
        let worker = caller.worker;
        match purpose {
            // It would serve nobody.
            Purpose::Bind { again: false, .. } | Purpose::BindDatagrams { .. }
                if !caller.waiting().is_empty() =>
            {
                let why = "it waits for its socket before it binds it, \
                           and clinit can only put another in its place";
                self.lose_sharing(caller, why)
            }
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
                        log::debug!("cannot bind {address} for a worker: {}", describe(&error));
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
    /// that cannot be, it does not listen, unless it has its port alone.
    fn replace_bound(&mut self, caller: Caller<'_>, lane: LaneId, backlog: i32) -> Reply {
        let worker = caller.worker;
        let Some(address) = self.lanes.ports.address_of(lane) else {
            return Reply::Proceed;
        };
        if !caller.waiting().is_empty() {
            let why = "it waits for its socket before it listens, \
                       and clinit can only put another in its place";
            let reply = self.lose_sharing(caller, why);
            if reply == Reply::Proceed {
                self.lanes.abandoned(worker, lane, now());
                self.listened(worker, None);
            }
            return reply;
        }
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
            log::debug!(
                "cannot give a socket to user {}: {}",
                thread.uid,
                describe(&error)
            );
        }
        let errno = bind(self, socket.as_fd())?;
        Ok(if errno == 0 { Ok(socket) } else { Err(errno) })
    }

    fn tell_of_replicas(&mut self, address: SocketAddr) {
        if !std::mem::replace(&mut self.capture.told_of_replicas, true) {
            log::info!(
                "{address}: another socket takes the place of the worker's; options that it set before bind are lost"
            );
        }
    }
}
