//! A worker that leaves first finishes what it has begun, whatever it knows of
//! signals: the fixtures here handle none, so TERM kills them on the spot.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Clinit, DEADLINE, Setup, ask, connect, free_port, get_unix, send, state, status_field,
};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// A question on a connection that stays.
fn question(stream: &mut TcpStream) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
}

/// The answer to it.
fn answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    // The body is the last line, and the only one that begins so.
    while !(text.ends_with(b"\n") && text.windows(5).any(|window| window == b"\npid=")) {
        if stream.read(&mut byte)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn assert_refused_at_once(address: SocketAddr) {
    let start = Instant::now();
    let late = TcpStream::connect_timeout(&address, DEADLINE).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionRefused, "{late}");
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "it had to wait"
    );
}

/// Long past the time that clinit takes to find nothing owed.
const A_WHILE: &str = "500";

/// A file that there never is.
const NEVER: &str = "/never";

/// Clinit whose only worker has been asked something that it answers then.
fn with_a_question_open(when: &str, options: &str) -> (Clinit, SocketAddr, TcpStream) {
    let address = local();
    let setup = Setup::new(&format!("-i 1 --grace 1h {options}"));
    let script = format!("at {address} ready answer {when}");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(1);
    let mut client = connect(address).unwrap();
    question(&mut client);
    let _ = clinit.report("asked");
    (clinit, address, client)
}

#[test]
fn who_was_asked_answers_before_it_is_told_to_stop_and_late_clients_are_refused() {
    let (mut clinit, address, mut client) = with_a_question_open(A_WHILE, "");
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("draining for at most");
    assert_refused_at_once(address);
    answer(&mut client).unwrap();
    clinit.end().expect(0);
}

#[test]
fn a_predecessor_answers_before_it_is_told_to_stop() {
    let (mut clinit, address, mut client) = with_a_question_open(A_WHILE, "-v --settle 1ms");
    clinit.signal(libc::SIGHUP);
    clinit.wait_for_log("takes its predecessor's place");
    clinit.catch_up();
    // The successor takes the new ones, and is asked too.
    let mut other = connect(address).unwrap();
    question(&mut other);
    let answers = [&mut client, &mut other].map(|stream| answer(stream).unwrap());
    assert_ne!(answers[0], answers[1]);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_second_request_has_no_patience_with_what_was_begun() {
    let (mut clinit, _, mut client) = with_a_question_open(NEVER, "");
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("draining for at most");
    clinit.end_by(libc::SIGTERM).expect(0);
    assert!(answer(&mut client).is_err());
}

#[test]
fn with_drain_signal_nothing_is_waited_for() {
    let (clinit, _, mut client) = with_a_question_open(NEVER, "--drain signal");
    clinit.end_by(libc::SIGTERM).expect(0);
    assert!(answer(&mut client).is_err());
}

#[test]
fn the_wait_for_what_was_begun_has_a_bound_of_its_own() {
    let (clinit, _, mut client) = with_a_question_open(NEVER, "--drain connections:200ms");
    let start = Instant::now();
    clinit.end_by(libc::SIGTERM).expect(0);
    assert!(answer(&mut client).is_err());
    assert!(start.elapsed() >= Duration::from_millis(200));
}

/// The worker has an hour to leave, half of it to answer.
#[test]
fn idle_connections_keep_nobody() {
    for options in ["", "--share queue", "--capture off"] {
        let address = local();
        let mut clinit = Setup::new(&format!("-i 1 --grace 1h {options}"))
            .worker(&format!("at {address} ready answer 0"))
            .start();
        clinit.wait_ready(1);
        let mut asked = connect(address).unwrap();
        question(&mut asked);
        answer(&mut asked).unwrap();
        let mut silent = connect(address).unwrap();
        clinit.end_by(libc::SIGTERM).expect(0);
        assert!(answer(&mut silent).is_err());
    }
}

#[test]
fn who_does_not_share_its_port_answers_too() {
    for options in ["--share queue", "--share off", "--capture off"] {
        let (mut clinit, _, mut client) = with_a_question_open(A_WHILE, options);
        clinit.signal(libc::SIGTERM);
        answer(&mut client).unwrap();
        clinit.end().expect(0);
    }
}

/// A handshake under way has a worker, and its request is yet to come.
#[test]
fn a_handshake_under_way_is_not_cut_off() {
    let address = local();
    let script = format!("tcp set defer-accept bind {address} listen answer 0");
    let mut clinit = Setup::new("-i 1 --grace 1h").worker(&script).start();
    clinit.wait_ready(1);
    let mut client = connect(address).unwrap();
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("draining for at most");
    assert_refused_at_once(address);
    question(&mut client);
    answer(&mut client).unwrap();
    clinit.end().expect(0);
}

#[test]
fn what_waits_when_the_end_comes_is_answered() {
    const CLIENTS: usize = 16;
    for share in ["slots", "queue"] {
        let address = local();
        let mut clinit = Setup::new(&format!("-i 2 --grace 1h --share {share}"))
            .worker(&format!("at {address} report up answer 0"))
            .start();
        let workers = clinit.reports("report", 2);
        clinit.wait_ready(2);
        for worker in &workers {
            send(worker.pid, libc::SIGSTOP);
            clinit.wait_until("a stopped worker", |_| {
                (state(worker.pid) == Some('T')).then_some(())
            });
        }
        let mut clients = [(); CLIENTS].map(|()| connect(address).unwrap());
        clients.iter_mut().for_each(question);
        clinit.signal(libc::SIGTERM);
        clinit.wait_for_log("draining for at most");
        assert_refused_at_once(address);
        for worker in &workers {
            send(worker.pid, libc::SIGCONT);
        }
        for client in &mut clients {
            answer(client).unwrap();
        }
        clinit.end().expect(0);
    }
}

#[test]
fn what_waits_at_a_path_is_waited_for_and_the_path_is_gone() {
    let setup = Setup::new("-v -i 1 --grace 1h");
    let path = setup.path("socket");
    let setup = setup.arg("-l").arg(format!("unix:{path}"));
    let mut clinit = setup.worker("report up ready serve").start();
    let worker = clinit.report("report").pid;
    clinit.wait_ready(1);
    get_unix(&path).unwrap();
    send(worker, libc::SIGSTOP);
    clinit.wait_until("a stopped worker", |_| {
        (state(worker) == Some('T')).then_some(())
    });
    let waiting = thread::spawn({
        let path = path.clone();
        move || get_unix(&path)
    });
    let queued = || {
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let at_path = table.lines().filter(|line| line.ends_with(path.as_str()));
        at_path.count() > 1
    };
    clinit.wait_until("a connection", |_| queued().then_some(()));
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("draining for at most");
    clinit.wait_until("no path", |_| (!Path::new(&path).exists()).then_some(()));
    clinit.catch_up();
    let pending = status_field(worker, "ShdPnd:").unwrap();
    let is_pending = |signal: i32| u64::from_str_radix(&pending, 16).unwrap() >> (signal - 1) & 1;
    assert_eq!(is_pending(libc::SIGTERM), 0, "not as long as one waits");
    send(worker, libc::SIGCONT);
    clinit.end().expect(0);
    // What it has accepted, nobody but itself knows of.
    let _ = waiting.join();
}

// ---- under load ----

const CLIENTS: usize = 8;

/// What clients of one connection a request have seen.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicUsize,
    refused: AtomicUsize,
    /// Connected, and not answered.
    failed: AtomicUsize,
    /// When the first was refused.
    over: AtomicBool,
}

impl Seen {
    /// Asks until it is over, or until somebody is refused.
    fn ask(&self, address: SocketAddr) -> Option<Instant> {
        while !self.over.load(Ordering::SeqCst) {
            match ask(address) {
                Ok(_) => self.answered.fetch_add(1, Ordering::SeqCst),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    return Some(Instant::now());
                }
                Err(_) => self.failed.fetch_add(1, Ordering::SeqCst),
            };
        }
        None
    }
}

#[test]
fn reloads_under_load_lose_no_request_of_a_server_that_knows_no_signal() {
    const RELOADS: usize = 5;
    const WORKERS: usize = 2;
    let address = local();
    let mut clinit = Setup::new(&format!("-i {WORKERS} --settle 50ms"))
        .worker(&format!("at {address} answer 50"))
        .start();
    clinit.wait_ready(WORKERS);
    let seen = Seen::default();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| seen.ask(address));
        }
        for reload in 1..=RELOADS {
            clinit.signal(libc::SIGHUP);
            clinit.wait_for_nth_log("reloaded", reload);
        }
        seen.over.store(true, Ordering::SeqCst);
    });
    assert!(seen.answered.load(Ordering::SeqCst) > RELOADS * WORKERS);
    let lost = [&seen.failed, &seen.refused].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(lost, [0, 0], "{seen:?}");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_shutdown_under_load_loses_no_request_and_refuses_after_the_delay() {
    const DELAY: Duration = Duration::from_secs(1);
    let address = local();
    let mut clinit = Setup::new("-i 2 --drain-delay 1s")
        .worker(&format!("at {address} answer 50"))
        .start();
    clinit.wait_ready(2);
    let seen = Seen::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| seen.ask(address)))
            .collect();
        clinit.wait_until("some answers", |_| {
            (seen.answered.load(Ordering::SeqCst) > CLIENTS).then_some(())
        });
        let asked_to_end = Instant::now();
        let ended = clinit.end_by(libc::SIGTERM);
        for client in clients {
            let refused = client.join().unwrap().unwrap();
            assert!(refused >= asked_to_end + DELAY, "refused too soon");
        }
        ended.expect(0);
    });
    assert_eq!(seen.failed.load(Ordering::SeqCst), 0, "{seen:?}");
}
