//! Taking part in the workers' own `bind` and `listen`.
//!
//! `port` decides; this reads what a call means, gets at the worker's socket
//! and answers. It never waits for a worker, and whatever it does not
//! understand the kernel does as without clinit.

mod extraction;
mod machinery;
mod replica;
mod socket;
mod stream;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use crate::config::{self, Route};
use crate::port::{LaneId, address};
use crate::supervisor::policy::Ready;
use crate::supervisor::{Event, Signal, WorkerId};
use crate::sys::errno::describe;
use crate::sys::notification::{Call, Notification, Received};
use crate::sys::remote::{self, Protocol, Thread};
use crate::sys::{binding, interest, proc};
use crate::table::{Set, Table};

use super::log;
use super::workers::Worker;
use super::{Shell, now};
use extraction::Traced;
use machinery::Routes;
pub(super) use machinery::{Availability, available, warn_of_one_worker};
use socket::Purpose;
use stream::Brought;

/// How many calls of one worker are answered before others' events are looked
/// at.
const MOST_A_TURN: u32 = 16;

/// How many datagram sockets of one worker are known. Who binds one for each
/// question that it asks, as a resolver does, does so without clinit.
const MOST_DATAGRAMS: usize = 256;

/// Taking part in calls.
pub(super) struct Capture {
    ports: config::Capture,
    routes: Routes,
    /// Threads that are being traced for their socket.
    traced: Table<i32, Traced>,
    /// What threads have been traced for, until they make their call again.
    brought: Table<(WorkerId, i32), Brought>,
    /// Threads whose call was made again for the kernel to answer.
    waved_through: Set<(WorkerId, i32)>,
    /// Threads that could not be traced.
    untraceable: Set<(WorkerId, i32)>,
    /// Lanes of which it is not known whether the kernel has bound them.
    unproven: Set<LaneId>,
    /// Datagram sockets, by who bound them where.
    datagrams: Table<(SocketAddr, WorkerId), u64>,
    /// Whether clinit made a listener of its own, which workers share
    /// whatever becomes of those that they bind.
    pub(super) has_listeners: bool,
    told_of_replicas: bool,
    told_of_one_worker: bool,
    /// Who has its port alone, since ports cannot be shared.
    alone: Option<WorkerId>,
}

impl Capture {
    pub(super) fn new(ports: config::Capture, route: Option<Route>, has_listeners: bool) -> Self {
        Self {
            ports,
            routes: Routes::from(route),
            traced: Table::new(),
            brought: Table::new(),
            waved_through: Set::new(),
            untraceable: Set::new(),
            unproven: Set::new(),
            datagrams: Table::new(),
            has_listeners,
            told_of_replicas: false,
            told_of_one_worker: false,
            alone: None,
        }
    }

    /// By which way clinit gets at workers' sockets, if it does.
    pub(super) fn route(&self) -> Option<Route> {
        self.routes.best()
    }

    /// A worker is gone, and with it its datagram sockets. A thread that it has
    /// left behind may be under way to its next stop, and is let go there.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.datagrams.retain(|(_, by), _| *by != worker);
        self.brought.retain(|(of, _), _| *of != worker);
        self.waved_through.retain(|(of, _)| *of != worker);
        self.untraceable.retain(|(of, _)| *of != worker);
    }

    fn covers(&self, port: u16) -> bool {
        match &self.ports {
            config::Capture::Auto => true,
            config::Capture::Off => false,
            config::Capture::Ports(ports) => ports.contains(&port),
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// The kernel answers it, as without clinit.
    Proceed,
    /// This is the answer: 0 or an error number.
    Errno(i32),
    /// It is answered later.
    Later,
}

/// A call and who made it.
#[derive(Clone, Copy)]
struct Caller<'a> {
    worker: WorkerId,
    call: &'a Notification,
    thread: Thread,
}

impl Caller<'_> {
    fn inode(&self) -> Option<u64> {
        remote::inode(self.call.tid, self.call.descriptor)
    }

    /// The epoll descriptors of its process that wait for its socket: of
    /// another one in its place they would be told nothing.
    fn waiting(&self) -> Vec<RawFd> {
        let Self { call, thread, .. } = self;
        let of_inode = |inode| interest::waiting(thread.process, call.descriptor, inode);
        self.inode().map_or_else(Vec::new, of_inode)
    }
}

impl Shell {
    /// Answers the calls of a worker that are waiting, but not without end.
    pub(super) fn answer_calls(&mut self, id: WorkerId) {
        for _ in 0..MOST_A_TURN {
            let Some(notifications) = self.workers.notifications(id) else {
                return;
            };
            match notifications.receive() {
                Ok(Received::Nothing) => return,
                Ok(Received::Gone) => {
                    self.stop_answering(id);
                    return;
                }
                Ok(Received::Call(call)) => {
                    let reply = self.reply_to(id, &call);
                    self.send_reply(id, &call, reply);
                }
                Err(error) => {
                    // Unanswered, each of its binds would fail without a word.
                    log::error!("cannot take part in a worker's calls: {}", describe(&error));
                    if let Some(worker) = self.workers.get_mut(id)
                        && let Err(error) = worker.signal_group(Signal::KILL, None)
                    {
                        log::warn!(
                            "cannot kill a worker that nobody answers: {}",
                            describe(&error)
                        );
                    }
                    self.stop_answering(id);
                    return;
                }
            }
        }
    }

    /// Without a listener a worker's calls fail, as if there were none: so
    /// only once nobody is left to make any.
    pub(super) fn stop_answering(&mut self, id: WorkerId) {
        if let Some(notifications) = self.workers.take_notifications(id) {
            let _ = self.poller.remove(&notifications);
        }
    }

    fn send_reply(&mut self, id: WorkerId, call: &Notification, reply: Reply) {
        let Some(notifications) = self.workers.notifications(id) else {
            return;
        };
        let sent = match reply {
            Reply::Proceed => notifications.proceed(call.id),
            Reply::Errno(errno) => notifications.answer(call.id, errno),
            Reply::Later => return,
        };
        if let Err(error) = sent {
            log::debug!("cannot answer a worker's call: {}", describe(&error));
        }
    }

    fn reply_to(&mut self, worker: WorkerId, call: &Notification) -> Reply {
        // Of a worker that is gone only strays are left, who share nothing.
        if self.capture.waved_through.remove(&(worker, call.tid))
            || self.workers.get(worker).is_none()
        {
            return Reply::Proceed;
        }
        // Whoever calls anew is not being traced any more.
        self.capture.traced.remove(&call.tid);
        let brought = self.capture.brought.remove(&(worker, call.tid));
        let Ok(thread) = remote::thread(call.tid) else {
            return Reply::Proceed;
        };
        let caller = Caller {
            worker,
            call,
            thread,
        };
        match call.call {
            Call::Bind => self.reply_to_bind(caller, brought),
            Call::Listen => self.reply_to_listen(caller),
        }
    }

    // ---- bind ----

    fn reply_to_bind(&mut self, caller: Caller<'_>, brought: Option<Brought>) -> Reply {
        let call = caller.call;
        if call.length > address::LONGEST_TAKEN {
            return Reply::Proceed;
        }
        let mut bytes = [0; address::LONGEST];
        let length = usize::try_from(call.length).unwrap_or(usize::MAX);
        let wanted = bytes.len().min(length);
        let buffer = bytes.get_mut(..wanted).unwrap_or_default();
        let read = match remote::read_memory(call.tid, call.address, buffer) {
            Ok(read) => read,
            Err(error) if binding::is_fault(&error) => return Reply::Proceed,
            Err(error) => return self.cannot_look(caller, &error),
        };
        let address = bytes.get(..read).and_then(address::parse);
        let Some(address) = address.filter(|address| self.is_captured(*address)) else {
            return Reply::Proceed;
        };
        // The kernel has a word for an address of the other family.
        let spoken = remote::spoken(call.tid, call.descriptor);
        let spoken = spoken.filter(|spoken| spoken.over_v6 == address.is_ipv6());
        // A port of another network is nobody else's.
        let spoken = spoken.filter(|_| remote::is_in_own_network(call.tid));
        // Whatever was read so far is of this call, or of nobody's.
        if !self.still_waits(caller) {
            return Reply::Proceed;
        }
        match spoken.map(|spoken| spoken.protocol) {
            Some(Protocol::Udp) => self.bind_datagrams(caller, address),
            Some(Protocol::Tcp) => self.bind_stream(caller, address, false, brought),
            Some(Protocol::Mptcp) => self.bind_stream(caller, address, true, brought),
            Some(Protocol::Unix | Protocol::Other) | None => Reply::Proceed,
        }
    }

    /// Whether a call still waits for its answer, so that what was read of its
    /// thread is that thread's.
    fn still_waits(&self, caller: Caller<'_>) -> bool {
        let notifications = self.workers.notifications(caller.worker);
        notifications.is_some_and(|notifications| notifications.is_valid(caller.call.id))
    }

    fn is_captured(&self, address: SocketAddr) -> bool {
        address.port() != 0 && self.capture.covers(address.port())
    }

    fn bind_datagrams(&mut self, caller: Caller<'_>, address: SocketAddr) -> Reply {
        let Caller { worker, thread, .. } = caller;
        let mine = self.capture.datagrams.get(&(address, worker)).copied();
        let all = self.capture.datagrams.keys();
        let of_worker = all.filter(|(_, by)| *by == worker).count();
        if mine.is_none() && of_worker >= MOST_DATAGRAMS {
            return Reply::Proceed;
        }
        let open = |inode| proc::socket_inodes(thread.process).contains(&inode);
        let again = mine.is_some_and(open);
        let purpose = Purpose::BindDatagrams {
            address,
            thread,
            again,
        };
        self.with_socket(caller, purpose)
    }

    /// Whether the address that a worker binds is to be shared with what other
    /// workers have bound. Not before the socket is at hand is that known.
    fn shares_datagrams(&self, worker: WorkerId, address: SocketAddr, again: bool) -> bool {
        let mut bound = self.capture.datagrams.keys();
        !again && bound.any(|(known, by)| *known == address && *by != worker)
    }

    // ---- listen ----

    fn reply_to_listen(&mut self, caller: Caller<'_>) -> Reply {
        let Caller { worker, call, .. } = caller;
        let Some(lane) = caller.inode().and_then(|inode| self.lanes.of_inode(inode)) else {
            let spoken = remote::spoken(call.tid, call.descriptor);
            if matches!(
                spoken.map(|spoken| spoken.protocol),
                Some(Protocol::Tcp | Protocol::Mptcp | Protocol::Unix)
            ) {
                self.listened(worker, None);
            }
            return Reply::Proceed;
        };
        if self.lanes.ports.is_bound(lane) && self.lanes.socket(lane).is_none() {
            let backlog = call.backlog;
            let purpose = Purpose::Listen { lane, backlog };
            if self.capture.unproven.contains(&lane) {
                return self.replace(caller, purpose);
            }
            return self.with_socket(caller, purpose);
        }
        self.listen_on(worker, lane, call.backlog)
    }

    /// Listens on a lane that clinit holds. One that it could not keep is the
    /// worker's own.
    fn listen_on(&mut self, worker: WorkerId, lane: LaneId, backlog: i32) -> Reply {
        if !self.lanes.ports.is_bound(lane) {
            self.lanes.revive(now());
        }
        let Some(socket) = self.lanes.socket(lane) else {
            return Reply::Proceed;
        };
        if let Err(error) = socket.listen(backlog) {
            return Reply::Errno(error.raw_os_error().unwrap_or(binding::EIO));
        }
        if self.lanes.ports.is_bound(lane) {
            self.lanes.joins_group(lane);
        }
        self.extend_baseline(worker, lane);
        self.listened(worker, Some(lane));
        Reply::Errno(0)
    }

    /// A worker listens: where nothing else is asked of it, that says that it
    /// is ready.
    fn listened(&mut self, worker: WorkerId, lane: Option<LaneId>) {
        let ready = self.lanes.change().listened(worker, lane);
        if ready && matches!(self.ready, Ready::Auto | Ready::Listen) {
            self.events.push_back(Event::Ready(worker));
        }
    }

    // ---- where a worker's port cannot be shared ----

    fn cannot_look(&mut self, caller: Caller<'_>, error: &std::io::Error) -> Reply {
        if error.kind() == ErrorKind::PermissionDenied {
            let why = format!("clinit may not look into it ({})", describe(error));
            return self.lose_sharing(caller, &why);
        }
        Reply::Proceed
    }

    /// Of a worker's main process that is to share its port this is the end:
    /// it has the port alone. Of any other process nothing is known to be
    /// lost.
    ///
    /// Who has it the core says, before another's call is answered: the kernel
    /// would give it to whoever is first there.
    fn lose_sharing(&mut self, caller: Caller<'_>, why: &str) -> Reply {
        let worker = caller.worker;
        let main = self.workers.get(worker).map(Worker::main_pid);
        // Whoever was killed inside the call cannot be looked into either.
        let is_lost = self.still_waits(caller) && main == Some(caller.thread.process);
        if !is_lost || self.capture.has_listeners || self.capture.alone == Some(worker) {
            return Reply::Proceed;
        }
        if !std::mem::replace(&mut self.capture.told_of_one_worker, true) {
            machinery::warn_of_one_worker(why);
        }
        self.events.push_back(Event::SharingLost(worker));
        self.tell_events();
        if self.lanes.ports.is_turned_away(worker) {
            return Reply::Errno(binding::EADDRINUSE);
        }
        self.capture.alone = Some(worker);
        Reply::Proceed
    }
}
