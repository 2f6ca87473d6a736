//! Getting at workers' sockets and other descriptors. Those that a traced
//! thread is made to send take several stops, each an event of the one loop.

use std::os::fd::{OwnedFd, RawFd};

use crate::supervisor::WorkerId;
use crate::sys::errno::describe;
use crate::sys::notification::Notification;
use crate::sys::remote;
use crate::sys::trace::{Extraction, Progress, let_go};

use super::super::log;
use super::socket::Purpose;
use super::{Caller, Capture, Reply, Shell};

/// What a thread is traced for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Its socket, for a call that is answered as soon as that is here.
    Socket(Purpose),
    /// This descriptor, for a call that is made again.
    Brought(RawFd),
}

/// What becomes of a descriptor that is wanted.
pub(super) enum Bringing {
    Here(OwnedFd),
    /// The thread is being traced for it.
    UnderWay,
    NotToBeHad,
}

/// A thread that is being traced.
pub(super) struct Traced {
    extraction: Extraction,
    worker: WorkerId,
    wanted: Wanted,
}

impl Wanted {
    /// As the thread that made this call numbers it.
    fn descriptor(self, call: &Notification) -> RawFd {
        match self {
            Self::Socket(_) => call.descriptor,
            Self::Brought(descriptor) => descriptor,
        }
    }
}

impl Capture {
    /// A descriptor of a thread's is here, for the call that it makes again.
    fn keep(&mut self, of: (WorkerId, i32), descriptor: RawFd, duplicate: OwnedFd) {
        let mut brought = self.brought.remove(&of).unwrap_or_default();
        brought.insert(descriptor, duplicate);
        self.brought.insert(of, brought);
    }
}

impl Shell {
    /// Gets at a descriptor of the thread that made a call by the best way
    /// that there is.
    pub(super) fn bring(&mut self, caller: Caller<'_>, wanted: Wanted) -> Bringing {
        let Caller { call, thread, .. } = caller;
        if self.capture.routes.may_duplicate() {
            match remote::duplicate(thread.process, wanted.descriptor(call)) {
                Ok(duplicate) => return Bringing::Here(duplicate),
                Err(error) => log::debug!(
                    "cannot duplicate a worker's descriptor: {}",
                    describe(&error)
                ),
            }
        }
        if self.capture.routes.may_trace() && self.trace(caller, wanted) {
            Bringing::UnderWay
        } else {
            Bringing::NotToBeHad
        }
    }

    /// Begins to trace the thread that made a call. Returns whether it could.
    fn trace(&mut self, caller: Caller<'_>, wanted: Wanted) -> bool {
        let Caller { call, worker, .. } = caller;
        if self.capture.untraceable.remove(&(worker, call.tid)) {
            return false;
        }
        let Some(notifications) = self.workers.notifications(worker) else {
            return false;
        };
        match Extraction::begin(notifications, call, wanted.descriptor(call)) {
            Ok(extraction) => {
                let traced = Traced {
                    extraction,
                    worker,
                    wanted,
                };
                self.capture.traced.insert(call.tid, traced);
                true
            }
            Err(error) => {
                log::debug!("cannot trace a worker: {}", describe(&error));
                false
            }
        }
    }

    /// A traced thread has stopped.
    pub(in crate::shell) fn trapped(&mut self, tid: i32, status: i32) {
        let Some(mut traced) = self.capture.traced.remove(&tid) else {
            // It has made another call meanwhile, from a signal's handler say,
            // and must not stand still for ever.
            let_go(tid);
            return;
        };
        match traced.extraction.advance(status) {
            Progress::Pending => {
                self.capture.traced.insert(tid, traced);
            }
            Progress::Extracted(extracted) => match traced.wanted {
                Wanted::Socket(purpose) => {
                    match self.put_to_use(traced.worker, purpose, extracted) {
                        Reply::Errno(errno) => traced.extraction.finish(errno),
                        // The kernel is to answer: the call is made again.
                        Reply::Proceed | Reply::Later => {
                            self.capture.waved_through.insert((traced.worker, tid));
                            self.release(tid, traced);
                        }
                    }
                }
                Wanted::Brought(descriptor) => {
                    self.capture
                        .keep((traced.worker, tid), descriptor, extracted);
                    self.release(tid, traced);
                }
            },
            Progress::Failed(error) => {
                log::debug!(
                    "a worker's socket is not to be had by tracing: {}",
                    describe(&error)
                );
                self.capture.untraceable.insert((traced.worker, tid));
                self.release(tid, traced);
            }
            Progress::Released => {}
        }
    }

    fn release(&mut self, tid: i32, traced: Traced) {
        let Traced {
            extraction,
            worker,
            wanted,
        } = traced;
        if let Some(extraction) = extraction.cancel() {
            let traced = Traced {
                extraction,
                worker,
                wanted,
            };
            self.capture.traced.insert(tid, traced);
        }
    }

    /// A thread, or a process, is gone, and its number may be another's.
    pub(in crate::shell) fn thread_gone(&mut self, tid: i32) {
        self.capture.traced.remove(&tid);
        self.capture.brought.retain(|(_, of), _| *of != tid);
        self.capture.waved_through.retain(|(_, of)| *of != tid);
        self.capture.untraceable.retain(|(_, of)| *of != tid);
    }
}
