//! Running nothing, as catatonit does for a pod: orphans are reaped until it is
//! told to end.

use crate::supervisor::Signal;
use crate::sys::errno::describe;
use crate::sys::poll::Poller;
use crate::sys::process::reap;
use crate::sys::signals::SignalQueue;

use super::log;
use super::start::CANNOT_START;

/// Reaps until INT or TERM; returns the exit code. Signals are blocked already.
pub(super) fn pause() -> u8 {
    let opened = SignalQueue::open().and_then(|signals| {
        let poller = Poller::new()?;
        poller.add(&signals, 0)?;
        Ok((signals, poller))
    });
    let (signals, poller) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            log::say(&describe(&error));
            return CANNOT_START;
        }
    };
    loop {
        while let Ok(Some(_)) = reap() {}
        let Ok(batch) = signals.read() else {
            return CANNOT_START;
        };
        let ends = |number| [Signal::INT, Signal::TERM].contains(&number);
        let mut got = batch
            .signals()
            .filter_map(|it| Signal::from_number(it.number));
        if got.any(ends) {
            return 0;
        }
        if !batch.is_full() && poller.wait(None).is_err() {
            return CANNOT_START;
        }
    }
}
