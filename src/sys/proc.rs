//! Other processes, as /proc shows them (`proc(5)`).
//!
//! Everything here is a guess that may be out of date when it is read:
//! processes come and go, `hidepid` hides those of other users, and /proc may
//! be missing. What cannot be read is left out.

mod memory;
mod sockets;
mod usage;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::guise::Guise;
use super::numbered::numbers_in;
pub use memory::{proportional_bytes, resident_bytes};
pub use sockets::{certain_socket_inodes, known_socket_inodes, listening_inodes, socket_inodes};
pub use usage::{Usage, usage};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent's; 0 where that is in another pid namespace.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// When it started, in clock ticks since boot. With the pid it names a
    /// process for good.
    pub start_time_ticks: u64,
}

/// Whether there is a /proc, and of this pid namespace: another's numbers mean
/// other processes.
#[must_use]
pub fn is_ours() -> bool {
    let own = std::process::id().to_string();
    fs::read_link("/proc/self").is_ok_and(|target| target.as_os_str() == own.as_str())
}

/// Every process that is visible, zombies included.
#[must_use]
pub fn processes() -> Vec<Process> {
    let numbers = numbers_in(Path::new("/proc")).unwrap_or_default();
    numbers.into_iter().filter_map(process).collect()
}

/// This process, if it is there.
#[must_use]
pub fn process(pid: i32) -> Option<Process> {
    // Its name need not be UTF-8.
    parse_stat(&fs::read(in_proc(pid, "stat")).ok()?)
}

/// When this process started, in clock ticks since boot.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    process(pid).map(|process| process.start_time_ticks)
}

/// The direct children of a process.
#[must_use]
pub fn children_of(pid: i32) -> Vec<i32> {
    let children = processes().into_iter();
    children
        .filter(|process| process.parent == pid)
        .map(|process| process.pid)
        .collect()
}

/// Children, their children and so on, each after its parent. What has been
/// left by its parent hangs from an init or a subreaper.
#[must_use]
pub fn descendants(of: i32) -> Vec<i32> {
    descendants_in(&processes(), of)
}

/// The descendants of a process among these.
#[must_use]
pub fn descendants_in(processes: &[Process], of: i32) -> Vec<i32> {
    // A scan is no snapshot: with pids used anew meanwhile it could show a
    // circle.
    let mut seen = vec![of];
    let mut is_new = |pid| {
        let place = seen.binary_search(&pid);
        if let Err(place) = place {
            seen.insert(place, pid);
        }
        place.is_err()
    };
    let mut found = Vec::new();
    let mut generation = vec![of];
    while !generation.is_empty() {
        generation = processes
            .iter()
            .filter(|process| generation.contains(&process.parent) && is_new(process.pid))
            .map(|process| process.pid)
            .collect();
        found.extend_from_slice(&generation);
    }
    found
}

/// Device and inode of the file that a process executes.
#[must_use]
pub fn executable_id(pid: i32) -> Option<(u64, u64)> {
    let _guise = Guise::to_look_into(pid);
    let status = fs::metadata(in_proc(pid, "exe")).ok()?;
    Some((status.dev(), status.ino()))
}

/// How much of an environment is read: half of what `execve(2)` takes of
/// arguments and environment under a usual stack limit.
const MOST_ENVIRONMENT: u64 = 1 << 20;

/// Whether a process was started with exactly this variable, `NAME=value`.
/// Not so where it has since written over its environment, or may not be
/// looked into.
#[must_use]
pub fn environment_has(pid: i32, entry: &[u8]) -> bool {
    let mut environment = Vec::new();
    let _guise = Guise::to_look_into(pid);
    let read = File::open(in_proc(pid, "environ"))
        .and_then(|file| file.take(MOST_ENVIRONMENT).read_to_end(&mut environment));
    read.is_ok() && has_entry(&environment, entry)
}

/// Whether this is one of the entries, each of which ends in a NUL: one that
/// is cut off is none.
fn has_entry(environment: &[u8], entry: &[u8]) -> bool {
    environment
        .split_inclusive(|byte| *byte == 0)
        .any(|known| known.strip_suffix(b"\0") == Some(entry))
}

fn in_proc(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// Reads `/proc/PID/stat`. The second field is the name in parentheses, which
/// may itself have spaces and parentheses; no later field has any.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let pid = text(stat.get(..open)?)?.trim_ascii().parse().ok()?;
    let mut fields = text(stat.get(close + 1..)?)?.split_ascii_whitespace();
    Some(Process {
        pid,
        // The state comes before it.
        parent: fields.nth(1)?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
        // Field 22; the session is field 6.
        start_time_ticks: fields.nth(15)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    const STAT: &[u8] = b"42 (a) b (c) S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 \
        123456 2 3 18446744073709551615\n";

    fn own_pid() -> i32 {
        std::process::id().try_into().unwrap()
    }

    #[test]
    fn a_name_may_be_anything() {
        let expected = Process {
            pid: 42,
            parent: 7,
            group: 8,
            session: 9,
            start_time_ticks: 123_456,
        };
        assert_eq!(parse_stat(STAT), Some(expected));
        let mut strange = STAT.to_vec();
        strange[4] = 0xff;
        assert_eq!(parse_stat(&strange), Some(expected));
    }

    #[test]
    fn what_is_cut_off_is_no_process() {
        for length in 0..STAT.len() - 40 {
            assert_eq!(parse_stat(&STAT[..length]), None, "{length}");
        }
        assert_eq!(parse_stat(b") 1 (x"), None);
    }

    #[test]
    fn this_process_and_its_child_are_found() {
        let mut child = Command::new("/bin/cat")
            .env("CLINIT_TEST_MARK", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Once it answers it has become cat.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children_of(own_pid()).contains(&pid));
        assert!(descendants(own_pid()).contains(&pid));
        assert_eq!(process(pid).unwrap().parent, own_pid());
        assert!(start_time(pid) >= start_time(own_pid()));
        assert_ne!(executable_id(pid), executable_id(own_pid()));
        assert!(executable_id(pid).is_some());
        assert!(environment_has(pid, b"CLINIT_TEST_MARK=1"));
        assert!(!environment_has(own_pid(), b"CLINIT_TEST_MARK=1"));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(process(pid), None);
    }

    #[test]
    fn an_entry_of_an_environment_is_whole_or_none() {
        let environment = b"A=1\0EMPTY=\0LAST=x\0CUT=y";
        for entry in [&b"A=1"[..], b"EMPTY=", b"LAST=x"] {
            assert!(has_entry(environment, entry), "{entry:?}");
        }
        for entry in [&b"A="[..], b"=1", b"A=11", b"A", b"CUT=y", b"A=1\0EMPTY="] {
            assert!(!has_entry(environment, entry), "{entry:?}");
        }
        assert!(!has_entry(b"", b""));
    }

    #[test]
    fn descendants_come_after_their_parents_and_circles_end() {
        let process = |pid, parent| Process {
            pid,
            parent,
            ..parse_stat(STAT).unwrap()
        };
        let tree = [
            process(5, 4),
            process(2, 1),
            process(4, 2),
            process(3, 1),
            process(9, 8),
        ];
        assert_eq!(descendants_in(&tree, 1), [2, 3, 4, 5]);
        assert!(descendants_in(&tree, 6).is_empty());
        let circle = [process(2, 3), process(3, 2), process(4, 4)];
        assert_eq!(descendants_in(&circle, 2), [3]);
        assert!(descendants_in(&circle, 4).is_empty());
    }
}
