//! What an init costs: `cargo bench --bench init`, or with further binaries of
//! clinit beside cargo's own: `cargo bench --bench init -- PATH…`.
//!
//! One table of everything in one run, every figure measured on this machine,
//! now. Times depend on what else the machine does, so all contenders have
//! their turns in each round, and what counts is how they compare. Nothing is
//! asserted. What was started is ended, by its pid.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod contenders;
mod idle;
mod orphans;
mod pid1;
mod start_up;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use contenders::Contender;

fn main() -> io::Result<()> {
    contenders::keep_descriptors();
    let scratch = Scratch::new()?;
    let contenders = contenders::all(&scratch.0)?;
    let columns = [
        idle::columns(&contenders),
        start_up::columns(&contenders, "a static true", &compile("true", &scratch.0))?,
        start_up::columns(&contenders, "/bin/true", &Ok("/bin/true".into()))?,
        orphans::columns(&contenders, &compile("orphans", &scratch.0)),
    ]
    .concat();
    print(&contenders, &columns);
    Ok(())
}

/// A column of the table: its head, and a cell for each contender.
#[derive(Clone)]
struct Column {
    head: String,
    cells: Vec<String>,
}

impl Column {
    fn new(head: impl Into<String>, cells: Vec<String>) -> Self {
        let head = head.into();
        Self { head, cells }
    }
}

fn print(contenders: &[Contender], columns: &[Column]) {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    println!();
    let heads = columns.iter().map(|column| column.head.as_str());
    line(&mut std::iter::once("init").chain(heads));
    line(&mut std::iter::repeat_n("---", columns.len() + 1));
    for (row, contender) in contenders.iter().enumerate() {
        let cells = columns
            .iter()
            .map(|column| column.cells.get(row).map_or("", String::as_str));
        line(&mut std::iter::once(contender.name.as_str()).chain(cells));
    }
}

/// The middle one of these figures, if there is any.
fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// A directory of this run's own, gone after it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let name = format!("clinit-bench-{:016x}", clinit::sys::random::entropy());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One of the small C programs beside this file, without a dynamic loader's
/// time in it; or why there is none.
fn compile(name: &str, directory: &Path) -> Result<PathBuf, String> {
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/init"));
    let program = directory.join(name);
    let compiled = Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(sources.join(format!("{name}.c")))
        .status()
        .map_err(|error| format!("cc: {error}"))?;
    if compiled.success() {
        Ok(program)
    } else {
        Err(format!("cc: {compiled}"))
    }
}
