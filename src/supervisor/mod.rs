//! The pure core.
#![forbid(unsafe_code)]

pub mod policy;
mod signal;
