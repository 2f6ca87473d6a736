//! Clinit's own log: one line a fact, on stderr.
//!
//! A log that nobody reads must never hold up process 1: what stderr does not
//! take at once is dropped, counted, and told of as soon as it does.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::fd::AsFd;

use env_logger::fmt::Formatter;
use env_logger::{Builder, Target};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};

use crate::config::LogFormat;
use crate::sys::clock;
use crate::sys::output::{Wrote, write_without_blocking};

/// The longest line. A write of up to this many bytes to a pipe is atomic
/// (pipe(7)), so lines of clinit and its workers do not mix.
const LONGEST_LINE: usize = 4096;

/// Starts the log. To be called once.
pub(super) fn start(format: LogFormat, level: LevelFilter) {
    let write = match format {
        LogFormat::Text => write_text,
        LogFormat::Json => write_json,
    };
    Builder::new()
        .filter_level(level)
        .target(Target::Pipe(Box::new(Stderr { lost: 0 })))
        .format(write)
        .init();
}

/// Says one line on stderr where there is no log yet, or none any more.
pub(super) fn say(text: &dyn fmt::Display) {
    let line = line(&format!("clinit: {}", Escaped(&text.to_string())));
    let _ = write_to_stderr(line.as_bytes());
}

fn write_to_stderr(line: &[u8]) -> Wrote {
    write_without_blocking(io::stderr().as_fd(), line)
}

struct Stderr {
    lost: u32,
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let lost = self.lost;
            let notice =
                format!("clinit: warning: {lost} lines of this log are lost: stderr was full\n");
            if write_to_stderr(notice.as_bytes()) == Wrote::All {
                self.lost = 0;
            }
        }
        match write_to_stderr(line) {
            Wrote::All | Wrote::Closed => {}
            Wrote::Partly(_) | Wrote::NotNow => self.lost = self.lost.saturating_add(1),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_text(formatter: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut text = String::from("clinit: ");
    text.push_str(match record.level() {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    });
    let _ = write!(text, "{}", Escaped(&record.args().to_string()));
    let _ = record.key_values().visit(&mut TextFields(&mut text));
    formatter.write_all(line(&text).as_bytes())
}

fn write_json(formatter: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let now = clock::realtime_ms();
    let (seconds, millis) = (now / 1000, now % 1000);
    let level = record.level().as_str().to_ascii_lowercase();
    let message = json(&record.args().to_string());
    let mut text = format!(
        r#"{{"time":{seconds}.{millis:03},"source":"clinit","level":"{level}","message":{message}"#
    );
    let _ = record.key_values().visit(&mut JsonFields(&mut text));
    text.push_str("}\n");
    formatter.write_all(text.as_bytes())
}

struct TextFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        write_field(self.0, key.as_str(), &value.to_string());
        Ok(())
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

struct JsonFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let text = value.to_string();
        let number = value.to_i64().is_some() || value.to_u64().is_some();
        let value = if number { text } else { json(&text) };
        let _ = write!(self.0, ",{}:{value}", json(key.as_str()));
        Ok(())
    }
}

fn json(text: &str) -> String {
    let text: String = text.chars().take(LONGEST_LINE / 2).collect();
    serde_json::to_string(&text).unwrap_or_default()
}

/// The text as a line of bounded length.
fn line(text: &str) -> String {
    let mut end = text.len().min(LONGEST_LINE - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut line = text.get(..end).unwrap_or_default().to_owned();
    line.push('\n');
    line
}

/// A text whose control characters cannot touch a terminal or forge a line.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
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
        let text = Escaped("a\nclinit: forged\x1b[31m\u{9b}").to_string();
        assert_eq!(text, r"a\nclinit: forged\u{1b}[31m\u{9b}");
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
        let (mut text, mut object) = (String::new(), String::new());
        for (key, value) in pairs {
            let _ = TextFields(&mut text).visit_pair(Key::from(*key), Value::from(*value));
        }
        assert_eq!(text, r#" code=0 last="was killed" none="""#);
        let _ = JsonFields(&mut object).visit_pair(Key::from("n"), Value::from(7));
        let _ = JsonFields(&mut object).visit_pair(Key::from("s"), Value::from("7\"\n"));
        assert_eq!(object, r#","n":7,"s":"7\"\n""#);
    }
}
