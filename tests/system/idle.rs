//! When there is nothing to do, nothing is done; and a log that nobody reads
//! holds nothing up.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use crate::harness::{Clinit, Dir, Setup, can_be_pid1, free_port, send, status_field};

/// How often a process of one thread has gone to sleep: once a wake-up.
fn wake_ups(pid: i32) -> u64 {
    let threads = status_field(pid, "Threads:").unwrap();
    assert_eq!(threads, "1");
    let of = |key| status_field(pid, key).unwrap().parse::<u64>().unwrap();
    of("voluntary_ctxt_switches:") + of("nonvoluntary_ctxt_switches:")
}

/// Until it sleeps with nothing left to do: all that is to be done in time
/// (a worker taken for ready after 10 s alive, say) has been.
fn settle(clinit: &mut Clinit, pid: i32) {
    clinit.wait_until("clinit sleeps", |_| {
        let state = crate::harness::state(pid);
        (state == Some('S')).then_some(())
    });
}

/// The one test that lets time pass, since that is what it is about.
#[test]
fn ten_idle_seconds_are_no_wake_up_at_all() {
    let own = [free_port(), free_port()];
    let own = own.map(|port| format!("at 127.0.0.1:{port} report up hold"));
    let setups = [
        ("-i 4", own[0].as_str(), 4, false),
        ("-i 4", &own[1], 4, true),
        (
            "-i 2 -l 127.0.0.1:0 --ready notify",
            "ready report up serve",
            2,
            false,
        ),
        (
            "-i 2 -l 127.0.0.1:0 --ready notify",
            "ready report up serve",
            2,
            true,
        ),
        ("-i 2 --ready notify", "ready report up wait", 2, false),
        ("", "report up wait", 1, false),
        ("", "report up wait", 1, true),
    ];
    let mut idle = Vec::new();
    for (options, script, workers, as_pid1) in setups {
        if as_pid1 && !can_be_pid1() {
            continue;
        }
        let mut clinit = Setup::new(options).pid1(as_pid1).worker(script).start();
        let _ = clinit.reports("report", workers);
        let pid = clinit.pid();
        if options.contains("notify") {
            clinit.wait_for_nth_log("is ready", workers);
        }
        // Past min-uptime it stops watching the listeners: no later event is
        // due then.
        idle.push((clinit, pid, format!("clinit {options}, PID 1: {as_pid1}")));
    }
    std::thread::sleep(Duration::from_secs(2));
    let mut before = Vec::new();
    for (clinit, pid, _) in &mut idle {
        settle(clinit, *pid);
        before.push(wake_ups(*pid));
    }
    std::thread::sleep(Duration::from_secs(10));
    for ((_, pid, what), before) in idle.iter().zip(before) {
        assert_eq!(wake_ups(*pid) - before, 0, "{what}");
    }
    for (clinit, _, _) in &mut idle {
        assert!(clinit.reports_so_far().is_empty());
    }
}

#[test]
fn a_log_that_nobody_reads_blocks_nothing() {
    let dir = Dir::new();
    let count = dir.path("count");
    let (mut reader, writer) = std::io::pipe().unwrap();
    // The smallest pipe there is: a few lines fill it.
    fcntl(writer.as_fd(), FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let script = format!("echo >>{count}; exit 9");
    let ended = Setup::new("-i 2 --backoff 1ms..2ms --max-restarts 300 --log-level debug")
        .stderr(writer)
        .command(&["sh", "-c", &script])
        .run();
    // All its tries, and the right end, without a reader.
    assert_eq!(ended.code(), 9);
    assert!(fs::read_to_string(count).unwrap().len() >= 600);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(
        said.len() <= 4096 && said.starts_with("clinit: "),
        "{} bytes",
        said.len()
    );
    for line in said.lines() {
        assert!(line.starts_with("clinit: "), "half a line: {line:?}");
    }
}

#[test]
fn lines_that_were_lost_are_counted_once_there_is_room() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    fcntl(writer.as_fd(), FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut clinit = Setup::new("-i 1 --backoff 1ms..1ms --max-restarts 100000")
        .stderr(writer)
        .worker("report up exit 9")
        .start();
    // Some hundred lines go where there is room for some tens.
    let _ = clinit.reports("report", 300);
    let mut said = Vec::new();
    let mut part = [0; 4096];
    let text = loop {
        let length = reader.read(&mut part).unwrap();
        said.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&said).into_owned();
        if text.contains("lines of this log are lost") {
            break text;
        }
        assert!(length > 0, "{text}");
    };
    assert!(text.contains("clinit: warning: "), "{text}");
}

#[test]
fn a_log_that_is_closed_blocks_nothing_and_lands_nowhere_else() {
    let dir = Dir::new();
    let path = dir.path("a.sock");
    for wrapper in ["exec \"$@\" 2>&-", "exec \"$@\" 0<&- 1>&- 2>&-"] {
        let mut clinit = Setup::new("-i 2 --backoff 1ms..5ms -v -l")
            .arg(format!("unix:{path}"))
            .through(&["sh", "-c", wrapper, "sh"])
            .worker("report-fds serve")
            .start();
        let reports = clinit.reports("fds", 2);
        for report in &reports {
            assert_eq!(report.value("0"), "/dev/null");
            assert_eq!(
                report.find("2"),
                None,
                "closed, as clinit found it: {report}"
            );
            assert!(report.value("3").starts_with("socket:"), "{report}");
            assert_eq!(report.find("4"), None, "{report}");
        }
        send(reports[0].pid, libc::SIGKILL);
        let _ = clinit.report("fds");
        crate::harness::get_unix(&path).unwrap();
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn a_reader_that_is_gone_is_no_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut clinit = Setup::new("-i 1 --backoff 1ms..5ms --max-restarts 100")
        .stderr(writer)
        .worker("report up wait")
        .start();
    for _ in 0..5 {
        let worker = clinit.report("report").pid;
        send(worker, libc::SIGKILL);
    }
    let _ = clinit.report("report");
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn a_full_disk_is_no_end() {
    let mut clinit = Setup::new("-i 1 --backoff 1ms..5ms")
        .stderr(fs::File::options().write(true).open("/dev/full").unwrap())
        .worker("report up wait")
        .start();
    let _ = clinit.report("report");
    clinit.end_by(libc::SIGTERM).expect(0);
}
