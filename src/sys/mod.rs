//! The system: all of clinit's unsafe code, one system call family a file.
//!
//! Nothing here decides anything. Each function is one operation on the
//! kernel, safe to call with any argument; what it reports, the shell turns
//! into an event. This module knows nothing of the rest of the crate, and no
//! other module may hold an `unsafe` block.
//!
//! What is said of the kernel's behaviour rests on the man page named beside
//! it. The targets are 64-bit Linux on x86-64 and aarch64, with glibc or musl.

pub mod affinity;
pub mod binding;
pub mod cgroup;
pub mod clock;
pub mod control;
pub mod diag;
pub mod errno;
mod forked;
mod guise;
pub mod inotify;
pub mod interest;
mod kill;
mod limit;
pub mod listener;
pub mod machinery;
pub mod manager;
pub mod notification;
pub mod notify;
mod numbered;
pub mod output;
pub mod pidfd;
pub mod poll;
pub mod proc;
pub mod process;
pub mod random;
pub mod remote;
mod rights;
pub mod session;
pub mod signals;
pub mod start;
pub mod terminal;
pub mod trace;

#[cfg(test)]
mod captive;
