//! Workers that do their worst to whoever takes part in their calls: the
//! others are served throughout, and clinit stays as it is.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::harness::{
    Clinit, ROUTES, Setup, ask, by_route, connect, free_port, free_ports, greeted, open_gate, send,
    state, status_field,
};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// More than a handful of lanes, less than any leak.
const MOST_DESCRIPTORS: usize = 16;
const MOST_KIB: usize = 2048;

/// So many ports are the hostile worker's alone.
const MOST_PORTS: u16 = 200;

/// How many descriptors a process has, and how many KiB of memory.
fn footprint(pid: i32) -> (usize, usize) {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let resident = status_field(pid, "VmRSS:").unwrap();
    let resident = resident.split(' ').next().unwrap().parse().unwrap();
    (descriptors, resident)
}

#[track_caller]
fn assert_bounded(clinit: &mut Clinit, before: (usize, usize)) {
    let pid = clinit.pid();
    let (mut descriptors, mut resident) = (0, 0);
    let is_bounded = |(descriptors, resident): (usize, usize)| {
        descriptors <= before.0 + MOST_DESCRIPTORS && resident <= before.1 + MOST_KIB
    };
    clinit.wait_until("what clinit has is bounded", |_| {
        (descriptors, resident) = footprint(pid);
        is_bounded((descriptors, resident)).then_some(())
    });
}

/// Slot 0 does this, at a port of its own, `Q`, or several from there on;
/// slot 1 serves at the returned address.
fn beside(setup: Setup, hostile: &str) -> (Clinit, SocketAddr) {
    let address = local();
    // At an address that no other test process has.
    let [.., high, low] = std::process::id().to_be_bytes();
    let hostile = hostile
        .replace("127.0.0.1:Q", &format!("127.{}.{low}.1:Q", high % 254 + 1))
        .replace(":Q", &format!(":{}", free_ports(MOST_PORTS)))
        .replace("AT", &format!("at {address}"));
    let script = format!("if-slot 0 [ {hostile} ] at {address} report serves serve-own");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_until("slot 1 serves", |clinit| {
        let reports = clinit.reports_so_far();
        reports
            .iter()
            .any(|report| report.word == "report" && report.text() == "serves")
            .then_some(())
    });
    (clinit, address)
}

const FOR_EVER: &str = "bind-loop 0 127.0.0.1:Q 1";

fn hostile_worker(clinit: &mut Clinit) -> i32 {
    let init = clinit.pid();
    clinit.wait_until("the hostile one is there", |_| {
        let children = crate::harness::children(init);
        children.into_iter().find(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == b"CLINIT_SLOT=0")
        })
    })
}

#[test]
fn stopped_inside_bind() {
    for route in ROUTES {
        let (mut clinit, address) = beside(by_route(route, "-i 2 -v"), FOR_EVER);
        let hostile = hostile_worker(&mut clinit);
        for round in 0..30 {
            send(hostile, libc::SIGSTOP);
            clinit.wait_until("it has stopped", |_| {
                matches!(state(hostile), Some('T' | 't')).then_some(())
            });
            let who = ask(address).unwrap_or_else(|error| {
                clinit.fail(&format!("by {route:?}, round {round}: {error}"))
            });
            assert_eq!(who.slot, "1");
            send(hostile, libc::SIGCONT);
        }
        // It goes on: what it was asked while it stood still has been answered.
        let switches = |pid| status_field(pid, "voluntary_ctxt_switches:");
        let before = switches(hostile);
        clinit.wait_until("it goes on", |_| {
            (switches(hostile) != before).then_some(())
        });
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn killed_inside_bind() {
    for route in ROUTES {
        let setup = by_route(route, "-i 2 -v --backoff 1ms..2ms --max-restarts 100000");
        let (mut clinit, address) = beside(setup, &format!("report up {FOR_EVER}"));
        let pid = clinit.pid();
        let before = footprint(pid);
        for round in 0..30 {
            let hostile = hostile_worker(&mut clinit);
            send(hostile, libc::SIGKILL);
            clinit.wait_gone(hostile);
            let answered = ask(address);
            if let Err(error) = answered {
                clinit.fail(&format!("by {route:?}, round {round}: {error}"));
            }
        }
        assert_bounded(&mut clinit, before);
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn binds_without_end() {
    for route in ROUTES {
        for ports in [1, MOST_PORTS] {
            let hostile =
                format!("bind-loop 300 127.0.0.1:Q {ports} bind-loop 900 127.0.0.1:Q {ports} wait");
            let (mut clinit, address) = beside(by_route(route, "-i 2"), &hostile);
            let pid = clinit.pid();
            let first = clinit.report("looped");
            let before = footprint(pid);
            while clinit.reports_so_far().is_empty() {
                assert_eq!(ask(address).unwrap().slot, "1", "by {route:?}");
            }
            assert_eq!(first.value("errors"), "0", "by {route:?}: {first}");
            assert_bounded(&mut clinit, before);
        }
    }
}

#[test]
fn hands_over_garbage() {
    for route in ROUTES {
        let setup = by_route(route, "-i 2");
        let path = setup.path("garbage");
        let (mut clinit, address) = beside(setup, &format!("bind-garbage {path} wait"));
        assert_eq!(ask(address).unwrap().slot, "1");
        let _ = clinit.report("garbage");
        assert_eq!(ask(address).unwrap().slot, "1");
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

/// Connects until so many in a row were answered, and returns how many were
/// not: each at a lane that nobody takes from.
fn unanswered(clinit: &mut Clinit, address: SocketAddr) -> usize {
    let mut unanswered = Vec::new();
    let mut in_a_row = 0;
    clinit.wait_until("everybody is answered", |_| {
        let mut stream = connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        if greeted(&mut stream).is_ok() {
            in_a_row += 1;
        } else {
            in_a_row = 0;
            unanswered.push(stream);
        }
        (in_a_row == 60).then_some(())
    });
    unanswered.len()
}

/// Whether it was the first to listen matters: the program is attached
/// through any of those that do.
#[test]
fn shuts_its_listener_down() {
    for is_first in [true, false] {
        let address = local();
        let setup = Setup::new("-i 3 -v --backoff 1ms..5ms");
        let gates = ["0", "1", "2"].map(|name| setup.dir.fifo(name));
        let [_, hostile, _] = &gates;
        let others = setup.path("{slot}");
        let first = setup.path("first");
        let shut = format!("at {address} report up shut-down report down wait");
        let script = format!(
            "if-slot 1 [ once {first} [ await {hostile} {shut} ] at {address} report up hold ] \
             await {others} at {address} report up hold"
        );
        let mut clinit = setup.worker(&script).start();
        let order = if is_first { [1, 0, 2] } else { [0, 2, 1] };
        let mut reports = Vec::new();
        for slot in order {
            open_gate(&gates[slot]);
            reports.extend(clinit.reports("report", if slot == 1 { 2 } else { 1 }));
        }
        assert_eq!(unanswered(&mut clinit, address), 0);
        // Who takes its place listens again.
        let victim = reports.iter().find(|report| report.text() == "down");
        send(victim.unwrap().pid, libc::SIGKILL);
        assert_eq!(clinit.report("report").text(), "up");
        assert_eq!(unanswered(&mut clinit, address), 0);
        assert!(
            !clinit.log().contains("warning: cannot"),
            "{}",
            clinit.log()
        );
    }
}

#[test]
fn closes_its_listener_without_a_word() {
    let address = local();
    let script = format!(
        "if-slot 1 [ at {address} report up drop report down wait ] at {address} report up hold"
    );
    let mut clinit = Setup::new("-i 3 -v").worker(&script).start();
    let _ = clinit.reports("report", 4);
    // Nobody tells: a queue that does not move does.
    let unanswered = unanswered(&mut clinit, address);
    assert!(unanswered <= 4, "{unanswered}");
}
