//! Sockets that their workers are made to send: each stop of the thread is
//! an event of the one loop.

use std::os::fd::RawFd;

use crate::supervisor::WorkerId;
use crate::sys::trace::{Extraction, Progress, let_go};

use super::socket::Purpose;
use super::{Caller, Reply, Shell};

/// What a thread is traced for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Its socket, for a call that is answered as soon as that is here.
    Socket(Purpose),
    /// This descriptor, for a call that is made again.
    Brought(RawFd),
}

/// A thread that is being traced.
pub(super) struct Traced {
    extraction: Extraction,
    worker: WorkerId,
    wanted: Wanted,
}

impl Shell {
    /// Begins to trace the thread that made a call. Returns whether it could.
    pub(super) fn trace(&mut self, caller: Caller<'_>, wanted: Wanted) -> bool {
        let Caller { call, worker, .. } = caller;
        if self.capture.untraceable.remove(&(worker, call.tid)) {
            return false;
        }
        let Some(notifications) = self.workers.notifications(worker) else {
            return false;
        };
        let descriptor = match wanted {
            Wanted::Socket(_) => call.descriptor,
            Wanted::Brought(descriptor) => descriptor,
        };
        match Extraction::begin(notifications, call, descriptor) {
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
                log::debug!("cannot trace a worker: {error}");
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
                log::debug!("a worker's socket is not to be had by tracing: {error}");
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
