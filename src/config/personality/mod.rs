//! Other inits' command lines and variables: clinit, called by the name of one
//! of them, is configured as that one would be.
//!
//! What is documented of them is kept to, exit codes and streams included;
//! where clinit differs, docs/personalities.md says so.

mod catatonit;
mod dumb_init;
mod getopt;
mod tini;
mod wish;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::environment::lookup;
use wish::{Rewrite, Wish};

/// Another init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// tini 0.19.0, which is Docker's docker-init.
    Tini,
    /// dumb-init 1.2.5.
    DumbInit,
    /// catatonit 0.1.7, which is podman's.
    Catatonit,
}

impl Personality {
    /// Whose name this is: the last part of `argv[0]`, exactly. By any other
    /// name clinit is itself.
    #[must_use]
    pub fn of(name: &OsStr) -> Option<Self> {
        match base(name).as_bytes() {
            b"tini" | b"tini-static" | b"docker-init" => Some(Self::Tini),
            b"dumb-init" => Some(Self::DumbInit),
            b"catatonit" => Some(Self::Catatonit),
            _ => None,
        }
    }
}

/// What clinit does as another init does it, and not by its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whose manner it is.
    pub personality: Personality,
    /// How much it says, as tini counts: 1 with warnings, 2 with what happens,
    /// 3 with what it does about that. Errors are always said.
    pub verbosity: i32,
    /// Whether it adopts orphans where it is not process 1.
    pub adopts: bool,
    /// What its child leads.
    pub leads: Leads,
}

/// What a child leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// A process group of its own.
    Group,
    /// A session of its own, at the terminal that clinit was started at.
    Session,
    /// Nothing: it stays in clinit's group.
    Nothing,
}

/// Something to be said instead of running a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// Who says it.
    pub personality: Personality,
    /// Where it is said.
    pub stream: Stream,
    /// What is said, in one line or more.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// Where something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// On stdout.
    Out,
    /// On stderr.
    Err,
    /// On stderr, begun as that init begins a line of its log.
    Log,
}

/// How clinit was called.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// Its name, as it is.
    pub(super) name: &'a OsStr,
    /// The arguments after it.
    pub(super) argv: &'a [OsString],
    pub(super) env: &'a [(OsString, OsString)],
}

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Says(Saying),
    /// To wait for INT or TERM and run nothing.
    Pause,
    Run(Wish),
}

/// Reads what clinit was called with as this init would.
pub(super) fn read(personality: Personality, call: Call<'_>) -> Wanted {
    let read = match personality {
        Personality::Tini => tini::read(call),
        Personality::DumbInit => dumb_init::read(call),
        Personality::Catatonit => catatonit::read(call),
    };
    read.unwrap_or_else(Wanted::Says)
}

impl Call<'_> {
    /// The last part of its name.
    fn base(&self) -> String {
        base(self.name).to_string_lossy().into_owned()
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        lookup(self.env, name.as_ref())
    }

    fn has(&self, variable: &str) -> bool {
        self.variable(variable).is_some()
    }
}

fn base(name: &OsStr) -> &OsStr {
    Path::new(name).file_name().unwrap_or_default()
}

/// A version's line. Its end says who this is, in the form of tini's own,
/// `tini version 0.19.0 - git.de40ad0`: `docker info` shows what follows the
/// only full stop there.
fn version(of: &str) -> String {
    format!("{of}{WHO}\n")
}

const WHO: &str = concat!(
    " - git.clinit-",
    env!("CARGO_PKG_VERSION_MAJOR"),
    "-",
    env!("CARGO_PKG_VERSION_MINOR"),
    "-",
    env!("CARGO_PKG_VERSION_PATCH")
);

/// As loud as those are that have no other degree.
const DEBUG: i32 = 3;

const LICENSE: &str = concat!("clinit: ", env!("CARGO_PKG_LICENSE"), "\n");

impl Personality {
    fn says(self, stream: Stream, text: impl Into<String>, code: u8) -> Saying {
        Saying {
            personality: self,
            stream,
            text: text.into(),
            code,
        }
    }
}

/// The number that a text begins with, as atoi(3) reads it; one that is too
/// large is the largest.
fn leading_number(text: &str) -> Option<i32> {
    let text = text.trim_ascii_start();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let digits = unsigned.get(..digits).filter(|digits| !digits.is_empty())?;
    let number = digits.parse().unwrap_or(i32::MAX);
    Some(if text.starts_with('-') {
        -number
    } else {
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these words come to, after the name, in this environment.
    pub(super) fn read_as(name: &str, argv: &[&str], env: &[(&str, &str)]) -> Wanted {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        let env: Vec<_> = env.iter().map(|(n, v)| (n.into(), v.into())).collect();
        let name = OsStr::new(name);
        let call = Call {
            name,
            argv: &argv,
            env: &env,
        };
        read(Personality::of(name).unwrap(), call)
    }

    pub(super) fn wish(name: &str, argv: &[&str], env: &[(&str, &str)]) -> Wish {
        match read_as(name, argv, env) {
            Wanted::Run(wish) => wish,
            other @ (Wanted::Says(_) | Wanted::Pause) => panic!("{argv:?}: {other:?}"),
        }
    }

    pub(super) fn saying(name: &str, argv: &[&str], env: &[(&str, &str)]) -> Saying {
        match read_as(name, argv, env) {
            Wanted::Says(words) => words,
            other @ (Wanted::Run(_) | Wanted::Pause) => panic!("{argv:?}: {other:?}"),
        }
    }

    #[test]
    fn a_name_is_one_exactly_or_clinits_own() {
        for (name, personality) in [
            ("tini", Some(Personality::Tini)),
            ("/sbin/tini", Some(Personality::Tini)),
            ("/usr/bin/tini-static", Some(Personality::Tini)),
            ("./docker-init", Some(Personality::Tini)),
            ("/usr/bin/dumb-init", Some(Personality::DumbInit)),
            ("catatonit", Some(Personality::Catatonit)),
            ("clinit", None),
            ("my-tini", None),
            ("tini.old", None),
            ("TINI", None),
            ("/tini/clinit", None),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(Personality::of(name.as_ref()), personality, "{name}");
        }
    }

    #[test]
    fn numbers_are_read_as_c_does() {
        for (text, number) in [
            ("0", Some(0)),
            (" 3x", Some(3)),
            ("-1", Some(-1)),
            ("+2", Some(2)),
            ("99999999999", Some(i32::MAX)),
            ("", None),
            ("x3", None),
            ("-", None),
        ] {
            assert_eq!(leading_number(text), number, "{text:?}");
        }
    }
}
