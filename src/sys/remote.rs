//! What another process has, read while one of its threads waits in a call.
//!
//! A thread that waits may be killed, and its id be another's by the time of
//! the reading: so what is read here counts only if the call [is still
//! valid](super::notification::Notifications::is_valid) afterwards. All of it
//! takes the right to trace that process (`ptrace(2)`, "access mode
//! checking"), but for [`thread`]; where clinit lacks that, all but
//! [`duplicate`] is done [as that process's user](super::guise).

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;

use nix::errno::Errno;

use super::guise::Guise;

/// A thread, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The process that it is of: its thread group.
    pub process: i32,
    /// Its user id for files, which its sockets get; almost always the
    /// effective one.
    pub uid: u32,
    /// Likewise its group id.
    pub gid: u32,
    /// Its effective capabilities, one bit each (`capabilities(7)`).
    pub capabilities: u64,
}

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, over IPv4 or IPv6.
    Tcp,
    /// Multipath TCP.
    Mptcp,
    /// UDP.
    Udp,
    /// A Unix socket of any kind.
    Unix,
    /// Anything else.
    Other,
}

/// What a socket speaks, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether it is a socket of IPv6, which takes no address of IPv4.
    pub over_v6: bool,
}

/// The flags of an open descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorFlags {
    /// `O_NONBLOCK`, which all of its duplicates share.
    pub nonblocking: bool,
    /// `FD_CLOEXEC`, of this descriptor alone.
    pub close_on_exec: bool,
}

/// Reads a thread's memory, and tells how many bytes there were: fewer than
/// asked for where the next page is not readable (`process_vm_readv(2)`).
///
/// # Errors
///
/// `EFAULT` or `EIO` for an address where nothing is, `EPERM` or `EACCES` for
/// a process that may not be looked into, `ESRCH` or `ENOENT` for one that is
/// gone.
pub fn read_memory(tid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    match read_directly(tid, address, buffer) {
        // Docker's profile before 23.0 has no process_vm_readv; and it goes by
        // the real user.
        Err(Errno::EPERM | Errno::ENOSYS) => {
            let _guise = Guise::to_look_into(tid);
            File::open(format!("/proc/{tid}/mem"))?.read_at(buffer, address)
        }
        result => Ok(result?),
    }
}

fn read_directly(tid: i32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let here = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // The kernel looks at the thread's address by itself.
    let there = [address, buffer.len() as u64];
    // SAFETY: `here` is writable for its length, `there` is laid out as an
    // iovec of a 64-bit process, and the memory that it names is not ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_process_vm_readv,
            tid,
            &raw const here,
            1_u64,
            &raw const there,
            1_u64,
            0_u64,
        )
    };
    Errno::result(result).map(|length| usize::try_from(length).unwrap_or(0))
}

/// What /proc says of a thread.
///
/// # Errors
///
/// `ENOENT` or `ESRCH` where it is gone or hidden (`hidepid`); `InvalidData`
/// for what is no status.
pub fn thread(tid: i32) -> io::Result<Thread> {
    // Its name need not be UTF-8.
    let status = fs::read(format!("/proc/{tid}/status"))?;
    parse_status(&String::from_utf8_lossy(&status))
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn parse_status(status: &str) -> Option<Thread> {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, for files.
    let id = |name| field(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
    Some(Thread {
        process: field("Tgid:")?.trim_ascii().parse().ok()?,
        uid: id("Uid:")?,
        gid: id("Gid:")?,
        capabilities: u64::from_str_radix(field("CapEff:")?.trim_ascii(), 16).ok()?,
    })
}

/// The user namespace that a process is in (`user_namespaces(7)`); none where
/// it is gone or may not be looked into.
#[must_use]
pub(super) fn user_namespace(process: i32) -> Option<PathBuf> {
    let _guise = Guise::to_look_into(process);
    fs::read_link(format!("/proc/{process}/ns/user")).ok()
}

/// Whether a thread is in clinit's own network namespace, whose ports are
/// shared (`network_namespaces(7)`); also where that may not be seen.
#[must_use]
pub fn is_in_own_network(tid: i32) -> bool {
    let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    let guise = Guise::to_look_into(tid);
    let theirs = network(&tid.to_string());
    drop(guise);
    theirs.is_none_or(|theirs| network("self") == Some(theirs))
}

/// What a thread's socket speaks; none for what is no socket, or may not be
/// looked at. The descriptor is not touched (`xattr(7)`).
#[must_use]
pub fn spoken(tid: i32, descriptor: RawFd) -> Option<Spoken> {
    let path = CString::new(path_of(tid, descriptor)).ok()?;
    let mut name = [0_u8; 32];
    let _guise = Guise::to_look_into(tid);
    // SAFETY: both names are C strings, and `name` is writable for the length
    // given.
    let result = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"system.sockprotoname".as_ptr(),
            name.as_mut_ptr().cast(),
            name.len(),
        )
    };
    let length = usize::try_from(Errno::result(result).ok()?).ok()?;
    Some(parse_spoken(name.get(..length)?))
}

fn parse_spoken(name: &[u8]) -> Spoken {
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    let protocol = match name.strip_suffix(b"v6").unwrap_or(name) {
        b"TCP" => Protocol::Tcp,
        b"MPTCP" => Protocol::Mptcp,
        b"UDP" => Protocol::Udp,
        b"UNIX" | b"UNIX-STREAM" => Protocol::Unix,
        _ => Protocol::Other,
    };
    Spoken {
        protocol,
        over_v6: name.ends_with(b"v6"),
    }
}

/// The flags of a thread's descriptor, if it is open and may be looked at.
#[must_use]
pub fn flags(tid: i32, descriptor: RawFd) -> Option<DescriptorFlags> {
    let _guise = Guise::to_look_into(tid);
    parse_flags(&fs::read_to_string(info_path(tid, descriptor)).ok()?)
}

fn parse_flags(info: &str) -> Option<DescriptorFlags> {
    let octal = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(octal.trim_ascii(), 8).ok()?;
    Some(DescriptorFlags {
        nonblocking: flags & libc::O_NONBLOCK != 0,
        close_on_exec: flags & libc::O_CLOEXEC != 0,
    })
}

/// The inode of a thread's socket; none for what is no socket. Two
/// descriptors with one inode are one socket.
#[must_use]
pub fn inode(tid: i32, descriptor: RawFd) -> Option<u64> {
    let _guise = Guise::to_look_into(tid);
    let status = fs::metadata(path_of(tid, descriptor)).ok()?;
    status.file_type().is_socket().then(|| status.ino())
}

/// A duplicate of a process's descriptor, close-on-exec (`pidfd_getfd(2)`).
///
/// # Errors
///
/// `EPERM` under a container engine's profile, `ENOSYS` before Linux 5.6,
/// `EBADF` for a descriptor that is not open, `ESRCH` for a process that is
/// gone; `EINVAL` for a thread that leads none.
pub fn duplicate(process: i32, descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open touches no memory.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0_u32) };
    let pidfd = owned(opened)?;
    // SAFETY: pidfd_getfd touches no memory.
    let duplicate =
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), descriptor, 0_u32) };
    owned(duplicate)
}

/// The descriptor that a call has just opened.
pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: it was just opened, and nothing else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn path_of(tid: i32, descriptor: RawFd) -> String {
    format!("/proc/{tid}/fd/{descriptor}")
}

pub(super) fn info_path(tid: i32, descriptor: RawFd) -> String {
    format!("/proc/{tid}/fdinfo/{descriptor}")
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn memory_is_read_by_either_way() {
        let text = *b"what is there";
        let address = text.as_ptr() as u64;
        let mut buffer = [0; 13];
        assert_eq!(read_memory(own_pid(), address, &mut buffer).unwrap(), 13);
        assert_eq!(buffer, text);
        let mut again = [0; 13];
        let memory = File::open("/proc/self/mem").unwrap();
        assert_eq!(memory.read_at(&mut again, address).unwrap(), 13);
        assert_eq!(again, text);
        assert_eq!(
            read_memory(own_pid(), 8, &mut buffer)
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EFAULT)
        );
    }

    #[test]
    fn a_thread_knows_its_process() {
        let (tid, found) = std::thread::spawn(|| {
            // SAFETY: gettid has no precondition.
            let tid = unsafe { libc::gettid() };
            (tid, thread(tid).unwrap())
        })
        .join()
        .unwrap();
        assert_ne!(tid, own_pid());
        assert_eq!(found.process, own_pid());
        assert_eq!(found.uid, super::super::start::own_uid());
        assert!(thread(1 << 23).is_err());
    }

    #[test]
    fn a_status_is_read_exactly() {
        let text = "Name:\tUid: 7\nTgid:\t42\nPid:\t43\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nCapEff:\t00000000a80425fb\n";
        let expected = Thread {
            process: 42,
            uid: 4,
            gid: 8,
            capabilities: 0xa804_25fb,
        };
        assert_eq!(parse_status(text), Some(expected));
        assert_eq!(parse_status("Tgid:\t42\n"), None);
    }

    #[test]
    fn sockets_tell_what_they_speak() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        let datagram = UnixDatagram::unbound().unwrap();
        let file = File::open("/proc/self/status").unwrap();
        let told = |fd: BorrowedFd<'_>| spoken(own_pid(), fd.as_raw_fd());
        let v4 = |protocol| {
            Some(Spoken {
                protocol,
                over_v6: false,
            })
        };
        assert_eq!(told(tcp.as_fd()), v4(Protocol::Tcp));
        assert_eq!(told(udp.as_fd()), v4(Protocol::Udp));
        assert_eq!(told(stream.as_fd()), v4(Protocol::Unix));
        assert_eq!(told(datagram.as_fd()), v4(Protocol::Unix));
        assert_eq!(told(file.as_fd()), None);
        assert_eq!(spoken(own_pid(), -1), None);
        for (name, protocol) in [
            (b"TCPv6\0".as_slice(), Protocol::Tcp),
            (b"MPTCPv6\0", Protocol::Mptcp),
            (b"UDPv6\0", Protocol::Udp),
        ] {
            let expected = Spoken {
                protocol,
                over_v6: true,
            };
            assert_eq!(parse_spoken(name), expected);
        }
        assert_eq!(parse_spoken(b"NETLINK\0").protocol, Protocol::Other);
    }

    #[test]
    fn flags_and_inode_are_those_of_the_descriptor() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let raw = socket.as_raw_fd();
        let told = |nonblocking| DescriptorFlags {
            nonblocking,
            close_on_exec: true,
        };
        assert_eq!(flags(own_pid(), raw), Some(told(false)));
        socket.set_nonblocking(true).unwrap();
        assert_eq!(flags(own_pid(), raw), Some(told(true)));
        let copy = duplicate(own_pid(), raw).unwrap();
        let found = inode(own_pid(), raw);
        assert!(found.is_some());
        assert_eq!(inode(own_pid(), copy.as_raw_fd()), found);
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(inode(own_pid(), file.as_raw_fd()), None);
        assert_eq!(
            duplicate(own_pid(), -1).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    }
}
