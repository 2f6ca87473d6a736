//! The table of docs/transparency.md, from what is measured.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use super::{
    CLINIT, DEADLINE, Dir, Instant, LOST_BY_A_FORK, Run, can_be_pid1, children, differences,
    foreign, in_root, pidfd, program, readable, started, state, without,
};
use crate::harness::{cannot_run, status_field};

/// Each init with what comes before the command.
const INITS: [(&str, &[&str]); 5] = [
    ("clinit", &["--"]),
    ("tini", &["-s", "--"]),
    ("tini-static", &["-s", "--"]),
    ("dumb-init", &["--"]),
    ("catatonit", &["--"]),
];

/// Starts of which one thing alone is looked at: the row, the start, what of
/// the state.
const ALONE: [(&str, &str, &str); 5] = [
    ("a closed stdin", "closed-0", "standard descriptors"),
    ("a closed stdout", "closed-1", "standard descriptors"),
    ("a closed stderr", "closed-2", "standard descriptors"),
    ("an ignored SIGCHLD", "ignored-chld", "ignored signals"),
    (
        "a removed directory",
        "removed-directory",
        "working directory",
    ),
];

/// What became of one thing: as PID 1, and not.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell([&'static str; 2]);

impl Cell {
    const KEPT: Self = Self(["yes"; 2]);

    fn text(self) -> String {
        match self.0 {
            [pid1, other] if pid1 == other => pid1.into(),
            [pid1, other] => format!("{pid1}; {other} where it is not PID 1"),
        }
    }
}

fn kind(field: &str) -> &str {
    field.split(':').next().unwrap_or(field)
}

/// The kinds that one init changes, and what becomes of each thing alone.
fn measure(dir: &Dir, init: &[&str], as_pid1: bool) -> (BTreeSet<String>, Vec<&'static str>) {
    let word = |kept: bool| if kept { "yes" } else { "no" };
    let expected = without(dir, "usual", as_pid1);
    let run = Run::start(dir, init, "usual", as_pid1);
    let found = run.state.as_ref().expect("each init starts its child");
    let changed = differences(&expected, found).into_keys();
    let changed = changed.map(|name| kind(&name).to_owned()).collect();
    let pid = run.init().unwrap();
    settle(pid, init[0] == CLINIT);
    let mut alone = vec![word(foreign(pid).is_empty()), word(in_root(pid))];
    drop(run);
    for (_, how, of) in ALONE {
        let expected = without(dir, how, as_pid1);
        let run = Run::start(dir, init, how, as_pid1);
        alone.push(run.state.as_ref().map_or("it does not start", |found| {
            word(
                !differences(&expected, found)
                    .keys()
                    .any(|name| kind(name) == of),
            )
        }));
    }
    alone.push(word(ends_with_its_child(dir, init, as_pid1)));
    (changed, alone)
}

/// Whether it exits as its child does where it was started with SIGCHLD
/// ignored, by which the kernel keeps no status; the alternative is that it
/// sleeps on without a child, and without a signal that would wake it.
fn ends_with_its_child(dir: &Dir, init: &[&str], as_pid1: bool) -> bool {
    let mut run = Run {
        child: started(dir, init, "ignored-chld", as_pid1, &["exit", "42"]),
        as_pid1,
        state: None,
    };
    let ended = pidfd(i32::try_from(run.child.id()).unwrap()).unwrap();
    let mut looks = 0;
    while looks < 200 {
        if readable(&[ended.as_fd()], Duration::from_millis(1)) {
            return run.child.wait().unwrap().code() == Some(42);
        }
        let sleeps_alone = |pid| {
            state(pid) == Some('S')
                && children(pid).is_empty()
                && status_field(pid, "ShdPnd:").is_some_and(|set| set.trim_matches('0').is_empty())
        };
        looks = if run.init().is_some_and(sleeps_alone) {
            looks + 1
        } else {
            0
        };
    }
    false
}

/// Waits until an init has done what it does beside its child.
fn settle(pid: i32, is_clinit: bool) {
    let start = Instant::now();
    let settled = || state(pid) == Some('S') && (!is_clinit || foreign(pid).is_empty());
    while !settled() {
        assert!(start.elapsed() < DEADLINE, "it does not come to rest");
        std::thread::yield_now();
    }
}

fn table() -> Option<String> {
    let dir = Dir::new();
    let mut rows: Vec<(String, Vec<Cell>)> = Vec::new();
    let every = without(&dir, "usual", true);
    let kinds: BTreeSet<String> = every.keys().map(|name| kind(name).to_owned()).collect();
    rows.extend(kinds.into_iter().map(|kind| (kind, Vec::new())));
    let own = [
        "init: lets go of further descriptors",
        "init: its own directory is /",
    ];
    let own = own.into_iter().chain(ALONE.map(|(name, ..)| name));
    let own = own.chain(["init: ends with its child under an ignored SIGCHLD"]);
    rows.extend(own.map(|name| (name.to_owned(), Vec::new())));
    for (name, options) in INITS {
        let path = if name == "clinit" {
            Some(CLINIT.into())
        } else {
            program(name)
        };
        let Some(path) = path else {
            cannot_run(
                "RING 3",
                &format!("the table of inits needs {name} (apt-get install)"),
            );
            return None;
        };
        let path = path.display().to_string();
        let init: Vec<&str> = std::iter::once(path.as_str())
            .chain(options.iter().copied())
            .collect();
        let [pid1, other] = [true, false].map(|as_pid1| measure(&dir, &init, as_pid1));
        let fields = rows.len() - pid1.1.len();
        for (index, (kind, cells)) in rows.iter_mut().enumerate() {
            cells.push(Cell(match index.checked_sub(fields) {
                None => [&pid1.0, &other.0]
                    .map(|changed| if changed.contains(kind) { "no" } else { "yes" }),
                Some(alone) => [pid1.1[alone], other.1[alone]],
            }));
        }
    }
    Some(written(&rows))
}

fn written(rows: &[(String, Vec<Cell>)]) -> String {
    let (by_all, by_some): (Vec<_>, Vec<_>) = rows
        .iter()
        .partition(|(_, cells)| cells.iter().all(|cell| *cell == Cell::KEPT));
    let names = INITS.map(|(name, _)| name);
    let mut text = format!(
        "| | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for (name, cells) in by_some {
        let cells: Vec<String> = cells.iter().map(|cell| cell.text()).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    let by_all: Vec<&str> = by_all.iter().map(|(name, _)| name.as_str()).collect();
    let _ = writeln!(text, "\nKept by all of them: {}.", by_all.join(", "));
    text
}

#[test]
fn the_table_of_who_keeps_what_is_what_is_measured() {
    if !can_be_pid1() {
        return;
    }
    let Some(table) = table() else {
        return;
    };
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let mut cells = line.split(" | ");
        let (name, own) = (cells.next().unwrap(), cells.next().unwrap());
        let lost = LOST_BY_A_FORK.iter().any(|lost| name.ends_with(lost));
        assert_eq!(own, if lost { "no" } else { "yes" }, "{line}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/transparency.md");
    let (open, close) = ("<!-- who keeps what -->\n", "<!-- /who keeps what -->");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(open).unwrap();
    let (section, after) = rest.split_once(close).unwrap();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{open}{table}{close}{after}")).unwrap();
        return;
    }
    assert_eq!(
        section, table,
        "docs/transparency.md is out of date: BLESS=1 cargo test"
    );
}
