//! Handing a descriptor to another process over a socket (`unix(7)`,
//! `SCM_RIGHTS`).
//!
//! A message has one byte or a few, and one descriptor at most.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// `SOL_SOCKET`, on both of the machines that clinit runs on.
const LEVEL: i32 = libc::SOL_SOCKET;

/// A control message with one descriptor, as the kernel lays it out. The C
/// libraries' `cmsghdr` differ in how they spell the length.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Control {
    length: u64,
    level: i32,
    kind: i32,
    descriptor: i32,
    _padding: i32,
}

/// How long it is without the padding. As the size of a buffer it leaves room
/// for one descriptor; with the padding there would be room for two, and the
/// second would be open here unnoticed.
pub(super) const CONTROL_LENGTH: u8 = 20;

const _: () = assert!(size_of::<Control>() == CONTROL_LENGTH as usize + 4);

/// What a message brought.
#[derive(Debug)]
pub(super) struct Message {
    /// How many bytes; 0 at the end, where the other side is closed.
    pub(super) length: usize,
    /// The descriptor, close-on-exec.
    pub(super) descriptor: Option<OwnedFd>,
    /// Whether there was one that could not be had.
    pub(super) lost: bool,
}

/// Sends `bytes` with a descriptor. Never blocks; async-signal-safe.
///
/// # Errors
///
/// Those of `sendmsg(2)`.
pub(super) fn send(socket: RawFd, bytes: &[u8], descriptor: RawFd) -> Result<(), Errno> {
    let mut control = Control {
        length: CONTROL_LENGTH.into(),
        level: LEVEL,
        kind: libc::SCM_RIGHTS,
        descriptor,
        _padding: 0,
    };
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let message = header(&mut part, &mut control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the message points to `part` and `control`, which live through
    // the call, and `part` to `bytes`, which are only read.
    let result = unsafe { libc::sendmsg(socket, &raw const message, flags) };
    Errno::result(result).map(drop)
}

/// Receives one message. Never blocks.
///
/// # Errors
///
/// Those of `recvmsg(2)`; `EAGAIN` where there is nothing.
pub(super) fn receive(socket: impl AsFd, bytes: &mut [u8]) -> Result<Message, Errno> {
    let mut control = Control::default();
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut message = header(&mut part, &mut control);
    let socket = socket.as_fd().as_raw_fd();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let length = loop {
        // SAFETY: the message points to `part` and `control`, and `part` to
        // `bytes`: all are writable for the lengths given and live through
        // the call.
        let result = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
        match Errno::result(result) {
            Ok(length) => break usize::try_from(length).unwrap_or(0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    };
    let came = control.length >= u64::from(CONTROL_LENGTH)
        && control.level == LEVEL
        && control.kind == libc::SCM_RIGHTS;
    let descriptor = came.then(|| {
        // SAFETY: the kernel has just opened it for this message, and nothing
        // else knows of it.
        unsafe { OwnedFd::from_raw_fd(control.descriptor) }
    });
    Ok(Message {
        length,
        descriptor,
        lost: !came && message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

fn header(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: msghdr is plain data, and all zeros are a value of it.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = std::ptr::from_mut(control).cast();
    // Its type is the C library's choice.
    message.msg_controllen = CONTROL_LENGTH.into();
    message
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_descriptor_arrives_and_is_closed_at_exec() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let file = File::open("/proc/self/status").unwrap();
        send(there.as_raw_fd(), b"ab", file.as_raw_fd()).unwrap();
        let mut bytes = [0; 4];
        let message = receive(&here, &mut bytes).unwrap();
        assert_eq!((message.length, &bytes[..2]), (2, &b"ab"[..]));
        let received = File::from(message.descriptor.unwrap());
        let identity = |file: &File| file.metadata().map(|status| (status.dev(), status.ino()));
        assert_eq!(identity(&received).unwrap(), identity(&file).unwrap());
        // SAFETY: F_GETFD touches no memory.
        let flags = unsafe { libc::fcntl(received.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
        assert_eq!(
            receive(&here, &mut bytes).unwrap_err(),
            Errno::EAGAIN,
            "it blocks or repeats"
        );
    }

    #[test]
    fn bytes_alone_bring_no_descriptor() {
        let (here, there) = UnixDatagram::pair().unwrap();
        there.send(b"x").unwrap();
        let message = receive(&here, &mut [0; 4]).unwrap();
        assert!(message.descriptor.is_none() && !message.lost);
        assert_eq!(message.length, 1);
    }
}
