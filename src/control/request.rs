//! What is asked of clinit.

use super::VERSION;
use super::json::{Json, Object};
use crate::supervisor::policy::Signal;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To tell of workers.
    Status(Target),
    /// To tell of everything that happens from now on.
    Events,
    /// To replace every worker, and to answer when that is done.
    Reload,
    /// To have this many workers.
    Scale(Amount),
    /// To end workers and start others.
    Restart(Target),
    /// To end workers and start no others.
    Stop(Target),
    /// To start workers where there are none.
    Start(Target),
    /// To do without a slot.
    Delete(Target),
    /// To send a signal to workers.
    Signal(Signal, Target),
    /// To shut everything down.
    Kill,
    /// To answer once it is ready.
    WaitReady,
    /// To say nothing, and with that to tell when it has ended.
    WaitStopped,
    /// To say whether clinit is there.
    ProbeLive,
    /// To say whether it is ready.
    ProbeReady,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    To(u32),
    /// So many more, or fewer.
    By(i32),
    /// As many as `-i max` gives.
    Max,
}

/// Whose workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everybody's.
    All,
    /// That of a slot.
    Slot(u32),
    /// Those of the app of this name.
    App(String),
}

/// The verbs as they are written, for a message.
const VERBS: &str = "status, events, reload, scale, restart, stop, start, delete, signal, kill, \
     wait, probe";

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// One line that says what is accepted.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).ok();
        let json = text.and_then(Json::parse);
        let json = json.filter(|json| matches!(json, Json::Object(_)));
        let json = json.ok_or("accepted is a JSON object on one line, with whole numbers")?;
        if json.number("v").and_then(|v| u64::try_from(v).ok()) != Some(VERSION) {
            return Err(format!("accepted is version {VERSION}: \"v\":{VERSION}"));
        }
        let verb = json.text("verb").unwrap_or_default();
        let of_target: Option<fn(Target) -> Self> = match verb {
            "status" => Some(Self::Status),
            "restart" => Some(Self::Restart),
            "stop" => Some(Self::Stop),
            "start" => Some(Self::Start),
            "delete" => Some(Self::Delete),
            _ => None,
        };
        if let Some(of_target) = of_target {
            return target(&json).map(of_target);
        }
        let wanted = || json.text("for").unwrap_or_default();
        Ok(match verb {
            "events" => Self::Events,
            "reload" => Self::Reload,
            "scale" => Self::Scale(amount(&json)?),
            "signal" => {
                let signal = json.text("signal").and_then(Signal::parse);
                let signal = signal.ok_or("\"signal\": accepted is a signal as in USR1")?;
                Self::Signal(signal, target(&json)?)
            }
            "kill" => Self::Kill,
            "wait" if wanted() == "ready" => Self::WaitReady,
            "wait" if wanted() == "stopped" => Self::WaitStopped,
            "wait" => return Err("\"for\": accepted are ready and stopped".into()),
            "probe" if wanted() == "live" => Self::ProbeLive,
            "probe" if wanted() == "ready" => Self::ProbeReady,
            "probe" => return Err("\"for\": accepted are live and ready".into()),
            _ => return Err(["\"verb\": accepted are ", VERBS].concat()),
        })
    }

    /// It as a line, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        let of = |verb| Object::line().text("verb", verb);
        let with = |verb, target: &Target| of(verb).target(target);
        let object = match self {
            Self::Status(target) => with("status", target),
            Self::Events => of("events"),
            Self::Reload => of("reload"),
            Self::Scale(Amount::To(to)) => of("scale").number("to", u64::from(*to)),
            Self::Scale(Amount::By(by)) => of("scale").json("by", &by.to_string()),
            Self::Scale(Amount::Max) => of("scale").text("to", "max"),
            Self::Restart(target) => with("restart", target),
            Self::Stop(target) => with("stop", target),
            Self::Start(target) => with("start", target),
            Self::Delete(target) => with("delete", target),
            Self::Signal(signal, target) => {
                with("signal", target).text("signal", &signal.to_string())
            }
            Self::Kill => of("kill"),
            Self::WaitReady => of("wait").text("for", "ready"),
            Self::WaitStopped => of("wait").text("for", "stopped"),
            Self::ProbeLive => of("probe").text("for", "live"),
            Self::ProbeReady => of("probe").text("for", "ready"),
        };
        object.finish()
    }
}

impl Object {
    fn target(self, target: &Target) -> Self {
        match target {
            Target::All => self,
            Target::Slot(slot) => self.number("slot", u64::from(*slot)),
            Target::App(name) => self.text("app", name),
        }
    }
}

fn target(json: &Json) -> Result<Target, String> {
    match (json.get("slot"), json.get("app")) {
        (None, None) => Ok(Target::All),
        (Some(Json::Number(slot)), None) => u32::try_from(*slot)
            .map(Target::Slot)
            .map_err(|_| "\"slot\": accepted is a slot's number".into()),
        (None, Some(Json::Text(name))) => Ok(Target::App(name.clone())),
        _ => Err("accepted is \"slot\", a number, or \"app\", a name".into()),
    }
}

fn amount(json: &Json) -> Result<Amount, String> {
    let amount = match (json.get("to"), json.get("by")) {
        (Some(Json::Text(max)), None) if max == "max" => Some(Amount::Max),
        (Some(Json::Number(to)), None) => {
            let to = u32::try_from(*to).ok();
            to.filter(|to| *to > 0).map(Amount::To)
        }
        (None, Some(Json::Number(by))) => i32::try_from(*by).ok().map(Amount::By),
        _ => None,
    };
    let accepted = "accepted is \"to\", a number from 1 on or \"max\", or \"by\", a number";
    amount.ok_or_else(|| accepted.into())
}

/// One of each kind.
#[cfg(test)]
pub(super) fn samples() -> Vec<Request> {
    let app = || Target::App("a \"b\"\n".into());
    let signal = Signal::parse("RTMIN+3").unwrap_or(Signal::HUP);
    vec![
        Request::Status(Target::All),
        Request::Events,
        Request::Reload,
        Request::Scale(Amount::To(4)),
        Request::Scale(Amount::By(-2)),
        Request::Scale(Amount::Max),
        Request::Restart(Target::All),
        Request::Restart(Target::Slot(u32::MAX)),
        Request::Stop(app()),
        Request::Start(Target::All),
        Request::Delete(Target::Slot(0)),
        Request::Signal(signal, app()),
        Request::Kill,
        Request::WaitReady,
        Request::WaitStopped,
        Request::ProbeLive,
        Request::ProbeReady,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for request in samples() {
            let line = request.line();
            assert_eq!(Request::parse(line.as_bytes()), Ok(request), "{line}");
        }
    }

    #[test]
    fn what_is_refused_says_what_is_accepted() {
        for (line, said) in [
            ("", "a JSON object on one line"),
            ("status", "a JSON object on one line"),
            ("[1]", "a JSON object on one line"),
            (r#"{"verb":"status"}"#, "\"v\":1"),
            (r#"{"v":2,"verb":"status"}"#, "\"v\":1"),
            (r#"{"v":1}"#, "status, events, reload"),
            (r#"{"v":1,"verb":"STATUS"}"#, "status, events, reload"),
            (r#"{"v":1,"verb":"scale"}"#, "\"to\""),
            (r#"{"v":1,"verb":"scale","to":0}"#, "from 1 on"),
            (r#"{"v":1,"verb":"scale","to":-1}"#, "from 1 on"),
            (r#"{"v":1,"verb":"scale","to":2,"by":1}"#, "\"to\""),
            (r#"{"v":1,"verb":"scale","by":4294967296}"#, "\"by\""),
            (r#"{"v":1,"verb":"stop","slot":-1}"#, "a slot's number"),
            (r#"{"v":1,"verb":"stop","slot":"1"}"#, "\"slot\", a number"),
            (r#"{"v":1,"verb":"signal","signal":"NOPE"}"#, "USR1"),
            (r#"{"v":1,"verb":"wait"}"#, "ready and stopped"),
            (r#"{"v":1,"verb":"probe","for":"dead"}"#, "live and ready"),
        ] {
            let error = Request::parse(line.as_bytes()).unwrap_err();
            assert!(
                error.contains(said) && !error.contains('\n'),
                "{line}: {error}"
            );
        }
        assert!(Request::parse(b"\xff").is_err());
    }
}
