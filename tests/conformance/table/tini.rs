//! tini 0.19.0, which is docker-init too.

use super::{
    LAST_WORDS, OWN_LICENSE, Row, SURVIVES_CLOSED_STDIN, TELLS_ITS_NAME, USERS_FAULTS, USERS_STOPS,
    VALUES, row,
};
use crate::observe::{child, ending, line, signals, terminal, tree, verbose};

pub(crate) const TINI: &[Row] = &[
    // ---- the command line ----
    row("`--version`", line::prints, "0, stdout: tini version 0.19.0")
        .with("--version")
        .but("0, stdout: tini version 0.19.0 - git.clinit-0-1-0", TELLS_ITS_NAME),
    row("`--version` that is not alone", line::usage, "1, usage on stderr").with("--version -s"),
    row("no arguments", line::usage, "1, usage on stderr"),
    row("options and no program", line::usage, "1, usage on stderr").with("-s --"),
    row("`-h`", line::usage, "0, usage on stdout").with("-h"),
    row("`-l`", line::prints, "0, stdout: The MIT License (MIT)")
        .with("-l")
        .but("0, stdout: clinit: Apache-2.0 OR MIT", OWN_LICENSE),
    row("an unknown option", line::usage, "1, usage on stderr").with("-x"),
    row("an unknown option: the first line", line::prints, "1, stderr: INIT: invalid option -- 'x'")
        .with("-x"),
    row("an option without its value", line::usage, "1, usage on stderr").with("-p"),
    row("a program after `--`", line::runs, "3").with("-s"),
    row("options in one word", line::runs, "3").with("-sgw"),
    row("a program with options and no `--`", line::runs_without_dashes, "1").with("-s"),
    row("the same, with `POSIXLY_CORRECT`", line::runs_without_dashes, "3")
        .with("-s")
        .env(&[("POSIXLY_CORRECT", "1")]),
    row("`-e 3`, and the program exits with 3", line::runs, "0").with("-s -e 3"),
    row("`-e`, in one word and repeated", line::runs, "0").with("-s -e4 -e3"),
    row("`-e 4`, and the program exits with 3", line::runs, "3").with("-s -e 4"),
    row("`-e 256`", line::prints, "1, stderr: [FATAL tini (N)] Not a valid option for -e: 256")
        .with("-e 256 true"),
    row("`-e x`", line::prints, "1, stderr: [FATAL tini (N)] Not a valid option for -e: x")
        .with("-e x true"),
    row("`-p TERM`", line::prints, "1, stderr: [FATAL tini (N)] Not a valid option for -p: TERM")
        .with("-p TERM true"),
    // ---- signals ----
    row("standard signals that come to the child", signals::forwarded,
        "all but ILL TRAP ABRT BUS FPE SEGV SYS, which kill it")
        .with("-s")
        .but("all", USERS_FAULTS),
    row("the same as process 1", signals::forwarded, "all but ILL TRAP ABRT BUS FPE SEGV SYS")
        .process1()
        .but("all", USERS_FAULTS),
    row("signals that stop", signals::stops, "TSTP is forwarded, TTIN is ignored, TTOU is ignored")
        .with("-s")
        .but("TSTP is forwarded, TTIN is forwarded, TTOU is forwarded", USERS_STOPS),
    row("a real-time signal with a value", signals::real_time, "signal 38, value 0")
        .with("-s")
        .but("signal 38, value 7", VALUES),
    row("whom signals go to", signals::target, "the child").with("-s"),
    row("the same with `-g`", signals::target, "its process group").with("-s -g"),
    row("the same with `TINI_KILL_PROCESS_GROUP`, even empty", signals::target, "its process group")
        .with("-s")
        .env(&[("TINI_KILL_PROCESS_GROUP", "")]),
    row("`-p SIGUSR1`, and the parent dies", signals::parent_death, "signal 10").with("-s -p SIGUSR1"),
    row("the parent dies", signals::parent_death, "nothing").with("-s"),
    row("`-p SIGKILL`, and the parent dies", signals::parent_death_kills, "the child lives")
        .with("-s -p SIGKILL")
        .but("the child is killed", "nobody would be left to forward anything to it"),
    // ---- the child ----
    row("blocked and ignored signals", child::signals, "blocked: kept; ignored: kept").with("-s"),
    row("a descriptor 7", child::descriptors, "the child has it, the init has it")
        .with("-s")
        .but("the child has it, the init has not", "it would be held open for ever"),
    row("stdin is closed", child::closed_stdin, "never runs, 1")
        .with("-s")
        .but("is closed for the child, 3", SURVIVES_CLOSED_STDIN),
    row("`LISTEN_PID` that names the init", child::listen_pid, "the init")
        .with("-s")
        .but("the child", "the sockets are for the child, which would leave them alone"),
    row("the working directory", child::directory, "the child /usr, the init /usr")
        .with("-s")
        .but("the child /usr, the init /", "a file system could never be unmounted"),
    row("the child's group", child::group, "its own group").with("-s"),
    row("tini's variables", child::variables, "TINI_SUBREAPER TINI_VERBOSITY")
        .env(&[("TINI_SUBREAPER", ""), ("TINI_VERBOSITY", "0")]),
    row("the soft limit of descriptors, 77", child::limits, "77").with("-s"),
    // ---- its end ----
    row("how the child ends: 0, 3, 255, by TERM, KILL, 37", ending::statuses, "0 3 255 143 137 165").with("-s"),
    row("what is not there", line::runs_what_is_missing,
        "127, stderr: [FATAL tini (N)] exec /nonexistent failed: No such file or directory").with("-s"),
    row("what is not executable", line::runs_what_is_no_program,
        "126, stderr: [FATAL tini (N)] exec /etc/passwd failed: Permission denied").with("-s"),
    row("a directory", line::runs_a_directory, "126, stderr: [FATAL tini (N)] exec / failed: Permission denied").with("-s"),
    row("an empty name", line::runs_nothing,
        "127, stderr: [FATAL tini (N)] exec  failed: No such file or directory").with("-s"),
    row("a script without `#!`", line::runs_a_bare_script, "9").with("-s"),
    row("what the child leaves behind", ending::survivors, "group: is left alone, session: is left alone"),
    row("what the child leaves behind, with `-s`", ending::survivors, "group: is left alone, session: is left alone")
        .with("-s")
        .but("group: gets TERM, session: gets TERM", LAST_WORDS),
    row("survivors that heed no TERM", ending::stubborn, "5, the survivor lives").with("-s"),
    // ---- orphans ----
    row("who adopts an orphan", tree::adopts, "another"),
    row("who adopts an orphan, with `-s`", tree::adopts, "the init").with("-s"),
    row("who adopts an orphan, with `TINI_SUBREAPER`, even empty", tree::adopts, "the init")
        .env(&[("TINI_SUBREAPER", "")]),
    row("orphans that end", tree::reaps, "all of them").process1(),
    row("orphans that end, with `-s`", tree::reaps, "all of them").with("-s"),
    // ---- what it says ----
    row("what it says where it adopts none", verbose::of_an_exit,
        "[WARN  tini (N)] Tini is not running as PID 1 and isn't registered as a child subreaper. / Zombie processes will not be re-parented to Tini, so zombie reaping won't work. / To fix the problem, use the -s option or set the environment variable TINI_SUBREAPER to register Tini as a child subreaper, or run Tini as PID 1."),
    row("the same with `TINI_VERBOSITY=0`", verbose::of_an_exit, "nothing")
        .env(&[("TINI_VERBOSITY", "0")]),
    row("what it says as process 1", verbose::of_an_exit, "nothing").process1(),
    row("what it says with `-s`", verbose::of_an_exit, "nothing").with("-s"),
    row("what it says with `-v`", verbose::of_an_exit,
        "[INFO  tini (N)] Spawned child process 'worker' with pid 'N' / [INFO  tini (N)] Main child exited normally (with status '3')")
        .with("-s -v"),
    row("what it says with `-v` of a signal", verbose::of_a_signal,
        "[INFO  tini (N)] Spawned child process 'worker' with pid 'N' / [INFO  tini (N)] Main child exited with signal (with signal 'Terminated')")
        .with("-s -v")
        .but("[INFO  tini (N)] Spawned child process 'worker' with pid 'N' / [INFO  tini (N)] Main child exited with signal (with signal 'SIGTERM')", "a signal has one name in all that clinit says"),
    row("what it says with `-vv`", verbose::of_an_exit,
        "[INFO  tini (N)] Spawned child process 'worker' with pid 'N' / [DEBUG tini (N)] Received SIGCHLD / [DEBUG tini (N)] Reaped child with pid: 'N' / [INFO  tini (N)] Main child exited normally (with status '3')")
        .with("-s -vv"),
    row("what it says with `-vv` of a signal", verbose::of_a_signal,
        "[INFO  tini (N)] Spawned child process 'worker' with pid 'N' / [DEBUG tini (N)] Passing signal: 'Terminated' / [DEBUG tini (N)] Reaped child with pid: 'N' / [INFO  tini (N)] Main child exited with signal (with signal 'Terminated')")
        .with("-s")
        .env(&[("TINI_VERBOSITY", "3")])
        .but("[INFO  tini (N)] Spawned child process 'worker' with pid 'N' / [DEBUG tini (N)] Passing signal: 'SIGTERM' / [DEBUG tini (N)] Reaped child with pid: 'N' / [INFO  tini (N)] Main child exited with signal (with signal 'SIGTERM')", "a signal has one name in all that clinit says"),
    row("what it says with `-w` of an orphan", verbose::of_an_orphan,
        "[WARN  tini (N)] Reaped zombie process with pid=N")
        .with("-s -w"),
    row("what it says of an orphan", verbose::of_an_orphan, "nothing").with("-s"),
    // ---- the terminal ----
    row("what is typed", terminal::typed, "\"typed\", 6").with("-s"),
    row("Ctrl-C", terminal::ctrl_c, "ends the child, 130").with("-s"),
    row("Ctrl-Z where nobody could continue it", terminal::ctrl_z, "stops the child")
        .with("-s")
        .but("does nothing", "the kernel would not have stopped the child without an init either"),
];
