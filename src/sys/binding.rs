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

/// The exit code of a child that could not become what it was to be; no error
/// number is as large.
const REFUSED: i32 = 255;

/// Binds a socket as this thread would, and returns the kernel's answer to
/// that: 0, or an error number of `bind(2)`.
///
/// Where the thread may do other things than clinit does, a short-lived child
/// takes that on and binds. It is reaped before this returns.
///
/// # Errors
///
/// Those of `fork(2)`; `EPERM` where clinit cannot become that user.
pub fn bind_as(socket: BorrowedFd<'_>, address: SocketAddr, thread: &Thread) -> io::Result<i32> {
    let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let own = super::remote::thread(own).ok();
    let same = own.is_some_and(|own| {
        (own.uid, own.gid, own.capabilities) == (thread.uid, thread.gid, thread.capabilities)
    });
    let address = SockAddr::from(address);
    if same {
        let bound = bind(socket.as_raw_fd(), &address);
        return Ok(bound.err().map_or(0, |errno| errno as i32));
    }
    // SAFETY: the child makes system calls on memory that is prepared, and
    // exits: it neither allocates, locks, panics nor returns.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let code = match become_thread(thread) {
                Ok(()) => {
                    bind(socket.as_raw_fd(), &address).map_or_else(|errno| errno as i32, |()| 0)
                }
                Err(_) => REFUSED,
            };
            // SAFETY: _exit runs no handler and no destructor.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => match wait_for_one(child.as_raw()) {
            Ok(RawExit::Code(errno)) if errno != REFUSED => Ok(errno),
            Ok(RawExit::Code(_) | RawExit::Signal { .. }) | Err(_) => Err(Errno::EPERM.into()),
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
/// `EPERM` without `CAP_CHOWN`.
pub fn give_to(socket: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    // SAFETY: fchown touches no memory. The group stays as it is.
    let result = unsafe { libc::fchown(socket.as_raw_fd(), uid, u32::MAX) };
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
