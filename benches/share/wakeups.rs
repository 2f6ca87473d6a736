//! How often clinit goes to sleep, which is no less than how often something
//! woke it, while its workers serve.

use std::io;
use std::thread;
use std::time::Duration;

use crate::load::{self, Arrival, Outcome, Then, Until};
use crate::programs::Programs;
use crate::rivals::{Rival, Running, Server, Way};
use crate::tables::{Table, millis};
use crate::{NODE, procs};

const REQUESTS: u64 = 10_000;

/// Connections that come slowly enough to be steered one by one.
const SLOW: u32 = 100;
const INTERVAL: Duration = Duration::from_millis(20);

const NGINX: Rival = Rival {
    name: "clinit -i 1 -- nginx",
    way: Way::Clinit(&[]),
    server: Server::Nginx,
    workers: 1,
};

pub(crate) fn run(programs: &Programs, _: usize) -> io::Result<()> {
    let mut table = Table::new(
        &format!(
            "clinit's own wake-ups and CPU ms: {REQUESTS} requests, \
             and {SLOW} connections of one every {INTERVAL:?}"
        ),
        &[
            "contender",
            "keep-alive",
            "new connections",
            "slow connections",
            "failed",
        ],
    );
    let under_clinit = |rival: &&Rival| matches!(rival.way, Way::Clinit(_));
    for rival in NODE.iter().chain([&NGINX]).filter(under_clinit) {
        match rival.start(programs) {
            Ok(running) => table.row(&row(rival, &running)?),
            Err(reason) => table.absent(rival.name, &reason),
        }
    }
    table.end();
    Ok(())
}

fn row(rival: &Rival, running: &Running) -> io::Result<Vec<String>> {
    let port = running.port;
    let until = Until::Sent(REQUESTS);
    let slow = |index| Arrival {
        at: INTERVAL * index,
        work: Duration::ZERO,
    };
    let slow: Vec<_> = (0..SLOW).map(slow).collect();
    let loads: [&dyn Fn() -> io::Result<Outcome>; 3] = [
        &|| load::closed(port, 32, Then::Reuse, until),
        &|| load::closed(port, 32, Then::Close, until),
        &|| load::open(port, &slow, Then::Close),
    ];
    let mut cells = vec![rival.name.to_owned()];
    let mut failed = 0;
    for load in loads {
        // What came before has been attended to by then.
        thread::sleep(Duration::from_millis(500));
        let clinit = running.root();
        let (sleeps, cpu) = (procs::sleeps(clinit), procs::cpu(&[clinit]));
        failed += load()?.failed;
        let sleeps = procs::sleeps(clinit) - sleeps;
        let cpu = procs::cpu(&[clinit]).saturating_sub(cpu);
        cells.push(format!("{sleeps} ({:.1} ms)", millis(cpu)));
    }
    cells.push(failed.to_string());
    Ok(cells)
}
