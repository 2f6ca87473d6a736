//! Every event in every reachable state of small configurations.
//!
//! A breadth-first search over the decisions and the model of the kernel in
//! `model.rs`. Each search is complete within its scope, and says which kinds
//! of events, answers, leases and ranks it does not meet: another one does.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::rc::Rc;

use super::model::{KINDS, Met, Model, Move, Scope};
use super::{Arrivals, Sharing};

/// A search and what it takes in.
struct Search {
    name: &'static str,
    sharing: Sharing,
    arrivals: Arrivals,
    scope: Scope,
    /// The kinds that it does not meet.
    unmet: &'static [&'static str],
}

const SMALL: Scope = Scope {
    ports: &[1],
    slots: 2,
    successors: false,
    own: false,
    queues: 0,
    turns: false,
    time: false,
    stops: false,
    stays: false,
    several: false,
    closes: false,
    shuts_down: false,
    hangs: false,
    readiness: false,
};

impl Search {
    /// Takes every event in every state, and asserts what was met.
    fn run(&self) {
        let Self { name, scope, .. } = *self;
        let start = Model::new(self.sharing, self.arrivals, scope);
        let mut states = vec![Rc::new(start)];
        let mut known = HashMap::from([(Rc::clone(&states[0]), 0_usize)]);
        let mut reached_by: Vec<Option<(usize, Move)>> = vec![None];
        let mut met = Met::new();
        let mut transitions = 0_u64;
        let mut next = 0;
        while let Some(state) = states.get(next).cloned() {
            for step in state.moves(scope) {
                transitions += 1;
                let mut reached = Model::clone(&state);
                let taken = reached.take(step, scope, &mut met);
                let (reached, is_new) = match taken {
                    Ok(()) if reached == *state => continue,
                    Ok(()) => {
                        let reached = Rc::new(reached.normal(scope));
                        let is_new = !known.contains_key(&reached);
                        (reached, is_new)
                    }
                    Err(_) => (Rc::new(reached), false),
                };
                let checked = match taken {
                    Ok(()) if is_new => reached.check(scope, &mut met),
                    taken => taken,
                };
                if let Err(violation) = checked {
                    let path = path(&reached_by, next, step);
                    let ports = &reached.ports;
                    found(&format!(
                        "{violation}\nby these events:\n{path}in this state: {ports:#?}"
                    ));
                }
                if reached != state {
                    met.insert(step.kind());
                }
                if is_new {
                    known.insert(Rc::clone(&reached), states.len());
                    states.push(reached);
                    reached_by.push(Some((next, step)));
                }
            }
            next += 1;
        }
        // Past the capture of the test harness: the counts are an answer.
        let _ = writeln!(
            std::io::stderr(),
            "port explorer: {name}: {} states, {transitions} transitions",
            states.len(),
        );
        let unmet = KINDS.iter().filter(|kind| !met.contains(**kind));
        let unmet: Vec<_> = unmet.copied().collect();
        assert_eq!(unmet, self.unmet, "{name}");
    }
}

/// Fails the test; where a bug was planted, which one search is to find, also
/// those that are still under way.
fn found(violation: &str) -> ! {
    if std::env::var_os("CLINIT_PLANTED").is_some() {
        let _ = writeln!(std::io::stderr(), "{violation}");
        std::process::exit(1);
    }
    panic!("{violation}");
}

fn path(reached_by: &[Option<(usize, Move)>], mut index: usize, last: Move) -> String {
    let mut path = vec![last];
    while let Some((previous, step)) = reached_by[index] {
        path.push(step);
        index = previous;
    }
    let mut text = String::new();
    for step in path.iter().rev() {
        let _ = writeln!(text, "  {step:?}");
    }
    text
}

const ONE_ADDRESS: Search = Search {
    name: "one address",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        queues: 1,
        stops: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: abandon",
        "move: shut down",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const TWO_ADDRESSES: Search = Search {
    name: "two addresses",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        ports: &[1, 2],
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: suspend",
        "move: abandon",
        "move: shut down",
        "move: arrive",
        "move: accept",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "rank: stuck",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const THREE_SLOTS: Search = Search {
    name: "three slots",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope { slots: 3, ..SMALL },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: suspend",
        "move: abandon",
        "move: shut down",
        "move: arrive",
        "move: accept",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "rank: stuck",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const SUCCESSORS: Search = Search {
    name: "successors",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        slots: 1,
        successors: true,
        queues: 1,
        stops: true,
        stays: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: abandon",
        "move: shut down",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const READINESS: Search = Search {
    name: "readiness",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        ports: &[1, 2],
        slots: 1,
        successors: true,
        readiness: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: suspend",
        "move: abandon",
        "move: shut down",
        "move: arrive",
        "move: accept",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "rank: stuck",
        "look: suspected",
        "look: hung",
    ],
};

const INSPECTED: Search = Search {
    name: "an inspector",
    scope: Scope {
        ports: &[1, 9229],
        closes: true,
        ..READINESS.scope
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: suspend",
        "move: shut down",
        "move: arrive",
        "move: accept",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "rank: stuck",
        "look: suspected",
        "look: hung",
    ],
    ..READINESS
};

const STAYING: Search = Search {
    name: "staying and closed",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        queues: 1,
        stops: true,
        stays: true,
        closes: true,
        shuts_down: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const SEVERAL: Search = Search {
    name: "several sockets",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        several: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: suspend",
        "move: abandon",
        "move: shut down",
        "move: arrive",
        "move: accept",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "rank: stuck",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const TURNS: Search = Search {
    name: "turns",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Told,
    scope: Scope {
        queues: 1,
        turns: true,
        time: true,
        ..SMALL
    },
    unmet: &[
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: suspend",
        "move: abandon",
        "move: shut down",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const TOLD: Search = Search {
    name: "told",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Told,
    scope: Scope {
        turns: true,
        stops: true,
        closes: true,
        shuts_down: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind, stays",
        "move: arrive",
        "move: accept",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const ONE_QUEUE: Search = Search {
    name: "one queue",
    sharing: Sharing::OneQueue,
    arrivals: Arrivals::Untold,
    scope: Scope {
        queues: 1,
        stays: true,
        closes: true,
        shuts_down: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: suspend",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "rank: stuck",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const OWN: Search = Search {
    name: "clinit's own",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        own: true,
        queues: 1,
        stays: true,
        closes: true,
        shuts_down: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: suspend",
        "answer: lend its pair",
        "answer: join first",
        "lease: shared",
        "rank: stuck",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const OWN_QUEUE: Search = Search {
    name: "one queue of clinit's own",
    sharing: Sharing::OneQueue,
    arrivals: Arrivals::Untold,
    scope: Scope {
        own: true,
        queues: 1,
        stays: true,
        ..SMALL
    },
    unmet: &[
        "move: wait",
        "move: look",
        "move: look for hung",
        "move: excuse",
        "move: bind",
        "move: suspend",
        "move: abandon",
        "move: shut down",
        "answer: lend its pair",
        "answer: join first",
        "lease: passed",
        "rank: stuck",
        "listen: not ready",
        "look: suspected",
        "look: hung",
    ],
};

const HANGS: Search = Search {
    name: "workers that hang",
    sharing: Sharing::Lanes,
    arrivals: Arrivals::Untold,
    scope: Scope {
        queues: 2,
        time: true,
        hangs: true,
        stops: true,
        ..SMALL
    },
    unmet: &[
        "move: look",
        "move: bind, stays",
        "move: abandon",
        "move: shut down",
        "answer: lend its pair",
        "lease: free, made",
        "lease: passed",
        "lease: shared",
        "listen: not ready",
    ],
};

const ONE_QUEUE_HANGS: Search = Search {
    name: "one queue that does not move",
    sharing: Sharing::OneQueue,
    unmet: &[
        "move: look",
        "move: bind, stays",
        "move: abandon",
        "move: shut down",
        "answer: lend its pair",
        "answer: join",
        "lease: free, made",
        "lease: to one",
        "lease: passed",
        "program: pinned",
        "program: random",
        "listen: not ready",
    ],
    ..HANGS
};

const SEARCHES: [&Search; 15] = [
    &THREE_SLOTS,
    &ONE_ADDRESS,
    &TWO_ADDRESSES,
    &SUCCESSORS,
    &READINESS,
    &INSPECTED,
    &STAYING,
    &SEVERAL,
    &TURNS,
    &TOLD,
    &ONE_QUEUE,
    &OWN,
    &OWN_QUEUE,
    &HANGS,
    &ONE_QUEUE_HANGS,
];

#[test]
fn what_one_search_does_not_meet_another_does() {
    for kind in KINDS {
        let mut searches = SEARCHES.iter();
        assert!(
            searches.any(|search| !search.unmet.contains(kind)),
            "{kind}"
        );
    }
}

#[test]
fn one_address_keeps_the_invariants() {
    ONE_ADDRESS.run();
}

#[test]
fn three_slots_keep_the_invariants() {
    THREE_SLOTS.run();
}

#[test]
fn two_addresses_keep_the_invariants() {
    TWO_ADDRESSES.run();
}

#[test]
fn successors_beside_predecessors_keep_the_invariants() {
    SUCCESSORS.run();
}

#[test]
fn readiness_keeps_the_invariants() {
    READINESS.run();
}

#[test]
fn an_inspector_keeps_the_invariants() {
    INSPECTED.run();
}

#[test]
fn sockets_that_stay_or_are_closed_or_shut_down_keep_the_invariants() {
    STAYING.run();
}

#[test]
fn workers_with_several_sockets_keep_the_invariants() {
    SEVERAL.run();
}

#[test]
fn turns_and_queues_that_stand_still_keep_the_invariants() {
    TURNS.run();
}

#[test]
fn turns_while_workers_are_stopped_keep_the_invariants() {
    TOLD.run();
}

#[test]
fn one_queue_keeps_the_invariants() {
    ONE_QUEUE.run();
}

#[test]
fn listeners_of_clinits_own_keep_the_invariants() {
    OWN.run();
}

#[test]
fn one_queue_of_clinits_own_keeps_the_invariants() {
    OWN_QUEUE.run();
}

#[test]
fn workers_that_hang_keep_the_invariants() {
    HANGS.run();
}

#[test]
fn one_queue_that_does_not_move_keeps_the_invariants() {
    ONE_QUEUE_HANGS.run();
}
