//! Workers that leak, that have lived long enough, that hang: each is
//! replaced, and named by the right reason, and nobody notices.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::harness::{
    Clinit, Setup, ask, can_be_pid1, connect, free_port, is_root, open_gate, send, state,
    status_field,
};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Asks without end while this is done, and returns how often nobody answered.
fn under_load(address: SocketAddr, act: impl FnOnce()) -> (u32, u32) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut asked, mut failed) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                asked += 1;
                failed += u32::from(ask(address).is_err());
            }
            (asked, failed)
        });
        act();
        over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    })
}

#[test]
fn a_leaking_worker_is_replaced_successor_first_and_nobody_notices() {
    let address = local();
    let setup = Setup::new("-i 2 --max-memory 64M --settle 100ms --grace 1h");
    let (first, gate) = (setup.path("first"), setup.dir.fifo("gate"));
    // It reports TERM and lives on: what it has begun is not the matter here.
    let script = format!(
        "on TERM report at {address} \
         if-slot 1 [ once {first} [ report leaks await {gate} grow 96 ] ] serve-own"
    );
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(2);
    let leaking = clinit.report("report").pid;
    let (asked, failed) = under_load(address, || {
        open_gate(&gate);
        assert_eq!(clinit.report("signal").pid, leaking);
    });
    let log = clinit.log();
    assert_eq!(
        (failed, asked > 0),
        (0, true),
        "of {asked}; the log:\n{log}"
    );
    let line = clinit.wait_for_log("had more memory than it may have: replacing it");
    assert!(line.contains("slot=1"), "{line}");
    assert!(line.contains(&format!("pid={leaking}")), "{line}");
    assert!(line.contains(&format!("most={}", 64 << 20)), "{line}");
    let replaced = clinit.wait_for_log("takes its predecessor's place");
    assert!(replaced.contains("slot=1"), "{replaced}");
    assert_eq!(log.matches("replacing it").count(), 1, "{log}");
}

/// Three processes with the same 64 MiB have 64 MiB, and not 192.
#[test]
fn what_the_processes_of_a_worker_share_counts_once() {
    let setup = Setup::new("-i 2 --max-memory 128M");
    let script = format!(
        "if-slot 0 [ grow 64 child [ wait ] child [ wait ] at {} report up hold ] \
         grow 144 at {} report up hold",
        local(),
        local(),
    );
    let mut clinit = setup.worker(&script).start();
    let sharing = clinit.reports("report", 2).remove(0).pid;
    // Both were looked at when one is found to have too much.
    let line = clinit.wait_for_log("had more memory than it may have");
    assert!(line.contains("slot=1"), "{line}");
    let resident = status_field(sharing, "VmRSS:").unwrap();
    let kilobytes: u64 = resident.trim_end_matches("kB").trim().parse().unwrap();
    assert!(kilobytes > 64 << 10, "{resident}");
    let wrong = format!("pid={sharing} memory=");
    assert!(!clinit.log().contains(&wrong), "{}", clinit.log());
}

#[test]
fn workers_that_have_lived_long_enough_are_replaced_one_at_a_time() {
    let address = local();
    let setup = Setup::new("-i 2 --max-lifetime 500ms --settle 50ms --grace 1h");
    let script = format!("on TERM report report up at {address} serve-own");
    let mut clinit = setup.worker(&script).start();
    let mut old: Vec<i32> = clinit
        .reports("report", 2)
        .iter()
        .map(|it| it.pid)
        .collect();
    clinit.wait_ready(2);
    let (_, failed) = under_load(address, || {
        let leaves = clinit.report("signal").pid;
        assert!(old.contains(&leaves));
        old.retain(|pid| *pid != leaves);
        // The next one waits until this one is gone.
        assert_eq!(clinit.log().matches("replacing it").count(), 1);
        send(leaves, libc::SIGKILL);
        assert_eq!(clinit.report("signal").pid, old[0]);
    });
    assert_eq!(failed, 0, "{}", clinit.log());
    let line = clinit.wait_for_log("had lived long enough: replacing it");
    assert!(!line.contains("memory="), "{line}");
}

// ---- hung workers ----

/// Half of a worker's clients wait for it: the successor answers them.
fn expect_all_answered(clinit: &mut Clinit, address: SocketAddr, hung: i32, lot: usize) {
    // All that are ready have their share.
    clinit.catch_up();
    let mut waiting: Vec<TcpStream> = (0..lot).map(|_| connect(address).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let line = clinit.wait_for_log("worker is hung: killed");
    assert!(line.contains(&format!("pid={hung}")), "{line}");
    for stream in &mut waiting {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        if !answer.starts_with("HTTP/1.1 200 ") || answer.contains(&format!("pid={hung} ")) {
            clinit.fail(&format!("{read:?}: {answer:?}"));
        }
    }
    clinit.wait_gone(hung);
}

#[test]
fn a_hung_worker_is_replaced_and_whoever_waited_for_it_is_answered() {
    for workers in [1, 2] {
        for share in ["slots", "queue"] {
            // A busy loop, and one that waits for what never comes.
            for hangs in ["spin", "wait"] {
                let address = local();
                let options = format!("-i {workers} --hang-timeout 1s --share {share} -v");
                let setup = Setup::new(&options);
                let first = setup.path("first");
                // Of a queue that all have, nobody may take.
                let slot = if share == "slots" { workers - 1 } else { 0 };
                let script = format!(
                    "at {address} if-slot {slot} [ once {first} [ report hangs {hangs} ] ] serve-own"
                );
                if share == "queue" && workers > 1 {
                    continue;
                }
                let mut clinit = setup.worker(&script).start();
                clinit.wait_ready(workers);
                let hung = clinit.report("report").pid;
                expect_all_answered(&mut clinit, address, hung, 16);
            }
        }
    }
}

/// Nobody takes from the one queue: one worker is replaced, and that shows
/// that the queue moves.
#[test]
fn of_one_queue_that_does_not_move_one_worker_is_replaced() {
    let address = local();
    let setup = Setup::new("-i 2 --hang-timeout 1s --share queue");
    let (one, other) = (setup.path("one"), setup.path("other"));
    let script = format!(
        "at {address} once {one} [ report hangs wait ] once {other} [ report hangs wait ] serve-own"
    );
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(2);
    let hang: Vec<i32> = clinit
        .reports("report", 2)
        .iter()
        .map(|it| it.pid)
        .collect();
    let mut stream = connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(clinit.log().matches("worker is hung").count(), 1);
    let alive = hang.iter().filter(|pid| state(**pid) == Some('S')).count();
    assert_eq!(alive, 1);
}

/// A server that has the port from clinit.
#[test]
fn a_hung_worker_of_a_listener_of_clinits_own_is_replaced() {
    let address = local();
    let setup = Setup::new(&format!(
        "-l {address} -i 2 --hang-timeout 1s --ready notify -v"
    ));
    let first = setup.path("first");
    let script = format!("ready if-slot 1 [ once {first} [ report hangs wait ] ] serve");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(2);
    let hung = clinit.report("report").pid;
    expect_all_answered(&mut clinit, address, hung, 16);
}

/// It is given no connection, so that none waits for it.
#[test]
fn a_worker_that_somebody_has_stopped_is_hung() {
    let address = local();
    let mut clinit = Setup::new("-i 2 --hang-timeout 1s -v")
        .worker(&format!("report up at {address} serve-own"))
        .start();
    clinit.wait_ready(2);
    let hung = clinit.reports("report", 2).remove(1).pid;
    send(hung, libc::SIGSTOP);
    // From here on it takes nothing that would be lost with it.
    clinit.wait_until("it has stopped", |_| {
        (state(hung) == Some('T')).then_some(())
    });
    expect_all_answered(&mut clinit, address, hung, 16);
    assert_eq!(clinit.log().matches("worker is hung").count(), 1);
}

/// It has more to do than it can do, which is no reason to kill it.
#[test]
fn a_worker_that_is_overrun_is_not_hung() {
    let address = local();
    let mut clinit = Setup::new("-i 1 --hang-timeout 400ms -v")
        .worker(&format!("report up at {address} serve-own"))
        .start();
    clinit.wait_ready(1);
    let worker = clinit.report("report").pid;
    // Clients that come faster than they are served: one is served whenever
    // the one before has said what it wants.
    let mut waiting = std::collections::VecDeque::new();
    for _ in 0..40 {
        waiting.extend((0..2).map(|_| connect(address).unwrap()));
        let mut client: TcpStream = waiting.pop_front().unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(&format!("pid={worker} ")), "{answer}");
        // Time that passes is what this is about.
        sleep(Duration::from_millis(50));
    }
    assert!(!clinit.log().contains("hung"), "{}", clinit.log());
}

#[test]
fn workers_that_clinit_itself_has_stopped_are_not_hung() {
    if !can_be_pid1() {
        return;
    }
    let address = local();
    let mut clinit = Setup::new("-i 1 --hang-timeout 200ms -v")
        .pid1(true)
        .worker(&format!("report up at {address} serve-own"))
        .start();
    clinit.wait_ready(1);
    let inner = clinit.report("report").pid;
    let worker = clinit.seen_from_here(inner);
    clinit.signal(libc::SIGTSTP);
    clinit.wait_until("the worker is stopped", |_| {
        (state(worker) == Some('T')).then_some(())
    });
    let mut stream = connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // As above: five times what a worker may take.
    sleep(Duration::from_secs(1));
    clinit.signal(libc::SIGCONT);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("pid={inner} ")), "{answer}");
    assert!(!clinit.log().contains("hung"), "{}", clinit.log());
}

// ---- the limits of the container ----

/// A control group of version 2, made of files, in a mount namespace of the
/// test's own: clinit sees it where it looks for its own.
fn in_a_cgroup(setup: Setup, files: &[(&str, &str)]) -> Setup {
    let group = setup.path("cgroup");
    std::fs::create_dir(&group).unwrap();
    for (name, text) in files {
        std::fs::write(format!("{group}/{name}"), text).unwrap();
    }
    let own = setup.dir.write("own", "0::/\n", 0o644);
    let mounts = format!("31 23 0:28 / {group} ro - cgroup2 cgroup rw\n");
    let mounts = setup.dir.write("mountinfo", &mounts, 0o644);
    // Over those of the shell's own, which becomes clinit.
    let script = format!(
        "mount --bind {own} /proc/$$/cgroup && mount --bind {mounts} /proc/$$/mountinfo && exec \"$@\""
    );
    setup.through(&["unshare", "--mount", "sh", "-c", &script, "sh"])
}

/// As the kernel's own file: no moment at which it is empty.
fn rewrite(path: &str, text: &str) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn the_number_of_workers_follows_the_cpu_limit_while_nobody_notices() {
    if !is_root() {
        return;
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("RING 3: a limit of 2 CPUs is skipped: this machine has one");
        return;
    }
    let address = local();
    let setup = Setup::new("-i max -v");
    let limit = format!("{}/cpu.max", setup.path("cgroup"));
    let setup = in_a_cgroup(setup, &[("cpu.max", "050000 100000\n")]);
    let script = format!("on TERM report report up at {address} serve-own");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_for_log("1 CPUs: a quota of 0.5");
    clinit.wait_ready(1);
    let (asked, failed) = under_load(address, || {
        rewrite(&limit, "200000 100000\n");
        clinit.wait_for_log("scaled workers=2");
        clinit.wait_ready(2);
        rewrite(&limit, "050000 100000\n");
        clinit.wait_for_log("fewer CPUs: scaling in 3.000s, unless they come back workers=1");
        rewrite(&limit, "200000 100000\n");
        clinit.wait_for_nth_log("2 CPUs: a quota of 2", 2);
        rewrite(&limit, "050000 100000\n");
        clinit.wait_for_nth_log("fewer CPUs", 2);
        clinit.wait_for_log("scaled workers=1");
        assert_eq!(clinit.report("signal").slot, "1");
    });
    assert_eq!((failed, asked > 0), (0, true), "{}", clinit.log());
    // What says the same changes nothing.
    clinit.signal(libc::SIGTTIN);
    clinit.wait_for_nth_log("scaled workers=2", 2);
    rewrite(&limit, "050000 100000\n");
    clinit.catch_up();
    assert_eq!(clinit.log().matches("fewer CPUs").count(), 2);
}

#[test]
fn where_no_file_can_be_watched_it_is_said_that_it_is_read_now_and_then() {
    if !is_root() {
        return;
    }
    let script = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$@\"";
    let mut clinit = Setup::new("-i max -v")
        .through(&[
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .worker(&format!("at {} hold", local()))
        .start();
    clinit.wait_for_log("the CPU limit is read every 30 s: cannot watch it");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_part_of_a_memory_limit_is_divided_by_the_workers() {
    if !is_root() {
        return;
    }
    let address = local();
    let setup = Setup::new("-i 1 --max-memory 50% --settle 100ms");
    // 256 MiB: half of it is 128 for one worker, and 64 for each of two.
    let setup = in_a_cgroup(setup, &[("memory.max", "268435456\n")]);
    let script = format!("if-slot 0 [ grow 96 ] report up at {address} hold");
    let mut clinit = setup.worker(&script).start();
    clinit.wait_ready(1);
    assert!(!clinit.log().contains("replacing it"));
    clinit.signal(libc::SIGTTIN);
    let line = clinit.wait_for_log("had more memory than it may have: replacing it");
    assert!(line.contains("slot=0"), "{line}");
    assert!(
        line.contains(&format!("most={}", 64 << 20)) || line.contains("most=67108"),
        "{line}"
    );
}

#[test]
fn a_part_of_no_memory_limit_is_warned_of() {
    if !is_root() {
        return;
    }
    let mut clinit = in_a_cgroup(Setup::new("-i 1 --max-memory 50%"), &[])
        .worker(&format!("at {} hold", local()))
        .start();
    clinit.wait_for_log("--max-memory in % is of no effect: this container has no memory limit");
    clinit.wait_ready(1);
    clinit.end_by(libc::SIGTERM).expect(0);
}
