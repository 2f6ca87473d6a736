//! The socket on which a worker says that it is ready (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::random::entropy;

/// Datagrams longer than this are cut off.
pub const LONGEST: usize = 4096;

/// A datagram socket in the abstract namespace, under a name that is not
/// used twice. Close-on-exec, non-blocking.
#[derive(Debug)]
pub struct NotifySocket {
    socket: Socket,
    name: String,
}

/// What came with a datagram. The kernel vouches for pid and uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The sender's pid; 0 where that is in another pid namespace.
    pub pid: i32,
    /// The sender's user id.
    pub uid: u32,
    /// How many bytes of the buffer it fills.
    pub length: usize,
    /// Whether it was longer than the buffer.
    pub truncated: bool,
}

impl NotifySocket {
    /// Opens one.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)` and `bind(2)`.
    pub fn open() -> io::Result<Self> {
        // Close-on-exec, as all of socket2's.
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        // Before it can be reached, so that no datagram comes without.
        socket.set_passcred(true)?;
        let name = format!("clinit/{:016x}{:016x}", entropy(), entropy());
        let address = [b"\0", name.as_bytes()].concat();
        socket.bind(&SockAddr::unix(Path::new(OsStr::from_bytes(&address)))?)?;
        Ok(Self { socket, name })
    }

    /// Its name, as `NOTIFY_SOCKET` has it: `@clinit/…`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("@{}", self.name)
    }

    /// Takes one datagram, if there is any. Give it [`LONGEST`] bytes.
    ///
    /// Descriptors that were sent along are never received: the kernel closes
    /// them, since there is no room for them. That answers a `BARRIER=1`, and
    /// no client can fill clinit's descriptor table.
    ///
    /// # Errors
    ///
    /// Those of `recvmsg(2)`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
        loop {
            match self.receive_one(buffer) {
                Ok(Some(datagram)) => return Ok(Some(datagram)),
                // Without credentials: nobody may be believed.
                Ok(None) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn receive_one(&self, buffer: &mut [u8]) -> Result<Option<Datagram>, Errno> {
        let mut text = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: plain data, of which all zeros is a value.
        let mut control: Control = unsafe { mem::zeroed() };
        // SAFETY: as above; musl's has private padding, so no literal will do.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut text;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_SIZE.into();
        let flags = libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message points to `buffer` and `control`, which are
        // writable for the lengths given and live through the call.
        let result = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) };
        let length = Errno::result(result)?;
        let credentials = control.credentials;
        let given = control.level == libc::SOL_SOCKET && control.kind == libc::SCM_CREDENTIALS;
        Ok(given.then(|| Datagram {
            pid: credentials.pid,
            uid: credentials.uid,
            length: usize::try_from(length).unwrap_or(0),
            truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        }))
    }
}

/// Room for one control message, as the kernel writes it: the credentials,
/// which come first (`scm_recv` in include/net/scm.h). Descriptors do not fit
/// after them, and are then never installed (`scm_detach_fds`).
///
/// musl's `cmsghdr` is less aligned than the kernel's, so this is not it.
#[repr(C, align(8))]
struct Control {
    length: u64,
    level: i32,
    kind: i32,
    credentials: libc::ucred,
}

/// Of a type that goes into the field of either C library.
const CONTROL_SIZE: u16 = 32;

const _: () = assert!(size_of::<Control>() == CONTROL_SIZE as usize, "CMSG_SPACE");
const _: () = assert!(mem::offset_of!(Control, credentials) == 16, "CMSG_DATA");

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

    use super::*;

    fn client_of(server: &NotifySocket) -> UnixDatagram {
        let client = UnixDatagram::unbound().unwrap();
        let name = server.name();
        let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        client.connect_addr(&address).unwrap();
        client
    }

    #[test]
    fn its_name_is_long_and_its_own() {
        let (one, other) = (NotifySocket::open().unwrap(), NotifySocket::open().unwrap());
        assert_ne!(one.name(), other.name());
        assert_eq!(one.name().len(), "@clinit/".len() + 32);
    }

    #[test]
    fn a_datagram_comes_with_its_sender() {
        let server = NotifySocket::open().unwrap();
        let mut buffer = [0; LONGEST];
        assert_eq!(server.receive(&mut buffer).unwrap(), None);
        client_of(&server).send(b"READY=1").unwrap();
        let datagram = server.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..datagram.length], b"READY=1");
        assert_eq!(u32::try_from(datagram.pid).unwrap(), std::process::id());
        // SAFETY: getuid has no precondition.
        assert_eq!(datagram.uid, unsafe { libc::getuid() });
        assert!(!datagram.truncated);
        assert_eq!(server.receive(&mut buffer).unwrap(), None);
    }

    #[test]
    fn a_long_datagram_is_cut_and_an_empty_one_is_one() {
        let server = NotifySocket::open().unwrap();
        let client = client_of(&server);
        let mut buffer = [0; LONGEST];
        client.send(&[b'x'; LONGEST + 1]).unwrap();
        let datagram = server.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((datagram.length, datagram.truncated), (LONGEST, true));
        client.send(b"").unwrap();
        let datagram = server.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((datagram.length, datagram.truncated), (0, false));
    }

    #[test]
    fn descriptors_sent_along_are_closed_and_the_text_is_kept() {
        let server = NotifySocket::open().unwrap();
        let client = client_of(&server);
        let (mut reader, writer) = pipe().unwrap();
        let descriptors = [writer.as_raw_fd(); 3];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let text = [io::IoSlice::new(b"BARRIER=1")];
        let no_address: Option<&UnixAddr> = None;
        let sent = sendmsg(
            client.as_raw_fd(),
            &text,
            &rights,
            MsgFlags::empty(),
            no_address,
        );
        assert_eq!(sent, Ok(9));
        drop(writer);
        let mut buffer = [0; LONGEST];
        let datagram = server.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..datagram.length], b"BARRIER=1");
        // The last writer is gone, or this would wait for ever.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}
