//! dumb-init's.

use super::getopt::{Getopt, Known};
use super::{
    Call, DEBUG, Leads, Manner, Personality, Rewrite, Saying, Stream, Wanted, Wish, leading_number,
    version,
};
use crate::supervisor::policy::Signal;

const VERSION: &str = "dumb-init v1.2.5";

const OPTIONS: &[Known] = &[
    ('h', "help", false),
    ('c', "single-child", false),
    ('r', "rewrite", true),
    ('v', "verbose", false),
    ('V', "version", false),
];

const HELP: &str = "
   -c, --single-child   Send signals to the child alone, and not to its session.
   -r, --rewrite s:r    Send signal r for s, or none where r is 0; repeatable.
   -v, --verbose        Say on stderr what is done.
   -h, --help           Print this.
   -V, --version        Print the version.
";

const REWRITE: &str =
    "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.
This option can be specified multiple times.
Use --help for full usage.
";

/// Those that a terminal raises: with a session of its own the child is
/// stopped for good, for there they would do nothing.
const STOPS: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

pub(super) fn read(call: Call<'_>) -> Result<Wanted, Saying> {
    let name = call.name.display();
    let says = |text: String, code| Personality::DumbInit.says(Stream::Err, text, code);
    let mut rewritten: Vec<(Signal, Rewrite)> = Vec::new();
    let (mut is_verbose, mut leads) = (false, Leads::Session);
    let mut options = Getopt::new(call.name, call.argv, OPTIONS, false);
    while let Some((letter, value)) = options.next().map_err(|line| says(line, 1))? {
        match letter {
            'c' => leads = Leads::Nothing,
            'v' => is_verbose = true,
            'r' => {
                let rewrite = rewrite(&value.to_string_lossy());
                let (signal, other) = rewrite.ok_or_else(|| says(REWRITE.into(), 1))?;
                rewritten.retain(|(of, _)| *of != signal);
                rewritten.push((signal, other));
            }
            'V' => return Err(says(version(VERSION), 0)),
            _ => {
                let version = version(VERSION);
                let usage = format!("{version}Usage: {name} [option] command [[arg] ...]\n{HELP}");
                return Err(says(usage, 0));
            }
        }
    }
    if options.rest.is_empty() {
        let usage =
            format!("Usage: {name} [option] program [args]\nTry {name} --help for full usage.\n");
        return Err(says(usage, 1));
    }
    is_verbose |= call
        .variable("DUMB_INIT_DEBUG")
        .is_some_and(|value| value == "1");
    if call
        .variable("DUMB_INIT_SETSID")
        .is_some_and(|value| value == "0")
    {
        leads = Leads::Nothing;
    }
    if leads == Leads::Session {
        for stop in STOPS {
            if rewritten.iter().all(|(of, _)| *of != stop) {
                rewritten.push((stop, Rewrite::Suspend));
            }
        }
    }
    let manner = Manner {
        personality: Personality::DumbInit,
        verbosity: if is_verbose { DEBUG } else { 0 },
        adopts: true,
        leads,
    };
    Ok(Wanted::Run(Wish {
        command: options.rest,
        to_group: leads == Leads::Session,
        rewritten,
        ..Wish::new(manner)
    }))
}

/// `15:2`, or `15:0` for none. What follows the numbers does not matter.
fn rewrite(text: &str) -> Option<(Signal, Rewrite)> {
    let (of, to) = text.split_once(':')?;
    let within = |least, number: i32| (least..=31).contains(&number).then_some(number);
    let to = within(0, leading_number(to)?)?;
    let of = within(1, of.trim_ascii_start().parse().ok()?)?;
    let to = Signal::from_number(to).map_or(Rewrite::Nothing, Rewrite::Signal);
    Some((Signal::from_number(of)?, to))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{saying, wish};
    use super::*;

    #[test]
    fn its_options_and_variables() {
        let found = wish("dumb-init", &["a", "-v", "--", "-b"], &[]);
        assert_eq!(found.command, ["a", "-v", "--", "-b"]);
        assert!(found.to_group && found.manner.leads == Leads::Session);
        assert_eq!(found.manner.verbosity, 0);
        let stops = STOPS.map(|stop| (stop, Rewrite::Suspend));
        assert_eq!(found.rewritten, stops);

        let argv = ["-cvr", "15:2", "--rewrite", "2:0", "-r15:3", "a"];
        let found = wish("dumb-init", &argv, &[]);
        assert!(!found.to_group && found.manner.leads == Leads::Nothing);
        assert_eq!(found.manner.verbosity, DEBUG);
        let expected = [
            (Signal::INT, Rewrite::Nothing),
            (Signal::TERM, Rewrite::Signal(Signal::QUIT)),
        ];
        assert_eq!(found.rewritten, expected);

        let env = [("DUMB_INIT_DEBUG", "1"), ("DUMB_INIT_SETSID", "0")];
        let found = wish("dumb-init", &["a"], &env);
        assert!(found.rewritten.is_empty() && found.manner.leads == Leads::Nothing);
        assert_eq!(found.manner.verbosity, DEBUG);
        let env = [("DUMB_INIT_DEBUG", "0"), ("DUMB_INIT_SETSID", "1")];
        let found = wish("dumb-init", &["-r", "20:20", "a"], &env);
        assert_eq!(found.manner.leads, Leads::Session);
        assert_eq!(found.manner.verbosity, 0);
        assert_eq!(
            found.rewritten.first(),
            Some(&(Signal::TSTP, Rewrite::Signal(Signal::TSTP)))
        );
        assert_eq!(found.rewritten.len(), 3);
    }

    #[test]
    fn what_is_printed() {
        for (argv, code, begins) in [
            (&["-V"][..], 0, "dumb-init v1.2.5 - git.clinit-"),
            (&["--version"], 0, "dumb-init v1.2.5 - git.clinit-"),
            (&["--help"], 0, "dumb-init v1.2.5 - git.clinit-"),
            (
                &[],
                1,
                "Usage: dumb-init [option] program [args]\nTry dumb-init --help",
            ),
            (&["-x"], 1, "dumb-init: invalid option -- 'x'"),
            (&["-r"], 1, "dumb-init: option requires an argument -- 'r'"),
            (&["-r", "15", "a"], 1, "Usage: -r option takes"),
        ] {
            let said = saying("dumb-init", argv, &[]);
            assert_eq!((said.stream, said.code), (Stream::Err, code), "{argv:?}");
            assert!(said.text.starts_with(begins), "{argv:?}: {}", said.text);
        }
    }

    #[test]
    fn rewrites() {
        for (text, numbers) in [
            ("1:2", Some((1, 2))),
            (" 1: 31x", Some((1, 31))),
            ("31:0", Some((31, 0))),
            ("0:1", None),
            ("32:1", None),
            ("1:32", None),
            ("1:-1", None),
            ("TERM:INT", None),
            ("1x:2", None),
            ("1", None),
            ("", None),
        ] {
            let found = rewrite(text);
            let number = |rewrite| match rewrite {
                Rewrite::Signal(signal) => signal.number(),
                Rewrite::Nothing | Rewrite::Suspend => 0,
            };
            let found = found.map(|(of, to)| (of.number(), number(to)));
            assert_eq!(found, numbers, "{text:?}");
        }
    }
}
