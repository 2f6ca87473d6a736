//! Ring 3: the binary as a process, with real processes as workers, as PID 1
//! and as a subreaper. What these wait for is a fact, never a time:
//! see tests/harness.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "these are tests, and so is what they call"
)]

mod capture;
mod cluster;
mod control;
mod draining;
mod errors;
mod footprint;
#[path = "../harness/mod.rs"]
mod harness;
mod healing;
mod hostile;
mod idle;
mod init_mode;
mod job_control;
mod listeners;
mod manager;
mod modes;
mod names;
mod notify;
mod notify_clients;
mod plain;
mod readiness;
mod reload;
mod restart;
mod rights;
mod runtimes;
mod several;
mod sharing;
mod shutdown;
mod signals;
mod signals_under_load;
mod spread;
mod steering;
mod terminal;
mod transparency;
mod tree;
mod usage;
