//! What was probably meant by a name that is not known.

use super::listen::ListenerSpec;
use super::options::{OPTIONS, Opt};
use super::sizing::Instances;
use std::path::Path;

/// Flags of programs that do a part of what clinit does, gunicorn and pm2
/// before all, and which of ours does it.
const FOREIGN: [(&str, Opt); 11] = [
    ("workers", Opt::Instances),
    ("worker-processes", Opt::Instances),
    ("processes", Opt::Instances),
    ("b", Opt::Listen),
    ("bind", Opt::Listen),
    ("port", Opt::Listen),
    ("u", Opt::User),
    ("graceful-timeout", Opt::Grace),
    ("kill-timeout", Opt::Grace),
    ("cwd", Opt::Chdir),
    ("workdir", Opt::Chdir),
];

/// A name longer than this is no misspelling of ours.
const LONGEST_NAME: usize = 40;

/// The option that was meant by `name` (without dashes), with its dashes, and
/// with `value` where that would be a good one: `-i 4` for `w` and `4`.
pub(super) fn option(name: &str, value: Option<&str>) -> Option<String> {
    let Some((_, meant)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) else {
        let mut names = OPTIONS.iter().map(|spec| spec.long);
        return nearest(name, &mut names).map(|long| format!("--{long}"));
    };
    let spec = OPTIONS.iter().find(|spec| spec.id == *meant)?;
    let option = match spec.short {
        Some(letter) => format!("-{letter}"),
        None => format!("--{}", spec.long),
    };
    let value = value.filter(|value| {
        (*meant == Opt::Instances && Instances::parse(value).is_ok())
            || (*meant == Opt::Listen && ListenerSpec::parse(value, Path::new("/")).is_ok())
    });
    Some(match value {
        Some(value) => format!("{option} {value}"),
        None => option,
    })
}

/// The one of `known` that `name` begins or is a misspelling of: a third of it
/// may be wrong.
pub(super) fn nearest<'a>(name: &str, known: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if !(2..=LONGEST_NAME).contains(&length) {
        return None;
    }
    let mut nearest = None;
    // One more than may be wrong.
    let mut least = (length + 1) / 3 + 1;
    for known in known {
        let distance = difference(name, known);
        if distance < least {
            (least, nearest) = (distance, Some(known));
        }
    }
    nearest
}

/// The edit distance; nothing is wrong with a beginning of at least three
/// characters.
fn difference(name: &str, known: &str) -> usize {
    if name.len() >= 3 && known.starts_with(name) {
        return 0;
    }
    edit_distance(name, known)
}

/// How many characters are to be put in, taken out or replaced to make `b` of
/// `a` (Wagner and Fischer, 1974), with one row of their table at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row = vec![0];
    for _ in b.chars() {
        row.push(row.len());
    }
    for (above, x) in a.chars().enumerate() {
        let (mut diagonal, mut left) = (above, above + 1);
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            *cell = replaced.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("grace", "grace", 0),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn foreign_flags() {
        assert_eq!(option("workers", Some("4")).unwrap(), "-i 4");
        assert_eq!(option("workers", Some("app")).unwrap(), "-i");
        assert_eq!(option("workers", None).unwrap(), "-i");
        assert_eq!(option("bind", Some("0.0.0.0:80")).unwrap(), "-l 0.0.0.0:80");
        assert_eq!(option("b", Some("localhost:80")).unwrap(), "-l");
        assert_eq!(option("kill-timeout", Some("1600")).unwrap(), "--grace");
    }

    #[test]
    fn misspellings() {
        assert_eq!(option("instance", None).unwrap(), "--instances");
        assert_eq!(option("inst", None).unwrap(), "--instances");
        assert_eq!(option("drain-dealy", None).unwrap(), "--drain-delay");
        for name in ["", "q", "go", "admin", "daemonize", &"x".repeat(100_000)] {
            assert_eq!(option(name, None), None, "{name}");
        }
    }
}
