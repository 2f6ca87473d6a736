//! Which workers are given new connections, and which are not.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{
    Clinit, DEADLINE, Setup, Who, ask, connect, free_port, greeted, open_gate, send, state, tally,
};

/// Long enough for clinit to be told of an arrival before the next one, which
/// is then for another worker. Were it not, the tests would prove less.
const PACE: Duration = Duration::from_millis(12);

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn who(address: SocketAddr) -> Who {
    greeted(&mut connect(address).unwrap()).unwrap()
}

/// Connections that came one by one.
fn in_turn(address: SocketAddr, count: usize) -> Vec<Who> {
    let one = |_| {
        sleep(PACE);
        who(address)
    };
    (0..count).map(one).collect()
}

#[test]
fn a_worker_that_listens_and_is_not_ready_is_given_none() {
    let address = local();
    let setup = Setup::new("-i 3 --ready notify -v");
    let gate = setup.dir.fifo("gate");
    let script =
        format!("at {address} report up if-slot 1 [ await {gate} ] ready report served hold");
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.reports("report", 5);
    clinit.wait_ready(2);
    for who in in_turn(address, 24) {
        assert_ne!(who.slot, "1");
    }
    open_gate(gate);
    clinit.wait_ready(3);
    assert!(in_turn(address, 9).iter().any(|who| who.slot == "1"));
}

#[test]
fn where_nobody_is_ready_whoever_starts_is_given_connections() {
    let address = local();
    let script = format!("at {address} report up hold");
    let mut clinit = Setup::new("-i 2 --ready notify").worker(&script).start();
    let _ = clinit.reports("report", 2);
    let slots: std::collections::BTreeSet<_> = in_turn(address, 16)
        .into_iter()
        .map(|who| who.slot)
        .collect();
    assert_eq!(slots.len(), 2);
    assert!(!clinit.log().contains("worker is ready"));
}

/// Waits until a signal has stopped this process and clinit knows.
fn stop(clinit: &mut Clinit, pid: i32) {
    send(pid, libc::SIGSTOP);
    clinit.wait_until("it has stopped", |_| {
        (state(pid) == Some('T')).then_some(())
    });
    clinit.catch_up();
}

#[test]
fn a_worker_that_a_signal_has_stopped_is_given_none_until_it_goes_on() {
    let address = local();
    let mut clinit = Setup::new("-i 3 -v")
        .worker(&format!("at {address} hold"))
        .start();
    clinit.wait_ready(3);
    let victim = in_turn(address, 1).remove(0);
    stop(&mut clinit, victim.pid);
    for who in in_turn(address, 24) {
        assert_ne!(who.pid, victim.pid);
    }
    send(victim.pid, libc::SIGCONT);
    clinit.wait_until("it is given some again", |_| {
        (who(address).pid == victim.pid).then_some(())
    });
}

#[test]
fn a_draining_worker_is_given_none_and_serves_what_it_has() {
    let address = local();
    let setup = Setup::new("-i 3 --grace 1h -v");
    let script = format!("on TERM report at {address} serve-own");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(3);
    // Half a request: whoever has it cannot leave before it has the rest.
    clinit.signal(libc::SIGTTOU);
    let leaves = clinit.report("signal");
    for _ in 0..24 {
        sleep(PACE);
        assert_ne!(ask(address).unwrap().pid, leaves.pid);
    }
    send(leaves.pid, libc::SIGKILL);
    for _ in 0..8 {
        assert_ne!(ask(address).unwrap().pid, leaves.pid);
    }
}

#[test]
fn a_dead_workers_lane_is_given_none_while_others_serve() {
    let address = local();
    let setup = Setup::new("-i 2 --backoff 10m..10m");
    let first = setup.path("first");
    // Nothing waits for it when it dies, so that its backoff is not skipped.
    let script = format!(
        "if-slot 1 [ once {first} [ report up at {address} report up hold ] ] at {address} hold"
    );
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(2);
    let victim = clinit.report("report").pid;
    send(victim, libc::SIGKILL);
    clinit.wait_for_log("restarting in");
    for who in in_turn(address, 24) {
        assert_eq!(who.slot, "0");
    }
}

#[test]
fn what_waits_at_a_dead_workers_lane_has_its_successor_start_at_once() {
    let address = local();
    let setup = Setup::new("-i 2 --backoff 10m..10m --max-restarts 3");
    let mut clinit = setup.worker(&format!("at {address} hold")).start();
    clinit.wait_ready(2);
    let victim = who(address).pid;
    // From here on nobody accepts what comes to it; it is not told to clinit
    // before it has come.
    send(victim, libc::SIGSTOP);
    let mut waiting: Vec<TcpStream> = (0..16).map(|_| connect(address).unwrap()).collect();
    send(victim, libc::SIGKILL);
    let mut answered = std::collections::BTreeSet::new();
    for stream in &mut waiting {
        match greeted(stream) {
            Ok(who) => answered.insert(who.pid),
            Err(error) => clinit.fail(&format!("{error}, {victim} was killed")),
        };
    }
    assert!(!answered.contains(&victim));
    // Where clinit was quick, nothing came to it.
    if answered.len() == 2 {
        clinit.wait_ready(3);
    }
}

#[test]
fn a_worker_that_takes_nothing_while_others_do_is_given_no_more_after_a_while() {
    let address = local();
    let mut clinit = Setup::new("-i 3 -v")
        .worker(&format!(
            "if-slot 1 [ at {address} wait ] at {address} hold"
        ))
        .start();
    clinit.wait_ready(3);
    let mut lost = Vec::new();
    let mut in_a_row = 0;
    let quick = Duration::from_millis(500);
    let start = std::time::Instant::now();
    // A connection that nobody greets within that time is at the one that
    // hangs: a few are.
    while in_a_row < 20 {
        sleep(PACE);
        let mut stream = connect(address).unwrap();
        stream.set_read_timeout(Some(quick)).unwrap();
        if stream.read(&mut [0]).is_ok_and(|length| length > 0) {
            in_a_row += 1;
        } else {
            in_a_row = 0;
            lost.push(stream);
        }
        assert!(start.elapsed() < DEADLINE, "{} hang", lost.len());
    }
    // Once each time that its turn came within the 250 ms, and their likes.
    assert!(lost.len() <= 4, "{} hang", lost.len());
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_worker_that_hangs_is_given_no_more_under_load_either() {
    let address = local();
    let mut clinit = Setup::new("-i 3 -v")
        .worker(&format!(
            "if-slot 1 [ at {address} wait ] at {address} turn-down"
        ))
        .start();
    clinit.wait_ready(3);
    let quick = Duration::from_millis(500);
    let start = std::time::Instant::now();
    let mut lost = Vec::new();
    let mut in_a_row = 0;
    while in_a_row < 1500 {
        let mut stream = connect(address).unwrap();
        stream.set_read_timeout(Some(quick)).unwrap();
        if stream.read(&mut [0]).is_ok_and(|length| length > 0) {
            in_a_row += 1;
        } else {
            in_a_row = 0;
            lost.push(stream);
        }
        assert!(start.elapsed() < DEADLINE, "{} hang", lost.len());
    }
    assert!(lost.len() <= 16, "{} hang", lost.len());
}

/// It closes its only listener and lives on: it is given no more after a while,
/// and who binds next has what waits there.
#[test]
fn a_worker_that_closes_its_listener_is_given_none_and_another_has_what_waits() {
    let address = local();
    let setup = Setup::new("-i 3 --ready notify -v");
    let [closes, binds] = ["closes", "binds"].map(|name| setup.dir.fifo(name));
    let script = format!(
        "if-slot 1 [ at {address} ready await {closes} drop report closed wait ] if-slot 2 [ await {binds} ] at {address} ready hold"
    );
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(2);
    // It looks once at what is ready.
    clinit.catch_up();
    std::fs::write(closes, "").unwrap();
    let _ = clinit.report("report");
    let quick = Duration::from_millis(500);
    let start = std::time::Instant::now();
    let (mut waiting, mut in_a_row) = (Vec::new(), 0);
    while in_a_row < 20 || !clinit.log().contains("has closed one of its sockets") {
        sleep(PACE);
        let mut stream = connect(address).unwrap();
        stream.set_read_timeout(Some(quick)).unwrap();
        if stream.read(&mut [0]).is_ok_and(|length| length > 0) {
            in_a_row += 1;
        } else {
            in_a_row = 0;
            waiting.push(stream);
        }
        assert!(start.elapsed() < DEADLINE, "{} hang", waiting.len());
    }
    if !(1..=4).contains(&waiting.len()) {
        clinit.fail(&format!("{} hang", waiting.len()));
    }
    std::fs::write(binds, "").unwrap();
    for stream in &mut waiting {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(greeted(stream).unwrap().slot, "2");
    }
}

/// The index of what is left is another one: none may be asked for by the old.
#[test]
fn a_lane_that_a_worker_shuts_down_is_given_none_and_the_others_are() {
    let address = local();
    let setup = Setup::new("-i 3 -v");
    let gate = setup.dir.fifo("gate");
    let script = format!(
        "at {address} if-slot 0 [ await {gate} shut-down report silent await {gate} listen report again ] hold"
    );
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(3);
    open_gate(&gate);
    let _ = clinit.report("report");
    clinit.wait_for_log("has shut down");
    let mut slots = std::collections::BTreeSet::new();
    for who in in_turn(address, 24) {
        slots.insert(who.slot);
    }
    assert!(slots.iter().eq(["1", "2"]), "{slots:?}");
    open_gate(&gate);
    let _ = clinit.report("report");
    clinit.wait_until("it is given some again", |_| {
        (who(address).slot == "0").then_some(())
    });
    assert_eq!(
        tally(in_turn(address, 24).into_iter().map(|who| who.slot)).len(),
        3
    );
}

/// The only one that there is: nobody asks for it to be listened at again.
#[test]
fn an_address_that_its_only_worker_shuts_down_is_listened_at_again() {
    let address = local();
    let setup = Setup::new("-i 1 -v");
    let gate = setup.dir.fifo("gate");
    let script = format!("at {address} shut-down await {gate} hold");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_for_log("has shut down");
    let connected = |_: &mut Clinit| TcpStream::connect(address).ok();
    let mut stream = clinit.wait_until("it listens again", connected);
    open_gate(gate);
    assert_eq!(greeted(&mut stream).unwrap().slot, "0");
}
