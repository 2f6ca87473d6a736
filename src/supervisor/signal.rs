//! Signal numbers and names, as Linux has them on x86-64 and aarch64
//! (signal(7)).

use std::fmt;

/// A catchable or uncatchable signal's number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

/// The first real-time signal that the C libraries leave to programs, and
/// what Docker takes RTMIN to be.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// Every standard signal's name without `SIG`, in the order of its number.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    #![expect(missing_docs, reason = "each is named as signal(7) names it")]
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const QUIT: Self = Self(3);
    pub const ILL: Self = Self(4);
    pub const TRAP: Self = Self(5);
    pub const ABRT: Self = Self(6);
    pub const BUS: Self = Self(7);
    pub const FPE: Self = Self(8);
    pub const KILL: Self = Self(9);
    pub const USR1: Self = Self(10);
    pub const SEGV: Self = Self(11);
    pub const USR2: Self = Self(12);
    pub const PIPE: Self = Self(13);
    pub const TERM: Self = Self(15);
    pub const CHLD: Self = Self(17);
    pub const CONT: Self = Self(18);
    pub const STOP: Self = Self(19);
    pub const TSTP: Self = Self(20);
    pub const TTIN: Self = Self(21);
    pub const TTOU: Self = Self(22);
    pub const XFSZ: Self = Self(25);
    pub const WINCH: Self = Self(28);
    pub const SYS: Self = Self(31);
}

impl Signal {
    /// The signal of this number, where there is one.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        u8::try_from(number)
            .ok()
            .filter(|number| (1..=RTMAX).contains(number))
            .map(Self)
    }

    /// Its number, as kill(2) takes it.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Reads `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Self::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return u8::try_from(index + 1).ok().map(Self);
        }
        let number = match (name, name.split_once('+'), name.split_once('-')) {
            ("RTMIN", _, _) => RTMIN,
            ("RTMAX", _, _) => RTMAX,
            (_, Some(("RTMIN", offset)), _) => RTMIN.checked_add(offset.parse().ok()?)?,
            (_, _, Some(("RTMAX", offset))) => RTMAX.checked_sub(offset.parse().ok()?)?,
            _ => return None,
        };
        (RTMIN..=RTMAX).contains(&number).then_some(Self(number))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0.wrapping_sub(1))) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_read_back_from_its_own_name() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.number(), number);
            assert_eq!(Signal::parse(&number.to_string()), Some(signal));
            if number != 32 && number != 33 {
                assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
            }
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "", "0", "65", "-1", "SIG", "FOO", "RTMIN+31", "RTMAX-31", "RTMIN+", "RTMAX+1",
        ] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn spellings() {
        for text in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal::TERM), "{text}");
        }
        assert_eq!(Signal::parse("RTMIN+3").map(Signal::number), Some(37));
        assert_eq!(Signal::parse("RTMAX-1").map(Signal::number), Some(63));
    }
}
