//! Time as an integer that is passed in: the core has no clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant: milliseconds since a start that only the shell knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The instant this many milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    #[inline(never)]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    #[inline(never)]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

/// A duration in whole milliseconds; the most there is where it is longer.
/// `Duration::as_millis` counts in 128 bits.
#[must_use]
#[inline(never)]
pub const fn millis(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1000);
    whole.saturating_add(duration.subsec_millis() as u64)
}

/// The earlier one of two deadlines that there may be.
pub(super) fn earlier(first: Option<Time>, second: Option<Time>) -> Option<Time> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.min(second)),
        (only, None) | (None, only) => only,
    }
}

/// What comes in with every event: when it is, and the only randomness that
/// the core has.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// When it is.
    pub time: Time,
    /// Fresh random bits, for the jitter of a backoff.
    pub entropy: u64,
}
