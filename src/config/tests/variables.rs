//! What the environment says.

use super::*;

#[test]
fn the_line_beats_the_environment() {
    let env = [
        ("CLINIT_INSTANCES", "2"),
        ("CLINIT_GRACE", "1s"),
        ("CLINIT_LISTEN", "a=1, b=2\tunix:/c"),
        ("CLINIT_ENV", "A=1, 2\nB=b\n\n"),
        ("CLINIT_PIN", "yes"),
        ("CLINIT_VERBOSE", "true"),
        ("CLINIT_SHARE", "slots"),
        ("CLINIT_CAPTURE", "80,443"),
        ("CLINIT_READY", "listen"),
        ("CLINIT_SIGNAL", "USR1=ignore, TERM=RTMIN+3"),
        ("CLINIT_TO_GROUP", "1"),
    ];
    let from_env = config_in(&["server"], &env);
    assert_eq!(from_env.sizing.instances, Instances::Exactly(2));
    assert_eq!(from_env.policy.grace, Duration::from_secs(1));
    let specs = ["a=1", "b=2", "unix:/c"].map(|text| ListenerSpec::parse(text, nowhere().cwd));
    assert_eq!(from_env.listeners, specs.map(Result::unwrap));
    let pairs = [("A", "1, 2"), ("B", "b")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(from_env.environment, pairs);
    assert!(from_env.pin);
    assert_eq!(from_env.share, Share::Slots);
    assert_eq!(from_env.capture, Capture::Ports(vec![80, 443]));
    assert_eq!(from_env.policy.ready, Ready::Listen);
    let mut routes = Routes::default();
    routes.set(Signal::USR1, Meaning::Nothing);
    let third = Signal::from_number(37).unwrap();
    routes.set(Signal::TERM, Meaning::Forward(third));
    assert_eq!(from_env.policy.routes, routes);
    assert_eq!(from_env.policy.forward_to, Target::Group);
    assert_eq!(
        parse_in(&["a"], &env).unwrap().log.level,
        LevelFilter::Debug
    );

    let argv = "-i3 --grace 2s -l9 --env C=c --share off --capture auto --ready auto server";
    let argv: Vec<&str> = argv.split_ascii_whitespace().collect();
    let from_line = config_in(&argv, &env);
    assert_eq!(from_line.sizing.instances, Instances::Exactly(3));
    assert_eq!(from_line.policy.grace, Duration::from_secs(2));
    assert_eq!(from_line.listeners.len(), 1);
    let shared = (from_line.share, from_line.capture);
    assert_eq!(shared, (Share::Off, Capture::Auto));
    assert_eq!(from_line.policy.ready, Ready::Auto);
    assert_eq!(from_line.environment, [("C".into(), "c".into())]);
    let bad = [("CLINIT_GRACE", "never"), ("CLINIT_INSTANCES", "1")];
    config_in(&["--grace", "1s", "server"], &bad);
}

#[test]
fn variables_that_look_like_options_are_warned_of() {
    let env = [
        ("CLINIT_GRCAE", "1s"),
        ("CLINIT_INSTANCE", "1"),
        ("CLINIT_HELP", "1"),
        ("CLINIT_UNSET", ""),
        ("CLINIT_PORT", "tcp://10.0.0.1:80"),
        ("CLINIT_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("CLINIT_SERVICE_HOST", "10.0.0.1"),
        ("CLINIT_SLOT", "0"),
        ("CLINIT_SLOTS", "2"),
        ("CLINIT_GENERATION", "1"),
        ("CLINIT_CPU_REQUEST", "500m"),
        ("CLINITX", "1"),
        ("clinit_x", "1"),
    ];
    let warnings = [
        "unknown variable CLINIT_GRCAE: did you mean CLINIT_GRACE?",
        "unknown variable CLINIT_INSTANCE: did you mean CLINIT_INSTANCES?",
        "unknown variable CLINIT_HELP",
    ];
    assert_eq!(notes_in(&["server"], &env), warnings);
    let kept = config_in(&["server"], &env).environment;
    assert_eq!(
        kept.len(),
        env.len(),
        "they are no options, so workers see them"
    );
}

#[test]
fn workers_do_not_see_options() {
    let mut env = vec![
        ("PATH", "/bin"),
        ("CLINIT_LISTEN", "80"),
        ("CLINIT_GRACE", ""),
    ];
    env.extend([
        ("CLINIT_ENV", "A=1"),
        ("CLINIT_LOG_LEVEL", "off"),
        ("A", "0"),
    ]);
    let environment = config_in(&["server"], &env).environment;
    let expected = [("PATH", "/bin"), ("A", "1")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(environment, expected);
}

#[test]
fn env_beats_env_files_which_beat_what_is_inherited() {
    let files = Scratch::new("tests");
    files.write("one", b"A=file1\nB=file1\nC=file1\nD\n");
    files.write("two", b"B=file2\nC=file2\n");
    let argv = [
        "--env-file",
        "one",
        "--env",
        "C=line",
        "--env-file",
        "two",
        "server",
    ];
    let env = [("A", "old"), ("D", "old"), ("E", "old")];
    let (cwd, root) = (files.path(), files.path());
    let parsed = parse_with(&argv, &env, Place { cwd, root }).unwrap();
    let Invocation::Run(config) = parsed.invocation else {
        panic!("{argv:?} runs nothing");
    };
    let expected = [
        ("E", "old"),
        ("A", "file1"),
        ("B", "file2"),
        ("C", "line"),
        ("D", "old"),
    ];
    assert_eq!(
        config.environment,
        expected.map(|(k, v)| (k.into(), v.into()))
    );
}

#[test]
fn in_kubernetes() {
    let k8s = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let request = ("CLINIT_CPU_REQUEST", "1500m");
    let seconds = |argv: &[&str], env: &[(&str, &str)]| {
        let policy = config_in(argv, env).policy;
        (policy.drain_delay.as_secs(), policy.grace.as_secs())
    };
    assert_eq!(seconds(&["-i2", "a"], &[k8s]), (0, 20));
    assert_eq!(seconds(&["-l80", "a"], &[k8s]), (5, 20));
    // Whether they are clinit's own is the caller's to say.
    let passed = [k8s, ("LISTEN_FDS", "1")];
    assert_eq!(seconds(&["-i2", "a"], &passed), (0, 20));
    let Invocation::Run(config) = parse_inheriting(&["-i2", "a"], &passed).invocation else {
        panic!("it runs nothing");
    };
    assert_eq!(config.policy.drain_delay.as_secs(), 5);
    assert_eq!(seconds(&["-l80", "a"], &[]), (0, 8));
    let auto = ["-l80", "--grace=auto", "--drain-delay=auto", "a"];
    assert_eq!(seconds(&auto, &[k8s]), (5, 20));
    let set = ["-l80", "--grace=0", "--drain-delay=0", "a"];
    assert_eq!(seconds(&set, &[k8s]), (0, 0));

    let sizing = config_in(&["-i", "max", "a"], &[k8s, request]).sizing;
    assert!(sizing.in_kubernetes);
    assert_eq!(sizing.cpu_request_millis, Some(1500));
    assert!(
        !config_in(&["a"], &[("KUBERNETES_SERVICE_HOST", "")])
            .sizing
            .in_kubernetes
    );
    assert_eq!(
        notes_in(&["a"], &[("CLINIT_CPU_REQUEST", "half")]),
        ["CLINIT_CPU_REQUEST \"half\" is ignored: accepted are 500m, 0.5 and 2"]
    );
}
