//! The last line: why clinit ends.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::config::Level;
use crate::supervisor::policy::Mode;
use crate::supervisor::{Cause, Exit, Outcome, Signal, Time};
use crate::sys::cgroup::{Root, memory_limit, oom_kills};
use crate::sys::errno::describe;

use super::ends::End;
use super::log::{self, write_field};
use super::seconds::Seconds;

/// Where Kubernetes looks for a container's last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// All containers of a pod share 12 KiB of last words.
const LONGEST_MESSAGE: usize = 1023;

/// What is told, in this order.
const FIELDS: &str = "code cause last drain killed oom_kills";

/// How long after one worker others may be reaped that died with it.
const TOGETHER: Duration = Duration::from_secs(1);

/// What the last line tells beside the outcome.
pub(super) struct Closing {
    /// The kernel's count of OOM kills at the start, and when it was looked at
    /// last.
    oom_kills_at_start: Option<u64>,
    oom_kills_seen: Option<u64>,
    /// How many of those explain no exit yet, and may until then.
    oom_kills_open: (u64, Time),
    /// How the worker that ended last did so, and the one that ended last
    /// before the end began.
    last: Option<End>,
    last_unasked: Option<End>,
    /// When workers were told to stop for good.
    pub(super) draining_since: Option<Time>,
    /// Workers that outlived their deadline.
    pub(super) killed: u32,
}

impl Closing {
    /// A container's count begins with its process 1: that spares an init's
    /// start-up the search for it.
    pub(super) fn new(mode: Mode, is_pid1: bool) -> Self {
        let oom_kills = match mode {
            Mode::Init if is_pid1 => Some(0),
            Mode::Init => None,
            Mode::Cluster => oom_kills(&Root::system()),
        };
        Self {
            oom_kills_at_start: oom_kills,
            oom_kills_seen: oom_kills,
            oom_kills_open: (0, Time::default()),
            last: None,
            last_unasked: None,
            draining_since: None,
            killed: 0,
        }
    }

    /// Takes note of a worker's end.
    pub(super) fn note_end(&mut self, end: End, serving: bool) {
        self.last = Some(end);
        if serving {
            self.last_unasked = Some(end);
        }
    }

    /// Why a worker ended that was not `killed` by clinit. Memory it was that
    /// it died of where somebody sent it SIGKILL and the kernel has counted an
    /// OOM kill that explains no other end.
    pub(super) fn end_of(&mut self, exit: Exit, killed: bool, now: Time) -> End {
        let by_kill = matches!(
            exit,
            Exit::Signal {
                signal: Signal::KILL,
                ..
            }
        );
        if !by_kill || killed {
            return End::Exited(exit);
        }
        let count = oom_kills(&Root::system());
        if !self.explains(count, now) {
            return End::Exited(exit);
        }
        let limit = memory_limit(&Root::system());
        End::OutOfMemory {
            limit: limit.map(|(limit, _)| limit),
        }
    }

    /// Whether the count, as it is now, explains one more end. Several that
    /// are killed together are reaped one after the other; what was killed
    /// beside workers explains none of theirs later.
    fn explains(&mut self, count: Option<u64>, now: Time) -> bool {
        let (open, until) = self.oom_kills_open;
        let open = if until < now { 0 } else { open };
        let more = count
            .zip(self.oom_kills_seen)
            .map_or(0, |(count, seen)| count.saturating_sub(seen));
        self.oom_kills_seen = count.or(self.oom_kills_seen);
        let open = open.saturating_add(more);
        let until = if more > 0 { now + TOGETHER } else { until };
        self.oom_kills_open = (open.saturating_sub(1), until);
        open > 0
    }

    /// Says it, in the log and to the kubelet.
    pub(super) fn say(&self, outcome: Outcome, now: Time) {
        let path = Path::new(TERMINATION_LOG);
        let leave = has_room_for_a_message(path);
        if !leave && !log::enabled(Level::Info) {
            return;
        }
        let (cause, last) = match outcome.cause {
            Cause::Requested(signal) => (signal.to_string(), self.last),
            Cause::Finished => ("nothing left to run".into(), self.last),
            Cause::GaveUp => ("gave up".into(), self.last_unasked),
            Cause::CannotRun(_) => ("the command cannot run".into(), self.last),
        };
        let last = last.map_or("never ran".into(), |end| end.to_string());
        let drain = self
            .draining_since
            .map_or(Duration::ZERO, |since| now.since(since));
        let drain = Seconds(drain).to_string();
        let values = [
            outcome.code.into(),
            cause.as_str().into(),
            last.as_str().into(),
            drain.as_str().into(),
            self.killed.into(),
            self.oom_kills().into(),
        ];
        log::write(Level::Info, format_args!("exiting"), FIELDS, &values);
        if !leave {
            return;
        }
        let mut message = String::from("clinit: exiting");
        for (key, value) in FIELDS.split(' ').zip(&values) {
            write_field(&mut message, key, &value.shown());
        }
        message.push('\n');
        leave_message(path, &message);
    }

    /// How many processes the kernel has killed for memory since the start.
    fn oom_kills(&self) -> u64 {
        oom_kills(&Root::system())
            .zip(self.oom_kills_at_start)
            .map_or(0, |(count, at_start)| count.saturating_sub(at_start))
    }
}

/// Whether the file is there and empty, so that a worker's own last words stay.
fn has_room_for_a_message(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

fn leave_message(path: &Path, message: &str) {
    let bytes = message.as_bytes();
    let bytes = bytes.get(..LONGEST_MESSAGE).unwrap_or(bytes);
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes));
    if let Err(error) = written {
        log::debug!("cannot write {}: {}", path.display(), describe(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oom_kill_explains_one_end_and_not_a_later_one() {
        let at = |ms: u64| Time::from_millis(1_000_000 + ms);
        let mut closing = Closing::new(Mode::Init, true);
        assert!(!closing.explains(Some(0), at(0)), "somebody else's KILL");
        // Two at once, which are reaped one after the other; and no third.
        assert!(closing.explains(Some(2), at(10)));
        assert!(closing.explains(Some(2), at(11)));
        assert!(!closing.explains(Some(2), at(12)));
        // Two again, and only one was a worker.
        assert!(closing.explains(Some(4), at(5000)));
        assert!(!closing.explains(Some(4), at(9000)), "it was long ago");
        assert!(!closing.explains(None, at(9001)));
        assert!(closing.explains(Some(5), at(9002)));
    }

    #[test]
    fn a_message_is_left_where_there_is_room_for_it_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("clinit-closing-{}", std::process::id()));
        // An earlier process of this pid may have been killed before it cleared up.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let (empty, full, missing) = (dir.join("empty"), dir.join("full"), dir.join("missing"));
        fs::write(&empty, "").unwrap();
        fs::write(&full, "the worker's own").unwrap();
        assert!(has_room_for_a_message(&empty));
        assert!(!has_room_for_a_message(&full));
        assert!(!has_room_for_a_message(&missing));
        leave_message(&empty, &"x".repeat(5000));
        assert_eq!(fs::metadata(&empty).unwrap().len(), 1023);
        fs::remove_dir_all(&dir).unwrap();
    }
}
