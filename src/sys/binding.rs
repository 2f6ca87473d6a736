//! Binding a worker's socket in its place (`bind(2)`, `ip(7)`).
//!
//! Clinit may be allowed more than its worker is. What it binds for one it
//! binds as that one, so that the kernel's answer is the one that the worker
//! would have had.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::guise::Guise;
use super::remote::{self, Thread};

/// What `fchown(2)` takes for an id that stays.
const KEPT: u32 = u32::MAX;

/// Binds a socket as this thread would, and returns the kernel's answer to
/// that: 0, or an error number of `bind(2)`.
///
/// In a user namespace of its own a thread has every capability, and none of
/// them counts where ports are: so it is bound for without any.
///
/// # Errors
///
/// `EPERM` where clinit cannot become that user.
pub fn bind_as(socket: BorrowedFd<'_>, address: SocketAddr, thread: &Thread) -> io::Result<i32> {
    let pid = std::process::id().cast_signed();
    let own = remote::thread(pid).ok();
    let mut thread = *thread;
    if remote::user_namespace(thread.process) != remote::user_namespace(pid) {
        thread.capabilities = 0;
    }
    let Thread {
        uid,
        gid,
        capabilities,
        ..
    } = thread;
    let same =
        own.is_some_and(|own| (own.uid, own.gid, own.capabilities) == (uid, gid, capabilities));
    let _guise = if same {
        None
    } else {
        Some(Guise::of(uid, gid, capabilities)?)
    };
    let address = SockAddr::from(address);
    // SAFETY: the address is readable for its length, and lives through the
    // call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len()) };
    let bound = Errno::result(result);
    Ok(bound.err().map_or(0, |errno| errno as i32))
}

/// A socket for a worker in place of its own, which could not be had: as new,
/// sharing its port with others. Close-on-exec.
///
/// # Errors
///
/// Those of `socket(2)`.
pub fn replica(address: SocketAddr, datagrams: bool, only_v6: bool) -> io::Result<OwnedFd> {
    let (kind, protocol) = if datagrams {
        (Type::DGRAM, Protocol::UDP)
    } else {
        (Type::STREAM, Protocol::TCP)
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if !datagrams {
        // As every server sets it.
        socket.set_reuse_address(true)?;
    }
    Ok(socket.into())
}

/// Whether a socket shares its port with others (`SO_REUSEPORT`).
#[must_use]
pub fn shares_port(socket: BorrowedFd<'_>) -> bool {
    SockRef::from(&socket).reuse_port().unwrap_or(false)
}

/// Lets a socket share its port with others, or not.
///
/// # Errors
///
/// Those of `setsockopt(2)`.
pub fn share_port(socket: BorrowedFd<'_>, shared: bool) -> io::Result<()> {
    SockRef::from(&socket).set_reuse_port(shared)
}

/// Whether an IPv6 socket leaves IPv4 alone.
#[must_use]
pub fn is_only_v6(socket: BorrowedFd<'_>) -> bool {
    SockRef::from(&socket).only_v6().unwrap_or(false)
}

/// A socket's inode, as /proc/PID/fd shows it.
#[must_use]
pub fn inode(socket: impl AsFd) -> u64 {
    fstat(&socket).map_or(0, |status| status.st_ino)
}

/// Gives a socket to another user: all that share a port have to have one
/// owner (`fchown(2)`; a socket's owner is its inode's).
///
/// # Errors
///
/// `EPERM` without `CAP_CHOWN`.
pub fn give_to(socket: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    // SAFETY: fchown touches no memory. The group stays as it is.
    let result = unsafe { libc::fchown(socket.as_raw_fd(), uid, KEPT) };
    Ok(Errno::result(result).map(drop)?)
}

/// `EADDRINUSE`, as a worker's answer.
pub const EADDRINUSE: i32 = libc::EADDRINUSE;

/// `EIO`, for a failure that has no number.
pub const EIO: i32 = libc::EIO;

/// Whether this says that there is nothing at an address.
#[must_use]
pub fn is_fault(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EFAULT | libc::EIO))
}

/// Whether a socket has an address with a port already (`getsockname(2)`).
#[must_use]
pub fn is_bound(socket: BorrowedFd<'_>) -> bool {
    let local = SockRef::from(&socket).local_addr();
    let address = local.ok().and_then(|local| local.as_socket());
    address.is_some_and(|address| address.port() != 0)
}

/// Whether a socket blocks is of the open file, which all of its holders
/// share (`FIONBIO` of `ioctl(2)`; `F_SETFL` would change other flags with
/// it).
///
/// # Errors
///
/// Those of `ioctl(2)`.
pub fn set_nonblocking(socket: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let flag = i32::from(nonblocking);
    // SAFETY: FIONBIO reads an int, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw const flag) };
    Ok(Errno::result(result).map(drop)?)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::process::{Command, Stdio};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::super::listener::Listener;
    use super::super::start::own_uid;
    use super::*;

    /// `CAP_NET_BIND_SERVICE` of capabilities(7).
    const MAY_BIND_LOW_PORTS: u64 = 1 << 10;

    const NOBODY: u32 = 65_534;

    fn own_thread() -> Thread {
        remote::thread(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    fn nobody(capabilities: u64) -> Thread {
        Thread {
            uid: NOBODY,
            gid: NOBODY,
            capabilities,
            ..own_thread()
        }
    }

    /// One that no other test has.
    fn low_port(last: u8) -> SocketAddr {
        ([127, 31, 7, last], 79).into()
    }

    fn socket() -> OwnedFd {
        replica((Ipv4Addr::LOCALHOST, 0).into(), false, false).unwrap()
    }

    fn bind_new(address: SocketAddr, thread: &Thread) -> i32 {
        bind_as(socket().as_fd(), address, thread).unwrap()
    }

    #[test]
    fn a_bind_for_oneself_is_answered_as_by_the_kernel() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = taken.local_addr().unwrap();
        assert_eq!(bind_new(taken, &own_thread()), libc::EADDRINUSE);
        let nowhere = ([192, 0, 2, 1], 0).into();
        assert_eq!(bind_new(nowhere, &own_thread()), libc::EADDRNOTAVAIL);
        let socket = socket();
        assert!(!is_bound(socket.as_fd()));
        let free = (Ipv4Addr::LOCALHOST, 0).into();
        assert_eq!(bind_as(socket.as_fd(), free, &own_thread()).unwrap(), 0);
        assert!(is_bound(socket.as_fd()));
    }

    #[test]
    fn a_bind_for_another_user_is_answered_as_that_one_would_be() {
        let address = low_port(1);
        if own_uid() != 0 {
            let refused = bind_as(socket().as_fd(), address, &nobody(0));
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
            return;
        }
        assert_eq!(bind_new(address, &nobody(0)), libc::EACCES);
        assert_eq!(bind_new(address, &nobody(MAY_BIND_LOW_PORTS)), 0);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = taken.local_addr().unwrap();
        assert_eq!(bind_new(taken, &nobody(0)), libc::EADDRINUSE);
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        assert_eq!(bind_new(any, &nobody(0)), 0);
    }

    #[test]
    fn who_rules_a_user_namespace_is_lent_nothing_outside() {
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "cat"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = i32::try_from(child.id()).unwrap();
        let own = remote::user_namespace(own_thread().process);
        let theirs = loop {
            match (remote::user_namespace(process), child.try_wait().unwrap()) {
                // Nobody may make one here.
                (_, Some(_)) => return,
                (Some(found), None) if Some(&found) != own.as_ref() => break found,
                _ => std::thread::yield_now(),
            }
        };
        assert_ne!(Some(theirs), own);
        let thread = remote::thread(process).unwrap();
        assert_ne!(thread.capabilities & MAY_BIND_LOW_PORTS, 0);
        assert_eq!(bind_new(low_port(2), &thread), libc::EACCES);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_replica_is_a_new_socket_of_that_kind() {
        for (address, datagrams) in [
            (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false),
            ((Ipv4Addr::LOCALHOST, 0).into(), true),
            ((Ipv6Addr::LOCALHOST, 0).into(), false),
        ] {
            let socket = replica(address, datagrams, true).unwrap();
            let socket = SockRef::from(&socket);
            let kind = if datagrams { Type::DGRAM } else { Type::STREAM };
            assert_eq!(socket.r#type().unwrap(), kind);
            assert_eq!(socket.domain().unwrap(), Domain::for_address(address));
            assert_eq!(socket.reuse_address().unwrap(), !datagrams);
            assert!(!socket.reuse_port().unwrap() && !socket.nonblocking().unwrap());
        }
        let any = (Ipv6Addr::UNSPECIFIED, 0).into();
        for only_v6 in [false, true] {
            let socket = replica(any, false, only_v6).unwrap();
            assert_eq!(is_only_v6(socket.as_fd()), only_v6);
        }
    }

    #[test]
    fn a_port_is_shared_once_it_is_said_and_no_longer_than_that() {
        let socket = socket();
        for shared in [true, false] {
            share_port(socket.as_fd(), shared).unwrap();
            assert_eq!(shares_port(socket.as_fd()), shared);
        }
    }

    /// The kernel's: all that share a port have one owner. Clinit's group has
    /// the one that its first socket has.
    #[test]
    fn only_sockets_of_one_owner_share_a_port() {
        if own_uid() != 0 {
            return;
        }
        let first = socket();
        give_to(first.as_fd(), NOBODY).unwrap();
        share_port(first.as_fd(), true).unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        assert_eq!(bind_as(first.as_fd(), any, &own_thread()).unwrap(), 0);
        let first = Listener::take(first).unwrap();
        first.listen(0).unwrap();
        let address = first.address().unwrap();
        let join = |owner| {
            let socket = socket();
            give_to(socket.as_fd(), owner).unwrap();
            share_port(socket.as_fd(), true).unwrap();
            bind_as(socket.as_fd(), address, &own_thread()).unwrap()
        };
        assert_eq!(join(0), libc::EADDRINUSE);
        assert_eq!(join(NOBODY), 0);
        assert_eq!(first.sibling().unwrap().address(), Some(address));
    }

    #[test]
    fn whether_a_socket_blocks_changes_and_nothing_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listener = Listener::take(listener.into()).unwrap();
        listener.announce(true).unwrap();
        let flags = || OFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFL).unwrap());
        for nonblocking in [true, false, true] {
            set_nonblocking(listener.as_fd(), nonblocking).unwrap();
            assert_eq!(flags().contains(OFlag::O_NONBLOCK), nonblocking);
            assert!(flags().contains(OFlag::O_ASYNC));
        }
    }
}
