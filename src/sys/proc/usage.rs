//! What a process takes of the machine (`proc_pid_stat(5)`).

use std::fs;

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user and kernel mode, without that of children.
    pub cpu_ms: u64,
    /// Resident memory, shared pages included.
    pub resident_bytes: u64,
}

/// What a process has taken; none where it is gone.
#[must_use]
pub fn usage(pid: i32) -> Option<Usage> {
    let stat = fs::read(super::in_proc(pid, "stat")).ok()?;
    // sysconf(3) has code for all that it could be asked for.
    // SAFETY: getauxval has no precondition.
    let page_bytes = unsafe { libc::getauxval(libc::AT_PAGESZ) };
    // SAFETY: as above.
    let ticks_a_second = unsafe { libc::getauxval(libc::AT_CLKTCK) };
    if ticks_a_second == 0 {
        return None;
    }
    parse(&stat, page_bytes, ticks_a_second)
}

/// Reads fields 14, 15 and 24; the name, which may hold anything, is before.
fn parse(stat: &[u8], page_bytes: u64, ticks_a_second: u64) -> Option<Usage> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    // The first one is field 3.
    let mut fields = text.split_ascii_whitespace().skip(11);
    let mut number = || fields.next()?.parse::<u64>().ok();
    let ticks = number()?.saturating_add(number()?);
    let pages = fields.nth(8)?.parse::<u64>().ok()?;
    Some(Usage {
        cpu_ms: ticks.saturating_mul(1000) / ticks_a_second,
        resident_bytes: pages.saturating_mul(page_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = b"42 (a) 1 2) S 7 8 9 0 -1 4194560 1 0 0 0 150 50 9 9 20 0 1 0 123456 2 3 184";
        let expected = Usage {
            cpu_ms: 2000,
            resident_bytes: 3 * 4096,
        };
        assert_eq!(parse(stat, 4096, 100), Some(expected));
        for length in 0..stat.len() - 5 {
            assert_eq!(parse(&stat[..length], 4096, 100), None, "{length}");
        }
    }

    #[test]
    fn this_process_has_memory_and_one_that_is_gone_has_none() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(usage(own).unwrap().resident_bytes > 100_000);
        assert_eq!(usage(i32::MAX), None);
    }
}
