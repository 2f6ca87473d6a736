//! What is said of what is done, in another init's words: by its name, clinit
//! says what that one's users and scripts look for in a log. By its own it says
//! nothing here.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::AsFd;

use crate::config::{Leads, Manner, Personality, Saying, Stream};
use crate::supervisor::{Exit, Signal};
use crate::sys::output::write_without_blocking;
use crate::sys::process::SpawnFailure;

const ERROR: i32 = 0;
const WARNING: i32 = 1;
const INFO: i32 = 2;
const DEBUG: i32 = 3;

const ADOPTS_NONE: &str = "\
Tini is not running as PID 1 and isn't registered as a child subreaper.
Zombie processes will not be re-parented to Tini, so zombie reaping won't work.
To fix the problem, use the -s option or set the environment variable TINI_SUBREAPER to register \
Tini as a child subreaper, or run Tini as PID 1.";

/// Whose words they are, and how many.
#[derive(Clone, Copy)]
pub(super) struct Voice(pub(super) Option<Manner>);

impl Voice {
    fn is(self, personality: Personality) -> bool {
        self.0
            .is_some_and(|manner| manner.personality == personality)
    }

    /// Whether it is another init's child, and leads this.
    pub(super) fn leads(self, what: Leads) -> bool {
        self.0.is_some_and(|manner| manner.leads == what)
    }

    /// Says a line of this degree, where that is loud enough.
    fn say(self, degree: i32, text: fmt::Arguments<'_>) {
        if let Some(manner) = self.0
            && (degree == ERROR || manner.verbosity >= degree)
        {
            write(manner.personality, degree, text);
        }
    }

    pub(super) fn adopts_none(self) {
        if self.is(Personality::Tini) {
            self.say(WARNING, format_args!("{ADOPTS_NONE}"));
        }
    }

    pub(super) fn spawned(self, program: &OsStr, pid: i32) {
        let program = program.display();
        match self.0.map(|manner| manner.personality) {
            Some(Personality::Tini) => {
                self.say(
                    INFO,
                    format_args!("Spawned child process '{program}' with pid '{pid}'"),
                );
            }
            Some(Personality::DumbInit) => {
                self.say(DEBUG, format_args!("Child spawned with PID {pid}."));
            }
            Some(Personality::Catatonit) => {
                self.say(DEBUG, format_args!("pid1 ({pid}) spawned: {program}"));
            }
            None => {}
        }
    }

    /// A signal has come.
    pub(super) fn received(self, signal: Signal) {
        let number = signal.number();
        if self.is(Personality::DumbInit) {
            self.say(DEBUG, format_args!("Received signal {number}."));
        } else {
            self.of_tini(DEBUG, format_args!("Passing signal: '{signal}'"));
        }
    }

    /// A signal is sent to the child.
    pub(super) fn forwarded(self, signal: Signal) {
        if self.is(Personality::DumbInit) {
            let number = signal.number();
            self.say(
                DEBUG,
                format_args!("Forwarded signal {number} to children."),
            );
        }
    }

    /// A child has ended that was an orphan. Returns whether it is these words
    /// that tell of it.
    pub(super) fn reaped(self, pid: i32, exit: Exit, warns: bool) -> bool {
        self.ended(pid, exit);
        match exit {
            Exit::Code(code) => {
                self.of_catatonit(format_args!("child process {pid} exited with code {code}"));
            }
            Exit::Signal { signal, .. } => {
                let number = signal.number();
                self.of_catatonit(format_args!(
                    "child process {pid} exited due to signal {number}"
                ));
            }
        }
        if warns {
            self.of_tini(
                WARNING,
                format_args!("Reaped zombie process with pid={pid}"),
            );
        }
        self.0.is_some()
    }

    /// The main child has ended.
    pub(super) fn main_ended(self, pid: i32, exit: Exit) {
        self.ended(pid, exit);
        match exit {
            Exit::Code(code) => {
                self.of_tini(
                    INFO,
                    format_args!("Main child exited normally (with status '{code}')"),
                );
            }
            Exit::Signal { signal, .. } => {
                self.of_tini(
                    INFO,
                    format_args!("Main child exited with signal (with signal '{signal}')"),
                );
            }
        }
        if self.is(Personality::DumbInit) {
            self.forwarded(Signal::TERM);
            let status = exit.status();
            self.say(
                DEBUG,
                format_args!("Child exited with status {status}. Goodbye."),
            );
        }
    }

    fn ended(self, pid: i32, exit: Exit) {
        // The signal that tells of it may be read later.
        self.of_tini(DEBUG, format_args!("Received SIGCHLD"));
        self.of_tini(DEBUG, format_args!("Reaped child with pid: '{pid}'"));
        if !self.is(Personality::DumbInit) {
            return;
        }
        self.received(Signal::CHLD);
        match exit {
            Exit::Code(code) => {
                self.say(
                    DEBUG,
                    format_args!("A child with PID {pid} exited with exit status {code}."),
                );
            }
            Exit::Signal { signal, .. } => {
                let number = signal.number();
                self.say(
                    DEBUG,
                    format_args!("A child with PID {pid} was terminated by signal {number}."),
                );
            }
        }
    }

    fn of_tini(self, degree: i32, text: fmt::Arguments<'_>) {
        if self.is(Personality::Tini) {
            self.say(degree, text);
        }
    }

    fn of_catatonit(self, text: fmt::Arguments<'_>) {
        if self.is(Personality::Catatonit) {
            self.say(DEBUG, text);
        }
    }

    /// Says that the command cannot be run, and returns whether there was a way
    /// to say it.
    pub(super) fn cannot_run(self, program: &OsStr, failure: SpawnFailure) -> bool {
        let Some(manner) = self.0 else {
            return false;
        };
        let program = program.display();
        let error = io::Error::from_raw_os_error(failure.errno).to_string();
        // Without the number that Rust puts behind it.
        let error = error
            .rsplit_once('(')
            .map_or("", |(text, _)| text.trim_ascii_end());
        match manner.personality {
            Personality::Tini => self.say(ERROR, format_args!("exec {program} failed: {error}")),
            Personality::DumbInit => self.say(ERROR, format_args!("{program}: {error}")),
            Personality::Catatonit => {
                self.say(ERROR, format_args!("failed to exec pid1: {error}"));
            }
        }
        true
    }

    /// The exit code where the command cannot be run; tini has clinit's `own`.
    pub(super) fn code_of(self, own: u8) -> u8 {
        match self.0.map(|manner| manner.personality) {
            Some(Personality::DumbInit) => 2,
            Some(Personality::Catatonit) => 1,
            Some(Personality::Tini) | None => own,
        }
    }
}

/// Says what is said in place of running a command; returns the exit code.
pub(super) fn print(saying: &Saying) -> u8 {
    let text = &saying.text;
    match saying.stream {
        Stream::Out => return super::start::print(text).max(saying.code),
        Stream::Err => drop(write_without_blocking(
            io::stderr().as_fd(),
            text.as_bytes(),
        )),
        Stream::Log => write(saying.personality, ERROR, format_args!("{text}")),
    }
    saying.code
}

/// Writes a line as that init begins one, and where it does.
fn write(personality: Personality, degree: i32, text: fmt::Arguments<'_>) {
    let pid = std::process::id();
    let degree_of = |names: [&'static str; 4]| {
        let index = usize::try_from(degree).unwrap_or(0);
        names.get(index).copied().unwrap_or_default()
    };
    let line = match personality {
        Personality::Tini => {
            let degree = degree_of(["FATAL", "WARN ", "INFO ", "DEBUG"]);
            format!("[{degree} tini ({pid})] {text}\n")
        }
        Personality::DumbInit => format!("[dumb-init] {text}\n"),
        Personality::Catatonit => {
            let degree = degree_of(["ERROR", "WARN", "INFO", "DEBUG"]);
            format!("{degree} (catatonit:{pid}): {text}\n")
        }
    };
    // Nobody who does not read is waited for: invariant 10.
    let _ = if personality == Personality::Tini && degree >= INFO {
        write_without_blocking(io::stdout().as_fd(), line.as_bytes())
    } else {
        write_without_blocking(io::stderr().as_fd(), line.as_bytes())
    };
}
