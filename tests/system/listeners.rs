//! Listeners that clinit makes, and those that it was started with.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;

use crate::harness::{Clinit, DEADLINE, Dir, Setup, cannot_run, get, get_unix, is_root, program};

const QUICK: &str = "--backoff 1ms..5ms";

/// The address of the worker's descriptor.
fn address_of(clinit: &mut Clinit, descriptor: &str) -> SocketAddr {
    clinit.report("sockets").value(descriptor).parse().unwrap()
}

#[test]
fn tcp_of_either_family() {
    for (listen, expected) in [
        ("127.0.0.1:0", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        ("[::1]:0", SocketAddr::from((Ipv6Addr::LOCALHOST, 0))),
        (
            "tcp:127.0.0.1:0",
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ),
    ] {
        let mut clinit = Setup::new("-l")
            .arg(listen)
            .worker("report-sockets serve")
            .start();
        let address = address_of(&mut clinit, "3");
        assert_eq!(address.ip(), expected.ip());
        get(address).unwrap();
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn any_address_is_both_families_in_one_socket() {
    for listen in ["0", ":0", "[::]:0"] {
        let mut clinit = Setup::new("-l")
            .arg(listen)
            .worker("report-sockets serve")
            .start();
        let port = address_of(&mut clinit, "3").port();
        get((Ipv4Addr::LOCALHOST, port)).unwrap();
        get((Ipv6Addr::LOCALHOST, port)).unwrap();
        clinit.end_by(libc::SIGTERM).expect(0);
    }
    // What is of one family is of that one alone.
    let mut clinit = Setup::new("-l 0.0.0.0:0")
        .worker("report-sockets serve")
        .start();
    let port = address_of(&mut clinit, "3").port();
    get((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_err());
}

#[test]
fn minus_l_alone_is_one_worker_and_says_so() {
    let mut clinit = Setup::new("-l 127.0.0.1:0")
        .worker("report up wait")
        .start();
    let _ = clinit.report("report");
    clinit
        .end_by(libc::SIGTERM)
        .expect(0)
        .says("one worker")
        .says("workers=1");
}

#[test]
fn one_queue_is_served_by_each_worker() {
    let mut clinit = Setup::new("-i 4 --share queue -l 127.0.0.1:0")
        .worker("report up serve")
        .start();
    let mut left: Vec<String> = clinit
        .reports("report", 4)
        .into_iter()
        .map(|r| r.slot)
        .collect();
    let address = (Ipv4Addr::LOCALHOST, clinit.port());
    // Connections that are held open take workers up: four at once take all.
    let start = std::time::Instant::now();
    while !left.is_empty() {
        let held: Vec<_> = left
            .iter()
            .skip(1)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let answer = get(address).unwrap();
        drop(held);
        left.retain(|slot| !answer.contains(&format!("slot={slot} ")));
        assert!(start.elapsed() < DEADLINE, "never answered: {left:?}");
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn unix_sockets_by_path_and_by_name() {
    let dir = Dir::new();
    let path = dir.path("a.sock");
    let name = format!("@{path}");
    let mut clinit = Setup::new("-i 2")
        .arg("-l")
        .arg(format!("unix:{path}"))
        .arg("-l")
        .arg(format!("unix:{name}"))
        .worker("report-sockets if-slot 1 [ serve-fd 4 ] serve")
        .start();
    let report = clinit.reports("sockets", 2).remove(0);
    assert_eq!(report.value("3"), format!("unix:{path}"));
    assert_eq!(report.value("4"), format!("unix:{name}"));
    assert!(get_unix(&path).unwrap().contains("slot=0"));
    clinit.end_by(libc::SIGTERM).expect(0);
    assert!(!fs::exists(&path).unwrap(), "its file goes with it");
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let dir = Dir::new();
    let path = dir.path("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    let mut clinit = Setup::new("-l")
        .arg(format!("unix:{path}"))
        .worker("report up serve")
        .start();
    let _ = clinit.report("report");
    get_unix(&path).unwrap();
}

#[test]
fn a_live_unix_socket_is_left_alone() {
    let dir = Dir::new();
    let path = dir.path("a.sock");
    let live = UnixListener::bind(&path).unwrap();
    let ended = Setup::new("-i 1 -l")
        .arg(format!("unix:{path}"))
        .worker("report up wait")
        .run();
    refused(&ended.expect(1).log, &path, "listening there");
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let client = std::os::unix::net::UnixStream::connect(&path);
    assert!(client.is_ok(), "it still listens");
    drop(live);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = Dir::new();
    let path = dir.write("precious", "data", 0o644);
    let ended = Setup::new("-i 1 -l")
        .arg(format!("unix:{path}"))
        .worker("report up wait")
        .run();
    refused(&ended.expect(1).log, &path, "");
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn a_unix_socket_in_no_directory() {
    let ended = Setup::new("-i 1 -l unix:/nonexistent/a.sock")
        .worker("wait")
        .run();
    refused(&ended.expect(1).log, "/nonexistent/a.sock", "o such file");
}

#[test]
fn a_unix_path_that_is_too_long() {
    let path = format!("/tmp/{}", "x".repeat(103));
    let ended = Setup::new("-i 1 -l")
        .arg(format!("unix:{path}"))
        .worker("wait")
        .run();
    refused(&ended.expect(2).log, "unix:/tmp/xxx", "107");
}

/// One line, which names what was asked for and says what is wrong.
#[track_caller]
fn refused(log: &str, named: &str, reason: &str) {
    assert_eq!(log.lines().count(), 1, "one line:\n{log}");
    assert!(
        log.contains(named) && log.contains(reason),
        "{named}, {reason}: {log}"
    );
}

#[test]
fn datagrams() {
    let mut clinit = Setup::new("-i 2 -l udp:127.0.0.1:0")
        .worker("report-sockets report-fds echo-udp 3")
        .start();
    let address = address_of(&mut clinit, "3");
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.connect(address).unwrap();
    for text in ["one", "two", "three"] {
        client.send(text.as_bytes()).unwrap();
        let mut answer = [0; 16];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], text.as_bytes());
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn listeners_have_names_in_the_order_of_their_descriptors() {
    let dir = Dir::new();
    let path = dir.path("admin.sock");
    let mut clinit = Setup::new("-i 2 -l web=127.0.0.1:0 -l udp:127.0.0.1:0 -l")
        .arg(format!("admin=unix:{path}"))
        .worker("report-args {fd} {fd:web} {fd:admin} . report-env LISTEN_FDNAMES report-sockets serve-fd {fd:admin}")
        .start();
    for report in clinit.reports("args", 2) {
        assert_eq!(report.fields, ["3", "3", "5"]);
    }
    assert_eq!(
        clinit.report("env").value("LISTEN_FDNAMES"),
        "web:unknown:admin"
    );
    assert_eq!(clinit.report("sockets").value("5"), format!("unix:{path}"));
    get_unix(&path).unwrap();
}

#[test]
fn further_dialects_on_request() {
    let dir = Dir::new();
    let path = dir.path("a.sock");
    let mut clinit = Setup::new("-i 1 --sockets-as server-starter,nginx -l 127.0.0.1:0 -l")
        .arg(format!("unix:{path}"))
        .worker("report-sockets report-env SERVER_STARTER_PORT,NGINX wait")
        .start();
    let address = address_of(&mut clinit, "3");
    let report = clinit.report("env");
    assert_eq!(
        report.value("SERVER_STARTER_PORT"),
        format!("{address}=3;{path}=4")
    );
    assert_eq!(report.value("NGINX"), "3;4;");
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dir = Dir::new();
    let abstract_name = format!("@{}", dir.path("x"));
    let _abstract = {
        use std::os::linux::net::SocketAddrExt as _;
        let name = abstract_name.trim_start_matches('@');
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        UnixListener::bind_addr(&address).unwrap()
    };
    for (listen, named) in [
        (
            taken.local_addr().unwrap().to_string(),
            taken.local_addr().unwrap().to_string(),
        ),
        (
            format!("udp:{}", udp.local_addr().unwrap()),
            udp.local_addr().unwrap().to_string(),
        ),
        (format!("unix:{abstract_name}"), abstract_name.clone()),
    ] {
        let ran = dir.path("ran");
        // What could be bound before it is no reason to start anything.
        let ended = Setup::new("-i 2 -l 127.0.0.1:0 -l")
            .arg(&listen)
            .command(&["touch", &ran])
            .run();
        refused(&ended.expect(1).log, &named, "in use");
        assert!(
            !fs::exists(ran).unwrap(),
            "nothing is started before all is bound"
        );
    }
}

#[test]
fn an_address_of_another_machine_is_named() {
    let ended = Setup::new("-i 1 -l 192.0.2.1:8080").worker("wait").run();
    refused(&ended.expect(1).log, "192.0.2.1:8080", "ssign");
}

#[test]
fn a_privileged_port_without_the_right() {
    if !is_root() || program("setpriv").is_none() {
        return;
    }
    let start = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    if fs::read_to_string(start).unwrap().trim() == "0" {
        cannot_run("RING 3", "every port is unprivileged here");
        return;
    }
    // No user may read the test's own build directory: a copy for him.
    let dir = Dir::new();
    let copy = dir.path("clinit");
    fs::copy(crate::harness::CLINIT, &copy).unwrap();
    let script = format!("shift; exec {copy} \"$@\"");
    let ended = Setup::new("-i 1 -l 127.0.0.1:81")
        .through(&[
            "setpriv",
            "--reuid",
            "1000",
            "--clear-groups",
            "sh",
            "-c",
            &script,
            "sh",
        ])
        .command(&["true"])
        .run();
    refused(
        &ended.expect(1).log,
        "127.0.0.1:81",
        "net.ipv4.ip_unprivileged_port_start",
    );
}

#[test]
fn listeners_are_bound_before_privileges_are_dropped() {
    if !is_root() {
        return;
    }
    let mut clinit = Setup::new("-l 127.0.0.1:82 --user 1000:1000")
        .worker("report-ids serve")
        .start();
    assert!(clinit.report("ids").value("uid").starts_with("1000"));
    get((Ipv4Addr::LOCALHOST, 82)).unwrap();
}

#[test]
fn a_placeholder_for_no_listener_is_an_error() {
    for (argument, reason) in [
        ("{fd:nope}", "no listener has that name"),
        ("{port:sock}", "no port"),
    ] {
        let dir = Dir::new();
        let ended = Setup::new("-i 1 -l web=127.0.0.1:0 -l")
            .arg(format!("sock=unix:{}", dir.path("a.sock")))
            .command(&["server", argument])
            .run();
        refused(&ended.expect(2).log, argument, reason);
        assert!(!fs::exists(dir.path("a.sock")).unwrap(), "it is tidied up");
    }
}

/// Starts clinit with sockets as systemd does: descriptors from 3 on, and
/// variables that name clinit's own pid.
fn activated(setup: Setup, descriptors: &str, names: &str) -> Setup {
    let script = format!(
        "exec 3<&0 {descriptors} 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES={names}; exec \"$@\""
    );
    setup.through(&["sh", "-c", &script, "sh"])
}

#[test]
fn sockets_that_clinit_was_started_with_are_taken_over() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let setup = Setup::new(&format!("-i 2 -l own=127.0.0.1:0 {QUICK}"))
        .stdin(std::os::fd::OwnedFd::from(socket));
    let mut clinit = activated(setup, "", "http")
        .worker("report-env LISTEN_FDS,LISTEN_PID,LISTEN_FDNAMES report-sockets report-fds serve")
        .start();
    for report in clinit.reports("env", 2) {
        assert_eq!(report.value("LISTEN_FDS"), "2");
        assert_eq!(report.value("LISTEN_PID"), report.pid.to_string());
        assert_eq!(report.value("LISTEN_FDNAMES"), "http:own");
    }
    let sockets = clinit.report("sockets");
    assert_eq!(sockets.value("3"), address.to_string());
    assert_eq!(sockets.fields.len(), 2);
    get(address).unwrap();
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn sockets_that_are_meant_for_another_process_are_not() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=1; exec \"$@\"";
    let mut clinit = Setup::new("-i 1")
        .stdin(std::os::fd::OwnedFd::from(socket))
        .through(&["sh", "-c", script, "sh"])
        .worker("report-env LISTEN_FDS,LISTEN_PID report-sockets wait")
        .start();
    assert_eq!(clinit.report("env").fields, ["LISTEN_FDS", "LISTEN_PID"]);
    assert!(clinit.report("sockets").fields.is_empty());
}

#[test]
fn what_was_passed_and_is_no_listener_is_an_error() {
    let file = fs::File::open("/dev/null").unwrap();
    let setup = Setup::new("-i 1").stdin(file);
    let ended = activated(setup, "", "").worker("wait").run();
    refused(&ended.expect(1).log, "descriptor 3", "");
}

#[test]
fn systemd_itself_passes_sockets() {
    let Some(activate) = program("systemd-socket-activate") else {
        cannot_run("RING 3", "there is no systemd-socket-activate");
        return;
    };
    // It binds what it is told, so a free port has to be found for it.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let mut clinit = Setup::new("-i 2")
        .through(&[
            activate.to_str().unwrap(),
            "-E",
            "REPORT",
            "-l",
            &free.to_string(),
        ])
        .worker("report-env LISTEN_FDS,LISTEN_PID report-sockets serve")
        .start();
    // It starts clinit when the first client comes, who is not to be lost.
    clinit.wait_for_log("Listening on");
    let client = std::thread::spawn(move || get(free));
    for report in clinit.reports("env", 2) {
        assert_eq!(report.value("LISTEN_PID"), report.pid.to_string());
    }
    assert_eq!(clinit.report("sockets").value("3"), free.to_string());
    client.join().unwrap().unwrap();
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn late_clients_fail_at_once() {
    let dir = Dir::new();
    let [first, second] = ["first", "second"].map(|name| dir.fifo(name));
    // The worker gives its descriptor up and lingers.
    let mut clinit = Setup::new("-l 127.0.0.1:0 --grace 1h")
        .worker(&format!(
            "block TERM report up await {first} close 3 report closed await {second} exit 0"
        ))
        .start();
    let _ = clinit.report("report");
    let address = (Ipv4Addr::LOCALHOST, clinit.port());
    drop(TcpStream::connect(address).unwrap());
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("draining for at most");
    let pid = clinit.pid();
    // The worker has it open, and could take connections.
    let late = TcpStream::connect(address).unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::ConnectionRefused);
    clinit.wait_until("clinit has closed its copy", |_| {
        crate::harness::listening_port(pid).is_none().then_some(())
    });
    fs::write(&first, "").unwrap();
    assert_eq!(clinit.report("report").text(), "closed");
    assert!(TcpStream::connect(address).is_err(), "nobody would answer");
    fs::write(&second, "").unwrap();
    clinit.end().expect(0);
}
