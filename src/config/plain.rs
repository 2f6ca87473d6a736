//! What a plain init is asked for: the options that clinit shares with tini.

use super::units::whole;
use crate::supervisor::policy::Signal;

/// What a plain init is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    /// The signal that is to come when clinit's own parent dies.
    pub parent_death: Option<Signal>,
    /// The exit codes that become 0.
    pub ok_codes: Vec<u8>,
    /// Whether to warn of each orphan that is reaped.
    pub warn_reaped: bool,
}

impl Plain {
    /// What clinit exits with, where it would with `code`.
    #[must_use]
    pub fn exit_code(&self, code: u8) -> u8 {
        if self.ok_codes.contains(&code) {
            0
        } else {
            code
        }
    }
}

pub(super) fn exit_code(text: &str) -> Result<u8, String> {
    whole(text).ok_or_else(|| "accepted is an exit code from 0 to 255".into())
}

pub(super) fn signal(text: &str) -> Result<Signal, String> {
    let accepted = "accepted is a signal as in TERM, SIGQUIT, 15 or RTMIN+3";
    Signal::parse(text).ok_or_else(|| accepted.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_read_and_become_0() {
        for (text, code) in [("0", Some(0)), ("143", Some(143)), ("255", Some(255))] {
            assert_eq!(exit_code(text).ok(), code);
        }
        for text in ["", "256", "-1", "+1", "1 ", "0x1", "TERM"] {
            exit_code(text).unwrap_err();
        }
        let plain = Plain {
            ok_codes: vec![143, 3],
            ..Plain::default()
        };
        let codes = [0, 3, 4, 143, 255].map(|code| plain.exit_code(code));
        assert_eq!(codes, [0, 0, 4, 0, 255]);
    }
}
