//! What a signal asks for, in either mode: the table of the README.

use super::event::Arrival;
use super::policy::Mode;
use super::signal::Signal;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// A graceful shutdown; a second one hurries it, a third kills.
    Shutdown,
    /// A rolling reload.
    Reload,
    /// One worker more.
    ScaleUp,
    /// One worker fewer.
    ScaleDown,
    /// Stop the workers, then clinit.
    Suspend,
    /// Let stopped workers go on.
    Resume,
    /// Each worker gets a signal: this one, or another in its place.
    Forward(Signal),
    /// Nothing: it is the kernel's word to clinit itself, or to be ignored.
    Nothing,
}

/// The signals that a process brings upon itself (`signal(7)`).
const FAULTS: [Signal; 7] = [
    Signal::ILL,
    Signal::TRAP,
    Signal::ABRT,
    Signal::BUS,
    Signal::FPE,
    Signal::SEGV,
    Signal::SYS,
];

impl Meaning {
    /// What this signal means in this mode, where nobody says otherwise.
    #[must_use]
    #[expect(
        clippy::match_same_arms,
        reason = "a table, in the order it is read in"
    )]
    pub fn of(arrival: Arrival, mode: Mode) -> Self {
        let Arrival {
            signal,
            from_kernel,
            ..
        } = arrival;
        match (mode, signal, from_kernel) {
            // A dead child is no message, and neither is a terminal that
            // objects to clinit's own reading or writing.
            (_, Signal::CHLD | Signal::TTIN | Signal::TTOU, true) => Self::Nothing,
            // Clinit's own faults: bad memory that the kernel has found, say.
            // One that clinit runs into kills it, blocked as it may be.
            (_, fault, true) if FAULTS.contains(&fault) => Self::Nothing,
            (Mode::Init, signal, _) => Self::Forward(signal),
            (Mode::Cluster, Signal::TERM | Signal::INT | Signal::QUIT, _)
            | (Mode::Cluster, Signal::HUP, true) => Self::Shutdown,
            (Mode::Cluster, Signal::HUP, false) => Self::Reload,
            (Mode::Cluster, Signal::TTIN, false) => Self::ScaleUp,
            (Mode::Cluster, Signal::TTOU, false) => Self::ScaleDown,
            (Mode::Cluster, Signal::TSTP, _) => Self::Suspend,
            (Mode::Cluster, Signal::CONT, _) => Self::Resume,
            // A resized terminal would end httpd, whose WINCH is a stop.
            (Mode::Cluster, _, true) => Self::Nothing,
            (Mode::Cluster, signal, false) => Self::Forward(signal),
        }
    }
}

/// What signals are to mean, where that is not what they mean anyway: of any
/// signal, one meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Routes(Vec<(Signal, Meaning)>);

impl Routes {
    /// Has this signal mean this from now on. Returns whether nothing had been
    /// said of it before.
    pub fn set(&mut self, signal: Signal, meaning: Meaning) -> bool {
        if let Some(route) = self.0.iter_mut().find(|(of, _)| *of == signal) {
            route.1 = meaning;
            return false;
        }
        self.0.push((signal, meaning));
        true
    }

    /// What this signal means in this mode. What the kernel says to clinit
    /// itself goes nowhere else.
    #[must_use]
    pub fn meaning(&self, arrival: Arrival, mode: Mode) -> Meaning {
        let usual = Meaning::of(arrival, mode);
        if arrival.from_kernel && usual == Meaning::Nothing {
            return usual;
        }
        self.of(arrival.signal).unwrap_or(usual)
    }

    /// What has been said of this signal.
    pub(super) fn of(&self, signal: Signal) -> Option<Meaning> {
        let route = self.0.iter().find(|(of, _)| *of == signal);
        route.map(|&(_, meaning)| meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(signal: Signal, from_kernel: bool) -> Arrival {
        Arrival {
            signal,
            value: None,
            from_kernel,
        }
    }

    fn all() -> impl Iterator<Item = Signal> {
        (1..=64).filter_map(Signal::from_number)
    }

    #[test]
    fn a_fault_of_clinits_own_is_nobody_elses() {
        for (mode, fault) in [Mode::Init, Mode::Cluster]
            .into_iter()
            .flat_map(|mode| FAULTS.map(|fault| (mode, fault)))
        {
            let of = |from_kernel| Meaning::of(arrival(fault, from_kernel), mode);
            assert_eq!(of(true), Meaning::Nothing, "{fault}");
            assert_eq!(of(false), Meaning::Forward(fault));
        }
    }

    #[test]
    fn each_signal_is_rewritten_to_any_other_and_ignored() {
        for mode in [Mode::Init, Mode::Cluster] {
            for signal in all() {
                let mut routes = Routes::default();
                let before = routes.meaning(arrival(signal, false), mode);
                assert_eq!(before, Meaning::of(arrival(signal, false), mode));
                assert!(routes.set(signal, Meaning::Nothing));
                let ignored = routes.meaning(arrival(signal, false), mode);
                assert_eq!(ignored, Meaning::Nothing, "{signal}");
                for other in all() {
                    // The later one holds.
                    assert!(!routes.set(signal, Meaning::Forward(other)));
                    let meaning = routes.meaning(arrival(signal, false), mode);
                    assert_eq!(meaning, Meaning::Forward(other), "{signal}");
                    if other != signal {
                        let untouched = routes.meaning(arrival(other, false), mode);
                        assert_eq!(untouched, Meaning::of(arrival(other, false), mode));
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_kernel_says_to_clinit_is_not_rerouted() {
        let mut routes = Routes::default();
        for signal in all() {
            routes.set(signal, Meaning::Shutdown);
        }
        let meaning = |signal, mode| routes.meaning(arrival(signal, true), mode);
        for mode in [Mode::Init, Mode::Cluster] {
            for own in FAULTS.into_iter().chain([Signal::CHLD, Signal::TTIN]) {
                assert_eq!(meaning(own, mode), Meaning::Nothing, "{own}");
            }
            // A terminal's keys and its end are people's word.
            for asked in [Signal::INT, Signal::QUIT, Signal::HUP] {
                assert_eq!(meaning(asked, mode), Meaning::Shutdown, "{asked}");
            }
        }
        assert_eq!(meaning(Signal::WINCH, Mode::Cluster), Meaning::Nothing);
    }
}
