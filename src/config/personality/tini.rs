//! tini's.

use super::getopt::{Getopt, Known};
use super::{Call, LICENSE, Leads, Manner, Personality, Saying, Stream, Wanted, Wish, version};
use crate::supervisor::policy::Signal;

const VERSION: &str = "tini version 0.19.0";

const OPTIONS: &[Known] = &[
    ('h', "", false),
    ('s', "", false),
    ('p', "", true),
    ('v', "", false),
    ('w', "", false),
    ('g', "", false),
    ('e', "", true),
    ('l', "", false),
];

const HELP: &str = "
  -s: adopt orphans where this is not process 1 (TINI_SUBREAPER)
  -p SIGNAL: get SIGNAL when the parent dies, as in \"-p SIGKILL\"
  -v: say more; up to 3 times (TINI_VERBOSITY)
  -w: warn of each orphan that is reaped
  -g: send signals to the child's process group (TINI_KILL_PROCESS_GROUP)
  -e CODE: exit with 0 where the child exits with CODE; repeatable
  -h, -l, --version: print this, the license, the version
";

pub(super) fn read(call: Call<'_>) -> Result<Wanted, Saying> {
    let says = |stream, text: String, code| Personality::Tini.says(stream, text, code);
    let usage = |stream, text: &str, code| {
        let name = call.base();
        let version = version(VERSION);
        let usage = format!("Usage: {name} [OPTIONS] PROGRAM -- [ARGS] | --version\n{HELP}");
        says(
            stream,
            format!("{text}{name} ({})\n{usage}", version.trim_ascii_end()),
            code,
        )
    };
    let not_valid = |option, value: &str| {
        says(
            Stream::Log,
            format!("Not a valid option for -{option}: {value}"),
            1,
        )
    };
    if let [only] = call.argv
        && only == "--version"
    {
        return Err(says(Stream::Out, version(VERSION), 0));
    }
    let mut wish = Wish::new(Manner {
        personality: Personality::Tini,
        verbosity: 1,
        adopts: call.has("TINI_SUBREAPER"),
        leads: Leads::Group,
    });
    let permutes = !call.has("POSIXLY_CORRECT");
    let mut options = Getopt::new(call.name, call.argv, OPTIONS, permutes);
    while let Some((letter, value)) = options
        .next()
        .map_err(|line| usage(Stream::Err, &line, 1))?
    {
        let value = value.to_string_lossy();
        match letter {
            's' => wish.manner.adopts = true,
            'v' => wish.manner.verbosity += 1,
            'w' => wish.warn_reaped = true,
            'g' => wish.to_group = true,
            'p' => {
                let is_name = value.starts_with("SIG");
                let signal = Signal::parse(&value).filter(|_| is_name);
                wish.parent_death = Some(signal.ok_or_else(|| not_valid('p', &value))?);
            }
            'e' => {
                let code = value.parse();
                wish.ok_codes
                    .push(code.map_err(|_| not_valid('e', &value))?);
            }
            'l' => return Err(says(Stream::Out, LICENSE.into(), 0)),
            _ => return Err(usage(Stream::Out, "", 0)),
        }
    }
    wish.command = options.rest;
    if wish.command.is_empty() {
        return Err(usage(Stream::Err, "", 1));
    }
    wish.to_group |= call.has("TINI_KILL_PROCESS_GROUP");
    if let Some(verbosity) = call.variable("TINI_VERBOSITY") {
        wish.manner.verbosity = super::leading_number(&verbosity.to_string_lossy()).unwrap_or(0);
    }
    Ok(Wanted::Run(wish))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{saying, wish};
    use super::*;

    #[test]
    fn its_options_and_variables() {
        let all = "-s -p SIGKILL -vv -w -g -e 143 -e3 -- a -b";
        let argv: Vec<&str> = all.split(' ').collect();
        let found = wish("tini", &argv, &[]);
        assert!(found.manner.adopts && found.warn_reaped && found.to_group);
        assert_eq!(found.manner.verbosity, 3);
        assert_eq!(found.manner.leads, Leads::Group);
        assert_eq!(found.parent_death, Some(Signal::KILL));
        assert_eq!(found.ok_codes, [143, 3]);
        assert_eq!(found.command, ["a", "-b"]);

        let plain = wish("docker-init", &["--", "a"], &[]);
        assert!(!plain.manner.adopts && !plain.warn_reaped && !plain.to_group);
        assert_eq!((plain.manner.verbosity, plain.parent_death), (1, None));

        // Even empty they are set; and this one beats -v.
        let env = [
            ("TINI_SUBREAPER", ""),
            ("TINI_KILL_PROCESS_GROUP", ""),
            ("TINI_VERBOSITY", "2x"),
        ];
        let set = wish("tini", &["-vvv", "a"], &env);
        assert!(set.manner.adopts && set.to_group);
        assert_eq!(set.manner.verbosity, 2);
        let none = wish("tini", &["a"], &[("TINI_VERBOSITY", "")]);
        assert_eq!(none.manner.verbosity, 0);
    }

    #[test]
    fn what_is_printed() {
        for (argv, stream, code, begins) in [
            (
                &["--version"][..],
                Stream::Out,
                0,
                "tini version 0.19.0 - git.clinit-",
            ),
            (
                &["--version", "a"],
                Stream::Err,
                1,
                "tini: unrecognized option '--version'\ntini (",
            ),
            (&["-l"], Stream::Out, 0, "clinit: Apache-2.0 OR MIT\n"),
            (&["-h"], Stream::Out, 0, "tini (tini version 0.19.0"),
            (&["-s"], Stream::Err, 1, "tini (tini version 0.19.0"),
            (&[], Stream::Err, 1, "tini (tini version 0.19.0"),
            (
                &["ls", "-d"],
                Stream::Err,
                1,
                "tini: invalid option -- 'd'\ntini (",
            ),
            (
                &["-p", "TERM", "a"],
                Stream::Log,
                1,
                "Not a valid option for -p: TERM",
            ),
            (
                &["-e", "256", "a"],
                Stream::Log,
                1,
                "Not a valid option for -e: 256",
            ),
        ] {
            let said = saying("tini", argv, &[]);
            assert_eq!((said.stream, said.code), (stream, code), "{argv:?}");
            assert!(said.text.starts_with(begins), "{argv:?}: {}", said.text);
        }
        let said = saying("/sbin/docker-init", &[], &[]);
        assert!(said.text.contains("Usage: docker-init [OPTIONS] PROGRAM"));
    }

    #[test]
    fn a_posixly_correct_one_takes_no_options_of_the_programs() {
        let found = wish("tini", &["ls", "-d"], &[("POSIXLY_CORRECT", "")]);
        assert_eq!(found.command, ["ls", "-d"]);
    }
}
