//! What it says of what it does.

use super::line::without_pids;
use crate::harness::{Ended, WORKER};
use crate::run::Run;

/// All lines of both streams, with N for pids.
fn said(ended: &Ended) -> String {
    let lines = ended.stdout.lines().chain(ended.log.lines());
    let lines: Vec<String> = lines
        .map(|line| without_pids(line).replace(WORKER.as_str(), "worker"))
        .collect();
    if lines.is_empty() {
        "nothing".into()
    } else {
        lines.join(" / ")
    }
}

/// Of a child that exits.
pub(crate) fn of_an_exit(run: &Run<'_>) -> String {
    said(&run.worker("exit 3").run())
}

/// The first line of it.
pub(crate) fn first_of_an_exit(run: &Run<'_>) -> String {
    let said = of_an_exit(run);
    said.split(" / ").next().unwrap_or_default().to_owned()
}

/// Whether `text` is said. Another process may say something in the middle of
/// a line, but not in the middle of this.
fn if_said(said: &str, text: &str) -> String {
    let found = said.contains(text);
    if found { text } else { "nothing of it" }.to_owned()
}

/// As catatonit says it.
pub(crate) fn of_pid1(run: &Run<'_>) -> String {
    if_said(&of_an_exit(run), "pid1 (N) spawned: worker")
}

/// As catatonit says it.
pub(crate) fn of_a_child_process(run: &Run<'_>) -> String {
    if_said(&of_an_orphan(run), "child process N exited with code 0")
}

/// Of a signal that ends the child.
pub(crate) fn of_a_signal(run: &Run<'_>) -> String {
    let mut init = run.worker("report up wait").start();
    let _ = init.report("report");
    let said = said(&init.end_by(libc::SIGTERM));
    // The child may be found dead before the signal that tells of it is read.
    let lines = said
        .split(" / ")
        .filter(|line| !line.ends_with("Received SIGCHLD"));
    lines.collect::<Vec<_>>().join(" / ")
}

/// Of an orphan that it reaps.
pub(crate) fn of_an_orphan(run: &Run<'_>) -> String {
    let mut init = run
        .worker("fork-orphans 1 on USR1 exit 0 report up wait")
        .start();
    let own = init.pid();
    let _ = init.report("report");
    init.wait_until("the orphan is reaped", |_| {
        (crate::harness::children(own).len() == 1).then_some(())
    });
    said(&init.end_by(libc::SIGUSR1))
}
