//! No connection is lost when a worker dies, and none when the number of
//! workers changes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Setup, WORKER, ask, by_route, children, connect, free_port, greeted, open_gate, pidfd,
    readable, send, tally,
};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// A fixture that runs without clinit.
struct Bare(Child);

impl Bare {
    fn start(script: &str) -> Self {
        let mut child = Command::new(&*WORKER)
            .args(script.split_whitespace())
            .env_remove("REPORT")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut lines = said.lines();
        assert!(lines.any(|line| line.unwrap().ends_with("\tup")));
        Self(child)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const CONNECTIONS: usize = 40;

fn forty(address: SocketAddr) -> Vec<TcpStream> {
    (0..CONNECTIONS)
        .map(|_| connect(address).unwrap())
        .collect()
}

/// By whom they were answered, if at all.
fn answers(mut streams: Vec<TcpStream>) -> Vec<i32> {
    let answered = streams.iter_mut().filter_map(|stream| greeted(stream).ok());
    answered.map(|who| who.pid).collect()
}

#[test]
fn connections_of_a_worker_that_is_frozen_and_killed_are_its_successors() {
    let address = local();
    let setup = Setup::new("-i 2 --share slots --backoff 500ms..500ms -v");
    let first = setup.path("first");
    // One of them never accepts anything.
    let script =
        format!("if-slot 1 [ once {first} [ at {address} report frozen wait ] ] at {address} hold");
    let mut clinit = setup.worker(&script).start();
    let frozen = clinit.report("report").pid;
    clinit.wait_ready(2);
    // Until connections are steered to both of them.
    clinit.catch_up();
    let waiting = forty(address);
    send(frozen, libc::SIGKILL);
    let answers = answers(waiting);
    assert_eq!(answers.len(), CONNECTIONS);
    assert_eq!(tally(answers).len(), 2, "some had come to the frozen one");
    clinit.end_by(libc::SIGTERM).expect(0);

    // The same two, who share their port by themselves.
    let script = |end| format!("tcp set reuse-port bind {address} listen report up {end}");
    let _serves = Bare::start(&script("hold"));
    let frozen = Bare::start(&script("wait"));
    let waiting = forty(address);
    drop(frozen);
    let _successor = Bare::start(&script("hold"));
    let answered = self::answers(waiting).len();
    assert!(answered < CONNECTIONS, "without clinit nothing was lost");
}

/// As Netty has it: its socket is waited for by epoll before it is bound.
#[test]
fn those_of_a_worker_that_waits_for_its_socket_already_are_its_successors_too() {
    for route in ["pidfd_getfd", "ptrace"] {
        let address = local();
        let setup = by_route(route, "-i 2 --share slots --backoff 50ms..50ms");
        let first = setup.path("first");
        let bind = format!("tcp watch bind {address} listen");
        let script =
            format!("if-slot 1 [ once {first} [ {bind} report frozen wait ] ] {bind} be-told hold");
        let mut clinit = setup.worker(&script).start();
        let frozen = clinit.report("report").pid;
        clinit.wait_ready(2);
        let waiting = forty(address);
        send(frozen, libc::SIGKILL);
        let answers = answers(waiting);
        assert_eq!(answers.len(), CONNECTIONS, "{route}");
        let by = tally(answers).len();
        assert_eq!(by, 2, "{route}: some had come to the frozen one");
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

/// How long workers are killed.
fn siege() -> Duration {
    let on_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    Duration::from_secs(if on_ci { 30 } else { 6 })
}

const BETWEEN_KILLS: Duration = Duration::from_millis(300);

/// What clients of one connection a request have seen.
#[derive(Default)]
struct Seen {
    answered: usize,
    /// The clients' ports.
    failed: Vec<u16>,
}

fn request(address: SocketAddr) -> Result<(), u16> {
    let mut stream = connect(address).expect("nobody is refused");
    let port = stream.local_addr().unwrap().port();
    let mut answer = [0];
    let asked = stream.write_all(b"?");
    let answered = asked.and_then(|()| stream.read_exact(&mut answer));
    answered.map_err(|_| port)
}

/// What the workers' ledger says.
#[derive(Default)]
struct Ledger {
    /// Accepted and not answered, by the client's port.
    unanswered: BTreeMap<u16, usize>,
    /// How many of those that died may have accepted one more, which they did
    /// not live to write down.
    unwritten: usize,
    answered: usize,
}

impl Ledger {
    fn read(path: &str) -> Self {
        let mut open: BTreeMap<i32, Option<u16>> = BTreeMap::new();
        let mut ledger = Self::default();
        for line in fs::read_to_string(path).unwrap().lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (pid, port): (i32, u16) = (fields[0].parse().unwrap(), fields[2].parse().unwrap());
            match fields[1] {
                "takes" => open.insert(pid, None),
                "missed" => open.remove(&pid),
                "took" => open.insert(pid, Some(port)),
                "answered" => {
                    ledger.answered += 1;
                    open.remove(&pid)
                }
                other => panic!("{other}"),
            };
        }
        for port in open.into_values() {
            match port {
                Some(port) => *ledger.unanswered.entry(port).or_default() += 1,
                None => ledger.unwritten += 1,
            }
        }
        ledger
    }
}

/// A worker whose client is gone without an answer goes on to the next one, so
/// whatever is open at the end is what a killed worker had.
#[test]
fn only_what_a_killed_worker_had_accepted_fails() {
    const CLIENTS: usize = 6;
    let address = local();
    let setup = Setup::new("-i 4 --backoff 1ms..20ms --max-restarts 100000");
    let path = setup.path("ledger");
    let mut clinit = setup.worker(&format!("at {address} ledger {path}")).start();
    clinit.wait_ready(4);
    let init = clinit.pid();
    let is_over = AtomicBool::new(false);
    let (seen, kills) = thread::scope(|scope| {
        let client = || {
            let mut seen = Seen::default();
            while !is_over.load(Ordering::SeqCst) {
                match request(address) {
                    Ok(()) => seen.answered += 1,
                    Err(port) => seen.failed.push(port),
                }
            }
            seen
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let start = Instant::now();
        let mut kills = 0;
        while start.elapsed() < siege() {
            thread::sleep(BETWEEN_KILLS);
            let workers = children(init);
            // As good as random: the clock's last digits.
            let digits = usize::try_from(start.elapsed().subsec_nanos()).unwrap() / 128;
            let Some(&victim) = workers.get(digits % workers.len().max(1)) else {
                continue;
            };
            let process = pidfd(victim);
            send(victim, libc::SIGKILL);
            kills += 1;
            if let Some(process) = process {
                use std::os::fd::AsFd as _;
                assert!(readable(&[process.as_fd()], crate::harness::DEADLINE));
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for client in clients {
            let seen = client.join().unwrap();
            all.answered += seen.answered;
            all.failed.extend(seen.failed);
        }
        (all, kills)
    });
    let mut ledger = Ledger::read(&path);
    println!(
        "{kills} kills: {} requests answered, {} failed; workers answered {}, {} accepted ones were left, at most {} more",
        seen.answered,
        seen.failed.len(),
        ledger.answered,
        ledger.unanswered.len(),
        ledger.unwritten
    );
    let mut strange = Vec::new();
    for port in &seen.failed {
        match ledger.unanswered.get_mut(port) {
            Some(left) if *left > 0 => *left -= 1,
            Some(_) | None => strange.push(*port),
        }
    }
    if strange.len() > ledger.unwritten {
        clinit.fail(&format!(
            "{} of {} failed that no killed worker had accepted: {strange:?}, {} excused",
            strange.len(),
            seen.failed.len(),
            ledger.unwritten
        ));
    }
    // A killed worker may have answered and not written it down.
    assert!(seen.answered >= ledger.answered && seen.answered - ledger.answered <= kills);
    assert!(
        kills >= 15 && seen.answered > 1000,
        "{kills}, {}",
        seen.answered
    );
}

#[test]
fn no_connection_is_lost_when_the_number_of_workers_changes() {
    let address = local();
    // It finishes what it has, takes what is left, and goes when it must.
    let script = format!("on TERM report at {address} report up serve-own");
    let mut clinit = Setup::new("-i 4 --grace 1s").worker(&script).start();
    let _ = clinit.reports("report", 4);
    clinit.wait_ready(4);
    let is_over = AtomicBool::new(false);
    let failures = thread::scope(|scope| {
        let client = || {
            let mut failures = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                failures.extend(ask(address).err().map(|error| error.to_string()));
            }
            failures
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(client)).collect();
        let mut scaled = 0;
        for signals in [
            [libc::SIGTTOU, libc::SIGTTOU, libc::SIGTTOU],
            [libc::SIGTTIN, libc::SIGTTIN, libc::SIGTTIN],
            [libc::SIGTTOU, libc::SIGTTOU, libc::SIGTTIN],
        ] {
            for signal in signals {
                clinit.signal(signal);
                scaled += 1;
                clinit.wait_for_nth_log("scaled", scaled);
                if signal == libc::SIGTTOU {
                    // Its queue is empty: it has been told to go.
                    let leaver = clinit.report("signal").pid;
                    clinit.wait_gone(leaver);
                } else {
                    let _ = clinit.report("report");
                }
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let joined = clients.into_iter().map(|client| client.join().unwrap());
        joined.flatten().collect::<Vec<_>>()
    });
    assert_eq!(failures, [""; 0]);
}

#[test]
fn one_queue_for_all_is_the_first_workers_socket() {
    let address = local();
    let script = format!("at {address} report-fds hold");
    let mut clinit = Setup::new("-i 3 --share queue --backoff 1ms..5ms")
        .worker(&script)
        .start();
    let reports = clinit.reports("fds", 3);
    let mut sockets: Vec<_> = reports
        .iter()
        .map(|own| own.value("3").to_owned())
        .collect();
    let victim = reports[0].pid;
    send(victim, libc::SIGKILL);
    sockets.push(clinit.report("fds").value("3").to_owned());
    assert!(
        sockets.iter().all(|socket| *socket == sockets[0]),
        "{sockets:?}"
    );
    assert_eq!(answers(forty(address)).len(), CONNECTIONS);
}

#[test]
fn one_queue_for_all_outlives_whoever_closes_it() {
    let address = local();
    let setup = Setup::new("-i 2 --share queue --backoff 1ms..5ms");
    let gate = setup.dir.fifo("gate");
    let probe = format!("await {gate} at {address} drop at {address}");
    let script = format!("if-slot 1 [ {probe} report up hold ] at {address} report up hold");
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.report("report");
    open_gate(gate);
    let _ = clinit.report("report");
    let mut slots = std::collections::BTreeSet::new();
    clinit.wait_until("both answer", |_| {
        slots.insert(greeted(&mut connect(address).unwrap()).unwrap().slot);
        (slots.len() == 2).then_some(())
    });
}
