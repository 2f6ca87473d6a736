//! What reaping costs: the CPU time of an init that is given many orphans.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::contenders::Contender;
use crate::pid1::Pid1;
use crate::{Column, median};

const ORPHANS: u32 = 10_000;

const ROUNDS: usize = 5;

/// The CPU time of each, in a burst and in a stream, and the median over the
/// rounds of its ratio to dumb-init's of the same round.
pub(crate) fn columns(contenders: &[Contender], program: &Result<PathBuf, String>) -> Vec<Column> {
    let program = match program {
        Ok(program) => program,
        Err(why) => {
            eprintln!("no orphans: {why}");
            return Vec::new();
        }
    };
    let column = |way| {
        let mut rounds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
        for _ in 0..ROUNDS {
            for (contender, figures) in contenders.iter().zip(&mut rounds) {
                let measured = if contender.is_plain() && contender.program.is_some() {
                    measure(contender, program, way).map(Some)
                } else {
                    Ok(None)
                };
                figures.push(measured.unwrap_or_else(|why| {
                    eprintln!("{}, {way}: {why}", contender.name);
                    None
                }));
            }
        }
        let peer = contenders
            .iter()
            .position(|contender| contender.name == "dumb-init")
            .and_then(|index| rounds.get(index).cloned())
            .unwrap_or_default();
        let cells = rounds.iter().map(|own| cell(own, &peer)).collect();
        let head = format!("µs of CPU an orphan, {ORPHANS} in a {way}, median of {ROUNDS}");
        Column::new(head, cells)
    };
    ["burst", "stream"].map(column).to_vec()
}

fn cell(own: &[Option<f64>], peer: &[Option<f64>]) -> String {
    let figures: Vec<f64> = own.iter().copied().flatten().collect();
    let ratios: Vec<f64> = own
        .iter()
        .zip(peer)
        .filter_map(|(own, peer)| Some((*own)? / (*peer)?))
        .collect();
    match (median(&figures), median(&ratios)) {
        (Some(figure), Some(ratio)) => format!("{figure:.2} ({ratio:.2}×)"),
        (Some(figure), None) => format!("{figure:.2}"),
        (None, _) => String::new(),
    }
}

/// Microseconds of CPU time for each orphan.
fn measure(contender: &Contender, program: &Path, way: &str) -> Result<f64, String> {
    let cannot = |error: std::io::Error| error.to_string();
    let (stdin, begin) = pipe().map_err(cannot)?;
    let (said, stdout) = pipe().map_err(cannot)?;
    let command = [&*program.to_string_lossy(), way, &ORPHANS.to_string()];
    let stdin = OwnedFd::from(stdin).into();
    let stdout = OwnedFd::from(stdout).into();
    let mut running = Pid1::start(contender, &command, stdin, stdout)?;
    let before = running.cpu().ok_or("no schedstat")?;
    File::from(OwnedFd::from(begin))
        .write_all(b"\n")
        .map_err(cannot)?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).map_err(cannot)?;
    if line != "made\n" {
        return Err(format!("its child said {line:?}"));
    }
    running.wait_for_children(1)?;
    let after = running.cpu().ok_or("no schedstat")?;
    let spent = after.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(ORPHANS))
}
