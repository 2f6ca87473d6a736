//! Workers that talk to clinit by the libraries and programs that people use
//! for it: all must find what they find at systemd.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Setup, cannot_run, program};

/// What all of them say: that they are ready, what they do, that they are
/// alive; and then they fall silent.
const OPTIONS: &str = "-i 1 -v --ready notify --hang-timeout 2s --backoff 1ms..5ms";

/// Expects it of a worker.
fn is_heard(setup: Setup) {
    let mut clinit = setup.start();
    clinit.wait_ready(1);
    clinit.wait_for_log("worker is hung: killed");
    clinit.wait_ready(2);
    let ended = clinit.end_by(libc::SIGTERM);
    ended.expect(0);
    assert!(!ended.log.contains("is ignored"), "{}", ended.log);
}

#[test]
fn systemd_notify_is_heard() {
    let Some(notify) = program("systemd-notify") else {
        cannot_run("RING 3", "there is no systemd-notify");
        return;
    };
    // It waits for its barrier, and would for 5 s in vain.
    let script = format!(
        "set -e; notify={}
         begun=$(cut -d' ' -f1 /proc/uptime); begun=${{begun%.*}}
         $notify --status='up and running' WATCHDOG=1
         $notify --pid=$$ --ready
         now=$(cut -d' ' -f1 /proc/uptime); now=${{now%.*}}
         [ $((now - begun)) -lt 4 ] || exit 9
         $notify WATCHDOG=1
         exec sleep 1000",
        notify.display()
    );
    is_heard(Setup::new(OPTIONS).command(&["sh", "-c", &script]));
}

#[test]
fn another_main_process_by_systemd_notify_is_heard() {
    let Some(notify) = program("systemd-notify") else {
        cannot_run("RING 3", "there is no systemd-notify");
        return;
    };
    let setup = Setup::new("-i 1 -v --ready notify --backoff 1ms..5ms");
    let script = format!("sleep 1000 & {} --pid=$! --ready; exit 0", notify.display());
    let mut clinit = setup.command(&["sh", "-c", &script]).start();
    clinit.wait_for_log("worker has another main process");
    clinit.wait_ready(1);
    clinit.catch_up();
    assert!(!clinit.log().contains("worker exited"), "{}", clinit.log());
    clinit.end_by(libc::SIGTERM).expect(0);
}

/// With the package `sdnotify`.
#[test]
fn pythons_library_is_heard() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-venv/bin/python3");
    let given = std::env::var_os("SDNOTIFY_PYTHON").map(PathBuf::from);
    let python = given.or(Some(own).filter(|path| path.is_file()));
    let python = python.or_else(|| program("python3"));
    let has_it = |python: &PathBuf| {
        let mut import = Command::new(python);
        let import = import.args(["-c", "import sdnotify"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let Some(python) = python.filter(has_it) else {
        cannot_run(
            "RING 3",
            "there is no Python with sdnotify (SDNOTIFY_PYTHON)",
        );
        return;
    };
    let script = "
import sdnotify, time
notifier = sdnotify.SystemdNotifier(debug=True)
notifier.notify('STATUS=up and running')
notifier.notify('READY=1')
notifier.notify('WATCHDOG=1')
time.sleep(1000)
";
    is_heard(Setup::new(OPTIONS).command(&[python.to_str().unwrap(), "-c", script]));
}

/// With `go-systemd`, as Debian has it.
#[test]
fn gos_library_is_heard() {
    const PATH: &str = "/usr/share/gocode";
    let library = Path::new(PATH).join("src/github.com/coreos/go-systemd/daemon");
    let Some(go) = program("go").filter(|_| library.is_dir()) else {
        cannot_run(
            "RING 3",
            "there is no go with golang-github-coreos-go-systemd-dev",
        );
        return;
    };
    let setup = Setup::new(OPTIONS);
    let source = setup.dir.write("main.go", GO, 0o644);
    let worker = setup.path("worker");
    let built = Command::new(go)
        .args(["build", "-o", &worker, &source])
        .env("GO111MODULE", "off")
        .env("GOPATH", PATH)
        .env(
            "GOCACHE",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"),
        )
        .env("GOTOOLCHAIN", "local")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    is_heard(setup.command(&[worker]));
}

/// Its watchdog is on only where `WATCHDOG_USEC` is set, and `WATCHDOG_PID`
/// is its own.
const GO: &str = r#"
package main

import (
	"os"
	"time"

	"github.com/coreos/go-systemd/daemon"
)

func say(text string) {
	if sent, err := daemon.SdNotify(false, text); !sent || err != nil {
		os.Exit(9)
	}
}

func main() {
	if timeout, err := daemon.SdWatchdogEnabled(false); err != nil || timeout != 2*time.Second {
		os.Exit(8)
	}
	say("STATUS=up and running")
	say(daemon.SdNotifyReady)
	say(daemon.SdNotifyWatchdog)
	time.Sleep(time.Hour)
}
"#;
