//! What a peer sends to the control socket, and what a server answers to a
//! verb: bytes that may be anything. The body is the one that `cargo test` runs
//! with random bytes.
#![no_main]

use clinit::control::{Json, LONGEST_REQUEST, Lines, Request, progress, table};

#[path = "../../src/control/talk.rs"]
mod talk;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = talk::run(bytes);
});
