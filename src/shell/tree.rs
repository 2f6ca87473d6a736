//! The processes below clinit that are no workers.

use crate::supervisor::Signal;
use crate::sys::errno::describe;
use crate::sys::proc;
use crate::sys::signals::{kill_everything, send};

use super::log;

/// Sends a signal to every process below clinit, whatever its session.
///
/// As process 1 that is everything; else it is every descendant that /proc
/// shows, and for SIGKILL only the direct ones: a child that is not reaped yet
/// keeps its pid, while a deeper one's could be another's by now. Those below
/// become direct as they lose their parents.
pub(super) fn signal(signal: Signal, is_pid1: bool) {
    if is_pid1 {
        if let Err(error) = kill_everything(signal.number()) {
            log::debug!("cannot send {signal} to everything: {}", describe(&error));
        }
        return;
    }
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let targets = if signal == Signal::KILL {
        proc::children_of(own)
    } else {
        proc::descendants(own)
    };
    for pid in targets {
        if let Err(error) = send(pid, signal.number(), None) {
            log::debug!(pid; "cannot send {signal}: {}", describe(&error));
        }
    }
}
