//! How a pod ends: it is asked to stop, and whoever sends it requests learns
//! of that a while later.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::engine::Engine;
use crate::load::{Clients, Seen, under_load};
use crate::matrix::{RESTRICTED, start_with};
use crate::servers::Server;
use crate::until::until;

/// From the request to stop to the first stop signal.
const DELAY: &str = "--env=CLINIT_DRAIN_DELAY=3s";

/// How long clients are sent on after the request.
const GOES_ON: Duration = Duration::from_secs(2);

const CLIENTS: Clients = Clients {
    of_new_connections: 4,
    of_kept_connections: 2,
};

/// A server that TERM kills, whose every answer takes 50 ms.
pub(crate) fn a_load_balancer_goes_on_sending_for_the_drain_delay(engine: &Engine) {
    let options = [RESTRICTED, &[DELAY, "--env=DELAY_MS=50"]].concat();
    let Some((container, drill)) = start_with(engine, Server::Node, 2, &options) else {
        return;
    };
    drill.first_answer().expect("an answer");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, drill.port));
    let seen = under_load(address, CLIENTS, || {
        engine.succeed(["kill", "--signal=TERM", &container.id]);
        until("a shutdown", GOES_ON, || {
            container.log().contains("shutting down").then_some(())
        });
        // This is how long the load goes on, and no wait for a fact.
        thread::sleep(GOES_ON);
    });
    let Seen {
        by_new,
        by_kept,
        done: (),
    } = seen;
    for tally in [by_new, by_kept] {
        assert!(tally.answered > 0 && tally.failures.is_empty(), "{tally:?}");
    }
    until("its end", Duration::from_secs(20), || {
        (container.inspect(".State.Running") == "false").then_some(())
    });
    let log = container.log();
    assert_eq!(container.inspect(".State.ExitCode"), "0", "{log}");
    assert!(log.contains("draining in 3"), "{log}");
}
