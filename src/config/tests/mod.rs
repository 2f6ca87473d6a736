//! Whole command lines with whole environments.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::Duration;

use super::scratch::Scratch;
use super::*;
use crate::supervisor::policy::{Drain, Meaning, Ready, Restart, Routes, Signal, Surge, Target};

mod random;
mod refusals;
mod variables;

fn parse_with(argv: &[&str], env: &[(&str, &str)], place: Place<'_>) -> Result<Parsed, UsageError> {
    parse_beside(argv, env, place, false)
}

fn parse_beside(
    argv: &[&str],
    env: &[(&str, &str)],
    place: Place<'_>,
    inherits_listeners: bool,
) -> Result<Parsed, UsageError> {
    let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
    let owned = |(name, value): &(&str, &str)| (name.into(), value.into());
    let env: Vec<(OsString, OsString)> = env.iter().map(owned).collect();
    parse_at(place, &argv, &env, inherits_listeners)
}

fn parse_in(argv: &[&str], env: &[(&str, &str)]) -> Result<Parsed, UsageError> {
    parse_with(argv, env, nowhere())
}

/// Where there is neither a file nor a user.
fn nowhere() -> Place<'static> {
    let (cwd, root) = (Path::new("/srv"), Path::new("/nonexistent"));
    Place { cwd, root }
}

fn parse_inheriting(argv: &[&str], env: &[(&str, &str)]) -> Parsed {
    parse_beside(argv, env, nowhere(), true).unwrap()
}

fn config_in(argv: &[&str], env: &[(&str, &str)]) -> Config {
    let Invocation::Run(config) = parse_in(argv, env).unwrap().invocation else {
        panic!("{argv:?} runs nothing");
    };
    *config
}

fn config(argv: &[&str]) -> Config {
    config_in(argv, &[])
}

fn error_in(argv: &[&str], env: &[(&str, &str)]) -> String {
    parse_in(argv, env).unwrap_err().to_string()
}

fn error(argv: &[&str]) -> String {
    error_in(argv, &[])
}

fn notes_in(argv: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    let notes = parse_in(argv, env).unwrap().notes;
    notes.into_iter().map(|note| note.text).collect()
}

#[test]
fn a_bare_command_is_run_in_init_mode_with_the_defaults() {
    let config = config(&["/bin/server", "-i", "4"]);
    assert_eq!(config.command, ["/bin/server", "-i", "4"]);
    let policy = Policy {
        mode: Mode::Init,
        instances: 1,
        most_instances: 1,
        restart: Restart::Never,
        ready: Ready::Auto,
        presumed_ready_after: Duration::from_secs(10),
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_secs(15),
        min_uptime: Duration::from_secs(1),
        max_restarts: 16,
        routes: Routes::default(),
        forward_to: Target::Main,
        stop_signal: Signal::TERM,
        drain_delay: Duration::ZERO,
        grace: Duration::from_secs(8),
        drain: Drain::Connections(Duration::MAX),
        ready_timeout: Duration::from_mins(1),
        settle: Duration::from_secs(1),
        surge: Surge::Workers(1),
        max_lifetime: None,
        hang_timeout: None,
        orphan_grace: Duration::from_secs(5),
        leaves_survivors: false,
    };
    assert_eq!(config.policy, policy);
    assert_eq!(config.sizing.instances, Instances::Exactly(1));
    assert!(config.listeners.is_empty() && config.environment.is_empty());
    assert_eq!((config.share, config.capture), (Share::Auto, Capture::Auto));
    assert_eq!((config.credentials, config.chdir), (None, None));
}

#[test]
fn cluster_mode_restarts_and_may_grow() {
    let policy = config(&["-i", "max", "server"]).policy;
    assert_eq!(policy.mode, Mode::Cluster);
    assert_eq!(
        (policy.instances, policy.most_instances),
        (1, MOST_INSTANCES)
    );
    assert_eq!(policy.restart, Restart::Always);
}

#[test]
fn every_way_to_write_an_option() {
    for argv in [
        &["-i4", "a"][..],
        &["-i=4", "a"],
        &["-i", "4", "a"],
        &["--instances=4", "a"],
        &["--instances", "4", "a"],
        &["-vi4", "--", "a"],
    ] {
        let config = config(argv);
        assert_eq!(config.sizing.instances, Instances::Exactly(4), "{argv:?}");
        assert_eq!(config.command, ["a"], "{argv:?}");
    }
    for argv in [["-i", "-1", "a"], ["-i", "max-1", "a"], ["-i-1", "--", "a"]] {
        let instances = config(&argv).sizing.instances;
        assert_eq!(instances, Instances::MaxLess(1), "{argv:?}");
    }
    let listener = &config(&["-l:8080", "a"]).listeners[0];
    assert_eq!(listener.address, ListenAddress::TcpAny(8080));
}

#[test]
fn the_command_begins_at_the_first_word_that_is_no_option() {
    for (argv, command) in [
        (&["a", "--grace", "x"][..], &["a", "--grace", "x"][..]),
        (&["-i", "2", "a", "--", "-i"], &["a", "--", "-i"]),
        (&["--", "--", "a"], &["--", "a"]),
        (&["--", "-x"], &["-x"]),
        (&["--", "cpus"], &["cpus"]),
        (&["-v", "cpus"], &["cpus"]),
        (&["--", "status"], &["status"]),
        (&["-v", "kill", "5"], &["kill", "5"]),
        (&["-"], &["-"]),
    ] {
        assert_eq!(config(argv).command, command, "{argv:?}");
    }
    let no_command = "no command: clinit [OPTIONS] [--] COMMAND [ARG]...";
    for argv in [&[][..], &["-i", "4"], &["--"]] {
        assert_eq!(error(argv), no_command, "{argv:?}");
    }
    assert_eq!(error(&["-i", "4", ""]), "the command is an empty string");
}

#[test]
fn every_option_is_understood() {
    let image = Scratch::new("tests");
    image.write("etc/passwd", b"app:x:1000:1000::/:\n");
    image.write("app.env", b"FROM_FILE=1\n");
    let argv = "-i 50% --max-instances 8 --worker-memory 300M -l web=8080 -l unix:a.sock \
        --share queue --capture 8080,9090 --sockets-as server-starter,nginx --ready after:5s --drain-delay 3s \
        --ready-timeout 30s --settle 2s --surge 25% --drain connections:5s \
        --max-memory 80% --max-lifetime 1h --hang-timeout 15s --grace 1m --orphan-grace 2s --stop-signal SIGINT --restart on-failure \
        --backoff 1s..10s --min-uptime 4s --max-restarts 3 --user app --chdir sub \
        --env PORT=3000 --env A=1 --env-file app.env --env-step PORT --pin \
        --control /run/c --ready-during-drain keep \
         --signal USR2=reload --signal term=SIGQUIT -g \
        -p KILL -e 143 -e 3 -w -s --log-format json --log-level warn -v server";
    let argv: Vec<&str> = argv.split_ascii_whitespace().collect();
    let (cwd, root) = (image.path(), image.path());
    let parsed = parse_with(&argv, &[], Place { cwd, root }).unwrap();
    let log = LogOptions {
        format: LogFormat::Json,
        level: LevelFilter::Info,
    };
    assert_eq!((parsed.log, parsed.notes), (log, Vec::new()));
    let Invocation::Run(config) = parsed.invocation else {
        panic!("{argv:?} runs nothing");
    };
    let (yes, secs) = (true, Duration::from_secs);
    let mut routes = Routes::default();
    routes.set(Signal::USR2, Meaning::Reload);
    routes.set(Signal::TERM, Meaning::Forward(Signal::QUIT));
    let expected = Config {
        command: vec!["server".into()],
        policy: Policy {
            mode: Mode::Cluster,
            instances: 1,
            most_instances: MOST_INSTANCES,
            restart: Restart::OnFailure,
            ready: Ready::After(secs(5)),
            presumed_ready_after: secs(10),
            backoff_min: secs(1),
            backoff_max: secs(10),
            min_uptime: secs(4),
            max_restarts: 3,
            routes,
            forward_to: Target::Group,
            stop_signal: Signal::INT,
            drain_delay: secs(3),
            grace: secs(60),
            drain: Drain::Connections(secs(5)),
            ready_timeout: secs(30),
            settle: secs(2),
            surge: Surge::Percent(25),
            max_lifetime: Some(secs(3600)),
            hang_timeout: Some(secs(15)),
            orphan_grace: secs(2),
            leaves_survivors: false,
        },
        plain: Plain {
            parent_death: Some(Signal::KILL),
            ok_codes: vec![143, 3],
            warn_reaped: yes,
        },
        sizing: Sizing {
            instances: Instances::Percent(50),
            max_instances: Some(8),
            worker_memory: Some(300 << 20),
            in_kubernetes: false,
            cpu_request_millis: None,
        },
        listeners: vec![
            ListenerSpec {
                name: Some("web".into()),
                address: ListenAddress::TcpAny(8080),
            },
            ListenerSpec {
                name: None,
                address: ListenAddress::Unix(image.path().join("a.sock")),
            },
        ],
        share: Share::Queue,
        capture: Capture::Ports(vec![8080, 9090]),
        capture_route: None,
        dialects: Dialects {
            server_starter: yes,
            nginx: yes,
        },
        credentials: Some(Credentials {
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
        }),
        chdir: Some(image.path().join("sub")),
        environment: [("A", "1"), ("FROM_FILE", "1"), ("PORT", "3000")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        env_steps: vec!["PORT".into()],
        control: Socket::Path("/run/c".into()),
        ready_during_drain: true,
        manner: None,
        pin: yes,
        max_memory: Some(MaxMemory::Percent(80)),
    };
    assert_eq!(*config, expected);
}

#[test]
fn what_it_shares_with_other_inits_may_stand_in_variables() {
    let env = [
        ("CLINIT_PARENT_DEATH", "RTMIN+3"),
        ("CLINIT_EXIT_OK", "143,3"),
        ("CLINIT_WARN_REAPED", "1"),
        ("CLINIT_SUBREAPER", "1"),
    ];
    let expected = Plain {
        parent_death: Signal::from_number(37),
        ok_codes: vec![143, 3],
        warn_reaped: true,
    };
    assert_eq!(config_in(&["server"], &env).plain, expected);
    assert_eq!(config(&["server"]).plain, Plain::default());
}

#[test]
fn entries_that_are_no_variables_are_passed_on() {
    let env = [("B", "1"), ("", "no variable"), ("B", "2"), ("", "")];
    let kept = config_in(&["--env", "A=1", "server"], &env).environment;
    let expected = [&env[..], &[("A", "1")]].concat();
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(n, v)| (n.into(), v.into()))
        .collect();
    assert_eq!(kept, expected);
}

#[test]
fn a_listener_alone_makes_a_cluster_of_one() {
    let parsed = parse_in(&["-l", "80", "server"], &[]).unwrap();
    let note = Note {
        level: Level::Info,
        text: "-l without -i: one worker, as with -i 1".into(),
    };
    assert_eq!(parsed.notes, [note]);
    let config = config(&["-l", "80", "server"]);
    assert_eq!(config.policy.mode, Mode::Cluster);
    assert_eq!(config.sizing.instances, Instances::Exactly(1));
    assert!(notes_in(&["-l", "80", "-i", "1", "server"], &[]).is_empty());
}

#[test]
fn ways_to_share_a_port_and_to_be_ready() {
    for (argv, share, capture, ready) in [
        (&[][..], Share::Auto, Capture::Auto, Ready::Auto),
        (
            &["--share=slots", "--ready=listen"],
            Share::Slots,
            Capture::Auto,
            Ready::Listen,
        ),
        (
            &["--ready=listen", "--capture=80"],
            Share::Auto,
            Capture::Ports(vec![80]),
            Ready::Listen,
        ),
        (
            &["--share=off", "--capture=off", "--ready=notify"],
            Share::Off,
            Capture::Off,
            Ready::Notify,
        ),
        (
            &["--share=off", "--capture=auto", "--ready=auto"],
            Share::Off,
            Capture::Auto,
            Ready::Auto,
        ),
    ] {
        let config = config(&[&["-i2"], argv, &["server"]].concat());
        let found = (config.share, config.capture, config.policy.ready);
        assert_eq!(found, (share, capture, ready), "{argv:?}");
    }
}

#[test]
fn an_option_that_changes_nothing_is_warned_of() {
    let of_numbers = "is of no effect: it bounds max, P% and Nx";
    for (option, value) in [("--worker-memory", "1G"), ("--max-instances", "4")] {
        let noted = |instances| notes_in(&["-i", instances, option, value, "a"], &[]);
        assert_eq!(noted("2"), [format!("{option} {of_numbers}")]);
        assert_eq!((noted("max").len(), noted("50%").len()), (0, 0));
        let alone = notes_in(&["-l", "80", option, value, "a"], &[]);
        assert!(alone.contains(&format!("{option} {of_numbers}")));
    }
    let argv = ["-i2", "--sockets-as", "nginx", "a"];
    let unheard = "--sockets-as is of no effect: there is no listener";
    assert_eq!(notes_in(&argv, &[]), [unheard]);
    assert!(parse_inheriting(&argv, &[]).notes.is_empty());
    let listening = [&["-l80"][..], &argv].concat();
    assert!(notes_in(&listening, &[]).is_empty());
}

#[test]
fn the_level_of_the_log() {
    for (argv, level) in [
        (&["a"][..], LevelFilter::Warn),
        (&["-v", "a"], LevelFilter::Info),
        (&["-vv", "a"], LevelFilter::Debug),
        (&["-i2", "a"], LevelFilter::Info),
        (&["-l80", "-v", "a"], LevelFilter::Debug),
        (&["-vvi2", "a"], LevelFilter::Trace),
        (&["--log-level", "info", "a"], LevelFilter::Info),
        (&["--log-level", "info", "-i2", "a"], LevelFilter::Info),
        (&["-v", "--verbose", "-v", "-v", "a"], LevelFilter::Trace),
        (&["--log-level", "off", "a"], LevelFilter::Off),
        (&["--log-level", "warn", "-v", "a"], LevelFilter::Info),
    ] {
        assert_eq!(parse_in(argv, &[]).unwrap().log.level, level, "{argv:?}");
    }
}

#[test]
fn the_verb_cpus_takes_what_the_number_of_workers_depends_on() {
    let sizing = |argv: &[&str], env: &[(&str, &str)]| {
        let Invocation::Cpus(sizing) = parse_in(argv, env).unwrap().invocation else {
            panic!("{argv:?} is no cpus");
        };
        sizing
    };
    assert_eq!(sizing(&["cpus"], &[]).instances, Instances::Max);
    let argv = [
        "cpus",
        "-i",
        "50%",
        "--max-instances=4",
        "--worker-memory",
        "1G",
    ];
    let asked = sizing(&argv, &[("CLINIT_INSTANCES", "2"), ("CLINIT_GRACE", "bad")]);
    assert_eq!(asked.instances, Instances::Percent(50));
    assert_eq!(
        (asked.max_instances, asked.worker_memory),
        (Some(4), Some(1 << 30))
    );
    let from_env = sizing(&["cpus"], &[("CLINIT_INSTANCES", "2x")]);
    assert_eq!(from_env.instances, Instances::Times(2000));
    assert_eq!(error(&["cpus", "a"]), "cpus takes no argument: \"a\"");
    let refused =
        "cpus does not take --grace: accepted are -i, --max-instances and --worker-memory";
    assert_eq!(error(&["cpus", "--grace", "1s"]), refused);
}

#[test]
fn help_and_version_come_before_what_is_wrong() {
    let bad = [("CLINIT_GRACE", "bad")];
    for (argv, invocation) in [
        (&["-h"][..], Invocation::Help),
        (&["--help"], Invocation::Help),
        (&["-i", "many", "-h"], Invocation::Help),
        (&["cpus", "-h"], Invocation::Help),
        (&["-V"], Invocation::Version),
        (&["--version", "-h"], Invocation::Version),
    ] {
        assert_eq!(
            parse_in(argv, &bad).unwrap().invocation,
            invocation,
            "{argv:?}"
        );
    }
    assert_eq!(config(&["a", "-h"]).command, ["a", "-h"]);
}

#[test]
fn what_is_no_text_is_kept_where_it_may_be_and_refused_elsewhere() {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let parse = |argv: &[OsString]| parse(argv, &[], Path::new("/srv"), false);
    let argv = [
        bytes(b"--env=K=\xff"),
        bytes(b"--chdir=\xfe"),
        bytes(b"a\xfd"),
    ];
    let Invocation::Run(config) = parse(&argv).unwrap().invocation else {
        panic!("{argv:?} runs nothing");
    };
    assert_eq!(config.environment, [("K".into(), bytes(b"\xff"))]);
    assert_eq!(config.chdir, Some(Path::new("/srv").join(bytes(b"\xfe"))));
    assert_eq!(config.command, [bytes(b"a\xfd")]);
    let error = parse(&[bytes(b"-i\xff"), "a".into()]).unwrap_err();
    assert_eq!(error.to_string(), "-i \"\\xff\": it is not valid UTF-8");
}
