//! Signals to clinit in cluster mode, and how it leaves.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};

use crate::harness::{
    Clinit, Dir, Gone, Setup, WORKER, can_be_pid1, get, open_gate, send, send_with_value, state,
};

const QUICK: &str = "--backoff 1ms..5ms";

#[test]
fn a_requested_shutdown_is_a_success() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        for as_pid1 in [false, true] {
            if as_pid1 && !can_be_pid1() {
                continue;
            }
            let mut clinit = Setup::new("-i 2")
                .pid1(as_pid1)
                .worker("report up wait")
                .start();
            let _ = clinit.reports("report", 2);
            let ended = clinit.end_by(signal);
            let line = ended.expect(0).closing_line();
            assert!(
                line.contains("code=0 ") && line.contains("killed=0"),
                "{line}"
            );
        }
    }
}

#[test]
fn a_worker_that_has_to_be_killed_is_told_of() {
    for as_pid1 in [false, true] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        let mut clinit = Setup::new("-i 2 --grace 300ms")
            .pid1(as_pid1)
            .worker("if-slot 1 [ ignore TERM ] report up wait")
            .start();
        let _ = clinit.reports("report", 2);
        let ended = clinit.end_by(libc::SIGTERM);
        let line = ended.expect(124).closing_line();
        assert!(
            line.contains("code=124 ") && line.contains("killed=1"),
            "{line}"
        );
    }
}

#[test]
fn the_grace_is_a_workers_own_time() {
    // It leaves when it wants to, long before the deadline.
    let dir = Dir::new();
    let gate = dir.fifo("gate");
    let mut clinit = Setup::new("-i 1 --grace 1h")
        .worker(&format!("block TERM report up await {gate} exit 3"))
        .start();
    let _ = clinit.report("report");
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("draining for at most");
    // Only now may it go.
    open_gate(&gate);
    // Whatever a worker's code is, it left when asked.
    clinit.end().expect(0);
}

#[test]
fn until_the_drain_delay_is_over_everything_is_served() {
    let mut clinit = Setup::new(&format!("-i 2 --drain-delay 1h -l 127.0.0.1:0 {QUICK}"))
        .worker("report up serve")
        .start();
    let workers = clinit.reports("report", 2);
    let address = (Ipv4Addr::LOCALHOST, clinit.port());
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("shutting down");
    for _ in 0..20 {
        get(address).unwrap();
    }
    // The dead are still replaced.
    for worker in workers {
        send(worker.pid, libc::SIGKILL);
        assert_eq!(clinit.report("report").slot, worker.slot);
    }
    get(address).unwrap();
    // A second request has no patience.
    clinit.signal(libc::SIGTERM);
    clinit.wait_for_log("asked again");
    clinit.end().expect(0);
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn the_drain_delay_comes_to_its_end_by_itself() {
    let start = std::time::Instant::now();
    let mut clinit = Setup::new("-i 1 --drain-delay 400ms")
        .worker("report up wait")
        .start();
    let _ = clinit.report("report");
    clinit.end_by(libc::SIGTERM).expect(0).says("draining in ");
    assert!(start.elapsed() >= std::time::Duration::from_millis(400));
}

#[test]
fn in_kubernetes_a_listener_has_a_drain_delay() {
    for (options, says) in [
        ("-l 127.0.0.1:0", "draining in 5"),
        ("-i 1", "shutting down"),
    ] {
        let mut clinit = Setup::new(options)
            .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            .worker("report up wait")
            .start();
        let _ = clinit.report("report");
        clinit.signal(libc::SIGTERM);
        let line = clinit.wait_for_log("shutting down");
        assert!(line.contains(says), "{line}");
        if options != "-i 1" {
            clinit.signal(libc::SIGTERM);
        }
        clinit.end().expect(0);
    }
}

#[test]
fn a_third_request_kills() {
    // Each of the three names asks; as different signals, none is lost.
    for delay in ["0", "1h"] {
        let mut clinit = Setup::new(&format!("-i 2 --grace 1h --drain-delay {delay}"))
            .worker("ignore TERM report up wait")
            .start();
        let pids: Vec<i32> = clinit
            .reports("report", 2)
            .iter()
            .map(|report| report.pid)
            .collect();
        let watched = Gone::watch(&pids);
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            clinit.signal(signal);
        }
        clinit.end().expect(124).says("third");
        watched.assert();
    }
}

#[test]
fn a_slot_in_backoff_does_not_hold_up_the_end() {
    let mut clinit = Setup::new("-i 1 --backoff 1h..1h")
        .worker("report up exit 1")
        .start();
    let _ = clinit.report("report");
    clinit.wait_for_log("restarting in");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_worker_that_somebody_stopped_still_leaves() {
    let mut clinit = Setup::new("-i 1 --grace 1h")
        .worker("report up wait")
        .start();
    let pid = clinit.report("report").pid;
    send(pid, libc::SIGSTOP);
    clinit.wait_until("it is stopped", |_| (state(pid) == Some('T')).then_some(()));
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn the_stop_signal_is_the_servers_own() {
    let dir = Dir::new();
    let worker = |name: &str| {
        let path = dir.path(name);
        fs::copy(&*WORKER, &path).unwrap();
        path
    };
    let nginx = worker("nginx");
    for (options, command, number) in [
        ("-i 1 --stop-signal USR2", WORKER.as_str(), libc::SIGUSR2),
        ("-i 1 --stop-signal RTMIN+3", WORKER.as_str(), 37),
        ("-i 1", nginx.as_str(), libc::SIGQUIT),
        ("-i 1 --stop-signal TERM", nginx.as_str(), libc::SIGTERM),
    ] {
        let mut clinit = Setup::new(options)
            .command(&[command, "on", "all", "report", "report", "up", "wait"])
            .start();
        let _ = clinit.report("report");
        clinit.signal(libc::SIGTERM);
        // CONT follows, for one that somebody stopped; a process that waits
        // for both gets the lower number first.
        let mut got = [clinit.report("signal"), clinit.report("signal")]
            .map(|report| report.fields[0].clone());
        got.sort();
        let mut expected = [number, libc::SIGCONT].map(|number| number.to_string());
        expected.sort();
        assert_eq!(got, expected, "{options} {command}");
        clinit.signal(libc::SIGINT);
        clinit.signal(libc::SIGQUIT);
        clinit.end().expect(124);
    }
}

/// What `npm start` and entrypoint scripts are: a shell above the server, and
/// children here and there.
#[test]
fn nothing_of_the_tree_is_left() {
    let tree = "child [ report a wait ] child [ ignore TERM report b wait ] \
                setsid-child [ report c wait ] setsid-child [ ignore TERM report d wait ] \
                setsid-child [ daemonize child [ report e wait ] report f wait ] report g wait";
    let script = format!("\"{}\" {tree}; exit 7", *WORKER)
        .replace('[', "'['")
        .replace(']', "']'");
    for (options, as_pid1) in [("-i 2", false), ("-i 2", true), ("", false), ("", true)] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        let grace = if options.is_empty() {
            ""
        } else {
            "--grace 500ms"
        };
        let mut clinit = Setup::new(&format!("{options} {grace} --orphan-grace 300ms"))
            .pid1(as_pid1)
            .command(&["sh", "-c", &script])
            .start();
        let trees = if options.is_empty() { 1 } else { 2 };
        let reports = clinit.reports("report", 7 * trees);
        let pids: Vec<i32> = reports
            .iter()
            .map(|report| clinit.seen_from_here(report.pid))
            .collect();
        let watched = Gone::watch(&pids);
        // sh dies of it; its server never hears of it from there. What
        // ignores it in a worker's group has the worker killed.
        let ended = clinit.end_by(libc::SIGTERM);
        ended.expect(if options.is_empty() { 143 } else { 124 });
        watched.assert();
    }
}

#[test]
fn a_loop_of_forks_is_no_way_to_survive() {
    for as_pid1 in [false, true] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        // Each one ignores TERM, starts its own successor, and leaves; were
        // clinit to lose, it would end after some seconds all the same.
        let dir = Dir::new();
        let script = dir.write(
            "chain",
            "#!/bin/sh\ntrap '' TERM\n[ $1 = 0 ] || \"$0\" $(($1 - 1)) & exit 0\n",
            0o755,
        );
        let started = format!(r#"setsid "{script}" 5000 & "{}" report up wait"#, *WORKER);
        let mut clinit = Setup::new("-i 1 --orphan-grace 100ms")
            .pid1(as_pid1)
            .command(&["sh", "-c", &started])
            .start();
        let _ = clinit.report("report");
        clinit.end_by(libc::SIGTERM).expect(0);
        let left = fs::read_dir("/proc").unwrap().filter(|entry| {
            let path = entry.as_ref().unwrap().path().join("cmdline");
            fs::read(path).is_ok_and(|line| {
                line.windows(script.len())
                    .any(|window| window == script.as_bytes())
            })
        });
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn workers_can_be_added_and_taken_away() {
    let mut clinit = Setup::new("-i 1").worker("report up wait").start();
    assert_eq!(clinit.report("report").slot, "0");
    clinit.signal(libc::SIGTTIN);
    let second = clinit.report("report");
    assert_eq!(second.slot, "1");
    clinit.signal(libc::SIGTTIN);
    let third = clinit.report("report");
    assert_eq!(third.slot, "2");
    clinit.wait_for_log("workers=3");
    clinit.signal(libc::SIGTTOU);
    clinit.wait_gone(third.pid);
    clinit.wait_for_log("workers=2");
    clinit.signal(libc::SIGTTOU);
    clinit.wait_gone(second.pid);
    clinit.wait_for_log("workers=1");
    // The last one stays.
    clinit.signal(libc::SIGTTOU);
    clinit.wait_for_log("not scaled");
    // It comes back in its own place.
    clinit.signal(libc::SIGTTIN);
    assert_eq!(clinit.report("report").slot, "1");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_signal_is_forwarded_to_each_worker_with_its_value() {
    let mut clinit = Setup::new("-i 3")
        .worker("on all report child [ wait ] report up wait")
        .start();
    let _ = clinit.reports("report", 3);
    for signal in forwarded() {
        let value = 0x1_2345_0000 + usize::try_from(signal).unwrap();
        clinit.signal_with_value(signal, value);
        let reports = clinit.reports("signal", 3);
        for (slot, report) in (0..).zip(reports) {
            assert_eq!(report.slot, format!("{slot}"));
            assert_eq!(report.fields[0], signal.to_string());
            assert_eq!(report.value("value"), value.to_string(), "signal {signal}");
        }
    }
    // A plain one stays plain: some servers tell them apart.
    clinit.signal(libc::SIGUSR1);
    for report in clinit.reports("signal", 3) {
        assert_eq!(report.fields[0], libc::SIGUSR1.to_string());
        assert_eq!(report.value("value"), "0");
    }
    clinit.signal(libc::SIGTERM);
    clinit.signal(libc::SIGINT);
    clinit.signal(libc::SIGQUIT);
    clinit.end().expect(124);
}

/// What DESIGN section 4 gives no meaning of its own.
fn forwarded() -> impl Iterator<Item = i32> {
    let own = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGTSTP,
        libc::SIGCONT,
        libc::SIGCHLD,
        libc::SIGKILL,
        libc::SIGSTOP,
        32,
        33,
    ];
    (1..=64).filter(move |signal| !own.contains(signal))
}

/// A queue of real-time signals keeps its order and loses none.
#[test]
fn real_time_signals_are_a_queue() {
    let mut clinit = Setup::new("-i 1")
        .worker("on RTMIN+1 report report up wait")
        .start();
    let _ = clinit.report("report");
    let pid = clinit.pid();
    for value in 1..=100 {
        send_with_value(pid, 35, value);
    }
    for value in 1..=100 {
        assert_eq!(clinit.report("signal").value("value"), value.to_string());
    }
}

#[test]
fn a_signal_that_every_worker_leaves_after_was_a_shutdown() {
    for as_pid1 in [false, true] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        let mut clinit = Setup::new("-i 3")
            .pid1(as_pid1)
            .worker("on WINCH exit 0 report up wait")
            .start();
        let _ = clinit.reports("report", 3);
        let ended = clinit.end_by(libc::SIGWINCH);
        ended.expect(0).closing_line();
    }
}

#[test]
fn a_signal_that_some_workers_leave_after_was_none() {
    let mut clinit = Setup::new(&format!("-i 2 --grace 300ms {QUICK}"))
        .worker("if-slot 0 [ on USR1 exit 0 ] on USR1 report report up wait")
        .start();
    let _ = clinit.reports("report", 2);
    clinit.signal(libc::SIGUSR1);
    let again = clinit.report("report");
    assert_eq!(again.slot, "0");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_signal_that_workers_crash_on_was_none() {
    let mut clinit = Setup::new(&format!("-i 2 {QUICK}"))
        .worker("on USR1 exit 3 report up wait")
        .start();
    let _ = clinit.reports("report", 2);
    clinit.signal(libc::SIGUSR1);
    let _ = clinit.reports("report", 2);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_stop_stops_workers_and_clinit() {
    let mut clinit = Setup::new("-i 2").worker("report up wait").start();
    let workers = clinit.reports("report", 2);
    let own = clinit.pid();
    clinit.signal(libc::SIGTSTP);
    let all: Vec<i32> = workers
        .iter()
        .map(|worker| worker.pid)
        .chain([own])
        .collect();
    let are = |wanted: fn(char) -> bool| {
        let all = all.clone();
        move |_: &mut Clinit| {
            all.iter()
                .all(|&pid| state(pid).is_some_and(wanted))
                .then_some(())
        }
    };
    clinit.wait_until("all are stopped", are(|state| state == 'T'));
    clinit.signal(libc::SIGCONT);
    clinit.wait_until("all go on", are(|state| state != 'T'));
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn process_1_does_not_stop_itself() {
    if !can_be_pid1() {
        return;
    }
    let mut clinit = Setup::new("-i 1")
        .pid1(true)
        .worker("report up wait")
        .start();
    let inner = clinit.report("report").pid;
    let worker = clinit.seen_from_here(inner);
    clinit.signal(libc::SIGTSTP);
    clinit.wait_until("the worker is stopped", |_| {
        (state(worker) == Some('T')).then_some(())
    });
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn the_end_is_told_to_whoever_asks_the_pod() {
    if !can_be_pid1() {
        return;
    }
    // A /dev of the test's own, in a mount namespace of its own.
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && : >/dev/termination-log \
                  && { \"$@\"; code=$?; cat /dev/termination-log; exit $code; }";
    let ended = Setup::new(&format!("-i 1 {QUICK} --max-restarts 2"))
        .through(&["unshare", "--mount", "sh", "-c", script, "sh"])
        .worker("exit 9")
        .run();
    ended.expect(9);
    let message = &ended.stdout;
    assert!(
        message.starts_with("clinit: exiting code=9 "),
        "{message:?}"
    );
    assert!(
        message.len() < 1024 && message.lines().count() == 1,
        "{message:?}"
    );
}
