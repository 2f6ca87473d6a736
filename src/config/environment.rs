//! The environment that workers start from.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use crate::sys::errno::describe;

use super::options::{OPTIONS, OptionSpec};
use super::units::whole;

/// The most bytes of an env file: more than execve(2) would let a worker have.
const MOST_FILE_BYTES: u64 = 4 << 20;

/// Variables with their values.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// What is put over the inherited environment; of two values the later one.
#[derive(Default)]
pub(super) struct Overrides(Variables);

impl Overrides {
    /// Adds `K=V`. The reason why it is malformed does not show the value.
    pub(super) fn add_pair(&mut self, pair: &OsStr) -> Result<(), String> {
        let (name, value) = split_pair(pair.as_bytes());
        let Some(value) = value else {
            return Err("accepted is K=V".into());
        };
        if name.is_empty() {
            return Err("the variable's name is empty; accepted is K=V".into());
        }
        if pair.as_bytes().contains(&0) {
            return Err("a variable cannot hold a NUL".into());
        }
        self.put(name, value);
        Ok(())
    }

    /// Adds what an env file says, read as Docker reads one: lines of `K=V`,
    /// the value verbatim to the end of the line; a bare `K` keeps what is
    /// inherited. The reason shows a line by its number alone.
    pub(super) fn add_file(&mut self, path: &Path, inherited: &Variables) -> Result<(), String> {
        let contents =
            read(path).map_err(|error| format!("cannot read it: {}", describe(&error)))?;
        if contents.len() as u64 > MOST_FILE_BYTES {
            return Err(format!("it has more than {MOST_FILE_BYTES} bytes"));
        }
        let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&contents);
        for (index, line) in contents.split(|byte| *byte == b'\n').enumerate() {
            self.add_line(line, inherited)
                .map_err(|reason| format!("line {}: {reason}", index + 1))?;
        }
        Ok(())
    }

    fn add_line(&mut self, line: &[u8], inherited: &Variables) -> Result<(), &'static str> {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let (name, value) = match split_pair(line) {
            (name, None) => (name.trim_ascii_end(), None),
            pair => pair,
        };
        if name.is_empty() {
            return Err("the variable's name is empty");
        }
        if name.iter().any(u8::is_ascii_whitespace) {
            return Err("there is white space in the variable's name");
        }
        if line.contains(&0) {
            return Err("a variable cannot hold a NUL");
        }
        match value {
            Some(value) => self.put(name, value),
            None => {
                if let Some(value) = lookup(inherited, OsStr::from_bytes(name)) {
                    self.put(name, value.as_bytes());
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, name: &[u8], value: &[u8]) {
        let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        self.0.push((owned(name), owned(value)));
    }

    /// The whole: what is inherited, as it stands, without what is overridden.
    pub(super) fn over(self, mut inherited: Variables) -> Variables {
        let mut own = self.0;
        // The sort keeps the order of what is equal, here the later one first.
        own.reverse();
        own.sort_by(|(one, _), (other, _)| one.cmp(other));
        own.dedup_by(|(one, _), (other, _)| one == other);
        inherited.retain(|(name, _)| own.binary_search_by(|(known, _)| known.cmp(name)).is_err());
        inherited.extend(own);
        inherited
    }
}

/// What workers inherit: everything but the variables that are options.
pub(super) fn inherited(env: &[(OsString, OsString)]) -> Variables {
    let options: Vec<String> = OPTIONS.iter().filter_map(OptionSpec::variable).collect();
    env.iter()
        .filter(|(name, _)| options.iter().all(|option| name != option.as_str()))
        .cloned()
        .collect()
}

/// A variable's value; of two of a name the first, as getenv(3) has it.
pub(super) fn lookup<'a>(env: &'a [(OsString, OsString)], name: &OsStr) -> Option<&'a OsStr> {
    env.iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_os_str())
}

/// The value that a variable named by `--env-step` has in the worker of this
/// slot; `None` where `value` is no whole number or would be too large a one.
#[must_use]
pub fn stepped(value: &OsStr, slot: u32) -> Option<OsString> {
    let number: u64 = whole(value.to_str()?)?;
    Some(number.checked_add(slot.into())?.to_string().into())
}

/// A name and, after an equals sign, a value.
fn split_pair(pair: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = pair.splitn(2, |byte| *byte == b'=');
    (parts.next().unwrap_or_default(), parts.next())
}

/// A file's contents, or one byte more of them than it may have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    let file = File::open(path)?;
    file.take(MOST_FILE_BYTES + 1).read_to_end(&mut contents)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        pairs.iter().map(owned).collect()
    }

    fn file(contents: &[u8]) -> Result<Variables, String> {
        let directory = Scratch::new("environment");
        directory.write("env", contents);
        let inherited = variables(&[("HOME", "/root"), ("SET", "old")]);
        let mut overrides = Overrides::default();
        overrides.add_file(&directory.path().join("env"), &inherited)?;
        Ok(overrides.over(Variables::new()))
    }

    #[test]
    fn an_env_file_is_read_as_docker_reads_it() {
        let read = file(
            b"\xef\xbb\xbfA=1\n# B=2\n\n  #C=3\n  D=4 \nE=\"quoted\" # kept\nF=\nHOME\n\
              UNSET\nSET \nG=x=y\r\nH= led\nA=2\nI=\xff\nJ=last",
        );
        let mut expected = variables(&[
            ("A", "2"),
            ("D", "4 "),
            ("E", "\"quoted\" # kept"),
            ("F", ""),
            ("G", "x=y"),
            ("H", " led"),
            ("HOME", "/root"),
        ]);
        expected.push(("I".into(), OsString::from_vec(vec![0xff])));
        expected.extend(variables(&[("J", "last"), ("SET", "old")]));
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for (contents, reason) in [
            ("A=1\n=secret", "line 2: the variable's name is empty"),
            (
                "my secret=1",
                "line 1: there is white space in the variable's name",
            ),
            (
                "secret =1",
                "line 1: there is white space in the variable's name",
            ),
            ("\n\nA=se\0cret", "line 3: a variable cannot hold a NUL"),
        ] {
            assert_eq!(file(contents.as_bytes()), Err(reason.into()));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let mut overrides = Overrides::default();
        let mut add = |path: &str| overrides.add_file(Path::new(path), &Variables::new());
        let missing = add("/nonexistent/env").unwrap_err();
        assert_eq!(
            missing,
            "cannot read it: no such file or directory (os error 2)"
        );
        let endless = add("/dev/zero").unwrap_err();
        assert_eq!(endless, "it has more than 4194304 bytes");
    }

    #[test]
    fn pairs() {
        let mut overrides = Overrides::default();
        for pair in ["A=1", "B=x=y", "C=", "A=2"] {
            overrides.add_pair(pair.as_ref()).unwrap();
        }
        for pair in ["", "A", "=", "=1", "A=\0"] {
            overrides.add_pair(pair.as_ref()).unwrap_err();
        }
        let inherited = variables(&[("Z", "z"), ("A", "0"), ("Y", "y"), ("A", "00")]);
        let expected = [("Z", "z"), ("Y", "y"), ("A", "2"), ("B", "x=y"), ("C", "")];
        assert_eq!(overrides.over(inherited), variables(&expected));
    }

    #[test]
    fn without_overrides_the_environment_is_verbatim() {
        let inherited = variables(&[("B", "1"), ("A", "2"), ("B", "3")]);
        assert_eq!(Overrides::default().over(inherited.clone()), inherited);
    }

    #[test]
    fn steps() {
        let step = |value: &str, slot| stepped(value.as_ref(), slot);
        assert_eq!(step("3000", 0), Some("3000".into()));
        assert_eq!(step("3000", 2), Some("3002".into()));
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "3000 ",
            "http",
            "18446744073709551615",
        ] {
            assert_eq!(step(value, 1), None, "{value}");
        }
    }
}
