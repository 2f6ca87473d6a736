//! What an init is while nothing happens.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::Column;
use crate::contenders::Contender;
use crate::pid1::Pid1;

/// What an idle process does in this time is counted.
const WATCHED: Duration = Duration::from_secs(10);

/// What an init does in this time after its start is not idleness: clinit takes
/// a worker that shows nothing else for ready when it is 10 s old.
const STARTED: Duration = Duration::from_secs(12);

/// Size, memory, descriptors and wake-ups.
pub(crate) fn columns(contenders: &[Contender]) -> Vec<Column> {
    let running: Vec<_> = contenders.iter().map(start).collect();
    thread::sleep(STARTED);
    // How often it has gone to sleep, which is how often it was woken.
    let switches =
        |running: &Result<Pid1, String>| running.as_ref().ok()?.status("voluntary_ctxt_switches");
    let before: Vec<_> = running.iter().map(switches).collect();
    thread::sleep(WATCHED);
    let after: Vec<_> = running.iter().map(switches).collect();

    let size = |contender: &Contender| {
        let program = contender.program.as_ref();
        let file = program.and_then(|program| fs::metadata(program).ok());
        shown(file.map(|file| file.len()))
    };
    let memory = |running: &Result<Pid1, String>| match running {
        Ok(running) => format!(
            "{} ({})",
            shown(running.status("VmRSS")),
            shown(running.status("RssAnon"))
        ),
        Err(why) => why.clone(),
    };
    let descriptors = |running: &Result<Pid1, String>| {
        let count = running.as_ref().map(Pid1::descriptors);
        count.map_or_else(|_| String::new(), |count| count.to_string())
    };
    let woken = before.iter().zip(&after).map(|pair| match pair {
        (Some(before), Some(after)) => (after - before).to_string(),
        (None, _) | (_, None) => String::new(),
    });
    vec![
        Column::new("bytes", contenders.iter().map(size).collect()),
        Column::new("VmRSS kB (anonymous)", running.iter().map(memory).collect()),
        Column::new("descriptors", running.iter().map(descriptors).collect()),
        Column::new(format!("wake-ups in {WATCHED:?}"), woken.collect()),
    ]
}

fn start(contender: &Contender) -> Result<Pid1, String> {
    let command = ["sleep", "infinity"];
    Pid1::start(contender, &command, Stdio::null(), Stdio::null())
}

fn shown(figure: Option<u64>) -> String {
    figure.map_or_else(String::new, |figure| figure.to_string())
}
