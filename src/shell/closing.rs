//! The last line: why clinit ends.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::supervisor::policy::Mode;
use crate::supervisor::{Cause, Exit, Outcome, Signal, Time};
use crate::sys::cgroup::{Root, oom_kills};

use super::log::write_field;
use super::seconds::Seconds;

/// Where Kubernetes looks for a container's last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// All containers of a pod share 12 KiB of last words.
const LONGEST_MESSAGE: usize = 1023;

/// What the last line tells beside the outcome.
pub(super) struct Closing {
    /// The kernel's count of OOM kills at the start, and when it last
    /// explained an exit.
    oom_kills_at_start: Option<u64>,
    oom_kills_explained: Option<u64>,
    /// How the worker that ended last did so, and the one that ended last
    /// before the end began.
    last: Option<Exit>,
    last_unasked: Option<Exit>,
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
            oom_kills_explained: oom_kills,
            last: None,
            last_unasked: None,
            draining_since: None,
            killed: 0,
        }
    }

    /// Takes note of a worker's end.
    pub(super) fn note_exit(&mut self, exit: Exit, serving: bool) {
        self.last = Some(exit);
        if serving {
            self.last_unasked = Some(exit);
        }
    }

    /// Whether memory is what a worker died of: it was killed, and the count
    /// is higher than the last time that it explained such an end.
    pub(super) fn is_oom_kill(&mut self, exit: Exit) -> bool {
        if !matches!(
            exit,
            Exit::Signal {
                signal: Signal::KILL,
                ..
            }
        ) {
            return false;
        }
        let count = oom_kills(&Root::system());
        let more = count
            .zip(self.oom_kills_explained)
            .is_some_and(|(count, explained)| count > explained);
        self.oom_kills_explained = count;
        more
    }

    /// Says it, in the log and to the kubelet.
    pub(super) fn say(&self, outcome: Outcome, now: Time) {
        let path = Path::new(TERMINATION_LOG);
        let leave = has_room_for_a_message(path);
        if !leave && !log::log_enabled!(log::Level::Info) {
            return;
        }
        let (cause, last) = match outcome.cause {
            Cause::Requested(signal) => (signal.to_string(), self.last),
            Cause::Finished => ("nothing left to run".into(), self.last),
            Cause::GaveUp => ("gave up".into(), self.last_unasked),
            Cause::CannotRun(_) => ("the command cannot run".into(), self.last),
        };
        let last = last.map_or("never ran".into(), |exit| exit.to_string());
        let drain = self
            .draining_since
            .map_or(Duration::ZERO, |since| now.since(since));
        let drain = Seconds(drain).to_string();
        let (code, killed, oom_kills) = (outcome.code, self.killed, self.oom_kills());
        log::info!(code, cause = cause.as_str(), last = last.as_str(), drain = drain.as_str(), killed, oom_kills; "exiting");
        if !leave {
            return;
        }
        let mut message = String::from("clinit: exiting");
        for (key, value) in [
            ("code", code.to_string()),
            ("cause", cause),
            ("last", last),
            ("drain", drain),
            ("killed", killed.to_string()),
            ("oom_kills", oom_kills.to_string()),
        ] {
            write_field(&mut message, key, &value);
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
        log::debug!("cannot write {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_left_where_there_is_room_for_it_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("clinit-closing-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
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
