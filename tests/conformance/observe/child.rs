//! What the child is given, and what the init keeps.

use std::fs;

use super::catch_up;
use crate::harness::{Report, Setup, WORKER};
use crate::run::Run;

/// The mask and the ignored signals: those that the init was started with, or
/// what has become of them.
pub(crate) fn signals(run: &Run<'_>) -> String {
    let dirty = [
        "block",
        "USR1,URG,RTMIN+1",
        "ignore",
        "PIPE,TTOU,INT",
        "exec",
    ];
    let found = |setup: Setup| {
        let mut init = setup.start();
        let report = init.report("mask");
        (
            report.value("blocked").to_owned(),
            report.value("ignored").to_owned(),
        )
    };
    let direct = [WORKER.as_str()]
        .into_iter()
        .chain(dirty)
        .collect::<Vec<_>>();
    let bare = Setup::new("")
        .program(&*WORKER)
        .words(&dirty.join(" "))
        .arg(&*WORKER);
    let expected = found(bare.words("report-mask wait"));
    let seen = found(run.worker("report-mask wait").through(&direct));
    let told = |(expected, seen): (String, String)| {
        if expected == seen {
            return "kept".to_owned();
        }
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let (expected, seen) = (number(&expected), number(&seen));
        let without = names(" without ", expected & !seen);
        let with = names(" and ", seen & !expected);
        format!("{without}{with}").trim().to_owned()
    };
    let blocked = told((expected.0, seen.0));
    let ignored = told((expected.1, seen.1));
    format!("blocked: {blocked}; ignored: {ignored}")
}

fn names(before: &str, set: u64) -> String {
    let numbers = (1..=64).filter(|number| set & (1 << (number - 1)) != 0);
    let numbers: Vec<String> = numbers.map(|number: u32| number.to_string()).collect();
    if numbers.is_empty() {
        String::new()
    } else {
        format!("{before}{}", numbers.join(" "))
    }
}

/// A descriptor that the init was given: whether each still has it.
pub(crate) fn descriptors(run: &Run<'_>) -> String {
    let open = ["sh", "-c", "exec 7</dev/null; exec \"$@\"", "sh"];
    let mut init = run
        .worker("on all report report-fds wait")
        .through(&open)
        .start();
    let fds = init.report("fds");
    let child = fds.fields.iter().any(|field| field.starts_with("7="));
    catch_up(&mut init, fds.pid);
    let own = fs::read_link(format!("/proc/{}/fd/7", init.pid())).is_ok();
    let told = |has| if has { "has it" } else { "has not" };
    format!("the child {}, the init {}", told(child), told(own))
}

/// What becomes of a start with descriptor 0 closed.
pub(crate) fn closed_stdin(run: &Run<'_>) -> String {
    let close = ["sh", "-c", "exec \"$@\" <&-", "sh"];
    let mut init = run.worker("report-fds exit 3").through(&close).start();
    let fds = init.wait_until("its report, or its end", |init| {
        let report = init
            .reports_so_far()
            .into_iter()
            .find(|report| report.word == "fds");
        match report {
            Some(report) => Some(Some(report)),
            None => init.has_ended().then_some(None),
        }
    });
    let code = init.end().code();
    let is_open = |report: Report| report.fields.iter().any(|field| field.starts_with("0="));
    match fds.map(is_open) {
        None => format!("never runs, {code}"),
        Some(true) => format!("something is there, {code}"),
        Some(false) => format!("is closed for the child, {code}"),
    }
}

/// Whom `LISTEN_PID` names that named the init.
pub(crate) fn listen_pid(run: &Run<'_>) -> String {
    let set = ["sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"];
    let mut init = run
        .worker("report-env LISTEN_PID wait")
        .through(&set)
        .start();
    let report = init.report("env");
    let named: i32 = report.value("LISTEN_PID").parse().expect("a pid");
    if named == report.pid {
        "the child".into()
    } else {
        "the init".into()
    }
}

/// Where both run.
pub(crate) fn directory(run: &Run<'_>) -> String {
    let cd = ["sh", "-c", "cd /usr; exec \"$@\"", "sh"];
    let mut init = run
        .worker("on all report report-place wait")
        .through(&cd)
        .start();
    let report = init.report("place");
    let child = report.value("cwd").to_owned();
    catch_up(&mut init, report.pid);
    let own = fs::read_link(format!("/proc/{}/cwd", init.pid())).expect("its cwd");
    format!("the child {child}, the init {}", own.display())
}

/// The child's group and session.
pub(crate) fn group(run: &Run<'_>) -> String {
    let mut init = run.worker("report-pids wait").start();
    let report = init.report("pids");
    let pid = report.value("pid");
    match (report.value("pgid") == pid, report.value("sid") == pid) {
        (_, true) => "its own session".into(),
        (true, false) => "its own group".into(),
        (false, false) => "the init's group".into(),
    }
}

/// Whether the init's own variables come to the child.
pub(crate) fn variables(run: &Run<'_>) -> String {
    let mut init = run.worker("report-env-names wait").start();
    let names = init.report("env-names").fields;
    let of_inits = ["TINI_", "DUMB_INIT_", "CATATONIT_"];
    let kept: Vec<String> = names
        .into_iter()
        .filter(|name| of_inits.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    if kept.is_empty() {
        "none".into()
    } else {
        kept.join(" ")
    }
}

/// Where the soft limit of descriptors is for the child what it was.
pub(crate) fn limits(run: &Run<'_>) -> String {
    let lower = [WORKER.as_str(), "set-nofile", "77", "exec"];
    let mut init = run.worker("report-place wait").through(&lower).start();
    let nofile = init.report("place").value("nofile").to_owned();
    nofile.split('/').next().unwrap_or_default().to_owned()
}
