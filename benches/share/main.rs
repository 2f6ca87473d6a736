//! What sharing a port costs and gives: `cargo bench --bench share`, or only
//! some parts of it: `cargo bench --bench share -- new-connections spread`.
//!
//! Every figure is measured on this machine, now, all contenders in one run and
//! in turns; a ratio is the median over the rounds of a contender's figure over
//! its peer's of the same round. Nothing is asserted. Everything stays on
//! loopback; what was started is ended, by its pid.
//!
//! The load generator shares the cores with the servers, so requests per second
//! are what the whole machine does; CPU time is the servers' alone, everything
//! included that shares the port for them.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of what happens in seconds are far below 2^52"
)]

mod capture;
mod load;
mod many;
mod procs;
mod programs;
mod requests;
mod rivals;
mod serial;
mod spread;
mod tables;
mod wakeups;

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use load::Then;
use programs::Programs;
use rivals::{Rival, Server, Way};

/// How often each contender has its turn in a part that says nothing else.
const ROUNDS: usize = 9;

struct Part {
    name: &'static str,
    about: &'static str,
    run: fn(&Programs, usize) -> io::Result<()>,
}

const PARTS: &[Part] = &[
    Part {
        name: "keep-alive",
        about: "requests over connections that stay open",
        run: |programs, rounds| requests::run(programs, rounds, Then::Reuse),
    },
    Part {
        name: "new-connections",
        about: "requests with a connection each",
        run: |programs, rounds| requests::run(programs, rounds, Then::Close),
    },
    Part {
        name: "spread",
        about: "how evenly long-lived connections lie",
        run: spread::run,
    },
    Part {
        name: "serial",
        about: "waiting behind workers that serve one connection at a time",
        run: serial::run,
    },
    Part {
        name: "capture",
        about: "CPU time a request of servers whose bind is taken part in",
        run: capture::requests,
    },
    Part {
        name: "calls",
        about: "time of system calls in such servers",
        run: capture::calls,
    },
    Part {
        name: "many",
        about: "64 workers on one port",
        run: many::run,
    },
    Part {
        name: "wake-ups",
        about: "how often clinit runs while others serve",
        run: wakeups::run,
    },
];

/// The contenders of Node servers, two workers each, as there are two cores on
/// the machines this is made for. clinit cannot be told not to steer: plain
/// `SO_REUSEPORT` is what slots would be then.
const NODE: &[Rival] = &[
    node("one Node process", Way::Alone, 1),
    node("SO_REUSEPORT, no steering", Way::ReusePort, 2),
    // What differs between these two is noise.
    node("SO_REUSEPORT again", Way::ReusePort, 2),
    node(
        "clinit --share slots",
        Way::Clinit(&["--share", "slots"]),
        2,
    ),
    node(
        "clinit --share queue",
        Way::Clinit(&["--share", "queue"]),
        2,
    ),
    node("Node cluster, round robin", Way::Cluster("rr"), 2),
    node("Node cluster, shared", Way::Cluster("none"), 2),
    node("pm2-runtime -i 2", Way::Pm2, 2),
];

const fn node(name: &'static str, way: Way, workers: usize) -> Rival {
    Rival {
        name,
        way,
        server: Server::Node,
        workers,
    }
}

fn main() -> ExitCode {
    let mut rounds = ROUNDS;
    let mut chosen = Vec::new();
    for argument in std::env::args().skip(1) {
        let part = PARTS.iter().find(|part| part.name == argument);
        let count = argument.strip_prefix("--rounds=").map(str::parse);
        match (part, count) {
            (Some(part), _) => chosen.push(part),
            (None, Some(Ok(count))) if (1..=1000).contains(&count) => rounds = count,
            // Cargo's.
            (None, None) if argument == "--bench" => {}
            (None, _) => return usage(&argument),
        }
    }
    if chosen.is_empty() {
        chosen.extend(PARTS);
    }
    match run(&chosen, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("share: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(argument: &str) -> ExitCode {
    eprintln!("share: {argument} is no part; the parts are (--rounds=N: each N rounds)");
    for part in PARTS {
        eprintln!("  {:16} {}", part.name, part.about);
    }
    ExitCode::from(2)
}

fn run(parts: &[&Part], rounds: usize) -> io::Result<()> {
    let programs = Programs::find()?;
    for part in parts {
        let start = Instant::now();
        (part.run)(&programs, rounds)?;
        eprintln!("({}: {:.0} s)", part.name, start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The indices of so many contenders, each round beginning with another, so
/// that none always comes after the same one.
fn turns(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round) % count)
}
