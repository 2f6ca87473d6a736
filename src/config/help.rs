//! What `clinit -h` prints and what the README shows, made from [`OPTIONS`].

use std::fmt::Write as _;

use super::options::{OPTIONS, OptionSpec};
use super::verbs;

/// The widest line that is printed.
const WIDTH: usize = 80;
/// Where the second column begins.
const COLUMN: usize = 30;

const USAGE: &str = "\
usage: clinit [OPTIONS] [--] COMMAND [ARG]...
       clinit cpus [-i N] [--max-instances N] [--worker-memory SIZE]
       clinit VERB [ARG]... [--json] [--pid PID] [--control PATH]

With -i or -l, for workers that are supervised:
";

const IN_BOTH_MODES: &str = "\
Also without, for one child whose exit status is clinit's:
";

const ENDING: &str = "
--drain-delay is CLINIT_DRAIN_DELAY in the environment, and so on; the command
line wins. In workers' ARGs, {slot}, {fd}, {fd:NAME} and {port:NAME} are
replaced. DUR: 500ms, 20s, 1h30m, 0. SIZE: 300M, 1G. SIG: TERM, 15, RTMIN+3.
Called tini, docker-init, dumb-init or catatonit, it takes that one's options.
";

/// The help: usage, options, and how values are written, in lines of at most
/// 80 columns.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(USAGE);
    for spec in OPTIONS.iter().filter(|spec| spec.cluster_only) {
        describe(spec, &mut text);
    }
    text.push_str(IN_BOTH_MODES);
    for spec in OPTIONS.iter().filter(|spec| !spec.cluster_only) {
        describe(spec, &mut text);
    }
    text.push_str(ENDING);
    text.push_str("\nVerbs, to talk to a clinit that runs:");
    let mut width = WIDTH;
    for name in verbs::names().split(' ') {
        if width + 1 + name.len() > WIDTH {
            text.push_str("\n ");
            width = 1;
        }
        text.extend([" ", name]);
        width += 1 + name.len();
    }
    text.push('\n');
    text
}

/// The options as a Markdown table, for the README.
#[must_use]
pub fn readme_table() -> String {
    let mut table = String::from("| option | meaning | default |\n|---|---|---|\n");
    for spec in OPTIONS {
        let names = names(spec).replace('|', "\\|");
        let (help, default) = (spec.help, spec.default);
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{names}` | {help} | {default} |");
    }
    table
}

/// `-l, --listen [NAME=]ADDR`
fn names(spec: &OptionSpec) -> String {
    let short = spec.short.map_or(String::new(), |c| format!("-{c}, "));
    let long = format!("{short}--{} {}", spec.long, spec.value);
    long.trim_ascii_end().to_owned()
}

/// Appends an option's names in the first column and its meaning in the
/// second, which begins a line of its own where the names are too wide.
fn describe(spec: &OptionSpec, text: &mut String) {
    let margin = if spec.short.is_some() { 2 } else { 6 };
    let mut line = format!("{:margin$}{}", "", names(spec));
    if line.len() + 2 > COLUMN {
        text.extend([line.as_str(), "\n"]);
        line.clear();
    }
    line = format!("{line:COLUMN$}");
    let default = match spec.default {
        "" => None,
        default => Some(format!("[{default}]")),
    };
    for word in spec.help.split(' ').chain(default.as_deref()) {
        if line.len() + 1 + word.len() > WIDTH {
            text.extend([line.as_str(), "\n"]);
            line = " ".repeat(COLUMN);
        } else if line.len() > COLUMN {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.extend([line.as_str(), "\n"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_a_small_terminal() {
        let help = help();
        for line in help.lines() {
            assert!(line.is_ascii() && line.len() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
        let lines = help.lines().count();
        assert!(lines <= 74, "{lines} lines:\n{help}");
    }

    #[test]
    fn both_name_every_option_and_default() {
        let (help, table) = (help(), readme_table());
        assert_eq!(table.lines().count(), OPTIONS.len() + 2);
        for spec in OPTIONS {
            let long = format!("--{}", spec.long);
            assert!(help.contains(&long) && table.contains(&long), "{long}");
            let default = spec.default;
            assert!(help.contains(default) && table.contains(default), "{long}");
        }
    }

    #[test]
    fn a_bar_in_a_cell_of_the_table_is_escaped() {
        for row in readme_table().lines() {
            assert_eq!(row.replace("\\|", "").matches('|').count(), 4, "{row}");
        }
    }
}
