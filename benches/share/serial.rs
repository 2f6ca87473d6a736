//! How long requests wait for workers that serve one connection at a time,
//! where most take little and some take long.
//!
//! Requests come when they come (Poisson), at the same times and with the same
//! work for every contender of a round; the work is sleep, so no contender is
//! short of CPU. Latency counts from when a request was due.

use std::io;
use std::time::Duration;

use crate::load::{self, Arrival, Then};
use crate::programs::Programs;
use crate::rivals::{Rival, Server, Way};
use crate::tables::{P50, P99, P999, Table, median, millis, quantile, times};
use crate::turns;

const WORKERS: usize = 4;

/// Nineteen in twenty, and the twentieth.
const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_millis(50);

/// Of what the workers can do at best.
const LOAD: f64 = 0.5;

const TURN: Duration = Duration::from_secs(3);

const MOST_ROUNDS: usize = 4;

const RIVALS: &[Rival] = &[
    serial("SO_REUSEPORT, no steering", Way::ReusePort),
    serial("clinit --share slots", Way::Clinit(&["--share", "slots"])),
    serial("clinit --share queue", Way::Clinit(&["--share", "queue"])),
];

const fn serial(name: &'static str, way: Way) -> Rival {
    Rival {
        name,
        way,
        server: Server::Blocking,
        workers: WORKERS,
    }
}

pub(crate) fn run(programs: &Programs, rounds: usize) -> io::Result<()> {
    let rounds = rounds.min(MOST_ROUNDS);
    let started: Vec<_> = RIVALS.iter().map(|rival| rival.start(programs)).collect();
    let mut outcomes: Vec<Vec<_>> = RIVALS.iter().map(|_| Vec::new()).collect();
    let mean = SHORT * 19 / 20 + LONG / 20;
    let rate = LOAD * WORKERS as f64 / mean.as_secs_f64();
    for round in 0..rounds {
        let arrivals = arrivals(rate, round as u64);
        for index in turns(RIVALS.len(), round) {
            if let (Some(Ok(running)), Some(outcomes)) =
                (started.get(index), outcomes.get_mut(index))
            {
                outcomes.push(load::open(running.port, &arrivals, Then::Close)?);
            }
        }
    }
    let mut table = Table::new(
        &format!(
            "{WORKERS} workers of one connection at a time, 95 % of {SHORT:?} and 5 % of {LONG:?}, \
             {rate:.0} a second (half of what they can do), {rounds} turns of {TURN:?}"
        ),
        &[
            "contender",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "mean ms",
            "mean over SO_REUSEPORT",
            "p99 over SO_REUSEPORT",
            "failed",
        ],
    );
    let mut peer = None;
    for ((rival, started), outcomes) in RIVALS.iter().zip(&started).zip(&outcomes) {
        if let Err(reason) = started {
            table.absent(rival.name, reason);
            continue;
        }
        let p99 = |outcome: &load::Outcome| quantile(&outcome.latencies, P99).as_secs_f64();
        let p99s: Vec<f64> = outcomes.iter().map(p99).collect();
        let means: Vec<f64> = outcomes.iter().map(mean_latency).collect();
        let (peer_p99s, peer_means) = peer.get_or_insert((p99s.clone(), means.clone()));
        let over = |own: &[f64], peer: &[f64]| {
            times(median(own.iter().zip(peer).map(|(own, peer)| own / peer)))
        };
        // There are too few in one round for the last of a thousand.
        let mut all: Vec<Duration> = outcomes
            .iter()
            .flat_map(|it| it.latencies.clone())
            .collect();
        all.sort_unstable();
        table.row(&[
            rival.name.to_owned(),
            format!("{:.1}", millis(quantile(&all, P50))),
            format!("{:.1}", millis(quantile(&all, P99))),
            format!("{:.1}", millis(quantile(&all, P999))),
            format!("{:.1}", 1e3 * median(means.iter().copied())),
            over(&means, peer_means),
            over(&p99s, peer_p99s),
            outcomes.iter().map(|it| it.failed).sum::<u64>().to_string(),
        ]);
    }
    table.end();
    Ok(())
}

fn mean_latency(outcome: &load::Outcome) -> f64 {
    let total: Duration = outcome.latencies.iter().sum();
    total.as_secs_f64() / outcome.latencies.len().max(1) as f64
}

fn arrivals(rate: f64, seed: u64) -> Vec<Arrival> {
    let mut random = Random(seed);
    let mut at = Duration::ZERO;
    let mut arrivals = Vec::new();
    loop {
        at += Duration::from_secs_f64(-random.below_one().max(1e-12).ln() / rate);
        if at >= TURN {
            return arrivals;
        }
        let is_long = random.below_one() < 0.05;
        let work = if is_long { LONG } else { SHORT };
        arrivals.push(Arrival { at, work });
    }
}

/// `SplitMix64`: every run has the same requests.
struct Random(u64);

impl Random {
    fn below_one(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}
