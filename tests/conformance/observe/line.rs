//! The command line: what is printed, what is refused, what is run.

use crate::harness::Ended;
use crate::run::Run;

/// The exit code and the first line that is printed, with its stream.
fn printed(run: &Run<'_>, ended: &Ended) -> String {
    let first = |text: &str| {
        text.lines()
            .next()
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    };
    let code = ended.code();
    match (ended.stdout.is_empty(), ended.log.is_empty()) {
        (true, true) => format!("{code}"),
        (false, _) => format!("{code}, stdout: {}", first(&ended.stdout)),
        (true, false) => format!(
            "{code}, stderr: {}",
            run.without_path(&without_pids(&first(&ended.log)))
        ),
    }
}

/// A line with N in place of each pid.
pub(crate) fn without_pids(line: &str) -> String {
    const BEFORE: [&str; 8] = [
        "tini (",
        "catatonit:",
        "pid '",
        "pid: '",
        "with PID ",
        "pid=",
        "pid1 (",
        "child process ",
    ];
    let mut line = line.to_owned();
    for before in BEFORE {
        let mut from = 0;
        while let Some(found) = line.get(from..).and_then(|rest| rest.find(before)) {
            let start = from + found + before.len();
            let rest = line.get(start..).unwrap_or_default();
            let digits = rest.chars().take_while(char::is_ascii_digit).count();
            if digits > 0 {
                line.replace_range(start..start + digits, "N");
            }
            from = start;
        }
    }
    line
}

/// With the row's options alone.
pub(crate) fn prints(run: &Run<'_>) -> String {
    printed(run, &run.bare().run())
}

/// The exit code, and which stream a usage is printed on.
pub(crate) fn usage(run: &Run<'_>) -> String {
    let ended = run.bare().run();
    let has_usage = |text: &str| text.to_lowercase().contains("usage: ");
    let on = match (has_usage(&ended.stdout), has_usage(&ended.log)) {
        (true, false) => "usage on stdout",
        (false, true) => "usage on stderr",
        (true, true) => "usage on both",
        (false, false) => "no usage",
    };
    format!("{}, {on}", ended.code())
}

/// The exit code alone, and that of a command which exits with 3 where the
/// row's options let it run.
pub(crate) fn runs(run: &Run<'_>) -> String {
    run.bare()
        .arg("--")
        .arg("sh")
        .arg("-c")
        .arg("exit 3")
        .run()
        .code()
        .to_string()
}

/// The same without `--`, so that `-c` may be taken for an option.
pub(crate) fn runs_without_dashes(run: &Run<'_>) -> String {
    run.bare()
        .arg("sh")
        .arg("-c")
        .arg("exit 3")
        .run()
        .code()
        .to_string()
}

/// What is said of a command that cannot be run.
fn cannot_run(run: &Run<'_>, command: &str) -> String {
    printed(run, &run.bare().arg("--").arg(command).run())
}

pub(crate) fn runs_what_is_missing(run: &Run<'_>) -> String {
    cannot_run(run, "/nonexistent")
}

pub(crate) fn runs_what_is_no_program(run: &Run<'_>) -> String {
    cannot_run(run, "/etc/passwd")
}

pub(crate) fn runs_a_directory(run: &Run<'_>) -> String {
    cannot_run(run, "/")
}

pub(crate) fn runs_nothing(run: &Run<'_>) -> String {
    cannot_run(run, "")
}

/// An executable file without `#!`.
pub(crate) fn runs_a_bare_script(run: &Run<'_>) -> String {
    let setup = run.bare();
    let script = setup.dir.write("script", "exit 9\n", 0o755);
    setup.arg("--").arg(script).run().code().to_string()
}

/// The exit code where there is nothing to run.
pub(crate) fn runs_no_program(run: &Run<'_>) -> String {
    run.bare().run().code().to_string()
}
