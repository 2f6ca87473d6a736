//! From a command line and an environment to a configuration.
//!
//! [`parse`] decides everything before anything is started: whatever it
//! accepts can be run, and what it refuses is one line. It reads nothing of
//! the system but env files, /etc/passwd and /etc/group, and it never looks up
//! a host's name.
#![forbid(unsafe_code)]

mod environment;
mod error;
mod given;
mod help;
mod level;
mod listen;
mod memory;
mod options;
mod personality;
mod placeholders;
mod plain;
mod policy;
#[cfg(test)]
mod scratch;
mod settings;
mod share;
mod signals;
mod sizing;
mod suggest;
#[cfg(test)]
mod tests;
mod units;
mod user;
mod verbs;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::supervisor::policy::{Mode, Policy};
use environment::{inherited, lookup};
use given::{Given, Line, add_variables, bad_variable, unknown_variables};
use options::Opt;
use policy::{Circumstances, policy};
use settings::{Place, Settings};

pub use environment::stepped;
pub use error::{Origin, UsageError};
pub use help::{help, readme_table};
pub use level::{Level, LevelFilter};
pub use listen::{ListenAddress, ListenerSpec};
pub use memory::MaxMemory;
pub use options::{OPTIONS, OptionSpec};
pub use personality::{Leads, Manner, Personality, Saying, Stream};
pub use placeholders::{Bound, Template};
pub use plain::Plain;
pub use share::{Capture, Route, Share};
pub use sizing::{Instances, MOST_INSTANCES, Sizing};
pub use user::Credentials;
pub use verbs::{Show, Socket, Verb, Words, readme_verbs};

/// The variable that holds how much CPU the pod requests, from the downward
/// API.
const CPU_REQUEST: &str = "CLINIT_CPU_REQUEST";

/// The variable that says by which way at best clinit is to get at its workers'
/// sockets.
const CAPTURE_ROUTE: &str = "CLINIT_CAPTURE_ROUTE";

/// What clinit was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// To run a command.
    Run(Box<Config>),
    /// To say how many CPUs and workers there are.
    Cpus(Sizing),
    /// To talk to a clinit that runs.
    Verb(Verb),
    /// To print [`help()`].
    Help,
    /// To print its version.
    Version,
    /// To say something as another init would, whose name it was called by.
    Says(Saying),
    /// To run nothing until it is told to end, as catatonit does.
    Pause,
}

/// A command line and environment that are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What clinit was called for.
    pub invocation: Invocation,
    /// What is to be logged, once there is a log.
    pub notes: Vec<Note>,
    /// What that log is like.
    pub log: LogOptions,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub text: String,
}

/// What clinit's own log is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How a line is written.
    pub format: LogFormat,
    /// What matters enough to be written.
    pub level: LevelFilter,
}

/// How a line of clinit's own log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// As one JSON object.
    Json,
}

/// What is to be run, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The program and its arguments; there is at least the program. In
    /// cluster mode its arguments may hold placeholders: see [`Template`].
    pub command: Vec<OsString>,
    /// The rules for the core. `instances` and `most_instances` hold for any
    /// machine, until [`Sizing::workers`] says what `instances` is on this one.
    pub policy: Policy,
    /// What is asked of any init.
    pub plain: Plain,
    /// How many workers were asked for.
    pub sizing: Sizing,
    /// The listeners to make, in the order of their descriptors.
    pub listeners: Vec<ListenerSpec>,
    /// How workers share a port.
    pub share: Share,
    /// Which of the ports that workers bind themselves are shared.
    pub capture: Capture,
    /// By which way at best clinit gets at its workers' sockets; none: by the
    /// best that there is.
    pub capture_route: Option<Route>,
    /// In which further ways workers are told of the listeners.
    pub dialects: Dialects,
    /// Who workers run as; none: as clinit does.
    pub credentials: Option<Credentials>,
    /// Where workers run, an absolute path; none: where clinit does.
    pub chdir: Option<PathBuf>,
    /// The environment that workers start from, without the variables that are
    /// clinit's options. The variables of `LISTEN_FDS` and the like are in it
    /// as clinit found them. An entry that is no `NAME=value` has an empty name.
    pub environment: Vec<(OsString, OsString)>,
    /// The variables of `environment` that every slot has another value of:
    /// see [`stepped`].
    pub env_steps: Vec<OsString>,
    /// Whether each slot gets a CPU of its own.
    pub pin: bool,
    /// How much memory a worker may have; none: all that there is.
    pub max_memory: Option<MaxMemory>,
    /// Where clinit is talked to.
    pub control: Socket,
    /// Whether it goes on to be called ready once a shutdown is asked for.
    pub ready_during_drain: bool,
    /// What it does as another init would, whose name it was called by.
    pub manner: Option<Manner>,
}

/// In which ways, besides systemd's and einhorn's, workers are told of the
/// listeners that they are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialects {
    /// `SERVER_STARTER_PORT`, as `Server::Starter` sets it.
    pub server_starter: bool,
    /// `NGINX`, as nginx sets it for its own successor.
    pub nginx: bool,
}

/// Reads a command line, without the program's own name, and an environment.
/// Relative paths are below `cwd`. Whether clinit `inherits_listeners` is not
/// for the environment alone to say: it may be meant for another process.
///
/// # Errors
///
/// Whatever cannot be run as it stands: an option that is not known, a value
/// that is not accepted, a contradiction, a file that cannot be read.
pub fn parse(
    argv: &[OsString],
    env: &[(OsString, OsString)],
    cwd: &Path,
    inherits_listeners: bool,
) -> Result<Parsed, UsageError> {
    let root = Path::new("/");
    parse_at(Place { cwd, root }, argv, env, inherits_listeners)
}

/// Reads both as another init would that clinit was called for. The `name` that
/// it was called by is that one's.
#[must_use]
pub fn parse_as(
    personality: Personality,
    name: &OsStr,
    argv: &[OsString],
    env: &[(OsString, OsString)],
) -> Parsed {
    let call = personality::Call { name, argv, env };
    match personality::read(personality, call) {
        personality::Wanted::Says(saying) => printing(Invocation::Says(saying)),
        personality::Wanted::Pause => printing(Invocation::Pause),
        personality::Wanted::Run(wish) => wish.parsed(env),
    }
}

/// [`parse`], with /etc/passwd and /etc/group below another root.
fn parse_at(
    place: Place<'_>,
    argv: &[OsString],
    env: &[(OsString, OsString)],
    inherits_listeners: bool,
) -> Result<Parsed, UsageError> {
    // On its way here it is boxed: it is passed on often, and large.
    let parsed = Line::read(argv).and_then(|line| match line {
        Line::Help => Ok(printing(Invocation::Help)),
        Line::Version => Ok(printing(Invocation::Version)),
        Line::Cpus(given) => cpus(given, place, env),
        Line::Verb(verb) => talk(verb, place, env),
        Line::Command(given, command) => run(given, command, place, env, inherits_listeners),
    });
    parsed.map_err(|error| *error)
}

/// What needs neither options nor an environment.
fn printing(invocation: Invocation) -> Parsed {
    Parsed {
        invocation,
        notes: Vec::new(),
        log: LogOptions {
            format: LogFormat::Text,
            level: LevelFilter::Info,
        },
    }
}

/// `clinit cpus`. It is run beside a clinit whose variables it sees, so those
/// that have no bearing on it are left alone.
fn cpus(
    mut given: Vec<Given>,
    place: Place<'_>,
    env: &[(OsString, OsString)],
) -> Result<Parsed, Box<UsageError>> {
    add_variables(&mut given, env, OptionSpec::is_of_cpus)?;
    let settings = Settings::read(&given, place)?;
    let mut notes = Vec::new();
    let sizing = sizing(&settings, Instances::Max, env, &mut notes);
    Ok(Parsed {
        invocation: Invocation::Cpus(sizing),
        notes,
        log: log_options(&settings, Mode::Cluster),
    })
}

/// A verb. Like `clinit cpus` it sees the variables of the clinit that it talks
/// to; one of them says where that is.
fn talk(
    mut verb: Verb,
    place: Place<'_>,
    env: &[(OsString, OsString)],
) -> Result<Parsed, Box<UsageError>> {
    let mut given = Vec::new();
    add_variables(&mut given, env, OptionSpec::is_of_verbs)?;
    let settings = Settings::read(&given, place)?;
    verb.socket = match verb.socket {
        Socket::Path(path) => Socket::Path(place.cwd.join(path)),
        Socket::Abstract | Socket::Off => settings.control,
    };
    Ok(printing(Invocation::Verb(verb)))
}

fn run(
    mut given: Vec<Given>,
    command: Vec<OsString>,
    place: Place<'_>,
    env: &[(OsString, OsString)],
    inherits_listeners: bool,
) -> Result<Parsed, Box<UsageError>> {
    add_variables(&mut given, env, |_| true)?;
    let mode = mode(&given)?;
    let settings = Settings::read(&given, place)?;
    let program = command.first().ok_or(UsageError::NoCommand)?;
    if program.is_empty() {
        return Err(UsageError::EmptyCommand.into());
    }

    let mut notes = unknown_variables(env);
    let sizing = sizing(&settings, Instances::Exactly(1), env, &mut notes);
    let has_listener = inherits_listeners || !settings.listeners.is_empty();
    warn_of_no_effect(&settings, &sizing, has_listener, &mut notes);
    let circumstances = Circumstances {
        mode,
        in_kubernetes: sizing.in_kubernetes,
        has_listener,
        program,
    };
    let mut policy = policy(&settings, &circumstances);
    policy.routes = settings.routes(mode)?;
    if mode == Mode::Cluster && settings.instances.is_none() {
        notes.push(Note {
            level: Level::Info,
            text: "-l without -i: one worker, as with -i 1".into(),
        });
    }

    let environment = settings.environment(inherited(env), place)?;
    let env_steps = settings.env_steps(&environment)?;
    let log = log_options(&settings, mode);
    let config = Config {
        command,
        policy,
        plain: settings.plain,
        sizing,
        listeners: settings.listeners,
        share: settings.share,
        capture: settings.capture,
        capture_route: capture_route(env, &mut notes),
        dialects: settings.dialects,
        credentials: settings.user,
        chdir: settings.chdir,
        environment,
        env_steps,
        pin: settings.pin,
        max_memory: settings.max_memory,
        control: settings.control,
        ready_during_drain: settings.ready_during_drain,
        manner: None,
    };
    Ok(Parsed {
        invocation: Invocation::Run(Box::new(config)),
        notes,
        log,
    })
}

/// Which mode the given options make it; in init mode, none may be of cluster
/// mode.
fn mode(given: &[Given]) -> Result<Mode, Box<UsageError>> {
    let makes_cluster = |id| matches!(id, Opt::Instances | Opt::Listen);
    if given
        .iter()
        .any(|given| makes_cluster(given.origin.spec.id))
    {
        return Ok(Mode::Cluster);
    }
    match given.iter().find(|given| given.origin.spec.cluster_only) {
        Some(given) => Err(UsageError::NeedsCluster(given.origin).into()),
        None => Ok(Mode::Init),
    }
}

/// How many workers there are to be: `otherwise` where nothing was asked for.
fn sizing(
    settings: &Settings,
    otherwise: Instances,
    env: &[(OsString, OsString)],
    notes: &mut Vec<Note>,
) -> Sizing {
    let request = set(env, CPU_REQUEST);
    let cpu_request_millis = request
        .and_then(OsStr::to_str)
        .and_then(sizing::cpu_request);
    if let (Some(request), None) = (request, cpu_request_millis) {
        notes.push(bad_variable(CPU_REQUEST, request, "500m, 0.5 and 2"));
    }
    Sizing {
        instances: settings.instances.unwrap_or(otherwise),
        max_instances: settings.max_instances,
        worker_memory: settings.worker_memory,
        in_kubernetes: set(env, "KUBERNETES_SERVICE_HOST").is_some(),
        cpu_request_millis,
    }
}

/// By which way clinit is to get at workers' sockets.
fn capture_route(env: &[(OsString, OsString)], notes: &mut Vec<Note>) -> Option<Route> {
    let asked = set(env, CAPTURE_ROUTE)?;
    let route = asked.to_str().and_then(Route::parse);
    if route.is_none() {
        let accepted = "pidfd_getfd, ptrace and replace";
        notes.push(bad_variable(CAPTURE_ROUTE, asked, accepted));
    }
    route
}

/// Warns of each option that was given and changes nothing.
fn warn_of_no_effect(
    settings: &Settings,
    sizing: &Sizing,
    has_listener: bool,
    notes: &mut Vec<Note>,
) {
    let exactly = matches!(sizing.instances, Instances::Exactly(_));
    let bounds = "it bounds max, P% and Nx";
    let has_dialects = settings.dialects != Dialects::default();
    for (option, is_idle, why) in [
        (
            "--max-instances",
            exactly && sizing.max_instances.is_some(),
            bounds,
        ),
        (
            "--worker-memory",
            exactly && sizing.worker_memory.is_some(),
            bounds,
        ),
        (
            "--sockets-as",
            has_dialects && !has_listener,
            "there is no listener",
        ),
    ] {
        if is_idle {
            notes.push(Note {
                level: Level::Warn,
                text: format!("{option} is of no effect: {why}"),
            });
        }
    }
}

/// A variable's value; an empty variable is an unset one.
fn set<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    lookup(env, name.as_ref()).filter(|value| !value.is_empty())
}

fn log_options(settings: &Settings, mode: Mode) -> LogOptions {
    let otherwise = match mode {
        // Nothing but the child is to be heard.
        Mode::Init => LevelFilter::Warn,
        Mode::Cluster => LevelFilter::Info,
    };
    LogOptions {
        format: settings.log_format,
        level: settings.log_level(otherwise),
    }
}
