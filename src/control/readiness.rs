//! Whether the whole is ready, and not just a worker.

/// Ready once half the workers are, and from then on while one is: a reload or
/// a crash of some takes nobody out of a load balancer, while a start is not
/// over with the first of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    reached: bool,
}

impl Readiness {
    /// Whether it is ready, with so many workers ready of those that there are
    /// to be. To be asked whenever one has become ready.
    pub fn is_ready(&mut self, ready: u32, wanted: u32) -> bool {
        self.reached |= ready > 0 && ready >= wanted.div_ceil(2);
        self.reached && ready > 0
    }

    /// Whether half of the workers have been ready once.
    #[must_use]
    pub fn is_reached(self) -> bool {
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_them_and_then_one() {
        let mut readiness = Readiness::default();
        for (ready, wanted, is_ready) in [
            (0, 0, false),
            (0, 4, false),
            (1, 4, false),
            (2, 5, false),
            (3, 5, true),
            (1, 5, true),
            (0, 5, false),
            (1, 5, true),
            (1, 64, true),
        ] {
            assert_eq!(
                readiness.is_ready(ready, wanted),
                is_ready,
                "{ready} of {wanted}"
            );
        }
    }
}
