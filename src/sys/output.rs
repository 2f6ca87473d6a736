//! Writing without ever waiting for a reader.
//!
//! clinit's stderr is the container's, shared with every worker and with
//! whoever reads the log. Setting `O_NONBLOCK` would set it for all of them,
//! since it belongs to the open file and not to the descriptor; writing to a
//! full pipe or a stopped terminal without it would stop process 1.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::write;

/// This process's stdout. Std's would bring a buffer and a lock along.
#[must_use]
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: clinit never closes it. Where it was started without one, calls
    // are told so.
    unsafe { BorrowedFd::borrow_raw(libc::STDOUT_FILENO) }
}

/// Writes all of it, waiting for the reader. Where the descriptor is closed,
/// nobody wants it.
///
/// # Errors
///
/// Those of `write(2)`.
pub fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(descriptor, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EBADF) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// How much of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wrote {
    /// All.
    All,
    /// The first bytes, this many.
    Partly(usize),
    /// Nothing: the reader is behind, or the disk full.
    NotNow,
    /// Nothing, and there is no use in trying again.
    Closed,
}

/// Writes to a descriptor that may be anything, blocking or not, and does not
/// wait. SIGPIPE has to be blocked or ignored.
pub fn write_without_blocking(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> Wrote {
    if bytes.is_empty() {
        return Wrote::All;
    }
    loop {
        let result = match is_writable(descriptor) {
            Ok(true) => write_now(descriptor, bytes),
            Ok(false) => Err(Errno::EAGAIN),
            Err(errno) => Err(errno),
        };
        return match result {
            Ok(length) if length == bytes.len() => Wrote::All,
            Ok(length) if length > 0 => Wrote::Partly(length),
            Err(Errno::EINTR) => continue,
            // No room, in a buffer or on a disk: the next line may fit.
            Ok(_)
            | Err(Errno::EAGAIN | Errno::ENOSPC | Errno::EDQUOT | Errno::ENOBUFS | Errno::ENOMEM) => {
                Wrote::NotNow
            }
            Err(_) => Wrote::Closed,
        };
    }
}

fn is_writable(descriptor: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(descriptor, PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO)?;
    let [ready] = fds;
    // An error or a hang-up is told by the write.
    Ok(ready.any().unwrap_or(true))
}

/// Writes in the first way of these that the descriptor knows.
fn write_now(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match send(descriptor.as_raw_fd(), bytes, flags) {
        Err(Errno::ENOTSOCK) => {}
        answer => return answer,
    }
    match write_no_wait(descriptor, bytes) {
        // No such flag for this kind of file, or no such system call.
        Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {}
        answer => return answer,
    }
    match open_again(descriptor) {
        Some(own) => write(own, bytes),
        // poll has said that a pipe has room for this much.
        None => write(descriptor, bytes.get(..libc::PIPE_BUF).unwrap_or(bytes)),
    }
}

/// `pwritev2(2)` at the file's own position, with `RWF_NOWAIT`. glibc and
/// musl have had it since different times; the kernel since 4.6.
fn write_no_wait(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    const OWN_POSITION: libc::c_long = -1;
    let slice = [io::IoSlice::new(bytes)];
    // SAFETY: an IoSlice is an iovec, readable through the call; so is what
    // it points to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            descriptor.as_raw_fd(),
            slice.as_ptr(),
            slice.len(),
            OWN_POSITION,
            OWN_POSITION,
            libc::RWF_NOWAIT,
        )
    };
    Errno::result(result).map(|length| usize::try_from(length).unwrap_or(0))
}

/// The same pipe or terminal, opened anew and non-blocking for clinit alone.
/// None for a regular file, which keeps nobody waiting and whose position is
/// shared, and where there is no /proc or no permission.
fn open_again(descriptor: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = SFlag::from_bits_truncate(fstat(descriptor).ok()?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFIFO && kind != SFlag::S_IFCHR {
        return None;
    }
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::{Read, Seek, SeekFrom, Write, pipe};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Writes until it would block, and says that it then does not.
    fn fill(descriptor: BorrowedFd<'_>) -> usize {
        let mut total = 0;
        loop {
            match write_without_blocking(descriptor, &[b'x'; 1000]) {
                Wrote::All => total += 1000,
                Wrote::Partly(length) => total += length,
                Wrote::NotNow => return total,
                Wrote::Closed => panic!("closed"),
            }
        }
    }

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        let (mut reader, writer) = pipe().unwrap();
        assert!(fill(writer.as_fd()) > 60_000);
        let mut some = [0; 8192];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(
            write_without_blocking(writer.as_fd(), b"line\n"),
            Wrote::All
        );
    }

    #[test]
    fn a_full_socket_is_not_waited_for() {
        let (_reader, writer) = UnixStream::pair().unwrap();
        assert!(fill(writer.as_fd()) > 0);
    }

    #[test]
    fn a_terminal_that_nobody_reads_is_not_waited_for() {
        let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).unwrap();
        nix::pty::grantpt(&master).unwrap();
        nix::pty::unlockpt(&master).unwrap();
        let name = nix::pty::ptsname_r(&master).unwrap();
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
        let terminal = open(name.as_str(), flags, Mode::empty()).unwrap();
        assert!(fill(terminal.as_fd()) > 0);
    }

    #[test]
    fn a_reader_that_is_gone_is_told() {
        let (reader, writer) = UnixStream::pair().unwrap();
        reader.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(write_without_blocking(writer.as_fd(), b"x"), Wrote::Closed);
        let unwritable = fs::File::open("/dev/null").unwrap();
        let answer = write_without_blocking(unwritable.as_fd(), b"x");
        assert_eq!(answer, Wrote::Closed);
    }

    #[test]
    fn a_file_is_written_at_its_shared_position() {
        let path = std::env::temp_dir().join(format!("clinit-output-{}", std::process::id()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(b"one ").unwrap();
        assert_eq!(write_without_blocking(file.as_fd(), b"two "), Wrote::All);
        file.write_all(b"three").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
    }

    #[test]
    fn a_pipe_can_be_opened_again_without_touching_the_original() {
        let (_reader, writer) = pipe().unwrap();
        let own = open_again(writer.as_fd()).unwrap();
        let flags = |fd: BorrowedFd<'_>| {
            let raw = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
            OFlag::from_bits_retain(raw)
        };
        assert!(flags(own.as_fd()).contains(OFlag::O_NONBLOCK));
        assert!(!flags(writer.as_fd()).contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn nothing_is_written_at_once() {
        let (_reader, writer) = pipe().unwrap();
        assert_eq!(write_without_blocking(writer.as_fd(), b""), Wrote::All);
    }
}
