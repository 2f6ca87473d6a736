//! Ports that are shared by request, and not at all; and where they cannot be.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{
    CLINIT, Dir, Setup, WORKER, by_route, children, free_port, is_root, open_gate, program,
};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

#[test]
fn where_nothing_is_shared_the_second_worker_is_refused() {
    for options in ["--share off", "--capture off"] {
        let address = local();
        let script = format!(
            "report-status NoNewPrivs report-status Seccomp at {address} report serves serve-own"
        );
        let mut clinit = Setup::new(&format!("-i 2 {options} --backoff 10m..10m"))
            .worker(&script)
            .start();
        for _ in 0..2 {
            let own = fs::read_to_string("/proc/self/status").unwrap();
            let value = |key: &str| {
                let value = own.lines().find_map(|line| line.strip_prefix(key));
                value.unwrap().trim_matches([':', '\t']).to_owned()
            };
            // As without clinit.
            for _ in 0..2 {
                let status = clinit.report("status");
                let (key, found) = status.text().split_once('=').unwrap();
                assert_eq!(found, value(key), "{options}: {key}");
            }
        }
        assert_eq!(clinit.report("report").text(), "serves");
        assert_eq!(clinit.report("refused").text(), "EADDRINUSE", "{options}");
        clinit.answered_by(address, 1);
    }
}

#[test]
fn only_the_ports_that_were_named() {
    let [shared, alone] = [local(), local()];
    let script = format!("at {shared} tcp bind {alone} report done wait");
    let options = format!("-i 2 --capture {}", shared.port());
    let mut clinit = Setup::new(&options).worker(&script).start();
    let _ = clinit.reports("report", 2);
    let mut outcomes: Vec<_> = clinit.reports("bind", 2);
    outcomes.sort_by_key(|outcome| outcome.text().to_owned());
    let outcomes: Vec<_> = outcomes.iter().map(|outcome| outcome.text()).collect();
    assert_eq!(outcomes, ["EADDRINUSE", "ok"]);
}

/// The worker is given the lane of the listener that it has from clinit.
#[test]
fn an_address_that_clinit_listens_on_is_bound_by_its_workers_too() {
    let address = local();
    let script = format!("at {address} report-own serve-own");
    let mut clinit = Setup::new(&format!("-i 3 -l {address} --backoff 1ms..5ms"))
        .worker(&script)
        .start();
    for socket in clinit.reports("socket", 3) {
        assert_eq!(socket.value("address"), address.to_string());
    }
    let answered = clinit.answered_by(address, 3);
    crate::harness::send(answered[0].pid, libc::SIGKILL);
    let _ = clinit.report("socket");
    clinit.answered_by(address, 3);
}

#[test]
fn a_command_that_nobody_may_read_is_one_worker_and_one_warning() {
    if !is_root() || program("setpriv").is_none() {
        return;
    }
    // Copies, since the build directory may be somebody's own.
    let dir = Dir::new();
    let [clinit, worker] = [dir.path("clinit"), dir.path("worker")];
    fs::copy(CLINIT, &clinit).unwrap();
    fs::copy(&*WORKER, &worker).unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o111)).unwrap();
    let address = local();
    let become_user = "setpriv --reuid 1000 --regid 1000 --clear-groups sh -c";
    let script = format!("shift; exec {clinit} \"$@\"");
    let mut words: Vec<&str> = become_user.split(' ').collect();
    words.extend([script.as_str(), "sh"]);
    let mut clinit = Setup::new("-i 4 --backoff 1ms..5ms")
        .through(&words)
        .command(&[
            worker.as_str(),
            "at",
            &address.to_string(),
            "report",
            "up",
            "serve-own",
        ])
        .start();
    clinit.wait_until("it is one worker that serves", |clinit| {
        let pid = clinit.pid();
        let is_warned = clinit.log().contains("warning: ");
        (is_warned && children(pid).len() == 1 && crate::harness::ask(address).is_ok())
            .then_some(())
    });
    clinit.answered_by(address, 1);
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0).says("-l").says("--share off");
    assert_eq!(ended.log.matches("warning: ").count(), 1, "{}", ended.log);
}

/// All of them bind at once, and each would be the first.
#[test]
fn of_many_that_cannot_share_their_port_the_one_that_stays_has_it() {
    let address = local();
    let setup = by_route("replace", "-i 8 --backoff 1ms..5ms");
    let gate = setup.dir.fifo("gate");
    let script =
        format!("tcp watch report up await {gate} listen-at {address} report bound serve-own");
    let mut clinit = setup.worker(&script).start();
    let _ = clinit.reports("report", 8);
    open_gate(&gate);
    let alone = clinit.report("report").pid;
    clinit.wait_until("it is alone", |clinit| {
        (children(clinit.pid()) == [alone]).then_some(())
    });
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0);
    assert!(!ended.log.contains("restarting"), "{}", ended.log);
}

#[test]
fn inside_another_clinit_there_is_one_worker_whose_port_the_outer_one_shares() {
    let address = local();
    let inner = [
        "-i",
        "2",
        "--",
        &*WORKER,
        "at",
        &address.to_string(),
        "serve-own",
    ]
    .map(str::to_owned);
    let command: Vec<String> = std::iter::once(CLINIT.to_owned()).chain(inner).collect();
    let mut clinit = Setup::new("-i 2").command(&command).start();
    clinit.wait_for_nth_log(
        "another supervisor around this one has a seccomp listener",
        2,
    );
    clinit.wait_until("both serve", |_| {
        crate::harness::ask(address).is_ok().then_some(())
    });
    clinit.answered_by(address, 2);
    clinit.end_by(libc::SIGTERM).expect(0);
}
