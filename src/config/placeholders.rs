//! What stands in braces in a command's arguments and is another thing for
//! each worker: `{slot}`, `{fd}`, `{fd:NAME}`, `{port:NAME}`. Whatever else
//! stands in braces is left alone.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::str::from_utf8;

use super::error::{UsageError, shown};
use super::listen::is_name;

/// No placeholder is longer: `{port:` and `}` around a name of 255 bytes.
const LONGEST: usize = 262;

/// A command's arguments, compiled once and rendered for each worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    arguments: Vec<Vec<Piece>>,
}

/// A listener as a worker gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// Its name, where it has one.
    pub name: Option<&'a str>,
    /// The number of the worker's descriptor.
    pub fd: i32,
    /// Its port, where it is TCP or UDP.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(OsString),
    Slot,
    FirstFd,
    Fd(String),
    Port(String),
}

impl Template {
    /// Finds the placeholders in a command's arguments.
    #[must_use]
    pub fn new(arguments: &[OsString]) -> Self {
        let mut compiled = Vec::new();
        for argument in arguments {
            compiled.push(pieces(argument));
        }
        Self {
            arguments: compiled,
        }
    }

    /// The arguments of the worker of this slot. A placeholder that
    /// [`Self::check`] would refuse stays as it is written.
    #[must_use]
    pub fn render(&self, slot: u32, bound: &[Bound<'_>]) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for pieces in &self.arguments {
            let mut argument = OsString::new();
            for piece in pieces {
                let value = piece.value(slot, bound).ok().flatten();
                match (piece, value) {
                    (Piece::Literal(text), _) => argument.push(text),
                    (_, Some(number)) => argument.push(number.to_string()),
                    (_, None) => argument.push(piece.to_string()),
                }
            }
            arguments.push(argument);
        }
        arguments
    }

    /// Whether every placeholder stands for something, whatever the slot.
    ///
    /// # Errors
    ///
    /// The first one that names a listener that there is not, or the port of a
    /// unix socket.
    pub fn check(&self, bound: &[Bound<'_>]) -> Result<(), UsageError> {
        for piece in self.arguments.iter().flatten() {
            piece
                .value(0, bound)
                .map_err(|reason| UsageError::Placeholder {
                    placeholder: piece.to_string(),
                    reason,
                })?;
        }
        Ok(())
    }
}

impl Piece {
    /// What it is replaced by, if by anything: without any listener, `{fd}` is
    /// left to awk and its like, and where none has a name `{port:name}` is
    /// left to JavaScript.
    fn value(&self, slot: u32, bound: &[Bound<'_>]) -> Result<Option<i64>, String> {
        Ok(match self {
            Self::Literal(_) => None,
            Self::Slot => Some(slot.into()),
            Self::FirstFd => bound.first().map(|first| first.fd.into()),
            Self::Fd(_) | Self::Port(_) if bound.iter().all(|bound| bound.name.is_none()) => None,
            Self::Fd(name) => Some(named(name, bound)?.fd.into()),
            Self::Port(name) => {
                let port = named(name, bound)?.port;
                Some(port.ok_or("a unix socket has no port")?.into())
            }
        })
    }

    /// Reads a placeholder, braces included.
    fn parse(text: &[u8]) -> Option<Self> {
        let inner = text.strip_prefix(b"{")?.strip_suffix(b"}")?;
        let name = |name: &str| is_name(name).then(|| name.to_owned());
        match from_utf8(inner).ok()?.split_once(':') {
            None if inner == b"slot" => Some(Self::Slot),
            None if inner == b"fd" => Some(Self::FirstFd),
            Some(("fd", text)) => name(text).map(Self::Fd),
            Some(("port", text)) => name(text).map(Self::Port),
            _ => None,
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(&text.to_string_lossy()),
            Self::Slot => f.write_str("{slot}"),
            Self::FirstFd => f.write_str("{fd}"),
            Self::Fd(name) => write!(f, "{{fd:{name}}}"),
            Self::Port(name) => write!(f, "{{port:{name}}}"),
        }
    }
}

/// The first listener of this name.
fn named<'a>(name: &str, bound: &'a [Bound<'a>]) -> Result<&'a Bound<'a>, String> {
    bound
        .iter()
        .find(|bound| bound.name == Some(name))
        .ok_or_else(|| {
            let names: Vec<&str> = bound.iter().filter_map(|bound| bound.name).collect();
            let names = names.join(", ");
            format!(
                "no listener has that name; there are {}",
                shown(OsStr::new(&names))
            )
        })
}

/// An argument's pieces, in one pass over it.
fn pieces(argument: &OsStr) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = argument.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let end = placeholder_end(rest);
        let (text, after_placeholder) = rest.split_at(end);
        if let Some(piece) = Piece::parse(text) {
            flush(&mut literal, &mut pieces);
            pieces.push(piece);
            rest = after_placeholder;
        } else {
            literal.push(*byte);
            rest = after;
        }
    }
    flush(&mut literal, &mut pieces);
    pieces
}

/// Where a placeholder that begins here ends; 0 where none can begin.
fn placeholder_end(text: &[u8]) -> usize {
    if !text.starts_with(b"{") {
        return 0;
    }
    let close = text.iter().take(LONGEST).position(|byte| *byte == b'}');
    close.map_or(0, |close| close + 1)
}

/// Makes a piece of the bytes since the last one.
fn flush(literal: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        let text = OsString::from_vec(std::mem::take(literal));
        pieces.push(Piece::Literal(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Bound<'_> = Bound {
        name: Some("web"),
        fd: 3,
        port: Some(8080),
    };
    const LOCAL: Bound<'_> = Bound {
        name: Some("local.1"),
        fd: 4,
        port: None,
    };
    const NAMELESS: Bound<'_> = Bound {
        name: None,
        fd: 5,
        port: Some(53),
    };

    fn render(argument: &str, bound: &[Bound<'_>]) -> String {
        let rendered = Template::new(&[argument.into()]).render(7, bound);
        rendered[0].to_str().unwrap().to_owned()
    }

    #[test]
    fn placeholders_are_replaced() {
        for (argument, rendered) in [
            ("{slot}", "7"),
            ("--fd={fd}", "--fd=3"),
            ("{fd:web},{fd:local.1}", "3,4"),
            (
                "http://[::1]:{port:web}/{slot}{slot}",
                "http://[::1]:8080/77",
            ),
            ("{{slot}}", "{7}"),
            ("{{{{slot}", "{{{7"),
        ] {
            assert_eq!(render(argument, &[WEB, LOCAL, NAMELESS]), rendered);
        }
    }

    #[test]
    fn everything_else_is_left_alone() {
        for argument in [
            "",
            "{",
            "}",
            "{}",
            "{ slot }",
            "{SLOT}",
            "{port}",
            "{fd:}",
            "{fd:a b}",
            "{fd:{x}}",
            "{print $1}",
            "${HOME}",
            "{slot",
            "slot}",
            "{\"slot\": 1}",
            "{fd:\u{e9}}",
        ] {
            assert_eq!(render(argument, &[WEB]), argument);
            let template = Template::new(&[argument.into()]);
            template.check(&[WEB]).expect(argument);
        }
        for argument in ["listen({fd:3})", "{port:8080}"] {
            assert_eq!(render(argument, &[WEB]), argument);
        }
        for bound in [&[][..], &[NAMELESS]] {
            assert_eq!(render("{port:port}", bound), "{port:port}");
            Template::new(&["{port:port}".into()]).check(bound).unwrap();
        }
        assert_eq!(render("{fd}", &[]), "{fd}");
        Template::new(&["{fd}".into()]).check(&[]).unwrap();
        assert_eq!(render("{fd:gone}", &[WEB]), "{fd:gone}");
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let argument = OsString::from_vec(b"\xff{slot}\xfe{\xfd}".to_vec());
        let rendered = Template::new(&[argument]).render(0, &[]);
        assert_eq!(rendered, [OsString::from_vec(b"\xff0\xfe{\xfd}".to_vec())]);
    }

    #[test]
    fn a_name_that_is_no_listeners_is_an_error() {
        let check = |argument: &str, bound: &[Bound<'_>]| {
            let template = Template::new(&["{slot}".into(), argument.into()]);
            template.check(bound).map_err(|error| error.to_string())
        };
        assert_eq!(
            check("{fd:web}{port:web}{fd:local.1}", &[WEB, LOCAL]),
            Ok(())
        );
        for (argument, bound, message) in [
            (
                "-p{port:api}",
                &[WEB, NAMELESS, LOCAL][..],
                "{port:api}: no listener has that name; there are web, local.1",
            ),
            (
                "{port:local.1}",
                &[LOCAL],
                "{port:local.1}: a unix socket has no port",
            ),
        ] {
            assert_eq!(check(argument, bound), Err(message.into()));
        }
    }

    #[test]
    fn a_long_argument_takes_no_long_time() {
        let argument = "{".repeat(1 << 16);
        assert_eq!(render(&argument, &[WEB]), argument);
    }
}
