//! Workers that have several sockets at one address, which share it by
//! themselves, as nginx's `reuseport` and Envoy do.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::harness::{
    Clinit, DEADLINE, ROUTES, Setup, by_route, cannot_run, connect, descendants, free_port, get,
    greeted, program, send,
};

const SOCKETS: usize = 3;

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Each socket is some process's, as a server with a listener a thread has it.
fn script(address: SocketAddr, serve: &str) -> String {
    let one = format!("tcp set reuse-port bind {address} listen report-own child [ {serve} ]");
    format!("{} report up wait", [one.as_str(); SOCKETS].join(" "))
}

/// The sockets of two workers, by slot, in the order in which they were bound.
fn sockets_of_both(clinit: &mut Clinit) -> [Vec<String>; 2] {
    let reports = clinit.reports("socket", 2 * SOCKETS);
    ["0", "1"].map(|slot| sockets(reports.iter().filter(|report| report.slot == slot)))
}

fn sockets<'a>(reports: impl Iterator<Item = &'a crate::harness::Report>) -> Vec<String> {
    reports.map(|of| of.value("inode").to_owned()).collect()
}

#[test]
fn the_kth_socket_takes_over_the_predecessors_kth() {
    for route in ROUTES {
        let address = local();
        let mut clinit = by_route(route, "-i 2 --backoff 1ms..5ms -v")
            .worker(&script(address, "hold"))
            .start();
        let before = sockets_of_both(&mut clinit);
        let distinct: BTreeSet<_> = before.iter().flatten().collect();
        assert_eq!(distinct.len(), 2 * SOCKETS, "by {route:?}");
        let up = clinit.reports("report", 2);
        clinit.wait_ready(2);
        let victim = up.iter().find(|report| report.slot == "1").unwrap();
        send(victim.pid, libc::SIGKILL);
        let after = clinit.reports("socket", SOCKETS);
        assert_eq!(sockets(after.iter()), before[1], "by {route:?}");
    }
}

/// Both die at once, and their successors bind side by side: what they take
/// over was one worker's, in that order.
#[test]
fn successors_that_bind_side_by_side_are_not_mixed_up() {
    for route in ROUTES {
        let address = local();
        let mut clinit = by_route(route, "-i 2 --backoff 1ms..5ms -v")
            .worker(&script(address, "hold"))
            .start();
        let before = sockets_of_both(&mut clinit);
        let up = clinit.reports("report", 2);
        clinit.wait_ready(2);
        for report in &up {
            send(report.pid, libc::SIGKILL);
        }
        let after = sockets_of_both(&mut clinit);
        let is_kept = |after: &Vec<String>| before.contains(after);
        assert!(after.iter().any(is_kept), "{after:?} of {before:?}");
        for after in &after {
            let of = before.iter().find(|before| before[0] == after[0]);
            for (place, socket) in after.iter().enumerate() {
                let is_new = before.iter().all(|before| !before.contains(socket));
                let is_pair = of.is_some_and(|of| of[place] == *socket);
                assert!(is_new || is_pair, "{after:?} of {before:?}");
            }
        }
    }
}

#[test]
fn what_waits_at_several_sockets_of_a_dead_worker_is_answered() {
    for route in ROUTES {
        let address = local();
        let setup = by_route(route, "-i 2 --backoff 500ms..500ms -v");
        let first = setup.path("first");
        let (frozen, serves) = (script(address, "wait"), script(address, "hold"));
        let script = format!("if-slot 1 [ once {first} [ {frozen} ] ] {serves}");
        let mut clinit = setup.worker(&script).start();
        let up = clinit.reports("report", 2);
        clinit.wait_ready(2);
        // Until connections are steered to both of them.
        clinit.catch_up();
        let frozen = up.iter().find(|report| report.slot == "1").unwrap();
        let mut waiting: Vec<TcpStream> = (0..40).map(|_| connect(address).unwrap()).collect();
        send(frozen.pid, libc::SIGKILL);
        let mut slots = BTreeSet::new();
        for stream in &mut waiting {
            match greeted(stream) {
                Ok(who) => slots.insert(who.slot),
                Err(error) => clinit.fail(&format!("by {route:?}: {error}")),
            };
        }
        assert_eq!(slots.len(), 2, "some had come to the frozen one");
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

/// One that does not share its port is refused a second time, as without
/// clinit, and may have another port then.
#[test]
fn who_does_not_share_is_refused_a_second_socket() {
    for route in ROUTES {
        let (address, other) = (local(), local());
        let script = format!(
            "tcp bind {address} listen tcp bind {address} bind {other} listen report-own report up hold"
        );
        let mut clinit = by_route(route, "-i 2").worker(&script).start();
        let _ = clinit.reports("report", 2);
        for report in clinit.reports("socket", 2) {
            assert_eq!(report.value("address"), other.to_string(), "by {route:?}");
        }
        let binds = clinit.reports("bind", 6);
        for slot in ["0", "1"] {
            let binds = binds.iter().filter(|bind| bind.slot == slot);
            let binds: Vec<_> = binds.map(|bind| bind.text()).collect();
            assert_eq!(binds, ["ok", "EADDRINUSE", "ok"], "by {route:?}");
        }
    }
}

/// nginx's master binds a socket for each of its own two workers.
#[test]
fn nginx_with_reuseport_loses_nothing() {
    let Some(nginx) = program("nginx") else {
        cannot_run("RING 4", "there is no nginx");
        return;
    };
    let address = local();
    let setup = Setup::new("-i 2 --backoff 500ms..500ms -v");
    let root = setup.path("");
    let configuration = include_str!("../servers/nginx.conf")
        .replace("127.0.0.1:PORT;", &format!("{address} reuseport;"))
        .replace("DIRECTORY", root.trim_end_matches('/'));
    let configuration = setup.dir.write("nginx.conf", &configuration, 0o644);
    let nginx = nginx.to_str().unwrap();
    let mut clinit = setup
        .command(&[nginx, "-e", "stderr", "-c", &configuration])
        .start();
    clinit.wait_ready(2);
    let init = clinit.pid();
    let masters = crate::harness::children(init);
    assert_eq!(masters.len(), 2);
    for round in 0..2 {
        let master = crate::harness::children(init)[round];
        clinit.wait_until("it has its own workers", |_| {
            (descendants(master).len() == 2).then_some(())
        });
        let tree: Vec<i32> = [master].into_iter().chain(descendants(master)).collect();
        for pid in &tree {
            send(*pid, libc::SIGSTOP);
        }
        let ask = |_| {
            let mut stream = connect(address).unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .unwrap();
            stream
        };
        let waiting: Vec<TcpStream> = (0..40).map(ask).collect();
        // The master last: what it leaves behind is killed by clinit.
        for pid in tree.iter().rev() {
            send(*pid, libc::SIGKILL);
        }
        for mut stream in waiting {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut answer = String::new();
            if let Err(error) = stream.read_to_string(&mut answer) {
                clinit.fail(&format!("round {round}: {error}"));
            }
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        }
        clinit.wait_ready(3 + round);
        for _ in 0..40 {
            let answer = get(address).unwrap_or_else(|error| clinit.fail(&error.to_string()));
            let pid: i32 = answer[4..].split(' ').next().unwrap().parse().unwrap();
            assert!(!tree.contains(&pid), "one that is dead has answered");
        }
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}
