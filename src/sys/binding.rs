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
use nix::unistd::{ForkResult, fork};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::process::{RawExit, wait_for_one};
use super::remote::Thread;

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`, one for each half of the bits.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Binds a socket as this thread would.
///
/// Where the thread may do other things than clinit does, a short-lived child
/// takes that on and binds. It is reaped before this returns.
///
/// # Errors
///
/// Those of `bind(2)`; those of `fork(2)`.
pub fn bind_as(socket: BorrowedFd<'_>, address: SocketAddr, thread: &Thread) -> io::Result<()> {
    let own = super::remote::thread(0).ok();
    let same = own.is_some_and(|own| {
        (own.uid, own.gid, own.capabilities) == (thread.uid, thread.gid, thread.capabilities)
    });
    let address = SockAddr::from(address);
    if same {
        return SockRef::from(&socket).bind(&address);
    }
    // SAFETY: the child makes system calls on memory that is prepared, and
    // exits: it neither allocates, locks, panics nor returns.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let errno = become_thread(thread)
                .and_then(|()| bind(socket.as_raw_fd(), &address))
                .err()
                .map_or(0, |errno| errno as i32);
            // SAFETY: _exit runs no handler and no destructor.
            unsafe { libc::_exit(errno) }
        }
        ForkResult::Parent { child } => match wait_for_one(child.as_raw()) {
            RawExit::Code(0) => Ok(()),
            RawExit::Code(errno) => Err(io::Error::from_raw_os_error(errno)),
            RawExit::Signal { .. } => Err(Errno::EINTR.into()),
        },
    }
}

fn bind(socket: i32, address: &SockAddr) -> Result<(), Errno> {
    // SAFETY: the address is readable for its length, and lives through the
    // call.
    let result = unsafe { libc::bind(socket, address.as_ptr().cast(), address.len()) };
    Errno::result(result).map(drop)
}

/// Takes on a thread's user, group and effective capabilities, for the
/// child's only thread. Async-signal-safe.
fn become_thread(thread: &Thread) -> Result<(), Errno> {
    let Thread {
        uid,
        gid,
        capabilities,
        ..
    } = *thread;
    // SAFETY: PR_SET_KEEPCAPS touches no memory.
    unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1_u64) };
    // SAFETY: setresgid touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    Errno::result(result)?;
    // SAFETY: setresuid touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    Errno::result(result)?;
    let half = |shift: u32| {
        #[expect(clippy::cast_possible_truncation, reason = "half of it is meant")]
        let bits = (capabilities >> shift) as u32;
        CapabilityHalf {
            effective: bits,
            permitted: bits,
            inheritable: 0,
        }
    };
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let halves = [half(0), half(32)];
    // SAFETY: the header and the two halves that this version has are
    // readable, and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    Errno::result(result).map(drop)
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

/// Whether a socket speaks Multipath TCP, whose listeners take no program.
#[must_use]
pub fn is_multipath(socket: BorrowedFd<'_>) -> bool {
    let protocol = SockRef::from(&socket).protocol();
    protocol.is_ok_and(|protocol| protocol == Some(Protocol::MPTCP))
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
/// `EPERM` without CAP_CHOWN.
pub fn give_to(socket: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    // SAFETY: fchown touches no memory. The group stays as it is.
    let result = unsafe { libc::fchown(socket.as_raw_fd(), uid, u32::MAX) };
    Ok(Errno::result(result).map(drop)?)
}
