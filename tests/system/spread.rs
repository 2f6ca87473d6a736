//! Who gets how many connections.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Clinit, Setup, Who, connect, free_port, greeted, send, tally};

/// The clients' own pace, well below that at which turns are taken.
const PACE: Duration = Duration::from_millis(20);

fn workers(count: usize, options: &str, script: &str) -> (Clinit, SocketAddr) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let script = script.replace("AT", &format!("at {address}"));
    let mut clinit = Setup::new(&format!("-i {count} --backoff 1ms..5ms {options}"))
        .worker(&script)
        .start();
    clinit.wait_ready(count);
    (clinit, address)
}

/// Opens connections at this pace and returns them, with who has them.
fn open(address: SocketAddr, count: usize, pace: Duration) -> Vec<(TcpStream, Who)> {
    let open_one = |_| {
        let mut stream = connect(address).unwrap();
        let who = greeted(&mut stream).unwrap();
        sleep(pace);
        (stream, who)
    };
    (0..count).map(open_one).collect()
}

fn by_slot(connections: &[(TcpStream, Who)]) -> BTreeMap<String, usize> {
    tally(connections.iter().map(|(_, who)| who.slot.clone()))
}

#[test]
fn long_lived_connections_that_come_slowly_are_spread_evenly() {
    for count in [16, 64] {
        let (_clinit, address) = workers(4, "", "AT hold");
        let spread = by_slot(&open(address, count, PACE));
        assert!(
            spread.len() == 4 && spread.values().all(|own| *own == count / 4),
            "{count}: {spread:?}"
        );
    }
}

/// At random each worker's share of `TRIALS` connections is binomial with a
/// variance of 3/16 a connection. Of 8 standard deviations (for what is no
/// worse than a normal distribution: a false alarm in 1e14 for each of four)
/// nothing but a bug is the cause.
#[test]
fn connections_that_come_at_once_are_spread_no_worse_than_at_random() {
    const ROUNDS: usize = 10;
    const AT_ONCE: usize = 64;
    const TRIALS: f64 = 640.0;
    let (_clinit, address) = workers(4, "", "AT hold");
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let streams: Vec<_> = (0..AT_ONCE).map(|_| connect(address).unwrap()).collect();
        for mut stream in streams {
            let who = greeted(&mut stream).unwrap();
            all.push((stream, who));
        }
    }
    let spread = by_slot(&all);
    let bound = 8.0 * (TRIALS * 3.0 / 16.0).sqrt();
    let deviation = |own: &usize| (f64::from(u32::try_from(*own).unwrap()) - TRIALS / 4.0).abs();
    assert!(
        spread.len() == 4 && spread.values().all(|own| deviation(own) <= bound),
        "{spread:?}, more than {bound} off"
    );
}

#[test]
fn ten_thousand_short_connections_are_within_eight_percent_of_even() {
    const CLIENTS: usize = 4;
    const EACH: usize = 2500;
    let (_clinit, address) = workers(4, "", "AT turn-down");
    let spread = std::thread::scope(|scope| {
        let client = || {
            let own = (0..EACH).map(|_| greeted(&mut connect(address).unwrap()).unwrap().slot);
            own.collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        tally(
            clients
                .into_iter()
                .flat_map(|client| client.join().unwrap()),
        )
    });
    // 8 % are 4.6 standard deviations of what is random.
    let even = CLIENTS * EACH / 4;
    assert!(
        spread.len() == 4
            && spread
                .values()
                .all(|own| own.abs_diff(even) * 100 <= even * 8),
        "{spread:?}"
    );
}

#[test]
fn a_worker_that_turns_everybody_down_draws_no_more_than_its_share() {
    const COUNT: usize = 48;
    let (_clinit, address) = workers(4, "", "if-slot 2 [ AT turn-down ] AT hold");
    let spread = by_slot(&open(address, COUNT, PACE));
    assert!(
        spread.len() == 4 && spread.values().all(|own| own.abs_diff(COUNT / 4) <= 1),
        "{spread:?}"
    );
}

#[test]
fn a_worker_that_has_come_back_draws_no_more_than_its_share() {
    const COUNT: usize = 32;
    let (mut clinit, address) = workers(4, "", "AT hold");
    let before = open(address, COUNT, PACE);
    let victim = before[0].1.clone();
    send(victim.pid, libc::SIGKILL);
    clinit.wait_ready(5);
    let after = open(address, COUNT, PACE);
    let spread = by_slot(&after);
    assert!(
        spread.len() == 4 && spread.values().all(|own| own.abs_diff(COUNT / 4) <= 1),
        "{spread:?}, {} has come back",
        victim.slot
    );
    assert!(after.iter().all(|(_, who)| who.pid != victim.pid));
}

/// What clinit listens on itself is spread in the same way.
#[test]
fn connections_to_a_listener_of_clinits_are_spread_evenly_too() {
    let mut clinit = Setup::new("-i 4 -l 127.0.0.1:0")
        .worker("report up serve")
        .start();
    let _ = clinit.reports("report", 4);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, clinit.port()));
    // The last one of them may have reported and not be taken for running.
    let spread = tally((0..32).map(|_| {
        sleep(PACE);
        crate::harness::ask(address).unwrap().slot
    }));
    assert!(
        spread.len() == 4 && spread.values().all(|own| own.abs_diff(8) <= 1),
        "{spread:?}"
    );
}
