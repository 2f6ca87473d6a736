//! No signal is lost: not in a flood of them while orphans are reaped and the
//! machine is busy, and not where there is no room for more.

use std::collections::BTreeMap;

use clinit::sys::clock::monotonic_ms;

use crate::harness::{
    Clinit, Report, Setup, WORKER, both, cannot_run, is_root, program, send, send_with_value,
    status_field, try_send_with_value,
};

/// How many are sent in all.
const FLOOD: usize = 10_000;

/// These merge while they wait, whoever sends them how.
const STANDARD: [i32; 6] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGABRT,
    libc::SIGSEGV,
    libc::SIGTERM,
    libc::SIGCONT,
];

/// These never do. The C libraries keep the first three to themselves.
const REAL_TIME: [i32; 9] = [32, 33, 34, 35, 40, 47, 59, 63, 64];

/// The most that may wait in one queue: the senders have to keep to it.
const ROOM: u32 = 200;

fn has_prlimit() -> bool {
    program("prlimit").is_some() || cannot_run("RING 3", "tests of limits need prlimit(1)")
}

/// Signals that the child has reported.
#[derive(Default)]
struct Seen {
    /// The values of each real-time one, in their order.
    values: BTreeMap<i32, Vec<usize>>,
    /// How often each standard one, and when last.
    standard: BTreeMap<i32, (usize, u64)>,
}

impl Seen {
    fn take_in(&mut self, reports: &[Report]) {
        for report in reports.iter().filter(|report| report.word == "signal") {
            let signal: i32 = report.fields[0].parse().unwrap();
            if STANDARD.contains(&signal) {
                let (count, last) = self.standard.entry(signal).or_default();
                *count += 1;
                *last = report.value("at").parse().unwrap();
            } else {
                assert_eq!(report.value("code"), "-1", "SI_QUEUE: {report}");
                let value = report.value("value").parse().unwrap();
                self.values.entry(signal).or_default().push(value);
            }
        }
    }
}

/// The moment, no later than now, on the clock of the reports.
fn now() -> u64 {
    monotonic_ms() * 1_000_000
}

#[test]
fn ten_thousand_signals_under_load_lose_none() {
    if !has_prlimit() {
        return;
    }
    for as_pid1 in both() {
        let limit = format!("--sigpending={ROOM}");
        let mut clinit = Setup::new("--orphan-grace 0s")
            .through(&["prlimit", &limit])
            .pid1(as_pid1)
            .worker(
                "setsid-child [ churn 50 ] setsid-child [ spin ] \
                 on all,32,33 report report up wait",
            )
            .start();
        let _ = clinit.report("report");
        let own = clinit.pid();
        let mut seen = Seen::default();
        let mut sent: BTreeMap<i32, (usize, u64)> = BTreeMap::new();
        for index in 0..FLOOD {
            // Two of five are standard ones, sent in either way.
            let is_standard = index % 5 < 2;
            let signal = if is_standard {
                STANDARD[index / 5 % STANDARD.len()]
            } else {
                REAL_TIME[index / 5 % REAL_TIME.len()]
            };
            let (count, last) = sent.entry(signal).or_default();
            *last = now();
            if index % 5 == 0 {
                send(own, signal);
            } else {
                let value = *count;
                clinit.wait_until("room for a signal", |clinit| {
                    if try_send_with_value(own, signal, value) {
                        return Some(());
                    }
                    seen.take_in(&clinit.reports_so_far());
                    None
                });
            }
            *count += 1;
        }
        let wanted: usize = REAL_TIME.iter().map(|signal| sent[signal].0).sum();
        clinit.wait_until("all of them", |clinit| {
            seen.take_in(&clinit.reports_so_far());
            let came: usize = seen.values.values().map(Vec::len).sum();
            // None is lost after the last one of its kind.
            let has_last = |signal: &i32| {
                let last = seen.standard.get(signal).map(|(_, at)| *at);
                last >= Some(sent[signal].1)
            };
            (came >= wanted && STANDARD.iter().all(has_last)).then_some(())
        });
        for signal in REAL_TIME {
            let expected: Vec<usize> = (0..sent[&signal].0).collect();
            assert_eq!(seen.values[&signal], expected, "signal {signal}");
        }
        for signal in STANDARD {
            let (came, of) = (seen.standard[&signal].0, sent[&signal].0);
            assert!((1..=of).contains(&came), "signal {signal}: {came} of {of}");
        }
        nothing_is_left_over(&mut clinit, own);
    }
}

/// One more of each comes, and comes once: nothing was late or doubled.
fn nothing_is_left_over(clinit: &mut Clinit, own: i32) {
    for signal in STANDARD.into_iter().chain(REAL_TIME) {
        send(own, signal);
        let report = clinit.report("signal");
        assert_eq!(report.fields[0], signal.to_string(), "{report}");
    }
}

/// How many signals the child takes before it has no room, and how many more
/// it is sent.
const FEW: usize = 64;
const MORE: usize = 20;

/// A child of a user of its own, so that nobody else's signals take its room,
/// which looks at none until `go` is opened.
fn without_room(options: &str, as_pid1: bool) -> (Clinit, i32, String) {
    let limit = format!("--sigpending={FEW}");
    let setup = Setup::new(options).pid1(as_pid1);
    let go = setup.dir.fifo("go");
    let script = format!("on 40,41,USR1,TERM report report up await {go} wait");
    let words = ["prlimit", &limit, &*WORKER];
    let words: Vec<&str> = words.into_iter().chain(script.split(' ')).collect();
    let mut clinit = setup.command(&words).start();
    let child = clinit.report("report").pid;
    let child = clinit.seen_from_here(child);
    let own = clinit.pid();
    for value in 0..FEW + MORE {
        send_with_value(own, 40, value);
    }
    (clinit, child, go)
}

fn go(path: &str) {
    drop(std::fs::File::options().write(true).open(path).unwrap());
}

fn is_pending(pid: i32, signal: i32) -> bool {
    let pending = status_field(pid, "ShdPnd:").unwrap();
    u64::from_str_radix(&pending, 16).unwrap() >> (signal - 1) & 1 == 1
}

#[test]
fn what_the_child_has_no_room_for_waits_and_holds_nothing_else_up() {
    if !has_prlimit() || !is_root() {
        return;
    }
    for as_pid1 in both() {
        let options = "--user 54321:54321 --log-level debug";
        let (mut clinit, child, path) = without_room(options, as_pid1);
        clinit.wait_for_log("the child's queue of signals is full");
        // Another real-time one waits behind them, sent in whichever way.
        clinit.signal(41);
        for signal in [libc::SIGUSR1, libc::SIGTERM] {
            clinit.signal(signal);
            clinit.wait_until("it passes the others by", |_| {
                is_pending(child, signal).then_some(())
            });
        }
        assert!(!is_pending(child, 41));
        go(&path);
        for signal in [libc::SIGUSR1, libc::SIGTERM] {
            assert_eq!(clinit.report("signal").fields[0], signal.to_string());
        }
        for value in 0..FEW + MORE {
            let report = clinit.report("signal");
            assert_eq!(report.fields[0], "40", "{report}");
            assert_eq!(report.value("value"), value.to_string());
        }
        assert_eq!(clinit.report("signal").fields[0], "41");
        // And all is as before.
        clinit.signal_with_value(40, 9);
        assert_eq!(clinit.report("signal").value("value"), "9");
    }
}

#[test]
fn a_worker_without_room_loses_a_value_and_no_signal() {
    if !has_prlimit() || !is_root() {
        return;
    }
    let (mut clinit, _, path) = without_room("-i 1 --user 54321:54321", false);
    clinit.wait_for_nth_log("SIGRTMIN+6 loses its value", MORE);
    go(&path);
    for value in 0..FEW {
        assert_eq!(clinit.report("signal").value("value"), value.to_string());
    }
    clinit.signal_with_value(41, 9);
    assert_eq!(clinit.report("signal").fields[0], "41");
}
