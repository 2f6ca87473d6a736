//! Durations and sizes.

use std::time::Duration;

/// The longest duration, 365 days, so that no sum of a few of them and the
/// time overflows.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// The units of a duration with their milliseconds, in the order in which
/// they may follow each other.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of a size with their bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("K", 1 << 10),
    ("Ki", 1 << 10),
    ("M", 1 << 20),
    ("Mi", 1 << 20),
    ("G", 1 << 30),
    ("Gi", 1 << 30),
    ("T", 1 << 40),
    ("Ti", 1 << 40),
];

/// Reads ASCII digits, and nothing else: no sign, no space.
pub(super) fn whole<N: TryFrom<u64>>(text: &str) -> Option<N> {
    N::try_from(digits(text)?).ok()
}

fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Reads `500ms`, `20s`, `5m`, `1h30m` or `0`. `also` is what else the option
/// accepts, for the message.
pub(super) fn duration(text: &str, also: &str) -> Result<Duration, String> {
    let refused = || format!("accepted are {also}500ms, 20s, 5m, 1h30m or 0");
    let too_long = || String::from("at most 365 days are accepted (8760h)");
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && text.bytes().all(|byte| byte == b'0') {
        return Ok(Duration::ZERO);
    }
    if is_number && text.len() < 10 {
        return Err(format!("a unit is missing ({text}s?)"));
    }
    let mut units = DURATION_UNITS.iter();
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let (digits, after) = split_off(rest, u8::is_ascii_digit);
        let (name, after) = split_off(after, u8::is_ascii_alphabetic);
        // Taken from the one iterator, a unit can follow only a greater one.
        let (_, unit) = units.find(|(unit, _)| *unit == name).ok_or_else(refused)?;
        if digits.is_empty() {
            return Err(refused());
        }
        let part = whole::<u64>(digits).and_then(|count| count.checked_mul(*unit));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(too_long)?;
        rest = after;
    }
    let total = Duration::from_millis(total);
    if total > LONGEST {
        return Err(too_long());
    }
    Ok(total)
}

/// Reads `MIN..MAX`, the shorter one first. MIN is not 0: doubling it would
/// never grow.
pub(super) fn backoff(text: &str) -> Result<(Duration, Duration), String> {
    let parts = text.split_once('.');
    let (min, max) = parts
        .and_then(|(min, max)| Some((min, max.strip_prefix('.')?)))
        .ok_or("accepted is MIN..MAX, as in 100ms..15s")?;
    let (min, max) = (duration(min, "")?, duration(max, "")?);
    if min.is_zero() {
        return Err("MIN has to be more than 0, as in 100ms..15s".into());
    }
    if min > max {
        return Err("MIN is longer than MAX; accepted is MIN..MAX, as in 100ms..15s".into());
    }
    Ok((min, max))
}

/// Reads `300M`, `1G`, `512K`, or a number of bytes; units are powers of 1024,
/// and may be spelt `Ki`, `Mi`, `Gi`. A size of 0 is refused.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, name) = split_off(text, u8::is_ascii_digit);
    let unit = SIZE_UNITS.iter().find(|(unit, _)| *unit == name);
    let (Some((_, unit)), false) = (unit, digits.is_empty()) else {
        return Err("accepted are 300M, 1G, 512K or a number of bytes".into());
    };
    match whole::<u64>(digits).and_then(|count| count.checked_mul(*unit)) {
        Some(0) => Err("a size has to be more than 0".into()),
        Some(size) => Ok(size),
        None => Err("the size is too large: less than 16777216T is accepted".into()),
    }
}

/// The longest beginning of `text` whose characters are all `of_kind`, which
/// is one of ASCII's, and the rest.
fn split_off(text: &str, of_kind: fn(&u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !of_kind(&byte));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("00", 0),
            ("0s", 0),
            ("500ms", 500),
            ("20s", 20_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h2m3s4ms", 3_723_004),
            ("90m", 5_400_000),
            ("8760h", 31_536_000_000),
        ] {
            assert_eq!(
                duration(text, ""),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration() {
        for text in [
            "",
            "s",
            "ms",
            "1",
            "-1s",
            "+1s",
            "1.5s",
            " 1s",
            "1s ",
            "1 s",
            "1S",
            "1h30",
            "30m1h",
            "1s1s",
            "1d",
            "1ss",
            "s1",
            "٣s",
            "8760h1ms",
            "9999999999999999999h",
            "99999999999",
            "5124095576030431h",
            "1h99999999999999999999s",
        ] {
            duration(text, "").expect_err(text);
        }
        assert_eq!(duration("20", "").unwrap_err(), "a unit is missing (20s?)");
        let refused = "accepted are auto, 500ms, 20s, 5m, 1h30m or 0";
        assert_eq!(duration("soon", "auto, ").unwrap_err(), refused);
        let too_long = "at most 365 days are accepted (8760h)";
        assert_eq!(duration("8761h", "").unwrap_err(), too_long);
    }

    #[test]
    fn backoffs() {
        let read = backoff("100ms..15s").unwrap();
        assert_eq!(read, (Duration::from_millis(100), Duration::from_secs(15)));
        backoff("1s..1s").unwrap();
        for text in [
            "", "..", "1s", "1s..", "..1s", "5s..1s", "0..1s", "1s...2s", "1..2", "1s-2s",
        ] {
            backoff(text).expect_err(text);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("512K", 512 << 10),
            ("300M", 300 << 20),
            ("300Mi", 300 << 20),
            ("1G", 1 << 30),
            ("2Ti", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "0",
            "0M",
            "-1",
            "+1",
            "1.5G",
            "1 M",
            "1MB",
            "1m",
            "1Kib",
            "16777216T",
            "99999999999999999999",
        ] {
            size(text).expect_err(text);
        }
    }
}
