//! Sockets that their workers are made to send: each stop of the thread is
//! an event of the one loop.

use crate::supervisor::WorkerId;
use crate::sys::trace::{Extraction, Progress, let_go};

use super::socket::Purpose;
use super::{Caller, Reply, Shell};

/// A thread that is being traced.
pub(super) struct Traced {
    extraction: Extraction,
    worker: WorkerId,
    purpose: Purpose,
}

impl Shell {
    /// Begins to trace the thread that made a call. Returns whether it could.
    pub(super) fn trace(&mut self, caller: Caller<'_>, purpose: Purpose) -> bool {
        let Caller { call, worker, .. } = caller;
        if self.capture.untraceable.remove(&(worker, call.tid)) {
            return false;
        }
        let Some(notifications) = self.workers.notifications(worker) else {
            return false;
        };
        match Extraction::begin(notifications, call) {
            Ok(extraction) => {
                let traced = Traced {
                    extraction,
                    worker,
                    purpose,
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
            Progress::Extracted(socket) => {
                // Where another socket takes its place, the call is made again:
                // a traced one cannot be answered by that.
                if self
                    .pair_of(traced.worker, traced.purpose, &socket)
                    .is_some()
                {
                    self.capture.sharing.insert((traced.worker, tid));
                    self.release(tid, traced);
                    return;
                }
                match self.put_to_use(traced.worker, traced.purpose, socket) {
                    Reply::Errno(errno) => traced.extraction.finish(errno),
                    // The kernel is to answer: the call is made again.
                    Reply::Proceed | Reply::Later => {
                        self.capture.waved_through.insert((traced.worker, tid));
                        self.release(tid, traced);
                    }
                }
            }
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
            purpose,
        } = traced;
        if let Some(extraction) = extraction.cancel() {
            let traced = Traced {
                extraction,
                worker,
                purpose,
            };
            self.capture.traced.insert(tid, traced);
        }
    }

    /// A thread, or a process, is gone, and its number may be another's.
    pub(in crate::shell) fn thread_gone(&mut self, tid: i32) {
        self.capture.traced.remove(&tid);
        self.capture.waved_through.retain(|(_, of)| *of != tid);
        self.capture.untraceable.retain(|(_, of)| *of != tid);
        self.capture.sharing.retain(|(_, of)| *of != tid);
    }
}
