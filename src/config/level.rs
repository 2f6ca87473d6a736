//! How much a line of clinit's own log matters.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something that was to be done cannot be.
    Error = 1,
    /// Something is likely not as it was meant.
    Warn,
    /// What happens to workers.
    Info,
    /// What clinit does about it.
    Debug,
    /// How it does it.
    Trace,
}

/// What matters enough to be said: nothing, or this level and all above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LevelFilter {
    /// Nothing is said.
    Off = 0,
    /// [`Level::Error`].
    Error,
    /// [`Level::Warn`] and above.
    Warn,
    /// [`Level::Info`] and above.
    Info,
    /// [`Level::Debug`] and above.
    Debug,
    /// Everything.
    Trace,
}

impl LevelFilter {
    /// Each with its name, the quietest first.
    const ALL: [(Self, &str); 6] = [
        (Self::Off, "off"),
        (Self::Error, "error"),
        (Self::Warn, "warn"),
        (Self::Info, "info"),
        (Self::Debug, "debug"),
        (Self::Trace, "trace"),
    ];

    /// The one of this name, in letters of either case.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let named = |(_, name): &&(Self, &str)| text.eq_ignore_ascii_case(name);
        match Self::ALL.iter().find(named) {
            Some((filter, _)) => Ok(*filter),
            None => Err("accepted are error, warn, info, debug, trace and off".into()),
        }
    }

    /// The one that lets so many levels more through.
    pub(super) fn louder(self, by: usize) -> Self {
        let louder = Self::ALL.get((self as usize).saturating_add(by));
        louder.map_or(Self::Trace, |(filter, _)| *filter)
    }
}
