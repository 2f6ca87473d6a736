//! How long a slot waits after a failure.

use std::time::Duration;

use crate::supervisor::policy::Policy;
use crate::supervisor::time::millis;

/// The delay before the restart that follows this many failures in a row:
/// doubling from the least to the most, less up to a fifth of jitter.
pub(super) fn delay(policy: &Policy, failures: u32, entropy: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let delay = policy
        .backoff_min
        .saturating_mul(1 << doublings)
        .min(policy.backoff_max);
    let jitter = millis(delay) / 5;
    let less = entropy.checked_rem(jitter.saturating_add(1)).unwrap_or(0);
    delay.saturating_sub(Duration::from_millis(less))
}

/// Where counting failures may end: they decide about giving up, and
/// about a delay that no longer grows.
pub(super) fn most_failures(policy: &Policy) -> u32 {
    let mut doublings = 1;
    let mut delay = policy.backoff_min.max(Duration::from_millis(1));
    while delay < policy.backoff_max {
        delay = delay.saturating_mul(2);
        doublings += 1;
    }
    // The first of a streak is told from those after it.
    policy.max_restarts.max(doublings).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::policy;

    #[test]
    fn backoff_doubles_to_its_bound_and_jitters_down_by_a_fifth_at_most() {
        let policy = Policy {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(15),
            ..policy()
        };
        let bounds = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000];
        for (failures, bound) in (1..).zip(bounds) {
            let bound = Duration::from_millis(bound);
            assert_eq!(delay(&policy, failures, 0), bound);
            for entropy in [1, 7, 12345, u64::MAX] {
                let waited = delay(&policy, failures, entropy);
                assert!(
                    waited <= bound && waited >= bound * 4 / 5,
                    "{waited:?} of {bound:?}"
                );
            }
        }
        assert_eq!(delay(&policy, u32::MAX, 0), policy.backoff_max);
    }
}
