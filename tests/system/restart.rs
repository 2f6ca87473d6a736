//! Workers that exit: how often they come back, and what clinit's code is.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Dir, Setup, WORKER, get, open_gate, send};

const QUICK: &str = "--backoff 1ms..5ms";

#[test]
fn a_crash_loop_ends_with_the_workers_code_after_so_many_tries() {
    for (tries, end, code) in [
        (1, "exit 7", 7),
        (3, "exit 7", 7),
        (16, "exit 1", 1),
        (3, "kill-self SEGV", 139),
        (3, "kill-self KILL", 137),
        (3, "kill-self RTMIN+3", 165),
        // A loop is no success, whatever the worker says.
        (3, "exit 0", 1),
    ] {
        let given = if tries == 16 {
            String::new()
        } else {
            format!("--max-restarts {tries}")
        };
        let mut clinit = Setup::new(&format!("-i 1 {QUICK} {given}"))
            .worker(&format!("report try {end}"))
            .start();
        let _ = clinit.reports("report", tries);
        let ended = clinit.end();
        ended.expect(code).says("giving up");
        // Where reaping takes longer than a backoff nothing is said of that.
        let failures = format!("in a row failures={tries}\n");
        assert!(ended.log.contains(&failures), "{}", ended.log);
        let restarts = ended.log.matches("restarting in").count();
        assert!(restarts < tries, "{}", ended.log);
        assert!(
            ended.closing_line().contains(&format!("code={code} ")),
            "{}",
            ended.log
        );
    }
}

#[test]
fn no_try_is_made_beyond_the_last() {
    let dir = Dir::new();
    let count = dir.path("count");
    let script = format!("echo >>{count}; exit 9");
    Setup::new(&format!("-i 1 {QUICK} --max-restarts 4"))
        .command(&["sh", "-c", &script])
        .run()
        .expect(9);
    assert_eq!(fs::read_to_string(count).unwrap().len(), 4);
}

#[test]
fn giving_up_takes_every_slot() {
    let dir = Dir::new();
    let count = dir.path("count");
    let script = format!("echo $CLINIT_SLOT >>{count}; exit 9");
    Setup::new(&format!("-i 3 {QUICK} --max-restarts 4"))
        .command(&["sh", "-c", &script])
        .run()
        .expect(9);
    let tries = fs::read_to_string(count).unwrap();
    for slot in ["0", "1", "2"] {
        let own = tries.lines().filter(|line| *line == slot).count();
        assert!(own >= 4, "slot {slot}: {tries:?}");
    }
}

/// What clinit itself ends, on its way out, is not what it gave up on.
#[test]
fn giving_up_is_with_the_code_of_the_last_failure() {
    let dir = Dir::new();
    let [first, second, third] = ["a", "b", "c"].map(|name| dir.path(name));
    let gate = dir.fifo("gate");
    let script = format!(
        "if-slot 0 [ once {first} [ exit 8 ] once {second} [ exit 8 ] report up wait ] \
         once {third} [ await {gate} ] exit 9"
    );
    let mut clinit = Setup::new(&format!("-i 2 {QUICK} --max-restarts 2"))
        .worker(&script)
        .start();
    // Slot 0 has failed often enough, and tries again all the same.
    let _ = clinit.report("report");
    open_gate(gate);
    clinit.end().expect(9);
}

#[test]
fn one_bad_worker_among_good_ones_ends_nothing() {
    let mut clinit = Setup::new(&format!("-i 3 {QUICK} --max-restarts 2 -l 127.0.0.1:0"))
        .worker("if-slot 1 [ report bad exit 9 ] report good serve")
        .start();
    let mut bad = 0;
    let mut good = Vec::new();
    while bad < 12 || good.len() < 2 {
        let report = clinit.report("report");
        match report.text() {
            "bad" => bad += 1,
            _ => good.push(report.slot),
        }
    }
    good.sort();
    assert_eq!(good, ["0", "2"], "each was started once");
    get((Ipv4Addr::LOCALHOST, clinit.port())).unwrap();
    clinit.end_by(libc::SIGTERM).expect(0);
}

/// The study-note server: it answers a request and exits with 1, each time.
/// That is no crash loop, and no client waits for a backoff.
#[test]
fn a_worker_that_exits_after_each_request_is_restarted_at_once_for_ever() {
    for (instances, requests) in [(1, 100), (2, 60)] {
        let options = "--max-restarts 3 --backoff 10m..10m -l 127.0.0.1:0";
        let mut clinit = Setup::new(&format!("-i {instances} {options}"))
            .worker("report up serve-once-and-exit 1")
            .start();
        let _ = clinit.reports("report", instances);
        let address = (Ipv4Addr::LOCALHOST, clinit.port());
        let mut last = String::new();
        for number in 0..requests {
            // With a backoff in the way this would not come in time.
            let answer = get(address).unwrap_or_else(|error| {
                clinit.fail(&format!("-i {instances}, request {number}: {error}"))
            });
            assert_ne!(answer, last, "each answer is another process's");
            last = answer;
        }
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn the_same_over_a_unix_socket() {
    let dir = Dir::new();
    let path = dir.path("a.sock");
    let mut clinit = Setup::new("-i 1 --max-restarts 3 --backoff 10m..10m -l")
        .arg(format!("unix:{path}"))
        .worker("report up serve-once-and-exit 1")
        .start();
    // The kernel tells of a unix queue only whether it is empty, so each
    // client comes when the next worker is there.
    for number in 0..30 {
        let _ = clinit.report("report");
        let answer = crate::harness::get_unix(&path);
        answer.unwrap_or_else(|error| clinit.fail(&format!("request {number}: {error}")));
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_queue_of_clients_outlives_its_workers() {
    let mut clinit = Setup::new("-i 1 --max-restarts 3 --backoff 10m..10m -l 127.0.0.1:0")
        .worker("report up serve-once-and-exit 1")
        .start();
    let _ = clinit.report("report");
    let address = (Ipv4Addr::LOCALHOST, clinit.port());
    let clients: Vec<_> = (0..40)
        .map(|_| std::thread::spawn(move || get(address)))
        .collect();
    let answers: Vec<_> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    for answer in answers {
        answer.unwrap_or_else(|error| clinit.fail(&error.to_string()));
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn restarts_can_be_declined() {
    for (restart, script, code) in [
        ("never", "exit 0", 0),
        ("never", "exit 5", 5),
        ("never", "if-slot 1 [ exit 6 ] exit 0", 6),
        ("never", "kill-self TERM", 143),
        ("on-failure", "exit 0", 0),
        ("on-failure", "if-slot 0 [ exit 0 ] exit 0", 0),
    ] {
        let ended = Setup::new(&format!("-i 2 --restart {restart} {QUICK}"))
            .worker(script)
            .run();
        ended.expect(code);
        assert!(
            !ended.log.contains("restarting"),
            "{restart} {script}: {}",
            ended.log
        );
    }
}

#[test]
fn a_failure_is_made_good_where_that_is_asked_for() {
    let dir = Dir::new();
    let mut clinit = Setup::new(&format!("-i 1 --restart on-failure {QUICK}"))
        .worker(&format!(
            "once {} [ report first exit 5 ] report second wait",
            dir.path("ran")
        ))
        .start();
    assert_eq!(clinit.report("report").text(), "first");
    assert_eq!(clinit.report("report").text(), "second");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn what_cannot_be_run_is_said_at_once() {
    let dir = Dir::new();
    let plain = dir.write("plain", "#!/bin/sh\n", 0o644);
    let no_interpreter = dir.write("odd", "#!/nonexistent/interpreter\n", 0o755);
    let directory = dir.path("").trim_end_matches('/').to_owned();
    for options in ["-i 2", "-l 127.0.0.1:0", ""] {
        for (command, code, reason) in [
            ("clinit-no-such-command", 127, "o such file"),
            ("/nonexistent/command", 127, "o such file"),
            (plain.as_str(), 126, "ermission denied"),
            (directory.as_str(), 126, "is a directory"),
            ("/etc/passwd/x", 126, "ot a directory"),
            (no_interpreter.as_str(), 127, "interpreter"),
        ] {
            let ended = Setup::new(options)
                .command(&[command, "secret-argument"])
                .run();
            assert_eq!(ended.code(), code, "{options} {command}: {}", ended.log);
            let errors = ended.log.lines().filter(|line| line.contains("error"));
            let [error] = errors.collect::<Vec<_>>()[..] else {
                panic!(
                    "{options} {command}: one line is to say why:\n{}",
                    ended.log
                );
            };
            assert!(
                error.contains(command) && error.contains(reason),
                "{reason}: {error}"
            );
            assert!(!ended.log.contains("secret-argument"), "{}", ended.log);
        }
    }
}

#[test]
fn a_script_without_an_interpreter_is_a_shells() {
    let dir = Dir::new();
    let script = dir.write("script", "exit \"$1\"\n", 0o755);
    Setup::new("")
        .command(&[script.as_str(), "43"])
        .run()
        .expect(43);
}

#[test]
fn a_command_that_vanishes_is_missed_and_welcomed_back() {
    let dir = Dir::new();
    let path = dir.path("server");
    fs::copy(&*WORKER, &path).unwrap();
    let mut clinit = Setup::new(&format!("-i 2 {QUICK} --max-restarts 3"))
        .command(&[path.as_str(), "report", "up", "wait"])
        .start();
    let first = clinit.reports("report", 2);
    let away = dir.path("away");
    fs::rename(&path, &away).unwrap();
    send(first[0].pid, libc::SIGKILL);
    // The other one still serves, so this is not the end, however often.
    clinit.wait_for_nth_log("o such file", 5);
    fs::rename(&away, &path).unwrap();
    assert_eq!(clinit.report("report").slot, first[0].slot);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_server_that_puts_itself_into_the_background_is_told_not_to() {
    let mut clinit = Setup::new(&format!("-i 1 -l 127.0.0.1:0 {QUICK} --orphan-grace 1s"))
        .worker("daemonize wait")
        .start();
    let daemon = clinit.report("daemon").pid;
    let watched = crate::harness::pidfd(daemon);
    let ended = clinit.end();
    ended.expect(1).says("run it in the foreground");
    if let Some(daemon) = watched {
        use std::os::fd::AsFd as _;
        let gone = crate::harness::readable(&[daemon.as_fd()], std::time::Duration::ZERO);
        assert!(gone, "the daemon still runs");
    }
}

/// The rest of a worker's group holds its port, its files, its memory: it is
/// gone before the next worker starts.
#[test]
fn a_dead_workers_children_go_before_its_successor_comes() {
    let dir = Dir::new();
    let once = dir.path("once");
    let script = format!(
        "once {once} [ child [ report child wait ] on USR1 exit 3 report first wait ] report second wait"
    );
    let mut clinit = Setup::new(&format!("-i 1 {QUICK}")).worker(&script).start();
    let mut reports = [clinit.report("report"), clinit.report("report")];
    reports.sort_by_key(|report| report.text().to_owned());
    let [child, first] = reports;
    assert_eq!([child.text(), first.text()], ["child", "first"]);
    let watched = crate::harness::Gone::watch(&[child.pid, first.pid]);
    send(first.pid, libc::SIGUSR1);
    assert_eq!(clinit.report("report").text(), "second");
    watched.assert();
}

/// A detached child is no part of the worker, and none of its business.
#[test]
fn a_detached_child_survives_a_restart_and_is_reaped() {
    let dir = Dir::new();
    let once = dir.path("once");
    let script = format!(
        "once {once} [ setsid-child [ report child wait ] on USR1 exit 3 report first wait ] report second wait"
    );
    let mut clinit = Setup::new(&format!("-i 1 {QUICK}")).worker(&script).start();
    let mut reports = [clinit.report("report"), clinit.report("report")];
    reports.sort_by_key(|report| report.text().to_owned());
    let [child, first] = reports;
    send(first.pid, libc::SIGUSR1);
    assert_eq!(clinit.report("report").text(), "second");
    assert!(crate::harness::state(child.pid).is_some_and(|state| state != 'Z'));
    send(child.pid, libc::SIGKILL);
    clinit.wait_until("the child is reaped", |_| {
        crate::harness::state(child.pid).is_none().then_some(())
    });
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_worker_without_a_right_to_its_file_is_an_error_of_the_command() {
    if !crate::harness::is_root() {
        return;
    }
    let dir = Dir::new();
    let path = dir.path("mine");
    fs::copy(&*WORKER, &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let ended = Setup::new("-i 1 --user 1000:1000")
        .command(&[path.as_str(), "exit", "0"])
        .run();
    ended.expect(126).says("ermission denied");
}
