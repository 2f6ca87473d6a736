//! catatonit 0.1.7.

use super::{LAST_WORDS, OWN_LICENSE, Row, TELLS_ITS_NAME, USERS_FAULTS, USERS_STOPS, VALUES, row};
use crate::observe::{child, ending, line, signals, terminal, tree, verbose};

pub(crate) const CATATONIT: &[Row] = &[
    // ---- the command line ----
    row(
        "`-V`",
        line::prints,
        "0, stdout: tini version 0.1.7_catatonit",
    )
    .with("-V")
    .but(
        "0, stdout: tini version 0.1.7_catatonit - git.clinit-0-1-0",
        TELLS_ITS_NAME,
    ),
    row(
        "`--version`",
        line::prints,
        "0, stdout: tini version 0.1.7_catatonit",
    )
    .with("--version")
    .but(
        "0, stdout: tini version 0.1.7_catatonit - git.clinit-0-1-0",
        TELLS_ITS_NAME,
    ),
    row("no arguments", line::usage, "1, usage on stderr"),
    row(
        "no arguments: the first line",
        line::prints,
        "1, stderr: ERROR (catatonit:N): missing program name",
    ),
    row("`-h`", line::usage, "0, usage on stderr").with("-h"),
    row(
        "`-L`",
        line::prints,
        "0, stdout: catatonit: a container init so simple it's effectively brain-dead",
    )
    .with("-L")
    .but("0, stdout: clinit: Apache-2.0 OR MIT", OWN_LICENSE),
    row("an unknown option", line::usage, "1, usage on stderr").with("-x"),
    row("an unknown long option", line::usage, "1, usage on stderr").with("--nothing"),
    row("`CATATONIT_LOG`", line::runs, "1").env(&[("CATATONIT_LOG", "1")]),
    row("a program after `--`", line::runs, "3"),
    row(
        "a program with options and no `--`",
        line::runs_without_dashes,
        "1",
    ),
    row(
        "the same, with `POSIXLY_CORRECT`",
        line::runs_without_dashes,
        "3",
    )
    .env(&[("POSIXLY_CORRECT", "1")]),
    // ---- signals ----
    row(
        "standard signals that come to the child",
        signals::forwarded,
        "all but ILL TRAP ABRT BUS FPE SEGV SYS, which kill it",
    )
    .but("all", USERS_FAULTS),
    row(
        "the same as process 1",
        signals::forwarded,
        "all but ILL TRAP ABRT BUS FPE SEGV SYS",
    )
    .process1()
    .but("all", USERS_FAULTS),
    row(
        "signals that stop",
        signals::stops,
        "TSTP is ignored, TTIN is ignored, TTOU is ignored",
    )
    .but(
        "TSTP is forwarded, TTIN is forwarded, TTOU is forwarded",
        USERS_STOPS,
    ),
    row(
        "a real-time signal with a value",
        signals::real_time,
        "signal 38, value 0",
    )
    .but("signal 38, value 7", VALUES),
    row("whom signals go to", signals::target, "the child"),
    row("the same with `-g`", signals::target, "its process group").with("-g"),
    row("the parent dies", signals::parent_death, "nothing"),
    row("`-P`, and INT", signals::pause_ended_by_int, "0").with("-P"),
    row("`-P`, and TERM", signals::pause_ended_by_term, "0").with("-P"),
    // ---- the child ----
    row(
        "blocked and ignored signals",
        child::signals,
        "blocked: and 20 21 22; ignored: kept",
    )
    .but(
        "blocked: kept; ignored: kept",
        "with these blocked a terminal stops nobody",
    ),
    row(
        "a descriptor 7",
        child::descriptors,
        "the child has it, the init has not",
    ),
    row(
        "stdin is closed",
        child::closed_stdin,
        "is closed for the child, 3",
    ),
    row(
        "`LISTEN_PID` that names the init",
        child::listen_pid,
        "the child",
    ),
    row(
        "the working directory",
        child::directory,
        "the child /usr, the init /usr",
    )
    .but(
        "the child /usr, the init /",
        "a file system could never be unmounted",
    ),
    row("the child's group", child::group, "its own group"),
    row("catatonit's variables", child::variables, "CATATONIT_DEBUG")
        .env(&[("CATATONIT_DEBUG", "")]),
    row("the soft limit of descriptors, 77", child::limits, "77"),
    // ---- its end ----
    row(
        "how the child ends: 0, 3, 255, by TERM, KILL, 37",
        ending::statuses,
        "0 3 255 143 137 165",
    ),
    row(
        "what is not there",
        line::runs_what_is_missing,
        "1, stderr: ERROR (catatonit:N): failed to exec pid1: No such file or directory",
    ),
    row(
        "what is not executable",
        line::runs_what_is_no_program,
        "1, stderr: ERROR (catatonit:N): failed to exec pid1: Permission denied",
    ),
    row(
        "a directory",
        line::runs_a_directory,
        "1, stderr: ERROR (catatonit:N): failed to exec pid1: Permission denied",
    ),
    row(
        "an empty name",
        line::runs_nothing,
        "1, stderr: ERROR (catatonit:N): failed to exec pid1: No such file or directory",
    ),
    row("a script without `#!`", line::runs_a_bare_script, "9"),
    row(
        "what the child leaves behind",
        ending::survivors,
        "group: is left alone, session: is left alone",
    )
    .but("group: gets TERM, session: gets TERM", LAST_WORDS),
    row(
        "survivors that heed no TERM",
        ending::stubborn,
        "5, the survivor lives",
    ),
    // ---- orphans ----
    row("who adopts an orphan", tree::adopts, "the init"),
    row("orphans that end", tree::reaps, "all of them").process1(),
    // ---- what it says ----
    row("what it says", verbose::of_an_exit, "nothing"),
    row(
        "`CATATONIT_DEBUG`, even empty",
        verbose::of_pid1,
        "pid1 (N) spawned: worker",
    )
    .env(&[("CATATONIT_DEBUG", "")]),
    row(
        "the same, of an orphan",
        verbose::of_a_child_process,
        "child process N exited with code 0",
    )
    .env(&[("CATATONIT_DEBUG", "")]),
    // ---- the terminal ----
    row("what is typed", terminal::typed, "\"typed\", 6"),
    row("Ctrl-C", terminal::ctrl_c, "ends the child, 130"),
    row(
        "Ctrl-Z where nobody could continue it",
        terminal::ctrl_z,
        "does nothing",
    ),
];
