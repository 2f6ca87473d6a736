//! What clinit does in a container.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::Duration;

use crate::engine::{Container, Engine, succeed};
use crate::http::{first_answer, free_port, get};
use crate::until::until;

/// What Kubernetes calls "restricted", and a random user id in group 0.
const RESTRICTED: &[&str] = &[
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "1000830000:0",
];

/// `--grace` where there is no Kubernetes; the drain delay is 0 there.
const GRACE: Duration = Duration::from_secs(8);

/// A FROM scratch image whose ENTRYPOINT is `/clinit` with these arguments;
/// `/server` is the demo, `/fixture` the fixture worker.
pub(crate) fn image(engine: &Engine, name: &str, arguments: &str) {
    let words = arguments.split(' ').map(|word| format!(",\"{word}\""));
    let dockerfile = format!(
        "FROM scratch\nCOPY clinit server fixture /\nENTRYPOINT [\"/clinit\"{}]\n",
        words.collect::<String>()
    );
    let clinit = PathBuf::from(env!("CARGO_BIN_EXE_clinit"));
    let examples = clinit
        .parent()
        .expect("it is in a directory")
        .join("examples");
    let files = [
        (clinit.as_path(), "clinit"),
        (&examples.join("demo"), "server"),
        (&examples.join("fixture-worker"), "fixture"),
    ];
    engine.image(name, &dockerfile, &files);
}

/// The N of "slot 0 of N" in the demo's answer.
fn slots(answer: &str) -> usize {
    let slots = answer
        .split(" of ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    slots
        .and_then(|slots| slots.parse().ok())
        .unwrap_or_else(|| panic!("no slots: {answer}"))
}

pub(crate) fn machine() -> usize {
    available_parallelism().map_or(1, usize::from)
}

pub(crate) fn assert_stops_in_order(container: &Container<'_>) {
    let took = container.stop();
    assert_eq!(
        container.inspect(".State.ExitCode"),
        "0",
        "{}",
        container.log()
    );
    assert!(took < GRACE, "it took {took:?}: {}", container.log());
}

pub(crate) fn restricted_container_serves_and_stops(engine: &Engine) {
    let port = free_port();
    image(
        engine,
        "serves",
        &format!("-i max -l 127.0.0.1:{port} -- /server serve"),
    );
    let container = engine.run(&[RESTRICTED, &["serves"]].concat());
    let answer = first_answer(port);
    assert_eq!(slots(&answer), machine());

    // A worker that fails is replaced.
    let response = get(port, "/exit").expect("an answer before the end");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    first_answer(port);

    assert_stops_in_order(&container);
}

pub(crate) fn instances_follow_the_cpu_limits(engine: &Engine) {
    let limits = [("--cpus=0.5", 1), ("--cpus=1.5", 2), ("--cpuset-cpus=0", 1)];
    for (limit, workers) in limits {
        if workers > machine() {
            eprintln!("{limit} is skipped: this machine has one CPU");
            continue;
        }
        let port = free_port();
        let name = format!("limits-{port}");
        image(
            engine,
            &name,
            &format!("-i max -l 127.0.0.1:{port} -- /server serve"),
        );
        let container = engine.run(&[RESTRICTED, &[limit, &name]].concat());
        let answer = first_answer(port);
        assert_eq!(slots(&answer), workers, "{limit}: {}", container.log());
        assert_stops_in_order(&container);
    }
}

pub(crate) fn survives_a_full_pids_cgroup(engine: &Engine) {
    let port = free_port();
    // One thread a worker, so that pids can be counted.
    image(
        engine,
        "pids",
        &format!("-i 2 -l 127.0.0.1:{port} -- /fixture report up serve"),
    );
    // runc's own start needs more than the workers do.
    let container = engine.run(&["--pids-limit", "64", "pids"]);
    container.await_pids(3);
    let limit =
        |pids: usize| engine.succeed(["update", "--pids-limit", &pids.to_string(), &container.id]);
    let signal = |name: &str| engine.succeed(["kill", "--signal", name, &container.id]);

    // Another process of the container, which ends with its stdin.
    let mut neighbour = engine
        .docker([
            "exec",
            "--interactive",
            &container.id,
            "/fixture",
            "report-stdin",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("docker exec");
    container.await_pids(4);

    // A third worker finds no room, until the neighbour leaves.
    limit(4);
    signal("TTIN");
    await_refusals(&container, 1);
    first_answer(port);
    assert_eq!(container.pids(), 4);
    drop(neighbour.stdin.take());
    until("a third worker", Duration::from_secs(30), || {
        (reports(&container) == 3).then_some(())
    });
    neighbour.wait().expect("docker exec ends");
    container.await_pids(4);

    // Workers die, and none finds room: clinit lives, and waits.
    limit(1);
    for worker in workers(engine, &container) {
        // The pid is that of a process in this container.
        succeed(Command::new("kill").args(["-KILL", &worker]));
    }
    container.await_pids(1);
    await_refusals(&container, 2);
    assert_eq!(container.inspect(".State.Running"), "true");
    limit(64);
    container.await_pids(4);
    first_answer(port);
    assert_stops_in_order(&container);
}

/// The workers' pids, as the host sees them.
fn workers(engine: &Engine, container: &Container<'_>) -> Vec<String> {
    let processes = engine.succeed(["top", &container.id, "-o", "pid,comm"]);
    let workers = processes.lines().filter(|line| line.ends_with("fixture"));
    workers
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

/// How many workers have said that they are up.
fn reports(container: &Container<'_>) -> usize {
    container
        .log()
        .lines()
        .filter(|line| line.ends_with("\tup"))
        .count()
}

/// Waits until clinit has told of so many forks that found no room (EAGAIN).
fn await_refusals(container: &Container<'_>, count: usize) {
    until("a fork that finds no room", Duration::from_secs(30), || {
        let told = container.log().matches("(os error 11)").count();
        (told >= count).then_some(())
    });
}

pub(crate) fn termination_message_is_left(engine: &Engine) {
    let port = free_port();
    image(
        engine,
        "message",
        &format!("-i 1 -l 127.0.0.1:{port} -- /server serve"),
    );
    let file = engine.directory("termination").join("log");
    fs::write(&file, "").expect("an empty file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("writable by all");
    let mount = format!("{}:/dev/termination-log", file.display());
    let container = engine.run(&[RESTRICTED, &["--volume", &mount, "message"]].concat());
    first_answer(port);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "");
    assert_stops_in_order(&container);

    let message = fs::read_to_string(&file).expect("it is there");
    let log = container.log();
    assert!(
        (1..1024).contains(&message.len()),
        "{} bytes: {message}",
        message.len()
    );
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    assert!(
        log.contains(message.trim_end()),
        "{message:?} is not in the log:\n{log}"
    );
}

/// Every line of the Dockerfile runs. The builder image is a stand-in.
pub(crate) fn dockerfile_builds_and_runs(engine: &Engine) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stand_in = Command::new(root.join("tests/engine/stand-in-builder.sh"));
    let client = engine.docker([] as [&str; 0]);
    let variables = client
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let builder = succeed(stand_in.arg(root.join("Cargo.lock")).envs(variables));
    let builder = format!("BUILDER={}", builder.trim());
    // Without a network: every crate is the one that Cargo.lock names.
    let options = [
        "build",
        "--network",
        "none",
        "--tag",
        "clinit",
        "--build-arg",
        &builder,
    ];
    let build = options.iter().map(OsStr::new).chain([root.as_os_str()]);
    succeed(&mut engine.docker(build));

    let version = engine.succeed(["run", "--rm", "--network", "none", "clinit", "--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");

    // Copied from, as its header says.
    let port = free_port();
    let examples = Path::new(env!("CARGO_BIN_EXE_clinit")).with_file_name("examples");
    let arguments = format!(r#""-i","1","-l","127.0.0.1:{port}","--","/server","serve""#);
    let dockerfile = format!(
        "FROM scratch\nCOPY --from=clinit /clinit /clinit\nCOPY server /\nENTRYPOINT [\"/clinit\",{arguments}]\n"
    );
    engine.image("copied", &dockerfile, &[(&examples.join("demo"), "server")]);
    let container = engine.run(&[RESTRICTED, &["copied"]].concat());
    first_answer(port);
    assert_stops_in_order(&container);
}
