//! What it costs a server that clinit takes part in its bind: the CPU time of
//! its requests, and the time of its system calls.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::load::Then;
use crate::programs::Programs;
use crate::requests::{Turn, alternate, over, turn};
use crate::rivals::{Rival, Server, Way, free_port};
use crate::tables::{Table, median, times};
use crate::turns;

const TURN: Duration = Duration::from_millis(200);

const CAPTURED: Way = Way::Clinit(&[]);

/// Two that are the same show what is noise.
const RIVALS: &[Rival] = &[
    single("nginx, bare", Way::Alone, Server::Nginx),
    single("nginx, bare again", Way::Alone, Server::Nginx),
    single("clinit -i 1 -- nginx", CAPTURED, Server::Nginx),
    single("Node, bare", Way::Alone, Server::Node),
    single("Node, bare again", Way::Alone, Server::Node),
    single("clinit -i 1 -- node", CAPTURED, Server::Node),
];

const fn single(name: &'static str, way: Way, server: Server) -> Rival {
    Rival {
        name,
        way,
        server,
        workers: 1,
    }
}

pub(crate) fn requests(programs: &Programs, rounds: usize) -> io::Result<()> {
    let started: Vec<_> = RIVALS.iter().map(|rival| rival.start(programs)).collect();
    let mut columns = Vec::new();
    for then in [Then::Reuse, Then::Close] {
        columns.push(alternate(RIVALS, &started, rounds, |running, _| {
            turn(running, 1, 32, then, TURN)
        })?);
    }
    let mut table = Table::new(
        &format!("one server, its own bind captured or not, {rounds} turns of {TURN:?}"),
        &[
            "server",
            "keep-alive: CPU s per 10,000",
            "over bare",
            "new connections: CPU s per 10,000",
            "over bare",
            "failed",
        ],
    );
    for (index, (rival, started)) in RIVALS.iter().zip(&started).enumerate() {
        if let Err(reason) = started {
            table.absent(rival.name, reason);
            continue;
        }
        let peer = index / 3 * 3;
        let mut cells = vec![rival.name.to_owned()];
        let mut failed = 0;
        for column in &columns {
            if let (Some(turns), Some(peer)) = (column.get(index), column.get(peer)) {
                cells.push(format!("{:.3}", median(turns.iter().map(Turn::cpu))));
                cells.push(times(over(turns, peer, Turn::cpu)));
                failed += turns.iter().map(Turn::failed).sum::<u64>();
            }
        }
        cells.push(failed.to_string());
        table.row(&cells);
    }
    table.end();
    Ok(())
}

// ---- system calls ----

pub(crate) fn calls(programs: &Programs, rounds: usize) -> io::Result<()> {
    let subjects: [(&str, Option<Vec<&str>>); 3] = [
        ("bare", Some(Vec::new())),
        (
            "clinit -i 1, no capture",
            programs.without_capture.map(<[_]>::to_vec),
        ),
        ("clinit -i 1", programs.without_capture.map(|_| Vec::new())),
    ];
    let mut figures: Vec<Vec<[f64; 4]>> = vec![Vec::new(); subjects.len()];
    let mut reasons = vec![String::new(); subjects.len()];
    for round in 0..rounds {
        for index in turns(subjects.len(), round) {
            let (Some((_, options)), Some(figures), Some(reason)) = (
                subjects.get(index),
                figures.get_mut(index),
                reasons.get_mut(index),
            ) else {
                continue;
            };
            let measured = match options {
                None => Err("this clinit takes no part in a worker's bind".to_owned()),
                Some(_) if index == 0 => timed(programs, free_port()?, None),
                Some(options) => timed(programs, free_port()?, Some(options)),
            };
            match measured {
                Ok(measured) => figures.push(measured),
                Err(why) => *reason = why,
            }
        }
    }
    let mut table = Table::new(
        &format!("system calls in ns, medians of {rounds} runs in turns; in brackets over bare"),
        &["run by", "getppid", "read", "bind", "listen"],
    );
    let mut bare = None;
    for ((name, _), (figures, reason)) in subjects.iter().zip(figures.iter().zip(&reasons)) {
        if figures.is_empty() {
            table.absent(name, reason);
            continue;
        }
        let call = |call: usize| {
            let figures = figures.iter().filter_map(move |it| it.get(call).copied());
            median(figures)
        };
        let medians = [call(0), call(1), call(2), call(3)];
        let bare = *bare.get_or_insert(medians);
        let mut cells = vec![(*name).to_owned()];
        let pairs = medians.iter().zip(bare);
        cells.extend(pairs.map(|(own, bare)| format!("{own:.0} ({})", times(own / bare))));
        table.row(&cells);
    }
    table.end();
    Ok(())
}

/// What the program measured of itself, under clinit with these options or bare.
fn timed(programs: &Programs, port: u16, options: Option<&[&str]>) -> Result<[f64; 4], String> {
    let program = programs.calls.clone()?;
    // It ends by itself; nothing waits for ever on what hangs.
    let mut command = Command::new("timeout");
    command.arg("20");
    if let Some(options) = options {
        command
            .arg(&programs.clinit)
            .args(["--log-level", "warn", "-i", "1", "--restart", "never"])
            .args(options)
            .arg("--");
    }
    let output = command
        .arg(program)
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("timeout: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = said
        .split_whitespace()
        .filter_map(|it| it.parse().ok())
        .collect();
    <[f64; 4]>::try_from(figures).map_err(|_| {
        let words = String::from_utf8_lossy(&output.stderr);
        format!(
            "{}: {}",
            output.status,
            words.lines().last().unwrap_or("no word")
        )
    })
}
