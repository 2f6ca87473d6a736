//! Clinit as root with the capabilities that a container has by default, and
//! its workers another user's: without `CAP_SYS_PTRACE` it may not look into
//! them as itself.

use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::{
    Setup, WORKER, can_be_pid1, children, connect, free_port, greeted, is_root, program, send,
};

/// What Docker and containerd leave to root.
const DEFAULT: &str = "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,\
                       +setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,\
                       +audit_write,+setfcap";

/// Clinit with these options, as in a container.
fn contained(options: &str) -> Option<Setup> {
    let can = is_root() && program("setpriv").is_some();
    can.then(|| Setup::new(options).through(&["setpriv", DEFAULT, "--inh-caps=-all"]))
}

const NOBODY: &str = "--user 65534:65533 --backoff 1ms..5ms -v";

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

#[test]
fn workers_of_another_user_share_a_port_and_heal() {
    for as_pid1 in [false, true] {
        let Some(setup) = contained(&format!("-i 3 {NOBODY}")) else {
            return;
        };
        if as_pid1 && !can_be_pid1() {
            return;
        }
        let address = local();
        let script = format!("report-ids at {address} report up serve-own");
        let mut clinit = setup.pid1(as_pid1).worker(&script).start();
        for report in clinit.reports("ids", 3) {
            assert_eq!(report.value("uid"), "65534 65534 65534 65534");
            assert_eq!(report.value("gid"), "65533 65533 65533 65533");
        }
        let _ = clinit.reports("report", 3);
        clinit.wait_for_log("shared, by replace");
        let answered = clinit.answered_by(address, 3);
        let victim = clinit.seen_from_here(answered[0].pid);
        send(victim, libc::SIGKILL);
        clinit.wait_gone(victim);
        let _ = clinit.report("report");
        clinit.answered_by(address, 3);
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

/// How many connections wait in the accept queue of a process's only listener.
fn queued(pid: i32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.replace(']', "")))
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect());
    let mut rows = rows.filter(|fields: &Vec<&str>| {
        fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9])
    });
    let (_, queue) = rows.next().unwrap()[4].split_once(':').unwrap();
    usize::from_str_radix(queue, 16).unwrap()
}

#[test]
fn no_connection_of_a_worker_of_another_user_is_lost_with_it() {
    let Some(setup) = contained(&format!("-i 3 {NOBODY}")) else {
        return;
    };
    let address = local();
    let first = setup.path("first");
    // One of them never accepts anything.
    let script =
        format!("if-slot 1 [ once {first} [ at {address} report frozen wait ] ] at {address} hold");
    let mut clinit = setup.worker(&script).start();
    let frozen = clinit.report("report").pid;
    clinit.wait_ready(3);
    let mut waiting = Vec::new();
    clinit.wait_until("some wait for the frozen one", |_| {
        waiting.extend((0..10).map(|_| connect(address).unwrap()));
        (queued(frozen) > 0).then_some(())
    });
    let pid = clinit.pid();
    let before = children(pid);
    send(frozen, libc::SIGKILL);
    let mut answers = waiting
        .iter_mut()
        .map(|stream| greeted(stream).unwrap().pid);
    assert!(answers.by_ref().any(|pid| !before.contains(&pid)));
    // And every one of the rest is answered.
    answers.for_each(drop);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn no_capability_is_lent_to_a_worker_of_another_user() {
    let Some(setup) = contained(&format!("-i 2 {NOBODY}")) else {
        return;
    };
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let privileged = start.unwrap().trim() != "0";
    let port = free_port();
    // A probe for a free port, and then the port.
    let script = format!(
        "tcp bind 127.0.0.1:84 tcp bind 127.0.0.1:{port} listen drop tcp bind 0.0.0.0:{port} listen report up serve-own"
    );
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.reports("report", 2);
    let outcomes: Vec<String> = clinit
        .reports("bind", 6)
        .iter()
        .map(|outcome| outcome.text().to_owned())
        .collect();
    let low = if privileged { "EACCES" } else { "ok" };
    assert_eq!(outcomes, [low, "ok", "ok", low, "ok", "ok"]);
    clinit.answered_by((Ipv4Addr::LOCALHOST, port), 2);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn workers_that_change_their_user_themselves_share_a_port() {
    let Some(setup) = contained("-i 2 --backoff 1ms..5ms -v") else {
        return;
    };
    let address = local();
    let words = "setpriv --reuid=65534 --regid=65533 --clear-groups";
    let script = format!("report-ids at {address} report up serve-own");
    let words: Vec<&str> = words
        .split(' ')
        .chain([WORKER.as_str()])
        .chain(script.split(' '))
        .collect();
    let mut clinit = setup.command(&words).start();
    for report in clinit.reports("ids", 2) {
        assert_eq!(report.value("uid"), "65534 65534 65534 65534");
    }
    let _ = clinit.reports("report", 2);
    let answered = clinit.answered_by(address, 2);
    send(answered[0].pid, libc::SIGKILL);
    let _ = clinit.report("report");
    clinit.answered_by(address, 2);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_socket_that_is_waited_for_is_not_replaced_but_has_the_port_alone() {
    let Some(setup) = contained(&format!("-i 3 {NOBODY}")) else {
        return;
    };
    let address = local();
    let script = format!("tcp watch listen-at {address} report up serve-own");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_until("it is one worker that serves", |clinit| {
        let pid = clinit.pid();
        let is_warned = clinit.log().contains("before it binds it");
        let is_alone = children(pid).len() == 1;
        (is_warned && is_alone && crate::harness::ask(address).is_ok()).then_some(())
    });
    clinit.answered_by(address, 1);
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0).says("--share off");
    let warnings = ended.log.matches("so there is one worker").count();
    assert_eq!(warnings, 1, "{}", ended.log);
}
