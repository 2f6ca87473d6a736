//! Unix sockets at paths: what an earlier server left behind is replaced, a
//! living one is not.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;
use super::address::Address;
use super::error::BindError;

/// `sun_path` has room for this many bytes and the NUL that ends a path, or
/// begins an abstract name (`unix(7)`).
const LONGEST: usize = 107;

/// A path that this process put a socket at.
#[derive(Debug)]
pub(super) struct OwnPath {
    path: PathBuf,
    /// Device and inode of the file, which is not the socket's own inode.
    file: (u64, u64),
}

impl OwnPath {
    fn of(path: &Path) -> io::Result<Self> {
        let file = file_at(path)?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    pub(super) fn remove(&self) {
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            // A directory that has become read-only keeps it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|status| (status.dev(), status.ino()))
}

pub(super) fn bind_path(path: &Path) -> Result<(Socket, OwnPath), BindError> {
    let address = Address::Unix(path.to_owned());
    let name = path.as_os_str().as_bytes();
    check_length(name, &address)?;
    if name.is_empty() || name.contains(&0) {
        // An address of that form would mean something else to the kernel.
        return Err(BindError::of(&address, &Errno::EINVAL.into()));
    }
    make_way(path, &address)?;
    listen_at(path)
        .and_then(|socket| Ok((socket, OwnPath::of(path)?)))
        .map_err(|error| BindError::of(&address, &error))
}

pub(super) fn bind_abstract(name: &[u8]) -> Result<Socket, BindError> {
    let address = Address::UnixAbstract(name.to_owned());
    check_length(name, &address)?;
    let path = [b"\0", name].concat();
    listen_at(Path::new(OsStr::from_bytes(&path))).map_err(|error| BindError::of(&address, &error))
}

fn check_length(name: &[u8], address: &Address) -> Result<(), BindError> {
    if name.len() <= LONGEST {
        return Ok(());
    }
    Err(BindError::PathTooLong {
        address: address.to_string(),
        longest: LONGEST,
    })
}

fn listen_at(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Removes a socket at `path` that no server has any more.
fn make_way(path: &Path, address: &Address) -> Result<(), BindError> {
    let failed = |error: io::Error| BindError::of(address, &error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(status) if !status.file_type().is_socket() => {
            let address = address.to_string();
            return Err(BindError::NotASocket { address });
        }
        Ok(_) => {}
    }
    match knock(path).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::ECONNREFUSED)) => fs::remove_file(path).map_err(failed),
        Err(Some(libc::ENOENT)) => Ok(()),
        // EAGAIN: its queue is full. EPROTOTYPE: it is no stream socket.
        Ok(()) | Err(Some(libc::EAGAIN | libc::EPROTOTYPE)) => {
            let address = address.to_string();
            Err(BindError::ServerListening { address })
        }
        Err(errno) => Err(failed(io::Error::from_raw_os_error(
            errno.unwrap_or(libc::EINVAL),
        ))),
    }
}

/// Tries to connect, without waiting.
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}
