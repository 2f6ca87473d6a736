//! The signals that have come to clinit, with what they came with
//! (`signalfd(2)`, `sigtimedwait(2)`).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use super::super::clock;
use super::{SET_SIZE, SignalSet};

/// One signal that arrived, with where it came from (`signalfd(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which signal.
    pub number: i32,
    /// Its `si_code` (`sigaction(2)`).
    pub code: i32,
    /// The sender; 0 where that is in another pid namespace, or the kernel.
    pub pid: u32,
    /// What `sigqueue(3)`, a timer or a message queue sent along.
    pub value: Option<u64>,
    /// The descriptor that [`ARRIVAL`] tells of.
    descriptor: i32,
}

/// The signal that tells of an arrival at a listener, where
/// [`super::listener::Listener::announce`] has asked for it: the kernel queues
/// one for each, as it does for real-time signals alone. One that a process
/// sent has another `si_code`.
pub(in super::super) const ARRIVAL: i32 = 64;

/// The first and the last `si_code` of a signal that a descriptor raised
/// (`sigaction(2)`).
const POLL_IN: i32 = 1;
const POLL_HUP: i32 = 6;

impl Received {
    /// Whether the kernel raised it (a terminal, a fault, a child's exit)
    /// rather than a process that sent it.
    #[must_use]
    pub fn from_kernel(&self) -> bool {
        self.code > libc::SI_USER
    }

    /// The listener's descriptor, where this tells of an arrival.
    #[must_use]
    pub fn arrival(&self) -> Option<i32> {
        (self.number == ARRIVAL && self.code == POLL_IN).then_some(self.descriptor)
    }

    /// Whether a descriptor raised it and not an arrival. Nobody but a worker
    /// asks for that: a listener that is announced to clinit is shared, and
    /// `F_SETSIG` makes it send what the worker itself might not.
    #[must_use]
    pub fn is_forged(&self) -> bool {
        self.number != libc::SIGCHLD
            && (POLL_IN..=POLL_HUP).contains(&self.code)
            && self.arrival().is_none()
    }
}

/// What one look at a [`SignalQueue`] brought.
pub struct Batch {
    buffer: [libc::signalfd_siginfo; BATCH],
    count: usize,
}

/// At most this many signals come of one look.
const BATCH: usize = 16;

impl Batch {
    /// Them, in their order.
    pub fn signals(&self) -> impl Iterator<Item = Received> + '_ {
        self.buffer.iter().take(self.count).map(|info| Received {
            number: i32::try_from(info.ssi_signo).unwrap_or(0),
            code: info.ssi_code,
            pid: info.ssi_pid,
            descriptor: info.ssi_fd,
            value: has_value(info.ssi_code).then_some(info.ssi_ptr),
        })
    }

    /// Whether there may be more to read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count == BATCH
    }
}

/// Every blocked signal, in the order of its number, with its siginfo.
///
/// The signals have to be blocked already ([`super::start::prepare`]).
#[derive(Debug)]
pub struct SignalQueue(OwnedFd);

impl SignalQueue {
    /// Opens a queue of all signals; close-on-exec, non-blocking.
    ///
    /// # Errors
    ///
    /// Those of `signalfd(2)`: no descriptor or no memory left.
    pub fn open() -> io::Result<Self> {
        let set = SignalSet::ALL;
        // SAFETY: the set is readable and of the size given; -1 asks for a
        // new descriptor.
        let result = unsafe {
            libc::syscall(
                libc::SYS_signalfd4,
                -1,
                &raw const set.0,
                SET_SIZE,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            )
        };
        let number = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EMFILE)?;
        // SAFETY: the kernel just made this descriptor, and nothing else
        // knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Has real-time signals be read, or else wait where they are, in the
    /// kernel, which refuses more of them once there is no room.
    pub fn read_real_time(&self, wanted: bool) {
        let set = if wanted {
            SignalSet::ALL
        } else {
            SignalSet::STANDARD
        };
        let own = self.0.as_fd().as_raw_fd();
        // It fails for a descriptor that is no signalfd alone.
        // SAFETY: the set is readable and of the size given.
        unsafe { libc::syscall(libc::SYS_signalfd4, own, &raw const set.0, SET_SIZE, 0) };
    }

    /// Waits for the next signal of all, at most for `timeout_ms`; for ever
    /// with none. Where nothing else is waited for this is half of the system
    /// calls: `sigtimedwait(2)` takes from the same queue as the descriptor.
    pub fn wait(&self, timeout_ms: Option<u64>) -> Option<Received> {
        let timeout = timeout_ms.map(clock::timespec);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let set = SignalSet::ALL;
        // SAFETY: siginfo_t is plain data, and all zeros are a value of it.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: the set is readable and of the size given, the info is
        // writable, and the timeout is null or lives through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &raw const set.0,
                &raw mut info,
                timeout,
                SET_SIZE,
            )
        };
        // None in time, or clinit was stopped and continued meanwhile.
        Errno::result(result).ok()?;
        // SAFETY: the kernel has filled it in, with zeros where it has no pid;
        // a timer's number in its place is not taken for one.
        let pid = unsafe { info.si_pid() };
        let is_timer = info.si_code == libc::SI_TIMER;
        // SAFETY: as above; where there is no value it is not looked at.
        let value = unsafe { info.si_value() };
        Some(Received {
            number: info.si_signo,
            code: info.si_code,
            pid: if is_timer {
                0
            } else {
                u32::try_from(pid).unwrap_or(0)
            },
            descriptor: -1,
            value: has_value(info.si_code).then_some(value.sival_ptr.addr() as u64),
        })
    }

    /// The next signals, as many as fit. Where there is room left, no other
    /// was pending.
    ///
    /// # Errors
    ///
    /// Those of `read(2)`.
    pub fn read(&self) -> io::Result<Batch> {
        // SAFETY: signalfd_siginfo is plain data, and all zeros are a value of
        // it.
        let mut batch: Batch = unsafe { mem::zeroed() };
        let room = size_of_val(&batch.buffer);
        let buffer = batch.buffer.as_mut_ptr();
        // SAFETY: the buffer is writable for the length given, and the kernel
        // writes nothing but whole signalfd_siginfos.
        let result = unsafe { libc::read(self.0.as_raw_fd(), buffer.cast(), room) };
        let length = match Errno::result(result) {
            Ok(length) => usize::try_from(length).unwrap_or(0),
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        batch.count = length / size_of::<libc::signalfd_siginfo>();
        Ok(batch)
    }
}

/// Whether a signal of this `si_code` carries a value: all do that one process
/// may give what it sends another, but that of `tgkill(2)`. Passed on, it is
/// `SI_QUEUE` again.
fn has_value(code: i32) -> bool {
    code < libc::SI_USER && code != libc::SI_TKILL
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::forked::in_child;
    use super::super::super::kill::send_with_code;
    use super::super::send;
    use super::*;

    /// What `f` answers in a child of its own, whose pid and signals it has.
    fn with_queue(f: impl Fn(i32, &SignalQueue) -> bool) -> bool {
        in_child(|| {
            SignalSet::ALL.block_exactly();
            let queue = SignalQueue::open();
            let pid = i32::try_from(std::process::id());
            pid.is_ok_and(|pid| queue.is_ok_and(|queue| f(pid, &queue)))
        })
    }

    #[test]
    fn signals_come_in_order_with_values_and_senders() {
        assert!(with_queue(|pid, queue| {
            let own = pid.unsigned_abs();
            let value = 0xdead_beef_0000_0001;
            let sent = send(pid, 40, Some(value)).is_ok()
                && send(pid, 40, Some(value + 1)).is_ok()
                && send(pid, libc::SIGTERM, None).is_ok()
                && send(pid, libc::SIGABRT, None).is_ok();
            let expected = [
                (libc::SIGABRT, libc::SI_USER, None),
                (libc::SIGTERM, libc::SI_USER, None),
                (40, libc::SI_QUEUE, Some(value)),
                (40, libc::SI_QUEUE, Some(value + 1)),
            ];
            let expected = expected.map(|(number, code, value)| Received {
                number,
                code,
                pid: own,
                value,
                descriptor: 0,
            });
            let Ok(batch) = queue.read() else {
                return false;
            };
            let as_expected = batch.signals().eq(expected)
                && batch.signals().all(|got| got.arrival().is_none())
                && !batch.is_full();
            sent && as_expected
                && queue
                    .read()
                    .is_ok_and(|rest| rest.signals().next().is_none())
        }));
    }

    #[test]
    fn waiting_brings_what_reading_would_and_ends_in_time() {
        assert!(with_queue(|pid, queue| {
            let own = pid.unsigned_abs();
            let value = 0xdead_beef_0000_0001;
            let sent = send(pid, 40, Some(value)).is_ok() && send(pid, libc::SIGTERM, None).is_ok();
            let expected = [
                (libc::SIGTERM, libc::SI_USER, None),
                (40, libc::SI_QUEUE, Some(value)),
            ];
            let as_expected = expected.into_iter().all(|(number, code, value)| {
                queue.wait(None).is_some_and(|got| {
                    let is_from_here = got.pid == own && got.arrival().is_none();
                    (got.number, got.code, got.value) == (number, code, value) && is_from_here
                })
            });
            sent && as_expected && queue.wait(Some(1)).is_none() && queue.wait(Some(0)).is_none()
        }));
    }

    #[test]
    fn real_time_signals_may_wait_while_others_are_read() {
        assert!(with_queue(|pid, queue| {
            let reads = |wanted: &[i32]| {
                queue.read().is_ok_and(|batch| {
                    batch
                        .signals()
                        .map(|got| got.number)
                        .eq(wanted.iter().copied())
                })
            };
            queue.read_real_time(false);
            let sent = [64, 32, 31, 33].map(|number| send(pid, number, Some(1)).is_ok());
            let standard = reads(&[31]) && reads(&[]);
            queue.read_real_time(true);
            sent == [true; 4] && standard && reads(&[32, 33, 64]) && reads(&[])
        }));
    }

    #[test]
    fn every_code_that_comes_with_a_value_keeps_it() {
        assert!(with_queue(|pid, queue| {
            [libc::SI_QUEUE, libc::SI_MESGQ, libc::SI_ASYNCIO, -60]
                .into_iter()
                .all(|code| {
                    send_with_code(pid, 40, code, 7).is_ok()
                        && queue.read().is_ok_and(|batch| {
                            let mut signals = batch.signals();
                            let is_kept = |got: Received| {
                                got.value == Some(7) && got.code == code && !got.from_kernel()
                            };
                            signals.next().is_some_and(is_kept) && signals.next().is_none()
                        })
                })
        }));
        assert!(!has_value(libc::SI_USER) && !has_value(libc::SI_TKILL));
        assert!(!has_value(libc::SI_KERNEL));
    }

    #[test]
    fn a_descriptor_tells_of_arrivals_alone() {
        let with = |number, code| Received {
            number,
            code,
            pid: 0,
            value: None,
            descriptor: 5,
        };
        assert_eq!(with(ARRIVAL, POLL_IN).arrival(), Some(5));
        assert!(!with(ARRIVAL, POLL_IN).is_forged());
        for (number, code) in [
            (ARRIVAL, 2),
            (libc::SIGTERM, POLL_IN),
            (libc::SIGHUP, POLL_HUP),
        ] {
            assert_eq!(with(number, code).arrival(), None);
            assert!(with(number, code).is_forged());
        }
        for (number, code) in [
            (ARRIVAL, libc::SI_QUEUE),
            (libc::SIGCHLD, libc::CLD_EXITED),
            (libc::SIGTERM, libc::SI_USER),
            (libc::SIGHUP, libc::SI_KERNEL),
        ] {
            assert_eq!(with(number, code).arrival(), None);
            assert!(!with(number, code).is_forged());
        }
    }

    #[test]
    fn what_a_terminal_or_a_child_raises_is_the_kernels() {
        let with = |code| Received {
            number: libc::SIGTTIN,
            code,
            pid: 0,
            value: None,
            descriptor: 0,
        };
        assert!(with(libc::SI_KERNEL).from_kernel());
        assert!(with(libc::CLD_EXITED).from_kernel());
        assert!(!with(libc::SI_USER).from_kernel());
        assert!(!with(libc::SI_QUEUE).from_kernel());
        assert!(!with(libc::SI_TKILL).from_kernel());
    }
}
