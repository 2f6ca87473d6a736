//! What a worker is started with: its arguments, environment and place.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use crate::config::{self, Config, Credentials, Dialects, Leads, Template};
use crate::supervisor::Signal;
use crate::supervisor::policy::Mode;
use crate::sys::process::{self, Filter, Group, SpawnFailure, SpawnRequest, Spawned, Stdin, Step};
use crate::sys::start::{Inherited, open_null};

use super::listeners::Listeners;
use super::start::variable;

/// What clinit says to each worker itself, so that what it inherited of it
/// says nothing.
const OWN_VARIABLES: [&str; 18] = [
    "CLINIT_GENERATION",
    "CLINIT_SLOT",
    "CLINIT_SLOTS",
    "EINHORN_FDS",
    "EINHORN_FD_COUNT",
    "EINHORN_MASTER_PID",
    "EINHORN_SOCK_PATH",
    "FDSTORE",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NGINX",
    "NODE_APP_INSTANCE",
    "NOTIFY_SOCKET",
    "SERVER_STARTER_PORT",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Variables whose value is the worker's own pid.
const LISTEN_PID: &str = "LISTEN_PID";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Variables by which a process is named that is to heed others
/// (`sd_listen_fds(3)`, `sd_watchdog_enabled(3)`, `systemd.exec(5)`). Where
/// that is clinit, its one child is to heed them in its place.
const NAMING: [&str; 3] = [LISTEN_PID, WATCHDOG_PID, "SYSTEMD_EXEC_PID"];

/// The same process again, by its pidfd's inode; nobody has to say it.
const LISTEN_PIDFDID: &str = "LISTEN_PIDFDID";

/// What is the same for all workers of an app.
pub(super) struct Plan {
    mode: Mode,
    program: OsString,
    template: Template,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    /// Those of [`NAMING`] that name clinit to its one child.
    naming: Vec<&'static str>,
    /// The signal that a parent's death is to bring for clinit.
    parent_death: Option<Signal>,
    env_steps: Vec<OsString>,
    dialects: Dialects,
    credentials: Option<Credentials>,
    chdir: Option<CString>,
    /// The CPUs to give away one by one; none: all to all.
    cpus: Vec<usize>,
    null: Option<OwnedFd>,
    /// How long a worker may fall silent that says it is alive.
    hang_timeout: Option<Duration>,
    /// How clinit takes part in workers' calls, if it does.
    filter: Option<Filter>,
    group: Group,
}

/// What is a worker's own.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) slot: u32,
    pub(super) slots: u32,
    pub(super) generation: u32,
    /// The address of its notify socket.
    pub(super) notify: Option<&'a str>,
}

impl Plan {
    /// Takes from the configuration what concerns workers. `cpus` are those to
    /// pin them to, `filter` what they run under.
    #[inline(never)]
    pub(super) fn new(config: Config, cpus: Vec<usize>, filter: Option<Filter>) -> Self {
        let Config {
            command,
            policy,
            dialects,
            credentials,
            chdir,
            environment,
            env_steps,
            manner,
            plain,
            ..
        } = config;
        let mut naming = Vec::new();
        if policy.mode == Mode::Init {
            naming = naming_clinit(&environment);
        }
        let mut arguments = command;
        let program = if arguments.is_empty() {
            OsString::new()
        } else {
            arguments.remove(0)
        };
        Self {
            mode: policy.mode,
            program,
            template: Template::new(&arguments),
            arguments,
            environment,
            naming,
            parent_death: plain.parent_death,
            env_steps,
            dialects,
            credentials,
            chdir: chdir.map(|path| c_string(path.into_os_string())),
            cpus,
            null: (policy.mode == Mode::Cluster)
                .then(open_null)
                .and_then(Result::ok),
            hang_timeout: policy.hang_timeout,
            filter,
            group: match (policy.mode, manner.map(|manner| manner.leads)) {
                (Mode::Cluster, _) => Group::New,
                (Mode::Init, None | Some(Leads::Group)) => Group::NewForeground,
                (Mode::Init, Some(Leads::Session)) => Group::NewSession,
                (Mode::Init, Some(Leads::Nothing)) => Group::Own,
            },
        }
    }

    /// The command's name: all of it that a log may show.
    pub(super) fn program(&self) -> &OsStr {
        &self.program
    }

    /// What the kernel's word for an exec that failed leaves out.
    pub(super) fn hint(&self, failure: SpawnFailure) -> &'static str {
        let path = match &self.chdir {
            Some(chdir) => Path::new(OsStr::from_bytes(chdir.as_bytes())).join(&self.program),
            None => Path::new(&self.program).to_owned(),
        };
        let named = self.program.as_bytes().contains(&b'/');
        if failure.step != Step::Exec || !named {
            ""
        } else if path.is_dir() {
            " (it is a directory)"
        } else if failure.is_not_found() && path.exists() {
            " (the file is there: its interpreter or loader is not)"
        } else {
            ""
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.mode == Mode::Cluster
    }

    /// Who workers run as, if not as clinit does.
    pub(super) fn uid(&self) -> Option<u32> {
        self.credentials.as_ref().map(|credentials| credentials.uid)
    }

    /// Whether workers' calls wait for clinit's answer.
    pub(super) fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether the arguments ask for nothing that the listeners do not have.
    pub(super) fn check(&self, listeners: &Listeners) -> Result<(), config::UsageError> {
        match self.mode {
            Mode::Init => Ok(()),
            Mode::Cluster => self.template.check(&listeners.bound()),
        }
    }

    /// Starts a worker.
    pub(super) fn spawn(
        &self,
        place: Place<'_>,
        listeners: &Listeners,
        descriptors: &[BorrowedFd<'_>],
        inherited: &Inherited,
    ) -> std::io::Result<Spawned> {
        let credentials = self
            .credentials
            .as_ref()
            .map(|credentials| process::Credentials {
                uid: credentials.uid,
                gid: credentials.gid,
                groups: &credentials.groups,
            });
        let argv = self.argv(place.slot, listeners);
        let env = self.env(place, listeners);
        let cluster = self.mode == Mode::Cluster;
        let request = SpawnRequest {
            argv: &argv,
            env: &env,
            own_pid: match (descriptors.is_empty(), self.hang_timeout) {
                _ if !cluster => &self.naming,
                (false, Some(_)) => &[LISTEN_PID, WATCHDOG_PID],
                (false, None) => &[LISTEN_PID],
                (true, Some(_)) => &[WATCHDOG_PID],
                (true, None) => &[],
            },
            descriptors,
            stdin: match &self.null {
                Some(null) if cluster => Stdin::Null(null.as_fd()),
                Some(_) | None => Stdin::Inherit,
            },
            group: self.group,
            credentials,
            chdir: self.chdir.as_deref(),
            parent_death_signal: self.parent_death_signal(inherited),
            cpu: self
                .cpus
                .get(place.slot as usize % self.cpus.len().max(1))
                .copied(),
            filter: self.filter,
        };
        process::spawn(&request, inherited)
    }

    /// The signal that clinit's death brings a worker.
    fn parent_death_signal(&self, inherited: &Inherited) -> Option<i32> {
        match (self.mode, self.parent_death) {
            // A worker whose supervisor is gone would keep the port from the
            // next one.
            (Mode::Cluster, _) => Some(Signal::TERM.number()),
            // There is nobody left to forward it.
            (Mode::Init, Some(Signal::KILL)) => Some(Signal::KILL.number()),
            (Mode::Init, _) => inherited.parent_death_signal,
        }
    }

    /// Pins workers to other CPUs from here on, where they are pinned: a
    /// worker could not be started on one that is gone.
    pub(super) fn repin(&mut self, cpus: Vec<usize>) {
        if !self.cpus.is_empty() {
            self.cpus = cpus;
        }
    }

    fn argv(&self, slot: u32, listeners: &Listeners) -> Vec<CString> {
        let rendered;
        let arguments = match self.mode {
            Mode::Init => &self.arguments,
            Mode::Cluster => {
                rendered = self.template.render(slot, &listeners.bound());
                &rendered
            }
        };
        let mut argv = vec![c_string(self.program.clone())];
        for argument in arguments {
            argv.push(c_string(argument.clone()));
        }
        argv
    }

    fn env(&self, place: Place<'_>, listeners: &Listeners) -> Vec<CString> {
        let mut env = Vec::new();
        for (name, value) in &self.environment {
            let is_stale = match self.mode {
                Mode::Init => name == LISTEN_PIDFDID && self.naming.contains(&LISTEN_PID),
                Mode::Cluster => is_own(name),
            };
            if is_stale {
                continue;
            }
            let steps = self.env_steps.contains(name);
            let stepped = steps.then(|| config::stepped(value, place.slot)).flatten();
            env.push(pair(name, stepped.as_deref().unwrap_or(value)));
        }
        if self.mode == Mode::Init {
            return env;
        }
        let mut set = |name: &str, value: &str| env.push(pair(name.as_ref(), value.as_ref()));
        set("CLINIT_SLOT", &place.slot.to_string());
        set("CLINIT_SLOTS", &place.slots.to_string());
        set("CLINIT_GENERATION", &place.generation.to_string());
        set("NODE_APP_INSTANCE", &place.slot.to_string());
        if let Some(address) = place.notify {
            set("NOTIFY_SOCKET", address);
            if let Some(timeout) = self.hang_timeout {
                let timeout = timeout.as_secs() * 1_000_000 + u64::from(timeout.subsec_micros());
                set("WATCHDOG_USEC", &timeout.to_string());
            }
        }
        for (name, value) in listeners.variables(self.dialects) {
            set(name, &value);
        }
        for (name, value) in listeners.numbered_variables() {
            set(&name, &value);
        }
        env
    }
}

/// Whether a variable of this name is clinit's to set: `EINHORN_FD_0` and so
/// on too.
fn is_own(name: &OsStr) -> bool {
    let numbered = name
        .as_bytes()
        .strip_prefix(b"EINHORN_FD_")
        .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit));
    numbered || OWN_VARIABLES.iter().any(|own| name == *own)
}

/// Which of [`NAMING`] name clinit. Of two of a name the first counts, as for
/// getenv(3).
fn naming_clinit(environment: &[(OsString, OsString)]) -> Vec<&'static str> {
    let own = std::process::id();
    let names_it = |name: &str| {
        let value = variable(environment, name);
        value.and_then(|value| value.parse().ok()) == Some(own)
    };
    let mut naming = Vec::new();
    for name in NAMING {
        if names_it(name) {
            naming.push(name);
        }
    }
    naming
}

/// As it stands in the environment: see [`crate::sys::start::environment`].
fn pair(name: &OsStr, value: &OsStr) -> CString {
    if name.is_empty() {
        return c_string(value.to_owned());
    }
    let mut pair = name.to_owned();
    pair.push("=");
    pair.push(value);
    c_string(pair)
}

/// Arguments, variables and paths came as C strings, and a NUL that a file
/// held has been refused.
fn c_string(text: OsString) -> CString {
    let mut bytes = text.into_vec();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_clinit_or_another() {
        let own = std::process::id().to_string();
        let pairs = [
            ("", "LISTEN_PID"),
            ("WATCHDOG_PID", own.as_str()),
            ("LISTEN_PID", "1999999"),
            ("LISTEN_PID", own.as_str()),
        ];
        let environment = pairs.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(naming_clinit(&environment), ["WATCHDOG_PID"]);
    }

    #[test]
    fn what_an_outer_supervisor_said_is_not_passed_on() {
        for name in [
            "LISTEN_FDS",
            "NOTIFY_SOCKET",
            "EINHORN_FD_0",
            "EINHORN_FD_12",
            "CLINIT_SLOT",
        ] {
            assert!(is_own(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "EINHORN_FD_", "EINHORN_FD_X", "LISTEN", "CLINIT"] {
            assert!(!is_own(OsStr::new(name)), "{name}");
        }
    }
}
