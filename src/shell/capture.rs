//! Taking part in the workers' own `bind` and `listen`.
//!
//! `port` decides; this reads what a call means, gets at the worker's socket
//! and answers. It never waits for a worker, and whatever it does not
//! understand the kernel does as without clinit.

mod extraction;
mod machinery;
mod socket;

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::config::{self, Route};
use crate::port::{Bind, LaneId, address};
use crate::supervisor::policy::Ready;
use crate::supervisor::{Event, WorkerId};
use crate::sys::errno::describe;
use crate::sys::notification::{Call, Notification, Received};
use crate::sys::remote::{self, Protocol, Thread};
use crate::sys::{binding, proc};
use crate::table::{Set, Table};

use super::{Shell, now};
use extraction::Traced;
use machinery::Routes;
pub(super) use machinery::{Availability, available, warn_of_one_worker};
use socket::Purpose;

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
    /// Threads whose call was made again for the kernel to answer.
    waved_through: Set<(WorkerId, i32)>,
    /// Threads that could not be traced.
    untraceable: Set<(WorkerId, i32)>,
    /// Threads that are about to bind a socket which shares its port by itself,
    /// as was seen while they were traced.
    sharing: Set<(WorkerId, i32)>,
    /// Lanes of which it is not known whether the kernel has bound them.
    unproven: Set<LaneId>,
    /// Datagram sockets, by who bound them where.
    datagrams: Table<(SocketAddr, WorkerId), u64>,
    /// Whether clinit made a listener of its own, which workers share
    /// whatever becomes of those that they bind.
    pub(super) has_listeners: bool,
    told_of_replicas: bool,
    told_of_the_unseen: bool,
}

impl Capture {
    pub(super) fn new(ports: config::Capture, route: Option<Route>, has_listeners: bool) -> Self {
        Self {
            ports,
            routes: Routes::from(route),
            traced: Table::new(),
            waved_through: Set::new(),
            untraceable: Set::new(),
            sharing: Set::new(),
            unproven: Set::new(),
            datagrams: Table::new(),
            has_listeners,
            told_of_replicas: false,
            told_of_the_unseen: false,
        }
    }

    /// A worker is gone, and with it its datagram sockets. A thread that it has
    /// left behind may be under way to its next stop, and is let go there.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.datagrams.retain(|(_, by), _| *by != worker);
        self.waved_through.retain(|(of, _)| *of != worker);
        self.untraceable.retain(|(of, _)| *of != worker);
        self.sharing.retain(|(of, _)| *of != worker);
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
                    log::warn!("cannot take part in a worker's calls: {}", describe(&error));
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
            log::debug!("cannot answer a worker's call: {error}");
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
        let Ok(thread) = remote::thread(call.tid) else {
            return Reply::Proceed;
        };
        let caller = Caller {
            worker,
            call,
            thread,
        };
        match call.call {
            Call::Bind => self.reply_to_bind(caller),
            Call::Listen => self.reply_to_listen(caller),
        }
    }

    // ---- bind ----

    fn reply_to_bind(&mut self, caller: Caller<'_>) -> Reply {
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
            Some(Protocol::Tcp) => self.bind_stream(caller, address, false),
            Some(Protocol::Mptcp) => self.bind_stream(caller, address, true),
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

    /// A multipath socket takes no program: a plain one takes its place.
    fn bind_stream(&mut self, caller: Caller<'_>, address: SocketAddr, multipath: bool) -> Reply {
        let Caller { worker, call, .. } = caller;
        let inode = remote::inode(call.tid, call.descriptor);
        let mut known = inode.and_then(|inode| self.lanes.of_inode(inode));
        if let Some(lane) = known.filter(|lane| self.capture.unproven.contains(lane)) {
            // It was refused, and tries another address.
            self.lanes.abandoned(worker, lane, now());
            known = None;
        }
        let mut polled = false;
        if self.lanes.ports.has_address(address) {
            self.look_at_doubtful_again();
        }
        self.look_for_abandoned(worker, Some(caller.thread.process));
        if self.lanes.ports.has_port(address.port()) {
            polled = inode.is_some_and(|inode| {
                remote::is_polled(caller.thread.process, call.descriptor, inode)
            });
        }
        let answer = {
            let lanes = &self.lanes;
            let queued = |lane: LaneId| lanes.queued(lane);
            lanes.ports.bind(worker, address, known, polled, &queued)
        };
        let shares = self.capture.sharing.remove(&(worker, call.tid));
        let (first, again) = match answer {
            Bind::Again if shares && let Some(lane) = self.lanes.ports.paired(worker, address) => {
                return self.lend(caller, lane);
            }
            Bind::Proceed => return Reply::Proceed,
            Bind::Lend(lane) => return self.lend(caller, lane),
            Bind::Again => (false, true),
            Bind::Join { first } => (first, false),
        };
        let purpose = Purpose::Bind {
            address,
            thread: caller.thread,
            first,
            again,
        };
        if multipath {
            return self.replace(caller, purpose);
        }
        self.with_socket(caller, purpose)
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
        let inode = remote::inode(call.tid, call.descriptor);
        let Some(lane) = inode.and_then(|inode| self.lanes.of_inode(inode)) else {
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

    // ---- where workers cannot be looked into ----

    /// Of a worker's main process that is to share its port this is the end:
    /// it has the port alone. Of any other process nothing is known to be
    /// lost.
    fn cannot_look(&mut self, caller: Caller<'_>, error: &std::io::Error) -> Reply {
        let main = self.workers.get(caller.worker).map(|worker| worker.pid);
        // Whoever was killed inside the call cannot be looked into either.
        let is_refused = self.still_waits(caller) && error.kind() == ErrorKind::PermissionDenied;
        if is_refused && main == Some(caller.thread.process) && !self.capture.has_listeners {
            if !std::mem::replace(&mut self.capture.told_of_the_unseen, true) {
                let why = format!("clinit may not look into it ({})", describe(error));
                machinery::warn_of_one_worker(&why);
            }
            self.events.push_back(Event::SharingLost(caller.worker));
        }
        Reply::Proceed
    }
}
