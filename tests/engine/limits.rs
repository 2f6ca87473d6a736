//! What clinit does about a container's limits while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::cases::{assert_stops_in_order, image, machine};
use crate::engine::Engine;
use crate::http::{first_answer, free_port, get};
use crate::until::until;

/// How soon the workers are as many as the limit says.
const SOON: Duration = Duration::from_secs(10);

/// From half a CPU to two and back, under load.
pub(crate) fn instances_follow_a_cpu_limit_that_changes(engine: &Engine) {
    if machine() < 2 {
        eprintln!("a limit of 2 CPUs is skipped: this machine has one");
        return;
    }
    let port = free_port();
    image(
        engine,
        "changes",
        // Whoever is asked to stop reports that, and has time to finish.
        &format!(
            "-i max -l 127.0.0.1:{port} --grace 2s --ready notify -- /fixture on TERM report ready serve"
        ),
    );
    let container = engine.run(&["--cpus=0.5", "changes"]);
    first_answer(port);
    let limit = |cpus: &str| engine.succeed(["update", "--cpus", cpus, &container.id]);
    let told = |line: &str| {
        until(line, SOON, || container.log().contains(line).then_some(()));
    };
    told("1 CPUs: a quota of 0.5");
    let over = AtomicBool::new(false);
    let (asked, failed) = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut asked, mut failed) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                asked += 1;
                let answer = get(port, "/");
                failed += u32::from(!answer.is_ok_and(|it| it.starts_with("HTTP/1.1 200 ")));
            }
            (asked, failed)
        });
        limit("2");
        told("scaled workers=2");
        until("a second worker", SOON, || {
            (container.log().matches("worker is ready").count() == 2).then_some(())
        });
        limit("0.5");
        told("scaled workers=1");
        over.store(true, Ordering::Relaxed);
        load.join().expect("the load")
    });
    assert!(failed == 0 && asked > 0, "{failed} of {asked} failed");
    first_answer(port);
}

/// A worker needs more memory than there is.
pub(crate) fn an_oom_kill_is_named(engine: &Engine) {
    let port = free_port();
    image(
        engine,
        "memory",
        &format!(
            "-i 2 -l 127.0.0.1:{port} --ready notify -- /fixture ready \
             if-slot 1 [ once /first [ grow 256 ] ] serve"
        ),
    );
    let limits = ["--memory=64m", "--memory-swap=64m", "memory"];
    let container = engine.run(&limits);
    let reason = "worker was killed by the kernel: out of memory, of 67108864 bytes";
    let line = until("an OOM kill in the log", Duration::from_secs(30), || {
        let log = container.log();
        log.lines()
            .find(|line| line.contains(reason))
            .map(str::to_owned)
    });
    assert!(line.contains("slot=1"), "{line}");
    for _ in 0..8 {
        first_answer(port);
    }
    container.await_pids(3);
    // One that somebody kills is not said to be that.
    for worker in engine
        .succeed(["top", &container.id, "-o", "pid,comm"])
        .lines()
    {
        if let Some(pid) = worker.strip_suffix("fixture") {
            crate::engine::succeed(std::process::Command::new("kill").args(["-KILL", pid.trim()]));
        }
    }
    until("two more ends", Duration::from_secs(30), || {
        (container
            .log()
            .matches("worker was killed by SIGKILL")
            .count()
            == 2)
            .then_some(())
    });
    first_answer(port);
    assert_stops_in_order(&container);
    let log = container.log();
    assert_eq!(log.matches("out of memory").count(), 1, "{log}");
    assert!(log.contains(" oom_kills=1"), "{log}");
}
