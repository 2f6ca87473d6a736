//! What an init does under a name: one table of expectations for each of the
//! programs that clinit stands in for, and of clinit's differences from it.
//!
//! `cargo test` runs each table over the original, where it is installed, and
//! over clinit under that name: a claim about either that is not true fails.
//! `CONFORMANCE_INIT=/path CONFORMANCE_AS=tini cargo test --test conformance`
//! runs it over any other program in place of these; `CONFORMANCE_AS` is
//! tini, dumb-init, catatonit or clinit.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "it is a test")]
#![expect(clippy::disallowed_methods, reason = "deadlines here are real time")]

mod document;
#[path = "../harness/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::indexing_slicing,
    reason = "other tests use the rest"
)]
mod harness;
mod observe;
mod run;
mod table;

use std::os::unix::fs::symlink;
use std::path::Path;

use harness::{CLINIT as BINARY, Dir, can_be_pid1, cannot_run, program};
use run::failures;
use table::{CATATONIT, CLINIT, DUMB_INIT, Row, TINI, Whose};

/// Runs the table over clinit, called by this name.
fn check_clinit(name: &str, table: &[Row]) {
    if is_pointed_elsewhere() {
        return;
    }
    let dir = Dir::new();
    let path = dir.path(name);
    symlink(BINARY, &path).expect("a symbolic link");
    check(&path, table, Whose::Clinit);
}

/// Runs the table over the program of this name that is installed.
fn check_original(name: &str, table: &[Row]) {
    if is_pointed_elsewhere() {
        return;
    }
    match program(name) {
        Some(path) => check(path.to_str().expect("UTF-8"), table, Whose::Original),
        None => drop(cannot_run(
            "CONFORMANCE",
            &format!("{name} is not installed"),
        )),
    }
}

fn is_pointed_elsewhere() -> bool {
    std::env::var_os("CONFORMANCE_INIT").is_some()
}

#[track_caller]
fn check(path: &str, table: &[Row], whose: Whose) {
    let may_be_pid1 = can_be_pid1();
    let rows = table.iter().filter(|row| may_be_pid1 || !row.pid1);
    let failures = failures(Path::new(path), rows, whose);
    assert!(
        failures.is_empty(),
        "{path}: {} of {} rows differ\n{}",
        failures.len(),
        table.len(),
        failures.join("\n")
    );
}

#[test]
fn tini() {
    check_original("tini", TINI);
}

#[test]
fn tini_static() {
    check_original("tini-static", TINI);
}

#[test]
fn dumb_init() {
    check_original("dumb-init", DUMB_INIT);
}

#[test]
fn catatonit() {
    check_original("catatonit", CATATONIT);
}

#[test]
fn clinit_itself() {
    check_clinit("clinit", CLINIT);
}

#[test]
fn clinit_as_tini() {
    check_clinit("tini", TINI);
}

#[test]
fn clinit_as_tini_static() {
    check_clinit("tini-static", TINI);
}

#[test]
fn clinit_as_docker_init() {
    check_clinit("docker-init", TINI);
}

#[test]
fn clinit_as_dumb_init() {
    check_clinit("dumb-init", DUMB_INIT);
}

#[test]
fn clinit_as_catatonit() {
    check_clinit("catatonit", CATATONIT);
}

#[test]
fn the_one_that_a_variable_points_at() {
    let Some(path) = std::env::var_os("CONFORMANCE_INIT") else {
        return;
    };
    let name = std::env::var("CONFORMANCE_AS").unwrap_or_default();
    let table = match name.as_str() {
        "tini" => TINI,
        "dumb-init" => DUMB_INIT,
        "catatonit" => CATATONIT,
        "clinit" => CLINIT,
        _ => panic!("CONFORMANCE_AS={name}: accepted are tini, dumb-init, catatonit and clinit"),
    };
    check(path.to_str().expect("UTF-8"), table, Whose::Original);
}
