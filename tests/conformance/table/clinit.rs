//! Clinit by its own name, in init mode: what is promised of it, beside the
//! same of the others.

use super::{Row, row};
use crate::observe::{child, ending, line, signals, terminal, tree, verbose};

pub(crate) const CLINIT: &[Row] = &[
    row("a program after `--`", line::runs, "3"),
    row(
        "a program with options and no `--`",
        line::runs_without_dashes,
        "3",
    ),
    row("no arguments", line::runs_no_program, "2"),
    row("an unknown option", line::runs, "2").with("--nothing"),
    row("`-e 3`, and the program exits with 3", line::runs, "0").with("-e 3"),
    row(
        "standard signals that come to the child",
        signals::forwarded,
        "all",
    ),
    row("the same as process 1", signals::forwarded, "all").process1(),
    row(
        "signals that stop",
        signals::stops,
        "TSTP is forwarded, TTIN is forwarded, TTOU is forwarded",
    ),
    row(
        "a real-time signal with a value",
        signals::real_time,
        "signal 38, value 7",
    ),
    row("whom signals go to", signals::target, "the child"),
    row("the same with `-g`", signals::target, "its process group").with("-g"),
    row(
        "`--signal`",
        signals::rewritten,
        "TERM is 3, INT is nothing, QUIT is 3",
    )
    .with("--signal TERM=QUIT --signal INT=ignore"),
    row(
        "`-p USR1`, and the parent dies",
        signals::parent_death,
        "signal 10",
    )
    .with("-p USR1"),
    row("the parent dies", signals::parent_death, "nothing"),
    row(
        "blocked and ignored signals",
        child::signals,
        "blocked: kept; ignored: kept",
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
        "the child /usr, the init /",
    ),
    row("the child's group", child::group, "its own group"),
    row("the soft limit of descriptors, 77", child::limits, "77"),
    row(
        "how the child ends: 0, 3, 255, by TERM, KILL, 37",
        ending::statuses,
        "0 3 255 143 137 165",
    ),
    row("a script without `#!`", line::runs_a_bare_script, "9"),
    row(
        "survivors that heed no TERM, with a grace",
        ending::stubborn,
        "5, the survivor is dead",
    )
    .with("--orphan-grace 1ms"),
    row("who adopts an orphan", tree::adopts, "the init"),
    row("orphans that end", tree::reaps, "all of them").process1(),
    row("what it says", verbose::of_an_exit, "nothing"),
    row("what is typed", terminal::typed, "\"typed\", 6"),
    row("Ctrl-C", terminal::ctrl_c, "ends the child, 130"),
    row(
        "Ctrl-Z where nobody could continue it",
        terminal::ctrl_z,
        "does nothing",
    ),
];
