//! Waiting for descriptors (`epoll(7)`).

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// When a descriptor is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// For as long as it is readable.
    Level,
    /// Each time that something more becomes readable.
    Edge,
    /// The next time that something becomes readable, then not again until
    /// [`Poller::modify`] arms it anew. A disarmed descriptor does not even
    /// report a hang-up.
    EdgeOnce,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        let extra = match self {
            Self::Level => EpollFlags::empty(),
            Self::Edge => EpollFlags::EPOLLET,
            Self::EdgeOnce => EpollFlags::EPOLLET | EpollFlags::EPOLLONESHOT,
        };
        EpollFlags::EPOLLIN | extra
    }
}

/// A descriptor that something happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What it was added with.
    pub token: u64,
    /// There is something to read, or to accept.
    pub readable: bool,
    /// The other side is gone, or the descriptor has an error.
    pub hung_up: bool,
}

/// At most this many come of one wait; the rest of the next.
const BATCH: usize = 64;

/// What one wait brought.
#[derive(Debug)]
pub struct Events {
    buffer: [EpollEvent; BATCH],
    count: usize,
}

impl Events {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Ready> + '_ {
        let lost = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        self.buffer.iter().take(self.count).map(move |event| Ready {
            token: event.data(),
            readable: event.events().contains(EpollFlags::EPOLLIN),
            hung_up: event.events().intersects(lost),
        })
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

    /// Watches `fd`. It has to be removed before its last duplicate is
    /// closed by someone else: the kernel's entry outlives ours.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`; `EPERM` for a regular file.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(interest.flags(), token))?)
    }

    /// Changes how `fd` is watched, and arms a one-shot anew.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = EpollEvent::new(interest.flags(), token);
        Ok(self.0.modify(fd, &mut event)?)
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

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Write, pipe};

    use super::*;

    fn watched(interest: Interest) -> (Poller, PipeReader, PipeWriter) {
        let (reader, writer) = pipe().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&reader, 7, interest).unwrap();
        (poller, reader, writer)
    }

    fn now(poller: &Poller) -> Vec<Ready> {
        poller.wait(Some(0)).unwrap().iter().collect()
    }

    const READABLE: Ready = Ready {
        token: 7,
        readable: true,
        hung_up: false,
    };

    #[test]
    fn level_reports_for_as_long_as_there_is_something() {
        let (poller, _reader, mut writer) = watched(Interest::Level);
        assert_eq!(now(&poller), []);
        writer.write_all(b"x").unwrap();
        assert_eq!(now(&poller), [READABLE]);
        assert_eq!(now(&poller), [READABLE]);
    }

    #[test]
    fn edge_reports_each_arrival() {
        let (poller, _reader, mut writer) = watched(Interest::Edge);
        for _ in 0..2 {
            writer.write_all(b"x").unwrap();
            assert_eq!(now(&poller), [READABLE]);
            assert_eq!(now(&poller), []);
        }
    }

    #[test]
    fn a_one_shot_stays_silent_until_it_is_armed_anew() {
        let (poller, reader, mut writer) = watched(Interest::EdgeOnce);
        writer.write_all(b"x").unwrap();
        assert_eq!(now(&poller), [READABLE]);
        writer.write_all(b"x").unwrap();
        assert_eq!(now(&poller), []);
        poller.modify(&reader, 7, Interest::EdgeOnce).unwrap();
        assert_eq!(now(&poller), [READABLE]);
    }

    #[test]
    fn a_hang_up_is_told_and_a_removed_descriptor_is_silent() {
        let (poller, reader, writer) = watched(Interest::Level);
        drop(writer);
        // Another test's child may hold the writer until it execs.
        let events = poller.wait(Some(10_000)).unwrap();
        assert!(events.iter().all(|ready| ready.hung_up && !ready.readable));
        assert_eq!(events.iter().count(), 1);
        poller.remove(&reader).unwrap();
        assert_eq!(now(&poller), []);
    }

    #[test]
    fn no_timeout_is_too_long() {
        let (poller, _reader, mut writer) = watched(Interest::Level);
        writer.write_all(b"x").unwrap();
        for timeout in [None, Some(u64::MAX), Some(1 << 31)] {
            assert_eq!(poller.wait(timeout).unwrap().iter().count(), 1);
        }
    }
}
