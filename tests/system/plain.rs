//! The options that clinit shares with tini.

use crate::harness::{Setup, WORKER, can_be_pid1, send};

/// Not PID 1, and PID 1 where that can be had.
fn both() -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .filter(|as_pid1| !as_pid1 || can_be_pid1())
}

#[test]
fn an_exit_code_that_is_ok_becomes_0() {
    for as_pid1 in both() {
        for (options, script, code) in [
            ("-e 143", "kill-self TERM", 0),
            ("-e 143", "exit 143", 0),
            ("-e 3 -e 255", "exit 255", 0),
            ("--exit-ok 3 --exit-ok=255", "exit 3", 0),
            ("-e 3", "exit 4", 4),
            ("-e 0", "exit 1", 1),
            ("-i 1 --restart never -e 9", "exit 9", 0),
            ("-i 1 --restart never -e 9", "exit 8", 8),
        ] {
            let ended = Setup::new(options).pid1(as_pid1).worker(script).run();
            assert_eq!(ended.code(), code, "{options}, {script}: {}", ended.log);
        }
    }
    let ended = Setup::new("-e 127").command(&["/nonexistent"]).run();
    ended.expect(0).says("cannot run /nonexistent");
}

#[test]
fn each_reaped_orphan_is_warned_of() {
    for as_pid1 in both() {
        for options in ["-w", "-w -i 1"] {
            let mut clinit = Setup::new(options)
                .pid1(as_pid1)
                .worker("fork-orphans 3 report up wait")
                .start();
            let _ = clinit.report("report");
            clinit.wait_for_nth_log("clinit: warning: reaped an orphan", 3);
        }
    }
}

#[test]
fn what_each_v_adds() {
    let said = |options: &str| {
        let setup = Setup::new(options);
        let mut clinit = setup
            .worker("fork-orphans 1 on USR1 exit 3 report up wait")
            .start();
        let _ = clinit.report("report");
        let orphans = clinit.report("orphans").pid;
        let own = clinit.pid();
        clinit.wait_until("the orphan is reaped", |_| {
            (crate::harness::children(own) == [orphans]).then_some(())
        });
        clinit.end_by(libc::SIGUSR1).log
    };
    assert_eq!(said(""), "");
    let info = said("-v");
    assert!(info.contains("worker spawned"), "{info}");
    assert!(info.contains("exited with code 3"), "{info}");
    assert!(
        !info.contains("orphan") && !info.contains("SIGUSR1"),
        "{info}"
    );
    let debug = said("-vv");
    assert!(debug.contains("reaped an orphan"), "{debug}");
    assert!(debug.contains("SIGUSR1"), "{debug}");
}

/// Clinit's parent is a shell that can be killed.
const UNDER_A_SHELL: [&str; 4] = ["sh", "-c", "\"$@\" & wait", "sh"];

#[test]
fn a_parents_death_brings_its_signal() {
    for (mode, options, signal) in [
        ("", "-p USR1", "10"),
        ("", "--parent-death SIGRTMIN+3", "37"),
        ("-i 1", "-p 12", "12"),
    ] {
        let mut clinit = Setup::new(&format!("{options} {mode}"))
            .through(&UNDER_A_SHELL)
            .worker("on all report on TERM exit 0 report-pids wait")
            .start();
        let supervisor: i32 = clinit.report("pids").value("ppid").parse().unwrap();
        let shell = clinit.pid();
        send(shell, libc::SIGKILL);
        assert_eq!(clinit.report("signal").fields[0], signal, "{options}");
        send(supervisor, libc::SIGKILL);
        clinit.wait_gone(supervisor);
    }
}

/// A signal that ends clinit at once is forwarded by nobody.
#[test]
fn a_parents_death_that_kills_clinit_kills_its_child() {
    let mut clinit = Setup::new("-p KILL")
        .through(&UNDER_A_SHELL)
        .worker("report-pids wait")
        .start();
    let report = clinit.report("pids");
    let shell = clinit.pid();
    send(shell, libc::SIGKILL);
    clinit.wait_gone(report.value("ppid").parse().unwrap());
    clinit.wait_gone(report.pid);
}

#[test]
fn a_parents_death_is_nothing_to_it_unless_it_is_asked() {
    let mut clinit = Setup::new("")
        .through(&UNDER_A_SHELL)
        .worker("on all report report-pids wait")
        .start();
    let report = clinit.report("pids");
    let supervisor: i32 = report.value("ppid").parse().unwrap();
    let shell = clinit.pid();
    send(shell, libc::SIGKILL);
    clinit.wait_gone(shell);
    send(supervisor, libc::SIGUSR2);
    // The first one that it gets.
    assert_eq!(clinit.report("signal").fields[0], "12");
    send(report.pid, libc::SIGKILL);
    clinit.wait_gone(supervisor);
}

#[test]
fn it_adopts_orphans_asked_or_not_and_warns_where_it_cannot() {
    let silent = Setup::new("-s").worker("fork-orphans 1 exit 3").run();
    assert_eq!((silent.code(), silent.log.as_str()), (3, ""));
    let filter = [&*WORKER, "dirty", "no-subreaper"];
    for as_pid1 in both() {
        let ended = Setup::new("")
            .pid1(as_pid1)
            .through(&filter)
            .worker("exit 3")
            .run();
        let warning = "clinit: warning: orphans are not reaped: clinit is not process 1";
        assert_eq!(ended.code(), 3);
        assert_eq!(ended.log.contains(warning), !as_pid1, "{}", ended.log);
    }
}
