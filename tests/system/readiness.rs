//! What shows that a worker is ready that says nothing: that it listens.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::harness::{Clinit, Setup, cannot_run, connect, free_port, open_gate, send};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// How many have been ready, once clinit has heard of all that was done.
fn ready(clinit: &mut Clinit) -> usize {
    clinit.catch_up();
    clinit.log().matches("worker is ready").count()
}

#[test]
fn a_successor_is_ready_once_it_listens_wherever_its_predecessor_did() {
    let [one, other] = [local(), local()];
    let setup = Setup::new("-i 1 -v --backoff 1ms..5ms");
    let first = setup.path("first");
    let gate = setup.dir.fifo("gate");
    let script = format!(
        "once {first} [ at {one} at {other} report up hold ] \
         at {other} report half await {gate} at {one} report up hold"
    );
    let mut clinit = setup.worker(&script).start();
    let predecessor = clinit.report("report").pid;
    clinit.wait_ready(1);
    send(predecessor, libc::SIGKILL);
    assert_eq!(clinit.report("report").text(), "half");
    assert_eq!(ready(&mut clinit), 1, "it listens at one of two");
    open_gate(gate);
    clinit.wait_ready(2);
}

#[test]
fn only_listening_counts_where_that_is_what_was_asked_for() {
    let setup = Setup::new("-i 1 -v --ready listen");
    let gate = setup.dir.fifo("gate");
    let script = format!(
        "ready report said await {gate} at {} report up hold",
        local()
    );
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.report("report");
    assert_eq!(ready(&mut clinit), 0);
    open_gate(gate);
    clinit.wait_ready(1);
}

#[test]
fn listening_does_not_count_where_a_word_was_asked_for() {
    let setup = Setup::new("-i 1 -v --ready notify");
    let gate = setup.dir.fifo("gate");
    let script = format!(
        "at {} report up await {gate} ready report said hold",
        local()
    );
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.report("report");
    assert_eq!(ready(&mut clinit), 0);
    open_gate(gate);
    clinit.wait_ready(1);
}

#[test]
fn a_debugger_that_listens_is_no_server() {
    let inspector = SocketAddr::from((Ipv4Addr::LOCALHOST, 9229));
    if TcpListener::bind(inspector).is_err() {
        cannot_run("RING 3", "port 9229 is taken");
        return;
    }
    let setup = Setup::new("-i 1 -v");
    let gate = setup.dir.fifo("gate");
    let script = format!(
        "at {inspector} report debugs await {gate} at {} report up hold",
        local()
    );
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.report("report");
    assert_eq!(ready(&mut clinit), 0);
    open_gate(gate);
    clinit.wait_ready(1);
}

/// What looks for a free port listens there and closes, before it binds it
/// for good, maybe at another address.
#[test]
fn a_port_probe_leaves_no_listener_behind() {
    let [probed, served] = [local(), local()];
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, probed.port()));
    for (script, refused) in [
        (format!("at {probed} drop at {served} report up hold"), true),
        (format!("at {probed} drop at {any} report up hold"), false),
    ] {
        let mut clinit = Setup::new("-i 2 -v").worker(&script).start();
        let _ = clinit.reports("report", 2);
        clinit.catch_up();
        if refused {
            // Where a worker was ready by its probe, the port may be closed
            // only when it is looked for.
            clinit.wait_until("nobody listens there", |_| {
                let error = connect(probed).err()?;
                (error.kind() == ErrorKind::ConnectionRefused).then_some(())
            });
        } else {
            for _ in 0..20 {
                crate::harness::greeted(&mut connect(probed).unwrap()).unwrap();
            }
        }
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}
