//! Real calls of a real worker.

use std::net::TcpListener;

use super::super::captive::{Captive, Role, UNBOUND, wait_readable};
use super::super::process::{RawExit, Report};
use super::super::{interest, remote};
use super::*;

fn address_of(notification: &Notification) -> [u8; 16] {
    let mut address = [0; 16];
    let read = remote::read_memory(notification.tid, notification.address, &mut address);
    assert_eq!(read.unwrap(), 16);
    address
}

#[test]
fn a_bind_is_told_and_may_proceed() {
    let captive = Captive::start(Role::Leader);
    let call = captive.call();
    assert_eq!((call.call, call.tid), (Call::Bind, captive.pid));
    assert_eq!(call.length, 16);
    let address = address_of(&call);
    assert_eq!(address[..2], 2_u16.to_ne_bytes());
    assert_eq!(address[4..8], [127, 0, 0, 1]);
    assert!(captive.listener.is_valid(call.id));
    assert!(!captive.listener.is_valid(call.id.wrapping_add(7)));
    assert_eq!(captive.listener.receive().unwrap(), Received::Nothing);
    assert!(matches!(captive.report(), Report::Executed));
    captive.listener.proceed(call.id).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(0));
}

#[test]
fn an_answer_is_what_the_call_returns() {
    let captive = Captive::start(Role::Leader);
    let call = captive.call();
    captive.listener.answer(call.id, libc::EADDRINUSE).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(libc::EADDRINUSE));

    let captive = Captive::start(Role::Thread);
    let call = captive.call();
    let thread = remote::thread(call.tid).unwrap();
    assert_ne!(call.tid, captive.pid);
    assert_eq!(thread.process, captive.pid);
    captive.listener.answer(call.id, 0).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(UNBOUND));
}

#[test]
fn another_socket_takes_the_place_of_the_workers() {
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let captive = Captive::start(Role::Leader);
    let call = captive.call();
    let flags = remote::flags(call.tid, call.descriptor).unwrap();
    assert!(flags.close_on_exec && !flags.nonblocking);
    let protocol = remote::spoken(call.tid, call.descriptor).map(|spoken| spoken.protocol);
    assert_eq!(protocol, Some(remote::Protocol::Tcp));
    captive
        .listener
        .put(call.id, own.as_fd(), call.descriptor, true)
        .unwrap();
    let here = remote::inode(std::process::id().cast_signed(), own.as_raw_fd());
    assert_eq!(remote::inode(call.tid, call.descriptor), here);
    assert_eq!(remote::flags(call.tid, call.descriptor), Some(flags));
    captive.listener.answer(call.id, 0).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(0));
}

#[test]
fn the_workers_socket_can_be_had_and_bound_for_it() {
    let captive = Captive::start(Role::Thread);
    let call = captive.call();
    let socket = remote::duplicate(captive.pid, call.descriptor).unwrap();
    let socket = socket2::Socket::from(socket);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&address.into()).unwrap();
    captive.listener.answer(call.id, 0).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(0));
}

#[test]
fn a_listen_is_told_with_its_backlog() {
    let captive = Captive::start(Role::Listener);
    let bind = captive.call();
    captive.listener.proceed(bind.id).unwrap();
    let listen = captive.call();
    assert_eq!((listen.call, listen.backlog), (Call::Listen, 77));
    assert_eq!(listen.descriptor, bind.descriptor);
    captive.listener.answer(listen.id, libc::EPERM).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(libc::EPERM));
}

#[test]
fn a_socket_that_the_worker_waits_for_is_known() {
    let captive = Captive::start(Role::Poller);
    let call = captive.call();
    let inode = remote::inode(call.tid, call.descriptor).unwrap();
    let found = |inode| interest::waiting(captive.pid, call.descriptor, inode).len();
    assert_eq!((found(inode), found(inode + 1)), (1, 0));
    captive.listener.proceed(call.id).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(0));
}

#[test]
fn a_worker_that_is_gone_is_no_error() {
    let captive = Captive::start(Role::Leader);
    let call = captive.call();
    super::super::kill::send(captive.pid, libc::SIGKILL, None).unwrap();
    // It hangs up only once the worker is reaped.
    let killed = RawExit::Signal {
        number: libc::SIGKILL,
        core: false,
    };
    let listener = Notifications::from(captive.listener.0.try_clone().unwrap());
    assert_eq!(captive.exit(), killed);
    assert!(!listener.is_valid(call.id));
    listener.answer(call.id, 0).unwrap();
    listener.proceed(call.id).unwrap();
    let put = listener.put(call.id, listener.as_fd(), 3, true);
    assert_eq!(put.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    wait_readable(&listener);
    assert_eq!(listener.receive().unwrap(), Received::Gone);
}

#[test]
fn a_second_listener_is_refused() {
    let captive = super::super::forked::in_child(|| {
        install(true).is_ok() && install(true) == Err(Errno::EBUSY)
    });
    assert!(captive);
}
