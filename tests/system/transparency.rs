//! The child finds itself as it would without an init: see `dirt` and `state`
//! among the fixtures. docs/transparency.md says what other inits do.

mod table;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{
    CLINIT, DEADLINE, Dir, Setup, UNSHARE, WORKER, can_be_pid1, children, descendants, pidfd,
    program, readable, state,
};

/// What a child found itself with.
type State = BTreeMap<String, String>;

/// What no init can hand on: a fork takes it away. The alarm of `alarm(2)`
/// comes to clinit, which forwards it; orphans come to clinit too.
const LOST_BY_A_FORK: [&str; 2] = ["alarm", "being a subreaper"];

/// Every way in which a start may be dirty.
const STARTS: [&str; 9] = [
    "usual",
    "closed-0",
    "closed-1",
    "closed-2",
    "closed-0,closed-1,closed-2",
    "usual,closed-0",
    "removed-directory",
    "ignored-chld",
    "usual,ignored-chld,removed-directory,closed-0,closed-1,closed-2",
];

/// A child that has said what it found, under an init that runs.
struct Run {
    child: Child,
    as_pid1: bool,
    /// None where it never came to that.
    state: Option<State>,
}

impl Run {
    /// Starts it in this way, through this init or none. Those that are to be
    /// compared are started in the same directory, one after the other.
    fn start(dir: &Dir, init: &[&str], how: &str, as_pid1: bool) -> Self {
        let path = dir.path("state");
        let _ = fs::remove_file(&path);
        let fifo = dir.fifo("state");
        let mut fifo = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(fifo)
            .unwrap();
        let child = started(dir, init, how, as_pid1, &["dump-state", &path, "wait"]);
        let ended = pidfd(i32::try_from(child.id()).unwrap()).unwrap();
        let state = read_state(&mut fifo, &ended);
        Self {
            child,
            as_pid1,
            state,
        }
    }

    /// The process that is the init, as seen from here.
    fn init(&self) -> Option<i32> {
        let started = i32::try_from(self.child.id()).unwrap();
        if self.as_pid1 {
            children(started).first().copied()
        } else {
            Some(started)
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let started = i32::try_from(self.child.id()).unwrap();
        let tree: Vec<OwnedFd> = descendants(started).into_iter().filter_map(pidfd).collect();
        let _ = self.child.kill();
        tree.iter().for_each(crate::harness::kill_by);
        let _ = self.child.wait();
    }
}

/// A fixture with this script, through this init or none, after such a start.
fn started(dir: &Dir, init: &[&str], how: &str, as_pid1: bool, script: &[&str]) -> Child {
    let unshare = if as_pid1 { UNSHARE } else { &[] };
    let mut words: Vec<&str> = unshare.to_vec();
    words.extend([WORKER.as_str(), "dirty", how]);
    words.extend(init);
    words.push(WORKER.as_str());
    words.extend(script);
    let output = || File::create(dir.path("output")).unwrap();
    Command::new(words[0])
        .args(&words[1..])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(dir.path("."))
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .spawn()
        .unwrap()
}

/// Reads what a child says, up to an empty line; none where there is nobody
/// left to say it.
fn read_state(fifo: &mut File, ended: &OwnedFd) -> Option<State> {
    let start = Instant::now();
    let mut text = Vec::new();
    while !text.ends_with(b"\n\n") {
        assert!(start.elapsed() < DEADLINE, "no state, and no end");
        readable(&[fifo.as_fd(), ended.as_fd()], Duration::from_secs(1));
        let over = readable(&[ended.as_fd()], Duration::ZERO);
        let mut part = [0; 16_384];
        match fifo.read(&mut part) {
            Ok(length) => text.extend_from_slice(&part[..length]),
            Err(_) if over => return None,
            Err(_) => {}
        }
    }
    let text = String::from_utf8(text).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once('\t'));
    Some(
        fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    )
}

/// The state of a child that nothing but the start came before.
fn without(dir: &Dir, how: &str, as_pid1: bool) -> State {
    let run = Run::start(dir, &[], how, as_pid1);
    run.state.clone().expect("it needs no init")
}

/// Which fields differ, with both values.
fn differences(a: &State, b: &State) -> BTreeMap<String, [String; 2]> {
    let value = |of: &State, name: &String| of.get(name).cloned().unwrap_or_default();
    let names = a.keys().chain(b.keys());
    let pairs = names.map(|name| (name.clone(), [value(a, name), value(b, name)]));
    pairs.filter(|(_, [a, b])| a != b).collect()
}

/// Not PID 1, and PID 1 where that can be had.
fn both() -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .filter(|as_pid1| !as_pid1 || can_be_pid1())
}

#[test]
fn a_dirty_start_reaches_the_child_field_by_field() {
    let dir = Dir::new();
    for how in STARTS {
        for as_pid1 in both() {
            let expected = without(&dir, how, as_pid1);
            let run = Run::start(&dir, &[CLINIT, "--"], how, as_pid1);
            let output = fs::read_to_string(dir.path("output")).unwrap();
            let told = format!("{how}, PID 1: {as_pid1}: {output}");
            let found = run
                .state
                .as_ref()
                .unwrap_or_else(|| panic!("no child: {told}"));
            let mut differing = differences(&expected, found);
            differing.retain(|name, _| !LOST_BY_A_FORK.contains(&name.as_str()));
            assert!(differing.is_empty(), "{told}{differing:#?}");
        }
    }
}

/// The dirt is there, or all of this would prove nothing.
#[test]
fn a_dirty_start_is_dirty() {
    let dir = Dir::new();
    let clean = without(&dir, "ignored-chld", false);
    let dirty = without(&dir, "usual,closed-0", false);
    let differing = differences(&clean, &dirty);
    for name in [
        "blocked signals",
        "blocked signals 32 to 34",
        "ignored signals",
        "umask",
        "nice",
        "oom_score_adj",
        "core dump filter",
        "timer slack",
        "I/O priority",
        "personality",
        "scheduling policy",
        "parent-death signal",
        "no_new_privs",
        "transparent huge pages",
        "environment",
        "working directory",
        "alarm",
        "limits: Max open files",
        "limits: Max locked memory",
        "standard descriptors: 0",
        "further descriptors: 900",
    ] {
        assert!(
            differing.contains_key(name),
            "{name} is no other: {dirty:#?}"
        );
    }
    assert_eq!(dirty["LISTEN_PID"], "itself");
    assert_eq!(dirty["WATCHDOG_PID"], "itself");
    assert_eq!(dirty["SYSTEMD_EXEC_PID"], "1999999");
    assert!(!dirty.contains_key("standard descriptors: 0"));
}

#[test]
fn clinit_keeps_neither_its_directory_nor_descriptors_that_are_the_childs() {
    let dir = Dir::new();
    for how in [
        "usual",
        "usual,removed-directory,closed-0,closed-1,closed-2",
    ] {
        for as_pid1 in both() {
            let run = Run::start(&dir, &[CLINIT, "--"], how, as_pid1);
            let init = run.init().unwrap();
            let start = Instant::now();
            while !(in_root(init) && foreign(init).is_empty()) {
                let found = foreign(init);
                assert!(start.elapsed() < DEADLINE, "{how}: {found:?}");
                std::thread::yield_now();
            }
        }
    }
}

fn in_root(init: i32) -> bool {
    fs::read_link(format!("/proc/{init}/cwd")).is_ok_and(|cwd| cwd == Path::new("/"))
}

/// The descriptors from 3 on that an init has and has not opened itself: of
/// the numbers that the dirt has.
fn foreign(init: i32) -> Vec<String> {
    let numbers = [3, 7, 100, 110, 900];
    let targets = numbers
        .into_iter()
        .filter_map(|number| fs::read_link(format!("/proc/{init}/fd/{number}")).ok());
    let targets = targets.map(|target| target.display().to_string());
    targets
        .filter(|target| !target.contains("anon_inode") && !target.contains("socket:"))
        .collect()
}

#[test]
fn an_ignored_sigchld_costs_no_status() {
    for as_pid1 in both() {
        for options in ["", "-i 1 --restart never"] {
            Setup::new(options)
                .pid1(as_pid1)
                .through(&[&WORKER, "dirty", "ignored-chld"])
                .worker("fork-orphans 20 exit 42")
                .run()
                .expect(42);
        }
    }
}

#[test]
fn relative_paths_are_below_the_directory_that_it_was_started_in() {
    for how in ["ignored-chld", "usual"] {
        let setup = Setup::new("--chdir sub --env-file app.env");
        let place = if how == "usual" {
            setup.path("foreign")
        } else {
            setup.path(".")
        };
        fs::create_dir_all(format!("{place}/sub")).unwrap();
        fs::write(format!("{place}/app.env"), "FROM=file\n").unwrap();
        fs::copy(&*WORKER, format!("{place}/sub/program")).unwrap();
        let report = setup.path("report");
        let top = setup.path(".");
        let mut clinit = setup
            .arg(format!("--env=REPORT={report}"))
            .through(&["env", "-C", &top, &WORKER, "dirty", how])
            .command(&["./program", "report-env", "FROM", "wait"])
            .start();
        assert_eq!(clinit.report("env").text(), "FROM=file");
    }
}

#[test]
fn without_a_directory_of_its_own_it_says_what_it_cannot_enter() {
    let setup = Setup::new("--chdir sub");
    let top = setup.path(".");
    let ended = setup
        .through(&["env", "-C", &top, &WORKER, "dirty", "removed-directory"])
        .worker("exit 0")
        .run();
    ended
        .expect(1)
        .says("cannot enter the working directory: no such file");
}
