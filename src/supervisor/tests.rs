//! Stories: what the core does, told event by event.

use std::time::Duration;

use super::policy::{Mode, Policy, Ready, Restart};
use super::*;

/// A small cluster-mode policy in the explorer's unit of a second.
pub(super) fn policy() -> Policy {
    Policy {
        mode: Mode::Cluster,
        instances: 2,
        most_instances: 4,
        restart: Restart::Always,
        ready: Ready::Auto,
        presumed_ready_after: Duration::from_secs(2),
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(2),
        min_uptime: Duration::from_secs(1),
        max_restarts: 2,
        stop_signal: Signal::TERM,
        drain_delay: Duration::from_secs(1),
        grace: Duration::from_secs(2),
        orphan_grace: Duration::from_secs(1),
    }
}
