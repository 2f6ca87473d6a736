//! What a worker's `bind` and `listen` bring: bytes that may be anything. The
//! body is the one that `cargo test` runs with random bytes.
#![no_main]

use clinit::port::{Arrivals, Bind, LaneId, ListenerId, Ports, Sharing, address, program};
use clinit::supervisor;

#[path = "../../src/port/notification.rs"]
mod notification;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = notification::run(bytes);
});
