//! How much memory a worker may have.

use super::units::{size, whole};

/// How much, before it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxMemory {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the container's memory limit, of all workers
    /// together.
    Percent(u32),
}

impl MaxMemory {
    /// How many bytes that is for each of so many workers, under a memory
    /// limit. None where it is a part of a limit that there is not.
    #[must_use]
    pub fn of(self, limit: Option<u64>, workers: u32) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => {
                let each = limit? / u64::from(workers.max(1));
                Some((each / 100).saturating_mul(u64::from(percent)).max(1))
            }
        }
    }

    /// Reads `300M` or `80%`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(percent) => whole(percent)
                .filter(|percent| (1..=100).contains(percent))
                .map(Self::Percent)
                .ok_or_else(|| "accepted are 1% to 100%, and a size as in 300M".into()),
            None => size(text)
                .map(Self::Bytes)
                .map_err(|reason| format!("{reason}; and 80%, of the memory limit")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        assert_eq!(MaxMemory::parse("300M"), Ok(MaxMemory::Bytes(300 << 20)));
        assert_eq!(MaxMemory::parse("80%"), Ok(MaxMemory::Percent(80)));
        assert_eq!(MaxMemory::parse("100%"), Ok(MaxMemory::Percent(100)));
        for text in [
            "", "%", "0%", "101%", "-1%", "8.5%", "0", "much", "300X", "80 %",
        ] {
            let refusal = MaxMemory::parse(text).expect_err(text);
            assert!(
                refusal.contains('%') && refusal.contains("300M") || text == "0",
                "{refusal}"
            );
        }
    }

    #[test]
    fn what_it_comes_to() {
        let half = MaxMemory::Percent(50);
        assert_eq!(half.of(Some(4000), 2), Some(1000));
        assert_eq!(half.of(Some(4000), 4), Some(500));
        assert_eq!(half.of(Some(4000), 0), Some(2000));
        assert_eq!(half.of(Some(1), 1000), Some(1));
        assert_eq!(
            MaxMemory::Percent(100).of(Some(u64::MAX), 1),
            Some(u64::MAX / 100 * 100)
        );
        assert_eq!(half.of(None, 2), None);
        assert_eq!(MaxMemory::Bytes(7).of(None, 2), Some(7));
    }
}
