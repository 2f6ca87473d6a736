//! The time that an init adds to a program that ends at once.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::contenders::{Contender, quiet};
use crate::{Column, median};

const ROUNDS: usize = 200;

/// The least and the median time, over those of the bare program of this name.
pub(crate) fn columns(
    contenders: &[Contender],
    name: &str,
    program: &Result<PathBuf, String>,
) -> io::Result<Vec<Column>> {
    let program = match program {
        Ok(program) => program,
        Err(why) => {
            eprintln!("no start-up over a static program: {why}");
            return Ok(Vec::new());
        }
    };
    let mut bare = Timed::new(Command::new(program));
    let mut timed: Vec<Option<Timed>> = contenders
        .iter()
        .map(|contender| {
            let init = contender.program.as_ref()?;
            let mut command = Command::new(init);
            command.args(&contender.arguments).arg(program);
            contender.is_plain().then(|| Timed::new(command))
        })
        .collect();
    // In turns, so that whatever else the machine does strikes all alike.
    for _ in 0..ROUNDS {
        for timed in std::iter::once(&mut bare).chain(timed.iter_mut().flatten()) {
            timed.run()?;
        }
    }
    let (least, middle) = bare.times();
    let cell = |timed: &Option<Timed>| {
        let Some(timed) = timed else {
            return String::new();
        };
        let (own_least, own_middle) = timed.times();
        format!("{:.2}×, {:.2}×", own_least / least, own_middle / middle)
    };
    let head = format!(
        "start and end of {name}, least and median of {ROUNDS}: bare {least:.0} µs, {middle:.0} µs"
    );
    Ok(vec![Column::new(head, timed.iter().map(cell).collect())])
}

struct Timed {
    command: Command,
    /// In microseconds.
    times: Vec<f64>,
}

impl Timed {
    fn new(command: Command) -> Self {
        let times = Vec::with_capacity(ROUNDS);
        Self { command, times }
    }

    fn run(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let status = quiet(&mut self.command).status()?;
        self.times.push(start.elapsed().as_secs_f64() * 1e6);
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{:?}: {status}", self.command)))
        }
    }

    /// The least and the median.
    fn times(&self) -> (f64, f64) {
        let least = self.times.iter().copied().fold(f64::INFINITY, f64::min);
        (least, median(&self.times).unwrap_or(f64::NAN))
    }
}
