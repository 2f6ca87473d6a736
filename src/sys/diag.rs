//! TCP sockets of this network namespace, as the kernel lists them
//! (`sock_diag(7)`).
//!
//! A handshake that has begun keeps the listener it began with, wherever new
//! ones go. So a listener that is steered away from is empty only once those
//! have ended that were under way then. And whether a server owes its client
//! an answer shows in what has come and gone on the connection.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// States of `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const SYN_RECEIVED: u8 = 3;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// The attribute `INET_DIAG_INFO`: a `struct tcp_info`.
const INFO: u16 = 2;

/// Where the parts of a message begin: `struct nlmsghdr` is 16 bytes, and
/// `struct inet_diag_msg` begins with family, state, timer and retransmissions.
const HEADER: usize = 16;
const STATE: usize = 1;
const SOCKET_ID: usize = 4;
const SOCKET_ID_LENGTH: usize = 36;
const RECEIVE_QUEUE: usize = 56;
const SEND_QUEUE: usize = 60;
const INODE: usize = 68;
const ATTRIBUTES: usize = 72;

/// Where the parts of `struct tcp_info` begin.
const LAST_SENT: usize = 44;
const LAST_RECEIVED: usize = 52;
const ROUND_TRIP: usize = 68;
const BYTES_RECEIVED: usize = 128;
const SEGMENTS_SENT: usize = 156;

/// A handshake, or what has come of it: both addresses and ports, as the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handshake([u8; SOCKET_ID_LENGTH]);

impl Default for Handshake {
    fn default() -> Self {
        Self([0; SOCKET_ID_LENGTH])
    }
}

/// A connection that both sides can still write to, or that the client has
/// closed or said its last on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its addresses and ports, which the handshake had.
    pub id: Handshake,
    /// The socket's inode; 0 where no process has it: it is not accepted yet.
    pub inode: u64,
    /// Bytes that the server has not read.
    pub unread: u32,
    /// Bytes that the client has not confirmed.
    pub unsent: u32,
    /// Since the connection was made or, if that was later, since something
    /// last came; in the kernel's ticks, of 1 to 10 ms.
    pub quiet_in: Duration,
    /// Likewise, since something last went out.
    pub quiet_out: Duration,
    /// How long an answer of the client's own kernel takes.
    pub round_trip: Duration,
    /// Whether anything has come.
    pub has_received: bool,
    /// Whether anything has gone out.
    pub has_sent: bool,
}

/// A socket of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Not a connection yet.
    Handshake(Handshake),
    /// A connection.
    Connection(Connection),
}

/// Shows the handshakes and connections whose local port this is, of IPv4 and
/// IPv6.
///
/// # Errors
///
/// Those of `socket(2)` and `recv(2)`: where there is no such socket family,
/// or a container engine's profile refuses it.
pub fn each_at_port(port: u16, mut show: impl FnMut(Socket)) -> io::Result<()> {
    dump(
        &[SYN_RECEIVED, ESTABLISHED, CLOSE_WAIT],
        port,
        &mut |body| {
            if let Some(socket) = socket(body) {
                show(socket);
            }
        },
    )
}

/// The connections at a local port that nobody has accepted.
///
/// # Errors
///
/// As [`each_at_port`].
pub fn waiting(port: u16) -> io::Result<Vec<Handshake>> {
    let mut found = Vec::new();
    each_at_port(port, |socket| {
        if let Socket::Connection(Connection { id, inode: 0, .. }) = socket {
            found.push(id);
        }
    })?;
    Ok(found)
}

/// The inodes and ports of all sockets that listen.
///
/// # Errors
///
/// As [`each_at_port`].
pub fn listening() -> io::Result<Vec<(u64, u16)>> {
    let mut found = Vec::new();
    dump(&[LISTEN], 0, &mut |body| {
        if let (Some(inode), Some(port)) = (number(body, INODE), array(body, SOCKET_ID)) {
            found.push((inode.into(), u16::from_be_bytes(port)));
        }
    })?;
    Ok(found)
}

/// Shows the `struct inet_diag_msg` of each socket in one of these states,
/// and at this port if it is not 0.
fn dump(states: &[u8], port: u16, show: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let states = states.iter().fold(0, |bits, state| bits | 1 << state);
    let mut buffer = vec![0; 32 * 1024];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let socket = open()?;
        ask(&socket, u8::try_from(family).unwrap_or(0), states, port)?;
        loop {
            let length = receive(&socket, &mut buffer)?;
            let answer = buffer.get(..length).unwrap_or_default();
            if length == 0 || take_in(answer, show)? {
                break;
            }
        }
    }
    Ok(())
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
fn ask(socket: &OwnedFd, family: u8, states: u32, port: u16) -> io::Result<()> {
    let mut request = Vec::with_capacity(72);
    request.extend(72_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((REQUEST | DUMP).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([
        family,
        libc::IPPROTO_TCP.cast_unsigned().to_le_bytes()[0],
        1 << (INFO - 1),
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
fn take_in(mut part: &[u8], show: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (number(part, 0), array(part, 4)) {
        match u16::from_ne_bytes(kind) {
            DONE => return Ok(true),
            ERROR => {
                let errno = array(part, HEADER).map_or(0, i32::from_ne_bytes);
                return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
            }
            _ => {}
        }
        let length = (length as usize).max(HEADER);
        show(part.get(HEADER..length).unwrap_or_default());
        // Messages begin at multiples of 4.
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// What is told of a socket; none where that is cut off.
fn socket(body: &[u8]) -> Option<Socket> {
    let state = *body.get(STATE)?;
    if state == SYN_RECEIVED {
        return Some(Socket::Handshake(Handshake(array(body, SOCKET_ID)?)));
    }
    let info = attribute(body.get(ATTRIBUTES..)?, INFO)?;
    let milliseconds = |at| number(info, at).map(|ms| Duration::from_millis(ms.into()));
    // The end of what the client says counts as a byte.
    let end = u32::from(state == CLOSE_WAIT);
    Some(Socket::Connection(Connection {
        id: Handshake(array(body, SOCKET_ID)?),
        inode: number(body, INODE)?.into(),
        unread: number(body, RECEIVE_QUEUE)?.saturating_sub(end),
        unsent: number(body, SEND_QUEUE)?,
        quiet_in: milliseconds(LAST_RECEIVED)?,
        quiet_out: milliseconds(LAST_SENT)?,
        round_trip: Duration::from_micros(number(info, ROUND_TRIP)?.into()),
        has_received: u64::from_ne_bytes(array(info, BYTES_RECEIVED)?) > 0,
        has_sent: number(info, SEGMENTS_SENT)? > 0,
    }))
}

/// The value of an attribute of this kind (`struct rtattr`).
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(array(attributes, 0)?)).max(4);
        if u16::from_ne_bytes(array(attributes, 2)?) == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], from: usize) -> Option<u32> {
    array(bytes, from).map(u32::from_ne_bytes)
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
