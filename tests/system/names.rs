//! What clinit is called.

use std::os::unix::fs::symlink;

use crate::harness::{CLINIT, Dir, Setup};

/// The first line of what it prints, called by this name, for these options.
fn first_line(name: &str, options: &str) -> String {
    let dir = Dir::new();
    let path = dir.path(name);
    symlink(CLINIT, &path).unwrap();
    let ended = Setup::new(options).program(path).run();
    let text = if ended.stdout.is_empty() {
        ended.log
    } else {
        ended.stdout
    };
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn by_any_name_that_is_no_other_inits_it_is_itself() {
    let own = concat!("clinit ", env!("CARGO_PKG_VERSION"));
    for name in ["clinit", "my-tini", "tini2", "Tini", "init", "tini.old"] {
        assert_eq!(first_line(name, "--version"), own, "{name}");
    }
}

#[test]
fn a_link_of_either_kind_and_a_path_make_a_name() {
    let dir = Dir::new();
    let name = dir.path("tini");
    // Another file system takes no hard link.
    if std::fs::hard_link(CLINIT, &name).is_err() {
        std::fs::copy(CLINIT, &name).unwrap();
    }
    let ended = Setup::new("--version").program(name).run();
    assert!(
        ended
            .stdout
            .starts_with("tini version 0.19.0 - git.clinit-"),
        "{}",
        ended.stdout
    );
    for name in [
        "tini",
        "tini-static",
        "docker-init",
        "dumb-init",
        "catatonit",
    ] {
        assert!(
            first_line(name, "--version").contains(" - git.clinit-"),
            "{name}"
        );
    }
}

/// Kubernetes sets variables for a Service named clinit; a drop-in has no
/// options of clinit's.
#[test]
fn by_another_name_clinits_own_options_are_nothing() {
    let dir = Dir::new();
    let name = dir.path("tini");
    symlink(CLINIT, &name).unwrap();
    let ended = Setup::new("-s")
        .program(name)
        .env("CLINIT_INSTANCES", "many")
        .env("CLINIT_LISTEN", "80")
        .worker("report-env CLINIT_INSTANCES exit 3")
        .run();
    ended.expect(3);
    assert_eq!(ended.log, "");
}
