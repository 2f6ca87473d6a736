//! What the epoll descriptors of another process wait for, and how that is
//! made to outlive its socket (`epoll(7)`).
//!
//! An epoll instance knows what it waits for by the open file and the number
//! that the file had. So where another socket takes the place of a worker's,
//! the number goes on to be the worker's and the interest does not: it is
//! registered once more, for the new socket under the same number, by a child
//! that has both where the worker has them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;

use super::forked::code_of;
use super::guise::Guise;
use super::numbered::numbers_in;
use super::remote::{self, info_path};

/// What an epoll instance waits for at one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interest {
    /// With `EPOLLET` and its like.
    events: u32,
    /// What the process has made of it: never looked at by anyone else.
    data: u64,
}

/// The descriptors of a process that are epoll instances and wait for this
/// descriptor of it, which has this inode.
#[must_use]
pub fn waiting(process: i32, descriptor: RawFd, inode: u64) -> Vec<RawFd> {
    let _guise = Guise::to_look_into(process);
    let directory = PathBuf::from(format!("/proc/{process}/fd"));
    let mut epolls = numbers_in(&directory).unwrap_or_default();
    epolls.retain(|epoll| {
        let target = fs::read_link(directory.join(epoll.to_string()));
        target.is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]")
            && interest(process, *epoll, descriptor, inode).is_some()
    });
    epolls
}

/// What an epoll descriptor of a process waits for at this descriptor, where
/// that has this inode.
fn interest(process: i32, epoll: RawFd, descriptor: RawFd, inode: u64) -> Option<Interest> {
    // It has a line for each connection of a server.
    let lines = BufReader::new(File::open(info_path(process, epoll)).ok()?).lines();
    let mut lines = lines.map_while(Result::ok);
    lines.find_map(|line| parse(&line, descriptor, inode))
}

/// `tfd: 5 events: 19 data: 5  pos:0 ino:1f2e sdev:8`, of `proc(5)`.
fn parse(line: &str, descriptor: RawFd, inode: u64) -> Option<Interest> {
    let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let number: RawFd = words.next()?.parse().ok()?;
    let mut named = |name| words.find(|word| *word == name).and_then(|_| words.next());
    let events = u32::from_str_radix(named("events:")?, 16).ok()?;
    let data = u64::from_str_radix(named("data:")?, 16).ok()?;
    let known = words.find_map(|word| u64::from_str_radix(word.strip_prefix("ino:")?, 16).ok());
    // The number may since be another file's.
    (number == descriptor && known == Some(inode)).then_some(Interest { events, data })
}

/// Has these epoll instances wait for `to` wherever they wait for `from`, which
/// was a process's descriptor of this number until `to` took its place. Where
/// that fails nothing has changed, unless somebody killed the child on its way.
///
/// What is waited for is read here, so it is what the process asked for last:
/// once its descriptor is another file's, it can ask for nothing more.
///
/// An interest of `EPOLLONESHOT` that is spent is told of `EPOLLERR` and
/// `EPOLLHUP` once more.
///
/// # Errors
///
/// Those of `fork(2)` and `epoll_ctl(2)`; `EBADF` for a number above clinit's
/// own limit.
pub fn transfer(
    epolls: &[&OwnedFd],
    descriptor: RawFd,
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
) -> io::Result<()> {
    let own = std::process::id().cast_signed();
    let inode = remote::inode(own, from.as_raw_fd()).ok_or(Errno::ENOTSOCK)?;
    let found = epolls.iter().filter_map(|epoll| {
        let epoll = epoll.as_raw_fd();
        Some((epoll, interest(own, epoll, descriptor, inode)?))
    });
    let mut found: Vec<(RawFd, Interest)> = found.collect();
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    if found.is_empty() {
        return Ok(());
    }
    let errand = || match register(&mut found, descriptor, from, to) {
        Ok(()) => 0,
        Err(errno) => errno as i32,
    };
    match code_of(errand)? {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(Errno::EINTR.into()),
    }
}

/// The child's part; async-signal-safe.
fn register(
    interests: &mut [(RawFd, Interest)],
    descriptor: RawFd,
    mut from: RawFd,
    to: RawFd,
) -> Result<(), Errno> {
    let epolls = interests.iter_mut().map(|(epoll, _)| epoll);
    for source in epolls.chain([&mut from]) {
        // Not to be closed by what comes next.
        if *source == descriptor {
            *source = duplicate(*source)?;
        }
    }
    duplicate_to(to, descriptor)?;
    let mut result = Ok(());
    for (epoll, interest) in &*interests {
        // From a time when the process had this very socket there.
        let _ = control(*epoll, libc::EPOLL_CTL_DEL, descriptor, *interest);
        result = result.and_then(|()| control(*epoll, libc::EPOLL_CTL_ADD, descriptor, *interest));
    }
    if result.is_ok() {
        duplicate_to(from, descriptor)?;
    }
    for (epoll, interest) in &*interests {
        // Of the old one; or, where it failed, of the new one.
        let _ = control(*epoll, libc::EPOLL_CTL_DEL, descriptor, *interest);
    }
    result
}

fn duplicate(descriptor: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: dup touches no memory.
    Errno::result(unsafe { libc::dup(descriptor) })
}

fn duplicate_to(descriptor: RawFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: dup2 touches no memory. Nobody else relies on what that number
    // was, in a child that only exits.
    Errno::result(unsafe { libc::dup2(descriptor, number) }).map(drop)
}

fn control(
    epoll: RawFd,
    operation: i32,
    descriptor: RawFd,
    Interest { events, data }: Interest,
) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the event is what this call reads, and lives through it.
    let result = unsafe { libc::epoll_ctl(epoll, operation, descriptor, &raw mut event) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests;
