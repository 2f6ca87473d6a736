//! Ring 4 without containers: real servers, each started as it would be without
//! clinit, four copies of it on one port. The engine tests run the same ones in
//! containers.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "it is a test"
)]

#[path = "../harness/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::indexing_slicing,
    reason = "other tests use the rest"
)]
mod harness;
#[path = "../servers/load.rs"]
mod load;
mod reloads;
#[path = "../servers/mod.rs"]
mod servers;

use std::net::{Ipv4Addr, SocketAddr};

use harness::{Clinit, by_route, get};
use servers::drill::workers;
use servers::{Drill, Server, free_port};

/// The ways that bring what else a worker has too.
const TAKING: [&str; 2] = ["pidfd_getfd", "ptrace"];

fn serves_and_heals(server: Server) {
    serves_and_heals_by("", server);
}

/// The same, by this way to the workers' sockets.
fn serves_and_heals_by(route: &str, server: Server) {
    let copies = servers::copies();
    let Some((mut clinit, drill)) = start(route, server, copies) else {
        return;
    };
    drill.run().unwrap_or_else(|why| clinit.fail(&why));
    clinit.end_by(libc::SIGTERM).expect(0);
}

/// A socket that its worker waits for before it binds it must not be replaced:
/// where there is no other way, one worker serves, and has the port alone.
fn one_serves_where_sockets_are_replaced(server: Server) {
    let Some((mut clinit, drill)) = start("replace", server, servers::copies()) else {
        return;
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, drill.port));
    clinit.wait_until("it is one worker that serves", |clinit| {
        let is_warned = clinit.log().contains("warning: ");
        (is_warned && workers(clinit.pid()).len() == 1 && get(address).is_ok()).then_some(())
    });
    let alone = Drill {
        copies: 1,
        holds_port: false,
        ..drill
    };
    alone.run().unwrap_or_else(|why| clinit.fail(&why));
    let ended = clinit.end_by(libc::SIGTERM);
    let why = "cannot share the port that they bind: it waits for its socket";
    ended.expect(0);
    assert_eq!(ended.log.matches(why).count(), 1, "{}", ended.log);
}

fn start(route: &str, server: Server, copies: usize) -> Option<(Clinit, Drill)> {
    let (setup, port) = (by_route(route, &format!("-i {copies}")), free_port());
    let writable = setup.path("");
    let command = server.command(port, writable.trim_end_matches('/'))?;
    let mut clinit = setup.command(&command).env("HOME", &writable).start();
    let drill = Drill {
        server,
        port,
        init: clinit.pid(),
        slots: copies,
        copies,
        holds_port: copies > 1,
    };
    Some((clinit, drill))
}

#[test]
fn node_on_all_addresses() {
    serves_and_heals(Server::Node);
}

#[test]
fn python_http_server() {
    serves_and_heals(Server::PythonModule);
}

#[test]
fn python_with_threads() {
    serves_and_heals(Server::PythonThreads);
}

#[test]
fn gunicorn() {
    serves_and_heals(Server::Gunicorn);
}

#[test]
fn uvicorn() {
    serves_and_heals(Server::Uvicorn);
}

#[test]
fn static_c() {
    serves_and_heals(Server::C);
}

#[test]
fn static_c_that_registers_before_it_binds() {
    for route in TAKING {
        serves_and_heals_by(route, Server::CRegistersFirst);
    }
    one_serves_where_sockets_are_replaced(Server::CRegistersFirst);
}

#[test]
fn static_c_that_registers_as_netty_does() {
    for route in TAKING {
        serves_and_heals_by(route, Server::CModifies);
    }
    one_serves_where_sockets_are_replaced(Server::CModifies);
}

#[test]
fn static_go() {
    serves_and_heals(Server::Go);
}

#[test]
fn static_go_with_mptcp() {
    serves_and_heals(Server::GoMptcp);
}

#[test]
fn nginx_with_workers_of_its_own() {
    serves_and_heals(Server::Nginx);
}

#[test]
fn java_http_server() {
    serves_and_heals(Server::Java);
}

#[test]
fn java_that_selects_before_it_binds() {
    for route in TAKING {
        serves_and_heals_by(route, Server::JavaRegistersFirst);
    }
    one_serves_where_sockets_are_replaced(Server::JavaRegistersFirst);
}
