//! Clinit's own log: one line a fact, on stderr.
//!
//! A log that nobody reads must never hold up process 1: what stderr does not
//! take at once is dropped, counted, and told of as soon as it does.

use std::fmt::{self, Write as _};
use std::io;
use std::iter::Zip;
use std::os::fd::AsFd;
use std::slice;
use std::str::Split;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::{Level, LevelFilter, LogFormat};
use crate::control::quote;
use crate::sys::clock;
use crate::sys::output::{Wrote, write_without_blocking};

/// Says a line: its level; fields, as names of what is in scope or with a
/// value; and what `format!` takes.
///
/// ```text
/// log::warn!(slot, cause = text.as_str(); "cannot start a worker: {why}");
/// ```
macro_rules! log {
    ($level:expr, $($key:ident $(= $value:expr)?),+; $($text:tt)+) => {
        $crate::shell::log::write(
            $level,
            format_args!($($text)+),
            concat!($(stringify!($key), " "),+),
            &[$($crate::shell::log::field!($key $(= $value)?).into()),+],
        )
    };
    ($level:expr, $($text:tt)+) => {
        $crate::shell::log::write($level, format_args!($($text)+), "", &[])
    };
}

macro_rules! field {
    ($key:ident) => {
        $key
    };
    ($key:ident = $value:expr) => {
        $value
    };
}

macro_rules! error {
    ($($all:tt)+) => { $crate::shell::log::log!($crate::config::Level::Error, $($all)+) };
}

// An attribute has the name `warn`.
macro_rules! warning {
    ($($all:tt)+) => { $crate::shell::log::log!($crate::config::Level::Warn, $($all)+) };
}

macro_rules! info {
    ($($all:tt)+) => { $crate::shell::log::log!($crate::config::Level::Info, $($all)+) };
}

macro_rules! debug {
    ($($all:tt)+) => { $crate::shell::log::log!($crate::config::Level::Debug, $($all)+) };
}

macro_rules! trace {
    ($($all:tt)+) => { $crate::shell::log::log!($crate::config::Level::Trace, $($all)+) };
}

pub(super) use {debug, error, field, info, log, trace, warning as warn};

/// The longest line. A write of up to this many bytes to a pipe is atomic
/// (pipe(7)), so lines of clinit and its workers do not mix.
const LONGEST_LINE: usize = 4096;

/// What is said: a [`LevelFilter`]; nothing before the log is started.
static LOUDEST: AtomicU8 = AtomicU8::new(LevelFilter::Off as u8);

type OwnStderr = Stderr<fn(&[u8]) -> Wrote>;

static STDERR: Mutex<OwnStderr> = Mutex::new(Stderr::new(write_to_stderr, LogFormat::Text));

fn stderr() -> MutexGuard<'static, OwnStderr> {
    STDERR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the log.
pub(super) fn start(format: LogFormat, level: LevelFilter) {
    stderr().format = format;
    LOUDEST.store(level as u8, Ordering::Relaxed);
}

/// Whether a line of this level is said.
pub(super) fn enabled(level: Level) -> bool {
    level as u8 <= LOUDEST.load(Ordering::Relaxed)
}

/// Says a line, if lines of this level are said. `keys` are the names of the
/// fields, with a space between them; the macros add one at the end.
pub(super) fn write(level: Level, message: fmt::Arguments<'_>, keys: &str, values: &[Value<'_>]) {
    if !enabled(level) {
        return;
    }
    let message = message.to_string();
    let fields = keys.split(' ').zip(values);
    let mut stderr = stderr();
    let line = match stderr.format {
        LogFormat::Text => text(level, &message, fields),
        LogFormat::Json => object(level, &message, fields),
    };
    stderr.say(&line);
}

/// Says one line on stderr where there is no log yet, or none any more.
pub(super) fn say(text: &dyn fmt::Display) {
    let line = line(&format!("clinit: {}", Escaped(&text.to_string())));
    let _ = write_to_stderr(line.as_bytes());
}

fn write_to_stderr(line: &[u8]) -> Wrote {
    write_without_blocking(io::stderr().as_fd(), line)
}

/// Stderr, or whatever a test writes to.
struct Stderr<W> {
    write: W,
    format: LogFormat,
    lost: u32,
    /// Whether what was written last ends in the middle of a line.
    torn: bool,
}

impl<W> Stderr<W> {
    const fn new(write: W, format: LogFormat) -> Self {
        Self {
            write,
            format,
            lost: 0,
            torn: false,
        }
    }
}

impl<W: FnMut(&[u8]) -> Wrote> Stderr<W> {
    /// Says a line, or counts it as lost.
    fn say(&mut self, line: &str) {
        if self.lost > 0 {
            self.tell_of_the_lost();
        }
        if !self.put(line.as_bytes()) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Writes a line where a line begins; returns whether it went out whole.
    fn put(&mut self, line: &[u8]) -> bool {
        // On its own, so that the line stays within what is atomic.
        if self.torn && (self.write)(b"\n") != Wrote::All {
            return false;
        }
        let wrote = (self.write)(line);
        self.torn = matches!(wrote, Wrote::Partly(_));
        // With nobody to read it nothing is lost.
        matches!(wrote, Wrote::All | Wrote::Closed)
    }

    fn tell_of_the_lost(&mut self) {
        let lost = self.lost;
        let message = format!("{lost} lines of this log are lost: stderr was full");
        let notice = match self.format {
            LogFormat::Text => line(&format!("{}{message}", prefix(Level::Warn))),
            LogFormat::Json => Object::new(Level::Warn, &message).finish(),
        };
        if self.put(notice.as_bytes()) {
            self.lost = 0;
        }
    }
}

type Fields<'a> = Zip<Split<'a, char>, slice::Iter<'a, Value<'a>>>;

fn text(level: Level, message: &str, fields: Fields<'_>) -> String {
    let mut text = format!("{}{}", prefix(level), Escaped(message));
    for (key, value) in fields {
        write_field(&mut text, key, &value.shown());
    }
    line(&text)
}

fn object(level: Level, message: &str, fields: Fields<'_>) -> String {
    let mut object = Object::new(level, message);
    for (key, value) in fields {
        object.add(key, value);
    }
    object.finish()
}

/// What a field may have for a value: a text, or a whole number.
pub(super) enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

impl Value<'_> {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number.try_into().unwrap_or(i64::MAX))
    }
}

impl From<i32> for Value<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u8> for Value<'_> {
    fn from(number: u8) -> Self {
        Self::Number(number.into())
    }
}

/// How a line of text begins.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "clinit: error: ",
        Level::Warn => "clinit: warning: ",
        Level::Info => "clinit: ",
        Level::Debug => "clinit: debug: ",
        Level::Trace => "clinit: trace: ",
    }
}

/// Appends ` key=value`, in quotes where the value is not plain.
pub(super) fn write_field(line: &mut String, key: &str, value: &str) {
    let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '"');
    let _ = if plain {
        write!(line, " {key}={}", Escaped(value))
    } else {
        write!(line, " {key}={value:?}")
    };
}

/// A line of JSON in the making, which always has room for its end.
struct Object(String);

/// The end of an object, and of its line.
const END: &str = "}\n";

impl Object {
    fn new(level: Level, message: &str) -> Self {
        let now = clock::realtime_ms();
        let (seconds, millis) = (now / 1000, now % 1000);
        let level = match level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        // The other half is for the fields.
        let message = json(message, LONGEST_LINE / 2);
        Self(format!(
            r#"{{"time":{seconds}.{millis:03},"source":"clinit","level":"{level}","message":{message}"#
        ))
    }

    fn room(&self) -> usize {
        LONGEST_LINE.saturating_sub(self.0.len() + END.len())
    }

    fn finish(self) -> String {
        self.0 + END
    }

    /// Adds a field, its text cut to the room there is. One that has none, as
    /// a number that does not fit whole, is left out.
    fn add(&mut self, key: &str, value: &Value<'_>) {
        let mut field = format!(",{}:", json(key, LONGEST_LINE));
        let room = self.room();
        field.push_str(&match value {
            Value::Text(text) => json(text, room.saturating_sub(field.len())),
            Value::Number(_) => value.shown(),
        });
        if field.len() <= room {
            self.0.push_str(&field);
        }
    }
}

/// The text as a JSON string of at most `room` bytes, quotation marks and
/// escapes included; of two where there is less room.
fn json(text: &str, room: usize) -> String {
    let (mut length, mut end) = (2, 0);
    for c in text.chars() {
        length += escaped_length(c);
        if length > room {
            break;
        }
        end += c.len_utf8();
    }
    quote(text.get(..end).unwrap_or_default())
}

/// How many bytes [`quote`] makes of a character.
fn escaped_length(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' => 2,
        c if c.is_control() => r"\u0000".len(),
        _ => c.len_utf8(),
    }
}

/// The text as a line of bounded length.
fn line(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_LINE - 1);
    let mut line = text.get(..end).unwrap_or_default().to_owned();
    line.push('\n');
    line
}

/// A text whose control characters cannot touch a terminal or forge a line.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\t' => f.write_str(r"\t")?,
                '\n' => f.write_str(r"\n")?,
                '\r' => f.write_str(r"\r")?,
                c if c.is_control() => write!(f, r"\u{{{:x}}}", u32::from(c))?,
                plain => f.write_char(plain)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let text = Escaped("a\nclinit: forged\x1b[31m\u{9b}\r\t").to_string();
        assert_eq!(text, r"a\nclinit: forged\u{1b}[31m\u{9b}\r\t");
    }

    #[test]
    fn a_line_is_bounded_and_ends_once() {
        let text = line(&"ü".repeat(LONGEST_LINE));
        assert!(text.len() <= LONGEST_LINE && text.ends_with('\n'));
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn fields_are_quoted_where_they_have_to_be() {
        let pairs: &[(&str, &str)] = &[("code", "0"), ("last", "was killed"), ("none", "")];
        let (mut text, mut object) = (String::new(), Object(String::new()));
        for (key, value) in pairs {
            write_field(&mut text, key, value);
        }
        assert_eq!(text, r#" code=0 last="was killed" none="""#);
        object.add("n", &7_u32.into());
        object.add("s", &"7\"\n".into());
        assert_eq!(object.0, r#","n":7,"s":"7\"\n""#);
    }

    #[test]
    fn a_json_string_fits_its_room_whole() {
        for c in (0..=0x2_0000).filter_map(char::from_u32) {
            let escaped = quote(c.encode_utf8(&mut [0; 4]));
            assert_eq!(escaped_length(c), escaped.len() - 2, "{escaped}");
        }
        assert_eq!(json("a\0b", 10), r#""a\u0000b""#);
        assert_eq!(json("a\0b", 9), r#""a\u0000""#);
        assert_eq!(json("a\0b", 8), r#""a""#);
        assert_eq!(json("a", 0), r#""""#);
    }

    #[test]
    fn an_object_is_bounded_and_stays_one() {
        for unit in ["x", "\x1b", "\"", "ü", "\u{10348}", "a\n"] {
            for count in [0, 300, 500, LONGEST_LINE] {
                let long = unit.repeat(count);
                let mut object = Object::new(Level::Warn, &long);
                for key in ["one", "two", "three"] {
                    object.add(key, &long.as_str().into());
                    object.add("slot", &u64::MAX.into());
                }
                object.add(&long, &1_u32.into());
                let line = object.finish();
                assert!(line.len() <= LONGEST_LINE, "{}", line.len());
                let (text, rest) = line.split_once('\n').unwrap();
                assert_eq!(rest, "");
                let read: serde_json::Value = serde_json::from_str(text).unwrap();
                let message = read["message"].as_str().unwrap();
                assert!(long.starts_with(message));
                assert!(count < 300 || message.len() >= 300);
            }
        }
    }

    /// What reaches a stderr that answers like this, one answer a write.
    fn written(format: LogFormat, answers: &[Wrote], lines: &[&str]) -> String {
        let (mut text, mut answers) = (Vec::new(), answers.iter());
        let write = |bytes: &[u8]| {
            let answer = *answers.next().unwrap();
            text.extend_from_slice(match answer {
                Wrote::All => bytes,
                Wrote::Partly(length) => &bytes[..length],
                Wrote::NotNow | Wrote::Closed => b"",
            });
            answer
        };
        let mut stderr = Stderr::new(write, format);
        for line in lines {
            stderr.say(line);
        }
        assert_eq!(answers.next(), None);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_line_never_begins_where_another_was_torn() {
        let lost = |count| {
            format!("clinit: warning: {count} lines of this log are lost: stderr was full\n")
        };
        let lines = ["first\n", "second\n", "third\n"];
        let (all, torn, none) = (Wrote::All, Wrote::Partly(3), Wrote::NotNow);
        for (answers, expected) in [
            (&[all, all, all][..], "first\nsecond\nthird\n".to_owned()),
            (
                // The end of the first line, the notice, the second line.
                &[torn, all, all, all, all],
                format!("fir\n{}second\nthird\n", lost(1)),
            ),
            (
                // Twice there is no room for the end of the first line.
                &[torn, none, none, all, all, all],
                format!("fir\n{}third\n", lost(2)),
            ),
            (
                // The notice is torn itself.
                &[torn, all, torn, all, all, all, all],
                format!("fir\ncli\nsecond\n{}third\n", lost(1)),
            ),
            (
                &[none, none, all, all, all],
                format!("second\n{}third\n", lost(1)),
            ),
        ] {
            assert_eq!(written(LogFormat::Text, answers, &lines), expected);
        }
    }

    #[test]
    fn what_is_lost_is_told_of_in_the_logs_own_format() {
        let answers = [Wrote::NotNow, Wrote::All, Wrote::All];
        let text = written(LogFormat::Json, &answers, &["{}\n", "{}\n"]);
        let (notice, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, "{}\n");
        let notice: serde_json::Value = serde_json::from_str(notice).unwrap();
        assert_eq!(notice["level"], "warn");
        let message = "1 lines of this log are lost: stderr was full";
        assert_eq!(notice["message"], message);
    }
}
