//! Every signal, as PID 1 and as a subreaper, in each of clinit's modes: what
//! the child saw of it, and what clinit did.

use std::os::unix::fs::symlink;

use crate::harness::{CLINIT, Clinit, Setup, both, cannot_run, children, program, send, state};

/// What clinit is to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// The child gets it, with its value.
    Forwards,
    /// The child gets another one, with the value.
    ForwardsAs(i32),
    /// Nobody gets anything.
    Ignores,
    /// Workers leave, and so does clinit.
    ShutsDown,
    /// A worker of the next generation comes.
    Reloads,
    ScalesUp,
    ScalesDown,
    /// Workers stop, and so does clinit where it is not PID 1.
    Suspends,
    /// Workers that are stopped go on.
    Resumes,
}

impl Does {
    fn is_for_the_child(self) -> bool {
        matches!(self, Self::Forwards | Self::ForwardsAs(_) | Self::Ignores)
    }
}

/// Clinit, called in one way, and what it then does.
struct Face {
    name: &'static str,
    setup: fn() -> Setup,
    does: fn(i32) -> Does,
}

/// One row for each way to call it.
const FACES: [Face; 9] = [
    Face {
        name: "init mode",
        setup: || Setup::new(""),
        does: |_| Does::Forwards,
    },
    Face {
        name: "init mode, to the group",
        setup: || Setup::new("-g"),
        does: |_| Does::Forwards,
    },
    Face {
        name: "init mode, rerouted",
        setup: || {
            Setup::new(
                "--signal TERM=QUIT --signal 32=RTMAX --signal RTMAX=TTIN \
                 --signal CHLD=ignore --signal SIGABRT=ignore --signal USR1=forward",
            )
        },
        does: |signal| match signal {
            libc::SIGTERM => Does::ForwardsAs(libc::SIGQUIT),
            32 => Does::ForwardsAs(64),
            64 => Does::ForwardsAs(libc::SIGTTIN),
            libc::SIGCHLD | libc::SIGABRT => Does::Ignores,
            _ => Does::Forwards,
        },
    },
    Face {
        name: "cluster mode",
        setup: || Setup::new("-i 1 --ready after:0s --settle 0s"),
        // The README's table.
        does: |signal| match signal {
            libc::SIGHUP => Does::Reloads,
            libc::SIGINT | libc::SIGQUIT | libc::SIGTERM => Does::ShutsDown,
            libc::SIGCONT => Does::Resumes,
            libc::SIGTSTP => Does::Suspends,
            libc::SIGTTIN => Does::ScalesUp,
            libc::SIGTTOU => Does::ScalesDown,
            _ => Does::Forwards,
        },
    },
    Face {
        name: "tini",
        setup: || called("tini", "-s"),
        does: |_| Does::Forwards,
    },
    Face {
        name: "docker-init",
        setup: || called("docker-init", "-s -g"),
        does: |_| Does::Forwards,
    },
    Face {
        name: "catatonit",
        setup: || called("catatonit", ""),
        does: |_| Does::Forwards,
    },
    Face {
        name: "dumb-init",
        setup: || called("dumb-init", ""),
        does: |signal| match signal {
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Does::Suspends,
            _ => Does::Forwards,
        },
    },
    Face {
        name: "dumb-init, rewriting",
        setup: || called("dumb-init", "-c -r 15:3 -r 1:0"),
        does: |signal| match signal {
            libc::SIGTERM => Does::ForwardsAs(libc::SIGQUIT),
            libc::SIGHUP => Does::Ignores,
            _ => Does::Forwards,
        },
    },
];

/// Clinit by another init's name.
fn called(name: &str, options: &str) -> Setup {
    let setup = Setup::new(options);
    let path = setup.path(name);
    symlink(CLINIT, &path).unwrap();
    setup.program(path)
}

/// Every signal that can be caught, those that the C libraries keep to
/// themselves included.
fn catchable() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
}

/// A child that says what it gets and stays.
const TELLS: &str = "on all,CHLD,32,33 report report-env CLINIT_GENERATION wait";

/// One that leaves where it is asked to.
const LEAVES: &str = "on TERM exit 0 on all report report-env CLINIT_GENERATION wait";

#[test]
fn every_signal_does_what_its_table_says() {
    for face in &FACES {
        for as_pid1 in both() {
            let told = format!("{}, PID 1: {as_pid1}", face.name);
            forwards(face, as_pid1, &told);
            for signal in catchable() {
                let told = format!("{told}, signal {signal}");
                let does = (face.does)(signal);
                if !does.is_for_the_child() {
                    acts(face, does, signal, as_pid1, &told);
                }
            }
        }
    }
}

/// What comes to the child, all of it one child's and in order: what comes in
/// excess is seen in place of the next one.
fn forwards(face: &Face, as_pid1: bool, told: &str) {
    let mut clinit = (face.setup)().pid1(as_pid1).worker(TELLS).start();
    let _ = clinit.report("env");
    for signal in catchable() {
        let told = format!("{told}, signal {signal}");
        let seen = match (face.does)(signal) {
            Does::Forwards => signal,
            Does::ForwardsAs(other) => other,
            Does::Ignores => {
                clinit.signal(signal);
                clinit.signal_with_value(signal, 1);
                continue;
            }
            Does::ShutsDown
            | Does::Reloads
            | Does::ScalesUp
            | Does::ScalesDown
            | Does::Suspends
            | Does::Resumes => continue,
        };
        clinit.signal(signal);
        saw(&mut clinit, seen, libc::SI_USER, None, &told);
        let value = 0x7_0000_0000 + usize::try_from(signal).unwrap();
        clinit.signal_with_value(signal, value);
        saw(&mut clinit, seen, libc::SI_QUEUE, Some(value), &told);
    }
}

#[track_caller]
fn saw(clinit: &mut Clinit, signal: i32, code: i32, value: Option<usize>, told: &str) {
    let report = clinit.report("signal");
    assert_eq!(report.fields[0], signal.to_string(), "{told}");
    assert_eq!(report.value("code"), code.to_string(), "{told}");
    if let Some(value) = value {
        assert_eq!(report.value("value"), value.to_string(), "{told}");
    }
}

/// What clinit does itself.
fn acts(face: &Face, does: Does, signal: i32, as_pid1: bool, told: &str) {
    let mut clinit = (face.setup)().pid1(as_pid1).worker(LEAVES).start();
    let first = clinit.report("env").pid;
    let worker = clinit.seen_from_here(first);
    let own = clinit.pid();
    match does {
        Does::Forwards | Does::ForwardsAs(_) | Does::Ignores => unreachable!("{told}"),
        Does::ShutsDown => {
            let ended = clinit.end_by(signal);
            assert_eq!(ended.code(), 0, "{told}: {}", ended.log);
        }
        Does::Reloads => {
            clinit.signal(signal);
            let successor = clinit.report("env");
            assert_eq!(successor.text(), "CLINIT_GENERATION=2", "{told}");
            saw(&mut clinit, libc::SIGTERM, libc::SI_USER, None, told);
            clinit.end_by(libc::SIGTERM).expect(0);
        }
        Does::ScalesUp => {
            clinit.signal(signal);
            assert_eq!(clinit.report("env").slot, "1", "{told}");
            clinit.end_by(libc::SIGTERM).expect(0);
        }
        Does::ScalesDown => {
            clinit.signal(libc::SIGTTIN);
            assert_eq!(clinit.report("env").slot, "1", "{told}");
            clinit.signal(signal);
            assert_eq!(clinit.report("signal").slot, "1", "{told}");
            clinit.wait_until(told, |_| (children(own) == [worker]).then_some(()));
            // Never none.
            clinit.signal(signal);
            clinit.wait_for_log("the number of workers is at its bound");
            clinit.end_by(libc::SIGTERM).expect(0);
        }
        Does::Suspends => {
            clinit.signal(signal);
            let stopped = |pid| state(pid) == Some('T');
            clinit.wait_until(told, |_| stopped(worker).then_some(()));
            if !as_pid1 {
                clinit.wait_until(told, |_| stopped(own).then_some(()));
            }
            clinit.signal(libc::SIGCONT);
            clinit.wait_until(told, |_| (!stopped(worker) && !stopped(own)).then_some(()));
            clinit.end_by(libc::SIGTERM).expect(0);
        }
        Does::Resumes => {
            send(worker, libc::SIGSTOP);
            clinit.wait_until(told, |_| (state(worker) == Some('T')).then_some(()));
            clinit.signal(signal);
            clinit.wait_until(told, |_| (state(worker) != Some('T')).then_some(()));
            clinit.end_by(libc::SIGTERM).expect(0);
        }
    }
}

#[test]
fn a_signal_ends_the_child_as_it_would_without_clinit() {
    for as_pid1 in both() {
        for signal in [
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGABRT,
            libc::SIGSEGV,
            libc::SIGSYS,
            libc::SIGTRAP,
            37,
        ] {
            let mut clinit = Setup::new("")
                .pid1(as_pid1)
                .worker("report up wait")
                .start();
            let _ = clinit.report("report");
            clinit.end_by(signal).expect(128 + signal);
        }
    }
}

#[test]
fn the_whole_group_gets_it_with_its_value() {
    for as_pid1 in both() {
        for options in ["-g", "-g -i 1"] {
            let mut clinit = Setup::new(options)
                .pid1(as_pid1)
                .worker(
                    "child [ on all report report member wait ] \
                     setsid-child [ on all report report stranger wait ] \
                     on all report report leader wait",
                )
                .start();
            let up = (0..3).map(|_| clinit.report("report"));
            let members = up.filter(|report| report.text() != "stranger");
            let mut members: Vec<_> = members.map(|report| report.pid).collect();
            members.sort_unstable();
            let all_saw = |clinit: &mut Clinit, signal: i32, code: &str, value: &str| {
                let mut seen: Vec<_> = (0..2).map(|_| clinit.report("signal")).collect();
                seen.sort_by_key(|report| report.pid);
                let pids: Vec<_> = seen.iter().map(|report| report.pid).collect();
                assert_eq!(pids, members, "{options}, PID 1: {as_pid1}");
                for report in seen {
                    assert_eq!(report.fields[0], signal.to_string(), "{report}");
                    assert_eq!(report.value("code"), code, "{report}");
                    assert!(code == "0" || report.value("value") == value, "{report}");
                }
            };
            for signal in [libc::SIGUSR1, libc::SIGABRT, 40] {
                clinit.signal(signal);
                all_saw(&mut clinit, signal, "0", "");
                clinit.signal_with_value(signal, 77);
                all_saw(&mut clinit, signal, "-1", "77");
            }
        }
    }
}

#[test]
fn a_signal_may_mean_a_shutdown_or_a_reload() {
    for as_pid1 in both() {
        let mut clinit = Setup::new(
            "-i 1 --ready after:0s --settle 0s --signal TERM=forward --signal RTMIN=reload",
        )
        .env("CLINIT_SIGNAL", "USR1=ignore")
        .pid1(as_pid1)
        .worker("on TERM,USR1 report report-env CLINIT_GENERATION wait")
        .start();
        let _ = clinit.report("env");
        // The command line wins, as a whole.
        for signal in [libc::SIGTERM, libc::SIGUSR1] {
            clinit.signal(signal);
            assert_eq!(clinit.report("signal").fields[0], signal.to_string());
        }
        clinit.signal(34);
        assert_eq!(clinit.report("env").text(), "CLINIT_GENERATION=2");
    }
    let mut clinit = Setup::new("-i 1")
        .env("CLINIT_SIGNAL", "HUP=ignore,RTMIN+1=shutdown")
        .worker("report up wait")
        .start();
    let _ = clinit.report("report");
    clinit.signal(libc::SIGHUP);
    clinit.end_by(35).expect(0).says("SIGRTMIN+1");
}

/// A file that may not grow has the kernel send clinit SIGXFSZ for each line of
/// its log: that is not the child's.
#[test]
fn what_clinits_own_log_raises_is_not_forwarded() {
    if program("prlimit").is_none() {
        cannot_run("RING 3", "tests of limits need prlimit(1)");
        return;
    }
    for as_pid1 in both() {
        let setup = Setup::new("--log-level debug");
        let full = std::fs::File::create(setup.path("log")).unwrap();
        let mut clinit = setup
            .through(&["prlimit", "--fsize=0"])
            .stderr(full)
            .pid1(as_pid1)
            .worker("on all report report up wait")
            .start();
        let _ = clinit.report("report");
        for signal in [libc::SIGUSR1, libc::SIGUSR2] {
            clinit.signal(signal);
            assert_eq!(clinit.report("signal").fields[0], signal.to_string());
        }
        // One that is sent is.
        clinit.signal(libc::SIGXFSZ);
        let report = clinit.report("signal");
        assert_eq!(report.fields[0], libc::SIGXFSZ.to_string());
    }
}
