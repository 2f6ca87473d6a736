//! What the main child leaves behind, in its hard cases.

use std::fs;

use crate::harness::{Gone, Setup, can_be_pid1, is_root, send, state};

/// Longer than any test waits: whoever waits for it fails.
const FOR_EVER: &str = "--orphan-grace 10m";

fn both() -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .filter(|as_pid1| !as_pid1 || can_be_pid1())
}

/// The processes of a session.
fn of_session(session: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    all.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(3) == Some(&session.to_string())
    })
    .collect()
}

#[test]
fn where_nothing_is_left_nothing_is_waited_for() {
    for as_pid1 in both() {
        Setup::new(FOR_EVER)
            .pid1(as_pid1)
            .worker("fork-orphans 100 exit 3")
            .run()
            .expect(3);
    }
}

#[test]
fn who_is_stopped_hears_it_too() {
    for as_pid1 in both() {
        let mut clinit = Setup::new(FOR_EVER)
            .pid1(as_pid1)
            .worker("setsid-child [ on TERM exit 0 report a wait ] on USR1 exit 5 report b wait")
            .start();
        let pids = clinit.reports("report", 2);
        let survivor = pids.iter().find(|report| report.text() == "a").unwrap();
        let survivor = clinit.seen_from_here(survivor.pid);
        send(survivor, libc::SIGSTOP);
        clinit.wait_until("it is stopped", |_| {
            (state(survivor) == Some('T')).then_some(())
        });
        clinit.end_by(libc::SIGUSR1).expect(5);
    }
}

#[test]
fn a_further_signal_hurries_it() {
    for as_pid1 in both() {
        for (script, code) in [("on USR1 exit 5", 5), ("", 128 + libc::SIGUSR1)] {
            let script =
                format!("setsid-child [ block TERM report a wait ] {script} report b wait");
            let mut clinit = Setup::new(FOR_EVER).pid1(as_pid1).worker(&script).start();
            let reports = clinit.reports("report", 2);
            let [survivor, main] = ["a", "b"].map(|name| {
                let report = reports.iter().find(|report| report.text() == name);
                clinit.seen_from_here(report.unwrap().pid)
            });
            let watched = Gone::watch(&[survivor, main]);
            clinit.signal(libc::SIGUSR1);
            clinit.wait_until("the survivor is told", |_| {
                let pending = crate::harness::status_field(survivor, "ShdPnd:")?;
                let pending = u64::from_str_radix(&pending, 16).ok()?;
                (pending & (1 << (libc::SIGTERM - 1)) != 0).then_some(())
            });
            clinit.end_by(libc::SIGTERM).expect(code);
            watched.assert();
        }
    }
}

/// Each process forks the next one and ends, so that nobody can tell who is
/// there.
#[test]
fn who_forks_while_it_is_killed_is_killed_too() {
    let flees = "trap '' TERM; flee() { (flee) & }; flee";
    for as_pid1 in both() {
        let mut clinit = Setup::new("--orphan-grace 100ms")
            .pid1(as_pid1)
            .worker("on USR1 exit 5 report up setsid-child [ report-pids exec sh -c")
            .arg(flees)
            .arg("]")
            .arg("wait")
            .start();
        let _ = clinit.report("report");
        let session = clinit.report("pids").pid;
        let session = clinit.seen_from_here(session);
        clinit.end_by(libc::SIGUSR1).expect(5);
        let left = of_session(session);
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_deep_chain_is_killed_to_its_end() {
    const DEPTH: usize = 24;
    let down = "setsid-child [ child [ ignore TERM report a ".repeat(DEPTH);
    let up = "wait ] wait ] ".repeat(DEPTH);
    let script = format!("{down}{up}on USR1 exit 5 report up wait");
    for as_pid1 in both() {
        let mut clinit = Setup::new("--orphan-grace 100ms")
            .pid1(as_pid1)
            .worker(&script)
            .start();
        let reports = clinit.reports("report", DEPTH + 1);
        let pids: Vec<i32> = reports
            .iter()
            .map(|report| clinit.seen_from_here(report.pid))
            .collect();
        let watched = Gone::watch(&pids);
        clinit.end_by(libc::SIGUSR1).expect(5);
        watched.assert();
    }
}

/// Root without `CAP_KILL` may signal its own processes alone.
#[test]
fn who_may_not_be_signalled_is_not_waited_for_without_end() {
    if !is_root() {
        return;
    }
    let without = ["setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill"];
    let other = "setpriv --reuid 1000 --regid 1000 --clear-groups";
    let worker = &*crate::harness::WORKER;
    let script = format!("setsid-child [ exec {other} {worker} report a wait ] report b wait");
    let mut clinit = Setup::new("--orphan-grace 100ms")
        .through(&without)
        .worker(&script)
        .start();
    let reports = clinit.reports("report", 2);
    let survivor = reports.iter().find(|report| report.text() == "a").unwrap();
    let survivor = survivor.pid;
    let ended = clinit.end_by(libc::SIGTERM);
    assert!(state(survivor).is_some_and(|state| state != 'Z'));
    send(survivor, libc::SIGKILL);
    ended.expect(143);
}

#[test]
fn without_proc_its_own_group_is_ended_at_least() {
    if !can_be_pid1() {
        return;
    }
    let without = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "umount -l /proc && exec \"$@\"",
        "sh",
    ];
    let mut clinit = Setup::new("--orphan-grace 100ms")
        .through(&without)
        .worker("child [ ignore TERM report a wait ] setsid-child [ report b wait ] report c wait")
        .start();
    let reports = clinit.reports("report", 3);
    let [member, outside] = ["a", "b"].map(|name| {
        let report = reports.iter().find(|report| report.text() == name);
        report.unwrap().pid
    });
    let watched = Gone::watch(&[member]);
    let ended = clinit.end_by(libc::SIGTERM);
    send(outside, libc::SIGKILL);
    ended.expect(143).says("/proc");
    watched.assert();
}
