//! What holds where nothing was said: the defaults, and what `auto` means.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::settings::Settings;
use super::sizing::MOST_INSTANCES;
use crate::supervisor::policy::{
    Drain, Mode, Policy, Ready, Restart, Routes, Signal, Surge, Target,
};

/// What the defaults depend on.
pub(super) struct Circumstances<'a> {
    pub(super) mode: Mode,
    pub(super) in_kubernetes: bool,
    /// Whether clinit makes a listener, or was started with one.
    pub(super) has_listener: bool,
    /// The command without its arguments.
    pub(super) program: &'a OsStr,
}

/// The policy, save the numbers of instances, which depend on the machine, and
/// what signals mean. Put into its caller, it would be copied field by field.
#[inline(never)]
pub(super) fn policy(settings: &Settings, circumstances: &Circumstances<'_>) -> Policy {
    let mode = circumstances.mode;
    let (most_instances, restart) = match mode {
        Mode::Init => (1, Restart::Never),
        Mode::Cluster => (MOST_INSTANCES, Restart::Always),
    };
    // A load balancer that learns of the shutdown now goes on sending for a
    // while; `docker stop` waits for 10 s, the kubelet for 30.
    let has_listener = mode == Mode::Cluster && circumstances.has_listener;
    let (drain_delay, grace) = match (circumstances.in_kubernetes, has_listener) {
        (true, true) => (5, 20),
        (true, false) => (0, 20),
        (false, _) => (0, 8),
    };
    let (backoff_min, backoff_max) = settings
        .backoff
        .unwrap_or((Duration::from_millis(100), Duration::from_secs(15)));
    let or_seconds =
        |duration: Option<_>, seconds| duration.unwrap_or(Duration::from_secs(seconds));
    Policy {
        mode,
        instances: 1,
        most_instances,
        restart: settings.restart.unwrap_or(restart),
        ready: settings.ready.unwrap_or(Ready::Auto),
        presumed_ready_after: Duration::from_secs(10),
        backoff_min,
        backoff_max,
        min_uptime: or_seconds(settings.min_uptime, 1),
        max_restarts: settings.max_restarts.unwrap_or(16),
        routes: Routes::default(),
        forward_to: if settings.to_group {
            Target::Group
        } else {
            Target::Main
        },
        stop_signal: settings
            .stop_signal
            .unwrap_or_else(|| stop_signal_of(circumstances.program)),
        drain_delay: or_seconds(settings.drain_delay, drain_delay),
        grace: or_seconds(settings.grace, grace),
        drain: settings.drain.unwrap_or(Drain::Connections(Duration::MAX)),
        ready_timeout: or_seconds(settings.ready_timeout, 60),
        settle: or_seconds(settings.settle, 1),
        surge: settings.surge.unwrap_or(Surge::Workers(1)),
        max_lifetime: settings.max_lifetime,
        hang_timeout: settings.hang_timeout,
        orphan_grace: or_seconds(settings.orphan_grace, 5),
        leaves_survivors: false,
    }
}

/// The signal that a program drains on. TERM is the one that drops requests
/// in nginx and php-fpm, and that drops connections in httpd.
fn stop_signal_of(program: &OsStr) -> Signal {
    let name = Path::new(program).file_name().unwrap_or_default();
    match name.to_string_lossy().as_ref() {
        "nginx" => Signal::QUIT,
        // Debian's has its version in its name: php-fpm8.2.
        name if name.starts_with("php-fpm") => Signal::QUIT,
        "httpd" | "apache2" => Signal::WINCH,
        _ => Signal::TERM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stop_signal_is_the_one_that_drains() {
        for (program, signal) in [
            ("nginx", Signal::QUIT),
            ("/usr/sbin/nginx", Signal::QUIT),
            ("php-fpm", Signal::QUIT),
            ("/usr/sbin/php-fpm8.2", Signal::QUIT),
            ("httpd", Signal::WINCH),
            ("./apache2", Signal::WINCH),
            ("nginx-exporter", Signal::TERM),
            ("/nginx/server", Signal::TERM),
            ("..", Signal::TERM),
        ] {
            assert_eq!(stop_signal_of(program.as_ref()), signal, "{program}");
        }
    }

    #[test]
    fn what_auto_means() {
        for (in_kubernetes, has_listener, drain_delay, grace) in [
            (false, false, 0, 8),
            (false, true, 0, 8),
            (true, false, 0, 20),
            (true, true, 5, 20),
        ] {
            let circumstances = Circumstances {
                mode: Mode::Cluster,
                in_kubernetes,
                has_listener,
                program: "server".as_ref(),
            };
            let policy = policy(&Settings::default(), &circumstances);
            assert_eq!(policy.drain_delay, Duration::from_secs(drain_delay));
            assert_eq!(policy.grace, Duration::from_secs(grace));
        }
    }
}
