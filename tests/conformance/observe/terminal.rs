//! A start at a terminal, as `docker run -it` is one.

use std::fs::File;
use std::io::Write as _;

use super::FENCE;
use crate::harness::{Clinit, program, state, status_field, terminal};
use crate::run::Run;

/// The init as a session's leader at a terminal.
fn start(run: &Run<'_>, script: &str) -> (File, Clinit) {
    assert!(program("setsid").is_some(), "setsid(1) is not installed");
    let (master, slave) = terminal();
    let setup = run
        .worker(script)
        .through(&["setsid", "--ctty"])
        .stdin(slave);
    (master, setup.start())
}

/// Whether the child may read what is typed.
pub(crate) fn typed(run: &Run<'_>) -> String {
    let (mut master, mut init) = start(run, "report up report-stdin exit 6");
    let _ = init.report("report");
    master.write_all(b"typed\n\x04").unwrap();
    let read = init.report("stdin").text().trim().to_owned();
    format!("{read:?}, {}", init.end().code())
}

/// What Ctrl-C comes to.
pub(crate) fn ctrl_c(run: &Run<'_>) -> String {
    let (mut master, mut init) = start(run, "report up wait");
    let _ = init.report("report");
    master.write_all(b"\x03").unwrap();
    format!("ends the child, {}", init.end().code())
}

/// What Ctrl-Z comes to, and Ctrl-C after it, where nobody could continue the
/// init.
pub(crate) fn ctrl_z(run: &Run<'_>) -> String {
    let (mut master, mut init) = start(run, "block 40 on INT report report up wait");
    let child = init.report("report").pid;
    let own = init.pid();
    master.write_all(b"\x1a\x03").unwrap();
    let is_stopped = |_: &mut Clinit| (state(child) == Some('T')).then_some(true);
    let stops = init.wait_until("a stop, or an interrupt", |init| {
        let is_interrupted = !init.reports_so_far().is_empty();
        is_stopped(init).or(is_interrupted.then_some(false))
    });
    if stops {
        // It may be continued at once: the init comes round its loop.
        for _ in 0..3 {
            init.signal(FENCE);
            init.wait_until("it is taken in", |_| {
                let pending = status_field(own, "ShdPnd:")?;
                let pending = u64::from_str_radix(&pending, 16).ok()?;
                (pending & (1 << (FENCE - 1)) == 0).then_some(())
            });
        }
        if is_stopped(&mut init).is_some() {
            return "stops the child".into();
        }
    }
    "does nothing".into()
}
