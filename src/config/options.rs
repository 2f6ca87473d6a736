//! The table of options. The parser, the variables, the help and the README
//! are all made from it, so that none of them can know an option that the
//! others do not.

/// What an option is, for the parser: one variant for each row of
/// [`OPTIONS`], in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opt {
    Instances,
    MaxInstances,
    WorkerMemory,
    Listen,
    Share,
    Capture,
    SocketsAs,
    Ready,
    ReadyTimeout,
    Settle,
    Surge,
    DrainDelay,
    ReadyDuringDrain,
    Drain,
    Grace,
    StopSignal,
    Restart,
    Backoff,
    MinUptime,
    MaxRestarts,
    MaxMemory,
    MaxLifetime,
    HangTimeout,
    EnvStep,
    Pin,
    Control,
    OrphanGrace,
    Signal,
    ToGroup,
    User,
    Chdir,
    Env,
    EnvFile,
    ParentDeath,
    ExitOk,
    WarnReaped,
    Subreaper,
    LogFormat,
    LogLevel,
    Verbose,
    Help,
    Version,
}

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionSpec {
    pub(super) id: Opt,
    /// The letter after one dash, where it has one.
    pub short: Option<char>,
    /// The name after two dashes.
    pub long: &'static str,
    /// How its value is written; empty for a switch, which takes none.
    pub value: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// What holds where it is not given; empty where nothing does.
    pub default: &'static str,
    /// Whether it is an error in init mode.
    pub cluster_only: bool,
    /// Whether it may be given more than once.
    pub repeatable: bool,
}

impl OptionSpec {
    const fn new(
        id: Opt,
        short: Option<char>,
        long: &'static str,
        value: &'static str,
        help: &'static str,
        default: &'static str,
    ) -> Self {
        Self {
            id,
            short,
            long,
            value,
            help,
            default,
            cluster_only: true,
            repeatable: false,
        }
    }

    /// Allowed in init mode too.
    const fn in_both_modes(mut self) -> Self {
        self.cluster_only = false;
        self
    }

    const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// The environment variable that stands for it, as `CLINIT_DRAIN_DELAY`
    /// does for `--drain-delay`. The two that only print something have none.
    #[must_use]
    pub fn variable(&self) -> Option<String> {
        let prints = matches!(self.id, Opt::Help | Opt::Version);
        let name = self.long.to_ascii_uppercase().replace('-', "_");
        (!prints).then(|| format!("CLINIT_{name}"))
    }

    /// Whether it is given without a value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.value.is_empty()
    }

    /// Whether verbs heed its variable: it says where clinit is talked to.
    pub(super) fn is_of_verbs(&self) -> bool {
        self.id == Opt::Control
    }

    /// Whether `clinit cpus` takes it: it bears on how many workers there are.
    pub(super) fn is_of_cpus(&self) -> bool {
        matches!(
            self.id,
            Opt::Instances | Opt::MaxInstances | Opt::WorkerMemory | Opt::Help | Opt::Version
        )
    }
}

/// Every option, in the order of the help.
#[rustfmt::skip]
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(Opt::Instances, Some('i'), "instances", "N|max|max-K|-K|P%|Nx",
        "a number; max or 0: the CPUs this container may use; max-1 or -1; 50% or 2x of them", "none"),
    OptionSpec::new(Opt::MaxInstances, None, "max-instances", "N",
        "the most that max, P% and Nx may come to", ""),
    OptionSpec::new(Opt::WorkerMemory, None, "worker-memory", "SIZE",
        "another bound: the memory limit divided by this", ""),
    OptionSpec::new(Opt::Listen, Some('l'), "listen", "[NAME=]ADDR",
        "8080, 127.0.0.1:8080, [::]:8080, unix:/run/a.sock, udp:53; repeatable", "")
        .repeatable(),
    OptionSpec::new(Opt::Share, None, "share", "HOW",
        "how to share ports: auto, slots, queue, off", "auto"),
    OptionSpec::new(Opt::Capture, None, "capture", "PORTS",
        "which ports that workers bind are shared: auto (all), off, PORT,...", "auto"),
    OptionSpec::new(Opt::SocketsAs, None, "sockets-as", "LIST",
        "more dialects for -l: server-starter, nginx", ""),
    OptionSpec::new(Opt::Ready, None, "ready", "HOW",
        "when ready: auto, listen, notify, after:DUR", "auto"),
    OptionSpec::new(Opt::ReadyTimeout, None, "ready-timeout", "DUR",
        "a reload's worker that is not ready by then has failed", "60s"),
    OptionSpec::new(Opt::Settle, None, "settle", "DUR",
        "how long it must live past ready before it takes over", "1s"),
    OptionSpec::new(Opt::Surge, None, "surge", "N|P%",
        "extra workers during a reload", "1"),
    OptionSpec::new(Opt::DrainDelay, None, "drain-delay", "DUR|auto",
        "shutdown to stop signal; auto: 5s in Kubernetes where there is a listener, else 0",
        "auto"),
    OptionSpec::new(Opt::ReadyDuringDrain, None, "ready-during-drain", "fail|keep",
        "what clinit probe ready says once a shutdown is asked for", "fail"),
    OptionSpec::new(Opt::Drain, None, "drain", "HOW",
        "connections[:DUR]: stop a worker once it owes no answer, at most half the grace; signal: at once",
        "connections"),
    OptionSpec::new(Opt::Grace, None, "grace", "DUR|auto",
        "drain to KILL; auto: 8s, 20s in Kubernetes", "auto"),
    OptionSpec::new(Opt::StopSignal, None, "stop-signal", "SIG|auto",
        "auto: QUIT for nginx and php-fpm, WINCH for httpd and apache2, else TERM", "auto"),
    OptionSpec::new(Opt::Restart, None, "restart", "WHEN",
        "always, on-failure or never", "always"),
    OptionSpec::new(Opt::Backoff, None, "backoff", "MIN..MAX",
        "delay before a restart, doubling", "100ms..15s"),
    OptionSpec::new(Opt::MinUptime, None, "min-uptime", "DUR",
        "an exit later after ready is no failure", "1s"),
    OptionSpec::new(Opt::MaxRestarts, None, "max-restarts", "N",
        "give up after N failures in a row", "16"),
    OptionSpec::new(Opt::MaxMemory, None, "max-memory", "SIZE|P%",
        "replace a worker that has more; P%: of the memory limit, divided by the workers", "none"),
    OptionSpec::new(Opt::MaxLifetime, None, "max-lifetime", "DUR",
        "replace a worker after that time, less up to a tenth", "none"),
    OptionSpec::new(Opt::HangTimeout, None, "hang-timeout", "DUR",
        "replace a worker that sends no WATCHDOG=1, or takes no connection, for that time", "none"),
    OptionSpec::new(Opt::EnvStep, None, "env-step", "NAME",
        "add the slot to that variable; repeatable", "").repeatable(),
    OptionSpec::new(Opt::Pin, None, "pin", "",
        "one CPU a slot", "off"),
    OptionSpec::new(Opt::Control, None, "control", "PATH|off",
        "the socket that verbs talk to; none in the file system", "abstract"),
    OptionSpec::new(Opt::OrphanGrace, None, "orphan-grace", "DUR",
        "TERM to KILL for what is left at the end", "5s").in_both_modes(),
    OptionSpec::new(Opt::Signal, None, "signal", "SIG=ACTION",
        "what a signal does: forward, ignore, reload, shutdown, or another SIG; repeatable", "")
        .in_both_modes().repeatable(),
    OptionSpec::new(Opt::ToGroup, Some('g'), "to-group", "",
        "forward signals to the process group", "off").in_both_modes(),
    OptionSpec::new(Opt::User, None, "user", "USER[:GROUP]",
        "run as; names or numbers", "own").in_both_modes(),
    OptionSpec::new(Opt::Chdir, None, "chdir", "DIR",
        "run there", "own").in_both_modes(),
    OptionSpec::new(Opt::Env, None, "env", "K=V",
        "set a variable; repeatable", "").in_both_modes().repeatable(),
    OptionSpec::new(Opt::EnvFile, None, "env-file", "FILE",
        "set those in a file, as Docker does; repeatable", "").in_both_modes().repeatable(),
    OptionSpec::new(Opt::ParentDeath, Some('p'), "parent-death", "SIG",
        "the signal to get when clinit's parent dies", "none").in_both_modes(),
    OptionSpec::new(Opt::ExitOk, Some('e'), "exit-ok", "CODE",
        "exit with 0 in place of that code; repeatable", "").in_both_modes().repeatable(),
    OptionSpec::new(Opt::WarnReaped, Some('w'), "warn-reaped", "",
        "warn of each orphan that is reaped", "off").in_both_modes(),
    OptionSpec::new(Opt::Subreaper, Some('s'), "subreaper", "",
        "accepted: it always reaps orphans, PID 1 or not", "").in_both_modes(),
    OptionSpec::new(Opt::LogFormat, None, "log-format", "text|json",
        "clinit's own log, on stderr", "text").in_both_modes(),
    OptionSpec::new(Opt::LogLevel, None, "log-level", "LEVEL",
        "error to trace, or off", "info; warn for one child").in_both_modes(),
    OptionSpec::new(Opt::Verbose, Some('v'), "verbose", "",
        "one log level more; repeatable", "").in_both_modes().repeatable(),
    OptionSpec::new(Opt::Help, Some('h'), "help", "",
        "print this", "").in_both_modes(),
    OptionSpec::new(Opt::Version, Some('V'), "version", "",
        "print the version", "").in_both_modes(),
];

/// The option of this letter.
pub(super) fn of_letter(letter: char) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.short == Some(letter))
}

/// The option of this long name.
pub(super) fn of_name(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.long == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_row_in_the_order_of_the_enum() {
        for (index, spec) in OPTIONS.iter().enumerate() {
            assert_eq!(spec.id as usize, index, "--{}", spec.long);
        }
        assert_eq!(OPTIONS.len(), Opt::Version as usize + 1);
    }

    #[test]
    fn names_are_unique_and_well_formed() {
        for (index, spec) in OPTIONS.iter().enumerate() {
            let lower = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(spec.long.chars().all(lower), "--{}", spec.long);
            assert!(!spec.help.is_empty(), "--{}", spec.long);
            for other in OPTIONS.iter().skip(index + 1) {
                assert_ne!(spec.long, other.long);
                assert!(spec.short.is_none() || spec.short != other.short);
            }
        }
    }

    #[test]
    fn a_variable_is_named_for_its_option() {
        let variable = |name| of_name(name).unwrap().variable();
        assert_eq!(variable("drain-delay").unwrap(), "CLINIT_DRAIN_DELAY");
        assert_eq!(variable("help"), None);
        assert_eq!(variable("version"), None);
    }
}
