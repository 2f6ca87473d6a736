//! clinit: PID 1 for containers that must use every core they are given.
//!
//! The core decides and the shell acts. `supervisor` turns an event and the
//! time into actions and a next deadline; `port` decides which socket answers
//! which bind, and where new connections go; `notify` reads what workers say.
//! None of them knows anything of the system.
//! `shell` waits for events and performs actions through `sys`, which holds
//! all unsafe code. `config` turns a command line into policies. `control` is
//! the protocol that a running clinit is talked to in.
//!
//! Who may import whom is kept by `tests/layering.rs`:
//! `main → shell, config`;
//! `shell → supervisor, port, notify, sys, config, control, table`;
//! `config → supervisor::policy, control, sys::errno`; `control → supervisor::policy`;
//! `sys → libc, nix, socket2`;
//! `port → supervisor::Time, supervisor::WorkerId, table`; `supervisor →`,
//! `notify →` and `table →` nothing.

pub mod config;
pub mod control;
pub mod notify;
pub mod port;
pub mod shell;
pub mod supervisor;
pub mod sys;
pub mod table;
