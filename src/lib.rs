//! clinit: PID 1 for containers that must use every core they are given.
//!
//! The core decides and the shell acts. `supervisor` turns an event and the
//! time into actions and a next deadline; it knows nothing of the system.
//! `shell` waits for events and performs actions through `sys`, which holds
//! all unsafe code. `config` turns a command line into policies.
//!
//! Who may import whom is kept by `tests/layering.rs`:
//! `main → shell, config`; `shell → supervisor, sys, config`;
//! `config → supervisor::policy`; `sys → libc, nix, socket2`;
//! `supervisor →` nothing.

pub mod config;
pub mod port;
pub mod shell;
pub mod supervisor;
pub mod sys;
