//! A usage error, in one line.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use super::options::OptionSpec;

/// How much of what a user wrote is shown in a message, in characters.
const MOST_SHOWN: usize = 60;

/// An option in the form in which it was given: `-i`, `--instances` or
/// `CLINIT_INSTANCES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub(super) spec: &'static OptionSpec,
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Short,
    Long,
    Variable,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.form, self.spec.short, self.spec.variable()) {
            (Form::Short, Some(letter), _) => write!(f, "-{letter}"),
            (Form::Variable, _, Some(variable)) => f.write_str(&variable),
            (Form::Short | Form::Long | Form::Variable, ..) => write!(f, "--{}", self.spec.long),
        }
    }
}

/// Why a command line and its environment cannot be run. It displays as one
/// lower-case line of at most 200 characters, which names the option and what
/// was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// No option has this name.
    UnknownOption {
        /// With its dashes.
        option: String,
        /// What was probably meant, with its dashes.
        meant: Option<String>,
    },
    /// An option stands last that needs a value after it.
    MissingValue(Origin),
    /// A switch was given a value.
    UnwantedValue {
        /// With its dashes.
        option: String,
        /// What it was given.
        value: OsString,
    },
    /// An option that holds one value was given twice.
    Repeated(Origin),
    /// An option's value is malformed, refused, or contradicts another.
    BadValue {
        /// The option.
        origin: Origin,
        /// What it was given, or as much of it as may be shown.
        value: OsString,
        /// What is wrong with it, or what is accepted.
        reason: String,
    },
    /// A cluster-only option in init mode.
    NeedsCluster(Origin),
    /// An option that `clinit cpus` does not take.
    NotOfCpus(Origin),
    /// An argument to `clinit cpus`.
    CpusArgument(OsString),
    /// A verb's arguments are not understood.
    Verb {
        /// As it was written.
        verb: String,
        /// What is accepted.
        accepted: String,
    },
    /// There is nothing to run.
    NoCommand,
    /// The command's name is the empty string.
    EmptyCommand,
    /// A placeholder in the command's arguments stands for nothing.
    Placeholder {
        /// With its braces.
        placeholder: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption { option, meant } => {
                write!(f, "unknown option {}: ", shown(option.as_ref()))?;
                match meant {
                    Some(meant) => write!(f, "did you mean {}?", shown(meant.as_ref())),
                    None => write!(f, "clinit -h lists them"),
                }
            }
            Self::MissingValue(origin) => {
                write!(f, "{origin}: a value is missing: {}", origin.spec.value)
            }
            Self::UnwantedValue { option, value } => {
                let (option, value) = (shown(option.as_ref()), quoted(value));
                write!(f, "{option} {value}: it takes no value")
            }
            Self::Repeated(origin) => write!(f, "{origin} is given twice: once is accepted"),
            Self::BadValue {
                origin,
                value,
                reason,
            } => write!(f, "{origin} {}: {reason}", quoted(value)),
            Self::NeedsCluster(origin) => {
                write!(f, "{origin} needs cluster mode: add -i N or -l ADDR")
            }
            Self::NotOfCpus(origin) => write!(
                f,
                "cpus does not take {origin}: accepted are -i, --max-instances and --worker-memory"
            ),
            Self::CpusArgument(argument) => {
                write!(f, "cpus takes no argument: {}", quoted(argument))
            }
            Self::Verb { verb, accepted } => write!(
                f,
                "{verb}: accepted is {accepted}; a command of that name: clinit -- {verb}"
            ),
            Self::NoCommand => f.write_str("no command: clinit [OPTIONS] [--] COMMAND [ARG]..."),
            Self::EmptyCommand => f.write_str("the command is an empty string"),
            Self::Placeholder {
                placeholder,
                reason,
            } => write!(f, "{}: {reason}", shown(placeholder.as_ref())),
        }
    }
}

impl Error for UsageError {}

/// What a user wrote, on one line, within quotation marks.
pub(super) fn quoted(text: &OsStr) -> String {
    format!("\"{}\"", shown(text))
}

/// What a user wrote, on one line: what cannot be printed is escaped, and
/// what is long is cut.
pub(super) fn shown(text: &OsStr) -> String {
    let mut escaped = String::new();
    for chunk in text.as_bytes().utf8_chunks() {
        escaped.extend(chunk.valid().escape_debug());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    match escaped.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}...", escaped.get(..end).unwrap_or_default()),
        None => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_line_and_short() {
        assert_eq!(quoted("a b".as_ref()), "\"a b\"");
        assert_eq!(quoted("a\n\"\u{1b}".as_ref()), r#""a\n\"\u{1b}""#);
        assert_eq!(quoted(OsStr::from_bytes(b"a\xffb")), r#""a\xffb""#);
        assert_eq!(shown("x".repeat(60).as_ref()), "x".repeat(60));
        assert_eq!(shown("x".repeat(61).as_ref()), "x".repeat(60) + "...");
    }
}
