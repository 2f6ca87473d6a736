//! How much memory a process has (`proc_pid_status(5)`, `proc_pid_smaps(5)`).

use std::fs;

use super::in_proc;

/// What of its memory is in RAM, in bytes; what it shares with others counts
/// in full.
#[must_use]
pub fn resident_bytes(pid: i32) -> Option<u64> {
    bytes(pid, "status", "VmRSS:")
}

/// Likewise, with what it shares divided by those who share it. The kernel
/// walks all of it to find out, and tells only those who may trace the
/// process.
#[must_use]
pub fn proportional_bytes(pid: i32) -> Option<u64> {
    bytes(pid, "smaps_rollup", "Pss:")
}

fn bytes(pid: i32, file: &str, key: &str) -> Option<u64> {
    // The name of a process need not be UTF-8.
    let text = fs::read(in_proc(pid, file)).ok()?;
    of_key(&text, key)
}

/// The value of the line that begins with this key: `Pss:     1234 kB`.
fn of_key(text: &[u8], key: &str) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key.as_bytes()))?;
    let value = std::str::from_utf8(value).ok()?.trim_ascii();
    let kilobytes: u64 = value.strip_suffix("kB")?.trim_ascii().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_from_its_line() {
        let text = b"Name:\tPss:\xff\nPss_Dirty:  7 kB\nPss:    1234 kB\nPss:  9 kB\n";
        assert_eq!(of_key(text, "Pss:"), Some(1234 * 1024));
        for wrong in [
            "",
            "Pss:",
            "Pss: kB",
            "Pss: 1",
            "Pss: -1 kB",
            "Pss: 99999999999999999999 kB",
        ] {
            assert_eq!(of_key(wrong.as_bytes(), "Pss:"), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shared_counts_in_part() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let resident = resident_bytes(pid).unwrap();
        let proportional = proportional_bytes(pid).unwrap();
        assert!(0 < proportional, "{proportional}");
        // The C library is shared with others; the kernel counts the first in
        // steps of some pages.
        assert!(
            proportional < resident + (1 << 20),
            "{proportional} {resident}"
        );
        assert_eq!(resident_bytes(-1), None);
    }
}
