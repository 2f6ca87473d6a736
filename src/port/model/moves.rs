//! What can happen, and how much of it a search takes in.

use std::collections::BTreeSet;

use super::{Model, stale};
use crate::port::LaneId;
use crate::port::lane::Listener;
use crate::supervisor::WorkerId;

/// What a search takes in: all of it at once is too much.
#[expect(clippy::struct_excessive_bools, reason = "each is in or out")]
#[derive(Clone, Copy)]
pub(in crate::port) struct Scope {
    pub(in crate::port) ports: &'static [u16],
    pub(in crate::port) slots: u32,
    /// Whether a successor runs beside its predecessor.
    pub(in crate::port) successors: bool,
    /// Whether the first port is a listener of clinit's own.
    pub(in crate::port) own: bool,
    /// How many connections may wait in a queue.
    pub(in crate::port) queues: u32,
    /// Turns, and queues that stand still.
    pub(in crate::port) turns: bool,
    /// Time that passes.
    pub(in crate::port) time: bool,
    /// Workers that a signal stops.
    pub(in crate::port) stops: bool,
    /// Sockets that have to stay when they are bound.
    pub(in crate::port) stays: bool,
    /// Workers that bind an address twice, with sockets that share ports.
    pub(in crate::port) several: bool,
    /// Sockets that a worker closes while it lives.
    pub(in crate::port) closes: bool,
    /// Sockets that a worker shuts down.
    pub(in crate::port) shuts_down: bool,
    /// Workers that hang, and those that clinit itself has stopped.
    pub(in crate::port) hangs: bool,
    /// Who is ready.
    pub(in crate::port) readiness: bool,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(in crate::port) enum Move {
    Wait,
    Look,
    LookForHung,
    Excuse(WorkerId, bool),
    Start {
        worker: WorkerId,
        slot: u32,
    },
    Bind {
        worker: WorkerId,
        port: u16,
        stays: bool,
    },
    Listen {
        worker: WorkerId,
        lane: Option<LaneId>,
    },
    Admit(WorkerId),
    TurnAway(WorkerId),
    Exit(WorkerId),
    Suspend(WorkerId, bool),
    Gone(WorkerId),
    Abandon {
        worker: WorkerId,
        lane: LaneId,
    },
    ShutDown(LaneId),
    Arrive(LaneId),
    Accept(LaneId),
}

/// The kinds of events, answers, leases, ranks and programs that were met.
pub(in crate::port) type Met = BTreeSet<&'static str>;

/// All of them.
pub(in crate::port) const KINDS: &[&str] = &[
    "move: wait",
    "move: look",
    "move: look for hung",
    "move: excuse",
    "move: start",
    "move: bind",
    "move: bind, stays",
    "move: listen",
    "move: admit",
    "move: turn away",
    "move: exit",
    "move: suspend",
    "move: gone",
    "move: abandon",
    "move: shut down",
    "move: arrive",
    "move: accept",
    "answer: proceed",
    "answer: again",
    "answer: lend its pair",
    "answer: lend",
    "answer: join first",
    "answer: join",
    "lease: free, made",
    "lease: free",
    "lease: to one",
    "lease: passed",
    "lease: shared",
    "lease: retiring",
    "rank: ready",
    "rank: starting",
    "rank: failing",
    "rank: stuck",
    "rank: free",
    "rank: leaving",
    "rank: closing",
    "program: none",
    "program: pinned",
    "program: random",
    "listen: ready",
    "listen: not ready",
    "look: suspected",
    "look: hung",
];

impl Move {
    pub(in crate::port) fn kind(self) -> &'static str {
        match self {
            Self::Wait => "move: wait",
            Self::Look => "move: look",
            Self::LookForHung => "move: look for hung",
            Self::Excuse(..) => "move: excuse",
            Self::Start { .. } => "move: start",
            Self::Bind { stays: false, .. } => "move: bind",
            Self::Bind { stays: true, .. } => "move: bind, stays",
            Self::Listen { .. } => "move: listen",
            Self::Admit(_) => "move: admit",
            Self::TurnAway(_) => "move: turn away",
            Self::Exit(_) => "move: exit",
            Self::Suspend(..) => "move: suspend",
            Self::Gone(_) => "move: gone",
            Self::Abandon { .. } => "move: abandon",
            Self::ShutDown(_) => "move: shut down",
            Self::Arrive(_) => "move: arrive",
            Self::Accept(_) => "move: accept",
        }
    }
}

impl Model {
    pub(in crate::port) fn moves(&self, scope: Scope) -> Vec<Move> {
        let mut moves = Vec::new();
        if scope.time {
            moves.extend([Move::Wait, Move::Look]);
        }
        if scope.hangs {
            moves.push(Move::LookForHung);
        }
        let copies = 1 + u32::from(scope.successors);
        for slot in 0..scope.slots {
            let ids = (0..copies).map(|copy| WorkerId::from_index(slot + copy * scope.slots));
            let free = |worker: &WorkerId| !self.ports.workers.contains_key(worker);
            let next = ids.into_iter().find(free);
            moves.extend(next.map(|worker| Move::Start { worker, slot }));
        }
        for worker in self.ports.workers.keys().copied().chain([stale()]) {
            moves.extend([
                Move::Admit(worker),
                Move::TurnAway(worker),
                Move::Exit(worker),
                Move::Gone(worker),
            ]);
            if scope.stops {
                moves.extend([true, false].map(|stopped| Move::Suspend(worker, stopped)));
            }
            if scope.hangs {
                moves.extend([true, false].map(|excused| Move::Excuse(worker, excused)));
            }
            for &port in scope.ports {
                for stays in [false, true].into_iter().take(1 + usize::from(scope.stays)) {
                    moves.push(Move::Bind {
                        worker,
                        port,
                        stays,
                    });
                }
            }
            let lanes = self.ports.lanes_of(worker);
            let nothing = scope.readiness.then_some(None);
            let listened = lanes.iter().copied().map(Some).chain(nothing);
            moves.extend(listened.map(|lane| Move::Listen { worker, lane }));
        }
        if scope.closes {
            // Of its own lanes and, late, of those that are not.
            for worker in self.ports.workers.keys().copied() {
                let lanes = self.ports.listeners.values().flat_map(Listener::all);
                moves.extend(lanes.map(|lane| Move::Abandon {
                    worker,
                    lane: lane.id,
                }));
            }
        }
        if scope.shuts_down {
            moves.extend(self.ports.listening().map(Move::ShutDown));
        }
        if scope.queues > 0 {
            for lane in self.ports.listening() {
                moves.push(Move::Accept(lane));
                // Elsewhere it may be what was under way before.
                if !scope.hangs || self.is_given(lane) {
                    moves.push(Move::Arrive(lane));
                }
            }
        }
        moves
    }
}
