//! A rolling reload: what is replaced, in which order, and what happens where
//! the new workers are no good.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::{Clinit, Setup, WORKER, ask, children, connect, free_port, send};

/// A server whose file is replaced, as a deployment does.
struct Deployed {
    clinit: Clinit,
    file: String,
    address: SocketAddr,
}

impl Deployed {
    fn start(options: &str) -> Self {
        let setup = Setup::new(options);
        let file = setup.path("server");
        let address = (Ipv4Addr::LOCALHOST, free_port()).into();
        deploy(&file, &format!("at {address} serve-own"));
        let clinit = setup.command(&[&file]).start();
        Self {
            clinit,
            file,
            address,
        }
    }

    /// Puts a server that does this in the old one's place and has clinit
    /// reload.
    fn reload(&mut self, script: &str) {
        let script = script.replace("ADDR", &self.address.to_string());
        deploy(&self.file, &script);
        self.clinit.signal(libc::SIGHUP);
    }

    /// Who answers, of so many.
    #[track_caller]
    fn pids(&mut self, count: usize) -> BTreeSet<i32> {
        let who = self.clinit.answered_by(self.address, count);
        who.into_iter().map(|who| who.pid).collect()
    }
}

fn deploy(file: &str, script: &str) {
    let new = format!("{file}.new");
    let worker = WORKER.as_str();
    fs::write(&new, format!("#!/bin/sh\nexec {worker} {script}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, file).unwrap();
}

/// Tells clients to stop, also where the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks without a pause while something is done, each time through a new
/// connection, and expects each time an answer.
fn none_fails(address: SocketAddr, act: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = || {
            let mut answered = 0_usize;
            while !is_over.load(Ordering::SeqCst) {
                ask(address).expect("every request is answered");
                answered += 1;
            }
            answered
        };
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(client)).collect();
        let ends = Ends(&is_over);
        act();
        drop(ends);
        for client in clients {
            assert!(client.join().expect("no request fails") > 0);
        }
    });
}

const GOOD: &str = "at ADDR serve-own";

#[test]
fn every_worker_is_replaced_by_one_of_the_next_generation() {
    let mut server = Deployed::start("-i 3 --settle 0");
    server.clinit.wait_ready(3);
    let old = server.pids(3);
    server.reload("report-env CLINIT_GENERATION,CLINIT_SLOT at ADDR serve-own");
    let new = server.clinit.reports("env", 3);
    for (slot, report) in new.iter().enumerate() {
        assert_eq!(report.value("CLINIT_GENERATION"), "2");
        assert_eq!(report.value("CLINIT_SLOT"), slot.to_string());
    }
    server.clinit.wait_for_log("reloaded generation=2");
    let init = server.clinit.pid();
    let left: BTreeSet<i32> = children(init).into_iter().collect();
    assert_eq!(left, server.pids(3));
    assert!(left.is_disjoint(&old), "{left:?} {old:?}");
    server.clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_bad_deployment_is_a_non_event_for_clients() {
    let options = "-i 2 --settle 300ms --ready-timeout 1s --backoff 1ms..5ms";
    let mut server = Deployed::start(options);
    server.clinit.wait_ready(2);
    let old = server.pids(2);
    let address = server.address;
    let bad = [
        // It never listens.
        ("wait", "the new worker was not ready within 1 s"),
        ("exit 1", "the new worker exited with code 1"),
        // It listens first and fails after.
        (
            "tcp bind ADDR listen exit 3",
            "the new worker exited with code 3",
        ),
        (
            "tcp bind ADDR listen kill-self SEGV",
            "the new worker was killed by SIGSEGV",
        ),
        (
            "tcp bind ADDR listen daemonize serve-own",
            "put itself into the background",
        ),
    ];
    none_fails(address, || {
        for (script, why) in bad {
            server.reload(script);
            let line = server.clinit.wait_for_log(why);
            assert!(line.contains("reload failed, and nothing has changed"));
        }
        fs::remove_file(&server.file).unwrap();
        server.clinit.signal(libc::SIGHUP);
        server
            .clinit
            .wait_for_log("nothing has changed: the command is not found");
    });
    assert_eq!(server.pids(2), old, "nobody was replaced");
    let daemon = server.clinit.report("daemon").pid;
    server.clinit.wait_gone(daemon);
    none_fails(address, || {
        server.reload(GOOD);

        server.clinit.wait_for_log("reloaded generation=2");
    });
    assert!(server.pids(2).is_disjoint(&old));
    server.clinit.end_by(libc::SIGTERM).expect(0);
}

/// The lane of a predecessor that dies beside its successor is closed once that
/// one is ready: not so while a client is about to join its queue.
#[test]
fn a_handshake_under_way_at_a_dead_workers_lane_is_not_cut_off() {
    let setup = Setup::new("-i 1 --settle 0 --ready notify");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (gate, first) = (setup.path("gate"), setup.path("first"));
    nix::unistd::mkfifo(gate.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut clinit = setup
        .worker(&format!(
            "tcp set defer-accept bind {address} listen report up \
             once {first} [ ready ] await {gate} ready answer 0"
        ))
        .start();
    let old = clinit.report("report");
    clinit.wait_ready(1);
    // Until its question is there.
    let mut client = connect(address).unwrap();
    clinit.signal(libc::SIGHUP);
    let _ = clinit.report("report");
    send(old.pid, libc::SIGKILL);
    clinit.wait_for_log("worker was killed by SIGKILL");
    drop(fs::OpenOptions::new().write(true).open(&gate).unwrap());
    clinit.wait_ready(2);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    clinit.signal(libc::SIGHUP);
    let _ = clinit.report("report");
    drop(fs::OpenOptions::new().write(true).open(&gate).unwrap());
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1");
}

#[test]
fn where_a_later_worker_is_no_good_the_roll_stops() {
    let mut server = Deployed::start("-i 3 --settle 0 --backoff 1ms..5ms");
    server.clinit.wait_ready(3);
    let old = server.pids(3);
    let once = format!("{}.once", server.file);
    let address = server.address;
    none_fails(address, || {
        server.reload(&format!("once {once} [ at ADDR serve-own ] exit 1"));
        let line = server.clinit.wait_for_log("reload failed");
        assert!(line.contains("some workers are not replaced"), "{line}");
        assert!(line.contains("exited with code 1"), "{line}");
    });
    let left = server.pids(3);
    assert_eq!(left.intersection(&old).count(), 2, "{left:?} {old:?}");
    // The next one replaces all of them.
    server.reload(GOOD);
    server.clinit.wait_for_log("reloaded generation=3");
    assert!(server.pids(3).is_disjoint(&left));
    server.clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn reloads_asked_for_meanwhile_are_one() {
    let mut server = Deployed::start("-i 2 -v --settle 300ms");
    server.clinit.wait_ready(2);
    server.reload(GOOD);
    server.clinit.wait_for_log("reloading generation=2");
    for _ in 0..3 {
        server.clinit.signal(libc::SIGHUP);
        server.clinit.catch_up();
    }
    server.clinit.wait_for_log("reloaded generation=3");
    let log = server.clinit.end_by(libc::SIGTERM);
    assert!(!log.expect(0).log.contains("generation=4"));
}

#[test]
fn a_shutdown_wins() {
    let mut server = Deployed::start("-i 2");
    server.clinit.wait_ready(2);
    server.reload("wait");
    server.clinit.wait_for_log("reloading generation=2");
    let ended = server.clinit.end_by(libc::SIGTERM);
    ended
        .expect(0)
        .says("reload failed, and nothing has changed: clinit is to end");
}

#[test]
fn there_are_no_more_extra_workers_than_the_surge() {
    for (surge, most) in [("1", 5), ("50%", 6), ("4", 8)] {
        let mut server = Deployed::start(&format!("-i 4 --settle 0 --surge {surge}"));
        server.clinit.wait_ready(4);
        let init = server.clinit.pid();
        server.reload(GOOD);
        let mut seen = 0;
        server.clinit.wait_until("the end of the reload", |clinit| {
            seen = seen.max(children(init).len());
            clinit.log().contains("reloaded generation=2").then_some(())
        });
        assert!(seen <= most, "{seen} workers with a surge of {surge}");
        server.clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn what_crash_loops_is_mended_by_a_reload() {
    let mut server = Deployed::start("-i 2 --backoff 1ms..1ms --max-restarts 1000000 --settle 0");
    server.clinit.wait_ready(2);
    let worker = server.pids(2);
    // From now on what is restarted fails.
    deploy(&server.file, "exit 1");
    for pid in worker {
        crate::harness::send(pid, libc::SIGKILL);
    }
    server.clinit.wait_for_log("failures=2");
    server.reload(GOOD);
    server.clinit.wait_for_log("reloaded generation=2");
    let _ = server.pids(2);
    server.clinit.end_by(libc::SIGTERM).expect(0);
}
