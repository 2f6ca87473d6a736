//! The clocks (`clock_gettime(2)`, `nanosleep(2)`).

/// Milliseconds since an arbitrary start. Never goes back; stands still while
/// the machine sleeps.
#[must_use]
pub fn monotonic_ms() -> u64 {
    milliseconds(read(libc::CLOCK_MONOTONIC))
}

/// Microseconds of the monotonic clock, as other processes see it.
#[must_use]
pub fn monotonic_us() -> u64 {
    let time = read(libc::CLOCK_MONOTONIC);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1000
}

/// Milliseconds since 1970, as the wall clock has it. May jump.
#[must_use]
pub fn realtime_ms() -> u64 {
    milliseconds(read(libc::CLOCK_REALTIME))
}

/// A duration of so many milliseconds.
pub(super) fn timespec(milliseconds: u64) -> libc::timespec {
    // More than the type holds is for ever.
    libc::timespec {
        tv_sec: i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX),
        tv_nsec: (milliseconds % 1000 * 1_000_000).cast_signed(),
    }
}

fn milliseconds(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1000) + nanoseconds / 1_000_000
}

/// This clock's time; zero for a clock that the kernel does not have.
pub(super) fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec that lives through the call. On an error
    // nothing is written, and it stays zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let first = monotonic_ms();
        assert!(first > 0);
        assert!(monotonic_ms() >= first);
    }

    #[test]
    fn the_wall_clock_is_past_this_codes_writing() {
        assert!(realtime_ms() > 1_700_000_000_000);
    }

    #[test]
    fn milliseconds_of_a_time() {
        let time = libc::timespec {
            tv_sec: 3,
            tv_nsec: 7_999_999,
        };
        assert_eq!(milliseconds(time), 3007);
    }
}
