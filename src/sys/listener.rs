//! Listening sockets (`socket(7)`, `ip(7)`, `unix(7)`).
//!
//! Listeners are clinit's for its whole life and leased to workers; what they
//! are told of options, they are told here. They block or not as each worker
//! wishes, so that is left at its default.

mod address;
mod error;
mod lane;
mod late;
mod unix;

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::signals::ARRIVAL;
pub use address::Address;
use address::{Transport, describe_local};
pub use error::BindError;
pub use lane::Instruction;
pub use late::Late;
use unix::OwnPath;

/// How many connections may wait for a worker. The kernel takes the smaller
/// of this and `net.core.somaxconn`, which is 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// The command of `fcntl(2)` that says which signal `O_ASYNC` sends; libc
/// lacks it.
const F_SETSIG: c_int = 10;

/// A socket that listens, or that takes datagrams. Close-on-exec.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: SockAddr,
    transport: Transport,
    path: Option<OwnPath>,
    /// Whether somebody has it who is no worker.
    is_others_too: bool,
}

/// Makes a listening socket.
///
/// TCP sockets have `SO_REUSEADDR`, so that connections of an earlier clinit
/// in `TIME_WAIT` are no obstacle, and not `SO_REUSEPORT`: with it they would
/// join the sockets of another server that shares its port.
///
/// # Errors
///
/// Each says which address it was, and why.
pub fn bind(address: &Address) -> Result<Listener, BindError> {
    let only_v6 = false;
    let (socket, path) = match address {
        Address::TcpAny(port) => return bind_any(*port, |addr| Address::Tcp { addr, only_v6 }),
        Address::UdpAny(port) => return bind_any(*port, |addr| Address::Udp { addr, only_v6 }),
        Address::Tcp { addr, only_v6 } => (listen_on(*addr, *only_v6, |_| Ok(())), None),
        Address::Udp { addr, only_v6 } => (receive_on(*addr, *only_v6), None),
        Address::UnixAbstract(name) => (Ok(unix::bind_abstract(name)?), None),
        Address::Unix(path) => {
            let (socket, path) = unix::bind_path(path)?;
            (Ok(socket), Some(path))
        }
    };
    socket
        .and_then(|socket| Listener::new(socket, path))
        .map_err(|error| BindError::of(address, &error))
}

/// Takes over a socket that clinit was started with, and sets close-on-exec.
///
/// # Errors
///
/// `ENOTSOCK` for anything but a socket, `EINVAL` for a stream socket that
/// does not listen.
pub fn adopt(descriptor: OwnedFd) -> io::Result<Listener> {
    let socket = Socket::from(descriptor);
    socket.set_cloexec(true)?;
    if socket.r#type()? != Type::DGRAM && !socket.is_listener()? {
        return Err(Errno::EINVAL.into());
    }
    // Whoever made its path removes it.
    let mut adopted = Listener::new(socket, None)?;
    adopted.leave_to_others();
    Ok(adopted)
}

/// Every address of either family, in one socket where the machine has IPv6.
fn bind_any(port: u16, address: impl Fn(SocketAddr) -> Address) -> Result<Listener, BindError> {
    let of = |ip: IpAddr| address(SocketAddr::new(ip, port));
    match bind(&of(Ipv6Addr::UNSPECIFIED.into())) {
        Err(error) if error.is_no_ipv6() => bind(&of(Ipv4Addr::UNSPECIFIED.into())),
        result => result,
    }
}

fn listen_on(
    addr: SocketAddr,
    only_v6: bool,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<Socket> {
    let socket = internet_socket(addr, only_v6, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    prepare(&socket)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Without `SO_REUSEADDR`, which for datagrams would let a second server take
/// the port.
fn receive_on(addr: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = internet_socket(addr, only_v6, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn internet_socket(
    addr: SocketAddr,
    only_v6: bool,
    kind: Type,
    protocol: Protocol,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    Ok(socket)
}

impl Listener {
    fn new(socket: Socket, path: Option<OwnPath>) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let is_datagram = socket.r#type()? == Type::DGRAM;
        let transport = match (local.as_socket(), is_datagram) {
            (Some(_), false) => Transport::Tcp,
            (Some(_), true) => Transport::Udp,
            (None, _) => Transport::Unix,
        };
        Ok(Self {
            socket,
            local,
            transport,
            path,
            is_others_too: false,
        })
    }

    /// Somebody else has it too, who is no worker and goes on with it: it is
    /// not to be [closed for late clients](Self::keep_out).
    pub fn leave_to_others(&mut self) {
        self.is_others_too = true;
    }

    /// The IP address and port that it is bound to.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.local.as_socket()
    }

    /// The port it is bound to.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.local.as_socket().map(|addr| addr.port())
    }

    /// The address it is bound to, as `--listen` takes it.
    #[must_use]
    pub fn local(&self) -> String {
        describe_local(self.transport, &self.local)
    }

    /// The socket's inode, as /proc/PID/fd and /proc/net show it.
    #[must_use]
    pub fn inode(&self) -> u64 {
        fstat(&self.socket).map_or(0, |status| status.st_ino)
    }

    /// Whether [`Self::queued`] is a count.
    #[must_use]
    pub fn counts_its_queue(&self) -> bool {
        matches!(self.transport, Transport::Tcp)
    }

    /// Whether connections wait at it that only workers will take.
    #[must_use]
    pub fn has_queue_of_its_own(&self) -> bool {
        !self.is_others_too && !matches!(self.transport, Transport::Udp)
    }

    /// How many connections wait to be accepted. For anything but TCP the
    /// kernel only tells whether there is one: then 0 or 1.
    #[must_use]
    pub fn queued(&self) -> u32 {
        match self.transport {
            Transport::Tcp => self.accept_queue().unwrap_or(0),
            Transport::Udp | Transport::Unix => u32::from(self.is_readable()),
        }
    }

    /// Asks the kernel to queue a signal for each connection, or datagram, that
    /// arrives ([`super::signals::Received::arrival`]), or to stop that.
    ///
    /// Unlike a wake-up of epoll, which looks again and finds nothing where a
    /// worker was quicker, none is lost. `FIOASYNC` changes this one flag of
    /// the open file, which workers share, and leaves their `O_NONBLOCK` alone.
    ///
    /// # Errors
    ///
    /// Those of `fcntl(2)` and `ioctl(2)`: no memory.
    pub fn announce(&self, on: bool) -> io::Result<()> {
        let descriptor = self.socket.as_raw_fd();
        if on {
            let own = std::process::id().cast_signed();
            // SAFETY: F_SETOWN touches no memory.
            Errno::result(unsafe { libc::fcntl(descriptor, libc::F_SETOWN, own) })?;
            // SAFETY: F_SETSIG touches no memory.
            Errno::result(unsafe { libc::fcntl(descriptor, F_SETSIG, ARRIVAL) })?;
        }
        let on = c_int::from(on);
        // SAFETY: FIOASYNC reads an int, which lives through the call.
        Errno::result(unsafe { libc::ioctl(descriptor, libc::FIOASYNC, &raw const on) })?;
        Ok(())
    }

    /// Listens again where a worker has shut the socket down for all
    /// (`shutdown(2)`), which grpcio does when it stops. A Unix socket that
    /// was shut down stays so, and a port that the kernel chose is another one
    /// then.
    ///
    /// # Errors
    ///
    /// Those of `listen(2)`.
    pub fn revive(&self) -> io::Result<()> {
        if self.transport == Transport::Tcp && !self.socket.is_listener()? {
            self.socket.listen(BACKLOG)?;
        }
        Ok(())
    }

    /// The number of clinit's own descriptor.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Removes the path of a Unix socket, if it is still the one that was
    /// made here and not another server's.
    pub fn remove_path(&self) {
        if let Some(path) = &self.path {
            path.remove();
        }
    }

    /// On a listener `tcpi_unacked` is the accept queue's length
    /// (`tcp_get_info` in the kernel's net/ipv4/tcp.c).
    fn accept_queue(&self) -> Option<u32> {
        // SAFETY: plain data, of which all zeros is a value.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
        // SAFETY: `info` is writable for the length given. An older kernel
        // knows less of it and leaves the rest zero.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        Errno::result(result).ok()?;
        Some(info.tcpi_unacked)
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
