//! dumb-init 1.2.5.

use super::{LAST_WORDS, Row, TELLS_ITS_NAME, VALUES, row};
use crate::observe::{child, ending, line, signals, terminal, tree, verbose};

const GOES_ON: &str = "an init that is stopped reaps and forwards nothing, and its child may go on";
const ADOPTS: &str = "an orphan is reaped, and told to go at the end";

pub(crate) const DUMB_INIT: &[Row] = &[
    // ---- the command line ----
    row("`-V`", line::prints, "0, stderr: dumb-init v1.2.5")
        .with("-V")
        .but("0, stderr: dumb-init v1.2.5 - git.clinit-0-1-0", TELLS_ITS_NAME),
    row("`--version`", line::prints, "0, stderr: dumb-init v1.2.5")
        .with("--version")
        .but("0, stderr: dumb-init v1.2.5 - git.clinit-0-1-0", TELLS_ITS_NAME),
    row("no arguments", line::usage, "1, usage on stderr"),
    row("`-h`", line::usage, "0, usage on stderr").with("-h"),
    row("`--help`", line::usage, "0, usage on stderr").with("--help"),
    row("an unknown option", line::runs, "1").with("-x"),
    row("an unknown long option", line::runs, "1").with("--nothing"),
    row("an option without its value", line::prints, "1, stderr: INIT: option requires an argument -- 'r'")
        .with("-r"),
    row("a program after `--`", line::runs, "3"),
    row("a program with options and no `--`", line::runs_without_dashes, "3"),
    row("options in one word", line::runs, "3").with("-cr15:2"),
    row("a long option cut short", line::runs, "3").with("--sing --rew=15:2 --rewrite 2:3"),
    row("a long option cut too short", line::runs, "1").with("--ver"),
    row("a long switch with a value", line::runs, "1").with("--single-child=1"),
    row("`-r 15`", line::usage, "1, usage on stderr").with("-r 15 true"),
    row("`-r TERM:INT`", line::runs, "1").with("-r TERM:INT"),
    row("`-r 0:1`", line::runs, "1").with("-r 0:1"),
    row("`-r 32:1`", line::runs, "1").with("-r 32:1"),
    row("`-r 1:32`", line::runs, "1").with("-r 1:32"),
    row("`-r 1:2x`", line::runs, "3").with("-r 1:2x"),
    // ---- signals ----
    row("standard signals that come to the child", signals::forwarded, "all"),
    row("the same as process 1", signals::forwarded, "all").process1(),
    row("signals that stop", signals::stops,
        "TSTP stops the child, then stops itself, TTIN stops the child, then stops itself, TTOU stops the child, then stops itself"),
    row("signals that stop, with `-c`", signals::stops,
        "TSTP is forwarded, then stops itself, TTIN is forwarded, then stops itself, TTOU is forwarded, then stops itself")
        .with("-c")
        .but("TSTP is forwarded, TTIN is forwarded, TTOU is forwarded", GOES_ON),
    row("signals that stop, rewritten", signals::stops,
        "TSTP is forwarded, then stops itself, TTIN is ignored, then stops itself, TTOU stops the child, then stops itself")
        .with("-r 20:20 -r 21:0")
        .but("TSTP is forwarded, TTIN is ignored, TTOU stops the child, then stops itself", GOES_ON),
    row("a real-time signal with a value", signals::real_time, "signal 38, value 0")
        .but("signal 38, value 7", VALUES),
    row("whom signals go to", signals::target, "its process group"),
    row("the same with `-c`", signals::target, "the child").with("-c"),
    row("the same with `DUMB_INIT_SETSID=0`", signals::target, "the child")
        .env(&[("DUMB_INIT_SETSID", "0")]),
    row("the same with `DUMB_INIT_SETSID=1`", signals::target, "its process group")
        .env(&[("DUMB_INIT_SETSID", "1")]),
    row("`-r 15:3 -r 2:0`", signals::rewritten, "TERM is 3, INT is nothing, QUIT is 3").with("-r 15:3 -r 2:0"),
    row("`-r 15:2 -r 15:1`", signals::rewritten, "TERM is 1, INT is 2, QUIT is 3").with("-r 15:2 -r 15:1"),
    row("the parent dies", signals::parent_death, "nothing"),
    // ---- the child ----
    row("blocked and ignored signals", child::signals, "blocked: without 10 23 35; ignored: without 2 13 22")
        .but("blocked: kept; ignored: kept", "the child's are exactly those that clinit was started with"),
    row("a descriptor 7", child::descriptors, "the child has it, the init has it")
        .but("the child has it, the init has not", "it would be held open for ever"),
    row("stdin is closed", child::closed_stdin, "is closed for the child, 3"),
    row("`LISTEN_PID` that names the init", child::listen_pid, "the init")
        .but("the child", "the sockets are for the child, which would leave them alone"),
    row("the working directory", child::directory, "the child /usr, the init /"),
    row("the child's group", child::group, "its own session"),
    row("the child's group with `-c`", child::group, "the init's group").with("-c"),
    row("dumb-init's variables", child::variables, "DUMB_INIT_DEBUG DUMB_INIT_SETSID")
        .env(&[("DUMB_INIT_DEBUG", "0"), ("DUMB_INIT_SETSID", "0")]),
    row("the soft limit of descriptors, 77", child::limits, "77"),
    // ---- its end ----
    row("how the child ends: 0, 3, 255, by TERM, KILL, 37", ending::statuses, "0 3 255 143 137 165"),
    row("what is not there", line::runs_what_is_missing, "2, stderr: [dumb-init] /nonexistent: No such file or directory"),
    row("what is not executable", line::runs_what_is_no_program, "2, stderr: [dumb-init] /etc/passwd: Permission denied"),
    row("a directory", line::runs_a_directory, "2, stderr: [dumb-init] /: Permission denied"),
    row("an empty name", line::runs_nothing, "2, stderr: [dumb-init] : No such file or directory"),
    row("a script without `#!`", line::runs_a_bare_script, "9"),
    row("what the child leaves behind", ending::survivors, "group: gets TERM, session: is left alone")
        .but("group: gets TERM, session: gets TERM", LAST_WORDS),
    row("what the child leaves behind, with `-c`", ending::survivors, "group: is left alone, session: is left alone")
        .with("-c")
        .but("group: gets TERM, session: gets TERM", LAST_WORDS),
    row("what the child leaves behind, with `-r 15:0`", ending::survivors, "group: is left alone, session: is left alone")
        .with("-r 15:0")
        .but("group: gets TERM, session: gets TERM", LAST_WORDS),
    row("survivors that heed no TERM", ending::stubborn, "5, the survivor lives"),
    // ---- orphans ----
    row("who adopts an orphan", tree::adopts, "another").but("the init", ADOPTS),
    row("orphans that end", tree::reaps, "all of them").process1(),
    // ---- what it says ----
    row("what it says", verbose::of_an_exit, "nothing"),
    row("what it says with `-v` of a signal", verbose::of_a_signal,
        "[dumb-init] Child spawned with PID N. / [dumb-init] Received signal 15. / [dumb-init] Forwarded signal 15 to children. / [dumb-init] Received signal 17. / [dumb-init] A child with PID N was terminated by signal 15. / [dumb-init] Forwarded signal 15 to children. / [dumb-init] Child exited with status 143. Goodbye.")
        .with("-v -c"),
    row("what it says with `-v` of a signal that is rewritten", verbose::of_a_signal,
        "[dumb-init] Child spawned with PID N. / [dumb-init] Received signal 15. / [dumb-init] Translating signal 15 to 2. / [dumb-init] Forwarded signal 2 to children. / [dumb-init] Received signal 17. / [dumb-init] A child with PID N was terminated by signal 2. / [dumb-init] Translating signal 15 to 2. / [dumb-init] Forwarded signal 2 to children. / [dumb-init] Child exited with status 130. Goodbye.")
        .with("-v -c -r 15:2")
        .but("[dumb-init] Child spawned with PID N. / [dumb-init] Received signal 15. / [dumb-init] Forwarded signal 2 to children. / [dumb-init] Received signal 17. / [dumb-init] A child with PID N was terminated by signal 2. / [dumb-init] Forwarded signal 15 to children. / [dumb-init] Child exited with status 130. Goodbye.",
            "what came and what was sent say it; at the end it is TERM whatever TERM is rewritten to"),
    row("the first line with `DUMB_INIT_DEBUG=1`", verbose::first_of_an_exit, "[dumb-init] Running in debug mode.")
        .env(&[("DUMB_INIT_DEBUG", "1")])
        .but("[dumb-init] Child spawned with PID N.", "nothing is done by then"),
    row("what it says with `-v` of an orphan as process 1", verbose::of_an_orphan, "[dumb-init] Child spawned with PID N. / [dumb-init] Received signal 17. / [dumb-init] A child with PID N exited with exit status 0. / [dumb-init] Received signal 10. / [dumb-init] Forwarded signal 10 to children. / [dumb-init] Received signal 17. / [dumb-init] A child with PID N exited with exit status 0. / [dumb-init] Forwarded signal 15 to children. / [dumb-init] Child exited with status 0. Goodbye.")
        .with("-v -c").process1(),
    // ---- the terminal ----
    row("what is typed", terminal::typed, "\"typed\", 6"),
    row("Ctrl-C", terminal::ctrl_c, "ends the child, 130"),
    row("Ctrl-Z where nobody could continue it", terminal::ctrl_z, "does nothing"),
];
