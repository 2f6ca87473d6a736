//! Other processes, as /proc shows them.

use std::fs;
use std::time::Duration;

/// The processes of these trees, these included.
pub(crate) fn tree(roots: &[u32]) -> Vec<u32> {
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let listed = |task| fs::read_to_string(format!("/proc/{pid}/task/{task}/children"));
    tasks(pid)
        .into_iter()
        .filter_map(|task| listed(task).ok())
        .flat_map(|text| numbers(&text))
        .collect()
}

fn numbers(text: &str) -> Vec<u32> {
    let words = text.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

fn tasks(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

pub(crate) fn exists(pid: u32) -> bool {
    !matches!(stat(pid, 3).as_deref(), None | Some("Z"))
}

/// What tells a process from a later one of that pid.
pub(crate) fn started(pid: u32) -> Option<String> {
    stat(pid, 22)
}

/// A field of /proc/PID/stat, counted as in `proc_pid_stat(5)`, from 3 on.
fn stat(pid: u32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, and is the last in parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let value = rest.split_whitespace().nth(field.checked_sub(3)?)?;
    Some(value.to_owned())
}

/// The CPU time that these processes' threads have had, to the nanosecond;
/// /proc/PID/stat has it in ticks of 10 ms.
pub(crate) fn cpu(pids: &[u32]) -> Duration {
    let nanos = |pid: u32, task: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let of = |pid: &u32| {
        let pid = *pid;
        tasks(pid)
            .into_iter()
            .filter_map(move |task| nanos(pid, task))
    };
    Duration::from_nanos(pids.iter().flat_map(of).sum())
}

/// How often a process slept, all its threads together: no less than how often
/// it was woken.
pub(crate) fn sleeps(pid: u32) -> u64 {
    let of = |task| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).ok()?;
        let key = "voluntary_ctxt_switches:";
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse::<u64>().ok()
    };
    tasks(pid).into_iter().filter_map(of).sum()
}
