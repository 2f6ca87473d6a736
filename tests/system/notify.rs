//! What a worker says by `sd_notify(3)`, and what comes of it.

use std::time::{Duration, Instant};

use crate::harness::{Setup, open_gate, pidfd, send, state};

const QUICK: &str = "--backoff 1ms..5ms -v";

#[test]
fn a_worker_is_told_how_long_it_may_fall_silent() {
    let mut clinit = Setup::new("-i 1 --hang-timeout 90s -l 127.0.0.1:0")
        .env("WATCHDOG_USEC", "1")
        .env("WATCHDOG_PID", "1")
        .worker("report-env WATCHDOG_USEC,WATCHDOG_PID,LISTEN_PID wait")
        .start();
    let report = clinit.report("env");
    assert_eq!(report.value("WATCHDOG_USEC"), "90000000");
    assert_eq!(report.value("WATCHDOG_PID"), report.pid.to_string());
    assert_eq!(report.value("LISTEN_PID"), report.pid.to_string());
    let mut clinit = Setup::new("-i 1")
        .env("WATCHDOG_USEC", "1")
        .worker("report-env WATCHDOG_USEC,WATCHDOG_PID wait")
        .start();
    let unset = ["WATCHDOG_USEC", "WATCHDOG_PID"];
    assert_eq!(clinit.report("env").fields, unset);
}

#[test]
fn a_worker_that_falls_silent_is_replaced_and_one_that_does_not_is_not() {
    let script = "say READY=1|WATCHDOG=1 report up if-slot 1 [ beat 20 ] wait";
    let mut clinit = Setup::new(&format!("-i 2 --hang-timeout 1s {QUICK}"))
        .worker(script)
        .start();
    let first = clinit.reports("report", 2);
    for _ in 0..2 {
        let next = clinit.report("report");
        assert_eq!(next.slot, first[0].slot);
    }
    clinit.wait_for_nth_log("slot=0", 1);
    let ended = clinit.end_by(libc::SIGTERM);
    let said = "worker is hung: killed";
    ended.expect(0).says(said);
    let hung = ended.log.lines().filter(|line| line.contains(said));
    assert!(hung.clone().count() >= 2 && hung.clone().all(|line| line.contains("slot=0")));
    assert!(state(first[1].pid).is_none());
}

#[test]
fn a_stopped_worker_hangs_and_one_that_says_so_does() {
    let mut clinit = Setup::new(&format!("-i 1 {QUICK} --hang-timeout 500ms"))
        .worker("say READY=1|WATCHDOG=1 report up beat 20")
        .start();
    let first = clinit.report("report").pid;
    send(first, libc::SIGSTOP);
    clinit.wait_for_log("worker is hung: killed");
    let _ = clinit.report("report");
    // Even where nobody asked for it.
    let mut clinit = Setup::new(&format!("-i 1 {QUICK}"))
        .worker("say READY=1|WATCHDOG=trigger report up wait")
        .start();
    clinit.wait_for_nth_log("worker is hung: killed", 2);
}

#[test]
fn a_worker_may_set_its_own_time_and_take_it_back() {
    // Shorter than what the owner set, and where he set none.
    for options in ["--hang-timeout 1h", ""] {
        let mut clinit = Setup::new(&format!("-i 1 {QUICK} {options}"))
            .worker("say WATCHDOG_USEC=300000|READY=1 report up wait")
            .start();
        let _ = clinit.report("report");
        clinit.wait_for_log("worker is hung: killed");
        let _ = clinit.report("report");
    }
    let mut clinit = Setup::new(&format!("-i 2 {QUICK} --hang-timeout 300ms"))
        .worker("say READY=1|WATCHDOG=1 if-slot 1 [ say WATCHDOG_USEC=0 ] report up wait")
        .start();
    let reports = clinit.reports("report", 2);
    clinit.wait_for_nth_log("worker is hung: killed", 2);
    assert!(state(reports[1].pid).is_some(), "nobody waits for it");
}

#[test]
fn a_worker_that_says_that_it_goes_is_replaced_without_a_delay() {
    let setup = Setup::new("-i 1 -v --min-uptime 0s --backoff 1h..1h");
    let gate = setup.dir.fifo("gate");
    let mut clinit = setup
        .worker(&format!(
            "ready report up await {gate} say STOPPING=1 exit 0"
        ))
        .start();
    for ready in 1..4 {
        let _ = clinit.report("report");
        clinit.wait_ready(ready);
        open_gate(&gate);
    }
    let _ = clinit.report("report");
}

#[test]
fn a_barrier_is_answered_once_what_came_before_is_done() {
    let mut clinit = Setup::new("-i 1 --ready notify --log-level debug")
        .worker("report-env SLOT say READY=1 barrier report passed wait")
        .start();
    let report = clinit.report("report");
    assert_eq!(report.text(), "passed");
    // No waiting: it has been done by now, or it never will have been.
    assert!(clinit.log().contains("worker is ready"), "{}", clinit.log());
}

#[test]
fn a_barrier_among_many_words_is_answered_after_all_of_them() {
    let words = "say WATCHDOG_USEC=1000000000 ".repeat(5);
    let script = format!("{words} say READY=1 {words} barrier report passed wait");
    let mut clinit = Setup::new("-i 1 --ready notify -v").worker(&script).start();
    let _ = clinit.report("report");
    assert!(clinit.log().contains("worker is ready"), "{}", clinit.log());
}

#[test]
fn what_a_worker_says_wrongly_is_told_once_and_ends_nothing() {
    let mut clinit = Setup::new(&format!("-i 1 {QUICK}"))
        .worker(
            "say WATCHDOG=maybe say READY=yes say MAINPID=x say FDSTORE=1|FDNAME=a say X say \
             STATUS=fine|RELOADING=1|MONOTONIC_USEC=1 say READY=1 report up wait",
        )
        .start();
    let _ = clinit.report("report");
    clinit.wait_ready(1);
    let ended = clinit.end_by(libc::SIGTERM);
    ended
        .expect(0)
        .says("a notification is ignored: WATCHDOG= takes 1 or trigger");
    assert_eq!(ended.log.matches("is ignored").count(), 1, "{}", ended.log);
}

#[test]
fn more_time_to_become_ready_is_granted() {
    let setup = Setup::new("-i 1 -v --ready notify --ready-timeout 3s");
    let gate = setup.dir.fifo("gate");
    let first = setup.path("first");
    let mut clinit = setup
        .worker(&format!(
            "once {first} [ ready report old wait ] say EXTEND_TIMEOUT_USEC=3600000000 \
             report new await {gate} ready wait"
        ))
        .start();
    let _ = clinit.report("report");
    clinit.wait_ready(1);
    let began = Instant::now();
    clinit.signal(libc::SIGHUP);
    let _ = clinit.report("report");
    // What is to be shown is that nothing happens at that time.
    std::thread::sleep(Duration::from_millis(3500).saturating_sub(began.elapsed()));
    open_gate(&gate);
    clinit.wait_for_log("reloaded");
    assert!(!clinit.log().contains("reload failed"));
}

// ---- MAINPID ----

/// The child says that it is the main process, and the parent leaves.
fn hands_over(setup: Setup, parent: &str) -> crate::harness::Clinit {
    setup
        .worker(&format!(
            "child [ on USR1,USR2 report say READY=1|MAINPID={{pid}} barrier report main wait ] \
             {parent}"
        ))
        .start()
}

#[test]
fn another_main_process_has_the_signals_and_its_end_is_the_workers() {
    let setup = Setup::new(&format!("-i 1 {QUICK}"));
    let gate = setup.dir.fifo("gate");
    let mut clinit = hands_over(setup, &format!("await {gate} report leaves exit 0"));
    let main = clinit.report("report").pid;
    clinit.signal(libc::SIGUSR1);
    assert_eq!(clinit.report("signal").pid, main);
    open_gate(&gate);
    let parent = clinit.report("report").pid;
    clinit.wait_gone(parent);
    // It goes on: by this signal clinit has reaped the parent.
    clinit.catch_up();
    clinit.signal_with_value(libc::SIGUSR2, 7);
    let report = clinit.report("signal");
    assert_eq!((report.pid, report.value("value")), (main, "7"));
    assert!(!clinit.log().contains("restarting"), "{}", clinit.log());
    send(main, libc::SIGKILL);
    clinit.wait_for_log("worker was killed by SIGKILL");
    let next = clinit.report("report");
    assert_eq!(next.text(), "main");
    clinit.end_by(libc::SIGTERM);
}

#[test]
fn a_main_process_whose_parent_lives_is_missed_too() {
    let setup = Setup::new(&format!("-i 1 {QUICK}"));
    let mut clinit = hands_over(setup, "reap wait");
    let main = clinit.report("report").pid;
    send(main, libc::SIGKILL);
    // Its parent, which had been the worker, is told to go before.
    let next = clinit.report("report");
    assert_ne!(next.pid, main);
    clinit.wait_for_log("worker exited with code 255");
}

#[test]
fn a_main_process_that_has_left_the_group_is_killed_all_the_same() {
    let setup = Setup::new(&format!("-i 1 --grace 200ms {QUICK}"));
    let mut clinit = setup
        .worker(
            "child [ ignore TERM say READY=1|MAINPID={pid} barrier setsid report main wait ] \
             wait",
        )
        .start();
    let main = clinit.report("report").pid;
    let handle = pidfd(main).unwrap();
    clinit.end_by(libc::SIGTERM);
    let gone = crate::harness::readable(
        &[std::os::fd::AsFd::as_fd(&handle)],
        crate::harness::DEADLINE,
    );
    assert!(gone, "it outlived clinit");
}

#[test]
fn a_strange_process_is_no_main_process() {
    for pid in ["1", "2147483647"] {
        let mut clinit = Setup::new(&format!("-i 1 {QUICK}"))
            .worker(&format!(
                "say MAINPID={pid}|READY=1 on USR1 report report up wait"
            ))
            .start();
        let own = clinit.report("report").pid;
        clinit.wait_for_log("is not its main process");
        clinit.signal(libc::SIGUSR1);
        assert_eq!(clinit.report("signal").pid, own);
    }
}
