//! Requests per second, latency and CPU time of all contenders.

use std::io;
use std::thread;
use std::time::Duration;

use crate::load::{self, Outcome, Then, Until};
use crate::programs::Programs;
use crate::rivals::{Rival, Running};
use crate::tables::{P50, P99, P999, Table, median, millis, percent, quantile, times};
use crate::{NODE, procs, turns};

/// Connections at a time.
const WIDTH: usize = 32;

/// A turn.
const TURN: Duration = Duration::from_millis(450);

/// Compilers and caches have had their time after so many.
const WARM_UP: u64 = 4000;

/// A turn's figures.
pub(crate) struct Turn {
    rate: f64,
    p50: Duration,
    p99: Duration,
    p999: Duration,
    /// In seconds, for 10,000 requests.
    cpu: f64,
    shares: (f64, f64),
    failed: u64,
}

pub(crate) fn run(programs: &Programs, rounds: usize, then: Then) -> io::Result<()> {
    let how = match then {
        Then::Close => "a new connection each",
        Then::Reuse | Then::Hold => "keep-alive",
    };
    let started: Vec<_> = NODE.iter().map(|rival| rival.start(programs)).collect();
    let turns = alternate(NODE, &started, rounds, |running, rival| {
        turn(running, rival.workers, WIDTH, then, TURN)
    })?;
    let mut table = Table::new(
        &format!("HTTP, {how}, {WIDTH} at a time, {rounds} turns of {TURN:?}"),
        &[
            "contender",
            "requests/s",
            "over one process",
            "over SO_REUSEPORT",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "CPU s per 10,000",
            "over one process",
            "a worker's share",
            "failed",
        ],
    );
    // The first two of NODE.
    let alone = turns.first().map_or(&[][..], Vec::as_slice);
    let reuse_port = turns.get(1).map_or(&[][..], Vec::as_slice);
    for ((rival, started), turns) in NODE.iter().zip(&started).zip(&turns) {
        if let Err(reason) = started {
            table.absent(rival.name, reason);
            continue;
        }
        let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
        table.row(&[
            rival.name.to_owned(),
            format!("{:.0}", of(|turn| turn.rate)),
            times(over(turns, alone, |turn| turn.rate)),
            times(over(turns, reuse_port, |turn| turn.rate)),
            format!("{:.2}", of(|turn| millis(turn.p50))),
            format!("{:.2}", of(|turn| millis(turn.p99))),
            format!("{:.2}", of(|turn| millis(turn.p999))),
            format!("{:.2}", of(|turn| turn.cpu)),
            times(over(turns, alone, |turn| turn.cpu)),
            format!(
                "{} to {}",
                percent(of(|turn| turn.shares.0)),
                percent(of(|turn| turn.shares.1)),
            ),
            turns
                .iter()
                .map(|turn| turn.failed)
                .sum::<u64>()
                .to_string(),
        ]);
    }
    table.end();
    Ok(())
}

/// Gives each contender that runs a turn in each round, after one to warm up.
pub(crate) fn alternate<T>(
    rivals: &[Rival],
    started: &[Result<Running, String>],
    rounds: usize,
    turn: impl Fn(&Running, &Rival) -> io::Result<T>,
) -> io::Result<Vec<Vec<T>>> {
    for running in started.iter().flatten() {
        load::closed(running.port, 8, Then::Close, Until::Sent(WARM_UP / 4))?;
        load::closed(running.port, 8, Then::Reuse, Until::Sent(WARM_UP))?;
    }
    let mut figures: Vec<_> = rivals.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for index in turns(rivals.len(), round) {
            let contender = (
                rivals.get(index),
                started.get(index),
                figures.get_mut(index),
            );
            if let (Some(rival), Some(Ok(running)), Some(figures)) = contender {
                // What the one before left behind is done by then.
                thread::sleep(Duration::from_millis(30));
                figures.push(turn(running, rival)?);
            }
        }
    }
    Ok(figures)
}

pub(crate) fn turn(
    running: &Running,
    workers: usize,
    width: usize,
    then: Then,
    time: Duration,
) -> io::Result<Turn> {
    let pids = running.pids();
    let before = procs::cpu(&pids);
    let outcome = load::closed(running.port, width, then, Until::Over(time))?;
    // A worker's last system calls are its too.
    thread::sleep(Duration::from_millis(20));
    let cpu = procs::cpu(&pids).saturating_sub(before);
    if running.pids() != pids {
        eprintln!("processes came or went while they were measured: {pids:?}");
    }
    Ok(figures(&outcome, cpu, workers))
}

fn figures(outcome: &Outcome, cpu: Duration, workers: usize) -> Turn {
    let answered = outcome.latencies.len().max(1) as f64;
    Turn {
        rate: outcome.rate(),
        p50: quantile(&outcome.latencies, P50),
        p99: quantile(&outcome.latencies, P99),
        p999: quantile(&outcome.latencies, P999),
        cpu: cpu.as_secs_f64() * 10_000.0 / answered,
        shares: outcome.shares(workers),
        failed: outcome.failed,
    }
}

/// The median of the ratios, round by round.
pub(crate) fn over(turns: &[Turn], peer: &[Turn], figure: fn(&Turn) -> f64) -> f64 {
    let pairs = turns.iter().zip(peer);
    median(pairs.map(|(turn, peer)| figure(turn) / figure(peer)))
}

impl Turn {
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    pub(crate) fn cpu(&self) -> f64 {
        self.cpu
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }
}
