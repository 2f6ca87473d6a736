//! Randomness for jitter and names (`getrandom(2)`).

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use super::clock;

/// 64 random bits. Never blocks: before the kernel's generator is seeded, or
/// where getrandom is refused, they are mixed from the clocks and the pid,
/// which is good enough to spread clinits apart and never a secret.
#[must_use]
pub fn entropy() -> u64 {
    from_kernel().unwrap_or_else(from_clocks)
}

fn from_kernel() -> Option<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: `bytes` is writable for the length given.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    // Up to 256 bytes come whole or not at all.
    (usize::try_from(got) == Ok(bytes.len())).then(|| u64::from_ne_bytes(bytes))
}

fn from_clocks() -> u64 {
    let mut hasher = DefaultHasher::new();
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
        let time = clock::read(clock);
        hasher.write_i64(time.tv_sec);
        hasher.write_i64(time.tv_nsec);
    }
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(entropy(), entropy());
        assert_ne!(from_kernel().unwrap(), from_kernel().unwrap());
        assert_ne!(from_clocks(), from_clocks());
    }
}
