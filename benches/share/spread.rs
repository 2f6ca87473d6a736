//! How many of some long-lived connections each worker has.

use std::io;
use std::thread;
use std::time::Duration;

use crate::load::{self, Arrival, Outcome, Then};
use crate::programs::Programs;
use crate::tables::{Table, median};
use crate::{NODE, turns};

const CONNECTIONS: u32 = 64;

/// Of two that are not opened back to back.
const INTERVAL: Duration = Duration::from_millis(20);

/// Each round opens all connections to each contender, which takes its time.
const MOST_ROUNDS: usize = 3;

/// How many the busier worker has, round by round.
type Counts = Vec<f64>;

pub(crate) fn run(programs: &Programs, rounds: usize) -> io::Result<()> {
    let rounds = rounds.min(MOST_ROUNDS);
    let rivals: Vec<_> = NODE.iter().filter(|rival| rival.workers > 1).collect();
    let started: Vec<_> = rivals.iter().map(|rival| rival.start(programs)).collect();
    let mut slow: Vec<Counts> = rivals.iter().map(|_| Vec::new()).collect();
    let mut fast = slow.clone();
    let mut failed = vec![0; rivals.len()];
    for round in 0..rounds {
        for (counts, interval) in [(&mut slow, INTERVAL), (&mut fast, Duration::ZERO)] {
            // A contender that takes notice of rates has seen none of late.
            thread::sleep(Duration::from_millis(300));
            for index in turns(rivals.len(), round) {
                let (Some(Ok(running)), Some(counts), Some(failed)) = (
                    started.get(index),
                    counts.get_mut(index),
                    failed.get_mut(index),
                ) else {
                    continue;
                };
                let outcome = load::open(running.port, &arrivals(interval), Then::Hold)?;
                counts.push(most(&outcome));
                *failed += outcome.failed;
            }
        }
    }
    let one_by_one = format!("one every {INTERVAL:?}");
    let mut table = Table::new(
        &format!("{CONNECTIONS} long-lived connections over two workers, {rounds} times"),
        &[
            "contender",
            &one_by_one,
            "at worst",
            "back to back",
            "at worst",
            "failed",
        ],
    );
    let counts = slow.iter().zip(&fast).zip(&failed);
    for ((rival, started), ((slow, fast), failed)) in rivals.iter().zip(&started).zip(counts) {
        if let Err(reason) = started {
            table.absent(rival.name, reason);
            continue;
        }
        let at_worst = |counts: &Counts| counts.iter().copied().fold(0.0, f64::max);
        table.row(&[
            rival.name.to_owned(),
            split(median(slow.iter().copied())),
            split(at_worst(slow)),
            split(median(fast.iter().copied())),
            split(at_worst(fast)),
            failed.to_string(),
        ]);
    }
    table.end();
    Ok(())
}

fn arrivals(interval: Duration) -> Vec<Arrival> {
    let arrival = |index| Arrival {
        at: interval * index,
        work: Duration::ZERO,
    };
    (0..CONNECTIONS).map(arrival).collect()
}

fn most(outcome: &Outcome) -> f64 {
    outcome
        .by_worker
        .values()
        .max()
        .map_or(0.0, |it| *it as f64)
}

/// Both workers' parts.
fn split(most: f64) -> String {
    format!("{most:.0}/{:.0}", f64::from(CONNECTIONS) - most)
}
