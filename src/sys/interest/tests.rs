//! Interests of this process, and of a real worker.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::dup3;
use socket2::{Domain, Socket, Type};

use super::super::captive::{Captive, Role};
use super::super::process::RawExit;
use super::*;

const DATA: u64 = 0xfedc_ba98_7654_3210;

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

fn unbound() -> OwnedFd {
    Socket::new(Domain::IPV4, Type::STREAM, None)
        .unwrap()
        .into()
}

fn lane() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// An epoll instance that waits for a socket, as epoll and as descriptor.
fn polled(socket: impl AsFd, events: EpollFlags) -> (Epoll, OwnedFd) {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    epoll.add(socket, EpollEvent::new(events, DATA)).unwrap();
    let descriptor = epoll.0.try_clone().unwrap();
    (epoll, descriptor)
}

/// What is waited for at a number, with this file.
fn found(epoll: &OwnedFd, number: RawFd, file: impl AsFd) -> Option<Interest> {
    let inode = remote::inode(own_pid(), file.as_fd().as_raw_fd()).unwrap();
    interest(own_pid(), epoll.as_raw_fd(), number, inode)
}

/// What there is now: at most one event.
fn told(epoll: &Epoll) -> Option<u64> {
    let mut events = [EpollEvent::empty()];
    let count = epoll.wait(&mut events, EpollTimeout::ZERO).unwrap();
    (count > 0).then(|| events[0].data())
}

#[test]
fn an_interest_is_known_by_number_and_inode() {
    let socket = unbound();
    let number = socket.as_raw_fd();
    let inode = remote::inode(own_pid(), number).unwrap();
    let found = |inode| waiting(own_pid(), number, inode);
    assert!(found(inode).is_empty());
    let (epoll, _duplicate) = polled(&socket, EpollFlags::EPOLLIN);
    // And the duplicate of it.
    let own = found(inode);
    assert!(own.contains(&epoll.0.as_raw_fd()) && own.len() == 2);
    assert!(found(inode + 1).is_empty());
    epoll.delete(&socket).unwrap();
    assert!(found(inode).is_empty());
}

#[test]
fn a_line_is_read_exactly() {
    let line = "tfd:        5 events: 80000019 data: fedcba9876543210  pos:0 ino:1f2e sdev:8";
    let interest = Interest {
        events: 0x8000_0019,
        data: DATA,
    };
    assert_eq!(parse(line, 5, 0x1f2e), Some(interest));
    assert_eq!(parse(line, 55, 0x1f2e), None);
    assert_eq!(parse(line, 5, 0x1f2f), None);
    assert_eq!(parse("flags:\t02", 5, 0x1f2e), None);
    assert_eq!(parse("tfd: 5 events: 19 data: 5", 5, 0x1f2e), None);
}

#[test]
fn whoever_waited_for_the_old_socket_waits_for_the_new_one() {
    for how in [
        EpollFlags::EPOLLIN,
        EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
        EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT,
        EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE,
    ] {
        let (old, new) = (unbound(), lane());
        let number = old.as_raw_fd();
        let (epolls, descriptors): (Vec<_>, Vec<_>) = (0..2).map(|_| polled(&old, how)).unzip();
        let before = found(&descriptors[0], number, &old).unwrap();
        let descriptors: Vec<_> = descriptors.iter().collect();
        // The second time it is there already.
        transfer(&descriptors, number, old.as_fd(), new.as_fd()).unwrap();
        transfer(&descriptors, number, old.as_fd(), new.as_fd()).unwrap();
        for (epoll, descriptor) in epolls.iter().zip(descriptors) {
            assert_eq!(found(descriptor, number, &new), Some(before), "{how:?}");
            assert_eq!(found(descriptor, number, &old), None, "{how:?}");
            assert_eq!(told(epoll), None, "{how:?}");
        }
        let _client = TcpStream::connect(new.local_addr().unwrap()).unwrap();
        for epoll in &epolls {
            assert_eq!(told(epoll), Some(DATA), "{how:?}");
            let level = how == EpollFlags::EPOLLIN || how.contains(EpollFlags::EPOLLEXCLUSIVE);
            assert_eq!(told(epoll).is_some(), level, "{how:?}");
        }
    }
}

/// As the process had it when its socket's place was taken, and not before.
#[test]
fn what_was_asked_for_last_counts() {
    let (old, new) = (unbound(), lane());
    let (epoll, descriptor) = polled(&old, EpollFlags::EPOLLET);
    let mut last = EpollEvent::new(EpollFlags::EPOLLIN, 7);
    epoll.modify(&old, &mut last).unwrap();
    let number = old.as_raw_fd();
    transfer(&[&descriptor], number, old.as_fd(), new.as_fd()).unwrap();
    let _client = TcpStream::connect(new.local_addr().unwrap()).unwrap();
    assert_eq!(told(&epoll), Some(7));
    epoll.delete(&old).unwrap_err();
}

#[test]
fn nobody_waits_where_nobody_did() {
    let (old, new) = (unbound(), lane());
    let (epoll, descriptor) = polled(&old, EpollFlags::EPOLLIN);
    epoll.delete(&old).unwrap();
    let number = old.as_raw_fd();
    transfer(&[&descriptor], number, old.as_fd(), new.as_fd()).unwrap();
    assert_eq!(found(&descriptor, number, &new), None);
}

/// One epoll instance takes the new one and the next does not; a file that
/// cannot be waited for is taken by none.
#[test]
fn where_it_fails_nothing_has_changed() {
    let old = unbound();
    let number = old.as_raw_fd();
    let (_epoll, descriptor) = polled(&old, EpollFlags::EPOLLIN);
    let file = File::open("/proc/self/status").unwrap();
    let before = found(&descriptor, number, &old);
    let failed = transfer(&[&descriptor], number, old.as_fd(), file.as_fd());
    assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(found(&descriptor, number, &old), before);
    assert!(before.is_some());
    // An epoll instance cannot wait for itself, and others can for it.
    let (_other, other) = polled(&old, EpollFlags::EPOLLIN);
    let both = [&other, &descriptor];
    let failed = transfer(&both, number, old.as_fd(), descriptor.as_fd());
    assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    for epoll in both {
        assert_eq!(found(epoll, number, &old), before);
    }
    let lines = fs::read_to_string(info_path(own_pid(), other.as_raw_fd())).unwrap();
    assert_eq!(lines.matches("tfd:").count(), 1, "{lines}");
}

/// The number that the process knows its socket by is another file's here.
#[test]
fn it_does_not_matter_what_that_number_is_here() {
    for what in ["epoll", "old", "new"] {
        let (old, new) = (unbound(), OwnedFd::from(lane()));
        let mut there = old.try_clone().unwrap();
        let number = there.as_raw_fd();
        let (_epoll, mut descriptor) = polled(&there, EpollFlags::EPOLLIN);
        let (mut old, mut new) = (old, new);
        let here = match what {
            "epoll" => &mut descriptor,
            "old" => &mut old,
            _ => &mut new,
        };
        dup3(&*here, &mut there, OFlag::O_CLOEXEC).unwrap();
        std::mem::swap(here, &mut there);
        assert_eq!(here.as_raw_fd(), number);
        transfer(&[&descriptor], number, old.as_fd(), new.as_fd()).unwrap();
        assert!(found(&descriptor, number, &new).is_some(), "{what}");
        assert_eq!(found(&descriptor, number, &old), None, "{what}");
    }
}

/// It accepts what waited at the new socket, told by the epoll instance that
/// it gave the old one to.
#[test]
fn a_worker_that_registers_before_it_binds_is_told_of_the_new_socket() {
    let lane = lane();
    lane.set_nonblocking(true).unwrap();
    let _client = TcpStream::connect(lane.local_addr().unwrap()).unwrap();
    let captive = Captive::start(Role::Acceptor);
    let call = captive.call();
    let inode = remote::inode(call.tid, call.descriptor).unwrap();
    let own = remote::duplicate(captive.pid, call.descriptor).unwrap();
    let epolls = waiting(captive.pid, call.descriptor, inode);
    let epolls = epolls.into_iter();
    let epolls = epolls.map(|epoll| remote::duplicate(captive.pid, epoll).unwrap());
    let epolls: Vec<_> = epolls.collect();
    let put = captive
        .listener
        .put(call.id, lane.as_fd(), call.descriptor, true);
    put.unwrap();
    let epolls: Vec<_> = epolls.iter().collect();
    transfer(&epolls, call.descriptor, own.as_fd(), lane.as_fd()).unwrap();
    captive.listener.answer(call.id, 0).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(0));
}
