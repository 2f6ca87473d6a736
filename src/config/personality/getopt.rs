//! A command line as getopt(3) and `getopt_long(3)` read it.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

/// An option: its letter, its long name, and whether it takes a value.
pub(super) type Known = (char, &'static str, bool);

/// Options one after the other, and then what is left.
pub(super) struct Getopt<'a> {
    program: &'a OsStr,
    known: &'a [Known],
    parser: Parser,
    /// Whether options are looked for behind the first word that is none.
    permutes: bool,
    /// The words that are no options.
    pub(super) rest: Vec<OsString>,
}

impl<'a> Getopt<'a> {
    pub(super) fn new(
        program: &'a OsStr,
        argv: &[OsString],
        known: &'a [Known],
        permutes: bool,
    ) -> Self {
        Self {
            program,
            known,
            parser: Parser::from_args(argv),
            permutes,
            rest: Vec::new(),
        }
    }

    /// The next option's letter and value; the error is a line that says what
    /// is wrong.
    pub(super) fn next(&mut self) -> Result<Option<(char, OsString)>, String> {
        loop {
            let argument = match self.parser.next() {
                Ok(argument) => argument,
                Err(lexopt::Error::UnexpectedValue { option, .. }) => {
                    return Err(self.line(&format!("option '{option}' doesn't allow an argument")));
                }
                Err(other) => return Err(self.line(&other.to_string())),
            };
            let (found, name) = match argument {
                None => return Ok(None),
                Some(Arg::Value(word)) => {
                    self.rest.push(word);
                    if !self.permutes {
                        let left = self.parser.try_raw_args();
                        self.rest.extend(left.into_iter().flatten());
                    }
                    continue;
                }
                Some(Arg::Short(letter)) => (of_letter(self.known, letter), letter.to_string()),
                Some(Arg::Long(name)) => (of_long(self.known, name), name.to_owned()),
            };
            let Some((letter, _, takes_value)) = found else {
                let problem = match name.chars().count() {
                    1 => format!("invalid option -- '{name}'"),
                    _ => format!("unrecognized option '--{name}'"),
                };
                return Err(self.line(&problem));
            };
            if !takes_value {
                return Ok(Some((letter, OsString::new())));
            }
            let missing = format!("option requires an argument -- '{letter}'");
            let value = self.parser.value();
            return match value {
                Ok(value) => Ok(Some((letter, value))),
                Err(_) => Err(self.line(&missing)),
            };
        }
    }

    fn line(&self, problem: &str) -> String {
        format!("{}: {problem}\n", self.program.display())
    }
}

fn of_letter(known: &[Known], letter: char) -> Option<Known> {
    known.iter().find(|known| known.0 == letter).copied()
}

/// The long option of this name, or the only one that begins with it.
fn of_long(known: &[Known], name: &str) -> Option<Known> {
    let long = known.iter().filter(|known| !known.1.is_empty());
    let mut fitting = long.filter(|known| known.1.starts_with(name));
    let first = fitting.next()?;
    let is_only = fitting.next().is_none();
    (is_only || first.1 == name).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] = &[
        ('v', "verbose", false),
        ('V', "version", false),
        ('r', "rewrite", true),
    ];

    /// The options, and the rest; or the error.
    fn read(line: &str, permutes: bool) -> (String, String) {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let mut getopt = Getopt::new("x".as_ref(), &argv, KNOWN, permutes);
        let mut found = String::new();
        loop {
            match getopt.next() {
                Ok(Some((letter, value))) => {
                    found.push(letter);
                    found.push_str(&value.to_string_lossy());
                }
                Ok(None) => break,
                Err(error) => return (found, error),
            }
        }
        (
            found,
            getopt
                .rest
                .join(OsStr::new(" "))
                .to_string_lossy()
                .into_owned(),
        )
    }

    #[test]
    fn options_are_found_as_getopt_finds_them() {
        for (line, permutes, found, rest) in [
            ("-v a", true, "v", "a"),
            ("-vVr1 a", true, "vVr1", "a"),
            ("-r -v a", true, "r-v", "a"),
            ("a -v b", true, "v", "a b"),
            ("a -v b", false, "", "a -v b"),
            ("a -- -v", true, "", "a -v"),
            ("a -- -v", false, "", "a -- -v"),
            ("-- -v -V", true, "", "-v -V"),
            ("- -v", true, "v", "-"),
            ("--verb --rew 1 --rewrite=2 a", false, "vr1r2", "a"),
            ("--ver a", true, "", "x: unrecognized option '--ver'\n"),
            (
                "--nothing",
                true,
                "",
                "x: unrecognized option '--nothing'\n",
            ),
            ("-v -x", true, "v", "x: invalid option -- 'x'\n"),
            ("-r", true, "", "x: option requires an argument -- 'r'\n"),
            (
                "--verbose=1 a",
                true,
                "v",
                "x: option '--verbose' doesn't allow an argument\n",
            ),
        ] {
            let expected = (found.to_owned(), rest.to_owned());
            assert_eq!(read(line, permutes), expected, "{line}");
        }
    }
}
