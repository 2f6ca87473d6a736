//! The control socket's ends (`unix(7)`).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use socket2::SockRef;

/// The other end of a socket, as it was when it connected, or listened. The
/// kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its pid; 0 where that is in another pid namespace.
    pub pid: i32,
    /// Its user id.
    pub uid: u32,
}

/// Who is at the other end.
///
/// # Errors
///
/// Those of `getsockopt(2)`.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = getsockopt(&socket.as_fd(), PeerCredentials)?;
    Ok(Peer {
        pid: credentials.pid(),
        uid: credentials.uid(),
    })
}

/// Takes the next connection, close-on-exec and non-blocking; none where there
/// is none.
///
/// # Errors
///
/// Those of `accept(2)`.
pub fn accept(listener: impl AsFd) -> io::Result<Option<UnixStream>> {
    let listener = listener.as_fd();
    match SockRef::from(&listener).accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            Ok(Some(UnixStream::from(OwnedFd::from(socket))))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Connects to an abstract name.
///
/// # Errors
///
/// Those of `connect(2)`: `ECONNREFUSED` where nobody has it.
pub fn connect_abstract(name: &[u8]) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Lets nobody but its owner connect to a socket at a path.
///
/// # Errors
///
/// Those of `chmod(2)`.
pub fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// The inode of this process's mount namespace, which names it
/// (`namespaces(7)`); none without /proc.
#[must_use]
pub fn mount_namespace() -> Option<u64> {
    let namespace = fs::metadata("/proc/self/ns/mnt").ok()?;
    Some(namespace.ino())
}

/// The abstract names in use that begin like this, without the first NUL, as
/// /proc/net/unix shows them.
#[must_use]
pub fn abstract_names(prefix: &str) -> Vec<String> {
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    let lines = table.split(|byte| *byte == b'\n');
    let names = lines.filter_map(|line| {
        let name = line.rsplit(|byte| *byte == b' ').next()?;
        let name = OsStr::from_bytes(name.strip_prefix(b"@")?).to_str()?;
        name.starts_with(prefix).then(|| name.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listener::{Address, bind};

    #[test]
    fn both_ends_know_each_other() {
        let name = format!("clinit/test-control-{}", std::process::id());
        let listener = bind(&Address::UnixAbstract(name.clone().into_bytes())).unwrap();
        crate::sys::binding::set_nonblocking(listener.as_fd(), true).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let client = connect_abstract(name.as_bytes()).unwrap();
        let server = accept(&listener).unwrap().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        for end in [&client, &server] {
            let peer = peer(end).unwrap();
            assert_eq!((peer.pid, peer.uid), (own, crate::sys::start::own_uid()));
        }
        assert_eq!(abstract_names(&name), [name.as_str()]);
        drop(listener);
        assert!(connect_abstract(name.as_bytes()).is_err());
    }

    #[test]
    fn a_mount_namespace_has_a_name() {
        assert!(mount_namespace().unwrap() > 0);
    }
}
