//! Clinit and its child as one job of a shell's, at a real terminal.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use crate::harness::{Clinit, Setup, can_be_pid1, children, program, send, state, terminal};
use crate::terminal::at_a_terminal;

const CTRL_C: &[u8] = b"\x03";
const CTRL_Z: &[u8] = b"\x1a";

/// A signal that tells that all earlier ones have come: it is the last one in
/// the queue.
const LAST: i32 = 63;

/// Shells that have job control where there is a terminal.
const SHELLS: [&[&str]; 2] = [
    &["sh", "-m", "-c"],
    &["bash", "--norc", "--noprofile", "-i", "-c"],
];

/// A script's way to run clinit with its arguments.
const CLINIT: &str = "\"$@\"";

/// Clinit, run by a shell that leads a terminal's session.
struct Job {
    master: File,
    clinit: Clinit,
    shell: i32,
    supervisor: i32,
    child: i32,
}

impl Job {
    fn start(shell: &[&str], script: &str, child: &str) -> Self {
        Self::start_with(shell, script, Setup::new("").worker(child))
    }

    /// The child's script begins with `report-pids`.
    fn start_with(shell: &[&str], script: &str, setup: Setup) -> Self {
        let (master, slave) = terminal();
        let words = [&["setsid", "--ctty"], shell, &[script, "shell"]].concat();
        let mut clinit = setup.through(&words).stdin(slave).start();
        let pids = clinit.report("pids");
        Self {
            master,
            shell: pids.value("sid").parse().unwrap(),
            supervisor: pids.value("ppid").parse().unwrap(),
            child: pids.pid,
            clinit,
        }
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    fn await_foreground(&mut self, group: i32) {
        let master = &self.master;
        let what = format!("the terminal is with {group}");
        self.clinit
            .wait_until(&what, |_| (foreground(master) == group).then_some(()));
    }

    fn await_stopped(&mut self, stopped: bool, pids: &[i32]) {
        let what = format!("{pids:?} stopped: {stopped}");
        self.clinit.wait_until(&what, |_| {
            let all = pids.iter().all(|&pid| (state(pid) == Some('T')) == stopped);
            all.then_some(())
        });
    }

    /// The child gets this signal, and gets it once.
    fn await_once(&mut self, signal: i32) {
        await_once(&mut self.clinit, signal, self.supervisor);
    }

    fn expect(self, text: &str) {
        let ended = self.clinit.end();
        let said = ended.stdout.contains(text);
        assert!(said, "no {text:?} in {:?}\n{}", ended.stdout, ended.log);
    }
}

fn await_once(clinit: &mut Clinit, signal: i32, supervisor: i32) {
    while clinit.report("signal").fields[0] != signal.to_string() {}
    send(supervisor, LAST);
    loop {
        let next = clinit.report("signal");
        if next.fields[0] == LAST.to_string() {
            return;
        }
        assert_ne!(next.fields[0], signal.to_string(), "it came twice");
    }
}

fn foreground(master: &File) -> i32 {
    // SAFETY: tcgetpgrp touches no memory of ours.
    unsafe { libc::tcgetpgrp(master.as_raw_fd()) }
}

fn resize(master: &File, columns: u16) {
    let size = libc::winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads a size that lives through the call.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    assert_eq!(result, 0);
}

/// The shells that there are. The terminal tests need setsid(1) and bash.
fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    let there = ["setsid", "bash"]
        .iter()
        .all(|name| program(name).is_some())
        || crate::harness::cannot_run("RING 3", "job control tests need setsid(1) and bash(1)");
    SHELLS.into_iter().filter(move |_| there)
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_all_of_it() {
    // Run by the shell, and by a script that the shell runs.
    let by_script = format!("sh -c '{CLINIT}; exit $?' script {CLINIT}");
    let ways = [CLINIT, &by_script];
    for (shell, way) in shells().flat_map(|shell| ways.map(|way| (shell, way))) {
        let script = format!("{way}; read go; fg; echo \"ended with $?\"");
        let mut job = Job::start(
            shell,
            &script,
            "report-pids child [ wait ] on CONT report on 63 report on INT exit 7 report up wait",
        );
        let _ = job.clinit.report("report");
        let mut all = children(job.child);
        all.extend([job.child, job.supervisor]);
        assert_eq!(all.len(), 3);
        job.await_foreground(job.child);
        job.type_in(CTRL_Z);
        job.await_stopped(true, &all);
        job.await_foreground(job.shell);
        job.type_in(b"go\n");
        job.await_foreground(job.child);
        job.await_stopped(false, &all);
        job.await_once(libc::SIGCONT);
        job.type_in(CTRL_C);
        job.expect("ended with 7");
    }
}

#[test]
fn bg_continues_it_without_the_terminal() {
    for shell in shells() {
        let script = format!("{CLINIT}; bg; read go; fg; echo \"ended with $?\"");
        let child = "report-pids on CONT report on 63 report on INT exit 7 report up wait";
        let mut job = Job::start(shell, &script, child);
        let _ = job.clinit.report("report");
        job.type_in(CTRL_Z);
        job.await_once(libc::SIGCONT);
        assert_eq!(foreground(&job.master), job.shell);
        // Bash sends a job nothing that runs as it is given the terminal: what
        // is typed then comes by way of clinit.
        job.type_in(b"go\n");
        let (master, shell) = (&job.master, job.shell);
        job.clinit.wait_until("it is given the terminal", |_| {
            (foreground(master) != shell).then_some(())
        });
        job.type_in(CTRL_C);
        job.expect("ended with 7");
    }
}

#[test]
fn in_the_background_it_is_stopped_as_it_reads() {
    for shell in shells() {
        let script = format!("{CLINIT} & read go; fg; echo \"ended with $?\"");
        let mut job = Job::start(shell, &script, "report-pids report-stdin exit 4");
        assert_eq!(foreground(&job.master), job.shell);
        let both = [job.supervisor, job.child];
        // Neither of the shells gives a job with job control another stdin.
        job.await_stopped(true, &both);
        assert_eq!(foreground(&job.master), job.shell);
        job.type_in(b"go\n");
        job.await_foreground(job.child);
        job.type_in(b"typed\n\x04");
        assert_eq!(job.clinit.report("stdin").text(), "typed ");
        job.expect("ended with 4");
    }
}

#[test]
fn in_the_background_it_is_stopped_as_it_writes_where_that_is_asked_for() {
    for shell in shells() {
        let script = format!("stty tostop; {CLINIT} >&0 & read go; fg >&2; exit $?");
        let child = Setup::new("").worker("report-pids exec sh -c");
        let mut job = Job::start_with(shell, &script, child.arg("echo x; exit 4"));
        let both = [job.supervisor, job.child];
        job.await_stopped(true, &both);
        assert_eq!(foreground(&job.master), job.shell);
        job.type_in(b"go\n");
        job.clinit.end().expect(4);
    }
}

/// A script, unlike a shell with job control, does not take the terminal for
/// itself.
#[test]
fn whoever_started_clinit_has_the_terminal_afterwards() {
    for shell in shells().map(|shell| &shell[..1]) {
        let script = format!("{CLINIT}; read line; echo \"got $line\"");
        let shell = [shell, &["-c"]].concat();
        let mut job = Job::start(&shell, &script, "report-pids on 63 exit 3 report up wait");
        let _ = job.clinit.report("report");
        job.await_foreground(job.child);
        send(job.supervisor, LAST);
        job.await_foreground(job.shell);
        job.type_in(b"typed\n");
        job.expect("got typed");
    }
}

/// The rest of the child's group has no use for the keyboard.
#[test]
fn ctrl_c_hurries_the_end_of_what_is_left() {
    for as_pid1 in [false, true] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        let setup = Setup::new("--orphan-grace 10m").pid1(as_pid1);
        let Some((mut master, setup)) = at_a_terminal(setup) else {
            return;
        };
        let child = "child [ block TERM report a wait ] on 63 exit 5 report b wait";
        let mut clinit = setup.worker(child).start();
        let _ = clinit.reports("report", 2);
        let supervisor = clinit.pid();
        assert_ne!(foreground(&master), supervisor);
        clinit.signal(LAST);
        clinit.wait_until("clinit has the terminal back", |_| {
            (foreground(&master) == supervisor).then_some(())
        });
        master.write_all(CTRL_C).unwrap();
        clinit.end().expect(5);
    }
}

/// `unshare` leaves the session as it is, whose groups have no number there.
#[test]
fn as_process_1_of_a_session_from_outside_it_knows_the_foreground() {
    if !can_be_pid1() {
        return;
    }
    let unshare = "unshare --pid --fork --mount-proc --kill-child";
    for shell in shells() {
        let start = |script: &str, child: &str| {
            let (master, slave) = terminal();
            let words = [&["setsid", "--ctty"], shell, &[script, "shell"]].concat();
            let setup = Setup::new("").through(&words).stdin(slave);
            let mut clinit = setup.worker(child).start();
            let _ = clinit.report("report");
            (master, clinit)
        };
        let script = format!("{unshare} {CLINIT}; echo \"ended with $?\"");
        let (mut master, clinit) = start(&script, "on INT exit 7 report up wait");
        master.write_all(CTRL_C).unwrap();
        assert!(clinit.end().stdout.contains("ended with 7"));

        let script = format!("{unshare} {CLINIT} & read line; kill -63 %1; wait; echo $line");
        let (mut master, mut clinit) = start(&script, "on 63 exit 7 report up wait");
        assert_eq!(foreground(&master), clinit.pid());
        master.write_all(b"typed\n").unwrap();
        assert!(clinit.end().stdout.contains("typed"));
    }
}

/// Its keys a pager reads from /dev/tty.
#[test]
fn what_has_another_stdin_is_lent_the_terminal_once_it_asks() {
    for shell in shells().map(|shell| &shell[..1]) {
        let script =
            format!("{CLINIT} </dev/null; echo \"ended with $?\"; read line; echo \"got $line\"");
        let shell = [shell, &["-c"]].concat();
        let child = Setup::new("").worker("report-pids exec sh -c");
        let child = child.arg("read x </dev/tty; exit $x");
        let mut job = Job::start_with(&shell, &script, child);
        job.await_foreground(job.child);
        job.type_in(b"9\n");
        job.await_foreground(job.shell);
        job.type_in(b"typed\n");
        job.expect("ended with 9\ngot typed");
    }
}

#[test]
fn what_has_another_stdin_and_does_not_ask_leaves_the_terminal_alone() {
    for shell in shells().map(|shell| &shell[..1]) {
        let script = format!("{CLINIT} & read line; kill -63 $!; wait $!; echo \"$? $line\"");
        let shell = [shell, &["-c"]].concat();
        let mut job = Job::start(&shell, &script, "report-pids on 63 exit 3 report up wait");
        let _ = job.clinit.report("report");
        assert_eq!(foreground(&job.master), job.shell);
        job.type_in(b"typed\n");
        job.expect("3 typed");
    }
}

#[test]
fn what_the_terminal_raises_comes_once() {
    // With the terminal, and without: then it comes by way of clinit.
    for redirection in ["", "</dev/null"] {
        for shell in shells().map(|shell| &shell[..1]) {
            let script = format!("trap : INT QUIT; {CLINIT} {redirection}; echo \"ended with $?\"");
            let shell = [shell, &["-c"]].concat();
            let child = "report-pids on INT report on QUIT report on WINCH report on 63 report \
                         on TERM exit 5 report up wait";
            let mut job = Job::start(&shell, &script, child);
            let _ = job.clinit.report("report");
            resize(&job.master, 100);
            job.await_once(libc::SIGWINCH);
            job.type_in(CTRL_C);
            job.await_once(libc::SIGINT);
            job.type_in(b"\x1c");
            job.await_once(libc::SIGQUIT);
            send(job.supervisor, libc::SIGTERM);
            job.expect("ended with 5");
        }
    }
}

#[test]
fn a_hang_up_comes_once_with_its_cont() {
    let child = "on HUP report on CONT report on 63 report on TERM exit 5 report up wait";
    for as_pid1 in [false, true] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        let Some((master, setup)) = at_a_terminal(Setup::new("").pid1(as_pid1)) else {
            return;
        };
        let mut clinit = setup.worker(child).start();
        let _ = clinit.report("report");
        let supervisor = clinit.pid();
        drop(master);
        let first = clinit.report("signal").fields.swap_remove(0);
        send(supervisor, LAST);
        let rest = [(); 2].map(|()| clinit.report("signal").fields.swap_remove(0));
        assert_eq!(first, libc::SIGHUP.to_string());
        assert_eq!(rest, [libc::SIGCONT, LAST].map(|signal| signal.to_string()));
        clinit.end_by(libc::SIGTERM).expect(5);
    }
}

/// Nobody is there who could continue it: without clinit the kernel would not
/// stop it either.
#[test]
fn without_a_shell_ctrl_z_stops_nothing_for_good() {
    let child = "report-pids on CONT report on 63 report on INT exit 7 report up wait";
    for as_pid1 in [false, true] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        let Some((mut master, setup)) = at_a_terminal(Setup::new("").pid1(as_pid1)) else {
            return;
        };
        let mut clinit = setup.worker(child).start();
        let _ = clinit.report("report");
        let supervisor = clinit.pid();
        master.write_all(CTRL_Z).unwrap();
        await_once(&mut clinit, libc::SIGCONT, supervisor);
        master.write_all(CTRL_C).unwrap();
        clinit.end().expect(7);
    }
}

/// A shell with job control below clinit.
#[test]
fn a_shell_that_is_the_child_has_job_control() {
    for as_pid1 in [false, true] {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        for shell in shells() {
            let Some((mut master, setup)) = at_a_terminal(Setup::new("").pid1(as_pid1)) else {
                return;
            };
            let script = "\"$@\"; read go; fg; exit $?";
            let worker = "report-pids on INT exit 7 report up wait";
            let inner = [shell, &[script, "shell", &*crate::harness::WORKER]].concat();
            let words: Vec<&str> = inner.into_iter().chain(worker.split(' ')).collect();
            let mut clinit = setup.command(&words).start();
            let pid = clinit.report("report").pid;
            let job = clinit.seen_from_here(pid);
            master.write_all(CTRL_Z).unwrap();
            clinit.wait_until("it stops", |_| (state(job) == Some('T')).then_some(()));
            master.write_all(b"go\n").unwrap();
            clinit.wait_until("it goes on", |_| (state(job) != Some('T')).then_some(()));
            clinit.wait_until("it has the terminal", |_| {
                (foreground(&master) == job).then_some(())
            });
            master.write_all(CTRL_C).unwrap();
            clinit.end().expect(7);
        }
    }
}
