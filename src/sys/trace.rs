//! Getting at a worker's socket where `pidfd_getfd(2)` is not allowed: the
//! thread that waits in `bind` or `listen` is made to send it (`ptrace(2)`).
//!
//! Nothing here waits for the worker. The thread's stops come from
//! [`reap`](super::process::reap), as [`Change::Trapped`], and each is one
//! step: which one, [`steps`] decides.
//!
//! The thread's own call is answered with `ERESTARTNOINTR`: so if all this
//! comes to nothing, even by the end of clinit, the kernel makes it again, and
//! no worker ever learns of it.
//!
//! [`Change::Trapped`]: super::process::Change::Trapped

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod ptrace;
mod steps;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

#[cfg(target_arch = "aarch64")]
use aarch64 as machine;
#[cfg(target_arch = "x86_64")]
use x86_64 as machine;

use super::notification::{Notification, Notifications};
use super::process::report_channel;
use super::{remote, rights};
use ptrace::Registers;
use steps::{Call, Next, Outcome, Steps, Stop};

/// The kernel's word for a call that is to be made again, whatever signals
/// there are; it never leaves the kernel.
const ERESTARTNOINTR: i32 = 513;

/// All signals: the thread is not to run a handler in the middle of it.
const ALL_SIGNALS: u64 = u64::MAX;

/// How much memory is mapped for the message.
const PAGE: u64 = 4096;

/// A thread's call, and where it made it.
#[derive(Clone, Copy, Debug)]
struct Site {
    /// Right behind the instruction.
    instruction_pointer: u64,
    number: u64,
    arguments: [u64; 3],
}

/// What a thread had when it stopped, and is to have back.
#[derive(Clone, Copy)]
struct Original {
    registers: Registers,
    signal_mask: u64,
}

/// What came of a thread's stop.
#[derive(Debug)]
pub enum Progress {
    /// There are more stops to come.
    Pending,
    /// The descriptor, close-on-exec. The thread is stopped until
    /// [`Extraction::finish`] or [`Extraction::cancel`].
    Extracted(OwnedFd),
    /// It is not to be had. The thread is stopped, or gone, until
    /// [`Extraction::finish`] or [`Extraction::cancel`].
    Failed(io::Error),
    /// It was cancelled, and the thread goes on.
    Released,
}

/// One thread's socket, or other descriptor, on its way to clinit.
///
/// Dropped while the thread is stopped, it lets it make its call again. It
/// must not be dropped while the thread is under way between two stops: that
/// one then has registers that are not its own.
#[must_use = "its thread stands still until it is let go"]
pub struct Extraction {
    tid: i32,
    /// As the thread numbers it.
    descriptor: RawFd,
    /// The socket's, where it can be known; nothing else has one of its own.
    inode: Option<u64>,
    site: Site,
    /// The end of the channel that is clinit's.
    socket: OwnedFd,
    /// The thread's end, as it numbers that.
    theirs: i32,
    steps: Steps,
    /// None until it has stopped where it was expected.
    original: Option<Original>,
    released: bool,
}

impl Extraction {
    /// Starts it, for this descriptor of the thread's: the thread stops soon.
    /// Its call is answered by that, so `notification` is used up, except where
    /// this fails.
    ///
    /// To be called by the thread that makes all further calls too, and
    /// reaps.
    ///
    /// # Errors
    ///
    /// `EPERM` for a process that may not be traced, or is by another;
    /// `ESRCH` for one that is gone; those of `socketpair(2)`. Nothing has
    /// happened then.
    pub fn begin(
        listener: &Notifications,
        notification: &Notification,
        descriptor: RawFd,
    ) -> io::Result<Self> {
        let Notification { id, tid, .. } = *notification;
        let inode = remote::inode(tid, descriptor);
        let (socket, theirs) = report_channel()?;
        ptrace::seize(tid)?;
        // From here on it can only be let go at a stop.
        let theirs = listener.add(id, theirs.as_fd(), true);
        let error = theirs.as_ref().err().map(errno_of);
        let extraction = Self {
            tid,
            descriptor,
            inode,
            site: Site {
                instruction_pointer: notification.instruction_pointer,
                number: u64::from(notification.number.unsigned_abs()),
                arguments: notification.arguments,
            },
            socket,
            theirs: theirs.unwrap_or(-1),
            steps: Steps::new(error),
            original: None,
            released: false,
        };
        // It fails for a thread that is dying, whose end will be reported.
        let _ = ptrace::interrupt(tid);
        // Before Linux 5.19 that ends the call by itself, with the same
        // result: then there is nobody to answer. Whatever goes wrong, the
        // thread stops, and is then seen to be elsewhere.
        let _ = listener.answer(id, ERESTARTNOINTR);
        Ok(extraction)
    }

    /// The thread. Its stops, and its end, are reported by this number.
    #[must_use]
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// The thread has stopped, with this status of
    /// [`Change::Trapped`](super::process::Change::Trapped).
    ///
    /// A thread may be killed at any time. Its end is reported like any other,
    /// and the extraction is then to be dropped.
    pub fn advance(&mut self, status: i32) -> Progress {
        let mut next = self.steps.stopped(Stop::from_status(status));
        loop {
            let done = match next {
                Next::Resume(signal) => ptrace::resume(self.tid, signal),
                Next::Inject(call) => self.inject(call),
                Next::Inspect => {
                    let found = self.inspect().map_err(|errno| errno as i32);
                    next = self.steps.inspected(found);
                    continue;
                }
                Next::Read => match ptrace::registers(self.tid) {
                    Ok(registers) => {
                        next = self.steps.returned(machine::result(&registers));
                        continue;
                    }
                    Err(errno) => Err(errno),
                },
                Next::Done(outcome) => return self.done(outcome),
            };
            return match done {
                Ok(()) => Progress::Pending,
                Err(errno) => Progress::Failed(errno.into()),
            };
        }
    }

    fn done(&mut self, outcome: Outcome) -> Progress {
        match outcome {
            Outcome::CalledOff => {
                self.release(None);
                Progress::Released
            }
            Outcome::Failed(errno) => Progress::Failed(io::Error::from_raw_os_error(errno)),
            Outcome::Sent => match self.receive() {
                Ok(descriptor) => Progress::Extracted(descriptor),
                Err(error) => Progress::Failed(error),
            },
        }
    }

    /// Whether the thread is where it was expected; if so, it gets no signals
    /// from here on.
    fn inspect(&mut self) -> Result<(), Errno> {
        let registers = ptrace::registers(self.tid)?;
        let before = self
            .site
            .instruction_pointer
            .wrapping_sub(machine::INSTRUCTION_LENGTH);
        let instruction = ptrace::read_word(self.tid, before)?;
        let bits = machine::INSTRUCTION_LENGTH * 8;
        if !machine::is_behind(&registers, &self.site)
            || instruction & ((1 << bits) - 1) != machine::INSTRUCTION
        {
            // A signal's handler came first: it is elsewhere.
            return Err(Errno::EINTR);
        }
        let signal_mask = ptrace::signal_mask(self.tid)?;
        ptrace::set_signal_mask(self.tid, ALL_SIGNALS)?;
        self.original = Some(Original {
            registers,
            signal_mask,
        });
        Ok(())
    }

    /// Sets the thread up for a call, and lets it go on.
    fn inject(&self, call: Call) -> Result<(), Errno> {
        let original = self.original.as_ref().ok_or(Errno::ESRCH)?;
        let page = self.steps.page();
        let (number, arguments) = match call {
            Call::Map => {
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let nowhere = argument(-1);
                let arguments = [0, PAGE, argument(protection), argument(flags), nowhere, 0];
                (libc::SYS_mmap, arguments)
            }
            Call::Send => {
                self.write_message(page)?;
                let flags = argument(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
                let arguments = [argument(self.theirs), page, flags, 0, 0, 0];
                (libc::SYS_sendmsg, arguments)
            }
            Call::Unmap => (libc::SYS_munmap, [page, PAGE, 0, 0, 0, 0]),
            Call::Close => (libc::SYS_close, [argument(self.theirs), 0, 0, 0, 0, 0]),
        };
        let registers = machine::calling(
            &original.registers,
            &self.site,
            number.cast_unsigned(),
            arguments,
        );
        ptrace::set_registers(self.tid, &registers)?;
        ptrace::resume(self.tid, 0)
    }

    fn write_message(&self, page: u64) -> Result<(), Errno> {
        let words = message(page, self.descriptor);
        for (address, word) in (page..).step_by(8).zip(words) {
            // A fresh page is all zeros.
            if word != 0 {
                ptrace::write_word(self.tid, address, word)?;
            }
        }
        Ok(())
    }

    /// What the thread has sent. Its fellows could have sent something else.
    fn receive(&self) -> io::Result<OwnedFd> {
        let message = rights::receive(&self.socket, &mut [0])?;
        let descriptor = message.descriptor.ok_or(if message.lost {
            Errno::EMFILE
        } else {
            Errno::EBADMSG
        })?;
        let own = std::process::id().cast_signed();
        let inode = remote::inode(own, descriptor.as_raw_fd());
        if self.inode.is_some() && inode != self.inode {
            return Err(Errno::EBADMSG.into());
        }
        Ok(descriptor)
    }

    /// Lets the thread go on as if its call had ended so: with 0,
    /// successfully, else with that error number. After a failure to find it
    /// in its call it just goes on.
    pub fn finish(mut self, errno: i32) {
        self.release(Some(errno));
    }

    /// Lets the thread make its call again, under a new notification. Where it
    /// is under way, it has to stop once more: then this gives itself back,
    /// and is to be [advanced](Self::advance) until it is released.
    #[must_use = "its thread may still be under way"]
    pub fn cancel(mut self) -> Option<Self> {
        if self.steps.is_over() {
            self.release(None);
            None
        } else {
            self.steps.call_off();
            Some(self)
        }
    }

    /// Gives the thread back what is its own. It may be gone, or be killed at
    /// any time, so all of this may fail.
    fn release(&mut self, result: Option<i32>) {
        if self.released {
            return;
        }
        self.released = true;
        if let Some(Original {
            registers,
            signal_mask,
        }) = self.original
        {
            let registers = match result {
                Some(errno) => {
                    let result = i64::from(errno.checked_neg().unwrap_or(0));
                    machine::returning(&registers, &self.site, result)
                }
                None => machine::repeating(&registers, &self.site),
            };
            let _ = ptrace::set_registers(self.tid, &registers);
            let _ = ptrace::set_signal_mask(self.tid, signal_mask);
        }
        let _ = ptrace::detach(self.tid);
    }
}

impl Drop for Extraction {
    fn drop(&mut self) {
        if self.steps.is_over() {
            self.release(None);
        }
    }
}

impl std::fmt::Debug for Extraction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extraction")
            .field("tid", &self.tid)
            .field("descriptor", &self.descriptor)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// Whether this process may be traced. It then is, by the calling thread, and
/// only good for being killed.
pub(super) fn can_trace(pid: i32) -> bool {
    ptrace::seize(pid).is_ok()
}

/// Lets a thread go on that has stopped and is not being extracted from any
/// more. It may be gone.
pub fn let_go(tid: i32) {
    let _ = ptrace::detach(tid);
}

fn argument(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// A `struct msghdr` at this address, with all that it points to behind it: one
/// byte of data, and the descriptor.
fn message(address: u64, descriptor: i32) -> [u64; 13] {
    const IOVEC: u64 = 7 * 8;
    const CONTROL: u64 = 9 * 8;
    const DATA: u64 = 12 * 8;
    let low = |value: i32| u64::from(value.cast_unsigned());
    let length = u64::from(rights::CONTROL_LENGTH);
    [
        // No address: it has a length of 0.
        0,
        0,
        address + IOVEC,
        1,
        address + CONTROL,
        length,
        0,
        // The data.
        address + DATA,
        1,
        // The control message.
        length,
        low(libc::SOL_SOCKET) | low(libc::SCM_RIGHTS) << 32,
        low(descriptor),
        0,
    ]
}

#[cfg(test)]
mod tests;
