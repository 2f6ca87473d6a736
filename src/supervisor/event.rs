//! What the core is told, and what it answers.

use std::fmt;
use std::time::Duration;

use super::job::{Claim, Extent, Holder};
use super::signal::Signal;
use super::time::millis;

/// One run of an app's command. Ids are issued by the core, are never used
/// twice, and have nothing to do with process ids, which the core never sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub(super) u32);

impl WorkerId {
    /// The id as a number, for a poll token.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }

    /// The id that [`Self::index`] gave this number for.
    #[must_use]
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It called exit(3) with this status.
    Code(u8),
    /// A signal ended it.
    Signal {
        /// Which one.
        signal: Signal,
        /// Whether it left a core dump.
        core: bool,
    },
}

impl Exit {
    /// The status a shell would report: the code, or 128 + the signal.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => {
                128_u8.saturating_add(u8::try_from(signal.number()).unwrap_or(u8::MAX))
            }
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal {
                signal,
                core: false,
            } => write!(f, "was killed by {signal}"),
            Self::Signal { signal, core: true } => {
                write!(f, "was killed by {signal} and dumped core")
            }
        }
    }
}

/// Why a worker could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpawnError {
    /// There is no room for another process or descriptor: this passes.
    Exhausted,
    /// The command is not there.
    NotFound,
    /// The command is there and cannot be executed.
    NotExecutable,
    /// The new process could not be set up: its user, directory or CPU.
    Setup,
}

impl SpawnError {
    /// The exit code that stands for it.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Exhausted | Self::Setup => 1,
        }
    }
}

/// A signal that clinit received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// Which one.
    pub signal: Signal,
    /// The value that sigqueue(3) sent with it.
    pub value: Option<u64>,
    /// Whether the kernel raised it, for a terminal say, and not a process.
    pub from_kernel: bool,
}

/// What the core is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The next deadline may have come.
    DeadlineReached,
    /// A signal came.
    Signal(Arrival),
    /// The worker's process now runs the command.
    Executed(WorkerId),
    /// The worker's process could not be made, or could not run the command,
    /// and is gone.
    SpawnFailed(WorkerId, SpawnError),
    /// The worker says that it is ready.
    Ready(WorkerId),
    /// The worker's main process is reaped.
    Exited {
        /// Whose.
        worker: WorkerId,
        /// How it ended.
        exit: Exit,
        /// Whether it has taken a connection.
        served: Served,
        /// Whether connections wait that only its successor can take.
        awaited: bool,
        /// Whether it left a process behind that holds a listener: the server
        /// put itself into the background.
        backgrounded: bool,
    },
    /// A signal has stopped the worker's main process, while the terminal of
    /// clinit's session was so.
    Stopped(WorkerId, Signal, Holder),
    /// Clinit could not be stopped after a child that this signal has stopped:
    /// nobody could have continued it.
    NotStopped(Signal),
    /// No process is left in the worker's process group.
    GroupGone(WorkerId),
    /// The worker that has been turned away from owes no client anything: no
    /// connection waits for it, and none is about to.
    Emptied(WorkerId),
    /// The worker says that it is on its way out.
    Stopping(WorkerId),
    /// The worker says that it is alive, and is hung unless it says so again
    /// within this time; without one it may fall silent.
    Alive(WorkerId, Option<Duration>),
    /// The worker takes nothing of what waits for it, or says that it hangs.
    Hung(WorkerId),
    /// The worker is to be replaced.
    Worn(WorkerId, Wear),
    /// The worker asks for this long, from now on, to become ready.
    Extended(WorkerId, Duration),
    /// Workers cannot share the port that this one has: it is the only one
    /// that can run.
    SharingLost(WorkerId),
    /// Clinit has no child left.
    TreeGone,
    /// The CPUs that clinit may use are enough for this many workers now.
    Resized(u32),
    /// Somebody asks for something.
    Asked(Request),
}

/// What a person or a program asks of clinit, other than by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Replace every worker, without losing a connection.
    Reload,
    /// Have this many workers.
    Scale(Scale),
    /// End these workers and start new ones.
    Restart(Whom),
    /// End these workers and start none in their place.
    Stop(Whom),
    /// Start workers where there are none.
    Start(Whom),
    /// Take this slot out of the count.
    Delete(u32),
    /// Send these workers' main processes a signal.
    Forward(Signal, Whom),
}

/// A number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// So many.
    To(u32),
    /// So many more, or fewer.
    By(i32),
}

/// Whose workers are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whom {
    /// Everybody's.
    All,
    /// That of the slot with this number.
    Slot(u32),
}

impl Whom {
    pub(super) fn includes(self, number: usize) -> bool {
        match self {
            Self::All => true,
            Self::Slot(slot) => u32::try_from(number) == Ok(slot),
        }
    }
}

/// Why a worker that does its work is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wear {
    /// It has lived for as long as a worker may.
    Lifetime,
    /// It has more memory than a worker may have.
    Memory,
}

/// Why a successor did not take its predecessor's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It ended.
    Exited(Exit),
    /// It could not be started.
    CannotRun(SpawnError),
    /// It was not ready within this time.
    NotReady(Duration),
    /// It put itself into the background.
    Backgrounded,
    /// It cannot have the port beside its predecessor.
    CannotShare,
    /// Clinit is to end.
    Shutdown,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(exit) => write!(f, "the new worker {exit}"),
            Self::CannotRun(error) => f.write_str(match error {
                SpawnError::Exhausted => "there is no room for another process",
                SpawnError::NotFound => "the command is not found",
                SpawnError::NotExecutable => "the command cannot be executed",
                SpawnError::Setup => "the new worker cannot be set up",
            }),
            Self::NotReady(time) => {
                let (seconds, millis) = (time.as_secs(), millis(*time));
                f.write_str("the new worker was not ready within ")?;
                match time.subsec_millis() {
                    0 => write!(f, "{seconds} s"),
                    _ => write!(f, "{millis} ms"),
                }
            }
            Self::Backgrounded => f.write_str(
                "the new worker put itself into the background: run it in the foreground",
            ),
            Self::CannotShare => {
                f.write_str("the new worker cannot have the port beside its predecessor")
            }
            Self::Shutdown => f.write_str("clinit is to end"),
        }
    }
}

/// Whether a worker that has exited had taken a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Served {
    /// Not as far as is known.
    Unknown,
    /// Some worker has, while this one ran: they share a queue.
    Someone,
    /// It has: the queue was its own.
    Itself,
}

/// Which processes of a worker a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The main process.
    Main,
    /// All of the worker's process group.
    Group,
}

/// A command to the shell. Performing it never blocks; where it fails, the
/// failure comes back as an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Run the app's command as this worker. Answered by `Executed` or
    /// `SpawnFailed`.
    Spawn {
        /// The new worker.
        worker: WorkerId,
        /// The index of its app.
        app: usize,
        /// The number of its slot.
        slot: u32,
        /// The generation that it belongs to.
        generation: u32,
    },
    /// Send a signal. A process that is gone is no failure.
    Signal {
        /// To which worker.
        worker: WorkerId,
        /// To which of its processes.
        to: Target,
        /// Which signal.
        signal: Signal,
        /// The value to send with it.
        value: Option<u64>,
    },
    /// Give the worker new connections: it is ready.
    Admit(WorkerId),
    /// Give the worker no new connection: it is to stop. Answered by
    /// `Emptied` once it owes no client anything.
    TurnAway(WorkerId),
    /// Stop clinit itself, as the terminal asked, unless it is PID 1.
    SuspendSelf,
    /// Stop by this signal what the shell knows as its job. Answered by
    /// `NotStopped` where that is not possible.
    StopJob {
        /// The signal.
        signal: Signal,
        /// How much of it.
        extent: Extent,
        /// The signal that has stopped the child.
        told: Signal,
    },
    /// Make the worker's group the terminal's foreground group, where clinit's
    /// own group is that.
    LendTerminal(WorkerId, Claim),
    /// Let no new connection in, and close clinit's own copies of the
    /// listeners once their queues are empty.
    CloseListeners,
    /// TERM to every process left below clinit. Answered by `TreeGone` once,
    /// or as soon as, there is none.
    TermTree,
    /// KILL to every process left below clinit, again while new ones appear.
    KillTree,
    /// Tell the log.
    Note(Note),
    /// Leave.
    Exit(Outcome),
}

/// Why clinit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A signal, or the terminal's end, asked for it.
    Requested(Signal),
    /// Nothing is left to run.
    Finished,
    /// Every slot failed too often in a row.
    GaveUp,
    /// The command has never run, and cannot be run.
    CannotRun(SpawnError),
}

/// The end of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Why.
    pub cause: Cause,
    /// Clinit's own exit code.
    pub code: u8,
}

/// What the core decided, for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// The worker is ready.
    Ready {
        /// Which one.
        worker: WorkerId,
        /// Whether it never said so and was only given time.
        presumed: bool,
    },
    /// The slot's next worker comes after this delay.
    RestartIn {
        /// The slot's number.
        slot: u32,
        /// The delay.
        delay: Duration,
        /// How many failures in a row the slot has had.
        failures: u32,
    },
    /// The worker exited with 0 after a signal was forwarded: this may be a
    /// shutdown, so its slot waits this long for the others to do the same.
    RestartHeld {
        /// The slot's number.
        slot: u32,
        /// How long.
        delay: Duration,
    },
    /// There was no room for a worker; the slot tries again after this delay.
    SpawnRetryIn {
        /// The slot's number.
        slot: u32,
        /// The delay.
        delay: Duration,
    },
    /// The command cannot be run.
    CannotRun(WorkerId),
    /// The worker put itself into the background.
    Backgrounded(WorkerId),
    /// The worker, or what was left of its group, outlived its deadline and
    /// is killed.
    Killed(WorkerId),
    /// The worker survived SIGKILL for a second: it hangs in the kernel.
    Unkillable(WorkerId),
    /// The number of workers changed.
    Scaled(u32),
    /// The number of workers stays: it is at its bound.
    ScaleRefused(u32),
    /// The number of workers will be this after the delay, unless the CPUs are
    /// given back.
    ShrinkIn(u32, Duration),
    /// Every worker is being replaced by one of this generation.
    Reloading(u32),
    /// A reload is under way; the next one will be of this generation.
    ReloadQueued(u32),
    /// Every worker is of this generation.
    Reloaded(u32),
    /// The reload ended, and the slots whose workers are not replaced keep
    /// them.
    ReloadFailed {
        /// The generation that it did not come to.
        generation: u32,
        /// Why.
        failure: Failure,
        /// Whether some workers had been replaced by then.
        partial: bool,
    },
    /// A worker is to be replaced.
    Renewing(WorkerId, Wear),
    /// It was not.
    RenewalFailed {
        /// The number of its slot.
        slot: u32,
        /// Why not.
        failure: Failure,
        /// When it is tried again.
        delay: Duration,
    },
    /// The successor takes its slot's place.
    Replaced(WorkerId),
    /// The worker is not ready yet after this time.
    Late(WorkerId, Duration),
    /// The worker is hung, and is killed.
    Hung(WorkerId),
    /// There is no such slot.
    NoSuchSlot(u32),
    /// A shutdown begins; its first stop signal comes after this delay.
    ShutdownIn(Duration),
    /// A further request: the drain delay is over.
    DelaySkipped,
    /// A further request while workers drain: the next one kills.
    NextRequestKills,
    /// The third request: everything is killed.
    Forced,
    /// Workers are told to stop and have this long.
    Draining {
        /// How many.
        workers: u32,
        /// How long.
        grace: Duration,
    },
    /// Every slot has failed this many times in a row.
    GivingUp(u32),
}
