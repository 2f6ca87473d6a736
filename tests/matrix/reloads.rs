//! Reloads of real servers under load, with the default options: no request
//! fails, whether the server knows how to end or is killed by TERM at once.

use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::{Setup, get};
use crate::load::{Clients, Seen, under_load};
use crate::servers::{Server, free_port};

/// How often each is reloaded: 3 times, or `MATRIX_RELOADS`.
fn reloads() -> usize {
    let given = std::env::var("MATRIX_RELOADS");
    given.map_or(3, |reloads| reloads.parse().expect("a number"))
}

/// Each answer takes so long, in milliseconds: at any time some are owed.
const DELAY: &str = "50";

const CLIENTS: Clients = Clients {
    of_new_connections: 3,
    of_kept_connections: 3,
};

fn loses_no_request(server: Server, environment: &[(&str, &str)]) {
    let (mut setup, port) = (Setup::new("-i 2"), free_port());
    let writable = setup.path("");
    let Some(command) = server.command(port, writable.trim_end_matches('/')) else {
        return;
    };
    for (name, value) in environment {
        setup = setup.env(name, value);
    }
    let mut clinit = setup.command(&command).env("HOME", &writable).start();
    clinit.wait_for_nth_log("worker is ready", 2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    clinit.wait_until("it answers", |_| get(address).ok());
    let seen = under_load(address, CLIENTS, || {
        for generation in 2..reloads() + 2 {
            clinit.signal(libc::SIGHUP);
            clinit.wait_for_log(&format!("reloaded generation={generation}"));
        }
    });
    let Seen {
        by_new,
        by_kept,
        done: (),
    } = seen;
    for (tally, kind) in [(&by_new, "new"), (&by_kept, "kept")] {
        println!("{} answered, by {kind} connections", tally.answered);
        if tally.answered == 0 || !tally.failures.is_empty() {
            clinit.fail(&format!("by {kind} connections: {tally:?}"));
        }
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn of_node_without_a_handler() {
    loses_no_request(Server::Node, &[("DELAY_MS", DELAY)]);
}

#[test]
fn of_node_that_ends_gracefully() {
    loses_no_request(Server::Node, &[("DELAY_MS", DELAY), ("GRACEFUL", "1")]);
}

#[test]
fn of_python_without_a_handler() {
    loses_no_request(Server::PythonThreads, &[("DELAY_MS", DELAY)]);
    let kept = [("DELAY_MS", DELAY), ("KEEP_ALIVE", "1")];
    loses_no_request(Server::PythonThreads, &kept);
}

#[test]
fn of_go_without_a_handler() {
    loses_no_request(Server::Go, &[("DELAY_MS", DELAY)]);
}

#[test]
fn of_go_that_ends_gracefully() {
    loses_no_request(Server::Go, &[("DELAY_MS", DELAY), ("GRACEFUL", "1")]);
}

#[test]
fn of_nginx() {
    loses_no_request(Server::Nginx, &[]);
}

#[test]
fn of_gunicorn() {
    loses_no_request(Server::Gunicorn, &[]);
}
