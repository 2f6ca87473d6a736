//! Signals that are sent to the init.

use std::fs::File;

use super::{FENCE, Seen, kill, named, until_the_fence};
use crate::harness::{Clinit, Setup, WORKER, send, state, status_field};
use crate::run::Run;

/// The standard ones that can be caught, save CHLD, and those that stop, which
/// are looked at one by one.
const CATCHABLE: [(i32, &str); 25] = [
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGILL, "ILL"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGPIPE, "PIPE"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGSTKFLT, "STKFLT"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGURG, "URG"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGIO, "IO"),
    (libc::SIGPWR, "PWR"),
    (libc::SIGSYS, "SYS"),
];

const LISTENS: &str = "on all report report up wait";

/// Which of the standard signals do not come to the child.
pub(crate) fn forwarded(run: &Run<'_>) -> String {
    let (mut lost, mut deadly) = (Vec::new(), Vec::new());
    let mut running = None;
    for (number, name) in CATCHABLE {
        let (init, child) = running.get_or_insert_with(|| {
            let mut init = run.worker(LISTENS).start();
            let child = init.report("report").pid;
            (init, child)
        });
        init.signal(number);
        match until_the_fence(init, *child) {
            Some(seen) if seen == [number] => {}
            Some(_) => lost.push(name),
            None => {
                kill(*child);
                deadly.push(name);
                running = None;
            }
        }
    }
    match (lost.join(" "), deadly.join(" ")) {
        (lost, deadly) if lost.is_empty() && deadly.is_empty() => "all".into(),
        (lost, deadly) if deadly.is_empty() => format!("all but {lost}"),
        (lost, deadly) if lost.is_empty() => format!("all but {deadly}, which kill it"),
        (lost, deadly) => format!("all but {lost}, and {deadly}, which kill it"),
    }
}

/// What becomes of a real-time signal that carries a value.
pub(crate) fn real_time(run: &Run<'_>) -> String {
    let mut init = run.worker(LISTENS).start();
    let _ = init.report("report");
    init.signal_with_value(38, 7);
    let report = init.report("signal");
    let number = report.fields.first().cloned().unwrap_or_default();
    format!("signal {number}, value {}", report.value("value"))
}

/// Whether it is the child or its whole process group that a signal goes to.
pub(crate) fn target(run: &Run<'_>) -> String {
    let listens = format!("on USR1,{FENCE} report report");
    let script = format!("child [ {listens} inner wait ] {listens} outer wait");
    let mut init = run.worker(&script).start();
    let reports = init.reports("report", 2);
    let [inner, outer] = ["inner", "outer"].map(|name| named(&reports, name));
    init.signal(libc::SIGUSR1);
    let mut seen = Seen::default();
    seen.until(&mut init, outer, libc::SIGUSR1);
    // The kernel sends it to all of a group in one go.
    send(inner, FENCE);
    seen.until(&mut init, inner, FENCE);
    if seen.of(inner).contains(&libc::SIGUSR1) {
        "its process group".into()
    } else {
        "the child".into()
    }
}

/// What becomes of those that stop a process.
pub(crate) fn stops(run: &Run<'_>) -> String {
    let of = [
        (libc::SIGTSTP, "TSTP"),
        (libc::SIGTTIN, "TTIN"),
        (libc::SIGTTOU, "TTOU"),
    ];
    of.map(|(number, name)| format!("{name} {}", stop(run, number)))
        .join(", ")
}

fn stop(run: &Run<'_>, number: i32) -> String {
    let mut init = run.worker(LISTENS).start();
    let child = init.report("report").pid;
    let own = init.pid();
    init.signal(number);
    init.signal(FENCE);
    let mut seen = Seen::default();
    let stops = init.wait_until("a stop, or the fence", |init| {
        seen.take_in(init);
        if state(own) == Some('T') {
            return Some(true);
        }
        seen.of(child).contains(&FENCE).then_some(false)
    });
    // What it was sent before that it takes before this.
    send(child, FENCE);
    let child_stops = init.wait_until("a stop, or the fence", |init| {
        seen.take_in(init);
        if state(child) == Some('T') {
            return Some(true);
        }
        seen.of(child).contains(&FENCE).then_some(false)
    });
    let of_child = match (child_stops, seen.of(child).contains(&number)) {
        (true, _) => "stops the child",
        (false, true) => "is forwarded",
        (false, false) => "is ignored",
    };
    let of_itself = if stops { ", then stops itself" } else { "" };
    format!("{of_child}{of_itself}")
}

/// What TERM, INT and QUIT are to the child.
pub(crate) fn rewritten(run: &Run<'_>) -> String {
    let mut init = run.worker(LISTENS).start();
    let child = init.report("report").pid;
    let of = [
        (libc::SIGTERM, "TERM"),
        (libc::SIGINT, "INT"),
        (libc::SIGQUIT, "QUIT"),
    ];
    of.map(|(number, name)| {
        init.signal(number);
        match until_the_fence(&mut init, child).as_deref() {
            Some([]) => format!("{name} is nothing"),
            Some([only]) => format!("{name} is {only}"),
            other => format!("{name} is {other:?}"),
        }
    })
    .join(", ")
}

/// An init whose parent has died: that parent, the init, and its child.
fn orphaned(run: &Run<'_>) -> (Clinit, i32, i32) {
    let line = run.command_line(LISTENS);
    let setup = Setup::new("").program(&*WORKER);
    let gate = setup.dir.fifo("gate");
    let script = format!("child [ exec {line} ] await {gate}");
    let mut parent = setup.words(&script).start();
    let child = parent.report("report").pid;
    let init = status_field(child, "PPid:").and_then(|pid| pid.parse().ok());
    // Opened and closed: the parent ends.
    drop(File::options().write(true).open(&gate).expect("the gate"));
    parent.wait_until("its end", |parent| parent.has_ended().then_some(()));
    (parent, init.expect("its parent"), child)
}

/// What the init passes on when its parent has died.
pub(crate) fn parent_death(run: &Run<'_>) -> String {
    let (mut parent, init, child) = orphaned(run);
    send(init, FENCE);
    let mut seen = Seen::default();
    seen.until(&mut parent, child, FENCE);
    kill(init);
    kill(child);
    match seen.of(child).as_slice() {
        [FENCE] => "nothing".into(),
        [signal, ..] => format!("signal {signal}"),
        [] => String::new(),
    }
}

/// What becomes of the child where its parent's death kills the init.
pub(crate) fn parent_death_kills(run: &Run<'_>) -> String {
    let (mut parent, init, child) = orphaned(run);
    let is_gone = |pid| state(pid).is_none_or(|state| state == 'Z');
    parent.wait_until("the init's end", |_| is_gone(init).then_some(()));
    if is_gone(child) {
        return "the child is killed".into();
    }
    send(child, FENCE);
    let mut seen = Seen::default();
    parent.wait_until("the child's end, or the fence", |parent| {
        seen.take_in(parent);
        if seen.of(child).contains(&FENCE) {
            kill(child);
            return Some("the child lives".into());
        }
        is_gone(child).then(|| "the child is killed".into())
    })
}

/// The exit code of an init that was told to run nothing, and then this.
fn pause_ended_by(run: &Run<'_>, signal: i32) -> String {
    let mut init = run.bare().start();
    let own = init.pid();
    // It waits: its signals are blocked.
    init.wait_until("its signals are blocked", |_| {
        let blocked = status_field(own, "SigBlk:")?;
        let blocked = u64::from_str_radix(&blocked, 16).ok()?;
        (blocked & (1 << (signal - 1)) != 0).then_some(())
    });
    init.end_by(signal).code().to_string()
}

pub(crate) fn pause_ended_by_int(run: &Run<'_>) -> String {
    pause_ended_by(run, libc::SIGINT)
}

pub(crate) fn pause_ended_by_term(run: &Run<'_>) -> String {
    pause_ended_by(run, libc::SIGTERM)
}
