//! What is wrong with a command line is one line, and a documented code.

use std::fs;

use crate::harness::{CLINIT, Dir, Setup};

/// Asserts one line on stderr, for each of these words in it.
#[track_caller]
fn refused(arguments: &[&str], env: &[(&str, &str)], code: i32, words: &[&str]) {
    let dir = Dir::new();
    let ran = dir.path("ran");
    // A command that tells when it is run.
    let setup = arguments.iter().fold(Setup::new(""), |setup, argument| {
        setup.arg(if *argument == "COMMAND" {
            "touch"
        } else {
            argument
        })
    });
    let setup = if arguments.last() == Some(&"COMMAND") {
        setup.arg(&ran)
    } else {
        setup
    };
    let setup = env
        .iter()
        .fold(setup, |setup, (name, value)| setup.env(name, value));
    let ended = setup.run();
    assert_eq!(ended.code(), code, "{arguments:?} {env:?}: {}", ended.log);
    assert_eq!(ended.log.lines().count(), 1, "{arguments:?}: {}", ended.log);
    assert!(
        ended.log.starts_with("clinit: "),
        "{arguments:?}: {}",
        ended.log
    );
    assert!(ended.log.len() < 300, "{arguments:?}: {}", ended.log);
    for word in words {
        assert!(
            ended.log.contains(word),
            "{arguments:?}: {word:?} is not in {}",
            ended.log
        );
    }
    assert_eq!(ended.stdout, "", "{arguments:?}");
    assert!(!fs::exists(ran).unwrap(), "{arguments:?} has run something");
}

#[test]
fn a_wrong_value_of_each_option() {
    for (option, value, words) in [
        ("-i", "many", &["-i", "many", "max"][..]),
        ("-i", "4.5", &["-i", "4.5"]),
        ("-i", "0%", &["-i"]),
        ("-i", "99999999999", &["-i"]),
        ("-i", "", &["-i"]),
        ("--instances", "x", &["--instances"]),
        ("--max-instances", "0", &["--max-instances"]),
        ("--max-instances", "few", &["--max-instances", "few"]),
        (
            "--worker-memory",
            "lots",
            &["--worker-memory", "lots", "300M"],
        ),
        ("--worker-memory", "0", &["--worker-memory"]),
        (
            "-l",
            "localhost:8080",
            &["-l", "localhost:8080", "127.0.0.1:8080"],
        ),
        ("-l", "99999", &["-l", "99999", "65535"]),
        ("-l", "/run/a.sock", &["-l", "/run/a.sock", "unix:"]),
        ("-l", "1:2:3:4:5:6:7:8:80", &["-l", "brackets"]),
        (
            "--sockets-as",
            "upstart",
            &["--sockets-as", "upstart", "server-starter", "nginx"],
        ),
        (
            "--ready",
            "soon",
            &["--ready", "soon", "auto", "listen", "notify", "after:"],
        ),
        ("--ready", "http:/readyz", &["--ready"]),
        ("--ready", "after:later", &["--ready", "later"]),
        ("--drain-delay", "5", &["--drain-delay", "5s"]),
        ("--drain-delay", "soon", &["--drain-delay", "soon", "auto"]),
        ("--grace", "-1s", &["--grace", "-1s"]),
        ("--grace", "1d", &["--grace", "1d"]),
        ("--orphan-grace", "x", &["--orphan-grace", "x"]),
        ("--stop-signal", "FOO", &["--stop-signal", "FOO"]),
        ("--stop-signal", "0", &["--stop-signal"]),
        ("--stop-signal", "65", &["--stop-signal", "65"]),
        (
            "--restart",
            "sometimes",
            &["--restart", "sometimes", "always", "on-failure", "never"],
        ),
        ("--backoff", "1s", &["--backoff", "MIN..MAX"]),
        ("--backoff", "5s..1s", &["--backoff", "5s..1s"]),
        ("--min-uptime", "long", &["--min-uptime", "long"]),
        ("--max-restarts", "0", &["--max-restarts"]),
        ("--max-restarts", "some", &["--max-restarts", "some"]),
        (
            "--user",
            "nobody-of-that-name",
            &["--user", "nobody-of-that-name", "/etc/passwd"],
        ),
        ("--user", "1000:no-such-group", &["--user", "/etc/group"]),
        ("--user", ":", &["--user"]),
        ("--chdir", "", &["--chdir"]),
        ("--env", "NOVALUE", &["--env", "K=V"]),
        ("--env", "=x", &["--env"]),
        (
            "--env-file",
            "/nonexistent/env",
            &["--env-file", "/nonexistent/env", "no such file"],
        ),
        ("--env-file", "/", &["--env-file", "directory"]),
        (
            "--env-step",
            "NO_SUCH_VARIABLE",
            &["--env-step", "NO_SUCH_VARIABLE"],
        ),
        (
            "--log-format",
            "xml",
            &["--log-format", "xml", "text", "json"],
        ),
        ("--log-level", "loud", &["--log-level", "loud", "debug"]),
    ] {
        let instances = if option == "-i" || option == "--instances" {
            &[][..]
        } else {
            &["-i", "1"]
        };
        let arguments = [instances, &[option, value, "--", "COMMAND"]].concat();
        refused(&arguments, &[], 2, words);
    }
    refused(
        &["-i", "1", "--pin=yes", "COMMAND"],
        &[],
        2,
        &["--pin", "takes no value"],
    );
}

#[test]
fn a_wrong_value_of_what_is_shared() {
    for (option, value, words) in [
        (
            "--share",
            "lanes",
            &["--share", "lanes", "auto", "slots", "queue", "off"][..],
        ),
        ("--capture", "http", &["--capture", "http", "auto", "off"]),
        ("--capture", "65536", &["--capture", "65536", "65535"]),
        ("--capture", "80,0", &["--capture", "80,0"]),
        ("--capture", "80,80", &["--capture", "80,80", "twice"]),
    ] {
        let arguments = ["-i", "1", option, value, "--", "COMMAND"];
        refused(&arguments, &[], 2, words);
    }
}

#[test]
fn a_wrong_value_of_a_variable() {
    refused(
        &["COMMAND"],
        &[("CLINIT_INSTANCES", "many")],
        2,
        &["CLINIT_INSTANCES", "many"],
    );
    refused(
        &["-i", "1", "COMMAND"],
        &[("CLINIT_GRACE", "5")],
        2,
        &["CLINIT_GRACE", "5s"],
    );
    refused(
        &["COMMAND"],
        &[("CLINIT_DRAIN_DELAY", "5s")],
        2,
        &["CLINIT_DRAIN_DELAY", "-i"],
    );
    refused(
        &["-i", "1", "COMMAND"],
        &[("CLINIT_PIN", "perhaps")],
        2,
        &["CLINIT_PIN"],
    );
}

#[test]
fn values_that_contradict_each_other() {
    for (options, words) in [
        (
            ["--share=off", "--capture=8080"],
            ["--share off", "--capture", "8080"],
        ),
        (
            ["--share=off", "--ready=listen"],
            ["--share off", "--ready", "listen"],
        ),
        (
            ["--capture=off", "--ready=listen"],
            ["--capture off", "--ready", "listen"],
        ),
    ] {
        let [one, other] = options;
        refused(&["-i", "1", one, other, "COMMAND"], &[], 2, &words);
    }
}

#[test]
fn an_unknown_option() {
    refused(&["-w", "4", "COMMAND"], &[], 2, &["-w", "did you mean -i"]);
    refused(&["--workers", "4", "COMMAND"], &[], 2, &["--workers"]);
    refused(
        &["--instance", "4", "COMMAND"],
        &[],
        2,
        &["--instance", "--instances"],
    );
    refused(&["--nonsense", "COMMAND"], &[], 2, &["--nonsense"]);
    refused(&["-Z", "COMMAND"], &[], 2, &["-Z"]);
    refused(
        &["-i", "1", "--admin", "1", "COMMAND"],
        &[],
        2,
        &["--admin"],
    );
    // Escapes and lines are not passed on to a terminal.
    refused(
        &["--a\u{1b}[31m\nclinit: b", "COMMAND"],
        &[],
        2,
        &["unknown option"],
    );
    refused(
        &[&format!("--{}", "x".repeat(5000)), "COMMAND"],
        &[],
        2,
        &["unknown option"],
    );
}

#[test]
fn a_value_is_missing_or_too_many() {
    for option in ["-i", "-l", "--grace", "--user", "--env"] {
        refused(&[option], &[], 2, &[option, "missing"]);
    }
    refused(&["-i", "1", "-i", "2", "COMMAND"], &[], 2, &["-i", "twice"]);
    refused(
        &["-i", "1", "-l", "81", "-l", "81", "COMMAND"],
        &[],
        2,
        &["-l", "81"],
    );
}

#[test]
fn a_command_is_missing() {
    for arguments in [
        &[][..],
        &["--"],
        &["-i", "4"],
        &["-i", "max", "-l", "8080", "--"],
    ] {
        refused(arguments, &[], 2, &["no command"]);
    }
    refused(&["-i", "1", "--", ""], &[], 2, &["empty"]);
}

#[test]
fn what_needs_cluster_mode_says_so() {
    for option in [
        "--drain-delay=1s",
        "--grace=1s",
        "--stop-signal=TERM",
        "--restart=never",
        "--backoff=1s..2s",
        "--min-uptime=1s",
        "--max-restarts=3",
        "--ready=notify",
        "--ready=listen",
        "--share=queue",
        "--capture=off",
        "--sockets-as=nginx",
        "--max-instances=3",
        "--worker-memory=1G",
        "--env-step=HOME",
        "--pin",
    ] {
        let name = option.split('=').next().unwrap();
        refused(&[option, "COMMAND"], &[], 2, &[name, "-i", "-l"]);
    }
}

#[test]
fn a_usage_error_is_one_even_without_a_stderr() {
    let ended = Setup::new("--nonsense")
        .through(&["sh", "-c", "exec \"$@\" 2>&-", "sh"])
        .run();
    ended.expect(2);
}

#[test]
fn help_and_version_are_printed_and_no_more() {
    for flag in ["-h", "--help"] {
        let ended = Setup::new(flag).run();
        ended.expect(0);
        assert_eq!(ended.log, "");
        assert!(
            ended.stdout.starts_with("usage: clinit "),
            "{}",
            ended.stdout
        );
        for spec in clinit::config::OPTIONS {
            let option = format!("--{}", spec.long);
            assert!(ended.stdout.contains(&option), "{option}: {}", ended.stdout);
        }
        let fits = |line: &str| line.chars().count() <= 80;
        assert!(ended.stdout.lines().all(fits) && ended.stdout.lines().count() <= 74);
    }
    for flag in ["-V", "--version"] {
        let ended = Setup::new(flag).run();
        ended.expect(0);
        assert_eq!(
            ended.stdout,
            format!("clinit {}\n", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(ended.log, "");
    }
    // After the command's name they are the command's own.
    let ended = Setup::new("echo --help -V").run();
    assert_eq!(ended.expect(0).stdout, "--help -V\n");
}

#[test]
fn help_that_cannot_be_printed_is_a_failure() {
    let ended = Setup::new("--help")
        .through(&["sh", "-c", "exec \"$@\" >/dev/full", "sh"])
        .run();
    ended.expect(1);
    assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
}

#[test]
fn the_cpus_are_derived() {
    let ended = Setup::new("cpus").run();
    ended.expect(0);
    assert_eq!(ended.log, "");
    for word in ["CPUs", "quota", "mask", "workers"] {
        assert!(ended.stdout.contains(word), "{}", ended.stdout);
    }
    refused(&["cpus", "extra"], &[], 2, &["cpus", "extra"]);
    refused(&["cpus", "--grace", "1s"], &[], 2, &["--grace"]);
    refused(&["cpus", "-i", "many"], &[], 2, &["-i", "many"]);
    // It is run beside a clinit, whose variables it sees.
    let ended = Setup::new("cpus")
        .env("CLINIT_INSTANCES", "7")
        .env("CLINIT_GRACE", "1s")
        .run();
    assert!(
        ended.expect(0).stdout.contains("workers  7"),
        "{}",
        ended.stdout
    );
}

#[test]
fn one_cpu_of_the_mask_is_one_worker() {
    let ended = Setup::new("cpus -i max").through(&["taskset", "1"]).run();
    assert!(
        ended.expect(0).stdout.contains("workers  1"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_verb_is_only_one_as_the_first_argument() {
    let dir = Dir::new();
    let command = dir.write("cpus", "#!/bin/sh\nexit 17\n", 0o755);
    let path = format!("{}:/usr/bin:/bin", dir.path(""));
    assert!(fs::exists(command).unwrap());
    for arguments in ["-- cpus", "-i 1 --restart never cpus"] {
        let ended = Setup::new(arguments).env("PATH", &path).run();
        ended.expect(17);
    }
    assert!(CLINIT.ends_with("clinit"));
}
