//! Sockets of real workers, extracted from either kind of thread.

use std::fs;

use super::super::captive::{Captive, Role};
use super::super::kill;
use super::super::process::{Change, RawExit, look_at_change, wait_for_change};
use super::*;

/// An extraction that has come to an end, unless its worker did.
struct Ended {
    extraction: Extraction,
    result: io::Result<OwnedFd>,
}

/// How many stops there are at least: its own, then one before and one after
/// each of four calls.
const STOPS: usize = 9;

/// Extracts the socket; calls `at_stop` before the extraction begins and
/// before each stop is dealt with. None where the worker dies meanwhile; its end
/// is left to be waited for.
fn extract(
    captive: &Captive,
    call: &Notification,
    at_stop: &mut dyn FnMut(usize),
) -> Option<Ended> {
    at_stop(0);
    let mut extraction = Extraction::begin(&captive.listener, call, call.descriptor).unwrap();
    for stop in 1.. {
        let status = next_stop(call.tid)?;
        at_stop(stop);
        let result = match extraction.advance(status) {
            Progress::Pending => continue,
            Progress::Extracted(socket) => Ok(socket),
            Progress::Failed(error) => Err(error),
            Progress::Released => panic!("nobody cancelled it"),
        };
        return Some(Ended { extraction, result });
    }
    None
}

/// The status of a thread's next stop; none where it ends.
fn next_stop(tid: i32) -> Option<i32> {
    loop {
        match look_at_change(tid) {
            Change::Trapped { .. } => {}
            Change::Exited(_) => return None,
            // SIGCONT's, which the thread has not come to yet.
            Change::Continued { .. } | Change::Stopped { .. } => {
                wait_for_change(tid);
                continue;
            }
        }
        if let Change::Trapped { status, .. } = wait_for_change(tid) {
            return Some(status);
        }
    }
}

fn extract_quietly(captive: &Captive, call: &Notification) -> (Extraction, OwnedFd) {
    let ended = extract(captive, call, &mut |_| {}).unwrap();
    (ended.extraction, ended.result.unwrap())
}

fn bind(socket: OwnedFd) {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = socket2::Socket::from(socket);
    socket.bind(&address.into()).unwrap();
}

fn memory_map(captive: &Captive) -> String {
    fs::read_to_string(format!("/proc/{}/maps", captive.pid)).unwrap()
}

#[test]
fn the_socket_is_extracted_and_nothing_else_changes() {
    for role in [Role::Leader, Role::Thread] {
        let captive = Captive::start(role);
        let call = captive.call();
        assert_eq!(call.tid == captive.pid, role == Role::Leader);
        let inode = remote::inode(call.tid, call.descriptor);
        let map = memory_map(&captive);
        let (extraction, socket) = extract_quietly(&captive, &call);
        let own = std::process::id().cast_signed();
        assert!(inode.is_some());
        assert_eq!(remote::inode(own, socket.as_raw_fd()), inode);
        assert_eq!(memory_map(&captive), map);
        bind(socket);
        extraction.finish(0);
        assert_eq!(captive.exit(), RawExit::Code(0), "{role:?}");
    }
}

#[test]
fn an_error_is_what_the_call_returns() {
    for role in [Role::Leader, Role::Thread] {
        let captive = Captive::start(role);
        let (extraction, _socket) = extract_quietly(&captive, &captive.call());
        extraction.finish(libc::EADDRINUSE);
        assert_eq!(captive.exit(), RawExit::Code(libc::EADDRINUSE));
    }
}

#[test]
fn a_cancelled_call_is_made_again() {
    for role in [Role::Leader, Role::Thread] {
        let captive = Captive::start(role);
        let (extraction, _socket) = extract_quietly(&captive, &captive.call());
        assert!(extraction.cancel().is_none());
        let again = captive.call();
        // Dropping it does the same.
        let (extraction, _socket) = extract_quietly(&captive, &again);
        drop(extraction);
        let again = captive.call();
        captive.listener.proceed(again.id).unwrap();
        assert_eq!(captive.exit(), RawExit::Code(0));
    }
}

#[test]
fn it_may_be_cancelled_at_any_stop() {
    for after in 0..STOPS {
        let captive = Captive::start(Role::Thread);
        let call = captive.call();
        let map = memory_map(&captive);
        let mut extraction = Extraction::begin(&captive.listener, &call, call.descriptor).unwrap();
        let next = |extraction: &mut Extraction| extraction.advance(next_stop(call.tid).unwrap());
        for _ in 0..after {
            assert!(matches!(next(&mut extraction), Progress::Pending));
        }
        extraction = extraction.cancel().unwrap();
        loop {
            match next(&mut extraction) {
                Progress::Pending => {}
                Progress::Released => break,
                other @ (Progress::Extracted(_) | Progress::Failed(_)) => panic!("{other:?}"),
            }
        }
        let again = captive.call();
        assert_eq!(memory_map(&captive), map);
        captive.listener.proceed(again.id).unwrap();
        assert_eq!(captive.exit(), RawExit::Code(0));
    }
}

#[test]
fn a_signal_that_ends_the_worker_waits_for_the_end() {
    for role in [Role::Leader, Role::Thread] {
        // Before the first it ends a thread that waits at once.
        for at in 1..=STOPS {
            let captive = Captive::start(role);
            let call = captive.call();
            // To the thread: its fellows would take the process's at once.
            let ended = extract(&captive, &call, &mut |stop| {
                if stop == at {
                    send_to_thread(&captive, call.tid, libc::SIGTERM);
                }
            });
            let ended = ended.unwrap();
            bind(ended.result.unwrap());
            ended.extraction.finish(0);
            let terminated = RawExit::Signal {
                number: libc::SIGTERM,
                core: false,
            };
            assert_eq!(captive.exit(), terminated, "{role:?} at {at}");
        }
    }
}

fn send_to_thread(captive: &Captive, tid: i32, number: i32) {
    // SAFETY: tgkill touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, captive.pid, tid, number) };
    assert_eq!(result, 0);
}

#[test]
fn a_worker_that_is_stopped_meanwhile_stays_stopped_until_it_is_continued() {
    for role in [Role::Leader, Role::Thread] {
        for at in 0..=STOPS {
            let captive = Captive::start(role);
            let call = captive.call();
            let ended = extract(&captive, &call, &mut |stop| {
                if stop == at {
                    kill::send(captive.pid, libc::SIGSTOP, None).unwrap();
                }
            });
            let ended = ended.unwrap();
            bind(ended.result.unwrap());
            ended.extraction.finish(0);
            let pid = captive.pid;
            assert_eq!(
                wait_for_change(pid),
                Change::Stopped {
                    pid,
                    signal: libc::SIGSTOP
                },
                "{role:?} {at}"
            );
            kill::send(pid, libc::SIGCONT, None).unwrap();
            assert_eq!(captive.exit(), RawExit::Code(0), "{role:?} at {at}");
        }
    }
}

#[test]
fn a_worker_that_is_stopped_and_continued_meanwhile_goes_on() {
    for role in [Role::Leader, Role::Thread] {
        for at in 0..STOPS {
            let captive = Captive::start(role);
            let call = captive.call();
            let ended = extract(&captive, &call, &mut |stop| {
                if stop == at {
                    kill::send(captive.pid, libc::SIGSTOP, None).unwrap();
                } else if stop == at + 1 {
                    kill::send(captive.pid, libc::SIGCONT, None).unwrap();
                }
            });
            let ended = ended.unwrap();
            bind(ended.result.unwrap());
            ended.extraction.finish(0);
            assert_eq!(captive.exit(), RawExit::Code(0), "{role:?} at {at}");
        }
    }
}

#[test]
fn a_worker_that_is_killed_meanwhile_just_ends() {
    for role in [Role::Leader, Role::Thread] {
        for at in 1..=STOPS {
            let captive = Captive::start(role);
            let call = captive.call();
            let ended = extract(&captive, &call, &mut |stop| {
                if stop == at {
                    kill::send(captive.pid, libc::SIGKILL, None).unwrap();
                }
            });
            if let Some(Ended { extraction, .. }) = ended {
                extraction.finish(0);
            }
            let killed = RawExit::Signal {
                number: libc::SIGKILL,
                core: false,
            };
            assert_eq!(captive.exit(), killed, "{role:?} at {at}");
        }
    }
}

#[test]
fn a_worker_that_is_traced_already_is_left_alone() {
    let captive = Captive::start(Role::Leader);
    let call = captive.call();
    assert!(can_trace(captive.pid));
    let refused = Extraction::begin(&captive.listener, &call, call.descriptor).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    assert!(captive.listener.is_valid(call.id));
    captive.listener.proceed(call.id).unwrap();
    assert_eq!(captive.exit(), RawExit::Code(0));
}

#[test]
fn what_is_written_is_a_message_with_a_descriptor() {
    let at = 0x7000;
    let words = message(at, 9);
    let word = |address: u64| words[usize::try_from((address - at) / 8).unwrap()];
    assert_eq!(word(words[2]), at + 96);
    assert_eq!((words[3], word(words[2] + 8)), (1, 1));
    assert_eq!((words[5], word(words[4])), (20, 20));
    assert_eq!(word(words[4] + 8), 1 | 1 << 32);
    assert_eq!(word(words[4] + 16), 9);
}
