//! What the given options mean, one by one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::{Overrides, Variables, lookup, stepped};
use super::error::UsageError;
use super::given::Given;
use super::level::LevelFilter;
use super::listen::ListenerSpec;
use super::memory::MaxMemory;
use super::options::Opt;
use super::plain::{self, Plain};
use super::share::{Capture, Share};
use super::signals;
use super::sizing::{Instances, MOST_INSTANCES};
use super::units::{backoff, duration, size, whole};
use super::user::Credentials;
use super::verbs::Socket;
use super::{Dialects, LogFormat};
use crate::supervisor::policy::{Drain, Mode, Ready, Restart, Routes, Signal, Surge};

/// Where the files are that options name.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// What a relative path is relative to.
    pub(super) cwd: &'a Path,
    /// What /etc/passwd is below.
    pub(super) root: &'a Path,
}

/// Every option's value, where it has one; of those that accept `auto`, it
/// stands for none, or for what holds where none is given.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) instances: Option<Instances>,
    pub(super) max_instances: Option<u32>,
    pub(super) worker_memory: Option<u64>,
    pub(super) listeners: Vec<ListenerSpec>,
    pub(super) share: Share,
    pub(super) capture: Capture,
    pub(super) dialects: Dialects,
    pub(super) ready: Option<Ready>,
    pub(super) ready_timeout: Option<Duration>,
    pub(super) settle: Option<Duration>,
    pub(super) surge: Option<Surge>,
    pub(super) drain_delay: Option<Duration>,
    pub(super) drain: Option<Drain>,
    pub(super) grace: Option<Duration>,
    pub(super) orphan_grace: Option<Duration>,
    pub(super) stop_signal: Option<Signal>,
    pub(super) restart: Option<Restart>,
    pub(super) backoff: Option<(Duration, Duration)>,
    pub(super) min_uptime: Option<Duration>,
    pub(super) max_restarts: Option<u32>,
    pub(super) max_memory: Option<MaxMemory>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) hang_timeout: Option<Duration>,
    pub(super) user: Option<Credentials>,
    pub(super) chdir: Option<PathBuf>,
    env: Vec<Given>,
    env_files: Vec<Given>,
    env_steps: Vec<Given>,
    signals: Vec<Given>,
    pub(super) to_group: bool,
    pub(super) pin: bool,
    pub(super) control: Socket,
    pub(super) ready_during_drain: bool,
    pub(super) plain: Plain,
    pub(super) log_format: LogFormat,
    log_level: Option<LevelFilter>,
    verbosity: usize,
}

impl Settings {
    /// Reads every value.
    pub(super) fn read(given: &[Given], place: Place<'_>) -> Result<Box<Self>, Box<UsageError>> {
        let mut settings = Box::new(Self::default());
        for given in given {
            let set = settings.set(given, place);
            set.map_err(|reason| given.refused(reason))?;
        }
        settings.check(given)?;
        Ok(settings)
    }

    /// Refuses a value that contradicts another.
    fn check(&self, given: &[Given]) -> Result<(), Box<UsageError>> {
        let of = |id| given.iter().find(|given| given.origin.spec.id == id);
        if let Some(Instances::Exactly(asked)) = self.instances
            && let Some(bound) = of(Opt::MaxInstances)
            && self.max_instances.is_some_and(|most| asked > most)
        {
            let reason = format!("that is less than the {asked} that -i asks for");
            return Err(bound.refused(reason));
        }
        let no_share = of(Opt::Share).filter(|_| self.share == Share::Off);
        let no_capture = of(Opt::Capture).filter(|_| self.capture == Capture::Off);
        if let Capture::Ports(_) = self.capture
            && let (Some(ports), Some(off)) = (of(Opt::Capture), no_share)
        {
            let reason = "shares no port; accepted are auto and off";
            return Err(ports.refused(format!("{} off {reason}", off.origin)));
        }
        if self.ready == Some(Ready::Listen)
            && let (Some(ready), Some(off)) = (of(Opt::Ready), no_share.or(no_capture))
        {
            let reason = "clinit sees none; accepted are auto, notify and after:DUR";
            return Err(ready.refused(format!("with {} off {reason}", off.origin)));
        }
        Ok(())
    }

    /// Takes in one value; the error is the reason why it is refused.
    fn set(&mut self, given: &Given, place: Place<'_>) -> Result<(), String> {
        let id = given.origin.spec.id;
        let text = if is_verbatim(id) { "" } else { given.text()? };
        match id {
            Opt::Instances => self.instances = Some(Instances::parse(text)?),
            Opt::MaxInstances => self.max_instances = Some(max_instances(text)?),
            Opt::WorkerMemory => self.worker_memory = Some(size(text)?),
            Opt::Listen => self.listen(text, place.cwd)?,
            Opt::Share => self.share = Share::parse(text)?,
            Opt::Capture => self.capture = Capture::parse(text)?,
            Opt::SocketsAs => self.dialects = dialects(text)?,
            Opt::Ready => self.ready = Some(ready(text)?),
            Opt::ReadyTimeout => self.ready_timeout = Some(some_time(text)?),
            Opt::Settle => self.settle = Some(duration(text, "")?),
            Opt::Surge => self.surge = Some(surge(text)?),
            Opt::Drain => self.drain = Some(drain(text)?),
            Opt::DrainDelay => self.drain_delay = or_auto(text)?,
            Opt::Grace => self.grace = or_auto(text)?,
            Opt::OrphanGrace => self.orphan_grace = Some(duration(text, "")?),
            Opt::StopSignal => self.stop_signal = stop_signal(text)?,
            Opt::Restart => self.restart = Some(restart(text)?),
            Opt::Backoff => self.backoff = Some(backoff(text)?),
            Opt::MinUptime => self.min_uptime = Some(duration(text, "")?),
            Opt::MaxRestarts => self.max_restarts = Some(max_restarts(text)?),
            Opt::MaxMemory => self.max_memory = Some(MaxMemory::parse(text)?),
            Opt::MaxLifetime => self.max_lifetime = Some(some_time(text)?),
            Opt::HangTimeout => self.hang_timeout = Some(some_time(text)?),
            Opt::Signal => self.signals.push(given.clone()),
            Opt::ToGroup => self.to_group = true,
            Opt::User => self.user = Some(Credentials::parse(text, place.root)?),
            Opt::Chdir => self.chdir = Some(path(given, place)?),
            Opt::Env => self.env.push(given.clone()),
            Opt::EnvFile => self.env_files.push(given.clone()),
            Opt::EnvStep => self.env_steps.push(given.clone()),
            Opt::Pin => self.pin = true,
            Opt::Control => self.control = socket(given, place)?,
            Opt::ReadyDuringDrain => self.ready_during_drain = fail_or_keep(text)?,
            Opt::LogFormat => self.log_format = log_format(text)?,
            Opt::LogLevel => self.log_level = Some(LevelFilter::parse(text)?),
            Opt::Verbose => self.verbosity += 1,
            Opt::ParentDeath => self.plain.parent_death = Some(plain::signal(text)?),
            Opt::ExitOk => self.plain.ok_codes.push(plain::exit_code(text)?),
            Opt::WarnReaped => self.plain.warn_reaped = true,
            // The command line's reader has answered the two, and clinit is a
            // subreaper wherever it has to be one.
            Opt::Help | Opt::Version | Opt::Subreaper => {}
        }
        Ok(())
    }

    /// Takes in a further listener, unlike those before it.
    fn listen(&mut self, text: &str, cwd: &Path) -> Result<(), String> {
        let listener = ListenerSpec::parse(text, cwd)?;
        for other in &self.listeners {
            if listener.name.is_some() && listener.name == other.name {
                return Err("another listener has that name".into());
            }
            if listener.address.clashes_with(&other.address) {
                return Err("another listener has that address".into());
            }
        }
        self.listeners.push(listener);
        Ok(())
    }

    /// The level of clinit's own log: each `-v` adds one to what
    /// `--log-level` says, or to `otherwise`.
    pub(super) fn log_level(&self, otherwise: LevelFilter) -> LevelFilter {
        self.log_level.unwrap_or(otherwise).louder(self.verbosity)
    }

    /// What signals are to mean.
    pub(super) fn routes(&self, mode: Mode) -> Result<Routes, Box<UsageError>> {
        signals::routes(&self.signals, mode)
    }

    /// The environment that workers start from: `inherited`, what env files
    /// say over it, and what `--env` says over that.
    pub(super) fn environment(
        &self,
        inherited: Variables,
        place: Place<'_>,
    ) -> Result<Variables, Box<UsageError>> {
        let mut overrides = Overrides::default();
        for given in &self.env_files {
            let added = path(given, place).and_then(|path| overrides.add_file(&path, &inherited));
            added.map_err(|reason| given.refused(reason))?;
        }
        for given in &self.env {
            let added = overrides.add_pair(&given.value);
            added.map_err(|reason| without_value(given).refused(reason))?;
        }
        Ok(overrides.over(inherited))
    }

    /// The variables that are stepped, each of which `environment` has to hold
    /// a whole number for.
    pub(super) fn env_steps(
        &self,
        environment: &Variables,
    ) -> Result<Vec<OsString>, Box<UsageError>> {
        let mut names = Vec::new();
        for given in &self.env_steps {
            let value = lookup(environment, &given.value)
                .ok_or_else(|| given.refused("workers have no such variable".into()))?;
            if stepped(value, MOST_INSTANCES).is_none() {
                return Err(given.refused("that variable's value is not a whole number".into()));
            }
            if names.contains(&given.value) {
                return Err(given.refused("that variable is stepped twice".into()));
            }
            names.push(given.value.clone());
        }
        Ok(names)
    }
}

/// What of `K=V` may be shown in a message.
fn without_value(given: &Given) -> Given {
    let text = given.value.to_string_lossy();
    let name = text.split_inclusive('=').next().unwrap_or_default();
    Given {
        origin: given.origin,
        value: name.into(),
    }
}

/// Whether a value is no text for [`Settings::set`] to read: a path, or
/// something for later.
fn is_verbatim(id: Opt) -> bool {
    let for_later = matches!(id, Opt::Env | Opt::EnvFile | Opt::EnvStep | Opt::Signal);
    for_later || matches!(id, Opt::Chdir | Opt::Control)
}

/// An absolute path.
fn path(given: &Given, place: Place<'_>) -> Result<PathBuf, String> {
    if given.value.is_empty() {
        return Err("a path is missing".into());
    }
    Ok(place.cwd.join(&given.value))
}

fn socket(given: &Given, place: Place<'_>) -> Result<Socket, String> {
    if given.value == "off" {
        return Ok(Socket::Off);
    }
    path(given, place).map(Socket::Path)
}

fn fail_or_keep(text: &str) -> Result<bool, String> {
    match text {
        "fail" => Ok(false),
        "keep" => Ok(true),
        _ => Err("accepted are fail and keep".into()),
    }
}

fn max_instances(text: &str) -> Result<u32, String> {
    whole(text)
        .filter(|most| (1..=MOST_INSTANCES).contains(most))
        .ok_or_else(|| format!("accepted is a whole number from 1 to {MOST_INSTANCES}"))
}

fn max_restarts(text: &str) -> Result<u32, String> {
    whole(text)
        .filter(|most| *most >= 1)
        .ok_or_else(|| format!("accepted is a whole number from 1 to {}", u32::MAX))
}

fn dialects(text: &str) -> Result<Dialects, String> {
    let mut dialects = Dialects::default();
    for dialect in text.split(',') {
        match dialect.trim_ascii() {
            "server-starter" => dialects.server_starter = true,
            "nginx" => dialects.nginx = true,
            _ => return Err("accepted are server-starter and nginx, with a comma between".into()),
        }
    }
    Ok(dialects)
}

fn ready(text: &str) -> Result<Ready, String> {
    match (text, text.strip_prefix("after:")) {
        ("auto", _) => Ok(Ready::Auto),
        ("listen", _) => Ok(Ready::Listen),
        ("notify", _) => Ok(Ready::Notify),
        (_, Some(text)) => duration(text, "").map(Ready::After),
        _ => Err("accepted are auto, listen, notify and after:DUR, as in after:5s".into()),
    }
}

fn or_auto(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "auto" => Ok(None),
        _ => duration(text, "auto, ").map(Some),
    }
}

/// A duration that is more than none.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text, "")? {
        Duration::ZERO => Err("it has to be more than 0".into()),
        some => Ok(some),
    }
}

fn surge(text: &str) -> Result<Surge, String> {
    let read = match text.strip_suffix('%') {
        Some(percent) => whole(percent).map(Surge::Percent),
        None => whole(text).map(Surge::Workers),
    };
    read.filter(|surge| !matches!(surge, Surge::Workers(0) | Surge::Percent(0)))
        .ok_or_else(|| "accepted are a whole number from 1 on, and 25%".into())
}

fn drain(text: &str) -> Result<Drain, String> {
    match text.split_once(':') {
        None if text == "connections" => Ok(Drain::Connections(Duration::MAX)),
        None if text == "signal" => Ok(Drain::Signal),
        Some(("connections", most)) => duration(most, "").map(Drain::Connections),
        _ => Err(
            "accepted are connections, connections:DUR, as in connections:5s, and signal".into(),
        ),
    }
}

fn stop_signal(text: &str) -> Result<Option<Signal>, String> {
    if text == "auto" {
        return Ok(None);
    }
    match Signal::parse(text) {
        Some(Signal::KILL) => Err("a worker cannot drain on KILL; --grace 0s kills at once".into()),
        Some(Signal::STOP) => Err("STOP suspends a worker and never ends it".into()),
        Some(signal) => Ok(Some(signal)),
        None => Err("accepted are auto, and a signal as in TERM, SIGQUIT, 15 or RTMIN+3".into()),
    }
}

fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "always" => Ok(Restart::Always),
        "on-failure" => Ok(Restart::OnFailure),
        "never" => Ok(Restart::Never),
        _ => Err("accepted are always, on-failure and never".into()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("accepted are text and json".into()),
    }
}
