//! What clinit tells the service manager that it was started by: here, the
//! test is that.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::harness::{Clinit, DEADLINE, Dir, Setup, get, get_unix, listening_port, open_gate};

/// A service manager, as far as clinit sees of one.
struct Fake {
    socket: UnixDatagram,
    said: VecDeque<(String, Option<OwnedFd>)>,
}

impl Fake {
    fn at(path: &str) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        Self::new(socket)
    }

    fn abstractly(name: &str) -> Self {
        let address = UnixAddress::from_abstract_name(name).unwrap();
        Self::new(UnixDatagram::bind_addr(&address).unwrap())
    }

    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let said = VecDeque::new();
        Self { socket, said }
    }

    fn receive(&mut self) {
        let mut text = [0; 4096];
        let mut space = cmsg_space!([i32; 4]);
        let (length, descriptor) = {
            let mut parts = [IoSliceMut::new(&mut text)];
            let raw = self.socket.as_raw_fd();
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message = recvmsg::<()>(raw, &mut parts, Some(&mut space), flags)
                .expect("clinit says something");
            let mut descriptor = None;
            for control in message.cmsgs().unwrap() {
                if let ControlMessageOwned::ScmRights(numbers) = control {
                    // SAFETY: it has just been received, and is nobody else's.
                    descriptor = numbers
                        .first()
                        .map(|raw| unsafe { OwnedFd::from_raw_fd(*raw) });
                }
            }
            (message.bytes, descriptor)
        };
        let text = String::from_utf8(text[..length].to_vec()).unwrap();
        self.said.push_back((text, descriptor));
    }

    /// The next message that has this line. Others before it are dropped.
    #[track_caller]
    fn hear(&mut self, line: &str) -> (String, Option<OwnedFd>) {
        loop {
            while let Some((text, descriptor)) = self.said.pop_front() {
                if text.lines().any(|it| it == line) {
                    return (text, descriptor);
                }
            }
            self.receive();
        }
    }

    /// What it is told from now on up to this line, status and watchdog aside.
    fn hear_all(&mut self, last: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            while let Some((text, _)) = self.said.pop_front() {
                let first = text.lines().next().unwrap_or_default().to_owned();
                if !first.starts_with("STATUS=") && first != "WATCHDOG=1" {
                    all.push(first.clone());
                }
                if first == last {
                    return all;
                }
            }
            self.receive();
        }
    }
}

fn managed(options: &str, dir: &Dir) -> (Setup, Fake) {
    let path = dir.path("manager");
    let fake = Fake::at(&path);
    (Setup::new(options).env("NOTIFY_SOCKET", &path), fake)
}

#[test]
fn a_manager_is_told_once_half_the_workers_are_ready() {
    let dir = Dir::new();
    let (setup, mut fake) = managed("-i 4 --ready notify", &dir);
    let gates = ["0", "1", "2", "3"].map(|name| setup.dir.fifo(name));
    let slots = [0, 1, 2, 3].map(|slot| format!("if-slot {slot} [ await {} ]", gates[slot]));
    let mut clinit = setup
        .worker(&format!("report up {} ready wait", slots.join(" ")))
        .start();
    let _ = clinit.reports("report", 4);
    open_gate(&gates[2]);
    fake.hear("STATUS=starting: 1 of 4 workers are ready");
    open_gate(&gates[0]);
    let (text, _) = fake.hear("READY=1");
    assert!(
        text.contains(&format!("MAINPID={}", clinit.pid())),
        "{text}"
    );
    fake.hear("STATUS=2 of 4 workers are ready");
    for gate in [&gates[1], &gates[3]] {
        open_gate(gate);
    }
    fake.hear("STATUS=4 of 4 workers are ready");
    clinit.end_by(libc::SIGTERM).expect(0);
    assert_eq!(fake.hear_all("STOPPING=1"), ["STOPPING=1"]);
}

#[test]
fn a_manager_at_an_abstract_name_is_told_of_a_reload_and_of_the_end() {
    let name = format!("clinit-test-{}", std::process::id());
    let mut fake = Fake::abstractly(&name);
    let setup = Setup::new("-i 2 -v --settle 0s --drain-delay 1h")
        .env("NOTIFY_SOCKET", &format!("@{name}"));
    let first = setup.path("first");
    let mut clinit = setup
        .worker(&format!(
            "once {first} [ ready report first wait ] ready wait"
        ))
        .start();
    assert_eq!(fake.hear_all("READY=1"), ["READY=1"]);
    clinit.wait_ready(2);
    let before = monotonic_usec();
    clinit.signal(libc::SIGHUP);
    let (text, _) = fake.hear("RELOADING=1");
    let since = text
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let since: u64 = since.unwrap().parse().unwrap();
    assert!((before..=monotonic_usec()).contains(&since));
    assert_eq!(fake.hear_all("READY=1"), ["READY=1"]);
    clinit.wait_for_log("reloaded");
    // Before the drain delay, not after it.
    clinit.signal(libc::SIGTERM);
    assert_eq!(fake.hear_all("STOPPING=1"), ["STOPPING=1"]);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_reload_that_fails_ends_too() {
    let dir = Dir::new();
    let (setup, mut fake) = managed("-i 1 -v --ready notify", &dir);
    let first = setup.path("first");
    let mut clinit = setup
        .worker(&format!("once {first} [ ready wait ] exit 1"))
        .start();
    fake.hear("READY=1");
    clinit.signal(libc::SIGHUP);
    assert_eq!(fake.hear_all("READY=1"), ["RELOADING=1", "READY=1"]);
    clinit.wait_for_log("reload failed");
}

/// The monotonic clock, which the kernel counts from the boot on.
fn monotonic_usec() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let [seconds, nanoseconds] = [time.tv_sec, time.tv_nsec].map(|it| u64::try_from(it).unwrap());
    seconds * 1_000_000 + nanoseconds / 1000
}

#[test]
fn a_manager_that_watches_is_told_that_clinit_is_alive() {
    let dir = Dir::new();
    let (setup, mut fake) = managed("-i 1", &dir);
    let mut clinit = setup
        .env("WATCHDOG_USEC", "40000")
        .worker("report-env NOTIFY_SOCKET,WATCHDOG_USEC,WATCHDOG_PID wait")
        .start();
    for _ in 0..10 {
        fake.hear("WATCHDOG=1");
    }
    let report = clinit.report("env");
    assert_ne!(report.value("NOTIFY_SOCKET"), dir.path("manager"));
    assert_eq!(report.fields[1..], ["WATCHDOG_USEC", "WATCHDOG_PID"]);
    // Where it watches another process, clinit is not the one to say so.
    let (setup, mut fake) = {
        let path = dir.path("other");
        let fake = Fake::at(&path);
        (Setup::new("-i 1").env("NOTIFY_SOCKET", &path), fake)
    };
    let clinit = setup
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1")
        .worker("ready wait")
        .start();
    fake.hear("READY=1");
    clinit.end_by(libc::SIGTERM).expect(0);
    loop {
        fake.receive();
        let (text, _) = fake.said.pop_back().unwrap();
        assert_ne!(text, "WATCHDOG=1");
        if text == "STOPPING=1" {
            break;
        }
    }
}

#[test]
fn in_init_mode_the_child_has_the_manager_to_itself() {
    let dir = Dir::new();
    let (setup, mut fake) = managed("", &dir);
    let mut clinit = setup
        .env("WATCHDOG_USEC", "5000000")
        .worker("report-env NOTIFY_SOCKET,WATCHDOG_USEC say STATUS=mine report said wait")
        .start();
    let report = clinit.report("env");
    assert_eq!(report.value("NOTIFY_SOCKET"), dir.path("manager"));
    assert_eq!(report.value("WATCHDOG_USEC"), "5000000");
    let _ = clinit.report("report");
    clinit.end_by(libc::SIGTERM);
    fake.receive();
    assert_eq!(fake.said.len(), 1);
    fake.hear("STATUS=mine");
    fake.socket.set_nonblocking(true).unwrap();
    assert!(
        fake.socket.recv(&mut [0; 64]).is_err(),
        "nothing of clinit's"
    );
}

#[test]
fn a_manager_that_does_not_read_or_is_gone_holds_nothing_up() {
    let dir = Dir::new();
    let (setup, fake) = managed("-i 2 --backoff 1ms..1ms --max-restarts 100000", &dir);
    let mut clinit = setup.worker("ready report up exit 3").start();
    // Each start and each end is news, and far more than its queue holds.
    let _ = clinit.reports("report", 40);
    drop(fake);
    let _ = clinit.reports("report", 40);
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0);
    let said = ended.log.matches("cannot tell the service manager");
    assert_eq!(said.count(), 1, "{}", ended.log);
    let mut clinit = Setup::new("-i 1 -v")
        .env("NOTIFY_SOCKET", "vsock:2:1")
        .worker("ready report up wait")
        .start();
    let _ = clinit.report("report");
    clinit.wait_for_log("a path or @NAME is accepted");
}

#[test]
fn a_manager_that_reads_again_is_told_what_it_has_missed() {
    let dir = Dir::new();
    let (setup, mut fake) = managed("-i 1 --ready notify -v", &dir);
    let gate = setup.dir.fifo("gate");
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"X_FULL=1", dir.path("manager")).is_ok() {}
    let mut clinit = setup
        .worker(&format!("await {gate} ready report up wait"))
        .start();
    open_gate(&gate);
    clinit.wait_for_log("cannot tell the service manager");
    clinit.wait_ready(1);
    fake.hear("READY=1");
    fake.hear("STATUS=1 of 1 workers are ready");
}

// ---- listeners across a restart ----

fn stored(fake: &mut Fake, name: &str) -> OwnedFd {
    let (text, descriptor) = fake.hear(&format!("FDNAME={name}"));
    assert!(
        text.starts_with("FDSTORE=1\n") && text.contains("FDPOLL=0"),
        "{text}"
    );
    descriptor.unwrap()
}

/// Starts clinit with a socket as descriptor 3, under this name.
fn restarted(setup: Setup, kept: OwnedFd, name: &str) -> Clinit {
    let script = format!(
        "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES={name}; exec \"$@\""
    );
    setup
        .stdin(File::from(kept))
        .through(&["sh", "-c", &script, "sh"])
        .worker("ready report-env LISTEN_FDNAMES report-sockets serve")
        .start()
}

#[test]
fn a_listener_is_kept_across_a_restart_and_nobody_is_refused() {
    let dir = Dir::new();
    let (setup, mut fake) = managed("-i 2 -v -l web=127.0.0.1:0", &dir);
    let mut clinit = setup.worker("ready report up serve").start();
    let kept = stored(&mut fake, "clinit.web");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, clinit.port()));
    let _ = clinit.reports("report", 2);
    get(address).unwrap();
    clinit.end_by(libc::SIGTERM).expect(0);
    // Nobody runs, and who comes now waits.
    let early = TcpStream::connect(address).unwrap();
    let client = std::thread::spawn(move || get(address));
    drop(early);
    let setup = Setup::new("-i 2 -v -l web=127.0.0.1:0").env("NOTIFY_SOCKET", &dir.path("manager"));
    let mut clinit = restarted(setup, kept, "clinit.web");
    client.join().unwrap().unwrap();
    assert_eq!(clinit.report("env").value("LISTEN_FDNAMES"), "web");
    let report = clinit.report("sockets");
    assert_eq!(report.fields.len(), 1, "{report}");
    assert_eq!(report.value("3"), address.to_string());
    for _ in 0..20 {
        get(address).unwrap();
    }
    clinit.wait_for_log(&format!("taking over {address}"));
    // And it is kept again.
    let _ = stored(&mut fake, "clinit.web");
}

#[test]
fn a_unix_socket_keeps_its_path() {
    let dir = Dir::new();
    let path = dir.path("a.sock");
    let options = format!("-i 1 -l unix:{path}");
    let (setup, mut fake) = managed(&options, &dir);
    let mut clinit = setup.worker("ready report up serve").start();
    let name = format!("clinit.unix-{path}");
    let kept = stored(&mut fake, &name);
    let _ = clinit.report("report");
    clinit.end_by(libc::SIGTERM).expect(0);
    let mut clinit = restarted(Setup::new(&options), kept, &name);
    let _ = clinit.report("sockets");
    get_unix(&path).unwrap();
    // Where nobody keeps it, it goes.
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_kept_socket_that_is_no_listener_any_more_is_let_go() {
    let dir = Dir::new();
    let (setup, mut fake) = managed("-i 1 -l old=127.0.0.1:0", &dir);
    let mut clinit = setup.worker("ready report up serve").start();
    let kept = stored(&mut fake, "clinit.old");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, clinit.port()));
    let _ = clinit.report("report");
    clinit.end_by(libc::SIGTERM).expect(0);
    let setup = Setup::new("-i 1 -v -l new=127.0.0.1:0").env("NOTIFY_SOCKET", &dir.path("manager"));
    let mut clinit = restarted(setup, kept, "clinit.old");
    let (text, _) = fake.hear("FDNAME=clinit.old");
    assert!(text.starts_with("FDSTOREREMOVE=1"), "{text}");
    assert_eq!(clinit.report("env").value("LISTEN_FDNAMES"), "new");
    let pid = clinit.pid();
    assert_ne!(listening_port(pid), Some(address.port()));
    assert!(TcpStream::connect(address).is_err(), "it is closed");
}

#[test]
fn a_socket_that_was_passed_is_the_listener_that_was_asked_for() {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let setup = Setup::new(&format!("-i 1 -v -l web={address}"));
    let mut clinit = restarted(setup, socket.into(), "web");
    assert_eq!(clinit.report("env").value("LISTEN_FDNAMES"), "web");
    assert_eq!(clinit.report("sockets").fields.len(), 1);
    get(address).unwrap();
}
