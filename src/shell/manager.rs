//! Telling the service manager that clinit was started by how it fares
//! (`sd_notify(3)`, `sd_watchdog_enabled(3)`).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::supervisor::{Note, Time, WorkerId};
use crate::sys::clock::monotonic_us;
use crate::sys::errno::{self, describe};
use crate::sys::manager::ManagerSocket;
use crate::table::Set;

use super::log;
use super::start::variable;
use super::{Shell, now};

/// How soon to try again where the manager does not read what it is told.
const RETRY: Duration = Duration::from_secs(1);

/// How much may wait for it then.
const MOST_UNSENT: usize = 8;

/// How far clinit has come, as the manager knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// Who started clinit.
pub(super) struct Manager {
    socket: Option<ManagerSocket>,
    /// Whether clinit's pid is the same to it.
    shares_pids: bool,
    stage: Stage,
    /// The workers that are given connections.
    serving: Set<WorkerId>,
    /// What it was told last, for people.
    status: String,
    /// Changes that it could not be told yet, and when to try again.
    unsent: VecDeque<String>,
    retry_at: Option<Time>,
    /// How often it wants a sign of life, and when the next one is due.
    watchdog: Option<(Duration, Time)>,
    has_failed: bool,
}

impl Manager {
    /// Nobody who wants to know.
    pub(super) fn none() -> Self {
        Self {
            socket: None,
            shares_pids: false,
            stage: Stage::Starting,
            serving: Set::default(),
            status: String::new(),
            unsent: VecDeque::new(),
            retry_at: None,
            watchdog: None,
            has_failed: false,
        }
    }

    /// Whoever `NOTIFY_SOCKET` names.
    pub(super) fn new(environment: &[(OsString, OsString)], is_pid1: bool) -> Self {
        let mut manager = Self::none();
        if let Some(socket) = socket(environment) {
            manager.socket = Some(socket);
            manager.shares_pids = !is_pid1;
            let pause = pause(environment, std::process::id());
            manager.watchdog = pause.map(|pause| (pause, now()));
        }
        manager
    }

    /// When there is something to tell although nothing has happened.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let ping_at = self.watchdog.map(|(_, at)| at);
        ping_at.into_iter().chain(self.retry_at).min()
    }

    // ---- listeners ----

    /// Gives it a listener to keep for the next clinit. Returns whether it
    /// has that; it may keep none.
    pub(super) fn keep(&mut self, name: &str, descriptor: BorrowedFd<'_>) -> bool {
        // It is the manager's own business whether anybody connects.
        let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        self.send(&text, Some(descriptor)) == Sent::Yes
    }

    /// Has it keep that one no longer.
    pub(super) fn release(&mut self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
    }

    // ---- what happens ----

    pub(super) fn admitted(&mut self, worker: WorkerId) {
        if self.socket.is_some() {
            self.serving.insert(worker);
        }
    }

    pub(super) fn left(&mut self, worker: WorkerId) {
        self.serving.remove(&worker);
    }

    /// Tells it of what the core has decided. A reload may begin and end in
    /// one turn, and it waits for both.
    pub(super) fn note(&mut self, note: Note, now: Time) {
        let (from, to) = if let Note::Reloading(_) = note {
            (Stage::Ready, Stage::Reloading)
        } else if let Note::Reloaded(_) | Note::ReloadFailed { .. } = note {
            (Stage::Reloading, Stage::Ready)
        } else if let Note::ShutdownIn(_) = note {
            (self.stage, Stage::Stopping)
        } else {
            return;
        };
        if self.stage == from {
            self.come_to(to, now);
        }
    }

    fn come_to(&mut self, stage: Stage, now: Time) {
        if self.socket.is_none() || self.stage == stage {
            return;
        }
        let is_first = self.stage == Stage::Starting;
        self.stage = stage;
        let text = match stage {
            Stage::Starting => return,
            Stage::Ready if is_first && self.shares_pids => {
                format!("READY=1\nMAINPID={}", std::process::id())
            }
            Stage::Ready => "READY=1".to_owned(),
            Stage::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us()),
            Stage::Stopping => "STOPPING=1".to_owned(),
        };
        if self.unsent.len() < MOST_UNSENT {
            self.unsent.push_back(text);
        }
        self.flush(now);
    }

    /// Tells it how many workers there are, and that clinit is alive.
    fn tell(&mut self, workers: u32, is_serving: bool, now: Time) {
        let serving = self.serving.len();
        if !is_serving {
            self.come_to(Stage::Stopping, now);
        } else if self.stage == Stage::Starting && serving > 0 && 2 * serving >= workers as usize {
            self.come_to(Stage::Ready, now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.flush(now);
        }
        let doing = match self.stage {
            Stage::Starting => "starting: ",
            Stage::Ready => "",
            Stage::Reloading => "reloading: ",
            Stage::Stopping => "shutting down: ",
        };
        let status = format!("{doing}{serving} of {workers} workers are ready");
        if status != self.status && self.unsent.is_empty() {
            match self.send(&format!("STATUS={status}"), None) {
                Sent::NotYet => self.retry_at = Some(now + RETRY),
                Sent::Yes | Sent::Never => self.status = status,
            }
        }
        if let Some((pause, at)) = self.watchdog
            && at <= now
        {
            self.watchdog = Some((pause, now + pause));
            self.send("WATCHDOG=1", None);
        }
    }

    // ---- sending ----

    /// Sends the changes that wait, in their order.
    fn flush(&mut self, now: Time) {
        self.retry_at = None;
        while let Some(text) = self.unsent.pop_front() {
            if self.send(&text, None) == Sent::NotYet {
                self.unsent.push_front(text);
                self.retry_at = Some(now + RETRY);
                return;
            }
        }
    }

    fn send(&mut self, text: &str, descriptor: Option<BorrowedFd<'_>>) -> Sent {
        let Some(socket) = &self.socket else {
            return Sent::Never;
        };
        let Err(error) = socket.send(text, descriptor) else {
            return Sent::Yes;
        };
        if !std::mem::replace(&mut self.has_failed, true) {
            let why = describe(&error);
            log::warn!("cannot tell the service manager how clinit fares: {why}");
        }
        if error.kind() == io::ErrorKind::WouldBlock || errno::passes(&error) {
            Sent::NotYet
        } else {
            Sent::Never
        }
    }
}

/// The manager's socket, where it has one.
fn socket(environment: &[(OsString, OsString)]) -> Option<ManagerSocket> {
    let found = environment
        .iter()
        .find(|(name, _)| name == OsStr::new("NOTIFY_SOCKET"));
    let (_, address) = found.filter(|(_, address)| !address.is_empty())?;
    match ManagerSocket::open(address) {
        Ok(socket) => Some(socket),
        Err(error) => {
            let why = describe(&error);
            log::warn!("NOTIFY_SOCKET is not used: {why}; a path or @NAME is accepted");
            None
        }
    }
}

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    /// There was no room for it.
    NotYet,
    /// Nobody is there to have it.
    Never,
}

/// How often a manager is to be told that clinit is alive, which is twice in
/// the time that it waits; never where it waits for another process.
fn pause(environment: &[(OsString, OsString)], own_pid: u32) -> Option<Duration> {
    let number = |name| variable(environment, name).and_then(|text| text.parse::<u64>().ok());
    let is_other = match variable(environment, "WATCHDOG_PID") {
        None => false,
        Some(_) => number("WATCHDOG_PID") != Some(own_pid.into()),
    };
    let timeout = number("WATCHDOG_USEC").filter(|&timeout| timeout > 0 && !is_other)?;
    // Not so often that it would do nothing else.
    Some(Duration::from_micros(timeout / 2).max(Duration::from_millis(1)))
}

impl Shell {
    /// Tells the service manager what has changed.
    pub(super) fn tell_manager(&mut self) {
        if self.manager.socket.is_some() {
            let workers = self.supervisor.instances();
            let is_serving = self.supervisor.is_serving();
            self.manager.tell(workers, is_serving, now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_twice_in_the_time_that_it_waits() {
        let of = |variables: &[(&str, &str)]| {
            let pairs = variables.iter();
            let environment: Vec<(OsString, OsString)> = pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            pause(&environment, 7)
        };
        let usec = ("WATCHDOG_USEC", "3000000");
        let half = Some(Duration::from_millis(1500));
        assert_eq!(of(&[usec]), half);
        assert_eq!(of(&[usec, ("WATCHDOG_PID", "7")]), half);
        assert_eq!(of(&[usec, ("WATCHDOG_PID", "8")]), None);
        assert_eq!(of(&[usec, ("WATCHDOG_PID", "")]), None);
        assert_eq!(of(&[("WATCHDOG_PID", "7")]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "soon")]), None);
        let least = Some(Duration::from_millis(1));
        assert_eq!(of(&[("WATCHDOG_USEC", "1")]), least);
    }
}
