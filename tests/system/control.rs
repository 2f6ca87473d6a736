//! The control socket: every verb with a real cluster, and strangers who do
//! their worst to it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::{
    CLINIT, Clinit, Setup, can_be_pid1, cannot_run, connect as tcp, free_port, greeted, is_root,
    program, status_field, tally,
};

/// Workers that are ready at once.
const READY: &str = "ready report up wait";

/// With a socket of its own, which other tests do not see.
fn with_socket(options: &str) -> Setup {
    let setup = Setup::new(options);
    let path = setup.path("control");
    setup.arg("--control").arg(path)
}

fn command(words: &str) -> Command {
    // Who waits in vain is a failure and not a test that never ends.
    let mut command = Command::new("timeout");
    command
        .arg("30")
        .arg(CLINIT)
        .args(words.split(' '))
        .env_clear();
    command
}

/// Runs a verb and returns its exit code, stdout and stderr.
fn run(mut command: Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn at(clinit: &Clinit, words: &str) -> Command {
    command(&format!("{words} --control {}", clinit.dir.path("control")))
}

fn verb(clinit: &Clinit, words: &str) -> (i32, String, String) {
    run(at(clinit, words))
}

#[track_caller]
fn done(clinit: &Clinit, words: &str) -> String {
    let (code, stdout, stderr) = verb(clinit, words);
    assert_eq!((code, stderr.as_str()), (0, ""), "{words}");
    stdout
}

#[track_caller]
fn refused(clinit: &Clinit, words: &str, why: &str) {
    let (code, _, stderr) = verb(clinit, words);
    assert_eq!(code, 1, "{words}: {stderr}");
    assert!(
        stderr.contains(why) && stderr.lines().count() == 1,
        "{words}: {stderr}"
    );
}

fn status(clinit: &Clinit) -> serde_json::Value {
    serde_json::from_str(&done(clinit, "status --json")).unwrap()
}

/// Each row's slot, generation and state.
fn rows(clinit: &Clinit) -> Vec<(u64, u64, String)> {
    let status = status(clinit);
    let workers = status["workers"].as_array().unwrap().iter();
    workers
        .map(|worker| {
            let number = |key: &str| worker[key].as_u64().unwrap();
            let state = worker["state"].as_str().unwrap().to_owned();
            (number("slot"), number("generation"), state)
        })
        .collect()
}

fn wait_for_rows(clinit: &mut Clinit, expected: &[(u64, u64, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(slot, generation, state)| (*slot, *generation, (*state).to_owned()))
        .collect();
    clinit.wait_until(&format!("{expected:?}"), |clinit| {
        (rows(clinit) == expected).then_some(())
    });
}

fn started(setup: Setup, workers: usize) -> Clinit {
    let mut clinit = setup.start();
    clinit.reports("report", workers);
    done(&clinit, "wait ready");
    clinit
}

fn connect(clinit: &Clinit) -> UnixStream {
    let socket = UnixStream::connect(clinit.dir.path("control")).unwrap();
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).unwrap();
    socket
}

/// Says this and returns everything that is answered until clinit hangs up.
fn said(clinit: &Clinit, bytes: &[u8]) -> String {
    let mut socket = connect(clinit);
    // It may hang up before it has heard everything.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8(answer).unwrap()
}

// ---- verbs ----

#[test]
fn status_counts_connections_where_they_are() {
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, free_port()));
    let script = format!("at {address} hold");
    let mut clinit = with_socket("-i 2").worker(&script).start();
    clinit.wait_ready(2);
    let mut held: Vec<_> = (0..5).map(|_| tcp(address).unwrap()).collect();
    let who = tally(held.iter_mut().map(|stream| greeted(stream).unwrap().pid));
    let status = status(&clinit);
    for worker in status["workers"].as_array().unwrap() {
        let pid = i32::try_from(worker["pid"].as_u64().unwrap()).unwrap();
        let counted = worker["connections"].as_u64().unwrap();
        let expected = who.get(&pid).copied().unwrap_or_default();
        assert_eq!(usize::try_from(counted), Ok(expected), "{worker}");
    }
    assert!(done(&clinit, "list").contains("CONN"));
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn status_tells_of_clinit_and_of_every_worker() {
    let clinit = started(with_socket("-i 2 -l 127.0.0.1:0").worker(READY), 2);
    let status = status(&clinit);
    assert_eq!(status["app"], "fixture-worker");
    assert_eq!(
        (status["ready"].as_u64(), status["instances"].as_u64()),
        (Some(2), Some(2))
    );
    assert_eq!(status["listeners"].as_array().unwrap().len(), 1);
    assert!(status["cpus"].as_str().unwrap().contains("CPUs"));
    for worker in status["workers"].as_array().unwrap() {
        assert!(worker["memory_bytes"].as_u64().unwrap() > 4096);
        assert!(worker["pid"].as_u64().is_some() && worker["cpu_ms"].as_u64().is_some());
    }
    let shown = done(&clinit, "status");
    assert!(
        shown.contains("2 of 2 ready") && shown.contains("127.0.0.1:"),
        "{shown}"
    );
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    assert_eq!(done(&clinit, "show 1").matches(" ready ").count(), 1);
    assert_eq!(done(&clinit, "ls").lines().count(), 3);
}

#[test]
fn sixty_four_workers_are_all_shown() {
    let clinit = started(with_socket("-i 64").worker(READY), 64);
    let shown = done(&clinit, "list");
    for slot in 0..64 {
        let begins = format!("{slot:>4} ");
        let of_slot = shown.lines().filter(|line| line.starts_with(&begins));
        assert_eq!(of_slot.count(), 1, "{shown}");
    }
    assert_eq!(shown.lines().count(), 65);
}

#[test]
fn more_workers_and_fewer() {
    let mut clinit = started(with_socket("-i 2").worker(READY), 2);
    assert_eq!(done(&clinit, "scale 3"), "instances=3\n");
    assert_eq!(done(&clinit, "scale +1"), "instances=4\n");
    clinit.reports("report", 2);
    assert_eq!(done(&clinit, "dec 2"), "instances=2\n");
    assert_eq!(done(&clinit, "scale 2"), "instances=2\n");
    wait_for_rows(&mut clinit, &[(0, 1, "ready"), (1, 1, "ready")]);
    done(&clinit, "delete 0");
    wait_for_rows(&mut clinit, &[(1, 1, "ready")]);
    refused(&clinit, "scale -1", "the number of workers stays 1");
    refused(&clinit, "delete 1", "the number of workers stays 1");
    refused(
        &clinit,
        "delete fixture-worker",
        "the only app cannot be deleted",
    );
    let cpus = run(command("cpus")).1;
    let most = cpus
        .lines()
        .find_map(|line| line.strip_prefix("workers  "))
        .unwrap();
    assert_eq!(done(&clinit, "scale max"), format!("instances={most}\n"));
}

#[test]
fn slots_are_stopped_started_and_restarted() {
    let mut clinit = started(with_socket("-i 2").worker(READY), 2);
    done(&clinit, "stop 1");
    wait_for_rows(&mut clinit, &[(0, 1, "ready"), (1, 1, "stopped")]);
    done(&clinit, "start 1");
    clinit.report("report");
    wait_for_rows(&mut clinit, &[(0, 1, "ready"), (1, 1, "ready")]);
    done(&clinit, "restart fixture-worker");
    clinit.reports("report", 2);
    done(&clinit, "stop");
    wait_for_rows(&mut clinit, &[(0, 1, "stopped"), (1, 1, "stopped")]);
    refused(&clinit, "probe ready", "0 of 2 workers are ready");
    done(&clinit, "probe live");
    refused(&clinit, "stop 7", "there is no slot 7");
    refused(&clinit, "start other", "the only one is fixture-worker");
    done(&clinit, "start");
    clinit.reports("report", 2);
}

#[test]
fn a_signal_goes_to_the_slot_that_is_named() {
    let script = "on USR1 report ready report up wait";
    let mut clinit = started(with_socket("-i 2").worker(script), 2);
    done(&clinit, "signal USR1 1");
    let got = clinit.report("signal");
    assert_eq!(got.slot, "1");
    done(&clinit, "signal SIGUSR1");
    assert_eq!(clinit.reports("signal", 2).len(), 2);
}

#[test]
fn a_restart_is_counted_and_its_reason_kept() {
    let setup = with_socket("-i 1 --min-uptime 0s --backoff 10ms..1s");
    let once = setup.path("once");
    let script = format!("once {once} [ ready report up exit 7 ] {READY}");
    let mut clinit = setup.worker(&script).start();
    clinit.reports("report", 2);
    clinit.wait_until("the exit in the status", |clinit| {
        let status = status(clinit);
        let worker = &status["workers"][0];
        let is_it = worker["last"] == "exited with code 7" && worker["restarts"] == 1;
        is_it.then_some(())
    });
}

#[test]
fn a_reload_is_waited_for() {
    let mut clinit = started(with_socket("-i 2 --settle 0s").worker(READY), 2);
    let answered = done(&clinit, "reload --json");
    let words: Vec<&str> = answered.lines().collect();
    assert!(words[0].contains("\"event\":\"reloading\""), "{answered}");
    assert!(
        words
            .last()
            .unwrap()
            .contains("\"ok\":true,\"generation\":2"),
        "{answered}"
    );
    for event in ["online", "ready", "replaced", "draining", "reloaded"] {
        let event = format!("\"event\":\"{event}\"");
        assert!(answered.contains(&event), "{event} is not in\n{answered}");
    }
    wait_for_rows(&mut clinit, &[(0, 2, "ready"), (1, 2, "ready")]);
    // One that is under way is followed by the next.
    let mut both = ["reload", "upgrade"].map(|words| at(&clinit, words).spawn().unwrap());
    for child in &mut both {
        assert!(child.wait().unwrap().success());
    }
    wait_for_rows(&mut clinit, &[(0, 4, "ready"), (1, 4, "ready")]);
}

#[test]
fn a_reload_that_fails_says_why_and_changes_nothing() {
    let setup = with_socket("-i 1");
    let once = setup.path("once");
    let script = format!("once {once} [ {READY} ] exit 9");
    let mut clinit = started(setup.worker(&script), 1);
    let pid = status(&clinit)["workers"][0]["pid"].clone();
    refused(
        &clinit,
        "reload",
        "nothing has changed: the new worker exited with code 9",
    );
    wait_for_rows(&mut clinit, &[(0, 1, "ready")]);
    assert_eq!(status(&clinit)["workers"][0]["pid"], pid);
}

#[test]
fn a_reload_that_stops_halfway_is_called_partial() {
    let setup = with_socket("-i 2 --settle 0s");
    let (old, good) = (setup.path("old"), setup.path("good"));
    // The first of either slot, and then one more.
    let script = format!(
        "if-slot 0 [ once {old}0 [ {READY} ] ] if-slot 1 [ once {old}1 [ {READY} ] ] \
         once {good} [ {READY} ] exit 9"
    );
    let clinit = started(setup.worker(&script), 2);
    let (code, answer, _) = verb(&clinit, "reload --json");
    assert_eq!(code, 1);
    let last = answer.lines().last().unwrap();
    assert!(
        last.contains("\"partial\":true") && last.contains("\"error\":\"partial"),
        "{answer}"
    );
}

#[test]
fn events_are_told_as_they_happen() {
    let mut clinit = started(with_socket("-i 1").worker(READY), 1);
    let mut socket = connect(&clinit);
    socket
        .write_all(b"{\"v\":1,\"verb\":\"events\"}\n")
        .unwrap();
    let mut heard = String::new();
    let mut hear = |wanted: &str| {
        while !heard.contains(wanted) {
            let mut buffer = [0; 4096];
            let length = socket.read(&mut buffer).unwrap();
            assert!(length > 0, "no {wanted} in\n{heard}");
            heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    };
    hear("\"ok\":true");
    done(&clinit, "restart 0");
    clinit.report("report");
    for event in ["draining", "exit", "online", "ready"] {
        hear(&format!("\"event\":\"{event}\""));
    }
    done(&clinit, "kill");
    hear("\"event\":\"shutdown\"");
    clinit.end().expect(0);
    for line in heard.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["v"], 1, "{line}");
    }
}

#[test]
fn top_shows_the_status_again_and_again() {
    let clinit = started(with_socket("-i 1").worker(READY), 1);
    let mut top = at(&clinit, "top").stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = String::new();
    let mut stdout = top.stdout.take().unwrap();
    while shown.matches("SLOT").count() < 2 {
        let mut buffer = [0; 4096];
        let length = stdout.read(&mut buffer).unwrap();
        assert!(length > 0, "{shown}");
        shown.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    drop(stdout);
    // The terminal's end is its end.
    let _ = top.wait().unwrap();
}

#[test]
fn its_end_is_waited_for() {
    let clinit = started(with_socket("-i 1").worker(READY), 1);
    let mut waiting = at(&clinit, "wait stopped").spawn().unwrap();
    done(&clinit, "kill");
    assert!(waiting.wait().unwrap().success());
    let path = clinit.dir.path("control");
    let ended = clinit.end();
    ended.expect(0);
    assert!(!std::path::Path::new(&path).exists(), "the socket is left");
    let (code, _, stderr) = run(command(&format!("status --control {path}")));
    assert_eq!(code, 3, "{stderr}");
    let gone = run(command(&format!("wait stopped --control {path}")));
    assert_eq!(gone.0, 0);
}

#[test]
fn readiness_during_a_drain_is_as_asked_for() {
    for (option, code) in [("fail", 1), ("keep", 0)] {
        let options = format!("-i 1 --drain-delay 1m --ready-during-drain {option}");
        let mut clinit = started(with_socket(&options).worker(READY), 1);
        done(&clinit, "probe ready");
        done(&clinit, "die");
        clinit.wait_for_log("shutting down: draining in");
        let (found, _, stderr) = verb(&clinit, "probe ready");
        assert_eq!(found, code, "{option}: {stderr}");
        refused(&clinit, "reload", "clinit is to end");
        // A second request skips the delay.
        done(&clinit, "kill");
        clinit.end().expect(0);
    }
}

// ---- where it is ----

#[test]
fn several_are_told_apart_by_their_pids() {
    let mut clinits = [0, 1].map(|_| {
        let mut clinit = Setup::new("-i 1").worker(READY).start();
        clinit.report("report");
        clinit
    });
    for clinit in &mut clinits {
        let pid = clinit.pid();
        let (code, answer, stderr) = run(command(&format!("status --json --pid {pid}")));
        assert_eq!(code, 0, "{stderr}");
        assert!(answer.contains(&format!("\"pid\":{pid},")), "{answer}");
    }
    let (code, _, stderr) = run(command(&format!("status --pid {}", std::process::id())));
    assert_eq!(code, 3, "{stderr}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_left() {
    let setup = with_socket("-i 1");
    let path = setup.path("control");
    drop(UnixListener::bind(&path).unwrap());
    let clinit = started(setup.worker(READY), 1);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut second = Setup::new("-i 1 --control")
        .arg(&path)
        .worker(READY)
        .start();
    second.wait_for_log("no control socket");
    second.report("report");
    second.end_by(libc::SIGTERM).expect(0);
    done(&clinit, "probe live");
}

#[test]
fn there_is_none_where_none_is_wanted() {
    let mut clinit = Setup::new("-i 1 --control off").worker(READY).start();
    clinit.report("report");
    let pid = clinit.pid();
    assert_eq!(run(command(&format!("status --pid {pid}"))).0, 3);
    let mut off = command("status");
    off.env("CLINIT_CONTROL", "off");
    let (code, _, stderr) = run(off);
    assert!(code == 3 && stderr.contains("CLINIT_CONTROL"), "{stderr}");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_command_of_a_verbs_name_is_run_behind_dashes() {
    let (code, stdout, _) = run(command("-- kill -l"));
    assert_eq!((code, stdout.is_empty()), (0, false));
    let (code, _, stderr) = run(command("kill -l"));
    assert!(code == 2 && stderr.contains("clinit -- kill"), "{stderr}");
}

// ---- strangers ----

#[test]
fn another_user_is_not_heard() {
    if !is_root() {
        return;
    }
    let Some(setpriv) = program("setpriv") else {
        cannot_run("RING 3", "a test of another user needs setpriv(1)");
        return;
    };
    let mut clinit = Setup::new("-i 1").worker(READY).start();
    clinit.report("report");
    let pid = clinit.pid().to_string();
    let other = || {
        let mut command = Command::new(&setpriv);
        command.args([
            "--reuid",
            "65534",
            "--clear-groups",
            CLINIT,
            "kill",
            "--pid",
            &pid,
        ]);
        run(command)
    };
    for _ in 0..3 {
        let (code, _, stderr) = other();
        assert!(
            code == 1 && stderr.contains("another user's"),
            "{code} {stderr}"
        );
    }
    assert_eq!(run(command(&format!("probe live --pid {pid}"))).0, 0);
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0);
    assert_eq!(
        ended.log.matches("is not heard").count(),
        1,
        "{}",
        ended.log
    );
}

/// As another container with the host's network: its processes have no pid
/// here.
#[test]
fn another_pid_namespace_is_not_heard() {
    if !can_be_pid1() {
        return;
    }
    let mut clinit = with_socket("-i 1").worker(READY).pid1(true).start();
    clinit.report("report");
    refused(&clinit, "kill", "it is in another pid namespace");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn garbage_is_answered_and_half_a_line_costs_nothing() {
    let clinit = started(with_socket("-i 1").worker(READY), 1);
    let long = said(&clinit, &vec![b'x'; 100_000]);
    assert!(long.contains("at most 4096 bytes"), "{long}");
    let mut socket = connect(&clinit);
    socket
        .write_all(b"\xff\xfe{]\n\n{\"v\":1,\"verb\":\"probe\",\"for\":\"live\"}\n")
        .unwrap();
    let mut answer = String::new();
    while answer.matches('\n').count() < 3 {
        let mut buffer = [0; 4096];
        let length = socket.read(&mut buffer).unwrap();
        answer.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    assert_eq!(answer.matches("\"ok\":false").count(), 2, "{answer}");
    assert!(answer.ends_with("{\"v\":1,\"ok\":true}\n"), "{answer}");
    let mut half = connect(&clinit);
    half.write_all(b"{\"v\":1,\"verb\":\"kil").unwrap();
    done(&clinit, "probe live");
    half.write_all(b"x\"}\n").unwrap();
    let mut buffer = [0; 4096];
    assert!(half.read(&mut buffer).unwrap() > 0);
}

#[test]
fn thousands_of_clients_are_no_load() {
    let mut clinit = started(with_socket("-i 1").worker(READY), 1);
    let pid = clinit.pid();
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    };
    let before = descriptors();
    let mut held = std::collections::VecDeque::new();
    for _ in 0..10_000 {
        let mut socket = connect(&clinit);
        let _ = socket.write_all(b"{\"v\":1,\"ve");
        held.push_back(socket);
        if held.len() > 300 {
            held.pop_front();
        }
        assert!(descriptors() <= before + 70);
    }
    // They are there, and the oldest made way.
    done(&clinit, "status");
    drop(held);
    clinit.wait_until("they are gone", |_| {
        (descriptors() <= before + 1).then_some(())
    });
    // Those who wait for something do not make way.
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let mut socket = connect(&clinit);
            let asked = b"{\"v\":1,\"verb\":\"wait\",\"for\":\"stopped\"}\n";
            socket.write_all(asked).unwrap();
            socket
        })
        .collect();
    clinit.wait_until("all of them wait", |clinit| {
        let (code, _, stderr) = verb(clinit, "probe live");
        (code == 1 && stderr.contains("too many wait")).then_some(())
    });
    drop(waiting);
    clinit.wait_until("somebody is heard again", |clinit| {
        (verb(clinit, "probe live").0 == 0).then_some(())
    });
}

#[test]
fn who_never_reads_is_dropped() {
    let mut clinit = started(with_socket("-i 64").worker(READY), 64);
    let pid = clinit.pid();
    let resident = || -> u64 {
        let text = status_field(pid, "VmRSS:").unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let before = resident();
    // Asks for more than it can be answered, as fast as it is heard.
    let mut greedy = connect(&clinit);
    greedy
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let asked = b"{\"v\":1,\"verb\":\"status\"}\n".repeat(1000);
    let error = (0..100).find_map(|_| greedy.write_all(&asked).err());
    assert!(error.is_some(), "it was never dropped");
    // Listens to what happens, and does not.
    let mut deaf = connect(&clinit);
    deaf.write_all(b"{\"v\":1,\"verb\":\"events\"}\n").unwrap();
    done(&clinit, "probe ready");
    assert!(
        resident() < before + 2048,
        "{before} KiB and then {}",
        resident()
    );
}
