//! What was given: the options of a command line and of an environment, each
//! with its value as it was written. What the values mean is not known here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use lexopt::{Arg, Parser};

use super::Note;
use super::environment::lookup;
use super::error::{Form, Origin, UsageError, quoted, shown};
use super::level::Level;
use super::options::{self, OPTIONS, Opt, OptionSpec};
use super::sizing::Instances;
use super::suggest;
use super::verbs::{self, Verb};

/// What a variable of ours begins with.
const PREFIX: &[u8] = b"CLINIT_";

/// What Kubernetes calls the variables of a Service named `clinit`.
const OF_KUBERNETES: [&[u8]; 2] = [b"CLINIT_PORT", b"CLINIT_SERVICE_"];

/// What clinit sets for its workers, or reads and leaves to them.
const NO_OPTIONS: [&str; 5] = [
    "CLINIT_SLOT",
    "CLINIT_SLOTS",
    "CLINIT_GENERATION",
    super::CPU_REQUEST,
    super::CAPTURE_ROUTE,
];

/// An option that was given, with its value; a switch's value is empty.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) origin: Origin,
    pub(super) value: OsString,
}

impl Given {
    /// The value as a text; the error is the reason why it is refused.
    pub(super) fn text(&self) -> Result<&str, String> {
        let text = self.value.to_str();
        text.ok_or_else(|| "it is not valid UTF-8".into())
    }

    /// The error of a value that is refused for this reason.
    #[expect(
        clippy::unnecessary_box_returns,
        reason = "it is large, and passed on often"
    )]
    #[inline(never)]
    pub(super) fn refused(&self, reason: String) -> Box<UsageError> {
        Box::new(UsageError::BadValue {
            origin: self.origin,
            value: self.value.clone(),
            reason,
        })
    }

    fn is_of(&self, spec: &OptionSpec) -> bool {
        self.origin.spec.id == spec.id
    }
}

/// A command line.
pub(super) enum Line {
    /// `-h` came before any error.
    Help,
    /// `-V` did.
    Version,
    /// The verb `cpus`.
    Cpus(Vec<Given>),
    /// Another verb.
    Verb(Verb),
    /// Options, and a command that may be empty.
    Command(Vec<Given>, Vec<OsString>),
}

impl Line {
    /// Reads a command line without its first word, the program's name.
    pub(super) fn read(all: &[OsString]) -> Result<Self, Box<UsageError>> {
        match all.split_first() {
            Some((verb, argv)) if verb == "cpus" => {
                let line = Self::read_options(argv)?;
                if let Self::Command(given, command) = line {
                    return Self::cpus(given, command);
                }
                Ok(line)
            }
            Some((word, argv)) => match verbs::read(word, argv)? {
                Some(verbs::Words::Help) => Ok(Self::Help),
                Some(verbs::Words::Verb(verb)) => Ok(Self::Verb(verb)),
                None => Self::read_options(all),
            },
            None => Ok(Self::Command(Vec::new(), Vec::new())),
        }
    }

    fn cpus(given: Vec<Given>, arguments: Vec<OsString>) -> Result<Self, Box<UsageError>> {
        if let Some(argument) = arguments.into_iter().next() {
            return Err(UsageError::CpusArgument(argument).into());
        }
        match given.iter().find(|given| !given.origin.spec.is_of_cpus()) {
            Some(given) => Err(UsageError::NotOfCpus(given.origin).into()),
            None => Ok(Self::Cpus(given)),
        }
    }

    fn read_options(argv: &[OsString]) -> Result<Self, Box<UsageError>> {
        let mut given: Vec<Given> = Vec::new();
        let mut command = Vec::new();
        let mut parser = Parser::from_args(argv);
        while let Some(argument) = parser.next().map_err(unwanted_value)? {
            let (form, spec, name) = match argument {
                Arg::Short(letter) => (Form::Short, options::of_letter(letter), letter.into()),
                Arg::Long(name) => (Form::Long, options::of_name(name), name.to_owned()),
                Arg::Value(first) => {
                    refuse_workers(&given, &first, argv)?;
                    command.push(first);
                    if let Some(rest) = parser.try_raw_args() {
                        command.extend_from_slice(rest.as_slice());
                    }
                    break;
                }
            };
            let Some(spec) = spec else {
                let value = parser.value().ok();
                return Err(unknown_option(form, &name, value.as_deref()).into());
            };
            if spec.id == Opt::Help {
                return Ok(Self::Help);
            }
            if spec.id == Opt::Version {
                return Ok(Self::Version);
            }
            let origin = Origin { spec, form };
            let value = if spec.is_switch() {
                OsString::new()
            } else {
                let missing = |_| UsageError::MissingValue(origin);
                parser.value().map_err(missing)?
            };
            if !spec.repeatable && given.iter().any(|given| given.is_of(spec)) {
                return Err(UsageError::Repeated(origin).into());
            }
            given.push(Given { origin, value });
        }
        Ok(Self::Command(given, command))
    }
}

/// Refuses `-w 4`, gunicorn's for four workers, where it would run a program
/// named `4`.
fn refuse_workers(
    given: &[Given],
    first: &OsStr,
    argv: &[OsString],
) -> Result<(), Box<UsageError>> {
    let switch = given.last().map(|given| given.origin);
    let switch = switch.filter(|origin| origin.spec.id == Opt::WarnReaped);
    let meant = first.to_str().filter(|text| Instances::parse(text).is_ok());
    match (switch, meant) {
        (Some(switch), Some(meant)) if !argv.iter().any(|word| word == "--") => {
            Err(Box::new(UsageError::UnknownOption {
                option: format!("{switch} {meant}"),
                meant: Some(format!("-i {meant}")),
            }))
        }
        _ => Ok(()),
    }
}

/// The only error that lexopt has for the next option: a switch's value.
fn unwanted_value(error: lexopt::Error) -> UsageError {
    if let lexopt::Error::UnexpectedValue { option, value } = error {
        return UsageError::UnwantedValue { option, value };
    }
    let (option, value) = ("an option".into(), OsString::new());
    UsageError::UnwantedValue { option, value }
}

fn unknown_option(form: Form, name: &str, value: Option<&OsStr>) -> UsageError {
    let dashes = if form == Form::Short { "-" } else { "--" };
    UsageError::UnknownOption {
        option: format!("{dashes}{name}"),
        meant: suggest::option(name, value.and_then(OsStr::to_str)),
    }
}

/// Adds the options that `env` has a variable for, of those that are
/// `wanted` and not already given. An empty variable is an unset one.
pub(super) fn add_variables(
    given: &mut Vec<Given>,
    env: &[(OsString, OsString)],
    wanted: fn(&OptionSpec) -> bool,
) -> Result<(), Box<UsageError>> {
    for spec in OPTIONS {
        if !wanted(spec) || given.iter().any(|given| given.is_of(spec)) {
            continue;
        }
        let variable = spec.variable();
        let value = variable.and_then(|variable| lookup(env, variable.as_ref()));
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            continue;
        };
        let form = Form::Variable;
        let origin = Origin { spec, form };
        let whole = Given {
            origin,
            value: value.to_owned(),
        };
        if spec.is_switch() {
            let is_on = whole.text().and_then(is_on);
            if is_on.map_err(|reason| whole.refused(reason))? {
                given.push(whole);
            }
        } else if spec.repeatable {
            for part in whole.value.as_bytes().split(|byte| separates(spec, *byte)) {
                if !part.is_empty() {
                    let value = OsString::from_vec(part.to_vec());
                    given.push(Given { origin, value });
                }
            }
        } else {
            given.push(whole);
        }
    }
    Ok(())
}

/// Whether a variable that holds several values has an end of one here. The
/// values of `CLINIT_ENV` may themselves hold commas and blanks.
fn separates(spec: &OptionSpec, byte: u8) -> bool {
    if spec.id == Opt::Env {
        return byte == b'\n';
    }
    byte == b',' || byte.is_ascii_whitespace()
}

/// Whether a switch's variable turns it on.
fn is_on(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err("accepted are 1, true, yes, 0, false and no".into()),
    }
}

/// A warning for each variable that looks like an option's and is none.
pub(super) fn unknown_variables(env: &[(OsString, OsString)]) -> Vec<Note> {
    let known: Vec<String> = OPTIONS.iter().filter_map(OptionSpec::variable).collect();
    let is_unknown = |name: &OsStr| {
        let bytes = name.as_bytes();
        bytes.starts_with(PREFIX)
            && !OF_KUBERNETES.iter().any(|of| bytes.starts_with(of))
            && !NO_OPTIONS.iter().any(|other| name == *other)
            && !known.iter().any(|known| name == known.as_str())
    };
    let mut notes = Vec::new();
    for (name, value) in env {
        if is_unknown(name) && !value.is_empty() {
            notes.push(unknown_variable(name, &known));
        }
    }
    notes
}

fn unknown_variable(name: &OsStr, known: &[String]) -> Note {
    fn bare(name: &str) -> &str {
        name.get(PREFIX.len()..).unwrap_or_default()
    }
    let mut text = ["unknown variable ", &shown(name)].concat();
    let mut known = known.iter().map(|known| bare(known));
    let name = bare(name.to_str().unwrap_or_default());
    if let Some(meant) = suggest::nearest(name, &mut known) {
        text.extend([": did you mean CLINIT_", meant, "?"]);
    }
    Note {
        level: Level::Warn,
        text,
    }
}

/// The warning for a variable that is no option and cannot be read.
pub(super) fn bad_variable(variable: &str, value: &OsStr, accepted: &str) -> Note {
    let value = quoted(value);
    Note {
        level: Level::Warn,
        text: format!("{variable} {value} is ignored: accepted are {accepted}"),
    }
}
