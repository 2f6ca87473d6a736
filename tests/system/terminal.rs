//! Clinit at a real terminal.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};

use crate::harness::{Setup, program, terminal};

/// A terminal that clinit is to lead a session on, and its master, whose end
/// is a hang-up.
pub(crate) fn at_a_terminal(setup: Setup) -> Option<(File, Setup)> {
    if program("setsid").is_none() {
        crate::harness::cannot_run("RING 3", "terminal tests need setsid(1)");
        return None;
    }
    let (master, slave) = terminal();
    Some((master, setup.through(&["setsid", "--ctty"]).stdin(slave)))
}

#[test]
fn a_terminal_that_is_gone_is_a_shutdown() {
    let Some((master, setup)) = at_a_terminal(Setup::new("-i 2")) else {
        return;
    };
    let mut clinit = setup.worker("report up wait").start();
    let _ = clinit.reports("report", 2);
    drop(master);
    let ended = clinit.end();
    ended.expect(0).says("SIGHUP");
}

#[test]
fn ctrl_c_is_a_shutdown() {
    let Some((mut master, setup)) = at_a_terminal(Setup::new("-i 2")) else {
        return;
    };
    let mut clinit = setup.worker("report up wait").start();
    let _ = clinit.reports("report", 2);
    master.write_all(b"\x03").unwrap();
    clinit.end().expect(0).says("SIGINT");
}

#[test]
fn in_init_mode_the_child_may_read_the_terminal() {
    let Some((mut master, setup)) = at_a_terminal(Setup::new("")) else {
        return;
    };
    let mut clinit = setup.worker("report up report-stdin exit 6").start();
    let _ = clinit.report("report");
    master.write_all(b"typed\n\x04").unwrap();
    assert_eq!(clinit.report("stdin").text(), "typed ");
    clinit.end().expect(6);
}

#[test]
fn in_init_mode_ctrl_c_is_the_childs() {
    let Some((mut master, setup)) = at_a_terminal(Setup::new("")) else {
        return;
    };
    let mut clinit = setup.worker("report up wait").start();
    let _ = clinit.report("report");
    master.write_all(b"\x03").unwrap();
    clinit.end().expect(130);
}

#[test]
fn a_log_to_a_terminal_that_stops_background_writers_is_written() {
    let (mut master, slave) = terminal();
    let script = "stty tostop; \"$@\" & wait $!";
    let mut clinit = Setup::new("-i 1")
        .through(&["setsid", "--ctty", "sh", "-m", "-c", script, "sh"])
        .stdin(slave.try_clone().unwrap())
        .stderr(slave)
        .worker("report-pids wait")
        .start();
    let supervisor: i32 = clinit.report("pids").value("ppid").parse().unwrap();
    crate::harness::send(supervisor, libc::SIGTERM);
    let ended = clinit.end();
    assert_eq!(ended.status.code(), Some(0));
    let mut said = Vec::new();
    let result = master.read_to_end(&mut said);
    // The end of a terminal is an error: EIO.
    assert!(result.is_ok() || result.is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("clinit: exiting code=0"), "{said}");
}
