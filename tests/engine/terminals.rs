//! `docker run -it`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cases::image;
use crate::engine::Engine;
use crate::harness::{readable, terminal};

const DEADLINE: Duration = Duration::from_mins(1);

/// What somebody sees and types.
struct Screen {
    master: File,
    seen: String,
}

impl Screen {
    fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("it takes keys");
    }

    /// Waits until this has been shown after all that was awaited before.
    fn await_text(&mut self, text: &str) {
        let give_up_at = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = give_up_at.saturating_duration_since(Instant::now());
            let mut part = [0; 4096];
            let shown = readable(&[self.master.as_fd()], left)
                .then(|| self.master.read(&mut part).ok())
                .flatten();
            let Some(length) = shown else {
                panic!("no {text:?} in: {:?}", self.seen);
            };
            let part = part.get(..length).unwrap_or_default();
            self.seen.push_str(&String::from_utf8_lossy(part));
        }
    }
}

/// The child has the terminal: it reads, Ctrl-C and Ctrl-Z are its own, once,
/// and Ctrl-Z does not leave the terminal to nobody.
pub(crate) fn the_child_has_the_terminal_of_docker_run_it(engine: &Engine) {
    let script = "on CONT report on TSTP report on INT exit 7";
    for (name, words, keys, shows) in [
        (
            "asks",
            "on INT exit 7 report up report-stdin wait",
            &b"typed\n\x04"[..],
            "stdin\ttyped",
        ),
        // The terminal stops it by TSTP, and clinit continues it.
        (
            "stops",
            "on CONT report on INT exit 7 report up wait",
            b"\x1a",
            "signal\t18",
        ),
        (
            "takes",
            &format!("{script} report up wait"),
            b"\x1a",
            "signal\t20",
        ),
    ] {
        image(engine, name, &format!("-- /fixture {words}"));
        let (master, slave) = terminal();
        let io = || Stdio::from(slave.try_clone().expect("a copy"));
        let mut client = engine
            .docker([
                "run",
                "--rm",
                "--interactive",
                "--tty",
                "--network",
                "host",
                name,
            ])
            .stdin(io())
            .stdout(io())
            .stderr(io())
            .spawn()
            .expect("docker run");
        let mut screen = Screen {
            master,
            seen: String::new(),
        };
        screen.await_text("\tup");
        screen.type_in(keys);
        screen.await_text(shows);
        screen.type_in(b"\x03");
        let status = client.wait().expect("docker run ends");
        assert_eq!(status.code(), Some(7), "{name}: {:?}", screen.seen);
    }
}
