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
    /// Each worker's main process gets it.
    Forward,
    /// Nothing: it is the kernel's word to clinit itself.
    Nothing,
}

impl Meaning {
    /// What this signal means in this mode.
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
            (Mode::Init, _, _) => Self::Forward,
            (Mode::Cluster, Signal::TERM | Signal::INT | Signal::QUIT, _)
            | (Mode::Cluster, Signal::HUP, true) => Self::Shutdown,
            (Mode::Cluster, Signal::HUP, false) => Self::Reload,
            (Mode::Cluster, Signal::TTIN, false) => Self::ScaleUp,
            (Mode::Cluster, Signal::TTOU, false) => Self::ScaleDown,
            (Mode::Cluster, Signal::TSTP, _) => Self::Suspend,
            (Mode::Cluster, Signal::CONT, _) => Self::Resume,
            // A resized terminal would end httpd, whose WINCH is a stop.
            (Mode::Cluster, _, true) => Self::Nothing,
            (Mode::Cluster, _, false) => Self::Forward,
        }
    }
}
