//! The last line: why clinit ends.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

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
    oom_kills_before: Option<u64>,
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
    pub(super) fn new() -> Self {
        Self {
            oom_kills_before: oom_kills(&Root::system()),
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

    /// Says it, in the log and to the kubelet.
    pub(super) fn say(&self, outcome: Outcome, now: Time) {
        let code = outcome.code;
        let cause = match outcome.cause {
            Cause::Requested(signal) => format!("{signal}"),
            Cause::Finished => "nothing left to run".into(),
            Cause::GaveUp => "gave up".into(),
            Cause::CannotRun(_) => "the command cannot run".into(),
        };
        let last = match outcome.cause {
            Cause::Requested(_) | Cause::Finished | Cause::CannotRun(_) => self.last,
            Cause::GaveUp => self.last_unasked,
        };
        let last = last.map_or("never ran".into(), |exit| exit.to_string());
        let drain = self
            .draining_since
            .map_or(Duration::ZERO, |since| now.since(since));
        let drain = Seconds(drain).to_string();
        let killed = self.killed;
        let oom_kills = self.oom_kills();
        log::info!(code, cause = cause.as_str(), last = last.as_str(), drain = drain.as_str(), killed, oom_kills; "exiting");
        let fields = [
            ("code", code.to_string()),
            ("cause", cause),
            ("last", last),
            ("drain", drain),
            ("killed", killed.to_string()),
            ("oom_kills", oom_kills.to_string()),
        ];
        let mut message = String::from("clinit: exiting");
        for (key, value) in &fields {
            write_field(&mut message, key, value);
        }
        message.push('\n');
        leave_message(Path::new(TERMINATION_LOG), &message);
    }

    /// How many processes the kernel killed for memory meanwhile.
    fn oom_kills(&self) -> u64 {
        let after = oom_kills(&Root::system());
        after
            .zip(self.oom_kills_before)
            .map_or(0, |(after, before)| after.saturating_sub(before))
    }

    /// Whether memory may be what a worker died of.
    pub(super) fn killed_for_memory(&self, exit: Exit) -> bool {
        matches!(
            exit,
            Exit::Signal {
                signal: Signal::KILL,
                ..
            }
        ) && self.oom_kills() > 0
    }
}

/// Writes the message where there is a file for it that is empty, so that
/// a worker's own last words stay.
fn leave_message(path: &Path, message: &str) {
    let empty = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
    if !empty {
        return;
    }
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
        for path in [&empty, &full, &missing] {
            leave_message(path, &"x".repeat(5000));
        }
        assert_eq!(fs::metadata(&empty).unwrap().len(), 1023);
        assert_eq!(fs::read_to_string(&full).unwrap(), "the worker's own");
        assert!(!missing.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
