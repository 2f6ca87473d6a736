//! Randomness for jitter and names (`getrandom(2)`).

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
    let mut bits = u64::from(std::process::id());
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
        let time = clock::read(clock);
        bits = mixed(bits ^ time.tv_sec.cast_unsigned());
        bits = mixed(bits ^ time.tv_nsec.cast_unsigned());
    }
    bits
}

/// As splitmix64 mixes (Steele, Lea and Flood, 2014): each bit of the result
/// depends on each that is given.
const fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
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
