//! Orphans: who adopts them, and who reaps them.

use crate::harness::{children, status_field};
use crate::run::Run;

/// Who becomes the parent of an orphan.
pub(crate) fn adopts(run: &Run<'_>) -> String {
    let mut init = run
        .worker("setsid-child [ daemonize report up wait ] reap report done wait")
        .start();
    let own = init.pid().to_string();
    let reports = init.reports("report", 2);
    let orphan = reports
        .iter()
        .find(|report| report.text() == "up")
        .expect("the orphan")
        .pid;
    let parent = status_field(orphan, "PPid:");
    super::kill(orphan);
    if parent.as_deref() == Some(own.as_str()) {
        "the init".into()
    } else {
        "another".into()
    }
}

/// Whether orphans that have ended are reaped.
pub(crate) fn reaps(run: &Run<'_>) -> String {
    let mut init = run.worker("fork-orphans 50 report up wait").start();
    let own = init.pid();
    let _ = init.report("report");
    init.wait_until("only the main child is left", |_| {
        (children(own).len() == 1).then_some(())
    });
    "all of them".into()
}
