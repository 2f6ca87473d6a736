//! The verbs: what a person or a program asks of a clinit that runs.
//!
//! A verb is only looked for as the first word of a command line, so a command
//! of that name is run by `clinit -- NAME`.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::PathBuf;

use super::error::UsageError;
use super::units::whole;
use crate::control::{Amount, Request, Target};
use crate::supervisor::policy::Signal;

/// Where clinit is talked to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Socket {
    /// In the abstract namespace, under the name of the mount namespace.
    #[default]
    Abstract,
    /// Nowhere.
    Off,
    /// At this path.
    Path(PathBuf),
}

/// A verb with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verb {
    /// What is asked.
    pub request: Request,
    /// How a status is shown.
    pub show: Show,
    /// Whether answers are shown as they come: JSON, one object a line.
    pub json: bool,
    /// The clinit that is meant, where there are several.
    pub pid: Option<i32>,
    /// Where it is talked to.
    pub socket: Socket,
}

/// How a status is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// With what holds for all workers above them.
    Whole,
    /// The workers alone.
    Workers,
    /// Again and again, in place.
    Refreshed,
}

/// What comes of a verb's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// It is to be done.
    Verb(Verb),
    /// Its arguments say that help is wanted.
    Help,
}

/// What a verb does, for the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Status,
    List,
    Top,
    Events,
    Reload,
    Scale,
    /// einhornsh's: so many more.
    More,
    /// And fewer.
    Fewer,
    Restart,
    Stop,
    Start,
    Delete,
    Signal,
    Kill,
    Wait,
    Probe,
}

/// A verb's row.
struct Spec {
    deed: Deed,
    /// Its name, and then the names that pm2's and einhornsh's users know.
    names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
}

const fn spec(
    deed: Deed,
    names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
) -> Spec {
    Spec {
        deed,
        names,
        arguments,
        help,
    }
}

#[rustfmt::skip]
const VERBS: &[Spec] = &[
    spec(Deed::Status, &["status", "show", "describe", "info", "state"], "[SLOT|APP]",
        "every worker, and what holds for all"),
    spec(Deed::List, &["list", "ls"], "", "every worker"),
    spec(Deed::Top, &["top", "monit"], "", "status, again every second"),
    spec(Deed::Events, &["events"], "", "what happens from now on"),
    spec(Deed::Reload, &["reload", "upgrade", "upgrade_smooth", "upgrade_fleet", "gracefulReload"], "",
        "replace every worker, losing no connection; 1 where that failed"),
    spec(Deed::Scale, &["scale", "set_workers"], "N|+N|-N|max", "have so many workers"),
    spec(Deed::More, &["inc"], "[N]", "N workers more, or one"),
    spec(Deed::Fewer, &["dec"], "[N]", "N workers fewer, or one"),
    spec(Deed::Restart, &["restart"], "[SLOT|APP]", "end workers and start others"),
    spec(Deed::Stop, &["stop"], "[SLOT|APP]", "end workers; clinit stays"),
    spec(Deed::Start, &["start"], "[SLOT|APP]", "start those that were stopped"),
    spec(Deed::Delete, &["delete", "del"], "SLOT|APP", "do without that slot"),
    spec(Deed::Signal, &["signal", "sendSignal"], "SIG [SLOT|APP]", "send workers a signal"),
    spec(Deed::Kill, &["kill", "die", "quit"], "", "shut everything down, gracefully"),
    spec(Deed::Wait, &["wait"], "ready|stopped", "return once it is"),
    spec(Deed::Probe, &["probe"], "live|ready", "0 where it is, 1 where it is not"),
];

/// Reads a command line whose first word is this: none where that is no verb.
///
/// # Errors
///
/// Where it is one, and the words after it are not its arguments.
pub(super) fn read(word: &OsStr, rest: &[OsString]) -> Result<Option<Words>, UsageError> {
    let known = |spec: &&Spec| spec.names.iter().any(|name| word == *name);
    let Some(spec) = VERBS.iter().find(known) else {
        return Ok(None);
    };
    let words = arguments(spec.deed, rest).ok_or_else(|| UsageError::Verb {
        verb: word.to_string_lossy().into_owned(),
        accepted: accepted(spec),
    })?;
    Ok(Some(words))
}

/// Reads the words after a verb's name.
fn arguments(deed: Deed, rest: &[OsString]) -> Option<Words> {
    let mut words = Vec::new();
    let (mut json, mut pid, mut socket) = (false, None, Socket::Abstract);
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let text = word.to_str()?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(OsStr::new(value))),
            Some(_) | None => (text, None),
        };
        let mut value = || value.or_else(|| rest.next().map(OsString::as_os_str));
        match name {
            "-h" | "--help" => return Some(Words::Help),
            "--json" => json = true,
            "--pid" => {
                let number: i32 = whole(value()?.to_str()?)?;
                if number == 0 {
                    return None;
                }
                pid = Some(number);
            }
            "--control" => {
                let path = value().filter(|path| !path.is_empty() && *path != "off")?;
                socket = Socket::Path(path.into());
            }
            _ => words.push(text),
        }
    }
    Some(Words::Verb(Verb {
        request: request(deed, &words)?,
        show: shown(deed),
        json,
        pid,
        socket,
    }))
}

fn shown(deed: Deed) -> Show {
    if deed == Deed::List {
        Show::Workers
    } else if deed == Deed::Top {
        Show::Refreshed
    } else {
        Show::Whole
    }
}

/// What is asked.
fn request(deed: Deed, words: &[&str]) -> Option<Request> {
    let of_target: Option<fn(Target) -> Request> = match (deed, words) {
        (Deed::Status, _) => Some(Request::Status),
        (Deed::Restart, _) => Some(Request::Restart),
        (Deed::Stop, _) => Some(Request::Stop),
        (Deed::Start, _) => Some(Request::Start),
        (Deed::Delete, [_]) => Some(Request::Delete),
        _ => None,
    };
    if let Some(of_target) = of_target {
        return target(words).map(of_target);
    }
    Some(match (deed, words) {
        (Deed::List | Deed::Top, []) => Request::Status(Target::All),
        (Deed::Events, []) => Request::Events,
        (Deed::Reload, []) => Request::Reload,
        (Deed::Scale, [amount]) => Request::Scale(scale(amount)?),
        (Deed::More | Deed::Fewer, []) => request(deed, &["1"])?,
        (Deed::More, [count]) => Request::Scale(Amount::By(whole(count)?)),
        (Deed::Fewer, [count]) => {
            let count: i32 = whole(count)?;
            Request::Scale(Amount::By(-count))
        }
        (Deed::Signal, [signal, words @ ..]) => {
            Request::Signal(Signal::parse(signal)?, target(words)?)
        }
        (Deed::Kill, []) => Request::Kill,
        (Deed::Wait, ["ready"]) => Request::WaitReady,
        (Deed::Wait, ["stopped"]) => Request::WaitStopped,
        (Deed::Probe, ["live"]) => Request::ProbeLive,
        (Deed::Probe, ["ready"]) => Request::ProbeReady,
        _ => return None,
    })
}

/// Whose workers are meant: all, where nobody is named.
fn target(words: &[&str]) -> Option<Target> {
    match words {
        [] | ["all"] => Some(Target::All),
        [word] if word.starts_with('-') => None,
        [word] => Some(whole(word).map_or_else(|| Target::App((*word).into()), Target::Slot)),
        _ => None,
    }
}

fn scale(text: &str) -> Option<Amount> {
    if text == "max" {
        return Some(Amount::Max);
    }
    if let Some(more) = text.strip_prefix('+') {
        return whole(more).map(Amount::By);
    }
    if let Some(fewer) = text.strip_prefix('-') {
        return whole(fewer).map(|fewer: i32| Amount::By(-fewer));
    }
    whole(text).filter(|to| *to > 0).map(Amount::To)
}

/// What a verb's arguments may be.
fn accepted(spec: &Spec) -> String {
    let arguments = if spec.arguments.is_empty() {
        "no argument"
    } else {
        spec.arguments
    };
    [arguments, ", --json, --pid PID, --control PATH"].concat()
}

/// The verbs' names, for the help, in lines of at most 80 columns.
pub(super) fn names() -> String {
    let mut names = Vec::new();
    for spec in VERBS {
        names.extend_from_slice(spec.names.get(..1).unwrap_or_default());
    }
    names.join(" ")
}

/// The verbs as a Markdown table, for the README.
#[must_use]
pub fn readme_verbs() -> String {
    let mut table = String::from("| verb | what it does | also called |\n|---|---|---|\n");
    for spec in VERBS {
        let name = spec.names.first().copied().unwrap_or_default();
        let arguments = spec.arguments.replace('|', "\\|");
        let usage = [name, &arguments].join(" ");
        let aliases = spec.names.get(1..).unwrap_or_default().iter();
        let aliases: Vec<String> = aliases.map(|name| ["`", name, "`"].concat()).collect();
        let (usage, aliases) = (usage.trim_ascii_end(), aliases.join(", "));
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{usage}` | {} | {aliases} |", spec.help);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(line: &str) -> Result<Option<Words>, UsageError> {
        let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        read(&words[0], &words[1..])
    }

    fn asked(line: &str) -> Request {
        match verb(line) {
            Ok(Some(Words::Verb(verb))) => verb.request,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn each_verb_asks_for_what_it_says() {
        for (line, request) in [
            ("status", Request::Status(Target::All)),
            ("ls", Request::Status(Target::All)),
            ("monit", Request::Status(Target::All)),
            ("show 3", Request::Status(Target::Slot(3))),
            ("events", Request::Events),
            ("reload", Request::Reload),
            ("upgrade", Request::Reload),
            ("scale 4", Request::Scale(Amount::To(4))),
            ("scale +2", Request::Scale(Amount::By(2))),
            ("scale -2", Request::Scale(Amount::By(-2))),
            ("scale max", Request::Scale(Amount::Max)),
            ("set_workers 3", Request::Scale(Amount::To(3))),
            ("inc", Request::Scale(Amount::By(1))),
            ("inc 2", Request::Scale(Amount::By(2))),
            ("dec", Request::Scale(Amount::By(-1))),
            ("restart", Request::Restart(Target::All)),
            ("restart all", Request::Restart(Target::All)),
            ("restart 1", Request::Restart(Target::Slot(1))),
            ("stop server", Request::Stop(Target::App("server".into()))),
            ("start 0", Request::Start(Target::Slot(0))),
            ("delete 2", Request::Delete(Target::Slot(2))),
            ("signal USR1", Request::Signal(Signal::USR1, Target::All)),
            (
                "signal 10 2",
                Request::Signal(Signal::USR1, Target::Slot(2)),
            ),
            ("kill", Request::Kill),
            ("die", Request::Kill),
            ("quit", Request::Kill),
            ("wait ready", Request::WaitReady),
            ("wait stopped", Request::WaitStopped),
            ("probe live", Request::ProbeLive),
            ("probe ready", Request::ProbeReady),
        ] {
            assert_eq!(asked(line), request, "{line}");
        }
    }

    #[test]
    fn options_of_verbs_stand_anywhere_after_them() {
        for line in [
            "status 2 --json --pid 7 --control /run/c",
            "status --pid=7 --control=/run/c 2 --json",
        ] {
            let Ok(Some(Words::Verb(verb))) = verb(line) else {
                panic!("{line}");
            };
            assert_eq!((verb.json, verb.pid), (true, Some(7)));
            assert_eq!(verb.request, Request::Status(Target::Slot(2)));
            assert_eq!(verb.socket, Socket::Path("/run/c".into()));
        }
        assert_eq!(verb("reload --help"), Ok(Some(Words::Help)));
    }

    #[test]
    fn what_is_no_verb_is_a_command() {
        for line in ["server", "Status", "cpus", "stat", "-i 4 status", ""] {
            assert_eq!(verb(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn what_a_verb_does_not_take_is_refused_in_one_line() {
        for line in [
            "ls -la",
            "kill 5",
            "top -b",
            "scale",
            "scale 0",
            "scale many",
            "scale +",
            "scale 1 2",
            "signal",
            "signal NOPE",
            "delete",
            "wait",
            "wait for",
            "probe dead",
            "status 1 2",
            "stop -9",
            "stop 1 2",
            "inc -1",
            "status --pid",
            "status --pid 0",
            "status --pid x",
            "status --control",
            "status --control off",
            "status --jsn",
        ] {
            let error = verb(line).expect_err(line).to_string();
            let name = line.split(' ').next().unwrap();
            assert!(
                error.starts_with(&format!("{name}: accepted is ")),
                "{error}"
            );
            assert!(
                error.contains("clinit -- ") && error.len() <= 200,
                "{error}"
            );
        }
    }

    #[test]
    fn names_are_unique() {
        let names: Vec<_> = VERBS.iter().flat_map(|spec| spec.names).collect();
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{name}");
        }
        assert_eq!(readme_verbs().lines().count(), VERBS.len() + 2);
        for (row, spec) in readme_verbs().lines().skip(2).zip(VERBS) {
            assert!(row.contains(spec.names[0]));
            assert_eq!(row.replace("\\|", "").matches('|').count(), 4, "{row}");
        }
    }
}
