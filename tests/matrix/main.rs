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
#[path = "../servers/mod.rs"]
mod servers;

use harness::{Dir, Setup};
use servers::{Drill, Server, free_port};

fn serves_and_heals(server: Server) {
    let (dir, port, copies) = (Dir::new(), free_port(), servers::copies());
    let writable = dir.path("");
    let Some(command) = server.command(port, writable.trim_end_matches('/')) else {
        return;
    };
    let mut clinit = Setup::new(&format!("-i {copies}"))
        .command(&command)
        .env("HOME", &writable)
        .start();
    let drill = Drill {
        server,
        port,
        init: clinit.pid(),
        copies,
        holds_port: copies > 1,
    };
    drill.run().unwrap_or_else(|why| clinit.fail(&why));
    clinit.end_by(libc::SIGTERM).expect(0);
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
    serves_and_heals(Server::CRegistersFirst);
}

#[test]
fn static_c_that_registers_as_netty_does() {
    serves_and_heals(Server::CModifies);
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
