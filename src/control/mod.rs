//! The protocol of the control socket: what is asked, what is answered, and
//! how an answer is shown. docs/control.md describes it for others.
//!
//! One JSON object a line, each way. Lines come from a peer that may send
//! anything, so everything here is bounded and nothing here fails but by
//! saying what is accepted. It knows nothing of sockets: `shell` has those.
#![forbid(unsafe_code)]

mod display;
mod json;
mod lines;
mod peer;
mod readiness;
mod request;
#[cfg(test)]
mod talk;

pub use display::{progress, table};
pub use json::{Json, Object, quote};
pub use lines::{Lines, TooLong};
pub use peer::check_peer;
pub use readiness::Readiness;
pub use request::{Amount, Request, Target};

/// The protocol's version, which every line names. It changes when something
/// is taken away; what is added is for older readers to ignore.
pub const VERSION: u64 = 1;

/// The longest request.
pub const LONGEST_REQUEST: usize = 4096;

/// The answer to a request that is not granted.
#[must_use]
pub fn refusal(why: &str) -> String {
    Object::line().flag("ok", false).text("error", why).finish()
}

/// The answer to a request that is granted and has nothing else to tell.
#[must_use]
pub fn granted() -> String {
    Object::line().flag("ok", true).finish()
}
