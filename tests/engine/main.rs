//! Ring 4: clinit in a real container, by a Docker engine of the tests' own.
//!
//! One engine serves all tests, one after the other, and ends with them; so
//! this is no libtest harness. Where no engine can be had, that is said
//! loudly; under `CI=true` it is a failure.

#![expect(clippy::expect_used, reason = "it is a test")]
#![expect(clippy::disallowed_methods, reason = "deadlines here are real time")]

mod cases;
mod endings;
mod engine;
#[path = "../harness/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::indexing_slicing,
    reason = "other tests use the rest"
)]
mod harness;
mod http;
mod init;
mod limits;
#[path = "../servers/load.rs"]
mod load;
mod matrix;
mod profiles;
mod runner;
#[path = "../servers/mod.rs"]
mod servers;
mod terminals;
mod until;

use std::process::ExitCode;

use engine::Engine;
use runner::{Arguments, Test};

const TESTS: &[Test<Engine>] = &[
    (
        "restricted_container_serves_and_stops",
        cases::restricted_container_serves_and_stops,
    ),
    (
        "instances_follow_the_cpu_limits",
        cases::instances_follow_the_cpu_limits,
    ),
    (
        "instances_follow_a_cpu_limit_that_changes",
        limits::instances_follow_a_cpu_limit_that_changes,
    ),
    (
        "a_load_balancer_goes_on_sending_for_the_drain_delay",
        endings::a_load_balancer_goes_on_sending_for_the_drain_delay,
    ),
    ("an_oom_kill_is_named", limits::an_oom_kill_is_named),
    (
        "survives_a_full_pids_cgroup",
        cases::survives_a_full_pids_cgroup,
    ),
    (
        "termination_message_is_left",
        cases::termination_message_is_left,
    ),
    (
        "the_child_has_the_terminal_of_docker_run_it",
        terminals::the_child_has_the_terminal_of_docker_run_it,
    ),
    (
        "dockerfile_builds_and_runs",
        cases::dockerfile_builds_and_runs,
    ),
    (
        "the_engine_runs_it_as_its_own_init",
        init::the_engine_runs_it_as_its_own_init,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::read(std::env::args().skip(1));
    let tests = [TESTS, matrix::TESTS].concat();
    if arguments.lists {
        return runner::list(&tests, &arguments);
    }
    let chosen = arguments.choose(&tests);
    if chosen.is_empty() {
        return runner::report(0, &[], 0, tests.len());
    }
    match Engine::start() {
        Ok(engine) => runner::run(&chosen, &engine, tests.len()),
        Err(reason) => {
            eprintln!("\nRING 4 CANNOT RUN HERE: no Docker engine ({reason})\n");
            if std::env::var_os("CI").is_some_and(|value| value == "true") {
                let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
                return runner::report(0, &names, 0, tests.len());
            }
            runner::ignore(&chosen, tests.len())
        }
    }
}
