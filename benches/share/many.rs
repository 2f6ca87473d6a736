//! Requests per second of 64 workers, each of which serves one connection at a
//! time, on one port.

use std::io;
use std::time::Duration;

use crate::load::Then;
use crate::programs::Programs;
use crate::requests::{Turn, alternate, over, turn};
use crate::rivals::{Rival, Server, Way};
use crate::tables::{Table, median, times};

const WORKERS: usize = 64;

const TURN: Duration = Duration::from_millis(450);

const RIVALS: &[Rival] = &[
    many("SO_REUSEPORT, no steering", Way::ReusePort),
    many("clinit --share slots", Way::Clinit(&["--share", "slots"])),
    many("clinit --share queue", Way::Clinit(&["--share", "queue"])),
];

const fn many(name: &'static str, way: Way) -> Rival {
    Rival {
        name,
        way,
        server: Server::Blocking,
        workers: WORKERS,
    }
}

pub(crate) fn run(programs: &Programs, rounds: usize) -> io::Result<()> {
    let started: Vec<_> = RIVALS.iter().map(|rival| rival.start(programs)).collect();
    let turns = alternate(RIVALS, &started, rounds, |running, rival| {
        turn(running, rival.workers, WORKERS, Then::Close, TURN)
    })?;
    let mut table = Table::new(
        &format!(
            "{WORKERS} workers in C, a new connection each, {WORKERS} at a time, \
             {rounds} turns of {TURN:?}"
        ),
        &[
            "contender",
            "requests/s",
            "over SO_REUSEPORT",
            "CPU s per 10,000",
            "over SO_REUSEPORT",
            "failed",
        ],
    );
    let peer = turns.first().map_or(&[][..], Vec::as_slice);
    for ((rival, started), turns) in RIVALS.iter().zip(&started).zip(&turns) {
        if let Err(reason) = started {
            table.absent(rival.name, reason);
            continue;
        }
        table.row(&[
            rival.name.to_owned(),
            format!("{:.0}", median(turns.iter().map(Turn::rate))),
            times(over(turns, peer, Turn::rate)),
            format!("{:.3}", median(turns.iter().map(Turn::cpu))),
            times(over(turns, peer, Turn::cpu)),
            turns.iter().map(Turn::failed).sum::<u64>().to_string(),
        ]);
    }
    table.end();
    Ok(())
}
