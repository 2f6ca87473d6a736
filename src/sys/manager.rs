//! The socket of the service manager that clinit was started by
//! (`sd_notify(3)`): what is sent there, nobody waits for.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use socket2::{Domain, Socket, Type};

/// The way to a service manager.
#[derive(Debug)]
pub struct ManagerSocket {
    socket: Socket,
    address: UnixAddr,
}

impl ManagerSocket {
    /// The way to this address, as `NOTIFY_SOCKET` has it: a path, or a name
    /// in the abstract namespace after an `@`.
    ///
    /// # Errors
    ///
    /// `EAFNOSUPPORT` for any other address (a virtual machine's `vsock:`),
    /// `ENAMETOOLONG`; those of `socket(2)`.
    pub fn open(address: &OsStr) -> io::Result<Self> {
        let bytes = address.as_bytes();
        let address = match bytes.split_first() {
            Some((b'@', name)) if !name.is_empty() => UnixAddr::new_abstract(name)?,
            Some((b'/', rest)) if !rest.is_empty() => UnixAddr::new(Path::new(address))?,
            _ => return Err(Errno::EAFNOSUPPORT.into()),
        };
        // Close-on-exec, as all of socket2's. Not connected: a manager that is
        // started anew has another socket there.
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        Ok(Self { socket, address })
    }

    /// Sends one datagram, and a descriptor with it, without waiting.
    ///
    /// # Errors
    ///
    /// `EAGAIN` where the manager's queue is full; those of `sendmsg(2)`.
    pub fn send(&self, text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let number = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
        let rights = number.as_ref().map(|it| ControlMessage::ScmRights(it));
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let text = [IoSlice::new(text.as_bytes())];
        let own = self.socket.as_raw_fd();
        sendmsg(own, &text, rights.as_slice(), flags, Some(&self.address))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::super::random::entropy;
    use super::*;

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let name = format!("clinit-manager-{:x}", entropy());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let path = std::env::temp_dir().join(&name);
        for (server, told) in [
            (
                UnixDatagram::bind_addr(&address).unwrap(),
                format!("@{name}"),
            ),
            (
                UnixDatagram::bind(&path).unwrap(),
                path.display().to_string(),
            ),
        ] {
            let manager = ManagerSocket::open(OsStr::new(&told)).unwrap();
            manager.send("READY=1", None).unwrap();
            manager.send("FDSTORE=1", Some(server.as_fd())).unwrap();
            let mut buffer = [0; 32];
            let mut receive = || {
                let length = server.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            };
            assert_eq!([receive(), receive()], ["READY=1", "FDSTORE=1"]);
            // Full, and then gone: neither is waited for.
            let error = loop {
                if let Err(error) = manager.send("STATUS=x", None) {
                    break error;
                }
            };
            assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
            drop(server);
            assert!(manager.send("READY=1", None).is_err());
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn other_addresses_are_refused() {
        for address in ["", "@", "/", "vsock:2:1234", "relative"] {
            let error = ManagerSocket::open(OsStr::new(address)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT), "{address}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(ManagerSocket::open(OsStr::new(&long)).is_err());
    }
}
