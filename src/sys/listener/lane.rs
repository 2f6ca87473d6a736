//! Several sockets at one address (`SO_REUSEPORT` of `socket(7)`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use socket2::Socket;

use super::super::binding::give_to;
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
    /// it](Self::share_port), and of the same owner. It listens.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)` and `bind(2)`; `EPERM` for another user's without
    /// `CAP_CHOWN`.
    pub fn sibling(&self) -> io::Result<Self> {
        let addr = self.local.as_socket().ok_or(Errno::EAFNOSUPPORT)?;
        let only_v6 = addr.is_ipv6() && self.socket.only_v6()?;
        let owner = fstat(&self.socket)?.st_uid;
        let socket = listen_on(addr, only_v6, |socket| {
            if fstat(socket)?.st_uid != owner {
                give_to(socket.as_fd(), owner)?;
            }
            socket.set_reuse_port(true)
        })?;
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
        let mut instructions = as_filters(program);
        let program = libc::sock_fprog {
            len: u16::try_from(instructions.len()).map_err(|_| Errno::EINVAL)?,
            filter: instructions.as_mut_ptr(),
        };
        self.set(libc::SO_ATTACH_REUSEPORT_CBPF, &program)
    }

    /// Takes the program away: the kernel chooses.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is none, `ENOPROTOOPT` before Linux 5.3.
    pub fn detach(&self) -> io::Result<()> {
        // The value means nothing.
        self.set(SO_DETACH_REUSEPORT_BPF, &0_i32)
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

    /// Whether it has a peer, and so will never listen.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.socket.peer_addr().is_ok()
    }

    /// Whether it listens: a worker may have shut it down for all.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.transport != Transport::Tcp || self.socket.is_listener().unwrap_or(true)
    }
}

/// A program as the kernel takes it.
pub(super) fn as_filters(program: &[Instruction]) -> Vec<libc::sock_filter> {
    let instructions = program.iter();
    instructions
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

    use super::super::{Address, bind};
    use super::*;

    /// `BPF_RET | BPF_K`: always this index.
    fn only(index: u32) -> [Instruction; 1] {
        [(0x06, 0, 0, index)]
    }

    /// At a port that was asked for: one that the kernel chose is another one
    /// after a `shutdown`.
    fn first_lane() -> Listener {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let only_v6 = false;
        let first = bind(&Address::Tcp { addr, only_v6 }).unwrap();
        first.share_port().unwrap();
        first
    }

    /// Where so many new connections end up.
    fn spread(lanes: &[&Listener], connections: usize) -> Vec<u32> {
        let before: Vec<u32> = lanes.iter().map(|lane| lane.queued()).collect();
        let address = lanes[0].address().unwrap();
        let clients: Vec<_> = (0..connections)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let after = lanes.iter().map(|lane| lane.queued());
        let spread = after.zip(before).map(|(after, before)| after - before);
        let spread = spread.collect();
        drop(clients);
        spread
    }

    #[test]
    fn a_program_steers_by_the_order_of_listening() {
        let first = first_lane();
        let second = first.sibling().unwrap();
        let third = second.sibling().unwrap();
        let lanes = [&first, &second, &third];
        for (index, expected) in [(2, [0, 0, 8]), (0, [8, 0, 0]), (1, [0, 8, 0])] {
            second.attach(&only(index)).unwrap();
            assert_eq!(spread(&lanes, 8), expected);
        }
        // The last takes the place of the one that leaves.
        drop(first);
        third.attach(&only(0)).unwrap();
        assert_eq!(spread(&[&second, &third], 8), [0, 8]);
    }

    /// As clinit's own copy is not the last one: a child has another until its
    /// exec.
    #[test]
    fn a_lane_keeps_its_index_until_its_last_copy_is_closed() {
        let first = first_lane();
        let second = first.sibling().unwrap();
        let copy = first.socket.try_clone().unwrap();
        second.attach(&only(1)).unwrap();
        drop(first);
        assert_eq!(spread(&[&second], 8), [8]);
        drop(copy);
        second.attach(&only(0)).unwrap();
        assert_eq!(spread(&[&second], 8), [8]);
    }

    #[test]
    fn a_program_is_taken_away_with_which_there_was_no_choice() {
        let first = first_lane();
        let second = first.sibling().unwrap();
        first.attach(&only(1)).unwrap();
        assert_eq!(spread(&[&first, &second], 64), [0, 64]);
        first.detach().unwrap();
        let spread = spread(&[&first, &second], 64);
        assert!(spread[0] > 0 && spread[1] > 0, "{spread:?}");
        assert!(first.detach().is_err(), "there is none");
        assert!(first.attach(&[]).is_err());
    }

    #[test]
    fn a_lane_that_was_shut_down_comes_last() {
        let first = first_lane();
        let second = first.sibling().unwrap();
        first.socket.shutdown(Shutdown::Both).unwrap();
        assert!(!first.is_listening() && second.is_listening());
        first.revive().unwrap();
        assert!(first.is_listening());
        second.attach(&only(1)).unwrap();
        assert_eq!(spread(&[&first, &second], 8), [8, 0]);
    }

    #[test]
    fn a_small_backlog_is_no_small_one() {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        socket.bind(&address.into()).unwrap();
        let lane = Listener::take(socket.into()).unwrap();
        assert!(!lane.is_listening());
        for backlog in [-1, 0, 1, i32::MAX] {
            lane.listen(backlog).unwrap();
            assert!(lane.is_listening());
        }
        lane.listen(1).unwrap();
        assert_eq!(spread(&[&lane], 64), [64], "no more than one waits");
    }

    #[test]
    fn a_sibling_has_the_family_and_the_options_of_the_first() {
        for only_v6 in [false, true] {
            let addr = (Ipv6Addr::UNSPECIFIED, 0).into();
            let first = bind(&Address::Tcp { addr, only_v6 }).unwrap();
            assert!(first.sibling().is_err(), "the port is not shared yet");
            first.share_port().unwrap();
            let sibling = first.sibling().unwrap();
            assert_eq!(sibling.address(), first.address());
            assert_eq!(sibling.socket.only_v6().unwrap(), only_v6);
            assert!(sibling.is_listening());
        }
    }
}
