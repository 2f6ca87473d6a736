//! Clinit as the engine's own docker-init.

use std::path::Path;
use std::time::Duration;

use crate::engine::Engine;
use crate::until::until;

const IMAGE: &str = "without-an-init";

/// What the image runs: a server that leaves orphans and takes TERM.
const SERVER: &[&str] = &[
    "/fixture",
    "fork-orphans",
    "20",
    "report-pids",
    "on",
    "TERM,USR1",
    "exit",
    "7",
    "report",
    "up",
    "wait",
];

pub(crate) fn the_engine_runs_it_as_its_own_init(engine: &Engine) {
    // The daemon's line for `docker info`, out of `docker-init --version`.
    let version = engine.succeed(["info", "--format", "{{.InitCommit.ID}}"]);
    assert_eq!(version.trim(), "clinit-0-1-0");

    let clinit = Path::new(env!("CARGO_BIN_EXE_clinit"));
    let examples = clinit.parent().expect("a directory").join("examples");
    let dockerfile = "FROM scratch\nCOPY fixture /\n";
    let fixture = (&*examples.join("fixture-worker"), "fixture");
    engine.image(IMAGE, dockerfile, &[fixture]);

    let container = engine.run(&[&["--init", IMAGE], SERVER].concat());
    until("its server", Duration::from_secs(30), || {
        container.log().contains("report\tup").then_some(())
    });
    let log = container.log();
    assert!(log.contains("ppid=1\t"), "process 1 is its parent: {log}");
    assert!(!log.contains("\tpid=1\t"), "and it is not process 1: {log}");
    // The orphans are reaped, and process 1 has a thread.
    container.await_pids(2);
    container.stop();
    assert_eq!(container.inspect(".State.ExitCode"), "7", "{log}");

    // What `docker kill` sends is the server's, however it is called.
    let container = engine.run(&[&["--init", IMAGE], SERVER].concat());
    until("its server", Duration::from_secs(30), || {
        container.log().contains("report\tup").then_some(())
    });
    engine.succeed(["kill", "--signal=ABRT", &container.id]);
    until("its end", Duration::from_secs(20), || {
        (container.inspect(".State.Running") == "false").then_some(())
    });
    assert_eq!(container.inspect(".State.ExitCode"), "134");
}
