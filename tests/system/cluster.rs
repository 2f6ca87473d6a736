//! What a worker is given in cluster mode, and what it is spared.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;

use crate::harness::{CLINIT, Gone, Report, Setup, WORKER, is_root, send};

#[test]
fn each_worker_learns_of_its_place_and_its_listeners() {
    let variables = "CLINIT_SLOT,CLINIT_SLOTS,CLINIT_GENERATION,NODE_APP_INSTANCE,NOTIFY_SOCKET,\
                     LISTEN_FDS,LISTEN_PID,LISTEN_FDNAMES,EINHORN_FD_COUNT,EINHORN_FD_0,\
                     EINHORN_FD_1,EINHORN_FD_2,EINHORN_MASTER_PID,SERVER_STARTER_PORT,NGINX";
    let mut clinit = Setup::new("-i 3 -l web=127.0.0.1:0 -l udp:127.0.0.1:0")
        .worker(&format!("report-env {variables} report-sockets wait"))
        .start();
    let supervisor = clinit.pid();
    let reports = clinit.reports("env", 3);
    for (slot, report) in (0..).zip(&reports) {
        assert_eq!(report.slot, format!("{slot}"));
        let expected = [
            ("CLINIT_SLOT", format!("{slot}")),
            ("CLINIT_SLOTS", "3".into()),
            ("NODE_APP_INSTANCE", format!("{slot}")),
            ("LISTEN_FDS", "2".into()),
            ("LISTEN_PID", report.pid.to_string()),
            ("LISTEN_FDNAMES", "web:unknown".into()),
            ("EINHORN_FD_COUNT", "2".into()),
            ("EINHORN_FD_0", "3".into()),
            ("EINHORN_FD_1", "4".into()),
            ("EINHORN_MASTER_PID", supervisor.to_string()),
        ];
        for (name, value) in expected {
            assert_eq!(report.value(name), value, "{report}");
        }
        for name in ["EINHORN_FD_2", "SERVER_STARTER_PORT", "NGINX"] {
            assert_eq!(report.find(name), None, "{report}");
        }
        let generation: u32 = report.value("CLINIT_GENERATION").parse().unwrap();
        assert_eq!(
            reports[0].value("CLINIT_GENERATION"),
            generation.to_string()
        );
        assert!(report.value("NOTIFY_SOCKET").starts_with('@'), "{report}");
    }
    let notify: BTreeSet<&str> = reports
        .iter()
        .map(|report| report.value("NOTIFY_SOCKET"))
        .collect();
    assert_eq!(notify.len(), 3, "{notify:?}");

    let sockets = clinit.reports("sockets", 3);
    for report in &sockets {
        assert_eq!(report.fields, sockets[0].fields, "the same sockets");
        assert_eq!(report.fields.len(), 2, "{report}");
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn without_a_listener_there_is_no_word_of_one() {
    let mut clinit = Setup::new("-i 1")
        .env("LISTEN_FDS", "3")
        .env("LISTEN_PID", "1")
        .env("EINHORN_FD_COUNT", "1")
        .worker("report-env-names report-sockets wait")
        .start();
    let names = clinit.report("env-names").fields;
    let foreign = |name: &&String| name.starts_with("LISTEN_") || name.starts_with("EINHORN_");
    assert_eq!(names.iter().find(foreign), None, "{names:?}");
    assert!(clinit.report("sockets").fields.is_empty());
}

#[test]
fn the_generation_outlives_a_worker_and_the_notify_socket_does_not() {
    let mut clinit = Setup::new("-i 1 --backoff 1ms..1ms")
        .worker("report-env CLINIT_GENERATION,NOTIFY_SOCKET wait")
        .start();
    let first = clinit.report("env");
    send(first.pid, libc::SIGKILL);
    let second = clinit.report("env");
    assert_ne!(first.pid, second.pid);
    let [a, b] = [&first, &second].map(|report| report.value("CLINIT_GENERATION"));
    assert_eq!(a, b);
    let [a, b] = [&first, &second].map(|report| report.value("NOTIFY_SOCKET"));
    assert_ne!(a, b, "a stale message must not count for a later worker");
}

#[test]
fn option_variables_are_clinits_alone() {
    let mut clinit = Setup::new("")
        .env("CLINIT_INSTANCES", "2")
        .env("CLINIT_GRACE", "3s")
        .env("CLINIT_NONSENSE", "1")
        .env("CLINIT_SERVICE_HOST", "10.0.0.1")
        .env("CLINIT_PORT_80_TCP", "tcp://10.0.0.1:80")
        .env("KEPT", "yes")
        .worker("report-env-names report-env KEPT wait")
        .start();
    for report in clinit.reports("env-names", 2) {
        let has = |name: &str| report.fields.iter().any(|field| field == name);
        for option in ["CLINIT_INSTANCES", "CLINIT_GRACE"] {
            assert!(!has(option), "{report}");
        }
        assert!(has("KEPT") && has("PATH"), "{report}");
    }
    assert_eq!(clinit.report("env").value("KEPT"), "yes");
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0).says("CLINIT_NONSENSE");
    assert!(!ended.log.contains("CLINIT_SERVICE"), "{}", ended.log);
    assert!(!ended.log.contains("CLINIT_PORT"), "{}", ended.log);
}

#[test]
fn a_worker_has_its_own_descriptors_and_no_other() {
    let leaky = [
        "sh",
        "-c",
        "exec 7</dev/null 9</dev/zero; exec \"$@\"",
        "sh",
    ];
    let (stdin, mut hold) = std::io::pipe().unwrap();
    hold.write_all(b"not for workers").unwrap();
    let mut clinit = Setup::new("-i 2 -l 127.0.0.1:0 --backoff 1ms..1ms")
        .through(&leaky)
        .stdin(stdin)
        .worker("report-fds wait")
        .start();
    let check = |report: &Report| {
        let numbers: Vec<&str> = report.fields.iter().map(|field| &field[..1]).collect();
        assert_eq!(numbers, ["0", "1", "2", "3"], "{report}");
        assert_eq!(report.value("0"), "/dev/null");
        assert!(report.value("3").starts_with("socket:"), "{report}");
    };
    let reports = clinit.reports("fds", 2);
    reports.iter().for_each(check);
    // One that starts beside another is spared the other's as well.
    send(reports[0].pid, libc::SIGKILL);
    check(&clinit.report("fds"));
}

#[test]
fn masks_dispositions_and_limits_are_those_that_clinit_found() {
    // Two of them blocked, three ignored, one of which clinit itself needs.
    let wrapper = "block USR1,RTMIN+2,CHLD ignore USR2,PIPE,CHLD,RTMIN+5 set-nofile 777 exec";
    let wrapper: Vec<&str> = std::iter::once(WORKER.as_str())
        .chain(wrapper.split(' '))
        .collect();
    let bit = |signal: i32| 1_u64 << (signal - 1);
    let blocked = bit(libc::SIGUSR1) | bit(36) | bit(libc::SIGCHLD);
    let ignored = bit(libc::SIGUSR2) | bit(libc::SIGPIPE) | bit(libc::SIGCHLD) | bit(39);
    for options in ["-i 1", ""] {
        let mut clinit = Setup::new(options)
            .through(&wrapper)
            .worker("report-mask report-place wait")
            .start();
        let report = clinit.report("mask");
        assert_eq!(
            report.value("blocked"),
            format!("{blocked:016x}"),
            "{options}"
        );
        assert_eq!(ignored_of(&report), ignored, "{options}");
        let place = clinit.report("place");
        assert!(place.value("nofile").starts_with("777/"), "{place}");
        // Nobody may say that it is gone: CHLD was ignored.
        send(report.pid, libc::SIGKILL);
        if options.is_empty() {
            clinit.end().expect(137);
        }
    }
    let mut clinit = Setup::new("-i 1").worker("report-mask wait").start();
    let report = clinit.report("mask");
    assert_eq!(report.value("blocked"), format!("{:016x}", 0));
    assert_eq!(ignored_of(&report), 0);
}

/// The signals that a worker found ignored, but for the two that glibc keeps
/// for itself: its `posix_spawn(3)`, which started clinit here, ignores them.
fn ignored_of(report: &Report) -> u64 {
    let ignored = u64::from_str_radix(report.value("ignored"), 16).unwrap();
    ignored & !(0b11 << 31)
}

#[test]
fn a_descriptor_that_was_closed_stays_closed() {
    let wrapper = [WORKER.as_str(), "close", "0", "close", "1", "exec"];
    let mut clinit = Setup::new("")
        .through(&wrapper)
        .worker("report-fds wait")
        .start();
    let report = clinit.report("fds");
    let found = ["0", "1", "2"].map(|number| report.find(number).is_some());
    assert_eq!(found, [false, false, true], "{report}");
}

#[test]
fn workers_go_when_clinit_is_killed() {
    let mut clinit = Setup::new("-i 2").worker("report-place wait").start();
    let reports = clinit.reports("place", 2);
    for report in &reports {
        assert_ne!(report.value("pdeathsig"), "0", "{report}");
    }
    clinit.signal(libc::SIGKILL);
    for report in reports {
        clinit.wait_gone(report.pid);
    }
}

#[test]
fn a_worker_leads_a_process_group_of_its_own() {
    let mut clinit = Setup::new("-i 2").worker("report-pids wait").start();
    let supervisor = clinit.pid().to_string();
    for report in clinit.reports("pids", 2) {
        assert_eq!(report.value("pgid"), report.value("pid"));
        assert_eq!(report.value("ppid"), supervisor);
    }
}

#[test]
fn the_environment_can_be_added_to() {
    let setup = Setup::new("-i 2 --env A=1 --env C=late --env-step PORT");
    let dir = crate::harness::Dir::new();
    let file = dir.write("env", "# a comment\nB= two words \nC=early\nKEPT\n", 0o644);
    let mut clinit = setup
        .arg("--env-file")
        .arg(file)
        .env("PORT", "3000")
        .env("KEPT", "kept")
        .worker("report-env A,B,C,KEPT,PORT wait")
        .start();
    for (slot, report) in (0..).zip(clinit.reports("env", 2)) {
        assert_eq!(report.value("A"), "1");
        assert_eq!(report.value("B"), " two words ");
        assert_eq!(report.value("C"), "late", "--env is the stronger one");
        assert_eq!(report.value("KEPT"), "kept");
        assert_eq!(report.value("PORT"), (3000 + slot).to_string());
    }
}

#[test]
fn a_worker_runs_in_its_directory() {
    let dir = crate::harness::Dir::new();
    let directory = dir.path("");
    let directory = directory.trim_end_matches('/');
    for options in ["-i 1", ""] {
        let mut clinit = Setup::new(options)
            .arg("--chdir")
            .arg(directory)
            .worker("report-place wait")
            .start();
        assert_eq!(clinit.report("place").value("cwd"), directory);
    }
}

#[test]
fn a_worker_runs_as_its_user() {
    if !is_root() {
        return;
    }
    for (user, uid, gid) in [("1000:1001", 1000, 1001), ("4321", 4321, 0)] {
        let mut clinit = Setup::new("-i 1 -l 127.0.0.1:0 --user")
            .arg(user)
            .worker("report-ids report-place report-sockets wait")
            .start();
        let report = clinit.report("ids");
        assert_eq!(
            report.value("uid"),
            format!("{uid}\t").repeat(4).trim().replace('\t', " ")
        );
        assert_eq!(
            report.value("gid"),
            format!("{gid}\t").repeat(4).trim().replace('\t', " ")
        );
        assert_eq!(report.value("groups"), "", "root's groups are not its own");
        // setuid(2) clears it.
        assert_ne!(clinit.report("place").value("pdeathsig"), "0");
        assert_eq!(clinit.report("sockets").fields.len(), 1);
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn pinned_workers_have_a_cpu_each() {
    let mut clinit = Setup::new("-i 2 --pin").worker("report-place wait").start();
    let places = clinit.reports("place", 2);
    let cpus: Vec<&str> = places.iter().map(|place| place.value("cpus")).collect();
    if clinit.log().contains("--pin is ignored") {
        assert_eq!(cpus[0], cpus[1]);
        return;
    }
    let is_one = |cpus: &&str| cpus.chars().all(|c| c.is_ascii_digit());
    assert!(cpus.iter().all(is_one), "{cpus:?}");
    let all = std::thread::available_parallelism().unwrap().get();
    assert_eq!(cpus[0] == cpus[1], all == 1, "{cpus:?}");
}

#[test]
fn arguments_are_rendered_for_each_worker() {
    let mut clinit = Setup::new("-i 2 -l web=127.0.0.1:0 -l 127.0.0.1:0")
        .worker("report-args {slot} {fd} {fd:web} x{slot}-{port:web}y {other} {} {fd:web . report-sockets wait")
        .start();
    let sockets = clinit.reports("sockets", 2);
    let port = sockets[0].value("3").rsplit_once(':').unwrap().1.to_owned();
    for (slot, report) in (0..).zip(clinit.reports("args", 2)) {
        let expected = [
            format!("{slot}"),
            "3".into(),
            "3".into(),
            format!("x{slot}-{port}y"),
            "{other}".into(),
            "{}".into(),
            "{fd:web".into(),
        ];
        assert_eq!(report.fields, expected);
    }
}

#[test]
fn init_mode_leaves_arguments_alone() {
    let mut clinit = Setup::new("")
        .worker("report-args {slot} {fd} {port:web} . wait")
        .start();
    assert_eq!(
        clinit.report("args").fields,
        ["{slot}", "{fd}", "{port:web}"]
    );
}

#[test]
fn a_worker_that_says_ready_is_ready() {
    let gate = crate::harness::Dir::new();
    let fifo = gate.fifo("gate");
    let mut clinit = Setup::new("-i 1 --ready notify")
        .worker(&format!("report up await {fifo} ready wait"))
        .start();
    let worker = clinit.report("report").pid;
    assert!(!clinit.log().contains("is ready"), "{}", clinit.log());
    drop(File::options().write(true).open(fifo).unwrap());
    let line = clinit.wait_for_log("is ready");
    assert!(line.contains(&format!("pid={worker}")), "{line}");
}

#[test]
fn a_worker_that_is_a_master_itself_is_multiplied_out_once() {
    let master = "child [ report up wait ] child [ report up wait ] await";
    let gate = crate::harness::Dir::new();
    let fifo = gate.fifo("gate");
    let mut clinit = Setup::new("-i 2 --ready notify")
        .worker(&format!("if-slot 0 [ {master} {fifo} ready ] wait"))
        .start();
    // Both children have to be there before the one worker says ready.
    let _ = clinit.reports("report", 2);
    drop(File::options().write(true).open(fifo).unwrap());
    clinit.wait_for_log("each worker runs 2 workers of its own: 2 x 2 = 4 in all");
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0);
    assert_eq!(ended.log.matches("of its own").count(), 1, "{}", ended.log);
}

#[test]
fn a_helper_of_the_worker_may_say_ready_and_be_gone() {
    let mut clinit = Setup::new("-i 1 --ready notify")
        .worker("child [ ready ] reap wait")
        .start();
    clinit.wait_for_log("is ready");
}

#[test]
fn as_many_workers_as_asked_for() {
    let workers = |options: &str| {
        let ended = Setup::new("cpus -i").arg(options).run();
        ended.expect(0);
        let count = ended
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("workers"));
        count
            .unwrap_or_else(|| panic!("{}", ended.stdout))
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    let max = workers("max");
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(
        (1..=cpus.max(1)).contains(&max),
        "max is {max} of {cpus} CPUs"
    );
    for (count, expected) in [
        ("max", max),
        ("0", max),
        ("5", 5),
        ("3x", 3 * max),
        ("1%", 1),
        ("max-1", (max - 1).max(1)),
        ("-1", (max - 1).max(1)),
        ("max-1000", 1),
    ] {
        assert_eq!(workers(count), expected, "-i {count}");
        let mut clinit = Setup::new("-i").arg(count).worker("report up wait").start();
        let _ = clinit.reports("report", expected);
        // A surplus one would have been started before the signal is read.
        let ended = clinit.end_by(libc::SIGTERM);
        ended
            .expect(0)
            .says(&format!("starting {} workers={expected}", *WORKER));
    }
}

#[test]
fn a_bound_holds_for_what_is_worked_out() {
    let mut clinit = Setup::new("-i 8x --max-instances 2")
        .worker("report up wait")
        .start();
    let _ = clinit.reports("report", 2);
    clinit.end_by(libc::SIGTERM).expect(0).says("workers=2");
}

#[test]
fn neither_arguments_nor_values_are_ever_logged() {
    let mut clinit =
        Setup::new("-i 2 --backoff 1ms..1ms --max-restarts 2 --log-level trace --env K=topsecret1")
            .env("PASSWORD", "topsecret2")
            .worker("report-args topsecret3 . exit 3")
            .start();
    let _ = clinit.reports("args", 4);
    let ended = clinit.end();
    ended.expect(3);
    assert!(!ended.log.contains("topsecret"), "{}", ended.log);
}

#[test]
fn the_log_can_be_json() {
    let mut clinit = Setup::new("-i 2 -l web=127.0.0.1:0 --log-format json --log-level debug")
        .worker("report up wait")
        .start();
    let _ = clinit.reports("report", 2);
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0);
    for line in ended.log.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(
            object["level"].is_string() && object["message"].is_string(),
            "{line}"
        );
    }
    let last: serde_json::Value = serde_json::from_str(ended.log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["message"], &last["code"]),
        (&"exiting".into(), &0.into())
    );
}

#[test]
fn control_bytes_from_outside_are_escaped_in_the_log() {
    let dir = crate::harness::Dir::new();
    let name = "a\u{1b}[31m\nclinit: exiting code=0";
    let path = dir.path(name.split('/').next().unwrap());
    let ended = Setup::new("-i 1").command(&[path]).run();
    ended.expect(127);
    assert!(!ended.log.contains('\u{1b}'), "{:?}", ended.log);
    let closing = ended
        .log
        .lines()
        .filter(|line| line.starts_with("clinit: exiting"));
    assert_eq!(closing.count(), 1, "{:?}", ended.log);
}

/// A test of the harness: it must not confuse one process with another.
#[test]
fn what_still_runs_is_not_gone() {
    let mut clinit = Setup::new("-i 1").worker("report up wait").start();
    let pid = clinit.report("report").pid;
    let watched = Gone::watch(&[pid]);
    let caught = std::panic::catch_unwind(|| watched.assert());
    assert!(caught.is_err(), "{CLINIT}");
    clinit.end_by(libc::SIGTERM).expect(0);
    watched.assert();
}
