//! Waiting for a fact.

use std::thread;
use std::time::{Duration, Instant};

/// Asks until there is an answer; panics where there is none in time.
pub(crate) fn until<T>(fact: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up_at = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < give_up_at, "not within {within:?}: {fact}");
        thread::sleep(Duration::from_millis(10));
    }
}
