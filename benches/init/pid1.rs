//! An init as process 1 of a pid namespace of its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::contenders::{Contender, quiet};

/// What anything may take that is done in an instant.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait between two looks: nothing tells of what is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// An init that runs; it ends with this value.
pub(crate) struct Pid1 {
    /// unshare, which kills the namespace's process 1 when it is killed.
    pub(crate) outer: Child,
    /// Its pid, as seen from here.
    pub(crate) pid: u32,
}

impl Pid1 {
    /// Starts it over this command, and waits until its children run that.
    pub(crate) fn start(
        contender: &Contender,
        command: &[&str],
        stdin: Stdio,
        stdout: Stdio,
    ) -> Result<Self, String> {
        let Some(program) = command.first() else {
            return Err("no command".to_owned());
        };
        if contender.program.is_none() {
            return Err("not installed".to_owned());
        }
        let cannot = |error: io::Error| error.to_string();
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        if fs::metadata("/proc/self").map_err(cannot)?.uid() != 0 {
            unshare.args(["--user", "--map-root-user"]);
        }
        let outer = quiet(contender.add_to(&mut unshare).args(command))
            .stdin(stdin)
            .stdout(stdout)
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut running = Self { outer, pid: 0 };
        let name = Path::new(program).file_name().unwrap_or_default();
        running.wait_for("no such children", |outer| {
            let [pid] = children(outer)[..] else {
                return None;
            };
            let runs = |pid: &u32| comm(*pid) == *name.to_string_lossy();
            let count = children(pid).iter().filter(|pid| runs(pid)).count();
            (count == contender.children).then_some(pid)
        })?;
        Ok(running)
    }

    fn wait_for(
        &mut self,
        otherwise: &str,
        look: impl Fn(u32) -> Option<u32>,
    ) -> Result<(), String> {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            if let Some(pid) = look(self.outer.id()) {
                self.pid = pid;
                return Ok(());
            }
            match self.outer.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(format!("did not run: {status}")),
                Err(error) => return Err(error.to_string()),
            }
            if Instant::now() > give_up_at {
                return Err(otherwise.to_owned());
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until it has so many children, zombies included.
    pub(crate) fn wait_for_children(&mut self, count: usize) -> Result<(), String> {
        let pid = self.pid;
        self.wait_for("it does not reap", |_| {
            (children(pid).len() == count).then_some(pid)
        })
    }

    /// The CPU time that it has had.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let schedstat = fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).ok()?;
        let nanos = schedstat.split_whitespace().next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }

    /// The number after that name in /proc/PID/status.
    pub(crate) fn status(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }
}

impl Drop for Pid1 {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}
