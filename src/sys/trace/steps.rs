//! Which step of an extraction comes next: pure, so that every order of
//! events can be tried.
//!
//! A thread that was seized while it waited in a call stops right behind that
//! call. There it is made to make four calls of its own: it maps a page, sends
//! its socket from there, unmaps the page and closes its end of the channel.
//! Whatever fails, what was opened or mapped is let go of.
//!
//! ```text
//! Seized ──▶ Inspected ──▶ (Entering ──▶ Inside ──▶ Left) × 4 ──▶ Over
//! ```

/// A call that the thread is made to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Maps a fresh page. The stack will not do: a thread of Go's may have
    /// none to spare, or use what is below it.
    Map,
    /// Sends the socket.
    Send,
    /// Unmaps the page.
    Unmap,
    /// Closes the thread's end of the channel.
    Close,
}

/// Why a traced thread has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// On request, or because its whole process is stopped: between two of
    /// its instructions or right behind a call.
    Trap,
    /// It is about to make a call, or has made it.
    Call,
    /// It is about to be delivered this signal.
    Signal(i32),
    /// Anything else.
    Other,
}

/// `PTRACE_EVENT_STOP`, where a status has the kind of an event.
const EVENT_STOP: i32 = 128;

/// What marks a stop at a call, with `PTRACE_O_TRACESYSGOOD`.
const AT_CALL: i32 = 0x80;

const SIGTRAP: i32 = 5;
const SIGSTOP: i32 = 19;

impl Stop {
    /// Reads the status of a stop as `waitid(2)` gives it.
    pub(super) fn from_status(status: i32) -> Self {
        match (status >> 8, status & 0xff) {
            (EVENT_STOP, _) => Self::Trap,
            (0, signal) if signal == SIGTRAP | AT_CALL => Self::Call,
            (0, signal) if (1..AT_CALL).contains(&signal) => Self::Signal(signal),
            _ => Self::Other,
        }
    }
}

/// What is to be done with a thread that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Let it go on to its next stop, with this signal delivered; 0 for none.
    Resume(i32),
    /// See whether it is where it was expected, and say so to
    /// [`Steps::inspected`].
    Inspect,
    /// Make it make this call, and let it go on to its next stop.
    Inject(Call),
    /// Read what its call returned, and give that to [`Steps::returned`].
    Read,
    /// Nothing more: it stays stopped until it is let go.
    Done(Outcome),
}

/// How an extraction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The socket was sent.
    Sent,
    /// It was not, because of this error.
    Failed(i32),
    /// It was called off.
    CalledOff,
}

/// How far an extraction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until the thread stops behind its own call.
    Seized,
    /// Until someone has seen where it is.
    Inspecting,
    /// It is set to make this call.
    Entering(Call),
    /// It is making it.
    Inside(Call),
    /// It has made it.
    Left(Call),
    /// It has made all that it was to.
    Over(Outcome),
}

/// One extraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    state: State,
    /// What went wrong first.
    error: Option<i32>,
    called_off: bool,
    page: u64,
}

/// The largest error number.
const LAST_ERRNO: i32 = 4095;

/// A page is at least this large, and lies at a multiple of it.
const PAGE: u64 = 4096;

const EFAULT: i32 = 14;

impl Steps {
    /// For a thread that is seized and asked to stop. With an error there is
    /// nothing to do for it but to let it go.
    pub(super) fn new(error: Option<i32>) -> Self {
        Self {
            state: State::Seized,
            error,
            called_off: false,
            page: 0,
        }
    }

    /// Where the mapped page is.
    pub(super) fn page(&self) -> u64 {
        self.page
    }

    /// Whether the thread stays stopped until it is let go.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// Sends nothing that is not yet sent. The thread is to be let go once
    /// this is over.
    pub(super) fn call_off(&mut self) {
        self.called_off = true;
    }

    /// The thread has stopped.
    pub(super) fn stopped(&mut self, stop: Stop) -> Next {
        match (self.state, stop) {
            (State::Over(outcome), _) => Next::Done(outcome),
            (State::Seized, Stop::Trap) => {
                self.state = State::Inspecting;
                Next::Inspect
            }
            // Its process is stopped: it then traps, and is let through.
            (_, Stop::Signal(SIGSTOP)) => Next::Resume(SIGSTOP),
            // A handler would run first, and then the call again.
            (State::Seized, Stop::Signal(signal)) => Next::Resume(signal),
            (State::Entering(call), Stop::Call) => {
                self.state = State::Inside(call);
                Next::Resume(0)
            }
            (State::Inside(call), Stop::Call) => {
                self.state = State::Left(call);
                Next::Read
            }
            // All signals are blocked, so one was forced upon a call that we
            // made: it is not the worker's. A trap is SIGSTOP's or SIGCONT's,
            // which concern the whole process.
            (
                State::Inspecting | State::Entering(_) | State::Inside(_) | State::Left(_),
                Stop::Signal(_) | Stop::Trap | Stop::Other,
            )
            | (State::Seized, Stop::Call | Stop::Other)
            | (State::Inspecting | State::Left(_), Stop::Call) => Next::Resume(0),
        }
    }

    /// Whether the thread was found where it was expected, so that it can be
    /// made to make calls.
    pub(super) fn inspected(&mut self, found: Result<(), i32>) -> Next {
        if let Err(errno) = found {
            self.error.get_or_insert(errno);
        }
        if found.is_err() || self.error.is_some() {
            // It has no end of the channel, or is not where it could close it.
            self.end()
        } else if self.called_off {
            self.inject(Call::Close)
        } else {
            self.inject(Call::Map)
        }
    }

    /// What the call that the thread has made returned.
    pub(super) fn returned(&mut self, result: i64) -> Next {
        let State::Left(call) = self.state else {
            return self.end();
        };
        let failure = (result < 0).then(|| match i32::try_from(result.saturating_neg()) {
            Ok(errno) if errno <= LAST_ERRNO => errno,
            Ok(_) | Err(_) => EFAULT,
        });
        match (call, failure) {
            (Call::Map, None) => {
                self.page = result.cast_unsigned();
                // A filter of the worker's own may answer anything.
                if self.page == 0 || !self.page.is_multiple_of(PAGE) {
                    self.error = Some(EFAULT);
                    self.inject(Call::Close)
                } else if self.called_off {
                    self.inject(Call::Unmap)
                } else {
                    self.inject(Call::Send)
                }
            }
            (Call::Map, Some(errno)) => {
                self.error = Some(errno);
                self.inject(Call::Close)
            }
            (Call::Send, failure) => {
                self.error = failure;
                self.inject(Call::Unmap)
            }
            // Neither can be mended.
            (Call::Unmap, _) => self.inject(Call::Close),
            (Call::Close, _) => self.end(),
        }
    }

    fn inject(&mut self, call: Call) -> Next {
        self.state = State::Entering(call);
        Next::Inject(call)
    }

    fn end(&mut self) -> Next {
        let outcome = match self.error {
            _ if self.called_off => Outcome::CalledOff,
            Some(errno) => Outcome::Failed(errno),
            None => Outcome::Sent,
        };
        self.state = State::Over(outcome);
        Next::Done(outcome)
    }
}

#[cfg(test)]
mod tests;
