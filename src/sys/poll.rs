//! Waiting for descriptors (`epoll(7)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// At most this many come of one wait; the rest of the next.
const BATCH: usize = 64;

/// What one wait brought.
#[derive(Debug)]
pub struct Events {
    buffer: [EpollEvent; BATCH],
    count: usize,
}

impl Events {
    /// The tokens of the descriptors that something happened to.
    pub fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.buffer.iter().take(self.count).map(EpollEvent::data)
    }
}

/// The set of descriptors that clinit waits for, each known by a token.
#[derive(Debug)]
pub struct Poller(Epoll);

impl Poller {
    /// An empty set; close-on-exec.
    ///
    /// # Errors
    ///
    /// Those of `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches `fd`, which is reported for as long as there is something to
    /// read, or its other end is gone. It has to be removed before its last duplicate is
    /// closed by someone else: the kernel's entry outlives ours.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`; `EPERM` for a regular file.
    pub fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self
            .0
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Watches a socket of TCP that listens for its end: it is reported each
    /// time that it is shut down (`shutdown(2)`, or a connect to nowhere), and
    /// one that is only bound, when it is connected. Connections that arrive
    /// are not looked at, for a listener is never writable.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`.
    pub fn add_end(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        let end = EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        Ok(self.0.add(fd, EpollEvent::new(end, token))?)
    }

    /// Has `fd`, which is watched, reported for room to write as well, or not
    /// any more.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`.
    pub fn watch_room(&self, fd: impl AsFd, token: u64, wanted: bool) -> io::Result<()> {
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, wanted);
        Ok(self.0.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Waits until something happens, at most for `timeout_ms`; for ever with
    /// none. A timeout, like an interruption, brings no events. One that is
    /// too long for the kernel (24 days) ends early, which does no harm to a
    /// caller that looks at its clock.
    ///
    /// # Errors
    ///
    /// Those of `epoll_wait(2)`.
    pub fn wait(&self, timeout_ms: Option<u64>) -> io::Result<Events> {
        let timeout = match timeout_ms {
            None => EpollTimeout::NONE,
            Some(ms) => {
                let clamped = i32::try_from(ms).unwrap_or(i32::MAX);
                EpollTimeout::try_from(clamped).unwrap_or(EpollTimeout::MAX)
            }
        };
        let mut buffer = [EpollEvent::empty(); BATCH];
        let count = match self.0.wait(&mut buffer, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        Ok(Events { buffer, count })
    }
}

/// One set may be watched in another.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Write, pipe};

    use super::*;

    fn watched() -> (Poller, PipeReader, PipeWriter) {
        let (reader, writer) = pipe().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&reader, 7).unwrap();
        (poller, reader, writer)
    }

    fn now(poller: &Poller) -> Vec<u64> {
        poller.wait(Some(0)).unwrap().tokens().collect()
    }

    #[test]
    fn it_reports_for_as_long_as_there_is_something() {
        let (poller, _reader, mut writer) = watched();
        assert!(now(&poller).is_empty());
        writer.write_all(b"x").unwrap();
        assert_eq!(now(&poller), [7]);
        assert_eq!(now(&poller), [7]);
    }

    #[test]
    fn a_hang_up_is_told_and_a_removed_descriptor_is_silent() {
        let (poller, reader, writer) = watched();
        drop(writer);
        // Another test's child may hold the writer until it execs.
        let events = poller.wait(Some(10_000)).unwrap();
        assert_eq!(events.tokens().collect::<Vec<_>>(), [7]);
        poller.remove(&reader).unwrap();
        assert!(now(&poller).is_empty());
    }

    #[test]
    fn no_timeout_is_too_long() {
        let (poller, _reader, mut writer) = watched();
        writer.write_all(b"x").unwrap();
        for timeout in [None, Some(u64::MAX), Some(1 << 31)] {
            assert_eq!(poller.wait(timeout).unwrap().tokens().count(), 1);
        }
    }
}
