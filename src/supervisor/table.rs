//! `docs/states.md`: every state of a slot and every event, as the code has
//! it. The test fails where the document differs; `BLESS=1 cargo test` writes
//! it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::app::{Progress, Roll};
use super::slot::{Departing, Next, Renewal, Slot, Stage, State, Successor, Trial};
use super::tests::policy;
use super::{
    Action, Arrival, Event, Exit, Now, Phase, Policy, Request, Served, Signal, SpawnError,
    Supervisor, Target, Time, Wear, Whom, WorkerId,
};

const NOW: Time = Time::from_millis(1_000_000);
const WORKER: WorkerId = WorkerId(7);

/// Every state of a slot, each with a deadline that is due.
fn states() -> Vec<(&'static str, State)> {
    let worker = WORKER;
    let later = NOW + Duration::from_secs(1);
    let departing = |stage| State::Departing {
        departing: Departing { worker, stage },
        next: Next::Retry { retry_at: later },
    };
    let ready = |renewal| State::Ready {
        worker,
        proven_at: NOW,
        hung_at: None,
        renewal,
    };
    vec![
        ("spawning", State::Spawning { worker }),
        (
            "starting",
            State::Starting {
                worker,
                ready_at: Some(NOW),
                aged_at: NOW,
                late_at: None,
            },
        ),
        ("ready", ready(Renewal::Never)),
        (
            "emptying",
            departing(Stage::Emptying {
                stop_at: NOW,
                kill_at: later,
            }),
        ),
        ("draining", departing(Stage::Draining { kill_at: NOW })),
        ("killed", departing(Stage::Killed { gone_by: NOW })),
        (
            "leftover",
            departing(Stage::Leftover {
                until: NOW,
                killed: false,
            }),
        ),
        ("backoff", State::Backoff { retry_at: NOW }),
        ("held", State::Held { retry_at: NOW }),
        ("parked", State::Parked),
        ("stopped", State::Stopped),
        ("failed", State::Failed),
    ]
}

/// A successor at each point of its trial, each with a deadline that is due.
fn trials() -> Vec<(&'static str, Trial)> {
    vec![
        ("spawning", Trial::Spawning { fail_at: NOW }),
        (
            "starting",
            Trial::Starting {
                ready_at: None,
                fail_at: NOW,
            },
        ),
        ("settling", Trial::Settling { settled_at: NOW }),
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
        ("says that it stops", Event::Stopping(WORKER)),
        ("hangs", Event::Hung(WORKER)),
        ("is worn", Event::Worn(WORKER, Wear::Memory)),
        ("deadline", Event::DeadlineReached),
        ("TERM", signal(Signal::TERM)),
        ("HUP", signal(Signal::HUP)),
        ("TTOU", signal(Signal::TTOU)),
        ("USR1", signal(Signal::USR1)),
        ("stop", Event::Asked(Request::Stop(Whom::Slot(1)))),
        ("start", Event::Asked(Request::Start(Whom::Slot(1)))),
        ("restart", Event::Asked(Request::Restart(Whom::Slot(1)))),
    ]
}

fn name(state: State) -> &'static str {
    match state {
        State::Spawning { .. } => "spawning",
        State::Starting { .. } => "starting",
        State::Ready { .. } => "ready",
        State::Departing { departing, .. } => stage_name(departing.stage),
        State::Backoff { .. } => "backoff",
        State::Held { .. } => "held",
        State::Parked => "parked",
        State::Stopped => "stopped",
        State::Failed => "failed",
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Emptying { .. } => "emptying",
        Stage::Draining { .. } => "draining",
        Stage::Killed { .. } => "killed",
        Stage::Leftover { .. } => "leftover",
    }
}

fn trial_name(trial: Trial) -> &'static str {
    match trial {
        Trial::Spawning { .. } => "spawning",
        Trial::Starting { .. } => "starting",
        Trial::Settling { .. } => "settling",
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
        Action::SuspendSelf | Action::StopJob { .. } => "suspend".into(),
        Action::LendTerminal(..) => "lend the terminal".into(),
        Action::CloseListeners => "close listeners".into(),
        Action::TermTree => "TERM to the tree".into(),
        Action::KillTree => "KILL to the tree".into(),
        Action::Note(_) => return None,
        Action::Exit(outcome) => format!("exit {}", outcome.code),
    })
}

/// A supervisor of two slots, the first one ready and of the newest
/// generation; the second as it is prepared. Two, so that the one is scaled
/// away while the other stays.
fn prepared(prepare: impl FnOnce(&mut Slot)) -> Supervisor {
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
        hung_at: None,
        renewal: Renewal::Never,
    };
    prepare(&mut app.slots[1]);
    supervisor.next_worker = 8;
    supervisor
}

/// What is done by this event, about others than the first slot's worker.
fn acts(supervisor: &mut Supervisor, event: Event) -> Vec<String> {
    let now = Now {
        time: NOW,
        entropy: 0,
    };
    let actions = supervisor.step(event, now);
    let others = |action: &&Action| {
        !matches!(
            action,
            Action::Signal {
                worker: WorkerId(1),
                ..
            } | Action::TurnAway(WorkerId(1))
        )
    };
    actions.iter().filter(others).filter_map(act).collect()
}

/// One cell of the first table: what the slot becomes, and what is done.
fn cell(state: State, event: Event) -> String {
    let mut supervisor = prepared(|slot| slot.state = state);
    let acts = acts(&mut supervisor, event);
    let after = supervisor.apps[0].slots[1].state;
    let became = if after == state {
        "–".into()
    } else {
        format!("**{}**", name(after))
    };
    with(became, &acts, &supervisor)
}

/// One cell of the second: what the successor, the slot and who leaves become.
fn trial_cell(trial: Trial, event: Event) -> String {
    let successor = Successor {
        worker: WORKER,
        generation: 2,
        trial,
    };
    let mut supervisor = prepared(|slot| {
        slot.state = State::Ready {
            worker: WorkerId(2),
            proven_at: NOW,
            hung_at: None,
            renewal: Renewal::Never,
        };
        slot.successor = Some(successor);
    });
    supervisor.apps[0].roll = Some(Roll {
        to: 2,
        progress: Progress::Canary,
        again: false,
    });
    let acts = acts(&mut supervisor, event);
    let slot = &supervisor.apps[0].slots[1];
    let became = if slot.state.worker() == Some(WORKER) {
        format!("**{}**", name(slot.state))
    } else if let Some(after) = slot.successor {
        if after == successor {
            "–".into()
        } else {
            format!("**{}**", trial_name(after.trial))
        }
    } else if let Some(departing) = slot.departing {
        format!("**{}**", stage_name(departing.stage))
    } else {
        "**gone**".into()
    };
    with(became, &acts, &supervisor)
}

fn with(mut text: String, acts: &[String], supervisor: &Supervisor) -> String {
    if !acts.is_empty() {
        let _ = write!(text, " ({})", acts.join(", "));
    }
    if supervisor.phase == Phase::Over {
        text.push_str(" over");
    }
    text
}

fn table<T: Copy>(text: &mut String, columns: &[(&str, T)], cell: impl Fn(T, Event) -> String) {
    let head: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "| event | {} |", head.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(head.len()));
    for (name, event) in events() {
        let cells: Vec<_> = columns.iter().map(|&(_, of)| cell(of, event)).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
}

fn document() -> String {
    let mut text = String::from(
        "# A slot's states and events\n\n\
         Made by `src/supervisor/table.rs` from the code itself; `BLESS=1 cargo test` makes\n\
         it anew. The slot is one of two, the other one ready; its deadline is due; the\n\
         policy has no drain delay. A dash: the slot stays as it is. In brackets: what is\n\
         done, in order. What each state is stands in `src/supervisor/slot.rs`.\n\n",
    );
    table(&mut text, &states(), cell);
    text.push_str(
        "\n# A successor's\n\n\
         Its slot's worker, 2, is ready, and it is the canary of a reload: the worker that\n\
         the events are about, as far as they are about one.\n\n",
    );
    table(&mut text, &trials(), trial_cell);
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
    for (column, trial) in trials() {
        assert_eq!(column, trial_name(trial));
    }
}
