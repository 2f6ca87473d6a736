//! Servers that bind their port themselves, by each way to their sockets.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;

use crate::harness::{
    DEADLINE, ROUTES, Setup, WORKER, Who, by_route, connect, free_port, greeted, is_root, program,
    send,
};

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Starts two workers with this script, `P` in which is a free port of theirs,
/// by each route, and expects both to answer there, also after one was killed.
#[track_caller]
fn both_serve(script: &str, hosts: &[std::net::IpAddr]) {
    for route in ROUTES {
        let port = free_port();
        let script = script
            .replace(":P", &format!(":{port}"))
            .replace("serve-own", "report up serve-own");
        let mut clinit = by_route(route, "-i 2 --backoff 1ms..5ms -v")
            .worker(&script)
            .start();
        let _ = clinit.reports("report", 2);
        for host in hosts {
            let answered = clinit.answered_by((*host, port), 2);
            // Forked children answer, which are of their worker's group.
            let victim = answered[0].pid;
            send(victim, libc::SIGKILL);
            clinit.wait_gone(victim);
        }
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

const V4: std::net::IpAddr = std::net::IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: std::net::IpAddr = std::net::IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn the_main_thread_binds() {
    both_serve("tcp bind 127.0.0.1:P listen serve-own", &[V4, V4, V4]);
}

#[test]
fn another_thread_binds() {
    both_serve(
        "in-thread [ tcp bind 127.0.0.1:P listen ] serve-own",
        &[V4, V4],
    );
    both_serve(
        "tcp in-thread [ in-thread [ bind 127.0.0.1:P ] ] listen serve-own",
        &[V4],
    );
}

#[test]
fn a_forked_child_binds() {
    both_serve(
        "child [ tcp bind 127.0.0.1:P listen serve-own ] reap exit 1",
        &[V4, V4],
    );
}

#[test]
fn a_forked_child_serves() {
    both_serve(
        "tcp bind 127.0.0.1:P listen child [ serve-own ] reap exit 1",
        &[V4, V4],
    );
    both_serve(
        "tcp bind 127.0.0.1:P child [ listen serve-own ] reap exit 1",
        &[V4, V4],
    );
}

#[test]
fn both_families_on_one_socket() {
    both_serve(
        "tcp6 set both-families bind [::]:P listen serve-own",
        &[V4, V6],
    );
}

#[test]
fn both_families_on_two_sockets() {
    both_serve(
        "tcp6 set only-v6 bind [::]:P listen tcp bind 0.0.0.0:P listen serve-own",
        &[V4],
    );
    both_serve(
        "tcp bind 0.0.0.0:P listen tcp6 set only-v6 bind [::]:P listen serve-own",
        &[V6],
    );
}

#[test]
fn what_was_closed_is_bound_again() {
    both_serve(
        "tcp bind 127.0.0.1:P listen drop tcp bind 127.0.0.1:P drop tcp bind 127.0.0.1:P listen serve-own",
        &[V4, V4],
    );
}

#[test]
fn it_binds_again_after_a_failure() {
    both_serve(
        "tcp bind 192.0.2.1:P bind 127.0.0.1:P listen serve-own",
        &[V4, V4],
    );
}

/// Kills one of two that wait for their socket before they bind it. Its
/// successor is told of connections, whichever socket it has got.
#[track_caller]
fn both_are_told(setup: Setup, sockets: &str, before_the_kill: impl FnOnce(i32)) -> String {
    let address = local(free_port());
    let script = format!("{sockets} bind {address} listen report up be-told serve-own");
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.reports("report", 2);
    let victim = clinit.answered_by(address, 2)[0].pid;
    before_the_kill(clinit.pid());
    send(victim, libc::SIGKILL);
    clinit.wait_gone(victim);
    let _ = clinit.report("report");
    clinit.answered_by(address, 2);
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0);
    ended.log
}

#[test]
fn who_waits_for_a_socket_before_it_is_bound_is_told_of_it() {
    // One instance; as many as are told; one more.
    for instances in [1, 4, 5] {
        for route in ["pidfd_getfd", "ptrace"] {
            let sockets = format!("tcp{}", " watch".repeat(instances));
            let setup = by_route(route, "-i 2 --backoff 1ms..5ms");
            let _ = both_are_told(setup, &sockets, |_| {});
        }
    }
}

/// A number above its own limit is none that clinit can register.
#[test]
fn who_cannot_be_told_of_a_lane_goes_on_with_its_own_socket() {
    const LIMIT: &str = "--nofile=64:";
    if program("prlimit").is_none() {
        return;
    }
    let lower_limit = |pid: i32| {
        let arguments = ["--pid", &pid.to_string(), LIMIT];
        let done = Command::new("prlimit").args(arguments).status().unwrap();
        assert!(done.success());
    };
    let sockets = format!("{} watch", ["tcp"; 80].join(" "));
    for route in ["pidfd_getfd", "ptrace"] {
        let setup = by_route(route, "-i 2 --backoff 1ms..5ms -v");
        let log = both_are_told(setup, &sockets, lower_limit);
        assert!(
            log.contains("cannot have a worker wait for a lane"),
            "{log}"
        );
    }
}

#[test]
fn flags_of_the_socket_and_of_the_descriptor_stay() {
    for route in ROUTES {
        for (options, nonblocking, cloexec) in [
            ("", "false", "true"),
            ("set nonblocking", "true", "true"),
            ("set keep-on-exec", "false", "false"),
            ("set nonblocking set keep-on-exec", "true", "false"),
        ] {
            let address = local(free_port());
            let script = format!("tcp {options} bind {address} listen report-own hold");
            let mut clinit = by_route(route, "-i 2 --backoff 1ms..5ms")
                .worker(&script)
                .start();
            let mut sockets = clinit.reports("socket", 2);
            // Its successor is lent its lane.
            send(sockets[0].pid, libc::SIGKILL);
            sockets.push(clinit.report("socket"));
            for socket in sockets {
                let context = format!("by {route:?}: {socket}");
                assert_eq!(socket.value("address"), address.to_string(), "{context}");
                assert_eq!(socket.value("nonblocking"), nonblocking, "{context}");
                assert_eq!(socket.value("cloexec"), cloexec, "{context}");
            }
        }
    }
}

#[test]
fn a_successor_blocks_as_it_wishes_and_not_as_its_predecessor() {
    for route in ROUTES {
        let setup = by_route(route, "-i 1 --backoff 1ms..5ms");
        let first = setup.path("first");
        let bind = format!("bind {} listen report-own", local(free_port()));
        let script = format!("once {first} [ tcp set nonblocking {bind} wait ] tcp {bind} wait");
        let mut clinit = setup.worker(&script).start();
        let predecessor = clinit.report("socket");
        assert_eq!(predecessor.value("nonblocking"), "true");
        send(predecessor.pid, libc::SIGKILL);
        let successor = clinit.report("socket");
        assert_eq!(successor.value("nonblocking"), "false", "by {route:?}");
    }
}

const OPTIONS: [&str; 5] = ["nodelay", "keepalive", "rcvbuf", "linger", "user-timeout"];

#[test]
fn options_that_were_set_before_bind_arrive_on_connections_or_the_loss_is_said() {
    for route in ROUTES {
        let address = local(free_port());
        let set: Vec<String> = OPTIONS.iter().map(|name| format!("set {name}")).collect();
        let script = format!(
            "tcp set defer-accept {} bind {address} listen report-own report-accepted serve-own",
            set.join(" ")
        );
        let mut clinit = by_route(route, "-i 2").worker(&script).start();
        let kept = if route == "replace" { "false" } else { "true" };
        for socket in clinit.reports("socket", 2) {
            assert_eq!(socket.value("defer-accept"), kept, "by {route:?}");
        }
        // Each takes one, once it has been asked something.
        let (mut asked, mut accepted) = (Vec::new(), Vec::new());
        let accepted = clinit.wait_until("each has accepted", |clinit| {
            let mut client = connect(address).unwrap();
            client.write_all(b"?").unwrap();
            asked.push(client);
            let so_far = clinit.reports_so_far().into_iter();
            accepted.extend(so_far.filter(|report| report.word == "accepted"));
            (accepted.len() == 2).then(|| accepted.clone())
        });
        for connection in accepted {
            for option in OPTIONS {
                assert_eq!(connection.value(option), kept, "{option} by {route:?}");
            }
        }
        let ended = clinit.end_by(libc::SIGTERM);
        let said = ended
            .log
            .matches("options that it set before bind are lost");
        assert_eq!(
            said.count(),
            usize::from(route == "replace"),
            "{}",
            ended.log
        );
    }
}

#[test]
fn datagrams_come_to_every_worker() {
    for route in ROUTES {
        let address = local(free_port());
        let script = format!("udp bind {address} report up echo-own");
        let mut clinit = by_route(route, "-i 2 --backoff 1ms..5ms")
            .worker(&script)
            .start();
        let _ = clinit.reports("report", 2);
        for outcome in clinit.reports("bind", 2) {
            assert_eq!(outcome.text(), "ok", "by {route:?}");
        }
        let mut seen = std::collections::BTreeSet::new();
        clinit.wait_until("both slots answer", |_| {
            // The kernel chooses by the client's port.
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            client.send_to(b"?", address).unwrap();
            let mut answer = [0; 64];
            let length = client.recv(&mut answer).unwrap();
            seen.insert(answer[..length].to_owned());
            (seen.len() == 2).then_some(())
        });
    }
}

#[test]
fn sockets_that_share_a_port_by_themselves_are_several_a_worker() {
    let address = local(free_port());
    // Each thread has a listener, as with nginx's reuseport.
    let one = format!("tcp set reuse-port bind {address} listen");
    let script = format!("{one} {one} report up hold");
    let mut clinit = Setup::new("-i 2").worker(&script).start();
    let _ = clinit.reports("report", 2);
    for word in ["bind", "listen"] {
        for outcome in clinit.reports(word, 4) {
            assert_eq!(outcome.text(), "ok");
        }
    }
    assert_eq!(listening_at(address), 4);
}

/// How many sockets listen at an address of IPv4.
fn listening_at(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(": 0100007F:{:04X} 00000000:0000 0A ", address.port());
    table.lines().filter(|line| line.contains(&local)).count()
}

#[test]
fn a_port_is_shared_by_whoever_binds_it_and_others_by_whoever_binds_those() {
    let [both, alone] = [free_port(), free_port()].map(local);
    let script = format!("if-slot 1 [ at {alone} child [ hold ] ] at {both} report up hold");
    let mut clinit = Setup::new("-i 3").worker(&script).start();
    let _ = clinit.reports("report", 3);
    let who = |address| -> Who { greeted(&mut connect(address).unwrap()).unwrap() };
    for _ in 0..6 {
        assert_eq!(who(alone).slot, "1");
    }
    let mut slots = std::collections::BTreeSet::new();
    clinit.wait_until("all three answer", |_| {
        slots.insert(who(both).slot);
        (slots.len() == 3).then_some(())
    });
}

#[test]
fn who_has_a_network_of_its_own_binds_without_clinit() {
    if !is_root() {
        return;
    }
    let port = free_port();
    let mut words = vec!["unshare", "--net", &WORKER];
    let script = format!("tcp bind 0.0.0.0:{port} listen report up wait");
    words.extend(script.split(' '));
    let mut clinit = Setup::new("-i 2 -v").command(&words).start();
    let _ = clinit.reports("report", 2);
    for outcome in clinit.reports("bind", 2) {
        assert_eq!(outcome.text(), "ok");
    }
    assert!(!clinit.log().contains("a worker has bound"));
}
