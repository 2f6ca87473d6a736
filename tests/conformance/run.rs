//! Runs rows of a table over one program.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::harness::Setup;
use crate::table::{Row, Whose};

/// A program that is to show what a row is about.
pub(crate) struct Run<'a> {
    program: &'a Path,
    row: &'a Row,
}

impl Run<'_> {
    /// With the row's options and environment, and nothing to run.
    pub(crate) fn bare(&self) -> Setup {
        let setup = Setup::new("").program(self.program).pid1(self.row.pid1);
        let words = self.row.options.split_whitespace();
        let setup = words.fold(setup, Setup::arg);
        self.row
            .env
            .iter()
            .fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// With the row's options, and the fixture worker with this script.
    pub(crate) fn worker(&self, script: &str) -> Setup {
        self.bare().worker(script)
    }

    /// A line with `INIT` in place of the program's path.
    pub(crate) fn without_path(&self, line: &str) -> String {
        line.replace(&self.program.display().to_string(), "INIT")
    }

    /// The same, as a command line to be run by another program.
    pub(crate) fn command_line(&self, script: &str) -> String {
        let worker = &*crate::harness::WORKER;
        let (program, options) = (self.program.display(), self.row.options);
        format!("{program} {options} -- {worker} {script}")
    }
}

/// Where what was seen is not what the table says.
pub(crate) fn failures<'a>(
    program: &Path,
    rows: impl Iterator<Item = &'a Row>,
    whose: Whose,
) -> Vec<String> {
    let mut failures = Vec::new();
    for row in rows {
        let run = Run { program, row };
        let seen = catch_unwind(AssertUnwindSafe(|| (row.observe)(&run)));
        let seen = seen.unwrap_or_else(|_| "nothing: see above".to_owned());
        let expected = row.expected(whose);
        if seen != expected {
            let what = row.what;
            failures.push(format!(
                "{what}\n  expected: {expected}\n      seen: {seen}"
            ));
        }
    }
    failures
}
