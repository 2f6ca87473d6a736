//! What is refused, and in which words.

use super::*;

/// What `--signal` takes.
const ROUTE: &str = "accepted is SIG=ACTION: forward, ignore, reload, shutdown or a signal, \
    as in USR2=reload or TERM=QUIT";

/// A value that each option that takes one refuses.
const REFUSED: [(&str, &str, &str); 43] = [
    ("signal", "TERM", ROUTE),
    ("signal", "TREM=ignore", ROUTE),
    ("signal", "TERM=stop!", ROUTE),
    (
        "signal",
        "KILL=TERM",
        "KILL and STOP cannot be caught; accepted is any other signal",
    ),
    (
        "instances",
        "many",
        "accepted are a number, max, max-1, 50% or 2x",
    ),
    (
        "max-instances",
        "0",
        "accepted is a whole number from 1 to 1024",
    ),
    (
        "worker-memory",
        "300MB",
        "accepted are 300M, 1G, 512K or a number of bytes",
    ),
    (
        "listen",
        "localhost:8080",
        "host names are not looked up; write 127.0.0.1:8080 or [::1]:8080",
    ),
    ("share", "lanes", "accepted are auto, slots, queue and off"),
    (
        "capture",
        "0",
        "accepted are auto, off, and ports from 1 to 65535, as in 8080,8443",
    ),
    (
        "capture",
        "80,443,80",
        "port 80 is given twice: once is accepted",
    ),
    (
        "sockets-as",
        "nginx,",
        "accepted are server-starter and nginx, with a comma between",
    ),
    (
        "ready",
        "ipc",
        "accepted are auto, listen, notify and after:DUR, as in after:5s",
    ),
    ("ready-timeout", "0", "it has to be more than 0"),
    ("settle", "auto", "accepted are 500ms, 20s, 5m, 1h30m or 0"),
    (
        "surge",
        "0",
        "accepted are a whole number from 1 on, and 25%",
    ),
    (
        "surge",
        "0%",
        "accepted are a whole number from 1 on, and 25%",
    ),
    (
        "drain",
        "now",
        "accepted are connections, connections:DUR, as in connections:5s, and signal",
    ),
    ("drain", "connections:5", "a unit is missing (5s?)"),
    (
        "max-memory",
        "lots",
        "accepted are 300M, 1G, 512K or a number of bytes; and 80%, of the memory limit",
    ),
    (
        "max-memory",
        "120%",
        "accepted are 1% to 100%, and a size as in 300M",
    ),
    ("max-lifetime", "0s", "it has to be more than 0"),
    (
        "hang-timeout",
        "soon",
        "accepted are 500ms, 20s, 5m, 1h30m or 0",
    ),
    (
        "drain-delay",
        "soon",
        "accepted are auto, 500ms, 20s, 5m, 1h30m or 0",
    ),
    ("grace", "20", "a unit is missing (20s?)"),
    (
        "orphan-grace",
        "auto",
        "accepted are 500ms, 20s, 5m, 1h30m or 0",
    ),
    (
        "stop-signal",
        "KILL",
        "a worker cannot drain on KILL; --grace 0s kills at once",
    ),
    (
        "restart",
        "sometimes",
        "accepted are always, on-failure and never",
    ),
    (
        "backoff",
        "5s..1s",
        "MIN is longer than MAX; accepted is MIN..MAX, as in 100ms..15s",
    ),
    (
        "min-uptime",
        "-1s",
        "accepted are 500ms, 20s, 5m, 1h30m or 0",
    ),
    (
        "max-restarts",
        "0",
        "accepted is a whole number from 1 to 4294967295",
    ),
    ("env-step", "UNSET", "workers have no such variable"),
    ("user", "foo", "no such user in /etc/passwd"),
    ("chdir", "", "a path is missing"),
    ("control", "", "a path is missing"),
    ("ready-during-drain", "no", "accepted are fail and keep"),
    ("env", "=", "the variable's name is empty; accepted is K=V"),
    (
        "env-file",
        "/nonexistent/env",
        "cannot read it: no such file or directory (os error 2)",
    ),
    (
        "parent-death",
        "SIGFOO",
        "accepted is a signal as in TERM, SIGQUIT, 15 or RTMIN+3",
    ),
    ("exit-ok", "256", "accepted is an exit code from 0 to 255"),
    ("log-format", "xml", "accepted are text and json"),
    (
        "log-level",
        "loud",
        "accepted are error, warn, info, debug, trace and off",
    ),
    (
        "stop-signal",
        "stop",
        "STOP suspends a worker and never ends it",
    ),
];

#[test]
fn a_refused_value_is_named_with_its_option_and_what_is_accepted() {
    for spec in OPTIONS.iter().filter(|spec| !spec.is_switch()) {
        assert!(
            REFUSED.iter().any(|(long, ..)| *long == spec.long),
            "--{}",
            spec.long
        );
    }
    for (long, value, reason) in REFUSED {
        let option = format!("--{long}");
        let mut argv = vec![option.as_str(), value];
        if long != "instances" {
            argv.extend(["-i", "1"]);
        }
        argv.push("server");
        assert_eq!(error(&argv), format!("{option} {value:?}: {reason}"));
        let spec = options::of_name(long).unwrap();
        let variable = spec.variable().unwrap();
        if !value.is_empty() {
            let env = [("CLINIT_LISTEN", "80"), (variable.as_str(), value)];
            let env = if long == "listen" {
                &env[1..]
            } else {
                &env[..]
            };
            let expected = format!("{variable} {:?}: {reason}", value.trim_end_matches(' '));
            assert_eq!(error_in(&["server"], env), expected);
        }
    }
    assert_eq!(
        error(&["-i", "many", "a"]),
        "-i \"many\": accepted are a number, max, max-1, 50% or 2x"
    );
    assert_eq!(
        error_in(&["-i", "1", "a"], &[("CLINIT_PIN", "on")]),
        "CLINIT_PIN \"on\": accepted are 1, true, yes, 0, false and no"
    );
}

#[test]
fn contradictions() {
    for (argv, message) in [
        (
            &["-l", "a=1", "-l", "a=2"][..],
            "-l \"a=2\": another listener has that name",
        ),
        (
            &["-l", "a=80", "-l", ":80"],
            "-l \":80\": another listener has that address",
        ),
        (
            &["-i", "8", "--max-instances", "4"],
            "--max-instances \"4\": that is less than the 8 that -i asks for",
        ),
        (
            &["-i", "2", "--env", "PORT=http", "--env-step", "PORT"],
            "--env-step \"PORT\": that variable's value is not a whole number",
        ),
        (
            &[
                "-i",
                "2",
                "--env",
                "P=1",
                "--env-step",
                "P",
                "--env-step",
                "P",
            ],
            "--env-step \"P\": that variable is stepped twice",
        ),
        (
            &["-i2", "--share", "off", "--capture", "80,443"],
            "--capture \"80,443\": --share off shares no port; accepted are auto and off",
        ),
        (
            &["-i2", "--ready", "listen", "--share", "off"],
            "--ready \"listen\": with --share off clinit sees none; \
             accepted are auto, notify and after:DUR",
        ),
        (
            &["-i2", "--capture", "off", "--ready", "listen"],
            "--ready \"listen\": with --capture off clinit sees none; \
             accepted are auto, notify and after:DUR",
        ),
        (
            &["-i2", "--signal", "TERM=QUIT", "--signal", "15=ignore"],
            "--signal \"15=ignore\": that signal has an action already",
        ),
        (
            &["--signal", "TERM=reload"],
            "--signal \"TERM=reload\": that needs cluster mode (-i N or -l ADDR); \
             accepted are forward, ignore and a signal",
        ),
        (
            &["-i", "2", "--grace", "1s", "-i2"],
            "-i is given twice: once is accepted",
        ),
        (
            &["--pin", "--pin", "-i2"],
            "--pin is given twice: once is accepted",
        ),
    ] {
        assert_eq!(error(&[argv, &["server"]].concat()), message);
    }
    config(&[
        "-l", "a=:0", "-l", "b=:0", "-l", "80", "-l", "udp:80", "server",
    ]);
}

#[test]
fn what_contradicts_a_variable_names_it() {
    for (argv, env, message) in [
        (
            ["-i2", "--capture", "80", "server"],
            [("CLINIT_SHARE", "off")],
            "--capture \"80\": CLINIT_SHARE off shares no port; accepted are auto and off",
        ),
        (
            ["-i2", "--share", "off", "server"],
            [("CLINIT_CAPTURE", "80")],
            "CLINIT_CAPTURE \"80\": --share off shares no port; accepted are auto and off",
        ),
        (
            ["-i2", "--ready", "listen", "server"],
            [("CLINIT_CAPTURE", "off")],
            "--ready \"listen\": with CLINIT_CAPTURE off clinit sees none; \
             accepted are auto, notify and after:DUR",
        ),
    ] {
        assert_eq!(error_in(&argv, &env), message);
    }
}

#[test]
fn options_that_are_not_ours() {
    for (argv, message) in [
        (
            &["-w", "4", "app"][..],
            "unknown option -w 4: did you mean -i 4?",
        ),
        (
            &["-w", "max", "app"],
            "unknown option -w max: did you mean -i max?",
        ),
        (&["-w4", "app"], "unknown option -4: clinit -h lists them"),
        (&["-w", "--", "4"], ""),
        (&["-w", "app", "4"], ""),
        (
            &["--workers=max", "app"],
            "unknown option --workers: did you mean -i max?",
        ),
        (
            &["-b", ":80", "app"],
            "unknown option -b: did you mean -l :80?",
        ),
        (
            &["--bind", "host:80"],
            "unknown option --bind: did you mean -l?",
        ),
        (
            &["--instance=4", "app"],
            "unknown option --instance: did you mean --instances?",
        ),
        (
            &["--admin", "2", "app"],
            "unknown option --admin: clinit -h lists them",
        ),
        (
            &["-c", "clinit.toml"],
            "unknown option -c: clinit -h lists them",
        ),
        (
            &["--a\n", "b"],
            "unknown option --a\\n: clinit -h lists them",
        ),
        (&["--pin=1", "app"], "--pin \"1\": it takes no value"),
        (&["-v=3", "app"], "-v \"3\": it takes no value"),
        (&["app", "-w"], ""),
        (&["--grace"], "--grace: a value is missing: DUR|auto"),
        (&["-l"], "-l: a value is missing: [NAME=]ADDR"),
    ] {
        let message_of = |error: UsageError| error.to_string();
        let found = parse_in(argv, &[]).map_or_else(message_of, |_| String::new());
        assert_eq!(found, message, "{argv:?}");
    }
}

#[test]
fn init_mode_takes_no_option_of_cluster_mode() {
    for spec in OPTIONS.iter().filter(|spec| spec.cluster_only) {
        if matches!(spec.long, "instances" | "listen") {
            continue;
        }
        let option = format!("--{}", spec.long);
        let needs = "needs cluster mode: add -i N or -l ADDR";
        let argv = if spec.is_switch() {
            vec![option.as_str(), "server"]
        } else {
            vec![option.as_str(), "1", "server"]
        };
        assert_eq!(error(&argv), format!("{option} {needs}"));
        let variable = spec.variable().unwrap();
        let found = error_in(&["server"], &[(&variable, "1")]);
        assert_eq!(found, format!("{variable} {needs}"));
    }
    let argv = "--orphan-grace 1s --user 1 --chdir / --env A=1 --env-file /dev/null \
        --log-format json --log-level off -vv -- server";
    let argv: Vec<&str> = argv.split_ascii_whitespace().collect();
    assert_eq!(config(&argv).policy.mode, Mode::Init);
    let off = [
        ("CLINIT_PIN", "0"),
        ("CLINIT_GRACE", ""),
        ("CLINIT_LISTEN", " , "),
    ];
    assert_eq!(config_in(&["server"], &off).policy.mode, Mode::Init);
}

#[test]
fn no_message_shows_the_value_of_a_variable() {
    for pair in ["=secret", "=a=secret"] {
        let found = error(&["--env", pair, "server"]);
        assert!(!found.contains("secret"), "{found}");
    }
    let found = error(&["-i1", "--env", "K=secret", "--env-step", "K", "server"]);
    assert!(!found.contains("secret"), "{found}");
}
