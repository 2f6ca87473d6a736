//! A worker under the filter, for tests: this test binary once more, which then
//! does this in place of any test. It binds a socket, sees whether anything of
//! its own has changed by that, and says so by its exit code.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};

use super::notification::{Notification, Notifications, Received};
use super::poll::Poller;
use super::process::{
    Filter, Group, RawExit, Report, SpawnRequest, Spawned, Stdin, read_report, spawn,
    wait_for_group,
};
use super::signals::SignalSet;
use super::start::Inherited;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its main thread binds.
    Leader,
    /// Another thread binds.
    Thread,
    /// Its main thread binds, then listens.
    Listener,
    /// Its main thread waits for the socket, then binds it.
    Poller,
    /// The same, and then takes a connection that it is told of.
    Acceptor,
}

const ROLES: [(Role, &str); 5] = [
    (Role::Leader, "leader"),
    (Role::Thread, "thread"),
    (Role::Listener, "listener"),
    (Role::Poller, "poller"),
    (Role::Acceptor, "acceptor"),
];

/// It exits so where the socket has no address although it was bound. Else its
/// exit code is the error number of the call, 0 for none.
pub(super) const UNBOUND: i32 = 250;
/// Something is not as it was before the call.
pub(super) const CHANGED: i32 = 251;

const VARIABLE: &str = "CLINIT_TEST_ROLE";

pub(super) struct Captive {
    pub(super) pid: i32,
    pub(super) listener: Notifications,
    report: OwnedFd,
    reaped: bool,
}

pub(super) fn wait_readable(fd: impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 20_000_u16), Ok(1), "nothing in 20 seconds");
}

impl Captive {
    pub(super) fn start(role: Role) -> Self {
        let name = ROLES.iter().find(|(known, _)| *known == role).unwrap().1;
        let program = std::env::current_exe().unwrap();
        let argv = [CString::new(program.to_str().unwrap()).unwrap()];
        let env = [CString::new(format!("{VARIABLE}={name}")).unwrap()];
        let request = SpawnRequest {
            argv: &argv,
            env: &env,
            own_pid: &[],
            descriptors: &[],
            stdin: Stdin::Inherit,
            group: Group::New,
            credentials: None,
            chdir: None,
            parent_death_signal: None,
            cpu: None,
            filter: Some(Filter { no_new_privs: true }),
        };
        let Spawned { pid, report, .. } = spawn(&request, &Inherited::record()).unwrap();
        wait_readable(&report);
        let Report::Filtered(listener) = read_report(&report) else {
            panic!("no filter");
        };
        Self {
            pid,
            listener,
            report,
            reaped: false,
        }
    }

    /// Its next call.
    pub(super) fn call(&self) -> Notification {
        loop {
            wait_readable(&self.listener);
            match self.listener.receive().unwrap() {
                Received::Call(notification) => return notification,
                Received::Nothing => {}
                Received::Gone => panic!("it has ended"),
            }
        }
    }

    /// How it started. Another test's child may hold the other end until it
    /// execs.
    pub(super) fn report(&self) -> Report {
        wait_readable(&self.report);
        read_report(&self.report)
    }

    pub(super) fn exit(mut self) -> RawExit {
        self.reaped = true;
        wait_for_group(self.pid).unwrap()
    }
}

impl Drop for Captive {
    fn drop(&mut self) {
        if !self.reaped {
            super::kill::send(self.pid, libc::SIGKILL, None).unwrap();
            wait_for_group(self.pid);
        }
    }
}

/// Makes a call with a pattern in every register that it leaves alone, and
/// tells whether they still have it.
#[cfg(target_arch = "x86_64")]
fn call_with_patterns(number: i64, arguments: [u64; 3]) -> (i64, bool) {
    let [first, second, third] = arguments;
    let (mut rdi, mut rsi, mut rdx) = (first, second, third);
    let (mut r8, mut r9, mut r10) = (8_u64, 9_u64, 10_u64);
    let (mut r12, mut r13, mut r14, mut r15) = (12_u64, 13_u64, 14_u64, 15_u64);
    let (mut xmm0, mut xmm15) = (0.5_f64, 15.5_f64);
    let result: i64;
    // SAFETY: the arguments are those of a call that writes no memory, and all
    // that the call changes is declared.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            inout("rdi") rdi, inout("rsi") rsi, inout("rdx") rdx,
            inout("r8") r8, inout("r9") r9, inout("r10") r10,
            inout("r12") r12, inout("r13") r13, inout("r14") r14, inout("r15") r15,
            inout("xmm0") xmm0, inout("xmm15") xmm15,
            out("rcx") _, out("r11") _,
            options(nostack),
        );
    }
    let intact = [rdi, rsi, rdx, r8, r9, r10] == [first, second, third, 8, 9, 10]
        && [r12, r13, r14, r15] == [12, 13, 14, 15]
        && [xmm0.to_bits(), xmm15.to_bits()] == [0.5_f64.to_bits(), 15.5_f64.to_bits()];
    (result, intact)
}

/// As above.
#[cfg(target_arch = "aarch64")]
fn call_with_patterns(number: i64, arguments: [u64; 3]) -> (i64, bool) {
    let [first, second, third] = arguments;
    let (mut x1, mut x2, mut x8) = (second, third, number);
    let (mut x3, mut x4, mut x5, mut x7) = (3_u64, 4_u64, 5_u64, 7_u64);
    let (mut x20, mut x28, mut v0) = (20_u64, 28_u64, 0.5_f64);
    let result: u64;
    // SAFETY: the arguments are those of a call that writes no memory, and all
    // that the call changes is declared.
    unsafe {
        std::arch::asm!(
            "svc #0",
            inlateout("x0") first => result,
            inout("x1") x1, inout("x2") x2, inout("x3") x3, inout("x4") x4,
            inout("x5") x5, inout("x7") x7, inout("x8") x8,
            inout("x20") x20, inout("x28") x28, inout("v0") v0,
            options(nostack),
        );
    }
    let intact = [x1, x2, x3, x4, x5, x7] == [second, third, 3, 4, 5, 7]
        && x8 == number
        && [x20, x28] == [20, 28]
        && v0.to_bits() == 0.5_f64.to_bits();
    (result.cast_signed(), intact)
}

/// Runs before `main`, in every process of this binary: libtest runs no test in
/// the main thread.
#[used]
// SAFETY: the section holds functions of this type, which the C library calls
// once each.
#[unsafe(link_section = ".init_array")]
static BE_THE_WORKER: extern "C" fn() = be_the_worker;

extern "C" fn be_the_worker() {
    let Ok(name) = std::env::var(VARIABLE) else {
        return;
    };
    let role = ROLES.iter().find(|(_, known)| *known == name).unwrap().0;
    let code = match role {
        Role::Leader | Role::Listener | Role::Poller | Role::Acceptor => bind_and_look(role),
        Role::Thread => std::thread::spawn(move || bind_and_look(role))
            .join()
            .unwrap(),
    };
    std::process::exit(code);
}

fn bind_and_look(role: Role) -> i32 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let address = socket2::SockAddr::from(address);
    let poller = Poller::new().unwrap();
    if matches!(role, Role::Poller | Role::Acceptor) {
        poller.add(&socket, 1).unwrap();
    }
    // One signal is blocked, all others are not.
    SignalSet::for_test(&[libc::SIGUSR1]).block_exactly();
    let before = (SignalSet::blocked(), descriptors());
    let descriptor = u64::try_from(socket.as_raw_fd()).unwrap();
    let at = address.as_ptr() as u64;
    let (result, intact) =
        call_with_patterns(libc::SYS_bind, [descriptor, at, address.len().into()]);
    if !intact || (SignalSet::blocked(), descriptors()) != before {
        return CHANGED;
    }
    if result != 0 {
        return i32::try_from(-result).unwrap();
    }
    if role == Role::Listener {
        let listened = socket.listen(77);
        return listened.map_or_else(|error| error.raw_os_error().unwrap(), |()| 0);
    }
    if role == Role::Acceptor {
        let told: Vec<u64> = poller.wait(Some(20_000)).unwrap().tokens().collect();
        let accepted = socket.accept().map(drop);
        // It is the worker's to take back too.
        let removed = poller.remove(&socket);
        let all = told == [1] && accepted.is_ok() && removed.is_ok();
        return if all { 0 } else { CHANGED };
    }
    let bound = socket.local_addr().unwrap().as_socket().unwrap();
    if bound.port() == 0 { UNBOUND } else { 0 }
}

fn descriptors() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
