//! From the command line to the loop: everything that may still fail.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::Range;

use crate::config::{
    self, Config, Credentials, Instances, Invocation, Leads, Personality, Share, UsageError,
};
use crate::port::{Arrivals, Sharing};
use crate::supervisor::policy::Mode;
use crate::supervisor::{Signal, Supervisor};
use crate::sys::affinity::allowed_cpus;
use crate::sys::cgroup::{Root, memory_limit};
use crate::sys::errno::describe;
use crate::sys::listener::{self, BindError, Listener};
use crate::sys::machinery::probe;
use crate::sys::output::{stdout, write_all};
use crate::sys::poll::Poller;
use crate::sys::process::{self, Filter};
use crate::sys::random::Jitter;
use crate::sys::remote;
use crate::sys::session::give_up_terminal;
use crate::sys::signals::SignalQueue;
use crate::sys::start::{
    Inherited, Unprepared, close_inherited, end_with_parent, environment, own_uid, prepare,
    take_descriptors,
};
use crate::table::Table;

use super::backlog::Backlog;
use super::capture::{Availability, Capture, available, warn_of_one_worker};
use super::client;
use super::closing::Closing;
use super::control::{Control, Facts};
use super::cpus::Cpus;
use super::emptying::Emptying;
use super::hanging::Hanging;
use super::lanes::Lanes;
use super::listeners::Listeners;
use super::log;
use super::manager::Manager;
use super::memory::Memory;
use super::pause::pause;
use super::plan::Plan;
use super::resizing::Resizing;
use super::token::Token;
use super::voice::{self, Voice};
use super::workers::Workers;
use super::{Shell, now};

/// The exit code of a command line that cannot be run as it stands.
const USAGE: u8 = 2;

/// The exit code of a failure before any worker ran.
pub(super) const CANNOT_START: u8 = 1;

/// The first descriptor that a service manager passes on (`sd_listen_fds(3)`).
const FIRST_PASSED: i32 = 3;

/// More than any service manager passes on: each number is looked at.
const MOST_PASSED: i32 = 4096;

/// Who has it may put a process under a filter as it is (`seccomp(2)`);
/// capabilities(7) has its number.
const CAP_SYS_ADMIN: u32 = 21;

/// Why the loop cannot begin.
enum StartError {
    Usage(UsageError),
    Bind(BindError),
    /// A descriptor that clinit was given is no listener.
    Adopt(i32, io::Error),
    /// Epoll or signalfd.
    Loop(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Bind(error) => error.fmt(f),
            Self::Adopt(fd, error) => {
                write!(
                    f,
                    "cannot take over descriptor {fd} as a listener: {}",
                    describe(error)
                )
            }
            Self::Loop(error) => write!(f, "cannot wait for events: {}", describe(error)),
        }
    }
}

impl StartError {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Bind(_) | Self::Adopt(..) | Self::Loop(_) => CANNOT_START,
        }
    }
}

/// Runs clinit with these arguments, its own name first, and returns its exit
/// code. To be called on the main thread, once.
#[must_use]
pub fn run(arguments: &[OsString], inherited: Inherited) -> u8 {
    let environment = environment();
    // Without a path from the root, or removed: then a relative path stays one.
    let cwd = env::current_dir().unwrap_or_default();
    let (name, arguments) = match arguments.split_first() {
        Some((name, arguments)) => (name.as_os_str(), arguments),
        None => (OsStr::new(""), arguments),
    };
    let handed_down = passed_descriptors(&environment);
    let parsed = match Personality::of(name) {
        Some(personality) => Ok(config::parse_as(personality, name, arguments, &environment)),
        None => config::parse(arguments, &environment, &cwd, !handed_down.is_empty()),
    };
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            log::say(&error);
            return USAGE;
        }
    };
    let config = match parsed.invocation {
        Invocation::Verb(verb) => return client::run(&verb),
        Invocation::Help => return print(&config::help()),
        Invocation::Version => return print(&format!("clinit {}\n", env!("CARGO_PKG_VERSION"))),
        Invocation::Cpus(sizing) => {
            let cpus = Cpus::count(&sizing);
            let report = cpus.report(&sizing, memory_limit(&Root::system()).as_ref());
            return print(&format!("{report}\n"));
        }
        Invocation::Says(saying) => return voice::print(&saying),
        Invocation::Pause => {
            // Process 1 adopts orphans without that.
            let _ = prepare(&inherited, true);
            return pause();
        }
        Invocation::Run(config) => *config,
    };
    log::start(parsed.log.format, parsed.log.level);
    let adopts = config.manner.is_none_or(|manner| manner.adopts);
    match prepare(&inherited, adopts) {
        Ok(()) => {}
        Err(Unprepared::Descriptors(error)) => {
            log::warn!("a standard descriptor stays closed: {}", describe(&error));
        }
        Err(Unprepared::Subreaper(error)) => log::warn!(
            "orphans are not reaped: clinit is not process 1, and cannot adopt them: {}",
            describe(&error)
        ),
    }
    if !adopts && !inherited.is_pid1 {
        Voice(config.manner).adopts_none();
    }
    if let Some(signal) = config.plain.parent_death {
        end_with_parent(signal.number(), &inherited);
    }
    match shell(config, inherited, &handed_down, &environment) {
        Ok(shell) => {
            for note in parsed.notes {
                log::log!(note.level, "{}", note.text);
            }
            shell.run()
        }
        Err(error) => {
            log::error!("{error}");
            error.code()
        }
    }
}

pub(super) fn print(text: &str) -> u8 {
    match write_all(stdout(), text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => {
            log::say(&format!("cannot write to stdout: {}", describe(&error)));
            CANNOT_START
        }
    }
}

/// Sets everything up but the first worker. Put into its caller, what it makes
/// would be copied field by field.
#[inline(never)]
fn shell(
    mut config: Config,
    inherited: Inherited,
    passed: &Range<i32>,
    environment: &[(OsString, OsString)],
) -> Result<Shell, StartError> {
    let mode = config.policy.mode;
    let cluster = mode == Mode::Cluster;
    let adopted = if cluster {
        let names = variable(environment, "LISTEN_FDNAMES").unwrap_or_default();
        adopt_listeners(passed, names)?
    } else {
        Vec::new()
    };
    let (mut lanes, may_be_told) = open_lanes(&config, inherited.is_pid1)?;
    let owner = config.credentials.as_ref().map(|it| it.uid);
    let sharing = (config.share, owner);
    let mut manager = if cluster {
        Manager::new(environment, inherited.is_pid1)
    } else {
        // The child tells it itself.
        Manager::none()
    };
    let listeners = Listeners::open(
        adopted,
        &config.listeners,
        sharing,
        &mut lanes,
        &mut manager,
    )
    .map_err(StartError::Bind)?;
    let poller = Poller::new().map_err(StartError::Loop)?;
    // Before the CPUs are counted, so that no change is missed.
    let mut resizing = Resizing::new(config.sizing, &poller);
    let pinned = if cluster {
        size(&mut config)
    } else {
        Vec::new()
    };
    resizing.begin(config.policy.instances);
    let (capture, filter) = prepare_capture(&mut config, !listeners.is_empty());
    let supervisor = Supervisor::new(config.policy.clone());
    let ready = config.policy.ready;
    let memory = Memory::new(config.max_memory);
    let hang_timeout = config.policy.hang_timeout;
    if let Some(timeout) = hang_timeout {
        lanes.change().find_hung(timeout, now());
    }
    let facts = Facts::of(&config, &capture);
    let socket = std::mem::take(&mut config.control);
    let voice = Voice(config.manner);
    let mut ignored_once = Vec::new();
    if voice.leads(Leads::Session) && give_up_terminal() {
        ignored_once.extend([Signal::HUP, Signal::CONT]);
    }
    let like_any_init = config.plain.clone();
    let plan = Plan::new(config, pinned, filter);
    plan.check(&listeners).map_err(StartError::Usage)?;
    let signals = SignalQueue::open().map_err(StartError::Loop)?;
    poller
        .add(&signals, Token::Signals.pack())
        .map_err(StartError::Loop)?;
    poller
        .add(lanes.ends(), Token::Ends.pack())
        .map_err(StartError::Loop)?;
    let control = if cluster {
        Control::open(&socket, facts, &poller)
    } else {
        Control::closed(facts)
    };
    if cluster {
        say_what_starts(supervisor.instances(), &plan, &listeners);
    }
    Ok(Shell {
        inherited,
        poller,
        signals,
        ignored_once,
        backlog: Backlog::default(),
        supervisor,
        plan,
        voice,
        plain: like_any_init,
        ready,
        hang_timeout,
        listeners,
        lanes,
        may_be_told,
        capture,
        emptying: Emptying::default(),
        workers: Workers::default(),
        resizing,
        memory,
        hanging: Hanging::default(),
        ends: Table::new(),
        events: [].into(),
        unreaped: false,
        lent_to: None,
        sweep: None,
        exhausted: 0,
        looked_for_masters: false,
        control,
        manager,
        closing: Closing::new(mode, inherited.is_pid1),
        jitter: Jitter::seeded(),
        outcome: None,
    })
}

/// No lanes yet, and whether their arrivals may be told.
fn open_lanes(config: &Config, is_pid1: bool) -> Result<(Lanes, bool), StartError> {
    // As process 1 it is safe from what it does not expect.
    let other_user = |credentials: &Credentials| credentials.uid != own_uid();
    let may_be_told = is_pid1 || !config.credentials.as_ref().is_some_and(other_user);
    let sharing = match config.share {
        Share::Auto | Share::Slots => Sharing::Lanes,
        Share::Queue | Share::Off => Sharing::OneQueue,
    };
    let arrivals = if may_be_told {
        Arrivals::Told
    } else {
        Arrivals::Untold
    };
    let lanes = Lanes::new(sharing, arrivals).map_err(StartError::Loop)?;
    Ok((lanes, may_be_told))
}

fn say_what_starts(workers: u32, plan: &Plan, listeners: &Listeners) {
    let program = plan.program().display();
    if listeners.is_empty() {
        log::info!(workers; "starting {program}");
    } else {
        log::info!(workers; "starting {program} on {}", listeners.addresses());
    }
}

/// Finds out whether clinit can take part in the workers' calls, and how.
/// Where it is to and cannot, there is only one worker, unless they have a
/// port from clinit.
fn prepare_capture(config: &mut Config, has_listeners: bool) -> (Capture, Option<Filter>) {
    let asked = config.policy.mode == Mode::Cluster
        && config.share != Share::Off
        && config.capture != config::Capture::Off;
    let ports = std::mem::take(&mut config.capture);
    if !asked {
        return (
            Capture::new(config::Capture::Off, None, has_listeners),
            None,
        );
    }
    let no_new_privs = !has_capability(CAP_SYS_ADMIN);
    let credentials = config.credentials.as_ref();
    let credentials = credentials.map(|credentials| process::Credentials {
        uid: credentials.uid,
        gid: credentials.gid,
        groups: &credentials.groups,
    });
    let machinery = probe(no_new_privs, credentials);
    match available(machinery, config.capture_route) {
        Availability::By(route) => {
            log::debug!("workers' own ports are shared, by {}", route.name());
            let filter = Filter { no_new_privs };
            (
                Capture::new(ports, Some(route), has_listeners),
                Some(filter),
            )
        }
        Availability::Not(why) if has_listeners => {
            log::debug!("workers' own ports are not shared: {why}");
            (
                Capture::new(config::Capture::Off, None, has_listeners),
                None,
            )
        }
        Availability::Not(why) => {
            if config.policy.instances > 1 {
                warn_of_one_worker(&why);
            }
            config.policy.instances = 1;
            config.policy.most_instances = 1;
            (
                Capture::new(config::Capture::Off, None, has_listeners),
                None,
            )
        }
    }
}

/// Whether clinit has this capability.
fn has_capability(number: u32) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    let thread = own.and_then(|own| remote::thread(own).ok());
    thread.is_some_and(|thread| thread.capabilities & (1 << number) != 0)
}

/// Finds out how many workers there are to be, and returns the CPUs to pin
/// them to.
fn size(config: &mut Config) -> Vec<usize> {
    let cpus = Cpus::count(&config.sizing);
    let memory = memory_limit(&Root::system()).map(|(limit, _)| limit);
    config.policy.instances = config.sizing.workers(cpus.count, memory);
    if !matches!(config.sizing.instances, Instances::Exactly(_)) {
        log::info!("{cpus}");
        if let (Some(warning), None) = (cpus.warning(), config.sizing.max_instances) {
            log::warn!("{warning}");
        }
    }
    if config.pin && cpus.quota_is_below_mask() {
        log::warn!(
            "--pin is ignored: with a CPU quota below the mask, pods would stack on the same CPUs"
        );
        return Vec::new();
    }
    if config.pin {
        allowed_cpus()
    } else {
        Vec::new()
    }
}

/// Takes over the sockets that a service manager passed to this very process,
/// and closes every other descriptor that is not clinit's own: workers are to
/// find none but theirs.
fn adopt_listeners(
    passed: &Range<i32>,
    names: &str,
) -> Result<Vec<(Option<String>, Listener)>, StartError> {
    close_inherited(passed);
    let mut adopted = Vec::new();
    for (number, descriptor) in take_descriptors(passed) {
        let socket = listener::adopt(descriptor);
        let socket = socket.map_err(|error| StartError::Adopt(number, error))?;
        adopted.push((name_of(number, names), socket));
    }
    Ok(adopted)
}

/// The name of a passed descriptor: `LISTEN_FDNAMES` has one for each, with
/// colons between, for one that is closed by now too.
fn name_of(descriptor: i32, names: &str) -> Option<String> {
    let mut numbered = (FIRST_PASSED..).zip(names.split(':'));
    let (_, name) = numbered.find(|(number, _)| *number == descriptor)?;
    // systemd's own word for a socket without a name.
    (!name.is_empty() && name != "unknown").then(|| name.to_owned())
}

/// The descriptors that were passed to this very process; none where they
/// were meant for another, which left their variables behind.
fn passed_descriptors(environment: &[(OsString, OsString)]) -> Range<i32> {
    let number = |name| variable(environment, name)?.parse::<i32>().ok();
    let own = i32::try_from(std::process::id()).ok();
    let count = number("LISTEN_FDS")
        .filter(|count| (1..=MOST_PASSED).contains(count) && number("LISTEN_PID") == own);
    FIRST_PASSED..FIRST_PASSED.saturating_add(count.unwrap_or(0))
}

pub(super) fn variable<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a str> {
    let found = environment
        .iter()
        .find(|(known, _)| known == OsStr::new(name));
    found.and_then(|(_, value)| value.to_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_passed_descriptor_has_its_own_name_whichever_are_closed() {
        let names = "web::unknown:admin";
        let found = [3, 4, 5, 6, 7].map(|number| name_of(number, names));
        let expected = [Some("web"), None, None, Some("admin"), None];
        assert_eq!(found, expected.map(|name| name.map(str::to_owned)));
        assert_eq!(name_of(3, ""), None);
    }

    #[test]
    fn descriptors_are_passed_to_the_process_that_is_named() {
        let own = std::process::id().to_string();
        for (pid, count, passed) in [
            (own.as_str(), "2", 3..5),
            (&own, "0", 3..3),
            (&own, "-1", 3..3),
            (&own, "2147483647", 3..3),
            (&own, "two", 3..3),
            ("1", "2", 3..3),
            ("", "2", 3..3),
        ] {
            let environment = [("LISTEN_PID", pid), ("LISTEN_FDS", count)]
                .map(|(name, value)| (name.into(), value.into()));
            assert_eq!(passed_descriptors(&environment), passed, "{pid} {count}");
        }
        assert_eq!(passed_descriptors(&[]), 3..3);
    }

    #[test]
    fn why_the_loop_cannot_begin_is_said_in_one_way() {
        let error = io::Error::from_raw_os_error(24);
        let said = StartError::Loop(error).to_string();
        assert_eq!(
            said,
            "cannot wait for events: too many open files (os error 24)"
        );
    }
}
