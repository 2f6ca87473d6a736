//! Signals: sets of them, what is pending, and sending.
//!
//! The C libraries keep some real-time signals to themselves and strip them
//! from every mask that passes through them (glibc 32 and 33, musl 32 to 34).
//! A child is owed exactly the mask that clinit was started with, so masks go
//! to the kernel directly here.

mod queue;

use std::ptr;

pub use super::kill::{
    group_exists, is_full, kill_everything, queue_group, send, send_group, stop_self,
};
pub(super) use queue::ARRIVAL;
pub use queue::{Batch, Received, SignalQueue};

/// The size of the kernel's `sigset_t`, which is not the C library's.
const SET_SIZE: usize = size_of::<u64>();

/// A set of signals, as the kernel has it: bit n-1 is signal n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    pub(super) const ALL: Self = Self(u64::MAX);
    /// Signals 1 to 31, which merge while they wait; the others queue.
    const STANDARD: Self = Self((1 << 31) - 1);

    /// These signals.
    #[cfg(test)]
    pub(super) fn for_test(numbers: &[i32]) -> Self {
        Self(numbers.iter().fold(0, |set, &number| set | bit(number)))
    }

    /// Whether signal `number` is in it.
    #[must_use]
    pub fn contains(self, number: i32) -> bool {
        self.0 & bit(number) != 0
    }

    /// These but this one.
    pub(super) fn without(self, number: i32) -> Self {
        Self(self.0 & !bit(number))
    }

    /// The blocked signals that wait to be read (`sigpending(2)`).
    pub(super) fn pending() -> Self {
        let mut set = Self(0);
        // SAFETY: the kernel only writes the set, which is of the size given.
        unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set.0, SET_SIZE) };
        set
    }

    /// The signals that the calling thread blocks.
    pub(super) fn blocked() -> Self {
        let mut set = Self(0);
        // SAFETY: without a new set the kernel only writes the old one, to
        // `set`, which is of the size given.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                ptr::null::<u64>(),
                &raw mut set.0,
                SET_SIZE,
            )
        };
        set
    }

    /// Blocks these signals and no others in the calling thread.
    /// Async-signal-safe. SIGKILL and SIGSTOP cannot be blocked and are left
    /// out by the kernel.
    pub(super) fn block_exactly(self) {
        // SAFETY: the kernel only reads the new set, which is of the size
        // given. clinit has no signal handlers that could run early or late.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const self.0,
                ptr::null_mut::<u64>(),
                SET_SIZE,
            )
        };
    }
}

fn bit(number: i32) -> u64 {
    match u32::try_from(number) {
        Ok(number @ 1..=64) => 1 << (number - 1),
        _ => 0,
    }
}

/// `struct sigaction` as the kernel has it on x86-64 and aarch64.
#[repr(C)]
struct KernelAction {
    handler: libc::sighandler_t,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

fn disposition(number: i32) -> libc::sighandler_t {
    let mut action = KernelAction {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: without a new action the kernel only writes the old one, to
    // `action`, whose layout is the kernel's.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            ptr::null::<KernelAction>(),
            &raw mut action,
            SET_SIZE,
        )
    };
    action.handler
}

/// What becomes of an exited child's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildStatuses {
    /// It waits to be reaped.
    Kept,
    /// The kernel throws it away: SIGCHLD is ignored.
    Lost,
}

impl ChildStatuses {
    /// What becomes of them now.
    pub(super) fn now() -> Self {
        if disposition(libc::SIGCHLD) == libc::SIG_IGN {
            Self::Lost
        } else {
            Self::Kept
        }
    }
}

/// Sets SIGCHLD's disposition. Async-signal-safe.
pub(super) fn set_child_statuses(statuses: ChildStatuses) {
    let handler = match statuses {
        ChildStatuses::Kept => libc::SIG_DFL,
        ChildStatuses::Lost => libc::SIG_IGN,
    };
    // SAFETY: neither disposition runs code of ours.
    unsafe { libc::signal(libc::SIGCHLD, handler) };
}

#[cfg(test)]
mod tests {
    use super::super::forked::{ending_of, in_child};
    use super::super::process::RawExit;
    use super::*;

    #[test]
    fn a_mask_is_kept_to_the_bit() {
        assert!(in_child(|| {
            // With the signals that the C libraries keep to themselves.
            let mask = SignalSet(1 << 9 | 0b111 << 31 | 1 << 63);
            mask.block_exactly();
            SignalSet::blocked() == mask
        }));
    }

    #[test]
    fn a_set_has_signals_1_to_64() {
        assert!(SignalSet::ALL.contains(1) && SignalSet::ALL.contains(64));
        for number in [i32::MIN, -1, 0, 65, i32::MAX] {
            assert!(!SignalSet::ALL.contains(number));
        }
    }

    #[test]
    fn an_ignored_child_signal_is_seen_and_undone() {
        assert!(in_child(|| {
            set_child_statuses(ChildStatuses::Lost);
            let lost = ChildStatuses::now() == ChildStatuses::Lost;
            set_child_statuses(ChildStatuses::Kept);
            lost && ChildStatuses::now() == ChildStatuses::Kept
        }));
    }

    /// The kernel takes a fault's own signal out of the mask and gives it its
    /// default action, so no signalfd sees it.
    #[test]
    fn a_fault_kills_although_its_signal_is_blocked() {
        for (number, fault) in [
            (libc::SIGSEGV, read_nothing as fn()),
            (libc::SIGTRAP, trap as fn()),
        ] {
            let ended = ending_of(|| {
                SignalSet::ALL.block_exactly();
                let _queue = SignalQueue::open();
                fault();
                0
            });
            assert!(
                matches!(ended, Ok(RawExit::Signal { number: by, .. }) if by == number),
                "{ended:?}"
            );
        }
    }

    fn read_nothing() {
        // SAFETY: there is none: this is to fault, in a child that ends by it.
        unsafe { ptr::null::<u8>().read_volatile() };
    }

    fn trap() {
        // SAFETY: it touches nothing, and ends the child that runs it.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            std::arch::asm!("int3");
            #[cfg(target_arch = "aarch64")]
            std::arch::asm!("brk #0");
        };
    }
}
