//! catatonit's.

use super::getopt::{Getopt, Known};
use super::{
    Call, DEBUG, LICENSE, Leads, Manner, Personality, Saying, Stream, Wanted, Wish, version,
};

/// It is Docker that wants tini's name here.
const VERSION: &str = "tini version 0.1.7_catatonit";

const OPTIONS: &[Known] = &[
    ('g', "", false),
    ('h', "", false),
    ('L', "", false),
    ('P', "", false),
    ('V', "version", false),
];

const USAGE: &str = "usage: catatonit [-ghLPV] [--] <progname> [<arguments>...]\n";

const HELP: &str = "
  -g              Forward signals to the program's process group.
  -P              Run no program, and quit on INT and TERM.
  -h, -L          Print this; the license.
  -V, --version   Print the version.
";

pub(super) fn read(call: Call<'_>) -> Result<Wanted, Saying> {
    let says = |stream, text: &str, code| Personality::Catatonit.says(stream, text, code);
    if call.has("CATATONIT_LOG") {
        return Err(says(
            Stream::Log,
            "CATATONIT_LOG is reserved for future use",
            1,
        ));
    }
    let is_loud = call.has("CATATONIT_DEBUG");
    let mut wish = Wish::new(Manner {
        personality: Personality::Catatonit,
        verbosity: if is_loud { DEBUG } else { 0 },
        adopts: true,
        leads: Leads::Group,
    });
    let permutes = !call.has("POSIXLY_CORRECT");
    let mut options = Getopt::new(call.name, call.argv, OPTIONS, permutes);
    let mut pauses = false;
    let wrong = |line: String| says(Stream::Err, &(line + USAGE), 1);
    while let Some((letter, _)) = options.next().map_err(wrong)? {
        match letter {
            'g' => wish.to_group = true,
            'P' => pauses = true,
            'L' => return Err(says(Stream::Out, LICENSE, 0)),
            'V' => return Err(says(Stream::Out, &version(VERSION), 0)),
            _ => return Err(says(Stream::Err, &format!("{USAGE}{HELP}"), 0)),
        }
    }
    if pauses {
        return Ok(Wanted::Pause);
    }
    if options.rest.is_empty() {
        let text = format!("missing program name\n{}", USAGE.trim_ascii_end());
        return Err(says(Stream::Log, &text, 1));
    }
    wish.command = options.rest;
    Ok(Wanted::Run(wish))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read_as, saying, wish};
    use super::*;

    #[test]
    fn its_options_and_variables() {
        let plain = wish("catatonit", &["a"], &[]);
        assert!(plain.manner.adopts && !plain.to_group);
        assert_eq!(plain.manner.verbosity, 0);
        let env = [("CATATONIT_DEBUG", "")];
        let found = wish("catatonit", &["-g", "--", "a", "-b"], &env);
        assert!(found.to_group);
        assert_eq!(found.manner.verbosity, DEBUG);
        assert_eq!(found.command, ["a", "-b"]);
        assert_eq!(read_as("catatonit", &["a", "-P"], &[]), Wanted::Pause);
    }

    #[test]
    fn what_is_printed() {
        for (argv, stream, code, begins) in [
            (
                &["-V"][..],
                Stream::Out,
                0,
                "tini version 0.1.7_catatonit - git.clinit-",
            ),
            (
                &["--vers"],
                Stream::Out,
                0,
                "tini version 0.1.7_catatonit - git.clinit-",
            ),
            (&["-L"], Stream::Out, 0, "clinit: Apache-2.0 OR MIT\n"),
            (&["-h"], Stream::Err, 0, "usage: catatonit [-ghLPV]"),
            (
                &[],
                Stream::Log,
                1,
                "missing program name\nusage: catatonit [-ghLPV]",
            ),
            (
                &["-x"],
                Stream::Err,
                1,
                "catatonit: invalid option -- 'x'\nusage: ",
            ),
            (
                &["ls", "-d"],
                Stream::Err,
                1,
                "catatonit: invalid option -- 'd'\nusage: ",
            ),
        ] {
            let said = saying("catatonit", argv, &[]);
            assert_eq!((said.stream, said.code), (stream, code), "{argv:?}");
            assert!(said.text.starts_with(begins), "{argv:?}: {}", said.text);
        }
        let said = saying("catatonit", &["a"], &[("CATATONIT_LOG", "")]);
        assert_eq!((said.stream, said.code), (Stream::Log, 1));
    }
}
