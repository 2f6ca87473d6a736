//! Handshakes under way and connections that wait, as the kernel lists sockets
//! (`sock_diag(7)`).
//!
//! A handshake that has begun keeps the listener it began with, wherever new
//! ones go. So a listener that is steered away from is empty only once those
//! have ended that were under way then.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `TCP_SYN_RECV` of `net/tcp_states.h`, as a bit.
const SYN_RECEIVED: u32 = 1 << 3;

/// `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT`, in which a client has gone already.
const CONNECTED: u32 = 1 << 1 | 1 << 8;

/// Where the parts of a message begin: `struct nlmsghdr` is 16 bytes, and
/// `struct inet_diag_msg` begins with family, state, timer and retransmissions.
const HEADER: usize = 16;
const SOCKET_ID: usize = 4;
const SOCKET_ID_LENGTH: usize = 36;

/// Where a message's inode is, behind 48 bytes of socket id and four numbers.
const INODE: usize = HEADER + 4 + 48 + 16;

/// The most that one look takes in; beyond, it is a flood and not clients.
const MOST_HANDSHAKES: usize = 4096;

/// A handshake, or what has come of it: both addresses and ports, as the
/// kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handshake([u8; SOCKET_ID_LENGTH]);

/// The handshakes that are under way at a local port, of IPv4 and IPv6.
///
/// # Errors
///
/// Those of `socket(2)` and `recv(2)`: where there is no such socket family,
/// or a container engine's profile refuses it.
pub fn handshakes(port: u16) -> io::Result<Vec<Handshake>> {
    list(port, SYN_RECEIVED)
}

/// The connections at a local port that nobody has accepted, of IPv4 and IPv6:
/// they have no inode yet (`net/ipv4/inet_diag.c`).
///
/// # Errors
///
/// As [`handshakes`].
pub fn waiting(port: u16) -> io::Result<Vec<Handshake>> {
    list(port, CONNECTED)
}

fn list(port: u16, states: u32) -> io::Result<Vec<Handshake>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let socket = open()?;
        ask(&socket, u8::try_from(family).unwrap_or(0), port, states)?;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let length = receive(&socket, &mut buffer)?;
            let answer = buffer.get(..length).unwrap_or_default();
            if length == 0 || take_in(answer, &mut found)? || found.len() >= MOST_HANDSHAKES {
                break;
            }
        }
    }
    Ok(found)
}

fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket touches no memory.
    let result = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) };
    let number = Errno::result(result)?;
    // SAFETY: the kernel just made this descriptor, and nothing else knows of
    // it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `struct inet_diag_req_v2`, behind its header.
fn ask(socket: &OwnedFd, family: u8, port: u16, states: u32) -> io::Result<()> {
    let mut request = Vec::with_capacity(72);
    request.extend(72_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((REQUEST | DUMP).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([
        family,
        libc::IPPROTO_TCP.cast_unsigned().to_le_bytes()[0],
        0,
        0,
    ]);
    request.extend(states.to_ne_bytes());
    request.extend(port.to_be_bytes());
    request.resize(72, 0);
    // SAFETY: the request is readable for its length.
    let result = unsafe {
        libc::send(
            socket.as_raw_fd(),
            request.as_ptr().cast(),
            request.len(),
            0,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // The kernel answers before `send` returns: there is nothing to wait for.
    // SAFETY: the buffer is writable for its length.
    let result = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
        )
    };
    match Errno::result(result) {
        Ok(length) => Ok(usize::try_from(length).unwrap_or(0)),
        Err(Errno::EAGAIN) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes in the messages of one part; returns whether it was the last.
fn take_in(mut part: &[u8], found: &mut Vec<Handshake>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (array(part, 0), array(part, 4)) {
        let length = u32::from_ne_bytes(length) as usize;
        match u16::from_ne_bytes(kind) {
            DONE => return Ok(true),
            ERROR => {
                let errno = array(part, HEADER).map_or(0, i32::from_ne_bytes);
                return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
            }
            _ => {}
        }
        // Neither a handshake nor a connection that waits has an inode.
        let message = part.get(..length).unwrap_or(part);
        let accepted = array(message, INODE).is_some_and(|inode| u32::from_ne_bytes(inode) != 0);
        if let Some(id) = array(message, HEADER + SOCKET_ID)
            && !accepted
        {
            found.push(Handshake(id));
        }
        // Messages begin at multiples of 4.
        let next = length.max(HEADER).next_multiple_of(4);
        part = part.get(next..).unwrap_or_default();
    }
    Ok(false)
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_with_no_handshake_under_way_has_none() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        assert_eq!(handshakes(address.port()).unwrap(), Vec::new());
    }

    #[test]
    fn a_connection_waits_until_it_is_accepted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        let both = waiting(address.port()).unwrap();
        assert_eq!(both.len(), 2);
        let _served = listener.accept().unwrap();
        let one = waiting(address.port()).unwrap();
        assert!(one.len() == 1 && both.contains(&one[0]));
        // Its client has gone, and it waits on.
        drop(clients);
        assert_eq!(waiting(address.port()).unwrap(), one);
    }

    /// With `TCP_DEFER_ACCEPT` a handshake is under way until the client has
    /// said something.
    #[test]
    fn a_handshake_under_way_is_listed_until_it_is_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seconds = 60_i32;
        // SAFETY: TCP_DEFER_ACCEPT reads an int, which lives through the call.
        let result = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                4,
            )
        };
        assert_eq!(result, 0);
        let mut clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        let both = handshakes(address.port()).unwrap();
        assert_eq!(both.len(), 2);
        clients[0].write_all(b"x").unwrap();
        let _ = listener.accept().unwrap();
        let one = handshakes(address.port()).unwrap();
        assert!(one.len() == 1 && both.contains(&one[0]));
    }

    #[test]
    fn messages_are_taken_in_and_a_mangled_one_ends_the_part() {
        let message = |kind: u16, body: &[u8]| {
            let length = u32::try_from(HEADER + body.len()).unwrap();
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            bytes
        };
        let socket = |port: u8| {
            let mut body = vec![2, 3, 0, 0];
            body.extend([port; SOCKET_ID_LENGTH]);
            message(SOCK_DIAG_BY_FAMILY, &body)
        };
        let mut found = Vec::new();
        let part = [socket(1), socket(2)].concat();
        assert!(!take_in(&part, &mut found).unwrap());
        assert_eq!(found.len(), 2);
        let part = [socket(3), message(DONE, &[0; 4])].concat();
        assert!(take_in(&part, &mut found).unwrap());
        assert_eq!(found.len(), 3);
        let error = message(ERROR, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(
            take_in(&error, &mut found).unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
        for length in 0..part.len() {
            let _ = take_in(&part[..length], &mut found);
        }
    }
}
