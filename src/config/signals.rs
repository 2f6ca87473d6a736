//! `--signal SIG=ACTION`: what signals are to mean.

use super::error::UsageError;
use super::given::Given;
use crate::supervisor::policy::{Meaning, Mode, Routes, Signal};

const ACCEPTED: &str = "accepted is SIG=ACTION: forward, ignore, reload, shutdown or a signal, \
    as in USR2=reload or TERM=QUIT";

/// Reads them all, each of another signal.
pub(super) fn routes(given: &[Given], mode: Mode) -> Result<Routes, Box<UsageError>> {
    let mut routes = Routes::default();
    for given in given {
        let route = given.text().and_then(|text| route(text, mode));
        let (signal, meaning) = route.map_err(|reason| given.refused(reason))?;
        if !routes.set(signal, meaning) {
            return Err(given.refused("that signal has an action already".into()));
        }
    }
    Ok(routes)
}

fn route(text: &str, mode: Mode) -> Result<(Signal, Meaning), String> {
    let (signal, action) = text.split_once('=').ok_or(ACCEPTED)?;
    let signal = Signal::parse(signal).ok_or(ACCEPTED)?;
    if signal == Signal::KILL || signal == Signal::STOP {
        return Err("KILL and STOP cannot be caught; accepted is any other signal".into());
    }
    let meaning = match action {
        "forward" => Meaning::Forward(signal),
        "ignore" => Meaning::Nothing,
        "reload" | "shutdown" if mode == Mode::Init => {
            return Err(
                "that needs cluster mode (-i N or -l ADDR); accepted are forward, ignore \
                 and a signal"
                    .into(),
            );
        }
        "reload" => Meaning::Reload,
        "shutdown" => Meaning::Shutdown,
        other => Meaning::Forward(Signal::parse(other).ok_or(ACCEPTED)?),
    };
    Ok((signal, meaning))
}
