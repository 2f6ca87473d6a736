//! The main child's end, and what it leaves behind.

use super::{FENCE, Seen, kill, named};
use crate::harness::{send, state};
use crate::run::Run;

/// The exit codes for several kinds of end.
pub(crate) fn statuses(run: &Run<'_>) -> String {
    let ends = [
        "exit 0",
        "exit 3",
        "exit 255",
        "kill-self TERM",
        "kill-self KILL",
        "kill-self RTMIN+3",
    ];
    ends.map(|end| run.worker(end).run().code().to_string())
        .join(" ")
}

/// What becomes of two that outlive the main child, one in its group and one
/// in a session of its own.
pub(crate) fn survivors(run: &Run<'_>) -> String {
    let listens = format!("ignore USR1 on TERM,{FENCE} report report");
    let script = format!(
        "child [ {listens} group wait ] setsid-child [ {listens} session wait ] \
         on USR1 exit 5 report main wait"
    );
    let mut init = run.worker(&script).start();
    let reports = init.reports("report", 3);
    let survivors = ["group", "session"].map(|name| (name, named(&reports, name)));
    let mut seen = Seen::default();
    init.signal(libc::SIGUSR1);
    init.wait_until("its end", |init| init.has_ended().then_some(()));
    survivors
        .map(|(name, pid)| {
            if !lives(pid) {
                return format!("{name}: is killed");
            }
            send(pid, FENCE);
            seen.until(&mut init, pid, FENCE);
            kill(pid);
            let got = seen.of(pid).contains(&libc::SIGTERM);
            format!(
                "{name}: {}",
                if got { "gets TERM" } else { "is left alone" }
            )
        })
        .join(", ")
}

/// Whether survivors that heed no TERM hold up the end.
pub(crate) fn stubborn(run: &Run<'_>) -> String {
    let script = "child [ ignore TERM,USR1 report group wait ] on USR1 exit 5 report main wait";
    let mut init = run.worker(script).start();
    let survivor = named(&init.reports("report", 2), "group");
    init.signal(libc::SIGUSR1);
    init.wait_until("its end", |init| init.has_ended().then_some(()));
    let lives = lives(survivor);
    if lives {
        kill(survivor);
    }
    let told = if lives { "lives" } else { "is dead" };
    format!("{}, the survivor {told}", init.end().code())
}

fn lives(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}
