//! The expectations: what is to be seen of a program, behaviour by behaviour.

mod catatonit;
mod clinit;
mod dumb_init;
mod tini;

use crate::run::Run;

pub(crate) use catatonit::CATATONIT;
pub(crate) use clinit::CLINIT;
pub(crate) use dumb_init::DUMB_INIT;
pub(crate) use tini::TINI;

/// Whose behaviour is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Original,
    /// Clinit, by the original's name.
    Clinit,
}

/// One behaviour.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// The options that it takes to be seen, words between spaces.
    pub(crate) options: &'static str,
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// Whether the program is to be process 1.
    pub(crate) pid1: bool,
    /// Says in few words what is to be seen.
    pub(crate) observe: fn(&Run<'_>) -> String,
    original: &'static str,
    /// What clinit does instead, and why.
    pub(crate) instead: Option<(&'static str, &'static str)>,
}

impl Row {
    pub(crate) fn expected(&self, whose: Whose) -> &'static str {
        match (whose, self.instead) {
            (Whose::Clinit, Some((instead, _))) => instead,
            (Whose::Clinit, None) | (Whose::Original, _) => self.original,
        }
    }
}

const fn row(what: &'static str, observe: fn(&Run<'_>) -> String, original: &'static str) -> Row {
    Row {
        what,
        options: "",
        env: &[],
        pid1: false,
        observe,
        original,
        instead: None,
    }
}

impl Row {
    const fn with(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }

    const fn env(mut self, env: &'static [(&'static str, &'static str)]) -> Self {
        self.env = env;
        self
    }

    const fn process1(mut self) -> Self {
        self.pid1 = true;
        self
    }

    /// Clinit differs, for this reason.
    const fn but(mut self, instead: &'static str, why: &'static str) -> Self {
        self.instead = Some((instead, why));
        self
    }
}

// Reasons that more than one table has.

const USERS_FAULTS: &str = "a signal that a user sends is told from a real fault by its si_code";
const USERS_STOPS: &str =
    "what a user sends is the child's; only what the kernel raises for a terminal is not";
const VALUES: &str = "what sigqueue(3) sends along is the child's";
const LAST_WORDS: &str = "what is left gets TERM, so that it may say its last words";
const TELLS_ITS_NAME: &str =
    "a user is to find out what this is; the form is tini's own, which Docker reads";
const OWN_LICENSE: &str = "it is clinit's licence that holds";
const SURVIVES_CLOSED_STDIN: &str = "a closed stdin is passed on closed";
