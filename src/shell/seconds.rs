//! Durations for people, without the floating-point code that `{:.1}` brings
//! into the binary.

use std::fmt;
use std::time::Duration;

/// A duration as seconds with three decimals: `1.500s`.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_three_decimals() {
        assert_eq!(Seconds(Duration::from_millis(1_050)).to_string(), "1.050s");
        assert_eq!(Seconds(Duration::ZERO).to_string(), "0.000s");
    }
}
