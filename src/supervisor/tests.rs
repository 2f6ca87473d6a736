//! Stories: what the core does, told event by event.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is asserted of some events and states is not of others"
)]

use std::time::Duration;

use super::policy::{Drain, Mode, Policy, Ready, Restart, Surge};
use super::*;

/// A small cluster-mode policy in the explorer's unit of a second.
pub(super) fn policy() -> Policy {
    Policy {
        mode: Mode::Cluster,
        instances: 2,
        most_instances: 4,
        restart: Restart::Always,
        ready: Ready::Auto,
        presumed_ready_after: Duration::from_secs(2),
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(2),
        min_uptime: Duration::from_secs(1),
        max_restarts: 2,
        routes: Routes::default(),
        forward_to: Target::Main,
        stop_signal: Signal::TERM,
        drain_delay: Duration::from_secs(1),
        grace: Duration::from_secs(2),
        drain: Drain::Connections(Duration::from_secs(1)),
        ready_timeout: Duration::from_secs(3),
        settle: Duration::from_secs(1),
        surge: Surge::Workers(1),
        max_lifetime: None,
        hang_timeout: None,
        orphan_grace: Duration::from_secs(1),
        leaves_survivors: false,
    }
}

// ---- a supervisor, told what happens ----

struct Story {
    supervisor: Supervisor,
    now: Time,
}

impl Story {
    fn new(policy: Policy) -> Self {
        let mut story = Self {
            supervisor: Supervisor::new(policy),
            now: Time::from_millis(1000),
        };
        let _ = story.tell(Event::DeadlineReached);
        story
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.supervisor.step(
            event,
            Now {
                time: self.now,
                entropy: 0,
            },
        )
    }

    fn wait(&mut self, duration: Duration) -> Vec<Action> {
        self.now = self.now + duration;
        self.tell(Event::DeadlineReached)
    }

    fn signal(&mut self, signal: Signal) -> Vec<Action> {
        self.tell(Event::Signal(Arrival {
            signal,
            value: None,
            from_kernel: false,
        }))
    }

    /// The worker exits and leaves nobody behind.
    fn exit(&mut self, worker: u32, code: u8, served: bool) -> Vec<Action> {
        let served = if served {
            Served::Someone
        } else {
            Served::Unknown
        };
        self.exit_awaited(worker, code, served, false)
    }

    fn exit_awaited(
        &mut self,
        worker: u32,
        code: u8,
        served: Served,
        awaited: bool,
    ) -> Vec<Action> {
        let worker = WorkerId(worker);
        let exit = Exit::Code(code);
        let mut actions = self.tell(Event::Exited {
            worker,
            exit,
            served,
            awaited,
            backgrounded: false,
        });
        actions.extend(self.tell(Event::GroupGone(worker)));
        actions
    }
}

fn spawns(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::Spawn { .. }))
        .count()
}

fn exit_code(actions: &[Action]) -> Option<u8> {
    actions.iter().find_map(|action| match action {
        Action::Exit(outcome) => Some(outcome.code),
        _ => None,
    })
}

const STEP: Duration = Duration::from_secs(1);

#[test]
fn a_crash_loop_ends_with_the_workers_code_after_so_many_tries() {
    let mut story = Story::new(Policy {
        instances: 1,
        max_restarts: 5,
        ..policy()
    });
    let mut tries = 1;
    let code = loop {
        let mut actions = story.tell(Event::Executed(WorkerId(tries - 1)));
        actions.extend(story.exit(tries - 1, 9, false));
        actions.extend(story.tell(Event::TreeGone));
        if let Some(code) = exit_code(&actions) {
            break code;
        }
        assert_eq!(spawns(&story.wait(2 * STEP)), 1);
        tries += 1;
    };
    assert_eq!((tries, code), (5, 9));
}

#[test]
fn giving_up_on_workers_that_exit_with_0_is_no_success() {
    let mut story = Story::new(Policy {
        instances: 1,
        max_restarts: 1,
        ..policy()
    });
    let mut actions = story.exit(0, 0, false);
    actions.extend(story.tell(Event::TreeGone));
    assert_eq!(exit_code(&actions), Some(1));
}

#[test]
fn a_worker_that_exits_after_it_served_is_restarted_at_once_for_ever() {
    let mut story = Story::new(Policy {
        instances: 1,
        ..policy()
    });
    for worker in 0..1000 {
        let _ = story.tell(Event::Executed(WorkerId(worker)));
        assert_eq!(spawns(&story.exit(worker, 1, true)), 1, "worker {worker}");
    }
}

#[test]
fn an_old_worker_is_the_one_that_served() {
    let mut story = Story::new(policy());
    let _ = story.tell(Event::Executed(WorkerId(0)));
    let _ = story.wait(STEP);
    // Slot 1's worker starts late and fails beside one that has aged.
    let actions = story.exit(1, 1, true);
    assert_eq!(spawns(&actions), 0);
    assert_eq!(spawns(&story.wait(STEP)), 1);
}

#[test]
fn a_forwarded_signal_that_all_workers_obey_by_leaving_is_a_shutdown() {
    let mut story = Story::new(policy());
    let _ = story.signal(Signal::WINCH);
    assert_eq!(spawns(&story.exit(0, 0, false)), 0);
    let mut actions = story.exit(1, 0, false);
    actions.extend(story.tell(Event::TreeGone));
    assert_eq!(exit_code(&actions), Some(0));
}

#[test]
fn a_worker_that_leaves_alone_after_a_forwarded_signal_comes_back() {
    let mut story = Story::new(policy());
    let _ = story.signal(Signal::USR1);
    let _ = story.exit(0, 0, false);
    assert_eq!(spawns(&story.wait(2 * STEP)), 1);
}

#[test]
fn the_command_that_never_ran_ends_it_at_once_and_one_that_ran_does_not() {
    let failed = |worker| Event::SpawnFailed(WorkerId(worker), SpawnError::NotFound);
    let mut story = Story::new(Policy {
        instances: 1,
        ..policy()
    });
    let mut actions = story.tell(failed(0));
    actions.extend(story.tell(Event::TreeGone));
    assert_eq!(exit_code(&actions), Some(127));

    let mut story = Story::new(policy());
    let _ = story.tell(Event::Executed(WorkerId(0)));
    let _ = story.tell(failed(1));
    assert!(story.supervisor.is_serving());
    assert_eq!(spawns(&story.wait(STEP)), 1);
}

#[test]
fn no_room_to_fork_is_waited_out_however_long() {
    let mut story = Story::new(Policy {
        instances: 1,
        max_restarts: 1,
        ..policy()
    });
    for worker in 0..100 {
        let exhausted = Event::SpawnFailed(WorkerId(worker), SpawnError::Exhausted);
        assert_eq!(spawns(&story.tell(exhausted)), 0);
        assert_eq!(spawns(&story.wait(STEP)), 1);
    }
    assert!(story.supervisor.is_serving());
}

#[test]
fn a_worker_killed_at_its_deadline_makes_a_shutdown_124() {
    let mut story = Story::new(Policy {
        drain_delay: Duration::ZERO,
        ..policy()
    });
    let _ = story.signal(Signal::TERM);
    let _ = story.exit(0, 0, false);
    let killed = story.wait(2 * STEP);
    assert!(killed.contains(&Action::Signal {
        worker: WorkerId(1),
        to: Target::Group,
        signal: Signal::KILL,
        value: None,
    }));
    let mut actions = story.exit(1, 137, false);
    actions.extend(story.tell(Event::TreeGone));
    assert_eq!(exit_code(&actions), Some(124));
}

#[test]
fn a_second_request_skips_the_delay_and_a_third_kills() {
    let mut story = Story::new(policy());
    assert!(!story.signal(Signal::TERM).contains(&Action::CloseListeners));
    assert!(story.supervisor.is_serving());
    assert!(story.signal(Signal::INT).contains(&Action::CloseListeners));
    let third = story.signal(Signal::TERM);
    let kills = third.iter().filter(|action| {
        matches!(
            action,
            Action::Signal {
                signal: Signal::KILL,
                to: Target::Group,
                ..
            }
        )
    });
    assert_eq!(kills.count(), 2);
}

#[test]
fn a_dead_worker_is_replaced_while_the_drain_delay_runs() {
    let mut story = Story::new(policy());
    let _ = story.signal(Signal::TERM);
    assert_eq!(spawns(&story.exit(0, 1, true)), 1);
}

#[test]
fn scaling_goes_up_and_down_between_one_and_the_bound() {
    let mut story = Story::new(Policy {
        instances: 1,
        most_instances: 2,
        ..policy()
    });
    assert_eq!(spawns(&story.signal(Signal::TTIN)), 1);
    assert_eq!(spawns(&story.signal(Signal::TTIN)), 0);
    assert_eq!(story.supervisor.instances(), 2);
    let down = story.signal(Signal::TTOU);
    assert!(down.iter().any(|action| matches!(
        action,
        Action::Signal {
            worker: WorkerId(1),
            ..
        }
    )));
    assert_eq!(spawns(&story.signal(Signal::TTOU)), 0);
    assert_eq!(story.supervisor.instances(), 1);
    // Wanted again while it drains: it comes back in the same slot.
    let _ = story.signal(Signal::TTIN);
    assert_eq!(spawns(&story.exit(1, 0, false)), 1);
}

#[test]
fn a_job_that_succeeds_at_last_has_succeeded() {
    let restart = Restart::OnFailure;
    let mut story = Story::new(Policy {
        restart,
        instances: 1,
        ..policy()
    });
    let _ = story.exit(0, 3, false);
    let _ = story.wait(STEP);
    let mut actions = story.exit(1, 0, false);
    actions.extend(story.tell(Event::TreeGone));
    assert_eq!(exit_code(&actions), Some(0));
}

#[test]
fn giving_up_is_with_the_code_of_the_failure_and_not_of_what_it_ended() {
    let mut story = Story::new(Policy {
        max_restarts: 1,
        ..policy()
    });
    let _ = story.exit(0, 7, false);
    let _ = story.wait(STEP);
    // Slot 1 fails while slot 0 is on a try more, which is then asked to stop.
    let _ = story.exit(1, 9, false);
    let mut actions = story.exit(2, 143, false);
    actions.extend(story.tell(Event::TreeGone));
    assert_eq!(exit_code(&actions), Some(9));
}

#[test]
fn a_finished_app_exits_with_its_first_failure() {
    for (restart, codes, code) in [
        (Restart::Never, [0, 0], 0),
        (Restart::Never, [3, 4], 3),
        (Restart::OnFailure, [0, 0], 0),
    ] {
        let mut story = Story::new(Policy {
            restart,
            ..policy()
        });
        let _ = story.exit(0, codes[0], false);
        let mut actions = story.exit(1, codes[1], false);
        actions.extend(story.tell(Event::TreeGone));
        assert_eq!(exit_code(&actions), Some(code), "{restart:?} {codes:?}");
    }
}

#[test]
fn init_mode_forwards_and_leaves_with_its_child() {
    let init = Policy {
        mode: Mode::Init,
        restart: Restart::Never,
        instances: 1,
        ..policy()
    };
    for number in 1..=64 {
        let mut story = Story::new(init.clone());
        let signal = Signal::from_number(number).unwrap();
        let value = Some(number.unsigned_abs().into());
        let arrival = Arrival {
            signal,
            value,
            from_kernel: false,
        };
        let worker = WorkerId(0);
        let forwarded = Action::Signal {
            worker,
            to: Target::Main,
            signal,
            value,
        };
        // Before it goes on, it is lent the terminal.
        let lent = Action::LendTerminal(worker, Claim::Stdin);
        let expected = if signal == Signal::CONT {
            vec![lent, forwarded]
        } else {
            vec![forwarded]
        };
        assert_eq!(story.tell(Event::Signal(arrival)), expected);
        let exit = Exit::Signal {
            signal,
            core: false,
        };
        let worker = WorkerId(0);
        let mut actions = story.tell(Event::Exited {
            worker,
            exit,
            served: Served::Unknown,
            awaited: false,
            backgrounded: false,
        });
        actions.extend(story.tell(Event::TreeGone));
        assert_eq!(
            exit_code(&actions),
            Some(128 + u8::try_from(number).unwrap())
        );
    }
}

#[test]
fn what_is_forwarded_may_be_another_signal_and_go_to_the_group() {
    let mut routes = Routes::default();
    routes.set(Signal::TERM, Meaning::Forward(Signal::QUIT));
    routes.set(Signal::USR1, Meaning::Nothing);
    for mode in [Mode::Init, Mode::Cluster] {
        let mut story = Story::new(Policy {
            mode,
            restart: Restart::Never,
            instances: 1,
            routes: routes.clone(),
            forward_to: Target::Group,
            ..policy()
        });
        assert_eq!(story.signal(Signal::USR1), []);
        let forwarded = Action::Signal {
            worker: WorkerId(0),
            to: Target::Group,
            signal: Signal::QUIT,
            value: None,
        };
        assert_eq!(story.signal(Signal::TERM), [forwarded]);
    }
}

/// Nobody is left to get what TERM is rewritten to, and the tree is waited
/// for: whoever sends it is not to wait as long.
#[test]
fn a_rewritten_request_to_end_ends_it_without_a_child() {
    for (from, to) in [(Signal::TERM, Signal::USR1), (Signal::USR1, Signal::TERM)] {
        let mut routes = Routes::default();
        routes.set(from, Meaning::Forward(to));
        let mut story = Story::new(Policy {
            mode: Mode::Init,
            restart: Restart::Never,
            instances: 1,
            routes,
            ..policy()
        });
        assert!(story.exit(0, 3, false).contains(&Action::TermTree));
        assert_eq!(story.signal(Signal::WINCH), []);
        assert_eq!(story.signal(from), [Action::KillTree], "{from}");
        assert_eq!(exit_code(&story.tell(Event::TreeGone)), Some(3));
    }
}

#[test]
fn a_signal_may_mean_a_reload_or_a_shutdown() {
    let mut routes = Routes::default();
    routes.set(Signal::USR1, Meaning::Reload);
    routes.set(Signal::USR2, Meaning::Shutdown);
    routes.set(Signal::HUP, Meaning::Forward(Signal::HUP));
    let mut story = Story::new(Policy { routes, ..policy() });
    let forwarded = story.signal(Signal::HUP);
    assert!(matches!(
        forwarded[..],
        [Action::Signal { .. }, Action::Signal { .. }]
    ));
    assert_eq!(spawns(&story.signal(Signal::USR1)), 1);
    let actions = story.signal(Signal::USR2);
    assert!(actions.contains(&Action::Note(Note::ShutdownIn(policy().drain_delay))));
}

#[test]
fn a_background_server_is_not_tried_again() {
    let mut story = Story::new(Policy {
        instances: 1,
        ..policy()
    });
    let worker = WorkerId(0);
    let exit = Exit::Code(0);
    let mut actions = story.tell(Event::Exited {
        worker,
        exit,
        served: Served::Unknown,
        awaited: false,
        backgrounded: true,
    });
    actions.extend(story.tell(Event::GroupGone(worker)));
    actions.extend(story.tell(Event::TreeGone));
    assert_eq!((spawns(&actions), exit_code(&actions)), (0, Some(1)));
}

#[test]
fn a_slot_that_serves_at_last_is_not_given_up_with_the_others() {
    let mut story = Story::new(Policy {
        max_restarts: 1,
        ..policy()
    });
    let _ = story.exit(1, 9, false);
    let _ = story.wait(STEP);
    // Slot 1's second worker runs, silent, and is up for a while.
    let _ = story.tell(Event::Executed(WorkerId(2)));
    story.now = story.now + STEP;
    let _ = story.exit(0, 9, false);
    assert!(story.supervisor.is_serving());
}

#[test]
fn an_init_without_a_child_leaves_when_it_is_told_to() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP] {
        let mut story = Story::new(Policy {
            mode: Mode::Init,
            restart: Restart::Never,
            instances: 1,
            drain_delay: Duration::ZERO,
            ..policy()
        });
        let _ = story.tell(Event::SpawnFailed(WorkerId(0), SpawnError::Exhausted));
        assert_eq!(story.signal(Signal::USR1), []);
        let mut actions = story.signal(signal);
        actions.extend(story.tell(Event::TreeGone));
        assert_eq!(exit_code(&actions), Some(0), "{signal}");
    }
}

#[test]
fn a_request_with_nothing_running_takes_no_longer_than_the_grace() {
    let mut story = Story::new(Policy {
        instances: 1,
        drain_delay: Duration::ZERO,
        grace: STEP,
        orphan_grace: 5 * STEP,
        ..policy()
    });
    let _ = story.exit(0, 1, false);
    assert!(story.signal(Signal::TERM).contains(&Action::TermTree));
    assert!(story.wait(STEP).contains(&Action::KillTree));
    assert_eq!(exit_code(&story.wait(STEP)), Some(0));
}

#[test]
fn without_a_word_only_time_can_make_a_worker_ready() {
    for (ready, in_time) in [
        (Ready::Auto, true),
        (Ready::After(STEP), true),
        (Ready::Listen, false),
        (Ready::Notify, false),
    ] {
        let says_so = |actions: &[Action]| {
            let is_ready = |action: &Action| matches!(action, Action::Note(Note::Ready { .. }));
            actions.iter().any(is_ready)
        };
        let mut story = Story::new(Policy {
            instances: 1,
            ready,
            ..policy()
        });
        let worker = WorkerId(0);
        let _ = story.tell(Event::Executed(worker));
        assert_eq!(says_so(&story.wait(1000 * STEP)), in_time, "{ready:?}");
        let told = story.tell(Event::Ready(worker));
        assert_eq!(says_so(&told), !in_time, "{ready:?}");
    }
}

#[test]
fn a_worker_whose_queue_was_its_own_has_served_whoever_else_is_there() {
    let mut story = Story::new(policy());
    let _ = story.tell(Event::Ready(WorkerId(1)));
    let actions = story.exit_awaited(0, 1, Served::Itself, false);
    assert_eq!(spawns(&actions), 1, "at once");
}

#[test]
fn who_waits_at_a_dead_worker_skips_the_backoff_once() {
    let mut story = Story::new(Policy {
        max_restarts: 5,
        ..policy()
    });
    let first = story.exit_awaited(0, 1, Served::Unknown, true);
    assert_eq!(spawns(&first), 1, "at once");
    let second = story.exit_awaited(2, 1, Served::Unknown, true);
    assert_eq!(spawns(&second), 0, "it failed again");
    assert_eq!(spawns(&story.wait(4 * STEP)), 1);
}

#[test]
fn a_worker_that_is_scaled_away_takes_what_waits_for_it_first() {
    let mut story = Story::new(Policy {
        drain_delay: Duration::ZERO,
        grace: 4 * STEP,
        drain: Drain::Connections(60 * STEP),
        ..policy()
    });
    let [first, second] = [WorkerId(0), WorkerId(1)];
    let ready = story.tell(Event::Ready(first));
    assert!(ready.contains(&Action::Admit(first)));
    let _ = story.tell(Event::Ready(second));
    let turned = story.signal(Signal::TTOU);
    assert!(turned.contains(&Action::TurnAway(second)));
    assert!(!stopped(&turned, second), "it has connections to take");
    assert!(stopped(&story.tell(Event::Emptied(second)), second));
    // And where it takes none, half of its grace is for asking it.
    let _ = story.exit(1, 0, false);
    let _ = story.signal(Signal::TTIN);
    let third = WorkerId(2);
    let _ = story.tell(Event::Ready(third));
    let _ = story.signal(Signal::TTOU);
    assert!(!stopped(&story.wait(STEP), third));
    assert!(stopped(&story.wait(STEP), third));
    // So it is at the end, and a second request takes that time away.
    let _ = story.tell(Event::Emptied(third));
    assert!(!stopped(&story.signal(Signal::TERM), first));
    assert!(stopped(&story.signal(Signal::TERM), first));
}

#[test]
fn where_a_port_cannot_be_shared_its_worker_stays_alone() {
    let mut story = Story::new(policy());
    let actions = story.tell(Event::SharingLost(WorkerId(1)));
    assert!(stopped(&actions, WorkerId(0)));
    assert!(!stopped(&actions, WorkerId(1)));
    assert_eq!(story.supervisor.instances(), 1);
    let _ = story.signal(Signal::TTIN);
    assert_eq!(story.supervisor.instances(), 1, "no second one");
}

#[test]
fn of_two_that_cannot_share_their_port_the_first_stays() {
    let mut story = Story::new(policy());
    let _ = story.tell(Event::SharingLost(WorkerId(1)));
    let actions = story.tell(Event::SharingLost(WorkerId(0)));
    assert!(!stopped(&actions, WorkerId(1)), "they both are gone then");
    assert_eq!(story.supervisor.instances(), 1);
}

fn stopped(actions: &[Action], worker: WorkerId) -> bool {
    let signal = policy().stop_signal;
    actions.contains(&Action::Signal {
        worker,
        to: Target::Main,
        signal,
        value: None,
    })
}

#[test]
fn a_worker_that_stops_saying_that_it_is_alive_is_killed() {
    let mut story = Story::new(policy());
    let [first, second] = [WorkerId(0), WorkerId(1)];
    let _ = story.tell(Event::Ready(first));
    let _ = story.tell(Event::Ready(second));
    assert!(!hung(&story.wait(9 * STEP), first), "it never said so");
    let _ = story.tell(Event::Alive(first, Some(2 * STEP)));
    assert!(!hung(&story.wait(STEP), first));
    let _ = story.tell(Event::Alive(first, Some(2 * STEP)));
    assert!(!hung(&story.wait(STEP), first));
    assert!(hung(&story.wait(STEP), first));
    assert_eq!(spawns(&story.exit(0, 1, false)), 1, "at once");
    // And one that takes its word back, or is stopped, is not.
    let _ = story.tell(Event::Alive(second, Some(STEP)));
    let _ = story.tell(Event::Alive(second, None));
    assert!(!hung(&story.wait(9 * STEP), second));
    let _ = story.tell(Event::Alive(second, Some(STEP)));
    let _ = story.signal(Signal::TSTP);
    assert!(!hung(&story.wait(9 * STEP), second));
}

#[test]
fn a_worker_that_hangs_as_soon_as_it_is_ready_has_failed() {
    let mut story = Story::new(policy());
    let _ = story.tell(Event::Ready(WorkerId(0)));
    assert!(hung(&story.tell(Event::Hung(WorkerId(0))), WorkerId(0)));
    assert_eq!(spawns(&story.exit(0, 1, false)), 0, "not at once");
    assert_eq!(spawns(&story.wait(2 * STEP)), 1);
}

#[test]
fn a_hung_worker_that_is_not_to_be_restarted_is_not() {
    let mut story = Story::new(Policy {
        instances: 1,
        restart: Restart::Never,
        ..policy()
    });
    let _ = story.tell(Event::Ready(WorkerId(0)));
    let _ = story.tell(Event::Hung(WorkerId(0)));
    assert_eq!(spawns(&story.exit(0, 1, false)), 0);
    let end = story.tell(Event::TreeGone);
    assert_eq!(exit_code(&end), Some(137));
}

fn hung(actions: &[Action], worker: WorkerId) -> bool {
    actions.contains(&Action::Note(Note::Hung(worker)))
}

#[test]
fn survivors_that_are_left_are_told_and_not_waited_for() {
    let mut story = Story::new(Policy {
        mode: Mode::Init,
        instances: 1,
        restart: Restart::Never,
        leaves_survivors: true,
        ..policy()
    });
    let _ = story.tell(Event::Executed(WorkerId(0)));
    let actions = story.exit(0, 7, false);
    assert!(actions.contains(&Action::TermTree), "{actions:?}");
    assert!(!actions.contains(&Action::KillTree), "{actions:?}");
    assert_eq!(exit_code(&actions), Some(7));
}
