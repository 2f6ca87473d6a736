//! What a worker is told when it binds: with clinit the same as without.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::harness::{Clinit, ROUTES, Report, Setup, by_route, free_port, get, is_root};

/// All that these workers were told by the time that each of them is done:
/// `WORD OUTCOME`, by slot.
fn told(clinit: &mut Clinit, workers: usize) -> Vec<Vec<String>> {
    let mut reports: Vec<Report> = Vec::new();
    clinit.wait_until("each worker is done", |clinit| {
        reports.extend(clinit.reports_so_far());
        let done = reports.iter().filter(|report| report.word == "report");
        (done.count() == workers).then_some(())
    });
    let mut slots: Vec<String> = reports.iter().map(|report| report.slot.clone()).collect();
    slots.sort();
    slots.dedup();
    let of = |slot: &String| {
        let own = reports.iter().filter(|report| report.slot == *slot);
        let calls = own.filter(|report| report.word != "report");
        calls
            .map(|report| format!("{} {}", report.word, report.text()))
            .collect()
    };
    slots.iter().map(of).collect()
}

/// Runs this without clinit's taking part and returns what it was told. `P`
/// and `Q` in it are free ports.
fn told_without(options: &str, script: &str) -> Vec<String> {
    let mut bare = Setup::new(options)
        .worker(&format!("{} report done wait", with_ports(script)))
        .start();
    let told = told(&mut bare, 1).remove(0);
    let _ = bare.end_by(libc::SIGTERM);
    told
}

fn with_ports(script: &str) -> String {
    let [p, q] = [free_port(), free_port()].map(|port| format!(":{port}"));
    script.replace(":P", &p).replace(":Q", &q)
}

/// Each of two workers is told by each route what one is told without clinit.
#[track_caller]
fn same_as_without(script: &str, expected: &[&str]) {
    same_as_without_as("", script, expected);
}

#[track_caller]
fn same_as_without_as(options: &str, script: &str, expected: &[&str]) {
    assert_eq!(told_without(options, script), expected, "without: {script}");
    for route in ROUTES {
        let setup = by_route(route, &format!("-i 2 {options}"));
        let mut clinit = setup
            .worker(&format!("{} report done wait", with_ports(script)))
            .start();
        for (slot, told) in told(&mut clinit, 2).iter().enumerate() {
            assert_eq!(told, expected, "slot {slot}, by {route:?}: {script}");
        }
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn a_port_that_a_stranger_has() {
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    same_as_without(
        &format!("tcp bind 127.0.0.1:{port} tcp bind 0.0.0.0:{port} tcp6 bind [::]:{port}"),
        &["bind EADDRINUSE"; 3],
    );
}

#[test]
fn a_port_that_a_stranger_of_the_same_user_would_share() {
    let stranger = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let stranger = stranger.unwrap();
    stranger.set_reuse_port(true).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    stranger.bind(&address.into()).unwrap();
    stranger.listen(1).unwrap();
    let port = stranger.local_addr().unwrap().as_socket().unwrap().port();
    same_as_without(&format!("tcp bind 127.0.0.1:{port}"), &["bind EADDRINUSE"]);
}

#[test]
fn an_address_of_another_machine_or_family() {
    same_as_without(
        "tcp bind 192.0.2.1:P tcp6 bind [2001:db8::1]:P tcp bind [::1]:P udp bind 192.0.2.1:P",
        &[
            "bind EADDRNOTAVAIL",
            "bind EADDRNOTAVAIL",
            "bind EAFNOSUPPORT",
            "bind EADDRNOTAVAIL",
        ],
    );
}

#[test]
fn a_low_port_of_another_user() {
    if !is_root() {
        return;
    }
    // Clinit may bind it, and so might its worker as the same user.
    same_as_without_as(
        "--user 1000:1000",
        "tcp bind 127.0.0.1:83 udp bind 127.0.0.1:83 tcp bind 127.0.0.1:P listen",
        &["bind EACCES", "bind EACCES", "bind ok", "listen ok"],
    );
    same_as_without("tcp bind 127.0.0.1:83 listen", &["bind ok", "listen ok"]);
}

#[test]
fn one_socket_is_bound_once() {
    same_as_without(
        "tcp bind 127.0.0.1:P bind 127.0.0.1:P bind 127.0.0.1:Q listen bind 127.0.0.1:Q listen",
        &[
            "bind ok",
            "bind EINVAL",
            "bind EINVAL",
            "listen ok",
            "bind EINVAL",
            "listen ok",
        ],
    );
}

#[test]
fn one_worker_has_a_port_once() {
    same_as_without(
        "tcp bind 127.0.0.1:P tcp bind 127.0.0.1:P",
        &["bind ok", "bind EADDRINUSE"],
    );
    same_as_without(
        "tcp bind 127.0.0.1:P listen tcp bind 127.0.0.1:P",
        &["bind ok", "listen ok", "bind EADDRINUSE"],
    );
    same_as_without(
        "udp bind 127.0.0.1:P udp bind 127.0.0.1:P",
        &["bind ok", "bind EADDRINUSE"],
    );
}

#[test]
fn one_worker_has_a_port_once_at_addresses_that_overlap() {
    same_as_without(
        "tcp bind 0.0.0.0:P listen tcp bind 127.0.0.1:P",
        &["bind ok", "listen ok", "bind EADDRINUSE"],
    );
    same_as_without(
        "tcp bind 127.0.0.1:P listen tcp bind 0.0.0.0:P",
        &["bind ok", "listen ok", "bind EADDRINUSE"],
    );
    // Whether a socket leaves IPv4 alone is not to be seen where it is only
    // replaced: there it has the benefit of the doubt.
    for route in ["", "ptrace"] {
        let script = with_ports("tcp6 bind [::]:P listen tcp bind 0.0.0.0:P report done wait");
        let mut clinit = by_route(route, "-i 2").worker(&script).start();
        let expected = ["bind ok", "listen ok", "bind EADDRINUSE"];
        assert_eq!(told(&mut clinit, 2), [expected; 2], "by {route:?}");
    }
}

#[test]
fn both_families_on_sockets_of_their_own() {
    same_as_without(
        "tcp bind 0.0.0.0:P listen tcp6 set only-v6 bind [::]:P listen",
        &["bind ok", "listen ok", "bind ok", "listen ok"],
    );
}

#[test]
fn sockets_that_share_a_port_by_themselves() {
    same_as_without(
        "tcp set reuse-port bind 127.0.0.1:P listen tcp set reuse-port bind 127.0.0.1:P listen",
        &["bind ok", "listen ok", "bind ok", "listen ok"],
    );
    same_as_without(
        "tcp set reuse-port bind 127.0.0.1:P tcp bind 127.0.0.1:P",
        &["bind ok", "bind EADDRINUSE"],
    );
}

#[test]
fn what_is_closed_can_be_bound_again() {
    same_as_without(
        "tcp bind 127.0.0.1:P listen drop tcp bind 127.0.0.1:P listen drop \
         tcp bind 127.0.0.1:P drop tcp bind 127.0.0.1:P listen listen",
        &[
            "bind ok",
            "listen ok",
            "bind ok",
            "listen ok",
            "bind ok",
            "bind ok",
            "listen ok",
            "listen ok",
        ],
    );
}

#[test]
fn a_socket_that_is_never_bound_listens() {
    same_as_without(
        "tcp listen tcp bind 127.0.0.1:0 listen udp listen",
        &["listen ok", "bind ok", "listen ok", "listen EOPNOTSUPP"],
    );
}

#[test]
fn a_second_clinit_has_not_the_port_of_the_first() {
    let port = free_port();
    let script = format!("tcp bind 127.0.0.1:{port} listen report done serve-own");
    let mut first = Setup::new("-i 2").worker(&script).start();
    assert_eq!(told(&mut first, 2), [["bind ok", "listen ok"]; 2]);
    let script = format!("tcp bind 127.0.0.1:{port} report done wait");
    let mut second = Setup::new("-i 2").worker(&script).start();
    assert_eq!(told(&mut second, 2), [["bind EADDRINUSE"]; 2]);
    get((Ipv4Addr::LOCALHOST, port)).unwrap();
}

/// Families, lengths, addresses and descriptors: see `bind-garbage` of the
/// fixture.
#[test]
fn garbage_is_answered_as_without() {
    let results = |setup: Setup| {
        let mut clinit = setup.start();
        let _ = clinit.report("garbage");
        let path = clinit.dir.path("garbage");
        std::fs::read_to_string(path).unwrap()
    };
    let with_script = |setup: Setup| {
        let path = setup.path("garbage");
        setup.worker(&format!("bind-garbage {path} wait"))
    };
    let without = results(with_script(Setup::new("")));
    assert!(without.lines().count() > 1000);
    for route in ROUTES {
        let with = results(with_script(by_route(route, "-i 1")));
        let differ: Vec<_> = without
            .lines()
            .zip(with.lines())
            .filter(|(without, with)| without != with)
            .collect();
        assert!(differ.is_empty(), "by {route:?}: {differ:#?}");
    }
}
