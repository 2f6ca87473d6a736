//! `docs/states.md`: every state of a slot and every event, as the code has
//! it. The test fails where the document differs; `BLESS=1 cargo test` writes
//! it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::slot::{Next, State};
use super::tests::policy;
use super::{
    Action, Arrival, Event, Exit, Now, Phase, Policy, Served, Signal, SpawnError, Supervisor,
    Target, Time, WorkerId,
};

const NOW: Time = Time::from_millis(1_000_000);
const WORKER: WorkerId = WorkerId(7);

/// Every state of a slot, each with a deadline that is due.
fn states() -> Vec<(&'static str, State)> {
    let worker = WORKER;
    let next = Next::Retry {
        retry_at: NOW + Duration::from_secs(1),
    };
    vec![
        ("spawning", State::Spawning { worker }),
        (
            "starting",
            State::Starting {
                worker,
                ready_at: Some(NOW),
                aged_at: NOW,
            },
        ),
        (
            "ready",
            State::Ready {
                worker,
                proven_at: NOW,
            },
        ),
        (
            "emptying",
            State::Emptying {
                worker,
                stop_at: NOW,
                kill_at: NOW + Duration::from_secs(1),
            },
        ),
        (
            "draining",
            State::Draining {
                worker,
                kill_at: NOW,
            },
        ),
        (
            "killed",
            State::Killed {
                worker,
                gone_by: NOW,
            },
        ),
        (
            "leftover",
            State::Leftover {
                worker,
                until: NOW,
                killed: false,
                next,
            },
        ),
        ("backoff", State::Backoff { retry_at: NOW }),
        ("held", State::Held { retry_at: NOW }),
        ("stopped", State::Stopped),
        ("failed", State::Failed),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let signal = |signal| {
        Event::Signal(Arrival {
            signal,
            value: None,
            from_kernel: false,
        })
    };
    let exited = |code, backgrounded| Event::Exited {
        worker: WORKER,
        exit: Exit::Code(code),
        served: Served::Unknown,
        awaited: false,
        backgrounded,
    };
    vec![
        ("executed", Event::Executed(WORKER)),
        ("says ready", Event::Ready(WORKER)),
        ("exits", exited(1, false)),
        ("exits into the background", exited(0, true)),
        ("its group is gone", Event::GroupGone(WORKER)),
        ("its queue is empty", Event::Emptied(WORKER)),
        ("it has the port alone", Event::SharingLost(WorkerId(1))),
        (
            "no room to spawn",
            Event::SpawnFailed(WORKER, SpawnError::Exhausted),
        ),
        (
            "cannot execute",
            Event::SpawnFailed(WORKER, SpawnError::NotFound),
        ),
        ("deadline", Event::DeadlineReached),
        ("TERM", signal(Signal::TERM)),
        ("TTOU", signal(Signal::TTOU)),
        ("USR1", signal(Signal::USR1)),
    ]
}

fn name(state: State) -> &'static str {
    match state {
        State::Spawning { .. } => "spawning",
        State::Starting { .. } => "starting",
        State::Ready { .. } => "ready",
        State::Emptying { .. } => "emptying",
        State::Draining { .. } => "draining",
        State::Killed { .. } => "killed",
        State::Leftover { .. } => "leftover",
        State::Backoff { .. } => "backoff",
        State::Held { .. } => "held",
        State::Stopped => "stopped",
        State::Failed => "failed",
    }
}

fn act(action: &Action) -> Option<String> {
    Some(match action {
        Action::Spawn { .. } => "spawn".into(),
        Action::Signal { to, signal, .. } => {
            let to = match to {
                Target::Main => "main",
                Target::Group => "group",
            };
            format!("{} to {to}", signal.to_string().trim_start_matches("SIG"))
        }
        Action::Admit(_) => "admit".into(),
        Action::TurnAway(_) => "turn away".into(),
        Action::SuspendSelf => "suspend".into(),
        Action::CloseListeners => "close listeners".into(),
        Action::TermTree => "TERM to the tree".into(),
        Action::KillTree => "KILL to the tree".into(),
        Action::Note(_) => return None,
        Action::Exit(outcome) => format!("exit {}", outcome.code),
    })
}

/// One cell: what the slot becomes, and what is done.
fn cell(state: State, event: Event) -> String {
    // Two slots, so that the one is scaled away while the other stays.
    let policy = Policy {
        drain_delay: Duration::ZERO,
        ..policy()
    };
    let mut supervisor = Supervisor::new(policy);
    let app = &mut supervisor.apps[0];
    app.ran = true;
    app.slots[0].state = State::Ready {
        worker: WorkerId(1),
        proven_at: NOW,
    };
    app.slots[1].state = state;
    supervisor.next_worker = 8;
    let actions = supervisor.step(
        event,
        Now {
            time: NOW,
            entropy: 0,
        },
    );
    let after = supervisor.apps[0].slots[1].state;
    let others = |action: &&Action| {
        !matches!(
            action,
            Action::Signal {
                worker: WorkerId(1),
                ..
            } | Action::TurnAway(WorkerId(1))
        )
    };
    let acts: Vec<_> = actions.iter().filter(others).filter_map(act).collect();
    let mut text = if after == state {
        "–".into()
    } else {
        format!("**{}**", name(after))
    };
    if !acts.is_empty() {
        let _ = write!(text, " ({})", acts.join(", "));
    }
    if supervisor.phase == Phase::Over {
        text.push_str(" over");
    }
    text
}

fn document() -> String {
    let mut text = String::from(
        "# A slot's states and events\n\n\
         Made by `src/supervisor/table.rs` from the code itself; `BLESS=1 cargo test` makes\n\
         it anew. The slot is one of two, the other one ready; its deadline is due; the\n\
         policy has no drain delay. A dash: the slot stays as it is. In brackets: what is\n\
         done, in order. What each state is stands in `src/supervisor/slot.rs`.\n\n",
    );
    let states = states();
    let head: Vec<_> = states.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "| event | {} |", head.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(head.len()));
    for (name, event) in events() {
        let cells: Vec<_> = states
            .iter()
            .map(|&(_, state)| cell(state, event))
            .collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

#[test]
fn the_document_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/states.md");
    let document = document();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, document,
        "docs/states.md is out of date: BLESS=1 cargo test"
    );
}

#[test]
fn every_state_has_its_column() {
    for (column, state) in states() {
        assert_eq!(column, name(state));
    }
}
