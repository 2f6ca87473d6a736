//! What a datagram of `sd_notify(3)` says: lines of `NAME=value`.
//!
//! It may come from anybody, so nothing of it is believed here but its form.
//! As systemd does, of two lines with one name the first counts, and what is
//! not known says nothing.
#![forbid(unsafe_code)]

#[cfg(test)]
mod anything;

use std::fmt;
use std::time::Duration;

/// A longer status is cut off: so many bytes of UTF-8.
pub const LONGEST_STATUS: usize = 256;

/// The longest time that one message can ask for. Whoever needs more asks
/// again.
pub const LONGEST_EXTENSION: Duration = Duration::from_hours(1);

/// What a datagram says, of what clinit heeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What the sender's service has come to.
    pub phase: Option<Phase>,
    /// What the service does, for people: one line. Empty: nothing to tell.
    pub status: Option<String>,
    /// A sign of life, or of the contrary.
    pub watchdog: Option<Watchdog>,
    /// Within what time the next sign of life comes from now on; zero: none
    /// is to be waited for.
    pub watchdog_timeout: Option<Duration>,
    /// For how long nothing is to be done about the service's being slow.
    pub extension: Option<Duration>,
    /// The process to take for the service's main process.
    pub main_pid: Option<i32>,
    /// The first line whose value is not what its name calls for.
    pub refused: Option<Accepted>,
}

/// What a service has come to. Where a message has several, the last of these
/// counts, in systemd's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// `RELOADING=1`, and the microseconds of the monotonic clock at which it
    /// began, where they are said.
    Reloading(Option<u64>),
    /// `READY=1`: it serves.
    Ready,
    /// `STOPPING=1`: it goes.
    Stopping,
}

/// What `WATCHDOG=` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// `1`: it is alive.
    Alive,
    /// `trigger`: it wants to be treated as one that hangs.
    Trigger,
}

/// A name, and the values that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The name.
    pub name: &'static str,
    values: &'static str,
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}= takes {}", self.name, self.values)
    }
}

/// What is said with `1` and nothing else.
const ONE: &str = "1";
const MICROSECONDS: &str = "a number of microseconds";

impl Message {
    /// Reads a datagram. What it holds that nobody understands is left out.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Self {
        let mut message = Self::default();
        let mut since = None;
        for line in datagram.split(|&byte| byte == b'\n') {
            let Some(at) = line.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            let (name, value) = line.split_at(at);
            let name = std::str::from_utf8(name).unwrap_or_default();
            message.take(name, value.get(1..).unwrap_or_default(), &mut since);
        }
        if let Some(Phase::Reloading(of)) = &mut message.phase {
            *of = since;
        }
        message
    }

    fn take(&mut self, name: &str, value: &[u8], since: &mut Option<u64>) {
        match name {
            "READY" => self.come_to("READY", Phase::Ready, value),
            "RELOADING" => self.come_to("RELOADING", Phase::Reloading(None), value),
            "STOPPING" => self.come_to("STOPPING", Phase::Stopping, value),
            "MONOTONIC_USEC" => {
                let number = self.number("MONOTONIC_USEC", MICROSECONDS, value);
                *since = since.or(number);
            }
            "STATUS" if self.status.is_none() => self.status = Some(status(value)),
            "WATCHDOG" => {
                let said = match value {
                    b"1" => Some(Watchdog::Alive),
                    b"trigger" => Some(Watchdog::Trigger),
                    _ => {
                        self.refuse("WATCHDOG", "1 or trigger");
                        None
                    }
                };
                self.watchdog = self.watchdog.or(said);
            }
            "WATCHDOG_USEC" => {
                let time = self.number("WATCHDOG_USEC", MICROSECONDS, value);
                let time = time.map(Duration::from_micros);
                self.watchdog_timeout = self.watchdog_timeout.or(time);
            }
            "EXTEND_TIMEOUT_USEC" => {
                let time = self.number("EXTEND_TIMEOUT_USEC", MICROSECONDS, value);
                let time = time.map(|time| Duration::from_micros(time).min(LONGEST_EXTENSION));
                self.extension = self.extension.or(time);
            }
            "MAINPID" => {
                let accepted = "a process's number";
                let pid = self.number("MAINPID", accepted, value);
                let known = pid.and_then(|pid| i32::try_from(pid).ok());
                let known = known.filter(|&pid| pid > 0);
                if pid.is_some() && known.is_none() {
                    self.refuse("MAINPID", accepted);
                }
                self.main_pid = self.main_pid.or(known);
            }
            // BARRIER, FDSTORE and what is yet to come.
            _ => {}
        }
    }

    fn come_to(&mut self, name: &'static str, phase: Phase, value: &[u8]) {
        if value == b"1" {
            self.phase = self.phase.max(Some(phase));
        } else {
            self.refuse(name, ONE);
        }
    }

    fn number(&mut self, name: &'static str, values: &'static str, value: &[u8]) -> Option<u64> {
        let digits = std::str::from_utf8(value).ok();
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|text| text.parse().ok());
        if number.is_none() {
            self.refuse(name, values);
        }
        number
    }

    fn refuse(&mut self, name: &'static str, values: &'static str) {
        self.refused.get_or_insert(Accepted { name, values });
    }
}

/// A line for people that nobody can draw on their terminal with: control
/// characters become spaces, what is no UTF-8 its replacement character.
fn status(value: &[u8]) -> String {
    let whole = value.get(..LONGEST_STATUS).unwrap_or(value);
    let text = String::from_utf8_lossy(whole);
    let mut status = String::new();
    for character in text.chars() {
        if status.len() + character.len_utf8() > LONGEST_STATUS {
            break;
        }
        status.push(match character {
            // Marks that turn the direction of all that follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
            character if character.is_control() => ' ',
            character => character,
        });
    }
    status.truncate(status.trim_ascii_end().len());
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(text.as_bytes())
    }

    #[test]
    fn a_message_is_lines_of_names_and_values() {
        let message = parse(
            "READY=1\nSTATUS=up and running\nMAINPID=4711\nWATCHDOG=1\n\
             WATCHDOG_USEC=20000000\nEXTEND_TIMEOUT_USEC=500\n",
        );
        let expected = Message {
            phase: Some(Phase::Ready),
            status: Some("up and running".into()),
            watchdog: Some(Watchdog::Alive),
            watchdog_timeout: Some(Duration::from_secs(20)),
            extension: Some(Duration::from_micros(500)),
            main_pid: Some(4711),
            refused: None,
        };
        assert_eq!(message, expected);
        assert_eq!(parse(""), Message::default());
        assert_eq!(parse("WATCHDOG=trigger").watchdog, Some(Watchdog::Trigger));
    }

    #[test]
    fn what_is_not_known_says_nothing() {
        for text in [
            "READY",
            "=1",
            "FDSTORE=1\nFDNAME=a",
            "BARRIER=1",
            "X_OWN=1",
            "ready=1",
            " READY=1",
            "ERRNO=2\nBUSERROR=org.example",
            "\0\n\n\n=",
        ] {
            assert_eq!(parse(text), Message::default(), "{text:?}");
        }
    }

    #[test]
    fn of_several_phases_the_last_in_systemds_order_counts() {
        let phase = |text| parse(text).phase;
        assert_eq!(phase("RELOADING=1"), Some(Phase::Reloading(None)));
        assert_eq!(
            phase("MONOTONIC_USEC=12\nRELOADING=1"),
            Some(Phase::Reloading(Some(12)))
        );
        assert_eq!(phase("READY=1\nRELOADING=1"), Some(Phase::Ready));
        assert_eq!(
            phase("STOPPING=1\nREADY=1\nRELOADING=1"),
            Some(Phase::Stopping)
        );
        assert_eq!(phase("MONOTONIC_USEC=12"), None);
    }

    #[test]
    fn of_two_lines_with_one_name_the_first_counts() {
        let message = parse("STATUS=a\nSTATUS=b\nMAINPID=2\nMAINPID=3");
        assert_eq!(message.status.as_deref(), Some("a"));
        assert_eq!(message.main_pid, Some(2));
    }

    #[test]
    fn a_wrong_value_is_refused_and_the_rest_is_heard() {
        for (text, said) in [
            ("READY=yes", "READY= takes 1"),
            ("STOPPING=", "STOPPING= takes 1"),
            ("WATCHDOG=2", "WATCHDOG= takes 1 or trigger"),
            (
                "WATCHDOG_USEC=1s",
                "WATCHDOG_USEC= takes a number of microseconds",
            ),
            (
                "EXTEND_TIMEOUT_USEC=-1",
                "EXTEND_TIMEOUT_USEC= takes a number of microseconds",
            ),
            (
                "WATCHDOG_USEC=18446744073709551616",
                "WATCHDOG_USEC= takes a number of microseconds",
            ),
            ("MAINPID=0", "MAINPID= takes a process's number"),
            ("MAINPID=4294967297", "MAINPID= takes a process's number"),
            ("MAINPID=\n", "MAINPID= takes a process's number"),
        ] {
            let message = parse(&format!("{text}\nSTATUS=here"));
            assert_eq!(message.status.as_deref(), Some("here"));
            let refused = message.refused.map(|accepted| accepted.to_string());
            assert_eq!(refused.as_deref(), Some(said), "{text}");
            let rest = Message {
                status: None,
                refused: None,
                ..message
            };
            assert_eq!(rest, Message::default(), "{text}");
        }
    }

    #[test]
    fn a_status_is_one_short_line_of_plain_text() {
        let of = |value: &[u8]| Message::parse(&[b"STATUS=", value].concat()).status;
        assert_eq!(of(b"a\x1b[31mb\tc\r").as_deref(), Some("a [31mb c"));
        assert_eq!(of("a\u{202e}b\u{9b}".as_bytes()).as_deref(), Some("a b"));
        assert_eq!(of(b"\xff").as_deref(), Some("\u{fffd}"));
        assert_eq!(of(b"").as_deref(), Some(""));
        assert_eq!(
            of(&[b'x'; 4096]).map(|text| text.len()),
            Some(LONGEST_STATUS)
        );
        let long = "ä".repeat(200);
        assert_eq!(
            of(long.as_bytes()).map(|text| text.len()),
            Some(LONGEST_STATUS)
        );
        assert!(of(&[0xff; 4096]).is_some_and(|text| text.len() <= LONGEST_STATUS));
    }

    #[test]
    fn nobody_can_ask_for_longer_than_an_hour_at_once() {
        let asked = parse("EXTEND_TIMEOUT_USEC=18446744073709551615").extension;
        assert_eq!(asked, Some(LONGEST_EXTENSION));
    }

    #[test]
    fn any_bytes_are_read() {
        // A small generator: what it yields is the same everywhere.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        let mut heard = 0;
        for length in 0..20_000 {
            let bytes: Vec<u8> = (0..length % 300).map(|_| next()).collect();
            heard += usize::from(anything::run(&bytes));
        }
        assert!(heard > 1000, "{heard} messages that say something");
    }
}
