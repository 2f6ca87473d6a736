//! What a worker says on its notify socket: bytes that may be anything. The
//! body is the one that `cargo test` runs with random bytes.
#![no_main]

use clinit::notify::{LONGEST_EXTENSION, LONGEST_STATUS, Message};

#[path = "../../src/notify/anything.rs"]
mod anything;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = anything::run(bytes);
});
