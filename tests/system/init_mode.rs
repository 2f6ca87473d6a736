//! One child, whose signals, orphans and exit status are clinit's to handle.

use std::io::Write as _;

use crate::harness::{Gone, Setup, both, children, send, state};

#[test]
fn its_exit_status_is_ours() {
    for as_pid1 in both() {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 1", 1),
            ("exit 42", 42),
            ("exit 255", 255),
            ("kill-self TERM", 143),
            ("kill-self KILL", 137),
            ("kill-self INT", 130),
            ("kill-self ABRT", 134),
            ("kill-self SEGV", 139),
            ("kill-self RTMIN+0", 162),
            ("kill-self RTMIN+3", 165),
            ("kill-self RTMIN+30", 192),
        ] {
            let ended = Setup::new("").pid1(as_pid1).worker(script).run();
            assert_eq!(
                ended.code(),
                code,
                "{script}, PID 1: {as_pid1}: {}",
                ended.log
            );
        }
    }
}

#[test]
fn it_is_never_run_again() {
    let mut clinit = Setup::new("").worker("report up exit 3").start();
    let _ = clinit.report("report");
    let left = clinit.end();
    left.expect(3);
    assert_eq!(left.log, "", "nothing but the child is to be heard");
}

#[test]
fn two_thousand_orphans_at_once_leave_nothing_and_lose_no_status() {
    for as_pid1 in both() {
        let mut clinit = Setup::new("")
            .pid1(as_pid1)
            .worker("fork-orphans 2000 on USR1 exit 77 report up wait")
            .start();
        let inner = clinit.report("orphans").pid;
        let main = clinit.seen_from_here(inner);
        let own = clinit.pid();
        clinit.wait_until("only the main child is left", |_| {
            (children(own) == [main]).then_some(())
        });
        let _ = clinit.report("report");
        assert!(state(main).is_some_and(|state| state != 'Z'));
        clinit.end_by(libc::SIGUSR1).expect(77);
    }
}

/// The main child is one of two thousand that exit in the same instant.
#[test]
fn its_status_is_right_in_the_middle_of_a_burst() {
    for as_pid1 in both() {
        for (end, code) in [("exit 91", 91), ("kill-self RTMIN+9", 171)] {
            Setup::new("")
                .pid1(as_pid1)
                .worker(&format!("fork-orphans 500 {end}"))
                .run()
                .expect(code);
        }
    }
}

#[test]
fn orphans_of_cluster_workers_are_reaped_too() {
    for as_pid1 in both() {
        let mut clinit = Setup::new("-i 2")
            .pid1(as_pid1)
            .worker("fork-orphans 1000 report up wait")
            .start();
        let _ = clinit.reports("report", 2);
        let own = clinit.pid();
        clinit.wait_until("only workers are left", |_| {
            (children(own).len() == 2).then_some(())
        });
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn what_it_leaves_behind_is_told_to_go_and_then_killed() {
    for as_pid1 in both() {
        let mut clinit = Setup::new("--orphan-grace 300ms")
            .pid1(as_pid1)
            .worker(
                "child [ report a wait ] setsid-child [ on TERM exit 0 report b wait ] \
                 setsid-child [ ignore TERM report c wait ] on USR1 exit 5 report d wait",
            )
            .start();
        let reports = clinit.reports("report", 4);
        let pids: Vec<i32> = reports
            .iter()
            .map(|report| clinit.seen_from_here(report.pid))
            .collect();
        let watched = Gone::watch(&pids);
        clinit.signal(libc::SIGUSR1);
        // The survivors get the chance to say their last words.
        while clinit.report("signal").fields[0] != libc::SIGTERM.to_string() {}
        clinit.end().expect(5);
        watched.assert();
    }
}

#[test]
fn its_descriptors_are_those_of_clinit() {
    let (stdin, mut hold) = std::io::pipe().unwrap();
    let mut clinit = Setup::new("")
        .stdin(stdin)
        .worker("report-stdin wait")
        .start();
    hold.write_all(b"for the child").unwrap();
    drop(hold);
    assert_eq!(clinit.report("stdin").text(), "for the child");
}

#[test]
fn a_child_that_stops_is_no_child_that_ends() {
    let mut clinit = Setup::new("")
        .worker("on USR1 exit 4 report up wait")
        .start();
    let pid = clinit.report("report").pid;
    send(pid, libc::SIGSTOP);
    clinit.wait_until("it is stopped", |_| (state(pid) == Some('T')).then_some(()));
    clinit.signal(libc::SIGCONT);
    clinit.wait_until("it goes on", |_| (state(pid) != Some('T')).then_some(()));
    clinit.end_by(libc::SIGUSR1).expect(4);
}

#[test]
fn clinit_itself_adopts_when_it_is_not_process_1() {
    let mut clinit = Setup::new("")
        .worker("setsid-child [ daemonize report-pids wait ] reap report up wait")
        .start();
    let own = clinit.pid().to_string();
    let orphan = clinit.report("pids");
    // Reported before or after its parent was gone, it is clinit's now.
    let _ = clinit.report("report");
    let parent = crate::harness::status_field(orphan.pid, "PPid:");
    assert_eq!(parent, Some(own));
}
