//! Randomness for jitter and names (`getrandom(2)`).

use super::clock;

/// 64 random bits. Never blocks: before the kernel's generator is seeded, or
/// where getrandom is refused, they are mixed from the clocks and the pid,
/// which is good enough to spread clinits apart and never a secret.
#[must_use]
pub fn entropy() -> u64 {
    from_kernel().unwrap_or_else(from_clocks)
}

/// Numbers for jitter, without a system call each: from one look at the
/// kernel's, by `SplitMix64`. Whoever sees one could tell the next.
#[derive(Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A stream that no other process has.
    #[must_use]
    pub fn seeded() -> Self {
        Self(entropy())
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
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

    /// The first numbers of the reference implementation, from this seed.
    #[test]
    fn jitter_is_split_mix() {
        let mut jitter = Jitter(1_234_567);
        let drawn = [(); 3].map(|()| jitter.draw());
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(drawn, expected);
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(entropy(), entropy());
        assert_ne!(from_kernel().unwrap(), from_kernel().unwrap());
        assert_ne!(from_clocks(), from_clocks());
    }
}
