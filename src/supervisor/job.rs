//! Job control, in init mode: the child and clinit are one job to the shell
//! that started clinit, and two process groups to the kernel.
//!
//! | the child stops by | the terminal is | then |
//! |---|---|---|
//! | any signal | not there | that is between the child and who stopped it |
//! | TTIN, TTOU | clinit's own | it is lent to the child, which goes on |
//! | TTIN, TTOU | anybody else's | clinit's group stops by the same signal |
//! | TSTP | the child's | clinit's group stops by the same signal |
//! | TSTP | anybody else's | clinit stops by the same signal |
//! | STOP | the child's | clinit's group stops by TSTP |
//! | STOP | anybody else's | that is between the child and who stopped it |
//!
//! Where nobody could continue clinit, as process 1 say, the kernel does not
//! stop it. The kernel would not have stopped the child in clinit's place by
//! TSTP either, so it goes on.

use super::event::{Action, WorkerId};
use super::policy::Mode;
use super::signal::Signal;
use super::{Supervisor, Turn};

/// Whose process group the terminal of clinit's session is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// There is none.
    Nobody,
    /// Clinit's own.
    Own,
    /// The child's that the event is about.
    Child,
    /// Another's.
    Other,
}

/// What a child that is lent the terminal has to show for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// That the terminal is its standard input.
    Stdin,
    /// Nothing: it has just tried to use it.
    Asked,
}

/// How much of a job is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Clinit alone.
    Clinit,
    /// Its process group: it may have been started by a script.
    Group,
}

impl Supervisor {
    /// A signal has stopped a main process.
    pub(super) fn stopped(
        &mut self,
        worker: WorkerId,
        by: Signal,
        holder: Holder,
        turn: &mut Turn<'_>,
    ) {
        if self.mode != Mode::Init || !self.runs(worker) {
            return;
        }
        self.suspended = true;
        let asks = [Signal::TTIN, Signal::TTOU].contains(&by);
        let stop_job = match holder {
            Holder::Own if asks => {
                turn.act(Action::LendTerminal(worker, Claim::Asked));
                return self.resume(turn);
            }
            Holder::Other if asks => Some((by, Extent::Group)),
            Holder::Child if by == Signal::STOP => Some((Signal::TSTP, Extent::Group)),
            Holder::Child => Some((by, Extent::Group)),
            Holder::Own | Holder::Other if by == Signal::TSTP => Some((by, Extent::Clinit)),
            Holder::Own | Holder::Other | Holder::Nobody => None,
        };
        if let Some((signal, extent)) = stop_job {
            let told = by;
            turn.act(Action::StopJob {
                signal,
                extent,
                told,
            });
        }
    }

    /// Clinit could not be stopped in the wake of a child that this signal has
    /// stopped.
    pub(super) fn not_stopped(&mut self, by: Signal, turn: &mut Turn<'_>) {
        if by == Signal::TSTP && self.suspended {
            self.resume(turn);
        }
    }

    /// SIGCONT came: from a shell, for the whole job, which may be in the
    /// foreground now.
    pub(super) fn continued(&mut self, value: Option<u64>, turn: &mut Turn<'_>) {
        for slot in self.apps.iter().flat_map(|app| &app.slots) {
            for worker in slot.running() {
                turn.act(Action::LendTerminal(worker, Claim::Stdin));
            }
        }
        if self.suspended && value.is_none() {
            self.resume(turn);
        } else {
            self.each_app(|app| app.forward(Signal::CONT, value, turn));
        }
    }

    /// What the terminal stops is a whole group.
    fn resume(&mut self, turn: &mut Turn<'_>) {
        self.suspended = false;
        self.each_app(|app| app.signal_groups(Signal::CONT, turn));
    }

    fn runs(&self, worker: WorkerId) -> bool {
        let mut slots = self.apps.iter().flat_map(|app| &app.slots);
        slots.any(|slot| slot.running().any(|running| running == worker))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::super::{Arrival, Event, Now, Policy, Target, Time};
    use super::*;

    const CHILD: WorkerId = WorkerId(0);

    fn tell(supervisor: &mut Supervisor, event: Event) -> Vec<Action> {
        let now = Now {
            time: Time::from_millis(1000),
            entropy: 0,
        };
        supervisor.step(event, now)
    }

    fn with_a_child(mode: Mode) -> Supervisor {
        let policy = Policy {
            mode,
            instances: 1,
            ..policy()
        };
        let mut supervisor = Supervisor::new(policy);
        let _ = tell(&mut supervisor, Event::DeadlineReached);
        let _ = tell(&mut supervisor, Event::Executed(CHILD));
        supervisor
    }

    fn cont(to: Target, value: Option<u64>) -> Action {
        Action::Signal {
            worker: CHILD,
            to,
            signal: Signal::CONT,
            value,
        }
    }

    fn stop(signal: Signal, extent: Extent, told: Signal) -> Vec<Action> {
        vec![Action::StopJob {
            signal,
            extent,
            told,
        }]
    }

    fn continue_by(value: Option<u64>) -> Event {
        Event::Signal(Arrival {
            signal: Signal::CONT,
            value,
            from_kernel: false,
        })
    }

    /// The table above, row by row.
    #[test]
    fn a_child_that_stops_stops_its_job() {
        use Holder::{Child, Nobody, Other, Own};
        let lent = vec![
            Action::LendTerminal(CHILD, Claim::Asked),
            cont(Target::Group, None),
        ];
        for by in [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            for holder in [Nobody, Own, Child, Other] {
                let expected = match (by, holder) {
                    (_, Nobody) | (Signal::STOP, Own | Other) => vec![],
                    (Signal::STOP, Child) => stop(Signal::TSTP, Extent::Group, by),
                    (Signal::TSTP, Own | Other) => stop(by, Extent::Clinit, by),
                    (_, Own) => lent.clone(),
                    (_, Child | Other) => stop(by, Extent::Group, by),
                };
                let mut supervisor = with_a_child(Mode::Init);
                let stopped = Event::Stopped(CHILD, by, holder);
                assert_eq!(tell(&mut supervisor, stopped), expected, "{by} {holder:?}");
                let mut supervisor = with_a_child(Mode::Cluster);
                assert_eq!(tell(&mut supervisor, stopped), []);
            }
        }
    }

    #[test]
    fn whom_nobody_could_continue_goes_on_after_tstp_alone() {
        for by in [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            let mut supervisor = with_a_child(Mode::Init);
            let stopped = Event::Stopped(CHILD, by, Holder::Child);
            let _ = tell(&mut supervisor, stopped);
            let goes_on = tell(&mut supervisor, Event::NotStopped(by));
            assert_eq!(goes_on == [cont(Target::Group, None)], by == Signal::TSTP);
        }
    }

    #[test]
    fn a_job_that_was_stopped_is_continued_as_a_whole_and_another_verbatim() {
        let lent = Action::LendTerminal(CHILD, Claim::Stdin);
        let mut supervisor = with_a_child(Mode::Init);
        let told = tell(&mut supervisor, continue_by(None));
        assert_eq!(told, [lent, cont(Target::Main, None)]);
        let stopped = Event::Stopped(CHILD, Signal::TSTP, Holder::Child);
        let _ = tell(&mut supervisor, stopped);
        let told = tell(&mut supervisor, continue_by(Some(7)));
        assert_eq!(told, [lent, cont(Target::Main, Some(7))]);
        let told = tell(&mut supervisor, continue_by(None));
        assert_eq!(told, [lent, cont(Target::Group, None)]);
        let told = tell(&mut supervisor, continue_by(None));
        assert_eq!(told, [lent, cont(Target::Main, None)]);
    }
}
