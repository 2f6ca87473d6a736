//! The README's tables are what the code does. `BLESS=1 cargo test` writes
//! them anew.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "it is a test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clinit::supervisor::policy::Mode;
use clinit::supervisor::signals::Meaning;
use clinit::supervisor::{Arrival, Exit, Signal, SpawnError};

fn readme() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// Requires the README to have `table` between the markers of this name.
fn assert_section(name: &str, table: &str) {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let text = fs::read_to_string(readme()).unwrap();
    let (before, rest) = text.split_once(&open).unwrap();
    let (section, after) = rest.split_once(&close).unwrap();
    if std::env::var_os("BLESS").is_some() {
        fs::write(readme(), format!("{before}{open}{table}{close}{after}")).unwrap();
        return;
    }
    assert_eq!(
        section, table,
        "the README's {name} are out of date: BLESS=1 cargo test"
    );
}

fn options() -> String {
    clinit::config::readme_table()
}

fn describe(meaning: Meaning) -> &'static str {
    match meaning {
        Meaning::Shutdown => {
            "shutdown; a second one skips the drain delay and the wait for answers, a third kills"
        }
        Meaning::Reload => "a rolling reload",
        Meaning::ScaleUp => "one worker more",
        Meaning::ScaleDown => "one worker fewer, but never none",
        Meaning::Suspend => "stops the workers, then clinit unless it is PID 1",
        Meaning::Resume => "lets the workers go on",
        Meaning::Forward(_) => "forwarded to each worker's main process, with its value",
        Meaning::Nothing => unreachable!("only what the kernel raises means nothing"),
    }
}

fn signals() -> String {
    let catchable = (1..=64)
        .filter_map(Signal::from_number)
        .filter(|signal| ![Signal::KILL, Signal::STOP].contains(signal));
    let mut rows: BTreeMap<i32, (&str, Vec<Signal>)> = BTreeMap::new();
    for signal in catchable {
        let arrival = Arrival {
            signal,
            value: None,
            from_kernel: false,
        };
        assert_eq!(Meaning::of(arrival, Mode::Init), Meaning::Forward(signal));
        let meaning = describe(Meaning::of(arrival, Mode::Cluster));
        let first = rows
            .values()
            .find(|row| row.0 == meaning)
            .map(|row| row.1[0]);
        let row = first.unwrap_or(signal).number();
        rows.entry(row)
            .or_insert((meaning, Vec::new()))
            .1
            .push(signal);
    }
    let mut table = String::from("| signal | with `-i` or `-l` |\n|---|---|\n");
    for (meaning, signals) in rows.values() {
        let forwarded = *meaning == describe(Meaning::Forward(Signal::USR1));
        let names: Vec<_> = signals.iter().map(Signal::to_string).collect();
        let names = if forwarded {
            "every other one, real-time ones too".into()
        } else {
            names.join(", ")
        };
        let _ = writeln!(table, "| {names} | {meaning} |");
    }
    table.push_str("\nIn init mode every signal is the child's.\n");
    table
}

fn exit_codes() -> String {
    let killed = Exit::Signal {
        signal: Signal::TERM,
        core: false,
    };
    let rows = [
        (
            "the child's, or 128 + signal".into(),
            format!("init mode: {} for a child that {killed}", killed.status()),
        ),
        (
            "0".into(),
            "a requested shutdown; every worker left within its grace".into(),
        ),
        (
            "124".into(),
            "a requested shutdown; some worker had to be killed at its deadline".into(),
        ),
        (
            "0, or the first that is not".into(),
            "nothing is left to run (`--restart on-failure`, `never`)".into(),
        ),
        (
            "the last worker's, never 0: then 1".into(),
            "gave up on a crash loop".into(),
        ),
        (
            format!(
                "{}, {}",
                SpawnError::NotExecutable.status(),
                SpawnError::NotFound.status()
            ),
            "the command cannot be executed, is not found".into(),
        ),
        (
            format!("{}, 2", SpawnError::Setup.status()),
            "a failure before any worker ran (an address in use), a usage error".to_owned(),
        ),
    ];
    let mut table = String::from("| code | when |\n|---|---|\n");
    for (code, when) in rows {
        let _ = writeln!(table, "| {code} | {when} |");
    }
    table
}

/// One test, for they write one file.
#[test]
fn the_tables_of_the_readme_are_what_the_code_does() {
    assert_section("options", &options());
    assert_section("verbs", &clinit::config::readme_verbs());
    assert_section("signals", &signals());
    assert_section("exit codes", &exit_codes());
}
