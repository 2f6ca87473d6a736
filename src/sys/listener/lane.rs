//! Several sockets at one address (`SO_REUSEPORT` of `socket(7)`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use socket2::Socket;

use super::address::Transport;
use super::{BACKLOG, Listener, listen_on};

/// One instruction of classic BPF: its code, how many instructions are
/// skipped where a comparison holds and where it does not, and its constant.
pub type Instruction = (u16, u8, u8, u32);

/// asm-generic/socket.h; libc lacks it.
const SO_DETACH_REUSEPORT_BPF: i32 = 68;

/// The least backlog of a lane. A lane whose queue is full drops what the
/// program sends there, and no other takes it.
const LEAST_BACKLOG: i32 = 1024;

impl Listener {
    /// Takes over a worker's socket, which need not listen yet.
    ///
    /// # Errors
    ///
    /// `ENOTSOCK` for anything but a socket.
    pub fn take(descriptor: OwnedFd) -> io::Result<Self> {
        Self::new(Socket::from(descriptor), None)
    }

    /// Lets further sockets have the same address, of the same user. Not to be
    /// called before it is bound: it would join a stranger's sockets that share
    /// the address, where it should be refused.
    ///
    /// # Errors
    ///
    /// Those of `setsockopt(2)`.
    pub fn share_port(&self) -> io::Result<()> {
        self.socket.set_reuse_port(true)
    }

    /// A further socket at the same address, which [has to share
    /// it](Self::share_port). It listens.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)` and `bind(2)`.
    pub fn sibling(&self) -> io::Result<Self> {
        let addr = self.local.as_socket().ok_or(Errno::EAFNOSUPPORT)?;
        let only_v6 = addr.is_ipv6() && self.socket.only_v6()?;
        let socket = listen_on(addr, only_v6, |socket| socket.set_reuse_port(true))?;
        Self::new(socket, None)
    }

    /// Has a program choose among the sockets that share this one's address:
    /// its value is the index of one, in the order in which they listened.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for a socket of Multipath TCP, `EINVAL` for no program,
    /// `ENOMEM`.
    pub fn attach(&self, program: &[Instruction]) -> io::Result<()> {
        let mut instructions: Vec<libc::sock_filter> = program
            .iter()
            .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
            .collect();
        let program = libc::sock_fprog {
            len: u16::try_from(instructions.len()).map_err(io::Error::other)?,
            filter: instructions.as_mut_ptr(),
        };
        let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
        // SAFETY: the program and the instructions that it points to are
        // readable for their lengths, and live through the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                length,
            )
        };
        Ok(Errno::result(result).map(drop)?)
    }

    /// Takes the program away: the kernel chooses.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is none, `ENOPROTOOPT` before Linux 5.3.
    pub fn detach(&self) -> io::Result<()> {
        let unused = 0_i32;
        let length = libc::socklen_t::try_from(size_of_val(&unused)).map_err(io::Error::other)?;
        // SAFETY: the value, which means nothing, is readable for its length.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_DETACH_REUSEPORT_BPF,
                (&raw const unused).cast(),
                length,
            )
        };
        Ok(Errno::result(result).map(drop)?)
    }

    /// Listens, with the backlog that was asked for, but not a small one. On
    /// a socket that listens already it only changes the backlog.
    ///
    /// # Errors
    ///
    /// Those of `listen(2)`.
    pub fn listen(&self, backlog: i32) -> io::Result<()> {
        self.socket.listen(backlog.clamp(LEAST_BACKLOG, BACKLOG))
    }

    /// Whether it listens: a worker may have shut it down for all.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.transport != Transport::Tcp || self.socket.is_listener().unwrap_or(true)
    }
}
